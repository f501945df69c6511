//! `response_timeout`: what it bounds, from when it counts, and which values are none.

use std::time::{Duration, Instant};

use crate::common::control_plane::{Answer, ControlPlane, Gate, call, error_with};
use crate::common::eventually;
use crate::common::http::reply;
use crate::common::mcp_server::{McpServer, by_tool_name};
use crate::rig::{events, rig, rig_of};

fn timed(id: &str, tool: &str, timeout: &str) -> String {
    call(id, tool, &format!(r#","response_timeout":"{timeout}""#))
}

#[test]
fn values_that_are_no_timeout_leave_the_command_without_a_deadline() {
    let rig = rig(&[]);
    let values = [
        "30",
        "0",
        "\"0\"",
        "\"30\"",
        "\"1.5s\"",
        "\"1m30s\"",
        "\"-1s\"",
        "\"+1s\"",
        "\"-0s\"",
        "\" 1s\"",
        "\"1s \"",
        "\"1s\\n\"",
        "\"1e3s\"",
        "\"1d\"",
        "\"1S\"",
        "\"1µs\"",
        "\"1μs\"",
        "\"\"",
        "true",
        "{}",
        "[]",
        "null",
        "\"9223372036854775808ns\"",
        "\"999999999999h\"",
        "\"s\"",
        "\"0x1s\"",
        "\"٣s\"",
        "\"0S\"",
    ];
    let ids: Vec<String> = (0..values.len()).map(|n| format!("r-{n}")).collect();
    let commands: Vec<String> = ids
        .iter()
        .zip(values)
        .map(|(id, value)| call(id, "echo", &format!(r#","response_timeout":{value}"#)))
        .collect();
    rig.plane.send(&commands);
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    for answer in rig.plane.wait_answers(&ids) {
        assert_eq!(answer.json()["resp_code"], 200, "{}", answer.text());
    }
}

#[test]
fn values_that_are_timeouts_are_taken_in_every_unit() {
    let rig = rig(&[]);
    let long = ["30s", "45000ms", "2m", "3h", "30000000us", "9223372036854775807ns", "0000000030s"];
    let expired = ["0s", "0h", "0ns", "1ns", "1us"];
    let id = |timeout: &str| format!("r-{timeout}");
    rig.plane.send(&expired.map(|timeout| timed(&id(timeout), "late", timeout)));
    rig.plane.send(&long.map(|timeout| timed(&id(timeout), "echo", timeout)));
    let ids = long.map(id);
    for answer in rig.plane.wait_answers(&ids.each_ref().map(String::as_str)) {
        assert_eq!(answer.json()["resp_code"], 200, "{}", answer.text());
    }
    assert_eq!(rig.calls("late"), 0, "an expired command does not reach the MCP server");
    assert_eq!(rig.plane.responses().len(), long.len(), "and is not answered");
    let told =
        || events(&rig.client).iter().filter(|event| event["msg"].as_str().is_some_and(is_expiry)).count();
    eventually("each expiry is on record", || told() == expired.len());
    let all = events(&rig.client);
    let expiries: Vec<_> = all.iter().filter(|e| e["msg"].as_str().is_some_and(is_expiry)).collect();
    assert!(expiries.iter().all(|event| event["level"] == "INFO"), "{expiries:?}");
}

fn is_expiry(message: &str) -> bool {
    message.contains("deadline reached") || message.contains("expired in the queue")
}

#[test]
fn a_call_that_outlives_its_deadline_is_never_answered_and_the_next_one_is() {
    let rig = rig(&["--mcp.max-concurrent-requests", "1"]);
    rig.plane.send(&[timed("late", "slow-1000", "300ms")]);
    rig.plane.send(&[call("next", "slow-1000", "")]);
    let answer = rig.plane.wait_answers(&["next"]).remove(0);
    assert_eq!(answer.json()["resp_code"], 200, "{}", answer.text());
    assert_eq!(rig.plane.responses().len(), 1, "no late and no synthesised answer");
}

#[test]
fn progress_does_not_extend_a_deadline() {
    let rig = rig(&[]);
    rig.plane.on_response(|_| {
        std::thread::sleep(Duration::from_millis(250));
        crate::common::control_plane::json("{}")
    });
    rig.plane.send(&[timed("slow", "progress", "400ms")]);
    rig.plane.send(&[call("next", "echo", "")]);
    rig.plane.wait_answers(&["next"]);
    std::thread::sleep(Duration::from_millis(300));
    let types: Vec<_> =
        rig.plane.responses_to("slow").iter().map(|r| r.json()["resp_type"].clone()).collect();
    assert!(types.len() <= 2 && types.iter().all(|t| t == "jsonrpc_notify"), "{types:?}");
}

#[test]
fn the_deadline_counts_from_the_head_of_the_polls_reply() {
    let rig = rig(&[]);
    let body =
        format!(r#"{{"commands":[{},{}]}}"#, timed("late", "late", "300ms"), timed("fine", "echo", "60s"));
    let whole = reply(200, &[("Content-Type", "application/json")], &body);
    let head = whole.len() - body.len();
    let gate = Gate::default();
    rig.plane.poll(Answer::Split(whole[..head].to_vec(), gate.clone(), whole[head..].to_vec()));
    eventually("the head is on its way", || rig.plane.polls().len() == 1);
    std::thread::sleep(Duration::from_millis(450));
    gate.open();
    rig.plane.wait_answers(&["fine"]);
    assert_eq!(rig.calls("late"), 0);
    assert_eq!(rig.plane.responses().len(), 1);
}

#[test]
fn no_attempt_starts_once_the_deadline_is_sure_to_pass_before_and_the_worker_is_free() {
    let rig = rig(&["--mcp.max-concurrent-requests", "1"]);
    rig.plane.on_response(|seen| match seen.request_id().as_str() {
        "late" => error_with(503, &[("Retry-After", "30")], ""),
        _ => crate::common::control_plane::json("{}"),
    });
    let start = Instant::now();
    rig.plane.send(&[timed("late", "echo", "5s"), call("next", "echo", "")]);
    rig.plane.wait_answers(&["next"]);
    assert!(start.elapsed() < Duration::from_secs(20));
    assert_eq!(rig.plane.responses_to("late").len(), 1);
    let told: Vec<_> = events(&rig.client)
        .into_iter()
        .filter(|event| event["request_id"] == "late" && event["level"] != "DEBUG")
        .collect();
    assert!(
        told.len() == 1 && told[0]["level"] == "INFO" && is_expiry(told[0]["msg"].as_str().unwrap()),
        "expiry is one line, and no failure: {told:?}"
    );
}

#[test]
fn a_post_that_hangs_is_cut_at_the_deadline() {
    let rig = rig(&["--mcp.max-concurrent-requests", "1"]);
    rig.plane.on_response(|seen| match seen.request_id().as_str() {
        "late" => Answer::Hold,
        _ => crate::common::control_plane::json("{}"),
    });
    rig.plane.send(&[timed("late", "echo", "1500ms"), call("next", "echo", "")]);
    rig.plane.wait_answers(&["next"]);
    assert_eq!(rig.plane.responses_to("late").len(), 1);
}

#[test]
fn a_command_that_expires_in_the_queue_frees_its_slot() {
    let gate = Gate::default();
    let seen = gate.clone();
    let mcp = McpServer::scripted(move |request, stream| {
        if request.text().contains(r#""name":"gate""#) {
            seen.pass();
        }
        by_tool_name(request, stream)
    });
    let arguments = ["--mcp.max-concurrent-requests", "1", "--control-plane.max-inflight", "1"];
    let rig = rig_of(ControlPlane::start(), mcp, &arguments);
    rig.plane.send(&[call("running", "gate", "")]);
    eventually("the worker is busy", || rig.calls("gate") == 1);
    rig.plane.send(&[timed("waiting", "late", "300ms")]);
    // The slot is free again before the worker is.
    let polls = rig.plane.wait_polls(3);
    assert_eq!(polls[2].parameter("limit"), Some("1"));
    gate.open();
    rig.plane.wait_answers(&["running"]);
    assert_eq!((rig.calls("late"), rig.plane.responses().len()), (0, 1));
}
