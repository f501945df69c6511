//! A scripted server for the tests: raw bytes in, raw bytes out.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};

/// Longest time that any test waits for what must come.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// A request as it came.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// Request line.
    pub(super) line: String,
    /// Header lines, names in lower case.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Seen {
    pub(super) fn all(&self, name: &str) -> Vec<&str> {
        let named = self.headers.iter().filter(|(have, _)| have == name);
        named.map(|(_, value)| value.as_str()).collect()
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }
}

/// A server whose every request is answered by one function; a connection lives until it says so.
pub(super) struct Scripted {
    pub(super) origin: String,
    pub(super) seen: Receiver<Seen>,
}

/// What happens to a connection after a reply.
#[derive(PartialEq)]
pub(super) enum Then {
    Keep,
    Close,
}

pub(super) fn serve(script: impl Fn(&Seen, &mut TcpStream) -> Then + Send + Sync + 'static) -> Scripted {
    serve_on(TcpListener::bind("127.0.0.1:0").unwrap(), script)
}

pub(super) fn serve_on(
    listener: TcpListener,
    script: impl Fn(&Seen, &mut TcpStream) -> Then + Send + Sync + 'static,
) -> Scripted {
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let (sender, seen) = unbounded();
    let script = Arc::new(script);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (script, sender) = (Arc::clone(&script), sender.clone());
            std::thread::spawn(move || converse(stream.unwrap(), &*script, &sender));
        }
    });
    Scripted { origin, seen }
}

fn converse(mut stream: TcpStream, script: &dyn Fn(&Seen, &mut TcpStream) -> Then, sender: &Sender<Seen>) {
    stream.set_nodelay(true).unwrap();
    while let Some(request) = read_request(&mut stream) {
        let _ = sender.send(request.clone());
        if script(&request, &mut stream) == Then::Close {
            return;
        }
    }
}

fn read_request(stream: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        bytes.push(byte[0]);
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let line = lines.next().unwrap().to_owned();
    let headers: Vec<(String, String)> = lines
        .map(|line| line.split_once(':').unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let mut body = vec![0; length.map_or(0, |(_, value)| value.parse().unwrap())];
    stream.read_exact(&mut body).ok()?;
    Some(Seen { line, headers, body: String::from_utf8(body).unwrap() })
}

/// A reply with a length.
pub(super) fn reply(status: &str, headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut bytes =
        format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

impl Scripted {
    pub(super) fn next(&self) -> Seen {
        self.seen.recv_timeout(PATIENCE).expect("a request")
    }
}
