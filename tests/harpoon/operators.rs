//! What operators see.

use serde_json::json;

use super::rig::{Reply, Site, base, echo, target};

#[test]
fn the_admin_api_shows_state_targets_and_the_last_calls() {
    let server = target(|request| match request.path.as_str() {
        "/bin" => Reply::ok(vec![0xff, 0xfe]),
        _ => Reply::ok("text").with("Content-Type", "Text/Plain; charset=utf-8"),
    });
    let with_password = format!("{}/abc?q=1", base(&server)).replace("http://", "http://user:hunter2@");
    let site = Site::start(&[("abc", &with_password), ("bin", &format!("{}/bin", base(&server)))], &[]);
    let status = site.api("harpoon/status");
    assert_eq!(
        (
            &status["enabled"],
            &status["capture_payloads"],
            &status["max_response_bytes"],
            &status["max_redirects"]
        ),
        (&json!(true), &json!(false), &json!(102_400), &json!(5))
    );
    assert_eq!(status["allow_plaintext_http"], true);
    let route = &status["proxy_routes"][0];
    assert_eq!((&route["kind"], &route["name"]), (&json!("harpoon_target"), &json!("abc")));
    assert_eq!((&route["route_mode"], &route["proxy_source"]), (&json!("direct"), &json!("none")));
    let targets = site.api("harpoon/targets");
    assert_eq!(
        (&targets["targets"][0]["label"], &targets["targets"][1]["label"]),
        (&json!("abc"), &json!("bin"))
    );
    let shown = with_password.replace("user:hunter2", "[REDACTED]");
    assert_eq!(targets["targets"][0]["url"], shown, "whole but for its credentials");

    let many = json!({"name": "call_target", "arguments": {"label": "bin", "method": "GET"}});
    let sent: Vec<String> = site.send_many("tools/call", &many, 103);
    site.plane.wait_answers(&sent.iter().map(String::as_str).collect::<Vec<_>>());
    site.call(json!({"label": "abc", "method": "POST", "body": "12345"}));
    site.failure(json!({"label": "none", "method": "GET"}));
    let calls = site.api("harpoon/calls");
    let calls = calls["calls"].as_array().unwrap();
    assert_eq!(calls.len(), 100, "the last hundred, those that were refused at once aside");
    let newest = &calls[0];
    assert_eq!(
        (&newest["label"], &newest["method"], &newest["status"]),
        (&json!("abc"), &json!("POST"), &json!(200))
    );
    assert_eq!((&newest["req_bytes"], &newest["resp_bytes"]), (&json!(5), &json!(4)));
    assert_eq!(newest["url"], shown);
    assert_eq!(newest["response_content_type"], "text/plain");
    let shown = newest.as_object().unwrap();
    for absent in ["request_body", "response_body", "body_is_base64", "response_body_transformed", "error"] {
        assert!(!shown.contains_key(absent), "{absent}");
    }
    assert_eq!(site.api("harpoon/calls?label=%20abc%20")["calls"].as_array().unwrap().len(), 1);
    assert_eq!(site.api("harpoon/calls?limit=2")["calls"].as_array().unwrap().len(), 2);
    for odd in ["0", "-1", "x", "1000"] {
        assert_eq!(site.api(&format!("harpoon/calls?limit={odd}"))["calls"].as_array().unwrap().len(), 100);
    }
    let everything =
        format!("{targets}{calls:?}{}{}{}", site.client.output(), site.metrics(), site.api("status"));
    assert!(!everything.contains("hunter2"), "the password is shown somewhere");
    let channels = site.api("status")["channels"].clone();
    let harpoon = channels.as_array().unwrap().last().unwrap().clone();
    assert_eq!((&harpoon["name"], &harpoon["enabled"]), (&json!("harpoon"), &json!(true)));
}

#[test]
fn captured_bodies_are_shown_as_text_or_base64() {
    let server = target(|request| match request.path.as_str() {
        "/bin" => Reply::ok(vec![0xff, 0xfe]),
        _ => Reply::ok("text"),
    });
    let site = Site::start(
        &[("txt", &base(&server)), ("bin", &format!("{}/bin", base(&server)))],
        &["--harpoon.capture-payloads"],
    );
    site.call(json!({"label": "txt", "method": "PUT", "body": "sent"}));
    site.call(json!({"label": "bin", "method": "GET"}));
    let calls = site.api("harpoon/calls")["calls"].clone();
    assert_eq!((&calls[0]["response_body"], &calls[0]["body_is_base64"]), (&json!("//4="), &json!(true)));
    assert_eq!((&calls[1]["request_body"], &calls[1]["response_body"]), (&json!("sent"), &json!("text")));
    assert_eq!(calls[1]["body_is_base64"], false);
    assert!(calls[1]["response_body_transformed"].is_null());
}

#[test]
fn calls_are_counted_and_logged_by_label_and_origin_only() {
    let server = echo();
    let url = format!("{}/private/path?token=hunter2", base(&server));
    let site = Site::start(&[("abc", &url)], &[]);
    site.call(json!({"label": "abc", "method": "GET"}));
    let metrics = site.metrics();
    for name in
        ["harpoon_call_total", "harpoon_call_latency_milliseconds_count", "harpoon_response_size_bytes_count"]
    {
        let line = metrics.lines().find(|line| line.starts_with(&format!("{name}{{"))).unwrap();
        for label in [r#"label="abc""#, r#"status_class="2xx""#, r#"outcome="success""#] {
            assert!(line.contains(label), "{line}");
        }
    }
    let done = &site.events("harpoon call completed")[0];
    assert_eq!(
        (&done["label"], &done["target_label"], &done["url"]),
        (&json!("abc"), &json!("abc"), &json!(base(&server)))
    );
    assert_eq!(
        (&done["component"], &done["method"], &done["status_code"]),
        (&json!("harpoon"), &json!("GET"), &json!(200))
    );
    assert_eq!(site.events("harpoon route resolved").len(), 1);
    let output = site.client.output();
    assert!(!output.contains("hunter2") && !output.contains("private/path"), "{output}");
}
