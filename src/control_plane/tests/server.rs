//! A scripted control plane on a real socket.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};

/// Longest wait for anything that must happen.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    pub(super) at: Instant,
    /// Which connection carried it.
    pub(super) connection: usize,
}

/// What to do about a request.
#[derive(Clone)]
pub(super) enum Answer {
    Reply(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// Send the head, and the body when the receiver yields or is disconnected.
    HeadFirst(Vec<u8>, Receiver<()>),
    /// These bytes, head and all.
    Raw(Vec<u8>),
    /// Read the request and close.
    Close,
    /// Never answer; hold the connection until the server ends.
    Hang,
}

type Script = dyn Fn(&Seen) -> Answer + Send + Sync;

pub(super) struct Server {
    pub(super) addr: SocketAddr,
    seen: Receiver<Seen>,
    connections: Arc<Mutex<Vec<TcpStream>>>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Seen {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(have, _)| have.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(super) fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }

    pub(super) fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }

    pub(super) fn is_poll(&self) -> bool {
        self.path().ends_with("/poll")
    }
}

impl Answer {
    pub(super) fn status(status: u16) -> Answer {
        Answer::Reply(status, Vec::new(), Vec::new())
    }

    pub(super) fn json(status: u16, body: impl Into<String>) -> Answer {
        let body: String = body.into();
        Answer::Reply(status, vec![("Content-Type", "application/json".into())], body.into_bytes())
    }

    pub(super) fn with(self, name: &'static str, value: impl Into<String>) -> Answer {
        match self {
            Answer::Reply(status, mut headers, body) => {
                headers.push((name, value.into()));
                Answer::Reply(status, headers, body)
            }
            other => other,
        }
    }
}

impl Server {
    pub(super) fn start(script: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let (sender, seen) = unbounded();
        let connections = Arc::new(Mutex::new(Vec::new()));
        let stopping = Arc::new(AtomicBool::new(false));
        let script: Arc<Script> = Arc::new(script);
        let (open, stop) = (Arc::clone(&connections), Arc::clone(&stopping));
        let thread = std::thread::spawn(move || {
            let mut workers = Vec::new();
            for (index, stream) in listener.incoming().enumerate() {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                let stream = stream.unwrap();
                open.lock().unwrap().push(stream.try_clone().unwrap());
                let (script, sender) = (Arc::clone(&script), sender.clone());
                workers.push(std::thread::spawn(move || serve(stream, index, &script, &sender)));
            }
            for worker in workers {
                let _ = worker.join();
            }
        });
        Server { addr, seen, connections, stopping, thread: Some(thread) }
    }

    /// Answers from `answers` in order, whatever is asked; hangs when they are used up.
    pub(super) fn replaying(answers: impl IntoIterator<Item = Answer>) -> Server {
        let answers: Mutex<VecDeque<Answer>> = Mutex::new(answers.into_iter().collect());
        Server::start(move |_| answers.lock().unwrap().pop_front().unwrap_or(Answer::Hang))
    }

    pub(super) fn url(&self) -> url::Url {
        url::Url::parse(&format!("http://{}", self.addr)).unwrap()
    }

    /// The next request.
    pub(super) fn next(&self) -> Seen {
        self.seen.recv_timeout(PATIENCE).expect("no further request arrived")
    }

    /// Requests that have arrived and nobody has asked for yet.
    pub(super) fn rest(&self) -> Vec<Seen> {
        self.seen.try_iter().collect()
    }

    /// Whether a request arrives within `time`.
    pub(super) fn quiet_for(&self, time: Duration) -> bool {
        self.seen.recv_timeout(time).is_err()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.addr);
        for stream in self.connections.lock().unwrap().drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
        if let Some(thread) = self.thread.take() {
            let result = thread.join();
            if !std::thread::panicking() {
                result.unwrap();
            }
        }
    }
}

fn serve(stream: TcpStream, connection: usize, script: &Arc<Script>, sender: &Sender<Seen>) {
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    while let Some(seen) = read_request(&mut reader, connection) {
        let answer = script(&seen);
        // What the script closed over may be gone by now; the request still counts.
        let _ = sender.send(seen);
        let sent = match answer {
            Answer::Close => {
                // The listener's thread holds a clone of this socket.
                let _ = writer.shutdown(std::net::Shutdown::Both);
                return;
            }
            Answer::Hang => {
                let _ = reader.read(&mut [0]);
                return;
            }
            Answer::Reply(status, headers, body) => {
                let head = head(status, &headers, body.len());
                writer.write_all(head.as_bytes()).and_then(|()| writer.write_all(&body))
            }
            Answer::Raw(bytes) => writer.write_all(&bytes),
            Answer::HeadFirst(body, go) => {
                let head = head(200, &[], body.len());
                writer.write_all(head.as_bytes()).and_then(|()| {
                    let _ = go.recv();
                    writer.write_all(&body)
                })
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

fn head(status: u16, headers: &[(&str, String)], length: usize) -> String {
    let mut head = format!("HTTP/1.1 {status} Scripted\r\n");
    if status != 204 {
        head.push_str(&format!("Content-Length: {length}\r\n"));
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head + "\r\n"
}

fn read_request(reader: &mut BufReader<TcpStream>, connection: usize) -> Option<Seen> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let mut parts = line.split_ascii_whitespace();
    let (method, target) = (parts.next()?.to_owned(), parts.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':')?;
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let mut seen = Seen { method, target, headers, body: Vec::new(), at: Instant::now(), connection };
    let length = seen.header("content-length").map_or(0, |length| length.parse().unwrap());
    assert!(seen.header("transfer-encoding").is_none(), "bodies are sent with their length");
    seen.body = vec![0; length];
    reader.read_exact(&mut seen.body).ok()?;
    seen.at = Instant::now();
    Some(seen)
}
