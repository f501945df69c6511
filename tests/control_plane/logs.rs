//! What operators read: error details, events with their fields, metrics, and never a secret.

use crate::common::control_plane::{Answer, ControlPlane, call, error, json, message, nothing};
use crate::common::mcp_server::McpServer;
use crate::common::{API_KEY, TUNNEL_ID, eventually};
use crate::rig::{events, events_of, metric, rig, rig_of, start, wait_events, wait_metric};

#[test]
fn error_bodies_of_every_shape_are_told() {
    let cases = [
        (String::new(), None, None),
        (r#"{"detail":"x"}"#.to_owned(), None, Some("x".to_owned())),
        (r#"{"detail":{"a": 1}}"#.to_owned(), None, Some(r#"{"a":1}"#.to_owned())),
        (r#"{"message":"m","code":"c"}"#.to_owned(), Some("c"), Some("m".to_owned())),
        (
            r#"{"error":{"code":"certificate_required","message":"missing cert"},"message":"ignored"}"#
                .to_owned(),
            Some("certificate_required"),
            Some("missing cert".to_owned()),
        ),
        (r#"{"error":"text"}"#.to_owned(), None, Some(r#"{"error":"text"}"#.to_owned())),
        (r#"{"code":5,"message":"m"}"#.to_owned(), None, Some(r#"{"code":5,"message":"m"}"#.to_owned())),
        ("  gone fishing ".to_owned(), None, Some("gone fishing".to_owned())),
        ("x".repeat(70_000), None, Some(format!("{}...", "x".repeat(1024)))),
        (format!("x{}", "é".repeat(1000)), None, Some(format!("x{}...", "é".repeat(511)))),
    ];
    let plane = ControlPlane::start();
    for (body, ..) in &cases {
        plane.poll(error(502, body));
        plane.poll(nothing());
    }
    let rig = rig_of(plane, McpServer::by_tool_name(), &[]);
    let failed = wait_events(&rig.client, "poll failed; backing off", cases.len());
    for ((body, code, text), event) in cases.iter().zip(&failed) {
        assert_eq!(event.get("error_code").and_then(|v| v.as_str()), *code, "{body}");
        assert_eq!(event.get("error_message").and_then(|v| v.as_str()), text.as_deref(), "{body}");
        let detail: Vec<&str> = [*code, text.as_deref()].into_iter().flatten().collect();
        let end = match detail.is_empty() {
            true => "unexpected status 502".to_owned(),
            false => format!("unexpected status 502: {}", detail.join(": ")),
        };
        assert!(event["error"].as_str().unwrap().ends_with(&end), "{body}: {event}");
    }
}

#[test]
fn the_start_tells_endpoints_times_and_the_route() {
    let (plane, mcp) = (ControlPlane::start(), McpServer::by_tool_name());
    let client = start(&plane, &mcp, &["--control-plane.url-path", "/x"], &[]);
    plane.wait_polls(1);
    let created = wait_events(&client, "control-plane client created", 1).remove(0);
    let base = format!("{}/x/v1/tunnels/{TUNNEL_ID}", plane.base_url());
    for (field, expected) in [
        ("level", "INFO".to_owned()),
        ("component", "controlplane".to_owned()),
        ("tunnel_id", TUNNEL_ID.to_owned()),
        ("poll_endpoint", format!("{base}/poll")),
        ("response_endpoint", format!("{base}/response")),
        ("metadata_endpoint", base),
    ] {
        assert_eq!(created[field], expected.as_str(), "{field}");
    }
    for (field, expected) in
        [("poll_timeout_ms", 30_000), ("poll_deadline_guardrail_ms", 5_000), ("poll_deadline_ms", 35_000)]
    {
        assert_eq!(created[field], expected, "{field}");
    }
    let route = wait_events(&client, "route resolved", 1).remove(0);
    for (field, expected) in [
        ("level", "INFO"),
        ("component", "controlplane"),
        ("route_kind", "control_plane"),
        ("route_name", "control-plane"),
        ("target_host", plane.address().to_string().as_str()),
        ("route_mode", "direct"),
        ("proxy_source", "none"),
    ] {
        assert_eq!(route[field], expected, "{field}");
    }
    assert!(route.get("proxy_url").is_none() && route.get("proxy_id").is_none(), "{route}");
    let trust = wait_events(&client, "tls trust summary", 1).remove(0);
    assert!(trust["system_trust"]["enabled"].is_boolean(), "{trust}");
    assert_eq!(trust["system_trust"]["source"], "system cert pool");
    assert!(trust.get("extra_bundle").is_none(), "{trust}");
    assert!(events_of(&client, "proxy identity map").is_empty());
    let ids: std::collections::BTreeSet<String> =
        events(&client).iter().map(|event| event["client_instance_id"].to_string()).collect();
    assert_eq!(ids.len(), 1, "one instance id on every line");
}

#[test]
fn polls_and_deliveries_are_told_with_their_ids() {
    let rig = rig(&[]);
    rig.plane.on_response(|_| {
        crate::common::control_plane::error_with(200, &[("x-request-id", "req_post")], "{}")
    });
    let members = r#","headers":{"X-Request-Id":["conn-7"],"Mcp-Session-Id":["sess"]}"#;
    rig.plane.send(&[
        message("text", r#"{"jsonrpc":"2.0","id":"abc","method":"tools/list"}"#, members),
        message("number", r#"{"jsonrpc":"2.0","id":12,"method":"tools/list"}"#, ""),
    ]);
    let delivered = wait_events(&rig.client, "response delivered", 2);
    let text = delivered.iter().find(|event| event["request_id"] == "text").unwrap();
    for (field, expected) in [
        ("level", "DEBUG"),
        ("component", "controlplane"),
        ("cmd_request_id", "conn-7"),
        ("tunnel_request_id", "req_post"),
        ("rpc_request_id", "abc"),
        ("session_id", "sess"),
        ("channel", "main"),
        ("resp_type", "jsonrpc_response"),
    ] {
        assert_eq!(text[field], expected, "{field}: {text}");
    }
    let number = delivered.iter().find(|event| event["request_id"] == "number").unwrap();
    assert_eq!(number["rpc_request_id"], 12);
    assert!(number.get("cmd_request_id").is_none() && number.get("session_id").is_none(), "{number}");
    let started = wait_events(&rig.client, "poll cycle started", 2);
    assert_eq!((&started[0]["level"], &started[0]["limit"]), (&"DEBUG".into(), &20.into()));
    let complete = wait_events(&rig.client, "poll cycle complete", 1);
    assert_eq!((&complete[0]["commands_polled"], &complete[0]["commands_enqueued"]), (&2.into(), &2.into()));
}

#[test]
fn the_metrics_have_their_names_labels_and_values() {
    let rig = rig(&["--control-plane.url-path", "/pre"]);
    let old = r#","created_at":"2026-01-01T00:00:00Z""#;
    let future = r#","created_at":"2999-01-01T00:00:00Z""#;
    rig.plane.poll(Answer::Close);
    rig.plane.send(&[call("a", "echo", old), call("b", "echo", future), call("c", "echo", "")]);
    rig.plane.wait_answers(&["a", "b", "c"]);
    wait_metric(&rig.client, "commands_polled_total", &[r#"otel_scope_name="controlplane""#], 3.0);
    for (name, labels, expected) in [
        ("commands_enqueued_total", &[][..], Some(3.0)),
        ("commands_poll_errors_total", &[r#"error_kind="other""#], Some(1.0)),
        ("commands_poll_errors_total", &[r#"error_kind="timeout""#], None),
        ("commands_queue_drops_total", &[], None),
        ("commands_age_seconds_count", &[], Some(1.0)),
        ("commands_queue_capacity", &[], Some(20.0)),
        ("commands_queue_length", &[], Some(0.0)),
        ("commands_poll_latency_seconds_count", &[r#"error="false""#], Some(1.0)),
        ("commands_poll_latency_seconds_count", &[r#"error="true""#], Some(1.0)),
        (
            "commands_poll_cycles_total",
            &[r#"otel_scope_version="""#, r#"otel_scope_schema_url="""#],
            Some(3.0),
        ),
    ] {
        assert_eq!(metric(&rig.client, name, labels), expected, "{name} {labels:?}");
    }
    for boundary in ["0.005", "0.1", "1", "5", "60"] {
        let labels = [r#"error="false""#, &format!(r#"le="{boundary}""#)];
        assert!(metric(&rig.client, "commands_poll_latency_seconds_bucket", &labels).is_some(), "{boundary}");
    }
    let port = format!(r#"server_port="{}""#, rig.plane.address().port());
    let shared = [
        r#"server_address="127.0.0.1""#,
        port.as_str(),
        r#"url_scheme="http""#,
        r#"network_protocol_name="http""#,
        r#"network_protocol_version="1.1""#,
    ];
    for (route, more, count) in [
        (
            "/v1/tunnels/{tunnel_id}",
            [r#"http_request_method="GET""#, r#"http_response_status_code="404""#],
            1.0,
        ),
        (
            "/v1/tunnels/{tunnel_id}/poll",
            [r#"http_request_method="GET""#, r#"http_response_status_code="200""#],
            1.0,
        ),
        (
            "/v1/tunnels/{tunnel_id}/response",
            [r#"http_request_method="POST""#, r#"http_response_status_code="200""#],
            3.0,
        ),
    ] {
        let route = format!(r#"http_route="{route}""#);
        let labels: Vec<&str> = shared.iter().chain(&more).copied().chain([route.as_str()]).collect();
        wait_metric(&rig.client, "http_client_request_duration_seconds_count", &labels, count);
        wait_metric(&rig.client, "http_client_request_body_size_bytes_count", &labels, count);
    }
    let text = crate::common::http::get(&format!("{}/metrics", rig.client.health_url())).unwrap().text();
    let failed = text.lines().find(|line| {
        line.starts_with("http_client_request_duration_seconds_count")
            && line.contains("/poll")
            && !line.contains("http_response_status_code=\"200\"")
    });
    assert!(failed.is_some_and(|line| !line.contains("http_response_status_code=\"4")), "{text}");
    assert!(!text.lines().any(|line| line.starts_with("http_client") && line.contains(TUNNEL_ID)), "{text}");
}

#[test]
fn no_secret_and_no_content_reaches_any_output_even_at_debug() {
    let plane = ControlPlane::start();
    plane.allow_header("x-corp");
    // Peers that echo what they were sent.
    plane.poll(error(401, &format!(r#"{{"error":{{"message":"bad key {API_KEY}","code":"{API_KEY}"}}}}"#)));
    plane.poll(error(502, &format!("Authorization: Bearer {API_KEY}")));
    plane.on_metadata(|_| error(500, &format!("no {API_KEY}")));
    plane.on_response(|seen| match seen.request_id().as_str() {
        "echoed" => error(400, &format!("token {}", seen.header("X-Tunnel-Shard-Token").unwrap())),
        _ => json("{}"),
    });
    let headers = r#","headers":{"Authorization":["Bearer caller-secret"],"X-Api-Key":["caller-secret"]}"#;
    plane.send(&[
        call("fine", "echo", headers),
        call("echoed", "echo", headers),
        call("failing", "status-500", headers),
        call("refused", "echo", r#","headers":{"Authorization":"caller-secret"}"#),
        message("batch", r#"["payload-secret"]"#, ""),
        message(
            "list",
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"cursor":"payload-secret"}}"#,
            "",
        ),
    ]);
    plane.poll(json(r#"{"commands":"payload-secret"}"#));
    plane.poll(json("payload-secret"));
    let mut rig =
        rig_of(plane, McpServer::by_tool_name(), &["--control-plane.extra-headers", "X-Corp: corp-secret"]);
    rig.plane.wait_answers(&["fine", "echoed", "failing", "refused", "batch", "list"]);
    wait_events(&rig.client, "poll failed; backing off", 4);
    let metrics = crate::common::http::get(&format!("{}/metrics", rig.client.health_url())).unwrap().text();
    assert_eq!(rig.client.terminate().code(), Some(0));
    let output = rig.client.output() + &metrics;
    for secret in [API_KEY, "shard-", "caller-secret", "corp-secret", "payload-secret", "private details"] {
        let line = output.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret} is shown");
    }
    assert!(output.contains("bad key [REDACTED]"), "{output}");
}

#[test]
fn raw_http_logging_shows_whole_messages_and_changes_none() {
    let rig = rig(&["--log.http-raw-unsafe"]);
    rig.plane.send(&[call("r", "echo", "")]);
    let answer = rig.plane.wait_answers(&["r"]).remove(0);
    assert_eq!(answer.json()["resp_code"], 200);
    let shown =
        |part: &str| rig.client.output().lines().any(|line| line.contains("raw http") && line.contains(part));
    eventually("the requests are dumped", || shown("X-Tunnel-Shard-Token: [REDACTED]"));
    eventually("the replies are dumped", || shown("raw http response"));
    assert!(shown("Authorization: Bearer [REDACTED]") && shown("POST /v1/tunnels/"));
    let output = rig.client.output();
    assert!(!output.contains(API_KEY) && !output.contains("shard-r"), "{output}");
}
