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
    fields: Vec<(&'static str, Value<'a>)>,
}

/// Whether events of `level` are wanted; asked before collecting fields on a busy path.
pub(super) fn enabled(level: Level) -> bool {
    log::log_enabled!(target: TARGET, level)
}

impl<'a> Event<'a> {
    /// An event without fields.
    pub(super) fn at(level: Level) -> Event<'a> {
        Event { level, fields: Vec::new() }
    }

    /// Adds a field.
    pub(super) fn with(mut self, key: &'static str, value: impl Into<Value<'a>>) -> Event<'a> {
        self.fields.push((key, value.into()));
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
        if !enabled(self.level) {
            return;
        }
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
