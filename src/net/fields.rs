//! Header fields (RFC 9110 §5): what is one, how it is spelled, and which go no further.

/// Whether `name` is a token (RFC 9110 §5.6.2).
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// Whether `value` holds no control character but tab (RFC 9110 §5.5).
pub(crate) fn is_value(value: &str) -> bool {
    value.bytes().all(|b| b == b'\t' || (b >= b' ' && b != 0x7f))
}

/// Fields that go no further, whoever sends them, in lower case: framing, what belongs to one hop (RFC 9110
/// §7.6.1), state of a browser, where a request came from, and what a service believes its own front only.
pub(crate) const NEVER_FORWARDED: [&str; 35] = [
    "accept-encoding",
    "cf-connecting-ip",
    "connection",
    "content-length",
    "cookie",
    "forwarded",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "true-client-ip",
    "upgrade",
    "user-agent",
    "via",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-custom-cf-witness-actor",
    "x-custom-cf-witness-authorization",
    "x-envoy-external-address",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-openai-actor-authorization",
    "x-openai-authorization",
    "x-openai-authorization-error",
    "x-openai-internal-caller",
    "x-openai-skip-auth",
    "x-original-forwarded-for",
    "x-real-ip",
    "x-tunnel-traffic-source",
];

/// A name as people write it, whatever the case of its letters: `mcp-session-id` as `Mcp-Session-Id`.
pub(crate) fn canonical(name: &str) -> String {
    let mut start = true;
    let spell = |c: char| {
        let spelled = if start { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
        start = c == '-';
        spelled
    };
    name.chars().map(spell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_of_a_name_begins_with_a_capital() {
        for (name, canonically) in [
            ("mcp-session-id", "Mcp-Session-Id"),
            ("X-REQUEST-ID", "X-Request-Id"),
            ("etag", "Etag"),
            ("x_a.b", "X_a.b"),
            ("x--a", "X--A"),
            ("", ""),
        ] {
            assert_eq!(canonical(name), canonically);
        }
    }

    #[test]
    fn names_are_compared_in_lower_case() {
        assert!(NEVER_FORWARDED.iter().all(|name| *name == name.to_ascii_lowercase()));
    }
}
