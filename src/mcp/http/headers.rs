//! The headers of a request, layer upon layer: our own, the operator's, the command's.
//!
//! A later layer replaces all values that an earlier one gave to a name. Invariant: the operator's
//! headers and user info reach only the origin of the binding's own URL, and of the command's headers
//! none that belong to one hop or that the HTTP layer computes itself.

use std::fmt;

use url::Url;

use crate::net::{HeaderList, HeaderMap, HeaderName, HeaderValue, basic_of_user_info, header};

use super::HttpTarget;

/// What a strict MCP server demands of a POST.
pub(super) const ACCEPT_BOTH: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");
/// Media type of event streams.
pub(super) const EVENT_STREAM: &str = "text/event-stream";
/// Media type of messages.
pub(super) const JSON: &str = "application/json";
/// MCP session id header.
pub(super) const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
/// More headers than this in a command are not forwarded but refused.
const MAX_FORWARDED: usize = 1000;

/// What a request is for; decides which of the operator's headers it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Traffic of a command: static headers at the binding's origin and path.
    Forward,
    /// Probe and resource discovery: static and discovery headers at the binding's origin.
    Discovery,
}

/// How much a URL has in common with the binding's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reach {
    /// Scheme, host and port are the same.
    pub(super) origin: bool,
    /// So is the path, trailing slashes aside.
    pub(super) path: bool,
}

/// The operator's layers of one binding.
pub(super) struct Layers {
    url: Url,
    user_info: Option<HeaderValue>,
    fixed: HeaderMap,
    discovery: HeaderMap,
}

/// A header of a command cannot be sent; neither name nor value is shown.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct InvalidHeader;

impl Reach {
    /// The binding's own URL.
    pub(super) const OWN: Reach = Reach { origin: true, path: true };
}

impl Layers {
    pub(super) fn new(target: &HttpTarget) -> Layers {
        Layers {
            url: target.url.clone(),
            user_info: basic_credentials(&target.url),
            fixed: operator_map(&target.static_headers),
            discovery: operator_map(&target.discovery_headers),
        }
    }

    /// Compares `url` with the binding's own.
    pub(super) fn reach(&self, url: &Url) -> Reach {
        let origin = same_origin(&self.url, url);
        let path = |url: &Url| url.path().trim_end_matches('/').to_owned();
        Reach { origin, path: origin && path(&self.url) == path(url) }
    }

    /// All layers for one request; `built_in` is the lowest, `forwarded` the highest.
    pub(super) fn build(
        &self,
        reach: Reach,
        purpose: Purpose,
        built_in: &HeaderMap,
        forwarded: &HeaderMap,
    ) -> HeaderMap {
        let mut headers = built_in.clone();
        if !reach.origin {
            return headers;
        }
        if let Some(credentials) = &self.user_info {
            headers.insert(header::AUTHORIZATION, credentials.clone());
        }
        if purpose == Purpose::Discovery || reach.path {
            lay_over(&mut headers, &self.fixed);
        }
        if purpose == Purpose::Discovery {
            lay_over(&mut headers, &self.discovery);
        }
        lay_over(&mut headers, forwarded);
        headers
    }
}

/// Replaces in `headers` every name that `upper` has.
fn lay_over(headers: &mut HeaderMap, upper: &HeaderMap) {
    for name in upper.keys() {
        let mut values = upper.get_all(name).iter();
        if let Some(first) = values.next() {
            headers.insert(name, first.clone());
        }
        for value in values {
            headers.append(name, value.clone());
        }
    }
}

/// Whether two URLs share scheme, host and port. A host is the same with a dot at its end.
pub fn same_origin(a: &Url, b: &Url) -> bool {
    fn host(url: &Url) -> Option<&str> {
        url.host_str().map(|host| host.strip_suffix('.').unwrap_or(host))
    }
    a.scheme() == b.scheme() && host(a) == host(b) && a.port_or_known_default() == b.port_or_known_default()
}

/// What every request carries below all other layers.
pub(super) fn built_in(accept: Option<HeaderValue>, content_type: Option<&'static str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    if let Some(accept) = accept {
        headers.insert(header::ACCEPT, accept);
    }
    if let Some(content_type) = content_type {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    headers
}

const USER_AGENT: &str = concat!("tunnel-client-rs/", env!("CARGO_PKG_VERSION"));

/// The headers of a command that may be forwarded.
pub(super) fn forwarded(headers: &HeaderList) -> Result<HeaderMap, InvalidHeader> {
    let nominated: Vec<&str> =
        headers.get_all("Connection").flat_map(|value| value.split(',')).map(str::trim).collect();
    let mut map = HeaderMap::new();
    for (name, value) in headers.iter() {
        if is_hop_by_hop(name) || nominated.iter().any(|nominee| nominee.eq_ignore_ascii_case(name)) {
            continue;
        }
        if map.len() >= MAX_FORWARDED {
            return Err(InvalidHeader);
        }
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| InvalidHeader)?;
        let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| InvalidHeader)?;
        map.try_append(name, value).map_err(|_| InvalidHeader)?;
    }
    Ok(map)
}

/// Sets the default `Accept` unless the command's own, the first if there are several, says something.
pub(super) fn default_accept(forwarded: &mut HeaderMap) {
    if forwarded.get(header::ACCEPT).is_none_or(HeaderValue::is_empty) {
        forwarded.insert(header::ACCEPT, ACCEPT_BOTH);
    }
}

/// Names that belong to one hop (RFC 9110 §7.6.1) or that the HTTP layer computes itself. A foreign
/// `Accept-Encoding` would make replies unreadable, `Expect` would delay the body.
fn is_hop_by_hop(name: &str) -> bool {
    const NAMES: [&str; 10] = [
        "connection",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "host",
        "content-length",
        "accept-encoding",
        "expect",
    ];
    const PREFIX: &str = "proxy-";
    NAMES.iter().any(|known| known.eq_ignore_ascii_case(name))
        || name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

/// Operator headers, one value a name. They were checked with the configuration; what the HTTP layer
/// computes itself is left out.
fn operator_map(headers: &HeaderList) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers.iter() {
        let computed =
            ["host", "content-length", "transfer-encoding", "trailer", "accept-encoding", "expect"];
        if computed.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            continue;
        }
        let (name, value) =
            (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value.as_bytes()));
        if let (Ok(name), Ok(mut value)) = (name, value) {
            value.set_sensitive(true);
            map.insert(name, value);
        }
    }
    map
}

/// Basic credentials (RFC 7617) for the user info of `url`.
pub(super) fn basic_credentials(url: &Url) -> Option<HeaderValue> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let user_info = format!("{}:{}", url.username(), url.password().unwrap_or_default());
    let mut value = HeaderValue::try_from(basic_of_user_info(&user_info)).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The media type of a reply, parameters cut.
pub(super) fn media_type(headers: &HeaderMap) -> &str {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}

impl fmt::Display for InvalidHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a header of the command cannot be sent")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(pairs: &[(&str, &str)]) -> HeaderList {
        pairs.iter().copied().collect()
    }

    fn layers(url: &str, fixed: &[(&str, &str)], discovery: &[(&str, &str)]) -> Layers {
        Layers::new(&HttpTarget {
            url: Url::parse(url).unwrap(),
            static_headers: list(fixed),
            discovery_headers: list(discovery),
            max_message_bytes: 1,
        })
    }

    fn values(headers: &HeaderMap, name: &str) -> Vec<String> {
        headers.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn later_layers_replace_all_values_of_a_name() {
        let layers = layers("http://h/mcp", &[("X-A", "static"), ("X-B", "static")], &[("x-a", "discovery")]);
        let sent = forwarded(&list(&[("x-B", "1"), ("X-b", "2"), ("X-Empty", "")])).unwrap();
        let own = built_in(Some(ACCEPT_BOTH), Some(JSON));
        let plain = layers.build(Reach::OWN, Purpose::Forward, &own, &sent);
        assert_eq!(values(&plain, "x-a"), ["static"]);
        assert_eq!(values(&plain, "x-b"), ["1", "2"]);
        assert_eq!(values(&plain, "x-empty"), [""]);
        let discovery = layers.build(Reach::OWN, Purpose::Discovery, &own, &HeaderMap::new());
        assert_eq!(values(&discovery, "x-a"), ["discovery"]);
        assert_eq!(values(&discovery, "x-b"), ["static"]);
    }

    #[test]
    fn operator_headers_stay_at_their_origin_and_path() {
        let layers = layers("http://user:p%40ss@h:80/mcp", &[("X-S", "1")], &[("X-D", "1")]);
        let none = HeaderMap::new();
        for (url, purpose, fixed, discovery, credentials) in [
            ("http://h/mcp", Purpose::Forward, true, false, true),
            ("http://H/mcp/?q", Purpose::Forward, true, false, true),
            ("http://h/other", Purpose::Forward, false, false, true),
            ("http://h/other", Purpose::Discovery, true, true, true),
            ("https://h/mcp", Purpose::Discovery, false, false, false),
            ("http://h:81/mcp", Purpose::Forward, false, false, false),
            ("http://other/mcp", Purpose::Discovery, false, false, false),
        ] {
            let reach = layers.reach(&Url::parse(url).unwrap());
            let built = layers.build(reach, purpose, &none, &none);
            assert_eq!(built.contains_key("x-s"), fixed, "{url} {purpose:?}");
            assert_eq!(built.contains_key("x-d"), discovery, "{url} {purpose:?}");
            let basic = credentials.then(|| "Basic dXNlcjpwQHNz".to_owned());
            assert_eq!(values(&built, "authorization").pop(), basic, "{url} {purpose:?}");
        }
    }

    #[test]
    fn hop_by_hop_and_nominated_headers_are_not_forwarded() {
        let sent = forwarded(&list(&[
            ("Connection", "close, X-Hop"),
            ("X-Hop", "1"),
            ("Keep-Alive", "1"),
            ("PROXY-Authorization", "1"),
            ("TE", "trailers"),
            ("Transfer-Encoding", "chunked"),
            ("Host", "\nnever looked at"),
            ("Content-Length", "9"),
            ("Accept-Encoding", "br"),
            ("Cookie", "a=b"),
            ("Authorization", "Bearer x"),
        ]))
        .unwrap();
        let names: Vec<&str> = sent.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["cookie", "authorization"]);
    }

    #[test]
    fn headers_that_cannot_be_sent_are_refused() {
        for (name, value) in [("X\n", "1"), ("", "1"), ("X A", "1"), ("X", "a\r\nb"), ("X", "\u{1}")] {
            assert_eq!(forwarded(&list(&[(name, value)])), Err(InvalidHeader), "{name:?}: {value:?}");
        }
        let many = (0..=MAX_FORWARDED).map(|n| (format!("X-{n}"), "1")).collect();
        assert_eq!(forwarded(&many), Err(InvalidHeader));
        assert!(forwarded(&list(&[("X", "a\tb é")])).is_ok());
    }

    #[test]
    fn an_accept_that_says_nothing_is_replaced() {
        for (given, expected) in [
            (&[][..], "application/json, text/event-stream"),
            (&[("Accept", "")], "application/json, text/event-stream"),
            (&[("accept", "application/json")], "application/json"),
        ] {
            let mut sent = forwarded(&list(given)).unwrap();
            default_accept(&mut sent);
            assert_eq!(values(&sent, "accept"), [expected]);
        }
    }

    #[test]
    fn media_types_are_taken_without_parameters() {
        let mut headers = HeaderMap::new();
        assert_eq!(media_type(&headers), "");
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(" Text/Event-Stream ; charset=x"));
        assert_eq!(media_type(&headers), "Text/Event-Stream");
    }
}
