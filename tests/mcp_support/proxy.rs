//! A forward proxy: CONNECT and absolute form.

use std::io::{BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::splice;
use crate::common::http::{self, Request};

/// The proxy; it ends with the test process.
pub struct Proxy {
    pub address: String,
    seen: Arc<Mutex<Vec<Request>>>,
    status: Arc<Mutex<Option<u16>>>,
}

impl Proxy {
    /// Goes to `backend` (`host:port`) whatever is asked for, or to what is asked for.
    pub fn start(backend: Option<&str>) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address").to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let status = Arc::new(Mutex::new(None));
        let backend = backend.map(str::to_owned);
        let (recorded, refusal) = (Arc::clone(&seen), Arc::clone(&status));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (backend, recorded, refusal) =
                    (backend.clone(), Arc::clone(&recorded), Arc::clone(&refusal));
                std::thread::spawn(move || serve(stream, backend.as_deref(), &recorded, &refusal));
            }
        });
        Proxy { address, seen, status }
    }

    /// From now on every request is answered with `status`; `None` lets them pass again.
    pub fn refuse(&self, status: Option<u16>) {
        *self.status.lock().expect("status") = status;
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Requests so far; what was asked for is their `path`.
    pub fn seen(&self) -> Vec<Request> {
        self.seen.lock().expect("requests").clone()
    }

    /// `METHOD target` of the requests so far.
    pub fn lines(&self) -> Vec<String> {
        self.seen().iter().map(|request| format!("{} {}", request.method, request.path)).collect()
    }
}

fn serve(
    stream: TcpStream,
    backend: Option<&str>,
    recorded: &Mutex<Vec<Request>>,
    refusal: &Mutex<Option<u16>>,
) {
    let Ok(mut writer) = stream.try_clone() else { return };
    let _ = writer.set_nodelay(true);
    let mut reader = BufReader::new(stream);
    while let Ok(Some(request)) = http::read_request(&mut reader) {
        recorded.lock().expect("requests").push(request.clone());
        let refused = *refusal.lock().expect("status");
        if let Some(status) = refused {
            if writer.write_all(&http::reply(status, &[], "")).is_err() {
                return;
            }
            continue;
        }
        let asked = request.path.strip_prefix("http://").unwrap_or(&request.path);
        let (authority, path) = asked.split_at(asked.find('/').unwrap_or(asked.len()));
        let Ok(upstream) = TcpStream::connect(backend.unwrap_or(authority)) else {
            let _ = writer.write_all(&http::reply(502, &[], ""));
            return;
        };
        let _ = upstream.set_nodelay(true);
        if request.method == "CONNECT" {
            let _ = writer.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n");
            let back = upstream.try_clone().expect("a socket");
            std::thread::spawn(move || splice(reader, upstream));
            return splice(back, writer);
        }
        let mut passed = Request { path: path.to_owned(), ..request.clone() };
        passed.headers.retain(|(name, _)| !name.to_lowercase().starts_with("proxy-"));
        let mut upstream = BufReader::new(upstream);
        if upstream.get_mut().write_all(&passed.to_bytes()).is_err() {
            return;
        }
        let Ok(reply) = http::read_reply(&mut upstream) else { return };
        let headers: Vec<(&str, &str)> = reply
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .filter(|(name, _)| !["transfer-encoding", "content-length"].contains(&&*name.to_lowercase()))
            .collect();
        let text = String::from_utf8(reply.body).expect("text");
        if writer.write_all(&http::reply(reply.status, &headers, &text)).is_err() {
            return;
        }
    }
}
