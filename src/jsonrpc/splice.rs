//! Changing single values inside a message without touching the rest.

use crate::order;
use std::borrow::Cow;
use std::ops::Range;

use serde_json::value::RawValue;

/// One replacement: a byte range of the message and the JSON text to put there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Splice {
    range: Range<usize>,
    text: String,
}

impl Splice {
    /// Replaces `value`, which must be a view into `message` (as [`super::Envelope`] gives them);
    /// `None` if it is not.
    pub fn replace(message: &str, value: &RawValue, text: impl Into<String>) -> Option<Splice> {
        let value = value.get();
        let start = (value.as_ptr() as usize).checked_sub(message.as_ptr() as usize)?;
        let range = start..start.checked_add(value.len())?;
        (message.get(range.clone()) == Some(value)).then(|| Splice { range, text: text.into() })
    }
}

/// Applies `splices`, which must not overlap, in whatever order they come.
pub fn splice(message: &str, mut splices: Vec<Splice>) -> String {
    order::sort_by_key(&mut splices, |splice| splice.range.start);
    let mut json = String::with_capacity(message.len() + splices.iter().map(|s| s.text.len()).sum::<usize>());
    let mut done = 0;
    for Splice { range, text } in &splices {
        json.push_str(message.get(done..range.start).unwrap_or_default());
        json.push_str(text);
        done = range.end;
    }
    json.push_str(message.get(done..).unwrap_or_default());
    json
}

/// `json` on one line. In valid JSON a raw line break is insignificant white space, since strings
/// must escape theirs (RFC 8259 §7), so each becomes a space.
pub fn single_line(json: &str) -> Cow<'_, str> {
    if json.bytes().any(|b| b == b'\n' || b == b'\r') {
        Cow::Owned(json.replace(['\n', '\r'], " "))
    } else {
        Cow::Borrowed(json)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jsonrpc::Envelope;

    #[test]
    fn an_id_is_replaced_and_every_other_byte_stays() {
        let message = r#"{ "method":"a", "params":{"id":7,"n":1.10} , "id" : 7 , "jsonrpc":"2.0"}"#;
        let envelope = Envelope::parse(message.as_bytes()).unwrap();
        let change = Splice::replace(message, envelope.raw_id.unwrap(), "\"tc-1\"").unwrap();
        assert_eq!(
            splice(message, vec![change]),
            r#"{ "method":"a", "params":{"id":7,"n":1.10} , "id" : "tc-1" , "jsonrpc":"2.0"}"#
        );
    }

    #[test]
    fn several_replacements_are_applied_in_the_order_of_the_text() {
        let message = r#"{"jsonrpc":"2.0","id":1,"method":"m","params":[2]}"#;
        let envelope = Envelope::parse(message.as_bytes()).unwrap();
        let id = Splice::replace(message, envelope.raw_id.unwrap(), "10").unwrap();
        let params = Splice::replace(message, envelope.params.unwrap(), "{}").unwrap();
        assert_eq!(
            splice(message, vec![params, id]),
            r#"{"jsonrpc":"2.0","id":10,"method":"m","params":{}}"#
        );
    }

    #[test]
    fn a_value_from_elsewhere_is_no_place_in_the_message() {
        let other = RawValue::from_string("1".into()).unwrap();
        assert_eq!(Splice::replace(r#"{"id":1}"#, &other, "2"), None);
    }

    #[test]
    fn line_breaks_between_tokens_become_spaces() {
        assert_eq!(single_line("{\r\n\"a\":\n1}"), "{  \"a\": 1}");
        assert!(matches!(single_line("{}"), Cow::Borrowed(_)));
    }
}
