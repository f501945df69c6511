//! Discovered URLs become targets of the embedded caller, as far as the MCP server's origin vouches for them.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "test code")]

mod common;
mod mcp_support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::http::{self, Request};
use common::process::Client;
use mcp_support::plane::{Plane, members};
use mcp_support::site::{Answer, Site, json, plain, reply};
use serde_json::{Value, json as value};

const AT_PATH: &str = "/.well-known/oauth-protected-resource/mcp";
const SERVER: &str = "/.well-known/oauth-authorization-server";
const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#;

fn base(request: &Request) -> String {
    format!("http://{}", request.header("Host").unwrap())
}

/// An MCP server that is its own authorization server; both of `token_base`'s places are elsewhere.
fn metadata(request: &Request, elsewhere: &str) -> Option<Answer> {
    let base = base(request);
    let document = match request.path.as_str() {
        AT_PATH => value!({"resource": format!("{base}/mcp"), "authorization_servers": [base]}),
        SERVER => value!({
            "issuer": base,
            "authorization_endpoint": format!("{base}/authorize"),
            "token_endpoint": format!("{elsewhere}/token"),
            "registration_endpoint": format!("{base}/register"),
        }),
        _ => return None,
    };
    Some(json(200, &document.to_string()))
}

fn site(elsewhere: String) -> Site {
    Site::tcp(move |request| metadata(request, &elsewhere).unwrap_or_else(|| plain(request)))
}

fn start(plane: &Plane, url: &str, more: &[&str]) -> Client {
    let mut arguments = vec!["--mcp.server-url", url];
    arguments.extend(more);
    Client::start(&plane.base_url(), &arguments)
}

/// The labels that `list_targets` shows.
fn labels(plane: &Plane) -> Vec<String> {
    plane.wait(&plane.command(&members("harpoon", &[], INITIALIZE)));
    let listed = plane.call_on("harpoon", "list_targets", "{}");
    let targets = listed["result"]["structuredContent"]["targets"].as_array().cloned().unwrap_or_default();
    targets.iter().map(|target| target["label"].as_str().unwrap().to_owned()).collect()
}

/// A document of the local API.
fn api(client: &Client, path: &str) -> Value {
    http::get(&format!("{}/api/{path}", client.health_url())).unwrap().json()
}

#[test]
fn what_the_servers_own_origin_vouches_for_can_be_called_and_nothing_else() {
    let plane = Plane::start();
    let elsewhere = Site::tcp(|_| reply(200, &[], ""));
    let server = site(format!("http://{}", elsewhere.address));
    let client = start(&plane, &server.url(), &["--harpoon.allow-plaintext-http"]);
    client.wait_ready();
    assert_eq!(
        labels(&plane),
        [
            "oauth-prmd-resource-0",
            "oauth-prmd-auth-server-0",
            "oauth-prmd-source-0",
            "oauth-auth-server-metadata-0",
            "oauth-issuer-0",
            "oauth-registration-endpoint-0",
        ]
    );
    let target = &api(&client, "harpoon/targets")["targets"][0];
    assert_eq!(target["inclusion_reason"], "loopback");
    let document =
        plane.call_on("harpoon", "call_target", r#"{"label":"oauth-auth-server-metadata-0","method":"GET"}"#);
    assert_eq!(document["result"]["structuredContent"]["status_code"], 200, "{document}");
    let refused =
        plane.call_on("harpoon", "call_target", r#"{"label":"oauth-token-endpoint-0","method":"GET"}"#);
    let text = refused["result"]["content"][0]["text"].as_str().unwrap();
    assert!(text.ends_with("unknown target"), "{refused}");
    assert!(elsewhere.seen().is_empty());
    let oauth = api(&client, "oauth");
    assert_eq!(oauth["registration"]["admitted"], 6, "{oauth}");
    assert_eq!(oauth["metadata_source"], "well_known");
    assert_eq!(oauth["metadata"]["auth_server_metadata"]["attempts"][0]["path_style"], "prepend");
    client.wait_output("discovered URL not registered");
}

#[test]
fn plain_http_is_no_target_unless_it_is_allowed_and_the_operator_is_told_why() {
    let plane = Plane::start();
    let server = site("http://as.example".to_owned());
    let client = start(&plane, &server.url(), &[]);
    client.wait_ready();
    let refused = &plane.wait(&plane.command(&members("harpoon", &[], INITIALIZE)))[0];
    assert_eq!(refused["resp_code"], 400, "{refused}");
    let registration = &api(&client, "oauth")["registration"];
    assert_eq!(registration["admitted"], 0);
    let refusals = registration["refusals"].to_string();
    assert!(refusals.contains("https"), "{refusals}");
}

#[test]
fn targets_are_there_when_the_discovery_is_answered_and_only_once_however_often_it_runs() {
    let plane = Plane::start();
    let healthy = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&healthy);
    let server = Site::tcp(move |request| {
        if request.path.starts_with("/.well-known") && !seen.load(Ordering::SeqCst) {
            return reply(500, &[], "");
        }
        metadata(request, "http://as.example").unwrap_or_else(|| plain(request))
    });
    let client = start(&plane, &server.url(), &["--harpoon.allow-plaintext-http"]);
    client.wait_output("OAuth discovery failed");
    healthy.store(true, Ordering::SeqCst);
    let discover = || plane.wait(&plane.command(r#""command_type":"oauth_discovery""#)).remove(0);
    assert_eq!(discover()["resp_code"], 200);
    let first = labels(&plane);
    assert_eq!(first.len(), 6, "{first:?}");
    for _ in 0..3 {
        assert_eq!(discover()["resp_code"], 200);
    }
    assert_eq!(labels(&plane), first);
}

#[test]
fn the_local_api_shows_urls_whole_but_for_their_credentials() {
    let plane = Plane::start();
    let server = Site::tcp(|request| {
        let base = base(request);
        match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/mcp") => {
                let named = format!("Bearer resource_metadata=\"{base}/named?tenant=a&token=hunter2\"");
                reply(401, &[("WWW-Authenticate", &named)], "")
            }
            (_, "/named?tenant=a&token=hunter2") => json(
                200,
                &value!({"resource": format!("{base}/mcp?x=1"),
                    "authorization_servers": [format!("{base}/oauth/token/v2")],
                    "resource_documentation": "https://user:hunter2@h.example/a?b=c"})
                .to_string(),
            ),
            _ => plain(request),
        }
    });
    let client = start(&plane, &server.url(), &[]);
    client.wait_output("ProtectedResourceMetaData fetched");
    let oauth = api(&client, "oauth");
    let base = server.url().trim_end_matches("/mcp").to_owned();
    assert_eq!(oauth["metadata"]["url"], format!("{base}/named?tenant=a&token=[REDACTED]"), "{oauth}");
    assert_eq!(oauth["metadata"]["body"]["resource"], format!("{base}/mcp?x=1"));
    assert_eq!(oauth["selected_authorization_server"], format!("{base}/oauth/token/v2"));
    assert_eq!(oauth["metadata"]["body"]["resource_documentation"], "https://h.example/a?b=c");
    assert!(!oauth.to_string().contains("hunter2"), "{oauth}");
}
