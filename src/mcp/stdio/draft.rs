//! A connector's message as it is prepared for a child's stdin.
//!
//! Invariant: apart from the id and the progress token, which may be replaced, and line breaks between
//! tokens, the bytes that arrived are the bytes that are written.

use serde_json::value::RawValue;

use crate::jsonrpc::{Envelope, Id, Kind, Message, Splice, single_line, splice};
use crate::net::HeaderList;

use super::calls::Wire;
use crate::mcp::era::{self, Era};
use crate::mcp::peek;

/// A message that was looked at once, before any lock is taken.
pub(super) struct Draft<'a> {
    /// The message.
    pub(super) message: &'a Message,
    /// What the lifecycle of the child has to do with it.
    pub(super) class: Class,
    /// Which era it belongs to.
    pub(super) era: Era,
    /// Its parameters, where they matter.
    pub(super) params: Option<&'a RawValue>,
    /// Its progress token's JSON text.
    pub(super) token: Option<&'a RawValue>,
    /// It was translated from the other era.
    pub(super) crossed: bool,
    /// The level of log messages that its connector wants.
    pub(super) log_level: Option<usize>,
    line: Vec<u8>,
}

/// Messages that are treated on their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// `initialize` of a connector of the handshake era.
    Initialize,
    /// `notifications/initialized`.
    Initialized,
    /// `notifications/cancelled` and the id that it names.
    Cancelled(Option<Id>),
    /// `subscriptions/listen`.
    Listen,
    /// Any other call.
    Call,
    /// Any other notification.
    Notification,
}

impl<'a> Draft<'a> {
    /// Looks at `message`.
    pub(super) fn new(message: &'a Message, headers: &HeaderList) -> Draft<'a> {
        let (json, method) = (message.json(), message.method());
        let is_notification = message.kind() == Kind::Notification;
        // Parsing a large payload again costs; few messages hold anything that matters here.
        let looked_at = matches!(method, "initialize" | "notifications/cancelled")
            || json.contains("progressToken")
            || json.contains("io.modelcontextprotocol/");
        let params =
            if looked_at { Envelope::parse(json.as_bytes()).ok().and_then(|view| view.params) } else { None };
        let era = era::of(method, is_notification, json, params, headers);
        let class = match (method, is_notification) {
            ("initialize", false) if era == Era::Legacy => Class::Initialize,
            ("notifications/initialized", true) if era == Era::Legacy => Class::Initialized,
            ("notifications/cancelled", true) => Class::Cancelled(
                params.and_then(|params| peek::member(params, "requestId")).and_then(Id::from_raw),
            ),
            ("subscriptions/listen", false) => Class::Listen,
            (_, false) => Class::Call,
            (_, true) => Class::Notification,
        };
        let token = if is_notification {
            None
        } else {
            params
                .and_then(|params| peek::member(params, "_meta"))
                .and_then(|meta| peek::member(meta, "progressToken"))
                .filter(|token| Id::from_raw(token).is_some())
        };
        Draft { message, class, era, params, token, crossed: false, log_level: None, line: line(json) }
    }

    /// A message that was translated for a child of the era `target`.
    pub(super) fn crossed(message: &'a Message, target: Era, log_level: Option<usize>) -> Draft<'a> {
        Draft { era: target, crossed: true, log_level, ..Draft::new(message, &HeaderList::new()) }
    }

    /// Whether its answer is made of what the child says of itself.
    pub(super) fn needs_discovery(&self) -> bool {
        matches!(self.message.method(), "initialize" | "logging/setLevel")
    }

    /// Whether no response is due.
    pub(super) fn is_notification(&self) -> bool {
        self.message.kind() == Kind::Notification
    }

    /// The line to write for a call that is carried as `wire` says.
    pub(super) fn take_line(&mut self, wire: &Wire) -> Vec<u8> {
        let json = self.message.json();
        let mut changes = Vec::new();
        if let Some(id) = &wire.id {
            let raw = Envelope::parse(json.as_bytes()).ok().and_then(|view| view.raw_id);
            changes.extend(raw.and_then(|raw| Splice::replace(json, raw, id.as_str())));
        }
        if let (Some(token), Some(raw)) = (&wire.token, self.token) {
            changes.extend(Splice::replace(json, raw, token.as_str()));
        }
        if changes.is_empty() { std::mem::take(&mut self.line) } else { line(&splice(json, changes)) }
    }

    /// The line of a cancellation of the call that the child knows as `id` (JSON text).
    pub(super) fn take_cancellation(&mut self, id: &str) -> Vec<u8> {
        let json = self.message.json();
        let change = self
            .params
            .and_then(|params| peek::member(params, "requestId"))
            .filter(|named| named.get() != id)
            .and_then(|named| Splice::replace(json, named, id));
        match change {
            Some(change) => line(&splice(json, vec![change])),
            None => std::mem::take(&mut self.line),
        }
    }
}

/// One message as one line.
pub(super) fn line(json: &str) -> Vec<u8> {
    let json = single_line(json.trim_ascii());
    let mut line = Vec::with_capacity(json.len() + 1);
    line.extend_from_slice(json.as_bytes());
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(json: &str) -> Message {
        Message::parse(json).unwrap()
    }

    #[test]
    fn a_message_leaves_as_it_came_on_one_line() {
        let message = message(
            "{\"jsonrpc\":\"2.0\",\r\n \"id\" : 1.0, \"method\":\"tools/call\",\"params\":{\"n\":1.10}}\n",
        );
        let mut draft = Draft::new(&message, &HeaderList::new());
        assert_eq!(
            draft.take_line(&Wire::default()),
            b"{\"jsonrpc\":\"2.0\",   \"id\" : 1.0, \"method\":\"tools/call\",\"params\":{\"n\":1.10}}\n"
        );
    }

    #[test]
    fn id_and_token_are_replaced_together_and_nothing_else_is() {
        let message = message(
            r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"progressToken":"1","_meta":{"progressToken":1},"id":1}}"#,
        );
        let mut draft = Draft::new(&message, &HeaderList::new());
        assert_eq!(draft.token.unwrap().get(), "1");
        let wire = Wire { sequence: 0, id: Some("\"i\"".into()), token: Some("\"p\"".into()) };
        assert_eq!(
            String::from_utf8(draft.take_line(&wire)).unwrap().trim_end(),
            r#"{"jsonrpc":"2.0","id":"i","method":"m","params":{"progressToken":"1","_meta":{"progressToken":"p"},"id":1}}"#
        );
    }

    #[test]
    fn a_cancellation_names_what_the_child_knows() {
        let message = message(
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"reason":"x","requestId":7}}"#,
        );
        let mut draft = Draft::new(&message, &HeaderList::new());
        assert!(matches!(&draft.class, Class::Cancelled(Some(id)) if id.as_json() == "7"));
        let line = String::from_utf8(draft.take_cancellation("\"tc-x-1\"")).unwrap();
        assert_eq!(
            line.trim_end(),
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"reason":"x","requestId":"tc-x-1"}}"#
        );
    }
}
