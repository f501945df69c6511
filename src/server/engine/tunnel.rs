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
use super::poll::Poll;
use super::pollers::Pollers;
use super::presence::{About, ClientKey, ClientView, Declares, Presence, Standing};
use super::queue::{Queue, Queued};
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
    pub(super) affinity: Option<Affinity>,
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

    /// Begins a poll of the client `key`.
    pub(crate) fn poll(self: &Arc<Self>, key: ClientKey, about: &About<'_>, waker: Arc<Waker>) -> Poll {
        let key = Arc::new(key);
        let (number, readable) = {
            let mut state = self.state();
            let readable = state.presence.poll_began(&key, about, Instant::now());
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
            held.stage = Stage::Answered { by: Arc::clone(by), at: *at };
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
            wakers.extend(state.end(id, which, end));
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

    /// The clients that are remembered.
    pub(crate) fn clients(&self) -> Vec<ClientView> {
        self.state().presence.clients(Instant::now())
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
            // What ended in the queue still stands there.
            Stage::Queued(_) | Stage::Ended(_) => {
                if let Some(queued) = state.queue.remove(held.number) {
                    self.budget.give(queued.bytes);
                }
            }
            Stage::Delivered { by, .. } => state.presence.released(by),
            Stage::Answered { .. } => {}
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

    pub(super) fn end(
        &mut self,
        id: RequestId,
        which: impl FnOnce(&Stage) -> bool,
        end: End,
    ) -> Option<Arc<Waker>> {
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
