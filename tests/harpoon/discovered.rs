//! Targets that a discovery finds while the client runs.

use serde_json::{Value, json};

use super::rig::{Reply, base, target};
use crate::common::control_plane::{self, ControlPlane};
use crate::common::eventually;
use crate::common::http;
use crate::common::mcp_server::McpServer;
use crate::common::process::Client;

/// An MCP server that is its own authorization server, but for the token endpoint in `token`.
fn server(token: Option<String>) -> McpServer {
    target(move |request| {
        let host = request.header("Host").unwrap();
        let base = format!("http://{host}");
        let token = token.clone().unwrap_or(format!("{base}/oauth//Token"));
        match request.path.as_str() {
            "/.well-known/oauth-protected-resource/mcp" => {
                Reply::ok(json!({"resource": format!("{base}/mcp"), "authorization_servers": [base]}).to_string())
            }
            "/.well-known/oauth-authorization-server" => Reply::ok(
                json!({"issuer": base, "token_endpoint": token, "registration_endpoint": format!("{base}/register")})
                    .to_string(),
            )
            .with("Content-Type", "application/json"),
            _ => Reply { status: 405, ..Reply::ok("") },
        }
    })
}

fn targets(client: &Client) -> Vec<Value> {
    let reply = http::get(&format!("{}/api/harpoon/targets", client.health_url())).unwrap().json();
    reply["targets"].as_array().unwrap().clone()
}

fn labels(client: &Client) -> Vec<String> {
    targets(client).iter().map(|target| target["label"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_loopback_server_that_may_be_plain_brings_its_targets_and_the_channel_comes_up() {
    let mcp = server(None);
    let plane = ControlPlane::start();
    let arguments = ["--mcp.server-url", &mcp.url(), "--harpoon.allow-plaintext-http"];
    let client = Client::start(&plane.base_url(), &arguments);
    eventually("the targets are there", || labels(&client).len() >= 7);
    let found = labels(&client);
    for label in [
        "oauth-prmd-resource-0",
        "oauth-prmd-auth-server-0",
        "oauth-prmd-source-0",
        "oauth-auth-server-metadata-0",
        "oauth-issuer-0",
        "oauth-token-endpoint-0",
        "oauth-registration-endpoint-0",
    ] {
        assert!(found.iter().any(|have| have == label), "{label} in {found:?}");
    }
    assert!(targets(&client).iter().all(|target| target["inclusion_reason"] == "loopback"));

    let ask = |id: &str, method: &str, params: Value| {
        let json = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string();
        plane.send(&[control_plane::message(id, &json, r#","channel":"harpoon""#)]);
        plane.wait_answers(&[id])[0].json()["resp_json"].clone()
    };
    ask("init", "initialize", json!({"protocolVersion": "2025-06-18"}));
    let info = plane.polls().last().unwrap().header("X-Tunnel-MCP-Server-Info").unwrap().to_owned();
    assert_eq!(info, r#"{"version":1,"channels":[{"name":"main"},{"name":"harpoon","proc_affinity":true}]}"#);
    let tool = |id: &str, name: &str, arguments: Value| {
        ask(id, "tools/call", json!({"name": name, "arguments": arguments}))["result"].clone()
    };
    let audience = tool("aud", "get_oauth_target_audience", json!({"label": "oauth-token-endpoint-0"}));
    let expected = format!("{}/oauth//Token", base(&mcp));
    assert_eq!(audience["structuredContent"]["audience"], expected, "as it is spelled");
    let metadata =
        tool("meta", "call_target", json!({"label": "oauth-auth-server-metadata-0", "method": "GET"}));
    let body = super::rig::text_of(&metadata["structuredContent"]);
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["token_endpoint"], "harpoon://oauth-token-endpoint-0");
    assert_eq!(body["issuer"], "harpoon://oauth-issuer-0", "of several targets of one URL the issuer's");
    let listed = tool("list", "list_targets", json!({"categories": ["oauth"], "tags": ["token-endpoint"]}));
    assert_eq!(listed["structuredContent"]["targets"].as_array().unwrap().len(), 1);

    let discovery = r#""command_type":"oauth_discovery","channel":"main""#;
    plane.send(&[control_plane::command("again", discovery)]);
    assert_eq!(plane.wait_answers(&["again"])[0].json()["resp_code"], 200);
    assert_eq!(labels(&client), found, "nothing is registered twice");
}

#[test]
fn a_plain_server_brings_none_unless_that_is_allowed_and_never_one_of_another_origin() {
    let private = target(|_| Reply::ok("private"));
    let mcp = server(Some(format!("{}/admin", base(&private))));
    let url = mcp.url();
    let found = |arguments: &[&str]| {
        let plane = ControlPlane::start();
        let client =
            Client::start(&plane.base_url(), &[&["--mcp.server-url", url.as_str()], arguments].concat());
        // What is found is registered before it is answered.
        plane.send(&[control_plane::command("d", r#""command_type":"oauth_discovery","channel":"main""#)]);
        assert_eq!(plane.wait_answers(&["d"])[0].json()["resp_code"], 200);
        labels(&client)
    };
    assert!(found(&[]).is_empty());
    let plain = found(&["--harpoon.allow-plaintext-http"]);
    assert!(plain.iter().any(|label| label == "oauth-registration-endpoint-0"), "{plain:?}");
    assert!(!plain.iter().any(|label| label.contains("token-endpoint")), "{plain:?}");
    assert_eq!(private.connections(), 0);
}

/// What a call of `label` on the harpoon channel says.
fn ask(plane: &ControlPlane, id: &str, method: &str, params: Value) -> Value {
    let json = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string();
    plane.send(&[control_plane::message(id, &json, r#","channel":"harpoon""#)]);
    plane.wait_answers(&[id])[0].json()["resp_json"].clone()
}

#[test]
fn documents_name_targets_by_what_their_members_are_for() {
    // One URL in many roles; the host is spelled in another way than the endpoint's.
    let mcp = target(|request| {
        let port = request.header("Host").unwrap().rsplit(':').next().unwrap().to_owned();
        let (own, loud) = (format!("http://localhost:{port}"), format!("http://LOCALHOST:{port}"));
        match request.path.as_str() {
            "/.well-known/oauth-protected-resource/mcp" => Reply::ok(
                json!({"resource": format!("{own}/mcp"), "authorization_servers": [own], "n": 1}).to_string(),
            ),
            "/.well-known/oauth-authorization-server" => Reply::ok(
                json!({"issuer": own, "token_endpoint": format!("{loud}/oauth//token"),
                    "introspection_endpoint": own, "revocation_endpoint": format!("{own}/revoke"),
                    "registration_endpoint": format!("{own}/register"),
                    "authorization_endpoint": format!("{own}/authorize")})
                .to_string(),
            )
            .with("Content-Type", "application/json"),
            "/register" => Reply::ok("{ \"client_id\" : 12345678901234567890 }"),
            _ => Reply { status: 405, ..Reply::ok("") },
        }
    });
    let port = base(&mcp).rsplit(':').next().unwrap().to_owned();
    let url = format!("http://localhost:{port}/mcp");
    let plane = ControlPlane::start();
    let arguments = ["--mcp.server-url", &url, "--harpoon.allow-plaintext-http"];
    let client = Client::start(&plane.base_url(), &arguments);
    eventually("the targets are there", || labels(&client).len() == 9);
    ask(&plane, "init", "initialize", json!({"protocolVersion": "2025-06-18"}));
    let body = |label: &str, method: &str| {
        let params = json!({"name": "call_target", "arguments": {"label": label, "method": method}});
        let answer = ask(&plane, label, "tools/call", params);
        super::rig::text_of(&answer["result"]["structuredContent"])
    };
    let server: Value = serde_json::from_str(&body("oauth-auth-server-metadata-0", "GET")).unwrap();
    let expected = json!({"issuer": "harpoon://oauth-issuer-0",
        "token_endpoint": "harpoon://oauth-token-endpoint-0",
        "introspection_endpoint": "harpoon://oauth-introspection-endpoint-0",
        "revocation_endpoint": "harpoon://oauth-revocation-endpoint-0",
        "registration_endpoint": "harpoon://oauth-registration-endpoint-0",
        "authorization_endpoint": format!("http://localhost:{port}/authorize")});
    assert_eq!(server, expected);
    let resource: Value = serde_json::from_str(&body("oauth-prmd-source-0", "GET")).unwrap();
    let servers = json!(["harpoon://oauth-prmd-auth-server-0"]);
    assert_eq!(resource, json!({"resource": url, "authorization_servers": servers, "n": 1}));
    let untouched = "{ \"client_id\" : 12345678901234567890 }";
    assert_eq!(body("oauth-registration-endpoint-0", "POST"), untouched, "byte for byte");

    let audience = |label: &str| {
        let params = json!({"name": "get_oauth_target_audience", "arguments": {"label": label}});
        ask(&plane, &format!("aud-{label}"), "tools/call", params)
    };
    let token = audience("oauth-token-endpoint-0");
    let spelled = format!("http://LOCALHOST:{port}/oauth//token");
    assert_eq!(token["result"]["structuredContent"], json!({"audience": spelled}));
    assert_eq!(
        super::rig::failure_of(&audience("oauth-registration-endpoint-0")),
        "label oauth-registration-endpoint-0: target is not an OAuth token endpoint"
    );
}

#[test]
fn a_token_endpoint_with_user_info_or_a_fragment_is_no_audience() {
    for [before, after] in [["user:hunter2@", "/token"], ["", "/token#hunter2"]] {
        let mcp = target(move |request| {
            let host = request.header("Host").unwrap();
            match request.path.as_str() {
                "/.well-known/oauth-protected-resource/mcp" => Reply::ok(
                    json!({"resource": format!("http://{host}/mcp"),
                        "authorization_servers": [format!("http://{host}")]})
                    .to_string(),
                ),
                "/.well-known/oauth-authorization-server" => Reply::ok(
                    json!({"issuer": format!("http://{host}"),
                        "token_endpoint": format!("http://{before}{host}{after}")})
                    .to_string(),
                )
                .with("Content-Type", "application/json"),
                _ => Reply { status: 405, ..Reply::ok("") },
            }
        });
        let plane = ControlPlane::start();
        let arguments = ["--mcp.server-url", &mcp.url(), "--harpoon.allow-plaintext-http"];
        let client = Client::start(&plane.base_url(), &arguments);
        eventually("the targets are there", || labels(&client).len() == 6);
        ask(&plane, "init", "initialize", json!({"protocolVersion": "2025-06-18"}));
        let params =
            json!({"name": "get_oauth_target_audience", "arguments": {"label": "oauth-token-endpoint-0"}});
        let answer = ask(&plane, "aud", "tools/call", params);
        assert_eq!(
            super::rig::failure_of(&answer),
            "label oauth-token-endpoint-0: target URL cannot be used as an OAuth audience"
        );
        assert!(!answer.to_string().contains("hunter2"));
    }
}
