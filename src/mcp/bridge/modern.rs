//! A connector without handshakes before a server that wants one: messages down, answers up.
//!
//! Pure translation. Invariant: whatever has no counterpart on the other side is refused here and never
//! reaches the server; the rest keeps every byte that this file does not name.

use serde_json::value::RawValue;

use crate::jsonrpc::{Envelope, INTERNAL_ERROR, Id, Kind, METHOD_NOT_FOUND, Message, error_response};
use crate::mcp::era::is_modern_version;
use crate::mcp::{Answer, Failure, Head, Outcome, peek};

use super::edit::{Editor, quoted};
use super::own::{
    self, HEADER_MISMATCH, INVALID_PARAMS, MISSING_CAPABILITY, MODERN_VERSION, TASKS_EXTENSION,
    UNSUPPORTED_VERSION, meta,
};

const RESOURCE_NOT_FOUND: i64 = -32002;
const URL_ELICITATION_REQUIRED: i64 = -32042;
/// Codes that the revision without handshakes reserves.
const RESERVED: std::ops::RangeInclusive<i64> = -32099..=HEADER_MISMATCH;
/// What a client without handshakes puts into `_meta` of every request.
const REQUEST_KEYS: [&str; 4] = [meta::VERSION, meta::CLIENT_INFO, meta::CAPABILITIES, meta::LOG_LEVEL];

/// What becomes of a message on its way down.
pub(in crate::mcp) enum Down {
    /// It is answered here.
    Local(Outcome),
    /// `server/discover`: answered here once the server's `initialize` result is known.
    Discover,
    /// This is sent instead.
    Send(Sent),
}

/// A message as the server gets it.
pub(in crate::mcp) struct Sent {
    pub(in crate::mcp) json: String,
    /// The level of log messages that the connector wants, a place in the order of levels.
    pub(in crate::mcp) log_level: Option<usize>,
    /// Its progress token, JSON text.
    pub(in crate::mcp) token: Option<String>,
}

/// What the request says about its sender: its `_meta`.
pub(in crate::mcp) fn meta_of(message: &Message) -> Option<&RawValue> {
    let envelope = Envelope::parse(message.json().as_bytes()).ok()?;
    peek::member(envelope.params?, "_meta")
}

/// Parameters of the handshake for a connector whose request has this `_meta`.
pub(in crate::mcp) fn initialize_params(version: &str, meta: Option<&RawValue>) -> String {
    let part = |name| meta.and_then(|meta| peek::member(meta, name));
    let is_text = |info, name| peek::member(info, name).is_some_and(|text| text.get().starts_with('"'));
    let info = part(meta::CLIENT_INFO)
        .filter(|info| own::is_object(info) && is_text(info, "name") && is_text(info, "version"))
        .map_or_else(own::own_info, |info| info.get().to_owned());
    let capabilities = part(meta::CAPABILITIES).map(|all| portable_capabilities(all.get()));
    format!(
        r#"{{"protocolVersion":"{version}","capabilities":{},"clientInfo":{info}}}"#,
        capabilities.as_deref().unwrap_or("{}")
    )
}

/// Of a client's capabilities those that need no requests from the server.
pub(super) fn portable_capabilities(all: &str) -> String {
    let [experimental, extensions] = peek::members(all, ["experimental", "extensions"]);
    let mut members = Vec::new();
    if let Some(experimental) = experimental.filter(|value| own::is_object(value)) {
        members.push(format!(r#""experimental":{}"#, experimental.get()));
    }
    if let Some(extensions) = extensions.and_then(|all| own::picked(all.get(), |n| n != TASKS_EXTENSION)) {
        members.push(format!(r#""extensions":{extensions}"#));
    }
    format!("{{{}}}", members.join(","))
}

/// The message as the server must see it, or why it must not.
pub(in crate::mcp) fn down(message: &Message) -> Down {
    let (id, method) = (message.id(), message.method());
    let Ok(envelope) = Envelope::parse(message.json().as_bytes()) else { return unchanged(message) };
    let is_call = envelope.kind == Kind::Call;
    let meta = envelope.params.and_then(|params| peek::member(params, "_meta"));
    let part = |name| meta.and_then(|meta| peek::member(meta, name));
    let refuse = |code, text: &str, data: Option<&str>| Down::Local(own::refusal(id, code, text, data));
    if is_call {
        if let Some(version) = part(meta::VERSION).and_then(peek::string)
            && version != MODERN_VERSION
            && is_modern_version(&version)
        {
            let requested = own::clipped_quoted(version);
            let data = format!(r#"{{"supported":["{MODERN_VERSION}"],"requested":{requested}}}"#);
            return refuse(UNSUPPORTED_VERSION, "Unsupported protocol version", Some(&data));
        }
        match method {
            "server/discover" => return Down::Discover,
            "subscriptions/listen"
            | "tasks/get"
            | "tasks/update"
            | "tasks/cancel"
            | "initialize"
            | "ping"
            | "logging/setLevel"
            | "resources/subscribe"
            | "resources/unsubscribe" => {
                return refuse(METHOD_NOT_FOUND, "Method not found", None);
            }
            _ => {}
        }
    }
    let log_level = match part(meta::LOG_LEVEL).filter(|_| is_call) {
        None => None,
        Some(word) => match peek::string(word).and_then(|word| own::level(&word)) {
            Some(level) => Some(level),
            None => return refuse(INVALID_PARAMS, "Unknown log level", None),
        },
    };
    let Some(mut params) = envelope.params.and_then(|params| Editor::of(params.get())) else {
        return Down::Send(Sent { json: message.json().to_owned(), log_level, token: None });
    };
    if is_call {
        if params.get("requestState").is_some() {
            return refuse(INVALID_PARAMS, "Unknown or expired requestState", None);
        }
        params.drop("inputResponses");
    }
    let token = part("progressToken").map(|token| token.get().to_owned());
    if let Some(mut edited) = meta.and_then(|meta| Editor::of(meta.get()))
        && edited.drop_where(|name| REQUEST_KEYS.contains(&name))
    {
        if edited.is_empty() {
            params.drop("_meta");
        } else {
            params.set("_meta", edited.finish());
        }
    }
    let json = match Editor::of(message.json()) {
        Some(mut whole) => {
            whole.set("params", params.finish());
            whole.finish()
        }
        None => message.json().to_owned(),
    };
    Down::Send(Sent { json, log_level, token })
}

fn unchanged(message: &Message) -> Down {
    Down::Send(Sent { json: message.json().to_owned(), log_level: None, token: None })
}

/// The result of `server/discover` for a server that answered `initialize` with `result`.
pub(in crate::mcp) fn discover_result(result: &str) -> String {
    let [capabilities, instructions, info] =
        peek::members(result, ["capabilities", "instructions", "serverInfo"]);
    let capabilities = capabilities.map_or_else(|| "{}".to_owned(), |all| server_capabilities(all.get()));
    let mut json = format!(
        r#"{{"resultType":"complete","supportedVersions":["{MODERN_VERSION}"],"capabilities":{capabilities}"#
    );
    if let Some(text) = instructions.filter(|text| text.get().starts_with('"')) {
        json.push_str(&format!(r#","instructions":{}"#, text.get()));
    }
    json.push_str(r#","ttlMs":0,"cacheScope":"private""#);
    if let Some(info) = info.filter(|info| own::is_object(info)) {
        json.push_str(&format!(r#","_meta":{{"{}":{}}}"#, meta::SERVER_INFO, info.get()));
    }
    json.push('}');
    json
}

/// Of a server's capabilities those that a bridge can carry.
pub(super) fn server_capabilities(all: &str) -> String {
    const KEPT: [&str; 7] =
        ["tools", "prompts", "resources", "completions", "logging", "experimental", "extensions"];
    let Some(mut capabilities) = Editor::of(all) else { return "{}".to_owned() };
    capabilities.drop_where(|name| !KEPT.contains(&name));
    for name in ["tools", "prompts", "resources"] {
        let kept = capabilities
            .get(name)
            .and_then(|value| own::picked(value.get(), |part| !matches!(part, "listChanged" | "subscribe")));
        if let Some(kept) = kept {
            capabilities.set(name, kept);
        }
    }
    capabilities.finish()
}

/// `serverInfo` of an `initialize` result, JSON text.
pub(in crate::mcp) fn server_info(result: &str) -> Option<&RawValue> {
    peek::members(result, ["serverInfo"])[0].filter(|info| own::is_object(info))
}

/// An answer of the server as the connector must see it. `initialized` is the server's `initialize`
/// result.
pub(in crate::mcp) fn up(answer: Answer, method: &str, initialized: &str) -> Outcome {
    let Answer { head, json } = answer;
    let Ok(envelope) = Envelope::parse(json.as_bytes()) else { return broken(head) };
    let status = head.status;
    if let Some(error) = envelope.error {
        let (status, error) = error_up(error, status);
        let json = match error {
            Some(error) => error_with(&json, envelope.id.as_ref(), &error),
            None => json,
        };
        return Outcome::Answered(Answer { head: Head { status, headers: head.headers }, json });
    }
    let result = envelope.result.map_or("null", RawValue::get);
    let result = if result == "null" { "{}" } else { result };
    let Some(mut edited) = Editor::of(result) else { return broken(head) };
    edited.add("resultType", "\"complete\"");
    if matches!(
        method,
        "tools/list" | "prompts/list" | "resources/list" | "resources/templates/list" | "resources/read"
    ) {
        edited.add("ttlMs", "0");
        edited.add("cacheScope", "\"private\"");
    }
    if let Some(info) = server_info(initialized) {
        let own = edited.get("_meta").map_or("{}", RawValue::get);
        if let Some(mut inner) = Editor::of(own)
            && inner.get(meta::SERVER_INFO).is_none()
        {
            inner.set(meta::SERVER_INFO, info.get());
            let text = inner.finish();
            edited.set("_meta", text);
        }
    }
    let result = edited.finish();
    let json = match Editor::of(&json) {
        Some(mut whole) => {
            whole.set("result", result);
            whole.finish()
        }
        None => json,
    };
    Outcome::Answered(Answer { head, json })
}

fn broken(head: Head) -> Outcome {
    Outcome::Failed(Failure::protocol(Some(head)))
}

/// Status and, where it changes, the new error object.
fn error_up(error: &RawValue, upstream: u16) -> (u16, Option<String>) {
    let message = || peek::member(error, "message").map_or("\"\"", RawValue::get);
    let code = own::error_code(error).unwrap_or(INTERNAL_ERROR);
    // What HTTP said itself stands, unless a code below has a status of its own.
    let kept = if (200..300).contains(&upstream) { 200 } else { upstream };
    match code {
        METHOD_NOT_FOUND => (404, None),
        RESOURCE_NOT_FOUND => {
            let changed = Editor::of(error.get()).map(|mut edited| {
                edited.set("code", INVALID_PARAMS.to_string());
                edited.finish()
            });
            (200, changed)
        }
        URL_ELICITATION_REQUIRED => (
            400,
            Some(format!(
                concat!(
                    r#"{{"code":{},"message":"Missing required client capability","#,
                    r#""data":{{"requiredCapabilities":{{"elicitation":{{"url":{{}}}}}}}}}}"#
                ),
                MISSING_CAPABILITY
            )),
        ),
        code if RESERVED.contains(&code) => (
            200,
            Some(format!(
                concat!(
                    r#"{{"code":{},"message":{},"#,
                    r#""data":{{"tunnel_bridge":{{"reason":"reserved_code","original_code":{}}}}}}}"#
                ),
                INTERNAL_ERROR,
                message(),
                code
            )),
        ),
        _ => (kept, None),
    }
}

fn error_with(json: &str, id: Option<&Id>, error: &str) -> String {
    match Editor::of(json) {
        Some(mut whole) => {
            whole.set("error", error);
            whole.finish()
        }
        None => error_response(id, INTERNAL_ERROR, "", None),
    }
}

/// Whether a notification of the server is for the connector whose request was `sent`.
pub(in crate::mcp) fn passes_up(json: &str, sent: &Sent) -> bool {
    let Ok(envelope) = Envelope::parse(json.as_bytes()) else { return false };
    let part = |name| envelope.params.and_then(|params| peek::member(params, name));
    match &*envelope.method {
        "notifications/progress" => {
            part("progressToken").map(RawValue::get) == sent.token.as_deref() && sent.token.is_some()
        }
        "notifications/message" => {
            let level = part("level").and_then(peek::string).and_then(|word| own::level(&word));
            sent.log_level.is_some_and(|wanted| level.is_some_and(|level| level >= wanted))
        }
        method => !is_dropped(method),
    }
}

/// Notifications that have no counterpart.
fn is_dropped(method: &str) -> bool {
    method.ends_with("/list_changed")
        || method.starts_with("notifications/tasks/")
        || matches!(
            method,
            "notifications/resources/updated"
                | "notifications/cancelled"
                | "notifications/elicitation/complete"
        )
}

/// Asks the server for log messages of this level, an own request.
pub(in crate::mcp) fn set_level(level: usize) -> String {
    own::request(
        &own::next_id("level"),
        "logging/setLevel",
        &format!(r#"{{"level":{}}}"#, quoted(own::level_word(level))),
    )
}

/// Whether the `initialize` result offers logging.
pub(in crate::mcp) fn has_logging(result: &str) -> bool {
    peek::members(result, ["capabilities"])[0].is_some_and(|all| peek::member(all, "logging").is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    const META: &str = r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}"#;
    const INITIALIZED: &str = r#"{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"legacy-demo","version":""}}"#;

    fn message(json: &str) -> Message {
        Message::parse(json).unwrap()
    }

    fn call(method: &str, params: &str) -> Message {
        message(&format!(r#"{{"jsonrpc":"2.0","id":4,"method":"{method}","params":{params}}}"#))
    }

    fn sent(message: &Message) -> Sent {
        match down(message) {
            Down::Send(sent) => sent,
            _ => panic!("not sent"),
        }
    }

    fn answered(outcome: Outcome) -> (u16, String) {
        match outcome {
            Outcome::Answered(answer) => (answer.head.status, answer.json),
            other => panic!("{other:?}"),
        }
    }

    fn refused(message: &Message) -> (u16, String) {
        match down(message) {
            Down::Local(outcome) => answered(outcome),
            _ => panic!("not refused"),
        }
    }

    fn lifted(json: &str, method: &str) -> (u16, String) {
        answered(up(Answer { head: Head::bare(200), json: json.into() }, method, INITIALIZED))
    }

    #[test]
    fn the_marks_go_and_every_other_byte_stays() {
        let given = message(&format!(
            r#"{{"jsonrpc":"2.0","id":11,"method":"tools/call","params":{{"name":"echo","arguments":{{"n":1.10}},"_meta":{{"progressToken":"p1","traceparent":"t","x/y":[1.0],{META}}}}}}}"#
        ));
        let sent = sent(&given);
        assert_eq!(
            sent.json,
            r#"{"jsonrpc":"2.0","id":11,"method":"tools/call","params":{"name":"echo","arguments":{"n":1.10},"_meta":{"progressToken":"p1","traceparent":"t","x/y":[1.0]}}}"#
        );
        assert_eq!(sent.token.as_deref(), Some("\"p1\""));
        let bare = call("tools/list", &format!(r#"{{"_meta":{{{META}}},"inputResponses":{{}}}}"#));
        assert_eq!(
            super::tests::sent(&bare).json,
            r#"{"jsonrpc":"2.0","id":4,"method":"tools/list","params":{}}"#
        );
    }

    #[test]
    fn what_has_no_counterpart_is_refused_with_the_status_of_its_code() {
        for method in
            ["subscriptions/listen", "tasks/get", "tasks/update", "tasks/cancel", "ping", "logging/setLevel"]
        {
            let (status, json) = refused(&call(method, &format!(r#"{{"_meta":{{{META}}}}}"#)));
            assert_eq!(
                (status, json.as_str()),
                (404, r#"{"jsonrpc":"2.0","id":4,"error":{"code":-32601,"message":"Method not found"}}"#),
                "{method}"
            );
        }
        let (status, json) = refused(&call(
            "server/discover",
            r#"{"_meta":{"io.modelcontextprotocol/protocolVersion":"2027-01-15"}}"#,
        ));
        assert_eq!(status, 400);
        assert_eq!(
            json,
            r#"{"jsonrpc":"2.0","id":4,"error":{"code":-32022,"message":"Unsupported protocol version","data":{"supported":["2026-07-28"],"requested":"2027-01-15"}}}"#
        );
        let (status, json) =
            refused(&call("tools/call", &format!(r#"{{"requestState":"x","_meta":{{{META}}}}}"#)));
        assert!(status == 200 && json.contains("-32602") && json.contains("Unknown or expired requestState"));
        let level = r#"{"_meta":{"io.modelcontextprotocol/logLevel":"loud"}}"#;
        assert!(refused(&call("tools/list", level)).1.contains("-32602"));
        assert!(matches!(down(&call("server/discover", "{}")), Down::Discover));
    }

    #[test]
    fn a_discovery_is_answered_from_the_handshake() {
        let result = r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{"listChanged":true},"prompts":{},"resources":{"subscribe":true,"listChanged":true},"completions":{},"tasks":{},"other":{}},"serverInfo":{"name":"legacy-demo","version":"1.2.3"},"instructions":"Be \"kind\""}"#;
        assert_eq!(
            discover_result(result),
            concat!(
                r#"{"resultType":"complete","supportedVersions":["2026-07-28"],"#,
                r#""capabilities":{"tools":{},"prompts":{},"resources":{},"completions":{}},"#,
                r#""instructions":"Be \"kind\"","ttlMs":0,"cacheScope":"private","#,
                r#""_meta":{"io.modelcontextprotocol/serverInfo":{"name":"legacy-demo","version":"1.2.3"}}}"#
            )
        );
    }

    #[test]
    fn the_handshake_names_the_connector_and_declares_nothing_that_needs_an_answer() {
        let meta = RawValue::from_string(
            r#"{"io.modelcontextprotocol/clientInfo":{"name":"c","version":"1","x":1},"io.modelcontextprotocol/clientCapabilities":{"roots":{},"sampling":{},"elicitation":{},"experimental":{"e":1},"extensions":{"a/b":{},"io.modelcontextprotocol/tasks":{}}}}"#
                .into(),
        )
        .unwrap();
        assert_eq!(
            initialize_params("2025-11-25", Some(&meta)),
            r#"{"protocolVersion":"2025-11-25","capabilities":{"experimental":{"e":1},"extensions":{"a/b":{}}},"clientInfo":{"name":"c","version":"1","x":1}}"#
        );
        assert!(
            initialize_params("2025-11-25", None)
                .contains(r#""capabilities":{},"clientInfo":{"name":"tunnel-client""#)
        );
    }

    #[test]
    fn results_gain_what_the_other_revision_demands() {
        let (status, json) = lifted(
            r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"n":1.10,"big":12345678901234567890}], "z":1}}"#,
            "tools/list",
        );
        assert_eq!(status, 200);
        assert_eq!(
            json,
            r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"n":1.10,"big":12345678901234567890}], "z":1,"resultType":"complete","ttlMs":0,"cacheScope":"private","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"legacy-demo","version":""}}}}"#
        );
        let (_, json) = lifted(r#"{"jsonrpc":"2.0","id":1,"result":null}"#, "tools/call");
        assert_eq!(
            json,
            r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"legacy-demo","version":""}}}}"#
        );
        let odd = Answer { head: Head::bare(200), json: r#"{"jsonrpc":"2.0","id":1,"result":[1]}"#.into() };
        assert!(matches!(up(odd, "a", INITIALIZED), Outcome::Failed(Failure::Broken { .. })));
    }

    #[test]
    fn errors_are_told_in_the_other_revisions_words() {
        for (error, status, expected) in [
            (r#"{"code":-32601,"message":"no"}"#, 404, r#"{"code":-32601,"message":"no"}"#),
            (
                r#"{"code":-32002,"message":"no","data":{"uri":"x"}}"#,
                200,
                r#"{"code":-32602,"message":"no","data":{"uri":"x"}}"#,
            ),
            (
                r#"{"code":-32042,"message":"go there","data":{"elicitations":[]}}"#,
                400,
                r#"{"code":-32021,"message":"Missing required client capability","data":{"requiredCapabilities":{"elicitation":{"url":{}}}}}"#,
            ),
            (
                r#"{"code":-32050,"message":"odd","data":1}"#,
                200,
                r#"{"code":-32603,"message":"odd","data":{"tunnel_bridge":{"reason":"reserved_code","original_code":-32050}}}"#,
            ),
            (r#"{"code":-32000,"message":"x"}"#, 200, r#"{"code":-32000,"message":"x"}"#),
        ] {
            let (got, json) = lifted(&format!(r#"{{"jsonrpc":"2.0","id":1,"error":{error}}}"#), "tools/call");
            assert_eq!((got, json), (status, format!(r#"{{"jsonrpc":"2.0","id":1,"error":{expected}}}"#)));
        }
    }

    #[test]
    fn notifications_pass_only_where_they_mean_something() {
        let sent = |token: Option<&str>, level: Option<&str>| Sent {
            json: String::new(),
            log_level: level.and_then(own::level),
            token: token.map(str::to_owned),
        };
        let note = |method: &str, params: &str| {
            format!(r#"{{"jsonrpc":"2.0","method":"notifications/{method}","params":{params}}}"#)
        };
        let warning = note("message", r#"{"level":"warning","data":1}"#);
        let debug = note("message", r#"{"level":"debug","data":1}"#);
        let progress = note("progress", r#"{"progressToken":1,"progress":1}"#);
        for (json, sent, passes) in [
            (&warning, sent(None, None), false),
            (&warning, sent(None, Some("warning")), true),
            (&debug, sent(None, Some("warning")), false),
            (&progress, sent(Some("1"), None), true),
            (&progress, sent(Some("2"), None), false),
            (&progress, sent(None, None), false),
            (&note("tools/list_changed", "{}"), sent(None, None), false),
            (&note("tasks/status", "{}"), sent(None, None), false),
            (&note("custom", "{}"), sent(None, None), true),
        ] {
            assert_eq!(passes_up(json, &sent), passes, "{json}");
        }
    }
}
