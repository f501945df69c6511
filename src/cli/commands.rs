//! The tree of commands: its root and the groups; each command is declared in its own file.

use super::tree::{Node, PROGRAM, Shape};
use super::{
    admin, cloudflared, completion, demo, dev_proxy, doctor, health, help, init, manual, mcp_stub, profiles,
    run,
};

/// `tunnel-client` itself.
pub(super) static ROOT: Node = Node {
    name: PROGRAM,
    summary: "Connects a local or private MCP server to a control plane over an outbound tunnel",
    kind: Shape::Group(&[
        &run::COMMAND,
        &doctor::COMMAND,
        &health::COMMAND,
        &init::COMMAND,
        &profiles::GROUP,
        &admin::GROUP,
        &demo::COMMAND,
        &DEV,
        &cloudflared::GROUP,
        &completion::GROUP,
        &help::COMMAND,
        &manual::COMMAND,
    ]),
    ..Node::BLANK
};

static DEV: Node = Node {
    name: "dev",
    summary: "Tools for trying things out on one machine",
    kind: Shape::Group(&[&mcp_stub::COMMAND, &dev_proxy::COMMAND]),
    ..Node::BLANK
};
