//! What is known about this client's health right now, and whether that makes it ready.
//!
//! Invariant: readiness never depends on reaching the control plane, and every failure may be
//! replaced by a later success.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::net::Cancel;

/// What a gate without a reason of its own says.
const NO_REASON: &str = "runtime dependency is not ready";

/// The probe of the MCP server behind channel `main`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Probe {
    /// Not finished.
    #[default]
    Pending,
    /// Answered, or there is nothing to probe.
    Ok,
    /// Failed.
    Failed {
        /// In which way.
        kind: ProbeFailure,
        /// The error's text.
        error: String,
    },
}

/// Ways in which a probe fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeFailure {
    /// `initialize` was answered with 401: the server is there, callers bring their own credentials.
    Unauthorized,
    /// No answer in time.
    TimedOut,
    /// The startup wait ended without a listener.
    WaitExhausted,
    /// Anything else.
    Other,
}

/// OAuth discovery of the MCP server behind channel `main`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Discovery {
    /// Not finished.
    #[default]
    Pending,
    /// Finished, or not applicable.
    Done,
    /// Failed.
    Failed {
        /// The error's text.
        error: String,
        /// The server merely advertises nothing: no reason to be not ready.
        optional: bool,
    },
}

/// A value and the moment it was reported; `None` before the first report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reported<T> {
    /// The value.
    pub value: T,
    /// When it was reported last.
    pub at: Option<SystemTime>,
}

/// Contact with the control plane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contact {
    /// The last poll that succeeded.
    pub last_success: Option<SystemTime>,
    /// The last poll that failed, and why.
    pub last_error: Option<(SystemTime, String)>,
}

/// The tunnel as the control plane describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Tunnel id.
    pub id: String,
    /// For humans.
    pub name: String,
    /// For humans.
    pub description: String,
}

/// The answer of `/readyz`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// 200 or 503.
    pub status: u16,
    /// Plain text, no newline at the end.
    pub body: String,
}

/// Shared by whoever reports and whoever asks.
pub struct State {
    started: Instant,
    started_at: SystemTime,
    inner: Mutex<Inner>,
    probe_settled: Cancel,
}

#[derive(Default)]
struct Inner {
    probe: Reported<Probe>,
    discovery: Reported<Discovery>,
    contact: Contact,
    metadata: Option<Result<Metadata, String>>,
    gates: Vec<Arc<Ask>>,
}

/// `None` when what is asked is ready, else why not.
type Ask = dyn Fn() -> Option<String> + Send + Sync;

impl State {
    /// A client that has just started: probe and discovery are pending.
    pub fn new() -> State {
        State {
            started: Instant::now(),
            started_at: SystemTime::now(),
            inner: Mutex::default(),
            probe_settled: Cancel::new(),
        }
    }

    /// When this client started.
    pub fn started_at(&self) -> SystemTime {
        self.started_at
    }

    /// How long ago that was.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Adds something that must be ready before the client is, asked each time in the order of adding: `None`
    /// when ready, else why not. It must not block.
    pub fn watch(&self, gate: impl Fn() -> Option<String> + Send + Sync + 'static) {
        lock(&self.inner).gates.push(Arc::new(gate));
    }

    /// Reports the probe; [`Probe::Pending`] is ignored once another value was reported.
    pub fn set_probe(&self, probe: Probe) {
        let mut inner = lock(&self.inner);
        if probe == Probe::Pending && inner.probe.at.is_some() {
            return;
        }
        let settled = probe != Probe::Pending;
        inner.probe = Reported { value: probe, at: Some(SystemTime::now()) };
        drop(inner);
        if settled {
            self.probe_settled.cancel();
        }
    }

    /// Reports OAuth discovery.
    pub fn set_discovery(&self, discovery: Discovery) {
        lock(&self.inner).discovery = Reported { value: discovery, at: Some(SystemTime::now()) };
    }

    /// Reports a poll that succeeded.
    pub fn poll_succeeded(&self) {
        lock(&self.inner).contact.last_success = Some(SystemTime::now());
    }

    /// Reports a poll that failed.
    pub fn poll_failed(&self, error: impl Into<String>) {
        lock(&self.inner).contact.last_error = Some((SystemTime::now(), error.into()));
    }

    /// Reports the tunnel's metadata, or why they could not be fetched; a failure replaces no success.
    pub fn set_metadata(&self, metadata: Result<Metadata, String>) {
        let mut inner = lock(&self.inner);
        if metadata.is_ok() || !matches!(inner.metadata, Some(Ok(_))) {
            inner.metadata = Some(metadata);
        }
    }

    /// The probe.
    pub fn probe(&self) -> Reported<Probe> {
        lock(&self.inner).probe.clone()
    }

    /// OAuth discovery.
    pub fn discovery(&self) -> Reported<Discovery> {
        lock(&self.inner).discovery.clone()
    }

    /// Contact with the control plane.
    pub fn contact(&self) -> Contact {
        lock(&self.inner).contact.clone()
    }

    /// The tunnel's metadata or why there are none; `None` before the first report.
    pub fn metadata(&self) -> Option<Result<Metadata, String>> {
        lock(&self.inner).metadata.clone()
    }

    /// Waits until the probe is no longer pending; `None` when `cancel` fired first.
    pub fn wait_for_probe(&self, cancel: &Cancel) -> Option<Probe> {
        crossbeam_channel::select! {
            recv(self.probe_settled.receiver()) -> _ => Some(self.probe().value),
            recv(cancel.receiver()) -> _ => None,
        }
    }

    /// Whether the client is ready, and the words for it.
    pub fn readiness(&self) -> Readiness {
        let (gates, probe, discovery) = {
            let inner = lock(&self.inner);
            (inner.gates.clone(), inner.probe.value.clone(), inner.discovery.value.clone())
        };
        // Asked outside the lock: a gate may look at other things that are locked.
        let closed = gates.iter().find_map(|gate| gate());
        if let Some(reason) = closed {
            let reason = reason.trim();
            return no(if reason.is_empty() { NO_REASON.to_owned() } else { reason.to_owned() });
        }
        match discovery {
            Discovery::Pending => return no("oauth discovery pending".to_owned()),
            Discovery::Failed { error, optional: false } => {
                return no(format!("oauth discovery failed: {}", error.trim()));
            }
            Discovery::Done | Discovery::Failed { optional: true, .. } => {}
        }
        match probe {
            Probe::Pending => no("mcp startup probe pending".to_owned()),
            Probe::Ok => yes("ready".to_owned()),
            Probe::Failed { kind, error } => {
                let error = error.trim();
                match kind {
                    ProbeFailure::Unauthorized => {
                        yes(format!("ready (mcp initialize requires auth: {error})"))
                    }
                    ProbeFailure::TimedOut => yes(format!("ready (mcp startup probe timed out: {error})")),
                    ProbeFailure::WaitExhausted => no(format!("mcp startup wait failed: {error}")),
                    ProbeFailure::Other => no(format!("mcp probe failed: {error}")),
                }
            }
        }
    }

    /// What stands between this client and its work, in the words of the startup summary; empty when
    /// nothing does (yet).
    pub fn first_failing_dependency(&self) -> String {
        let (probe, discovery) = {
            let inner = lock(&self.inner);
            (inner.probe.value.clone(), inner.discovery.value.clone())
        };
        match (probe, discovery) {
            (Probe::Failed { error, .. }, _) => format!("mcp_probe: {}", error.trim()),
            (_, Discovery::Failed { error, optional: false }) => format!("oauth_metadata: {}", error.trim()),
            _ => String::new(),
        }
    }
}

impl Default for State {
    fn default() -> State {
        State::new()
    }
}

fn yes(body: String) -> Readiness {
    Readiness { status: 200, body }
}

fn no(body: String) -> Readiness {
    Readiness { status: 503, body }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(kind: ProbeFailure) -> Probe {
        Probe::Failed { kind, error: "  boom\n".to_owned() }
    }

    fn broken(optional: bool) -> Discovery {
        Discovery::Failed { error: " no route ".to_owned(), optional }
    }

    #[test]
    fn the_first_row_that_applies_decides() {
        use Discovery as D;
        use Probe as P;
        let cases: &[(Option<&str>, Discovery, Probe, u16, &str)] = &[
            (Some("child down"), broken(false), P::Pending, 503, "child down"),
            (Some("  "), D::Done, P::Ok, 503, "runtime dependency is not ready"),
            (None, D::Pending, failed(ProbeFailure::Other), 503, "oauth discovery pending"),
            (None, broken(false), failed(ProbeFailure::Other), 503, "oauth discovery failed: no route"),
            (None, broken(true), P::Pending, 503, "mcp startup probe pending"),
            (None, D::Done, P::Pending, 503, "mcp startup probe pending"),
            (
                None,
                D::Done,
                failed(ProbeFailure::Unauthorized),
                200,
                "ready (mcp initialize requires auth: boom)",
            ),
            (None, D::Done, failed(ProbeFailure::WaitExhausted), 503, "mcp startup wait failed: boom"),
            (None, D::Done, failed(ProbeFailure::TimedOut), 200, "ready (mcp startup probe timed out: boom)"),
            (None, D::Done, failed(ProbeFailure::Other), 503, "mcp probe failed: boom"),
            (None, broken(true), P::Ok, 200, "ready"),
            (None, D::Done, P::Ok, 200, "ready"),
        ];
        for (gate, discovery, probe, status, body) in cases {
            let state = State::new();
            state.watch(|| None);
            let gate = gate.map(str::to_owned);
            state.watch(move || gate.clone());
            state.set_discovery(discovery.clone());
            state.set_probe(probe.clone());
            assert_eq!(state.readiness(), Readiness { status: *status, body: (*body).to_owned() });
        }
    }

    #[test]
    fn gates_and_failures_recover() {
        let state = State::new();
        let gate = |reason: &str| {
            let asked = Arc::new(Mutex::new(Some(reason.to_owned())));
            let seen = Arc::clone(&asked);
            state.watch(move || lock(&seen).clone());
            asked
        };
        let (first, second) = (gate("first"), gate("stdio MCP child not running"));
        state.set_discovery(broken(false));
        state.set_probe(failed(ProbeFailure::Other));
        assert_eq!(state.first_failing_dependency(), "mcp_probe: boom");
        assert_eq!(state.readiness().body, "first");
        *lock(&first) = None;
        assert_eq!(state.readiness().body, "stdio MCP child not running");
        *lock(&second) = None;
        assert_eq!(state.readiness().body, "oauth discovery failed: no route");
        state.set_discovery(Discovery::Done);
        assert_eq!(state.readiness().body, "mcp probe failed: boom");
        state.set_probe(Probe::Pending);
        assert_eq!(state.readiness().body, "mcp probe failed: boom", "probing again is no news");
        state.set_probe(Probe::Ok);
        assert_eq!(state.readiness().status, 200);
        assert_eq!(state.first_failing_dependency(), "");
    }

    #[test]
    fn waiters_see_what_they_wait_for_or_the_end_of_the_client() {
        let state = Arc::new(State::new());
        let cancel = Cancel::new();
        let waiter = {
            let (state, cancel) = (Arc::clone(&state), cancel.clone());
            std::thread::spawn(move || state.wait_for_probe(&cancel))
        };
        state.set_probe(Probe::Ok);
        assert_eq!(waiter.join().unwrap(), Some(Probe::Ok));
        state.set_metadata(Err("refused".into()));
        assert_eq!(state.metadata(), Some(Err("refused".into())));
        let metadata = Metadata { id: "t".into(), name: "n".into(), description: "d".into() };
        state.set_metadata(Ok(metadata.clone()));
        state.set_metadata(Err("later failure".into()));
        assert_eq!(state.metadata(), Some(Ok(metadata)), "a failure replaces no success");
        cancel.cancel();
        assert_eq!(State::new().wait_for_probe(&cancel), None);
    }

    #[test]
    fn the_control_plane_has_no_say_in_readiness() {
        let state = State::new();
        state.set_discovery(Discovery::Done);
        state.set_probe(Probe::Ok);
        state.poll_failed("connection refused");
        assert_eq!(state.readiness().status, 200);
        state.poll_succeeded();
        let contact = state.contact();
        assert!(contact.last_success.is_some());
        assert_eq!(contact.last_error.map(|(_, text)| text).as_deref(), Some("connection refused"));
    }
}
