//! The MCP server: one message in, one answer out, in both protocol eras.
//!
//! Transports are elsewhere. Invariant: every call that is not cut by its deadline is answered, and
//! before `initialize` nothing but `ping` is, except in the era that has no handshake.

use std::sync::Arc;

use serde_json::{Value, json};

use super::call::{Bounds, Ways};
use super::history::History;
use super::registry::Registry;
use super::session::Session;
use super::tools::{Called, Tools};
use super::{Observer, schema};
use crate::jsonrpc::{
    Envelope, INTERNAL_ERROR, Id, Kind, METHOD_NOT_FOUND, error_response, json_string, result_response,
};
use crate::mcp::streamable::{LEGACY_VERSIONS, MODERN_VERSION};
use crate::net::{Cancel, Deadline};

/// What `initialize` answers to a revision that nobody knows.
const FALLBACK_VERSION: &str = "2025-06-18";
const INVALID_REQUEST: i64 = -32600;
const INVALID_PARAMS: i64 = -32602;
const UNSUPPORTED_VERSION: i64 = -32022;
const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const META_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
const META_SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";
const INSTRUCTIONS: &str = "A constrained outbound HTTP client. list_targets shows the allowlisted targets by label. \
call_target sends GET, POST or PUT to one of them, within limits of size, time and redirects. \
get_oauth_target_audience is a narrow lookup of a token endpoint's exact URL. It cannot reach arbitrary hosts.";

/// What the server is made of.
pub struct Setup {
    /// The operator's limits.
    pub bounds: Bounds,
    /// How targets are reached.
    pub ways: Ways,
    /// Keep bodies in the history.
    pub capture_payloads: bool,
    /// The allow-list.
    pub registry: Arc<Registry>,
    /// Hears of every call.
    pub observer: Arc<dyn Observer>,
}

/// The server behind every transport.
pub struct Server {
    tools: Tools,
    /// The members of the result of `tools/list`.
    list: String,
    cut: Cancel,
}

/// What a message comes to.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// A response.
    Json(String),
    /// Nothing: it was a notification or a response.
    Nothing,
    /// Nothing: the deadline passed first.
    Expired,
}

/// A call to be answered.
struct Request<'a> {
    id: &'a Id,
    params: Option<Value>,
    modern: bool,
}

impl Server {
    /// A server whose calls end when `cut` fires. Opens nothing.
    pub fn new(setup: Setup, cut: &Cancel) -> Server {
        let list = schema::tools(&setup.bounds);
        let tools = Tools {
            bounds: setup.bounds,
            ways: setup.ways,
            capture: setup.capture_payloads,
            registry: setup.registry,
            history: Arc::default(),
            observer: setup.observer,
        };
        Server { tools, list, cut: cut.clone() }
    }

    /// The allow-list.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.tools.registry
    }

    /// The calls of late.
    pub fn history(&self) -> &Arc<History> {
        &self.tools.history
    }

    /// The operator's limits.
    pub fn bounds(&self) -> &Bounds {
        &self.tools.bounds
    }

    /// Whether bodies are kept in the history.
    pub fn captures_payloads(&self) -> bool {
        self.tools.capture
    }

    /// A new session, which ends with the server at the latest.
    pub fn open_session(&self) -> Session {
        Session::new(&self.cut)
    }

    /// Answers one message of `session`. `header_version` is the protocol revision that a transport says.
    pub fn answer(
        &self,
        session: &Session,
        message: &Envelope<'_>,
        header_version: Option<&str>,
        deadline: Deadline,
    ) -> Answer {
        let params = message.params.and_then(|params| serde_json::from_str::<Value>(params.get()).ok());
        let (Kind::Call, Some(id)) = (message.kind, &message.id) else {
            notified(session, message, params.as_ref());
            return Answer::Nothing;
        };
        let error =
            |code, text: &str, data: Option<&str>| Answer::Json(error_response(Some(id), code, text, data));
        let meta = params.as_ref().map(|params| &params["_meta"]);
        let version = meta.and_then(|meta| meta[META_VERSION].as_str());
        let is_legacy = |version: &str| LEGACY_VERSIONS.contains(&version);
        if let Some(version) = version.filter(|version| *version != MODERN_VERSION && !is_legacy(version)) {
            let data = json!({"supported": [MODERN_VERSION], "requested": version}).to_string();
            return error(UNSUPPORTED_VERSION, "Unsupported protocol version", Some(&data));
        }
        let method = &*message.method;
        let marked = match version {
            Some(version) => version == MODERN_VERSION,
            None => {
                meta.is_some_and(|meta| !meta[META_CAPABILITIES].is_null())
                    || header_version == Some(MODERN_VERSION)
            }
        };
        let handshake = matches!(method, "initialize" | "ping" | "logging/setLevel");
        let modern = method == "server/discover" || marked && !(handshake && version.is_none());
        if !modern && !session.is_initialized() && !matches!(method, "initialize" | "ping") {
            let text = format!("method {method:?} is invalid during session initialization");
            return error(INTERNAL_ERROR, &text, None);
        }
        let request = Request { id, params, modern };
        match self.dispatch(session, method, &request, deadline) {
            Ok(Some(result)) => Answer::Json(result_response(id, &described(&request, method, &result))),
            Ok(None) => Answer::Expired,
            Err((code, text)) => error(code, &text, None),
        }
    }

    /// The result's members, without its braces; `None` if the deadline passed.
    fn dispatch(
        &self,
        session: &Session,
        method: &str,
        request: &Request<'_>,
        deadline: Deadline,
    ) -> Result<Option<String>, (i64, String)> {
        let members = match (method, request.modern) {
            ("initialize", false) => self.initialize(session, request)?,
            ("server/discover", _) => format!(
                r#""supportedVersions":["{MODERN_VERSION}"],"capabilities":{{"tools":{{}}}},"instructions":{}"#,
                json_string(INSTRUCTIONS)
            ),
            ("ping" | "logging/setLevel", false) => String::new(),
            ("tools/list", _) => self.list.clone(),
            ("prompts/list", _) => r#""prompts":[]"#.to_owned(),
            ("resources/list", _) => r#""resources":[]"#.to_owned(),
            ("resources/templates/list", _) => r#""resourceTemplates":[]"#.to_owned(),
            ("tools/call", _) => return self.call(session, request, deadline),
            _ => return Err((METHOD_NOT_FOUND, format!("JSON RPC not handled: {method:?} unsupported"))),
        };
        Ok(Some(members))
    }

    fn initialize(&self, session: &Session, request: &Request<'_>) -> Result<String, (i64, String)> {
        let params = object(request)?;
        let asked = params.get("protocolVersion").and_then(Value::as_str).unwrap_or_default();
        let version = if LEGACY_VERSIONS.contains(&asked) { asked } else { FALLBACK_VERSION };
        session.initialize();
        Ok(format!(
            r#""protocolVersion":"{version}","capabilities":{{"tools":{{}}}},"serverInfo":{},"instructions":{}"#,
            server_info(),
            json_string(INSTRUCTIONS)
        ))
    }

    fn call(
        &self,
        session: &Session,
        request: &Request<'_>,
        deadline: Deadline,
    ) -> Result<Option<String>, (i64, String)> {
        let params = object(request)?;
        let name = match params.get("name") {
            None => "",
            Some(Value::String(name)) => name,
            Some(_) => return Err((INVALID_PARAMS, "invalid params: name must be a string".to_owned())),
        };
        let none = Value::Object(serde_json::Map::new());
        let arguments = params.get("arguments").filter(|given| !given.is_null()).unwrap_or(&none);
        let running = session.run(request.id);
        match self.tools.call(name, arguments, deadline, &running.cancel) {
            Some(Called::Result(members)) => Ok(Some(members)),
            Some(Called::Expired) => Ok(None),
            Some(Called::Invalid(why)) => {
                Err((INVALID_PARAMS, format!("invalid params: validating \"arguments\": {why}")))
            }
            None => Err((INVALID_PARAMS, format!("unknown tool {name:?}"))),
        }
    }
}

/// The parameters, which a method needs.
fn object<'r>(request: &'r Request<'_>) -> Result<&'r serde_json::Map<String, Value>, (i64, String)> {
    match &request.params {
        None | Some(Value::Null) => {
            Err((INVALID_REQUEST, "invalid request: missing required \"params\"".to_owned()))
        }
        Some(Value::Object(params)) => Ok(params),
        Some(_) => Err((INVALID_PARAMS, "invalid params: they must be an object".to_owned())),
    }
}

/// What a notification asks for.
fn notified(session: &Session, message: &Envelope<'_>, params: Option<&Value>) {
    if message.kind == Kind::Notification && message.method == "notifications/cancelled" {
        let id = params.and_then(|params| Id::from_json(&params["requestId"].to_string()));
        if let Some(id) = id {
            session.cancel(&id);
        }
    }
}

/// The whole result; in the modern era every result says what it is and whose.
fn described(request: &Request<'_>, method: &str, members: &str) -> String {
    if !request.modern {
        return format!("{{{members}}}");
    }
    let hints = if method == "tools/call" { "" } else { r#","ttlMs":0,"cacheScope":"private""# };
    let comma = if members.is_empty() { "" } else { "," };
    format!(
        r#"{{{members}{comma}"resultType":"complete"{hints},"_meta":{{"{META_SERVER_INFO}":{}}}}}"#,
        server_info()
    )
}

fn server_info() -> String {
    let version = json_string(crate::VERSION);
    format!(r#"{{"name":"harpoon","title":"Harpoon (Constrained HTTP Client)","version":{version}}}"#)
}
