//! The identifiers that every event about a command carries.

use std::borrow::Cow;

use log::Level;
use log::kv::Value;

use super::event::Event;
use super::types::{Command, Work};
use crate::jsonrpc::{Id, Kind};

/// A command, as the log names it. Made when an event is due: nothing is computed before.
pub(crate) struct Trace<'a> {
    target: &'static str,
    command: &'a Command,
    rpc_id: Option<(Cow<'a, str>, bool)>,
    /// A session that the MCP server opened, for a command that named none.
    session_id: Option<&'a str>,
}

impl<'a> Trace<'a> {
    /// `command` in events of the component `target`.
    pub(crate) fn of(target: &'static str, command: &'a Command) -> Trace<'a> {
        let rpc_id = match &command.work {
            Work::JsonRpc(message) if message.kind() == Kind::Call => {
                message.id().map(|id| (id_text(id), id.is_string()))
            }
            _ => None,
        };
        Trace { target, command, rpc_id, session_id: command.session_id() }
    }

    /// The same with the session that the reply named, unless the command named one.
    pub(crate) fn or_session(mut self, session_id: Option<&'a str>) -> Trace<'a> {
        self.session_id = self.session_id.or(session_id).filter(|id| !id.is_empty());
        self
    }

    /// An event about the command.
    pub(crate) fn event(&self, level: Level) -> Event<'_> {
        Event::of(self.target, level)
            .with("request_id", self.command.request_id.as_str())
            .with("channel", self.command.channel.as_str())
            .with_some("cmd_request_id", self.command.connector_request_id())
            .with_some("rpc_request_id", self.rpc_id())
            .with_some("session_id", self.session_id)
    }

    /// The id of its call.
    pub(crate) fn rpc_id(&self) -> Option<Value<'_>> {
        self.rpc_id.as_ref().map(|(text, is_string)| id_value(text, *is_string))
    }
}

/// The id as text, strings without their quotes.
fn id_text(id: &Id) -> Cow<'_, str> {
    let text = id.as_json();
    match text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        None => Cow::Borrowed(text),
        Some(plain) if !plain.contains('\\') => Cow::Borrowed(plain),
        Some(_) => serde_json::from_str::<String>(text).map_or(Cow::Borrowed(text), Cow::Owned),
    }
}

/// An integer as one, anything else as text.
fn id_value(text: &str, is_string: bool) -> Value<'_> {
    let integer = if is_string { None } else { text.parse::<i64>().ok() };
    integer.map_or(Value::from(text), Value::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_told_as_they_are_meant() {
        for (json, text) in
            [("7", "7"), ("\"7\"", "7"), (r#""a\u0062""#, "ab"), ("1.5", "1.5"), (r#""""#, "")]
        {
            assert_eq!(id_text(&Id::from_json(json).unwrap()), text);
        }
        assert_eq!(id_value("7", false).to_i64(), Some(7));
        assert_eq!(id_value("7", true).to_i64(), None);
        assert_eq!(id_value("9007199254740993000", false).to_i64(), Some(9_007_199_254_740_993_000));
    }
}
