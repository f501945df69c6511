//! The `initialize` exchanges that the binding makes on its own, and how their answers read.

use serde_json::value::RawValue;

use crate::mcp::bridge::Editor;
use crate::mcp::bridge::own;
use crate::mcp::era::LEGACY_VERSIONS;
use crate::mcp::peek;

/// Written after a successful handshake when no connector did.
pub(super) const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

/// The attempts of one handshake of our own, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// With the parameters that an earlier child accepted.
    Replay,
    /// With parameters of our own.
    Synthetic,
    /// With what a message of the other era says of its connector.
    Bridge,
    /// With another version than the one that was refused.
    OtherVersion,
}

/// What to try when `error` refused `stage`; `None` when there is nothing left.
pub(super) fn next_attempt(stage: Stage, params: &str, error: &RawValue) -> Option<(Stage, String)> {
    match stage {
        Stage::Replay => Some((Stage::Synthetic, synthetic_params(LEGACY_VERSIONS[0]))),
        Stage::Synthetic | Stage::Bridge => {
            let version = own::other_legacy_version(error)?;
            let mut params = Editor::of(params)?;
            params.set("protocolVersion", format!("\"{version}\""));
            Some((Stage::OtherVersion, params.finish()))
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

/// `protocolVersion` of an `initialize` result, for logs and status.
pub(super) fn protocol_version(result: &RawValue) -> Option<String> {
    peek::member(result, "protocolVersion").and_then(peek::string).map(own::clipped)
}

/// A member of `serverInfo` of an `initialize` result, for logs and status.
pub(super) fn server_info(result: &RawValue, member: &str) -> Option<String> {
    peek::member(result, "serverInfo")
        .and_then(|info| peek::member(info, member))
        .and_then(peek::string)
        .map(own::clipped)
}

/// The same of a `server/discover` result.
pub(super) fn discovered_info(result: &RawValue, member: &str) -> Option<String> {
    peek::member(result, "_meta")
        .and_then(|meta| peek::member(meta, own::meta::SERVER_INFO))
        .and_then(|info| peek::member(info, member))
        .and_then(peek::string)
        .map(own::clipped)
}

fn synthetic_params(version: &str) -> String {
    format!(
        r#"{{"protocolVersion":"{version}","capabilities":{{}},"clientInfo":{{"name":"tunnel-client","version":"{}"}}}}"#,
        crate::VERSION
    )
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
        assert!(matches!(next_attempt(Stage::Replay, "{}", &refused), Some((Stage::Synthetic, _))));
        assert_eq!(next_attempt(Stage::Synthetic, r#"{"protocolVersion":"x","a":1.0}"#, &refused), None);
        let (stage, params) = next_attempt(
            Stage::Synthetic,
            r#"{"protocolVersion":"x","a":1.0}"#,
            &error(r#"{"code":-32602,"message":""}"#),
        )
        .unwrap();
        assert_eq!(stage, Stage::OtherVersion);
        assert!(params.contains("2024-11-05"));
        let listed = error(
            r#"{"code":-32022,"message":"","data":{"supported":["2024-11-05","2025-03-26","2099-01-01"]}}"#,
        );
        assert!(
            next_attempt(Stage::Synthetic, r#"{"protocolVersion":"x","a":1.0}"#, &listed)
                .unwrap()
                .1
                .contains("2025-03-26")
        );
        let modern = error(r#"{"code":-32602,"message":"","data":{"supported":["2026-07-28"]}}"#);
        assert_eq!(next_attempt(Stage::Synthetic, r#"{"protocolVersion":"x","a":1.0}"#, &modern), None);
        assert_eq!(next_attempt(Stage::OtherVersion, "{}", &listed), None);
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
