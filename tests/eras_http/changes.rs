//! What comes between: calls taken back, servers replaced, handshakes that take longer than their command.

use std::time::Duration;

use serde_json::{Value, json};

use crate::common::eventually;
use crate::common::process::Client;
use crate::common::scripted_plane::ScriptedPlane;
use crate::rig::*;

fn cancelled(id: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#)
}

#[test]
fn a_call_that_its_connector_takes_back_is_closed_at_a_modern_server() {
    let rig = Rig::new(Kind::Modern, &[]);
    for (stalled, next) in
        [(tool("7", "stall"), tool("8", "echo")), (modern_tool("7", "stall"), modern_tool("8", "echo"))]
    {
        rig.change(|manners| manners.closed = 0);
        result(&rig.send(&next));
        let before = rig.methods().len();
        let name = rig.start(&stalled, r#","response_timeout":"60s""#);
        eventually("the call arrives", || rig.methods().len() == before + 1);
        let ack = rig.send(&cancelled("99"));
        assert_eq!((ack.kind(), ack.code()), ("notify_ack", 202));
        assert_eq!(rig.manners.lock().unwrap().closed, 0);
        let ack = rig.send(&cancelled("7"));
        assert_eq!((ack.kind(), ack.code()), ("notify_ack", 202));
        eventually("the exchange is closed", || rig.manners.lock().unwrap().closed == 1);
        result(&rig.send(&next));
        assert!(rig.plane.posts_of(&name).is_empty(), "nobody waits for an answer");
        assert!(!rig.methods().contains(&"notifications/cancelled".to_owned()));
    }
}

#[test]
fn whoever_has_other_credentials_cannot_take_a_call_back() {
    let rig = Rig::new(Kind::Modern, &[]);
    let with = |token: &str| format!(r#","headers":{{"Authorization":["Bearer {token}"]}}"#);
    rig.start(&modern_tool("7", "stall"), &with("a"));
    eventually("the call arrives", || rig.methods().contains(&"tools/call".to_owned()));
    assert_eq!(rig.send_with(&cancelled("7"), &with("b")).code(), 202);
    assert_eq!(rig.manners.lock().unwrap().closed, 0);
    assert_eq!(rig.send_with(&cancelled("7"), &with("a")).code(), 202);
    eventually("the exchange is closed", || rig.manners.lock().unwrap().closed == 1);
}

#[test]
fn a_legacy_server_is_told_in_the_session_of_the_call_that_is_taken_back() {
    let rig = Rig::new(Kind::Legacy, &[]);
    rig.start(&modern_tool("7", "stall"), r#","response_timeout":"60s""#);
    eventually("the call arrives", || rig.methods().contains(&"tools/call".to_owned()));
    let ack = rig.send(&cancelled("7"));
    assert_eq!((ack.kind(), ack.code()), ("notify_ack", 202));
    let told = rig.requests().pop().unwrap();
    assert_eq!(told.text(), cancelled("7"));
    assert_eq!(
        (told.header("Mcp-Session-Id"), told.header("Mcp-Protocol-Version")),
        (Some("session-2"), Some("2025-11-25"))
    );
}

#[test]
fn a_handshake_outlasts_its_command_and_serves_the_next() {
    let rig = Rig::new(Kind::Legacy, &[]);
    rig.change(|manners| manners.slow = Some(("initialize", Duration::from_millis(2500))));
    let late = rig.start(&modern_tool("1", "echo"), r#","response_timeout":"3s""#);
    eventually("the handshake has begun", || {
        rig.methods().iter().filter(|method| *method == "initialize").count() == 2
    });
    result(&rig.send(&modern_tool("2", "echo")));
    let opened = rig.methods().iter().filter(|method| *method == "initialize").count();
    assert_eq!(opened, 2, "the probe's and this one");
    // On a machine that is too busy to tell in time, the deadline passed in silence.
    for post in rig.plane.posts_of(&late) {
        assert_eq!((post.code(), post.failure().as_str()), (504, "timeout/mcp_handshake_timeout"));
        assert_eq!(post.json["resp_json"]["error"]["data"]["tunnel_bridge"], json!({"reason": "handshake"}));
    }
}

#[test]
fn a_server_that_stays_silent_is_not_asked_again_at_once() {
    let rig = Rig::new(Kind::Silent, &["--mcp.handshake-timeout", "1s"]);
    let more = r#","response_timeout":"6s""#;
    let first = rig.send_with(&modern_tool("1", "echo"), more);
    assert_eq!((first.code(), first.failure().as_str()), (504, "timeout/mcp_handshake_timeout"));
    let asked = rig.methods().len();
    let second = rig.send_with(&modern_tool("2", "echo"), more);
    assert_eq!((second.code(), second.failure().as_str()), (504, "timeout/mcp_handshake_timeout"));
    assert_eq!(second.json["resp_json"]["id"], 2);
    assert_eq!(rig.methods().len(), asked);
}

#[test]
fn a_server_that_could_not_be_reached_is_asked_again_what_it_is() {
    let rig = Rig::new(Kind::Modern, &[]);
    result(&rig.send(&tool("1", "echo")));
    rig.change(|manners| manners.breaks = Some("tools/call"));
    let broken = rig.send(&tool("2", "echo"));
    assert_eq!(broken.code(), 502, "{}", broken.payload());
    let before = rig.methods().len();
    result(&rig.send(&tool("3", "echo")));
    result(&rig.send(&tool("4", "echo")));
    assert_eq!(rig.methods()[before..], ["server/discover", "tools/call", "tools/call"]);

    let rig = Rig::new(Kind::Stateless, &[]);
    result(&rig.send(&modern_tool("1", "echo")));
    rig.change(|manners| manners.breaks = Some("tools/call"));
    assert_eq!(rig.send(&modern_tool("2", "echo")).code(), 502);
    let before = rig.methods().len();
    result(&rig.send(&modern_tool("3", "echo")));
    assert_eq!(rig.methods()[before..], ["initialize", "notifications/initialized", "tools/call"]);
}

#[test]
fn a_server_of_unknown_revisions_answers_for_itself() {
    let rig = Rig::new(Kind::Future, &[]);
    let refused = rig.send(&initialize("\"i\""));
    assert_eq!(error(&refused), (400, -32022));
    assert_eq!(refused.json["resp_json"]["error"]["data"], json!({"supported": ["2027-01-15"]}));
    let before = rig.methods().len();
    let again = rig.send(&call("9", "tools/list", ""));
    assert_eq!(error(&again), (400, -32022));
    assert_eq!(again.json["resp_json"]["id"], 9);
    assert_eq!(rig.methods().len(), before, "the same answer for a while");
    assert_eq!(error(&rig.send(&modern_tool("3", "echo"))), (400, -32022));
}

#[test]
fn a_call_refused_for_its_revision_is_sent_once_more() {
    for (misversioned, expected) in [(1, None), (2, Some((200, -32022)))] {
        let rig = Rig::with(Manners { kind: Kind::Modern, misversioned, ..Manners::default() }, &[]);
        rig.client.wait_ready();
        let post = rig.send(&tool("1", "echo"));
        match expected {
            None => assert!(result(&post)["content"].is_array()),
            Some(expected) => assert_eq!(error(&post), expected),
        }
    }
}

#[test]
fn a_restarted_client_serves_a_connector_that_knew_the_last_one() {
    let mut rig = Rig::new(Kind::Modern, &[]);
    result(&rig.send(&initialize("0")));
    assert!(rig.client.terminate().success());
    // The last one's poll may still be held by the first control plane.
    rig.plane = ScriptedPlane::start();
    rig.client = Client::start(&rig.plane.base_url(), &["--mcp.server-url", &rig.server.url()]);
    rig.client.wait_ready();
    result(&rig.send_with(&tool("1", "echo"), r#","headers":{"Mcp-Session-Id":["of-the-last-one"]}"#));
    let sent = rig.requests().pop().unwrap();
    assert_eq!(sent.header("Mcp-Session-Id"), None);
    assert!(sent.text().contains(r#"/clientInfo":{"name":"tunnel-client""#), "{}", sent.text());
}

#[test]
fn one_connector_that_a_legacy_server_refuses_does_not_silence_the_others() {
    let rig = Rig::new(Kind::Legacy, &[]);
    let opened = rig.send(&initialize("0"));
    let session = &opened.json["resp_headers"]["Mcp-Session-Id"];
    rig.change(|manners| manners.kind = Kind::Neither);
    assert_eq!(rig.send(&initialize("1")).code(), 404);
    rig.change(|manners| manners.kind = Kind::Legacy);
    let headers = format!(r#","headers":{{"Mcp-Session-Id":{session}}}"#);
    result(&rig.send_with(&tool("2", "echo"), &headers));
    assert_eq!(rig.methods().last().unwrap(), "tools/call");
}

#[test]
fn one_modern_connector_whose_handshake_fails_does_not_silence_the_others() {
    let rig = Rig::new(Kind::Legacy, &["--mcp.handshake-timeout", "1s"]);
    let session = r#","headers":{"Mcp-Session-Id":["session-1"]}"#;
    result(&rig.send_with(&tool("1", "echo"), session));
    for kind in [Kind::Neither, Kind::Silent] {
        rig.change(|manners| manners.kind = kind);
        assert!(rig.send_with(&modern_tool("2", "echo"), r#","response_timeout":"8s""#).code() >= 400);
        rig.change(|manners| manners.kind = Kind::Legacy);
        result(&rig.send_with(&tool("3", "echo"), session));
    }
    result(&rig.send(&modern_tool("4", "echo")));
}

#[test]
fn a_server_that_refuses_both_makes_the_client_ready_once_it_is_repaired() {
    let rig = Rig::unready(Kind::Neither, &[]);
    eventually("the probe fails", || rig.client.readyz().1.contains("server/discover"));
    let (status, text) = rig.client.readyz();
    assert_eq!(status, 503);
    assert!(
        text.starts_with("mcp probe failed: initialize: ") && text.contains("; server/discover: "),
        "{text}"
    );
    rig.change(|manners| manners.kind = Kind::Legacy);
    rig.client.wait_ready();
    let probes: Vec<Value> =
        rig.requests().iter().filter(|one| one.method == "POST").map(|one| one.json()).collect();
    assert_eq!(probes.iter().filter(|one| one["method"] == "initialize").count(), 2);
}
