//! The HTTP client of one route.
//!
//! HTTP/1.1 itself is ureq's; names, sockets, TLS, proxies, the pool and the deadlines are ours (see
//! [`super::connection`]). Invariant: redirects are never followed, every status is a reply, and no
//! header is added besides `Host`, `Content-Length` and what URI and route ask for.

mod body;
mod call;
mod cut;
mod exchange;
mod failure;
mod pool;
mod told;

use std::sync::Arc;
use std::time::Instant;

pub use self::body::Body;
use self::call::Call;
pub use self::cut::Cut;
use self::exchange::{Connect, NoNames};
use self::pool::Pool;
pub use self::told::HttpExchange;
use super::basic_auth::basic_of_user_info;
use super::connection::{Opener, cancelled};
use super::tls::ClientTls;
use super::{Cancel, CancelGuard, Deadline, Error, HeaderMap, HeaderValue, Method, Route, Uri, header};

/// Longest reply head, in bytes.
const HEAD_BOUND_BYTES: usize = 64 * 1024;

/// A pool of kept-alive connections along one [`Route`]. Everything it does ends at once when the
/// [`Cancel`] it was made with fires; later requests fail with [`super::Cause::Cancelled`].
///
/// A connection goes back to the pool when the reply's body has been read to its end. A request that
/// meets a dead pooled connection before any of its bytes has left is sent over another one; so is a
/// GET or HEAD whose pooled connection is closed before any reply, once (RFC 9110 §9.2.2).
pub struct HttpClient {
    agent: ureq::Agent,
    pool: Arc<Pool>,
    accept_gzip: bool,
    _cut: CancelGuard,
}

/// One request.
pub struct Request<'a> {
    /// The method.
    pub method: Method,
    /// Absolute URI, `http` or `https`.
    pub uri: &'a Uri,
    /// Headers; `Host` and, from the URI's user info, `Authorization` are added unless given, and
    /// `Content-Length` is. A given `Content-Length` or `Transfer-Encoding` is ignored.
    pub headers: HeaderMap,
    /// The body; `None` sends none (and an empty one with a method that always has one).
    pub body: Option<&'a [u8]>,
    /// Bounds everything from name resolution to the last byte of the reply's body.
    pub deadline: Deadline,
}

/// The head of a reply, and its body to be read.
#[derive(Debug)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Header fields. Of a body that is decoded on the way, `Content-Encoding` and `Content-Length` are
    /// left out.
    pub headers: HeaderMap,
    /// When the head was complete.
    pub head_at: Instant,
    /// The body. Read it to its end, or the connection is not reused.
    pub body: Body,
}

impl HttpClient {
    /// A client for `route` whose calls are cut when `cancel` fires. Opens, resolves and loads nothing.
    pub fn new(route: &Route, cancel: &Cancel) -> HttpClient {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .allow_non_standard_methods(true)
            .user_agent("")
            .accept("")
            .accept_encoding("")
            .max_response_header_size(HEAD_BOUND_BYTES)
            .build();
        let tls = ClientTls::new(route.trust.clone(), route.client_certificate.clone());
        let opener = Opener::new(route.via.clone(), tls, route.limits.clone(), cancel.clone())
            .only_to_servers(route.only_servers);
        let pool = Pool::new(opener);
        let idle = Arc::downgrade(&pool);
        let cut = cancel.on_cancel(move || {
            if let Some(pool) = idle.upgrade() {
                pool.clear();
            }
        });
        let agent = ureq::Agent::with_parts(config, Connect(Arc::clone(&pool)), NoNames);
        HttpClient { agent, pool, accept_gzip: route.accept_gzip, _cut: cut }
    }

    /// Sends `request` and waits for the reply's head.
    pub fn send(&self, request: Request<'_>) -> Result<Response, Error> {
        if self.pool.opener().cancel().is_cancelled() {
            return Err(cancelled());
        }
        let Request { method, uri, mut headers, body, deadline } = request;
        headers.remove(header::CONTENT_LENGTH);
        headers.remove(header::TRANSFER_ENCODING);
        if self.accept_gzip && !headers.contains_key(header::ACCEPT_ENCODING) {
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        }
        if !headers.contains_key(header::AUTHORIZATION)
            && let Some(value) = user_info_credentials(uri)
        {
            headers.insert(header::AUTHORIZATION, value);
        }
        // Without a body these would announce an empty one in chunks.
        let always_has_body = [Method::POST, Method::PUT, Method::PATCH].contains(&method);
        let body = body.or(always_has_body.then_some(&[]));
        let body_bytes = body.map_or(0, <[u8]>::len);

        let mut prepared = ureq::http::Request::new(());
        *prepared.method_mut() = method;
        *prepared.uri_mut() = uri.clone();
        *prepared.headers_mut() = headers;
        let safe = matches!(*prepared.method(), Method::GET | Method::HEAD);
        let again = safe.then(|| prepared.clone());
        match (self.send_once(prepared, body, body_bytes, deadline), again) {
            (Err((_, true)), Some(again)) => {
                // Whatever closed this connection has closed its siblings as well.
                self.pool.clear();
                self.send_once(again, body, body_bytes, deadline).map_err(|(error, _)| error)
            }
            (sent, _) => sent.map_err(|(error, _)| error),
        }
    }

    /// One attempt; with the error, whether a kept connection was closed before any reply.
    fn send_once(
        &self,
        prepared: ureq::http::Request<()>,
        body: Option<&[u8]>,
        body_bytes: usize,
        deadline: Deadline,
    ) -> Result<Response, (Error, bool)> {
        let call = Call::begin(deadline, prepared.uri(), prepared.headers(), body_bytes);
        let outcome = match body {
            Some(body) => self.agent.run(prepared.map(|()| body)),
            None => self.agent.run(prepared),
        };
        match outcome {
            Ok(response) => {
                let head_at = Instant::now();
                let (head, body) = response.into_parts();
                Ok(Response {
                    status: head.status.as_u16(),
                    headers: head.headers,
                    head_at,
                    body: Body::new(body, deadline),
                })
            }
            Err(error) => Err(failure::of_request(error, call)),
        }
    }
}

/// Credentials from the user info of `uri`, percent-decoded.
fn user_info_credentials(uri: &Uri) -> Option<HeaderValue> {
    let (user_info, _) = uri.authority()?.as_str().rsplit_once('@')?;
    let mut value = HeaderValue::try_from(basic_of_user_info(user_info)).ok()?;
    value.set_sensitive(true);
    Some(value)
}

impl std::fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpClient").field("opener", self.pool.opener()).finish_non_exhaustive()
    }
}
