//! Decoding: which commands are executed, which are refused, and what neither may cost.

use serde_json::{Value, json as value};

use crate::common::control_plane::{ControlPlane, Seen, call, command, message};
use crate::common::http::reply;
use crate::common::mcp_server::{McpServer, Next};
use crate::rig::{Rig, calls, metric, rig, rig_of, wait_events, wait_metric};

const OK: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{}}}"#;

fn kind(seen: &Seen) -> (String, u64) {
    let body = seen.json();
    (body["resp_type"].as_str().unwrap().to_owned(), body["resp_code"].as_u64().unwrap())
}

/// Waits until a command sent after everything else was answered.
fn settle(rig: &Rig) {
    rig.plane.send(&[call("settled", "echo", "")]);
    rig.plane.wait_answers(&["settled"]);
}

#[test]
fn one_bad_command_leaves_the_others_alone_and_is_refused_if_it_can_be_addressed() {
    let rig = rig(&[]);
    let refused = [
        (command("no-type", r#""channel":"main""#), "jsonrpc_response", 501),
        (command("null-type", r#""command_type":null"#), "jsonrpc_response", 501),
        (message("no-such-type", OK, r#","command_type":"teleport""#), "jsonrpc_response", 501),
        (call("channel", "echo", r#","channel":"bad channel""#), "jsonrpc_response", 400),
        (call("channel-type", "echo", r#","channel":7"#), "jsonrpc_response", 400),
        (call("headers", "echo", r#","headers":{"X-A":"bare"}"#), "jsonrpc_response", 400),
        (call("header-number", "echo", r#","headers":{"X-A":[1]}"#), "jsonrpc_response", 400),
        (call("header-bool", "echo", r#","headers":{"X-A":[true]}"#), "jsonrpc_response", 400),
        (call("header-list", "echo", r#","headers":[]"#), "jsonrpc_response", 400),
        (command("no-payload", r#""command_type":"jsonrpc""#), "jsonrpc_response", 400),
        (message("null", "null", ""), "jsonrpc_response", 400),
        (message("batch", &format!("[{OK}]"), ""), "jsonrpc_response", 400),
        (message("scalar", "5", ""), "jsonrpc_response", 400),
        (message("version", &OK.replace("2.0", "1.0"), ""), "jsonrpc_response", 400),
        (message("no-version", r#"{"id":1,"method":"m"}"#, ""), "jsonrpc_response", 400),
        (message("method-type", r#"{"jsonrpc":"2.0","id":1,"method":5}"#, ""), "jsonrpc_response", 400),
        (message("no-method", r#"{"jsonrpc":"2.0"}"#, ""), "jsonrpc_response", 400),
        (message("empty-method", r#"{"jsonrpc":"2.0","method":""}"#, ""), "jsonrpc_response", 400),
        (message("response", r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, ""), "jsonrpc_response", 400),
        (
            message("error", r#"{"jsonrpc":"2.0","id":1,"method":"m","error":"x"}"#, ""),
            "jsonrpc_response",
            400,
        ),
        (message("id-true", &OK.replace(":1,", ":true,"), ""), "jsonrpc_response", 400),
        (message("id-object", &OK.replace(":1,", ":{},"), ""), "jsonrpc_response", 400),
        (message("id-array", &OK.replace(":1,", ":[],"), ""), "jsonrpc_response", 400),
        (command("session", r#""command_type":"session_termination""#), "session_termination_response", 400),
        (
            command(
                "empty-session",
                r#""command_type":"session_termination","headers":{"Mcp-Session-Id":["","x"]}"#,
            ),
            "session_termination_response",
            400,
        ),
        (
            command("oauth-headers", r#""command_type":"oauth_discovery","headers":{"A":"b"}"#),
            "oauth_discovery_response",
            400,
        ),
    ];
    let unaddressable = [
        format!(r#"{{"request_id":"","shard_token":"s","command_type":"jsonrpc","jsonrpc":{OK}}}"#),
        format!(r#"{{"request_id":5,"shard_token":"s","command_type":"jsonrpc","jsonrpc":{OK}}}"#),
        format!(r#"{{"shard_token":"s","command_type":"jsonrpc","jsonrpc":{OK}}}"#),
        format!(r#"{{"request_id":"no-token","command_type":"jsonrpc","jsonrpc":{OK}}}"#),
        format!(
            r#"{{"request_id":"bad-token","shard_token":"a\nb","command_type":"jsonrpc","jsonrpc":{OK}}}"#
        ),
        "5".to_owned(),
        "\"text\"".to_owned(),
        "[]".to_owned(),
        "true".to_owned(),
        "null".to_owned(),
    ];
    let mut all: Vec<String> = refused.iter().map(|(command, ..)| command.clone()).collect();
    all.extend(unaddressable.iter().cloned());
    all.insert(13, call("valid", "only", ""));
    rig.plane.send(&all);
    settle(&rig);
    // The last of the refused may still be on their way.
    let responses = rig.plane.wait_responses(refused.len() + 2);
    assert_eq!(responses.len(), refused.len() + 2, "one answer each, none for what cannot be addressed");
    for (command, resp_type, code) in &refused {
        let id = serde_json::from_str::<Value>(command).unwrap()["request_id"].as_str().unwrap().to_owned();
        let answers = rig.plane.responses_to(&id);
        assert_eq!(answers.len(), 1, "{id}");
        assert_eq!(kind(&answers[0]), ((*resp_type).to_owned(), *code), "{id}");
        assert_eq!(answers[0].header("X-Tunnel-Shard-Token"), Some(format!("shard-{id}").as_str()));
        let body = answers[0].json();
        assert_eq!(body["channel"], "main");
        if *resp_type == "jsonrpc_response" {
            assert!(body["resp_json"]["error"]["code"].is_i64(), "{body}");
        }
    }
    assert_eq!((rig.calls("only"), rig.calls("echo")), (1, 1), "only valid commands reach the MCP server");
    let salvaged = rig.plane.responses_to("version")[0].json();
    assert_eq!(salvaged["resp_json"]["id"], 1, "the caller's id is kept where there is one: {salvaged}");
    wait_metric(&rig.client, "commands_polled_total", &[], 2.0);
    assert_eq!(metric(&rig.client, "commands_enqueued_total", &[]), Some(2.0));
    assert_eq!(metric(&rig.client, "commands_queue_drops_total", &[]), None);
    let refusals = metric_sum(&rig, "controlplane_commands_refused_total");
    assert_eq!(refusals, (refused.len() + unaddressable.len()) as f64);
    let warned =
        wait_events(&rig.client, "command cannot be executed; answering with an error", refused.len());
    let teleport = warned.iter().find(|event| event["request_id"] == "no-such-type").unwrap();
    assert_eq!((&teleport["level"], &teleport["command_type"]), (&"WARN".into(), &"teleport".into()));
    let dropped =
        wait_events(&rig.client, "command dropped: it cannot even be answered", unaddressable.len());
    assert!(dropped.iter().any(|event| event["request_id"] == "no-token"), "{dropped:?}");
}

fn metric_sum(rig: &Rig, name: &str) -> f64 {
    let text = crate::common::http::get(&format!("{}/metrics", rig.client.health_url())).unwrap().text();
    let lines = text.lines().filter(|line| line.starts_with(name));
    lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

#[test]
fn optional_and_unknown_members_never_cost_a_command() {
    let rig = rig(&[]);
    let members = [
        r#","unknown":{"a":[1]},"other":5,"more":null,"x":"y""#,
        r#","created_at":"yesterday""#,
        r#","created_at":5"#,
        r#","created_at":null"#,
        r#","created_at":"2026-03-01T09:30:00.250Z""#,
        r#","created_at":"2026-03-01T09:30:00+05:30""#,
        r#","headers":null"#,
        r#","headers":{}"#,
        r#","headers":{"X-A":null}"#,
        r#","headers":{"X-A":[null,"b"]}"#,
        r#","channel":null"#,
        r#","channel":"""#,
        r#","channel":" ""#,
        r#","channel":" MAIN ""#,
        r#","channel":"main""#,
    ];
    let ids: Vec<String> = (0..members.len()).map(|n| format!("r-{n}")).collect();
    let commands: Vec<String> = ids.iter().zip(members).map(|(id, more)| call(id, "echo", more)).collect();
    rig.plane.send(&commands);
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    for answer in rig.plane.wait_answers(&ids) {
        assert_eq!(kind(&answer), ("jsonrpc_response".to_owned(), 200), "{}", answer.text());
        assert_eq!(answer.json()["channel"], "main");
    }
    assert_eq!(rig.calls("echo"), members.len());
    // Three of the timestamps can be read; all lie in the past.
    wait_metric(&rig.client, "commands_age_seconds_count", &[], 2.0);
}

#[test]
fn the_last_of_duplicate_members_counts() {
    let rig = rig(&[]);
    rig.plane.send(&[call("first", "echo", r#","channel":"nowhere","request_id":"last","channel":"main""#)]);
    let answer = rig.plane.wait_answers(&["last"]).remove(0);
    assert_eq!(answer.json()["resp_code"], 200, "{}", answer.text());
    assert_eq!(rig.plane.responses().len(), 1);
}

#[test]
fn a_message_passes_through_byte_for_byte_both_ways() {
    let mcp = McpServer::scripted(|request, stream| {
        let text = request.text();
        let id = text.split_once(r#""id": "#).map(|(_, rest)| rest.split(',').next().unwrap().to_owned());
        let id = id.unwrap_or_else(|| "null".to_owned());
        let body = format!(
            r#"{{ "result" : {{"n":1.10,"big":12345678901234567890,"u":"\u00e9é","z":0,"a":1}}, "id": {id},"jsonrpc":"2.0" }}"#
        );
        let json = [("Content-Type", "application/json")];
        let _ = std::io::Write::write_all(stream, &reply(200, &json, &body));
        Next::KeepAlive
    });
    let rig = rig_of(ControlPlane::start(), mcp, &[]);
    for (n, id) in
        ["9007199254740993", "1.5", "\"\"", "\"a\\u0000b\"", "-0", "1e40", "\"7\""].iter().enumerate()
    {
        let sent = format!(
            r#"{{"params" : {{"n":1.10,"u":"\u00e9"}}, "method":"custom/{n}","id": {id},"extra":[1 , 2],"jsonrpc":"2.0"}}"#
        );
        let request_id = format!("r-{n}");
        rig.plane.send(&[message(&request_id, &sent, "")]);
        let answer = rig.plane.wait_answers(&[&request_id]).remove(0);
        let seen = rig.mcp.seen();
        assert!(seen.iter().any(|request| request.text() == sent), "{sent}: {}", answer.text());
        let payload = format!(
            r#"{{ "result" : {{"n":1.10,"big":12345678901234567890,"u":"\u00e9é","z":0,"a":1}}, "id": {id},"jsonrpc":"2.0" }}"#
        );
        assert!(answer.text().contains(&format!(r#""resp_json":{payload}"#)), "{}", answer.text());
    }
}

#[test]
fn the_session_is_recognised_in_any_spelling_of_its_header() {
    let rig = rig(&[]);
    for (n, name) in ["mcp-session-id", "MCP-SESSION-ID", "Mcp-Session-Id"].iter().enumerate() {
        let id = format!("r-{n}");
        rig.plane.send(&[call(&id, "echo", &format!(r#","headers":{{"{name}":["s-{n}","other"]}}"#))]);
        rig.plane.wait_answers(&[&id]);
        let seen = rig.mcp.seen();
        let got = seen.iter().find(|request| request.text().contains(&format!("id-{id}"))).unwrap();
        assert_eq!(got.header("Mcp-Session-Id"), Some(format!("s-{n}").as_str()));
    }
    let terminate =
        command("end", r#""command_type":"session_termination","headers":{"mcp-SESSION-id":["s-1"]}"#);
    rig.plane.send(&[terminate]);
    let answer = rig.plane.wait_answers(&["end"]).remove(0);
    assert_eq!(kind(&answer), ("session_termination_response".to_owned(), 204));
    let seen = rig.mcp.seen();
    let deleted: Vec<_> =
        seen.iter().filter(|r| r.method == "DELETE" && r.header("Mcp-Session-Id") == Some("s-1")).collect();
    assert_eq!(deleted.len(), 1);
}

#[test]
fn only_the_command_type_decides_what_is_done() {
    let rig = rig(&[]);
    let with_payload = format!(
        r#""command_type":"session_termination","headers":{{"Mcp-Session-Id":["s"]}},"jsonrpc":{OK}"#
    );
    rig.plane.send(&[command("ends", &with_payload)]);
    let answer = rig.plane.wait_answers(&["ends"]).remove(0);
    assert_eq!(answer.json()["resp_type"], "session_termination_response");
    assert_eq!(calls(&rig.mcp, "echo"), 0);
}

#[test]
fn a_channel_without_a_server_is_refused_by_the_type_of_its_command() {
    let rig = rig(&[]);
    let nowhere = r#","channel":"Nowhere""#;
    let notification = r#"{"jsonrpc":"2.0","method":"notifications/cancelled"}"#;
    rig.plane.send(&[
        call("call", "echo", nowhere),
        message("notification", notification, nowhere),
        command(
            "session",
            r#""command_type":"session_termination","channel":"nowhere","headers":{"Mcp-Session-Id":["s"]}"#,
        ),
        command("oauth", r#""command_type":"oauth_discovery","channel":"nowhere""#),
    ]);
    for (id, expected) in [
        ("call", "jsonrpc_response"),
        ("notification", "notify_ack"),
        ("session", "session_termination_response"),
        ("oauth", "oauth_discovery_response"),
    ] {
        let answer = rig.plane.wait_answers(&[id]).remove(0);
        assert_eq!(kind(&answer), (expected.to_owned(), 400), "{}", answer.text());
        assert_eq!(answer.json()["channel"], "nowhere");
    }
    let call = rig.plane.responses_to("call").remove(0).json();
    assert_eq!(call["resp_json"]["id"], value!("id-call"));
    assert_eq!(rig.calls("echo"), 0);
}
