//! The server's own manner of the HTTP front: its bounds, and ids for all of its exchanges.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::Sender;

use super::api::Api;
use crate::net::front::{Bound, Front, Limits, SMALL_STACK_BYTES, Settings, WhenFull};

/// Bytes of a request head; proxies in front of a server add to it.
const HEAD_BYTES: usize = 32 * 1024;
/// Time for a request head.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// Time for a request body.
const BODY_TIME: Duration = Duration::from_secs(30);
/// Time for a small body that nobody wanted.
const DISCARD_TIME: Duration = Duration::from_secs(1);
/// How long a kept connection may be silent.
const IDLE_TIME: Duration = Duration::from_secs(120);
/// Time for a peer to take one response or one piece of a stream.
const WRITE_TIME: Duration = Duration::from_secs(30);

/// Serves `api` on `listeners` over `connections` at a time; more are told 503, for those that wait do so
/// on purpose. A listener that dies says so on `failed`.
pub(super) fn start(
    listeners: Vec<Bound>,
    connections: usize,
    api: Arc<Api>,
    failed: &Sender<io::Error>,
) -> io::Result<Front> {
    let limits = Limits {
        head: HEAD_TIME,
        head_bytes: HEAD_BYTES,
        idle: IDLE_TIME,
        body: BODY_TIME,
        discard: DISCARD_TIME,
        write: WRITE_TIME,
        connections,
    };
    let settings =
        Settings { name: "server", limits, when_full: WhenFull::Refuse, stack_bytes: SMALL_STACK_BYTES };
    let failed = failed.clone();
    Front::start(listeners, settings, api, move |error| {
        let _ = failed.send(error);
    })
}

/// Numbers exchanges, so that they can be told apart among those of other runs as well.
pub(super) struct ExchangeIds {
    prefix: u64,
    next: AtomicU64,
}

impl ExchangeIds {
    /// Ids of a run of their own; fails when the system has no random bytes.
    pub(super) fn new() -> Result<ExchangeIds, getrandom::Error> {
        let mut seed = [0u8; 8];
        getrandom::fill(&mut seed)?;
        Ok(ExchangeIds { prefix: u64::from_ne_bytes(seed), next: AtomicU64::new(0) })
    }

    /// A fresh `X-Request-Id`.
    pub(super) fn next(&self) -> String {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        format!("{:016x}{number:016x}", self.prefix)
    }
}
