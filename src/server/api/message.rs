//! Checking what a connector sends: one JSON-RPC request or notification.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, IgnoredAny, MapAccess, Visitor};

use crate::jsonrpc::{Envelope, Id, Invalid, Kind};

/// Characters of a method name that are logged.
const METHOD_CHARS: usize = 64;

/// What is kept of a message while it is held.
#[derive(Clone, Debug)]
pub(super) struct Summary {
    /// Its id; `None` for a notification.
    pub(super) id: Option<Id>,
    /// The start of its method, for the log.
    pub(super) method: String,
}

/// Why a body is refused, for humans; never quotes it.
pub(super) type Refused = &'static str;

/// Checks that `text` is a message that can be carried.
pub(super) fn check(text: &str) -> Result<Summary, Refused> {
    let envelope = Envelope::parse(text.as_bytes()).map_err(|invalid| match invalid {
        Invalid::NotJson => "the body is not valid JSON",
        Invalid::NotAnObject => "the body must be a single JSON object; batches are not carried",
        Invalid::Version => "member \"jsonrpc\" must be exactly \"2.0\"",
        Invalid::IdType => "member \"id\" must be a string or an integer",
        Invalid::MethodType => "member \"method\" must be a string",
        Invalid::NeitherMethodNorId => "the message has no method",
    })?;
    match envelope.kind {
        Kind::Response => {
            return Err("the message has no method; responses from a caller to the server are not carried");
        }
        // The envelope reads a null id as none, but a caller that sends one expects a response.
        Kind::Notification if has_id(text) => return Err("member \"id\" must be a string or an integer"),
        Kind::Notification | Kind::Call => {}
    }
    let fraction = |id: &Id| !id.is_string() && id.as_json().contains(['.', 'e', 'E']);
    if envelope.id.as_ref().is_some_and(fraction) {
        return Err("member \"id\" must be a string or an integer");
    }
    let method = envelope.method.chars().filter(|c| !c.is_control()).take(METHOD_CHARS).collect();
    Ok(Summary { id: envelope.id, method })
}

/// Whether the object `text` has a member `id`, whatever its value.
fn has_id(text: &str) -> bool {
    serde_json::from_str::<HasId>(text).is_ok_and(|HasId(has)| has)
}

struct HasId(bool);

impl<'de> Deserialize<'de> for HasId {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<HasId, D::Error> {
        deserializer.deserialize_map(HasIdVisitor)
    }
}

struct HasIdVisitor;

impl<'de> Visitor<'de> for HasIdVisitor {
    type Value = HasId;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<HasId, A::Error> {
        let mut has = false;
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            has |= name == "id";
            map.next_value::<IgnoredAny>()?;
        }
        Ok(HasId(has))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_notifications_are_carried() {
        let call = check(r#"{"jsonrpc":"2.0","id":9007199254740993,"method":"tools/list"}"#).unwrap();
        assert_eq!((call.id.unwrap().as_json(), call.method.as_str()), ("9007199254740993", "tools/list"));
        assert!(check(r#" {"method":"m","id":"","jsonrpc":"2.0"} "#).unwrap().id.is_some());
        assert!(check(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).unwrap().id.is_none());
        let long = format!(r#"{{"jsonrpc":"2.0","method":"{}\n"}}"#, "x".repeat(99));
        assert_eq!(check(&long).unwrap().method, "x".repeat(METHOD_CHARS));
    }

    #[test]
    fn everything_else_is_refused() {
        for bad in [
            "",
            "  ",
            "[]",
            "[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"a\"}]",
            "\"x\"",
            "3",
            "null",
            "{",
            "{}",
            r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":""}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":7}"#,
            r#"{"jsonrpc":"2.0","id":null,"method":"a"}"#,
            r#"{"jsonrpc":"2.0","\u0069d":null,"method":"a"}"#,
            r#"{"jsonrpc":"2.0","id":1.5,"method":"a"}"#,
            r#"{"jsonrpc":"2.0","id":1e3,"method":"a"}"#,
            r#"{"jsonrpc":"2.0","id":{},"method":"a"}"#,
            r#"{"jsonrpc":"2.0","id":[],"method":"a"}"#,
            r#"{"jsonrpc":"2.0","id":true,"method":"a"}"#,
            r#"{"jsonrpc":"1.0","id":1,"method":"a"}"#,
            r#"{"id":1,"method":"a"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"a"} x"#,
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
