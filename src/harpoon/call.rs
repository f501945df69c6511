//! One call of a target: checked, sent, followed, read.
//!
//! Invariant: every connection goes to a registered URL over the transport it is registered with, and
//! ends with the call: nothing that one target left on a connection reaches another call.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::headers;
use super::redirect::{self, Blocked, Destination};
use super::registry::{Registry, Target, is_label};
use super::url::TargetUrl;
use crate::net::{
    Body, Cancel, Cause, Deadline, Error, HeaderMap, HttpClient, Limits, Method, ProxyPolicy, Request,
    Response, Route, Trust, Via, header, is_no_server_address,
};

/// Shortest, usual and longest time for a call, in milliseconds.
pub(super) const TIMEOUT_MS: (i64, i64, i64) = (100, 30_000, 120_000);
/// Most bytes of a redirect's body that are read so that its connection can be used again.
const DRAIN_BYTES: usize = 16 * 1024;
/// Longest time that is worth.
const DRAIN_TIME: Duration = Duration::from_millis(250);
/// Time to get a connection.
const CONNECT_TIME: Duration = Duration::from_secs(30);

/// The methods there are.
pub(super) const METHODS: [&str; 3] = ["GET", "POST", "PUT"];

/// What the operator allows.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Longest response body, and longest request body, in bytes.
    pub max_response_bytes: usize,
    /// Most redirects followed.
    pub max_redirects: usize,
}

/// How targets are reached.
#[derive(Clone, Debug)]
pub struct Ways {
    /// Whom TLS trusts.
    pub trust: Trust,
    /// For targets without a Unix socket of their own.
    pub proxies: ProxyPolicy,
}

/// What a caller asks for.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) label: String,
    pub(super) method: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Option<String>,
    pub(super) timeout_ms: i64,
    pub(super) max_response_bytes: i64,
    pub(super) follow_redirects: bool,
    pub(super) max_redirects: i64,
}

/// An ask that may be sent.
pub(super) struct Checked<'a> {
    pub(super) target: Arc<Target>,
    pub(super) method: &'static str,
    pub(super) body: &'a str,
    pub(super) timeout: Duration,
    limit: usize,
    redirects: Option<usize>,
}

/// A reply, read to its end.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

/// Why there is no reply.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It could not be sent or answered.
    Request(Error),
    /// A caller's header cannot be sent.
    Header,
    /// `Location` is no URL.
    Location,
    /// The status is none that a caller could be told.
    Status,
    /// The destination of a redirect is not registered.
    Blocked(Box<Blocked>),
    /// More redirects than allowed.
    TooManyRedirects,
    /// The body broke off.
    Read { error: Error, got: usize, status: u16 },
    /// The body is longer than allowed.
    TooLarge { limit: usize, status: u16 },
}

/// How far a call came, for the record.
pub(super) struct Progress {
    pub(super) url: TargetUrl,
    pub(super) content_type: Option<String>,
    pub(super) dropped: headers::Forwarded,
}

impl Ask {
    /// Everything that can be said without sending anything. Most of it the schema has said before.
    ///
    /// # Errors
    /// The text for the caller.
    pub(super) fn checked(&self, registry: &Registry, bounds: &Bounds) -> Result<Checked<'_>, String> {
        let label = self.label.trim();
        if label.is_empty() {
            return Err("label is required".to_owned());
        }
        let target = registry.by_label(label).filter(|_| is_label(label)).ok_or("unknown target")?;
        let upper = self.method.to_uppercase();
        let method = METHODS.into_iter().find(|known| *known == upper).ok_or("invalid method")?;
        let (min, _, max) = TIMEOUT_MS;
        let timeout = match self.timeout_ms {
            ..=0 => return Err("timeout must be positive".to_owned()),
            ms if ms < min => return Err(format!("timeout must be at least {min}ms")),
            ms if ms > max => return Err(format!("timeout must be at most {max}ms")),
            ms => Duration::from_millis(ms.unsigned_abs()),
        };
        let ceiling = bounds.max_response_bytes;
        let limit = match usize::try_from(self.max_response_bytes) {
            Err(_) | Ok(0) => return Err("max_response_bytes must be positive".to_owned()),
            Ok(limit) if limit > ceiling => {
                return Err(format!("max_response_bytes must be less than or equal to {ceiling}"));
            }
            Ok(limit) => limit,
        };
        let redirects = match usize::try_from(self.max_redirects) {
            _ if !self.follow_redirects => None,
            Err(_) => return Err("max_redirects must be non-negative".to_owned()),
            Ok(most) if most > bounds.max_redirects => {
                return Err(format!("max_redirects must be less than or equal to {}", bounds.max_redirects));
            }
            Ok(most) => Some(most),
        };
        let body = self.body.as_deref().unwrap_or_default();
        // The operator's bound: what a caller wants to read has nothing to do with what it sends.
        if body.len() > ceiling {
            return Err("request body exceeds size limit".to_owned());
        }
        Ok(Checked { target, method, body, timeout, limit, redirects })
    }
}

impl Progress {
    pub(super) fn of(target: &Target) -> Progress {
        Progress { url: target.url.clone(), content_type: None, dropped: headers::Forwarded::default() }
    }
}

/// Sends `ask` and reads its reply until `deadline`, unless `cancel` fires.
pub(super) fn run(
    ask: &Checked<'_>,
    given: &[(String, String)],
    (registry, ways): (&Registry, &Ways),
    deadline: Deadline,
    cancel: &Cancel,
    progress: &mut Progress,
) -> Result<Reply, Trouble> {
    let mut forwarded = headers::forwarded(given).ok_or(Trouble::Header)?;
    let mut headers = std::mem::take(&mut forwarded.headers);
    progress.dropped = forwarded;
    let mut clients = Clients { ways, cancel, open: Vec::new() };
    let mut method = if ask.method == "GET" { Method::GET } else { post_or_put(ask.method) };
    let mut body = Some(ask.body.as_bytes()).filter(|body| !body.is_empty());
    let mut target = Arc::clone(&ask.target);
    let mut followed = 0;
    loop {
        let client = clients.of(&target);
        let uri = target.url.uri().ok_or(Trouble::Location)?;
        let request = Request { method: method.clone(), uri: &uri, headers: headers.clone(), body, deadline };
        let response = client.send(request).map_err(Trouble::Request)?;
        progress.content_type = media_type(&response.headers);
        let Some((most, location)) = ask.redirects.zip(location(&response)) else {
            return read(response, ask.limit);
        };
        if followed >= most {
            return Err(Trouble::TooManyRedirects);
        }
        followed += 1;
        let next = location.ok().and_then(|location| redirect::decide(&target.url, location, registry).ok());
        match next.ok_or(Trouble::Location)? {
            Destination::Target(next) => target = next,
            Destination::Blocked(blocked) => return Err(Trouble::Blocked(Box::new(blocked))),
        }
        progress.url = target.url.clone();
        if !headers::may_follow(ask.target.url.host(), target.url.host()) {
            headers::drop_credentials(&mut headers);
        }
        if matches!(response.status, 301..=303) {
            (method, body) = (Method::GET, None);
            headers::drop_content(&mut headers);
        }
        response.body.drain_within(DRAIN_BYTES, DRAIN_TIME);
    }
}

fn post_or_put(method: &str) -> Method {
    if method == "PUT" { Method::PUT } else { Method::POST }
}

/// Where a reply that is a redirect sends to; `Some(Err)` if that is no text.
fn location(response: &Response) -> Option<Result<&str, ()>> {
    let is_redirect = matches!(response.status, 301 | 302 | 303 | 307 | 308);
    let value = response.headers.get(header::LOCATION).filter(|value| is_redirect && !value.is_empty())?;
    Some(std::str::from_utf8(value.as_bytes()).map_err(|_| ()))
}

fn read(response: Response, limit: usize) -> Result<Reply, Trouble> {
    let Response { status, headers, body, .. } = response;
    if !(100..600).contains(&status) {
        return Err(Trouble::Status);
    }
    let body = read_body(body, limit, status)?;
    Ok(Reply { status, headers, body })
}

fn read_body(mut body: Body, limit: usize, status: u16) -> Result<Vec<u8>, Trouble> {
    let mut bytes = Vec::new();
    // One byte more tells a body that fits from one that does not.
    let read = body.by_ref().take(limit as u64 + 1).read_to_end(&mut bytes);
    if bytes.len() > limit {
        return Err(Trouble::TooLarge { limit, status });
    }
    match read {
        Ok(_) => Ok(bytes),
        Err(error) => Err(Trouble::Read { error: Error::from_io(error), got: bytes.len(), status }),
    }
}

/// The media type without parameters, lower case, shortened.
fn media_type(headers: &HeaderMap) -> Option<String> {
    const MAX_BYTES: usize = 256;
    let value = headers.get(header::CONTENT_TYPE)?;
    let text = String::from_utf8_lossy(value.as_bytes());
    let mut media_type = text.split(';').next().unwrap_or_default().trim().to_lowercase();
    let end = (0..=MAX_BYTES.min(media_type.len())).rev().find(|end| media_type.is_char_boundary(*end));
    media_type.truncate(end.unwrap_or_default());
    (!media_type.is_empty()).then_some(media_type)
}

/// The clients of one call, by the socket they dial and whether they dial any address.
struct Clients<'a> {
    ways: &'a Ways,
    cancel: &'a Cancel,
    open: Vec<((Option<PathBuf>, bool), HttpClient)>,
}

impl Clients<'_> {
    fn of(&mut self, target: &Target) -> &HttpClient {
        // Link-local and such only where the target itself names it: no name service gets to choose it.
        let literal = target.url.host().parse().is_ok_and(is_no_server_address);
        let way = (target.unix_socket.clone(), !literal);
        let known = self.open.iter().position(|(known, _)| *known == way);
        let index = known.unwrap_or_else(|| {
            let via = match &way.0 {
                Some(path) => Via::Unix(path.clone()),
                None => Via::Proxies(self.ways.proxies.clone()),
            };
            let route = Route {
                accept_gzip: true,
                only_servers: way.1,
                limits: Limits { idle_connections: 1, connect: CONNECT_TIME, ..Limits::default() },
                ..Route::new(via, self.ways.trust.clone())
            };
            self.open.push((way, HttpClient::new(&route, self.cancel)));
            self.open.len() - 1
        });
        &self.open[index].1
    }
}

impl Trouble {
    /// What the caller is told.
    pub(super) fn text(&self) -> String {
        match self {
            Trouble::Request(error) if error.cause == Cause::Timeout => "request timed out".to_owned(),
            Trouble::Request(_) | Trouble::Header | Trouble::Location => "request failed".to_owned(),
            Trouble::Status => "unsupported response status".to_owned(),
            Trouble::Blocked(blocked) => match &blocked.schemes {
                Some((allowed, to)) => {
                    format!("redirect blocked: scheme mismatch (allowlisted {allowed}, redirected to {to})")
                }
                None => "redirect blocked".to_owned(),
            },
            Trouble::TooManyRedirects => "redirect limit exceeded".to_owned(),
            Trouble::Read { .. } => "response read failed".to_owned(),
            Trouble::TooLarge { .. } => "response exceeds size limit".to_owned(),
        }
    }

    /// What operators read in history and log.
    pub(super) fn record(&self) -> String {
        match self {
            Trouble::Request(error) if error.cause == Cause::Timeout => "timeout".to_owned(),
            Trouble::Request(error) if error.cause == Cause::Cancelled => "canceled".to_owned(),
            Trouble::Blocked(blocked) if blocked.schemes.is_none() => {
                format!("redirect blocked: {} not in allow list", blocked.origin)
            }
            other => other.text(),
        }
    }

    /// The metric's word.
    pub(super) fn outcome(&self) -> &'static str {
        match self {
            Trouble::Read { .. } => "response_read_error",
            Trouble::TooLarge { .. } => "response_too_large",
            _ => "request_error",
        }
    }

    /// Status of the reply that there was.
    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Trouble::Read { status, .. } | Trouble::TooLarge { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Bytes of the body that count.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Trouble::Read { got, .. } => *got,
            Trouble::TooLarge { limit, .. } => *limit,
            _ => 0,
        }
    }

    /// Whether it broke because somebody cut it.
    pub(super) fn is_cut(&self) -> bool {
        let error = match self {
            Trouble::Request(error) | Trouble::Read { error, .. } => error,
            _ => return false,
        };
        matches!(error.cause, Cause::Timeout | Cause::Cancelled)
    }
}

/// Milliseconds since `start`.
pub(super) fn millis_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)
}
