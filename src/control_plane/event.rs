//! Log events with fields that may be absent.
//!
//! The macros of `log` take a fixed set of fields; operators filter on ours by presence.

use std::fmt;

use log::kv::Value;
use log::{Level, Record};

/// Marks the text of a [`List`]; no other value starts with it.
pub(crate) const LIST_MARK: char = '\u{1d}';

/// This room's component: what operators filter on.
pub(super) const TARGET: &str = "controlplane";

/// A list as the value of a field: an array in JSON, `[a b]` in text.
pub struct List<'a, T>(pub &'a [T]);

impl<T: fmt::Display> fmt::Display for List<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{LIST_MARK}")?;
        self.0.iter().try_for_each(|item| write!(f, "{item}{LIST_MARK}"))
    }
}

/// One event in the making. Values are borrowed: nothing is formatted unless a sink wants it.
pub(crate) struct Event<'a> {
    target: &'static str,
    level: Level,
    wanted: bool,
    fields: Vec<(&'static str, Value<'a>)>,
}

/// Whether events of this room are wanted; see [`is_wanted`].
pub(super) fn enabled(level: Level) -> bool {
    is_wanted(TARGET, level)
}

/// Whether events of `level` are wanted of the component `target`: asked before anything is made for one
/// on a busy path.
pub(crate) fn is_wanted(target: &'static str, level: Level) -> bool {
    cfg!(test) || log::log_enabled!(target: target, level)
}

impl<'a> Event<'a> {
    /// An event of this room, without fields.
    pub(super) fn at(level: Level) -> Event<'a> {
        Event::of(TARGET, level)
    }

    /// An event of the component `target`, without fields.
    pub(crate) fn of(target: &'static str, level: Level) -> Event<'a> {
        Event { target, level, wanted: is_wanted(target, level), fields: Vec::new() }
    }

    /// Adds a field.
    pub(crate) fn with(mut self, key: &'static str, value: impl Into<Value<'a>>) -> Event<'a> {
        if self.wanted {
            self.fields.push((key, value.into()));
        }
        self
    }

    /// Adds a field if there is a value.
    pub(crate) fn with_some(self, key: &'static str, value: Option<impl Into<Value<'a>>>) -> Event<'a> {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }

    /// Writes it.
    pub(crate) fn emit(self, message: &str) {
        if !self.wanted {
            return;
        }
        #[cfg(test)]
        captured::push(self.level, message, &self.fields);
        log::logger().log(
            &Record::builder()
                .level(self.level)
                .target(self.target)
                .module_path_static(Some(module_path!()))
                .key_values(&self.fields)
                .args(format_args!("{message}"))
                .build(),
        );
    }
}

/// The events of each test's thread.
#[cfg(test)]
pub(crate) mod captured {
    use super::*;
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    /// An event as a sink would see it.
    #[derive(Debug)]
    pub(crate) struct Captured {
        pub(crate) level: Level,
        pub(crate) message: String,
        pub(crate) fields: BTreeMap<&'static str, String>,
    }

    thread_local! {
        static EVENTS: RefCell<Vec<Captured>> = const { RefCell::new(Vec::new()) };
    }

    pub(super) fn push(level: Level, message: &str, fields: &[(&'static str, Value<'_>)]) {
        let fields = fields.iter().map(|(key, value)| (*key, value.to_string())).collect();
        EVENTS.with_borrow_mut(|events| events.push(Captured { level, message: message.to_owned(), fields }));
    }

    /// What this thread has logged since the last call.
    pub(crate) fn take() -> Vec<Captured> {
        EVENTS.take()
    }
}
