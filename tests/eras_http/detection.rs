//! How the era of a server is found out.

use serde_json::json;

use crate::common::eventually;
use crate::common::scripted_plane::jsonrpc;
use crate::rig::*;

#[test]
fn a_modern_only_server_is_ready_with_the_bridge_and_without() {
    for arguments in [&[][..], &["--mcp.protocol-bridge", "off"]] {
        let rig = Rig::new(Kind::Modern, arguments);
        assert_eq!(rig.client.readyz(), (200, "ready".to_owned()));
        assert_eq!(rig.methods(), ["initialize", "server/discover"]);
    }
}

#[test]
fn both_sides_of_one_era_see_nothing_but_each_other() {
    let rig = Rig::new(Kind::Dual, &[]);
    let headers =
        r#","headers":{"MCP-Protocol-Version":["2026-07-28"],"Mcp-Method":["METHOD"],"Mcp-Name":["echo"]}"#;
    for (message, method) in [(discover("1"), "server/discover"), (modern_tool("2", "echo"), "tools/call")] {
        result(&rig.send_with(&message, &headers.replace("METHOD", method)));
        assert_eq!(rig.requests().pop().unwrap().text(), message);
    }
    let legacy = tool("3", "echo");
    let session = r#","headers":{"Mcp-Session-Id":["session-1"]}"#;
    result(&rig.send_with(&legacy, session));
    assert_eq!(rig.requests().pop().unwrap().text(), legacy);
    let methods: Vec<String> = rig.seen().iter().skip(1).map(method).collect();
    assert_eq!(methods, ["server/discover", "tools/call", "tools/call"]);
}

#[test]
fn a_server_that_fails_at_a_discovery_is_bridged() {
    let rig = Rig::with(Manners { discover_status: Some(500), ..Manners::default() }, &[]);
    assert_eq!(result(&rig.send(&discover("1")))["supportedVersions"], json!(["2026-07-28"]));
}

#[test]
fn a_challenge_reaches_the_connector_and_nothing_else_is_tried() {
    let rig = Rig::new(Kind::Guarded, &[]);
    let probed = rig.methods().len();
    let post = rig.send(&discover("1"));
    assert_eq!(post.code(), 401);
    assert!(post.request.text().contains("Bearer realm"), "{}", post.request.text());
    assert_eq!(rig.methods()[probed..], ["server/discover"]);
}

#[test]
fn a_server_that_refuses_both_is_named_by_the_probe_and_not_asked_again_at_once() {
    let rig = Rig::unready(Kind::Neither, &[]);
    eventually("the probe fails", || rig.client.readyz().1.contains("server/discover"));
    let (status, text) = rig.client.readyz();
    assert!(status == 503 && text.contains("initialize:") && text.contains("server/discover:"), "{text}");
    let first = rig.send(&discover("1"));
    assert_eq!(first.code(), 404);
    let second = rig.send(&discover("2"));
    assert_eq!(second.code(), 404);
    assert_eq!(second.json["resp_json"]["id"], 2);
    let asked = rig.methods().iter().filter(|method| *method == "server/discover").count();
    assert!(asked <= 3, "{:?}", rig.methods());
}

#[test]
fn ten_first_commands_share_one_test_and_one_session() {
    let rig = Rig::new(Kind::Legacy, &[]);
    let commands: Vec<String> =
        (0..10).map(|n| jsonrpc(&format!("c{n}"), &modern_tool(&n.to_string(), "echo"), "")).collect();
    rig.plane.send(&commands);
    for n in 0..10 {
        result(&rig.plane.wait_terminal(&format!("c{n}")));
    }
    let methods: Vec<String> = rig.seen().iter().skip(1).map(method).collect();
    let count = |name: &str| methods.iter().filter(|method| *method == name).count();
    assert_eq!((count("server/discover"), count("initialize"), count("tools/call")), (1, 1, 10));
}

#[test]
fn without_the_bridge_messages_pass_as_they_came() {
    let rig = Rig::new(Kind::Legacy, &["--mcp.protocol-bridge", "off"]);
    let message = discover("1");
    assert_eq!(rig.send(&message).code(), 400);
    assert_eq!(rig.requests().pop().unwrap().text(), message);
}
