//! What is remembered of a server that refuses an era.
//!
//! Invariant: a refusal is believed for a while only; then the server is asked anew.

use std::time::Instant;

use crate::mcp::{Failure, Outcome};

use super::facts::{Eras, Known, handshake_failed};

/// What connectors of an era that cannot be served are told for a while.
pub(super) struct Refusal {
    pub(super) until: Instant,
    pub(super) legacy: Outcome,
    /// None if the modern era is spoken.
    pub(super) modern: Option<Outcome>,
}

impl Eras {
    /// Forgets that the modern era was refused before `since`; false if it was refused later than that.
    pub(super) fn doubt_modern(&self, since: Instant) -> bool {
        let mut state = self.lock();
        let old = state.refused_modern_at.is_none_or(|at| at < since);
        if old {
            state.modern = Known::Unknown;
            self.settle(&state);
        }
        old
    }

    /// The server does not speak the modern era: its answer to the test.
    pub(super) fn refused_modern(&self, answer: Option<&Outcome>) {
        let mut state = self.lock();
        state.modern_refusal = answer.cloned();
        state.refused_modern_at = Some(Instant::now());
    }

    /// Both eras were refused, the legacy one with `legacy`: for a while connectors get these answers.
    /// The one for the modern era.
    pub(super) fn refused_both(&self, legacy: Outcome) -> Outcome {
        let until = Instant::now() + self.refusal_kept;
        let mut state = self.lock();
        let modern = state.modern_refusal.clone().unwrap_or_else(|| match &legacy {
            silent @ Outcome::Failed(Failure::Lifecycle { .. }) => silent.clone(),
            _ => handshake_failed(None),
        });
        state.refusal = Some(Refusal { until, legacy, modern: Some(modern.clone()) });
        state.legacy = Known::No(until);
        state.modern = Known::No(until);
        self.settle(&state);
        drop(state);
        self.changed.notify_all();
        modern
    }

    /// Neither test was answered, the one of the legacy era a moment ago.
    pub(super) fn both_silent(&self) -> bool {
        let state = self.lock();
        state.refused_modern_at.is_some_and(|at| at.elapsed() < self.refusal_kept + self.handshake_limit)
            && state.modern_refusal.is_none()
    }

    /// The server speaks only revisions of the modern era that nothing can be translated into: for a
    /// while connectors of the legacy era get its own answer.
    pub(super) fn refused_legacy(&self, legacy: Outcome) {
        let until = Instant::now() + self.refusal_kept;
        let mut state = self.lock();
        state.refusal = Some(Refusal { until, legacy, modern: None });
        state.legacy = Known::No(until);
        self.settle(&state);
    }
}
