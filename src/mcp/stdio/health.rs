//! What operators can ask about a stdio binding.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Why a child was replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndReason {
    /// The process ended.
    Exit,
    /// It closed its stdout.
    StdoutClosed,
    /// It closed its stdin.
    StdinFailed,
    /// It left two handshakes in a row unanswered.
    HandshakeTimeout,
    /// It could not be started.
    SpawnFailed,
    /// It ended when it was asked whether it speaks the era without handshakes.
    ProbeExit,
}

/// All of them, in the order of [`HealthReport::restarts_by_reason`].
const REASONS: [EndReason; 6] = [
    EndReason::Exit,
    EndReason::StdoutClosed,
    EndReason::StdinFailed,
    EndReason::HandshakeTimeout,
    EndReason::SpawnFailed,
    EndReason::ProbeExit,
];

/// A snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthReport {
    /// A child runs.
    pub running: bool,
    /// Its process id; the last one's while none runs.
    pub pid: Option<u32>,
    /// Number of the child, 1 first; 0 before the start.
    pub generation: u64,
    /// Why the last child ended.
    pub last_end: Option<EndReason>,
    /// More about that.
    pub last_error: Option<String>,
    /// Time to the next start, while none runs.
    pub next_start_in: Option<Duration>,
    /// Short-lived children in a row.
    pub attempts: u32,
    /// Children replaced or to be replaced, by reason.
    pub restarts_by_reason: Vec<(EndReason, u64)>,
    /// The binding was stopped.
    pub stopped: bool,
}

#[derive(Default)]
struct State {
    running: bool,
    pid: Option<u32>,
    generation: u64,
    last_end: Option<EndReason>,
    last_error: Option<String>,
    due: Option<Instant>,
    attempts: u32,
    restarts: [u64; REASONS.len()],
    stopped: bool,
}

/// The record behind the snapshots.
#[derive(Default)]
pub(super) struct Health(Mutex<State>);

impl EndReason {
    /// The label in logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            EndReason::Exit => "exit",
            EndReason::StdoutClosed => "stdout_closed",
            EndReason::StdinFailed => "stdin_failed",
            EndReason::HandshakeTimeout => "handshake_timeout",
            EndReason::SpawnFailed => "spawn_failed",
            EndReason::ProbeExit => "probe_exit",
        }
    }
}

impl HealthReport {
    /// Children replaced so far.
    pub fn restarts(&self) -> u64 {
        self.restarts_by_reason.iter().map(|(_, count)| count).sum()
    }

    /// Why the binding cannot serve, for the readiness answer; `None` while a child runs or before the
    /// start.
    pub fn unready_text(&self) -> Option<String> {
        let reason = self.last_end.filter(|_| !self.running)?;
        // Rounded up: "0s" would read as "now".
        let seconds = self.next_start_in.unwrap_or_default().as_millis().div_ceil(1000);
        Some(format!("stdio MCP child not running: {}; next start in {seconds}s", reason.label()))
    }
}

impl Health {
    pub(super) fn report(&self) -> HealthReport {
        let state = self.lock();
        HealthReport {
            running: state.running,
            pid: state.pid,
            generation: state.generation,
            last_end: state.last_end,
            last_error: state.last_error.clone(),
            next_start_in: state
                .due
                .filter(|_| !state.running && !state.stopped)
                .map(|due| due.saturating_duration_since(Instant::now())),
            attempts: state.attempts,
            restarts_by_reason: REASONS.into_iter().zip(state.restarts).collect(),
            stopped: state.stopped,
        }
    }

    pub(super) fn started(&self, pid: u32, generation: u64) {
        let mut state = self.lock();
        (state.running, state.pid, state.generation, state.due) = (true, Some(pid), generation, None);
    }

    pub(super) fn ended(&self, reason: EndReason, error: Option<String>) {
        let mut state = self.lock();
        (state.running, state.last_end, state.last_error) = (false, Some(reason), error);
    }

    pub(super) fn next_start(&self, due: Instant, attempts: u32) {
        let mut state = self.lock();
        (state.due, state.attempts) = (Some(due), attempts);
    }

    pub(super) fn restarts(&self, reason: EndReason) {
        if let Some(index) = REASONS.iter().position(|one| *one == reason) {
            self.lock().restarts[index] += 1;
        }
    }

    pub(super) fn stopped(&self) {
        let mut state = self.lock();
        (state.running, state.stopped) = (false, true);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readiness_text_names_reason_and_time() {
        let health = Health::default();
        assert_eq!(health.report().unready_text(), None);
        health.started(7, 1);
        health.ended(EndReason::Exit, None);
        health.restarts(EndReason::Exit);
        health.next_start(Instant::now() + Duration::from_millis(7500), 3);
        let report = health.report();
        assert_eq!(report.unready_text().unwrap(), "stdio MCP child not running: exit; next start in 8s");
        assert_eq!((report.restarts(), report.attempts), (1, 3));
        health.started(8, 2);
        assert_eq!(health.report().unready_text(), None);
    }
}
