//! The load: a control plane that keeps a fixed number of calls outstanding.
//!
//! Each of its `slots` has one call under way. The thread that receives the answer checks it byte for byte,
//! notes the latency, and puts the slot's next call on the queue, so the load needs no threads of its own and
//! what is measured is mostly the subject. Only this rig knows the answers; both subjects face the same one.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustls::ServerConfig;

use crate::payload;
use crate::wire::{self, Conn, Stream};

/// The tunnel of every run.
pub(crate) const TUNNEL_ID: &str = "tunnel_0123456789abcdef0123456789abcdef";
/// A park of a poll never lasts longer.
const PARK_MAX: Duration = Duration::from_secs(5);
/// Commands in one reply.
const BATCH_MAX: usize = 25;

/// What one case sends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Calls kept outstanding.
    pub(crate) slots: usize,
    /// Size of the text in a call and in its answer.
    pub(crate) text_bytes: usize,
    /// Notifications that must come before each answer.
    pub(crate) notifications: u8,
}

/// What was counted; all of `wrong`, `repeated` and `lost` must be 0.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) completed: u64,
    /// Not the echo that was due, or with notifications missing.
    pub(crate) wrong: u64,
    /// A second answer to a call, or a notification after its answer.
    pub(crate) repeated: u64,
    /// Calls without an answer when the load had stopped.
    pub(crate) lost: u64,
    pub(crate) polls: u64,
    pub(crate) connections: u64,
}

pub(crate) struct ControlPlane {
    addr: SocketAddr,
    state: Arc<State>,
    listener: Option<JoinHandle<()>>,
}

struct State {
    load: Load,
    slots: Vec<Mutex<Slot>>,
    ready: Mutex<VecDeque<usize>>,
    wake: Condvar,
    first_poll: Mutex<Option<Instant>>,
    polled: Condvar,
    /// While set, an answered slot sends its next call.
    loading: AtomicBool,
    /// While set, latencies are noted.
    measuring: AtomicBool,
    closed: AtomicBool,
    latencies_us: Mutex<Vec<u32>>,
    completed: AtomicU64,
    wrong: AtomicU64,
    repeated: AtomicU64,
    polls: AtomicU64,
    connections: AtomicU64,
    first_wrong: Mutex<Option<String>>,
}

struct Slot {
    seq: u64,
    open: bool,
    notifications: u8,
    enqueued: Instant,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ControlPlane {
    pub(crate) fn start(load: Load, tls: Option<Arc<ServerConfig>>) -> io::Result<ControlPlane> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let addr = listener.local_addr()?;
        let slot = || Slot { seq: 0, open: false, notifications: 0, enqueued: Instant::now() };
        let state = Arc::new(State {
            load,
            slots: (0..load.slots).map(|_| Mutex::new(slot())).collect(),
            ready: Mutex::new(VecDeque::with_capacity(load.slots)),
            wake: Condvar::new(),
            first_poll: Mutex::new(None),
            polled: Condvar::new(),
            loading: AtomicBool::new(false),
            measuring: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            latencies_us: Mutex::new(Vec::with_capacity(1 << 20)),
            completed: AtomicU64::new(0),
            wrong: AtomicU64::new(0),
            repeated: AtomicU64::new(0),
            polls: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            first_wrong: Mutex::new(None),
        });
        let accepting = state.clone();
        let listener = thread::Builder::new()
            .name("control-plane".into())
            .spawn(move || accept(&listener, &accepting, tls.as_ref()))?;
        Ok(ControlPlane { addr, state, listener: Some(listener) })
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// When the subject polled first, waiting for it if need be.
    pub(crate) fn first_poll(&self, wait: Duration) -> Option<Instant> {
        let guard = lock(&self.state.first_poll);
        let waited = self.state.polled.wait_timeout_while(guard, wait, |seen| seen.is_none());
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Puts a call into every slot and keeps it so.
    pub(crate) fn start_load(&self) {
        self.state.loading.store(true, Relaxed);
        for (number, slot) in self.state.slots.iter().enumerate() {
            let mut slot = lock(slot);
            if !slot.open {
                self.state.enqueue(number, &mut slot);
            }
        }
    }

    pub(crate) fn measure(&self, on: bool) {
        self.state.measuring.store(on, Relaxed);
    }

    /// Lets the outstanding calls end, for at most `wait`; what is unanswered then is lost.
    pub(crate) fn stop_load(&self, wait: Duration) -> u64 {
        self.state.loading.store(false, Relaxed);
        let until = Instant::now() + wait;
        loop {
            let open = self.state.slots.iter().filter(|slot| lock(slot).open).count();
            if open == 0 || Instant::now() >= until {
                return open as u64;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn tally(&self) -> Tally {
        Tally {
            completed: self.state.completed.load(Relaxed),
            wrong: self.state.wrong.load(Relaxed),
            repeated: self.state.repeated.load(Relaxed),
            lost: 0,
            polls: self.state.polls.load(Relaxed),
            connections: self.state.connections.load(Relaxed),
        }
    }

    /// The latencies noted since the last call, in microseconds.
    pub(crate) fn take_latencies(&self) -> Vec<u32> {
        std::mem::take(&mut lock(&self.state.latencies_us))
    }

    /// The first wrong answer, for the report.
    pub(crate) fn first_wrong(&self) -> Option<String> {
        lock(&self.state.first_wrong).clone()
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.state.closed.store(true, Relaxed);
        self.state.wake.notify_all();
        drop(std::net::TcpStream::connect(self.addr));
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
    }
}

/// Ends when closed; the connection threads end with their peers, which are stopped before.
fn accept(listener: &TcpListener, state: &Arc<State>, tls: Option<&Arc<ServerConfig>>) {
    let mut threads = Vec::new();
    for socket in listener.incoming() {
        if state.closed.load(Relaxed) {
            break;
        }
        let Ok(socket) = socket else { continue };
        state.connections.fetch_add(1, Relaxed);
        let (state, tls) = (state.clone(), tls.cloned());
        let serve = move || {
            if let Ok(stream) = Stream::accepted(socket, tls.as_ref()) {
                let _ = state.serve(&mut Conn::new(stream));
            }
        };
        let builder = thread::Builder::new().name("control-plane-conn".into()).stack_size(256 << 10);
        threads.extend(builder.spawn(serve).ok());
    }
    for thread in threads {
        let _ = thread.join();
    }
}

impl State {
    fn serve(&self, conn: &mut Conn) -> io::Result<()> {
        while let Some(message) = conn.receive()? {
            let head = conn.bytes(&message.head);
            if head.starts_with(b"POST ") {
                let taken = self.take_response(head, conn.bytes(&message.body));
                let reply: &[u8] = match taken {
                    Taken::Accepted(_) => OK,
                    Taken::Gone => GONE,
                };
                conn.send(&[reply])?;
                if let Taken::Accepted(Some(slot)) = taken {
                    self.advance(slot);
                }
            } else if wire::find(head, b"/poll?").is_some() {
                let limit = query(head, b"limit=").clamp(1, BATCH_MAX as u64) as usize;
                let park = Duration::from_millis(query(head, b"timeout_ms=")).min(PARK_MAX);
                self.answer_poll(conn, limit, park)?;
            } else {
                let body = format!(r#"{{"id":"{TUNNEL_ID}","name":"bench","description":""}}"#);
                conn.send(&[json_head(body.len()).as_bytes(), body.as_bytes()])?;
            }
        }
        Ok(())
    }

    fn answer_poll(&self, conn: &mut Conn, limit: usize, park: Duration) -> io::Result<()> {
        self.polls.fetch_add(1, Relaxed);
        let mut first = lock(&self.first_poll);
        if first.is_none() {
            *first = Some(Instant::now());
            self.polled.notify_all();
        }
        drop(first);
        let until = Instant::now() + park;
        let mut ready = lock(&self.ready);
        while ready.is_empty() && !self.closed.load(Relaxed) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            ready = self.wake.wait_timeout(ready, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let count = ready.len().min(limit);
        let batch: Vec<usize> = ready.drain(..count).collect();
        drop(ready);
        if batch.is_empty() {
            return conn.send(&[b"HTTP/1.1 204 No Content\r\nX-Request-Id: poll\r\n\r\n"]);
        }
        let mut body = Vec::with_capacity(batch.len() * (self.load.text_bytes + 640));
        body.extend(br#"{"commands":["#);
        for (place, number) in batch.into_iter().enumerate() {
            if place > 0 {
                body.push(b',');
            }
            let seq = lock(&self.slots[number]).seq;
            self.write_command(&mut body, number, seq);
        }
        body.extend(b"]}");
        conn.send(&[json_head(body.len()).as_bytes(), &body])
    }

    fn write_command(&self, body: &mut Vec<u8>, slot: usize, seq: u64) {
        let envelope = format!(
            concat!(
                r#"{{"command_type":"jsonrpc","request_id":"r-{}-{}","shard_token":"s-{}-{}","#,
                r#""channel":"main","created_at":"2026-03-01T09:30:00.125Z","response_timeout":"120s","#,
                r#""headers":{{"Accept":["application/json, text/event-stream"],"#,
                r#""Mcp-Protocol-Version":["2025-06-18"],"Mcp-Session-Id":["session-1"],"#,
                r#""X-Request-Id":["c-{}-{}"]}},"jsonrpc":"#
            ),
            slot, seq, slot, seq, slot, seq
        );
        body.extend(envelope.as_bytes());
        body.extend(payload::call("echo", slot, seq, self.load.text_bytes));
        body.push(b'}');
    }

    fn enqueue(&self, number: usize, slot: &mut Slot) {
        slot.seq += 1;
        slot.open = true;
        slot.notifications = 0;
        slot.enqueued = Instant::now();
        lock(&self.ready).push_back(number);
        self.wake.notify_one();
    }

    fn advance(&self, number: usize) {
        if self.loading.load(Relaxed) {
            self.enqueue(number, &mut lock(&self.slots[number]));
        }
    }

    fn take_response(&self, head: &[u8], body: &[u8]) -> Taken {
        let Some((number, seq)) = wire::text_after(body, b"\"request_id\":\"").and_then(slot_and_seq) else {
            self.note_wrong("no request_id of ours", body);
            return Taken::Gone;
        };
        let Some(slot) = self.slots.get(number) else {
            self.note_wrong("no such request_id", body);
            return Taken::Gone;
        };
        let mut slot = lock(slot);
        if !slot.open || slot.seq != seq {
            self.repeated.fetch_add(1, Relaxed);
            return Taken::Gone;
        }
        let token = wire::header(head, "x-tunnel-shard-token").unwrap_or_default();
        if token.strip_prefix(b"s-").and_then(|rest| slot_and_seq(&[b"r-", rest].concat()))
            != Some((number, seq))
        {
            self.note_wrong("the shard token is another command's", head);
        }
        if wire::text_after(body, b"\"resp_type\":\"") == Some(b"jsonrpc_notify") {
            slot.notifications += 1;
            let due = payload::progress(payload::id(number, seq).as_bytes(), slot.notifications);
            if wire::find(body, &due).is_none() {
                self.note_wrong("not the notification that was due", body);
            }
            return Taken::Accepted(None);
        }
        let latency = slot.enqueued.elapsed();
        slot.open = false;
        if !payload::is_echo(body, number, seq, self.load.text_bytes) {
            self.note_wrong("not the echo of the call", body);
        } else if slot.notifications != self.load.notifications {
            self.note_wrong("notifications are missing before the answer", body);
        } else if wire::find_near_ends(body, b"\"resp_code\":200").is_none() {
            self.note_wrong("resp_code is not 200", body);
        }
        drop(slot);
        self.completed.fetch_add(1, Relaxed);
        if self.measuring.load(Relaxed) {
            lock(&self.latencies_us).push(u32::try_from(latency.as_micros()).unwrap_or(u32::MAX));
        }
        Taken::Accepted(Some(number))
    }

    fn note_wrong(&self, what: &str, evidence: &[u8]) {
        const EVIDENCE_BYTES: usize = 400;
        self.wrong.fetch_add(1, Relaxed);
        lock(&self.first_wrong).get_or_insert_with(|| {
            let shown = &evidence[..evidence.len().min(EVIDENCE_BYTES)];
            format!("{what}: {}", String::from_utf8_lossy(shown))
        });
    }
}

enum Taken {
    /// 200; the slot is named when its call has ended.
    Accepted(Option<usize>),
    /// 404.
    Gone,
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Request-Id: response\r\nContent-Length: 15\r\n\r\n{\"status\":\"ok\"}";
const GONE: &[u8] = b"HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: 66\r\n\r\n{\"error\":{\"code\":\"pending_request_not_found\",\"message\":\"unknown\"}}";

/// The head of a 200 with a JSON body.
pub(crate) fn json_head(length: usize) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Request-Id: poll\r\nContent-Length: {length}\r\n\r\n"
    )
}

/// A number of the query string in a request head; 0 without.
pub(crate) fn query(head: &[u8], key: &[u8]) -> u64 {
    wire::find(head, key).map_or(0, |at| wire::number(&head[at + key.len()..]))
}

/// `r-<slot>-<seq>` taken apart.
fn slot_and_seq(request_id: &[u8]) -> Option<(usize, u64)> {
    let text = std::str::from_utf8(request_id).ok()?.strip_prefix("r-")?;
    let (slot, seq) = text.split_once('-')?;
    Some((slot.parse().ok()?, seq.parse().ok()?))
}

/// `https://…` when `ca_file` is given, else `http://…`.
pub(crate) fn base_url(addr: SocketAddr, ca_file: Option<&Path>) -> String {
    format!("{}://{addr}", if ca_file.is_some() { "https" } else { "http" })
}
