//! Scripted peers for the tests of the network room.
#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses its part, and may fail")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use tunnel_client::net::{
    Cancel, Deadline, Error, HeaderMap, HttpClient, Method, Request, Response, Route, Trust, Uri, Via,
};

/// Longer than any test may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A listener whose connections each run a script on a thread of their own.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    seen: Receiver<String>,
}

/// One accepted connection.
pub(crate) struct Peer<S = TcpStream> {
    pub(crate) stream: S,
    /// Which connection it is, from 0.
    pub(crate) index: usize,
    seen: Sender<String>,
}

impl Server {
    pub(crate) fn new(script: impl Fn(&mut Peer) + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let (sender, seen) = channel();
        let (counter, script) = (Arc::clone(&accepted), Arc::new(script));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                stream.set_nodelay(true).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                let index = counter.fetch_add(1, Ordering::SeqCst);
                let mut peer = Peer { stream, index, seen: sender.clone() };
                let script = Arc::clone(&script);
                std::thread::spawn(move || script(&mut peer));
            }
        });
        Server { address, accepted, seen }
    }

    /// Answers every request on every connection with `reply`.
    pub(crate) fn answering(reply: impl Into<Vec<u8>>) -> Server {
        let reply = reply.into();
        Server::new(move |peer| {
            while peer.request().is_some() {
                peer.send(&reply);
            }
        })
    }

    /// How many connections have been accepted.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// The next thing a script noted.
    pub(crate) fn next_seen(&self) -> String {
        self.seen.recv_timeout(PATIENCE).expect("the script noted nothing")
    }

    /// Whatever the scripts noted so far.
    pub(crate) fn all_seen(&self) -> Vec<String> {
        self.seen.try_iter().collect()
    }

    pub(crate) fn url(&self, path: &str) -> Uri {
        format!("http://{}{path}", self.address).parse().unwrap()
    }
}

impl<S: Read + Write> Peer<S> {
    pub(crate) fn over(stream: S, peer: &Peer) -> Peer<S> {
        Peer { stream, index: peer.index, seen: peer.seen.clone() }
    }

    /// One read from the socket; `None` at the end of the stream.
    pub(crate) fn read_once(&mut self) -> Option<String> {
        let mut buffer = vec![0; 1 << 20];
        match self.stream.read(&mut buffer) {
            Ok(0) | Err(_) => None,
            Ok(amount) => Some(String::from_utf8_lossy(&buffer[..amount]).into_owned()),
        }
    }

    /// A whole request, head and stated body, noted as seen.
    pub(crate) fn request(&mut self) -> Option<String> {
        let mut request = String::new();
        loop {
            request.push_str(&self.read_once()?);
            let Some((head, body)) = request.split_once("\r\n\r\n") else { continue };
            if body.len() >= stated_length(head) {
                self.note(&request);
                return Some(request);
            }
        }
    }

    /// A request's head, noted as seen.
    pub(crate) fn note(&self, what: impl Into<String>) {
        let _ = self.seen.send(what.into());
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref());
        let _ = self.stream.flush();
    }

    /// Waits until the other side has closed.
    pub(crate) fn wait_for_end(&mut self) {
        while self.read_once().is_some() {}
    }
}

fn stated_length(head: &str) -> usize {
    let lower = head.to_ascii_lowercase();
    let value = lower.split("\r\n").find_map(|line| line.strip_prefix("content-length: ").map(str::to_owned));
    value.map_or(0, |value| value.trim().parse().unwrap())
}

/// A reply with a stated length.
pub(crate) fn reply(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

pub(crate) fn direct() -> Route {
    Route::new(Via::Direct, Trust::system())
}

pub(crate) fn client(route: &Route) -> HttpClient {
    HttpClient::new(route, &Cancel::new())
}

pub(crate) fn soon() -> Deadline {
    Deadline::after(PATIENCE)
}

pub(crate) fn get(uri: &Uri) -> Request<'_> {
    Request { method: Method::GET, uri, headers: HeaderMap::new(), body: None, deadline: soon() }
}

pub(crate) fn post<'a>(uri: &'a Uri, body: &'a [u8]) -> Request<'a> {
    Request { method: Method::POST, body: Some(body), ..get(uri) }
}

/// Sends and reads all of a small reply.
pub(crate) fn fetch(client: &HttpClient, request: Request<'_>) -> Result<(u16, String), Error> {
    let mut response: Response = client.send(request)?;
    let body = response.body.read_to_limit(1 << 20)?;
    Ok((response.status, String::from_utf8(body).unwrap()))
}

/// Cancels as soon as the server has noted something.
pub(crate) fn cancel_when_seen(server: &Server, cancel: &Cancel) {
    server.next_seen();
    cancel.cancel();
}
