//! One request and the redirects it meets.
//!
//! A redirect that must not be followed is a plain reply. Invariant: a request is repeated only with
//! its method and body, never sent from TLS to plain text, and another origin sees neither the
//! operator's nor the command's headers, nor where the request came from.

use std::io::{self, Read};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use url::Url;

use crate::mcp::Head;
use crate::net::{
    Body, Cause, Deadline, Error, HeaderMap, HeaderName, Method, Request, Response, Uri, canonical, header,
};

use super::HttpBinding;
use super::headers::{Purpose, Reach, same_origin};
use super::raw_log::Dump;

/// How much of a body that nobody wants is read so that its connection can be used again …
const SETTLE_BYTES: u64 = 64 * 1024;
/// … and for how long.
const SETTLE_TIME: Duration = Duration::from_millis(20);
/// The same at a server that did not end its last stream in that time.
const SETTLE_TIME_HELD: Duration = Duration::from_millis(1);

/// What an exchange tells of a reply's headers: what callers are shown of them, and what decides about
/// that. Most replies have twice as many that nobody asks for.
const MEANINGFUL: [&str; 7] = [
    "access-control-expose-headers",
    "connection",
    "content-type",
    "last-event-id",
    "mcp-protocol-version",
    "mcp-session-id",
    "www-authenticate",
];

/// Requests in one chain of redirects; one more for metadata, whose chains have ten redirects at most.
const MAX_REQUESTS: usize = 10;

/// A request to be sent along the layers of a binding.
pub(super) struct Call<'a> {
    pub(super) method: Method,
    pub(super) purpose: Purpose,
    /// Lowest layer of headers.
    pub(super) built_in: &'a HeaderMap,
    /// Highest layer of headers.
    pub(super) forwarded: &'a HeaderMap,
    pub(super) body: Option<&'a [u8]>,
    pub(super) deadline: Deadline,
}

/// Where a chain of redirects may lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Follow {
    /// Anywhere, bare of credentials.
    Anywhere,
    /// A redirect to another origin than the first one is an error.
    SameOrigin,
}

/// A reply that is no redirect, or one that is not followed.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
    pub(super) dump: Dump,
}

impl Reply {
    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Status and the headers that mean something to an MCP client, as texts.
    pub(super) fn head(&self) -> Head {
        self.head_with(|name| MEANINGFUL.contains(&name.as_str()))
    }

    /// Status and all headers, as texts.
    pub(super) fn full_head(&self) -> Head {
        self.head_with(|_| true)
    }

    fn head_with(&self, wanted: impl Fn(&HeaderName) -> bool) -> Head {
        let headers = self.headers.iter().filter(|(name, _)| wanted(name));
        let text = |(name, value): (&HeaderName, &crate::net::HeaderValue)| {
            (canonical(name.as_str()), String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        Head { status: self.status, headers: headers.map(text).collect() }
    }

    /// Discards what is left of the body, if that takes next to no time: the connection is kept then.
    pub(super) fn discard(self, deadline: Deadline) {
        settle(self.body, SETTLE_TIME, deadline);
    }
}

impl HttpBinding {
    /// Sends `call` to the binding's own URL.
    pub(super) fn send(&self, call: &Call<'_>) -> Result<Reply, Error> {
        let uri = self.uri.as_ref().ok_or_else(invalid_url)?;
        let sent = self.send_once(call, Follow::Anywhere, Reach::OWN, uri)?;
        self.follow(call, Follow::Anywhere, &self.target.url, sent)
    }

    /// Sends `call` to `url`.
    pub(super) fn send_to(&self, call: &Call<'_>, follow: Follow, url: &Url) -> Result<Reply, Error> {
        let uri = uri_of(url).ok_or_else(invalid_url)?;
        let sent = self.send_once(call, follow, self.layers.reach(url), &uri)?;
        self.follow(call, follow, url, sent)
    }

    /// Discards what follows the answer in a stream. Servers that hold their streams open are not waited
    /// for each time.
    pub(super) fn discard_stream(&self, body: Body, deadline: Deadline) {
        let held = self.holds_streams.load(Ordering::Relaxed);
        let ended = settle(body, if held { SETTLE_TIME_HELD } else { SETTLE_TIME }, deadline);
        self.holds_streams.store(!ended, Ordering::Relaxed);
    }

    fn follow(
        &self,
        call: &Call<'_>,
        follow: Follow,
        first: &Url,
        (mut response, mut dump): (Response, Dump),
    ) -> Result<Reply, Error> {
        let mut moved: Option<Url> = None;
        let mut emptied: Option<Call<'_>> = None;
        let at_home = follow == Follow::SameOrigin;
        for _ in 1..MAX_REQUESTS + usize::from(at_home) {
            let from = moved.as_ref().unwrap_or(first);
            // A POST for metadata holds no message that would be lost when it becomes a GET.
            if at_home && call.method == Method::POST && matches!(response.status, 301..=303) {
                emptied = Some(Call { method: Method::GET, body: None, ..*call });
            }
            let call = emptied.as_ref().unwrap_or(call);
            let Some(to) = redirect(&call.method, from, response.status, &response.headers) else { break };
            if at_home && !same_origin(first, &to) {
                return Err(Error::after_writing(
                    Cause::Other,
                    "redirect blocked: it leads to another origin",
                ));
            }
            let Some(uri) = uri_of(&to).filter(|_| is_safe(from, &to)) else { break };
            settle(response.body, SETTLE_TIME, call.deadline);
            (response, dump) = self.send_once(call, follow, self.layers.reach(&to), &uri)?;
            moved = Some(to);
        }
        Ok(Reply { status: response.status, headers: response.headers, body: response.body, dump })
    }

    fn send_once(
        &self,
        call: &Call<'_>,
        follow: Follow,
        reach: Reach,
        uri: &Uri,
    ) -> Result<(Response, Dump), Error> {
        let headers = self.layers.build(reach, call.purpose, call.built_in, call.forwarded);
        self.raw_log.request(&call.method, uri, &headers, call.body);
        let (method, body, deadline) = (call.method.clone(), call.body, call.deadline);
        let started = Instant::now();
        // What stays on its origin, and began on another one, is none of the server's business.
        let outside = self.outside.as_ref().filter(|_| follow == Follow::SameOrigin && !reach.origin);
        let sent = outside.unwrap_or(&self.client).send(Request { method, uri, headers, body, deadline });
        let status = sent.as_ref().ok().map(|response| response.status);
        let body_bytes = body.map_or(0, <[u8]>::len);
        self.observed.note((&call.method, uri, reach), status, started.elapsed(), body_bytes);
        let response = sent?;
        let dump = self.raw_log.response(&response);
        Ok((response, dump))
    }
}

/// Reads the little that may be left of `body`, for at most `time`, so that its connection is kept; true
/// if it came to its end.
fn settle(mut body: Body, time: Duration, deadline: Deadline) -> bool {
    body.set_deadline(Deadline::after(time).earliest(deadline));
    let rest = io::copy(&mut body.take(SETTLE_BYTES + 1), &mut io::sink());
    rest.is_ok_and(|length| length <= SETTLE_BYTES)
}

/// Where a reply redirects to, if it does.
fn redirect(method: &Method, from: &Url, status: u16, headers: &HeaderMap) -> Option<Url> {
    let follows = match status {
        307 | 308 => true,
        // These turn a POST into a GET, which would lose the message.
        301..=303 => matches!(*method, Method::GET | Method::HEAD),
        _ => false,
    };
    let location = headers.get(header::LOCATION).filter(|_| follows)?;
    from.join(std::str::from_utf8(location.as_bytes()).ok()?).ok()
}

/// Whether a redirect from one to the other gives nothing away that was encrypted before.
fn is_safe(from: &Url, to: &Url) -> bool {
    let scheme = to.scheme();
    to.has_host() && (scheme == "https" || scheme == "http" && from.scheme() == "http")
}

/// The URL as a request target: without user info and fragment.
pub(super) fn uri_of(url: &Url) -> Option<Uri> {
    let mut bare = url.clone();
    bare.set_fragment(None);
    bare.set_username("").ok()?;
    bare.set_password(None).ok()?;
    Uri::try_from(bare.as_str()).ok()
}

fn invalid_url() -> Error {
    Error::before_writing(Cause::InvalidRequest, "the URL cannot be requested")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::HeaderValue;

    #[test]
    fn redirects_keep_the_method_or_are_plain_replies() {
        let from = Url::parse("https://u:p@h/mcp?x=1").unwrap();
        for (method, status, location, expected) in [
            (Method::POST, 307, Some("/other"), Some("https://u:p@h/other")),
            (Method::POST, 308, Some("https://else/a"), Some("https://else/a")),
            (Method::DELETE, 307, Some("?y"), Some("https://u:p@h/mcp?y")),
            (Method::POST, 301, Some("/other"), None),
            (Method::POST, 302, Some("/other"), None),
            (Method::DELETE, 303, Some("/other"), None),
            (Method::GET, 302, Some("/other"), Some("https://u:p@h/other")),
            (Method::GET, 303, Some("/other"), Some("https://u:p@h/other")),
            (Method::POST, 307, None, None),
            (Method::POST, 300, Some("/other"), None),
            (Method::POST, 304, Some("/other"), None),
            (Method::POST, 307, Some("http://h/plain"), None),
            (Method::POST, 307, Some("ftp://h/"), None),
            (Method::POST, 307, Some("https://["), None),
            (Method::POST, 200, Some("/other"), None),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(location) = location {
                headers.insert(header::LOCATION, HeaderValue::from_static(location));
            }
            let to = redirect(&method, &from, status, &headers).filter(|to| is_safe(&from, to));
            assert_eq!(to.as_ref().map(Url::as_str), expected, "{method} {status} {location:?}");
        }
    }

    #[test]
    fn a_request_target_holds_no_user_info_and_no_fragment() {
        let uri = uri_of(&Url::parse("http://u:p@h:80/a%20b?c=d|e#f").unwrap()).unwrap();
        assert_eq!(uri.to_string(), "http://h/a%20b?c=d|e");
    }
}
