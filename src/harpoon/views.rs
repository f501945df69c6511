//! What operators see of the server, as JSON documents.
//!
//! Invariant: URLs are shown whole but for credentials; bodies only where they are captured.

use std::time::SystemTime;

use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use super::history::{Call, History, MAX_CALLS, Payload};
use super::registry::{Registry, Target};
use super::server::Server;
use crate::net::base64;

/// State and limits. `routes` are those of the targets known at the start, an array.
pub fn status(server: &Server, routes: &Value) -> Value {
    let (registry, bounds) = (server.registry(), server.bounds());
    let mut status = json!({
        "enabled": registry.is_routable(),
        "capture_payloads": server.captures_payloads(),
        "allow_plaintext_http": registry.allows_plaintext(),
        "max_response_bytes": bounds.max_response_bytes,
        "max_redirects": bounds.max_redirects,
    });
    if !registry.is_routable() {
        status["reason"] = "no targets configured".into();
    }
    if routes.as_array().is_some_and(|routes| !routes.is_empty()) {
        status["proxy_routes"] = routes.clone();
    }
    status
}

/// The targets in the order of their registration.
pub fn targets(registry: &Registry) -> Value {
    let targets = registry.targets();
    json!({ "targets": targets.iter().map(|target| of_target(target)).collect::<Vec<_>>() })
}

fn of_target(target: &Target) -> Value {
    let mut shown = Map::new();
    shown.insert("label".to_owned(), target.label.as_str().into());
    shown.insert("url".to_owned(), without_credentials(target.url.spelled()).into());
    for (name, text) in [
        ("description", &target.description),
        ("category", &target.category),
        ("source", &target.source),
        ("inclusion_reason", &target.inclusion_reason),
    ] {
        if !text.is_empty() {
            shown.insert(name.to_owned(), text.as_str().into());
        }
    }
    if !target.tags.is_empty() {
        shown.insert("tags".to_owned(), target.tags.clone().into());
    }
    shown.into()
}

/// The last calls, newest first: `limit` of them at most, of target `label` if given.
pub fn calls(history: &History, label: Option<&str>, limit: usize) -> Value {
    let calls = history.recent(label.unwrap_or_default(), limit.clamp(1, MAX_CALLS));
    json!({ "calls": calls.iter().map(|call| of_call(call)).collect::<Vec<_>>() })
}

fn of_call(call: &Call) -> Value {
    let mut shown = json!({
        "timestamp": rfc3339(call.at),
        "label": call.label,
        "url": call.url,
        "method": call.method,
        "status": call.status,
        "latency_ms": call.latency_ms,
        "req_bytes": call.req_bytes,
        "resp_bytes": call.resp_bytes,
    });
    for (name, text) in [("response_content_type", &call.response_content_type), ("error", &call.error)] {
        if let Some(text) = text {
            shown[name] = text.as_str().into();
        }
    }
    if let Some(payload) = &call.payload {
        add_payload(&mut shown, payload);
    }
    shown
}

fn add_payload(shown: &mut Value, payload: &Payload) {
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).map_or_else(|_| base64(bytes), str::to_owned);
    shown["request_body"] = payload.request.as_str().into();
    shown["response_body"] = text(&payload.response).into();
    shown["body_is_base64"] = std::str::from_utf8(&payload.response).is_err().into();
    if let Some(transformed) = &payload.transformed {
        shown["response_body_transformed"] = text(transformed).into();
    }
}

/// The URL with its user info hidden.
pub(super) fn without_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    match authority.rfind('@') {
        Some(at) => format!("{scheme}://{}{}", crate::redact::REDACTED, &rest[at..]),
        None => url.to_owned(),
    }
}

/// UTC, to the millisecond.
fn rfc3339(at: SystemTime) -> String {
    let t = OffsetDateTime::from(at);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        t.year(),
        u8::from(t.month()),
        t.day(),
        t.hour(),
        t.minute(),
        t.second(),
        t.millisecond()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_call_shows_bodies_only_if_they_are_captured() {
        let history = History::default();
        let call = Call {
            at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
            label: "a".into(),
            url: without_credentials("https://u:p@h/x@y?b=c"),
            method: "GET",
            status: 200,
            latency_ms: 3,
            response_content_type: Some("text/plain".into()),
            req_bytes: 1,
            resp_bytes: 2,
            error: None,
            payload: None,
        };
        history.push(call.clone());
        let expected = json!({"calls": [{"timestamp": "2023-11-14T22:13:20.123Z", "label": "a",
            "url": "https://[REDACTED]@h/x@y?b=c", "method": "GET", "status": 200, "latency_ms": 3,
            "response_content_type": "text/plain", "req_bytes": 1, "resp_bytes": 2}]});
        assert_eq!(calls(&history, None, 100), expected);
        let payload =
            Payload { request: "q".into(), response: vec![0xff], transformed: Some(b"{}".to_vec()) };
        history.push(Call { payload: Some(payload), error: Some("timeout".into()), ..call });
        let newest = &calls(&history, Some("a"), 1)["calls"][0];
        assert_eq!((&newest["error"], &newest["request_body"]), (&json!("timeout"), &json!("q")));
        assert_eq!((&newest["response_body"], &newest["body_is_base64"]), (&json!("/w=="), &json!(true)));
        assert_eq!(newest["response_body_transformed"], "{}");
        assert_eq!(calls(&history, Some("b"), 9), json!({"calls": []}));
    }

    #[test]
    fn only_the_user_info_of_a_url_is_hidden() {
        for (url, shown) in [
            ("https://h/a?b#c", "https://h/a?b#c"),
            ("https://u@h", "https://[REDACTED]@h"),
            ("https://u:p%40@h:1/@x", "https://[REDACTED]@h:1/@x"),
            ("https://h?u@v", "https://h?u@v"),
        ] {
            assert_eq!(without_credentials(url), shown);
        }
    }
}
