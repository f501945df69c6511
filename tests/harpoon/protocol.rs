//! The server as an MCP server.

use serde_json::{Value, json};

use super::rig::{Site, base, echo, failure_of};
use crate::common::control_plane;

#[test]
fn a_session_shows_the_server_and_exactly_its_three_tools() {
    let server = echo();
    let site = Site::bare(&[
        "--harpoon.allow-plaintext-http",
        "--harpoon.target",
        &format!("label=abc,url={},desc=A target", base(&server)),
        "--harpoon.max-response-bytes",
        "1000",
        "--harpoon.max-redirects",
        "2",
    ]);
    let early = site.rpc("tools/list", json!({}));
    assert_eq!(early["error"]["message"], "method \"tools/list\" is invalid during session initialization");
    assert_eq!(early["error"]["code"], -32603);
    assert_eq!(site.rpc("ping", json!({}))["result"], json!({}));

    for (asked, answered) in [
        ("2025-11-25", "2025-11-25"),
        ("2025-06-18", "2025-06-18"),
        ("2025-03-26", "2025-03-26"),
        ("2024-11-05", "2024-11-05"),
        ("1999-01-01", "2025-06-18"),
    ] {
        let result = site.rpc("initialize", json!({"protocolVersion": asked}))["result"].clone();
        assert_eq!(result["protocolVersion"], answered);
        assert_eq!(result["capabilities"], json!({"tools": {}}));
        let version = env!("CARGO_PKG_VERSION");
        let info =
            json!({"name": "harpoon", "title": "Harpoon (Constrained HTTP Client)", "version": version});
        assert_eq!(result["serverInfo"], info);
        let instructions = result["instructions"].as_str().unwrap();
        for words in
            ["onstrained outbound HTTP client", "allowlisted targets", "cannot reach arbitrary hosts"]
        {
            assert!(instructions.contains(words), "{instructions}");
        }
    }

    let tools = site.rpc("tools/list", json!({}))["result"]["tools"].clone();
    let names: Vec<_> = tools.as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["call_target", "get_oauth_target_audience", "list_targets"]);
    let label =
        json!({"type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[a-z0-9][a-z0-9_-]{0,63}$"});
    let names = json!({"type": "string", "pattern": "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"});
    assert_eq!(tools[0]["title"], "Call Harpoon target");
    assert_eq!(tools[0]["annotations"], json!({"openWorldHint": true}));
    assert_eq!(
        tools[0]["inputSchema"],
        json!({"type": "object", "title": "Call Harpoon target", "additionalProperties": false,
            "required": ["label", "method"], "properties": {
                "label": label,
                "method": {"type": "string", "enum": ["GET", "POST", "PUT"]},
                "headers": {"type": "object", "additionalProperties": {"type": "string"}, "default": {},
                    "propertyNames": names},
                "body": {"type": "string"},
                "timeout_ms": {"type": "integer", "minimum": 100, "maximum": 120_000, "default": 30_000},
                "max_response_bytes": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 1000},
                "follow_redirects": {"type": "boolean", "default": true},
                "max_redirects": {"type": "integer", "minimum": 0, "maximum": 2, "default": 2}}})
    );
    assert_eq!(
        tools[0]["outputSchema"],
        json!({"type": "object", "title": "Harpoon call result", "additionalProperties": false,
            "required": ["status_code", "body_size_bytes"], "properties": {
                "status_code": {"type": "integer", "minimum": 100, "maximum": 599},
                "headers": {"type": "object", "additionalProperties": {"type": "array", "items": {"type": "string"}},
                    "propertyNames": names},
                "body_base64": {"type": "string", "contentEncoding": "base64"},
                "body_size_bytes": {"type": "integer", "minimum": 0, "maximum": 1000},
                "truncated": {"type": "boolean"}}})
    );
    let read_only = json!({"readOnlyHint": true, "idempotentHint": true, "openWorldHint": false});
    for (tool, title) in [(&tools[1], "Get OAuth target audience"), (&tools[2], "List Harpoon targets")] {
        assert_eq!((&tool["title"], &tool["annotations"]), (&json!(title), &read_only));
        assert_eq!(tool["inputSchema"]["title"], title);
    }
    assert_eq!(tools[1]["inputSchema"]["properties"], json!({"label": label}));
    assert_eq!(tools[1]["outputSchema"]["title"], "OAuth target audience");
    assert_eq!(
        tools[1]["outputSchema"]["properties"],
        json!({"audience": {"type": "string", "format": "uri"}})
    );
    let strings = json!({"type": "array", "items": {"type": "string"}});
    assert_eq!(
        tools[2]["inputSchema"]["properties"],
        json!({"categories": strings, "sources": strings, "tags": strings})
    );
    assert_eq!(
        tools[2]["outputSchema"]["properties"]["targets"]["items"]["properties"],
        json!({"label": label, "description": {"type": "string"}, "category": {"type": "string"},
            "source": {"type": "string"}, "tags": strings,
            "allowed_methods": {"type": "array", "items": {"type": "string", "enum": ["GET", "POST", "PUT"]}}})
    );

    let listed = site.tool("list_targets", json!({}))["result"].clone();
    let expected = json!({"targets": [{"label": "abc", "description": "A target", "category": "config",
        "source": "config", "allowed_methods": ["GET", "POST", "PUT"]}]});
    assert_eq!(listed["structuredContent"], expected);
    let text = listed["content"][0]["text"].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Value>(text).unwrap(), expected);
    assert!(!listed.to_string().contains("127.0.0.1"), "no URL is shown: {listed}");
    assert!(site.events("harpoon enabled").len() == 1);
}

#[test]
fn what_is_no_request_of_this_protocol_is_refused_with_its_code() {
    let server = echo();
    let site = Site::start(&[("abc", &base(&server))], &[]);
    let error = |answer: Value| {
        let error = &answer["error"];
        (error["code"].as_i64().unwrap(), error["message"].as_str().unwrap().to_owned())
    };
    assert_eq!(
        error(site.rpc("no/such", json!({}))),
        (-32601, "JSON RPC not handled: \"no/such\" unsupported".to_owned())
    );
    assert_eq!(error(site.tool("no_such", json!({}))), (-32602, "unknown tool \"no_such\"".to_owned()));
    let (code, text) = error(site.rpc("tools/call", Value::Null));
    assert!(code == -32600 && text.starts_with("invalid request"), "{code} {text}");
    for arguments in [
        json!({"label": "abc", "method": "DELETE"}),
        json!({"label": "abc", "method": "get"}),
        json!({"label": "abc", "method": "GET", "timeout_ms": 50}),
        json!({"label": "abc", "method": "GET", "url": "http://127.0.0.1/"}),
        json!({"label": "abc"}),
        json!({}),
    ] {
        let (code, text) = error(site.tool("call_target", arguments.clone()));
        assert_eq!(code, -32602, "{arguments}");
        assert!(text.starts_with("invalid params: validating \"arguments\": "), "{text}");
    }
    assert!(server.seen().is_empty());
    assert!(!site.metrics().contains("harpoon_call_total"), "nothing of that counts as a call");
    for (method, result) in [
        ("prompts/list", json!({"prompts": []})),
        ("resources/list", json!({"resources": []})),
        ("resources/templates/list", json!({"resourceTemplates": []})),
        ("logging/setLevel", json!({})),
    ] {
        assert_eq!(site.rpc(method, json!({"level": "info"}))["result"], result);
    }
}

#[test]
fn both_eras_are_spoken() {
    let server = echo();
    let url = format!("label=abc,url={}/x", base(&server));
    let site = Site::bare(&["--harpoon.allow-plaintext-http", "--harpoon.target", &url]);
    let discovered = site.rpc("server/discover", json!({}))["result"].clone();
    assert_eq!(discovered["supportedVersions"], json!(["2026-07-28"]));
    assert_eq!(discovered["resultType"], "complete");
    assert_eq!(discovered["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "harpoon");
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {}});
    let called = site.rpc(
        "tools/call",
        json!({"name": "call_target", "arguments": {"label": "abc", "method": "GET"}, "_meta": meta}),
    );
    assert_eq!(called["result"]["structuredContent"]["status_code"], 200, "no handshake is needed");
    assert_eq!(called["result"]["resultType"], "complete");
    let listed = site.rpc("tools/list", json!({"_meta": meta}))["result"].clone();
    assert_eq!((&listed["ttlMs"], listed["tools"].as_array().unwrap().len()), (&json!(0), 3));
    assert_eq!(site.rpc("ping", json!({"_meta": meta}))["error"]["code"], -32601);
    let late = json!({"_meta": {"io.modelcontextprotocol/protocolVersion": "2027-01-15"}});
    assert_eq!(site.rpc("tools/list", late)["error"]["code"], -32022);
    let legacy = site.rpc("tools/list", json!({}));
    assert!(legacy["error"]["message"].as_str().unwrap().contains("invalid during session"));
}

#[test]
fn without_a_target_the_channel_is_unsupported_and_with_one_it_has_no_sessions_to_end() {
    let mcp = crate::common::mcp_server::McpServer::by_tool_name();
    let plane = control_plane::ControlPlane::start();
    let client = crate::common::process::Client::start(&plane.base_url(), &["--mcp.server-url", &mcp.url()]);
    let on_harpoon = r#","channel":" HARPOON ""#;
    let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    plane.send(&[
        control_plane::message("a", list, on_harpoon),
        control_plane::command("b", r#""command_type":"oauth_discovery","channel":"harpoon""#),
    ]);
    let answers = plane.wait_answers(&["a", "b"]);
    let (call, discovery) = (answers[0].json(), answers[1].json());
    assert_eq!((&call["resp_code"], &call["channel"]), (&json!(400), &json!("harpoon")));
    assert_eq!(call["resp_json"]["error"]["message"], "Bad Request: unsupported channel \"harpoon\"");
    assert_eq!(discovery["resp_json"]["error"]["code"], "unsupported_channel");
    assert!(mcp.seen_of_commands().is_empty(), "never to another server");
    let info = plane.wait_polls(1)[0].header("X-Tunnel-MCP-Server-Info").unwrap().to_owned();
    assert_eq!(info, r#"{"version":1,"channels":[{"name":"main"}]}"#);
    drop(client);

    let server = echo();
    let site = Site::start(&[("abc", &base(&server))], &[]);
    let info = site.plane.wait_polls(1)[0].header("X-Tunnel-MCP-Server-Info").unwrap().to_owned();
    assert_eq!(info, r#"{"version":1,"channels":[{"name":"harpoon","proc_affinity":true}]}"#);
    let notification = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    site.plane.send(&[
        control_plane::message("n", notification, on_harpoon),
        control_plane::command(
            "t",
            r#""command_type":"session_termination","channel":"harpoon","headers":{"Mcp-Session-Id":["s"]}"#,
        ),
        control_plane::command("d", r#""command_type":"oauth_discovery","channel":"harpoon""#),
    ]);
    let codes: Vec<_> = site
        .plane
        .wait_answers(&["n", "t", "d"])
        .iter()
        .map(|seen| seen.json()["resp_code"].clone())
        .collect();
    assert_eq!(codes, [200, 405, 400]);
}

#[test]
fn filters_and_audiences_are_narrow() {
    let server = echo();
    let site = Site::start(&[("a", &base(&server)), ("b", &format!("{}/b", base(&server)))], &[]);
    let labels = |filter: Value| -> Vec<String> {
        let answer = site.tool("list_targets", filter);
        let targets = answer["result"]["structuredContent"]["targets"].as_array().unwrap().clone();
        targets.iter().map(|target| target["label"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(labels(json!({})), ["a", "b"]);
    assert_eq!(labels(json!({"categories": [" CONFIG "], "tags": [""]})), ["a", "b"]);
    assert!(labels(json!({"sources": ["oauth"]})).is_empty());
    assert!(labels(json!({"tags": ["x"]})).is_empty());
    let audience = |label: &str| failure_of(&site.tool("get_oauth_target_audience", json!({"label": label})));
    assert_eq!(audience("nope"), "label nope: unknown target");
    assert_eq!(audience("a"), "label a: target is not an OAuth token endpoint");
}
