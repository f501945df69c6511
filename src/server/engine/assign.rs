//! Which client gets which command: anyone, the one it is pinned to, or the owner of its channel.
//!
//! Without pins and owners, none of this is on the road of a command.

use std::sync::Arc;
use std::time::Instant;

use super::command::RequestId;
use super::held::{End, Stage};
use super::presence::ClientKey;
use super::queue::Queued;
use super::tunnel::State;
use crate::net::Waker;

impl State {
    /// The only client that may have `queued` at present.
    fn client_for(&self, queued: &Queued, now: Instant) -> Option<Arc<str>> {
        let owner = || {
            let owner = self.affinity.as_ref()?.owner(&queued.channel, &self.presence, now);
            owner.map(Arc::clone)
        };
        queued.pin.as_ref().map(Arc::clone).or_else(owner)
    }

    /// Takes the oldest command that the client `by` may have.
    pub(super) fn take_of(&mut self, by: &ClientKey, now: Instant) -> Option<Queued> {
        let State { queue, affinity, presence, .. } = self;
        let taken = queue.take_if(&by.subscription, |queued| match (&queued.pin, affinity.as_ref()) {
            (Some(pin), _) => **pin == *by.instance,
            (None, None) => true,
            (None, Some(affinity)) => {
                let owner = affinity.owner(&queued.channel, presence, now);
                owner.is_none_or(|owner| **owner == *by.instance)
            }
        })?;
        if let Some(affinity) = affinity
            && taken.pin.is_none()
        {
            affinity.took(&taken.channel, &by.instance, presence, now);
        }
        Some(taken)
    }

    /// Ends what waits for clients of sessions that are gone; wake the threads without the lock.
    pub(super) fn end_orphans(&mut self, now: Instant) -> Vec<Arc<Waker>> {
        let Some(affinity) = self.affinity.as_ref().filter(|_| self.queue.has_pinned()) else {
            return Vec::new();
        };
        let is_orphan = |queued: &&Queued| {
            queued.pin.as_ref().is_some_and(|pin| !affinity.lasts(pin, &self.presence, now))
        };
        let orphans: Vec<RequestId> = self.queue.iter().filter(is_orphan).map(|one| one.request).collect();
        let is_queued = |stage: &Stage| matches!(stage, Stage::Queued(_));
        orphans.into_iter().filter_map(|id| self.end(id, is_queued, End::ClientGone)).collect()
    }

    /// Takes out the parked poll that should have `queued`; wake it without the lock.
    pub(super) fn poll_for(&mut self, queued: &Queued, now: Instant) -> Option<Arc<Waker>> {
        match self.client_for(queued, now) {
            None => self.pollers.next_for(&queued.channel),
            Some(client) => self.pollers.next_of(&queued.channel, |key| key.instance == *client),
        }
    }

    /// Takes out a parked poll for everything that is queued.
    pub(super) fn wake_for_all_queued(&mut self, wakers: &mut Vec<Arc<Waker>>) {
        if self.queue.has_pinned() || self.affinity.is_some() {
            let (now, queued): (_, Vec<Queued>) = (Instant::now(), self.queue.iter().cloned().collect());
            wakers.extend(queued.iter().filter_map(|queued| self.poll_for(queued, now)));
            return;
        }
        let State { queue, pollers, .. } = self;
        let channels: Vec<_> = queue.channels().map(|(channel, _)| channel).collect();
        wakers.extend(channels.into_iter().filter_map(|channel| pollers.next_for(channel)));
    }
}
