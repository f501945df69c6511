//! OAuth through the tunnel: what the private authorization server's metadata says, and the endpoints of
//! it that only the tunnel client can reach, served here.
//!
//! Invariant: only registration, token and revocation are ever carried, only when the client itself
//! returned them as targets of its own, and never twice.

mod failure;
mod metadata;
mod session;
mod targets;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use self::failure::Failure;
use self::session::{Caller, Session, Sessions};
pub(super) use self::targets::Endpoint;
use self::targets::{Targets, is_hash};
use super::error::{code, error};
use super::post::bad_body;
use super::{Api, challenge, method_not_allowed, not_found, relay, tunnel_id};
use crate::ids::TunnelId;
use crate::net::base64_decoded;
use crate::net::front::{BadBody, Exchange, Head, Method, Response};
use crate::server::engine::{Declares, Tunnel};

/// Largest body of a request to an endpoint.
const BODY_BYTES: usize = 64 * 1024;
/// Longest time a client is given for one call of an endpoint.
const CALL_TIME: Duration = Duration::from_secs(30);
/// Kept back of the time that is left, for the way of the answer.
const CALL_MARGIN: Duration = Duration::from_millis(600);
/// Least time a client accepts for a call.
const CALL_TIME_MIN: Duration = Duration::from_millis(100);
/// How long a metadata document is believed.
const DOCUMENT_TIME: Duration = Duration::from_secs(60);
/// Documents that are remembered.
const DOCUMENTS: usize = 256;
/// How long a client that says nothing of its channels may take to show that it can make calls.
const TRY_TIME: Duration = Duration::from_secs(1);
/// Header fields of a request that reach the endpoint.
const REQUEST_HEADERS: [&str; 4] = ["Content-Type", "Accept", "Authorization", "DPoP"];
/// Header fields of the endpoint's response that reach the caller.
const RESPONSE_HEADERS: [&str; 5] =
    ["Content-Type", "Pragma", "WWW-Authenticate", "Retry-After", "DPoP-Nonce"];

/// What is remembered between requests.
#[derive(Default)]
pub(super) struct Shim {
    sessions: Sessions,
    documents: Mutex<VecDeque<Document>>,
    /// Tunnels whose clients have shown that they make no calls, and until when that is believed.
    unable: Mutex<VecDeque<(TunnelId, Instant)>>,
}

/// A metadata document as the client fetched it.
#[derive(Clone)]
struct Document {
    tunnel: TunnelId,
    server: String,
    group: String,
    fetched: Instant,
    members: Arc<Map<String, Value>>,
    targets: Arc<Targets>,
}

/// What a path below an authorization server is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Metadata,
    Endpoint(Endpoint),
}

impl Api {
    /// Answers whatever is served for the authorization server `server` of a tunnel.
    pub(super) fn authorization_server(
        &self,
        head: &Head,
        exchange: &mut Exchange<'_>,
        (tunnel, server, part): (&str, &str, Part),
    ) {
        let response = match self.shim_response(head, exchange, tunnel, server, part) {
            Ok(response) => Some(response),
            Err(failure) => failure.response(),
        };
        if let Some(response) = response {
            let _ = exchange.respond(&response.header("Cache-Control", "no-store"));
        }
    }

    fn shim_response(
        &self,
        head: &Head,
        exchange: &mut Exchange<'_>,
        tunnel: &str,
        server: &str,
        part: Part,
    ) -> Result<Response, Failure> {
        let refuse = Failure::Refused;
        let id = tunnel_id(tunnel).map_err(refuse)?;
        if !is_hash(server) {
            return Err(refuse(not_found()));
        }
        let tunnel = self.engine.tunnel(&id);
        let tunnel = tunnel.ok_or_else(|| refuse(error(404, None, "there is no such tunnel")))?;
        let allowed = match part {
            Part::Metadata => "GET",
            Part::Endpoint(Endpoint::Token) => "GET, POST",
            Part::Endpoint(Endpoint::Register | Endpoint::Revoke) => "POST",
        };
        let is_get = head.method == Method::Get;
        if !(is_get && allowed.contains("GET") || head.method == Method::Post && allowed.contains("POST")) {
            return Err(refuse(method_not_allowed(allowed)));
        }
        self.check_ingress(head, exchange).map_err(refuse)?;
        let body = match part {
            Part::Endpoint(endpoint) if !is_get => Some(read_body(head, exchange, endpoint)?),
            _ => None,
        };
        let issuer = self.options.public_url.authorization_server(head, exchange, &id, server);
        let channel = session::channel().ok_or_else(|| refuse(not_found()))?;
        let deadline = Instant::now() + tunnel.limits().response_timeout;
        let mut caller = Caller { api: self, tunnel: &tunnel, exchange, channel, deadline, requests: 0 };
        let (mut session, document) = caller.document(server)?;
        let Document { members, targets, group, .. } = &document;
        let Part::Endpoint(endpoint) = part else {
            let document = metadata::rewrite(members, targets, group, &issuer)?;
            return Ok(Response::json(200, document.into_bytes()));
        };
        let label = metadata::label(members, targets, group, endpoint)?;
        match body {
            None => caller.audience(&mut session, label),
            Some(body) => {
                let url = self.options.public_url.protected_resource(head, caller.exchange, &id);
                caller.call_endpoint(&mut session, label, head, &body, &url)
            }
        }
    }

    /// The issuer to show instead of the one that the client found, if the client can carry its requests.
    /// `instance` is the client that found it.
    pub(super) fn shim_issuer(
        &self,
        head: &Head,
        exchange: &mut Exchange<'_>,
        tunnel: &Arc<Tunnel>,
        instance: &str,
        deadline: Instant,
    ) -> Option<String> {
        let channel = session::channel()?;
        let deadline = match tunnel.declares(&channel) {
            Declares::Yes => deadline,
            Declares::Unknown if !self.shim.is_unable(tunnel.id()) => deadline.min(Instant::now() + TRY_TIME),
            Declares::Unknown | Declares::No => return None,
        };
        let own = Some(instance).filter(|id| !id.is_empty() && tunnel.is_connected(id, &channel));
        let mut caller = Caller { api: self, tunnel, exchange, channel, deadline, requests: 0 };
        let found = caller.session(own).and_then(|mut session| caller.targets(&mut session, true));
        match found {
            Ok(targets) => {
                let server = targets.authorization_server()?;
                Some(self.options.public_url.authorization_server(head, exchange, tunnel.id(), server))
            }
            // Neither says anything about the client.
            Err(Failure::CallerGone | Failure::Refused(_)) => None,
            Err(_) => {
                self.shim.set_unable(tunnel.id());
                None
            }
        }
    }
}

impl Shim {
    fn is_unable(&self, tunnel: &TunnelId) -> bool {
        let unable = self.unable.lock().unwrap_or_else(PoisonError::into_inner);
        unable.iter().any(|(id, until)| id == tunnel && Instant::now() < *until)
    }

    fn set_unable(&self, tunnel: &TunnelId) {
        let mut unable = self.unable.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        unable.retain(|(id, until)| id != tunnel && now < *until);
        if unable.len() >= DOCUMENTS {
            unable.pop_front();
        }
        unable.push_back((tunnel.clone(), now + DOCUMENT_TIME));
    }

    fn documents(&self) -> MutexGuard<'_, VecDeque<Document>> {
        self.documents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Caller<'_, '_> {
    /// The metadata document of `server`, and a session with a client that has it.
    fn document(&mut self, server: &str) -> Result<(Arc<Session>, Document), Failure> {
        let mut session = self.session_for(server)?;
        let known = {
            let documents = self.api.shim.documents();
            let is = |one: &&Document| {
                one.tunnel == *self.tunnel.id()
                    && one.server == server
                    && one.fetched.elapsed() < DOCUMENT_TIME
            };
            documents.iter().find(is).cloned()
        };
        if let Some(document) = known {
            return Ok((session, document));
        }
        let mut targets = self.targets(&mut session, false)?;
        if targets.document(server).is_none() {
            // It may have been found since.
            targets = self.targets(&mut session, true)?;
        }
        let (label, group) = targets.document(server).ok_or(Failure::TargetNotFound)?;
        let arguments = json!({
            "label": label,
            "method": "GET",
            "headers": {"Accept": "application/json"},
            "timeout_ms": self.call_ms()?,
        });
        let result = self.tool(&mut session, "call_target", &arguments)?;
        let (status, body) = outcome(&result)?;
        let members = match serde_json::from_slice(&body) {
            Ok(Value::Object(members)) if status == 200 => Arc::new(members),
            _ => return Err(Failure::CallFailed),
        };
        let document = Document {
            tunnel: self.tunnel.id().clone(),
            server: server.to_owned(),
            group: group.to_owned(),
            fetched: Instant::now(),
            members,
            targets,
        };
        let mut documents = self.api.shim.documents();
        documents.retain(|one| one.tunnel != document.tunnel || one.server != document.server);
        if documents.len() >= DOCUMENTS {
            documents.pop_front();
        }
        documents.push_back(document.clone());
        Ok((session, document))
    }

    /// Posts the caller's body to the endpoint behind `label` and relays what it says.
    fn call_endpoint(
        &mut self,
        session: &mut Arc<Session>,
        label: &str,
        head: &Head,
        body: &str,
        metadata_url: &str,
    ) -> Result<Response, Failure> {
        let mut headers = Map::new();
        for name in REQUEST_HEADERS {
            if let Some(value) = head.value(name).filter(|value| !value.is_empty()) {
                headers.insert(name.to_owned(), value.into());
            }
        }
        let arguments = json!({
            "label": label,
            "method": "POST",
            "headers": headers,
            "body": body,
            "follow_redirects": false,
            "timeout_ms": self.call_ms()?,
        });
        let result = self.tool(session, "call_target", &arguments)?;
        let (status, body) = outcome(&result)?;
        let status = relay::status(status);
        let mut response = Response::new(status);
        for (name, value) in answered_headers(&result) {
            let Some(name) = RESPONSE_HEADERS.iter().find(|kept| kept.eq_ignore_ascii_case(name)) else {
                continue;
            };
            response = match *name {
                "WWW-Authenticate" => response.header(name, &challenge::rewrite(value, metadata_url)),
                name => response.header(name, value),
            };
        }
        Ok(if matches!(status, 204 | 304) { response } else { response.with_body(body) })
    }

    /// The URL of the token endpoint as the authorization server spells it, for signed assertions.
    fn audience(&mut self, session: &mut Arc<Session>, label: &str) -> Result<Response, Failure> {
        const TOOL: &str = "get_oauth_target_audience";
        if !session.has_tool(TOOL) {
            return Err(Failure::NoAudience);
        }
        let result = self.tool(session, TOOL, &json!({"label": label}))?;
        let audience = result.get("audience").and_then(Value::as_str).ok_or(Failure::CallFailed)?;
        Ok(Response::json(200, json!({"audience": audience}).to_string().into_bytes()))
    }

    /// Milliseconds that a call may take.
    fn call_ms(&self) -> Result<u64, Failure> {
        let left = self.deadline.saturating_duration_since(Instant::now()).saturating_sub(CALL_MARGIN);
        let time = left.min(CALL_TIME);
        if time < CALL_TIME_MIN { Err(Failure::Timeout) } else { Ok(time.as_millis() as u64) }
    }
}

/// Status and body of a call's result.
fn outcome(result: &Value) -> Result<(i64, Vec<u8>), Failure> {
    let status = result.get("status_code").and_then(Value::as_i64).ok_or(Failure::CallFailed)?;
    if result.get("truncated").and_then(Value::as_bool) == Some(true) {
        return Err(Failure::CallFailed);
    }
    let body = result.get("body_base64").and_then(Value::as_str).unwrap_or_default();
    Ok((status, base64_decoded(body).ok_or(Failure::CallFailed)?))
}

fn answered_headers(result: &Value) -> impl Iterator<Item = (&String, &str)> {
    let headers = result.get("headers").and_then(Value::as_object).into_iter().flatten();
    headers.flat_map(|(name, values)| {
        let values = values.as_array().map(Vec::as_slice).unwrap_or_default();
        values.iter().filter_map(move |value| Some((name, value.as_str()?)))
    })
}

/// The body of a request to `endpoint`.
fn read_body(head: &Head, exchange: &mut Exchange<'_>, endpoint: Endpoint) -> Result<String, Failure> {
    let expected = match endpoint {
        Endpoint::Register => "application/json",
        Endpoint::Token | Endpoint::Revoke => "application/x-www-form-urlencoded",
    };
    let given = head.value("Content-Type").unwrap_or_default().split(';').next().unwrap_or_default();
    if !given.trim().eq_ignore_ascii_case(expected) {
        return Err(Failure::Refused(error(415, None, &format!("this endpoint takes {expected} only"))));
    }
    match exchange.read_body(BODY_BYTES) {
        Ok(body) => String::from_utf8(body)
            .map_err(|_| Failure::Refused(error(400, None, "the body is not UTF-8; encode it so"))),
        Err(BadBody::TooLarge) => {
            let message = format!("the request exceeds the limit of {BODY_BYTES} bytes");
            Err(Failure::Refused(error(413, Some(code::TOO_LARGE), &message)))
        }
        Err(bad) => {
            exchange.close_after();
            Err(bad_body(bad).map_or(Failure::CallerGone, Failure::Refused))
        }
    }
}
