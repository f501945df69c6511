//! The control plane's engine: tunnels with their queues, held requests and parked polls, in memory.
//!
//! Knows no HTTP. Invariants: a command is handed to at most one poll whose reply was written in full;
//! a held request ends exactly once; after that nothing can be posted for it.

mod affinity;
mod answer;
mod assign;
mod bounds;
mod command;
mod counters;
mod declared;
mod handout;
mod held;
mod hold;
mod poll;
mod pollers;
mod presence;
mod queue;
mod rate;
mod token;
mod tunnel;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use crate::ids::TunnelId;

pub(crate) use self::answer::{Answer, AnswerKind, Json};
pub(crate) use self::bounds::Limits;
use self::bounds::{Budget, Emptied};
use self::command::RequestIds;
pub(crate) use self::command::{Command, Header, Kind, RequestId};
pub(crate) use self::counters::{BUCKETS, Counters, Histogram, Origin, Outcome, PostResult};
pub(crate) use self::held::End;
pub(crate) use self::hold::{Hold, Step, Story};
pub(crate) use self::poll::Found;
pub(crate) use self::presence::{About, ClientKey, ClientView, Declares};
pub(crate) use self::queue::Subscription;
pub(crate) use self::rate::Rate;
pub(crate) use self::token::{Sealer, same};
pub(crate) use self::tunnel::{Admission, Load, Posted, Refusal, Tunnel};

/// Bytes queued in all tunnels together.
pub(crate) const PROCESS_QUEUE_BYTES: usize = 512 * 1024 * 1024;

/// All tunnels of a process.
pub(crate) struct Engine {
    tunnels: RwLock<HashMap<TunnelId, Arc<Tunnel>>>,
    budget: Arc<Budget>,
    counters: Arc<Counters>,
    emptied: Arc<Emptied>,
    sealer: Sealer,
    ids: RequestIds,
    /// What is added from now on takes no work either.
    draining: AtomicBool,
}

impl Engine {
    /// An engine without tunnels; fails when the kernel gives no random bytes.
    pub(crate) fn new() -> Result<Engine, getrandom::Error> {
        Ok(Engine {
            tunnels: RwLock::default(),
            budget: Arc::new(Budget::new(PROCESS_QUEUE_BYTES)),
            counters: Arc::default(),
            emptied: Arc::default(),
            sealer: Sealer::new()?,
            ids: RequestIds::new()?,
            draining: AtomicBool::new(false),
        })
    }

    /// Adds a tunnel; one that exists stays as it is, whatever its limits.
    pub(crate) fn add(&self, id: TunnelId, limits: Limits) {
        let mut tunnels = self.tunnels.write().unwrap_or_else(PoisonError::into_inner);
        tunnels.entry(id.clone()).or_insert_with(|| {
            let (budget, counters) = (Arc::clone(&self.budget), Arc::clone(&self.counters));
            let tunnel = Tunnel::new(id, limits, budget, counters, Arc::clone(&self.emptied));
            if self.draining.load(Ordering::SeqCst) {
                tunnel.drain();
            }
            Arc::new(tunnel)
        });
    }

    /// Removes a tunnel and ends everything that goes on in it.
    pub(crate) fn remove(&self, id: &TunnelId) {
        let removed = self.tunnels.write().unwrap_or_else(PoisonError::into_inner).remove(id);
        if let Some(tunnel) = removed {
            tunnel.delete();
        }
    }

    /// The tunnel of that id.
    pub(crate) fn tunnel(&self, id: &TunnelId) -> Option<Arc<Tunnel>> {
        self.tunnels.read().unwrap_or_else(PoisonError::into_inner).get(id).map(Arc::clone)
    }

    /// All tunnels, in no particular order.
    pub(crate) fn tunnels(&self) -> Vec<Arc<Tunnel>> {
        self.tunnels.read().unwrap_or_else(PoisonError::into_inner).values().map(Arc::clone).collect()
    }

    /// Seals and opens the shard tokens.
    pub(crate) fn sealer(&self) -> &Sealer {
        &self.sealer
    }

    /// A fresh request id.
    pub(crate) fn request_id(&self) -> RequestId {
        self.ids.next()
    }

    /// What is counted.
    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Lets nothing new in; what is delivered may still be answered.
    pub(crate) fn drain(&self) {
        // First: a tunnel that is not among the others by then has seen it.
        self.draining.store(true, Ordering::SeqCst);
        self.tunnels().iter().for_each(|tunnel| tunnel.drain());
    }

    /// Waits until nothing is held any more; false if `deadline` came first.
    pub(crate) fn wait_empty(&self, deadline: Instant) -> bool {
        self.emptied.wait(deadline, || self.tunnels().iter().all(|tunnel| tunnel.load().held == 0))
    }

    /// Ends everything.
    pub(crate) fn cut(&self) {
        self.tunnels().iter().for_each(|tunnel| tunnel.cut());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::net::Waker;

    #[test]
    fn a_tunnel_that_is_made_while_the_server_stops_takes_no_work() {
        let limits = Limits {
            response_timeout: Duration::from_secs(1),
            client_last_seen_timeout: Duration::from_secs(1),
            queue_max: 1,
            queue_bytes: 1,
            notifications: 1,
            notification_bytes: 1,
            rate: None,
            affinity_lease: None,
        };
        let engine = Engine::new().unwrap();
        let found = |id: &str| {
            let id = TunnelId::parse(id).unwrap();
            engine.add(id.clone(), limits.clone());
            let client = ClientKey { instance: String::new(), subscription: Arc::new(Subscription::All) };
            let waker = Arc::new(Waker::new().unwrap());
            engine.tunnel(&id).unwrap().poll(client, &About::default(), waker).take_or_park(1)
        };
        assert!(matches!(found("tunnel_0123456789abcdef0123456789abcdef"), Found::Parked));
        engine.drain();
        assert!(matches!(found("tunnel_1123456789abcdef0123456789abcdef"), Found::Stopping));
    }
}
