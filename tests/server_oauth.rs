//! OAuth through the tunnel: metadata with an issuer of the server's own, and the endpoints behind it.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "test code")]

#[path = "support/site.rs"]
mod site;
#[path = "support/wire.rs"]
mod wire;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde_json::{Value, json};

use site::{Site, TUNNEL, bearer, post_response};
use wire::{Reply, Wire};

const SERVER: &str = "a1b2c3d4e5f6";
const INFO: &str = r#"{"version":1,"channels":[{"name":"main"},{"name":"harpoon","proc_affinity":true}]}"#;

/// What the client's embedded caller knows and answers.
#[derive(Clone)]
struct Harpoon {
    metadata: Value,
    metadata_status: u16,
    /// `status_code`, headers, `body_base64`; `None` is a tool error of that text.
    endpoint: Result<(u16, Value, &'static str), &'static str>,
    audience: bool,
    info: Option<&'static str>,
    /// Answers the first tool call of each session with a JSON-RPC error.
    forgetful: bool,
}

impl Harpoon {
    fn new() -> Harpoon {
        Harpoon {
            metadata: json!({
                "issuer": "https://idp.corp/", "authorization_endpoint": "https://idp.corp/authorize",
                "token_endpoint": "https://public.example/token",
                "registration_endpoint": "harpoon://oauth-registration-endpoint-0",
                "jwks_uri": "harpoon://oauth-jwks-uri-0",
            }),
            metadata_status: 200,
            endpoint: Ok((
                201,
                json!({"Content-Type": ["application/json"], "Set-Cookie": ["a=b"], "Cache-Control": ["public"]}),
                "eyJvayI6dHJ1ZX0=",
            )),
            audience: true,
            info: Some(INFO),
            forgetful: false,
        }
    }

    fn with_token(mut self) -> Harpoon {
        self.metadata["token_endpoint"] = json!("harpoon://oauth-token-endpoint-0");
        self
    }
}

/// A client that answers metadata and `harpoon` commands until it is dropped.
struct Client {
    seen: Arc<Mutex<Vec<Value>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Client {
    fn start(site: &Site, harpoon: Harpoon, instance: &'static str) -> Client {
        let (seen, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (address, all, stopped) = (site.client, Arc::clone(&seen), Arc::clone(&stop));
        let mut calls = 0;
        let thread = std::thread::spawn(move || {
            let mut wire = Wire::tcp(address);
            while !stopped.load(Ordering::SeqCst) {
                let (name, value) = bearer();
                let mut headers = vec![(name, value.as_str()), ("X-Tunnel-Client-Instance-Id", instance)];
                headers.extend(harpoon.info.map(|info| ("X-Tunnel-MCP-Server-Info", info)));
                let path = format!("/v1/tunnels/{TUNNEL}/poll?limit=1&timeout_ms=50");
                let reply = wire.call("GET", &path, &headers, None);
                if reply.status != 200 {
                    continue;
                }
                let command = reply.json()["commands"][0].clone();
                let answer = answer(&command, &harpoon, &mut calls);
                all.lock().unwrap().push(command.clone());
                if let Some(answer) = answer {
                    let token = command["shard_token"].as_str().unwrap();
                    let posted = post_response(&mut wire, TUNNEL, token, &command, answer);
                    assert_eq!(posted.status, 200, "{posted:?}");
                }
            }
        });
        site.wait_for("a first poll", |gauges| gauges.parked > 0);
        Client { seen, stop, thread: Some(thread) }
    }

    fn seen(&self) -> Vec<Value> {
        self.seen.lock().unwrap().clone()
    }

    fn methods(&self) -> Vec<String> {
        let method = |command: &Value| match command["jsonrpc"]["method"].as_str() {
            Some("tools/call") => command["jsonrpc"]["params"]["name"].as_str().unwrap().to_owned(),
            Some(method) => method.to_owned(),
            None => command["command_type"].as_str().unwrap().to_owned(),
        };
        self.seen().iter().map(method).collect()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = self.thread.take().unwrap().join();
    }
}

fn answer(command: &Value, harpoon: &Harpoon, calls: &mut u32) -> Option<Value> {
    if command["command_type"] == "oauth_discovery" {
        return Some(json!({
            "resp_code": 200, "channel": "main", "resp_type": "oauth_discovery_response",
            "resp_json": {"resource": "http://inside/mcp", "authorization_servers": ["https://idp.corp/"]},
        }));
    }
    assert_eq!(command["channel"], "harpoon");
    let message = &command["jsonrpc"];
    let group = format!("group=auth-server:{SERVER}:0");
    let target = |label: &str, tags: &[&str]| json!({"label": label, "tags": tags});
    let result = match message["method"].as_str().unwrap() {
        "initialize" => {
            *calls = 0;
            json!({"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {"name": "harpoon"}})
        }
        "notifications/initialized" => {
            return Some(json!({"resp_code": 202, "channel": "harpoon", "resp_type": "notify_ack"}));
        }
        "tools/list" if harpoon.audience => {
            json!({"tools": [{"name": "call_target"}, {"name": "get_oauth_target_audience"}, {"name": "list_targets"}]})
        }
        "tools/list" => json!({"tools": [{"name": "call_target"}, {"name": "list_targets"}]}),
        _ => {
            *calls += 1;
            if harpoon.forgetful && *calls == 2 {
                let error = json!({"code": 0, "message": "is invalid during session initialization"});
                return Some(json!({
                    "resp_code": 200, "channel": "harpoon", "resp_type": "jsonrpc_response",
                    "resp_json": {"jsonrpc": "2.0", "id": message["id"], "error": error},
                }));
            }
            let arguments = &message["params"]["arguments"];
            match message["params"]["name"].as_str().unwrap() {
                "list_targets" => structured(json!({"targets": [
                    target("oauth-prmd-auth-server-0", &["authorization-server", &group, "protected-resource-metadata"]),
                    target("oauth-auth-server-metadata-0", &["auth-server-metadata", &group]),
                    target("oauth-registration-endpoint-0", &["auth-server-metadata", &group, "registration-endpoint"]),
                    target("oauth-token-endpoint-0", &["auth-server-metadata", &group, "token-endpoint"]),
                ]})),
                "get_oauth_target_audience" => {
                    structured(json!({"audience": "https://IDP.corp//token", "more": 1}))
                }
                _ if arguments["label"] == "oauth-auth-server-metadata-0" => {
                    let body = base64(&harpoon.metadata.to_string());
                    structured(
                        json!({"status_code": harpoon.metadata_status, "body_base64": body, "body_size_bytes": 1,
                                      "headers": {}, "truncated": false}),
                    )
                }
                _ => match &harpoon.endpoint {
                    Ok((status, headers, body)) => structured(json!({
                        "status_code": status, "headers": headers, "body_base64": body, "body_size_bytes": 1,
                        "truncated": false
                    })),
                    Err("silence") => return None,
                    Err(text) => json!({"isError": true, "content": [{"type": "text", "text": text}]}),
                },
            }
        }
    };
    Some(json!({
        "resp_code": 200, "channel": "harpoon", "resp_type": "jsonrpc_response",
        "resp_json": {"jsonrpc": "2.0", "id": message["id"], "result": result},
    }))
}

fn structured(content: Value) -> Value {
    json!({"content": [], "structuredContent": content, "isError": false})
}

fn base64(text: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for group in text.as_bytes().chunks(3) {
        let bits =
            group.iter().enumerate().fold(0u32, |bits, (at, byte)| bits | u32::from(*byte) << (16 - 8 * at));
        for at in 0..=group.len() {
            out.push(ALPHABET[(bits >> (18 - 6 * at) & 63) as usize] as char);
        }
    }
    out
}

fn issuer() -> String {
    format!("http://test/v1/oauth/{TUNNEL}/{SERVER}")
}

fn resource_metadata(site: &Site) -> Reply {
    let mut caller = site.caller();
    ask_for_resource_metadata(&mut caller);
    caller.read()
}

fn ask_for_resource_metadata(caller: &mut Wire) {
    let path = format!("/.well-known/oauth-protected-resource/v1/mcp/{TUNNEL}");
    caller.send("GET", &path, &[("Authorization", "Bearer caller"), ("Cookie", "a=b")], None);
}

fn endpoint(site: &Site, segment: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    let path = format!("/v1/oauth/{TUNNEL}/{SERVER}/{segment}");
    site.caller().call("POST", &path, headers, Some(body.as_bytes()))
}

const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");

#[test]
fn an_authorization_server_behind_the_tunnel_is_shown_with_an_issuer_of_our_own() {
    let site = Site::start();
    let client = Client::start(&site, Harpoon::new(), "aa");
    let reply = resource_metadata(&site);
    assert_eq!(reply.status, 200, "{reply:?}");
    let expected =
        json!({"resource": format!("http://test/v1/mcp/{TUNNEL}"), "authorization_servers": [issuer()]});
    assert_eq!(reply.json(), expected);
    assert_eq!(
        client.methods(),
        ["oauth_discovery", "initialize", "notifications/initialized", "tools/list", "list_targets"]
    );
    for command in &client.seen() {
        assert!(!command["headers"].to_string().contains("caller"), "{command}");
    }
    for path in [
        format!("/.well-known/oauth-authorization-server/v1/oauth/{TUNNEL}/{SERVER}"),
        format!("/.well-known/openid-configuration/v1/oauth/{TUNNEL}/{SERVER}"),
        format!("/v1/oauth/{TUNNEL}/{SERVER}/.well-known/openid-configuration"),
    ] {
        let reply = site.caller().call("GET", &path, &[], None);
        assert_eq!(reply.status, 200, "{path} {reply:?}");
        assert_eq!(reply.header("Cache-Control"), Some("no-store"));
        assert_eq!(
            reply.json(),
            json!({
                "issuer": issuer(),
                "authorization_endpoint": "https://idp.corp/authorize",
                "token_endpoint": "https://public.example/token",
                "registration_endpoint": format!("{}/register", issuer()),
            })
        );
    }
    let fetched = client.methods().iter().filter(|method| *method == "call_target").count();
    assert_eq!(fetched, 1, "the document is fetched once");
}

#[test]
fn a_token_request_reaches_the_endpoint_and_its_answer_comes_back() {
    let site = Site::start();
    let client = Client::start(&site, Harpoon::new().with_token(), "aa");
    let headers = [FORM, ("Authorization", "Basic Y2xpZW50"), ("DPoP", "proof"), ("Cookie", "a=b")];
    let reply = endpoint(&site, "token", &headers, "grant_type=client_credentials&x=%C3%A9");
    assert_eq!((reply.status, reply.text()), (201, r#"{"ok":true}"#));
    assert_eq!(reply.header("Cache-Control"), Some("no-store"));
    assert_eq!(reply.header("Content-Type"), Some("application/json"));
    assert_eq!(reply.header("Set-Cookie"), None);
    let seen = client.seen();
    assert!(seen.iter().all(|command| command["channel"] == "harpoon"), "{seen:?}");
    let arguments = &seen.last().unwrap()["jsonrpc"]["params"]["arguments"];
    assert_eq!(arguments["label"], "oauth-token-endpoint-0");
    assert_eq!(arguments["method"], "POST");
    assert_eq!(arguments["body"], "grant_type=client_credentials&x=%C3%A9");
    assert_eq!(arguments["follow_redirects"], false);
    assert_eq!(
        arguments["headers"],
        json!({"Content-Type": FORM.1, "Authorization": "Basic Y2xpZW50", "DPoP": "proof"})
    );
    let time = arguments["timeout_ms"].as_u64().unwrap();
    assert!((100..=30_000).contains(&time), "{time}");
}

#[test]
fn an_audience_is_looked_up_where_the_client_can() {
    let path = format!("/v1/oauth/{TUNNEL}/{SERVER}/token");
    for (audience, status) in [(true, 200), (false, 501)] {
        let site = Site::start();
        let _client = Client::start(&site, Harpoon { audience, ..Harpoon::new().with_token() }, "aa");
        let reply = site.caller().call("GET", &path, &[], None);
        assert_eq!(reply.status, status, "{reply:?}");
        assert_eq!(reply.header("Cache-Control"), Some("no-store"));
        if audience {
            assert_eq!(reply.json(), json!({"audience": "https://IDP.corp//token"}));
        } else {
            assert_eq!(reply.code(), "oauth_shim_audience_unavailable");
        }
        assert_eq!(endpoint(&site, "token", &[FORM], "a=b").status, 201);
    }
}

#[test]
fn failures_have_codes_of_their_own() {
    let public = Harpoon::new();
    let broken = |uri: &str| {
        let mut harpoon = Harpoon::new();
        harpoon.metadata["token_endpoint"] = json!(uri);
        harpoon
    };
    let error = |text| Harpoon { endpoint: Err(text), ..Harpoon::new().with_token() };
    for (harpoon, status, code) in [
        (public, 404, "oauth_shim_unshimmable_endpoint"),
        (broken("harpoon://oauth-registration-endpoint-0"), 404, "oauth_shim_unshimmable_endpoint"),
        (broken("harpoon://gone"), 404, "oauth_shim_target_not_found"),
        (broken("harpoon://No/Label"), 502, "oauth_shim_invalid_target_uri"),
        (broken("file:///etc"), 502, "oauth_shim_invalid_target_uri"),
        (error("label x: unknown target"), 404, "oauth_shim_target_not_found"),
        (error("label x: request failed"), 502, "oauth_shim_harpoon_call_failed"),
        (Harpoon { metadata_status: 404, ..Harpoon::new() }, 502, "oauth_shim_harpoon_call_failed"),
        (
            Harpoon { endpoint: Ok((200, json!({}), "%%")), ..Harpoon::new().with_token() },
            502,
            "oauth_shim_harpoon_call_failed",
        ),
    ] {
        let site = Site::start();
        let _client = Client::start(&site, harpoon, "aa");
        let reply = endpoint(&site, "token", &[FORM], "a=b");
        assert_eq!((reply.status, reply.code().as_str()), (status, code), "{reply:?}");
    }
}

#[test]
fn an_endpoint_that_is_silent_ends_with_504() {
    let site = Site::with(|options| options.response_timeout = std::time::Duration::from_millis(1500));
    let _client =
        Client::start(&site, Harpoon { endpoint: Err("silence"), ..Harpoon::new().with_token() }, "aa");
    let reply = endpoint(&site, "token", &[FORM], "a=b");
    assert_eq!((reply.status, reply.code().as_str()), (504, "oauth_shim_upstream_timeout"));
}

#[test]
fn requests_that_no_endpoint_takes_are_refused_before_the_client_hears_of_them() {
    let site = Site::start();
    let client = Client::start(&site, Harpoon::new().with_token(), "aa");
    let large = "x".repeat(64 * 1024 + 1);
    for (segment, headers, body, status) in [
        ("token", vec![("Content-Type", "application/json")], "{}", 415),
        ("register", vec![FORM], "a=b", 415),
        ("token", vec![], "a=b", 415),
        ("token", vec![FORM], large.as_str(), 413),
        ("authorize", vec![FORM], "a=b", 404),
        ("introspect", vec![FORM], "a=b", 404),
    ] {
        assert_eq!(endpoint(&site, segment, &headers, body).status, status, "{segment} {headers:?}");
    }
    let base = format!("/v1/oauth/{TUNNEL}");
    for (method, path, status, allow) in [
        ("GET", format!("{base}/{SERVER}/register"), 405, Some("POST")),
        ("PUT", format!("{base}/{SERVER}/token"), 405, Some("GET, POST")),
        ("POST", format!("{base}/{SERVER}/.well-known/openid-configuration"), 405, Some("GET")),
        ("GET", format!("{base}/NOHEX/token"), 404, None),
        ("GET", format!("/v1/oauth/short/{SERVER}/token"), 400, None),
        ("GET", format!("/v1/oauth/{}/{SERVER}/token", TUNNEL.replace('0', "z")), 404, None),
    ] {
        let reply = site.caller().call(method, &path, &[], None);
        assert_eq!((reply.status, reply.header("Allow")), (status, allow), "{method} {path}");
    }
    assert!(client.seen().is_empty());
    let unknown = format!("{base}/0000/.well-known/openid-configuration");
    let reply = site.caller().call("GET", &unknown, &[], None);
    assert_eq!((reply.status, reply.code().as_str()), (404, "oauth_shim_target_not_found"));
}

#[test]
fn a_session_that_the_client_has_lost_is_opened_once_more() {
    let site = Site::start();
    let client = Client::start(&site, Harpoon { forgetful: true, ..Harpoon::new().with_token() }, "aa");
    assert_eq!(endpoint(&site, "token", &[FORM], "a=b").status, 201);
    let opened = client.methods().iter().filter(|method| *method == "initialize").count();
    assert_eq!(opened, 3, "{:?}", client.methods());
}

#[test]
fn all_commands_of_a_session_go_to_the_client_that_opened_it_and_to_another_once_it_is_gone() {
    let site = Site::with(|options| options.client_last_seen_timeout = std::time::Duration::from_secs(2));
    let first = Client::start(&site, Harpoon::new().with_token(), "aa");
    assert_eq!(endpoint(&site, "token", &[FORM], "a=b").status, 201);
    let before = first.seen().len();
    let second = Client::start(&site, Harpoon::new().with_token(), "bb");
    for _ in 0..4 {
        assert_eq!(endpoint(&site, "token", &[FORM], "a=b").status, 201);
    }
    assert_eq!((first.seen().len(), second.seen().len()), (before + 4, 0));
    drop(first);
    site::wait_for("the first client to be forgotten", || {
        endpoint(&site, "token", &[FORM], "a=b").status == 201 && !second.seen().is_empty()
    });
}

#[test]
fn without_a_declaration_the_document_comes_as_it_is_after_a_short_try() {
    for (info, attempts) in [(None, 1), (Some(r#"{"version":1,"channels":[{"name":"main"}]}"#), 0)] {
        let site = Site::start();
        let client = Client::start(&site, Harpoon { info, ..Harpoon::new() }, "aa");
        let shown = json!([if attempts == 1 { issuer() } else { "https://idp.corp/".to_owned() }]);
        assert_eq!(resource_metadata(&site).json()["authorization_servers"], shown);
        let tried = client.methods().iter().filter(|method| *method == "initialize").count();
        assert_eq!(tried, attempts);
    }
}

#[test]
fn a_caller_that_leaves_during_the_try_says_nothing_about_the_client() {
    let site = Site::start();
    site.connect();
    let mut caller = site.caller();
    ask_for_resource_metadata(&mut caller);
    let discovery = site.command();
    let document = answer(&discovery, &Harpoon::new(), &mut 0).unwrap();
    assert_eq!(site.respond(&discovery, document).status, 200);
    let tried = site.command();
    assert_eq!(tried["jsonrpc"]["method"], "initialize");
    drop(caller);
    site.wait_for("the call to end with its caller", |gauges| gauges.held == 0);
    let _client = Client::start(&site, Harpoon { info: None, ..Harpoon::new() }, "aa");
    assert_eq!(resource_metadata(&site).json()["authorization_servers"], json!([issuer()]));
}
