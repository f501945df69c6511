//! A held request: the connector's side of a command.

use std::sync::Arc;
use std::time::Instant;

use super::answer::Answer;
use super::command::{Kind, RequestId};
use super::counters::{Origin, Outcome};
use super::held::{End, Held, Stage};
use super::tunnel::Tunnel;

/// What happened to a held request.
#[derive(Debug)]
pub(crate) enum Step {
    /// A notification, in the order of arrival.
    Notification(Answer),
    /// The answer; nothing follows.
    Terminal(Answer),
    /// There will be no answer.
    Ended(End),
    /// Nothing new: wait.
    Nothing,
}

/// Keeps a request held; dropping it cancels the command.
pub(crate) struct Hold {
    tunnel: Arc<Tunnel>,
    id: RequestId,
    origin: Origin,
    kind: Kind,
    ended: bool,
}

/// How a held request went, for the log.
#[derive(Clone, Debug)]
pub(crate) struct Story {
    /// Milliseconds until a client took it; `None` if none did.
    pub(crate) queued_ms: Option<u64>,
    /// Milliseconds from arrival to end.
    pub(crate) total_ms: u64,
    /// The client that took it.
    pub(crate) instance: String,
}

impl Hold {
    pub(super) fn new(tunnel: Arc<Tunnel>, id: RequestId, origin: Origin, kind: Kind) -> Hold {
        Hold { tunnel, id, origin, kind, ended: false }
    }

    /// The command's id.
    pub(crate) fn id(&self) -> RequestId {
        self.id
    }

    /// What came since the last call.
    pub(crate) fn next(&self) -> Step {
        let mut state = self.tunnel.state();
        let Some(held) = state.held.get_mut(&self.id) else { return Step::Ended(End::Deleted) };
        if let Some(notification) = held.notifications.pop_front() {
            held.notification_bytes = held.notification_bytes.saturating_sub(notification.bytes());
            let room = std::mem::take(&mut held.room);
            drop(state);
            room.iter().for_each(|waker| waker.wake());
            return Step::Notification(notification);
        }
        if let Some(terminal) = held.terminal.take() {
            return Step::Terminal(terminal);
        }
        match &held.stage {
            Stage::Ended(end) => Step::Ended(*end),
            Stage::Queued(_) | Stage::Delivered { .. } | Stage::Answered { .. } => Step::Nothing,
        }
    }

    /// Whether a client has taken the command.
    pub(crate) fn is_delivered(&self) -> bool {
        let state = self.tunnel.state();
        state
            .held
            .get(&self.id)
            .is_some_and(|held| matches!(held.stage, Stage::Delivered { .. } | Stage::Answered { .. }))
    }

    /// Ends it. From now on nothing can be posted for it.
    pub(crate) fn end(mut self, outcome: Outcome) -> Story {
        self.close(outcome)
    }

    fn close(&mut self, outcome: Outcome) -> Story {
        self.ended = true;
        let held = self.tunnel.forget(self.id);
        let now = Instant::now();
        let since = |held: &Held, then: Instant| then.saturating_duration_since(held.started);
        let delivered = held.as_ref().and_then(|held| match &held.stage {
            Stage::Delivered { by, at } | Stage::Answered { by, at } => {
                Some((since(held, *at), by.instance.clone()))
            }
            Stage::Queued(_) | Stage::Ended(_) => None,
        });
        let total = held.as_ref().map(|held| since(held, now)).unwrap_or_default();
        let queued = delivered.as_ref().map(|(queued, _)| *queued);
        self.tunnel.counters.command_ended(self.origin, self.kind, outcome, queued, total);
        Story {
            queued_ms: queued.map(|queued| queued.as_millis() as u64),
            total_ms: total.as_millis() as u64,
            instance: delivered.map(|(_, instance)| instance).unwrap_or_default(),
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if !self.ended {
            self.close(Outcome::Cancelled);
        }
    }
}
