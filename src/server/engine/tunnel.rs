//! One tunnel: its queue, the requests it holds, the polls parked on it.
//!
//! Invariant: everything below is one state behind one lock, held for a few map operations at a time;
//! threads are woken after it is released, and look again when they wake.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::affinity::{Affinity, Bound};
use super::answer::{Answer, AnswerKind};
use super::bounds::{Budget, Emptied, Limits};
use super::command::{Command, Kind, RequestId};
use super::counters::{Counters, Origin};
use super::held::{End, Held, Stage};
use super::hold::Hold;
use super::poll::{Claims, Poll};
use super::pollers::Pollers;
use super::presence::{ClientKey, Declares, Presence, Standing};
use super::queue::{Queue, Queued, Subscription};
use super::rate::Bucket;
use crate::ids::{Channel, TunnelId};
use crate::net::Waker;

/// A request to be held.
pub(crate) struct Admission {
    pub(crate) id: RequestId,
    pub(crate) origin: Origin,
    pub(crate) kind: Kind,
    pub(crate) channel: Channel,
    /// The only client that may have it.
    pub(crate) pin: Option<Arc<str>>,
    /// The MCP session it names.
    pub(crate) session: Option<String>,
    pub(crate) command: Command,
    /// When its response timer started.
    pub(crate) started: Instant,
    pub(crate) deadline: Instant,
    /// Raised whenever [`Hold::next`] has something new.
    pub(crate) waker: Arc<Waker>,
}

/// Why a request is not held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No client has ever polled.
    NeverSeen,
    /// No client serves the channel at present.
    NotConnected,
    /// The queue is full.
    QueueFull,
    /// Calls come too often; when the next may.
    TooOften(Duration),
    /// The server is stopping.
    Stopping,
    /// The tunnel is gone.
    Deleted,
}

/// What became of a posted answer.
#[derive(Debug)]
pub(crate) enum Posted {
    /// Passed on.
    Taken,
    /// Nothing waits for it.
    NotPending,
    /// It does not fit this kind of command.
    WrongKind,
    /// The notification buffer is full; the waker given is raised when there may be room.
    Full(Answer),
}

/// Whether a tunnel takes work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Open,
    /// What is delivered may be answered; nothing else goes on.
    Draining,
    /// Nothing goes on.
    Cut,
    Deleted,
}

/// One tunnel.
pub(crate) struct Tunnel {
    pub(super) id: TunnelId,
    pub(super) limits: Limits,
    pub(super) budget: Arc<Budget>,
    pub(super) counters: Arc<Counters>,
    pub(super) emptied: Arc<Emptied>,
    state: Mutex<State>,
}

pub(super) struct State {
    pub(super) phase: Phase,
    pub(super) queue: Queue,
    pub(super) held: HashMap<RequestId, Held>,
    pub(super) pollers: Pollers,
    pub(super) presence: Presence,
    pub(super) next_number: u64,
    affinity: Option<Affinity>,
    bucket: Option<Bucket>,
}

/// How busy a tunnel is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    /// Queued commands by channel.
    pub(crate) queued: Vec<(Channel, usize)>,
    /// Held requests.
    pub(crate) held: usize,
    /// Parked polls.
    pub(crate) parked: usize,
}

impl Tunnel {
    pub(crate) fn new(
        id: TunnelId,
        limits: Limits,
        budget: Arc<Budget>,
        counters: Arc<Counters>,
        emptied: Arc<Emptied>,
    ) -> Tunnel {
        let state = State {
            phase: Phase::Open,
            queue: Queue::default(),
            held: HashMap::new(),
            pollers: Pollers::default(),
            presence: Presence::new(limits.client_last_seen_timeout),
            next_number: 0,
            affinity: limits.affinity_lease.map(Affinity::new),
            bucket: limits.rate.map(|rate| Bucket::new(rate, Instant::now())),
        };
        Tunnel { id, limits, budget, counters, emptied, state: Mutex::new(state) }
    }

    pub(crate) fn id(&self) -> &TunnelId {
        &self.id
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a request and holds it until the guard goes.
    pub(crate) fn admit(self: &Arc<Self>, admission: Admission) -> Result<Hold, Refusal> {
        let Admission { id, origin, kind, channel, pin, session, command, started, deadline, waker } =
            admission;
        let bytes = command.bytes();
        let woken = {
            let mut state = self.state();
            match state.phase {
                Phase::Open => {}
                Phase::Draining | Phase::Cut => return Err(Refusal::Stopping),
                Phase::Deleted => return Err(Refusal::Deleted),
            }
            let now = Instant::now();
            match state.presence.standing(&channel, now) {
                Standing::Connected
                    if pin.as_ref().is_some_and(|pin| !state.presence.is_connected(pin, &channel, now)) =>
                {
                    return Err(Refusal::NotConnected);
                }
                Standing::Connected => {}
                Standing::Absent => return Err(Refusal::NotConnected),
                Standing::NeverSeen => return Err(Refusal::NeverSeen),
            }
            let pin = match (pin, &state.affinity, &session) {
                (None, Some(affinity), Some(session)) => {
                    match affinity.bound(&channel, session, &state.presence, now) {
                        Bound::Nowhere => None,
                        Bound::To(instance) => Some(instance),
                        Bound::Gone => return Err(Refusal::NotConnected),
                    }
                }
                (pin, _, _) => pin,
            };
            let full = state.queue.len() >= self.limits.queue_max
                || state.queue.bytes() + bytes > self.limits.queue_bytes;
            if full || !self.budget.take(bytes) {
                return Err(Refusal::QueueFull);
            }
            if origin == Origin::Connector
                && let Some(bucket) = &mut state.bucket
                && let Err(wait) = bucket.take(now)
            {
                self.budget.give(bytes);
                return Err(Refusal::TooOften(wait));
            }
            let number = state.next_number();
            let queued = Queued { request: id, channel: channel.clone(), bytes, pin: pin.clone() };
            let woken = state.poll_for(&queued, now);
            state.queue.insert(number, queued);
            let held = Held {
                number,
                pin,
                kind,
                channel,
                in_session: session.is_some(),
                started,
                deadline,
                stage: Stage::Queued(command),
                waker,
                notifications: VecDeque::new(),
                notification_bytes: 0,
                terminal: None,
                room: Vec::new(),
            };
            state.held.insert(id, held);
            woken
        };
        if let Some(poller) = woken {
            poller.wake();
        }
        Ok(Hold::new(Arc::clone(self), id, origin, kind))
    }

    /// Begins a poll of the client `key`, which declares `info` about its channels.
    pub(crate) fn poll(self: &Arc<Self>, key: ClientKey, info: Option<&str>, waker: Arc<Waker>) -> Poll {
        let key = Arc::new(key);
        let (number, readable) = {
            let mut state = self.state();
            let readable = state.presence.poll_began(&key, info, Instant::now());
            (state.next_number(), readable)
        };
        if !readable {
            log::warn!(
                target: "server",
                tunnel_id:% = self.id,
                client_instance_id = key.instance.as_str();
                "what the client declares about its channels cannot be read and is ignored"
            );
        }
        Poll::new(Arc::clone(self), key, number, waker)
    }

    /// Passes an answer on to the request it is for. `room` is raised when a full buffer may have room.
    pub(crate) fn post(&self, id: RequestId, answer: Answer, room: Option<&Arc<Waker>>) -> Posted {
        let now = Instant::now();
        let mut state = self.state();
        state.presence.responded(now);
        let State { held, presence, affinity, .. } = &mut *state;
        let Some(held) = held.get_mut(&id) else { return Posted::NotPending };
        let Stage::Delivered { by, at } = &held.stage else { return Posted::NotPending };
        if held.deadline <= now {
            return Posted::NotPending;
        }
        if answer.kind == AnswerKind::OauthDiscovery && held.kind != Kind::OauthDiscovery {
            return Posted::WrongKind;
        }
        let freed = if answer.kind.is_terminal() {
            presence.answered(by, now);
            if let Some(affinity) = affinity
                && !held.in_session
                && presence.is_affine(&held.channel, now)
                && let Some(session) = answer.session()
            {
                affinity.bind(&held.channel, session, &by.instance);
            }
            held.stage = Stage::Answered { at: Some(*at), by: Arc::clone(by) };
            held.terminal = Some(answer);
            std::mem::take(&mut held.room)
        } else {
            let bytes = answer.bytes();
            let full = held.notifications.len() >= self.limits.notifications
                || (!held.notifications.is_empty()
                    && held.notification_bytes + bytes > self.limits.notification_bytes);
            if full {
                held.room.extend(room.map(Arc::clone));
                return Posted::Full(answer);
            }
            held.notification_bytes += bytes;
            held.notifications.push_back(answer);
            Vec::new()
        };
        let waker = Arc::clone(&held.waker);
        drop(state);
        waker.wake();
        freed.iter().for_each(|waker| waker.wake());
        Posted::Taken
    }

    /// Ends a request whose client posted more than the server takes.
    pub(crate) fn answer_too_large(&self, id: RequestId) {
        self.end(id, |stage| matches!(stage, Stage::Delivered { .. }), End::AnswerTooLarge);
    }

    fn end(&self, id: RequestId, which: impl FnOnce(&Stage) -> bool, end: End) {
        let mut state = self.state();
        if let Some(waker) = state.end(id, which, end) {
            drop(state);
            waker.wake();
        }
    }

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

    /// Lets nothing new in; what is queued ends now, what is delivered may still be answered.
    pub(crate) fn drain(&self) {
        self.close(Phase::Draining);
    }

    /// Ends everything.
    pub(crate) fn cut(&self) {
        self.close(Phase::Cut);
    }

    /// Ends everything because the tunnel no longer exists.
    pub(crate) fn delete(&self) {
        self.close(Phase::Deleted);
    }

    fn close(&self, phase: Phase) {
        let mut state = self.state();
        if state.phase >= phase {
            return;
        }
        state.phase = phase;
        let mut wakers = state.pollers.drain();
        let end = if phase == Phase::Deleted { End::Deleted } else { End::Stopping };
        let ids: Vec<RequestId> = state.held.keys().copied().collect();
        for id in ids {
            let which = |stage: &Stage| match stage {
                Stage::Queued(_) => true,
                Stage::Delivered { .. } => phase > Phase::Draining,
                Stage::Answered { .. } | Stage::Ended(_) => false,
            };
            let number = state.held.get(&id).map(|held| held.number);
            if let Some(waker) = state.end(id, which, end) {
                wakers.push(waker);
                if let Some(queued) = number.and_then(|number| state.queue.remove(number)) {
                    self.budget.give(queued.bytes);
                }
            }
        }
        drop(state);
        wakers.iter().for_each(|waker| waker.wake());
    }

    /// Whether connected clients serve `channel`, by their own account.
    pub(crate) fn declares(&self, channel: &Channel) -> Declares {
        self.state().presence.declares(channel, Instant::now())
    }

    /// Whether the client `instance` can serve `channel`.
    pub(crate) fn is_connected(&self, instance: &str, channel: &Channel) -> bool {
        self.state().presence.is_connected(instance, channel, Instant::now())
    }

    /// Until when a parked poll may wait: where clients own channels, a lease that lapses wakes nobody.
    pub(crate) fn look_again(&self, deadline: Instant) -> Instant {
        match self.limits.affinity_lease {
            None => deadline,
            Some(_) => deadline.min(Instant::now() + LOOK_TIME),
        }
    }

    /// How busy it is.
    pub(crate) fn load(&self) -> Load {
        let state = self.state();
        Load {
            queued: state.queue.channels().map(|(channel, count)| (channel.clone(), count)).collect(),
            held: state.held.len(),
            parked: state.pollers.len(),
        }
    }

    /// Takes a held request out, with what became of it.
    pub(super) fn forget(&self, id: RequestId) -> Option<Held> {
        let mut state = self.state();
        let mut held = state.held.remove(&id)?;
        match &held.stage {
            Stage::Queued(_) => {
                if let Some(queued) = state.queue.remove(held.number) {
                    self.budget.give(queued.bytes);
                }
            }
            Stage::Delivered { by, .. } => state.presence.released(by),
            Stage::Answered { .. } | Stage::Ended(_) => {}
        }
        let emptied = state.phase != Phase::Open && state.held.is_empty();
        drop(state);
        if emptied {
            self.emptied.tell();
        }
        std::mem::take(&mut held.room).iter().for_each(|waker| waker.wake());
        Some(held)
    }
}

impl State {
    fn next_number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    /// The only client that may have `queued` at present.
    fn client_for(&self, queued: &Queued, now: Instant) -> Option<Arc<str>> {
        let owner = || {
            let owner = self.affinity.as_ref()?.owner(&queued.channel, &self.presence, now);
            owner.map(Arc::clone)
        };
        queued.pin.as_ref().map(Arc::clone).or_else(owner)
    }

    /// Takes the oldest command that the client `by` may have.
    fn take_of(&mut self, by: &ClientKey, now: Instant) -> Option<Queued> {
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
    fn poll_for(&mut self, queued: &Queued, now: Instant) -> Option<Arc<Waker>> {
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

    fn end(&mut self, id: RequestId, which: impl FnOnce(&Stage) -> bool, end: End) -> Option<Arc<Waker>> {
        let held = self.held.get_mut(&id).filter(|held| which(&held.stage))?;
        if let Stage::Delivered { by, .. } = &held.stage {
            self.presence.released(by);
        }
        held.stage = Stage::Ended(end);
        Some(Arc::clone(&held.waker))
    }
}

/// Time between looks of a parked poll where clients own channels.
const LOOK_TIME: Duration = Duration::from_millis(500);
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
