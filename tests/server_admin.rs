//! Managing tunnels: over HTTP, and with `tunnel-client admin tunnels`.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "test code")]

#[path = "support/process.rs"]
mod process;
#[path = "support/site.rs"]
mod site;
#[path = "support/wire.rs"]
mod wire;

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use process::Server;
use site::LIST;
use wire::Reply;

const READ: &str = "api.organization.tunnel.read";
const WRITE: &str = "api.organization.tunnel.write";
const USE: &str = "api.organization.tunnel.use";
const DECLARED: &str = "tunnel_2123456789abcdef0123456789abcdef";

fn start(directory: &Path, store: bool) -> Server {
    let store = if store {
        format!("store: {{path: {}}}\n", directory.join("tunnels.json").display())
    } else {
        String::new()
    };
    let text = format!(
        "listeners:
  - {{addr: \"127.0.0.1:0\", serve: [client, connector, admin, operator]}}
{store}keys:
  - {{name: boss, kind: admin, secret: \"env:TEST_ADMIN_KEY\", permissions: [{READ}, {WRITE}], organization_ids: [org_a, org_b], workspace_ids: [ws_1]}}
  - {{name: daemon, kind: runtime, secret: \"env:TEST_CLIENT_KEY\", permissions: [{READ}, {USE}], organization_ids: [org_a]}}
  - {{name: reader, kind: admin, secret: \"env:TEST_OTHER_KEY\", permissions: [{READ}], organization_ids: [org_a]}}
tunnels:
  - {{id: {DECLARED}, name: fixed, description: d, organization_ids: [org_b]}}
"
    );
    let path = directory.join("server.yaml");
    std::fs::write(&path, text).unwrap();
    Server::start(&["--config", path.to_str().unwrap()])
}

fn call(server: &Server, key: &str, method: &str, path: &str, body: Option<&Value>) -> Reply {
    let authorization = format!("Bearer {key}");
    let body = body.map(|body| body.to_string().into_bytes());
    let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
    server.connect().call(method, path, &headers, body.as_deref())
}

fn admin(server: &Server, method: &str, path: &str, body: Option<&Value>) -> Reply {
    call(server, "admin-key", method, path, body)
}

fn create(server: &Server, body: &Value) -> Value {
    let reply = admin(server, "POST", "/v1/tunnels", Some(body));
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()
}

fn new(organization: &str) -> Value {
    json!({"name": "Docs", "description": "Routes", "organization_ids": [organization]})
}

#[test]
fn a_tunnel_is_created_seen_listed_changed_and_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path(), true);
    let body = json!({"name": "Docs", "description": "Routes to docs", "organization_ids": ["org_b", "org_a"],
                      "workspace_ids": ["ws_1"]});
    let record = create(&server, &body);
    let id = record["id"].as_str().unwrap().to_owned();
    assert!(id.len() == 39 && id[7..].bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)));
    assert_eq!(record["creator"], "key:boss");
    assert_eq!(record["organization_ids"], json!(["org_b", "org_a"]));
    assert_eq!(record["tenant_ids"], json!([]));
    assert_eq!(record["created_at"], record["updated_at"]);
    let path = format!("/v1/tunnels/{id}");
    for key in ["admin-key", site::KEY, "other-key"] {
        let reply = call(&server, key, "GET", &path, None);
        assert_eq!((reply.status, reply.json()), (200, record.clone()), "{key}");
        assert_eq!(reply.header("Cache-Control"), Some("no-store"));
    }
    let listed = admin(&server, "GET", "/v1/tunnels?workspace_id=ws_1", None).json();
    assert_eq!(listed, json!({"tunnels": [record]}));
    let second = create(&server, &new("org_a"));
    let listed = call(&server, "other-key", "GET", "/v1/tunnels?organization_id=org_a", None).json();
    assert_eq!(listed, json!({"tunnels": [record, second]}), "in the order of creation");

    let changed = admin(&server, "POST", &path, Some(&json!({"workspace_ids": [], "name": "New"}))).json();
    assert_eq!(
        (&changed["name"], &changed["description"], &changed["workspace_ids"], &changed["organization_ids"]),
        (&json!("New"), &json!("Routes to docs"), &json!([]), &json!(["org_b", "org_a"]))
    );
    assert_eq!(admin(&server, "GET", "/v1/tunnels?workspace_id=ws_1", None).json(), json!({"tunnels": []}));
    let deleted = admin(&server, "DELETE", &path, None);
    assert_eq!((deleted.status, deleted.json()), (200, changed));
    for (method, body) in [("GET", None), ("DELETE", None), ("POST", Some(json!({"name": "x"})))] {
        assert_eq!(admin(&server, method, &path, body.as_ref()).status, 404, "{method}");
    }
    let reply = call(&server, site::KEY, "GET", &path, None);
    assert_eq!((reply.status, reply.code().as_str()), (403, "tunnel_use_forbidden"));
}

#[test]
fn what_is_not_allowed_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path(), false);
    let management = "tunnel_management_permission_required";
    let declared = format!("/v1/tunnels/{DECLARED}");
    for (key, method, path, body, status, code) in [
        ("wrong", "POST", "/v1/tunnels", Some(new("org_a")), 401, ""),
        (site::KEY, "GET", "/v1/tunnels?organization_id=org_a", None, 403, management),
        (site::KEY, "POST", "/v1/tunnels", Some(new("org_a")), 403, management),
        (site::KEY, "DELETE", declared.as_str(), None, 403, management),
        ("other-key", "POST", "/v1/tunnels", Some(new("org_a")), 403, management),
        ("other-key", "GET", "/v1/tunnels?organization_id=org_b", None, 403, management),
        ("admin-key", "POST", "/v1/tunnels", Some(new("org_c")), 403, management),
        ("admin-key", "GET", "/v1/tunnels?workspace_id=ws_2", None, 403, management),
        ("admin-key", "GET", "/v1/tunnels", None, 400, ""),
        ("admin-key", "GET", "/v1/tunnels?organization_id=", None, 400, ""),
        ("admin-key", "GET", "/v1/tunnels?organization_id=org_a&workspace_id=ws_1", None, 400, ""),
        ("admin-key", "GET", "/v1/tunnels?organization_id=org_a&organization_id=org_b", None, 400, ""),
        ("admin-key", "PUT", "/v1/tunnels", None, 405, ""),
        ("admin-key", "PATCH", declared.as_str(), None, 405, ""),
        ("admin-key", "DELETE", declared.as_str(), None, 403, ""),
        (
            "admin-key",
            "POST",
            "/v1/tunnels/short",
            Some(json!({"name": "x"})),
            400,
            "invalid_tunnel_id_format",
        ),
        ("admin-key", "GET", &format!("{declared}/poll?timeout_ms=1"), None, 401, "tunnel_use_forbidden"),
    ] {
        let reply = call(&server, key, method, path, body.as_ref());
        assert_eq!((reply.status, reply.code().as_str()), (status, code), "{key} {method} {path} {reply:?}");
    }
    for (change, code) in [
        (json!({"name": null}), ""),
        (json!({"name": " "}), ""),
        (json!({"description": 7}), ""),
        (json!({"organization_ids": []}), ""),
        (json!({"organization_ids": ["org_a", "org_a"]}), ""),
        (json!({"organization_ids": ["org_a", ""]}), ""),
        (
            json!({"tenant_ids": (0..101).map(|n| n.to_string()).collect::<Vec<_>>()}),
            "tunnel_principal_limit_exceeded",
        ),
    ] {
        let mut body = new("org_a");
        let (name, value) = change.as_object().unwrap().iter().next().unwrap();
        body[name] = value.clone();
        let reply = admin(&server, "POST", "/v1/tunnels", Some(&body));
        assert_eq!((reply.status, reply.code().as_str()), (400, code), "{change} {reply:?}");
        assert_eq!(reply.json()["error"]["type"], "invalid_request_error");
    }
    let id = create(&server, &new("org_a"))["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/tunnels/{id}");
    for (body, status, code) in [
        (json!({}), 400, ""),
        (json!({"organization_ids": []}), 400, ""),
        (json!({"organization_ids": ["org_c"]}), 403, management),
        (json!([]), 400, ""),
    ] {
        let reply = admin(&server, "POST", &path, Some(&body));
        assert_eq!((reply.status, reply.code().as_str()), (status, code), "{body} {reply:?}");
    }
    assert_eq!(admin(&server, "GET", &path, None).json()["organization_ids"], json!(["org_a"]));
}

#[test]
fn deleting_a_tunnel_ends_what_goes_on_in_it() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path(), false);
    let id = create(&server, &new("org_a"))["id"].as_str().unwrap().to_owned();
    let poll = |query: &str| format!("/v1/tunnels/{id}/poll?{query}");
    let bearer = format!("Bearer {}", site::KEY);
    let headers = [("Authorization", bearer.as_str())];
    assert_eq!(call(&server, site::KEY, "GET", &poll("timeout_ms=1"), None).status, 204);
    let mut parked = server.connect();
    parked.send("GET", &poll("channel=other&timeout_ms=30000"), &headers, None);
    let mut caller = server.connect();
    caller.send("POST", &format!("/v1/mcp/{id}"), &[], Some(LIST.as_bytes()));
    site::wait_for("the call and the poll", || {
        let metrics = server.connect().call("GET", "/metrics", &[], None);
        let has = |gauge: &str| metrics.text().contains(&format!("{gauge}{{tunnel_id=\"{id}\"}} 1"));
        has("tunnel_server_held_requests") && has("tunnel_server_parked_polls")
    });
    let began = Instant::now();
    assert_eq!(admin(&server, "DELETE", &format!("/v1/tunnels/{id}"), None).status, 200);
    let ended = parked.read();
    assert_eq!((ended.status, ended.code().as_str()), (401, "tunnel_use_forbidden"));
    assert_eq!(caller.read().status, 404);
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(
        server.connect().call("POST", &format!("/v1/mcp/{id}"), &[], Some(LIST.as_bytes())).status,
        404
    );
}

#[test]
fn stored_tunnels_outlive_the_server_and_those_without_a_store_a_reload() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let mut server = start(directory.path(), true);
    let record = create(&server, &new("org_a"));
    let path = format!("/v1/tunnels/{}", record["id"].as_str().unwrap());
    let file = directory.path().join("tunnels.json");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    server.signal(Signal::TERM);
    assert!(server.wait().success());
    let server = start(directory.path(), true);
    assert_eq!(admin(&server, "GET", &path, None).json(), record);
    // An operator may change the file.
    std::fs::write(&file, r#"{"tunnels":[]}"#).unwrap();
    server.signal(Signal::HUP);
    site::wait_for("the reload", || admin(&server, "GET", &path, None).status == 404);
    drop(server);

    let server = start(directory.path(), false);
    let path = format!("/v1/tunnels/{}", create(&server, &new("org_a"))["id"].as_str().unwrap());
    let document = directory.path().join("server.yaml");
    let text = std::fs::read_to_string(&document).unwrap().replace(DECLARED, &DECLARED.replace('2', "3"));
    std::fs::write(&document, text).unwrap();
    server.signal(Signal::HUP);
    let declared = format!("/v1/tunnels/{DECLARED}");
    site::wait_for("the reload", || admin(&server, "GET", &declared, None).status == 404);
    assert_eq!(admin(&server, "GET", &path, None).status, 200);
}

#[test]
fn a_store_that_cannot_be_written_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path(), true);
    std::fs::create_dir(directory.path().join("tunnels.json")).unwrap();
    let reply = admin(&server, "POST", "/v1/tunnels", Some(&new("org_a")));
    assert_eq!((reply.status, reply.header("Retry-After")), (503, Some("1")), "{reply:?}");
    let listed = admin(&server, "GET", "/v1/tunnels?organization_id=org_a", None);
    assert_eq!(listed.json(), json!({"tunnels": []}));
}

fn client(server: &Server, home: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tunnel-client"))
        .args(["admin", "tunnels"])
        .args(words)
        .env_clear()
        .env("HOME", home)
        .env("CONTROL_PLANE_BASE_URL", &server.url)
        .env("OPENAI_ADMIN_KEY", "admin-key")
        .output()
        .unwrap()
}

#[test]
fn the_client_manages_tunnels_from_the_command_line() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&[
        "--listen=127.0.0.1:0",
        "--api-key=env:TEST_CLIENT_KEY",
        "--admin-key=env:TEST_ADMIN_KEY",
        &format!("--store={}", directory.path().join("t.json").display()),
    ]);
    let run = |words: &[&str]| {
        let output = client(&server, directory.path(), words);
        let (stdout, stderr) =
            (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        (output.status.code(), stdout, stderr)
    };
    let json = |words: &[&str]| {
        let (code, stdout, stderr) = run(&[words, &["--json"]].concat());
        assert_eq!(code, Some(0), "{words:?} {stdout} {stderr}");
        serde_json::from_str::<Value>(&stdout).unwrap()
    };
    let made = json(&["create", "--name", "Docs", "--description", "d", "--organization-id", "org_a"]);
    let id = made["id"].as_str().unwrap();
    assert!(!made["request_id"].as_str().unwrap().is_empty());
    assert_eq!(json(&["get", id])["name"], "Docs");
    assert_eq!(json(&["list", "--organization-id", "org_a"])["tunnels"][0]["id"], id);
    let changed = json(&["update", id, "--workspace-id", "ws_1", "--organization-id", ""]);
    assert_eq!((&changed["workspace_ids"], changed.get("organization_ids")), (&json!(["ws_1"]), None));
    assert_eq!(json(&["delete", id, "--confirm"])["id"], id);
    let (code, stdout, _) = run(&["delete", id, "--confirm", "--json"]);
    let error: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, &error["error"]["status_code"]), (Some(1), &json!(404)));
}
