//! Log events of the control plane's side, with fields that may be absent.
//!
//! The macros of `log` take a fixed set of fields; operators filter on ours by presence.

use log::kv::Value;
use log::{Level, Record};

/// The component's name: what operators filter on.
const TARGET: &str = "controlplane";

/// One event in the making. Values are borrowed: nothing is formatted unless a sink wants it.
pub(super) struct Event<'a> {
    level: Level,
    wanted: bool,
    fields: Vec<(&'static str, Value<'a>)>,
}

/// Whether events of `level` are wanted; asked before collecting fields on a busy path.
pub(super) fn enabled(level: Level) -> bool {
    cfg!(test) || log::log_enabled!(target: TARGET, level)
}

impl<'a> Event<'a> {
    /// An event without fields.
    pub(super) fn at(level: Level) -> Event<'a> {
        Event { level, wanted: enabled(level), fields: Vec::new() }
    }

    /// Adds a field.
    pub(super) fn with(mut self, key: &'static str, value: impl Into<Value<'a>>) -> Event<'a> {
        if self.wanted {
            self.fields.push((key, value.into()));
        }
        self
    }

    /// Adds a field if there is a value.
    pub(super) fn with_some(self, key: &'static str, value: Option<impl Into<Value<'a>>>) -> Event<'a> {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }

    /// Writes it.
    pub(super) fn emit(self, message: &str) {
        if !self.wanted {
            return;
        }
        #[cfg(test)]
        captured::push(self.level, message, &self.fields);
        log::logger().log(
            &Record::builder()
                .level(self.level)
                .target(TARGET)
                .module_path_static(Some(module_path!()))
                .key_values(&self.fields)
                .args(format_args!("{message}"))
                .build(),
        );
    }
}

/// The events of each test's thread.
#[cfg(test)]
pub(super) mod captured {
    use super::*;
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    /// An event as a sink would see it.
    #[derive(Debug)]
    pub(in crate::control_plane) struct Captured {
        pub(in crate::control_plane) level: Level,
        pub(in crate::control_plane) message: String,
        pub(in crate::control_plane) fields: BTreeMap<&'static str, String>,
    }

    thread_local! {
        static EVENTS: RefCell<Vec<Captured>> = const { RefCell::new(Vec::new()) };
    }

    pub(super) fn push(level: Level, message: &str, fields: &[(&'static str, Value<'_>)]) {
        let fields = fields.iter().map(|(key, value)| (*key, value.to_string())).collect();
        EVENTS.with_borrow_mut(|events| events.push(Captured { level, message: message.to_owned(), fields }));
    }

    /// What this thread has logged since the last call.
    pub(in crate::control_plane) fn take() -> Vec<Captured> {
        EVENTS.take()
    }
}
