//! Commands on their way to a poll, and back when its reply could not be written.
//!
//! Invariant: a command is in the queue or in the hands of one poll, never both.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::command::{Command, RequestId};
use super::held::{End, Stage};
use super::poll::Claims;
use super::presence::ClientKey;
use super::queue::{Queued, Subscription};
use super::tunnel::{Phase, State, Tunnel};
use crate::net::Waker;

impl Tunnel {
    /// Puts commands back whose delivery failed, if they are still wanted, and wakes polls for them.
    pub(super) fn put_back(&self, claims: Vec<(RequestId, Command)>, by: &Arc<ClientKey>) {
        let mut wakers = Vec::new();
        let mut state = self.state();
        let mut count = 0;
        for (id, command) in claims {
            let State { held, presence, phase, .. } = &mut *state;
            let Some(held) = held.get_mut(&id) else { continue };
            // A notification shows that the client did read the command.
            if !matches!(held.stage, Stage::Delivered { .. }) || !held.notifications.is_empty() {
                continue;
            }
            presence.released(by);
            if *phase != Phase::Open {
                held.stage = Stage::Ended(End::Stopping);
                wakers.push(Arc::clone(&held.waker));
                continue;
            }
            let bytes = command.bytes();
            self.budget.retake(bytes);
            let (channel, pin) = (held.channel.clone(), held.pin.clone());
            let (number, queued) = (held.number, Queued { request: id, channel, bytes, pin });
            held.stage = Stage::Queued(command);
            wakers.extend(state.poll_for(&queued, Instant::now()));
            state.queue.insert(number, queued);
            count += 1;
        }
        drop(state);
        self.counters.requeued(count);
        wakers.iter().for_each(|waker| waker.wake());
    }

    /// Takes up to `limit` commands for a poll. Those that came too close to their deadline end here.
    pub(super) fn take(
        &self,
        state: &mut State,
        subscription: &Subscription,
        limit: usize,
        by: &Arc<ClientKey>,
        claims: &mut Claims,
    ) -> Vec<Arc<Waker>> {
        let now = Instant::now();
        let mut expired = Vec::new();
        while claims.len() < limit {
            let taken = if state.queue.has_pinned() || state.affinity.is_some() {
                state.take_of(by, now)
            } else {
                state.queue.take(subscription)
            };
            let Some(queued) = taken else { break };
            self.budget.give(queued.bytes);
            let Some(held) = state.held.get_mut(&queued.request) else { continue };
            let Some(timeout_ms) = time_to_issue(held.deadline.saturating_duration_since(now)) else {
                held.stage = Stage::Ended(End::ExpiredQueued);
                expired.push(Arc::clone(&held.waker));
                continue;
            };
            let delivered = Stage::Delivered { by: Arc::clone(by), at: now };
            match std::mem::replace(&mut held.stage, delivered) {
                Stage::Queued(command) => {
                    state.presence.took(by);
                    claims.push(queued.request, command, timeout_ms);
                }
                other => held.stage = other,
            }
        }
        expired
    }
}

/// Least time with which a command is still handed out.
const LEAST_TIME: Duration = Duration::from_millis(100);
/// Largest part of the remaining time that is kept back for the way of the answer.
const MARGIN: Duration = Duration::from_millis(500);

/// Milliseconds to tell the client when so much time remains; `None` when it is too little to begin.
fn time_to_issue(remaining: Duration) -> Option<u64> {
    let issued = remaining.saturating_sub(MARGIN.min(remaining / 20));
    if issued < LEAST_TIME { None } else { u64::try_from(issued.as_millis()).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_is_told_less_time_than_remains_and_never_too_little() {
        for (remaining, issued) in [
            (30_000, Some(29_500)),
            (10_000, Some(9_500)),
            (1_000, Some(950)),
            (106, Some(100)),
            (105, None),
            (0, None),
        ] {
            assert_eq!(time_to_issue(Duration::from_millis(remaining)), issued, "{remaining}");
        }
    }
}
