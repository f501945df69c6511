//! Header fields on their way through an intermediary.

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

/// A name in lower case as people write it: `mcp-session-id` as `Mcp-Session-Id`.
pub(crate) fn canonical(lower: &str) -> String {
    let mut start = true;
    let spell = |c: char| {
        let spelled = if start { c.to_ascii_uppercase() } else { c };
        start = c == '-';
        spelled
    };
    lower.chars().map(spell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_of_a_name_begins_with_a_capital() {
        for (lower, canonically) in
            [("mcp-session-id", "Mcp-Session-Id"), ("etag", "Etag"), ("x--a", "X--A"), ("", "")]
        {
            assert_eq!(canonical(lower), canonically);
        }
    }

    #[test]
    fn names_are_compared_in_lower_case() {
        assert!(NEVER_FORWARDED.iter().all(|name| *name == name.to_ascii_lowercase()));
    }
}
