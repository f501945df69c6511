//! What systemd is told of the client: readiness, and contact with the control plane.

use std::sync::Arc;

use super::Daemon;
use crate::control_plane::PollState;
use crate::net::service_manager::{self, VARIABLES as NOTIFY_VARIABLES};
use crate::ops::State;
use crate::redact;

/// What concerns this process alone: no child inherits it.
pub(super) const VARIABLES: [&str; 3] = NOTIFY_VARIABLES;

/// Tells systemd until dropped.
pub struct Notifier(service_manager::Notifier);

impl Notifier {
    /// Tells that the client has started, and from now on how it is doing; `None` when nobody asked.
    pub fn start(daemon: &Daemon) -> Option<Notifier> {
        let (state, poll_state) = (Arc::clone(daemon.state()), Arc::clone(daemon.poll_state()));
        service_manager::Notifier::start(Box::new(move || status(&state, &poll_state))).map(Notifier)
    }

    /// Tells that the client is on its way down; the watchdog is fed on.
    pub fn stopping(&self) {
        self.0.stopping("stopping: running calls are being finished");
    }
}

/// Readiness, and contact with the control plane.
fn status(state: &State, poll_state: &PollState) -> String {
    let polls = poll_state.snapshot();
    let contact = match (polls.failing, polls.last_error, polls.last_success) {
        (true, Some(trouble), _) => format!("control plane: {}", trouble.text),
        (_, _, Some(_)) => "polling the control plane".to_owned(),
        _ => "no poll has succeeded yet".to_owned(),
    };
    redact::text(&format!("{}; {contact}", state.readiness().body)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_tells_readiness_and_contact() {
        let state = State::new();
        state.watch(|| Some("starting".to_owned()));
        assert_eq!(status(&state, &PollState::new()), "starting; no poll has succeeded yet");
    }
}
