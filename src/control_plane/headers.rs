//! Which headers of an MCP reply travel back to the connector.

use crate::net::HeaderList;
use crate::order;

/// The allow-list, in the spelling of the wire.
const FORWARDED: [&str; 6] = [
    "Access-Control-Expose-Headers",
    "Content-Type",
    "Last-Event-Id",
    "Mcp-Protocol-Version",
    "Mcp-Session-Id",
    "Www-Authenticate",
];

/// Keeps what a response may carry: allow-listed names that no `Connection` header nominates as
/// hop-by-hop (RFC 9110 §7.6.1), without empty values. Values of one name stay apart; those of
/// different spellings follow each other in byte order of the spellings.
pub fn filter_response_headers(headers: &HeaderList) -> HeaderList {
    let nominated: Vec<&str> = headers
        .get_all("Connection")
        .flat_map(|value| value.split(','))
        .map(|name| name.trim_matches([' ', '\t']))
        .collect();
    let mut kept = HeaderList::new();
    let mut values: Vec<(&str, &str)> = Vec::new();
    for name in FORWARDED {
        if nominated.iter().any(|hop| hop.eq_ignore_ascii_case(name)) {
            continue;
        }
        values.extend(headers.iter().filter(|(spelling, _)| spelling.eq_ignore_ascii_case(name)));
        // Stable: values of one spelling stay in their order.
        order::sort_by_key(&mut values, |(spelling, _)| *spelling);
        for (_, value) in values.drain(..).filter(|(_, value)| !value.is_empty()) {
            kept.add(name, value);
        }
    }
    kept
}

/// Folds a header name to its canonical spelling (`mcp-session-id` to `Mcp-Session-Id`); a name
/// that is no token (RFC 9110 §5.6.2) stays as it is.
pub(super) fn fold_name(name: &mut str) {
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if !name.bytes().all(is_token) {
        return;
    }
    name.make_ascii_lowercase();
    let mut start = 0;
    while let Some(first) = name.get_mut(start..start + 1) {
        first.make_ascii_uppercase();
        let Some(dash) = name[start..].find('-') else { return };
        start += dash + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filtered(headers: &[(&str, &str)]) -> Vec<(String, String)> {
        let kept = filter_response_headers(&headers.iter().copied().collect());
        kept.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    fn pairs(headers: &[(&str, &str)]) -> Vec<(String, String)> {
        headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn only_allow_listed_headers_that_are_not_hop_by_hop_are_kept() {
        for (input, expected) in [
            (&[][..], &[][..]),
            (
                &[
                    ("Connection", "Mcp-Session-Id"),
                    ("Mcp-Session-Id", "x"),
                    ("Set-Cookie", "a=b"),
                    ("www-authenticate", ""),
                    ("www-authenticate", "Bearer"),
                ],
                &[("Www-Authenticate", "Bearer")],
            ),
            (
                &[
                    ("content-type", "application/json"),
                    ("MCP-SESSION-ID", "s"),
                    ("last-event-id", "4"),
                    ("mcp-protocol-version", "2025-06-18"),
                    ("access-control-expose-headers", "Mcp-Session-Id"),
                ],
                &[
                    ("Access-Control-Expose-Headers", "Mcp-Session-Id"),
                    ("Content-Type", "application/json"),
                    ("Last-Event-Id", "4"),
                    ("Mcp-Protocol-Version", "2025-06-18"),
                    ("Mcp-Session-Id", "s"),
                ],
            ),
            (
                &[("connection", "close , \tMCP-SESSION-ID"), ("Mcp-Session-Id", "s"), ("X-Internal", "1")],
                &[],
            ),
            (&[("Connection", "close"), ("CONNECTION", "content-type"), ("Content-Type", "a")], &[]),
            (
                &[
                    ("www-authenticate", "c"),
                    ("WWW-Authenticate", "a"),
                    ("Www-Authenticate", "b"),
                    ("WWW-Authenticate", "a2"),
                ],
                &[
                    ("Www-Authenticate", "a"),
                    ("Www-Authenticate", "a2"),
                    ("Www-Authenticate", "b"),
                    ("Www-Authenticate", "c"),
                ],
            ),
            (&[("Content-Type", "")], &[]),
        ] {
            assert_eq!(filtered(input), pairs(expected), "{input:?}");
        }
    }

    #[test]
    fn names_fold_to_their_canonical_spelling() {
        for (name, expected) in [
            ("mcp-session-id", "Mcp-Session-Id"),
            ("X-REQUEST-ID", "X-Request-Id"),
            ("etag", "Etag"),
            ("-a--b-", "-A--B-"),
            ("", ""),
            ("bad name", "bad name"),
            ("é", "é"),
        ] {
            let mut folded = name.to_owned();
            fold_name(&mut folded);
            assert_eq!(folded, expected);
        }
    }
}
