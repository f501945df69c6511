//! `demo`: a real call through a tunnel on this machine, step by step.
//!
//! The control plane and the demo MCP server run in this process, the client in a process of its own
//! exactly as an operator would start it; everything between them crosses real loopback sockets.

mod connector;
mod parties;
mod steps;

use argh::FromArgs;

use crate::config::flags::OwnFlag;
use crate::config::settings::Kind;

use super::args::{Parsed, flag, parse};
use super::{Failure, help};

use parties::{Parties, Target};

/// Send real calls through a tunnel on this machine and print each step with its latency.
///
/// Without flags a demo MCP server answers. With --stdio or --url your own MCP server does: it is
/// initialized and its tools are listed; a tool is called only if --tool names it.
#[derive(FromArgs)]
struct Demo {
    /// run the MCP server whose command line follows after --
    #[argh(switch)]
    stdio: bool,
    /// use the MCP server at this URL (Streamable HTTP)
    #[argh(option)]
    url: Option<String>,
    /// tool of your server to call
    #[argh(option)]
    tool: Option<String>,
    /// arguments of that tool, a JSON object (default an empty one)
    #[argh(option)]
    arguments: Option<String>,
    /// command line of the MCP server
    #[argh(positional)]
    command: Vec<String>,
}

const FLAGS: &[OwnFlag] = &[
    flag("stdio", Kind::Bool),
    flag("url", Kind::Text),
    flag("tool", Kind::Text),
    flag("arguments", Kind::Text),
];

pub(super) fn main(words: &[&str]) -> Result<(), Failure> {
    let demo: Demo = match parse("tunnel-client demo", words, FLAGS)? {
        Parsed::Command(demo) => demo,
        Parsed::Help(text) => return help::print(&text),
    };
    let plan = steps::Plan::new(demo.tool.as_deref(), demo.arguments.as_deref())?;
    let target = target(demo)?;
    let parties = Parties::start(target)?;
    let outcome = steps::run(&parties, &plan);
    let stopped = parties.stop(outcome.is_err());
    outcome?;
    stopped?;
    help::print("\nThe tunnel works: each step above went through the control plane and the client.")
}

fn target(demo: Demo) -> Result<Target, Failure> {
    let own_server = demo.stdio || demo.url.is_some();
    match (demo.stdio, demo.url) {
        (true, Some(_)) => {
            Err(Failure::new("--stdio and --url are mutually exclusive: choose one MCP server"))
        }
        (true, None) if demo.command.is_empty() => Err(Failure::new(
            "--stdio needs the MCP server's command line after --, as in: tunnel-client demo --stdio -- python server.py",
        )),
        (true, None) => Ok(Target::Stdio(demo.command)),
        (false, _) if !demo.command.is_empty() => Err(Failure::new(format!(
            "unexpected arguments: {}; a command line goes after --stdio --",
            demo.command.join(" ")
        ))),
        (false, Some(url)) => Ok(Target::Url(url)),
        (false, None) if !own_server && (demo.tool.is_some() || demo.arguments.is_some()) => {
            Err(Failure::new("--tool and --arguments go with --stdio or --url"))
        }
        (false, None) => Ok(Target::Stub),
    }
}
