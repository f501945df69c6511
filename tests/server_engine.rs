//! The local control plane from both of its sides, over real sockets.

// Helpers of tests fail like tests.
#![allow(clippy::unwrap_used)]

#[path = "support/site.rs"]
mod site;
#[path = "support/wire.rs"]
mod wire;

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use site::{LIST, RESULT, Site, TUNNEL, bearer, post_response, result, send_call, send_poll};
use wire::Wire;

const BOTH: &str = "application/json, text/event-stream";

fn notify(progress: u32) -> Value {
    json!({"resp_code": 200, "resp_type": "jsonrpc_notify",
           "resp_json": {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progress": progress}},
           "resp_headers": {"Content-Type": ["text/event-stream"], "Mcp-Session-Id": ["s"]}})
}

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
    assert_eq!(polled.header("Cache-Control"), Some("no-store"));
    assert!(polled.text().contains(&format!("\"jsonrpc\":{body}")), "{}", polled.text());
    let command = polled.json()["commands"][0].clone();
    assert_eq!(command["command_type"], "jsonrpc");
    assert_eq!(command["channel"], "main");
    assert!(command["created_at"].as_str().unwrap().ends_with('Z'));
    let token = command["shard_token"].as_str().unwrap();
    let answer = json!({"resp_code": 200, "resp_json": {"jsonrpc": "2.0", "id": 1, "result": {}},
                        "resp_headers": {"Mcp-Session-Id": ["s"]}});
    let posted = post_response(&mut poll, TUNNEL, token, &command, answer);
    assert_eq!((posted.status, posted.text()), (200, r#"{"status":"ok"}"#));
    let answer = caller.read();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("Content-Type"), Some("application/json"));
    assert_eq!(answer.header("Mcp-Session-Id"), Some("s"));
    assert_eq!(answer.text(), r#"{"id":1,"jsonrpc":"2.0","result":{}}"#);
}

#[test]
fn a_poll_without_work_ends_with_204_when_its_time_is_over() {
    let site = Site::start();
    let asked = Instant::now();
    let reply = site.poll("timeout_ms=1000");
    let took = asked.elapsed();
    assert_eq!((reply.status, reply.body.len()), (204, 0));
    assert!((Duration::from_millis(950)..Duration::from_millis(1050)).contains(&took), "{took:?}");
}

#[test]
fn a_poll_takes_the_oldest_commands_up_to_its_limit() {
    let site = Site::start();
    site.connect();
    let mut callers: Vec<Wire> = Vec::new();
    for number in 0..30 {
        let mut caller = site.caller();
        let body = format!(r#"{{"jsonrpc":"2.0","id":{number},"method":"m"}}"#);
        send_call(&mut caller, "application/json", &body);
        callers.push(caller);
        site.wait_for("one more queued", |gauges| gauges.queued == number + 1);
    }
    let ids = |reply: &wire::Reply| -> Vec<u64> {
        let json = reply.json();
        let commands = json["commands"].as_array().unwrap().clone();
        commands.iter().map(|command| command["jsonrpc"]["id"].as_u64().unwrap()).collect()
    };
    assert_eq!(ids(&site.poll("limit=25")), (0..25).collect::<Vec<_>>());
    assert_eq!(ids(&site.poll("limit=25")), (25..30).collect::<Vec<_>>());
}

#[test]
fn poll_parameters_out_of_range_are_refused() {
    let site = Site::start();
    for query in ["limit=0", "limit=26", "limit=x", "timeout_ms=0", "timeout_ms=x"] {
        let reply = site.poll(query);
        assert_eq!((reply.status, reply.code().as_str()), (400, ""), "{query}");
    }
    let reply = site.poll("channel=not%20valid");
    assert_eq!((reply.status, reply.code().as_str()), (400, "invalid_channel_format"));
}

#[test]
fn a_subscribed_poll_leaves_other_channels_first_in_line() {
    let site = Site::start();
    site.connect();
    let mut main = site.caller();
    send_call(&mut main, "application/json", LIST);
    site.wait_for("main queued", |gauges| gauges.queued == 1);
    let mut harpoon = site.caller();
    harpoon.send("POST", &format!("/v1/mcp/{TUNNEL}/%48arpoon"), &[], Some(LIST.as_bytes()));
    site.wait_for("both queued", |gauges| gauges.queued == 2);
    let polled = site.poll("limit=25&channel=harpoon&channel=harpoon").json();
    assert_eq!(polled["commands"].as_array().unwrap().len(), 1);
    assert_eq!(polled["commands"][0]["channel"], "harpoon");
    assert_eq!(site.poll("limit=25&channel=harpoon&timeout_ms=1").status, 204);
    assert_eq!(site.poll("limit=25").json()["commands"][0]["channel"], "main");
}

#[test]
fn two_hundred_calls_over_two_pollers_are_each_delivered_and_answered_once() {
    let site = Site::start();
    site.connect();
    let calls = 200usize;
    let (next, answered) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let delivered: Vec<Vec<String>> = std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut caller = site.caller();
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    if number >= calls {
                        return;
                    }
                    let body = format!(r#"{{"jsonrpc":"2.0","id":{number},"method":"m"}}"#);
                    send_call(&mut caller, "application/json", &body);
                    let reply = caller.read();
                    assert_eq!((reply.status, &reply.json()["result"]), (200, &json!(number)));
                    answered.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let pollers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = site.client();
                    let mut seen = Vec::new();
                    while answered.load(Ordering::SeqCst) < calls {
                        send_poll(&mut client, "limit=3&timeout_ms=50");
                        let polled = client.read();
                        if polled.status == 204 {
                            continue;
                        }
                        for command in polled.json()["commands"].as_array().unwrap() {
                            seen.push(command["request_id"].as_str().unwrap().to_owned());
                            let id = &command["jsonrpc"]["id"];
                            let answer =
                                json!({"resp_code": 200, "resp_json": {"jsonrpc": "2.0", "id": id, "result": id}});
                            let token = command["shard_token"].as_str().unwrap();
                            assert_eq!(post_response(&mut client, TUNNEL, token, command, answer).status, 200);
                        }
                    }
                    seen
                })
            })
            .collect();
        pollers.into_iter().map(|poller| poller.join().unwrap()).collect()
    });
    let all: Vec<&String> = delivered.iter().flatten().collect();
    assert_eq!(all.len(), calls);
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), calls);
}

#[test]
fn each_call_wakes_the_poll_that_waited_longest_and_no_other() {
    let site = Site::start();
    let mut polls: Vec<Wire> = Vec::new();
    for parked in 1..=5 {
        let mut poll = site.client();
        send_poll(&mut poll, "limit=25&timeout_ms=5000");
        site.wait_for("one more parked", |gauges| gauges.parked == parked);
        polls.push(poll);
    }
    let mut callers = Vec::new();
    for (number, poll) in polls.iter_mut().enumerate().take(3) {
        let mut caller = site.caller();
        send_call(&mut caller, "application/json", LIST);
        callers.push(caller);
        assert_eq!(poll.read().json()["commands"].as_array().unwrap().len(), 1);
        assert_eq!(site.local.gauges().parked, 4 - number);
    }
}

#[test]
fn a_terminal_response_counts_once() {
    let site = Site::start();
    site.connect();
    let mut caller = site.caller();
    send_call(&mut caller, "application/json", LIST);
    let command = site.command();
    assert_eq!(site.respond(&command, result()).status, 200);
    let again = site.respond(&command, result());
    assert_eq!((again.status, again.code().as_str()), (404, "pending_request_not_found"));
    assert_eq!(caller.read().json(), serde_json::from_str::<Value>(RESULT).unwrap());
}

#[test]
fn a_response_whose_connection_broke_before_its_reply_was_still_applied() {
    let site = Site::start();
    site.connect();
    let mut caller = site.caller();
    send_call(&mut caller, "application/json", LIST);
    let command = site.command();
    let mut client = site.client();
    let mut body = result();
    body["request_id"] = command["request_id"].clone();
    let (name, value) = bearer();
    let token = command["shard_token"].as_str().unwrap();
    let target = format!("/v1/tunnels/{TUNNEL}/response");
    client.send(
        "POST",
        &target,
        &[(name, &value), ("X-Tunnel-Shard-Token", token)],
        Some(body.to_string().as_bytes()),
    );
    client.cut();
    assert_eq!(caller.read().status, 200);
    assert_eq!(site.respond(&command, result()).status, 404);
}

#[test]
fn a_missing_or_foreign_shard_token_is_refused_and_the_command_stays_answerable() {
    let site = Site::start();
    let other = Site::start();
    site.connect();
    other.connect();
    let mut caller = site.caller();
    send_call(&mut caller, "application/json", LIST);
    let command = site.command();
    let mut other_caller = other.caller();
    send_call(&mut other_caller, "application/json", LIST);
    let foreign = other.command();
    let mut client = site.client();
    let missing = post_response(&mut client, TUNNEL, "", &command, result());
    assert_eq!((missing.status, missing.code().as_str()), (400, ""));
    for token in [foreign["shard_token"].as_str().unwrap(), "x", "v1.req_.0"] {
        let reply = post_response(&mut client, TUNNEL, token, &command, result());
        assert_eq!((reply.status, reply.code().as_str()), (401, "tunnel_request_mismatch"), "{token}");
    }
    // A good token with somebody else's request id.
    let mixed = json!({"request_id": foreign["request_id"], "shard_token": command["shard_token"]});
    let token = command["shard_token"].as_str().unwrap();
    let reply = post_response(&mut client, TUNNEL, token, &mixed, result());
    assert_eq!((reply.status, reply.code().as_str()), (401, "tunnel_request_mismatch"));
    assert_eq!(post_response(&mut client, TUNNEL, token, &command, result()).status, 200);
    assert_eq!(caller.read().status, 200);
}

#[test]
fn malformed_responses_are_refused_and_leave_the_command_answerable() {
    let site = Site::start();
    site.connect();
    let mut caller = site.caller();
    send_call(&mut caller, "application/json", LIST);
    let command = site.command();
    for (change, code) in [
        (json!({"resp_code": null}), ""),
        (json!({"resp_json": null}), ""),
        (json!({"resp_json": []}), ""),
        (json!({"resp_type": "other"}), ""),
        (json!({"resp_type": "notify_ack"}), ""),
        (json!({"shard_token": "s"}), ""),
        (json!({"channel": "a b"}), "invalid_channel_format"),
        (json!({"resp_type": "oauth_discovery_response"}), ""),
    ] {
        let mut body = result();
        for (name, value) in change.as_object().unwrap() {
            body[name] = value.clone();
        }
        let reply = site.respond(&command, body);
        assert_eq!((reply.status, reply.code().as_str()), (400, code), "{change}");
    }
    let mut unknown = result();
    unknown["extra"] = json!([1]);
    assert_eq!(site.respond(&command, unknown).status, 200, "unknown members are ignored");
    assert_eq!(caller.read().status, 200);
}

#[test]
fn a_caller_that_takes_a_stream_gets_notifications_and_result_as_events() {
    let site = Site::start();
    site.connect();
    let mut caller = site.caller();
    send_call(&mut caller, BOTH, LIST);
    let command = site.command();
    assert_eq!(site.respond(&command, notify(1)).status, 200);
    let head = caller.read_head().unwrap();
    assert_eq!((head.status, head.header("Content-Type")), (200, Some("text/event-stream")));
    assert_eq!(head.header("Cache-Control"), Some("no-cache"));
    assert_eq!(head.header("Mcp-Session-Id"), Some("s"));
    let first = String::from_utf8(caller.read_chunk().unwrap().unwrap()).unwrap();
    assert!(
        first.starts_with("data: {") && first.contains(r#""progress":1"#) && first.ends_with("\n\n"),
        "{first}"
    );
    assert_eq!(site.respond(&command, notify(2)).status, 200);
    assert_eq!(site.respond(&command, result()).status, 200);
    let mut rest = String::new();
    while let Some(chunk) = caller.read_chunk().unwrap() {
        rest.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    let events: Vec<&str> = rest.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(events.len(), 2, "{rest}");
    assert!(events[0].contains(r#""progress":2"#) && events[1].contains(r#""result":{"ok":true}"#), "{rest}");
    // The connection is good for another call.
    send_call(&mut caller, "application/json", LIST);
    let command = site.command();
    site.respond(&command, result());
    assert_eq!(caller.read().status, 200);
}

#[test]
fn a_caller_that_takes_no_stream_gets_one_document() {
    let site = Site::start();
    site.connect();
    for accept in ["application/json", "*/*", "text/event-stream;q=0, application/json"] {
        let mut caller = site.caller();
        send_call(&mut caller, accept, LIST);
        let command = site.command();
        assert_eq!(site.respond(&command, notify(1)).status, 200);
        assert_eq!(site.respond(&command, notify(2)).status, 200);
        let mut labelled = result();
        labelled["resp_headers"] = json!({"Content-Type": ["text/event-stream"]});
        assert_eq!(site.respond(&command, labelled).status, 200);
        let reply = caller.read();
        assert_eq!((reply.status, reply.header("Content-Type")), (200, Some("application/json")), "{accept}");
        assert_eq!(reply.json(), serde_json::from_str::<Value>(RESULT).unwrap());
    }
}

#[test]
fn the_first_terminal_payload_decides_the_form_of_the_answer() {
    let site = Site::start();
    site.connect();
    let sse = json!({"Content-Type": ["text/event-stream"]});
    let plain = json!({"Content-Type": ["application/json; charset=utf-8"]});
    let nominated = json!({"Content-Type": ["text/event-stream"], "Connection": ["content-type"]});
    for (accept, headers, code, status, content_type) in [
        (BOTH, &sse, 200, 200, "text/event-stream"),
        (BOTH, &sse, 500, 500, "application/json"),
        (BOTH, &plain, 200, 200, "application/json; charset=utf-8"),
        (BOTH, &nominated, 200, 200, "application/json"),
        ("text/event-stream", &plain, 200, 200, "text/event-stream"),
        ("text/event-stream", &plain, 404, 404, "application/json; charset=utf-8"),
    ] {
        let mut caller = site.caller();
        send_call(&mut caller, accept, LIST);
        let command = site.command();
        let mut body = result();
        body["resp_headers"] = headers.clone();
        body["resp_code"] = json!(code);
        assert_eq!(site.respond(&command, body).status, 200);
        let reply = caller.read();
        assert_eq!(
            (reply.status, reply.header("Content-Type")),
            (status, Some(content_type)),
            "{accept} {headers}"
        );
        if content_type == "text/event-stream" {
            assert_eq!(reply.text().matches("data: ").count(), 1);
        }
    }
}

#[test]
fn json_with_line_breaks_is_one_line_within_a_stream() {
    let site = Site::start();
    site.connect();
    let mut caller = site.caller();
    send_call(&mut caller, "text/event-stream", LIST);
    let command = site.command();
    let mut client = site.client();
    let (name, value) = bearer();
    let token = command["shard_token"].as_str().unwrap();
    let body = format!(
        "{{\"request_id\":{},\"resp_code\":200,\"resp_json\":{{\r\n \"jsonrpc\":\"2.0\",\n\"id\":7,\"result\":\"a\\nb\"}}}}",
        command["request_id"]
    );
    let target = format!("/v1/tunnels/{TUNNEL}/response");
    let headers = [(name, value.as_str()), ("X-Tunnel-Shard-Token", token)];
    assert_eq!(client.call("POST", &target, &headers, Some(body.as_bytes())).status, 200);
    assert_eq!(caller.read().text(), "data: {   \"jsonrpc\":\"2.0\", \"id\":7,\"result\":\"a\\nb\"}\n\n");
}

#[test]
fn a_full_notification_buffer_never_costs_the_terminal_response() {
    let site = Site::start();
    site.connect();
    let mut caller = site.caller();
    send_call(&mut caller, BOTH, LIST);
    let command = site.command();
    // The caller does not read: first its socket fills, then the buffer, then notifications are dropped.
    let mut big = notify(0);
    big["resp_json"]["params"]["pad"] = json!("x".repeat(2 << 20));
    let mut slow = 0;
    for _ in 0..24 {
        let asked = Instant::now();
        assert_eq!(site.respond(&command, big.clone()).status, 200);
        slow += usize::from(asked.elapsed() > Duration::from_millis(900));
        if slow > 0 {
            break;
        }
    }
    assert!(slow > 0, "the buffer never filled");
    assert_eq!(site.respond(&command, result()).status, 200);
    let reply = caller.read();
    assert!(reply.text().trim_end().ends_with(r#""result":{"ok":true}}"#));
}

#[test]
fn response_headers_are_filtered_and_the_rest_preserved() {
    let site = Site::start();
    site.connect();
    let mut caller = site.caller();
    send_call(&mut caller, "application/json", LIST);
    let command = site.command();
    let mut body = result();
    body["resp_headers"] = json!({
        "Connection": ["Mcp-Session-Id"], "mcp-session-id": ["s"], "X-Preserved": ["1", "2"],
        "Set-Cookie": ["a=b"], "Transfer-Encoding": ["chunked"], "Content-Length": ["99"], "X-Bad": ["a\r\nX-Evil: 1"],
        "WWW-Authenticate": ["Bearer realm=\"x\", resource_metadata=\"https://mcp.corp/meta\", scope=\"s\""],
    });
    assert_eq!(site.respond(&command, body).status, 200);
    let reply = caller.read();
    let values = |name: &str| -> Vec<&str> {
        let same = |(have, _): &&(String, String)| have.eq_ignore_ascii_case(name);
        reply.headers.iter().filter(same).map(|(_, value)| value.as_str()).collect()
    };
    assert_eq!(values("X-Preserved"), ["1", "2"]);
    for gone in ["Mcp-Session-Id", "Set-Cookie", "Transfer-Encoding", "X-Bad", "X-Evil"] {
        assert!(values(gone).is_empty(), "{gone}: {reply:?}");
    }
    assert_eq!(values("Content-Length").len(), 1);
    let url = format!("http://test/.well-known/oauth-protected-resource/v1/mcp/{TUNNEL}");
    let challenge = format!("Bearer realm=\"x\", resource_metadata=\"{url}\", scope=\"s\"");
    assert_eq!(values("WWW-Authenticate"), [challenge.as_str()]);
}

#[test]
fn response_codes_are_mapped_to_statuses() {
    let site = Site::start();
    site.connect();
    for (code, status) in [
        (100, 502),
        (299, 200),
        (499, 502),
        (599, 502),
        (503, 503),
        (418, 418),
        (0, 502),
        (-1, 502),
        (204, 204),
        (304, 304),
    ] {
        let mut caller = site.caller();
        send_call(&mut caller, "application/json", LIST);
        let command = site.command();
        let mut body = result();
        body["resp_code"] = json!(code);
        assert_eq!(site.respond(&command, body).status, 200);
        let reply = caller.read();
        assert_eq!(reply.status, status, "{code}");
        if matches!(status, 204 | 304) {
            assert!(reply.header("Content-Length").is_none());
        }
        // The framing was right: the connection carries another exchange.
        assert_eq!(caller.call("GET", "/readyz", &[], None).status, 200, "{code}");
    }
}

#[test]
fn an_acknowledged_notification_is_202_without_a_body() {
    let site = Site::start();
    site.connect();
    for (code, status) in [(200, 202), (202, 202), (400, 400)] {
        let mut caller = site.caller();
        send_call(&mut caller, BOTH, r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        let command = site.command();
        assert!(command["jsonrpc"].get("id").is_none());
        let body = json!({"resp_code": code, "resp_type": "notify_ack",
                          "resp_headers": {"Content-Type": ["text/event-stream"]}});
        assert_eq!(site.respond(&command, body).status, 200);
        let reply = caller.read();
        assert_eq!((reply.status, reply.body.len()), (status, 0));
    }
}

#[test]
fn a_queued_command_of_a_departed_caller_is_never_delivered() {
    let site = Site::start();
    site.connect();
    let mut caller = site.caller();
    send_call(&mut caller, "application/json", LIST);
    site.wait_for("queued", |gauges| gauges.queued == 1);
    caller.cut();
    site.wait_for("cancelled", |gauges| gauges.queued == 0 && gauges.held == 0);
    assert_eq!(site.poll("limit=25&timeout_ms=1").status, 204);
}

#[test]
fn a_delivered_command_of_a_departed_caller_cannot_be_answered() {
    let site = Site::start();
    site.connect();
    for accept in ["application/json", BOTH] {
        let mut caller = site.caller();
        send_call(&mut caller, accept, LIST);
        let command = site.command();
        if accept == BOTH {
            site.respond(&command, notify(1));
            caller.read_head().unwrap();
        }
        let left = Instant::now();
        drop(caller);
        site.wait_for("forgotten", |gauges| gauges.held == 0);
        assert!(left.elapsed() < Duration::from_secs(1));
        let reply = site.respond(&command, result());
        assert_eq!((reply.status, reply.code().as_str()), (404, "pending_request_not_found"));
    }
}

#[test]
fn bytes_sent_ahead_are_no_departure() {
    let site = Site::start();
    site.connect();
    let mut caller = site.caller();
    send_call(&mut caller, "application/json", LIST);
    let command = site.command();
    caller.send("GET", "/readyz", &[], None);
    site.respond(&command, result());
    assert_eq!(caller.read().json(), serde_json::from_str::<Value>(RESULT).unwrap());
    assert_eq!(caller.read().text(), r#"{"status":"ok"}"#);
    // Nor do they hide a departure.
    send_call(&mut caller, "application/json", LIST);
    let _command = site.command();
    caller.send("GET", "/readyz", &[], None);
    drop(caller);
    site.wait_for("forgotten", |gauges| gauges.held == 0);
}

#[test]
fn an_unanswered_call_ends_with_504_and_the_client_was_told_less_time() {
    let site = Site::with(|options| options.response_timeout = Duration::from_millis(800));
    site.connect();
    let mut caller = site.caller();
    let asked = Instant::now();
    send_call(&mut caller, "application/json", LIST);
    let command = site.command();
    let told = command["response_timeout"].as_str().unwrap();
    let told: u64 = told.strip_suffix("ms").unwrap().parse().unwrap();
    assert!((100..=760).contains(&told), "{told}");
    let reply = caller.read();
    let took = asked.elapsed();
    assert_eq!((reply.status, reply.json()["error"]["type"].as_str()), (504, Some("server_error")));
    assert!((Duration::from_millis(750)..Duration::from_millis(1050)).contains(&took), "{took:?}");
    assert_eq!(site.respond(&command, result()).status, 404);
}

#[test]
fn a_command_too_close_to_its_deadline_is_not_handed_out() {
    let site = Site::with(|options| options.response_timeout = Duration::from_millis(90));
    site.connect();
    let mut caller = site.caller();
    send_call(&mut caller, "application/json", LIST);
    site.wait_for("queued", |gauges| gauges.queued == 1);
    assert_eq!(site.poll("timeout_ms=1").status, 204);
    let reply = caller.read();
    assert_eq!(reply.status, 504);
    assert!(reply.text().contains("picked"), "{}", reply.text());
}

#[test]
fn a_stream_without_an_end_ends_with_an_error_event() {
    let site = Site::with(|options| options.response_timeout = Duration::from_millis(600));
    site.connect();
    let mut caller = site.caller();
    send_call(&mut caller, BOTH, r#"{"jsonrpc":"2.0","id":"abc","method":"m"}"#);
    let command = site.command();
    site.respond(&command, notify(1));
    let reply = caller.read();
    let last = reply.text().lines().rfind(|line| line.starts_with("data: ")).unwrap();
    let event: Value = serde_json::from_str(&last["data: ".len()..]).unwrap();
    assert_eq!(event["id"], "abc");
    assert_eq!(
        (&event["error"]["code"], &event["error"]["message"]),
        (&json!(-32603), &json!("Gateway Timeout"))
    );
    let failure = json!({"version": 1, "source": "timeout", "upstream_response_received": false});
    assert_eq!(event["error"]["data"]["tunnel_failure"], failure);
}

#[test]
fn a_call_is_refused_when_no_client_polls_or_polls_any_more() {
    let site = Site::with(|options| options.client_last_seen_timeout = Duration::from_millis(150));
    let mut caller = site.caller();
    send_call(&mut caller, "application/json", LIST);
    let reply = caller.read();
    assert_eq!((reply.status, reply.code().as_str()), (404, "tunnel_client_not_seen"));
    site.connect();
    // Nothing happens when a client has been silent for too long; only the next call tells.
    std::thread::sleep(Duration::from_millis(200));
    send_call(&mut caller, "application/json", LIST);
    let reply = caller.read();
    assert_eq!((reply.status, reply.code().as_str()), (404, "tunnel_client_not_connected"));
}

#[test]
fn a_client_at_work_counts_as_connected_without_polling() {
    let site = Site::with(|options| options.client_last_seen_timeout = Duration::from_millis(50));
    let mut poll = site.client();
    send_poll(&mut poll, "limit=1&timeout_ms=5000");
    site.wait_for("parked", |gauges| gauges.parked == 1);
    let mut first = site.caller();
    send_call(&mut first, "application/json", LIST);
    assert_eq!(poll.read().status, 200);
    std::thread::sleep(Duration::from_millis(200));
    let mut second = site.caller();
    send_call(&mut second, "application/json", LIST);
    site.wait_for("queued", |gauges| gauges.queued == 1);
    first.cut();
    site.wait_for("first gone", |gauges| gauges.held == 1);
    let mut third = site.caller();
    send_call(&mut third, "application/json", LIST);
    assert_eq!(third.read().code(), "tunnel_client_not_connected");
}

#[test]
fn a_full_queue_refuses_and_keeps_what_it_has() {
    let site = Site::with(|options| options.queue_max = 2);
    site.connect();
    let mut callers = [site.caller(), site.caller()];
    for (number, caller) in callers.iter_mut().enumerate() {
        send_call(caller, "application/json", LIST);
        site.wait_for("queued", |gauges| gauges.queued == number + 1);
    }
    let mut third = site.caller();
    send_call(&mut third, "application/json", LIST);
    let reply = third.read();
    assert_eq!((reply.status, reply.code().as_str()), (429, "tunnel_queue_full"));
    assert_eq!(reply.header("Retry-After"), Some("1"));
    assert_eq!(reply.json()["error"]["type"], "rate_limit_error");
    for _ in 0..2 {
        let command = site.command();
        assert_eq!(site.respond(&command, result()).status, 200);
    }
    assert!(callers.iter_mut().all(|caller| caller.read().status == 200));
}

#[test]
fn a_command_does_not_go_to_a_poll_whose_peer_has_gone() {
    let site = Site::with(|options| options.poll_wait_max = Duration::from_secs(20));
    site.connect();
    for round in 0..20 {
        let mut dead = site.client();
        send_poll(&mut dead, "timeout_ms=20000");
        site.wait_for("parked", |gauges| gauges.parked == 1);
        let mut caller = site.caller();
        dead.cut();
        drop(dead);
        send_call(&mut caller, "application/json", LIST);
        let polled = site.poll("timeout_ms=5000");
        assert_eq!(polled.status, 200, "round {round}");
        let command = polled.json()["commands"][0].clone();
        assert_eq!(site.respond(&command, result()).status, 200);
        assert_eq!(caller.read().status, 200);
    }
}

#[test]
fn the_headers_of_a_call_travel_but_for_those_that_end_here() {
    let site = Site::start();
    site.connect();
    let mut caller = site.caller();
    let headers = [
        ("Authorization", "Bearer caller"),
        ("mcp-session-id", "s"),
        ("MCP-Protocol-Version", "2025-06-18"),
        ("X-Custom", "1"),
        ("x-custom", "2"),
        ("Accept", BOTH),
        ("Cookie", "a=b"),
        ("User-Agent", "ua"),
        ("X-Forwarded-For", "10.0.0.1"),
        ("X-OpenAI-Authorization", "x"),
        ("OpenAI-Organization", "org"),
        ("Connection", "X-Hop, keep-alive"),
        ("X-Hop", "1"),
        ("X-Empty", ""),
    ];
    caller.send("POST", &format!("/v1/mcp/{TUNNEL}"), &headers, Some(LIST.as_bytes()));
    let command = site.command();
    let mut have = command["headers"].clone();
    let id = have.as_object_mut().unwrap().remove("X-Request-Id").unwrap();
    let expected = json!({
        "Authorization": ["Bearer caller"], "Mcp-Session-Id": ["s"], "Mcp-Protocol-Version": ["2025-06-18"],
        "X-Custom": ["1", "2"], "Accept": [BOTH],
    });
    assert_eq!(have, expected);
    site.respond(&command, result());
    assert_eq!(caller.read().header("X-Request-Id"), id[0].as_str(), "our own id stands in for the caller's");
}

#[test]
fn bodies_that_are_no_message_are_refused_before_anything_is_queued() {
    let site = Site::start();
    site.connect();
    for body in
        ["", "[]", "\"x\"", r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, r#"{"jsonrpc":"2.0","#, "\u{feff}{}"]
    {
        let mut caller = site.caller();
        send_call(&mut caller, "application/json", body);
        let reply = caller.read();
        assert_eq!((reply.status, reply.code().as_str()), (400, "invalid_json_payload"), "{body}");
    }
    let mut caller = site.caller();
    let huge = vec![b' '; 5 << 20];
    let head = format!("POST /v1/mcp/{TUNNEL} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", huge.len());
    caller.send_raw(head.as_bytes());
    let sent = caller.try_send_raw(&huge);
    let reply = caller.read();
    assert_eq!((reply.status, reply.code().as_str()), (413, "request_body_too_large"), "{sent:?}");
    assert_eq!(site.local.gauges().held, 0);
}

#[test]
fn other_methods_are_refused_with_those_allowed() {
    let site = Site::start();
    let mut caller = site.caller();
    for method in ["GET", "PUT", "OPTIONS"] {
        let reply = caller.call(method, &format!("/v1/mcp/{TUNNEL}"), &[], None);
        assert_eq!((reply.status, reply.header("Allow")), (405, Some("POST, DELETE")), "{method}");
        assert_eq!(reply.json()["error"]["param"], Value::Null);
    }
    caller.send("HEAD", &format!("/v1/mcp/{TUNNEL}"), &[], None);
    assert_eq!(caller.read_head().unwrap().status, 405);
    assert_eq!(caller.call("GET", "/readyz", &[], None).status, 200, "no body followed the HEAD");
}

#[test]
fn paths_are_checked_before_anything_else() {
    let site = Site::start();
    let mut caller = site.caller();
    let unknown = "tunnel_zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz";
    for (path, status, code) in [
        ("/v1/mcp/short".to_owned(), 400, "invalid_tunnel_id_format"),
        (format!("/v1/mcp/{unknown}"), 404, ""),
        (format!("/v1/mcp/{TUNNEL}/not%20valid"), 400, "invalid_channel_format"),
        (format!("/v1/mcp/{TUNNEL}/a/b"), 404, ""),
        (format!("/v1/tunnels/{TUNNEL}/poll"), 404, ""),
        ("/nothing".to_owned(), 404, ""),
        (format!("/v1/mcp/{TUNNEL}/"), 404, "tunnel_client_not_seen"),
        (format!("/v1/mcp/{TUNNEL}/%20"), 404, "tunnel_client_not_seen"),
    ] {
        let reply = caller.call("POST", &path, &[], Some(LIST.as_bytes()));
        assert_eq!((reply.status, reply.code().as_str()), (status, code), "{path}");
    }
    let mut client = site.client();
    let reply = client.call("POST", &format!("/v1/mcp/{TUNNEL}"), &[], Some(LIST.as_bytes()));
    assert_eq!(reply.status, 404, "the client's listener serves no connectors");
}

#[test]
fn a_session_is_ended_through_the_client() {
    let site = Site::start();
    site.connect();
    let target = format!("/v1/mcp/{TUNNEL}");
    let mut caller = site.caller();
    for headers in [&[][..], &[("Mcp-Session-Id", "")]] {
        let reply = caller.call("DELETE", &target, headers, None);
        assert_eq!((reply.status, reply.code().as_str()), (400, "missing_mcp_session_id"));
    }
    for status in [204, 405, 400] {
        caller.send("DELETE", &target, &[("Mcp-Session-Id", "s")], None);
        let command = site.command();
        assert_eq!(command["command_type"], "session_termination");
        assert!(command.get("jsonrpc").is_none());
        assert_eq!(command["headers"]["Mcp-Session-Id"], json!(["s"]));
        let body = json!({"resp_code": status, "resp_type": "session_termination_response"});
        assert_eq!(site.respond(&command, body).status, 200);
        let reply = caller.read();
        assert_eq!((reply.status, reply.body.len()), (status, 0));
    }
}

#[test]
fn the_bearer_key_is_taken_to_the_letter_before_the_path_is_looked_at() {
    let site = Site::start();
    let mut client = site.client();
    let good = bearer().1;
    for target in
        [format!("/v1/tunnels/{TUNNEL}"), "/v1/tunnels/short/poll".to_owned(), "/v1/tunnels/x/y".to_owned()]
    {
        for bad in
            ["", "Bearer wrong", "test-key", &format!("{good} extra"), "Basic test-key", "bearer test-key"]
        {
            let reply = client.call("GET", &target, &[("Authorization", bad)], None);
            assert_eq!((reply.status, reply.code().as_str()), (401, ""), "{target} {bad:?}");
            assert_eq!(reply.json()["error"]["type"], "authentication_error");
            assert_eq!(reply.header("Cache-Control"), Some("no-store"));
        }
        assert_eq!(client.call("GET", &target, &[], None).status, 401);
    }
    let reply = client.call("GET", &format!("/v1/tunnels/{TUNNEL}"), &[("Authorization", &good)], None);
    assert_eq!(reply.status, 200);
    assert_eq!(reply.json()["id"], TUNNEL);
    assert_eq!(reply.json()["name"], "local tunnel-client dev proxy");
    assert!(reply.json()["description"].is_string());
    for (method, target, status, code) in [
        ("GET", "/v1/tunnels/short/poll".to_owned(), 400, "invalid_tunnel_id_format"),
        (
            "GET",
            "/v1/tunnels/tunnel_zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz/poll".to_owned(),
            401,
            "tunnel_use_forbidden",
        ),
        (
            "GET",
            "/v1/tunnels/tunnel_zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz".to_owned(),
            403,
            "tunnel_use_forbidden",
        ),
        ("POST", format!("/v1/tunnels/{TUNNEL}/poll"), 405, ""),
        ("GET", format!("/v1/tunnels/{TUNNEL}/response"), 405, ""),
        ("GET", format!("/v1/tunnels/{TUNNEL}/cloudflare/runtime"), 404, ""),
        ("GET", format!("/v1/tunnels/{TUNNEL}/other"), 404, ""),
    ] {
        let reply = client.call(method, &target, &[("Authorization", &good)], None);
        assert_eq!((reply.status, reply.code().as_str()), (status, code), "{method} {target}");
    }
}

#[test]
fn a_response_that_is_too_large_ends_the_call_with_502() {
    let site = Site::with(|options| options.response_bytes = 1 << 20);
    site.connect();
    let mut caller = site.caller();
    send_call(&mut caller, "application/json", LIST);
    let command = site.command();
    let mut big = result();
    big["resp_json"]["result"] = json!("x".repeat(2 << 20));
    let reply = site.respond(&command, big);
    assert_eq!((reply.status, reply.code().as_str()), (413, "request_body_too_large"));
    let reply = caller.read();
    assert_eq!((reply.status, reply.code().as_str()), (502, "request_body_too_large"));
}

#[test]
fn stopping_is_quick_while_polls_and_calls_are_open() {
    let site = Site::with(|options| options.poll_wait_max = Duration::from_secs(30));
    let mut polls: Vec<Wire> = (0..5).map(|_| site.client()).collect();
    polls.iter_mut().for_each(|poll| send_poll(poll, "channel=other&timeout_ms=30000"));
    let mut main = site.client();
    send_poll(&mut main, "timeout_ms=30000");
    site.wait_for("parked", |gauges| gauges.parked == 6);
    let mut delivered = site.caller();
    send_call(&mut delivered, "application/json", LIST);
    assert_eq!(main.read().status, 200);
    let mut queued = site.caller();
    send_call(&mut queued, "application/json", LIST);
    site.wait_for("queued", |gauges| gauges.queued == 1);
    let _idle = site.caller();
    let began = Instant::now();
    site.local.stop();
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    for caller in [&mut delivered, &mut queued] {
        let reply = caller.try_read();
        assert!(reply.is_err() || reply.unwrap().status == 503);
    }
}
