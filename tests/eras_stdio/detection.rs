//! How the era of a child is found out without harming it.

use serde_json::json;

use crate::common::eventually;
use crate::common::scripted_plane::jsonrpc;
use crate::rig::*;

#[test]
fn legacy_before_legacy_and_dual_passes_byte_for_byte() {
    for manners in ["legacy", "dual"] {
        let rig = Rig::new(manners, &[]);
        let (first, list, echo) = (initialize("0"), call("1", "tools/list", ""), tool("2", "echo"));
        assert_eq!(result(&rig.send(&first))["protocolVersion"], "2025-06-18");
        assert_eq!(rig.send(INITIALIZED).code(), 200);
        result(&rig.send(&list));
        assert_eq!(
            rig.send(&echo).payload(),
            r#"{"jsonrpc":"2.0","id":2,"result":{"content":[],"echo":{"n":1.1}}}"#
        );
        let expected = [&first, INITIALIZED, &list, &echo].map(|line| format!("1 {line}"));
        assert_eq!(rig.seen(), expected, "{manners}");
    }
}

#[test]
fn modern_before_modern_and_dual_passes_byte_for_byte() {
    for manners in ["modern", "dual"] {
        let rig = Rig::new(manners, &[]);
        let all = [discover("\"d\""), modern("1", "tools/list", ""), modern_tool("2", "echo")];
        for message in &all {
            result(&rig.send(message));
        }
        assert_eq!(rig.seen(), all.map(|line| format!("1 {line}")), "{manners}");
    }
}

#[test]
fn a_server_that_dies_of_a_discovery_is_started_again_and_never_asked_again() {
    let rig = Rig::new("dies", &[]);
    assert_eq!(result(&rig.send(&discover("1")))["supportedVersions"], json!(["2026-07-28"]));
    let expected = ["1 server/discover", "2 initialize", "2 notifications/initialized"];
    eventually("the second process is initialised", || rig.methods() == expected);
    assert_eq!(rig.send(&modern_tool("2", "crash")).code(), 502);
    rig.client.wait_ready();
    result(&rig.send(&discover("3")));
    assert_eq!(rig.methods().iter().filter(|line| line.contains("discover")).count(), 1);
    let metrics = crate::common::http::get(&format!("{}/metrics", rig.client.health_url())).unwrap().text();
    assert!(metrics.contains("probe_exit"), "{metrics}");
}

#[test]
fn a_server_that_ignores_a_discovery_is_initialised_without_a_restart() {
    let rig = Rig::new("mute", &["--mcp.protocol-probe-timeout", "1s"]);
    assert_eq!(result(&rig.send(&discover("1")))["supportedVersions"], json!(["2026-07-28"]));
    let expected = ["1 server/discover", "1 initialize", "1 notifications/initialized"];
    eventually("the handshake is complete", || rig.methods() == expected);
}

#[test]
fn a_slow_server_is_neither_killed_nor_declared_dead() {
    let rig = Rig::new("slow-8000", &["--mcp.protocol-probe-timeout", "1s"]);
    result(&rig.send_with(&discover("1"), r#","response_timeout":"20s""#));
    result(&rig.send(&modern_tool("2", "echo")));
    assert!(rig.methods().iter().all(|line| line.starts_with("1 ")), "{:?}", rig.methods());
}

#[test]
fn a_server_that_lists_only_old_versions_is_legacy() {
    let rig = Rig::new("lists-legacy", &[]);
    assert_eq!(result(&rig.send(&discover("1")))["supportedVersions"], json!(["2026-07-28"]));
    assert_eq!(rig.methods()[1], "1 initialize");
}

#[test]
fn a_first_modern_call_never_reaches_a_legacy_server_as_it_is() {
    let rig = Rig::new("legacy", &[]);
    assert_eq!(result(&rig.send(&modern_tool("1", "runs")))["runs"], 1);
    assert!(rig.seen().iter().all(|line| !line.contains("tools/call") || !line.contains("protocolVersion")));
}

#[test]
fn a_discovery_without_marks_gets_them_and_the_servers_own_answer() {
    let rig = Rig::new("dual", &[]);
    let answer = result(&rig.send(&call("1", "server/discover", "")));
    assert_eq!(answer["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "modern-demo");
    assert_eq!(rig.methods(), ["1 server/discover"]);
}

#[test]
fn a_server_that_refuses_both_is_not_asked_again_at_once() {
    let rig = Rig::new("refuses", &[]);
    let first = rig.send(&discover("1"));
    assert_eq!(error(&first), (200, -32601));
    assert!(first.payload().contains("unknown server/discover"), "{}", first.payload());
    let asked = rig.seen().len();
    assert!(rig.send(&discover("\"x\"")).payload().contains(r#""id":"x""#));
    let legacy = rig.send(&initialize("3"));
    assert!(legacy.payload().contains("unknown initialize"), "{}", legacy.payload());
    assert_eq!(rig.seen().len(), asked);
}

#[test]
fn ten_first_commands_share_one_round_and_one_handshake() {
    let rig = Rig::new("legacy", &[]);
    let commands: Vec<String> =
        (0..10).map(|n| jsonrpc(&format!("c{n}"), &modern_tool(&n.to_string(), "echo"), "")).collect();
    rig.plane.send(&commands);
    for n in 0..10 {
        result(&rig.plane.wait_terminal(&format!("c{n}")));
    }
    let count = |method: &str| rig.methods().iter().filter(|line| line.ends_with(method)).count();
    assert_eq!((count("server/discover"), count("initialize"), count("tools/call")), (1, 1, 10));
}

#[test]
fn without_the_bridge_a_foreign_message_passes_as_it_came() {
    let rig = Rig::new("legacy", &["--mcp.protocol-bridge", "off"]);
    let message = discover("1");
    assert_eq!(error(&rig.send(&message)), (200, -32601));
    assert_eq!(rig.seen(), [format!("1 {message}")]);
}

#[test]
fn without_lifecycle_care_the_bridge_initialises_only_for_what_it_translates() {
    let rig = Rig::new("legacy", &["--mcp.stdio-lifecycle", "off"]);
    result(&rig.send(&tool("1", "echo")));
    assert_eq!(rig.methods(), ["1 tools/call"]);
    result(&rig.send(&modern_tool("2", "echo")));
    assert_eq!(
        rig.methods(),
        ["1 tools/call", "1 server/discover", "1 initialize", "1 notifications/initialized", "1 tools/call"]
    );
    result(&rig.send(&initialize("3")));
    assert_eq!(rig.methods().last().unwrap(), "1 initialize");
}

#[test]
fn a_server_that_stays_silent_costs_an_answer_in_time_and_is_replaced() {
    let rig = Rig::new("silent", &["--mcp.handshake-timeout", "2s"]);
    let post = rig.send_with(&modern_tool("1", "echo"), r#","response_timeout":"5s""#);
    assert_eq!((post.code(), post.failure().as_str()), (504, "timeout/mcp_handshake_timeout"));
    let methods = rig.methods();
    assert_eq!(methods[..2], ["1 server/discover", "1 initialize"]);
    // The next call may still be in time to fail with the first process; one after it starts another.
    eventually("another process is initialised first", || {
        let post = rig.send_with(&tool("2", "echo"), r#","response_timeout":"30s""#);
        assert!(matches!(post.code(), 502..=504), "{}", post.request.text());
        rig.methods().contains(&"2 initialize".to_owned())
    });
}
