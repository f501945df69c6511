//! What is posted, and how its delivery ends.

use std::io::Write;
use std::time::Duration;

use crate::common::control_plane::{
    Answer, ControlPlane, Seen, call, command, error, error_with, json, message,
};
use crate::common::http::{Request, reply};
use crate::common::mcp_server::{McpServer, Next, by_tool_name};
use crate::common::{PATIENCE, eventually};
use crate::rig::{Rig, events, events_of, rig, rig_of, wait_events, wait_metric};

/// Answers every call with `headers` and this body; `{id}` in it is the call's id.
fn answering(status: u16, headers: &'static [(&'static str, &'static str)], body: &'static str) -> McpServer {
    McpServer::scripted(move |request, stream| {
        if !request.text().contains("tools/call") {
            return by_tool_name(request, stream);
        }
        let id = request.json()["id"].to_string();
        let _ = stream.write_all(&reply(status, headers, &body.replace("{id}", &id)));
        Next::KeepAlive
    })
}

fn types(responses: &[Seen]) -> Vec<String> {
    responses.iter().map(|seen| seen.json()["resp_type"].as_str().unwrap().to_owned()).collect()
}

fn is_notify(seen: &Seen) -> bool {
    seen.json()["resp_type"] == "jsonrpc_notify"
}

#[test]
fn a_response_has_exactly_the_members_of_the_wire_and_its_token_in_the_header_only() {
    let body = r#"{"jsonrpc":"2.0","id":{id},"result":{"tools":[]}}"#;
    let headers = &[("Content-Type", "application/json; charset=utf-8"), ("Mcp-Session-Id", "abc")];
    let rig = rig_of(ControlPlane::start(), answering(200, headers, body), &[]);
    rig.plane.send(&[
        call("with", "x", r#","headers":{"x-request-id":["conn-77","other"]}"#),
        call("without", "x", ""),
        call("empty", "x", r#","headers":{"X-Request-Id":[""]}"#),
    ]);
    let answers = rig.plane.wait_answers(&["with", "without", "empty"]);
    for (answer, id) in answers.iter().zip(["with", "without", "empty"]) {
        assert_eq!(
            answer.text(),
            format!(
                r#"{{"request_id":"{id}","channel":"main","resp_json":{{"jsonrpc":"2.0","id":"id-{id}","result":{{"tools":[]}}}},"resp_headers":{{"Content-Type":["application/json"],"Mcp-Session-Id":["abc"]}},"resp_code":200,"resp_type":"jsonrpc_response"}}"#
            )
        );
        assert_eq!(answer.header("X-Tunnel-Shard-Token"), Some(format!("shard-{id}").as_str()));
        assert_eq!(answer.header("X-Client-Request-Id"), Some("conn-77").filter(|_| id == "with"));
    }
}

#[test]
fn only_allow_listed_headers_travel_back() {
    let body = r#"{"jsonrpc":"2.0","id":{id},"result":{}}"#;
    let headers = &[
        ("Content-Type", "application/json"),
        ("Set-Cookie", "a=hidden"),
        ("X-Internal", "hidden"),
        ("Mcp-Session-Id", "hidden"),
        ("Connection", "keep-alive , \tmcp-session-id"),
        ("www-authenticate", "Bearer"),
        ("WWW-AUTHENTICATE", "Basic"),
        ("Last-Event-ID", "7"),
        ("mcp-protocol-version", "2025-06-18"),
        ("access-control-expose-headers", "Mcp-Session-Id"),
    ];
    let rig = rig_of(ControlPlane::start(), answering(200, headers, body), &[]);
    rig.plane.send(&[call("r", "x", "")]);
    let answer = rig.plane.wait_answers(&["r"]).remove(0);
    let got = answer.json()["resp_headers"].clone();
    assert_eq!(
        got,
        serde_json::json!({
            "Access-Control-Expose-Headers": ["Mcp-Session-Id"],
            "Content-Type": ["application/json"],
            "Last-Event-Id": ["7"],
            "Mcp-Protocol-Version": ["2025-06-18"],
            "Www-Authenticate": got["Www-Authenticate"],
        })
    );
    let mut schemes: Vec<_> =
        got["Www-Authenticate"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
    schemes.sort_unstable();
    assert_eq!(schemes, ["Basic", "Bearer"]);
    assert!(!answer.text().contains("hidden"));
}

#[test]
fn statuses_decide_how_often_a_response_is_posted() {
    let rig = rig(&["--mcp.max-concurrent-requests", "20"]);
    // What each attempt gets, how many there are, and the result.
    let cases: [(&str, &[u16], usize, &str); 16] = [
        ("second", &[502, 200], 2, "delivered"),
        ("third", &[502, 503, 200], 3, "delivered"),
        ("never", &[502, 502, 502, 502], 3, "exhausted"),
        ("busy", &[429, 408, 504, 200], 3, "exhausted"),
        ("bad", &[400], 1, "rejected"),
        ("key", &[401], 1, "rejected"),
        ("forbidden", &[403], 1, "rejected"),
        ("large", &[413], 1, "rejected"),
        ("accepted", &[202], 1, "rejected"),
        ("empty", &[204], 1, "rejected"),
        ("created", &[201], 1, "rejected"),
        ("fault", &[500, 500, 200], 2, "rejected"),
        ("blip", &[500, 200], 2, "delivered"),
        ("mixed", &[500, 502, 200], 3, "delivered"),
        ("gone", &[404], 1, "gone"),
        ("late-gone", &[502, 404], 2, "gone"),
    ];
    let posted = std::sync::Mutex::new(std::collections::HashMap::<String, usize>::new());
    rig.plane.on_response(move |seen| {
        let id = seen.request_id();
        let (_, statuses, ..) = cases.iter().find(|(name, ..)| *name == id).unwrap();
        let mut posted = posted.lock().unwrap();
        let count = posted.entry(id).or_default();
        *count += 1;
        match statuses[(*count - 1).min(statuses.len() - 1)] {
            204 => crate::common::control_plane::nothing(),
            status => error(status, r#"{"error":{"message":"m","code":"c"}}"#),
        }
    });
    rig.plane.send(&cases.map(|(id, ..)| call(id, "echo", "")));
    let count = |label: &str| cases.iter().filter(|case| case.3 == label).count() as f64;
    for label in ["delivered", "exhausted", "rejected", "gone"] {
        let labels = [r#"resp_type="jsonrpc_response""#, &format!(r#"result="{label}""#)];
        wait_metric(&rig.client, "controlplane_response_posts_total", &labels, count(label));
    }
    for (id, _, attempts, _) in cases {
        let posts = rig.plane.responses_to(id);
        assert_eq!(posts.len(), attempts, "{id}");
        for post in &posts {
            assert_eq!(post.body, posts[0].body, "{id}: every attempt sends the same bytes");
            assert_eq!(post.headers, posts[0].headers, "{id}: and the same headers");
        }
        let gaps = posts.windows(2).map(|pair| pair[1].at - pair[0].at);
        assert!(gaps.into_iter().all(|gap| gap >= Duration::from_millis(200)), "{id}");
    }
    assert_eq!(rig.calls("echo"), cases.len(), "no MCP call is repeated");
    let gone =
        wait_events(&rig.client, "response not needed any more: already fulfilled, expired or unknown", 2);
    assert!(gone.iter().all(|event| event["level"] == "WARN" && event["status_code"] == 404), "{gone:?}");
    for event in events(&rig.client) {
        let of_gone = matches!(event["request_id"].as_str(), Some("gone" | "late-gone"));
        assert!(!(of_gone && event["level"] == "ERROR"), "{event}");
    }
    let large = events(&rig.client)
        .into_iter()
        .find(|event| event["request_id"] == "large" && event["status_code"] == 413)
        .expect("the rejection is told");
    assert_eq!((&large["level"], &large["component"]), (&"ERROR".into(), &"controlplane".into()), "{large}");
    assert!(large["error"].as_str().unwrap().contains("unexpected status 413: c: m"), "{large}");
}

#[test]
fn retry_after_delays_the_next_attempt() {
    let rig = rig(&[]);
    let first = std::sync::atomic::AtomicBool::new(true);
    rig.plane.on_response(move |_| match first.swap(false, std::sync::atomic::Ordering::SeqCst) {
        true => error_with(429, &[("Retry-After", "1")], ""),
        false => json("{}"),
    });
    rig.plane.send(&[call("r", "echo", "")]);
    let posts = rig.plane.wait_responses(2);
    assert!(posts[1].at - posts[0].at >= Duration::from_secs(1));
}

#[test]
fn after_a_connection_closed_in_its_face_a_response_is_posted_again_and_a_notification_is_not() {
    let rig = rig(&[]);
    let (notified, answered) =
        (std::sync::atomic::AtomicUsize::new(0), std::sync::atomic::AtomicUsize::new(0));
    rig.plane.on_response(move |seen| {
        let counter = if is_notify(seen) { &notified } else { &answered };
        match counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            0 => Answer::Close,
            _ => json("{}"),
        }
    });
    rig.plane.send(&[call("r", "progress", "")]);
    rig.plane.wait_responses(3);
    wait_metric(
        &rig.client,
        "controlplane_response_posts_total",
        &[r#"resp_type="jsonrpc_response""#, r#"result="delivered""#],
        1.0,
    );
    assert_eq!(types(&rig.plane.responses()), ["jsonrpc_notify", "jsonrpc_response", "jsonrpc_response"]);
    assert_eq!(rig.calls("progress"), 1);
}

/// The types posted for a stream of three notifications and a result, when the first attempts of
/// notifications get these statuses.
fn stream_under(statuses: &'static [u16]) -> (Rig, Vec<String>) {
    let rig = rig(&[]);
    let count = std::sync::atomic::AtomicUsize::new(0);
    rig.plane.on_response(move |seen| {
        let status = match is_notify(seen) {
            true => statuses.get(count.fetch_add(1, std::sync::atomic::Ordering::SeqCst)).copied(),
            false => None,
        };
        status.map_or_else(|| json("{}"), |status| error(status, ""))
    });
    rig.plane.send(&[call("r", "progress", "")]);
    eventually("the terminal response", || rig.plane.responses().iter().any(|seen| !is_notify(seen)));
    let types = types(&rig.plane.responses());
    (rig, types)
}

#[test]
fn a_notification_is_posted_again_after_429_only_and_its_failure_ends_the_notifications_not_the_answer() {
    const NOTIFY: &str = "jsonrpc_notify";
    const ANSWER: &str = "jsonrpc_response";
    for (statuses, expected) in [
        (&[][..], &[NOTIFY, NOTIFY, NOTIFY, ANSWER][..]),
        (&[429], &[NOTIFY, NOTIFY, NOTIFY, NOTIFY, ANSWER]),
        (&[429, 429, 429], &[NOTIFY, NOTIFY, NOTIFY, ANSWER]),
        (&[503], &[NOTIFY, ANSWER]),
        (&[408], &[NOTIFY, ANSWER]),
        (&[500], &[NOTIFY, ANSWER]),
        (&[404], &[NOTIFY, NOTIFY, NOTIFY, ANSWER]),
        (&[200, 502], &[NOTIFY, NOTIFY, ANSWER]),
        (&[202], &[NOTIFY, ANSWER]),
    ] {
        let (_rig, types) = stream_under(statuses);
        assert_eq!(types, expected, "{statuses:?}");
    }
}

#[test]
fn notifications_are_posted_one_by_one_in_order_before_the_answer() {
    let rig = rig(&[]);
    // Slow enough that a second post beside it would be seen.
    let busy = std::sync::Mutex::new(());
    rig.plane.on_response(move |_| {
        let _alone = busy.try_lock().expect("one post of a command at a time");
        std::thread::sleep(Duration::from_millis(50));
        json("{}")
    });
    rig.plane.send(&[call("r", "progress", r#","channel":" Main ","headers":{"X-Request-Id":["conn"]}"#)]);
    let posts = rig.plane.wait_responses(4);
    assert_eq!(types(&posts), ["jsonrpc_notify", "jsonrpc_notify", "jsonrpc_notify", "jsonrpc_response"]);
    for (step, post) in posts.iter().enumerate() {
        let body = post.json();
        assert_eq!((&body["request_id"], &body["channel"]), (&"r".into(), &"main".into()));
        assert_eq!(post.header("X-Tunnel-Shard-Token"), Some("shard-r"));
        assert_eq!(post.header("X-Client-Request-Id"), Some("conn"));
        assert_eq!(body["resp_code"], 200);
        assert_eq!(body["resp_headers"]["Content-Type"][0], "text/event-stream");
        if step < 3 {
            assert_eq!(body["resp_json"]["params"]["progress"], step as u64 + 1);
        }
    }
}

#[test]
fn a_notification_is_acknowledged_without_a_payload() {
    let rig = rig(&[]);
    let notification = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    let null_id = r#"{"jsonrpc":"2.0","id":null,"method":"notifications/initialized"}"#;
    rig.plane.send(&[message("absent", notification, ""), message("null", null_id, "")]);
    for answer in rig.plane.wait_answers(&["absent", "null"]) {
        let body = answer.json();
        assert_eq!((&body["resp_type"], &body["resp_code"]), (&"notify_ack".into(), &202.into()), "{body}");
        assert!(body.get("resp_json").is_none());
    }
    assert_eq!(rig.plane.responses().len(), 2);
}

#[test]
fn the_end_of_a_session_is_answered_without_a_payload() {
    let end = command("end", r#""command_type":"session_termination","headers":{"Mcp-Session-Id":["abc"]}"#);
    let http = rig(&[]);
    http.plane.send(std::slice::from_ref(&end));
    let body = http.plane.wait_answers(&["end"]).remove(0).json();
    assert_eq!(
        (&body["resp_type"], &body["resp_code"]),
        (&"session_termination_response".into(), &204.into())
    );
    assert!(body.get("resp_json").is_none());
    // A child has no sessions.
    let plane = ControlPlane::start();
    let fixture = crate::common::process::stdio_fixture().display().to_string();
    let _child = crate::common::process::Client::start(&plane.base_url(), &["--mcp.command", &fixture]);
    plane.send(&[end]);
    let body = plane.wait_answers(&["end"]).remove(0).json();
    assert_eq!(
        (&body["resp_type"], &body["resp_code"]),
        (&"session_termination_response".into(), &405.into())
    );
}

#[test]
fn json_rpc_errors_of_the_mcp_server_pass_through_unchanged() {
    let error = r#"{"code":-32003,"message":"Grüße \u00e9","data":{"n":1.10,"z":0,"a":[1 , 2]}}"#;
    for (status, code) in [(200, "-32003"), (404, "-32004"), (400, "-32602")] {
        let mcp = McpServer::scripted(move |request: &Request, stream| {
            if !request.text().contains("tools/call") {
                return by_tool_name(request, stream);
            }
            let id = request.json()["id"].to_string();
            let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{}}}"#, error.replace("-32003", code));
            let _ = stream.write_all(&reply(status, &[("Content-Type", "application/json")], &body));
            Next::KeepAlive
        });
        let rig = rig_of(ControlPlane::start(), mcp, &[]);
        rig.plane.send(&[call("r", "x", "")]);
        let answer = rig.plane.wait_answers(&["r"]).remove(0);
        let expected = format!(
            r#""resp_json":{{"jsonrpc":"2.0","id":"id-r","error":{}}}"#,
            error.replace("-32003", code)
        );
        assert!(answer.text().contains(&expected), "{}", answer.text());
        assert_eq!(answer.json()["resp_code"], status);
    }
}

#[test]
fn failures_of_the_target_are_classified_and_say_nothing_else() {
    let rig = rig(&[]);
    rig.plane.send(&[
        call("status", "status-503", ""),
        call("closed", "close", ""),
        call("reset", "reset", ""),
    ]);
    for (id, code, source) in [
        ("status", 503, "target_http"),
        ("closed", 502, "transport_closed"),
        ("reset", 502, "transport_closed"),
    ] {
        let answer = rig.plane.wait_answers(&[id]).remove(0);
        let body = answer.json();
        assert_eq!((&body["resp_code"], &body["resp_type"]), (&code.into(), &"jsonrpc_response".into()));
        let error = &body["resp_json"]["error"];
        assert_eq!(
            (&error["code"], &body["resp_json"]["id"]),
            (&(-32603).into(), &format!("id-{id}").into())
        );
        let failure = error["data"]["tunnel_failure"].as_object().unwrap();
        assert_eq!((&failure["version"], &failure["source"]), (&1.into(), &source.into()), "{body}");
        assert_eq!(failure.get("upstream_status").cloned(), Some(503.into()).filter(|_| id == "status"));
        assert_eq!(failure["upstream_response_received"], id == "status");
        let known =
            ["version", "source", "upstream_response_received", "upstream_status", "transport_error_kind"];
        assert!(failure.keys().all(|key| known.contains(&key.as_str())), "{failure:?}");
        assert!(!answer.text().contains("private details") && !answer.text().contains("127.0.0.1"));
    }
}

#[test]
fn oauth_discovery_gets_one_response_with_a_document() {
    let rig = rig(&[]);
    rig.plane.send(&[command("r", r#""command_type":"oauth_discovery""#)]);
    let answer = rig.plane.wait_answers(&["r"]).remove(0);
    assert_eq!(answer.json()["resp_type"], "oauth_discovery_response");
    assert!(answer.json()["resp_json"].is_object(), "{}", answer.text());
    assert_eq!(rig.plane.responses().len(), 1);
}

#[test]
fn connections_are_kept_whatever_the_replies_carry() {
    let rig = rig(&["--mcp.max-concurrent-requests", "1"]);
    rig.plane.on_response(|seen| match seen.request_id().ends_with('7') {
        true => error(404, &"x".repeat(100_000)),
        false => json(&format!(r#"{{"status":"ok","pad":"{}"}}"#, "x".repeat(50_000))),
    });
    for n in 0..30 {
        rig.plane.send(&[call(&format!("r-{n}"), "echo", "")]);
    }
    rig.plane.wait_responses(30);
    assert!(
        rig.plane.connections() <= 3,
        "{} connections: poll, metadata, responses",
        rig.plane.connections()
    );
}

#[test]
fn a_response_that_cannot_be_delivered_does_not_hold_up_the_others() {
    let rig = rig(&["--mcp.max-concurrent-requests", "2"]);
    rig.plane.on_response(|seen| match seen.request_id().as_str() {
        "stuck" => Answer::Hold,
        _ => json("{}"),
    });
    rig.plane.send(&[call("stuck", "echo", ""), call("a", "echo", ""), call("b", "echo", "")]);
    rig.plane.wait_answers(&["stuck", "a", "b"]);
    assert!(events_of(&rig.client, "response delivered").len() <= 3);
    let _ = PATIENCE;
}
