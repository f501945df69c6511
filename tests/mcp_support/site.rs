//! A scripted HTTP server over TCP, TLS or a Unix socket.

use std::io::{BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::common::http::{self, Request};

/// Whether a peer showed a certificate, noted as a header of its requests.
pub const SHOWN: &str = "x-test-client-certificate";

/// What is sent for a request.
pub enum Answer {
    /// These bytes; then the next request is read.
    Bytes(Vec<u8>),
    /// These bytes; then the connection is closed.
    Last(Vec<u8>),
    /// Nothing until the peer gives up.
    Never,
}

type Script = dyn Fn(&Request) -> Answer + Send + Sync;
type Seen = Arc<Mutex<Vec<Request>>>;

/// The server; it ends with the test process.
pub struct Site {
    /// `host:port`, or the socket's path.
    pub address: String,
    seen: Seen,
}

impl Site {
    /// Over TCP, on loopback.
    pub fn tcp(script: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Site {
        Site::tcp_on(TcpListener::bind("127.0.0.1:0").expect("a port"), script)
    }

    /// Over TCP, on a listener that exists already.
    pub fn tcp_on(
        listener: TcpListener,
        script: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Site {
        let (address, seen) = (listener.local_addr().expect("its address").to_string(), Seen::default());
        let (script, recorded): (Arc<Script>, _) = (Arc::new(script), Arc::clone(&seen));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = stream.set_nodelay(true);
                let (script, recorded) = (Arc::clone(&script), Arc::clone(&recorded));
                std::thread::spawn(move || serve(stream, &*script, &recorded, None));
            }
        });
        Site { address, seen }
    }

    /// Over TLS, on loopback.
    pub fn tls(
        config: Arc<ServerConfig>,
        script: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Site {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let (address, seen) = (listener.local_addr().expect("its address").to_string(), Seen::default());
        let (script, recorded): (Arc<Script>, _) = (Arc::new(script), Arc::clone(&seen));
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let (script, recorded, config) =
                    (Arc::clone(&script), Arc::clone(&recorded), Arc::clone(&config));
                std::thread::spawn(move || {
                    let _ = stream.set_read_timeout(Some(Duration::from_secs(60)));
                    let mut session = ServerConnection::new(config).expect("a session");
                    while session.is_handshaking() {
                        if session.complete_io(&mut stream).is_err() {
                            return;
                        }
                    }
                    let shown = if session.peer_certificates().is_some() { "yes" } else { "no" };
                    serve(StreamOwned::new(session, stream), &*script, &recorded, Some(shown));
                });
            }
        });
        Site { address, seen }
    }

    /// Over a Unix socket at `path`.
    pub fn unix(path: &Path, script: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Site {
        let (listener, seen) = (UnixListener::bind(path).expect("the socket"), Seen::default());
        let (script, recorded): (Arc<Script>, _) = (Arc::new(script), Arc::clone(&seen));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (script, recorded) = (Arc::clone(&script), Arc::clone(&recorded));
                std::thread::spawn(move || serve(stream, &*script, &recorded, None));
            }
        });
        Site { address: path.display().to_string(), seen }
    }

    /// The MCP endpoint in plain text.
    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    pub fn port(&self) -> &str {
        self.address.rsplit(':').next().expect("a port")
    }

    /// Requests so far.
    pub fn seen(&self) -> Vec<Request> {
        self.seen.lock().expect("requests").clone()
    }

    /// Requests so far whose body holds `part`.
    pub fn with_body(&self, part: &str) -> Vec<Request> {
        self.seen().into_iter().filter(|request| request.text().contains(part)).collect()
    }

    /// The request of a `tools/call` of `tool`.
    pub fn call(&self, tool: &str) -> Request {
        let mut found = self.with_body(&format!(r#""name":"{tool}""#));
        assert_eq!(found.len(), 1, "calls of {tool}: {found:?}");
        found.remove(0)
    }
}

fn serve<S: Read + Write>(stream: S, script: &Script, recorded: &Mutex<Vec<Request>>, shown: Option<&str>) {
    let mut reader = BufReader::new(stream);
    while let Ok(Some(mut request)) = http::read_request(&mut reader) {
        if let Some(shown) = shown {
            request.headers.push((SHOWN.to_owned(), shown.to_owned()));
        }
        recorded.lock().expect("requests").push(request.clone());
        let stream = reader.get_mut();
        match script(&request) {
            Answer::Bytes(bytes) => {
                if stream.write_all(&bytes).and_then(|()| stream.flush()).is_err() {
                    return;
                }
            }
            Answer::Last(bytes) => {
                let _ = stream.write_all(&bytes).and_then(|()| stream.flush());
                return;
            }
            Answer::Never => {
                let _ = stream.read(&mut [0]);
                return;
            }
        }
    }
}

/// A reply with a body and its length.
pub fn reply(status: u16, headers: &[(&str, &str)], body: &str) -> Answer {
    let bytes = http::reply(status, headers, body);
    match status {
        204 => {
            let text = String::from_utf8(bytes).expect("text");
            Answer::Bytes(text.replace("Content-Length: 0\r\n", "").into_bytes())
        }
        _ => Answer::Bytes(bytes),
    }
}

/// One JSON message.
pub fn json(status: u16, body: &str) -> Answer {
    reply(status, &[("Content-Type", "application/json")], body)
}

/// An event stream that ends after `text`.
pub fn stream(text: &str) -> Answer {
    reply(200, &[("Content-Type", "text/event-stream")], text)
}

/// The id of a request's message as it stands in the JSON.
pub fn id(request: &Request) -> String {
    request.json()["id"].to_string()
}

/// The response to a request's call with `result`.
pub fn result(request: &Request, result: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, id(request))
}

/// A plain MCP server: handshake, notifications, sessions; calls are answered with their arguments.
pub fn plain(request: &Request) -> Answer {
    if let Some(reply) = http::without_metadata(request) {
        return Answer::Bytes(reply);
    }
    match request.method.as_str() {
        "DELETE" => reply(204, &[], ""),
        "POST" => {
            let message = request.json();
            if message["id"].is_null() {
                return reply(202, &[], "");
            }
            if message["method"] == "initialize" {
                return json(
                    200,
                    &result(
                        request,
                        r#"{"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":"plain","version":"3"}}"#,
                    ),
                );
            }
            json(200, &result(request, &message["params"]["arguments"].to_string()))
        }
        _ => reply(405, &[], ""),
    }
}

/// `script`, but no metadata and no challenge.
pub fn no_oauth(
    script: impl Fn(&Request) -> Answer + Send + Sync + 'static,
) -> impl Fn(&Request) -> Answer + Send + Sync + 'static {
    move |request| http::without_metadata(request).map_or_else(|| script(request), Answer::Bytes)
}

/// [`plain`], but calls are answered by `calls`, which is given the tool's name.
pub fn on_call(
    calls: impl Fn(&str, &Request) -> Answer + Send + Sync + 'static,
) -> impl Fn(&Request) -> Answer + Send + Sync + 'static {
    move |request| {
        if request.method != "POST" || request.body.is_empty() {
            return plain(request);
        }
        match request.json()["params"]["name"].as_str() {
            Some(tool) => calls(tool, request),
            None => plain(request),
        }
    }
}
