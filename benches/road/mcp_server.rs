//! The MCP server behind the subject: an echo over Streamable HTTP, or over stdio.

use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};

use rustls::ServerConfig;

use crate::payload;
use crate::wire::{self, Conn, Stream};

/// Where calls are answered as JSON.
pub(crate) const JSON_PATH: &str = "/json";
/// Where calls are answered as an event stream.
pub(crate) const SSE_PATH: &str = "/sse";

pub(crate) struct McpServer {
    addr: SocketAddr,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    closed: AtomicBool,
    connections: AtomicU64,
}

impl McpServer {
    pub(crate) fn start(tls: Option<Arc<ServerConfig>>) -> io::Result<McpServer> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let accepting = shared.clone();
        let listener = thread::Builder::new()
            .name("mcp-server".into())
            .spawn(move || accept(&listener, &accepting, tls.as_ref()))?;
        Ok(McpServer { addr, shared, listener: Some(listener) })
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Connections accepted so far.
    pub(crate) fn connections(&self) -> u64 {
        self.shared.connections.load(Relaxed)
    }
}

impl Drop for McpServer {
    fn drop(&mut self) {
        self.shared.closed.store(true, Relaxed);
        drop(std::net::TcpStream::connect(self.addr));
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
    }
}

/// Ends when closed; the connection threads end with their peers, which are stopped before.
fn accept(listener: &TcpListener, shared: &Shared, tls: Option<&Arc<ServerConfig>>) {
    let mut threads = Vec::new();
    for socket in listener.incoming() {
        if shared.closed.load(Relaxed) {
            break;
        }
        let Ok(socket) = socket else { continue };
        shared.connections.fetch_add(1, Relaxed);
        let tls = tls.cloned();
        let serve = move || {
            if let Ok(stream) = Stream::accepted(socket, tls.as_ref()) {
                let _ = serve(&mut Conn::new(stream));
            }
        };
        let builder = thread::Builder::new().name("mcp-server-conn".into()).stack_size(256 << 10);
        threads.extend(builder.spawn(serve).ok());
    }
    for thread in threads {
        let _ = thread.join();
    }
}

fn serve(conn: &mut Conn) -> io::Result<()> {
    while let Some(message) = conn.receive()? {
        let head = conn.bytes(&message.head);
        let as_stream = head.starts_with(b"POST /sse ");
        if !as_stream && !head.starts_with(b"POST /json ") {
            let allowed = head.starts_with(b"DELETE ");
            let reply: &[u8] = if allowed { NO_CONTENT } else { NOT_FOUND };
            conn.send(&[reply])?;
            continue;
        }
        let request = conn.bytes(&message.body);
        let Some(answer) = payload::answer(request) else {
            conn.send(&[ACCEPTED])?;
            continue;
        };
        if as_stream && wire::find_near_ends(request, b"\"tools/call\"").is_some() {
            let id = wire::raw_id(request).unwrap_or_default().to_vec();
            send_stream(conn, &id, &answer)?;
        } else {
            send_json(conn, &answer)?;
        }
    }
    Ok(())
}

pub(crate) fn send_json(conn: &mut Conn, answer: &[u8]) -> io::Result<()> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nMcp-Session-Id: session-1\r\nContent-Length: {}\r\n\r\n",
        answer.len()
    );
    conn.send(&[head.as_bytes(), answer])
}

/// Head and events in a write each, as servers send them that stream while they work.
pub(crate) fn send_stream(conn: &mut Conn, id: &[u8], answer: &[u8]) -> io::Result<()> {
    conn.send(&[STREAM_HEAD])?;
    for step in 1..=payload::NOTIFICATIONS {
        send_event(conn, &payload::progress(id, step), b"")?;
    }
    send_event(conn, answer, b"0\r\n\r\n")
}

pub(crate) fn send_event(conn: &mut Conn, data: &[u8], then: &[u8]) -> io::Result<()> {
    let (open, close) = (&b"event: message\ndata: "[..], &b"\n\n\r\n"[..]);
    let size = format!("{:x}\r\n", open.len() + data.len() + 2);
    conn.send(&[size.as_bytes(), open, data, close, then])
}

pub(crate) const STREAM_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nMcp-Session-Id: session-1\r\nTransfer-Encoding: chunked\r\n\r\n";
pub(crate) const ACCEPTED: &[u8] = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n";
pub(crate) const NO_CONTENT: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";
pub(crate) const NOT_FOUND: &[u8] = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";

/// The stdio echo server: one JSON-RPC message a line, until standard input ends. Two tools misbehave on
/// purpose: one is never answered, one ends the process.
pub(crate) fn serve_stdio() -> io::Result<()> {
    let mut input = BufReader::with_capacity(64 << 10, io::stdin().lock());
    let mut output = BufWriter::with_capacity(64 << 10, io::stdout().lock());
    let mut line = Vec::new();
    while input.read_until(b'\n', &mut line)? > 0 {
        let request = line.trim_ascii();
        match wire::text_after(request, b"\"name\":\"") {
            Some(b"child-crash") => std::process::exit(3),
            Some(b"child-stall") => {
                line.clear();
                continue;
            }
            _ => {}
        }
        if let Some(mut answer) = payload::answer(request) {
            answer.push(b'\n');
            output.write_all(&answer)?;
        }
        line.clear();
        if input.buffer().is_empty() {
            output.flush()?;
        }
    }
    Ok(())
}
