//! The HTTP/1.1 front of every listener: bounded connection threads, requests handed to a [`Service`].
//!
//! It exists because a held request and a parked poll must notice at once that their peer has gone.
//! Invariant: a fixed number of threads at most, each blocked in at most one system call that its
//! socket, its waker or a deadline ends.

mod body;
mod chunked;
mod connection;
mod exchange;
mod head;
mod listen;
mod live;
mod pool;
mod response;
mod socket;
mod tls;
mod transport;

use crate::order;
use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use self::listen::Acceptor;
use self::live::Live;
use self::pool::Pool;
use self::socket::Socket;
use super::{Cancel, Waker};

pub(crate) use self::body::{BadBody, Body};
pub(crate) use self::connection::Peer;
pub(crate) use self::exchange::{Exchange, Stream, Wake};
pub(crate) use self::head::{Head, Method};
pub(crate) use self::listen::Bound;
pub use self::listen::ListenAt;
pub(crate) use self::response::Response;
pub(crate) use self::tls::{Identity, TlsError, TlsFiles};

/// How long cut connections may take to end.
const CUT_TIME: Duration = Duration::from_secs(5);

/// Bounds of a front.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Time for a request head, from the first byte (from accepting, for the first request).
    pub(crate) head: Duration,
    /// Bytes of a request head, request line and all header fields together.
    pub(crate) head_bytes: usize,
    /// How long a kept connection may be silent; longer than clients keep theirs.
    pub(crate) idle: Duration,
    /// Time for a request body.
    pub(crate) body: Duration,
    /// Time for a small body that nobody wanted; its connection is closed if it takes longer.
    pub(crate) discard: Duration,
    /// Time for a peer to take one response or one piece of a stream.
    pub(crate) write: Duration,
    /// Connections at one time, of all listeners together.
    pub(crate) connections: usize,
}

/// What becomes of a connection beyond the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WhenFull {
    /// It is told 503.
    Refuse,
    /// It takes the place of the one that has kept us waiting for longest; 503 only if none waits.
    Evict,
}

/// What a front is called and how it behaves.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Target of its log events, and the beginning of its threads' names.
    pub(crate) name: &'static str,
    /// Bounds.
    pub(crate) limits: Limits,
    /// What becomes of a connection beyond the limit.
    pub(crate) when_full: WhenFull,
    /// Stack of a connection's thread, in bytes; only what is touched takes memory.
    pub(crate) stack_bytes: usize,
}

/// Stack that answering with what is at hand needs.
pub(crate) const SMALL_STACK_BYTES: usize = 256 * 1024;

/// What answers the requests.
pub(crate) trait Service: Send + Sync + 'static {
    /// Answers one request; without a response the connection is closed.
    fn call(&self, head: &Head, exchange: &mut Exchange<'_>);

    /// The response to what never became a request, in the service's own error format.
    fn refusal(&self, status: u16, reason: &str) -> Response;

    /// A fresh id of an exchange, sent as `X-Request-Id`; `None` sends none.
    fn exchange_id(&self) -> Option<String> {
        None
    }
}

/// State that all connections of a front share.
struct Shared {
    settings: Settings,
    /// The beginning of the front's clock.
    started: Instant,
    /// The same as `stop`, without its lock: asked for every request.
    stopping: AtomicBool,
    stop: Cancel,
    connections: Mutex<HashMap<u64, Registered>>,
}

struct Registered {
    live: Arc<Live>,
    socket: Arc<Socket>,
}

impl Shared {
    fn connections(&self) -> MutexGuard<'_, HashMap<u64, Registered>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is a place for one more connection, if need be that of one that only waits. A thread
    /// may still be on its way back from it.
    fn make_room(&self) -> bool {
        let connections = self.connections();
        if connections.len() < self.settings.limits.connections {
            return true;
        }
        if self.settings.when_full == WhenFull::Refuse {
            return false;
        }
        let mut waiting: Vec<(u64, &Registered)> =
            connections.values().filter_map(|one| one.live.waits().map(|state| (state, one))).collect();
        order::sort_by_key(&mut waiting, |(state, _)| *state >> 1);
        // One that has just got what it waited for is passed over.
        let cut = waiting.into_iter().find(|(state, one)| one.live.cut(*state));
        if let Some((_, one)) = cut {
            one.socket.shut();
        }
        cut.is_some()
    }
}

/// A running front. [`Front::stop`] ends it; dropping it cuts everything.
pub(crate) struct Front {
    shared: Arc<Shared>,
    pool: Arc<Pool>,
    acceptors: Vec<(Arc<Waker>, JoinHandle<()>)>,
}

impl Front {
    /// Accepts connections of `listeners` and answers their requests with `service`. A listener that
    /// dies tells `failed`, on its own thread.
    pub(crate) fn start(
        listeners: Vec<Bound>,
        settings: Settings,
        service: Arc<dyn Service>,
        failed: impl Fn(io::Error) + Clone + Send + 'static,
    ) -> io::Result<Front> {
        let pool = Pool::new(settings.limits.connections, settings.name, settings.stack_bytes);
        let name = settings.name;
        let shared = Arc::new(Shared {
            settings,
            started: Instant::now(),
            stopping: AtomicBool::new(false),
            stop: Cancel::new(),
            connections: Mutex::new(HashMap::new()),
        });
        let mut front = Front { shared: Arc::clone(&shared), pool: Arc::clone(&pool), acceptors: Vec::new() };
        for (number, bound) in listeners.into_iter().enumerate() {
            let waker = Arc::new(Waker::new()?);
            let acceptor = Acceptor {
                number,
                bound,
                shared: Arc::clone(&shared),
                pool: Arc::clone(&pool),
                service: Arc::clone(&service),
                waker: Arc::clone(&waker),
            };
            let failed = failed.clone();
            let thread = std::thread::Builder::new().name(format!("{name}-accept-{number}"));
            let thread = thread.spawn(move || {
                if let Err(error) = acceptor.run() {
                    failed(error);
                }
            })?;
            front.acceptors.push((waker, thread));
        }
        Ok(front)
    }

    /// Stops accepting and cuts idle connections; those with a request in hand close after their response.
    pub(crate) fn drain(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.shared.stop.cancel();
        for (waker, _) in &self.acceptors {
            waker.wake();
        }
        for (_, thread) in self.acceptors.drain(..) {
            let _ = thread.join();
        }
        for registered in self.shared.connections().values() {
            let idle = registered.live.waits().filter(|state| Live::is_between(*state));
            if idle.is_some_and(|state| registered.live.cut(state)) {
                registered.socket.shut();
            }
        }
        self.pool.close();
    }

    /// Waits until every connection has ended, at most `time`; false if some have not.
    pub(crate) fn wait_drained(&self, time: Duration) -> bool {
        self.pool.wait_empty(Instant::now() + time)
    }

    /// Ends everything now and joins the threads.
    pub(crate) fn stop(mut self) {
        self.cut();
    }

    fn cut(&mut self) {
        self.drain();
        for registered in self.shared.connections().values() {
            registered.socket.shut();
        }
        if !self.pool.wait_empty(Instant::now() + CUT_TIME) {
            log::error!(target: self.shared.settings.name, "connection threads did not end in time");
        }
        self.pool.reap();
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.cut();
    }
}
