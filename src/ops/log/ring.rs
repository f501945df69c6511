//! The newest events, kept in memory for the local UI and the support bundle.
//!
//! Invariant: an event is redacted before it is stored; the original is never held.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use log::{Level, LevelFilter, Log, Metadata, Record};
use serde_json::Value;
use simplelog::{Config, SharedLogger};
use time::OffsetDateTime;

use super::admission::{Admission, admit};
use super::format::{Fields, Scalar, each_field};
use super::stream::now;
use super::text::list_items;
use crate::redact::{self, KnownSecrets, REDACTED};

/// Longest message or value kept, in bytes; the rest is cut off.
const VALUE_BYTES: usize = 64 * 1024;
/// The texts of all kept events together, in bytes; beyond it the oldest go, whatever the capacity.
const RING_BYTES: usize = 32 * 1024 * 1024;

/// Redacts a text: a field's value by its name, or (without a name) a message.
pub type Redact = Arc<dyn for<'a> Fn(Option<&str>, &'a str) -> Cow<'a, str> + Send + Sync>;

/// Hides values of sensitive fields, credentials in any text, and `secrets` wherever they stand.
pub fn redactor(secrets: KnownSecrets) -> Redact {
    Arc::new(move |key, text| {
        if key.is_some_and(redact::is_sensitive_key) {
            return REDACTED.into();
        }
        match redact::text(text) {
            Cow::Borrowed(text) => secrets.hide(text),
            Cow::Owned(text) => secrets.hide(&text).into_owned().into(),
        }
    })
}

/// The newest events, oldest first.
pub struct Ring {
    capacity: usize,
    redact: Redact,
    state: Mutex<State>,
    followers: Mutex<Followers>,
}

type Bell = Box<dyn Fn() + Send + Sync>;

/// Whoever wants to hear of each event.
#[derive(Default)]
struct Followers {
    next_id: u64,
    bells: Vec<(u64, Bell)>,
}

/// Ends what [`Ring::notify`] began when dropped.
pub struct Following {
    ring: Weak<Ring>,
    id: u64,
}

#[derive(Default)]
struct State {
    events: VecDeque<RingEvent>,
    bytes: usize,
    last_seq: u64,
}

/// One redacted event.
#[derive(Clone, Debug)]
pub struct RingEvent {
    /// From 1, without gaps.
    pub seq: u64,
    /// Local time.
    pub time: OffsetDateTime,
    /// Severity.
    pub level: Level,
    /// What happened.
    pub message: String,
    /// Bound fields and the event's own.
    pub attributes: Vec<(String, RingValue)>,
}

/// A field's value.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum RingValue {
    Text(String),
    List(Vec<String>),
    /// JSON, complete and valid.
    Json(String),
    Integer(i128),
    Float(f64),
    Bool(bool),
    Null,
}

impl Ring {
    /// Keeps `capacity` events, at least one.
    pub fn new(capacity: usize, redact: Redact) -> Ring {
        Ring { capacity: capacity.max(1), redact, state: Mutex::default(), followers: Mutex::default() }
    }

    /// Events kept at most.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The newest `limit` events, oldest first.
    pub fn newest(&self, limit: usize) -> Vec<RingEvent> {
        let state = self.lock();
        let skip = state.events.len().saturating_sub(limit);
        state.events.iter().skip(skip).cloned().collect()
    }

    /// Up to `limit` events with a sequence number above `seq`, oldest first. A first number above
    /// `seq + 1` means that events in between are gone.
    pub fn after(&self, seq: u64, limit: usize) -> Vec<RingEvent> {
        let state = self.lock();
        let skip = state.events.partition_point(|event| event.seq <= seq);
        state.events.iter().skip(skip).take(limit).cloned().collect()
    }

    /// Calls `bell` after each event, on the thread that logs: it must neither block nor log.
    #[must_use = "dropping the value ends it"]
    pub fn notify(self: &Arc<Ring>, bell: impl Fn() + Send + Sync + 'static) -> Following {
        let mut followers = lock(&self.followers);
        let id = followers.next_id;
        followers.next_id += 1;
        followers.bells.push((id, Box::new(bell)));
        Following { ring: Arc::downgrade(self), id }
    }

    /// The number of the newest event; 0 before the first.
    pub fn last_seq(&self) -> u64 {
        self.lock().last_seq
    }

    pub(in crate::ops) fn push(&self, mut event: RingEvent) {
        let size = event.size();
        let mut state = self.lock();
        state.last_seq += 1;
        event.seq = state.last_seq;
        state.events.push_back(event);
        state.bytes += size;
        while state.events.len() > self.capacity || (state.bytes > RING_BYTES && state.events.len() > 1) {
            if let Some(oldest) = state.events.pop_front() {
                state.bytes -= oldest.size();
            }
        }
        drop(state);
        for (_, bell) in &lock(&self.followers).bells {
            bell();
        }
    }

    /// Redacts every text in a piece of JSON.
    fn json(&self, key: &str, json: &str) -> RingValue {
        match serde_json::from_str(json) {
            Ok(mut value) if json.len() <= VALUE_BYTES => {
                self.redact_json(Some(key), &mut value);
                RingValue::Json(value.to_string())
            }
            _ => RingValue::Text(self.text(Some(key), json)),
        }
    }

    fn redact_json(&self, key: Option<&str>, value: &mut Value) {
        match value {
            _ if key.is_some_and(redact::is_sensitive_key) => *value = REDACTED.into(),
            Value::String(text) => *text = self.text(None, text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.redact_json(None, item)),
            Value::Object(members) => {
                members.iter_mut().for_each(|(name, member)| self.redact_json(Some(name), member));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn text(&self, key: Option<&str>, text: &str) -> String {
        let mut text = (self.redact)(key, text).into_owned();
        if text.len() > VALUE_BYTES {
            let end = (0..=VALUE_BYTES).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
            text.truncate(end);
            text += "…";
        }
        text
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        if let Some(ring) = self.ring.upgrade() {
            lock(&ring.followers).bells.retain(|(id, _)| *id != self.id);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl RingEvent {
    fn size(&self) -> usize {
        let attributes = self.attributes.iter().map(|(key, value)| {
            key.len()
                + match value {
                    RingValue::Text(text) | RingValue::Json(text) => text.len(),
                    RingValue::List(items) => items.iter().map(String::len).sum(),
                    _ => 16,
                }
        });
        self.message.len() + attributes.sum::<usize>()
    }
}

/// Feeds a [`Ring`].
pub(super) struct RingSink {
    ring: Arc<Ring>,
    fields: Fields,
}

impl RingSink {
    pub(super) fn new(ring: Arc<Ring>, fields: Fields) -> RingSink {
        RingSink { ring, fields }
    }
}

impl Log for RingSink {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        let component = match admit(record) {
            Admission::Dropped => return,
            Admission::Plain => None,
            Admission::Component(name) => Some(name),
        };
        if self.enabled(record.metadata()) {
            self.keep(record, component);
        }
    }

    fn flush(&self) {}
}

impl RingSink {
    fn keep(&self, record: &Record<'_>, component: Option<&str>) {
        let ring = &self.ring;
        let mut attributes: Vec<(String, RingValue)> = self
            .fields
            .pairs(component)
            .map(|(key, value)| (key.to_owned(), RingValue::Text(value.to_owned())))
            .collect();
        each_field(record, |key, value| {
            if self.fields.holds(key) {
                return;
            }
            let value = match value {
                Scalar::Text(text) => RingValue::Text(ring.text(Some(key), text)),
                Scalar::Json(json) => ring.json(key, json),
                Scalar::List(text) => RingValue::List(
                    list_items(text).into_iter().flatten().map(|item| ring.text(Some(key), item)).collect(),
                ),
                Scalar::Integer(number) => RingValue::Integer(number),
                Scalar::Float(number) => RingValue::Float(number),
                Scalar::Bool(truth) => RingValue::Bool(truth),
                Scalar::Null => RingValue::Null,
            };
            attributes.push((key.to_owned(), value));
        });
        let message = ring.text(None, &record.args().to_string());
        ring.push(RingEvent { seq: 0, time: now(), level: record.level(), message, attributes });
    }
}

impl SharedLogger for RingSink {
    fn level(&self) -> LevelFilter {
        LevelFilter::Trace
    }

    fn config(&self) -> Option<&Config> {
        None
    }

    fn as_log(self: Box<Self>) -> Box<dyn Log> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hide() -> Redact {
        Arc::new(|key, text| if key == Some("authorization") { "[REDACTED]".into() } else { text.into() })
    }

    fn event(message: &str) -> RingEvent {
        RingEvent {
            seq: 0,
            time: OffsetDateTime::UNIX_EPOCH,
            level: Level::Info,
            message: message.to_owned(),
            attributes: Vec::new(),
        }
    }

    fn numbers(events: &[RingEvent]) -> Vec<u64> {
        events.iter().map(|event| event.seq).collect()
    }

    #[test]
    fn the_newest_events_stay_in_order() {
        let ring = Arc::new(Ring::new(3, hide()));
        assert!(ring.newest(10).is_empty());
        ["a", "b", "c", "d"].iter().for_each(|message| ring.push(event(message)));
        assert_eq!(numbers(&ring.newest(10)), [2, 3, 4]);
        assert_eq!(numbers(&ring.newest(2)), [3, 4]);
        assert_eq!(numbers(&ring.after(3, 10)), [4]);
        assert_eq!(numbers(&ring.after(0, 2)), [2, 3]);
        assert!(ring.after(4, 10).is_empty());
    }

    #[test]
    fn a_follower_hears_of_each_event_until_it_goes() {
        let ring = Arc::new(Ring::new(3, hide()));
        let (tell, told) = crossbeam_channel::unbounded();
        let following = ring.notify(move || tell.send(()).unwrap());
        ring.push(event("a"));
        ring.push(event("b"));
        drop(following);
        ring.push(event("c"));
        assert_eq!(told.iter().count(), 2);
    }

    #[test]
    fn secrets_are_hidden_wherever_they_stand() {
        let redact = redactor(KnownSecrets::new(["hunter22-hunter22".to_owned()]));
        let ring = Ring::new(3, redact);
        assert_eq!(ring.text(Some("Set-Cookie"), "a=b"), "[REDACTED]");
        assert_eq!(
            ring.text(Some("error"), "sent hunter22-hunter22?code=abc123"),
            "sent [REDACTED]?code=[REDACTED]"
        );
        let json = ring
            .json("records", r#"[{"token":["a"],"url":"http://u:pass@h/","n":1,"x":"hunter22-hunter22"}]"#);
        let shown = r#"[{"n":1,"token":"[REDACTED]","url":"http://[REDACTED]@h/","x":"[REDACTED]"}]"#;
        assert_eq!(json, RingValue::Json(shown.to_owned()));
    }

    #[test]
    fn events_are_redacted_and_cut_before_they_are_stored() {
        let ring = Arc::new(Ring::new(3, hide()));
        let sink =
            RingSink::new(Arc::clone(&ring), Fields { client_instance_id: "i".into(), tunnel_id: None });
        let long = "é".repeat(VALUE_BYTES);
        let fields = [("authorization", "Bearer x"), ("component", "forged"), ("long", long.as_str())];
        let record = Record::builder()
            .level(Level::Error)
            .target("controlplane")
            .args(format_args!("m"))
            .key_values(&fields)
            .build();
        sink.keep(&record, Some("controlplane"));
        let stored = ring.newest(1).remove(0);
        assert_eq!(stored.message, "m");
        let text = |key: &str| match stored.attributes.iter().find(|(name, _)| name == key) {
            Some((_, RingValue::Text(text))) => text.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!(text("authorization"), "[REDACTED]");
        assert_eq!(text("component"), "controlplane");
        assert_eq!(text("client_instance_id"), "i");
        assert_eq!(text("long").len(), VALUE_BYTES + "…".len());
    }

    #[test]
    fn large_events_push_older_ones_out_by_their_bytes() {
        let ring = Ring::new(1000, hide());
        let large = "x".repeat(VALUE_BYTES);
        (0..RING_BYTES / VALUE_BYTES + 5).for_each(|_| ring.push(event(&large)));
        assert_eq!(ring.newest(1000).len(), RING_BYTES / VALUE_BYTES);
    }
}
