//! Calls that wait until the test lets them go, and how many wait at once.

use std::io::Write;
use std::net::TcpStream;
use std::sync::{Arc, Condvar, Mutex};

use super::PATIENCE;
use super::http::{self, Request};
use super::mcp_server::{McpServer, Next, by_tool_name};

/// A gate; clones share it. Closed at first.
#[derive(Clone, Default)]
pub struct Gate {
    shared: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Default)]
struct State {
    open: bool,
    inside: usize,
    most: usize,
    /// What came, in order.
    arrivals: Vec<String>,
}

impl Gate {
    /// A server whose `held` tool and method answer once the gate is open; the rest goes by tool name.
    pub fn server(&self) -> McpServer {
        let gate = self.clone();
        McpServer::scripted(move |request: &Request, stream: &mut TcpStream| {
            let text = request.text();
            if !text.contains("\"held\"") {
                return by_tool_name(request, stream);
            }
            let id = request.json()["id"].to_string();
            gate.pass(&id);
            let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#);
            let _ = stream.write_all(&http::reply(200, &[("Content-Type", "application/json")], &body));
            Next::KeepAlive
        })
    }

    fn pass(&self, id: &str) {
        let (state, changed) = &*self.shared;
        let mut state = state.lock().expect("gate");
        state.arrivals.push(id.trim_matches('"').trim_start_matches("id-").to_owned());
        state.inside += 1;
        state.most = state.most.max(state.inside);
        changed.notify_all();
        let (mut state, _) = changed.wait_timeout_while(state, PATIENCE, |state| !state.open).expect("gate");
        state.inside -= 1;
    }

    /// Waits until `count` calls are held.
    pub fn wait_inside(&self, count: usize) {
        let (state, changed) = &*self.shared;
        let state = state.lock().expect("gate");
        let (state, wait) =
            changed.wait_timeout_while(state, PATIENCE, |state| state.inside < count).expect("gate");
        assert!(!wait.timed_out(), "{} of {count} calls are held", state.inside);
    }

    /// Lets all go, those that come later too.
    pub fn open(&self) {
        self.shared.0.lock().expect("gate").open = true;
        self.shared.1.notify_all();
    }

    /// The most calls that were held at once.
    pub fn most(&self) -> usize {
        self.shared.0.lock().expect("gate").most
    }

    /// Request ids in the order of their calls.
    pub fn arrivals(&self) -> Vec<String> {
        self.shared.0.lock().expect("gate").arrivals.clone()
    }
}
