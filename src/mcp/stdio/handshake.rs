//! The `initialize` exchanges that the binding makes on its own, and how their answers read.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::era::LEGACY_VERSIONS;
use super::peek;

/// Written after a successful handshake when no connector did.
pub(super) const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
/// JSON-RPC: invalid params; what servers answer to a version they do not know.
const INVALID_PARAMS: i64 = -32602;
/// Names from a server are cut to this many characters in logs.
const MAX_LOGGED_CHARS: usize = 64;

/// The attempts of one handshake of our own, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// With the parameters that an earlier child accepted.
    Replay,
    /// With parameters of our own.
    Synthetic,
    /// With another version than the one that was refused.
    OtherVersion,
}

/// What to try when `error` refused `stage`; `None` when there is nothing left.
pub(super) fn next_attempt(stage: Stage, error: &RawValue) -> Option<(Stage, String)> {
    match stage {
        Stage::Replay => Some((Stage::Synthetic, synthetic_params(LEGACY_VERSIONS[0]))),
        Stage::Synthetic => {
            let version = offered_version(error)?;
            Some((Stage::OtherVersion, synthetic_params(version)))
        }
        Stage::OtherVersion => None,
    }
}

/// Parameters for a child that no connector has initialised before.
pub(super) fn first_attempt(accepted: Option<&str>) -> (Stage, String) {
    match accepted {
        Some(params) => (Stage::Replay, params.to_owned()),
        None => (Stage::Synthetic, synthetic_params(LEGACY_VERSIONS[0])),
    }
}

/// The request with the given id and parameters, both JSON text.
pub(super) fn request(id: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"initialize","params":{params}}}"#)
}

/// The cancellation of the call with the wire id `id` (JSON text).
pub(super) fn cancellation(id: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id},"reason":"tunnel deadline reached"}}}}"#
    )
}

/// The numeric code of a JSON-RPC error object.
pub(super) fn error_code(error: &RawValue) -> Option<i64> {
    peek::member(error, "code")?.get().parse().ok()
}

/// `protocolVersion` of an `initialize` result, for logs and status.
pub(super) fn protocol_version(result: &RawValue) -> Option<String> {
    peek::member(result, "protocolVersion").and_then(peek::string).map(clipped)
}

/// A member of `serverInfo` of an `initialize` result, for logs and status.
pub(super) fn server_info(result: &RawValue, member: &str) -> Option<String> {
    peek::member(result, "serverInfo")
        .and_then(|info| peek::member(info, member))
        .and_then(peek::string)
        .map(clipped)
}

/// A text from outside, short enough for a log.
pub(super) fn clipped(text: Cow<'_, str>) -> String {
    text.chars().take(MAX_LOGGED_CHARS).collect()
}

fn synthetic_params(version: &str) -> String {
    format!(
        r#"{{"protocolVersion":"{version}","capabilities":{{}},"clientInfo":{{"name":"tunnel-client","version":"{}"}}}}"#,
        crate::VERSION
    )
}

/// The version to try after a refusal: the newest of those the server names, or the oldest of all when
/// it merely disliked the parameters.
fn offered_version(error: &RawValue) -> Option<&'static str> {
    let supported = peek::member(error, "data")
        .and_then(|data| peek::member(data, "supported"))
        .and_then(|list| serde_json::from_str::<Vec<String>>(list.get()).ok());
    match supported {
        Some(list) => {
            LEGACY_VERSIONS.into_iter().find(|version| list.iter().any(|offered| offered == version))
        }
        None if error_code(error) == Some(INVALID_PARAMS) => LEGACY_VERSIONS.last().copied(),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.into()).unwrap()
    }

    #[test]
    fn a_refused_handshake_is_repeated_with_what_the_server_may_like_better() {
        let refused = error(r#"{"code":-32000,"message":"no"}"#);
        assert!(matches!(next_attempt(Stage::Replay, &refused), Some((Stage::Synthetic, _))));
        assert_eq!(next_attempt(Stage::Synthetic, &refused), None);
        let (stage, params) =
            next_attempt(Stage::Synthetic, &error(r#"{"code":-32602,"message":""}"#)).unwrap();
        assert_eq!(stage, Stage::OtherVersion);
        assert!(params.contains("2024-11-05"));
        let listed = error(
            r#"{"code":-32022,"message":"","data":{"supported":["2024-11-05","2025-03-26","2099-01-01"]}}"#,
        );
        assert!(next_attempt(Stage::Synthetic, &listed).unwrap().1.contains("2025-03-26"));
        let modern = error(r#"{"code":-32602,"message":"","data":{"supported":["2026-07-28"]}}"#);
        assert_eq!(next_attempt(Stage::Synthetic, &modern), None);
        assert_eq!(next_attempt(Stage::OtherVersion, &listed), None);
    }

    #[test]
    fn accepted_parameters_are_replayed_byte_for_byte() {
        assert_eq!(first_attempt(Some(r#"{ "a":1.0}"#)), (Stage::Replay, r#"{ "a":1.0}"#.to_owned()));
        let (stage, params) = first_attempt(None);
        assert_eq!(stage, Stage::Synthetic);
        let request = request("\"tc-init-1\"", &params);
        let message = crate::jsonrpc::Message::parse(request).unwrap();
        assert_eq!((message.method(), message.id().unwrap().as_json()), ("initialize", "\"tc-init-1\""));
    }
}
