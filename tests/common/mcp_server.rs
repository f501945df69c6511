//! A scripted Streamable HTTP MCP server.

use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::http::{self, Request};

/// What the server does with a request, after it was recorded.
pub type Script = dyn Fn(&Request, &mut TcpStream) -> Next + Send + Sync;

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Read the next request.
    KeepAlive,
    /// Close it in order.
    Close,
    /// Send a reset.
    Reset,
}

/// The server; it ends with the test process.
pub struct McpServer {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Request>>>,
    connections: Arc<Mutex<usize>>,
}

impl McpServer {
    /// Serves with `script`.
    pub fn scripted(script: impl Fn(&Request, &mut TcpStream) -> Next + Send + Sync + 'static) -> McpServer {
        McpServer::on(TcpListener::bind("127.0.0.1:0").expect("a port"), script)
    }

    /// The same on a port that the test chose.
    pub fn on(
        listener: TcpListener,
        script: impl Fn(&Request, &mut TcpStream) -> Next + Send + Sync + 'static,
    ) -> McpServer {
        let address = listener.local_addr().expect("its address");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(Mutex::new(0));
        let script: Arc<Script> = Arc::new(script);
        let (recorded, counted) = (Arc::clone(&seen), Arc::clone(&connections));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                *counted.lock().expect("count") += 1;
                let (script, recorded) = (Arc::clone(&script), Arc::clone(&recorded));
                std::thread::spawn(move || serve(stream, &*script, &recorded));
            }
        });
        McpServer { address, seen, connections }
    }

    /// Answers `initialize` and every call by what its tool name asks for; see [`by_tool_name`].
    pub fn by_tool_name() -> McpServer {
        McpServer::scripted(by_tool_name)
    }

    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// Requests so far.
    pub fn seen(&self) -> Vec<Request> {
        self.seen.lock().expect("requests").clone()
    }

    /// Requests so far, those of the client's own probe left out: its `initialize` and what belongs to
    /// the session that [`by_tool_name`] opens for it.
    pub fn seen_of_commands(&self) -> Vec<Request> {
        let probing = |request: &Request| {
            let text = request.text();
            request.header("Mcp-Session-Id") == Some("session-1")
                || ["\"initialize\"", "\"server/discover\"", "notifications/initialized"]
                    .iter()
                    .any(|method| text.contains(method))
                || request.path.contains(".well-known")
                || (request.method != "DELETE" && text.is_empty())
        };
        self.seen().into_iter().filter(|request| !probing(request)).collect()
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        *self.connections.lock().expect("count")
    }
}

fn serve(stream: TcpStream, script: &Script, recorded: &Mutex<Vec<Request>>) {
    let Ok(mut writer) = stream.try_clone() else { return };
    let _ = writer.set_nodelay(true);
    let mut reader = BufReader::new(stream);
    while let Ok(Some(request)) = http::read_request(&mut reader) {
        recorded.lock().expect("requests").push(request.clone());
        match script(&request, &mut writer) {
            Next::KeepAlive => {}
            Next::Close => return,
            Next::Reset => return reset(&writer),
        }
    }
}

/// Makes the close send RST.
fn reset(stream: &TcpStream) {
    let linger = Some(Duration::ZERO);
    let _ = rustix::net::sockopt::set_socket_linger(stream, linger);
}

/// `echo` returns its arguments; `progress` streams three notifications first; `status-NNN` answers
/// with that status; `stall` never answers; `slow-MS` answers late; `reset` and `close` break the connection;
/// `cut` breaks a stream after one notification.
pub fn by_tool_name(request: &Request, stream: &mut TcpStream) -> Next {
    if let Some(reply) = http::without_metadata(request) {
        let _ = stream.write_all(&reply);
        return Next::KeepAlive;
    }
    if request.method == "DELETE" {
        let _ = stream.write_all(&http::reply(204, &[], "").replace_length());
        return Next::KeepAlive;
    }
    if request.method != "POST" {
        let _ = stream.write_all(&http::reply(405, &[], ""));
        return Next::KeepAlive;
    }
    let message: serde_json::Value = request.json();
    let Some(id) = message.get("id").filter(|id| !id.is_null()).map(ToString::to_string) else {
        let _ = stream.write_all(&http::reply(202, &[], ""));
        return Next::KeepAlive;
    };
    if message["method"] == "initialize" {
        let result = r#"{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"scripted","version":"1"}}"#;
        let json = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#);
        let _ = stream.write_all(&http::reply(
            200,
            &[("Content-Type", "application/json"), ("Mcp-Session-Id", "session-1")],
            &json,
        ));
        return Next::KeepAlive;
    }
    let tool = message["params"]["name"].as_str().unwrap_or("echo").to_owned();
    let answer = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{}}}"#, message["params"]["arguments"]);
    let json = [("Content-Type", "application/json")];
    let (word, number) = tool.rsplit_once('-').unwrap_or((&tool, ""));
    match (word, number) {
        ("status", status) => {
            let status = status.parse().expect("a status");
            let _ =
                stream.write_all(&http::reply(status, &[("Content-Type", "text/plain")], "private details"));
            Next::KeepAlive
        }
        ("slow", millis) => {
            std::thread::sleep(Duration::from_millis(millis.parse().expect("milliseconds")));
            let _ = stream.write_all(&http::reply(200, &json, &answer));
            Next::KeepAlive
        }
        ("stall", _) => {
            // Until the peer gives up.
            let _ = stream.set_read_timeout(None);
            let _ = std::io::Read::read(stream, &mut [0]);
            Next::Close
        }
        ("reset", _) => Next::Reset,
        ("close", _) => Next::Close,
        ("progress" | "cut", _) => {
            let _ = stream.write_all(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
            );
            let steps = if word == "cut" { 1 } else { 3 };
            for step in 1..=steps {
                event(
                    stream,
                    &format!(
                        r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":"t","progress":{step}}}}}"#
                    ),
                );
            }
            if word == "cut" {
                return Next::Close;
            }
            event(stream, &answer);
            let _ = stream.write_all(b"0\r\n\r\n");
            Next::KeepAlive
        }
        _ => {
            let _ = stream.write_all(&http::reply(200, &json, &answer));
            Next::KeepAlive
        }
    }
}

fn event(stream: &mut TcpStream, json: &str) {
    let data = format!("data: {json}\n\n");
    let _ = stream.write_all(format!("{:x}\r\n{data}\r\n", data.len()).as_bytes());
}

trait ReplaceLength {
    fn replace_length(self) -> Vec<u8>;
}

impl ReplaceLength for Vec<u8> {
    /// A 204 has no length.
    fn replace_length(self) -> Vec<u8> {
        String::from_utf8(self).expect("text").replace("Content-Length: 0\r\n", "").into_bytes()
    }
}
