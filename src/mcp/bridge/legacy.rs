//! A connector with a handshake before a server without: messages down, answers up.
//!
//! Pure translation. Invariant: nothing that a server asks for interactively reaches the connector, and
//! no answer to it has a status that it would take for the end of its session.

use serde_json::value::RawValue;

use crate::jsonrpc::{Envelope, INTERNAL_ERROR, Id, Kind, METHOD_NOT_FOUND, Message, error_response};
use crate::mcp::era::LEGACY_VERSIONS;
use crate::mcp::{Answer, Head, Outcome, peek};

use super::edit::Editor;
use super::modern::{portable_capabilities, server_capabilities};
use super::own::{self, INVALID_PARAMS, MISSING_CAPABILITY, MODERN_VERSION, meta};

/// Methods of interactive requests that are named in an error.
const MAX_NAMED_METHODS: usize = 8;

/// What a channel's connectors have said, the last one's word counting.
#[derive(Clone, Debug, Default)]
pub(in crate::mcp) struct Connector {
    /// `clientInfo`, JSON text.
    info: Option<Box<str>>,
    /// Capabilities that may be declared to the server, JSON text.
    capabilities: Option<Box<str>>,
    /// Level of log messages.
    log_level: Option<usize>,
}

/// What becomes of a message on its way down.
pub(in crate::mcp) enum Down {
    /// It is answered here.
    Local(Outcome),
    /// A notification that ends here.
    Acknowledge,
    /// This is sent instead.
    Send(String),
}

/// What an answer is, seen from the connector.
pub(in crate::mcp) enum Up {
    /// The final answer; the word says why a result could not be mapped.
    Done(Answer, Option<&'static str>),
    /// The server wants the same call again with this `requestState`, JSON text.
    Again(String),
}

impl Connector {
    /// Notes what an `initialize` says.
    pub(in crate::mcp) fn introduced(&mut self, params: Option<&RawValue>) {
        let [info, capabilities] =
            params.map_or([None; 2], |params| peek::members(params.get(), ["clientInfo", "capabilities"]));
        self.info = info.filter(|info| own::is_object(info)).map(|info| Box::from(info.get()));
        self.capabilities = capabilities.map(|all| portable_capabilities(all.get()).into());
    }
}

/// The message as the server must see it, or the answer. `discovered` is the server's `server/discover`
/// result; without one, what depends on it is decided for the connector.
pub(in crate::mcp) fn down(message: &Message, connector: &mut Connector, discovered: Option<&str>) -> Down {
    let id = message.id();
    let refuse = |code, text: &str| Down::Local(own::local(200, error_response(id, code, text, None)));
    let Ok(envelope) = Envelope::parse(message.json().as_bytes()) else {
        return Down::Send(message.json().to_owned());
    };
    if envelope.kind == Kind::Notification {
        return match message.method() {
            "notifications/initialized" | "notifications/roots/list_changed" => Down::Acknowledge,
            _ => Down::Send(message.json().to_owned()),
        };
    }
    match message.method() {
        "initialize" => {
            connector.introduced(envelope.params);
            let result = initialize_result(envelope.params, discovered.unwrap_or("{}"));
            return Down::Local(own::result(id, &result));
        }
        "ping" => return Down::Local(own::result(id, "{}")),
        "logging/setLevel" => {
            let word =
                envelope.params.and_then(|params| peek::member(params, "level")).and_then(peek::string);
            let Some(level) = word.and_then(|word| own::level(&word)) else {
                return refuse(INVALID_PARAMS, "Unknown log level");
            };
            let capabilities = discovered.and_then(|all| peek::members(all, ["capabilities"])[0]);
            if discovered.is_some() && capabilities.and_then(|all| peek::member(all, "logging")).is_none() {
                return refuse(METHOD_NOT_FOUND, "Method not found");
            }
            connector.log_level = Some(level);
            return Down::Local(own::result(id, "{}"));
        }
        "resources/subscribe"
        | "resources/unsubscribe"
        | "tasks/get"
        | "tasks/result"
        | "tasks/list"
        | "tasks/cancel" => return refuse(METHOD_NOT_FOUND, "Method not found"),
        _ => {}
    }
    match request(message.json(), envelope.params, connector) {
        Some(json) => Down::Send(json),
        None => refuse(INVALID_PARAMS, "Invalid params"),
    }
}

/// A request with what every request to the server carries; `None` if its `params` are no object.
fn request(json: &str, params: Option<&RawValue>, connector: &Connector) -> Option<String> {
    let given = params.map_or("{}", RawValue::get);
    let mut params = Editor::of(given)?;
    params.drop("task");
    let own_meta = params.get("_meta").map(RawValue::get).filter(|meta| *meta != "null").unwrap_or("{}");
    let mut inner = Editor::of(own_meta)?;
    inner.set(meta::VERSION, format!("\"{MODERN_VERSION}\""));
    inner.set(meta::CLIENT_INFO, connector.info.as_deref().map_or_else(own::own_info, str::to_owned));
    inner.set(meta::CAPABILITIES, connector.capabilities.as_deref().unwrap_or("{}"));
    if let Some(level) = connector.log_level {
        inner.set(meta::LOG_LEVEL, format!("\"{}\"", own::level_word(level)));
    }
    params.set("_meta", inner.finish());
    let mut whole = Editor::of(json)?;
    whole.set("params", params.finish());
    Some(whole.finish())
}

/// The translated request again, as its retry after the server gave `state` (JSON text), under the id
/// `id` (JSON text).
pub(in crate::mcp) fn again(json: &str, id: &str, state: &str) -> Option<String> {
    let mut whole = Editor::of(json)?;
    let mut params = Editor::of(whole.get("params")?.get())?;
    params.set("requestState", state);
    let params = params.finish();
    whole.set("params", params);
    whole.set("id", id);
    Some(whole.finish())
}

fn initialize_result(params: Option<&RawValue>, discovered: &str) -> String {
    let [capabilities, instructions, own_meta] =
        peek::members(discovered, ["capabilities", "instructions", "_meta"]);
    let requested = params.and_then(|params| peek::member(params, "protocolVersion")).and_then(peek::string);
    let version = LEGACY_VERSIONS
        .into_iter()
        .find(|known| requested.as_deref() == Some(*known))
        .unwrap_or(LEGACY_VERSIONS[0]);
    let capabilities = capabilities.map_or_else(|| "{}".to_owned(), |all| server_capabilities(all.get()));
    let capabilities = without_tasks(capabilities);
    let is_text = |info, name| peek::member(info, name).is_some_and(|text| text.get().starts_with('"'));
    let info = own_meta
        .and_then(|all| peek::member(all, meta::SERVER_INFO))
        .filter(|info| own::is_object(info) && is_text(info, "name") && is_text(info, "version"))
        .map_or(r#"{"name":"mcp-server","version":"0"}"#, RawValue::get);
    let mut json =
        format!(r#"{{"protocolVersion":"{version}","capabilities":{capabilities},"serverInfo":{info}"#);
    if let Some(text) = instructions.filter(|text| text.get().starts_with('"')) {
        json.push_str(&format!(r#","instructions":{}"#, text.get()));
    }
    json.push('}');
    json
}

fn without_tasks(capabilities: String) -> String {
    let Some(mut all) = Editor::of(&capabilities) else { return capabilities };
    let kept =
        all.get("extensions").and_then(|list| own::picked(list.get(), |name| name != own::TASKS_EXTENSION));
    match kept {
        Some(kept) => {
            all.set("extensions", kept);
            all.finish()
        }
        None => capabilities,
    }
}

/// An answer of the server as the connector must see it. `last` says that no further retry is possible.
pub(in crate::mcp) fn up(answer: Answer, id: Option<&Id>, method: &str, last: bool) -> Up {
    let Answer { mut head, json } = answer;
    head.headers.remove("Mcp-Session-Id");
    head.headers.remove("Mcp-Protocol-Version");
    if matches!(head.status, 400 | 404) {
        head.status = 200;
    }
    let done = |head: Head, json: String, why| Up::Done(Answer { head, json }, why);
    let Ok(envelope) = Envelope::parse(json.as_bytes()) else { return done(head, json, None) };
    if let Some(error) = envelope.error {
        if own::error_code(error) == Some(MISSING_CAPABILITY) {
            let json = suffixed(&json, error).unwrap_or(json);
            return done(head, json, None);
        }
        return done(head, json, None);
    }
    let Some(mut result) = envelope.result.and_then(|result| Editor::of(result.get())) else {
        return done(head, json, None);
    };
    let kind = result.get("resultType").map(|kind| peek::string(kind).unwrap_or_default());
    match kind.as_deref() {
        None | Some("complete") => {}
        Some("input_required") => {
            let methods = requested_methods(result.get("inputRequests"));
            let state = result.get("requestState").filter(|_| methods.is_empty() && !last);
            if let Some(state) = state {
                return Up::Again(state.get().to_owned());
            }
            let json = unmappable(id, "input_required", &methods);
            return done(head, json, Some("input_required"));
        }
        Some(_) => {
            let json = unmappable(id, "unsupported_result_type", &[]);
            return done(head, json, Some("unsupported_result_type"));
        }
    }
    let mut changed = result.drop_where(|name| matches!(name, "resultType" | "ttlMs" | "cacheScope"));
    if let Some(mut inner) = result.get("_meta").and_then(|own| Editor::of(own.get()))
        && inner.drop_where(|name| matches!(name, meta::SERVER_INFO | meta::SUBSCRIPTION))
    {
        changed = true;
        if inner.is_empty() {
            result.drop("_meta");
        } else {
            result.set("_meta", inner.finish());
        }
    }
    match method {
        "tools/call" if result.get("structuredContent").is_some_and(|value| !own::is_object(value)) => {
            changed = true;
            result.drop("structuredContent");
        }
        "tools/list" => {
            if let Some(tools) = result.get("tools").and_then(tools_up) {
                changed = true;
                result.set("tools", tools);
            }
        }
        _ => {}
    }
    if !changed {
        return done(head, json, None);
    }
    let result = result.finish();
    let edited = Editor::of(&json).map(|mut whole| {
        whole.set("result", result);
        whole.finish()
    });
    done(head, edited.unwrap_or(json), None)
}

/// Tools whose `outputSchema` describes no object lose it; `None` if there is none.
fn tools_up(tools: &RawValue) -> Option<String> {
    let tools: Vec<&RawValue> = serde_json::from_str(tools.get()).ok()?;
    let mut changed = false;
    let texts: Vec<String> = tools
        .iter()
        .map(|tool| {
            let is_object = |schema: &RawValue| {
                peek::member(schema, "type").and_then(peek::string).as_deref() == Some("object")
            };
            let mut edited = Editor::of(tool.get());
            let odd = edited
                .as_mut()
                .filter(|tool| tool.get("outputSchema").is_some_and(|schema| !is_object(schema)));
            match odd {
                Some(odd) => {
                    odd.drop("outputSchema");
                    changed = true;
                    edited.map_or_else(|| tool.get().to_owned(), Editor::finish)
                }
                None => tool.get().to_owned(),
            }
        })
        .collect();
    changed.then(|| format!("[{}]", texts.join(",")))
}

fn suffixed(json: &str, error: &RawValue) -> Option<String> {
    let message = peek::member(error, "message").and_then(peek::string).unwrap_or_default();
    let text = format!("{message} (not available through this tunnel)");
    let mut edited = Editor::of(error.get())?;
    edited.set("message", super::edit::quoted(&text));
    let edited = edited.finish();
    let mut whole = Editor::of(json)?;
    whole.set("error", edited);
    Some(whole.finish())
}

/// The methods that the server asks for, in order, each once.
fn requested_methods(requests: Option<&RawValue>) -> Vec<String> {
    let Some(requests) = requests.and_then(|requests| Editor::of(requests.get())) else { return Vec::new() };
    let mut methods: Vec<String> = Vec::new();
    for request in requests.values() {
        let method = peek::member(request, "method").and_then(peek::string).unwrap_or("unknown".into());
        let method = own::clipped(method);
        if methods.len() < MAX_NAMED_METHODS && !methods.contains(&method) {
            methods.push(method);
        }
    }
    methods
}

fn unmappable(id: Option<&Id>, reason: &'static str, methods: &[String]) -> String {
    let quoted: Vec<String> = methods.iter().map(|method| super::edit::quoted(method)).collect();
    let (text, more) = match reason {
        "input_required" => {
            let named = if methods.is_empty() { String::new() } else { format!("({}) ", methods.join(", ")) };
            (
                format!(
                    "The MCP server asked for interactive input {named}that this connection cannot provide"
                ),
                format!(r#","methods":[{}]"#, quoted.join(",")),
            )
        }
        _ => ("The MCP server gave a type of result that this connection cannot carry".into(), String::new()),
    };
    let data = format!(r#"{{"tunnel_bridge":{{"reason":"{reason}"{more}}}}}"#);
    error_response(id, INTERNAL_ERROR, &text, Some(&data))
}

/// A notification of the server as the connector must see it; `None` if it must not.
pub(in crate::mcp) fn event_up(json: &str) -> Option<String> {
    let envelope = Envelope::parse(json.as_bytes()).ok()?;
    let method = &*envelope.method;
    if method.starts_with("notifications/subscriptions/")
        || method.ends_with("/list_changed")
        || method == "notifications/resources/updated"
    {
        return None;
    }
    let meta = envelope.params.and_then(|params| peek::member(params, "_meta"));
    let Some(mut inner) = meta.and_then(|meta| Editor::of(meta.get())) else { return Some(json.to_owned()) };
    if !inner.drop(meta::SUBSCRIPTION) {
        return Some(json.to_owned());
    }
    let mut params = Editor::of(envelope.params?.get())?;
    if inner.is_empty() {
        params.drop("_meta");
    } else {
        params.set("_meta", inner.finish());
    }
    let params = params.finish();
    let mut whole = Editor::of(json)?;
    whole.set("params", params);
    Some(whole.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISCOVERED: &str = r#"{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{"listChanged":true},"logging":{},"extensions":{"io.modelcontextprotocol/tasks":{},"a/b":{}}},"instructions":"hi","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"modern-demo","version":"1.0.0"}}}"#;

    fn message(json: &str) -> Message {
        Message::parse(json).unwrap()
    }

    fn call(method: &str, params: &str) -> Message {
        message(&format!(r#"{{"jsonrpc":"2.0","id":5,"method":"{method}","params":{params}}}"#))
    }

    fn local(message: &Message, connector: &mut Connector) -> (u16, String) {
        match down(message, connector, Some(DISCOVERED)) {
            Down::Local(Outcome::Answered(answer)) => (answer.head.status, answer.json),
            _ => panic!("not answered"),
        }
    }

    fn sent(message: &Message, connector: &mut Connector) -> String {
        match down(message, connector, Some(DISCOVERED)) {
            Down::Send(json) => json,
            _ => panic!("not sent"),
        }
    }

    fn lifted(status: u16, body: &str, method: &str) -> (u16, String, Option<&'static str>) {
        let json = format!(r#"{{"jsonrpc":"2.0","id":5,{body}}}"#);
        let id = Id::from_json("5").unwrap();
        match up(Answer { head: Head::bare(status), json }, Some(&id), method, false) {
            Up::Done(answer, why) => (answer.head.status, answer.json, why),
            Up::Again(state) => (0, state, None),
        }
    }

    #[test]
    fn an_initialize_is_answered_from_the_discovery() {
        for (requested, answered) in [("2025-06-18", "2025-06-18"), ("1999-01-01", "2025-11-25")] {
            let params = format!(r#"{{"protocolVersion":"{requested}","capabilities":{{}}}}"#);
            let (status, json) = local(&call("initialize", &params), &mut Connector::default());
            assert_eq!(status, 200);
            assert_eq!(
                json,
                format!(
                    r#"{{"jsonrpc":"2.0","id":5,"result":{{"protocolVersion":"{answered}","capabilities":{{"tools":{{}},"logging":{{}},"extensions":{{"a/b":{{}}}}}},"serverInfo":{{"name":"modern-demo","version":"1.0.0"}},"instructions":"hi"}}}}"#
                )
            );
        }
    }

    #[test]
    fn requests_gain_the_marks_and_what_the_connector_said_before() {
        let mut connector = Connector::default();
        let init = r#"{"protocolVersion":"2025-11-25","capabilities":{"roots":{},"extensions":{"x/y":{}}},"clientInfo":{"name":"codex","version":"1.0.0"}}"#;
        local(&call("initialize", init), &mut connector);
        assert_eq!(local(&call("logging/setLevel", r#"{"level":"warning"}"#), &mut connector).0, 200);
        let json = sent(
            &call("tools/call", r#"{"name":"e","task":{},"_meta":{"progressToken":1.0}}"#),
            &mut connector,
        );
        assert_eq!(
            json,
            concat!(
                r#"{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"e","_meta":{"progressToken":1.0,"#,
                r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","#,
                r#""io.modelcontextprotocol/clientInfo":{"name":"codex","version":"1.0.0"},"#,
                r#""io.modelcontextprotocol/clientCapabilities":{"extensions":{"x/y":{}}},"#,
                r#""io.modelcontextprotocol/logLevel":"warning"}}}"#
            )
        );
        let bare = message(r#"{"jsonrpc":"2.0","id":5,"method":"tools/list"}"#);
        assert!(sent(&bare, &mut Connector::default()).contains(r#"clientInfo":{"name":"tunnel-client""#));
    }

    #[test]
    fn what_a_server_without_handshake_does_not_know_is_answered_here() {
        let mut connector = Connector::default();
        assert_eq!(
            local(&call("ping", "{}"), &mut connector),
            (200, r#"{"jsonrpc":"2.0","id":5,"result":{}}"#.into())
        );
        for method in [
            "resources/subscribe",
            "resources/unsubscribe",
            "tasks/get",
            "tasks/result",
            "tasks/list",
            "tasks/cancel",
        ] {
            let (status, json) = local(&call(method, "{}"), &mut connector);
            assert!(status == 200 && json.contains("-32601"), "{method}: {json}");
        }
        assert!(local(&call("logging/setLevel", r#"{"level":"loud"}"#), &mut connector).1.contains("-32602"));
        assert!(local(&call("tools/list", "[1]"), &mut connector).1.contains("-32602"));
        let note = message(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        assert!(matches!(down(&note, &mut connector, Some(DISCOVERED)), Down::Acknowledge));
    }

    #[test]
    fn results_lose_what_the_connector_must_not_see() {
        let (status, json, _) = lifted(
            200,
            r#""result":{"content":[{"n":1.10}],"structuredContent":[1],"resultType":"complete","ttlMs":5,"cacheScope":"private","_meta":{"io.modelcontextprotocol/serverInfo":{}}}"#,
            "tools/call",
        );
        assert_eq!(
            (status, json.as_str()),
            (200, r#"{"jsonrpc":"2.0","id":5,"result":{"content":[{"n":1.10}]}}"#)
        );
        let (_, json, _) = lifted(
            200,
            r#""result":{"resultType":"complete","tools":[{"name":"a","outputSchema":{"type":"array"}},{"name":"b","outputSchema":{"type":"object"}}]}"#,
            "tools/list",
        );
        assert_eq!(
            json,
            r#"{"jsonrpc":"2.0","id":5,"result":{"tools":[{"name":"a"},{"name":"b","outputSchema":{"type":"object"}}]}}"#
        );
    }

    #[test]
    fn errors_arrive_under_200_and_interactive_results_become_errors() {
        assert_eq!(lifted(404, r#""error":{"code":-32601,"message":"x"}"#, "a").0, 200);
        let (status, json, _) = lifted(400, r#""error":{"code":-32021,"message":"No","data":{"a":1}}"#, "a");
        assert_eq!(status, 200);
        assert!(
            json.contains(r#""message":"No (not available through this tunnel)","data":{"a":1}"#),
            "{json}"
        );
        assert_eq!(lifted(503, r#""error":{"code":-1,"message":"x"}"#, "a").0, 503);
        let (_, json, why) = lifted(
            200,
            r#""result":{"resultType":"input_required","requestState":"s","inputRequests":{"a":{"method":"elicitation/create","params":{"secret":1}},"b":{"method":"elicitation/create"}}}"#,
            "tools/call",
        );
        assert_eq!(why, Some("input_required"));
        assert_eq!(
            json,
            r#"{"jsonrpc":"2.0","id":5,"error":{"code":-32603,"message":"The MCP server asked for interactive input (elicitation/create) that this connection cannot provide","data":{"tunnel_bridge":{"reason":"input_required","methods":["elicitation/create"]}}}}"#
        );
        let (again, state, _) =
            lifted(200, r#""result":{"resultType":"input_required","requestState":"s"}"#, "tools/call");
        assert_eq!((again, state.as_str()), (0, "\"s\""));
        let (_, json, _) = lifted(200, r#""result":{"resultType":"task"}"#, "tools/call");
        assert!(json.contains(r#""reason":"unsupported_result_type""#));
    }

    #[test]
    fn a_retry_carries_the_state_under_a_new_id() {
        let json = r#"{"jsonrpc":"2.0","id":5,"method":"m","params":{"a":1.0}}"#;
        assert_eq!(
            again(json, "\"tc-retry-1\"", "\"s\"").unwrap(),
            r#"{"jsonrpc":"2.0","id":"tc-retry-1","method":"m","params":{"a":1.0,"requestState":"s"}}"#
        );
    }

    #[test]
    fn change_notifications_end_here() {
        assert!(event_up(r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#).is_none());
        let progress = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":1.0}}"#;
        assert_eq!(event_up(progress).as_deref(), Some(progress));
        assert_eq!(
            event_up(r#"{"jsonrpc":"2.0","method":"x","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":1}}}"#).as_deref(),
            Some(r#"{"jsonrpc":"2.0","method":"x","params":{}}"#)
        );
    }
}
