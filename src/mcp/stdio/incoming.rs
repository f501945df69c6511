//! What a child's messages do to the session, and whom they are for.

use std::sync::Arc;
use std::time::Instant;

use serde_json::value::RawValue;

use crate::jsonrpc::{Envelope, Id, METHOD_NOT_FOUND, Splice, error_response, result_response, splice};
use crate::net::long;

use super::calls::{Call, Match, Progress, Role};
use super::mailbox::Mailbox;
use super::notice::Notice;
use super::session::{Mode, Session};
use crate::mcp::bridge::own;
use crate::mcp::peek;

/// Methods of refused requests that are told apart in the log, per child.
const MAX_REFUSED_METHODS: usize = 16;
/// Where a notification names the `subscriptions/listen` that it belongs to.
const SUBSCRIPTION_ID: &str = "io.modelcontextprotocol/subscriptionId";

/// A message for one worker.
pub(super) struct Delivery {
    /// Whose.
    pub(super) mailbox: Arc<Mailbox>,
    /// The message as its caller must see it.
    pub(super) json: String,
}

impl Session {
    /// A response of the child; the call that it answers, which is no longer in the table.
    pub(super) fn on_response(&mut self, envelope: &Envelope<'_>, json: &str, now: Instant) -> Option<Call> {
        let id = envelope.id.as_ref()?;
        match self.calls.answer(id.as_json()) {
            Match::Call(mut call) => {
                match call.role {
                    Role::Handshake { .. } => self.on_handshake_answer(&mut call, envelope, json, now),
                    Role::Discover => self.on_discovery(&call, envelope, json, now),
                    _ if call.modern && self.mode == Mode::Unknown => {
                        self.on_first_modern_answer(&mut call, envelope, json, now);
                    }
                    _ => {}
                }
                Some(call)
            }
            Match::Late => {
                self.notices.push(Notice::Dropped("late answer"));
                None
            }
            Match::Unknown => {
                self.notices.push(Notice::Dropped("answer to no call"));
                None
            }
        }
    }

    /// A notification of the child.
    pub(super) fn on_notification(
        &mut self,
        envelope: &Envelope<'_>,
        json: &str,
        now: Instant,
    ) -> Option<Delivery> {
        let (token, subscription) = attribution(envelope, json);
        if let Some(subscription) = subscription {
            return self.for_subscription(subscription, json);
        }
        if let Some(token) = token.filter(|_| envelope.method == "notifications/progress") {
            return self.for_token(token, json, now);
        }
        let changes = envelope.method.ends_with("/list_changed")
            || envelope.method == "notifications/resources/updated";
        let mut running = self.calls.running();
        let oldest = running.next();
        let alone = running.next().is_none();
        let owner = oldest.filter(|_| (alone || !changes) && !self.calls.echoes(now));
        let delivery = owner
            .and_then(|call| call.mailbox.clone())
            .map(|mailbox| Delivery { mailbox, json: json.to_owned() });
        if delivery.is_none() {
            self.notices.push(Notice::Dropped("notification that belongs to no call"));
        }
        delivery
    }

    fn for_token(&mut self, token: &RawValue, json: &str, now: Instant) -> Option<Delivery> {
        if let Progress::Call(call, own) = self.calls.progress(token.get()) {
            let mailbox = call.mailbox.clone()?;
            return Some(Delivery { mailbox, json: replaced(json, token, own) });
        }
        // A server that reports progress to a lone call unasked means that call.
        let mut running = self.calls.running();
        let alone = running.next().filter(|_| running.next().is_none());
        let owner = alone.filter(|call| !call.has_token() && !self.calls.echoes(now));
        let delivery = owner
            .and_then(|call| call.mailbox.clone())
            .map(|mailbox| Delivery { mailbox, json: json.to_owned() });
        if delivery.is_none() {
            self.notices.push(Notice::Dropped("progress of no call"));
        }
        delivery
    }

    fn for_subscription(&mut self, id: &RawValue, json: &str) -> Option<Delivery> {
        let found = Id::from_raw(id).and_then(|_| self.calls.by_wire_id(id.get()));
        let delivery = found.and_then(|call| {
            let own = call.caller_id.as_ref()?.as_json();
            Some(Delivery { mailbox: call.mailbox.clone()?, json: replaced(json, id, own) })
        });
        if delivery.is_none() {
            self.notices.push(Notice::Dropped("notification of no subscription"));
        }
        delivery
    }

    /// A request of the child: answered at once, since no connector could.
    pub(super) fn on_request(&mut self, id: &Id, method: &str) {
        if method == "ping" {
            self.push_own(&result_response(id, "{}"));
            return;
        }
        let method = own::clipped(method.into());
        let text = format!("Method not found: {method} is not available through this tunnel");
        self.push_own(&error_response(Some(id), METHOD_NOT_FOUND, &text, None));
        let first =
            self.refused_methods.len() < MAX_REFUSED_METHODS && self.refused_methods.insert(method.clone());
        self.notices.push(Notice::RefusedRequest { method, first });
    }
}

/// A response as the call's own caller must see it.
pub(super) fn for_caller(call: &Call, envelope: &Envelope<'_>, json: &str) -> String {
    let mut changes = Vec::new();
    if let (Some(id), Some(raw)) = (&call.caller_id, envelope.raw_id) {
        if raw.get() != id.as_json() {
            changes.extend(Splice::replace(json, raw, id.as_json()));
        }
        if call.role == Role::Listen && call.has_private_id() {
            let named = envelope
                .result
                .and_then(|result| peek::member(result, "_meta"))
                .and_then(|meta| peek::member(meta, SUBSCRIPTION_ID));
            changes.extend(named.and_then(|named| Splice::replace(json, named, id.as_json())));
        }
    }
    if changes.is_empty() { long::copy_of(json) } else { splice(json, changes) }
}

/// The progress token and the subscription that a notification names.
fn attribution<'a>(envelope: &Envelope<'a>, json: &str) -> (Option<&'a RawValue>, Option<&'a RawValue>) {
    let Some(params) = envelope.params else { return (None, None) };
    let [token, meta] = peek::members(params.get(), ["progressToken", "_meta"]);
    let subscription =
        meta.filter(|_| json.contains(SUBSCRIPTION_ID)).and_then(|meta| peek::member(meta, SUBSCRIPTION_ID));
    (token.filter(|token| Id::from_raw(token).is_some()), subscription)
}

fn replaced(json: &str, value: &RawValue, text: &str) -> String {
    if value.get() == text {
        return json.to_owned();
    }
    splice(json, Splice::replace(json, value, text).into_iter().collect())
}
