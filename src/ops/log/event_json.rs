//! One kept event as a JSON object, as the local API and the support bundle show it.

use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::format::{Fraction, level_name, push_time};
use super::ring::{RingEvent, RingValue};

impl RingEvent {
    /// `{"seq":…,"time":…,"level":…,"message":…,"attrs":{…}}` without line breaks; `attrs` only when there are any.
    pub fn json(&self) -> String {
        let mut text = format!(
            "{{\"seq\":{},\"time\":\"{}\",\"level\":\"{}\",\"message\":{}",
            self.seq,
            timestamp(self.time),
            level_name(self.level),
            Value::from(self.message.as_str())
        );
        if !self.attributes.is_empty() {
            let attributes: Map<String, Value> =
                self.attributes.iter().map(|(name, value)| (name.clone(), value.json())).collect();
            text += ",\"attrs\":";
            text += &Value::Object(attributes).to_string();
        }
        text + "}"
    }
}

impl RingValue {
    fn json(&self) -> Value {
        match self {
            RingValue::Text(text) => text.as_str().into(),
            RingValue::List(items) => items.iter().map(String::as_str).collect(),
            RingValue::Integer(number) => {
                i64::try_from(*number).map_or_else(|_| number.to_string().into(), Value::from)
            }
            RingValue::Float(number) => (*number).into(),
            RingValue::Bool(truth) => (*truth).into(),
            RingValue::Null => Value::Null,
        }
    }
}

/// RFC 3339 with as many digits as there are, nanoseconds at most.
pub fn timestamp(at: OffsetDateTime) -> String {
    let mut text = String::with_capacity(35);
    push_time(&mut text, at, Fraction::Trimmed);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use log::Level;

    #[test]
    fn an_event_is_one_line_with_its_attributes_if_it_has_any() {
        let mut event = RingEvent {
            seq: 7,
            time: OffsetDateTime::from_unix_timestamp_nanos(1_767_323_045_500_000_000).unwrap(),
            level: Level::Warn,
            message: "two\nlines".to_owned(),
            attributes: Vec::new(),
        };
        let head = r#"{"seq":7,"time":"2026-01-02T03:04:05.5Z","level":"WARN","message":"two\nlines""#;
        assert_eq!(event.json(), format!("{head}}}"));
        event.attributes = vec![
            ("a".to_owned(), RingValue::List(vec!["x".to_owned()])),
            ("b".to_owned(), RingValue::Integer(-1)),
            ("c".to_owned(), RingValue::Null),
        ];
        assert_eq!(event.json(), format!(r#"{head},"attrs":{{"a":["x"],"b":-1,"c":null}}}}"#));
    }
}
