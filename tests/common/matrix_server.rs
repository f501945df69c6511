//! An MCP server over HTTP that fails in the way each request's `X-Fault` header asks for.

use std::collections::HashMap;
use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::http::{self, Request, reply};

/// The server; it ends with the test process.
pub struct FaultServer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    open: Mutex<HashMap<usize, TcpStream>>,
    accepted: AtomicUsize,
    /// Calls by the name of the tool, and how often each was received.
    calls: Mutex<HashMap<String, usize>>,
}

/// What becomes of a connection.
enum Next {
    Keep,
    Close,
    Reset,
}

impl FaultServer {
    pub fn start() -> FaultServer {
        let shared = Arc::new(Shared::default());
        let serving = Arc::clone(&shared);
        let address = http::listen(move |stream| serving.serve(stream));
        FaultServer { address, shared }
    }

    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.shared.open.lock().expect("connections").len()
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// How often the call whose tool is `fault/NAME` arrived.
    pub fn calls(&self, name: &str) -> usize {
        self.shared.calls.lock().expect("calls").get(name).copied().unwrap_or(0)
    }

    /// Closes every connection, in order, from this side.
    pub fn close_all(&self) {
        for stream in self.shared.open.lock().expect("connections").values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream) {
        let number = self.accepted.fetch_add(1, Ordering::SeqCst);
        let _ = stream.set_nodelay(true);
        let Ok(mut writer) = stream.try_clone() else { return };
        if let Ok(copy) = stream.try_clone() {
            self.open.lock().expect("connections").insert(number, copy);
        }
        let mut reader = BufReader::new(stream);
        let mut last = Next::Close;
        while let Ok(Some(request)) = http::read_request(&mut reader) {
            last = self.act(&request, &mut writer);
            if !matches!(last, Next::Keep) {
                break;
            }
        }
        if matches!(last, Next::Reset) {
            let _ = rustix::net::sockopt::set_socket_linger(&writer, Some(Duration::ZERO));
        } else {
            let _ = writer.shutdown(Shutdown::Both);
        }
        self.open.lock().expect("connections").remove(&number);
    }

    fn act(&self, request: &Request, out: &mut TcpStream) -> Next {
        if request.path.contains("/.well-known/") {
            return send(out, reply(404, &[], ""));
        }
        // What follows a tilde is for the control plane.
        let fault =
            request.header("X-Fault").unwrap_or("none").split('~').next().unwrap_or_default().to_owned();
        let message: serde_json::Value = serde_json::from_slice(&request.body).unwrap_or_default();
        if let Some(name) = message["params"]["name"].as_str().and_then(|tool| tool.strip_prefix("fault/")) {
            *self.calls.lock().expect("calls").entry(name.to_owned()).or_insert(0) += 1;
        }
        let id = message["id"].to_string();
        let result = match message["method"].as_str() {
            Some("initialize") => {
                r#"{"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":"faulty","version":"1"}}"#
            }
            _ => "{}",
        };
        let answer = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#);
        // An answer to a request of ours.
        if message["method"].is_null() && request.method == "POST" && !request.body.is_empty() {
            return send(out, reply(202, &[], ""));
        }
        match fault.as_str() {
            "none" if request.method == "DELETE" || message["id"].is_null() => send(out, reply(202, &[], "")),
            "none" => send(out, json(&answer)),
            _ if fault.starts_with("sse-") => {
                if request.method != "GET" && message["id"].is_null() {
                    return send(out, reply(200, &[], ""));
                }
                stream(&fault, request, &id, &answer, out)
            }
            _ => framing(&fault, &answer, out)
                .or_else(|| whole(&fault, &id, &answer, out))
                .unwrap_or_else(|| panic!("no such fault: {fault}")),
        }
    }
}

fn send(out: &mut TcpStream, bytes: impl AsRef<[u8]>) -> Next {
    if out.write_all(bytes.as_ref()).is_ok() { Next::Keep } else { Next::Close }
}

fn send_and_close(out: &mut TcpStream, bytes: impl AsRef<[u8]>) -> Next {
    let _ = out.write_all(bytes.as_ref());
    Next::Close
}

fn json(text: &str) -> Vec<u8> {
    reply(200, &[("Content-Type", "application/json")], text)
}

fn head(lines: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{lines}\r\n")
}

/// Until the peer gives up.
fn until_gone(out: &mut TcpStream) -> Next {
    let _ = out.read(&mut [0]);
    Next::Close
}

/// Repeats `bytes` until the peer gives up.
fn for_ever(out: &mut TcpStream, bytes: &[u8], pause: Duration) -> Next {
    while out.write_all(bytes).is_ok() {
        std::thread::sleep(pause);
    }
    Next::Close
}

fn framing(fault: &str, answer: &str, out: &mut TcpStream) -> Option<Next> {
    let length = answer.len();
    Some(match fault {
        "close" => Next::Close,
        "close-early" => send_and_close(out, "HT"),
        "reset" => Next::Reset,
        "stall" => until_gone(out),
        "garbage" => send_and_close(out, "SSH-2.0-OpenSSH_9.9\r\n\r\n"),
        "half-head" => send_and_close(out, "HTTP/1.1 200 OK\r\nContent-Type: applica"),
        "endless-head" => {
            let _ = out.write_all(b"HTTP/1.1 200 OK\r\n");
            for_ever(out, format!("X-Filler: {}\r\n", "f".repeat(4000)).as_bytes(), Duration::ZERO)
        }
        "endless-interim" => for_ever(out, b"HTTP/1.1 102 Processing\r\n\r\n", Duration::from_millis(2)),
        "head-then-stall" => {
            let _ = out.write_all(head("Content-Length: 100\r\n").as_bytes());
            until_gone(out)
        }
        "too-long" => send_and_close(out, head(&format!("Content-Length: {}\r\n", length + 10)) + answer),
        "too-short" => send(out, head(&format!("Content-Length: {}\r\n", length - 5)) + answer),
        "chunk-cut" => send_and_close(
            out,
            head("Transfer-Encoding: chunked\r\n") + &format!("{:x}\r\n{}", length, &answer[..9]),
        ),
        "chunk-invalid" => send_and_close(
            out,
            head("Transfer-Encoding: chunked\r\n") + &format!("zz\r\n{answer}\r\n0\r\n\r\n"),
        ),
        "chunk-huge" => {
            send_and_close(out, head("Transfer-Encoding: chunked\r\n") + "ffffffffffffffffff\r\n" + answer)
        }
        "trickle" => {
            for byte in json(answer) {
                if out.write_all(&[byte]).is_err() {
                    return Some(Next::Close);
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            Next::Keep
        }
        "endless-trickle" => {
            let _ = out.write_all(head("Transfer-Encoding: chunked\r\n").as_bytes());
            for_ever(out, b"1\r\n \r\n", Duration::from_millis(20))
        }
        "close-each" => send_and_close(
            out,
            reply(200, &[("Content-Type", "application/json"), ("Connection", "close")], answer),
        ),
        "early-reply" => send_and_close(out, reply(413, &[("Connection", "close")], "")),
        _ => return None,
    })
}

fn whole(fault: &str, id: &str, answer: &str, out: &mut TcpStream) -> Option<Next> {
    let moved = |status: u16, to: &str| {
        format!("HTTP/1.1 {status} Elsewhere\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n")
    };
    let error = |status: u16, id: &str, data: &str| {
        let json = format!(
            r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32003,"message":"no","data":"{data}"}}}}"#
        );
        reply(status, &[("Content-Type", "application/json")], &json)
    };
    let long = "x".repeat(200_000);
    let bytes = match fault {
        "bad-utf8" => {
            let mut bytes = head(&format!("Content-Length: {}\r\n", answer.len())).into_bytes();
            bytes.extend_from_slice(answer.replace("{}", "\"?").as_bytes());
            let place = bytes.iter().rposition(|byte| *byte == b'?').expect("a place");
            bytes[place] = 0xff;
            bytes
        }
        "wrong-id" => json(r#"{"jsonrpc":"2.0","id":"other","result":{}}"#),
        "batch" => json(&format!("[{answer}]")),
        "notification" => json(r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{}}"#),
        "request" => json(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#)),
        "empty" => json(""),
        "text" => reply(200, &[("Content-Type", "text/plain")], answer),
        "accepted" => reply(202, &[], ""),
        "no-content" => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        "moved-301" => moved(301, "/mcp").into_bytes(),
        "moved-303" => moved(303, "/mcp").into_bytes(),
        "loop-307" => moved(307, "/mcp").into_bytes(),
        "lost-308" => moved(308, "gopher://nowhere/").into_bytes(),
        "unchanged-304" => b"HTTP/1.1 304 Not Modified\r\n\r\n".to_vec(),
        "proxy-407" => reply(407, &[("Proxy-Authenticate", "Basic")], "private details"),
        "text-404" => reply(404, &[("Content-Type", "text/plain")], "private details"),
        "text-503" => reply(503, &[("Content-Type", "text/html")], "<p>private details"),
        "error-400" => error(400, id, ""),
        "other-error-500" => error(500, "\"other\"", ""),
        "long-error-500" => error(500, id, &long[..102_401]),
        "cut-error-500" => {
            return Some(send_and_close(out, "HTTP/1.1 500 Oh\r\nContent-Length: 100\r\n\r\n{\"jsonrpc\""));
        }
        "stalled-error-500" => {
            let _ = out.write_all(b"HTTP/1.1 500 Oh\r\nContent-Length: 100\r\n\r\n{");
            return Some(until_gone(out));
        }
        "strange-999" => b"HTTP/1.1 999 Strange\r\nContent-Length: 0\r\n\r\n".to_vec(),
        "oversize" => json(&answer.replace("{}", &format!("\"{long}\""))),
        "oversize-chunked" => {
            let body = answer.replace("{}", &format!("\"{long}\""));
            let mut text = head("Transfer-Encoding: chunked\r\n");
            for start in (0..body.len()).step_by(1000) {
                let piece = &body[start..(start + 1000).min(body.len())];
                text.push_str(&format!("{:x}\r\n{piece}\r\n", piece.len()));
            }
            (text + "0\r\n\r\n").into_bytes()
        }
        "bad-gzip" => reply(
            200,
            &[("Content-Type", "application/json"), ("Content-Encoding", "gzip")],
            "this is not compressed at all",
        ),
        "gzip-bomb" => {
            let bomb = bomb();
            let mut bytes =
                head(&format!("Content-Encoding: gzip\r\nContent-Length: {}\r\n", bomb.len())).into_bytes();
            bytes.extend_from_slice(&bomb);
            bytes
        }
        _ => return None,
    };
    Some(send(out, bytes))
}

/// A gzip member of 5 MB of zeros in 33 kB (RFC 1952, RFC 1951): one fixed-code block.
fn bomb() -> Vec<u8> {
    let mut bits: Vec<bool> = Vec::new();
    let mut put = |value: u32, count: u32, high_first: bool| {
        for index in 0..count {
            let shift = if high_first { count - 1 - index } else { index };
            bits.push(value >> shift & 1 == 1);
        }
    };
    put(1, 1, false); // last block
    put(1, 2, false); // fixed codes
    put(0x30, 8, true); // the literal 0
    for _ in 0..20_000 {
        put(0b1100_0101, 8, true); // length 258
        put(0, 5, true); // distance 1
    }
    put(0, 7, true); // end of block
    let mut bytes = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    for chunk in bits.chunks(8) {
        bytes.push(chunk.iter().enumerate().fold(0, |byte, (at, bit)| byte | (u8::from(*bit) << at)));
    }
    bytes.extend_from_slice(&[0; 8]);
    bytes
}

const STREAM_HEAD: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
const PROGRESS: &str =
    r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}"#;

fn chunk(data: &str) -> String {
    format!("{:x}\r\n{data}\r\n", data.len())
}

fn event(json: &str) -> String {
    chunk(&format!("data: {json}\n\n"))
}

fn stream(fault: &str, request: &Request, id: &str, answer: &str, out: &mut TcpStream) -> Next {
    let end = "0\r\n\r\n";
    let begun = |rest: &str| format!("{STREAM_HEAD}{rest}");
    let marked = chunk(&format!("retry: 20\nid: e1\ndata: {PROGRESS}\n\n"));
    let resumed = request.header("Last-Event-ID").is_some();
    if request.method == "GET" && !resumed {
        return send(out, reply(405, &[], ""));
    }
    match (fault, resumed) {
        ("sse-empty", _) => send(out, begun(end)),
        ("sse-three", _) => send(out, begun(&(event(PROGRESS).repeat(3) + &event(answer) + end))),
        ("sse-cut", _) => send_and_close(out, begun(&event(PROGRESS))),
        ("sse-reset", _) => {
            let _ = out.write_all(begun(&event(PROGRESS)).as_bytes());
            Next::Reset
        }
        ("sse-half-event", _) => send(out, begun(&(chunk(&format!("data: {answer}\n")) + end))),
        (
            "sse-resumes" | "sse-never-resumes" | "sse-no-progress" | "sse-resume-stalls"
            | "sse-resume-closes",
            false,
        ) => send_and_close(out, begun(&marked)),
        // A resumed stream does not know the call's id.
        ("sse-resumes", true) => send(out, begun(&(event(r#"{"jsonrpc":"2.0","id":41,"result":{}}"#) + end))),
        ("sse-never-resumes", true) => send(out, reply(404, &[], "")),
        ("sse-no-progress", true) => send(out, begun(&(chunk("retry: 20\n\n") + end))),
        ("sse-resume-stalls", true) => {
            let _ = out.write_all(STREAM_HEAD.as_bytes());
            until_gone(out)
        }
        ("sse-resume-closes", true) => Next::Close,
        ("sse-oversize", _) => {
            let piece = chunk(&format!("data: {}\n", "x".repeat(30_000)));
            send_and_close(out, begun(&piece.repeat(4)))
        }
        ("sse-oversize-line", _) => {
            let _ = out.write_all(begun(&chunk("data: ")).as_bytes());
            for_ever(out, chunk(&"x".repeat(10_000)).as_bytes(), Duration::ZERO)
        }
        ("sse-not-json", _) => send(out, begun(&(event("{\"jsonrpc\":") + &event(answer) + end))),
        ("sse-bad-utf8", _) => {
            let _ = out.write_all(STREAM_HEAD.as_bytes());
            let _ = out.write_all(b"e\r\ndata: {\"a\":\"\xff\"\r\n5\r\n}\n\n\n\n\r\n");
            until_gone(out)
        }
        ("sse-wrong-id", _) => {
            send(out, begun(&(event(r#"{"jsonrpc":"2.0","id":"other","result":{}}"#) + &event(answer) + end)))
        }
        ("sse-answered-twice", _) => send(out, begun(&(event(answer) + &event(answer) + end))),
        ("sse-stays-open", _) => {
            let _ = out.write_all(begun(&event(answer)).as_bytes());
            until_gone(out)
        }
        ("sse-pings-for-ever", _) => {
            let _ = out.write_all(STREAM_HEAD.as_bytes());
            for_ever(out, chunk(": ping\n\nevent: ping\ndata: x\n\n").as_bytes(), Duration::from_millis(20))
        }
        ("sse-events-for-ever", _) => {
            let _ = out.write_all(STREAM_HEAD.as_bytes());
            for_ever(out, event(PROGRESS).as_bytes(), Duration::from_millis(20))
        }
        ("sse-requests", _) => {
            let ping = event(r#"{"jsonrpc":"2.0","id":"p","method":"ping"}"#);
            let sample = event(r#"{"jsonrpc":"2.0","id":7,"method":"sampling/createMessage","params":{}}"#);
            send(out, begun(&(ping + &sample + &event(answer) + end)))
        }
        ("sse-requests-for-ever", _) => {
            let _ = out.write_all(STREAM_HEAD.as_bytes());
            let ping = event(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#));
            for_ever(out, ping.as_bytes(), Duration::from_millis(5))
        }
        _ => panic!("no such fault: {fault}"),
    }
}
