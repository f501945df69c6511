//! `admin tunnels` against a scripted control plane.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "test code")]

mod common;

use std::io::Write as _;

use serde_json::json;

use common::command::{Home, Run};
use common::http::{Request, reply};
use common::mcp_server::{McpServer, Next};

const ID: &str = "tunnel_0123456789abcdefghijklmnopqrstuv";

/// A control plane that gives every request the same answer.
struct Plane {
    server: McpServer,
}

impl Plane {
    fn answering(status: u16, body: &str) -> Plane {
        let bytes = reply(status, &[("Content-Type", "application/json"), ("X-Request-Id", "req_1")], body);
        let server = McpServer::scripted(move |_, stream| {
            let _ = stream.write_all(&bytes);
            Next::KeepAlive
        });
        Plane { server }
    }

    fn base(&self) -> String {
        self.server.url().trim_end_matches("/mcp").to_owned()
    }

    fn home(&self) -> Home {
        Home::new().with("CONTROL_PLANE_BASE_URL", &self.base()).with("OPENAI_ADMIN_KEY", " admin-key\n")
    }

    fn only_request(&self) -> Request {
        let seen = self.server.seen();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen[0].clone()
    }
}

fn tunnel() -> String {
    json!({ "id": ID, "name": "Docs", "description": "Routes", "creator": "user_1", "organization_ids": ["org_1", "org_2"],
            "workspace_ids": ["ws_1"] })
    .to_string()
}

#[test]
fn get_shows_a_tunnel_and_sends_the_headers_of_the_client() {
    let plane = Plane::answering(200, &tunnel());
    let home = plane.home().with("CONTROL_PLANE_URL_PATH", "/team/eu/");
    assert_eq!(
        home.run(&["admin", "tunnels", "get", ID]).ok(&[]).stdout,
        format!(
            "Tunnel {ID}\n  Name: Docs\n  Description: Routes\n  Creator: user_1\n  Organizations: org_1, org_2\n  Workspaces: ws_1\n"
        )
    );
    let request = plane.only_request();
    assert_eq!(
        (request.method.as_str(), request.path.as_str()),
        ("GET", &*format!("/team/eu/v1/tunnels/{ID}"))
    );
    for (name, value) in [
        ("Authorization", "Bearer admin-key"),
        ("Accept", "application/json"),
        ("X-Tunnel-Client-Name", "tunnel-client-rs"),
        ("X-Tunnel-Client-Version", env!("CARGO_PKG_VERSION")),
        ("User-Agent", concat!("tunnel-client-rs/", env!("CARGO_PKG_VERSION"))),
    ] {
        assert_eq!(request.header(name), Some(value));
    }
    let instance = request.header("X-Tunnel-Client-Instance-Id").unwrap();
    assert!(
        instance.len() == 32 && instance.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase())
    );
    assert_eq!(request.header("Content-Type"), None);
    assert_eq!(request.header("OpenAI-Organization"), None);
}

#[test]
fn a_tunnel_as_json_has_the_request_id() {
    let plane = Plane::answering(200, &tunnel());
    for arguments in [
        ["admin", "--json", "tunnels", "get", ID],
        ["admin", "tunnels", "--json", "get", ID],
        ["admin", "tunnels", "get", ID, "--json"],
    ] {
        let json = plane.home().run(&arguments).ok(&[]).json();
        assert_eq!((&json["id"], &json["request_id"]), (&json!(ID), &json!("req_1")));
        assert!(json.get("tenant_ids").is_none());
    }
}

#[test]
fn get_falls_back_to_the_runtime_key_and_nothing_else_does() {
    let plane = Plane::answering(200, &tunnel());
    let home = || Home::new().with("CONTROL_PLANE_BASE_URL", &plane.base());
    let runtime = home().with("CONTROL_PLANE_API_KEY", "runtime").with("OPENAI_API_KEY", "last");
    runtime.run(&["admin", "tunnels", "get", ID]).ok(&[]);
    runtime.run(&["admin", "--admin-key", "env:OPENAI_ADMIN_KEY", "tunnels", "get", ID]).ok(&[]);
    home().with("OPENAI_API_KEY", "last").run(&["admin", "tunnels", "get", ID]).ok(&[]);
    let keys: Vec<_> = plane
        .server
        .seen()
        .iter()
        .map(|request| request.header("Authorization").unwrap().to_owned())
        .collect();
    assert_eq!(keys, ["Bearer runtime", "Bearer runtime", "Bearer last"]);
    runtime.run(&["admin", "--admin-key", "env:OTHER", "tunnels", "get", ID]).fails(&["OTHER"]);
    for line in [
        "admin tunnels list --organization-id o",
        "admin tunnels create --name n --description d --organization-id o",
        &*format!("admin tunnels update {ID} --name n"),
        &*format!("admin tunnels delete {ID} --confirm"),
    ] {
        runtime.line(line).fails(&["OPENAI_ADMIN_KEY"]);
    }
    assert_eq!(plane.server.seen().len(), 3);
}

#[test]
fn list_takes_one_scope() {
    let list =
        json!({ "tunnels": [{ "id": "a", "name": "A" }, { "id": "b", "tenant_ids": ["t_1"] }] }).to_string();
    let plane = Plane::answering(200, &list);
    let home = plane.home();
    assert_eq!(
        home.line("admin tunnels list --workspace-id ws_1").ok(&[]).stdout,
        "Tunnel a\n  Name: A\n  Description:\n  Organizations:\n  Workspaces:\n\
         Tunnel b\n  Name:\n  Description:\n  Organizations:\n  Workspaces:\n  Tenants: t_1\n"
    );
    let json = home.run(&["admin", "tunnels", "list", "--organization-id", "o&1 ", "--json"]).ok(&[]).json();
    assert_eq!((&json["tunnels"][0]["name"], &json["request_id"]), (&json!("A"), &json!("req_1")));
    home.line("admin tunnels list --tenant-id t").ok(&[]);
    let paths: Vec<String> = plane.server.seen().iter().map(|request| request.path.clone()).collect();
    assert_eq!(
        paths,
        ["/v1/tunnels?workspace_id=ws_1", "/v1/tunnels?organization_id=o%261", "/v1/tunnels?tenant_id=t"]
    );
    for (line, part) in [
        ("admin tunnels list", "provide exactly one of --organization-id, --workspace-id, or --tenant-id"),
        ("admin tunnels list --organization-id o --workspace-id w", "provide exactly one of"),
        ("admin tunnels list --organization-id o --tenant-id t", "provide exactly one of"),
        ("admin tunnels list --organization-id a,b", "one --organization-id at a time"),
        ("admin tunnels list --organization-id a,a", "duplicate organization-id values: a"),
    ] {
        home.line(line).fails(&[part]);
    }
    assert_eq!(plane.server.seen().len(), 3);
    let empty = Plane::answering(200, r#"{"tunnels":[]}"#);
    assert_eq!(empty.home().line("admin tunnels list --tenant-id t").ok(&[]).stdout, "");
}

#[test]
fn create_sends_what_it_was_given_and_asks_for_patience() {
    let plane = Plane::answering(200, &tunnel());
    let home = plane.home();
    let create = [
        "admin",
        "tunnels",
        "create",
        "--name",
        " Docs ",
        "--description",
        "d",
        "--organization-id",
        "a, b",
        "--organization-id",
        "c",
    ];
    let created = home.run(&create);
    created.ok(&["Tunnel tunnel_", "25-30 seconds", "active and ready"]);
    let request = plane.only_request();
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/v1/tunnels"));
    assert_eq!(request.header("Content-Type"), Some("application/json"));
    assert_eq!(
        request.json(),
        json!({ "name": "Docs", "description": "d", "organization_ids": ["a", "b", "c"] })
    );
    let mut arguments = create.to_vec();
    arguments.push("--json");
    let json = home.run(&arguments);
    assert!(!json.ok(&[]).stdout.contains("25-30"));
    assert_eq!(json.json()["name"], "Docs");
    for (line, part) in [
        ("admin tunnels create --name n", "required flag(s) \"description\" not set"),
        ("admin tunnels create --name= --description d --workspace-id w", "name is required (set --name)"),
        (
            "admin tunnels create --name n --description= --workspace-id w",
            "description is required (set --description)",
        ),
        (
            "admin tunnels create --name n --description d",
            "at least one of --organization-id or --workspace-id is required",
        ),
    ] {
        home.line(line).fails(&[part]);
    }
    assert_eq!(plane.server.seen().len(), 2);
}

#[test]
fn update_sends_only_what_changes() {
    for (arguments, body) in [
        (&["--organization-id", ""][..], json!({ "organization_ids": [] })),
        (&["--name", " n "], json!({ "name": "n" })),
        (
            &["--description", "", "--workspace-id", "w,x"],
            json!({ "description": "", "workspace_ids": ["w", "x"] }),
        ),
    ] {
        let plane = Plane::answering(200, &tunnel());
        let mut line = vec!["admin", "tunnels", "update", ID];
        line.extend(arguments);
        plane.home().run(&line).ok(&["Tunnel tunnel_"]);
        let request = plane.only_request();
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", &*format!("/v1/tunnels/{ID}")));
        assert_eq!(request.json(), body);
    }
    let plane = Plane::answering(200, "");
    plane.home().run(&["admin", "tunnels", "update", ID]).fails(&["provide at least one field to update"]);
    assert!(plane.server.seen().is_empty());
}

#[test]
fn delete_wants_to_be_confirmed() {
    let plane = Plane::answering(200, "");
    // Before the key is looked up.
    let without_key = Home::new().with("CONTROL_PLANE_BASE_URL", &plane.base());
    without_key.run(&["admin", "tunnels", "delete", ID]).fails(&["refusing to delete without --confirm"]);
    assert!(plane.server.seen().is_empty());
    // An empty reply is a tunnel without anything.
    plane
        .home()
        .run(&["admin", "tunnels", "delete", ID, "--confirm", "--organization-id", "o"])
        .ok(&["Tunnel \n"]);
    assert_eq!(plane.only_request().method, "DELETE");
    let hidden = Plane::answering(404, r#"{"error":{"message":"Invalid URL (DELETE /v1/tunnels/x)"}}"#);
    hidden
        .home()
        .run(&["admin", "tunnels", "delete", ID, "--confirm"])
        .fails(&["is not exposed on this control-plane base URL yet", "Invalid URL (DELETE"]);
}

#[test]
fn a_refusal_is_told_with_everything_that_is_known() {
    let body = json!({ "error": { "message": "no such tunnel", "type": "invalid_request_error", "code": "tunnel_use_forbidden" } });
    let plane = Plane::answering(404, &body.to_string());
    let path = format!("/v1/tunnels/{ID}");
    let text = plane.home().run(&["admin", "tunnels", "get", ID]);
    text.fails(&[
        &format!("request GET {path} failed: 404 tunnel_use_forbidden: no such tunnel mitigation: "),
        "(x-request-id: req_1)",
    ]);
    let run = plane.home().run(&["admin", "tunnels", "get", ID, "--json"]);
    assert_eq!(run.json_error(), text.stderr.trim_end());
    let error = run.json()["error"].clone();
    for (name, value) in [
        ("method", json!("GET")),
        ("path", json!(path)),
        ("status_code", json!(404)),
        ("request_id", json!("req_1")),
        ("code", json!("tunnel_use_forbidden")),
        ("type", json!("invalid_request_error")),
    ] {
        assert_eq!(error[name], value, "{name}");
    }
    assert!(error["mitigation"].as_str().unwrap().contains("access"));
    let plain = Plane::answering(500, "it broke");
    plain.home().run(&["admin", "tunnels", "get", ID]).fails(&["failed: 500 it broke (x-request-id: req_1)"]);
    let html = Plane::answering(200, "<html>");
    html.home().run(&["admin", "tunnels", "get", ID]).fails(&["decode response: "]);
}

#[test]
fn local_errors_as_json_hold_only_a_message() {
    let home = Home::new();
    let run = home.line("admin tunnels list --organization-id o --json");
    assert_eq!(run.json_error(), "admin key is required; set --admin-key or OPENAI_ADMIN_KEY");
    assert_eq!(run.json()["error"].as_object().unwrap().len(), 1);
}

#[test]
fn what_is_wrong_is_told_in_order_and_nothing_is_sent() {
    let plane = Plane::answering(200, "{}");
    let key = plane.home().file("key", "from-file\n");
    let run = |home: Home, line: &str| -> Run { home.line(line) };
    let get = format!("admin tunnels get {ID}");
    for (line, part) in [
        ("admin tunnels get".to_owned(), "accepts 1 arg(s), received 0"),
        ("admin tunnels get a b".to_owned(), "accepts 1 arg(s), received 2"),
        ("admin tunnels get ../x --control-plane.base-url=x".to_owned(), "invalid tunnel ID"),
        ("admin tunnels get tunnel_short".to_owned(), "invalid tunnel ID"),
        ("admin tunnels update nope --name n".to_owned(), "invalid tunnel ID"),
        ("admin tunnels delete nope --confirm".to_owned(), "invalid tunnel ID"),
        (format!("{get} --control-plane.base-url nope --ca-bundle /no"), "invalid control-plane.base-url: "),
        (format!("{get} --control-plane.url-path x"), "invalid control-plane.url-path: "),
        (format!("{get} --ca-bundle /no/such/bundle --admin-key raw"), "invalid ca-bundle"),
        (format!("{get} --admin-key raw-secret"), "admin-key must use env: or file: prefixes"),
        (format!("{get} --admin-key env:NOT_THERE"), "NOT_THERE"),
        (format!("{get} --admin-key file:/no/such/key"), "/no/such/key"),
        (format!("{get} --control-plane-base-url http://h"), "unknown flag: --control-plane-base-url"),
        (format!("{get} --profile x"), "unknown flag: --profile"),
    ] {
        let run = run(plane.home(), &line);
        run.fails(&[part]);
        assert!(!run.stderr.contains("raw-secret"), "{line}");
    }
    plane.home().run(&["admin", "tunnels", "get", " "]).fails(&["tunnel id is required"]);
    let blank = Home::new().with("OPENAI_ADMIN_KEY", " ").line("admin tunnels list --tenant-id t");
    blank.fails(&["OPENAI_ADMIN_KEY must be non-empty"]);
    assert!(plane.server.seen().is_empty(), "{key}");
}
