//! What operators see of the server, as JSON documents.
//!
//! Invariant: URLs are shown whole but for credentials; bodies only where they are captured.

use std::time::SystemTime;

use time::OffsetDateTime;

use super::history::{Call, History, MAX_CALLS, Payload};
use super::registry::Registry;
use super::server::Server;
use super::tools::push_attributes;
use crate::jsonrpc::json_string;
use crate::net::base64;

/// State and limits. `routes` is a JSON array of the routes known at the start, empty for none.
pub fn status(server: &Server, routes: &str) -> String {
    let (registry, bounds) = (server.registry(), server.bounds());
    let mut json = format!(r#"{{"enabled":{}"#, registry.is_routable());
    if !registry.is_routable() {
        json.push_str(r#","reason":"no targets configured""#);
    }
    json.push_str(&format!(
        r#","capture_payloads":{},"allow_plaintext_http":{},"max_response_bytes":{},"max_redirects":{}"#,
        server.captures_payloads(),
        registry.allows_plaintext(),
        bounds.max_response_bytes,
        bounds.max_redirects
    ));
    if !routes.is_empty() && routes != "[]" {
        json.push_str(r#","proxy_routes":"#);
        json.push_str(routes);
    }
    json.push('}');
    json
}

/// The targets in the order of their registration.
pub fn targets(registry: &Registry) -> String {
    let shown: Vec<String> = registry
        .targets()
        .iter()
        .map(|target| {
            let (label, url) = (json_string(&target.label), shown_url(target.url.spelled()));
            let mut json = format!(r#"{{"label":{label},"url":{}"#, json_string(&url));
            push_attributes(&mut json, target);
            if !target.inclusion_reason.is_empty() {
                let reason = json_string(&target.inclusion_reason);
                json.push_str(&format!(r#","inclusion_reason":{reason}"#));
            }
            json.push('}');
            json
        })
        .collect();
    format!(r#"{{"targets":[{}]}}"#, shown.join(","))
}

/// The last calls, newest first; `label` and `limit` as they stand in the query, blank if absent.
pub fn calls(history: &History, label: &str, limit: &str) -> String {
    let limit =
        limit.trim().parse().ok().filter(|limit| (1..=MAX_CALLS).contains(limit)).unwrap_or(MAX_CALLS);
    let shown: Vec<String> = history.recent(label.trim(), limit).iter().map(|call| of_call(call)).collect();
    format!(r#"{{"calls":[{}]}}"#, shown.join(","))
}

fn of_call(call: &Call) -> String {
    let mut json = format!(
        r#"{{"timestamp":"{}","label":{},"url":{},"method":"{}","status":{},"latency_ms":{}"#,
        rfc3339(call.at),
        json_string(&call.label),
        json_string(&call.url),
        call.method,
        call.status,
        call.latency_ms
    );
    if let Some(media_type) = &call.response_content_type {
        json.push_str(&format!(r#","response_content_type":{}"#, json_string(media_type)));
    }
    json.push_str(&format!(r#","req_bytes":{},"resp_bytes":{}"#, call.req_bytes, call.resp_bytes));
    if let Some(error) = &call.error {
        json.push_str(&format!(r#","error":{}"#, json_string(error)));
    }
    if let Some(payload) = &call.payload {
        push_payload(&mut json, payload);
    }
    json.push('}');
    json
}

fn push_payload(json: &mut String, payload: &Payload) {
    let (response, is_base64) = match std::str::from_utf8(&payload.response) {
        Ok(text) => (json_string(text), false),
        Err(_) => (json_string(&base64(&payload.response)), true),
    };
    let request = json_string(&payload.request);
    json.push_str(&format!(
        r#","request_body":{request},"response_body":{response},"body_is_base64":{is_base64}"#
    ));
    if let Some(transformed) = &payload.transformed {
        let text = match std::str::from_utf8(transformed) {
            Ok(text) => json_string(text),
            Err(_) => json_string(&base64(transformed)),
        };
        json.push_str(&format!(r#","response_body_transformed":{text}"#));
    }
}

/// The URL without its credentials.
pub(super) fn shown_url(url: &str) -> String {
    crate::redact::text(url).into_owned()
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
            url: shown_url("https://u:p@h/x?access_token=abc&b=c"),
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
        assert_eq!(
            calls(&history, "", ""),
            r#"{"calls":[{"timestamp":"2023-11-14T22:13:20.123Z","label":"a","url":"https://[REDACTED]@h/x?access_token=[REDACTED]&b=c","method":"GET","status":200,"latency_ms":3,"response_content_type":"text/plain","req_bytes":1,"resp_bytes":2}]}"#
        );
        let payload =
            Payload { request: "q".into(), response: vec![0xff], transformed: Some(b"{}".to_vec()) };
        history.push(Call { payload: Some(payload), error: Some("timeout".into()), ..call });
        let newest = calls(&history, " a ", "1");
        assert!(newest.contains(r#""error":"timeout","request_body":"q","response_body":"/w==","body_is_base64":true,"response_body_transformed":"{}"}"#), "{newest}");
        for odd in ["0", "-1", "x", "1000"] {
            assert_eq!(calls(&history, "", odd).matches("timestamp").count(), 2, "{odd}");
        }
        assert_eq!(calls(&history, "b", ""), r#"{"calls":[]}"#);
    }
}
