//! A scripted control plane: hands out commands, records every POST, replies as its rule says.

use std::collections::VecDeque;
use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::http::{self, Request};
use super::{PATIENCE, TUNNEL_ID};

/// One response POST.
#[derive(Clone, Debug)]
pub struct Post {
    pub at: Instant,
    pub request_id: String,
    pub resp_type: String,
    pub code: u64,
    /// As sent.
    pub text: String,
    /// It carried the command's own shard token.
    pub addressed: bool,
    /// The rule let it count.
    pub accepted: bool,
}

impl Post {
    pub fn is_terminal(&self) -> bool {
        self.resp_type != "jsonrpc_notify"
    }

    pub fn payload(&self) -> serde_json::Value {
        let body: serde_json::Value = serde_json::from_str(&self.text).expect("a response is JSON");
        body["resp_json"].clone()
    }

    /// `code` alone, or with `source/kind` of a synthesised failure.
    pub fn verdict(&self) -> String {
        let failure = &self.payload()["error"]["data"]["tunnel_failure"];
        match (failure["source"].as_str(), failure["transport_error_kind"].as_str()) {
            (Some(source), Some(kind)) => format!("{} {source}/{kind}", self.code),
            _ => self.code.to_string(),
        }
    }
}

/// What becomes of a POST.
#[derive(Clone, Debug)]
pub enum Ruling {
    /// It counts.
    Accept,
    /// It counts, and this is the reply.
    AcceptWith(Vec<u8>),
    /// It does not count; these bytes are the reply, and the connection is closed after them if so asked.
    Refuse(Vec<u8>, bool),
    /// It does not count; no reply, until the peer gives up.
    Stall,
    /// It does not count; the connection is reset.
    Reset,
}

/// Rules over a response by its place among the POSTs with the same `request_id`, 1 first.
type Rule = dyn Fn(&Post, usize) -> Ruling + Send + Sync;

/// The control plane; it ends with the test process.
pub struct Plane {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    rule: Mutex<Option<Arc<Rule>>>,
    issued: AtomicUsize,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<String>,
    posts: Vec<Post>,
    polls: usize,
    handed: Vec<(String, Instant)>,
    /// Requests for paths that no control plane has.
    strays: Vec<String>,
    /// Connections that carry responses.
    posting: Vec<TcpStream>,
    /// Responses that have not been replied to.
    unreplied: usize,
}

impl Plane {
    pub fn start() -> Plane {
        let shared = Arc::new(Shared::default());
        let serving = Arc::clone(&shared);
        let address = http::listen(move |stream| serving.serve(stream));
        Plane { address, shared }
    }

    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on `rule` decides over responses.
    pub fn set_rule(&self, rule: impl Fn(&Post, usize) -> Ruling + Send + Sync + 'static) {
        *self.shared.rule.lock().expect("rule") = Some(Arc::new(rule));
    }

    /// Hands a command out; `json` is its members but `request_id` and `shard_token`. The id it got.
    pub fn issue(&self, name: &str, json: &str) -> String {
        let id = format!("{name}#{}", self.shared.issued.fetch_add(1, Ordering::SeqCst));
        let command = format!(r#"{{"request_id":"{id}","shard_token":"token-{id}",{json}}}"#);
        self.shared.state.lock().expect("state").waiting.push_back(command);
        self.shared.changed.notify_all();
        id
    }

    /// The terminal POST for `id` that counted, waited for until `time` after it was handed out.
    pub fn answer(&self, id: &str, time: Duration) -> Option<Post> {
        let mut state = self.shared.state.lock().expect("state");
        let give_up = Instant::now() + PATIENCE;
        loop {
            let posts = state.posts.iter();
            if let Some(post) = posts.clone().find(|p| p.request_id == id && p.is_terminal() && p.accepted) {
                return Some(post.clone());
            }
            let handed = state.handed.iter().find(|(handed, _)| handed == id).map(|(_, at)| *at);
            let until = handed.map_or(give_up, |at| at + time);
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                assert!(handed.is_some(), "{id} was never polled");
                return None;
            }
            state = self.shared.changed.wait_timeout(state, left).expect("state").0;
        }
    }

    /// When `id` was written into a poll's reply.
    pub fn handed_at(&self, id: &str) -> Option<Instant> {
        let state = self.shared.state.lock().expect("state");
        state.handed.iter().find(|(handed, _)| handed == id).map(|(_, at)| *at)
    }

    /// All POSTs so far.
    pub fn posts(&self) -> Vec<Post> {
        self.shared.state.lock().expect("state").posts.clone()
    }

    /// All POSTs for `id` so far, in order.
    pub fn posts_of(&self, id: &str) -> Vec<Post> {
        self.posts().into_iter().filter(|post| post.request_id == id).collect()
    }

    /// Requests for anything that is no endpoint, so far.
    pub fn strays(&self) -> Vec<String> {
        self.shared.state.lock().expect("state").strays.clone()
    }

    pub fn wait_polled(&self) {
        super::eventually("a client polls", || self.shared.state.lock().expect("state").polls > 0);
    }

    /// Closes every connection over which responses came, once none is under way.
    pub fn close_posting(&self) {
        super::eventually("every response is replied to", || {
            self.shared.state.lock().expect("state").unreplied == 0
        });
        for stream in self.shared.state.lock().expect("state").posting.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        let Ok(mut writer) = stream.try_clone() else { return };
        let mut reader = BufReader::new(stream);
        let mut posting = false;
        while let Ok(Some(request)) = http::read_request(&mut reader) {
            let go_on = if request.path.contains("/poll?") {
                self.poll(&request, &mut writer)
            } else if request.path.ends_with("/response") {
                if !std::mem::replace(&mut posting, true) {
                    let Ok(stream) = writer.try_clone() else { return };
                    self.state.lock().expect("state").posting.push(stream);
                }
                self.state.lock().expect("state").unreplied += 1;
                let replied = self.response(&request, &mut writer);
                self.state.lock().expect("state").unreplied -= 1;
                match replied {
                    Some(go_on) => go_on,
                    // Dropped as it is, it is reset.
                    None => return,
                }
            } else if request.path.ends_with(TUNNEL_ID) {
                let json = format!(r#"{{"id":"{TUNNEL_ID}","name":"matrix","description":"faults"}}"#);
                writer.write_all(&http::reply(200, &[("Content-Type", "application/json")], &json)).is_ok()
            } else {
                self.state.lock().expect("state").strays.push(request.path.clone());
                writer.write_all(&http::reply(200, &[], "")).is_ok()
            };
            if !go_on {
                break;
            }
        }
        // Copies of the stream are kept elsewhere: closing this one would not be seen.
        let _ = writer.shutdown(Shutdown::Both);
    }

    fn poll(&self, request: &Request, writer: &mut TcpStream) -> bool {
        let parameter = |name: &str| {
            let query = request.path.split_once('?').map_or("", |(_, query)| query);
            query.split('&').find_map(|pair| pair.strip_prefix(name)?.parse::<u64>().ok())
        };
        let limit = parameter("limit=").expect("a limit") as usize;
        let until = Instant::now() + Duration::from_millis(parameter("timeout_ms=").expect("a time"));
        let mut state = self.state.lock().expect("state");
        state.polls += 1;
        self.changed.notify_all();
        while state.waiting.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return writer.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").is_ok();
            }
            state = self.changed.wait_timeout(state, left).expect("state").0;
        }
        let count = state.waiting.len().min(limit);
        let commands: Vec<String> = state.waiting.drain(..count).collect();
        let now = Instant::now();
        for command in &commands {
            let id = command.split('"').nth(3).expect("a request id").to_owned();
            state.handed.push((id, now));
        }
        self.changed.notify_all();
        drop(state);
        let body = format!(r#"{{"commands":[{}]}}"#, commands.join(","));
        writer.write_all(&http::reply(200, &[("Content-Type", "application/json")], &body)).is_ok()
    }

    /// Whether the connection goes on; `None` to reset it.
    fn response(&self, request: &Request, writer: &mut TcpStream) -> Option<bool> {
        let body = request.json();
        let id = body["request_id"].as_str().expect("a request id").to_owned();
        let mut post = Post {
            at: Instant::now(),
            addressed: request.header("X-Tunnel-Shard-Token") == Some(&format!("token-{id}")),
            resp_type: body["resp_type"].as_str().expect("a type").to_owned(),
            code: body["resp_code"].as_u64().expect("a code"),
            text: request.text(),
            request_id: id,
            accepted: false,
        };
        let place = {
            let state = self.state.lock().expect("state");
            1 + state.posts.iter().filter(|earlier| earlier.request_id == post.request_id).count()
        };
        let rule = self.rule.lock().expect("rule").clone();
        let ruling = rule.map_or(Ruling::Accept, |rule| rule(&post, place));
        post.accepted = matches!(ruling, Ruling::Accept | Ruling::AcceptWith(_));
        self.state.lock().expect("state").posts.push(post);
        self.changed.notify_all();
        Some(match ruling {
            Ruling::Accept => writer.write_all(&http::reply(200, &[], r#"{"status":"ok"}"#)).is_ok(),
            Ruling::AcceptWith(bytes) => writer.write_all(&bytes).is_ok(),
            Ruling::Refuse(bytes, close) => writer.write_all(&bytes).is_ok() && !close,
            Ruling::Stall => {
                let _ = writer.read(&mut [0]);
                false
            }
            Ruling::Reset => {
                self.forget(writer);
                let _ = rustix::net::sockopt::set_socket_linger(&*writer, Some(Duration::ZERO));
                return None;
            }
        })
    }

    /// A copy that stays open would keep a reset from being sent.
    fn forget(&self, writer: &TcpStream) {
        let peer = writer.peer_addr().ok();
        self.state.lock().expect("state").posting.retain(|stream| stream.peer_addr().ok() != peer);
    }
}
