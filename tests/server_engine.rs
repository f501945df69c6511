//! The local control plane from both of its sides, over real sockets.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "test code")]

#[path = "support/site.rs"]
mod site;
#[path = "support/wire.rs"]
mod wire;

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use site::{BOTH, LIST, RESULT, Site, TUNNEL, bearer, notify, post_response, result, send_call, send_poll};
use wire::Wire;

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
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
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
        assert!(left.elapsed() < Duration::from_secs(5));
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
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    for caller in [&mut delivered, &mut queued] {
        let reply = caller.try_read();
        assert!(reply.is_err() || reply.unwrap().status == 503);
    }
}

#[test]
fn commands_whose_delivery_broke_off_return_to_the_head_of_the_queue() {
    let site = Site::start();
    site.connect();
    let mut callers = Vec::new();
    let padding = "x".repeat(3 << 20);
    for number in 0..12 {
        let mut caller = site.caller();
        // More than the sockets between the two can hold.
        let body = format!(r#"{{"jsonrpc":"2.0","id":{number},"method":"m","params":"{padding}"}}"#);
        send_call(&mut caller, "application/json", &body);
        site.wait_for("one more queued", |gauges| gauges.queued == number + 1);
        callers.push(caller);
    }
    let mut poll = site.client();
    send_poll(&mut poll, "limit=10");
    site.wait_for("ten taken", |gauges| gauges.queued == 2);
    drop(poll);
    site.wait_for("all back", |gauges| gauges.queued == 12);
    let polled = site.poll("limit=25").json();
    let ids: Vec<u64> =
        polled["commands"].as_array().unwrap().iter().map(|c| c["jsonrpc"]["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, (0..12).collect::<Vec<_>>());
}
