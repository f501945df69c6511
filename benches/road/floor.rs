//! The floor: the same exchanges with as little as can do them.
//!
//! One poll thread, a bounded queue, and as many workers as the client has, each with a kept-alive socket to
//! the MCP server and one to the control plane. It knows the exact layout of what this rig sends and cuts
//! JSON by byte search. No client can be much cheaper; what ours costs above it is the price of being correct.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};
use rustls::ClientConfig;

use crate::control_plane::TUNNEL_ID;
use crate::wire::{self, Conn, Stream};
use crate::{mcp_server, tls};

/// What the floor is told on its command line.
#[derive(Clone, Debug)]
pub(crate) struct Orders {
    pub(crate) control_plane: SocketAddr,
    pub(crate) target: Target,
    pub(crate) workers: usize,
    pub(crate) ca_file: Option<PathBuf>,
}

/// The MCP server behind it.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Http { addr: SocketAddr, path: String },
    Stdio,
}

struct Job {
    request_id: Vec<u8>,
    shard_token: Vec<u8>,
    message: Vec<u8>,
}

/// The headers that the client sends on each request to the control plane, so that both send as much.
const COMMON: &str = "Authorization: Bearer bench-key\r\nAccept: application/json\r\nUser-Agent: tunnel-client-rs/0.1.0\r\nX-Tunnel-Client-Name: tunnel-client-rs\r\nX-Tunnel-Client-Version: 0.1.0\r\nX-Tunnel-Client-Instance-Id: 5f0c6b1e9a2d4478b3e1c7d09f24a6bb\r\nX-Tunnel-MCP-Server-Info: {\"version\":1,\"channels\":[{\"name\":\"main\"}]}\r\n";

/// Runs until the control plane goes away.
pub(crate) fn run(orders: &Orders) -> io::Result<()> {
    let config = orders.ca_file.as_deref().map(tls::client_config).transpose()?;
    let (jobs, queue) = bounded::<Job>(orders.workers);
    let child = match orders.target {
        Target::Stdio => Some(Arc::new(StdioServer::start()?)),
        Target::Http { .. } => None,
    };
    for _ in 0..orders.workers {
        let (orders, config, queue, child) = (orders.clone(), config.clone(), queue.clone(), child.clone());
        thread::Builder::new().name("floor-worker".into()).spawn(move || {
            if let Err(error) = work(&orders, config.as_ref(), &queue, child.as_deref()) {
                eprintln!("floor worker: {error}");
            }
        })?;
    }
    poll(orders, config.as_ref(), &jobs)
}

fn poll(orders: &Orders, config: Option<&Arc<ClientConfig>>, jobs: &Sender<Job>) -> io::Result<()> {
    let mut conn = Conn::new(Stream::connect(orders.control_plane, config)?);
    loop {
        let free = jobs.capacity().unwrap_or(1) - jobs.len();
        let request = format!(
            "GET /v1/tunnels/{TUNNEL_ID}/poll?limit={}&timeout_ms=30000 HTTP/1.1\r\nHost: {}\r\n{COMMON}\r\n",
            free.clamp(1, 25),
            orders.control_plane
        );
        conn.send(&[request.as_bytes()])?;
        let Some(message) = conn.receive()? else { return Ok(()) };
        let body = conn.bytes(&message.body);
        let mut rest = body.strip_prefix(b"{\"commands\":[").unwrap_or_default();
        while let Some(from) = wire::find(rest, b"\"jsonrpc\":{") {
            let envelope = &rest[..from];
            let message = &rest[from + 10..];
            // The call ends where its text does, and the rig closes it with `"}}}` and the command with `}`.
            let text = wire::find(message, b"\"text\":\"").map_or(0, |at| at + 8);
            let end = text + wire::position(&message[text..], b'"').unwrap_or(0) + 4;
            let job = Job {
                request_id: wire::text_after(envelope, b"\"request_id\":\"").unwrap_or_default().to_vec(),
                shard_token: wire::text_after(envelope, b"\"shard_token\":\"").unwrap_or_default().to_vec(),
                message: message[..end].to_vec(),
            };
            rest = &message[end..];
            if jobs.send(job).is_err() {
                return Ok(());
            }
        }
    }
}

fn work(
    orders: &Orders,
    config: Option<&Arc<ClientConfig>>,
    queue: &Receiver<Job>,
    child: Option<&StdioServer>,
) -> io::Result<()> {
    let mut up = Conn::new(Stream::connect(orders.control_plane, config)?);
    let mut down = match &orders.target {
        Target::Http { addr, .. } => Some(Conn::new(Stream::connect(*addr, config)?)),
        Target::Stdio => None,
    };
    let (answers, answered) = bounded::<Vec<u8>>(1);
    for job in queue {
        match (&mut down, &orders.target, child) {
            (Some(down), Target::Http { addr, path }, _) => {
                let head = format!(
                    "POST {path} HTTP/1.1\r\nHost: {addr}\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\nMcp-Protocol-Version: 2025-06-18\r\nMcp-Session-Id: session-1\r\nX-Request-Id: c-1\r\nUser-Agent: tunnel-client-rs/0.1.0\r\nContent-Length: {}\r\n\r\n",
                    job.message.len()
                );
                down.send(&[head.as_bytes(), &job.message])?;
                if path == mcp_server::SSE_PATH {
                    relay_stream(orders, &job, down, &mut up)?;
                } else {
                    let message = down.receive()?.ok_or(io::ErrorKind::UnexpectedEof)?;
                    respond(orders, &job, "jsonrpc_response", down.bytes(&message.body), &mut up)?;
                }
            }
            (_, _, Some(child)) => {
                let answer = child.exchange(&job.message, &answers, &answered)?;
                respond(orders, &job, "jsonrpc_response", &answer, &mut up)?;
            }
            _ => return Ok(()),
        }
    }
    Ok(())
}

/// The rig sends one event a chunk; the last one is the answer.
fn relay_stream(orders: &Orders, job: &Job, down: &mut Conn, up: &mut Conn) -> io::Result<()> {
    down.receive_head()?.ok_or(io::ErrorKind::UnexpectedEof)?;
    while let Some(chunk) = down.receive_chunk()? {
        let data =
            down.bytes(&chunk).strip_prefix(b"event: message\ndata: ").unwrap_or_default().trim_ascii_end();
        let is_notification = wire::find(&data[..data.len().min(64)], b"\"method\":").is_some();
        let kind = if is_notification { "jsonrpc_notify" } else { "jsonrpc_response" };
        respond(orders, job, kind, data, up)?;
    }
    Ok(())
}

fn respond(orders: &Orders, job: &Job, kind: &str, payload: &[u8], up: &mut Conn) -> io::Result<()> {
    let open = [br#"{"request_id":""#, &job.request_id[..], br#"","channel":"main","resp_json":"#].concat();
    let close = format!(
        r#","resp_headers":{{"Content-Type":["application/json"],"Mcp-Session-Id":["session-1"]}},"resp_code":200,"resp_type":"{kind}"}}"#
    );
    let head = format!(
        "POST /v1/tunnels/{TUNNEL_ID}/response HTTP/1.1\r\nHost: {}\r\n{COMMON}Content-Type: application/json\r\nX-Client-Request-Id: c-1\r\nX-Tunnel-Shard-Token: {}\r\nContent-Length: {}\r\n\r\n",
        orders.control_plane,
        String::from_utf8_lossy(&job.shard_token),
        open.len() + payload.len() + close.len()
    );
    up.send(&[head.as_bytes(), &open, payload, close.as_bytes()])?;
    let message = up.receive()?.ok_or(io::ErrorKind::UnexpectedEof)?;
    match wire::status(up.bytes(&message.head)) {
        200 => Ok(()),
        status => Err(io::Error::other(format!("control plane said {status}"))),
    }
}

/// Who waits for the answer with which id.
type Routes = HashMap<Vec<u8>, Sender<Vec<u8>>>;

/// One child; its lines find their worker by the call's own id, which this rig keeps unique.
struct StdioServer {
    input: Mutex<ChildStdin>,
    waiting: Arc<Mutex<Routes>>,
    /// Kept so that the pipe and the process live as long as the floor.
    _child: Child,
}

impl StdioServer {
    fn start() -> io::Result<StdioServer> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("echo-stdio")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let output = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let waiting: Arc<Mutex<Routes>> = Arc::default();
        let routes = waiting.clone();
        thread::Builder::new().name("floor-stdio".into()).spawn(move || {
            let mut output = BufReader::with_capacity(64 << 10, output);
            let mut line = Vec::new();
            while output.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
                let message = line.trim_ascii_end().to_vec();
                line.clear();
                let route = wire::raw_id(&message)
                    .and_then(|id| routes.lock().unwrap_or_else(PoisonError::into_inner).remove(id));
                if let Some(route) = route {
                    let _ = route.send(message);
                }
            }
        })?;
        Ok(StdioServer { input: Mutex::new(input), waiting, _child: child })
    }

    fn exchange(
        &self,
        message: &[u8],
        answers: &Sender<Vec<u8>>,
        answered: &Receiver<Vec<u8>>,
    ) -> io::Result<Vec<u8>> {
        let id = wire::raw_id(message).unwrap_or_default().to_vec();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(id, answers.clone());
        let line = [message, b"\n"].concat();
        self.input.lock().unwrap_or_else(PoisonError::into_inner).write_all(&line)?;
        answered.recv().map_err(io::Error::other)
    }
}
