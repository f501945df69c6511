//! A scripted control plane: decides about every reply and checks every request.
//!
//! It also stands in for an HTTP proxy: it takes absolute-form requests, and after a `CONNECT` it
//! goes on as the TLS server that was asked for.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Deref;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::control_plane_rules::faults;
use super::http::{self, Request};
use super::{PATIENCE, TUNNEL_ID};

/// What becomes of one request.
#[derive(Clone, Debug)]
pub enum Answer {
    /// These bytes.
    Bytes(Vec<u8>),
    /// These bytes, after which the connection is closed.
    Last(Vec<u8>),
    /// The first bytes at once, the others when the gate opens.
    Split(Vec<u8>, Gate, Vec<u8>),
    /// The connection is closed without a reply.
    Close,
    /// Nothing, for as long as the client waits.
    Hold,
}

/// Opens once; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub fn open(&self) {
        *lock(&self.0.0) = true;
        self.0.1.notify_all();
    }

    /// Waits until it is open.
    pub fn pass(&self) {
        let open = lock(&self.0.0);
        let (_open, late) = self
            .0
            .1
            .wait_timeout_while(open, PATIENCE * 2, |open| !*open)
            .unwrap_or_else(PoisonError::into_inner);
        assert!(!late.timed_out(), "nobody opened the gate");
    }
}

/// One request, as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub at: Instant,
    /// Which connection, from 0.
    pub connection: usize,
    /// `scheme://authority` of an absolute-form request.
    pub asked_through_proxy: Option<String>,
    pub request: Request,
}

impl Deref for Seen {
    type Target = Request;

    fn deref(&self) -> &Request {
        &self.request
    }
}

impl Seen {
    pub fn route(&self) -> &str {
        self.path.split('?').next().unwrap_or_default()
    }

    pub fn query(&self) -> &str {
        self.path.split_once('?').map_or("", |(_, query)| query)
    }

    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query().split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }

    pub fn instance(&self) -> &str {
        self.header("X-Tunnel-Client-Instance-Id").unwrap_or_default()
    }

    /// The `request_id` of a response.
    pub fn request_id(&self) -> String {
        self.json()["request_id"].as_str().unwrap_or_default().to_owned()
    }
}

type Rule = Box<dyn Fn(&Seen) -> Answer + Send + Sync>;

/// The server; it ends with the test process. Dropping it checks that every request was in order.
pub struct ControlPlane {
    address: SocketAddr,
    tls: bool,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    tls: Option<Arc<ServerConfig>>,
    metadata: Mutex<Arc<Rule>>,
    response: Mutex<Arc<Rule>>,
}

#[derive(Default)]
struct State {
    seen: Vec<Seen>,
    /// Heads of `CONNECT` requests.
    connects: Vec<Request>,
    connect_status: Option<u16>,
    polls: VecDeque<Answer>,
    connections: usize,
    /// Polls in flight, by instance.
    in_flight: HashMap<String, usize>,
    wrong: Vec<String>,
    extra: BTreeSet<String>,
    clients: usize,
}

impl ControlPlane {
    /// Metadata is answered with 404, responses with 200, polls wait for what [`ControlPlane::poll`] adds.
    pub fn start() -> ControlPlane {
        ControlPlane::with(None, true)
    }

    /// The same over TLS.
    pub fn over_tls(config: Arc<ServerConfig>) -> ControlPlane {
        ControlPlane::with(Some(config), true)
    }

    /// Plain, but with TLS inside `CONNECT` tunnels.
    pub fn behind_proxy(config: Arc<ServerConfig>) -> ControlPlane {
        ControlPlane::with(Some(config), false)
    }

    fn with(tls: Option<Arc<ServerConfig>>, tls_at_once: bool) -> ControlPlane {
        let at_once = tls_at_once && tls.is_some();
        let shared = Arc::new(Shared {
            state: Mutex::new(State { clients: 1, ..State::default() }),
            changed: Condvar::new(),
            tls,
            metadata: Mutex::new(Arc::new(Box::new(|_: &Seen| error(404, "{}")))),
            response: Mutex::new(Arc::new(Box::new(|_: &Seen| json(r#"{"status":"ok"}"#)))),
        });
        let serving = Arc::clone(&shared);
        let address = http::listen(move |stream| serving.serve(stream, at_once));
        ControlPlane { address, tls: at_once, shared }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn base_url(&self) -> String {
        match self.tls {
            true => format!("https://localhost:{}", self.address.port()),
            false => format!("http://{}", self.address),
        }
    }

    /// Adds the reply of one poll.
    pub fn poll(&self, answer: Answer) {
        self.lock().polls.push_back(answer);
        self.shared.changed.notify_all();
    }

    /// Adds one poll's commands.
    pub fn send(&self, commands: &[String]) {
        self.poll(batch(commands));
    }

    /// From now on `rule` decides about responses.
    pub fn on_response(&self, rule: impl Fn(&Seen) -> Answer + Send + Sync + 'static) {
        *lock(&self.shared.response) = Arc::new(Box::new(rule));
    }

    /// From now on `rule` decides about metadata requests.
    pub fn on_metadata(&self, rule: impl Fn(&Seen) -> Answer + Send + Sync + 'static) {
        *lock(&self.shared.metadata) = Arc::new(Box::new(rule));
    }

    /// Refuses `CONNECT` requests with this status.
    pub fn refuse_connect(&self, status: u16) {
        self.lock().connect_status = Some(status);
    }

    /// A header that requests may carry besides the usual ones.
    pub fn allow_header(&self, name: &str) {
        self.lock().extra.insert(name.to_ascii_lowercase());
    }

    /// How many processes may be seen.
    pub fn expect_clients(&self, clients: usize) {
        self.lock().clients = clients;
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.lock().seen.clone()
    }

    pub fn polls(&self) -> Vec<Seen> {
        self.seen().into_iter().filter(|seen| seen.route().ends_with("/poll")).collect()
    }

    pub fn responses(&self) -> Vec<Seen> {
        self.seen().into_iter().filter(|seen| seen.route().ends_with("/response")).collect()
    }

    /// Responses to one command.
    pub fn responses_to(&self, request_id: &str) -> Vec<Seen> {
        self.responses().into_iter().filter(|seen| seen.request_id() == request_id).collect()
    }

    pub fn metadata_requests(&self) -> Vec<Seen> {
        self.seen().into_iter().filter(|seen| seen.route().ends_with(TUNNEL_ID)).collect()
    }

    pub fn connects(&self) -> Vec<Request> {
        self.lock().connects.clone()
    }

    pub fn connections(&self) -> usize {
        self.lock().connections
    }

    /// Waits for the `count`th poll.
    pub fn wait_polls(&self, count: usize) -> Vec<Seen> {
        self.wait(&format!("{count} polls"), || Some(self.polls()).filter(|polls| polls.len() >= count))
    }

    /// Waits for the `count`th response.
    pub fn wait_responses(&self, count: usize) -> Vec<Seen> {
        self.wait(&format!("{count} responses"), || Some(self.responses()).filter(|all| all.len() >= count))
    }

    /// Waits for a response to each command; the first to each, in that order.
    pub fn wait_answers(&self, request_ids: &[&str]) -> Vec<Seen> {
        self.wait(&format!("answers to {request_ids:?}"), || {
            request_ids.iter().map(|id| self.responses_to(id).into_iter().next()).collect()
        })
    }

    /// Waits until a poll waits for its reply and every reply given so far was taken.
    pub fn wait_parked(&self) {
        self.wait("a parked poll", || {
            let state = self.lock();
            (state.polls.is_empty() && state.in_flight.values().any(|count| *count > 0)).then_some(())
        });
    }

    fn wait<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}; seen: {:#?}", self.paths());
            let state = self.lock();
            let _ = self.shared.changed.wait_timeout(state, Duration::from_millis(10));
        }
    }

    fn paths(&self) -> Vec<String> {
        self.seen().iter().map(|seen| format!("{} {} {}", seen.method, seen.path, seen.text())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.shared.state)
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let state = self.lock();
        let instances: BTreeSet<&str> = state.seen.iter().map(Seen::instance).collect();
        assert!(state.wrong.is_empty(), "requests were not in order: {:#?}", state.wrong);
        assert!(instances.len() <= state.clients, "one process, one instance id: {instances:?}");
    }
}

/// Plain or inside TLS.
enum Conn {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Read for Conn {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Conn::Plain(stream) => stream.read(buffer),
            Conn::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Conn {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Conn::Plain(stream) => stream.write(bytes),
            Conn::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Conn::Plain(stream) => stream.flush(),
            Conn::Tls(stream) => stream.flush(),
        }
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream, tls: bool) {
        let _ = stream.set_nodelay(true);
        let Ok(raw) = stream.try_clone() else { return };
        let connection = {
            let mut state = lock(&self.state);
            state.connections += 1;
            state.connections - 1
        };
        let Some(conn) = (if tls { self.tls_over(stream) } else { Some(Conn::Plain(stream)) }) else {
            return;
        };
        let mut reader = BufReader::new(conn);
        while let Ok(Some(mut request)) = http::read_request(&mut reader) {
            if request.method == "CONNECT" {
                let status = {
                    let mut state = lock(&self.state);
                    state.connects.push(request);
                    state.connect_status.unwrap_or(200)
                };
                self.changed.notify_all();
                let head = format!("HTTP/1.1 {status} Whatever\r\n\r\n");
                if reader.get_mut().write_all(head.as_bytes()).is_err() || status != 200 {
                    return;
                }
                let Conn::Plain(stream) = reader.into_inner() else { return };
                let Some(conn) = self.tls_over(stream) else { return };
                reader = BufReader::new(conn);
                continue;
            }
            let asked_through_proxy = split_absolute(&mut request.path);
            let seen = Seen { at: Instant::now(), connection, asked_through_proxy, request };
            let answer = self.answer(&seen, &raw);
            match answer {
                Some(Answer::Bytes(bytes)) => {
                    if reader.get_mut().write_all(&bytes).and_then(|()| reader.get_mut().flush()).is_err() {
                        return;
                    }
                }
                Some(Answer::Last(bytes)) => {
                    let _ = reader.get_mut().write_all(&bytes).and_then(|()| reader.get_mut().flush());
                    return;
                }
                Some(Answer::Split(first, gate, rest)) => {
                    let _ = reader.get_mut().write_all(&first).and_then(|()| reader.get_mut().flush());
                    gate.pass();
                    let _ = reader.get_mut().write_all(&rest).and_then(|()| reader.get_mut().flush());
                }
                Some(Answer::Hold) => {
                    while !is_gone(&raw) {
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    return;
                }
                Some(Answer::Close) | None => return,
            }
        }
    }

    fn tls_over(&self, stream: TcpStream) -> Option<Conn> {
        let connection = ServerConnection::new(Arc::clone(self.tls.as_ref()?)).ok()?;
        Some(Conn::Tls(Box::new(StreamOwned::new(connection, stream))))
    }

    /// `None` when the client went away first.
    fn answer(&self, seen: &Seen, raw: &TcpStream) -> Option<Answer> {
        let is_poll = seen.route().ends_with("/poll");
        {
            let mut state = lock(&self.state);
            let wrong = faults(seen, &state.extra);
            state.wrong.extend(wrong);
            state.seen.push(seen.clone());
            if is_poll {
                let in_flight = state.in_flight.entry(seen.instance().to_owned()).or_default();
                *in_flight += 1;
                if *in_flight > 1 {
                    state.wrong.push("two polls at once".to_owned());
                }
            }
        }
        self.changed.notify_all();
        if is_poll {
            let answer = self.next_poll_answer(raw);
            *lock(&self.state).in_flight.entry(seen.instance().to_owned()).or_default() -= 1;
            return answer;
        }
        let rules = if seen.route().ends_with("/response") { &self.response } else { &self.metadata };
        let rule = Arc::clone(&lock(rules));
        Some(rule(seen))
    }

    fn next_poll_answer(&self, raw: &TcpStream) -> Option<Answer> {
        loop {
            if is_gone(raw) {
                return None;
            }
            let mut state = lock(&self.state);
            if let Some(answer) = state.polls.pop_front() {
                return Some(answer);
            }
            let _ = self.changed.wait_timeout(state, Duration::from_millis(10));
        }
    }
}

/// Whether the peer has closed, or sent what nobody sends while it waits.
fn is_gone(stream: &TcpStream) -> bool {
    let _ = stream.set_nonblocking(true);
    let seen = stream.peek(&mut [0]);
    let _ = stream.set_nonblocking(false);
    !matches!(seen, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

/// Takes `scheme://authority` off an absolute-form target.
fn split_absolute(target: &mut String) -> Option<String> {
    let start = target.find("://")? + 3;
    let end = start + target[start..].find('/')?;
    let rest = target.split_off(end);
    Some(std::mem::replace(target, rest))
}

/// A 200 with this JSON.
pub fn json(body: &str) -> Answer {
    Answer::Bytes(http::reply(200, &[("Content-Type", "application/json")], body))
}

/// A reply with this status and body.
pub fn error(status: u16, body: &str) -> Answer {
    Answer::Bytes(http::reply(status, &[], body))
}

/// The same with headers.
pub fn error_with(status: u16, headers: &[(&str, &str)], body: &str) -> Answer {
    Answer::Bytes(http::reply(status, headers, body))
}

/// A 204.
pub fn nothing() -> Answer {
    Answer::Bytes(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec())
}

/// A 200 with these commands.
pub fn batch(commands: &[String]) -> Answer {
    json(&format!(r#"{{"commands":[{}]}}"#, commands.join(",")))
}

/// A command with `request_id`, the shard token `shard-<request_id>` and these members.
pub fn command(request_id: &str, members: &str) -> String {
    format!(r#"{{"request_id":"{request_id}","shard_token":"shard-{request_id}",{members}}}"#)
}

/// A command that carries this message.
pub fn message(request_id: &str, json: &str, members: &str) -> String {
    command(request_id, &format!(r#""command_type":"jsonrpc","jsonrpc":{json}{members}"#))
}

/// A `tools/call` of `tool`, with further members of the command (`,"name":…`).
pub fn call(request_id: &str, tool: &str, members: &str) -> String {
    let json = format!(
        r#"{{"jsonrpc":"2.0","id":"id-{request_id}","method":"tools/call","params":{{"name":"{tool}","arguments":{{"of":"{request_id}"}}}}}}"#
    );
    message(request_id, &json, members)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
