//! The connector's headers on their way into a command.

use crate::net::{NEVER_FORWARDED, canonical};
use crate::server::engine::Header;

/// Header fields that end here besides those that nobody forwards: what the client sets itself, and what
/// belongs to the service.
const DROPPED: [&str; 8] = [
    "content-type",
    // Expectations are met on this hop (RFC 9110 §10.1.1).
    "expect",
    "openai-organization",
    "x-oai-brte-redeemable-token",
    "x-openai-brte-redeemable-token",
    "x-openai-request-path",
    "x-tunnel-connector-key",
    "x-tunnel-shard-token",
];

/// The name of the header that ties log lines of all parties together.
pub(super) const REQUEST_ID: &str = "X-Request-Id";

/// What of `headers` a command carries; `exchange_id` stands in for a missing `X-Request-Id`.
pub(super) fn command_headers<'a>(
    headers: impl Iterator<Item = (&'a str, &'a [u8])> + Clone,
    exchange_id: &str,
) -> Vec<Header> {
    let nominated: Vec<Vec<u8>> = headers
        .clone()
        .filter(|(name, _)| name.eq_ignore_ascii_case("connection"))
        .flat_map(|(_, value)| value.split(|b| *b == b','))
        .map(|option| option.trim_ascii().to_ascii_lowercase())
        .collect();
    let mut kept: Vec<Header> = Vec::new();
    for (name, value) in headers {
        let lower = name.to_ascii_lowercase();
        let dropped = value.is_empty()
            || NEVER_FORWARDED.contains(&lower.as_str())
            || DROPPED.contains(&lower.as_str())
            || nominated.iter().any(|nominated| nominated == lower.as_bytes());
        if dropped {
            continue;
        }
        let value = String::from_utf8_lossy(value).into_owned();
        match kept.iter_mut().find(|(have, _)| have.eq_ignore_ascii_case(&lower)) {
            Some((_, values)) => values.push(value),
            None => kept.push((canonical(&lower), vec![value])),
        }
    }
    if !kept.iter().any(|(name, _)| name == REQUEST_ID) {
        kept.push((REQUEST_ID.to_owned(), vec![exchange_id.to_owned()]));
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forwarded(headers: &[(&str, &str)]) -> Vec<(String, Vec<String>)> {
        command_headers(headers.iter().map(|(name, value)| (*name, value.as_bytes())), "own")
    }

    #[test]
    fn values_stay_apart_under_one_canonical_name() {
        let kept = forwarded(&[
            ("mcp-session-ID", "s"),
            ("X-Custom", "a, b"),
            ("x-custom", "c"),
            ("X-Empty", ""),
            ("Last-Event-ID", "7"),
            ("X-Request-Id", "theirs"),
        ]);
        let expected = [
            ("Mcp-Session-Id", vec!["s"]),
            ("X-Custom", vec!["a, b", "c"]),
            ("Last-Event-Id", vec!["7"]),
            ("X-Request-Id", vec!["theirs"]),
        ];
        let kept: Vec<_> = kept
            .iter()
            .map(|(name, values)| (name.as_str(), values.iter().map(String::as_str).collect()))
            .collect();
        assert_eq!(kept, expected);
    }

    #[test]
    fn what_belongs_to_a_hop_or_to_the_service_ends_here() {
        let mut headers: Vec<(&str, &str)> =
            NEVER_FORWARDED.iter().chain(&DROPPED).map(|name| (*name, "x")).collect();
        headers.extend([
            ("Connection", "X-Hop , close"),
            ("connection", "x-other"),
            ("X-HOP", "1"),
            ("X-Other", "1"),
        ]);
        assert_eq!(forwarded(&headers), [("X-Request-Id".to_owned(), vec!["own".to_owned()])]);
    }
}
