//! A scripted control plane: hands out the commands that a test writes, keeps what is posted.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use serde_json::Value;

use super::site::{Answer, Site, reply};
use crate::common::eventually;
use crate::common::http::Request;

#[derive(Default)]
struct State {
    commands: Mutex<VecDeque<String>>,
    arrived: Condvar,
    polls: AtomicUsize,
    clients: AtomicUsize,
    posts: Mutex<Vec<Value>>,
    next: AtomicUsize,
}

/// The control plane; it ends with the test process.
pub struct Plane {
    site: Site,
    state: Arc<State>,
}

impl Plane {
    pub fn start() -> Plane {
        let state = Arc::new(State::default());
        let seen = Arc::clone(&state);
        Plane { site: Site::tcp(move |request| answer(&seen, request)), state }
    }

    /// Forgets the polls of a client that was ended, which nobody reads any more.
    pub fn forget_polls(&self) {
        self.state.clients.fetch_add(1, Ordering::SeqCst);
        drop(self.state.commands.lock().expect("commands"));
        self.state.arrived.notify_all();
    }

    pub fn base_url(&self) -> String {
        format!("http://{}", self.site.address)
    }

    pub fn host_and_port(&self) -> &str {
        &self.site.address
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Request> {
        self.site.seen()
    }

    pub fn polls(&self) -> usize {
        self.state.polls.load(Ordering::SeqCst)
    }

    /// Queues a command with these further members; its request id.
    pub fn command(&self, members: &str) -> String {
        let id = format!("r-{}", self.state.next.fetch_add(1, Ordering::SeqCst));
        let json = format!(r#"{{"request_id":"{id}","shard_token":"shard",{members}}}"#);
        serde_json::from_str::<Value>(&json).expect("a command");
        self.state.commands.lock().expect("commands").push_back(json);
        self.state.arrived.notify_all();
        id
    }

    /// Queues `message` for `main` with headers.
    pub fn send(&self, headers: &[(&str, &str)], message: &str) -> String {
        self.command(&members("main", headers, message))
    }

    /// All that was posted for a command.
    pub fn posts(&self, id: &str) -> Vec<Value> {
        let posts = self.state.posts.lock().expect("posts");
        posts.iter().filter(|post| post["request_id"] == id).cloned().collect()
    }

    /// Waits for the terminal post of a command; all its posts.
    pub fn wait(&self, id: &str) -> Vec<Value> {
        let ended = || self.posts(id).last().is_some_and(|post| post["resp_type"] != "jsonrpc_notify");
        eventually(&format!("the answer to {id}"), ended);
        self.posts(id)
    }

    /// Sends `message` to `main` and waits for its only post.
    pub fn exchange(&self, headers: &[(&str, &str)], message: &str) -> Value {
        let mut posts = self.wait(&self.send(headers, message));
        assert_eq!(posts.len(), 1, "{posts:?}");
        posts.remove(0)
    }

    /// Calls `tool` on `main`.
    pub fn call(&self, tool: &str) -> Value {
        self.exchange(&[], &call(tool))
    }

    /// Calls `tool` with arguments on `channel`; the response.
    pub fn call_on(&self, channel: &str, tool: &str, arguments: &str) -> Value {
        let mut posts = self.wait(&self.command(&members(channel, &[], &call_with(tool, arguments))));
        posts.pop().expect("a post")["resp_json"].take()
    }
}

/// `resp_code source/kind` of a synthesised failure.
pub fn failure(post: &Value) -> String {
    let data = &post["resp_json"]["error"]["data"]["tunnel_failure"];
    let text = |name: &str| data[name].as_str().unwrap_or("-").to_owned();
    format!("{} {}/{}", post["resp_code"], text("source"), text("transport_error_kind"))
}

/// A header of a post.
pub fn header<'a>(post: &'a Value, name: &str) -> Option<&'a str> {
    post["resp_headers"].as_object()?.iter().find(|(have, _)| have.eq_ignore_ascii_case(name))?.1[0].as_str()
}

/// A `tools/call` with id 1.
pub fn call(tool: &str) -> String {
    call_with(tool, "{}")
}

/// The same with arguments.
pub fn call_with(tool: &str, arguments: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{tool}","arguments":{arguments}}}}}"#
    )
}

/// The members of a `jsonrpc` command.
pub fn members(channel: &str, headers: &[(&str, &str)], message: &str) -> String {
    let mut map = serde_json::Map::new();
    for (name, value) in headers {
        let values = map.entry((*name).to_owned()).or_insert_with(|| Value::Array(Vec::new()));
        values.as_array_mut().expect("a list").push((*value).into());
    }
    let headers = Value::Object(map);
    format!(r#""command_type":"jsonrpc","channel":"{channel}","headers":{headers},"jsonrpc":{message}"#)
}

fn answer(state: &State, request: &Request) -> Answer {
    if request.path.contains("/response") {
        state.posts.lock().expect("posts").push(request.json());
        return reply(200, &[("Content-Type", "application/json")], "{}");
    }
    if !request.path.contains("/poll") {
        return reply(404, &[], "");
    }
    state.polls.fetch_add(1, Ordering::SeqCst);
    let client = state.clients.load(Ordering::SeqCst);
    let is_over = || state.clients.load(Ordering::SeqCst) != client;
    let commands = state.commands.lock().expect("commands");
    let idle = |commands: &mut VecDeque<String>| commands.is_empty() && !is_over();
    let waited = state.arrived.wait_timeout_while(commands, Duration::from_secs(2), idle);
    let (mut commands, _) = waited.expect("commands");
    if commands.is_empty() || is_over() {
        return reply(204, &[], "");
    }
    let list: Vec<String> = commands.drain(..).collect();
    let body = format!(r#"{{"commands":[{}]}}"#, list.join(","));
    reply(200, &[("Content-Type", "application/json")], &body)
}
