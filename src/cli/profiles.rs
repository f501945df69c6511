//! `profiles`: documents of the profile directory, and the samples to start them from.

use std::path::{Path, PathBuf};
use std::process::Command;

use argh::{ArgsInfo, FromArgs};
use serde_json::json;

use crate::config::flags::OwnFlag;
use crate::config::settings::{self, Kind};
use crate::config::{
    Environment, SampleInputs, edit_profile, editor_command, list_profiles, list_samples, profile_directory,
    profile_name, read_profile_source, sample, store_profile,
};

use super::tree::{Call, Node, Shape, Words};
use super::{Failure, help};

const PROFILE_DIR: OwnFlag = OwnFlag {
    name: "profile-dir",
    kind: Kind::Text,
    default: settings::PROFILE_DIR_SHOWN,
    help: "Directory of named profiles.",
};

pub(super) static GROUP: Node = Node {
    name: "profiles",
    summary: "List, add and edit stored profiles",
    flags: &[PROFILE_DIR],
    kind: Shape::Group(&[&LIST, &ADD, &EDIT, &SAMPLES]),
    ..Node::BLANK
};

static LIST: Node = Node {
    name: "list",
    summary: "List the stored profiles",
    declared: Some(List::get_args_info),
    kind: Shape::Command { words: Words::None, help: None, main: list },
    ..Node::BLANK
};

static ADD: Node = Node {
    name: "add",
    summary: "Store a profile from a file or a sample",
    about: "Give exactly one of --from-file and --sample. A profile is validated before it is written.",
    examples: &[
        "tunnel-client profiles add lab --from-file lab.yaml",
        "tunnel-client profiles add lab --sample sample_mcp_remote_no_auth --tunnel-id tunnel_... --mcp-server-url https://mcp.example.com/mcp",
    ],
    declared: Some(Add::get_args_info),
    kind: Shape::Command { words: Words::One("name"), help: None, main: add },
    ..Node::BLANK
};

static EDIT: Node = Node {
    name: "edit",
    summary: "Edit a profile with VISUAL or EDITOR, and validate it before it is saved",
    about: "A profile that does not exist yet starts from sample_mcp_with_dcr.",
    kind: Shape::Command { words: Words::One("name"), help: None, main: edit },
    ..Node::BLANK
};

static SAMPLES: Node = Node {
    name: "samples",
    summary: "Look at the built-in samples",
    kind: Shape::Group(&[&SAMPLES_LIST, &SAMPLES_SHOW]),
    ..Node::BLANK
};

static SAMPLES_LIST: Node = Node {
    name: "list",
    summary: "List the built-in samples",
    kind: Shape::Command { words: Words::None, help: None, main: samples_list },
    ..Node::BLANK
};

static SAMPLES_SHOW: Node = Node {
    name: "show",
    summary: "Show what a sample is for, and its document",
    kind: Shape::Command { words: Words::One("sample"), help: None, main: samples_show },
    ..Node::BLANK
};

/// List the stored profiles.
#[derive(ArgsInfo, FromArgs)]
struct List {
    /// print JSON
    #[argh(switch)]
    json: bool,
}

/// Store a profile from a file or a sample.
#[derive(ArgsInfo, FromArgs)]
struct Add {
    /// document to store as it is; - reads standard input
    #[argh(option, default = "String::new()")]
    from_file: String,
    /// sample to fill in
    #[argh(option, default = "String::new()")]
    sample: String,
    /// tunnel to serve, for a sample
    #[argh(option, default = "String::new()")]
    tunnel_id: String,
    /// MCP server over HTTP, for a sample
    #[argh(option, default = "String::new()")]
    mcp_server_url: String,
    /// MCP server over stdio, for a sample
    #[argh(option, default = "String::new()")]
    mcp_command: String,
    /// replace an existing profile
    #[argh(switch)]
    force: bool,
    /// name of the profile
    #[argh(positional)]
    name: String,
}

fn directory(call: &Call) -> Result<PathBuf, Failure> {
    profile_directory(call.flags.last(PROFILE_DIR.name), &Environment::of_process()).map_err(Failure::new)
}

fn list(call: &Call) -> Result<(), Failure> {
    let given: List = call.arguments()?;
    let directory = directory(call)?;
    let profiles = list_profiles(&directory).map_err(Failure::new)?;
    if given.json {
        let rows: Vec<_> = profiles
            .iter()
            .map(|profile| json!({ "name": profile.name, "path": profile.path.to_string_lossy() }))
            .collect();
        return help::print(&format!("{:#}", serde_json::Value::from(rows)));
    }
    if profiles.is_empty() {
        return help::print(&format!("No profiles found in {}", directory.display()));
    }
    let rows: Vec<String> =
        profiles.iter().map(|profile| format!("{}\t{}", profile.name, profile.path.display())).collect();
    help::print(&rows.join("\n"))
}

fn add(call: &Call) -> Result<(), Failure> {
    let given: Add = call.arguments()?;
    let (file, sample_name) = (given.from_file.trim(), given.sample.trim());
    if file.is_empty() == sample_name.is_empty() {
        return Err(Failure::new("give exactly one of --from-file and --sample"));
    }
    let name = profile_name(&given.name).map_err(Failure::new)?;
    let directory = directory(call)?;
    let bytes = if sample_name.is_empty() {
        read_profile_source(Path::new(file)).map_err(Failure::new)?
    } else {
        let sample = sample(sample_name).map_err(Failure::new)?;
        if given.tunnel_id.trim().is_empty() {
            return Err(Failure::new(format!("tunnel ID is required: {} needs --tunnel-id", sample.name)));
        }
        let inputs = SampleInputs {
            server_url: given.mcp_server_url,
            command: given.mcp_command,
            ..SampleInputs::new(&given.tunnel_id)
        };
        sample.check_target(&inputs).map_err(Failure::new)?;
        sample.render(&inputs).into_bytes()
    };
    let path = store_profile(&directory, &name, &bytes, given.force).map_err(Failure::new)?;
    help::print(&format!("Added profile {name} at {}", path.display()))
}

fn edit(call: &Call) -> Result<(), Failure> {
    let name = profile_name(call.word()).map_err(Failure::new)?;
    let directory = directory(call)?;
    let editor = editor_command(&Environment::of_process()).map_err(Failure::new)?;
    let mut run_editor = |draft: &Path| {
        let (program, arguments) = editor.split_first().ok_or("its command line is empty")?;
        let status = Command::new(program).args(arguments).arg(draft).status();
        let status = status.map_err(|error| format!("{program}: {error}"))?;
        if status.success() { Ok(()) } else { Err(format!("{program} ended with {status}")) }
    };
    let path = edit_profile(&directory, &name, &mut run_editor).map_err(Failure::new)?;
    help::print(&format!("Saved profile {name} at {}", path.display()))
}

fn samples_list(_: &Call) -> Result<(), Failure> {
    let mut text = Vec::new();
    list_samples(&mut text).map_err(Failure::new)?;
    help::print(&String::from_utf8_lossy(&text))
}

fn samples_show(call: &Call) -> Result<(), Failure> {
    let sample = sample(call.word()).map_err(Failure::new)?;
    let mut text = Vec::new();
    sample.show(&mut text).map_err(Failure::new)?;
    help::print(&String::from_utf8_lossy(&text))
}
