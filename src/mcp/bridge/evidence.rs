//! What an answer proves about the era of its server.

use serde_json::value::RawValue;

use crate::jsonrpc::Envelope;
use crate::mcp::era::is_modern_version;
use crate::mcp::peek;

use super::own::{
    self, HEADER_MISMATCH, INVALID_PARAMS, MISSING_CAPABILITY, UNSUPPORTED_VERSION, names_modern,
};

/// What the answer to `server/discover` proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::mcp) enum Discovery {
    /// The server speaks a revision without handshakes.
    Modern,
    /// It says itself that it speaks those with handshakes only.
    LegacyOnly,
    /// It does not know the method, or not as it should.
    NotModern,
}

/// Judges an answer to `server/discover`.
pub(in crate::mcp) fn of_discovery(envelope: &Envelope<'_>) -> Discovery {
    if let Some(error) = envelope.error {
        return if proves_modern(error) { Discovery::Modern } else { Discovery::NotModern };
    }
    let versions = envelope.result.and_then(|result| peek::member(result, "supportedVersions"));
    let versions = versions.and_then(|list| serde_json::from_str::<Vec<String>>(list.get()).ok());
    match versions {
        Some(list) if names_modern(&list) => Discovery::Modern,
        Some(list) if !list.is_empty() => Discovery::LegacyOnly,
        _ => Discovery::NotModern,
    }
}

/// Whether an error can only come from a server without handshakes.
pub(in crate::mcp) fn proves_modern(error: &RawValue) -> bool {
    match own::error_code(error) {
        Some(HEADER_MISMATCH | MISSING_CAPABILITY) => true,
        Some(UNSUPPORTED_VERSION) => own::supported(error).is_none_or(|list| names_modern(&list)),
        _ => false,
    }
}

/// Whether the answer to a request that carries the modern marks proves that the server understood them.
pub(in crate::mcp) fn shows_modern(envelope: &Envelope<'_>) -> bool {
    if let Some(error) = envelope.error {
        return proves_modern(error);
    }
    let Some(result) = envelope.result else { return false };
    let [kind, versions] = peek::members(result.get(), ["resultType", "supportedVersions"]);
    match versions.and_then(|list| serde_json::from_str::<Vec<String>>(list.get()).ok()) {
        Some(versions) => versions.iter().any(|version| is_modern_version(version)),
        None => kind.is_some_and(|kind| peek::string(kind).is_some()),
    }
}

/// Whether `initialize` was accepted.
pub(in crate::mcp) fn is_initialized(envelope: &Envelope<'_>) -> bool {
    let version = envelope.result.and_then(|result| peek::member(result, "protocolVersion"));
    envelope.error.is_none() && version.and_then(peek::string).is_some()
}

/// Whether an error to `initialize` says that the server knows no handshake.
pub(in crate::mcp) fn refuses_handshake(code: i64) -> bool {
    matches!(
        code,
        UNSUPPORTED_VERSION | HEADER_MISMATCH | MISSING_CAPABILITY | -32600 | -32601 | INVALID_PARAMS
    )
}

/// Whether a message of the modern era was refused by a server that speaks only the other: an
/// unsupported version with a list of older ones.
pub(in crate::mcp) fn denies_modern(error: &RawValue) -> bool {
    own::error_code(error) == Some(UNSUPPORTED_VERSION)
        && own::supported(error).is_some_and(|list| !list.is_empty() && !names_modern(&list))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(body: &str) -> Discovery {
        let json = format!(r#"{{"jsonrpc":"2.0","id":1,{body}}}"#);
        of_discovery(&Envelope::parse(json.as_bytes()).unwrap())
    }

    #[test]
    fn no_single_code_decides_about_a_discovery() {
        for (body, expected) in [
            (r#""result":{"supportedVersions":["2026-07-28"]}"#, Discovery::Modern),
            (r#""result":{"supportedVersions":["2025-11-25","2027-01-01"]}"#, Discovery::Modern),
            (r#""result":{"supportedVersions":["2025-11-25"]}"#, Discovery::LegacyOnly),
            (r#""result":{"supportedVersions":[]}"#, Discovery::NotModern),
            (r#""result":{}"#, Discovery::NotModern),
            (r#""result":null"#, Discovery::NotModern),
            (r#""error":{"code":-32022,"message":""}"#, Discovery::Modern),
            (
                r#""error":{"code":-32022,"message":"","data":{"supported":["2025-11-25"]}}"#,
                Discovery::NotModern,
            ),
            (r#""error":{"code":-32020,"message":""}"#, Discovery::Modern),
            (r#""error":{"code":-32021,"message":""}"#, Discovery::Modern),
            (r#""error":{"code":-32601,"message":""}"#, Discovery::NotModern),
            (r#""error":{"code":-32602,"message":""}"#, Discovery::NotModern),
            (r#""error":{"code":-32600,"message":""}"#, Discovery::NotModern),
            (r#""error":{"code":-32000,"message":""}"#, Discovery::NotModern),
        ] {
            assert_eq!(judged(body), expected, "{body}");
        }
    }
}
