use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use serde_json::{Value, json};

use super::*;
use crate::jsonrpc::Message;
use crate::mcp::http::{HttpBinding, HttpTarget};
use crate::mcp::probe;
use crate::mcp::scripted::PATIENCE;
use crate::mcp::{Answer, Exchange, Failure, Outcome};
use crate::net::{Deadline, HeaderList, HttpClient, Route, Trust, Via};

fn stub() -> Stub {
    Stub::start("", " ", "").unwrap()
}

fn binding(stub: &Stub) -> HttpBinding {
    let target = HttpTarget {
        url: url::Url::parse(&stub.url()).unwrap(),
        static_headers: HeaderList::new(),
        discovery_headers: HeaderList::new(),
        max_message_bytes: 1 << 20,
    };
    let route = Route::new(Via::Direct, Trust::system());
    HttpBinding::new(target, HttpClient::new(&route, &Cancel::new()))
}

/// Sends a call with id 1 and keeps the events with the time they came.
fn call(stub: &Stub, session: &str, method: &str, params: Value) -> (Outcome, Vec<(Instant, Value)>) {
    let json = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    let message = Message::parse(json.to_string()).unwrap();
    let headers: HeaderList =
        [("Mcp-Session-Id", session)].into_iter().filter(|(_, id)| !id.is_empty()).collect();
    let exchange = Exchange { message: &message, headers: &headers, deadline: Deadline::after(PATIENCE) };
    let mut events = Vec::new();
    let outcome = binding(stub).exchange(&exchange, &mut |event| {
        events.push((Instant::now(), serde_json::from_str(event.json).unwrap()));
    });
    (outcome, events)
}

fn answered(outcome: Outcome) -> (Answer, Value) {
    let Outcome::Answered(answer) = outcome else { panic!("{outcome:?}") };
    let json = serde_json::from_str(&answer.json).unwrap();
    (answer, json)
}

fn open(stub: &Stub) -> String {
    let (answer, json) = answered(call(stub, "", "initialize", json!({"protocolVersion": "2025-06-18"})).0);
    assert_eq!(json["result"]["protocolVersion"], "2025-06-18");
    assert_eq!(json["result"]["capabilities"], json!({"logging": {}, "tools": {"listChanged": true}}));
    assert_eq!(json["result"]["serverInfo"], json!({"name": "mcp-stub", "version": "0.1.0"}));
    assert_eq!(answer.head.headers.get("Content-Type"), Some("text/event-stream"));
    answer.head.headers.get("Mcp-Session-Id").unwrap().to_owned()
}

/// One request on a connection of its own; the whole reply.
fn raw(stub: &Stub, request: &str) -> String {
    let mut stream = TcpStream::connect(stub.base().strip_prefix("http://").unwrap()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    reply
}

fn get(stub: &Stub, path: &str) -> (String, Value) {
    let reply = raw(stub, &format!("GET {path} HTTP/1.1\r\nHost: stub.test:1\r\nConnection: close\r\n\r\n"));
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), serde_json::from_str(body).unwrap_or_default())
}

#[test]
fn the_tools_answer_in_text_and_structure() {
    let stub = stub();
    let session = open(&stub);
    let list = answered(call(&stub, &session, "tools/list", json!({})).0).1;
    let names: Vec<&str> = list["result"]["tools"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tool| tool["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["server_info", "echo", "uppercase"]);
    for (tool, arguments, text, structured) in [
        ("echo", json!({"input": "Grüße"}), "Grüße", json!({"echoed": "Grüße"})),
        ("uppercase", json!({"input": "Grüße"}), "GRÜSSE", json!({"uppercase": "GRÜSSE"})),
    ] {
        let params = json!({"name": tool, "arguments": arguments});
        let result = answered(call(&stub, &session, "tools/call", params).0).1;
        assert_eq!(result["result"]["content"], json!([{"type": "text", "text": text}]));
        assert_eq!(result["result"]["structuredContent"], structured);
    }
    let info = answered(call(&stub, &session, "tools/call", json!({"name": "server_info"})).0).1;
    assert_eq!(
        info["result"]["content"][0]["text"],
        "mcp-stub 0.1.0 demo tools: server_info, echo, uppercase"
    );
    assert_eq!(info["result"]["structuredContent"]["available_tools"], json!(names));
    assert_eq!(info["result"]["structuredContent"]["sample_prompts"].as_array().unwrap().len(), 3);
    let params = json!({"name": "echo", "arguments": {"input": 1}});
    assert_eq!(answered(call(&stub, &session, "tools/call", params).0).1["error"]["code"], -32602);
    assert_eq!(answered(call(&stub, &session, "no/such", json!({})).0).1["error"]["code"], -32601);
    assert_eq!(answered(call(&stub, &session, "ping", json!({})).0).1["result"], json!({}));
}

#[test]
fn a_session_is_needed_and_ends_with_its_delete() {
    let stub = stub();
    let (answer, json) = answered(call(&stub, "", "tools/list", json!({})).0);
    assert_eq!((answer.head.status, &json["error"]["code"]), (400, &json!(-32600)));
    let rejected = |outcome: Outcome| match outcome {
        Outcome::Failed(Failure::Rejected { head, .. }) => head.status,
        other => panic!("{other:?}"),
    };
    assert_eq!(rejected(call(&stub, "unknown", "tools/list", json!({})).0), 404);
    let session = open(&stub);
    let headers: HeaderList = [("Mcp-Session-Id", session.as_str())].into_iter().collect();
    for expected in [204, 404] {
        let ended = binding(&stub).terminate_session(&headers, Deadline::after(PATIENCE));
        let Outcome::Accepted(head) = ended else { panic!("{ended:?}") };
        assert_eq!(head.status, expected);
    }
    assert_eq!(rejected(call(&stub, &session, "tools/list", json!({})).0), 404);
}

#[test]
fn a_listening_stream_opens_and_ends_with_its_session() {
    let stub = stub();
    let session = open(&stub);
    let address = stub.base().strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!(
        "GET /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nMcp-Session-Id: {session}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut head = [0; 15];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    let headers: HeaderList = [("Mcp-Session-Id", session)].into_iter().collect();
    binding(&stub).terminate_session(&headers, Deadline::after(PATIENCE));
    let mut rest = Vec::new();
    while !rest.ends_with(b"0\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        rest.push(byte[0]);
    }
    assert!(String::from_utf8(rest).unwrap().contains("Content-Type: text/event-stream\r\n"));
}

#[test]
fn streams_forbid_caching() {
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18"}}"#;
    let reply = raw(
        &stub(),
        &format!(
            "POST /mcp HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAccept: application/json, text/event-stream\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ),
    );
    assert!(reply.contains("Cache-Control: no-cache, no-transform\r\n"), "{reply}");
}

#[test]
fn other_paths_and_methods_are_refused_with_their_status() {
    let stub = stub();
    for (request, expected) in [
        ("GET /authorize HTTP/1.1\r\n", "HTTP/1.1 404"),
        ("PUT /mcp HTTP/1.1\r\nAccept: */*\r\n", "HTTP/1.1 405"),
        ("POST /mcp HTTP/1.1\r\nAccept: */*\r\n", "HTTP/1.1 415"),
        ("POST /mcp HTTP/1.1\r\nAccept: */*\r\nContent-Type: application/json\r\n", "HTTP/1.1 400"),
        ("DELETE /mcp HTTP/1.1\r\n", "HTTP/1.1 400"),
    ] {
        let reply = raw(&stub, &format!("{request}Host: localhost\r\nConnection: close\r\n\r\n"));
        assert!(reply.starts_with(expected), "{request}: {reply}");
        assert_eq!(reply.contains("Allow: GET, POST, DELETE\r\n"), expected.ends_with("405"), "{reply}");
    }
    let reply = raw(&stub, "POST /mcp HTTP/1.1\r\nHost: evil.test\r\nConnection: close\r\n\r\n");
    assert!(reply.starts_with("HTTP/1.1 403"), "{reply}");
}

#[test]
fn the_oauth_documents_name_the_host_they_were_asked_under() {
    let stub = stub();
    for path in ["/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/mcp"] {
        let (head, json) = get(&stub, path);
        assert!(
            head.starts_with("HTTP/1.1 200") && head.contains("Content-Type: application/json\r\n"),
            "{head}"
        );
        assert_eq!(json["resource"], "http://stub.test:1/mcp");
        assert_eq!(json["authorization_servers"], json!(["http://stub.test:1"]));
        assert_eq!(json["scopes_supported"], json!(["read", "write"]));
    }
    let (_, json) = get(&stub, "/.well-known/oauth-authorization-server");
    assert_eq!(json["issuer"], "http://stub.test:1");
    assert_eq!(json["registration_endpoint"], "http://stub.test:1/register");
    assert_eq!(json["code_challenge_methods_supported"], json!(["S256"]));
    assert_eq!(get(&stub, "/jwks").1, json!({"keys": []}));
}

#[test]
fn the_era_without_handshake_is_spoken_too() {
    let stub = stub();
    let meta = json!({"_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}});
    let (answer, json) = answered(call(&stub, "", "server/discover", meta.clone()).0);
    assert_eq!(answer.head.headers.get("Content-Type"), Some("application/json"));
    assert_eq!(json["result"]["supportedVersions"], json!(["2026-07-28"]));
    assert_eq!(json["result"]["resultType"], "complete");
    assert_eq!(json["result"]["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "mcp-stub");
    let mut params = meta;
    params["name"] = json!("echo");
    params["arguments"] = json!({"input": "x"});
    let (_, json) = answered(call(&stub, "", "tools/call", params.clone()).0);
    assert_eq!(
        (&json["result"]["structuredContent"], &json["result"]["resultType"]),
        (&json!({"echoed": "x"}), &json!("complete"))
    );
    assert_eq!(answered(call(&stub, "", "no/such", params.clone()).0).0.head.status, 404);
    params["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!("2027-01-01");
    let (answer, json) = answered(call(&stub, "", "tools/list", params).0);
    assert_eq!((answer.head.status, &json["error"]["code"]), (400, &json!(-32022)));
}

#[test]
fn a_countdown_reports_each_step_as_it_happens() {
    let stub = Stub::start_demo("127.0.0.1:0", "demo", "1").unwrap();
    let session = {
        let (answer, _) = answered(call(&stub, "", "initialize", json!({})).0);
        answer.head.headers.get("Mcp-Session-Id").unwrap().to_owned()
    };
    let params = json!({"name": "countdown", "arguments": {"steps": 3}, "_meta": {"progressToken": "t"}});
    let (outcome, events) = call(&stub, &session, "tools/call", params);
    let ended = Instant::now();
    assert_eq!(answered(outcome).1["result"]["structuredContent"], json!({"steps": 3}));
    let progress: Vec<&Value> = events.iter().map(|(_, event)| &event["params"]["progress"]).collect();
    assert_eq!(progress, [&json!(1), &json!(2), &json!(3)]);
    assert_eq!(events[0].1["params"]["progressToken"], "t");
    assert!(ended - events[0].0 >= Duration::from_millis(200), "the first step came before the last");
}

#[test]
fn the_probe_finds_the_stub_ready() {
    let stub = stub();
    let result = probe::run_once(&binding(&stub), &mut |_| {}).unwrap();
    assert_eq!(result.status(), "ok", "{result:?}");
}

#[test]
fn a_request_that_announces_more_than_memory_holds_harms_nobody() {
    let stub = stub();
    let head = "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000000000000000\r\n";
    for (fields, status) in [
        ("", 415),
        ("Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n", 413),
    ] {
        let reply = raw(&stub, &format!("{head}{fields}\r\n"));
        assert!(reply.starts_with(&format!("HTTP/1.1 {status} ")), "{reply}");
    }
    assert_eq!(get(&stub, "/jwks").1, json!({"keys": []}));
}

#[test]
fn a_second_listening_stream_takes_the_place_of_the_first() {
    let stub = stub();
    let session = open(&stub);
    let listen = || {
        let mut stream = TcpStream::connect(stub.base().strip_prefix("http://").unwrap()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = format!(
            "GET /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\nMcp-Session-Id: {session}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        stream.read_exact(&mut [0; 15]).unwrap();
        stream
    };
    let mut first = listen();
    let _second = listen();
    let mut rest = Vec::new();
    while !rest.ends_with(b"\r\n\r\n0\r\n\r\n") {
        let mut byte = [0];
        first.read_exact(&mut byte).unwrap();
        rest.push(byte[0]);
    }
}

#[test]
fn it_stops_at_once_with_idle_connections_and_streams_open() {
    let mut stub = stub();
    let session = open(&stub);
    let address = stub.base().strip_prefix("http://").unwrap().to_owned();
    let mut open_streams = Vec::new();
    for request in [
        "GET /jwks HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
        format!("GET /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\nMcp-Session-Id: {session}\r\n\r\n"),
        "GET /half".to_owned(),
    ] {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        if request.ends_with("\r\n\r\n") {
            stream.read_exact(&mut [0; 15]).unwrap();
        }
        open_streams.push(stream);
    }
    let started = Instant::now();
    stub.stop();
    stub.stop();
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
}

#[test]
fn an_address_that_cannot_be_bound_is_an_error() {
    let taken = stub();
    let address = taken.base().strip_prefix("http://").unwrap();
    assert!(Stub::start(address, "", "").is_err());
    assert!(Stub::start("no address", "", "").is_err());
}
