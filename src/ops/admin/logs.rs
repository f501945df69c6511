//! `/api/logs`: the newest events.

use std::fmt::Write;

use crate::ops::log::{Ring, RingEvent, RingValue, level_name, time_text};

use super::document::html_safe;

/// Events without a `limit`.
const DEFAULT: usize = 200;
/// Events at most.
const MOST: usize = 5000;

/// `{"events":[…]}`, the newest that `limit` allows, oldest first.
pub(super) fn document(ring: Option<&Ring>, limit: &str) -> String {
    let limit = match limit.parse::<i64>() {
        Ok(limit) if limit > 0 => usize::try_from(limit).unwrap_or(MOST).min(MOST),
        _ => DEFAULT,
    };
    let mut text = "{\"events\":[".to_owned();
    for (index, event) in ring.map(|ring| ring.newest(limit)).unwrap_or_default().iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        event_json(&mut text, event);
    }
    text.push_str("]}\n");
    text
}

/// Appends one event as JSON, in one line without its end: `seq`, `time`, `level`, `message`, `attrs`?
pub fn event_json(out: &mut String, event: &RingEvent) {
    let mut json = String::new();
    // Writing to a string cannot fail.
    let _ = write!(json, "{{\"seq\":{},\"time\":\"", event.seq);
    json.push_str(&time_text(event.time));
    let _ = write!(json, "\",\"level\":\"{}\",\"message\":", level_name(event.level));
    push_text(&mut json, &event.message);
    for (index, (key, value)) in event.attributes.iter().enumerate() {
        json.push_str(if index == 0 { ",\"attrs\":{" } else { "," });
        push_text(&mut json, key);
        json.push(':');
        push_value(&mut json, value);
    }
    if !event.attributes.is_empty() {
        json.push('}');
    }
    json.push('}');
    out.push_str(&html_safe(json));
}

fn push_value(out: &mut String, value: &RingValue) {
    let _ = match value {
        RingValue::Text(text) => {
            push_text(out, text);
            Ok(())
        }
        RingValue::List(items) => {
            for (index, item) in items.iter().enumerate() {
                out.push(if index == 0 { '[' } else { ',' });
                push_text(out, item);
            }
            out.push_str(if items.is_empty() { "[]" } else { "]" });
            Ok(())
        }
        RingValue::Json(json) => write!(out, "{json}"),
        RingValue::Integer(number) => write!(out, "{number}"),
        RingValue::Float(number) if number.is_finite() => write!(out, "{number}"),
        RingValue::Float(number) => write!(out, "\"{number}\""),
        RingValue::Bool(truth) => write!(out, "{truth}"),
        RingValue::Null => write!(out, "null"),
    };
}

fn push_text(out: &mut String, text: &str) {
    // A string always has a JSON form.
    out.push_str(&serde_json::to_string(text).unwrap_or_else(|_| "\"\"".to_owned()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_of_json() {
        let mut event = RingEvent {
            seq: 7,
            time: time::OffsetDateTime::UNIX_EPOCH,
            level: log::Level::Warn,
            message: "a <b>\n".into(),
            attributes: Vec::new(),
        };
        let mut text = String::new();
        event_json(&mut text, &event);
        assert_eq!(
            text,
            r#"{"seq":7,"time":"1970-01-01T00:00:00Z","level":"WARN","message":"a \u003cb\u003e\n"}"#
        );
        event.attributes = vec![
            ("n".into(), RingValue::Integer(3)),
            ("l".into(), RingValue::List(vec!["x".into(), "y".into()])),
            ("e".into(), RingValue::List(Vec::new())),
            ("f".into(), RingValue::Float(f64::NAN)),
            ("j".into(), RingValue::Json("{\"a\":[1]}".into())),
            ("b".into(), RingValue::Bool(true)),
            ("z".into(), RingValue::Null),
        ];
        let mut text = String::new();
        event_json(&mut text, &event);
        let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            parsed["attrs"],
            serde_json::json!({"n": 3, "l": ["x", "y"], "e": [], "f": "NaN", "j": {"a": [1]}, "b": true, "z": null})
        );
    }

    #[test]
    fn a_client_without_a_ring_has_no_events() {
        assert_eq!(document(None, "3"), "{\"events\":[]}\n");
    }
}
