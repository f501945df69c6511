//! Messages of one era translated for a child of the other, and the care for its lifecycle.

use serde_json::{Value, json};

use crate::common::eventually;
use crate::rig::*;

#[test]
fn a_modern_connector_reaches_a_legacy_server() {
    let rig = Rig::new("legacy", &[]);
    let post = rig.send(&discover("\"openai-mcp-discover\""));
    assert_eq!(
        post.payload(),
        concat!(
            r#"{"jsonrpc":"2.0","id":"openai-mcp-discover","result":{"resultType":"complete","#,
            r#""supportedVersions":["2026-07-28"],"capabilities":{"logging":{},"tools":{}},"#,
            r#""instructions":"Be kind","ttlMs":0,"cacheScope":"private","#,
            r#""_meta":{"io.modelcontextprotocol/serverInfo":{"name":"legacy-demo","version":"1.2.3"}}}}"#
        )
    );
    assert_eq!(post.json["resp_headers"]["Content-Type"], json!(["application/json"]));
    let list = result(&rig.send(&modern("1", "tools/list", "")));
    assert_eq!(
        (&list["resultType"], &list["ttlMs"], &list["cacheScope"]),
        (&json!("complete"), &json!(0), &json!("private"))
    );
    let echo = modern("2", "tools/call", r#""name":"echo","arguments":{"n":1.10},"x":[ 1.0 ]"#);
    let echo = rig.send(&echo.replace(r#""_meta":{"#, r#""_meta":{"traceparent":"00","v/k":1,"#));
    assert!(echo.payload().starts_with(
        r#"{"jsonrpc":"2.0","id":2,"result":{"content":[],"echo":{"n":1.1},"resultType":"complete","#
    ));
    assert_eq!(
        rig.methods(),
        ["1 server/discover", "1 initialize", "1 notifications/initialized", "1 tools/list", "1 tools/call"]
    );
    let seen = rig.seen();
    assert!(seen[1].contains(r#""params":{"protocolVersion":"2025-11-25","capabilities":{"extensions":{"a/b":{}}},"clientInfo":{"name":"chat","version":"7"}}"#));
    assert_eq!(
        seen[4],
        r#"1 {"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"echo","arguments":{"n":1.10},"x":[ 1.0 ],"_meta":{"traceparent":"00","v/k":1}}}"#
    );
}

#[test]
fn a_legacy_connector_reaches_a_modern_server() {
    let rig = Rig::new("modern", &[]);
    let init = initialize("0");
    let answer = result(&rig.send(&init));
    assert_eq!(
        answer,
        json!({"protocolVersion": "2025-06-18", "capabilities": {"tools": {}, "logging": {}},
            "serverInfo": {"name": "modern-demo", "version": "1.0.0"}})
    );
    assert_eq!(rig.send(INITIALIZED).code(), 200);
    assert_eq!(rig.send(&call("9", "ping", "")).payload(), r#"{"jsonrpc":"2.0","id":9,"result":{}}"#);
    assert_eq!(
        rig.send(&call("8", "logging/setLevel", r#""level":"warning""#)).payload(),
        r#"{"jsonrpc":"2.0","id":8,"result":{}}"#
    );
    assert_eq!(
        rig.send(&tool("2", "odd")).payload(),
        r#"{"jsonrpc":"2.0","id":2,"result":{"b":1.10,"big":12345678901234567890,"a":"\u00e9"}}"#
    );
    assert_eq!(rig.methods(), ["1 initialize", "1 server/discover", "1 tools/call"]);
    let seen = rig.seen();
    assert_eq!(seen[0], format!("1 {init}"));
    assert!(seen[2].contains(r#""io.modelcontextprotocol/logLevel":"warning""#), "{}", seen[2]);
    assert!(seen[2].contains(r#""io.modelcontextprotocol/clientInfo":{"name":"codex","version":"1.0.0"}"#));
    // What cannot be asked of the connector is an error, and the rest of the request is kept from it.
    let input = rig.send(&tool("3", "input"));
    assert_eq!(error(&input), (200, -32603));
    assert_eq!(
        input.json["resp_json"]["error"]["data"],
        json!({"tunnel_bridge": {"reason": "input_required", "methods": ["elicitation/create"]}})
    );
    assert!(result(&rig.send(&tool("4", "state")))["done"].as_bool().unwrap());
    assert_eq!(error(&rig.send(&call("5", "resources/subscribe", r#""uri":"x""#))), (200, -32601));
    assert_eq!(error(&rig.send(&call("6", "nonsense", ""))), (200, -32601));
}

#[test]
fn errors_of_a_legacy_server_are_told_in_modern_words() {
    let rig = Rig::new("legacy", &[]);
    let code =
        |code: &str| modern("1", "tools/call", &format!(r#""name":"code","arguments":{{"code":{code}}}"#));
    let missing = rig.send(&code("-32002"));
    assert_eq!(error(&missing), (200, -32602));
    assert_eq!(missing.json["resp_json"]["error"]["data"], json!({"kept": 1}));
    assert_eq!(error(&rig.send(&code("-32042"))), (400, -32021));
    assert_eq!(error(&rig.send(&modern("1", "nonsense", ""))), (404, -32601));
    let reserved = rig.send(&code("-32050"));
    assert_eq!(error(&reserved), (200, -32603));
    assert_eq!(
        reserved.json["resp_json"]["error"]["data"]["tunnel_bridge"],
        json!({"reason": "reserved_code", "original_code": -32050})
    );
    let before = rig.seen().len();
    for method in ["subscriptions/listen", "tasks/get"] {
        assert_eq!(error(&rig.send(&modern("2", method, ""))), (404, -32601));
    }
    let newer = discover("3").replace("2026-07-28", "2027-01-15");
    let newer = rig.send(&newer);
    assert_eq!(error(&newer), (400, -32022));
    assert_eq!(
        newer.json["resp_json"]["error"]["data"],
        json!({"supported": ["2026-07-28"], "requested": "2027-01-15"})
    );
    assert_eq!(rig.seen().len(), before);
}

#[test]
fn a_server_that_asks_is_answered_and_its_call_goes_on() {
    let rig = Rig::new("legacy", &[]);
    result(&rig.send(&modern_tool("1", "ask")));
    eventually("both requests are answered", || {
        rig.methods().iter().filter(|line| line.ends_with(" -")).count() == 2
    });
    let answers: Vec<String> = rig.seen().into_iter().filter(|line| !line.contains("method")).collect();
    assert_eq!(answers[0], r#"1 {"jsonrpc":"2.0","id":"s1","result":{}}"#);
    assert_eq!(
        answers[1],
        r#"1 {"jsonrpc":"2.0","id":"s2","error":{"code":-32601,"message":"Method not found: elicitation/create is not available through this tunnel"}}"#
    );
}

#[test]
fn log_messages_reach_a_modern_connector_that_asked_for_them() {
    let rig = Rig::new("legacy", &[]);
    let silent = rig.start(&modern_tool("1", "log"), "");
    rig.plane.wait_terminal(&silent);
    assert_eq!(rig.plane.posts_of(&silent).len(), 1);
    let asks = modern_tool("2", "log")
        .replace(r#""_meta":{"#, r#""_meta":{"io.modelcontextprotocol/logLevel":"warning","#);
    let asks = rig.start(&asks, "");
    let terminal = rig.plane.wait_terminal(&asks);
    assert_eq!(terminal.json["resp_headers"]["Content-Type"], json!(["text/event-stream"]));
    let levels: Vec<Value> = rig
        .plane
        .posts_of(&asks)
        .iter()
        .filter(|post| post.kind() == "jsonrpc_notify")
        .map(|post| post.json["resp_json"]["params"]["level"].clone())
        .collect();
    assert_eq!(levels, ["warning", "error"]);
    assert!(
        rig.seen()
            .iter()
            .any(|line| line.contains(r#""method":"logging/setLevel","params":{"level":"warning"}"#))
    );
}

#[test]
fn progress_passes_a_bridge_in_both_directions() {
    for manners in ["legacy", "modern"] {
        let rig = Rig::new(manners, &[]);
        let with_token = |json: String| match manners {
            "legacy" => json.replace(r#""_meta":{"#, r#""_meta":{"progressToken":"p","#),
            _ => json.replace(r#""name""#, r#""_meta":{"progressToken":"p"},"name""#),
        };
        let call = if manners == "legacy" { modern_tool("1", "progress") } else { tool("1", "progress") };
        let name = rig.start(&with_token(call), "");
        result(&rig.plane.wait_terminal(&name));
        let events: Vec<Value> = rig
            .plane
            .posts_of(&name)
            .iter()
            .filter(|post| post.kind() == "jsonrpc_notify")
            .map(|post| post.json["resp_json"]["params"]["progress"].clone())
            .collect();
        assert_eq!(events, [1, 2, 3], "{manners}");
    }
}

#[test]
fn one_dual_child_serves_both_connectors_in_one_era() {
    for first_modern in [true, false] {
        let rig = Rig::new("dual", &[]);
        result(&rig.send(&if first_modern { discover("0") } else { initialize("0") }));
        result(&rig.send(&if first_modern { initialize("0") } else { discover("0") }));
        for n in 0..20 {
            result(&rig.send(&tool(&n.to_string(), "echo")));
            result(&rig.send(&modern_tool(&n.to_string(), "echo")));
        }
        let marked = |line: &String| line.contains("io.modelcontextprotocol/protocolVersion");
        let seen = rig.seen();
        assert!(
            seen.iter().filter(|line| line.contains("tools/call")).all(|line| marked(line) == first_modern)
        );
        assert_eq!(
            seen.iter().filter(|line| line.contains("\"initialize\"")).count(),
            usize::from(!first_modern)
        );
    }
}

#[test]
fn a_listen_does_not_keep_a_modern_child_from_answering() {
    let rig = Rig::new("modern", &[]);
    let listen = rig.start(&modern("\"sub\"", "subscriptions/listen", ""), r#","response_timeout":"60s""#);
    eventually("the notification is posted", || !rig.plane.posts_of(&listen).is_empty());
    let call = rig.start(&modern_tool("1", "echo"), "");
    result(&rig.plane.wait_terminal(&call));
    assert_eq!(rig.plane.posts_of(&call).len(), 1);
    assert!(rig.plane.posts_of(&listen)[0].payload().contains("list_changed"));
}

#[test]
fn a_modern_child_is_told_of_a_deadline() {
    let rig = Rig::new("modern", &[]);
    result(&rig.send(&discover("0")));
    rig.start(&modern_tool("\"late\"", "stall"), r#","response_timeout":"1s""#);
    eventually("the child is told", || rig.methods().contains(&"1 notifications/cancelled".to_owned()));
    assert!(rig.seen().last().unwrap().contains(r#""requestId":"late","reason":"tunnel deadline reached""#));
    result(&rig.send(&modern_tool("2", "echo")));
}

#[test]
fn lifecycle_care_works_the_same_without_the_bridge() {
    for arguments in [&[][..], &["--mcp.protocol-bridge", "OFF"]] {
        let rig = Rig::new("strict", arguments);
        result(&rig.send(&tool("1", "echo")));
        assert_eq!(rig.methods(), ["1 initialize", "1 notifications/initialized", "1 tools/call"]);
        let rig = Rig::new("once", arguments);
        let answers = ["1", "0", "\"a\""].map(|id| result(&rig.send(&initialize(id))));
        assert!(answers.windows(2).all(|pair| pair[0] == pair[1]));
        assert_eq!(rig.methods(), ["1 initialize"]);
        let before = rig.send(&tool("1", "noise"));
        result(&before);
        assert_eq!(rig.send(&tool("2", "crash")).code(), 502);
        rig.client.wait_ready();
        result(&rig.send(&tool("3", "echo")));
        let replayed: Vec<String> = rig.seen().into_iter().filter(|line| line.starts_with("2 ")).collect();
        assert!(
            replayed[0].ends_with(&format!(r#""method":"initialize","params":{CODEX}}}"#)),
            "{replayed:?}"
        );
    }
}

#[test]
fn operators_see_the_eras_in_the_log_and_the_metrics() {
    let rig = Rig::new("legacy", &[]);
    result(&rig.send(&discover("1")));
    result(&rig.send(&modern_tool("2", "echo")));
    rig.client.wait_output("protocol bridge active");
    let output = rig.client.output();
    let line = |message: &str| -> Value {
        let mut lines = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.find(|line| line["msg"] == message).unwrap_or_else(|| panic!("{message}: {output}"))
    };
    let era = line("mcp server era determined");
    assert_eq!(
        (&era["era"], &era["evidence"], &era["channel"]),
        (&json!("legacy"), &json!("initialize_result"), &json!("main"))
    );
    let bridge = line("protocol bridge active");
    assert_eq!((&bridge["connector_era"], &bridge["server_era"]), (&json!("modern"), &json!("legacy")));
    assert_eq!(line("stdio MCP child initialized")["trigger"], "bridge");
    let metrics = crate::common::http::get(&format!("{}/metrics", rig.client.health_url())).unwrap().text();
    for (name, labels, value) in [
        ("mcp_server_era", &["era=\"legacy\""][..], "1"),
        ("mcp_server_era", &["era=\"modern\""], "0"),
        ("mcp_era_probes_total", &["method=\"server_discover\"", "result=\"unsupported\""], "1"),
        ("mcp_handshakes_total", &["trigger=\"bridge\"", "result=\"ok\""], "1"),
        ("mcp_bridge_messages_total", &["direction=\"modern_to_legacy\"", "outcome=\"mapped\""], "1"),
        ("mcp_bridge_messages_total", &["direction=\"modern_to_legacy\"", "outcome=\"local\""], "1"),
    ] {
        assert!(
            metrics.lines().any(|line| line.starts_with(name)
                && labels.iter().all(|label| line.contains(label))
                && line.contains("channel=\"main\"")
                && line.ends_with(&format!(" {value}"))),
            "{name} {labels:?}: {metrics}"
        );
    }
}

#[test]
fn a_subscription_ends_gracefully_with_its_connection_and_few_are_open_at_once() {
    let rig = Rig::new("modern", &["--mcp.connection-max-ttl", "1s", "--mcp.max-concurrent-requests", "4"]);
    result(&rig.send(&discover("0")));
    let first = rig.start(&modern("\"sub\"", "subscriptions/listen", ""), "");
    eventually("the notification is posted", || !rig.plane.posts_of(&first).is_empty());
    assert!(
        rig.send(&modern("2", "subscriptions/listen", "")).payload().contains("Subscription limit reached")
    );
    let end = rig.plane.wait_terminal(&first);
    assert_eq!(
        end.payload(),
        r#"{"jsonrpc":"2.0","id":"sub","result":{"resultType":"complete","_meta":{"io.modelcontextprotocol/subscriptionId":"sub"}}}"#
    );
    eventually("the server is told", || rig.methods().contains(&"1 notifications/cancelled".to_owned()));
}

#[test]
fn a_flag_of_other_clients_is_accepted_and_said_to_be_ignored() {
    let rig = Rig::new("legacy", &["--mcp.stdio-send-initialized-notification"]);
    rig.client.wait_output("--mcp.stdio-send-initialized-notification is accepted and ignored");
    let output = rig.client.output();
    let said: Vec<&str> = output.lines().filter(|line| line.contains("accepted and ignored")).collect();
    assert!(said.len() == 1 && said[0].to_lowercase().contains("\"level\":\"info\""), "{said:?}");
}
