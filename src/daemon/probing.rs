//! The thread that probes the MCP server behind `main`.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::control_plane::Gate;
use crate::mcp::Binding;
use crate::mcp::probe::{self, ProbeResult};
use crate::net::Cancel;
use crate::ops::{Probe, ProbeFailure, State};

/// The probe, running or done.
pub(super) struct Probing {
    cancel: Cancel,
    thread: Option<JoinHandle<()>>,
}

impl Probing {
    /// Probes `main` in the background, if it is an HTTP server; otherwise there is nothing to probe.
    pub(super) fn start(
        main: Option<Arc<Binding>>,
        startup_wait: Duration,
        mcp_cut: &Cancel,
        state: &Arc<State>,
    ) -> io::Result<Probing> {
        let cancel = mcp_cut.child();
        let binding = match main {
            Some(binding) if matches!(*binding, Binding::Http(_)) => binding,
            other => {
                match other {
                    Some(binding) => log::info!(target: "mcpclient", transport = binding.transport();
                        "Skipping MCP probe for transport"),
                    None => log::info!(target: "mcpclient",
                        "Skipping MCP probe: main channel is not configured"),
                }
                state.set_probe(Probe::Ok);
                return Ok(Probing { cancel, thread: None });
            }
        };
        let (seen, state) = (cancel.clone(), Arc::clone(state));
        let thread = std::thread::Builder::new().name("probe".into()).spawn(move || {
            if let Binding::Http(binding) = &*binding {
                probe::run(binding, startup_wait, &seen, &mut |result| state.set_probe(probe_state(result)));
            }
        })?;
        Ok(Probing { cancel, thread: Some(thread) })
    }

    /// What the first poll waits for: with a startup wait, the end of the probe.
    pub(super) fn gate(&self, startup_wait: Duration, state: &Arc<State>) -> Option<Gate> {
        if startup_wait.is_zero() || self.thread.is_none() {
            return None;
        }
        let state = Arc::clone(state);
        Some(Box::new(move |stop| {
            log::info!(target: "controlplane", timeout:? = startup_wait;
                "waiting for MCP startup probe before first control-plane poll");
            if let Some(Probe::Failed { error, .. }) = state.wait_for_probe(stop) {
                log::warn!(target: "controlplane", error = error.as_str();
                    "MCP startup probe completed with failure; starting control-plane poller for compatibility");
            }
        }))
    }

    /// Tells the probe to end.
    pub(super) fn cancel(&self) {
        self.cancel.cancel();
    }
}

impl Drop for Probing {
    fn drop(&mut self) {
        self.cancel.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn probe_state(result: &ProbeResult) -> Probe {
    let (kind, error) = match result {
        ProbeResult::Ready(_) => return Probe::Ok,
        ProbeResult::AuthRequired(error) => (ProbeFailure::Unauthorized, error),
        ProbeResult::TimedOut(error) => (ProbeFailure::TimedOut, error),
        ProbeResult::WaitExhausted(error) => (ProbeFailure::WaitExhausted, error),
        ProbeResult::Failed(error) => (ProbeFailure::Other, error),
    };
    Probe::Failed { kind, error: error.clone() }
}
