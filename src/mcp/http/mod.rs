//! The Streamable HTTP binding.
//!
//! One exchange is one POST and its reply; sessions live in the headers that pass through. Invariant:
//! the payload leaves and arrives byte for byte, nothing of a session is remembered between exchanges
//! and no message is sent twice, unless the message's era is not the server's (see `eras`).

mod answers;
mod discovery;
mod eras;
mod headers;
mod observe;
mod raw_log;
mod rejected;
mod send;
mod stream;

pub use discovery::{DiscoveryReply, DiscoveryRequest, DiscoveryScope, resource_metadata_urls};
pub use headers::same_origin;

pub use observe::HttpObserver;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use crate::jsonrpc::{Envelope, Id, Kind};
use crate::net::{Cancel, Cause, Deadline, Error, HeaderList, HeaderMap, HttpClient, Method, Uri};

use self::eras::Eras;
use self::headers::{EVENT_STREAM, JSON, Layers, Purpose, media_type};
use self::observe::Observed;
use self::raw_log::RawLog;
use self::send::{Call, Reply};
use super::bridge::{Protocol, Tally};
use super::{Answer, Exchange, Failure, FailureKind, Head, OnEvent, Outcome, Source};

/// Socket time-outs are coarser than deadlines: a time-out this close before one is its expiry.
const CLOCK_SLACK: Duration = Duration::from_millis(10);

/// What an HTTP binding talks to.
pub struct HttpTarget {
    /// The MCP endpoint, path and query included. User info becomes basic credentials.
    pub url: url::Url,
    /// Headers set on every request to that origin and path.
    pub static_headers: HeaderList,
    /// Headers set on discovery requests (probe, OAuth discovery) to that origin.
    pub discovery_headers: HeaderList,
    /// Longest 2xx body, SSE event included, in bytes.
    pub max_message_bytes: usize,
}

/// Streamable HTTP to one MCP server; holds no session state between exchanges.
pub struct HttpBinding {
    target: HttpTarget,
    uri: Option<Uri>,
    client: HttpClient,
    /// Fetches the metadata that are on other origins.
    outside: Option<HttpClient>,
    cancel: Cancel,
    layers: Layers,
    post_headers: HeaderMap,
    delete_headers: HeaderMap,
    /// The last stream was not ended soon after its answer.
    holds_streams: AtomicBool,
    raw_log: RawLog,
    observed: Observed,
    eras: Eras,
    /// Itself, for threads of its own.
    me: OnceLock<Weak<HttpBinding>>,
}

/// Why an exchange got no answer, with the network's own word for it.
struct Ending {
    failure: Failure,
    cause: Option<Cause>,
}

impl HttpBinding {
    /// A binding that reaches `target` through `client`, whose client certificate (if it has one) must
    /// be for the target's origin.
    pub fn new(target: HttpTarget, client: HttpClient) -> HttpBinding {
        HttpBinding {
            uri: send::uri_of(&target.url),
            layers: Layers::new(&target),
            observed: Observed::new(&target.url, None),
            target,
            client,
            outside: None,
            cancel: Cancel::new(),
            post_headers: headers::built_in(Some(headers::ACCEPT_BOTH), Some(JSON)),
            delete_headers: headers::built_in(None, None),
            holds_streams: AtomicBool::new(false),
            raw_log: RawLog::default(),
            eras: Eras::new(false, "main", Duration::from_secs(5), Duration::from_secs(30)),
            me: OnceLock::new(),
        }
    }

    /// The binding for all threads; only then what a command needs first may outlast the command.
    pub fn shared(self) -> Arc<HttpBinding> {
        let binding = Arc::new(self);
        let _ = binding.me.set(Arc::downgrade(&binding));
        binding
    }

    /// Cuts waits between attempts to resume a stream when `cancel` fires; give the token that cuts
    /// the client.
    pub fn with_cancel(mut self, cancel: &Cancel) -> HttpBinding {
        self.cancel = cancel.clone();
        self
    }

    /// Fetches metadata on other origins than the endpoint's through `outside`: neither the server's Unix
    /// socket nor its certificate is theirs.
    pub fn with_outside(mut self, outside: HttpClient) -> HttpBinding {
        self.outside = Some(outside);
        self
    }

    /// Dumps requests, heads of replies and messages into the debug log, credentials included.
    pub fn with_raw_log(mut self, enabled: bool) -> HttpBinding {
        self.raw_log = RawLog { enabled };
        self
    }

    /// Serves connectors of either era on `channel`: `window` and `handshake` bound the tests of the
    /// server's. Without it, messages pass as they come.
    pub fn with_bridge(
        mut self,
        bridge: bool,
        channel: &str,
        window: Duration,
        handshake: Duration,
    ) -> HttpBinding {
        self.eras = Eras::new(bridge, channel, window, handshake);
        self
    }

    /// What is known about the server's eras, for status.
    pub fn protocol(&self) -> Protocol {
        self.eras.protocol()
    }

    /// Counters of what bridging did.
    pub fn tally(&self) -> &Tally {
        self.eras.tally()
    }

    /// Takes over what the readiness probe found.
    pub(in crate::mcp) fn probed(&self, info: &super::probe::ServerInfo, since: Instant) {
        self.eras.probed(info, since);
    }

    /// Tells `observer` of every request.
    pub fn with_observer(mut self, observer: Arc<dyn HttpObserver>) -> HttpBinding {
        self.observed = Observed::new(&self.target.url, Some(observer));
        self
    }

    /// The MCP endpoint.
    pub fn url(&self) -> &url::Url {
        &self.target.url
    }

    /// Scheme, host and port of the endpoint: what may be shown of it.
    pub fn origin(&self) -> String {
        self.target.url.origin().ascii_serialization()
    }

    /// See [`super::Binding::exchange`].
    pub fn exchange(&self, exchange: &Exchange<'_>, on_event: OnEvent<'_>) -> Outcome {
        if self.eras.bridges() {
            self.exchange_across(exchange, on_event)
        } else {
            self.forward(exchange, on_event)
        }
    }

    /// One exchange as it comes.
    fn forward(&self, exchange: &Exchange<'_>, on_event: OnEvent<'_>) -> Outcome {
        self.exchange_for(Purpose::Forward, exchange, on_event).0
    }

    /// An exchange of our own: discovery headers apply. Names the cause if the network failed.
    pub(in crate::mcp) fn discovery_exchange(
        &self,
        exchange: &Exchange<'_>,
        on_event: OnEvent<'_>,
    ) -> (Outcome, Option<Cause>) {
        self.exchange_for(Purpose::Discovery, exchange, on_event)
    }

    /// See [`super::Binding::terminate_session`]. One DELETE, whose status is passed through.
    pub fn terminate_session(&self, headers: &HeaderList, deadline: Deadline) -> Outcome {
        self.terminate_for(Purpose::Forward, headers, deadline)
    }

    /// The same for a session of our own: discovery headers apply.
    pub(in crate::mcp) fn terminate_own_session(&self, headers: &HeaderList, deadline: Deadline) -> Outcome {
        self.terminate_for(Purpose::Discovery, headers, deadline)
    }

    fn terminate_for(&self, purpose: Purpose, headers: &HeaderList, deadline: Deadline) -> Outcome {
        let delete = || -> Result<Outcome, Ending> {
            let forwarded = headers::forwarded(headers).map_err(|_| Ending::unsendable())?;
            let reply = self
                .send(&Call {
                    method: Method::DELETE,
                    purpose,
                    built_in: &self.delete_headers,
                    forwarded: &forwarded,
                    body: None,
                    deadline,
                })
                .map_err(|error| Ending::from_net(&error, None))?;
            let head = reply.head();
            reply.discard(deadline);
            Ok(Outcome::Accepted(head))
        };
        delete().unwrap_or_else(|ending| ending.into_outcome(deadline))
    }

    fn exchange_for(
        &self,
        purpose: Purpose,
        exchange: &Exchange<'_>,
        on_event: OnEvent<'_>,
    ) -> (Outcome, Option<Cause>) {
        match self.run(purpose, exchange, on_event) {
            Ok(outcome) => (outcome, None),
            Err(ending) => {
                let cause = ending.cause;
                (ending.into_outcome(exchange.deadline), cause)
            }
        }
    }

    fn run(
        &self,
        purpose: Purpose,
        exchange: &Exchange<'_>,
        on_event: OnEvent<'_>,
    ) -> Result<Outcome, Ending> {
        let mut forwarded = headers::forwarded(exchange.headers).map_err(|_| Ending::unsendable())?;
        headers::default_accept(&mut forwarded);
        let call = Call {
            method: Method::POST,
            purpose,
            built_in: &self.post_headers,
            forwarded: &forwarded,
            body: Some(exchange.message.json().as_bytes()),
            deadline: exchange.deadline,
        };
        let reply = self.send(&call).map_err(|error| Ending::from_net(&error, None))?;
        let id = exchange.message.id().filter(|_| exchange.message.kind() == Kind::Call);
        if !reply.is_success() {
            return reject(id, reply, exchange.deadline);
        }
        let Some(id) = id else {
            let head = reply.head();
            reply.discard(exchange.deadline);
            return Ok(Outcome::Accepted(head));
        };
        let media_type = media_type(&reply.headers);
        if media_type.eq_ignore_ascii_case(JSON) {
            self.read_json(id, reply).map(Outcome::Answered)
        } else if media_type.eq_ignore_ascii_case(EVENT_STREAM) {
            let stream = stream::Stream::new(self, &call, exchange, &reply);
            stream.read(reply.body, on_event).map(Outcome::Answered)
        } else {
            let head = reply.head();
            reply.discard(exchange.deadline);
            Err(Failure::protocol(Some(head)).into())
        }
    }

    /// A reply that is one message: the response to the call `id`, or a violation of the protocol.
    fn read_json(&self, id: &Id, mut reply: Reply) -> Result<Answer, Ending> {
        let head = reply.head();
        let body = match reply.body.read_to_limit(self.target.max_message_bytes) {
            Ok(body) => body,
            Err(error) => return Err(Ending::from_net(&error, Some(head))),
        };
        let answers = |text: &str| {
            Envelope::parse(text.as_bytes())
                .is_ok_and(|envelope| envelope.kind == Kind::Response && envelope.id.as_ref() == Some(id))
        };
        reply.dump.complete(&body);
        self.raw_log.read(&body);
        match String::from_utf8(body) {
            Ok(text) if answers(&text) => Ok(Answer { head, json: trimmed(text) }),
            _ => Err(Failure::protocol(Some(head)).into()),
        }
    }
}

/// A reply outside 2xx: the server's own MCP error, or a rejection of which only the status is told.
fn reject(id: Option<&Id>, mut reply: Reply, deadline: Deadline) -> Result<Outcome, Ending> {
    let head = reply.head();
    let Some(id) = id else {
        reply.discard(deadline);
        return Ok(Outcome::Failed(Failure::Rejected { head, kind: FailureKind::InvalidMcpError }));
    };
    let body = reply.body.read_to_limit(rejected::MAX_ERROR_BYTES);
    if let Ok(body) = &body {
        reply.dump.complete(body);
    }
    if let Err(error) = &body
        && (matches!(error.cause, Cause::Cancelled | Cause::Timeout) || deadline.is_past())
    {
        return Err(Ending::from_net(error, Some(head)));
    }
    Ok(match rejected::mcp_error(id, body) {
        Ok(json) => Outcome::Answered(Answer { head, json }),
        Err(kind) => Outcome::Failed(Failure::Rejected { head, kind }),
    })
}

/// `json` without white space around it, without copying it if there is none before it.
fn trimmed(mut json: String) -> String {
    json.truncate(json.trim_ascii_end().len());
    let start = json.len() - json.trim_ascii_start().len();
    json.drain(..start);
    json
}

impl Ending {
    fn from_net(error: &Error, head: Option<Head>) -> Ending {
        Ending { failure: Failure::from_net(error, head), cause: Some(error.cause) }
    }

    /// The command cannot be put into a request.
    fn unsendable() -> Ending {
        Failure::broken(Source::ClientInternal, FailureKind::Unknown).into()
    }

    /// The deadline was noticed between two waits.
    fn expired() -> Ending {
        Failure::broken(Source::Timeout, FailureKind::Timeout).into()
    }

    fn into_outcome(self, deadline: Deadline) -> Outcome {
        let near = deadline.remaining().is_some_and(|remaining| remaining <= CLOCK_SLACK);
        if deadline.is_past() || (near && self.cause == Some(Cause::Timeout)) {
            Outcome::Expired
        } else {
            Outcome::Failed(self.failure)
        }
    }
}

impl From<Failure> for Ending {
    fn from(failure: Failure) -> Ending {
        Ending { failure, cause: None }
    }
}

#[cfg(test)]
mod tests;
