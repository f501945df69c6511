//! The client of one tunnel: who we are, where to go, and one HTTP request at a time.
//!
//! Polls travel on a connection pool of their own, so that stopping cuts the poll in flight and
//! leaves responses alone.

use std::fmt;
use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use log::Level;
use url::Url;

use super::endpoints::{Base, Endpoints, InvalidBaseUrl};
use super::errors::{ERROR_BODY_BYTES, ErrorDetail};
use super::event::Event;
use super::identity::{Identity, InvalidIdentity, SERVER_INFO};
use super::observer::PollObserver;
use super::raw_http;
use super::server_info::{InvalidServerInfo, ServerInfo};
use crate::ids::{Channel, TunnelId};
use crate::net::{
    Body, Cancel, Deadline, Error, HeaderList, HeaderMap, HttpClient, HttpExchange, Method, Request, Route,
    Uri, header, retry_after,
};
use crate::secret::Secret;

/// Longest life of any single request.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(600);
/// Most bytes of a reply nobody reads that are drained to keep its connection.
const DRAIN_BYTES: usize = 1024 * 1024;
/// Longest time that is worth.
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// Plain values a client is made of, already validated.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Scheme, host and port; the rest is ignored.
    pub base_url: Url,
    /// Decoded path before `/v1/…`; may be empty.
    pub url_path: String,
    /// The tunnel served.
    pub tunnel_id: TunnelId,
    /// Sent as `OpenAI-Organization`.
    pub organization_id: Option<String>,
    /// Sent as bearer token.
    pub api_key: Secret<String>,
    /// 32 hexadecimal digits, made once per process.
    pub instance_id: String,
    /// This package's version, with build metadata if there is any.
    pub client_version: String,
    /// How long the control plane may hold a poll.
    pub poll_timeout: Duration,
    /// Added to it before a request is given up.
    pub poll_deadline_guardrail: Duration,
    /// Allow-list of channels to poll for; `None` polls for all.
    pub poll_channels: Option<Vec<Channel>>,
    /// Added to every request.
    pub extra_headers: HeaderList,
    /// Dump whole HTTP messages at debug level, credentials included.
    pub log_raw_http: bool,
}

/// Talks to the control plane on behalf of one tunnel. Shared by all threads.
pub struct Client {
    pub(super) endpoints: Endpoints,
    headers: HeaderMap,
    api_key: Secret<String>,
    server_info: ServerInfo,
    pub(super) poll_http: HttpClient,
    pub(super) post_http: HttpClient,
    /// Cuts a poll in flight, and nothing else.
    pub(super) poll_cut: Cancel,
    /// Cuts everything.
    pub(super) cancel: Cancel,
    pub(super) observer: Arc<dyn PollObserver>,
    pub(super) poll_timeout: Duration,
    guardrail: Duration,
    /// Bounds every single request.
    pub(super) request_time: Duration,
    route: Route,
    log_raw_http: bool,
}

/// A client cannot be made of these settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetupError {
    /// The base URL is unusable.
    BaseUrl(InvalidBaseUrl),
    /// A value cannot be sent in a header.
    Identity(InvalidIdentity),
    /// The channels cannot be declared.
    ServerInfo(InvalidServerInfo),
}

/// One request on its way out.
pub(super) struct Outgoing<'a> {
    /// Path template, for metrics.
    pub(super) route: &'static str,
    pub(super) method: Method,
    pub(super) uri: &'a Uri,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<&'a [u8]>,
    pub(super) deadline: Deadline,
}

/// The head of a reply, and its body to be read.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) head_at: Instant,
    /// The control plane's id of this request.
    pub(super) tunnel_request_id: Option<String>,
    pub(super) retry_after: Option<Duration>,
    body: Body,
    dump: Option<raw_http::ReplyHead>,
}

impl Client {
    /// A client that sends along `route` until `cancel` fires. Requests declare what `server_info`
    /// says at that moment; it is checked here for the first time.
    pub fn new(
        settings: Settings,
        server_info: ServerInfo,
        route: &Route,
        observer: Arc<dyn PollObserver>,
        cancel: &Cancel,
    ) -> Result<Client, SetupError> {
        let base = Base::new(&settings.base_url, &settings.url_path)?;
        let endpoints = Endpoints::new(
            &base,
            &settings.tunnel_id,
            settings.poll_timeout,
            settings.poll_channels.as_deref(),
        )?;
        let identity = Identity {
            api_key: &settings.api_key,
            instance_id: &settings.instance_id,
            version: &settings.client_version,
        };
        let headers =
            identity.tunnel_headers(&settings.extra_headers, settings.organization_id.as_deref())?;
        server_info.header()?;
        let request_time =
            settings.poll_timeout.saturating_add(settings.poll_deadline_guardrail).min(REQUEST_TIME_MAX);
        let poll_cut = cancel.child();
        Ok(Client {
            endpoints,
            headers,
            api_key: settings.api_key,
            server_info,
            poll_http: HttpClient::new(route, &poll_cut),
            post_http: HttpClient::new(route, cancel),
            poll_cut,
            cancel: cancel.clone(),
            observer,
            poll_timeout: settings.poll_timeout,
            guardrail: settings.poll_deadline_guardrail,
            request_time,
            route: route.clone(),
            log_raw_http: settings.log_raw_http,
        })
    }

    /// Logs where this client will go, and how long it waits there.
    pub fn announce(&self) {
        let without_query = |uri: &Uri| uri.to_string().split('?').next().unwrap_or_default().to_owned();
        Event::at(Level::Info)
            .with("poll_endpoint", without_query(self.endpoints.poll(1)).as_str())
            .with("response_endpoint", without_query(&self.endpoints.response).as_str())
            .with("metadata_endpoint", without_query(&self.endpoints.metadata).as_str())
            .with("poll_timeout_ms", millis(self.poll_timeout))
            .with("poll_deadline_guardrail_ms", millis(self.guardrail))
            .with("poll_deadline_ms", millis(self.request_time))
            .emit("control-plane client created");
    }

    /// Headers of one request: the fixed ones and the channels of this moment.
    pub(super) fn request_headers(&self) -> Result<HeaderMap, InvalidServerInfo> {
        let mut headers = self.headers.clone();
        headers.insert(SERVER_INFO, self.server_info.header()?);
        Ok(headers)
    }

    /// A pool of its own for requests that `cancel` shall cut apart from all others.
    pub(super) fn separate_http(&self, cancel: &Cancel) -> HttpClient {
        HttpClient::new(&self.route, cancel)
    }

    /// What an error reply says, without the secrets that went out with its request.
    pub(super) fn error_detail(&self, reply: Reply, shard_token: Option<&Secret<String>>) -> ErrorDetail {
        let token = shard_token.map_or("", |token| token.expose().as_str());
        reply.read_error().without(&[self.api_key.expose(), token])
    }

    /// Sends one request and waits for the reply's head.
    pub(super) fn send(&self, http: &HttpClient, outgoing: Outgoing<'_>) -> Result<Reply, Error> {
        let Outgoing { route, method, uri, headers, body, deadline } = outgoing;
        if self.log_raw_http {
            raw_http::log_request(&method, uri, &headers, body);
        }
        let started = Instant::now();
        let sent = http.send(Request { method: method.clone(), uri, headers, body, deadline });
        self.observer.http_request(&HttpExchange {
            route,
            method: method.as_str(),
            scheme: uri.scheme_str().unwrap_or_default(),
            host: uri.host().unwrap_or_default(),
            port: uri.port_u16(),
            status: sent.as_ref().ok().map(|response| response.status),
            duration: started.elapsed(),
            body_bytes: body.map_or(0, <[u8]>::len),
        });
        let response = sent?;
        let text =
            |name: &str| response.headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
        Ok(Reply {
            status: response.status,
            head_at: response.head_at,
            tunnel_request_id: text("x-request-id").filter(|id| !id.is_empty()).map(str::to_owned),
            retry_after: text(header::RETRY_AFTER.as_str())
                .and_then(|text| retry_after(text, SystemTime::now())),
            dump: self
                .log_raw_http
                .then(|| raw_http::reply_head(response.status, &response.headers))
                .flatten(),
            body: response.body,
        })
    }
}

impl Reply {
    /// The whole body; more than `limit` bytes is an error.
    pub(super) fn read(mut self, limit: usize) -> Result<Vec<u8>, Error> {
        let body = self.body.read_to_limit(limit);
        if let Some(head) = self.dump {
            raw_http::log_reply(&head, &body);
        }
        body
    }

    /// What an error reply says: the start of its body is parsed, a bounded rest drained.
    fn read_error(mut self) -> ErrorDetail {
        let (detail, bytes) = read_error_body(&mut self.body, ERROR_BODY_BYTES);
        if let Some(head) = self.dump {
            raw_http::log_reply(&head, &Ok::<_, Error>(bytes));
        }
        self.body.drain_within(DRAIN_BYTES, DRAIN_TIME);
        detail
    }

    /// Reads the body away, so that the connection can be used again.
    pub(super) fn discard(self) {
        match self.dump {
            Some(_) => drop(self.read(DRAIN_BYTES)),
            None => self.body.drain_within(DRAIN_BYTES, DRAIN_TIME),
        }
    }
}

/// What the first `limit` bytes of an error body say, and those bytes.
pub(super) fn read_error_body(body: &mut Body, limit: usize) -> (ErrorDetail, Vec<u8>) {
    let mut bytes = Vec::new();
    match body.by_ref().take(limit as u64).read_to_end(&mut bytes) {
        Ok(_) => (ErrorDetail::parse(&bytes), bytes),
        Err(error) => (ErrorDetail::unreadable(&error), bytes),
    }
}

/// Whole milliseconds.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("endpoints", &self.endpoints).finish_non_exhaustive()
    }
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SetupError::BaseUrl(error) => error.fmt(f),
            SetupError::Identity(error) => error.fmt(f),
            SetupError::ServerInfo(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SetupError {}

impl From<InvalidBaseUrl> for SetupError {
    fn from(error: InvalidBaseUrl) -> SetupError {
        SetupError::BaseUrl(error)
    }
}

impl From<InvalidIdentity> for SetupError {
    fn from(error: InvalidIdentity) -> SetupError {
        SetupError::Identity(error)
    }
}

impl From<InvalidServerInfo> for SetupError {
    fn from(error: InvalidServerInfo) -> SetupError {
        SetupError::ServerInfo(error)
    }
}
