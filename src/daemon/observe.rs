//! What the rooms report, on its way to readiness and metrics.

use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use crate::control_plane::PollObserver;
use crate::dispatch::{Observer, Queue};
use crate::ops::{Metrics, State};

/// Hears the control plane's side and the dispatcher.
pub(super) struct Observers {
    metrics: Arc<Metrics>,
    state: OnceLock<Arc<State>>,
}

impl Observers {
    pub(super) fn new() -> Observers {
        Observers { metrics: Arc::new(Metrics::default()), state: OnceLock::new() }
    }

    /// Where polls that succeed are noted.
    pub(super) fn watch(&self, state: &Arc<State>) {
        let _ = self.state.set(Arc::clone(state));
    }

    pub(super) fn watch_queue(&self, _queue: Queue) {}

    pub(super) fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }
}

impl PollObserver for Observers {
    fn poll_succeeded(&self, _at: SystemTime) {
        if let Some(state) = self.state.get() {
            state.poll_succeeded();
        }
    }
}

impl Observer for Observers {}
