//! The HTTP client of one route.

use std::io::Read;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::{Cancel, Cause, Deadline, Error, HeaderMap, Method, Uri};

/// How connections of a client reach their target.
#[derive(Clone, Debug)]
pub enum Via {
    /// Straight to the URL's host and port.
    Direct,
    /// Every connection goes to this Unix socket, whatever the URL says.
    Unix(PathBuf),
}

/// Bounds of one client.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Idle connections kept for reuse.
    pub idle_connections: usize,
    /// How long an idle connection is kept.
    pub idle_age: Duration,
    /// Time for name resolution and TCP connect together.
    pub connect: Duration,
    /// Time for the TLS handshake.
    pub handshake: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            idle_connections: 16,
            idle_age: Duration::from_secs(90),
            connect: Duration::from_secs(30),
            handshake: Duration::from_secs(10),
        }
    }
}

/// Everything that decides how a client reaches its target.
#[derive(Clone, Debug)]
pub struct Route {
    /// The way to the target.
    pub via: Via,
    /// Time and pool bounds.
    pub limits: Limits,
}

/// A pool of kept-alive connections along one [`Route`]; redirects are never followed, every status
/// is a reply. Cut from outside by the [`Cancel`] it was built with.
pub struct HttpClient {
    agent: ureq::Agent,
}

/// One request.
pub struct Request<'a> {
    /// The method.
    pub method: Method,
    /// Absolute URI.
    pub uri: &'a Uri,
    /// Headers; `Host` and `Content-Length` are added.
    pub headers: HeaderMap,
    /// Body of a POST; `None` sends no body.
    pub body: Option<&'a [u8]>,
    /// Bounds everything from name resolution to the last byte of the reply's body.
    pub deadline: Deadline,
}

/// The head of a reply, and its body to be read.
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Header fields.
    pub headers: HeaderMap,
    /// When the head was complete.
    pub head_at: Instant,
    /// The body. Read it to its end, or the connection is not reused.
    pub body: Body,
}

/// A reply's body; errors of its reads carry an [`Error`] inside the `io::Error`.
pub struct Body {
    reader: ureq::BodyReader<'static>,
}

impl HttpClient {
    /// A client for `route` whose calls are cut when `cancel` fires.
    pub fn new(_route: &Route, _cancel: &Cancel) -> HttpClient {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .build();
        HttpClient { agent: ureq::Agent::new_with_config(config) }
    }

    /// Sends `request` and waits for the reply's head.
    pub fn send(&self, request: Request<'_>) -> Result<Response, Error> {
        let mut builder = ureq::http::Request::builder().method(request.method).uri(request.uri.clone());
        if let Some(headers) = builder.headers_mut() {
            *headers = request.headers;
        }
        let invalid = |e: ureq::http::Error| Error::before_writing(Cause::InvalidRequest, e.to_string());
        let failed = |e: ureq::Error| Error::after_writing(Cause::Other, e.to_string());
        let response = match request.body {
            Some(body) => {
                let prepared = builder.body(body).map_err(invalid)?;
                let prepared = self.agent.configure_request(prepared);
                self.agent.run(prepared.timeout_global(request.deadline.remaining()).build()).map_err(failed)?
            }
            None => {
                let prepared = builder.body(()).map_err(invalid)?;
                let prepared = self.agent.configure_request(prepared);
                self.agent.run(prepared.timeout_global(request.deadline.remaining()).build()).map_err(failed)?
            }
        };
        let (head, body) = response.into_parts();
        Ok(Response {
            status: head.status.as_u16(),
            headers: head.headers,
            head_at: Instant::now(),
            body: Body { reader: body.into_reader() },
        })
    }
}

impl Body {
    /// Reads the whole body; more than `limit` bytes is [`Cause::TooLarge`].
    pub fn read_to_limit(&mut self, limit: usize) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        let read = self.reader.by_ref().take(limit as u64 + 1).read_to_end(&mut bytes);
        read.map_err(|e| Error::after_writing(Cause::UnexpectedEof, e.to_string()))?;
        if bytes.len() > limit {
            return Err(Error::after_writing(Cause::TooLarge, format!("body exceeds {limit} bytes")));
        }
        Ok(bytes)
    }

    /// Reads and discards up to `limit` bytes, so that the connection can be reused.
    pub fn drain(mut self, limit: usize) {
        let _ = std::io::copy(&mut self.reader.by_ref().take(limit as u64), &mut std::io::sink());
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.reader.read(buffer)
    }
}
