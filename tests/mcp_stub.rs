//! The demo MCP server, alone and inside the client.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "test code")]

mod common;
mod mcp_support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use common::http::{self, Reply};
use common::process::{Client, client_binary};
use common::{PATIENCE, eventually};
use mcp_support::plane::Plane;
use mcp_support::{refused, run_to_end};
use serde_json::json;

/// A running `dev mcp-stub`.
struct Stub {
    child: Child,
    output: Vec<String>,
    base: String,
}

impl Stub {
    fn start(arguments: &[&str]) -> Stub {
        let mut command = Command::new(client_binary());
        command.args(["dev", "mcp-stub"]).args(arguments);
        Stub::of(command)
    }

    fn of(mut command: Command) -> Stub {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut output = Vec::new();
        while output.len() < 4 {
            output.push(lines.next().expect("four lines").unwrap());
        }
        std::thread::spawn(move || lines.for_each(drop));
        let base = output[0].strip_prefix("MCP stub listening on ").expect("the first line").to_owned();
        Stub { child, output, base }
    }

    fn address(&self) -> &str {
        common::address(&self.base)
    }

    fn get(&self, path: &str) -> Reply {
        http::get(&format!("{}{path}", self.base)).unwrap()
    }

    fn ask(&self, method: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        http::request(self.address(), method, "/mcp", headers, body).unwrap()
    }

    /// Posts a message as the protocol wants it.
    fn post(&self, session: &str, body: &str) -> Reply {
        let mut headers = POST.to_vec();
        if !session.is_empty() {
            headers.push(("Mcp-Session-Id", session));
        }
        self.ask("POST", &headers, body)
    }

    fn open(&self) -> String {
        let reply = self.post("", INITIALIZE);
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.header("Mcp-Session-Id").unwrap().to_owned()
    }

    fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const POST: &[(&str, &str)] =
    &[("Content-Type", "application/json"), ("Accept", "application/json, text/event-stream")];
const INITIALIZE: &str =
    r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18"}}"#;

/// The one message of an event stream.
fn message(reply: &Reply) -> serde_json::Value {
    assert_eq!(reply.header("Content-Type"), Some("text/event-stream"), "{}", reply.text());
    assert_eq!(reply.header("Cache-Control"), Some("no-cache, no-transform"));
    let text = reply.text();
    serde_json::from_str(text.lines().find_map(|line| line.strip_prefix("data: ")).unwrap()).unwrap()
}

fn call(tool: &str, arguments: &str) -> String {
    mcp_support::plane::call_with(tool, arguments)
}

#[test]
fn the_metadata_name_the_address_that_was_asked() {
    let stub = Stub::start(&[]);
    let base = stub.base.clone();
    assert!(base.starts_with("http://127.0.0.1:"));
    assert_eq!(
        stub.output[1..],
        [
            format!("MCP URL: {base}/mcp"),
            format!("Protected resource metadata: {base}/.well-known/oauth-protected-resource/mcp"),
            format!("Authorization server metadata: {base}/.well-known/oauth-authorization-server"),
        ]
    );
    for path in ["/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/mcp"] {
        let reply = stub.get(path);
        assert_eq!((reply.status, reply.header("Content-Type")), (200, Some("application/json")));
        let expected = json!({"resource": format!("{base}/mcp"), "authorization_servers": [base], "scopes_supported": ["read", "write"]});
        assert_eq!(reply.json(), expected);
        assert!(reply.text().starts_with("{\n  \"resource\""), "{}", reply.text());
        assert_eq!(http::request(stub.address(), "POST", path, &[], "x").unwrap().json(), expected);
    }
    assert_eq!(
        stub.get("/.well-known/oauth-authorization-server").json(),
        json!({
            "issuer": base,
            "authorization_endpoint": format!("{base}/authorize"),
            "token_endpoint": format!("{base}/token"),
            "jwks_uri": format!("{base}/jwks"),
            "registration_endpoint": format!("{base}/register"),
            "response_types_supported": ["code"],
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "token_endpoint_auth_methods_supported": ["none", "client_secret_post"],
            "code_challenge_methods_supported": ["S256"],
        })
    );
    assert_eq!(stub.get("/jwks").json(), json!({"keys": []}));
    for path in ["/", "/authorize", "/token", "/register", "/mcp/"] {
        assert_eq!(stub.get(path).status, 404, "{path}");
    }
    let host = [("Host", "mcp.example:8443")];
    let mut stream = TcpStream::connect(stub.address()).unwrap();
    let request = format!(
        "GET /.well-known/oauth-protected-resource HTTP/1.1\r\n{}: {}\r\nConnection: close\r\n\r\n",
        host[0].0, host[0].1
    );
    stream.write_all(request.as_bytes()).unwrap();
    let reply = http::read_reply(&mut BufReader::new(stream)).unwrap();
    assert_eq!(reply.json()["resource"], "http://mcp.example:8443/mcp");
}

#[test]
fn the_tools_return_their_input() {
    let stub =
        Stub::start(&["--server-name", "Named", "--server-version=9.9", "--listen-addr", "127.0.0.1:0"]);
    let opened = message(&stub.post("", INITIALIZE));
    assert_eq!(opened["result"]["serverInfo"], json!({"name": "Named", "version": "9.9"}));
    assert_eq!(opened["result"]["capabilities"], json!({"logging": {}, "tools": {"listChanged": true}}));
    let session = stub.open();
    let result = |body: &str| message(&stub.post(&session, body))["result"].clone();
    for (tool, text, structured) in [
        ("echo", "Grüße <&>", json!({"echoed": "Grüße <&>"})),
        ("uppercase", "GRÜSSE <&>", json!({"uppercase": "GRÜSSE <&>"})),
    ] {
        let result = result(&call(tool, r#"{"input":"Grüße <&>"}"#));
        assert_eq!(result["content"], json!([{"type": "text", "text": text}]));
        assert_eq!(result["structuredContent"], structured);
    }
    let info = result(&call("server_info", r#"{"any":"thing"}"#));
    assert_eq!(info["content"][0]["text"], "Named 9.9 demo tools: server_info, echo, uppercase");
    assert_eq!(info["structuredContent"]["name"], "Named");
    assert_eq!(info["structuredContent"]["version"], "9.9");
    assert_eq!(info["structuredContent"]["available_tools"], json!(["server_info", "echo", "uppercase"]));
    assert_eq!(info["structuredContent"]["sample_prompts"].as_array().unwrap().len(), 3);
    let list = result(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
    let tools = list["tools"].as_array().unwrap();
    assert_eq!(tools.len(), 3);
    assert!(tools.iter().all(|tool| tool["inputSchema"].is_object() && tool["outputSchema"].is_object()));
    for arguments in ["{}", r#"{"input":1}"#, r#"{"input":"a","more":1}"#, "null"] {
        let reply = message(&stub.post(&session, &call("echo", arguments)));
        assert_eq!(reply["error"]["code"], -32602, "{arguments}: {reply}");
    }
}

#[test]
fn the_endpoint_is_strict() {
    let mut stub = Stub::start(&[]);
    let session = stub.open();
    let note = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    assert_eq!(stub.post(&session, note).status, 202);
    assert_eq!(stub.post("unknown", note).status, 404);
    let accept = POST[1];
    assert_eq!(stub.ask("POST", &[("Content-Type", "text/plain"), accept], note).status, 415);
    assert_eq!(stub.ask("POST", &[POST[0], ("Accept", "application/json")], note).status, 400);
    assert_eq!(
        stub.ask("POST", &[POST[0], accept, ("Mcp-Protocol-Version", "1999-01-01")], note).status,
        400
    );
    assert_eq!(
        stub.ask("GET", &[("Accept", "application/json"), ("Mcp-Session-Id", &session)], "").status,
        400
    );
    assert_eq!(stub.ask("GET", &[("Accept", "text/event-stream")], "").status, 400);
    assert_eq!(stub.ask("DELETE", &[], "").status, 400);
    assert_eq!(stub.ask("PUT", &[], "").status, 400, "what it accepts is looked at first");
    let put = stub.ask("PUT", &[accept], "");
    assert_eq!((put.status, put.header("Allow")), (405, Some("GET, POST, DELETE")));
    assert_eq!(stub.ask("POST", &[POST[0], accept, ("Origin", "http://evil.example")], note).status, 403);
    assert_eq!(stub.ask("POST", &[POST[0], accept, ("Sec-Fetch-Site", "cross-site")], note).status, 403);
    assert_eq!(stub.ask("DELETE", &[("Mcp-Session-Id", &session)], "").status, 204);
    assert_eq!(stub.post(&session, note).status, 404);
    assert!(stub.is_running());
}

#[test]
fn a_blank_flag_means_the_default_and_sigterm_ends_it_in_order() {
    let mut stub = Stub::start(&["--server-name=", "--server-version", " ", "--listen-addr="]);
    assert_eq!(
        message(&stub.post("", INITIALIZE))["result"]["serverInfo"],
        json!({"name": "mcp-stub", "version": "0.1.0"})
    );
    // A listening stream and an idle connection are open meanwhile.
    let session = stub.open();
    let mut listening = TcpStream::connect(stub.address()).unwrap();
    let request = format!(
        "GET /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nMcp-Session-Id: {session}\r\n\r\n"
    );
    listening.write_all(request.as_bytes()).unwrap();
    listening.read_exact(&mut [0; 12]).unwrap();
    let _idle = TcpStream::connect(stub.address()).unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_child(&stub.child),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    let mut status = None;
    eventually("it ends", || {
        status = stub.child.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.unwrap().code(), Some(0));
}

#[test]
fn an_address_that_is_taken_is_an_error() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output =
        Command::new(client_binary()).args(["dev", "mcp-stub", "--listen-addr", &address]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains(&address));
}

#[test]
fn a_body_that_is_announced_as_endless_harms_nobody() {
    let mut stub = Stub::start(&[]);
    for length in ["4611686018427387904", "1099511627776", "99999999999999999999999"] {
        let mut stream = TcpStream::connect(stub.address()).unwrap();
        let head = format!(
            "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: */*\r\nContent-Length: {length}\r\n\r\n{{"
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let _ = stream.read(&mut [0; 64]);
    }
    let session = stub.open();
    assert_eq!(
        message(&stub.post(&session, &call("echo", r#"{"input":"x"}"#)))["result"]["content"][0]["text"],
        "x"
    );
    assert!(stub.is_running());
}

#[test]
fn running_out_of_descriptors_ends_with_the_shortage() {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 24; exec \"$0\" dev mcp-stub"]).arg(client_binary());
    let mut stub = Stub::of(command);
    // Kept by the kernel when nobody accepts them any more.
    let crowd: Vec<TcpStream> = (0..40).filter_map(|_| TcpStream::connect(stub.address()).ok()).collect();
    assert!(crowd.len() > 24);
    drop(crowd);
    let asked = || {
        http::request(stub.address(), "POST", "/mcp", POST, INITIALIZE).is_ok_and(|reply| reply.status == 200)
    };
    eventually("it serves again", asked);
    assert!(stub.is_running());
}

#[test]
fn the_client_serves_the_stub_that_it_embeds() {
    let plane = Plane::start();
    let mut client = Client::start_with(
        &plane.base_url(),
        &[
            "--embedded-mcp-stub",
            "--embedded-mcp-server-name",
            "inside",
            "--embedded-mcp-server-version",
            "7",
        ],
        &[("MCP_SERVER_URL", "http://127.0.0.1:9/overridden")],
    );
    client.wait_ready();
    let output = client.output();
    for part in [
        "Embedded MCP stub enabled.",
        "MCP URL: http://127.0.0.1:",
        "/.well-known/oauth-protected-resource/mcp",
        "/.well-known/oauth-authorization-server",
    ] {
        assert!(output.contains(part), "{part}: {output}");
    }
    let post = plane.exchange(&[], INITIALIZE);
    assert_eq!(post["resp_json"]["result"]["serverInfo"], json!({"name": "inside", "version": "7"}));
    let session = mcp_support::plane::header(&post, "Mcp-Session-Id").unwrap().to_owned();
    let post = plane.exchange(&[("Mcp-Session-Id", &session)], &call("uppercase", r#"{"input":"ok"}"#));
    assert_eq!(post["resp_json"]["result"]["structuredContent"]["uppercase"], "OK");
    assert_eq!(client.terminate().code(), Some(0), "{}", client.output());
}

#[test]
fn the_embedded_stub_takes_no_other_main_server_beside_it() {
    let text = refused(&["--embedded-mcp-stub", "--mcp.command", "x"]);
    assert!(text.contains("--embedded-mcp-stub cannot be combined with --mcp.command"), "{text}");
    assert!(!text.contains("Embedded MCP stub enabled"), "nothing is started: {text}");
    let text = refused(&["--embedded-mcp-stub", "--mcp.server-url", "http://127.0.0.1:9/mcp"]);
    assert!(text.contains("--embedded-mcp-stub cannot be combined with --mcp.server-url"), "{text}");
    let output = run_to_end(&["--embedded-mcp-stub"], &[("MCP_COMMAND", "cat")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("duplicate channel"));
}
