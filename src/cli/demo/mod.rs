//! `demo`: a real call through a tunnel on this machine, step by step.
//!
//! The control plane and the demo MCP server run in this process, the client in a process of its own
//! exactly as an operator would start it; everything between them crosses real loopback sockets.

mod connector;
mod parties;
mod steps;

use argh::{ArgsInfo, FromArgs};

use super::tree::{Call, Node, Shape, Words};
use super::{Failure, help};

use parties::{Parties, Target};

/// Send real calls through a tunnel on this machine and print each step with its latency.
#[derive(ArgsInfo, FromArgs)]
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

pub(super) static COMMAND: Node = Node {
    name: "demo",
    summary: "Send real calls through a tunnel on this machine and print each step",
    about: "\
Without flags a demo MCP server answers. With --stdio or --url your own MCP server does: it is
initialized and its tools are listed; a tool is called only if --tool names it.",
    examples: &[
        "tunnel-client demo",
        "tunnel-client demo --stdio -- python server.py",
        "tunnel-client demo --url http://127.0.0.1:3001/mcp --tool echo --arguments '{\"input\":\"hi\"}'",
    ],
    declared: Some(Demo::get_args_info),
    kind: Shape::Command { words: Words::Any("[-- <command>...]"), help: None, main },
    ..Node::BLANK
};

fn main(call: &Call) -> Result<(), Failure> {
    let demo: Demo = call.arguments()?;
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
