//! A client process between a scripted control plane and a scripted MCP server.

use serde_json::Value;

use crate::common::control_plane::ControlPlane;
use crate::common::http;
use crate::common::mcp_server::McpServer;
use crate::common::process::Client;
use crate::common::{API_KEY, eventually};

/// JSON lines of everything.
pub const VERBOSE: [&str; 4] = ["--log.format", "json", "--log.level", "debug"];

pub struct Rig {
    // In this order: the client goes before what it talks to.
    pub client: Client,
    pub plane: ControlPlane,
    pub mcp: McpServer,
}

/// A client with these further arguments, which answers calls by their tool's name.
pub fn rig(arguments: &[&str]) -> Rig {
    rig_of(ControlPlane::start(), McpServer::by_tool_name(), arguments)
}

pub fn rig_of(plane: ControlPlane, mcp: McpServer, arguments: &[&str]) -> Rig {
    let client = start(&plane, &mcp, arguments, &[]);
    Rig { client, plane, mcp }
}

/// A client process for `plane` and `mcp`.
pub fn start(
    plane: &ControlPlane,
    mcp: &McpServer,
    arguments: &[&str],
    variables: &[(&str, &str)],
) -> Client {
    let url = mcp.url();
    let arguments = [&VERBOSE[..], &["--mcp.server-url", url.as_str()], arguments].concat();
    Client::start_with(&plane.base_url(), &arguments, variables)
}

impl Rig {
    /// Calls of `tool` that reached the MCP server.
    pub fn calls(&self, tool: &str) -> usize {
        calls(&self.mcp, tool)
    }
}

/// Calls of `tool` that reached `mcp`.
pub fn calls(mcp: &McpServer, tool: &str) -> usize {
    let name = format!(r#""name":"{tool}""#);
    mcp.seen().iter().filter(|request| request.text().contains(&name)).count()
}

/// The log's lines so far.
pub fn events(client: &Client) -> Vec<Value> {
    let output = client.output();
    assert!(!output.contains(API_KEY), "the key is in the output: {output}");
    output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The log's lines so far whose message is `message`.
pub fn events_of(client: &Client, message: &str) -> Vec<Value> {
    events(client).into_iter().filter(|event| event["msg"] == message).collect()
}

/// Waits for the `count`th line with this message; all of them.
pub fn wait_events(client: &Client, message: &str, count: usize) -> Vec<Value> {
    eventually(&format!("{count} log lines {message:?}"), || events_of(client, message).len() >= count);
    events_of(client, message)
}

/// The value of the metric whose line begins with `name` and holds all of `labels` (`name="value"`).
pub fn metric(client: &Client, name: &str, labels: &[&str]) -> Option<f64> {
    let text = http::get(&format!("{}/metrics", client.health_url())).expect("metrics").text();
    text.lines().find_map(|line| {
        let rest = line.strip_prefix(name)?;
        let (have, value) = match rest.strip_prefix('{') {
            Some(rest) => rest.rsplit_once("} ")?,
            None => ("", rest.strip_prefix(' ')?),
        };
        labels.iter().all(|label| have.contains(label)).then(|| value.parse().ok())?
    })
}

/// Waits until a metric has this value.
pub fn wait_metric(client: &Client, name: &str, labels: &[&str], value: f64) {
    eventually(&format!("{name} {labels:?} is {value}"), || metric(client, name, labels) == Some(value));
}
