//! Headers on their way to a target and back.
//!
//! Invariant: nothing a caller sends can frame a request, name another host, choose a hop or pretend to
//! be somebody whom a proxy or a service behind it would believe.

use std::collections::BTreeSet;

use crate::net::{HeaderMap, HeaderName, HeaderValue, NEVER_FORWARDED, canonical, header};

/// Ours, whatever a caller says.
const USER_AGENT: &str = concat!("tunnel-client-rs/", env!("CARGO_PKG_VERSION"));
/// Words that make the name of a header sensitive.
const SENSITIVE: [&str; 6] = ["authorization", "cookie", "key", "secret", "token", "password"];
/// Taken away when a redirect leaves the host that the caller meant.
const CREDENTIALS: [&str; 5] =
    ["authorization", "cookie", "www-authenticate", "proxy-authorization", "proxy-authenticate"];

/// What is sent of a caller's headers.
#[derive(Debug, Default)]
pub(super) struct Forwarded {
    pub(super) headers: HeaderMap,
    /// How many were dropped.
    pub(super) dropped: usize,
    /// What kinds of headers those were.
    pub(super) classes: BTreeSet<&'static str>,
}

/// The headers to send; `None` if one cannot be sent over HTTP.
pub(super) fn forwarded(given: &[(String, String)]) -> Option<Forwarded> {
    let lower: Vec<String> = given.iter().map(|(name, _)| name.trim().to_ascii_lowercase()).collect();
    let listed: Vec<String> = given
        .iter()
        .zip(&lower)
        .filter(|(_, name)| *name == "connection")
        .flat_map(|((_, value), _)| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .filter(|name| !name.is_empty())
        .collect();
    let mut forwarded = Forwarded::default();
    for ((_, value), name) in given.iter().zip(&lower).filter(|(_, name)| !name.is_empty()) {
        if NEVER_FORWARDED.contains(&name.as_str()) || listed.contains(name) {
            forwarded.dropped += 1;
            forwarded.classes.insert(class(name));
            continue;
        }
        let mut value = HeaderValue::from_bytes(value.trim_matches([' ', '\t']).as_bytes()).ok()?;
        value.set_sensitive(is_sensitive(name));
        forwarded.headers.insert(HeaderName::try_from(name.as_str()).ok()?, value);
    }
    forwarded.headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    Some(forwarded)
}

/// Removes what must not follow a redirect to another host.
pub(super) fn drop_credentials(headers: &mut HeaderMap) {
    CREDENTIALS.iter().for_each(|name| {
        headers.remove(*name);
    });
}

/// Removes what describes a body that is not sent any more.
pub(super) fn drop_content(headers: &mut HeaderMap) {
    let names: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with("content-")).cloned().collect();
    names.iter().for_each(|name| {
        headers.remove(name);
    });
}

/// Whether credentials meant for the host `meant` may go to the host `to`: the same, or one below it.
pub(super) fn may_follow(meant: &str, to: &str) -> bool {
    let is_name = !to.contains(':') && to.parse::<std::net::Ipv4Addr>().is_err();
    to == meant || is_name && to.strip_suffix(meant).is_some_and(|front| front.ends_with('.'))
}

fn is_sensitive(name: &str) -> bool {
    name.split(['-', '.', '_']).any(|word| SENSITIVE.contains(&word))
}

fn class(name: &str) -> &'static str {
    if is_sensitive(name) {
        "sensitive-name"
    } else if name == "user-agent" {
        "user-agent"
    } else if name.starts_with("x-") {
        "custom"
    } else {
        "not-forwardable"
    }
}

/// The headers of a reply by their canonical names, those of its framing left out, in the order of
/// their first appearance.
pub(super) fn received(headers: &HeaderMap) -> Vec<(String, Vec<String>)> {
    let framing = [header::TRANSFER_ENCODING, header::TRAILER];
    headers
        .keys()
        .filter(|name| !framing.contains(name))
        .map(|name| {
            let values = headers.get_all(name).iter();
            (canonical(name.as_str()), values.map(|v| String::from_utf8_lossy(v.as_bytes()).into()).collect())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forward(given: &[(&str, &str)]) -> Forwarded {
        let owned: Vec<_> = given.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        forwarded(&owned).unwrap()
    }

    #[test]
    fn identity_hop_and_framing_headers_are_dropped_whatever_their_letter_case() {
        let ours = forward(&[]).headers;
        for name in NEVER_FORWARDED {
            for spelled in [name.to_owned(), name.to_uppercase(), canonical(name)] {
                let forwarded = forward(&[(&spelled, "x")]);
                assert_eq!((forwarded.headers, forwarded.dropped), (ours.clone(), 1), "{spelled}");
            }
        }
        assert_eq!(ours["user-agent"], USER_AGENT);
    }

    #[test]
    fn what_connection_names_is_dropped_as_well() {
        let forwarded = forward(&[
            ("Connection", "Authorization, X-API-Key , ,"),
            ("CONNECTION", "x-more"),
            ("Authorization", "Bearer s"),
            ("X-API-Key", "k"),
            ("X-More", "1"),
            ("X-Safe", "1"),
            ("Content-Type", "text/plain"),
        ]);
        let mut names: Vec<_> = forwarded.headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-type", "user-agent", "x-safe"]);
        assert_eq!(forwarded.dropped, 5);
        let classes: Vec<_> = forwarded.classes.into_iter().collect();
        assert_eq!(classes, ["custom", "not-forwardable", "sensitive-name"]);
    }

    #[test]
    fn values_that_would_split_a_request_cannot_be_sent() {
        for bad in ["a\r\nX-Evil: 1", "a\nb", "a\rb", "a\0b", "a\u{7f}"] {
            assert!(forwarded(&[("X-A".to_owned(), bad.to_owned())]).is_none(), "{bad:?}");
        }
        for bad in ["X A", "X:A", "X\r\nA", "é"] {
            assert!(forwarded(&[(bad.to_owned(), "1".to_owned())]).is_none(), "{bad:?}");
        }
        assert_eq!(forward(&[(" X-A ", " b\t")]).headers["x-a"], "b");
    }

    #[test]
    fn credentials_follow_to_the_same_host_and_below_it_only() {
        for (meant, to, follow) in [
            ("h.example", "h.example", true),
            ("h.example", "a.h.example", true),
            ("a.h.example", "h.example", false),
            ("h.example", "evilh.example", false),
            ("h.example", "h.example.evil", false),
            ("0.0.1", "127.0.0.1", false),
            ("::1", "::1", true),
            ("1", "::1", false),
        ] {
            assert_eq!(may_follow(meant, to), follow, "{meant} {to}");
        }
    }

    #[test]
    fn names_come_back_in_their_canonical_spelling_with_all_their_values() {
        let mut headers = HeaderMap::new();
        headers.append("set-cookie", HeaderValue::from_static("a"));
        headers.append("set-cookie", HeaderValue::from_static("b"));
        headers.append("www-authenticate", HeaderValue::from_static("Basic"));
        headers.append("transfer-encoding", HeaderValue::from_static("chunked"));
        let mut received = received(&headers);
        received.sort();
        let expected = [("Set-Cookie", vec!["a", "b"]), ("Www-Authenticate", vec!["Basic"])];
        let expected = expected.map(|(n, v)| (n.to_owned(), v.into_iter().map(str::to_owned).collect()));
        assert_eq!(received, expected);
    }
}
