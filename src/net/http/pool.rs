//! Connections between two requests.
//!
//! The connection used last is used next: its buffers and the kernel's are warm, and what is not needed
//! grows old and is dropped. No system call is made under the lock.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use crate::net::connection::{Connection, Opener};
use crate::net::{Cause, Deadline, Error, Uri};

/// Idle connections of one route, and the way to new ones.
pub(super) struct Pool {
    opener: Opener,
    /// The most recently used last.
    idle: Mutex<VecDeque<Idle>>,
}

struct Idle {
    connection: Box<Connection>,
    since: Instant,
}

/// All pools of the process: what idles in one may be what another one lacks.
static POOLS: Mutex<Vec<Weak<Pool>>> = Mutex::new(Vec::new());

impl Pool {
    pub(super) fn new(opener: Opener) -> Arc<Pool> {
        let pool = Arc::new(Pool { opener, idle: Mutex::default() });
        let mut pools = lock_pools();
        pools.retain(|pool| pool.strong_count() > 0);
        pools.push(Arc::downgrade(&pool));
        pool
    }

    pub(super) fn opener(&self) -> &Opener {
        &self.opener
    }

    /// A connection for a request to `uri`: an idle one that still stands and whose certificates have not
    /// been replaced, or a new one.
    pub(super) fn connect(&self, uri: &Uri, deadline: Deadline) -> Result<Box<Connection>, Error> {
        let generation = self.opener.generation();
        while let Some(mut connection) = self.take(uri) {
            if connection.generation == generation && connection.is_quiet() {
                connection.reused = true;
                return Ok(connection);
            }
        }
        let opened = match self.opener.open(uri, deadline) {
            Err(error) if error.cause == Cause::Exhausted => {
                clear_all();
                self.opener.open(uri, deadline)
            }
            opened => opened,
        };
        opened.map(Box::new)
    }

    /// Takes back a connection whose reply was read to its end.
    pub(super) fn put(&self, mut connection: Box<Connection>) {
        if self.opener.cancel().is_cancelled() {
            return;
        }
        connection.buffers.shrink();
        let surplus = {
            let mut idle = self.lock();
            idle.push_back(Idle { connection, since: Instant::now() });
            let surplus = idle.len().saturating_sub(self.opener.limits().idle_connections);
            if surplus == 0 { None } else { Some(idle.drain(..surplus).collect::<Vec<_>>()) }
        };
        // Closed outside the lock.
        drop(surplus);
        if self.opener.cancel().is_cancelled() {
            self.clear();
        }
    }

    /// Drops every idle connection.
    pub(super) fn clear(&self) {
        let idle = std::mem::take(&mut *self.lock());
        drop(idle);
    }

    fn take(&self, uri: &Uri) -> Option<Box<Connection>> {
        let now = Instant::now();
        let age = self.opener.limits().idle_age;
        let (found, old) = {
            let mut idle = self.lock();
            let young = idle.partition_point(|entry| now.saturating_duration_since(entry.since) >= age);
            let old = if young == 0 { None } else { Some(idle.drain(..young).collect::<Vec<_>>()) };
            let index = idle.iter().rposition(|entry| entry.connection.origin.is_of(uri));
            (index.and_then(|index| idle.remove(index)), old)
        };
        drop(old);
        found.map(|entry| entry.connection)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Drops the idle connections of every pool, for the descriptors they hold.
fn clear_all() {
    let pools: Vec<Arc<Pool>> = lock_pools().iter().filter_map(Weak::upgrade).collect();
    pools.iter().for_each(|pool| pool.clear());
}

fn lock_pools() -> MutexGuard<'static, Vec<Weak<Pool>>> {
    POOLS.lock().unwrap_or_else(PoisonError::into_inner)
}
