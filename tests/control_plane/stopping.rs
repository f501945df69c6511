//! Several clients on one tunnel, and their ends.

use std::time::{Duration, Instant};

use crate::common::control_plane::{Answer, ControlPlane, Gate, batch, call};
use crate::common::eventually;
use crate::common::http::reply;
use crate::common::mcp_server::{McpServer, by_tool_name};
use crate::rig::{calls, events, metric, rig, rig_of, start};

#[test]
fn two_clients_share_a_tunnel_and_each_command_is_answered_once_while_one_comes_and_goes() {
    let (plane, mcp) = (ControlPlane::start(), McpServer::by_tool_name());
    plane.expect_clients(3);
    let mut first = start(&plane, &mcp, &[], &[]);
    let _second = start(&plane, &mcp, &[], &[]);
    let mut ids = Vec::new();
    let mut send = |count: usize, tool: &str| {
        for _ in 0..count {
            let id = format!("r-{}", ids.len());
            plane.send(&[call(&id, tool, "")]);
            ids.push(id);
        }
    };
    eventually("both poll", || {
        let polls = plane.polls();
        polls.iter().any(|poll| poll.instance() != polls[0].instance())
    });
    send(20, "echo");
    plane.wait_responses(20);
    send(8, "slow-300");
    eventually("all run", || calls(&mcp, "slow-300") == 8);
    assert_eq!(first.terminate().code(), Some(0), "{}", first.output());
    send(10, "echo");
    plane.wait_responses(38);
    let polled = plane.polls().len();
    let _again = start(&plane, &mcp, &[], &[]);
    eventually("the new one polls", || plane.polls().len() > polled);
    send(20, "echo");
    plane.wait_responses(58);
    let mut answered: Vec<String> = plane.responses().iter().map(|seen| seen.request_id()).collect();
    answered.sort();
    ids.sort();
    assert_eq!(answered, ids);
    assert!(plane.responses().iter().all(|seen| seen.json()["resp_code"] == 200));
    assert_eq!(calls(&mcp, "echo") + calls(&mcp, "slow-300"), 58, "each executed once");
    let instances: std::collections::BTreeSet<String> =
        plane.responses().iter().map(|seen| seen.instance().to_owned()).collect();
    assert!(instances.len() >= 2, "each took its share: {instances:?}");
}

#[test]
fn a_signal_cuts_a_waiting_poll_without_an_error() {
    let gate = Gate::default();
    let seen = gate.clone();
    let mcp = McpServer::scripted(move |request, stream| {
        if request.text().contains(r#""name":"gate""#) {
            seen.pass();
        }
        by_tool_name(request, stream)
    });
    let mut rig = rig_of(ControlPlane::start(), mcp, &[]);
    // A running call keeps the client there to be asked.
    rig.plane.send(&[call("r", "gate", "")]);
    eventually("the call runs", || rig.calls("gate") == 1);
    rig.plane.wait_parked();
    rig.client.signal(rustix::process::Signal::TERM);
    rig.client.wait_output("poller stopped");
    assert_eq!(metric(&rig.client, "commands_poll_errors_total", &[]), None);
    assert_eq!(metric(&rig.client, "commands_poll_latency_seconds_count", &[r#"error="true""#]), Some(1.0));
    let polls = rig.plane.polls().len();
    gate.open();
    assert_eq!(rig.client.wait().code(), Some(0), "{}", rig.client.output());
    assert_eq!(rig.plane.responses().len(), 1, "what ran was answered");
    assert_eq!(rig.plane.polls().len(), polls);
    for event in events(&rig.client) {
        let of_poll = event["msg"]
            .as_str()
            .is_some_and(|text| text.contains("poll failed") || text.contains("timed out"));
        assert!(!of_poll, "{event}");
    }
}

#[test]
fn an_idle_client_ends_promptly() {
    let mut rig = rig(&[]);
    rig.plane.wait_parked();
    let start = Instant::now();
    assert_eq!(rig.client.terminate().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(rig.plane.responses().len(), 0);
}

#[test]
fn a_signal_ends_a_back_off() {
    let mut rig = rig(&[]);
    let later = &[("Retry-After", "60")];
    rig.plane.poll(crate::common::control_plane::error_with(503, later, ""));
    rig.client.wait_output("poll failed");
    let start = Instant::now();
    assert_eq!(rig.client.terminate().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_batch_that_is_arriving_when_the_client_stops_is_read_and_answered() {
    let mut rig = rig(&[]);
    let Answer::Bytes(whole) = batch(&[call("r", "echo", "")]) else { panic!() };
    let cut = whole.len() - 40;
    let gate = Gate::default();
    rig.plane.poll(Answer::Split(whole[..cut].to_vec(), gate.clone(), whole[cut..].to_vec()));
    rig.plane.wait_polls(1);
    let head = [r#"http_route="/v1/tunnels/{tunnel_id}/poll""#, r#"http_response_status_code="200""#];
    eventually("the head has arrived", || {
        metric(&rig.client, "http_client_request_duration_seconds_count", &head) == Some(1.0)
    });
    rig.client.signal(rustix::process::Signal::TERM);
    rig.client.wait_output("a second signal");
    gate.open();
    assert_eq!(rig.client.wait().code(), Some(0), "{}", rig.client.output());
    let answer = rig.plane.responses_to("r").remove(0).json();
    assert_eq!(
        answer["resp_json"]["error"]["data"]["tunnel_failure"]["source"], "client_internal",
        "{answer}"
    );
    assert_eq!(rig.calls("echo"), 0);
}

#[test]
fn commands_that_wait_for_room_when_the_client_stops_are_counted_and_answered() {
    let gate = Gate::default();
    let seen = gate.clone();
    let mcp = McpServer::scripted(move |request, stream| {
        if request.text().contains(r#""name":"gate""#) {
            seen.pass();
        }
        by_tool_name(request, stream)
    });
    let arguments = ["--control-plane.max-inflight", "1", "--mcp.max-concurrent-requests", "1"];
    let mut rig = rig_of(ControlPlane::start(), mcp, &arguments);
    rig.plane.send(&[call("running", "gate", "")]);
    eventually("the call runs", || rig.calls("gate") == 1);
    rig.plane.send(&["a", "b", "c", "d"].map(|id| call(id, "echo", "")));
    eventually("one is queued", || metric(&rig.client, "commands_queue_length", &[]) == Some(1.0));
    rig.client.signal(rustix::process::Signal::TERM);
    rig.plane.wait_answers(&["a", "b", "c", "d"]);
    let canceled = [r#"drop_reason="context_canceled""#];
    assert_eq!(metric(&rig.client, "commands_queue_drops_total", &canceled), Some(3.0));
    assert_eq!(metric(&rig.client, "commands_polled_total", &[]), Some(5.0));
    assert_eq!(metric(&rig.client, "commands_enqueued_total", &[]), Some(2.0));
    gate.open();
    assert_eq!(rig.client.wait().code(), Some(0), "{}", rig.client.output());
    assert_eq!(rig.plane.wait_answers(&["running"])[0].json()["resp_code"], 200);
    assert_eq!((rig.plane.responses().len(), rig.calls("echo")), (5, 0));
    let stopped = crate::rig::events_of(&rig.client, "poller stopped");
    assert_eq!((stopped.len(), &stopped[0]["reason"]), (1, &"shutdown".into()));
}

#[test]
fn a_client_stopped_at_its_start_gate_never_polls() {
    let gate = Gate::default();
    let seen = gate.clone();
    let mcp = McpServer::scripted(move |request, stream| {
        seen.pass();
        by_tool_name(request, stream)
    });
    let mut rig = rig_of(ControlPlane::start(), mcp, &["--mcp.startup-wait-timeout", "20s"]);
    eventually("the probe waits", || !rig.mcp.seen().is_empty());
    assert_eq!(rig.client.terminate().code(), Some(0), "{}", rig.client.output());
    assert!(rig.plane.polls().is_empty());
    gate.open();
}

#[test]
fn replies_that_never_end_do_not_hold_up_the_end() {
    let mut rig = rig(&[]);
    rig.plane.poll(Answer::Split(reply(200, &[], "")[..10].to_vec(), Gate::default(), Vec::new()));
    rig.plane.wait_polls(1);
    let start = Instant::now();
    assert_eq!(rig.client.terminate().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(10));
}
