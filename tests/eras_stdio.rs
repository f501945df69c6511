//! Connectors and stdio servers of different protocol eras, through a real client.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "test code")]

mod common;

use std::path::PathBuf;

use common::eventually;
use common::process::{Client, client_binary};
use common::scripted_plane::{Post, ScriptedPlane, jsonrpc};
use serde_json::{Value, json};

const META: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"chat","version":"7"},"io.modelcontextprotocol/clientCapabilities":{"extensions":{"a/b":{}}}}"#;
const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
const CODEX: &str =
    r#"{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"codex","version":"1.0.0"}}"#;

/// A client before a server of these manners, and what the server has read.
struct Rig {
    plane: ScriptedPlane,
    client: Client,
    record: PathBuf,
    _directory: tempfile::TempDir,
    next: std::cell::Cell<usize>,
}

impl Rig {
    fn new(manners: &str, arguments: &[&str]) -> Rig {
        let directory = tempfile::tempdir().unwrap();
        let record = directory.path().join("record");
        let server = PathBuf::from(client_binary()).with_file_name("examples").join("era_server");
        let command = format!("{} {manners} {}", server.display(), record.display());
        let plane = ScriptedPlane::start();
        let all =
            [&["--mcp.command", command.as_str(), "--log.level", "debug", "--log.format", "json"], arguments]
                .concat();
        let client = Client::start(&plane.base_url(), &all);
        Rig { plane, client, record, _directory: directory, next: std::cell::Cell::new(0) }
    }

    fn start(&self, payload: &str, more: &str) -> String {
        let name = format!("r{}", self.next.replace(self.next.get() + 1));
        self.plane.send(&[jsonrpc(&name, payload, more)]);
        name
    }

    fn send(&self, payload: &str) -> Post {
        self.send_with(payload, "")
    }

    fn send_with(&self, payload: &str, more: &str) -> Post {
        self.plane.wait_terminal(&self.start(payload, more))
    }

    /// What the server has read, the number of its process first; its starts left out.
    fn seen(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.record).unwrap_or_default();
        text.lines().filter(|line| !line.ends_with(" start")).map(str::to_owned).collect()
    }

    /// The methods of that.
    fn methods(&self) -> Vec<String> {
        self.seen()
            .iter()
            .map(|line| {
                let (number, json) = line.split_once(' ').unwrap();
                let message: Value = serde_json::from_str(json).unwrap();
                format!("{number} {}", message["method"].as_str().unwrap_or("-"))
            })
            .collect()
    }
}

fn call(id: &str, method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{{params}}}}}"#)
}

fn modern(id: &str, method: &str, params: &str) -> String {
    let comma = if params.is_empty() { "" } else { "," };
    call(id, method, &format!("{params}{comma}{META}"))
}

fn tool(id: &str, name: &str) -> String {
    call(id, "tools/call", &format!(r#""name":"{name}","arguments":{{"n":1.10}}"#))
}

fn modern_tool(id: &str, name: &str) -> String {
    modern(id, "tools/call", &format!(r#""name":"{name}","arguments":{{"n":1.10}}"#))
}

fn initialize(id: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"initialize","params":{CODEX}}}"#)
}

fn discover(id: &str) -> String {
    modern(id, "server/discover", "")
}

fn result(post: &Post) -> Value {
    assert_eq!(post.code(), 200, "{}", post.payload());
    let result = post.json["resp_json"]["result"].clone();
    assert!(result.is_object(), "{}", post.payload());
    result
}

fn error(post: &Post) -> (u64, i64) {
    (post.code(), post.json["resp_json"]["error"]["code"].as_i64().unwrap())
}

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
fn a_server_that_dies_of_a_discovery_is_started_again_and_never_asked_again() {
    let rig = Rig::new("dies", &[]);
    assert_eq!(result(&rig.send(&discover("1")))["supportedVersions"], json!(["2026-07-28"]));
    let expected = ["1 server/discover", "2 initialize", "2 notifications/initialized"];
    eventually("the second process is initialised", || rig.methods() == expected);
    assert_eq!(rig.send(&modern_tool("2", "crash")).code(), 502);
    rig.client.wait_ready();
    result(&rig.send(&discover("3")));
    assert_eq!(rig.methods().iter().filter(|line| line.contains("discover")).count(), 1);
    let metrics = common::http::get(&format!("{}/metrics", rig.client.health_url())).unwrap().text();
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
    let rig = Rig::new("slow-2500", &["--mcp.protocol-probe-timeout", "1s"]);
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
    let metrics = common::http::get(&format!("{}/metrics", rig.client.health_url())).unwrap().text();
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
