//! The local control plane from both of its sides, over real sockets.

#[path = "support/site.rs"]
mod site;
#[path = "support/wire.rs"]
mod wire;

use std::time::{Duration, Instant};

use serde_json::json;

use site::{LIST, RESULT, Site, TUNNEL, post_response, result, send_call, send_poll};

#[test]
fn a_parked_poll_gets_a_call_at_once_and_the_caller_gets_its_answer() {
    let site = Site::start();
    let mut poll = site.client();
    send_poll(&mut poll, "limit=5&timeout_ms=5000");
    site.wait_for("a parked poll", |gauges| gauges.parked == 1);
    let mut caller = site.caller();
    let asked = Instant::now();
    let body = r#"{ "jsonrpc":"2.0","id":9007199254740993,"method":"tools/list","params":{"n":1.10} }"#;
    send_call(&mut caller, "application/json", body);
    let polled = poll.read();
    assert!(asked.elapsed() < Duration::from_millis(50), "{:?}", asked.elapsed());
    assert_eq!(polled.status, 200);
    assert!(polled.header("Content-Length").is_some() && polled.header("X-Request-Id").is_some());
    assert!(polled.text().contains(&format!("\"jsonrpc\":{body}")), "{}", polled.text());
    let command = polled.json()["commands"][0].clone();
    assert_eq!(command["command_type"], "jsonrpc");
    assert_eq!(command["channel"], "main");
    assert!(command["created_at"].as_str().unwrap().ends_with('Z'));
    let posted = post_response(
        &mut poll,
        TUNNEL,
        command["shard_token"].as_str().unwrap(),
        &command,
        json!({"resp_code": 200, "resp_json": {"jsonrpc": "2.0", "id": 1, "result": {}},
               "resp_headers": {"Mcp-Session-Id": ["s"]}}),
    );
    assert_eq!((posted.status, posted.text()), (200, r#"{"status":"ok"}"#));
    let answer = caller.read();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("Content-Type"), Some("application/json"));
    assert_eq!(answer.header("Mcp-Session-Id"), Some("s"));
    assert_eq!(answer.text(), r#"{"id":1,"jsonrpc":"2.0","result":{}}"#);
    let _ = (LIST, RESULT, result());
}
