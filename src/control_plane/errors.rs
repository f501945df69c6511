//! What an error reply of the control plane says, and how it is shown.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::event::Event;
use super::mitigation::mitigation;
use crate::net::status_line;
use crate::redact::known_values;

/// Most bytes of an error body that are parsed.
pub(super) const ERROR_BODY_BYTES: usize = 64 * 1024;
/// Most bytes of an unparsed error body that are shown.
const RAW_BYTES: usize = 1024;

/// What the body of an error reply says. Each part may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorDetail {
    /// Machine-readable code.
    pub code: String,
    /// Class of the error.
    pub kind: String,
    /// Text for humans.
    pub message: String,
    /// The start of the body, when it is not the JSON we expect.
    pub raw: String,
}

/// A status that means failure, and what came with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusError {
    /// HTTP status.
    pub status: u16,
    /// What the body said.
    pub detail: ErrorDetail,
}

impl ErrorDetail {
    /// Reads an error body of any shape.
    pub fn parse(body: &[u8]) -> ErrorDetail {
        let text = String::from_utf8_lossy(body);
        let text = text.trim();
        if text.is_empty() {
            return ErrorDetail::default();
        }
        parse_object(text).unwrap_or_else(|| ErrorDetail { raw: cut(text), ..ErrorDetail::default() })
    }

    /// The body could not be read.
    pub(super) fn unreadable(cause: &dyn fmt::Display) -> ErrorDetail {
        ErrorDetail { message: format!("read error body: {cause}"), ..ErrorDetail::default() }
    }

    /// Takes out `secrets`, which a peer may have echoed: they must not get into logs this way.
    pub(super) fn without(mut self, secrets: &[&str]) -> ErrorDetail {
        for part in [&mut self.code, &mut self.kind, &mut self.message, &mut self.raw] {
            if let Cow::Owned(hidden) = known_values(part, secrets) {
                *part = hidden;
            }
        }
        self
    }

    /// What the operator can do, for known codes.
    pub fn mitigation(&self) -> Option<&'static str> {
        mitigation(&self.code)
    }

    /// Code, message (or else `fallback`) and mitigation on one line; empty when there is none of them.
    pub(super) fn describe(&self, fallback: &str) -> String {
        let message = if self.message.is_empty() { fallback } else { &self.message };
        let mut parts: Vec<&str> =
            [self.code.as_str(), message].into_iter().filter(|part| !part.is_empty()).collect();
        let hint = self.mitigation().map(|hint| format!("mitigation: {hint}"));
        let known = parts.join(": ");
        parts.clear();
        parts.extend(
            [known.as_str(), hint.as_deref().unwrap_or_default()].into_iter().filter(|part| !part.is_empty()),
        );
        parts.join(" ")
    }
}

impl StatusError {
    /// Status and reason phrase, such as `401 Unauthorized`.
    pub fn status_line(&self) -> String {
        status_line(self.status)
    }

    /// The message to show beside the code.
    pub fn message(&self) -> &str {
        if self.detail.message.is_empty() { &self.detail.raw } else { &self.detail.message }
    }
}

/// A status error, if there was one, as events tell it.
pub(super) struct Told<'a> {
    error: Option<&'a StatusError>,
    line: Option<String>,
}

impl<'a> Told<'a> {
    pub(super) fn of(error: Option<&'a StatusError>) -> Told<'a> {
        Told { error, line: error.map(StatusError::status_line) }
    }

    /// `event` with its fields.
    pub(super) fn fields_of<'e>(&'e self, event: Event<'e>) -> Event<'e> {
        let filled = |text: &&str| !text.is_empty();
        let detail = self.error.map(|error| &error.detail);
        event
            .with_some("status_code", self.error.map(|error| error.status))
            .with_some("status", self.line.as_deref())
            .with_some("error_code", detail.map(|detail| detail.code.as_str()).filter(filled))
            .with_some("error_message", self.error.map(StatusError::message).filter(filled))
            .with_some("mitigation", detail.and_then(ErrorDetail::mitigation))
    }
}

impl fmt::Display for StatusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unexpected status {}", self.status)?;
        let detail = self.detail.describe(&self.detail.raw);
        if detail.is_empty() { Ok(()) } else { write!(f, ": {detail}") }
    }
}

impl std::error::Error for StatusError {}

/// `None` unless `text` is an object whose known members have their expected types.
fn parse_object(text: &str) -> Option<ErrorDetail> {
    let Ok(Value::Object(top)) = serde_json::from_str::<Value>(text) else {
        return None;
    };
    let text_of = |object: &serde_json::Map<String, Value>, name: &str| match object.get(name) {
        None | Some(Value::Null) => Some(String::new()),
        Some(Value::String(text)) => Some(text.clone()),
        Some(_) => None,
    };
    let known = |object: &serde_json::Map<String, Value>| {
        Some(ErrorDetail {
            code: text_of(object, "code")?,
            kind: text_of(object, "type")?,
            message: text_of(object, "message")?,
            raw: String::new(),
        })
    };
    // Top-level members of the wrong type spoil the body even when `error` is what counts.
    let mut outer = known(&top)?;
    match top.get("error") {
        None | Some(Value::Null) => {}
        Some(Value::Object(inner)) => return known(inner),
        Some(_) => return None,
    }
    if outer.message.is_empty() {
        outer.message = match top.get("detail") {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(_) => detail_as_written(text)?,
        };
    }
    Some(outer)
}

/// The `detail` member of the object `text`, without insignificant white space.
fn detail_as_written(text: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Body<'a> {
        #[serde(borrow)]
        detail: &'a RawValue,
    }
    let body: Body<'_> = serde_json::from_str(text).ok()?;
    let (mut quoted, mut escaped) = (false, false);
    let significant = |c: &char| {
        let keep = quoted || !c.is_ascii_whitespace();
        quoted ^= *c == '"' && !escaped;
        escaped = *c == '\\' && !escaped;
        keep
    };
    Some(body.detail.get().chars().filter(significant).collect())
}

/// The first [`RAW_BYTES`], on a character boundary.
fn cut(text: &str) -> String {
    if text.len() <= RAW_BYTES {
        return text.to_owned();
    }
    let end = (0..=RAW_BYTES).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}...", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(status: u16, body: &str) -> String {
        StatusError { status, detail: ErrorDetail::parse(body.as_bytes()) }.to_string()
    }

    #[test]
    fn bodies_of_every_shape_are_shown() {
        for (body, expected) in [
            ("", ""),
            ("  \n", ""),
            (r#"{"detail":"x"}"#, ": x"),
            (r#"{"detail":{"b": 1, "a" : "x \" y"}}"#, r#": {"b":1,"a":"x \" y"}"#),
            (r#"{"message":"m","code":"c"}"#, ": c: m"),
            (r#"{"message":null,"code":"c","detail":"d"}"#, ": c: d"),
            (
                r#"{"error":{"code":"certificate_required","message":"missing cert"}}"#,
                ": certificate_required: missing cert",
            ),
            (r#"{"error":{},"message":"ignored","detail":"ignored"}"#, ""),
            (r#"{"error":null,"message":"m"}"#, ": m"),
            (r#"{"error":"text"}"#, r#": {"error":"text"}"#),
            (r#"{"code":5,"message":"m"}"#, r#": {"code":5,"message":"m"}"#),
            ("  gone fishing ", ": gone fishing"),
            (r#"["a"]"#, r#": ["a"]"#),
            (r#"{"unknown":1}"#, ""),
        ] {
            assert_eq!(shown(502, body), format!("unexpected status 502{expected}"), "{body}");
        }
    }

    #[test]
    fn known_codes_come_with_a_mitigation() {
        let text = shown(
            401,
            r#"{"error":{"message":"m","type":"t","code":"tunnel_active_organization_required"}}"#,
        );
        assert!(
            text.starts_with("unexpected status 401: tunnel_active_organization_required: m mitigation: "),
            "{text}"
        );
        assert!(text.contains("CONTROL_PLANE_ORGANIZATION_ID"), "{text}");
        assert_eq!(mitigation("certificate_required"), None);
    }

    #[test]
    fn a_long_raw_body_is_cut_on_a_character_boundary() {
        let detail = ErrorDetail::parse(&b"x".repeat(70_000));
        assert_eq!(detail.raw, format!("{}...", "x".repeat(1024)));
        let detail = ErrorDetail::parse(format!("x{}", "é".repeat(1000)).as_bytes());
        assert_eq!(detail.raw, format!("x{}...", "é".repeat(511)));
    }
}
