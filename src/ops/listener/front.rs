//! Connections: accepting, bounding, serving and ending them.
//!
//! One thread a connection, [`Limits::connections`] at most. Invariant: a peer that is slow or idle
//! never keeps a new one out, for a new connection replaces the one that has been idle longest.

use std::collections::HashMap;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use super::Limits;
use super::bind::Listening;
use super::request::{HeadError, read_head};
use super::response::{self, Response};
use super::router::Router;
use super::socket::{Peer, Socket};
use crate::net::Cancel;

/// Stack of a connection's thread, in bytes; nothing in here recurses.
const STACK_BYTES: usize = 256 * 1024;
/// Pause after a failure to accept, which the lack of file descriptors makes lasting.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long, and for how many bytes, a peer that was refused may go on sending before its connection
/// is cut; cutting at once would destroy the answer on its way.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 256 * 1024;

/// What the connections share.
pub(super) struct Front {
    limits: Limits,
    router: Router,
    pub(super) stopping: Cancel,
    connections: Mutex<Connections>,
    /// A connection has ended.
    ended: Condvar,
}

#[derive(Default)]
struct Connections {
    next_id: u64,
    open: HashMap<u64, Connection>,
    threads: Vec<JoinHandle<()>>,
}

struct Connection {
    socket: Arc<Socket>,
    /// Since when it waits for a request (or sends one); `None` while one is being answered.
    idle_since: Option<Instant>,
}

impl Front {
    pub(super) fn new(limits: Limits, router: Router) -> Front {
        Front {
            limits,
            router,
            stopping: Cancel::new(),
            connections: Mutex::default(),
            ended: Condvar::new(),
        }
    }

    /// Accepts until `wake` becomes readable.
    pub(super) fn accept_loop(self: &Arc<Front>, listening: &Listening, wake: BorrowedFd<'_>) {
        let mut failing = false;
        loop {
            let listener = match listening {
                Listening::Tcp(listener) => listener.as_fd(),
                Listening::Unix { listener, .. } => listener.as_fd(),
            };
            let mut fds = [
                PollFd::from_borrowed_fd(listener, PollFlags::IN),
                PollFd::from_borrowed_fd(wake, PollFlags::IN),
            ];
            let polled = poll(&mut fds, None);
            if self.stopping.is_cancelled() {
                return;
            }
            let accepted = match (polled, listening) {
                (Err(rustix::io::Errno::INTR), _) => continue,
                (Err(error), _) => Err(error.into()),
                (Ok(_), Listening::Tcp(listener)) => {
                    listener.accept().map(|(stream, peer)| (Socket::Tcp(stream), Peer::Tcp(peer)))
                }
                (Ok(_), Listening::Unix { listener, .. }) => {
                    listener.accept().map(|(stream, _)| (Socket::Unix(stream), Peer::Unix))
                }
            };
            match accepted.and_then(|(socket, peer)| self.admit(socket, peer)) {
                Ok(()) => failing = false,
                Err(error) if is_harmless(&error) => {}
                Err(error) => {
                    if !failing {
                        log::error!(target: "health", error:% = error; "health server error");
                    }
                    failing = true;
                    if self.stopping.wait(ACCEPT_PAUSE) {
                        return;
                    }
                }
            }
        }
    }

    fn admit(self: &Arc<Front>, socket: Socket, peer: Peer) -> io::Result<()> {
        prepare(&socket)?;
        let socket = Arc::new(socket);
        let mut connections = self.lock();
        // Finished threads are joined here, which takes no time; the rest when the listener stops.
        let (finished, running) =
            std::mem::take(&mut connections.threads).into_iter().partition(JoinHandle::is_finished);
        connections.threads = running;
        if connections.open.len() >= self.limits.connections {
            let idle = connections.open.iter().filter_map(|(id, c)| c.idle_since.map(|since| (since, *id)));
            match idle.min() {
                Some((_, id)) => {
                    if let Some(evicted) = connections.open.remove(&id) {
                        evicted.socket.shutdown(Shutdown::Both);
                    }
                }
                None => {
                    drop(connections);
                    let busy = Response::error(503, "too many connections");
                    let _ = self.send(&socket, busy, false, false, true);
                    return Ok(());
                }
            }
        }
        connections.next_id += 1;
        let id = connections.next_id;
        let front = Arc::clone(self);
        let own = Arc::clone(&socket);
        let thread = std::thread::Builder::new()
            .name("listener-conn".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                front.serve(id, &own, peer);
                own.shutdown(Shutdown::Both);
                front.lock().open.remove(&id);
                front.ended.notify_all();
            })?;
        connections.open.insert(id, Connection { socket, idle_since: Some(Instant::now()) });
        connections.threads.push(thread);
        drop(connections);
        finished.into_iter().for_each(join);
        Ok(())
    }

    /// Answers the requests of one connection, one after the other.
    fn serve(&self, id: u64, socket: &Socket, peer: Peer) {
        let mut buffer = Vec::new();
        let mut fresh = true;
        loop {
            let mut request = match read_head(socket, &mut buffer, peer, &self.limits, fresh) {
                Ok(request) => request,
                Err(HeadError::Gone) => return,
                Err(HeadError::Refused(status)) => {
                    let text = response::phrase(status);
                    let _ = self.send(socket, Response::error(status, text), false, false, true);
                    return self.linger(socket);
                }
            };
            fresh = false;
            if !self.mark(id, None) {
                return;
            }
            let response = match catch_unwind(AssertUnwindSafe(|| self.router.answer(&mut request))) {
                Ok(response) => response,
                Err(_) => {
                    log::error!(target: "health", path = request.path.as_str(); "answering a request failed");
                    request.keep_alive = false;
                    Response::error(500, "internal error")
                }
            };
            let head_only = request.method == "HEAD";
            let chunks = request.chunks;
            let unread = !request.body.is_done() && !request.body.skip();
            let keep_alive = request.keep_alive && !unread && !self.stopping.is_cancelled();
            let sent = self.send(socket, response, head_only, keep_alive, chunks);
            if sent.is_err() || !self.mark(id, Some(Instant::now())) {
                return;
            }
            if unread {
                return self.linger(socket);
            }
            if !keep_alive {
                return;
            }
        }
    }

    fn send(
        &self,
        socket: &Socket,
        response: Response,
        head_only: bool,
        keep_alive: bool,
        chunks: bool,
    ) -> io::Result<()> {
        response::send(socket, response, head_only, keep_alive, chunks, &self.limits, &self.stopping)
    }

    /// Notes what a connection does; false when it has been evicted or the listener stops.
    fn mark(&self, id: u64, idle_since: Option<Instant>) -> bool {
        let mut connections = self.lock();
        let Some(connection) = connections.open.get_mut(&id) else { return false };
        connection.idle_since = idle_since;
        // Under the lock, or a connection could become idle just after the idle ones were closed.
        !(idle_since.is_some() && self.stopping.is_cancelled())
    }

    fn linger(&self, socket: &Socket) {
        socket.shutdown(Shutdown::Write);
        let deadline = Instant::now() + LINGER.min(self.limits.head);
        let mut bytes = [0; 4096];
        let mut left = LINGER_BYTES;
        while let Ok(count) = socket.read(&mut bytes, deadline) {
            left = left.saturating_sub(count);
            if count == 0 || left == 0 || self.stopping.is_cancelled() {
                return;
            }
        }
    }

    /// Ends idle connections at once and busy ones after their answer or at `deadline`; joins their
    /// threads.
    pub(super) fn stop(&self, deadline: Instant) {
        self.stopping.cancel();
        let mut connections = self.lock();
        connections.open.retain(|_, connection| {
            if connection.idle_since.is_some() {
                connection.socket.shutdown(Shutdown::Both);
            }
            connection.idle_since.is_none()
        });
        while !connections.open.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            connections =
                self.ended.wait_timeout(connections, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        connections.open.drain().for_each(|(_, connection)| connection.socket.shutdown(Shutdown::Both));
        let threads = std::mem::take(&mut connections.threads);
        drop(connections);
        // Their sockets are shut down: none of them waits any longer.
        threads.into_iter().for_each(join);
    }

    fn lock(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn prepare(socket: &Socket) -> io::Result<()> {
    match socket {
        Socket::Tcp(stream) => {
            stream.set_nonblocking(false)?;
            stream.set_nodelay(true)
        }
        Socket::Unix(stream) => stream.set_nonblocking(false),
    }
}

/// The peer went away before it was accepted, or another `poll` was faster.
fn is_harmless(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, InvalidInput, WouldBlock};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | InvalidInput | WouldBlock)
}

fn join(thread: JoinHandle<()>) {
    // A panic in it was reported when it happened.
    let _ = thread.join();
}
