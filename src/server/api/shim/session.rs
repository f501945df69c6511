//! Sessions with the HTTP callers embedded in tunnel clients, on their channel `harpoon`.
//!
//! A session lives in one client process, so everything after `initialize` goes to the client that
//! answered it. Nothing of the caller's request is in these commands but what a tool call is given.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::super::Api;
use super::super::accept::Accept;
use super::super::connector::{Call, Got, ended, next, refused};
use super::super::forward::REQUEST_ID;
use super::super::message::Summary;
use super::failure::Failure;
use super::targets::Targets;
use crate::ids::{Channel, TunnelId};
use crate::net::front::Exchange;
use crate::server::engine::{Answer, End, Kind, Origin, Outcome, Refusal, Tunnel};

/// Sessions that are remembered.
const SESSIONS: usize = 256;
/// How long a client's list of targets is believed.
const LIST_TIME: Duration = Duration::from_secs(60);
/// Time between looks at whether the client of a session is still there.
const LOOK_TIME: Duration = Duration::from_secs(1);
const PROTOCOL: &str = "2025-06-18";
const SESSION_ID: &str = "Mcp-Session-Id";

/// The channel of the embedded caller.
pub(super) fn channel() -> Option<Channel> {
    Channel::parse("harpoon").ok()
}

/// An initialized session.
pub(in crate::server::api) struct Session {
    tunnel: TunnelId,
    /// The client it lives in; `None` when the client does not say who it is.
    instance: Option<Arc<str>>,
    /// `Mcp-Session-Id`, if there is one.
    id: Option<String>,
    tools: Vec<String>,
    targets: Mutex<Option<(Instant, Arc<Targets>)>>,
}

impl Session {
    pub(super) fn has_tool(&self, name: &str) -> bool {
        self.tools.iter().any(|tool| tool == name)
    }

    fn targets(&self) -> MutexGuard<'_, Option<(Instant, Arc<Targets>)>> {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sessions of all tunnels, oldest first.
#[derive(Default)]
pub(in crate::server::api) struct Sessions(Mutex<VecDeque<Arc<Session>>>);

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Session>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, tunnel: &TunnelId, fits: impl Fn(&Session) -> bool) -> Option<Arc<Session>> {
        self.lock().iter().rev().find(|session| session.tunnel == *tunnel && fits(session)).cloned()
    }

    fn add(&self, session: &Arc<Session>) {
        let mut all = self.lock();
        all.retain(|have| have.tunnel != session.tunnel || have.instance != session.instance);
        if all.len() >= SESSIONS {
            all.pop_front();
        }
        all.push_back(Arc::clone(session));
    }

    fn remove(&self, session: &Arc<Session>) {
        self.lock().retain(|have| !Arc::ptr_eq(have, session));
    }
}

/// One caller's way to the embedded HTTP caller.
pub(super) struct Caller<'a, 'e> {
    pub(super) api: &'a Api,
    pub(super) tunnel: &'a Arc<Tunnel>,
    pub(super) exchange: &'a mut Exchange<'e>,
    pub(super) channel: Channel,
    pub(super) deadline: Instant,
}

/// What a client answered.
struct Reply {
    message: Value,
    instance: Option<Arc<str>>,
    session_id: Option<String>,
}

impl Caller<'_, '_> {
    /// A session with the client `instance`, or with any: one that is known, or a new one.
    pub(super) fn session(&mut self, instance: Option<&str>) -> Result<Arc<Session>, Failure> {
        let fits = |session: &Session| instance.is_none() || session.instance.as_deref() == instance;
        match self.api.shim.sessions.find(self.tunnel.id(), fits) {
            Some(session) => Ok(session),
            None => self.open(instance.map(Arc::from)),
        }
    }

    /// A session with a client that has this authorization server, if one is known; else any.
    pub(super) fn session_for(&mut self, server: &str) -> Result<Arc<Session>, Failure> {
        let has = |session: &Session| {
            session.targets().as_ref().is_some_and(|(_, targets)| targets.document(server).is_some())
        };
        match self.api.shim.sessions.find(self.tunnel.id(), has) {
            Some(session) => Ok(session),
            None => self.session(None),
        }
    }

    /// Initializes a session with the client `instance`, or with whichever takes the command.
    fn open(&mut self, instance: Option<Arc<str>>) -> Result<Arc<Session>, Failure> {
        let client = json!({"name": "tunnel-server", "version": crate::VERSION});
        let hello = json!({"protocolVersion": PROTOCOL, "capabilities": {}, "clientInfo": client});
        let reply = self.send(instance.as_ref(), None, "initialize", Some(hello), true)?;
        result(reply.message)?;
        let mut session = Session {
            tunnel: self.tunnel.id().clone(),
            instance: reply.instance,
            id: reply.session_id,
            tools: Vec::new(),
            targets: Mutex::default(),
        };
        self.send(
            session.instance.as_ref(),
            session.id.as_deref(),
            "notifications/initialized",
            None,
            false,
        )?;
        let listed = self.send(session.instance.as_ref(), session.id.as_deref(), "tools/list", None, true)?;
        let listed = result(listed.message)?;
        let tools = listed.get("tools").and_then(Value::as_array).ok_or(Failure::CallFailed)?;
        let name = |tool: &Value| Some(tool.get("name")?.as_str()?.to_owned());
        session.tools = tools.iter().filter_map(name).collect();
        let session = Arc::new(session);
        self.api.shim.sessions.add(&session);
        Ok(session)
    }

    /// Calls a tool and yields its structured content. A session that is gone is opened once more, with
    /// any client; `session` is the one used in the end.
    pub(super) fn tool(
        &mut self,
        session: &mut Arc<Session>,
        name: &str,
        arguments: &Value,
    ) -> Result<Value, Failure> {
        match self.tool_once(session, name, arguments) {
            Err(Failure::Protocol | Failure::NotConnected(_)) => {
                self.api.shim.sessions.remove(session);
                *session = self.open(None)?;
                self.tool_once(session, name, arguments)
            }
            done => done,
        }
    }

    fn tool_once(&mut self, session: &Session, name: &str, arguments: &Value) -> Result<Value, Failure> {
        let params = json!({"name": name, "arguments": arguments});
        let (instance, id) = (session.instance.as_ref(), session.id.as_deref());
        let reply = self.send(instance, id, "tools/call", Some(params), true)?;
        let mut result = result(reply.message)?;
        if result.get("isError").and_then(Value::as_bool) == Some(true) {
            let text = result.pointer("/content/0/text").and_then(Value::as_str).unwrap_or_default();
            let unknown = text.ends_with(": unknown target");
            return Err(if unknown { Failure::TargetNotFound } else { Failure::CallFailed });
        }
        match result.get_mut("structuredContent").map(Value::take) {
            Some(content @ Value::Object(_)) => Ok(content),
            _ => Err(Failure::CallFailed),
        }
    }

    /// The OAuth targets of the session's client. `fresh` asks again whatever is known.
    pub(super) fn targets(
        &mut self,
        session: &mut Arc<Session>,
        fresh: bool,
    ) -> Result<Arc<Targets>, Failure> {
        if let Some((at, targets)) = &*session.targets()
            && !fresh
            && at.elapsed() < LIST_TIME
        {
            return Ok(Arc::clone(targets));
        }
        let listed = self.tool(session, "list_targets", &json!({"categories": ["oauth"]}))?;
        let targets = Arc::new(Targets::read(&listed).ok_or(Failure::CallFailed)?);
        *session.targets() = Some((Instant::now(), Arc::clone(&targets)));
        Ok(targets)
    }

    /// Sends one message and waits for what ends it.
    fn send(
        &mut self,
        instance: Option<&Arc<str>>,
        session_id: Option<&str>,
        method: &str,
        params: Option<Value>,
        is_request: bool,
    ) -> Result<Reply, Failure> {
        let mut message = json!({"jsonrpc": "2.0", "method": method});
        if is_request {
            message["id"] = self.exchange.id().into();
        }
        if let Some(params) = params {
            message["params"] = params;
        }
        let mut call = Call {
            tunnel: self.tunnel,
            channel: self.channel.clone(),
            origin: Origin::OauthShim,
            kind: Kind::JsonRpc,
            pin: instance.map(Arc::clone),
            session: None,
            summary: Some(Summary { id: None, method: method.to_owned() }),
            accept: Accept { sse: false, json: true },
            deadline: self.deadline,
        };
        let mut headers = vec![
            ("Accept".to_owned(), vec!["application/json, text/event-stream".to_owned()]),
            (REQUEST_ID.to_owned(), vec![self.exchange.id().to_owned()]),
        ];
        if method != "initialize" {
            headers.push(("Mcp-Protocol-Version".to_owned(), vec![PROTOCOL.to_owned()]));
        }
        headers.extend(session_id.map(|id| (SESSION_ID.to_owned(), vec![id.to_owned()])));
        let message = message.to_string();
        let hold = self.api.hold(&call, Instant::now(), &headers, Some(&message), self.exchange);
        let hold = hold.map_err(|refused| match refused.status {
            404 => Failure::NotConnected(refused),
            _ => Failure::Refused(refused),
        })?;
        let got = loop {
            call.deadline = self.deadline.min(Instant::now() + LOOK_TIME);
            match next(&hold, &call, self.exchange) {
                Got::Timeout if Instant::now() < self.deadline => {}
                got => break got,
            }
            // The only client that may have it may have gone meanwhile.
            if let Some(instance) = instance
                && !hold.is_delivered()
                && !self.tunnel.is_connected(instance, &self.channel)
            {
                self.api.end(&call, hold, Outcome::Cancelled, None);
                return Err(Failure::NotConnected(refused(Refusal::NotConnected)));
            }
        };
        let (outcome, answer) = match got {
            Got::Terminal(answer) => (Outcome::Answered, Ok(answer)),
            Got::CallerGone => (Outcome::Cancelled, Err(Failure::CallerGone)),
            Got::Ended(End::ExpiredQueued) => (Outcome::ExpiredQueued, Err(Failure::Timeout)),
            Got::Ended(end) => {
                let (outcome, response) = ended(end);
                (outcome, Err(Failure::Refused(response)))
            }
            Got::Timeout if hold.is_delivered() => (Outcome::Timeout, Err(Failure::Timeout)),
            Got::Timeout | Got::Notification(_) => (Outcome::ExpiredQueued, Err(Failure::Timeout)),
        };
        let status = answer.as_ref().ok().and_then(|answer| u16::try_from(answer.code).ok());
        let story = self.api.end(&call, hold, outcome, status);
        let answer = answer?;
        let text = answer.json.as_ref().map_or("null", |json| json.as_str());
        Ok(Reply {
            message: serde_json::from_str(text).map_err(|_| Failure::CallFailed)?,
            instance: Some(story.instance).filter(|id| !id.is_empty()).map(Arc::from),
            session_id: header(&answer, SESSION_ID),
        })
    }
}

fn header(answer: &Answer, name: &str) -> Option<String> {
    let (_, value) = answer.headers.iter().find(|(have, _)| have.eq_ignore_ascii_case(name))?;
    Some(value.clone()).filter(|value| !value.is_empty())
}

/// The result of a response; its error is the session's unless the transport failed under the call.
fn result(mut message: Value) -> Result<Value, Failure> {
    if let Some(result) = message.get_mut("result") {
        return Ok(result.take());
    }
    let failed_on_the_way = message.pointer("/error/data/tunnel_failure").is_some();
    let invalid_params = message.pointer("/error/code").and_then(Value::as_i64) == Some(-32602);
    if failed_on_the_way || invalid_params { Err(Failure::CallFailed) } else { Err(Failure::Protocol) }
}
