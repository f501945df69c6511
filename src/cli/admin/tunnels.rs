//! `admin tunnels`.

use argh::{ArgsInfo, FromArgs};

use crate::cli::tree::{Call, Node, Shape, Words};
use crate::cli::{Failure, help};
use crate::config::{admin_key, admin_or_runtime_key};
use crate::control_plane::{AdminError, NewTunnel, Tunnel, TunnelFilter, TunnelUpdate};
use crate::ids::TunnelId;

use super::scope::elements;
use super::{client, failed, output};

const ORGANIZATION: &str = "organization-id";
const WORKSPACE: &str = "workspace-id";
const NAME: &str = "name";
const DESCRIPTION: &str = "description";

pub(super) static GROUP: Node = Node {
    name: "tunnels",
    summary: "List, look up, create, change and delete tunnels",
    about: "\
Two kinds of keys:
  CONTROL_PLANE_API_KEY  the runtime key of the daemon (Tunnels Read + Use). `get` uses it when there is
                         no admin key.
  OPENAI_ADMIN_KEY       the admin key (Tunnels Read + Manage). list, create, update and delete need it.
                         Never give it to the daemon.",
    kind: Shape::Group(&[&LIST, &GET, &CREATE, &UPDATE, &DELETE]),
    ..Node::BLANK
};

static LIST: Node = Node {
    name: "list",
    summary: "List the tunnels of one organization, workspace or tenant",
    about: "Give exactly one of --organization-id, --workspace-id and --tenant-id. Needs OPENAI_ADMIN_KEY or --admin-key.",
    examples: &["tunnel-client admin tunnels list --organization-id org-..."],
    declared: Some(List::get_args_info),
    kind: Shape::Command { words: Words::None, help: None, main: list },
    ..Node::BLANK
};

static GET: Node = Node {
    name: "get",
    summary: "Show one tunnel",
    about: "\
Without an admin key (OPENAI_ADMIN_KEY, --admin-key) the runtime key serves: CONTROL_PLANE_API_KEY, then
OPENAI_API_KEY.",
    examples: &[
        "tunnel-client admin tunnels get tunnel_...",
        "tunnel-client admin --json tunnels get tunnel_...",
    ],
    kind: Shape::Command { words: Words::One("tunnel-id"), help: None, main: get },
    ..Node::BLANK
};

static CREATE: Node = Node {
    name: "create",
    summary: "Create a tunnel",
    about: "\
At least one of --organization-id and --workspace-id says who may use it. After the creation
wait 25-30 seconds before you expect the tunnel to be active and ready.
Needs OPENAI_ADMIN_KEY or --admin-key.",
    examples: &[
        "tunnel-client admin tunnels create --name Docs --description 'Routes to the docs server' --organization-id org-...",
        "tunnel-client admin tunnels create --name Docs --description 'Docs' --workspace-id ws-1,ws-2 --json",
    ],
    declared: Some(Create::get_args_info),
    kind: Shape::Command { words: Words::None, help: None, main: create },
    ..Node::BLANK
};

static UPDATE: Node = Node {
    name: "update",
    summary: "Change a tunnel",
    about: "\
Only what is given changes. A scope flag replaces the whole list; an empty value clears it. Needs
OPENAI_ADMIN_KEY or --admin-key.",
    examples: &[
        "tunnel-client admin tunnels update tunnel_... --name 'Better name'",
        "tunnel-client admin tunnels update tunnel_... --organization-id org-1 --workspace-id ''",
    ],
    declared: Some(Update::get_args_info),
    kind: Shape::Command { words: Words::One("tunnel-id"), help: None, main: update },
    ..Node::BLANK
};

static DELETE: Node = Node {
    name: "delete",
    summary: "Delete a tunnel",
    about: "Needs --confirm, and OPENAI_ADMIN_KEY or --admin-key.",
    examples: &["tunnel-client admin tunnels delete tunnel_... --confirm"],
    declared: Some(Delete::get_args_info),
    kind: Shape::Command { words: Words::One("tunnel-id"), help: None, main: delete },
    ..Node::BLANK
};

/// List tunnels.
#[derive(ArgsInfo, FromArgs)]
struct List {
    /// organization whose tunnels are listed
    #[argh(option)]
    organization_id: Vec<String>,
    /// workspace whose tunnels are listed
    #[argh(option)]
    workspace_id: Vec<String>,
    /// tenant whose tunnels are listed
    #[argh(option, default = "String::new()")]
    tenant_id: String,
}

/// Create a tunnel.
#[derive(ArgsInfo, FromArgs)]
struct Create {
    /// its name (required)
    #[argh(option, default = "String::new()")]
    name: String,
    /// what it is for (required)
    #[argh(option, default = "String::new()")]
    description: String,
    /// organizations that may use it, separated by commas; repeatable
    #[argh(option)]
    organization_id: Vec<String>,
    /// workspaces that may use it, separated by commas; repeatable
    #[argh(option)]
    workspace_id: Vec<String>,
}

/// Change a tunnel.
#[derive(ArgsInfo, FromArgs)]
struct Update {
    /// new name
    #[argh(option)]
    name: Option<String>,
    /// new description
    #[argh(option)]
    description: Option<String>,
    /// replaces the organizations that may use it, separated by commas; repeatable
    #[argh(option)]
    organization_id: Vec<String>,
    /// replaces the workspaces that may use it, separated by commas; repeatable
    #[argh(option)]
    workspace_id: Vec<String>,
    /// the tunnel
    #[argh(positional)]
    id: String,
}

/// Delete a tunnel.
#[derive(ArgsInfo, FromArgs)]
struct Delete {
    /// really delete it
    #[argh(switch)]
    confirm: bool,
    /// accepted and ignored
    #[argh(option)]
    #[expect(dead_code, reason = "scripts may pass it to every command")]
    organization_id: Vec<String>,
    /// accepted and ignored
    #[argh(option)]
    #[expect(dead_code, reason = "scripts may pass it to every command")]
    workspace_id: Vec<String>,
    /// the tunnel
    #[argh(positional)]
    id: String,
}

fn list(call: &Call) -> Result<(), Failure> {
    let given: List = call.arguments()?;
    let client = client(call, admin_key)?;
    let organizations = elements(ORGANIZATION, &given.organization_id)?;
    let workspaces = elements(WORKSPACE, &given.workspace_id)?;
    let tenant = given.tenant_id.trim();
    let families = [!organizations.is_empty(), !workspaces.is_empty(), !tenant.is_empty()];
    if families.into_iter().filter(|given| *given).count() != 1 {
        return Err(Failure::new("provide exactly one of --organization-id, --workspace-id, or --tenant-id"));
    }
    let only = |flag: &str, ids: Vec<String>| match ids.as_slice() {
        [] => Ok(String::new()),
        [id] => Ok(id.clone()),
        _ => Err(Failure::new(format!("list takes one --{flag} at a time, not {}", ids.len()))),
    };
    let filter = TunnelFilter {
        organization_id: only(ORGANIZATION, organizations)?,
        workspace_id: only(WORKSPACE, workspaces)?,
        tenant_id: tenant.to_owned(),
    };
    let list = client.list(&filter).map_err(failed)?;
    if call.json() {
        return print_json(&list);
    }
    let text: String = list.tunnels.iter().map(output::text).collect();
    if text.is_empty() { Ok(()) } else { help::print(&text) }
}

fn get(call: &Call) -> Result<(), Failure> {
    let id = tunnel_id(call.word())?;
    let tunnel = client(call, admin_or_runtime_key)?.get(&id).map_err(failed)?;
    print_tunnel(call, &tunnel)
}

fn create(call: &Call) -> Result<(), Failure> {
    // Sorted by name.
    let missing: Vec<String> = [DESCRIPTION, NAME]
        .into_iter()
        .filter(|flag| !call.flags.is_given(flag))
        .map(|flag| format!("\"{flag}\""))
        .collect();
    if !missing.is_empty() {
        return Err(Failure::new(format!("required flag(s) {} not set", missing.join(", "))));
    }
    let given: Create = call.arguments()?;
    for (flag, value) in [(NAME, &given.name), (DESCRIPTION, &given.description)] {
        if value.trim().is_empty() {
            return Err(Failure::new(format!("{flag} is required (set --{flag})")));
        }
    }
    let client = client(call, admin_key)?;
    let new = NewTunnel {
        name: given.name.trim().to_owned(),
        description: given.description.trim().to_owned(),
        organization_ids: elements(ORGANIZATION, &given.organization_id)?,
        workspace_ids: elements(WORKSPACE, &given.workspace_id)?,
        tenant_ids: Vec::new(),
    };
    if new.organization_ids.is_empty() && new.workspace_ids.is_empty() {
        return Err(Failure::new("at least one of --organization-id or --workspace-id is required"));
    }
    let tunnel = client.create(&new).map_err(failed)?;
    print_tunnel(call, &tunnel)?;
    if call.json() {
        return Ok(());
    }
    help::print("Now wait 25-30 seconds before you expect the tunnel to be active and ready.")
}

fn update(call: &Call) -> Result<(), Failure> {
    let given: Update = call.arguments()?;
    let id = tunnel_id(&given.id)?;
    let client = client(call, admin_key)?;
    let list = |flag: &str, values: &[String]| match call.flags.is_given(flag) {
        true => elements(flag, values).map(Some),
        false => Ok(None),
    };
    let update = TunnelUpdate {
        name: given.name.map(|name| name.trim().to_owned()),
        description: given.description,
        organization_ids: list(ORGANIZATION, &given.organization_id)?,
        workspace_ids: list(WORKSPACE, &given.workspace_id)?,
        tenant_ids: None,
    };
    if update == TunnelUpdate::default() {
        return Err(Failure::new("provide at least one field to update"));
    }
    print_tunnel(call, &client.update(&id, &update).map_err(failed)?)
}

fn delete(call: &Call) -> Result<(), Failure> {
    let given: Delete = call.arguments()?;
    if !given.confirm {
        return Err(Failure::new("refusing to delete without --confirm"));
    }
    let id = tunnel_id(&given.id)?;
    let tunnel = client(call, admin_key)?.delete(&id).map_err(failed)?;
    print_tunnel(call, &tunnel)
}

/// The id of a tunnel; a typo is told here, not by the control plane.
fn tunnel_id(text: &str) -> Result<String, Failure> {
    match text.trim() {
        "" => Err(Failure::new(AdminError::MissingId)),
        id => TunnelId::parse(id).map(|id| id.to_string()).map_err(Failure::new),
    }
}

fn print_tunnel(call: &Call, tunnel: &Tunnel) -> Result<(), Failure> {
    if call.json() { print_json(tunnel) } else { help::print(&output::text(tunnel)) }
}

fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    help::print(&serde_json::to_string_pretty(value).map_err(Failure::new)?)
}
