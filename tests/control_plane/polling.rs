//! The polls: what they ask for, when they are sent, and what becomes of every reply.

use std::time::{Duration, Instant};

use crate::common::control_plane::{
    Answer, ControlPlane, Gate, batch, call, error, error_with, json, nothing,
};
use crate::common::eventually;
use crate::common::http::reply;
use crate::common::mcp_server::{McpServer, by_tool_name};
use crate::rig::{calls, events, events_of, metric, rig, rig_of, start, wait_events, wait_metric};

const POLL_FAILED: &str = "poll failed; backing off";

#[test]
fn the_limit_is_what_the_queue_has_room_for_and_never_more_than_25() {
    for (capacity, limit) in [("30", "25"), ("7", "7"), ("1", "1"), ("10000", "25")] {
        let rig = rig(&["--control-plane.max-inflight", capacity]);
        rig.plane.poll(nothing());
        for poll in rig.plane.wait_polls(2) {
            assert_eq!(poll.parameter("limit"), Some(limit));
        }
        assert_eq!(metric(&rig.client, "commands_queue_capacity", &[]), capacity.parse().ok());
    }
}

#[test]
fn the_timeout_is_sent_in_whole_milliseconds_and_at_least_one() {
    for (timeout, expected) in [("500ms", "500"), ("1ns", "1"), ("1500us", "1"), ("1.5s", "1500")] {
        let rig = rig(&["--control-plane.poll-timeout", timeout]);
        assert_eq!(rig.plane.wait_polls(1)[0].parameter("timeout_ms"), Some(expected), "{timeout}");
    }
}

#[test]
fn no_poll_is_sent_while_the_queue_is_full_and_the_next_asks_for_the_free_slots() {
    let (first, second) = (Gate::default(), Gate::default());
    let gates = [("gate-a", first.clone()), ("gate-b", second.clone())];
    let mcp = McpServer::scripted(move |request, stream| {
        for (tool, gate) in &gates {
            if request.text().contains(tool) {
                gate.pass();
            }
        }
        by_tool_name(request, stream)
    });
    let arguments = ["--control-plane.max-inflight", "2", "--mcp.max-concurrent-requests", "1"];
    let rig = rig_of(ControlPlane::start(), mcp, &arguments);
    rig.plane.send(&[call("r-1", "gate-a", "")]);
    eventually("the only worker is busy", || rig.calls("gate-a") == 1);
    rig.plane.wait_parked();
    rig.plane.send(&[call("r-2", "gate-b", ""), call("r-3", "echo", "")]);
    wait_metric(&rig.client, "commands_queue_length", &[], 2.0);
    let polls = rig.plane.polls().len();
    let until = Instant::now() + Duration::from_millis(400);
    while Instant::now() < until {
        assert_eq!(rig.plane.polls().len(), polls, "polled while the queue was full");
        std::thread::sleep(Duration::from_millis(20));
    }
    first.open();
    assert_eq!(rig.plane.wait_polls(polls + 1)[polls].parameter("limit"), Some("1"));
    second.open();
    rig.plane.wait_answers(&["r-1", "r-2", "r-3"]);
    wait_metric(&rig.client, "commands_queue_length", &[], 0.0);
}

#[test]
fn more_commands_than_asked_for_are_all_executed_in_order() {
    let rig = rig(&["--control-plane.max-inflight", "1", "--mcp.max-concurrent-requests", "1"]);
    let ids = ["r-1", "r-2", "r-3", "r-4", "r-5"];
    rig.plane.send(&ids.map(|id| call(id, "echo", "")));
    rig.plane.wait_answers(&ids);
    assert_eq!(rig.plane.polls()[0].parameter("limit"), Some("1"));
    let order: Vec<_> = rig.plane.responses().iter().map(|seen| seen.request_id()).collect();
    assert_eq!(order, ids);
    let events = events(&rig.client);
    let event = events.iter().find(|event| event["total"] == 5).expect("an event with the total");
    assert_eq!((event["level"].as_str(), event["limit"].as_u64()), (Some("ERROR"), Some(1)), "{event}");
    eventually("counted", || metric(&rig.client, "commands_enqueued_total", &[]) == Some(5.0));
    assert_eq!(metric(&rig.client, "commands_polled_total", &[]), Some(5.0));
}

#[test]
fn empty_polls_are_successes_and_followed_by_the_next_at_once() {
    let (plane, mcp) = (ControlPlane::start(), McpServer::by_tool_name());
    let gate = Gate::default();
    plane.poll(Answer::Split(Vec::new(), gate.clone(), reply(200, &[], r#"{"commands":[]}"#)));
    let empties =
        [nothing(), json(r#"{"commands":[]}"#), json("{}"), json(r#"{"commands":null,"x":1}"#), json("null")];
    for answer in empties {
        plane.poll(answer);
    }
    let rig = rig_of(plane, mcp, &[]);
    rig.plane.wait_polls(1);
    let last = "commands_poll_last_successful_timestamp_seconds";
    assert_eq!(metric(&rig.client, last, &[]), Some(0.0), "no poll has succeeded yet");
    assert_eq!(metric(&rig.client, "commands_poll_cycles_total", &[]), Some(1.0));
    gate.open();
    rig.plane.wait_polls(7);
    eventually("the success is on record", || metric(&rig.client, last, &[]).is_some_and(|at| at > 1.7e9));
    wait_metric(&rig.client, "commands_poll_latency_seconds_count", &[r#"error="false""#], 6.0);
    wait_metric(&rig.client, "commands_poll_cycles_total", &[], 7.0);
    assert_eq!(metric(&rig.client, "commands_poll_errors_total", &[]), None);
    for event in events(&rig.client).iter().filter(|event| event["component"] == "controlplane") {
        let metadata = event["msg"] == "tunnel metadata could not be fetched";
        assert!(metadata || !matches!(event["level"].as_str(), Some("WARN" | "ERROR")), "{event}");
    }
}

#[test]
fn a_control_plane_that_answers_empty_polls_at_once_is_not_hammered_and_still_served() {
    let rig = rig(&[]);
    for _ in 0..500 {
        rig.plane.poll(nothing());
    }
    rig.plane.wait_polls(15);
    let (before, start) = (rig.plane.polls().len(), Instant::now());
    while start.elapsed() < Duration::from_millis(800) {
        std::thread::sleep(Duration::from_millis(50));
    }
    let polled = rig.plane.polls().len() - before;
    assert!(polled <= 20, "{polled} polls in {:?}", start.elapsed());
    rig.plane.wait_polls(before + polled + 1);
}

#[test]
fn failures_back_off_are_counted_and_end_with_one_recovery() {
    let (plane, mcp) = (ControlPlane::start(), McpServer::by_tool_name());
    for _ in 0..3 {
        plane.poll(error_with(503, &[("X-Request-Id", "req_down")], ""));
    }
    plane.poll(error_with(204, &[("X-Request-Id", "req_up")], ""));
    let rig = rig_of(plane, mcp, &[]);
    let polls = rig.plane.wait_polls(5);
    let gaps: Vec<_> = polls.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
    assert!(gaps[..3].iter().all(|gap| *gap >= Duration::from_millis(200)), "{gaps:?}");
    let failed = wait_events(&rig.client, POLL_FAILED, 3);
    let delays: Vec<_> = failed.iter().map(|event| event["retry_in_ms"].as_u64().unwrap()).collect();
    assert!(delays[0] == 200 && (200..=400).contains(&delays[1]) && (200..=800).contains(&delays[2]));
    for event in &failed {
        assert_eq!(event["level"], "WARN");
        assert_eq!(event["status_code"], 503);
        assert_eq!(event["status"], "503 Service Unavailable");
        assert_eq!(event["tunnel_request_id"], "req_down");
        assert!(event["error"].as_str().unwrap().ends_with("unexpected status 503"), "{event}");
        assert!(event.get("error_code").is_none() && event.get("mitigation").is_none(), "{event}");
    }
    let recovered = wait_events(&rig.client, "poller recovered; polling operational", 1);
    assert_eq!((recovered.len(), &recovered[0]["level"]), (1, &"INFO".into()));
    assert_eq!(recovered[0]["tunnel_request_id"], "req_up");
    assert_eq!(metric(&rig.client, "commands_poll_errors_total", &[r#"error_kind="other""#]), Some(3.0));
    wait_metric(&rig.client, "commands_poll_latency_seconds_count", &[r#"error="true""#], 3.0);
}

#[test]
fn retry_after_is_a_floor_capped_at_a_minute_and_nonsense_is_ignored() {
    let (plane, mcp) = (ControlPlane::start(), McpServer::by_tool_name());
    // A success between two failures starts the back-off anew.
    for value in ["1", "0", "later", "-1", "1.5", "", "Sun, 06 Nov 1994 08:49:37 GMT"] {
        plane.poll(error_with(429, &[("Retry-After", value)], ""));
        plane.poll(nothing());
    }
    plane.poll(error_with(503, &[("Retry-After", "99999999999999999999")], ""));
    let rig = rig_of(plane, mcp, &[]);
    let failed = wait_events(&rig.client, POLL_FAILED, 8);
    let delays: Vec<_> = failed.iter().map(|event| event["retry_in_ms"].as_u64().unwrap()).collect();
    assert_eq!(delays, [1000, 200, 200, 200, 200, 200, 200, 60_000]);
    let polls = rig.plane.polls();
    assert!(polls[1].at - polls[0].at >= Duration::from_secs(1));
}

#[test]
fn an_unanswered_poll_is_given_up_after_timeout_and_guardrail() {
    let (plane, mcp) = (ControlPlane::start(), McpServer::by_tool_name());
    plane.poll(Answer::Hold);
    // The second says its head but never its body.
    plane.poll(Answer::Split(
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n".to_vec(),
        Gate::default(),
        vec![],
    ));
    let rig = rig_of(
        plane,
        mcp,
        &["--control-plane.poll-timeout", "300ms", "--control-plane.poll-deadline-guardrail", "200ms"],
    );
    rig.plane.wait_polls(3);
    let events = wait_events(&rig.client, "poll timed out; backing off", 2);
    for event in &events {
        assert_eq!((&event["poll_timeout_ms"], &event["poll_deadline_ms"]), (&300.into(), &500.into()));
        assert_eq!((&event["level"], event["retry_in_ms"].is_u64()), (&"WARN".into(), true));
    }
    assert_eq!(events[0]["tunnel_request_id"], "missing_request_id");
    assert_eq!(metric(&rig.client, "commands_poll_errors_total", &[r#"error_kind="timeout""#]), Some(2.0));
    let seconds = metric(&rig.client, "commands_poll_latency_seconds_sum", &[r#"error="true""#]);
    assert!(seconds.is_some_and(|sum| sum >= 1.0), "two polls of 500 ms: {seconds:?}");
}

#[test]
fn an_error_that_needs_the_operator_is_told_once_with_its_remedy_and_polling_goes_on() {
    let (plane, mcp) = (ControlPlane::start(), McpServer::by_tool_name());
    let body = r#"{"error":{"message":"m","type":"t","code":"tunnel_active_organization_required"}}"#;
    for status in [401, 401, 401, 403] {
        plane.poll(error(status, body));
    }
    plane.send(&[call("after", "echo", "")]);
    let rig = rig_of(plane, mcp, &[]);
    rig.plane.wait_answers(&["after"]);
    let failed = events_of(&rig.client, POLL_FAILED);
    let levels: Vec<_> = failed.iter().map(|event| event["level"].as_str().unwrap()).collect();
    assert_eq!(levels, ["WARN", "DEBUG", "DEBUG", "WARN"], "one warning for each change of the error");
    assert_eq!((&failed[0]["status_code"], &failed[0]["status"]), (&401.into(), &"401 Unauthorized".into()));
    assert_eq!(failed[0]["error_code"], "tunnel_active_organization_required");
    assert_eq!(failed[0]["error_message"], "m");
    for name in
        ["CONTROL_PLANE_ORGANIZATION_ID", "--control-plane.organization-id", "control_plane.organization_id"]
    {
        assert!(failed[0]["mitigation"].as_str().unwrap().contains(name), "{}", failed[0]);
    }
    let text = failed[0]["error"].as_str().unwrap();
    let expected = "unexpected status 401: tunnel_active_organization_required: m mitigation: ";
    assert!(text.contains(expected), "{text}");
    assert_eq!(metric(&rig.client, "commands_poll_errors_total", &[r#"error_kind="other""#]), Some(4.0));
    // The control plane has no say in readiness.
    rig.client.wait_ready();
}

#[test]
fn whatever_is_no_reply_to_a_poll_fails_it_and_polling_goes_on() {
    let (plane, mcp) = (ControlPlane::start(), McpServer::by_tool_name());
    let too_large = b"HTTP/1.1 200 OK\r\nContent-Length: 67108865\r\n\r\n{\"commands\":[".to_vec();
    let bad = [
        json("not json"),
        json("[]"),
        json(""),
        json(r#"{"commands":5}"#),
        json(r#"{"commands":{}}"#),
        json(r#"{"commands":[]} trailing"#),
        json("7"),
        error(202, "{}"),
        error(201, r#"{"commands":[]}"#),
        error(304, ""),
        error(400, ""),
        error(404, "gone"),
        error(500, "<html>"),
        Answer::Last(b"HTTP/1.1 2".to_vec()),
        Answer::Bytes(b"nonsense\r\n\r\n".to_vec()),
        Answer::Bytes(too_large),
    ];
    let count = bad.len();
    for answer in bad {
        plane.poll(answer);
        plane.poll(nothing());
    }
    plane.send(&[call("after", "echo", "")]);
    let rig = rig_of(plane, mcp, &[]);
    rig.plane.wait_answers(&["after"]);
    let errors = metric(&rig.client, "commands_poll_errors_total", &[r#"error_kind="other""#]);
    assert_eq!(errors, Some(count as f64));
    let failed = events_of(&rig.client, POLL_FAILED);
    assert_eq!(failed.len(), count);
    assert!(failed.iter().all(|event| event["retry_in_ms"] == 200), "a success resets the back-off");
    assert!(failed[15]["error"].as_str().unwrap().contains("67108864 bytes"), "{}", failed[15]);
}

#[test]
fn redirects_are_failures_and_take_neither_request_nor_key_elsewhere() {
    let (plane, elsewhere, mcp) = (ControlPlane::start(), ControlPlane::start(), McpServer::by_tool_name());
    let target = format!("{}/v1/tunnels/stolen", elsewhere.base_url());
    for status in [301, 302, 303, 307, 308] {
        plane.poll(error_with(status, &[("Location", &target)], ""));
        plane.poll(nothing());
    }
    // To the same origin neither.
    plane.poll(error_with(307, &[("Location", "/v1/elsewhere")], ""));
    plane.send(&[call("r-302", "echo", ""), call("r-307", "echo", "")]);
    let location = target.clone();
    plane.on_metadata(move |_| error_with(308, &[("Location", &location)], ""));
    plane.on_response(move |seen| {
        let status = if seen.request_id() == "r-302" { 302 } else { 307 };
        error_with(status, &[("Location", &target)], "")
    });
    let rig = rig_of(plane, mcp, &[]);
    rig.plane.wait_answers(&["r-302", "r-307"]);
    let rejected = [r#"resp_type="jsonrpc_response""#, r#"result="rejected""#];
    wait_metric(&rig.client, "controlplane_response_posts_total", &rejected, 2.0);
    assert_eq!(events_of(&rig.client, POLL_FAILED).len(), 6);
    wait_events(&rig.client, "tunnel metadata could not be fetched", 1);
    assert_eq!(rig.plane.responses().len(), 2, "a redirected response is not repeated");
    assert_eq!(elsewhere.connections(), 0);
    assert!(rig.plane.seen().iter().all(|seen| !seen.path.contains("elsewhere")));
}

#[test]
fn the_first_poll_waits_for_the_probe_when_a_startup_wait_is_set() {
    let gate = Gate::default();
    let (plane, seen) = (ControlPlane::start(), gate.clone());
    let mcp = McpServer::scripted(move |request, stream| {
        seen.pass();
        by_tool_name(request, stream)
    });
    let client = start(&plane, &mcp, &["--mcp.startup-wait-timeout", "20s"], &[]);
    eventually("the probe waits", || !mcp.seen().is_empty());
    eventually("the metadata is asked for", || !plane.metadata_requests().is_empty());
    std::thread::sleep(Duration::from_millis(100));
    assert!(plane.polls().is_empty(), "polled before the probe was done");
    gate.open();
    plane.wait_polls(1);
    wait_events(&client, "poller started", 1);
}

#[test]
fn a_probe_that_fails_does_not_prevent_polling() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let plane = ControlPlane::start();
    let url = format!("http://{address}/mcp");
    let _client = crate::common::process::Client::start(
        &plane.base_url(),
        &["--mcp.server-url", &url, "--mcp.startup-wait-timeout", "300ms"],
    );
    plane.wait_polls(1);
}

#[test]
fn an_unreachable_control_plane_does_not_prevent_a_start_and_is_found_when_it_comes_up() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let mcp = McpServer::by_tool_name();
    let url = mcp.url();
    let arguments = [&crate::rig::VERBOSE[..], &["--mcp.server-url", &url]].concat();
    let mut client = crate::common::process::Client::start(&format!("http://{address}"), &arguments);
    let failed = wait_events(&client, POLL_FAILED, 2);
    assert!(failed[0].get("status_code").is_none(), "{}", failed[0]);
    assert_eq!(failed[0]["tunnel_request_id"], "missing_request_id");
    client.wait_ready();
    assert_eq!(client.terminate().code(), Some(0));
}

#[test]
fn one_batch_may_hold_more_than_a_thousand_commands() {
    let rig = rig(&["--mcp.max-concurrent-requests", "8"]);
    let ids: Vec<String> = (0..1200).map(|n| format!("r-{n}")).collect();
    let commands: Vec<String> = ids.iter().map(|id| call(id, "echo", "")).collect();
    rig.plane.poll(batch(&commands));
    rig.plane.wait_responses(1200);
    let mut answered: Vec<_> = rig.plane.responses().iter().map(|seen| seen.request_id()).collect();
    answered.sort();
    let mut expected = ids;
    expected.sort();
    assert_eq!(answered, expected);
    assert_eq!(calls(&rig.mcp, "echo"), 1200);
}
