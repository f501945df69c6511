//! Small pieces of documents, and their text.

use std::time::SystemTime;

use serde_json::{Map, Value};
use time::OffsetDateTime;

use crate::ops::log::{local_time, time_text};

/// Collects the members of an object; those that say nothing are left out.
#[derive(Default)]
pub(super) struct Members(Map<String, Value>);

impl Members {
    pub(super) fn new() -> Members {
        Members::default()
    }

    pub(super) fn with(mut self, name: &str, value: impl Into<Value>) -> Members {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    /// Left out when it is null, false, zero or empty.
    pub(super) fn with_some(self, name: &str, value: impl Into<Value>) -> Members {
        let value = value.into();
        let says_nothing = match &value {
            Value::Null | Value::Bool(false) => true,
            Value::Bool(true) => false,
            Value::Number(number) => number.as_f64() == Some(0.0),
            Value::String(text) => text.is_empty(),
            Value::Array(items) => items.is_empty(),
            Value::Object(members) => members.is_empty(),
        };
        if says_nothing { self } else { self.with(name, value) }
    }
}

impl From<Members> for Value {
    fn from(members: Members) -> Value {
        Value::Object(members.0)
    }
}

/// RFC 3339 in the zone of this host.
pub(super) fn local(at: SystemTime) -> String {
    time_text(local_time(OffsetDateTime::from(at)))
}

/// Text of a document as the admin API sends it: `<`, `>`, `&` and the line separators escaped, a newline
/// at the end.
pub fn to_text(document: &Value) -> String {
    let mut text = html_safe(document.to_string());
    text.push('\n');
    text
}

/// JSON with the characters escaped that could end a script element or a line of one. They occur within
/// strings only.
pub(super) fn html_safe(json: String) -> String {
    if !json.contains(['<', '>', '&', '\u{2028}', '\u{2029}']) {
        return json;
    }
    let mut safe = String::with_capacity(json.len() + 32);
    for letter in json.chars() {
        match letter {
            '<' => safe.push_str("\\u003c"),
            '>' => safe.push_str("\\u003e"),
            '&' => safe.push_str("\\u0026"),
            '\u{2028}' => safe.push_str("\\u2028"),
            '\u{2029}' => safe.push_str("\\u2029"),
            letter => safe.push(letter),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_nothing_is_left_out_and_markup_is_escaped() {
        let document: Value = Members::new()
            .with("zero", 0)
            .with_some("a", 0)
            .with_some("b", "")
            .with_some("c", Vec::<String>::new())
            .with_some("d", false)
            .with_some("e", Value::Null)
            .with_some("f", "<&>\u{2028}")
            .into();
        assert_eq!(to_text(&document), "{\"f\":\"\\u003c\\u0026\\u003e\\u2028\",\"zero\":0}\n");
    }
}
