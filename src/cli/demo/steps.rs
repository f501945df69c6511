//! The steps, and how they are told.

use std::time::Duration;

use serde::Deserialize;

use super::super::{Failure, help};
use super::connector::{Answered, Connector};
use super::parties::{Parties, Target};

const PROTOCOL_VERSION: &str = "2025-06-18";
/// Tools named in the list before it is cut.
const TOOLS_SHOWN: usize = 6;
/// Characters of a tool's text that are shown.
const TEXT_SHOWN: usize = 72;

/// What to call on the user's own server.
pub(super) struct Plan {
    tool: Option<String>,
    arguments: String,
}

#[derive(Deserialize)]
struct Response<T> {
    result: T,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Initialized {
    protocol_version: String,
    #[serde(default)]
    server_info: Implementation,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Implementation {
    name: String,
    version: String,
}

#[derive(Deserialize)]
struct ToolList {
    tools: Vec<Tool>,
}

#[derive(Deserialize)]
struct Tool {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Called {
    #[serde(default)]
    content: Vec<Content>,
    #[serde(default)]
    is_error: bool,
}

#[derive(Deserialize)]
struct Content {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    text: String,
}

impl Plan {
    /// `arguments` must be a JSON object.
    pub(super) fn new(tool: Option<&str>, arguments: Option<&str>) -> Result<Plan, Failure> {
        let arguments = arguments.unwrap_or("{}");
        serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(arguments)
            .map_err(|e| Failure::new(format!("--arguments is not a JSON object: {e}")))?;
        if tool.is_none() && arguments != "{}" {
            return Err(Failure::new("--arguments needs --tool"));
        }
        Ok(Plan { tool: tool.map(str::to_owned), arguments: arguments.to_owned() })
    }
}

/// Runs all steps; the first that fails ends the demo.
pub(super) fn run(parties: &Parties, plan: &Plan) -> Result<(), Failure> {
    let mut connector = Connector::new(&parties.mcp_url())?;
    say("");
    initialize(&mut connector)?;
    let names = list_tools(&mut connector)?;
    match (&parties.target, &plan.tool) {
        (Target::Stub, _) => {
            call(&mut connector, "countdown", r#"{"steps":3}"#)?;
            call(&mut connector, "echo", r#"{"input":"Grüße aus dem privaten Netz"}"#)?;
        }
        (_, Some(tool)) => call(&mut connector, tool, &plan.arguments)?,
        (_, None) => {
            let example = names.first().map_or("NAME", String::as_str);
            say(&format!(
                "  tools/call        not sent: name a tool, as in --tool {example} --arguments '{{\"...\":\"...\"}}'"
            ));
        }
    }
    if let Some((status, latency)) = connector.end_session()? {
        step("session end", latency, &format!("status {status}"));
    }
    Ok(())
}

fn initialize(connector: &mut Connector) -> Result<(), Failure> {
    let params = format!(
        r#"{{"protocolVersion":"{PROTOCOL_VERSION}","capabilities":{{}},"clientInfo":{{"name":"tunnel-client demo","version":"{}"}}}}"#,
        crate::VERSION
    );
    let answered = connector.call("initialize", &params, |_, _| {})?;
    let initialized: Initialized = result("initialize", &answered)?;
    connector.set_protocol_version(&initialized.protocol_version);
    let Implementation { name, version } = initialized.server_info;
    step(
        "initialize",
        answered.latency,
        &format!("{name} {version}, protocol {}", initialized.protocol_version),
    );
    let latency = connector.notify("notifications/initialized")?;
    step("initialized", latency, "accepted");
    Ok(())
}

fn list_tools(connector: &mut Connector) -> Result<Vec<String>, Failure> {
    let answered = connector.call("tools/list", "{}", |_, _| {})?;
    let list: ToolList = result("tools/list", &answered)?;
    let names: Vec<String> = list.tools.into_iter().map(|tool| tool.name).collect();
    let mut shown = names.iter().take(TOOLS_SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > TOOLS_SHOWN {
        shown.push_str(", …");
    }
    let tools = if names.len() == 1 { "tool" } else { "tools" };
    step("tools/list", answered.latency, &format!("{} {tools}: {shown}", names.len()));
    Ok(names)
}

fn call(connector: &mut Connector, tool: &str, arguments: &str) -> Result<(), Failure> {
    let name = serde_json::Value::from(tool);
    let params = format!(r#"{{"name":{name},"arguments":{arguments},"_meta":{{"progressToken":"demo"}}}}"#);
    let answered = connector.call("tools/call", &params, |json, at| {
        say(&format!("    after {:>9}   {}", millis(at), progress(json)));
    })?;
    let called: Called = result("tools/call", &answered)?;
    let text = called.content.first().map_or_else(String::new, |content| match content.kind.as_str() {
        "text" => format!("{:?}", content.text.chars().take(TEXT_SHOWN).collect::<String>()),
        other => format!("({other})"),
    });
    let note = if called.is_error { " (the tool reports an error)" } else { "" };
    step("tools/call", answered.latency, &format!("{tool} → {text}{note}"));
    Ok(())
}

/// A progress notification in words; any other by its method.
fn progress(json: &str) -> String {
    #[derive(Deserialize)]
    struct Notification {
        method: String,
        params: Option<Progress>,
    }
    #[derive(Deserialize)]
    struct Progress {
        progress: Option<f64>,
        total: Option<f64>,
    }
    match serde_json::from_str::<Notification>(json) {
        Ok(Notification { params: Some(Progress { progress: Some(progress), total }), .. }) => {
            let total = total.map_or_else(String::new, |total| format!(" of {total}"));
            format!("progress {progress}{total}")
        }
        Ok(notification) => notification.method,
        Err(_) => "notification".to_owned(),
    }
}

fn result<T: serde::de::DeserializeOwned>(step: &str, answered: &Answered) -> Result<T, Failure> {
    serde_json::from_str::<Response<T>>(&answered.json)
        .map(|response| response.result)
        .map_err(|e| Failure::new(format!("demo: {step}: the result is not what MCP says: {e}")))
}

fn step(name: &str, latency: Duration, detail: &str) {
    say(&format!("  {name:<14} {:>9}   {detail}", millis(latency)));
}

fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

/// One line on stdout; a closed stdout does not end the demo.
pub(super) fn say(line: &str) {
    let _ = help::print(&format!("{line}\n"));
}
