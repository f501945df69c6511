//! Which era of the protocol a connector's message belongs to.
//!
//! Revisions up to 2025-11-25 open with an `initialize` handshake; from 2026-07-28 on each request
//! carries its version and capabilities in `params._meta` instead.

use serde_json::value::RawValue;

use crate::jsonrpc::{Envelope, Kind, Message};
use crate::net::HeaderList;

use super::peek;

/// Prefix of the members of `_meta` that the modern era defines.
const META_PREFIX: &str = "io.modelcontextprotocol/";
/// Revisions with a handshake, newest first.
pub(crate) const LEGACY_VERSIONS: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];
/// The first revision without a handshake.
const FIRST_MODERN_VERSION: &str = "2026-07-28";

/// A side of the split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::mcp) enum Era {
    /// Wants an initialised server.
    Legacy,
    /// Stands alone.
    Modern,
    /// A notification that says nothing about it.
    Neutral,
}

/// The era of a message. Its parameters are looked at only if they may hold a mark.
pub(in crate::mcp) fn of_message(message: &Message, headers: &HeaderList) -> Era {
    let json = message.json();
    let params = match json.contains(META_PREFIX) {
        true => Envelope::parse(json.as_bytes()).ok().and_then(|view| view.params),
        false => None,
    };
    of(message.method(), message.kind() == Kind::Notification, json, params, headers)
}

/// The same with the parameters at hand; the first rule that matches decides.
pub(in crate::mcp) fn of(
    method: &str,
    is_notification: bool,
    json: &str,
    params: Option<&RawValue>,
    headers: &HeaderList,
) -> Era {
    let [version, capabilities] = marks(json, params);
    let legacy_method = matches!(
        method,
        "initialize"
            | "notifications/initialized"
            | "ping"
            | "logging/setLevel"
            | "resources/subscribe"
            | "resources/unsubscribe"
            | "notifications/roots/list_changed"
            | "tasks/list"
            | "tasks/result"
    );
    if legacy_method && version.is_none() {
        return Era::Legacy;
    }
    if matches!(method, "server/discover" | "subscriptions/listen" | "tasks/update") {
        return Era::Modern;
    }
    if let Some(version) = version.and_then(peek::string) {
        return of_version(&version);
    }
    if capabilities.is_some() {
        return Era::Modern;
    }
    if let Some(version) = headers.get("Mcp-Protocol-Version").map(str::trim).filter(|text| !text.is_empty())
    {
        return of_version(version);
    }
    if is_notification { Era::Neutral } else { Era::Legacy }
}

/// Whether a version belongs to the modern era: unknown dates by their order, other unknown texts yes.
pub(in crate::mcp) fn is_modern_version(version: &str) -> bool {
    let is_date = version.len() == 10
        && version.bytes().enumerate().all(|(index, byte)| match index {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    !is_date || version >= FIRST_MODERN_VERSION
}

fn of_version(version: &str) -> Era {
    if is_modern_version(version) { Era::Modern } else { Era::Legacy }
}

/// `protocolVersion` and `clientCapabilities` of `params._meta`.
fn marks<'a>(json: &str, params: Option<&'a RawValue>) -> [Option<&'a RawValue>; 2] {
    // Most messages carry none, and a search costs far less than parsing the parameters.
    if !json.contains(META_PREFIX) {
        return [None, None];
    }
    let Some(meta) = params.and_then(|params| peek::member(params, "_meta")) else { return [None, None] };
    peek::members(
        meta.get(),
        ["io.modelcontextprotocol/protocolVersion", "io.modelcontextprotocol/clientCapabilities"],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn era(json: &str, header: Option<&str>) -> Era {
        let envelope = Envelope::parse(json.as_bytes()).unwrap();
        let mut headers = HeaderList::new();
        if let Some(version) = header {
            headers.add("mcp-protocol-version", version);
        }
        of(&envelope.method, envelope.id.is_none(), json, envelope.params, &headers)
    }

    #[test]
    fn method_meta_and_header_decide_in_this_order() {
        let modern = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}"#;
        for (json, header, expected) in [
            (r#"{"jsonrpc":"2.0","id":1,"method":"initialize"}"#.to_owned(), Some("2026-07-28"), Era::Legacy),
            (r#"{"jsonrpc":"2.0","id":1,"method":"server/discover"}"#.to_owned(), None, Era::Modern),
            (r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#.to_owned(), None, Era::Legacy),
            (r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#.to_owned(), Some(" 2026-07-28 "), Era::Modern),
            (r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#.to_owned(), Some("2025-06-18"), Era::Legacy),
            (format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{{{modern}}}}}"#), None, Era::Modern),
            (format!(r#"{{"jsonrpc":"2.0","id":1,"method":"ping","params":{{{modern}}}}}"#), None, Era::Modern),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"a","params":{"_meta":{"io.modelcontextprotocol/clientCapabilities":{}}}}"#
                    .to_owned(),
                None,
                Era::Modern,
            ),
            (r#"{"jsonrpc":"2.0","method":"notifications/cancelled"}"#.to_owned(), None, Era::Neutral),
            (r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#.to_owned(), None, Era::Legacy),
        ] {
            assert_eq!(era(&json, header), expected, "{json} {header:?}");
        }
    }

    #[test]
    fn unknown_versions_are_judged_by_their_date() {
        for (version, modern) in [
            ("2025-11-25", false),
            ("2026-07-27", false),
            ("2026-07-28", true),
            ("2027-01-15", true),
            ("draft", true),
        ] {
            assert_eq!(is_modern_version(version), modern, "{version}");
        }
    }
}
