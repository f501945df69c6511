//! A scripted control plane: hands out raw commands, records what comes back.

use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::http::{self, Request};
use super::{PATIENCE, TUNNEL_ID};

/// Longest time that a poll is held; the client is told by 204 then.
const HOLD: Duration = Duration::from_secs(10);

/// Answers one response POST; `None` closes the connection.
type Rule = dyn Fn(&Post) -> Option<Vec<u8>> + Send + Sync;

/// The control plane; it ends with the test process.
pub struct ScriptedPlane {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    batches: Vec<Vec<String>>,
    limits: Vec<usize>,
    posts: Vec<Post>,
    rule: Arc<Rule>,
}

/// A response as it was posted.
#[derive(Clone, Debug)]
pub struct Post {
    pub request: Request,
    /// The body, parsed.
    pub json: Value,
    /// Its place among all posts, 0 first.
    pub index: usize,
    pub at: Instant,
}

impl Post {
    pub fn id(&self) -> &str {
        self.json["request_id"].as_str().unwrap_or_default()
    }

    pub fn kind(&self) -> &str {
        self.json["resp_type"].as_str().unwrap_or_default()
    }

    pub fn code(&self) -> u64 {
        self.json["resp_code"].as_u64().unwrap_or_default()
    }

    /// `source`/`transport_error_kind`, a dash for each that is missing.
    pub fn failure(&self) -> String {
        let data = &self.json["resp_json"]["error"]["data"]["tunnel_failure"];
        let word = |name: &str| data[name].as_str().unwrap_or("-").to_owned();
        format!("{}/{}", word("source"), word("transport_error_kind"))
    }

    /// The text of `resp_json`, byte for byte.
    pub fn payload(&self) -> String {
        let body: std::collections::BTreeMap<String, Box<serde_json::value::RawValue>> =
            serde_json::from_slice(&self.request.body).expect("an object");
        body["resp_json"].get().to_owned()
    }

    /// Names of the members of the body.
    pub fn members(&self) -> Vec<&str> {
        self.json.as_object().expect("an object").keys().map(String::as_str).collect()
    }
}

impl ScriptedPlane {
    pub fn start() -> ScriptedPlane {
        let rule: Arc<Rule> = Arc::new(|_: &Post| Some(accepted()));
        let state = State { batches: Vec::new(), limits: Vec::new(), posts: Vec::new(), rule };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let serving = Arc::clone(&shared);
        let address = http::listen(move |stream| serving.serve(stream));
        ScriptedPlane { address, shared }
    }

    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Hands these commands out with the next poll, all of them whatever it asks for.
    pub fn send(&self, commands: &[String]) {
        self.shared.lock().batches.push(commands.to_vec());
        self.shared.changed.notify_all();
    }

    /// From now on `rule` answers response POSTs. It may block.
    pub fn answer(&self, rule: impl Fn(&Post) -> Option<Vec<u8>> + Send + Sync + 'static) {
        self.shared.lock().rule = Arc::new(rule);
    }

    /// The `limit` of each poll so far.
    pub fn limits(&self) -> Vec<usize> {
        self.shared.lock().limits.clone()
    }

    /// Waits until `count` polls have come.
    pub fn wait_polls(&self, count: usize) {
        self.wait(&format!("{count} polls"), |state| state.limits.len() >= count);
    }

    /// All posts so far.
    pub fn posts(&self) -> Vec<Post> {
        self.shared.lock().posts.clone()
    }

    /// The posts of one command so far.
    pub fn posts_of(&self, request_id: &str) -> Vec<Post> {
        self.posts().into_iter().filter(|post| post.id() == request_id).collect()
    }

    /// Waits until `count` responses have been posted.
    pub fn wait_posts(&self, count: usize) -> Vec<Post> {
        self.wait(&format!("{count} posts"), |state| state.posts.len() >= count);
        self.posts()
    }

    /// Waits for the terminal response of a command.
    pub fn wait_terminal(&self, request_id: &str) -> Post {
        let is_it = |post: &&Post| post.id() == request_id && post.kind() != "jsonrpc_notify";
        self.wait(&format!("the answer of {request_id}"), |state| {
            state.posts.iter().any(|post| is_it(&post))
        });
        self.posts().iter().find(is_it).expect("it is there").clone()
    }

    fn wait(&self, what: &str, done: impl Fn(&State) -> bool) {
        let state = self.shared.lock();
        let (state, wait) =
            self.shared.changed.wait_timeout_while(state, PATIENCE, |state| !done(state)).expect("state");
        let posts: Vec<_> = state.posts.iter().map(|post| post.request.text()).collect();
        assert!(!wait.timed_out(), "not within {PATIENCE:?}: {what}; posted {posts:#?}");
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("state")
    }

    fn serve(&self, stream: TcpStream) {
        let Ok(mut writer) = stream.try_clone() else { return };
        let _ = writer.set_nodelay(true);
        let mut reader = BufReader::new(stream);
        while let Ok(Some(request)) = http::read_request(&mut reader) {
            let reply = if request.path.contains("/poll") {
                Some(self.poll(&request))
            } else if request.path.contains("/response") {
                self.respond(request)
            } else {
                let body = format!(r#"{{"id":"{TUNNEL_ID}","name":"scripted","description":""}}"#);
                Some(http::reply(200, &[("Content-Type", "application/json")], &body))
            };
            match reply {
                Some(reply) if writer.write_all(&reply).is_ok() => {}
                _ => return,
            }
        }
    }

    fn poll(&self, request: &Request) -> Vec<u8> {
        let query = request.path.split_once('?').map_or("", |(_, query)| query);
        let limit = query.split('&').find_map(|pair| pair.strip_prefix("limit=")).expect("a limit");
        let mut state = self.lock();
        state.limits.push(limit.parse().expect("a number"));
        self.changed.notify_all();
        let (mut state, _) =
            self.changed.wait_timeout_while(state, HOLD, |state| state.batches.is_empty()).expect("state");
        if state.batches.is_empty() {
            return b"HTTP/1.1 204 No Content\r\n\r\n".to_vec();
        }
        let body = format!(r#"{{"commands":[{}]}}"#, state.batches.remove(0).join(","));
        http::reply(200, &[("Content-Type", "application/json")], &body)
    }

    fn respond(&self, request: Request) -> Option<Vec<u8>> {
        let json = serde_json::from_slice(&request.body).expect("JSON is posted");
        let (post, rule) = {
            let mut state = self.lock();
            let post = Post { request, json, index: state.posts.len(), at: Instant::now() };
            state.posts.push(post.clone());
            (post, Arc::clone(&state.rule))
        };
        self.changed.notify_all();
        rule(&post)
    }
}

/// The control plane's 200.
pub fn accepted() -> Vec<u8> {
    http::reply(200, &[("Content-Type", "application/json"), ("X-Request-Id", "cp-1")], "{}")
}

/// A `jsonrpc` command; `more` are further members, each with a comma before it.
pub fn jsonrpc(request_id: &str, payload: &str, more: &str) -> String {
    command("jsonrpc", request_id, &format!(r#","jsonrpc":{payload}{more}"#))
}

/// A call with the id `"id-REQUEST_ID"`.
pub fn call(request_id: &str, method: &str, more: &str) -> String {
    let payload = format!(r#"{{"jsonrpc":"2.0","id":"id-{request_id}","method":"{method}","params":{{}}}}"#);
    jsonrpc(request_id, &payload, more)
}

/// A call of the tool `tool` with the id `"id-REQUEST_ID"`.
pub fn tool(request_id: &str, tool: &str, more: &str) -> String {
    let payload = format!(
        r#"{{"jsonrpc":"2.0","id":"id-{request_id}","method":"tools/call","params":{{"name":"{tool}","arguments":{{"of":"{request_id}"}},"_meta":{{"progressToken":"t-{request_id}"}}}}}}"#
    );
    jsonrpc(request_id, &payload, more)
}

/// A notification.
pub fn notification(request_id: &str, method: &str, more: &str) -> String {
    jsonrpc(request_id, &format!(r#"{{"jsonrpc":"2.0","method":"{method}"}}"#), more)
}

/// A command of any type, with the shard token `shard-REQUEST_ID`.
pub fn command(command_type: &str, request_id: &str, more: &str) -> String {
    format!(
        r#"{{"command_type":"{command_type}","request_id":"{request_id}","shard_token":"shard-{request_id}"{more}}}"#
    )
}
