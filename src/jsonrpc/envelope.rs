//! The members of a message that routing needs.

use std::borrow::Cow;
use std::fmt;

use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::{Id, for_each_member};

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Has a method and an id: wants a response.
    Call,
    /// Has a method and no id (or a null one).
    Notification,
    /// Has an id and no method: the response to a call.
    Response,
}

/// A borrowed view on one message. Unknown members are not looked at; of duplicate members the last
/// one counts.
#[derive(Clone, Debug)]
pub struct Envelope<'a> {
    /// What the message is.
    pub kind: Kind,
    /// The id; `None` for a notification.
    pub id: Option<Id>,
    /// The id's JSON text within the message (see [`super::splice`]).
    pub raw_id: Option<&'a RawValue>,
    /// The method; empty for a response.
    pub method: Cow<'a, str>,
    /// The parameters, uninterpreted.
    pub params: Option<&'a RawValue>,
    /// The result of a response, uninterpreted. A null result is `Some`.
    pub result: Option<&'a RawValue>,
    /// The error of a response, uninterpreted.
    pub error: Option<&'a RawValue>,
}

/// The bytes are no JSON-RPC 2.0 message; the text says why, without quoting the payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// Not JSON, or not UTF-8.
    NotJson,
    /// JSON, but no object (a batch, for instance).
    NotAnObject,
    /// `jsonrpc` is missing or not exactly `"2.0"`.
    Version,
    /// `id` is a boolean, an object or an array.
    IdType,
    /// `method` is not a string.
    MethodType,
    /// Neither a method nor a usable id.
    NeitherMethodNorId,
}

impl<'a> Envelope<'a> {
    /// Views `bytes`, which must be exactly one JSON value with optional white space around it.
    pub fn parse(bytes: &'a [u8]) -> Result<Envelope<'a>, Invalid> {
        let text = std::str::from_utf8(bytes).map_err(|_| Invalid::NotJson)?;
        if !text.trim_start_matches([' ', '\t', '\r', '\n']).starts_with('{') {
            let valid = serde_json::from_str::<IgnoredAny>(text).is_ok();
            return Err(if valid { Invalid::NotAnObject } else { Invalid::NotJson });
        }
        let members = Members::of(text).map_err(|_| Invalid::NotJson)?;
        if members.version.is_none_or(|version| version.get() != r#""2.0""#) {
            return Err(Invalid::Version);
        }
        let method: Cow<'a, str> = match members.method {
            None => Cow::Borrowed(""),
            Some(raw) if raw.get() == "null" => Cow::Borrowed(""),
            Some(raw) if raw.get().starts_with('"') => unquote(raw.get()).ok_or(Invalid::NotJson)?,
            Some(_) => return Err(Invalid::MethodType),
        };
        let raw_id = members.id.filter(|id| id.get() != "null");
        let id = match raw_id {
            None => None,
            Some(raw) => Some(Id::from_raw(raw).ok_or(Invalid::IdType)?),
        };
        let kind = match (method.is_empty(), &id) {
            (false, Some(_)) => Kind::Call,
            (false, None) => Kind::Notification,
            (true, Some(_)) => Kind::Response,
            (true, None) => return Err(Invalid::NeitherMethodNorId),
        };
        Ok(Envelope {
            kind,
            id,
            raw_id,
            method,
            params: members.params,
            result: members.result,
            error: members.error,
        })
    }
}

/// The content of a JSON string: borrowed when it holds no escapes.
pub(super) fn unquote(json: &str) -> Option<Cow<'_, str>> {
    let inner = json.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        serde_json::from_str(json).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inner))
    }
}

#[derive(Default)]
struct Members<'a> {
    version: Option<&'a RawValue>,
    id: Option<&'a RawValue>,
    method: Option<&'a RawValue>,
    params: Option<&'a RawValue>,
    result: Option<&'a RawValue>,
    error: Option<&'a RawValue>,
}

impl<'a> Members<'a> {
    fn of(json: &'a str) -> serde_json::Result<Members<'a>> {
        let mut members = Members::default();
        for_each_member(json, &mut |name, value| {
            let slot = match name {
                "jsonrpc" => &mut members.version,
                "id" => &mut members.id,
                "method" => &mut members.method,
                "params" => &mut members.params,
                "result" => &mut members.result,
                "error" => &mut members.error,
                _ => return,
            };
            *slot = Some(value);
        })?;
        Ok(members)
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Invalid::NotJson => "not valid JSON",
            Invalid::NotAnObject => "not a single JSON object",
            Invalid::Version => "member \"jsonrpc\" is not \"2.0\"",
            Invalid::IdType => "member \"id\" is neither a string nor a number",
            Invalid::MethodType => "member \"method\" is not a string",
            Invalid::NeitherMethodNorId => "neither a method nor an id",
        })
    }
}

impl std::error::Error for Invalid {}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(json: &str) -> Result<Kind, Invalid> {
        Envelope::parse(json.as_bytes()).map(|envelope| envelope.kind)
    }

    #[test]
    fn messages_are_classified_by_method_and_id() {
        for (json, expected) in [
            (r#"{"jsonrpc":"2.0","id":0,"method":"a"}"#, Kind::Call),
            (r#"{"jsonrpc":"2.0","id":"","method":"a"}"#, Kind::Call),
            (r#"{"jsonrpc":"2.0","method":"a"}"#, Kind::Notification),
            (r#" {"jsonrpc":"2.0","id":null,"method":"a"} "#, Kind::Notification),
            (r#"{"jsonrpc":"2.0","id":1,"result":null}"#, Kind::Response),
            (r#"{"jsonrpc":"2.0","id":1,"method":""}"#, Kind::Response),
            (r#"{"jsonrpc":"1.0","jsonrpc":"2.0","id":1,"method":"a"}"#, Kind::Call),
        ] {
            assert_eq!(kind(json), Ok(expected), "{json}");
        }
    }

    #[test]
    fn what_is_no_message_is_refused_with_its_reason() {
        for (json, expected) in [
            ("", Invalid::NotJson),
            ("x", Invalid::NotJson),
            ("[]", Invalid::NotAnObject),
            ("3", Invalid::NotAnObject),
            ("{} {}", Invalid::NotJson),
            (r#"{"id":1,"method":"a"}"#, Invalid::Version),
            (r#"{"jsonrpc":2.0,"id":1,"method":"a"}"#, Invalid::Version),
            (r#"{"jsonrpc":"2.0","id":true,"method":"a"}"#, Invalid::IdType),
            (r#"{"jsonrpc":"2.0","id":{},"method":"a"}"#, Invalid::IdType),
            (r#"{"jsonrpc":"2.0","id":1,"method":5}"#, Invalid::MethodType),
            (r#"{"jsonrpc":"2.0"}"#, Invalid::NeitherMethodNorId),
            (r#"{"jsonrpc":"2.0","id":1,"method":"a""#, Invalid::NotJson),
        ] {
            assert_eq!(kind(json), Err(expected), "{json}");
        }
        assert_eq!(Envelope::parse(b"{\"a\":\"\xff\"}").unwrap_err(), Invalid::NotJson);
    }
}
