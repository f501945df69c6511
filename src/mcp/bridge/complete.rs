//! What a message to a server without handshakes must carry, added where the connector left it out.
//!
//! Invariant: what is there is never changed, even if it is wrong.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::jsonrpc::{Envelope, Kind, Message};
use crate::mcp::era::is_modern_version;
use crate::mcp::peek;
use crate::net::{HeaderList, base64};

use super::edit::Editor;
use super::own::{MODERN_VERSION, meta};

/// The revision that a request names.
pub(in crate::mcp) const VERSION_HEADER: &str = "Mcp-Protocol-Version";
/// Its method.
pub(in crate::mcp) const METHOD_HEADER: &str = "Mcp-Method";
/// What it is about.
pub(in crate::mcp) const NAME_HEADER: &str = "Mcp-Name";

/// The message with what is missing in its body; `None` when nothing is.
pub(in crate::mcp) fn body(message: &Message, headers: &HeaderList) -> Option<String> {
    if message.kind() != Kind::Call {
        return None;
    }
    let envelope = Envelope::parse(message.json().as_bytes()).ok()?;
    let discover = message.method() == "server/discover";
    if !discover && envelope.params.is_none() {
        // A request without any mark is told apart by its header alone.
        headers.get(VERSION_HEADER)?;
    }
    let mut params = Editor::of(envelope.params.map_or("{}", RawValue::get))?;
    let own = params.get("_meta").map_or("{}", RawValue::get);
    let mut inner = Editor::of(own)?;
    if inner.get(meta::VERSION).is_some() && inner.get(meta::CAPABILITIES).is_some() {
        return None;
    }
    let named = headers.get(VERSION_HEADER).map(str::trim).filter(|version| is_modern_version(version));
    let version = named.filter(|version| !version.is_empty()).unwrap_or(MODERN_VERSION);
    inner.add(meta::VERSION, super::edit::quoted(version));
    inner.add(meta::CAPABILITIES, "{}");
    params.set("_meta", inner.finish());
    let mut whole = Editor::of(message.json())?;
    whole.set("params", params.finish());
    Some(whole.finish())
}

/// The headers that `json`, a request, must be sent with; those of `headers` stay.
pub(in crate::mcp) fn headers(json: &str, headers: &HeaderList) -> Option<HeaderList> {
    let has = |name: &str| headers.get(name).is_some();
    let envelope = Envelope::parse(json.as_bytes()).ok()?;
    let named = named_by(&envelope.method);
    if has(VERSION_HEADER) && has(METHOD_HEADER) && (named.is_none() || has(NAME_HEADER)) {
        return None;
    }
    let mut completed = headers.clone();
    let part = |name| envelope.params.and_then(|params| peek::member(params, name));
    if !has(VERSION_HEADER) {
        let version = part("_meta")
            .and_then(|own| peek::member(own, meta::VERSION))
            .and_then(peek::string)
            .unwrap_or(Cow::Borrowed(MODERN_VERSION));
        completed.add(VERSION_HEADER, encoded(&version));
    }
    if !has(METHOD_HEADER) {
        completed.add(METHOD_HEADER, encoded(&envelope.method));
    }
    if !has(NAME_HEADER)
        && let Some(name) = named.and_then(part).and_then(peek::string)
    {
        completed.add(NAME_HEADER, encoded(&name));
    }
    Some(completed)
}

/// The parameter that names what a method is about.
fn named_by(method: &str) -> Option<&'static str> {
    match method {
        "tools/call" | "prompts/get" => Some("name"),
        "resources/read" => Some("uri"),
        "tasks/get" | "tasks/update" | "tasks/cancel" => Some("taskId"),
        _ => None,
    }
}

/// A text as a header's value (MCP 2026-07-28, "Header value encoding").
pub(in crate::mcp) fn encoded(text: &str) -> String {
    const MARK: &str = "=?base64?";
    let plain = !text.is_empty()
        && text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t'))
        && text.trim_matches([' ', '\t']) == text
        && !(text.get(..MARK.len()).is_some_and(|start| start.eq_ignore_ascii_case(MARK))
            && text.ends_with("?="));
    if plain { text.to_owned() } else { format!("{MARK}{}?=", base64(text.as_bytes())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(pairs: &[(&str, &str)]) -> HeaderList {
        pairs.iter().copied().collect()
    }

    #[test]
    fn a_discovery_without_marks_gets_them_and_a_complete_one_stays() {
        let bare = Message::parse(
            r#"{"jsonrpc":"2.0","id":"openai-mcp-discover","method":"server/discover","params":{}}"#,
        )
        .unwrap();
        assert_eq!(
            body(&bare, &list(&[])).unwrap(),
            r#"{"jsonrpc":"2.0","id":"openai-mcp-discover","method":"server/discover","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}"#
        );
        let none = Message::parse(r#"{"jsonrpc":"2.0","id":1,"method":"server/discover"}"#).unwrap();
        assert!(
            body(&none, &list(&[("mcp-protocol-version", "2027-01-01")])).unwrap().contains("2027-01-01")
        );
        let complete = Message::parse(
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"x","io.modelcontextprotocol/clientCapabilities":1}}}"#,
        )
        .unwrap();
        assert_eq!(body(&complete, &list(&[])), None);
    }

    #[test]
    fn headers_repeat_the_body_and_those_that_came_stay() {
        let json = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"écho"}}"#;
        let completed = headers(json, &list(&[("X", "1"), ("mcp-method", "wrong")])).unwrap();
        assert_eq!(completed.get("Mcp-Method"), Some("wrong"));
        assert_eq!(completed.get("Mcp-Name"), Some("=?base64?w6ljaG8=?="));
        assert_eq!(completed.get("Mcp-Protocol-Version"), Some("2026-07-28"));
        let json = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
        assert!(
            headers(json, &list(&[("Mcp-Method", "tools/list"), ("MCP-Protocol-Version", "y")])).is_none()
        );
    }

    #[test]
    fn values_that_headers_cannot_hold_are_wrapped() {
        for (text, value) in [
            ("plain name", "plain name"),
            ("", "=?base64??="),
            (" a", "=?base64?IGE=?="),
            ("a\n", "=?base64?YQo=?="),
            ("=?base64?YQ==?=", "=?base64?PT9iYXNlNjQ/WVE9PT89?="),
        ] {
            assert_eq!(encoded(text), value);
        }
    }
}
