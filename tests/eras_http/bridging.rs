//! Messages of one era translated for a server of the other.

use serde_json::json;

use crate::common::{eventually, http};
use crate::rig::*;

#[test]
fn a_modern_connector_reaches_a_legacy_server_in_a_session_that_it_never_sees() {
    let rig = Rig::new(Kind::Legacy, &[]);
    let post = rig.send(&discover("\"openai-mcp-discover\""));
    assert_eq!(
        post.payload(),
        concat!(
            r#"{"jsonrpc":"2.0","id":"openai-mcp-discover","result":{"resultType":"complete","#,
            r#""supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"ttlMs":0,"cacheScope":"private","#,
            r#""_meta":{"io.modelcontextprotocol/serverInfo":{"name":"legacy-demo","version":"1.2.3"}}}}"#
        )
    );
    assert_eq!(post.json["resp_headers"], json!({"Content-Type": ["application/json"]}));
    let list = rig.send_with(
        &modern("1", "tools/list", ""),
        r#","headers":{"Mcp-Method":["tools/list"],"MCP-Protocol-Version":["2026-07-28"]}"#,
    );
    assert!(list.payload().starts_with(r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"echo","n":1.10}],"resultType":"complete","ttlMs":0,"cacheScope":"private","_meta""#));
    assert_eq!(list.json["resp_headers"], json!({"Content-Type": ["application/json"]}));
    assert_eq!(result(&rig.send(&modern_tool("2", "echo")))["resultType"], "complete");
    let seen = rig.seen();
    let methods: Vec<String> = seen.iter().skip(1).map(method).collect();
    assert_eq!(
        methods,
        ["server/discover", "initialize", "notifications/initialized", "tools/list", "tools/call"]
    );
    for request in &seen[3..] {
        assert_eq!(request.header("Mcp-Session-Id"), Some("session-2"));
        assert_eq!(request.header("Mcp-Protocol-Version"), Some("2025-11-25"));
        assert_eq!(request.header("Mcp-Method"), None);
        assert!(!request.text().contains("io.modelcontextprotocol"), "{}", request.text());
    }
}

#[test]
fn a_stateless_legacy_server_gets_no_session() {
    let rig = Rig::new(Kind::Stateless, &[]);
    result(&rig.send(&modern_tool("1", "echo")));
    let last = rig.requests().pop().unwrap();
    assert_eq!(
        (last.header("Mcp-Session-Id"), last.header("Mcp-Protocol-Version")),
        (None, Some("2025-11-25"))
    );
}

#[test]
fn a_legacy_connector_reaches_a_modern_server() {
    let rig = Rig::new(Kind::Modern, &[]);
    assert_eq!(rig.methods(), ["initialize", "server/discover"]);
    let answer = rig.send(&initialize("0"));
    assert_eq!(
        result(&answer),
        json!({"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": {"name": "modern-demo", "version": "1.0.0"}})
    );
    assert_eq!(answer.json["resp_headers"], json!({"Content-Type": ["application/json"]}));
    let newer = rig.send(&initialize("0").replace("2025-06-18", "1999-01-01"));
    assert_eq!(result(&newer)["protocolVersion"], "2025-11-25");
    let note = rig.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    assert_eq!((note.kind(), note.code()), ("notify_ack", 202));
    assert_eq!(rig.send(&call("9", "ping", "")).payload(), r#"{"jsonrpc":"2.0","id":9,"result":{}}"#);
    let stale =
        r#","headers":{"Mcp-Session-Id":["old"],"Mcp-Protocol-Version":["2025-06-18"],"X-Own":["1"]}"#;
    let echo = rig.send_with(&tool("2", "écho"), stale);
    assert_eq!(echo.payload(), r#"{"jsonrpc":"2.0","id":2,"result":{"content":[],"echo":{"n":1.1}}}"#);
    let sent = rig.requests().pop().unwrap();
    for (name, value) in [
        ("Mcp-Protocol-Version", Some("2026-07-28")),
        ("Mcp-Method", Some("tools/call")),
        ("Mcp-Name", Some("=?base64?w6ljaG8=?=")),
        ("Mcp-Session-Id", None),
        ("X-Own", Some("1")),
    ] {
        assert_eq!(sent.header(name), value, "{name}");
    }
    assert!(
        sent.text().contains(
            r#""arguments":{"n":1.10},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28""#
        ),
        "{}",
        sent.text()
    );
    assert_eq!(error(&rig.send(&tool("3", "gone"))), (200, -32602));
    assert_eq!(error(&rig.send(&call("4", "nonsense", ""))), (200, -32601));
    assert!(!rig.methods().contains(&"DELETE".to_owned()));
    assert_eq!(rig.methods().iter().filter(|method| *method == "initialize").count(), 1);
}

#[test]
fn what_a_modern_message_lacks_is_added() {
    let rig = Rig::new(Kind::Dual, &[]);
    let answer = result(&rig.send(&call("1", "server/discover", "")));
    assert_eq!(answer["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "modern-demo");
    result(&rig.send(&modern_tool("2", "echo")));
    let sent = rig.requests().pop().unwrap();
    assert_eq!((sent.header("Mcp-Method"), sent.header("Mcp-Name")), (Some("tools/call"), Some("echo")));
    assert_eq!(sent.text(), modern_tool("2", "echo"));
}

#[test]
fn a_lost_session_is_opened_again_and_the_call_sent_once_more() {
    for status in [404, 400] {
        let rig = Rig::new(Kind::Legacy, &[]);
        result(&rig.send(&modern_tool("1", "echo")));
        rig.change(|manners| {
            manners.forgets = true;
            manners.forgets_with = status;
        });
        result(&rig.send(&modern_tool("2", "echo")));
        assert_eq!(rig.manners.lock().unwrap().runs, 2);
        let sessions = rig.methods().iter().filter(|method| *method == "initialize").count();
        assert_eq!(sessions, 3, "the probe's, the first, and the new one");
        assert_eq!(rig.requests().pop().unwrap().header("Mcp-Session-Id"), Some("session-3"));
    }
}

#[test]
fn other_credentials_get_another_session_and_all_are_closed_at_the_end() {
    let mut rig = Rig::new(Kind::Legacy, &[]);
    let with = |token: &str| format!(r#","headers":{{"Authorization":["Bearer {token}"]}}"#);
    for token in ["a", "b", "a"] {
        result(&rig.send_with(&modern_tool("1", "echo"), &with(token)));
    }
    let used: Vec<String> = rig
        .seen()
        .iter()
        .filter(|request| method(request) == "tools/call")
        .map(|request| request.header("Mcp-Session-Id").unwrap().to_owned())
        .collect();
    assert_eq!(used, ["session-2", "session-3", "session-2"]);
    assert!(rig.requests().iter().all(|request| request.header("Mcp-Session-Id") != Some("never-use-me")));
    assert!(rig.client.terminate().success());
    let mut closed: Vec<(String, String)> = rig
        .requests()
        .iter()
        .filter(|request| request.method == "DELETE")
        .skip(1)
        .map(|request| {
            (
                request.header("Mcp-Session-Id").unwrap().to_owned(),
                request.header("Authorization").unwrap().to_owned(),
            )
        })
        .collect();
    closed.sort();
    assert_eq!(
        closed,
        [("session-2".to_owned(), "Bearer a".to_owned()), ("session-3".to_owned(), "Bearer b".to_owned())]
    );
}

#[test]
fn a_legacy_server_that_became_modern_is_noticed_at_once() {
    let rig = Rig::new(Kind::Legacy, &[]);
    let session = r#","headers":{"Mcp-Session-Id":["session-1"]}"#;
    result(&rig.send_with(&tool("1", "echo"), session));
    result(&rig.send(&modern_tool("2", "echo")));
    rig.change(|manners| manners.kind = Kind::Modern);
    result(&rig.send_with(&tool("3", "echo"), session));
    result(&rig.send(&modern_tool("4", "echo")));
    rig.change(|manners| manners.kind = Kind::Legacy);
    result(&rig.send(&modern_tool("5", "echo")));
    result(&rig.send(&initialize("6")));
    assert_eq!(rig.manners.lock().unwrap().runs, 5);
}

#[test]
fn a_call_repeats_arguments_in_headers_where_its_server_wants_them() {
    for legacy in [true, false] {
        let rig = Rig::with(Manners { kind: Kind::Modern, wants_region: true, ..Manners::default() }, &[]);
        rig.client.wait_ready();
        let name = if legacy { tool("1", "region") } else { modern_tool("1", "region") };
        result(&rig.send(&name));
        assert_eq!(rig.manners.lock().unwrap().runs, 1);
        assert_eq!(rig.requests().pop().unwrap().header("Mcp-Param-Region"), Some("1.10"));
        if legacy {
            let list = result(&rig.send(&call("2", "tools/list", "")));
            assert_eq!(
                list["tools"].as_array().unwrap().len(),
                1,
                "the tool that breaks the rules is left out"
            );
            result(&rig.send(&tool("3", "region")));
            assert_eq!(rig.methods().iter().filter(|method| *method == "tools/list").count(), 2);
        }
    }
}

#[test]
fn a_request_of_the_server_is_refused_and_the_call_goes_on() {
    let rig = Rig::new(Kind::Legacy, &[]);
    let name = rig.start(&modern_tool("1", "ask"), "");
    result(&rig.plane.wait_terminal(&name));
    assert_eq!(rig.plane.posts_of(&name).len(), 1, "change notifications end here");
    eventually("the request is answered", || rig.methods().contains(&"-".to_owned()));
    let answer = rig.requests().into_iter().find(|request| method(request) == "-").unwrap();
    assert_eq!(answer.header("Mcp-Session-Id"), Some("session-2"));
    assert_eq!(
        answer.text(),
        r#"{"jsonrpc":"2.0","id":"s1","error":{"code":-32601,"message":"Method not found: elicitation/create is not available through this tunnel"}}"#
    );
}

#[test]
fn errors_of_a_legacy_server_are_told_in_modern_words() {
    let rig = Rig::new(Kind::Legacy, &[]);
    assert_eq!(error(&rig.send(&modern_tool("1", "missing"))), (200, -32602));
    assert_eq!(error(&rig.send(&modern("2", "nonsense", ""))), (404, -32601));
    let before = rig.methods().len();
    assert_eq!(error(&rig.send(&modern("3", "tasks/get", ""))), (404, -32601));
    assert_eq!(error(&rig.send(&modern("4", "subscriptions/listen", ""))), (404, -32601));
    assert_eq!(error(&rig.send(&discover("5").replace("2026-07-28", "2027-01-15"))), (400, -32022));
    assert_eq!(rig.methods().len(), before);
}

#[test]
fn operators_see_for_which_connectors_a_bridge_is_at_work() {
    let rig = Rig::new(Kind::Legacy, &[]);
    let bridged = || {
        let status = http::get(&format!("{}/api/status", rig.client.health_url())).unwrap().json();
        status["channels"][0]["protocol"]["bridged_connectors"].clone()
    };
    result(&rig.send(&initialize("0")));
    assert_eq!(bridged(), json!(null));
    result(&rig.send(&modern_tool("1", "echo")));
    assert_eq!(bridged(), json!(["modern"]));
}
