//! The three forms of a line. Pure: a record, a time and the bound fields in, text out.

use std::fmt::Write;

use log::kv::{self, Key, Value, VisitSource, VisitValue};
use log::{Level, Record};
use time::OffsetDateTime;

use super::quote::{push_one_line, push_value};
use super::text::{json_text, list_items};

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `2026/01/02 03:04:05 INFO message k=v`
    Plain,
    /// `time=2026-01-02T03:04:05.678Z level=INFO msg=message k=v`
    StructText,
    /// One JSON object.
    Json,
}

/// Fields of every line.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    /// Names this client; also sent to the control plane. Empty in a process that is none.
    pub client_instance_id: String,
    /// The tunnel that is served, once it is known.
    pub tunnel_id: Option<String>,
}

impl Fields {
    /// Names and values, in the order of the line; `component` is part of it.
    pub(super) fn pairs<'a>(
        &'a self,
        component: Option<&'a str>,
    ) -> impl Iterator<Item = (&'static str, &'a str)> {
        let instance = Some(("client_instance_id", self.client_instance_id.as_str()));
        let instance = instance.filter(|(_, id)| !id.is_empty());
        let tunnel = self.tunnel_id.as_deref().map(|id| ("tunnel_id", id));
        let component = component.map(|name| ("component", name));
        [instance, tunnel, component].into_iter().flatten()
    }

    /// Whether every line has a field of this name already; then it wins over the event's own.
    pub(super) fn holds(&self, key: &str) -> bool {
        match key {
            "client_instance_id" => !self.client_instance_id.is_empty(),
            "tunnel_id" => self.tunnel_id.is_some(),
            _ => key == "component",
        }
    }
}

/// A field's value in the types that lines tell apart.
pub(super) enum Scalar<'a> {
    Text(&'a str),
    /// The displayed form of a list; see [`list_items`].
    List(&'a str),
    /// JSON, complete and valid.
    Json(&'a str),
    Integer(i128),
    Float(f64),
    Bool(bool),
    Null,
}

/// Appends one line, newline included.
pub(super) fn push_line(
    out: &mut String,
    shape: Shape,
    at: OffsetDateTime,
    record: &Record<'_>,
    component: Option<&str>,
    bound: &Fields,
) {
    let message =
        record.args().as_str().map_or_else(|| record.args().to_string().into(), std::borrow::Cow::from);
    let level = level_name(record.level());
    match shape {
        Shape::Plain => {
            push_plain_time(out, at);
            *out += " ";
            *out += level;
            *out += " ";
            push_one_line(out, &message);
        }
        Shape::StructText => {
            *out += "time=";
            push_time(out, at, Fraction::Milliseconds);
            *out += " level=";
            *out += level;
            *out += " msg=";
            push_value(out, &message);
        }
        Shape::Json => {
            *out += "{\"time\":\"";
            push_time(out, at, Fraction::Trimmed);
            *out += "\",\"level\":\"";
            *out += level;
            *out += "\",\"msg\":";
            push_json_text(out, &message);
        }
    }
    for (key, value) in bound.pairs(component) {
        push_field(out, shape, key, &Scalar::Text(value));
    }
    each_field(record, |key, value| {
        if !bound.holds(key) {
            push_field(out, shape, key, &value);
        }
    });
    if shape == Shape::Json {
        *out += "}";
    }
    *out += "\n";
}

/// The level's name in every form.
pub(crate) fn level_name(level: Level) -> &'static str {
    match level {
        Level::Error => "ERROR",
        Level::Warn => "WARN",
        Level::Info => "INFO",
        Level::Debug | Level::Trace => "DEBUG",
    }
}

/// Hands each of the event's own fields to `take`, in order.
pub(super) fn each_field(record: &Record<'_>, take: impl FnMut(&str, Scalar<'_>)) {
    // The visitor never fails.
    let _ = record.key_values().visit(&mut FieldVisitor(take));
}

struct FieldVisitor<F>(F);

impl<'kvs, F: FnMut(&str, Scalar<'_>)> VisitSource<'kvs> for FieldVisitor<F> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        value.visit(ValueVisitor { key: key.as_str(), take: &mut self.0 })
    }
}

struct ValueVisitor<'a, F> {
    key: &'a str,
    take: &'a mut F,
}

impl<F: FnMut(&str, Scalar<'_>)> ValueVisitor<'_, F> {
    fn hand(&mut self, value: Scalar<'_>) -> Result<(), kv::Error> {
        (self.take)(self.key, value);
        Ok(())
    }
}

impl<'v, F: FnMut(&str, Scalar<'_>)> VisitValue<'v> for ValueVisitor<'_, F> {
    fn visit_any(&mut self, value: Value<'_>) -> Result<(), kv::Error> {
        let text = value.to_string();
        match (list_items(&text), json_text(&text)) {
            (Some(_), _) => self.hand(Scalar::List(&text)),
            (None, Some(json)) => self.hand(Scalar::Json(json)),
            (None, None) => self.hand(Scalar::Text(&text)),
        }
    }

    fn visit_null(&mut self) -> Result<(), kv::Error> {
        self.hand(Scalar::Null)
    }

    fn visit_u64(&mut self, value: u64) -> Result<(), kv::Error> {
        self.hand(Scalar::Integer(value.into()))
    }

    fn visit_i64(&mut self, value: i64) -> Result<(), kv::Error> {
        self.hand(Scalar::Integer(value.into()))
    }

    fn visit_i128(&mut self, value: i128) -> Result<(), kv::Error> {
        self.hand(Scalar::Integer(value))
    }

    fn visit_u128(&mut self, value: u128) -> Result<(), kv::Error> {
        match i128::try_from(value) {
            Ok(value) => self.hand(Scalar::Integer(value)),
            Err(_) => self.hand(Scalar::Text(&value.to_string())),
        }
    }

    fn visit_f64(&mut self, value: f64) -> Result<(), kv::Error> {
        self.hand(Scalar::Float(value))
    }

    fn visit_bool(&mut self, value: bool) -> Result<(), kv::Error> {
        self.hand(Scalar::Bool(value))
    }

    fn visit_str(&mut self, value: &str) -> Result<(), kv::Error> {
        self.hand(Scalar::Text(value))
    }
}

fn push_field(out: &mut String, shape: Shape, key: &str, value: &Scalar<'_>) {
    match shape {
        Shape::Json => {
            *out += ",";
            push_json_text(out, key);
            *out += ":";
            push_json_value(out, value);
        }
        Shape::Plain | Shape::StructText => {
            *out += " ";
            push_value(out, key);
            *out += "=";
            push_text_value(out, value);
        }
    }
}

fn push_text_value(out: &mut String, value: &Scalar<'_>) {
    // Writing to a string cannot fail.
    let _ = match value {
        Scalar::Text(text) | Scalar::Json(text) => {
            push_value(out, text);
            Ok(())
        }
        Scalar::List(text) => {
            let items: Vec<&str> = list_items(text).into_iter().flatten().collect();
            push_value(out, &format!("[{}]", items.join(" ")));
            Ok(())
        }
        Scalar::Integer(number) => write!(out, "{number}"),
        Scalar::Float(number) => write!(out, "{number}"),
        Scalar::Bool(truth) => write!(out, "{truth}"),
        Scalar::Null => write!(out, "<nil>"),
    };
}

fn push_json_value(out: &mut String, value: &Scalar<'_>) {
    let _ = match value {
        Scalar::Text(text) => {
            push_json_text(out, text);
            Ok(())
        }
        Scalar::List(text) => {
            *out += "[";
            for (index, item) in list_items(text).into_iter().flatten().enumerate() {
                if index > 0 {
                    *out += ",";
                }
                push_json_text(out, item);
            }
            *out += "]";
            Ok(())
        }
        Scalar::Json(json) => write!(out, "{json}"),
        Scalar::Float(number) if !number.is_finite() => write!(out, "\"{number}\""),
        Scalar::Float(number) => write!(out, "{number}"),
        Scalar::Null => write!(out, "null"),
        Scalar::Integer(number) => write!(out, "{number}"),
        Scalar::Bool(truth) => write!(out, "{truth}"),
    };
}

/// A JSON string; `<`, `>` and `&` stay as they are.
fn push_json_text(out: &mut String, text: &str) {
    // Nearly every text needs no escapes.
    if !text.bytes().any(|byte| byte < 0x20 || byte == b'"' || byte == b'\\') {
        out.push('"');
        *out += text;
        out.push('"');
        return;
    }
    match serde_json::to_string(text) {
        Ok(quoted) => *out += &quoted,
        Err(_) => *out += "\"\"",
    }
}

/// Digits after the second.
#[derive(Clone, Copy)]
pub(super) enum Fraction {
    Milliseconds,
    /// Nanoseconds without trailing zeros.
    Trimmed,
}

/// RFC 3339.
pub(super) fn push_time(out: &mut String, at: OffsetDateTime, fraction: Fraction) {
    let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
    let (hour, minute, second) = (at.hour(), at.minute(), at.second());
    let _ = write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    match fraction {
        Fraction::Milliseconds => {
            let _ = write!(out, ".{:03}", at.millisecond());
        }
        Fraction::Trimmed if at.nanosecond() == 0 => {}
        Fraction::Trimmed => {
            let digits = format!("{:09}", at.nanosecond());
            *out += ".";
            *out += digits.trim_end_matches('0');
        }
    }
    if at.offset().whole_minutes() == 0 {
        *out += "Z";
    } else {
        let sign = if at.offset().is_negative() { '-' } else { '+' };
        let minutes = at.offset().whole_minutes().unsigned_abs();
        let _ = write!(out, "{sign}{:02}:{:02}", minutes / 60, minutes % 60);
    }
}

/// RFC 3339, nanoseconds without trailing zeros.
pub(crate) fn time_text(at: OffsetDateTime) -> String {
    let mut text = String::new();
    push_time(&mut text, at, Fraction::Trimmed);
    text
}

fn push_plain_time(out: &mut String, at: OffsetDateTime) {
    let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
    let (hour, minute, second) = (at.hour(), at.minute(), at.second());
    let _ = write!(out, "{year:04}/{month:02}/{day:02} {hour:02}:{minute:02}:{second:02}");
}

#[cfg(test)]
mod tests {
    use super::super::text::{Json, List};
    use super::*;
    use time::UtcOffset;

    fn moment(nanos: i128, offset_minutes: i32) -> OffsetDateTime {
        let offset = UtcOffset::from_whole_seconds(offset_minutes * 60).unwrap();
        // 2026-01-02T03:04:05Z
        OffsetDateTime::from_unix_timestamp_nanos(1_767_323_045_000_000_000 + nanos)
            .unwrap()
            .to_offset(offset)
    }

    fn line(shape: Shape, at: OffsetDateTime, record: &Record<'_>) -> String {
        let bound = Fields { client_instance_id: "0f3c".into(), tunnel_id: Some("tunnel_1".into()) };
        let mut out = String::new();
        push_line(&mut out, shape, at, record, Some("health"), &bound);
        out
    }

    #[test]
    fn each_shape_has_its_exact_form() {
        let fields: &[(&str, Value<'_>)] =
            &[("addr", Value::from("127.0.0.1:8080")), ("n", Value::from(3u64))];
        let record = Record::builder()
            .level(Level::Info)
            .args(format_args!("health server listening"))
            .key_values(&fields)
            .build();
        let at = moment(678_912_000, 0);
        assert_eq!(
            line(Shape::Plain, at, &record),
            "2026/01/02 03:04:05 INFO health server listening client_instance_id=0f3c tunnel_id=tunnel_1 \
             component=health addr=127.0.0.1:8080 n=3\n"
        );
        assert_eq!(
            line(Shape::StructText, at, &record),
            "time=2026-01-02T03:04:05.678Z level=INFO msg=\"health server listening\" client_instance_id=0f3c \
             tunnel_id=tunnel_1 component=health addr=127.0.0.1:8080 n=3\n"
        );
        assert_eq!(
            line(Shape::Json, at, &record),
            "{\"time\":\"2026-01-02T03:04:05.678912Z\",\"level\":\"INFO\",\"msg\":\"health server listening\",\
             \"client_instance_id\":\"0f3c\",\"tunnel_id\":\"tunnel_1\",\"component\":\"health\",\
             \"addr\":\"127.0.0.1:8080\",\"n\":3}\n"
        );
    }

    #[test]
    fn a_bound_field_wins_over_the_events_own() {
        let fields: &[(&str, Value<'_>)] = &[("tunnel_id", Value::from("other")), ("x", Value::from(true))];
        let record = Record::builder().level(Level::Warn).args(format_args!("m")).key_values(&fields).build();
        let text = line(Shape::StructText, moment(0, 0), &record);
        assert!(text.ends_with("msg=m client_instance_id=0f3c tunnel_id=tunnel_1 component=health x=true\n"));
    }

    #[test]
    fn values_keep_their_types_in_json_and_html_is_left_alone() {
        let items = ["1:https://a/b?c=d&e", "2:<x>"];
        let list = List(&items);
        let facts = Json(r#"{"a":[1]}"#);
        let fields: &[(&str, Value<'_>)] = &[
            ("urls", Value::from_display(&list)),
            ("ratio", Value::from(0.5)),
            ("whole", Value::from(2.0)),
            ("nan", Value::from(f64::NAN)),
            ("neg", Value::from(-7)),
            ("ok", Value::from(false)),
            ("none", Value::null()),
            ("facts", Value::from_display(&facts)),
            ("text", Value::from("two\nlines \"q\"")),
        ];
        let record =
            Record::builder().level(Level::Debug).args(format_args!("a\nb")).key_values(&fields).build();
        let json = line(Shape::Json, moment(0, 0), &record);
        assert!(json.contains(
            "\"msg\":\"a\\nb\",\"client_instance_id\":\"0f3c\",\"tunnel_id\":\"tunnel_1\",\"component\":\"health\",\
             \"urls\":[\"1:https://a/b?c=d&e\",\"2:<x>\"],\"ratio\":0.5,\"whole\":2,\"nan\":\"NaN\",\"neg\":-7,\
             \"ok\":false,\"none\":null,\"facts\":{\"a\":[1]},\"text\":\"two\\nlines \\\"q\\\"\"}"
        ));
        assert!(json.starts_with("{\"time\":\"2026-01-02T03:04:05Z\""), "no fraction when there is none");
        assert_eq!(json.matches('\n').count(), 1);
        let text = line(Shape::StructText, moment(0, 0), &record);
        assert!(
            text.contains("urls=\"[1:https://a/b?c=d&e 2:<x>]\" ratio=0.5 whole=2 nan=NaN neg=-7 ok=false")
        );
        let plain = line(Shape::Plain, moment(0, 0), &record);
        assert!(plain.starts_with("2026/01/02 03:04:05 DEBUG a\\nb client_instance_id=0f3c"));
    }

    #[test]
    fn times_carry_the_local_offset() {
        for (offset, text, json) in [
            (120, "2026-01-02T05:04:05.001+02:00", "2026-01-02T05:04:05.001002003+02:00"),
            (-210, "2026-01-01T23:34:05.001-03:30", "2026-01-01T23:34:05.001002003-03:30"),
            (0, "2026-01-02T03:04:05.001Z", "2026-01-02T03:04:05.001002003Z"),
        ] {
            let (mut a, mut b) = (String::new(), String::new());
            push_time(&mut a, moment(1_002_003, offset), Fraction::Milliseconds);
            push_time(&mut b, moment(1_002_003, offset), Fraction::Trimmed);
            assert_eq!((a.as_str(), b.as_str()), (text, json));
        }
    }
}
