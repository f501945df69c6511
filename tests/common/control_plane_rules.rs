//! What every request to a control plane must be like.

use std::collections::BTreeSet;

use serde_json::Value;

use super::API_KEY;
use super::control_plane::Seen;

/// What is wrong with a request, whatever it is for; header fields named `extra` may be there.
pub fn faults(seen: &Seen, extra: &BTreeSet<String>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut check = |holds: bool, what: &str| {
        if !holds {
            wrong.push(format!("{what}: {} {} {:?}", seen.method, seen.path, seen.headers));
        }
    };
    let is = |name: &str, value: &str| seen.header(name) == Some(value);
    let agent = format!("tunnel-client-rs/{}", env!("CARGO_PKG_VERSION"));
    check(is("Authorization", &format!("Bearer {API_KEY}")), "Authorization");
    check(is("Accept", "application/json"), "Accept");
    check(is("User-Agent", &agent), "User-Agent");
    check(is("X-Tunnel-Client-Name", "tunnel-client-rs"), "client name");
    check(is("X-Tunnel-Client-Version", env!("CARGO_PKG_VERSION")), "client version");
    let id = seen.instance();
    check(id.len() == 32 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')), "instance id");
    let declared = seen.header("X-Tunnel-MCP-Server-Info").unwrap_or_default();
    check(declared.starts_with(r#"{"version":1,"channels":[{"name":""#), "server info");
    let mut known = vec![
        "host",
        "authorization",
        "accept",
        "user-agent",
        "x-tunnel-client-name",
        "x-tunnel-client-version",
        "x-tunnel-client-instance-id",
        "x-tunnel-mcp-server-info",
    ];
    let is_post = seen.route().ends_with("/response");
    check(seen.method == if is_post { "POST" } else { "GET" }, "method");
    if is_post {
        known.extend(["content-type", "content-length", "x-tunnel-shard-token", "x-client-request-id"]);
        check(is("Content-Type", "application/json"), "Content-Type");
        check(is("Content-Length", &seen.body.len().to_string()), "Content-Length");
        check(seen.header("X-Tunnel-Shard-Token").is_some_and(|token| !token.is_empty()), "shard token");
        check(well_formed_response(&seen.json()), "response body");
    } else {
        check(seen.body.is_empty() && seen.header("Content-Length").is_none(), "a GET has no body");
    }
    if seen.route().ends_with("/poll") {
        let number = |name: &str| seen.parameter(name).and_then(|text| text.parse::<u64>().ok());
        check(number("limit").is_some_and(|limit| (1..=25).contains(&limit)), "limit");
        check(number("timeout_ms").is_some_and(|timeout| timeout >= 1), "timeout_ms");
    }
    if seen.asked_through_proxy.is_some() {
        known.push("proxy-authorization");
    }
    let mut names: Vec<String> = seen.headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    for name in &names {
        check(known.contains(&name.as_str()) || extra.contains(name), &format!("unexpected header {name}"));
    }
    names.sort();
    check(names.windows(2).all(|pair| pair[0] != pair[1]), "a header twice");
    wrong
}

fn well_formed_response(body: &Value) -> bool {
    let members = ["request_id", "channel", "resp_json", "resp_headers", "resp_code", "resp_type"];
    let Some(object) = body.as_object() else { return false };
    let payload = object.get("resp_json").is_some_and(Value::is_object);
    let fits = match object.get("resp_type").and_then(Value::as_str) {
        Some("jsonrpc_response" | "jsonrpc_notify" | "oauth_discovery_response") => payload,
        Some("notify_ack" | "session_termination_response") => !object.contains_key("resp_json"),
        _ => false,
    };
    fits && object.keys().all(|name| members.contains(&name.as_str()))
        && object["request_id"].is_string()
        && object["channel"].is_string()
        && object["resp_code"].as_u64().is_some_and(|code| code > 0)
        && object.get("resp_headers").is_none_or(|headers| {
            headers.as_object().is_some_and(|headers| {
                !headers.is_empty() && headers.values().all(|values| values.is_array())
            })
        })
}
