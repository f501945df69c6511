//! The HTTP/1.1 front: listeners, bounded connection threads, requests handed to a [`Service`].
//!
//! It exists because a held request and a parked poll must notice at once that their peer has gone.
//! Invariant: a fixed number of threads at most, each blocked in at most one system call that its
//! socket, its waker or a deadline ends.

mod chunked;
mod connection;
mod exchange;
mod head;
mod listen;
mod pool;
mod response;
mod socket;
mod tls;
mod transport;

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use self::listen::Acceptor;
use self::pool::Pool;
use self::socket::Socket;
use super::waker::Waker;

pub(crate) use self::exchange::{BadBody, Exchange, Stream, Wake};
pub(crate) use self::head::{Head, Method};
pub(crate) use self::listen::Bound;
pub use self::listen::ListenAt;
pub(crate) use self::response::{Response, is_name, is_value};
pub(crate) use self::tls::{Identity, TlsError, TlsFiles};

/// Time for a request head, from the first byte (from accepting, for the first request).
const HEAD_TIME: Duration = Duration::from_secs(5);
/// Time for a request body.
const BODY_TIME: Duration = Duration::from_secs(30);
/// How long a kept connection may be silent; longer than clients keep theirs.
const IDLE_TIME: Duration = Duration::from_secs(120);
/// Time for a peer to take one response or one piece of a stream.
const WRITE_TIME: Duration = Duration::from_secs(30);
/// How long cut connections may take to end.
const CUT_TIME: Duration = Duration::from_secs(5);

/// What answers the requests.
pub(crate) trait Service: Send + Sync + 'static {
    /// Answers one request; without a response the connection is closed.
    fn call(&self, head: &Head, exchange: &mut Exchange<'_>);
    /// The response to what never became a request, in the service's own error format.
    fn refusal(&self, status: u16, reason: &str) -> Response;
}

/// State that all connections of a front share.
struct Shared {
    stopping: AtomicBool,
    id_prefix: u64,
    next_id: AtomicU64,
    connections: Mutex<HashMap<u64, Registered>>,
}

struct Registered {
    live: Arc<Live>,
    socket: Arc<Socket>,
}

/// What a connection shows to the rest of its front.
struct Live {
    shared: Arc<Shared>,
    /// Between requests: may be cut when the front stops.
    idle: AtomicBool,
}

impl Live {
    fn stopping(&self) -> bool {
        self.shared.stopping.load(Ordering::SeqCst)
    }
}

impl Shared {
    /// A fresh `X-Request-Id`.
    fn exchange_id(&self) -> String {
        let number = self.next_id.fetch_add(1, Ordering::Relaxed);
        format!("{:016x}{number:016x}", self.id_prefix)
    }

    fn connections(&self) -> MutexGuard<'_, HashMap<u64, Registered>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running front. [`Front::stop`] ends it; dropping it cuts everything.
pub(crate) struct Front {
    shared: Arc<Shared>,
    pool: Arc<Pool>,
    acceptors: Vec<(Arc<Waker>, JoinHandle<()>)>,
}

impl Front {
    /// Accepts connections of `listeners`, at most `connections` at a time; more are told 503. A
    /// listener that dies says so on `failed`.
    pub(crate) fn start(
        listeners: Vec<Bound>,
        connections: usize,
        service: Arc<dyn Service>,
        failed: &Sender<io::Error>,
    ) -> io::Result<Front> {
        let mut seed = [0u8; 8];
        getrandom::fill(&mut seed).map_err(io::Error::other)?;
        let shared = Arc::new(Shared {
            stopping: AtomicBool::new(false),
            id_prefix: u64::from_ne_bytes(seed),
            next_id: AtomicU64::new(0),
            connections: Mutex::new(HashMap::new()),
        });
        let pool = Pool::new(connections);
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
            let thread = std::thread::Builder::new().name(format!("accept-{number}")).spawn(move || {
                if let Err(error) = acceptor.run() {
                    let _ = failed.send(error);
                }
            })?;
            front.acceptors.push((waker, thread));
        }
        Ok(front)
    }

    /// Stops accepting and cuts idle connections; those with a request in hand close after their response.
    pub(crate) fn drain(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        for (waker, _) in &self.acceptors {
            waker.wake();
        }
        for (_, thread) in self.acceptors.drain(..) {
            let _ = thread.join();
        }
        for registered in self.shared.connections().values() {
            if registered.live.idle.load(Ordering::SeqCst) {
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
            log::error!(target: "server", "connection threads did not end in time");
        }
        self.pool.reap();
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.cut();
    }
}
