//! The peers of a churn run, which fail on purpose: a control plane and an MCP server.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::churn::ledger::{Fate, Ledger, Ruling, TEXT_BYTES};
use crate::control_plane::{json_head, query};
use crate::mcp_server::{ACCEPTED, NO_CONTENT, NOT_FOUND, STREAM_HEAD, send_event, send_json, send_stream};
use crate::payload;
use crate::wire::{self, Conn, Stream};

/// Commands kept open.
const OPEN: usize = 48;
/// A park of a poll.
const PARK: Duration = Duration::from_secs(2);
/// At most this many of the three attempts at a terminal answer are disturbed.
const REFUSALS_MAX: u8 = 2;
/// Chances in 1000.
const POLL_FAULTS: u64 = 4;
const ANSWER_FAULTS: u64 = 60;
const NOTIFICATION_FAULTS: u64 = 40;

/// What both peers share.
pub(crate) struct Shared {
    pub(crate) ledger: Ledger,
    ready: Mutex<VecDeque<usize>>,
    wake: Condvar,
    /// While set, ended commands are followed by new ones.
    pub(crate) loading: AtomicBool,
    pub(crate) closed: AtomicBool,
    pub(crate) faults: AtomicU64,
    pub(crate) polled: AtomicBool,
    random: AtomicU64,
}

impl Shared {
    pub(crate) fn new(seed: u64) -> Shared {
        Shared {
            ledger: Ledger::default(),
            ready: Mutex::default(),
            wake: Condvar::new(),
            loading: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            faults: AtomicU64::new(0),
            polled: AtomicBool::new(false),
            random: AtomicU64::new(seed),
        }
    }

    /// SplitMix64; threads interleave, so a seed repeats the mix of faults, not their exact order.
    fn draw(&self) -> u64 {
        let mut mixed =
            self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Relaxed).wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn strikes(&self, chance: u64) -> bool {
        let struck = self.draw() % 1000 < chance;
        if struck {
            self.faults.fetch_add(1, Relaxed);
        }
        struck
    }

    fn ready(&self) -> MutexGuard<'_, VecDeque<usize>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens commands until enough are open.
    pub(crate) fn top_up(&self) {
        if !self.loading.load(Relaxed) {
            return;
        }
        let mut books = self.ledger.books();
        let mut opened = Vec::new();
        while books.open < OPEN {
            opened.push(books.open(Fate::drawn(self.draw()), self.draw()));
        }
        drop(books);
        self.ready().extend(opened);
        self.wake.notify_all();
    }

    fn serve_client(&self, conn: &mut Conn) -> io::Result<()> {
        while let Some(message) = conn.receive()? {
            let arrived = Instant::now();
            let head = conn.bytes(&message.head);
            if head.starts_with(b"POST ") {
                let body = conn.bytes(&message.body);
                match self.rule(arrived, head, body) {
                    None => return Ok(()),
                    Some(reply) => conn.send(&[&reply])?,
                }
                self.top_up();
            } else if wire::find(head, b"/poll?").is_some() {
                self.polled.store(true, Relaxed);
                let limit = query(head, b"limit=").clamp(1, 25) as usize;
                if !self.answer_poll(conn, limit)? {
                    return Ok(());
                }
            } else {
                conn.send(&[NOT_FOUND])?;
            }
        }
        Ok(())
    }

    /// The reply to a response POST; `None` to close the connection instead.
    fn rule(&self, arrived: Instant, head: &[u8], body: &[u8]) -> Option<Vec<u8>> {
        let number = wire::text_after(body, b"\"request_id\":\"")
            .and_then(|text| text.strip_prefix(b"r-"))
            .map_or(usize::MAX, |text| wire::number(text) as usize);
        let mut books = self.ledger.books();
        let token = format!("s-{number}");
        if wire::header(head, "x-tunnel-shard-token") != Some(token.as_bytes()) {
            return Some(error_reply(400, "Bad Request", ""));
        }
        let notification = wire::find_near_ends(body, b"\"jsonrpc_notify\"").is_some();
        let refusals = books.entries.get(number).map_or(REFUSALS_MAX, |entry| entry.refusals);
        let chance = if notification { NOTIFICATION_FAULTS } else { ANSWER_FAULTS };
        if (notification || refusals < REFUSALS_MAX) && self.strikes(chance) {
            let kind = self.draw() % 6;
            let accepted = kind == 5 && !notification && books.take(number, arrived, body) == Ruling::Accept;
            books.disturb(number, notification, accepted);
            return match kind {
                0 => Some(error_reply(503, "Service Unavailable", "")),
                1 => Some(error_reply(429, "Too Many Requests", "Retry-After: 0\r\n")),
                2 => Some(error_reply(502, "Bad Gateway", "")),
                3 => Some(error_reply(504, "Gateway Timeout", "Connection: close\r\n")),
                // Cut before it counted, or after.
                _ => None,
            };
        }
        Some(match books.take(number, arrived, body) {
            Ruling::Accept => [json_head(15).as_bytes(), br#"{"status":"ok"}"#].concat(),
            Ruling::Gone => error_reply(404, "Not Found", ""),
        })
    }

    /// Whether the connection goes on.
    fn answer_poll(&self, conn: &mut Conn, limit: usize) -> io::Result<bool> {
        if self.strikes(POLL_FAULTS) {
            match self.draw() % 5 {
                0 => conn.send(&[&error_reply(503, "Service Unavailable", "")])?,
                1 => conn.send(&[&error_reply(429, "Too Many Requests", "Retry-After: 0\r\n")])?,
                2 => conn.send(&[json_head(14).as_bytes(), br#"{"commands":1}"#])?,
                3 => {
                    conn.send(&[json_head(500).as_bytes(), br#"{"commands":[{"#])?;
                    return Ok(false);
                }
                _ => return Ok(false),
            }
            return Ok(true);
        }
        let until = Instant::now() + PARK;
        let mut ready = self.ready();
        while ready.is_empty() && !self.closed.load(Relaxed) && Instant::now() < until {
            let left = until.saturating_duration_since(Instant::now());
            ready = self.wake.wait_timeout(ready, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let count = ready.len().min(limit);
        let batch: Vec<usize> = ready.drain(..count).collect();
        drop(ready);
        if batch.is_empty() {
            conn.send(&[NO_CONTENT])?;
            return Ok(true);
        }
        let mut commands = Vec::new();
        let mut books = self.ledger.books();
        for &number in &batch {
            commands.push(command(number, books.entries[number].fate, books.entries[number].timeout));
            books.hand_out(number);
        }
        drop(books);
        let body = format!(r#"{{"commands":[{}]}}"#, commands.join(","));
        if let Err(error) = conn.send(&[json_head(body.len()).as_bytes(), body.as_bytes()]) {
            self.ready().extend(batch);
            return Err(error);
        }
        Ok(true)
    }

    fn serve_mcp(&self, conn: &mut Conn) -> io::Result<()> {
        while let Some(message) = conn.receive()? {
            let head = conn.bytes(&message.head);
            if !head.starts_with(b"POST /mcp ") {
                let reply = if head.starts_with(b"DELETE ") { NO_CONTENT } else { NOT_FOUND };
                conn.send(&[reply])?;
                continue;
            }
            let request = conn.bytes(&message.body);
            let Some(answer) = payload::answer(request) else {
                conn.send(&[ACCEPTED])?;
                continue;
            };
            let id = wire::raw_id(request).unwrap_or_default().to_vec();
            let Some(tool) = wire::text_after(request, b"\"name\":\"t/").map(<[u8]>::to_vec) else {
                send_json(conn, &answer)?;
                continue;
            };
            self.ledger.books().execute((wire::number(&id) / 1000) as usize);
            match &tool[..] {
                b"stream" => send_stream(conn, &id, &answer)?,
                b"slow" => {
                    thread::sleep(Duration::from_millis(10 + self.draw() % 60));
                    send_json(conn, &answer)?;
                }
                b"status-500" => conn.send(&[&error_reply(500, "Internal Server Error", "")])?,
                b"reset" => {
                    if self.draw().is_multiple_of(2) {
                        conn.reset_on_close();
                    }
                    return Ok(());
                }
                b"cut-stream" => {
                    conn.send(&[STREAM_HEAD])?;
                    send_event(conn, &payload::progress(&id, 1), b"400\r\nevent: mess")?;
                    return Ok(());
                }
                b"stall" => {
                    if conn.closed_within(Duration::from_secs(2)) {
                        return Ok(());
                    }
                    send_json(conn, &answer)?;
                }
                _ => send_json(conn, &answer)?,
            }
        }
        Ok(())
    }
}

/// As it stands in a poll's reply.
fn command(number: usize, fate: Fate, timeout: Duration) -> String {
    let seq = number as u64;
    let kind = if fate == Fate::Termination { "session_termination" } else { "jsonrpc" };
    let message = match fate {
        Fate::Termination => String::new(),
        Fate::Notification => {
            let message = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
            format!(r#","jsonrpc":{message}"#)
        }
        _ => {
            let tool =
                if fate.channel() == "main" { format!("t/{}", fate.tool()) } else { fate.tool().to_owned() };
            let call = payload::call(&tool, 0, seq, TEXT_BYTES);
            format!(r#","jsonrpc":{}"#, String::from_utf8_lossy(&call))
        }
    };
    format!(
        concat!(
            r#"{{"command_type":"{}","request_id":"r-{}","shard_token":"s-{}","channel":"{}","#,
            r#""response_timeout":"{}ms","headers":{{"Mcp-Session-Id":["session-1"],"#,
            r#""X-Request-Id":["c-{}"]}}{}}}"#
        ),
        kind,
        number,
        number,
        fate.channel(),
        timeout.as_millis(),
        number,
        message
    )
}

fn error_reply(status: u16, reason: &str, header: &str) -> Vec<u8> {
    let body = r#"{"error":{"message":"on purpose","type":"server_error","param":null,"code":null}}"#;
    format!(
        "HTTP/1.1 {status} {reason}\r\n{header}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A listener that serves each connection on a thread of its own until `shared.closed`.
pub(crate) struct Peer {
    pub(crate) addr: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Peer {
    pub(crate) fn control_plane(shared: &Arc<Shared>) -> io::Result<Peer> {
        Peer::start(shared, Shared::serve_client)
    }

    pub(crate) fn mcp_server(shared: &Arc<Shared>) -> io::Result<Peer> {
        Peer::start(shared, Shared::serve_mcp)
    }

    fn start(shared: &Arc<Shared>, serve: fn(&Shared, &mut Conn) -> io::Result<()>) -> io::Result<Peer> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let addr = listener.local_addr()?;
        let accepting = shared.clone();
        let thread = thread::Builder::new().name("churn-peer".into()).spawn(move || {
            for socket in listener.incoming() {
                if accepting.closed.load(Relaxed) {
                    break;
                }
                let shared = accepting.clone();
                let serve = move || {
                    if let Ok(stream) = socket.and_then(|socket| Stream::accepted(socket, None)) {
                        let _ = serve(&shared, &mut Conn::new(stream));
                    }
                };
                let builder = thread::Builder::new().name("churn-conn".into()).stack_size(256 << 10);
                // Ends with its connection, which ends with the client.
                drop(builder.spawn(serve));
            }
        })?;
        Ok(Peer { addr, shared: shared.clone(), thread: Some(thread) })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.shared.closed.store(true, Relaxed);
        self.shared.wake.notify_all();
        drop(TcpStream::connect(self.addr));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
