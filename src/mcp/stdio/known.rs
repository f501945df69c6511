//! What is known about the eras of a server, over all its children, and about the running one.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use crate::mcp::bridge::Fact;

/// What is known about the server, over all its children, and about the running one.
#[derive(Default)]
pub(super) struct Knowledge {
    /// Revisions with a handshake.
    pub(super) legacy: Fact,
    /// Revisions without.
    pub(super) modern: Fact,
    /// When one of these changed.
    pub(super) changed: Option<SystemTime>,
    /// The `server/discover` result of this child …
    pub(super) discovered: Option<Arc<str>>,
    /// … until when it is believed …
    pub(super) fresh_until: Option<Instant>,
    /// … and whether it names no revision that messages can be translated into.
    pub(super) unbridgeable: bool,
    /// A child ended when it was asked: none is asked again.
    pub(super) exits: bool,
    /// The child that did so last.
    pub(super) probe_exit: Option<u64>,
    /// This child was asked already.
    pub(super) asked: bool,
    /// This child was asked a second time since it was slow.
    pub(super) asked_again: bool,
    /// The answer of this child to `server/discover`, when it came after the window.
    pub(super) late: Option<(bool, Box<str>)>,
    /// The last test's answer, for the command whose own message it was: its call, and the answer.
    pub(super) answer: Option<(u64, String)>,
    /// The child's answer to `server/discover` when that refused the era, and to `initialize`.
    pub(super) modern_refusal: Option<Box<str>>,
    pub(super) legacy_refusal: Option<Box<str>>,
    /// Until when both refusals are repeated.
    pub(super) refused_until: Option<Instant>,
    /// Parameters of the handshake that a modern message needs, once its test has failed.
    pub(super) params: Option<String>,
    /// The bridge was announced in this direction.
    pub(super) announced: [bool; 2],
    /// Most verbose level that this child was asked for.
    pub(super) level: Option<usize>,
}

impl Knowledge {
    /// A new child runs.
    pub(super) fn next_child(&mut self) {
        self.discovered = None;
        self.fresh_until = None;
        self.unbridgeable = false;
        self.asked = false;
        self.asked_again = false;
        self.late = None;
        self.answer = None;
        self.announced = [false; 2];
        self.level = None;
    }

    /// Whether both refusals are repeated now.
    pub(super) fn refused(&self, now: Instant) -> bool {
        self.refused_until.is_some_and(|until| now < until)
    }
}
