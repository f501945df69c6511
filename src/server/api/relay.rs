//! The client's answer on its way to the connector: status and headers.

use crate::net::{is_name, is_value};

/// Header fields of an answer that end here.
const DROPPED: [&str; 12] = [
    "connection",
    "content-length",
    "date",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "trailer",
    "transfer-encoding",
    "upgrade",
    // State of the private server's own web site, and codings of a body that is not its own any more.
    "set-cookie",
    "content-encoding",
    // Every response carries ours.
    "x-request-id",
];

/// The status for the connector: recognised final ones as they are, the rest as what it must mean.
pub(super) fn status(resp_code: i64) -> u16 {
    match u16::try_from(resp_code).unwrap_or(0) {
        known @ (200..=208
        | 226
        | 300..=305
        | 307
        | 308
        | 400..=418
        | 421..=426
        | 428
        | 429
        | 431
        | 451
        | 500..=508
        | 510
        | 511) => known,
        200..=299 => 200,
        _ => 502,
    }
}

/// The header fields for the connector.
pub(super) fn headers(resp_headers: &[(String, String)]) -> Vec<(&str, &str)> {
    let nominated: Vec<&str> = resp_headers
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case("connection"))
        .flat_map(|(_, value)| value.split(','))
        .map(str::trim)
        .collect();
    let kept = |name: &str| {
        !DROPPED.iter().chain(&nominated).any(|dropped| dropped.eq_ignore_ascii_case(name)) && is_name(name)
    };
    resp_headers
        .iter()
        .filter(|(name, value)| kept(name) && is_value(value))
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_mapped_by_class() {
        for (code, expected) in [
            (i64::MIN, 502),
            (-1, 502),
            (0, 502),
            (99, 502),
            (100, 502),
            (199, 502),
            (200, 200),
            (202, 202),
            (204, 204),
            (226, 226),
            (299, 200),
            (306, 502),
            (308, 308),
            (399, 502),
            (401, 401),
            (418, 418),
            (419, 502),
            (499, 502),
            (503, 503),
            (509, 502),
            (599, 502),
            (600, 502),
            (65_736, 502),
            (i64::MAX, 502),
        ] {
            assert_eq!(status(code), expected, "{code}");
        }
    }

    #[test]
    fn what_a_connection_entry_names_ends_here_in_any_case() {
        let given: Vec<(String, String)> = [
            ("Connection", "Mcp-Session-Id, x-b"),
            ("mcp-session-id", "s"),
            ("X-B", "1"),
            ("X-Preserved", "1"),
            ("x-preserved", "2"),
            ("Set-Cookie", "a=b"),
            ("Transfer-Encoding", "chunked"),
            ("Content-Length", "7"),
            ("Bad Name", "1"),
            ("X-Split", "a\r\nb: c"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        assert_eq!(headers(&given), [("X-Preserved", "1"), ("x-preserved", "2")]);
    }
}
