//! Counters of what bridging and lifecycle care did, for metrics.
//!
//! Invariant: labels come from here, so their number is bounded. Messages that merely pass are not
//! counted here and cost nothing.

use std::sync::{Mutex, PoisonError};

/// Which way a message was translated: the connector's era first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::mcp) enum Direction {
    ModernToLegacy,
    LegacyToModern,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::mcp) enum MessageOutcome {
    Mapped,
    Local,
    Refused,
    Failed,
    Dropped,
}

type Counters = Mutex<Vec<([&'static str; 2], u64)>>;

/// The counters of one binding.
#[derive(Debug, Default)]
pub struct Tally {
    probes: Counters,
    handshakes: Counters,
    messages: Counters,
    refused: Counters,
}

/// A snapshot: two labels (the second may be empty) and their count.
pub type TallyReport = Vec<([&'static str; 2], u64)>;

impl Tally {
    /// A test of an era ended: `initialize` or `server_discover`, and how.
    pub(in crate::mcp) fn probe(&self, method: &'static str, result: &'static str) {
        bump(&self.probes, [method, result]);
    }

    /// A handshake ended: what caused it, and `ok`, `error` or `timeout`.
    pub(in crate::mcp) fn handshake(&self, trigger: &'static str, result: &'static str) {
        bump(&self.handshakes, [trigger, result]);
    }

    /// A message was translated, or not.
    pub(in crate::mcp) fn message(&self, direction: Direction, outcome: MessageOutcome) {
        bump(&self.messages, [direction.label(), outcome.label()]);
    }

    /// A request of the server was refused.
    pub(in crate::mcp) fn refused_request(&self, method: &str) {
        let word = match method {
            "sampling/createMessage" => "sampling",
            "elicitation/create" => "elicitation",
            "roots/list" => "roots",
            _ => "other",
        };
        bump(&self.refused, [word, ""]);
    }

    /// Tests by method and result.
    pub fn probes(&self) -> TallyReport {
        snapshot(&self.probes)
    }

    /// Handshakes by trigger and result.
    pub fn handshakes(&self) -> TallyReport {
        snapshot(&self.handshakes)
    }

    /// Messages by direction and outcome.
    pub fn messages(&self) -> TallyReport {
        snapshot(&self.messages)
    }

    /// The eras of the connectors that something was translated for.
    pub(in crate::mcp) fn bridged_connectors(&self) -> Vec<&'static str> {
        let messages = self.messages();
        let bridged =
            |direction: &Direction| messages.iter().any(|([label, _], _)| *label == direction.label());
        let directions = [Direction::LegacyToModern, Direction::ModernToLegacy];
        directions.iter().filter(|direction| bridged(direction)).map(|direction| direction.eras().0).collect()
    }

    /// Refused requests of the server by kind.
    pub fn refused_requests(&self) -> TallyReport {
        snapshot(&self.refused)
    }
}

impl Direction {
    /// The label.
    pub(in crate::mcp) fn label(self) -> &'static str {
        match self {
            Direction::ModernToLegacy => "modern_to_legacy",
            Direction::LegacyToModern => "legacy_to_modern",
        }
    }

    /// The eras of both sides, for the log.
    pub(in crate::mcp) fn eras(self) -> (&'static str, &'static str) {
        match self {
            Direction::ModernToLegacy => ("modern", "legacy"),
            Direction::LegacyToModern => ("legacy", "modern"),
        }
    }
}

impl MessageOutcome {
    /// The label.
    pub(in crate::mcp) fn label(self) -> &'static str {
        match self {
            MessageOutcome::Mapped => "mapped",
            MessageOutcome::Local => "local",
            MessageOutcome::Refused => "refused",
            MessageOutcome::Failed => "failed",
            MessageOutcome::Dropped => "dropped",
        }
    }
}

fn bump(counters: &Counters, labels: [&'static str; 2]) {
    let mut counters = counters.lock().unwrap_or_else(PoisonError::into_inner);
    match counters.iter_mut().find(|(known, _)| *known == labels) {
        Some((_, count)) => *count += 1,
        None => counters.push((labels, 1)),
    }
}

fn snapshot(counters: &Counters) -> TallyReport {
    counters.lock().unwrap_or_else(PoisonError::into_inner).clone()
}
