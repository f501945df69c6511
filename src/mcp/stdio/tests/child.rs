//! The test binary as a stdio server: what it does follows from the methods that it is sent.

use std::io::{BufRead, Write};
use std::time::Duration;

use serde_json::{Value, json};

/// Set for the child: where it notes each line that it reads.
pub(super) const RECORD: &str = "STDIO_TEST_RECORD";
/// Set for the child: how it treats `initialize` (`normal`, `refuse`, `neither`, `ignore`, `once`).
pub(super) const MANNERS: &str = "STDIO_TEST_MANNERS";
/// Name of the test that is the child.
pub(super) const TEST_NAME: &str = "mcp::stdio::tests::child::serve";

/// Not a test: with the variable set, this is the child.
#[test]
fn serve() {
    let Ok(record) = std::env::var(RECORD) else { return };
    let manners = std::env::var(MANNERS).unwrap_or_default();
    let mut record = std::fs::OpenOptions::new().append(true).create(true).open(record).unwrap();
    let mut server = Server { manners, initialized: 0, held: Vec::new() };
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        writeln!(record, "{line}").unwrap();
        let message: Value = serde_json::from_str(&line).unwrap();
        server.serve(&message);
    }
    std::process::exit(0);
}

struct Server {
    manners: String,
    initialized: usize,
    held: Vec<Value>,
}

fn write(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes());
    let _ = stdout.flush();
}

fn send(message: &Value) {
    write(&format!("{message}\n"));
}

fn result(id: &Value, result: Value) {
    send(&json!({"jsonrpc": "2.0", "id": id, "result": result}));
}

fn notify(method: &str, params: Value) {
    send(&json!({"jsonrpc": "2.0", "method": method, "params": params}));
}

impl Server {
    fn serve(&mut self, message: &Value) {
        let (id, params) = (&message["id"], &message["params"]);
        let Some(method) = message["method"].as_str() else { return };
        match method {
            "initialize" => self.initialize(id),
            "echo" => result(id, params.clone()),
            "text" => write(params["text"].as_str().unwrap()),
            "ignore" => {}
            // Kept until "release", which answers the kept ones in the opposite order.
            "hold" => self.held.push(message.clone()),
            "release" => {
                for held in self.held.drain(..).rev() {
                    result(&held["id"], held["params"].clone());
                }
                result(id, json!({}));
            }
            // Progress for each call that is kept, then all answers.
            "progress" => {
                self.held.push(message.clone());
                if self.held.len() == params["of"].as_u64().unwrap() as usize {
                    for held in &self.held {
                        let token = &held["params"]["_meta"]["progressToken"];
                        notify(
                            "notifications/progress",
                            json!({"progressToken": token, "progress": held["params"]["n"]}),
                        );
                    }
                    notify("notifications/progress", json!({"progressToken": "nobody's", "progress": 0}));
                    for held in self.held.drain(..) {
                        result(&held["id"], json!({"n": held["params"]["n"]}));
                    }
                }
            }
            "big" => {
                let size = params["bytes"].as_u64().unwrap() as usize;
                result(id, json!({"a": "x".repeat(size)}));
            }
            "ask" => {
                send(&json!({"jsonrpc": "2.0", "id": "s1", "method": "ping"}));
                send(&json!({"jsonrpc": "2.0", "id": 2, "method": "elicitation/create"}));
                result(id, json!({}));
            }
            "notify" => {
                for name in params["methods"].as_array().unwrap() {
                    notify(name.as_str().unwrap(), json!({}));
                }
                result(id, json!({}));
            }
            // Reads nothing until the file exists.
            "await" => {
                while !std::path::Path::new(params["path"].as_str().unwrap()).exists() {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            "pid" => result(id, json!(std::process::id())),
            "env" => result(id, json!(std::env::var(params["name"].as_str().unwrap()).ok())),
            "exit" => std::process::exit(params["code"].as_i64().unwrap_or(0) as i32),
            "answer-and-exit" => {
                result(id, json!("last words"));
                std::process::exit(0);
            }
            _ if id.is_null() => {}
            _ => send(
                &json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32601, "message": "Method not found"}}),
            ),
        }
    }

    fn initialize(&mut self, id: &Value) {
        self.initialized += 1;
        match self.manners.as_str() {
            "ignore" => {}
            "refuse" => {
                send(&json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32001, "message": "secret"}}))
            }
            "neither" => {
                send(&json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32601, "message": "unknown"}}))
            }
            "once" if self.initialized > 1 => {
                send(
                    &json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32600, "message": "already initialized"}}),
                );
            }
            _ => result(
                id,
                json!({"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {"name": "t", "version": "1"}}),
            ),
        }
    }
}
