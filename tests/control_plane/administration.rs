//! The administrative client against a scripted service.

use std::io::Write;

use tunnel_client::control_plane::{AdminClient, AdminSettings, NewTunnel, TunnelFilter, TunnelUpdate};
use tunnel_client::ids::random_hex;
use tunnel_client::net::{Cancel, Route, Trust, Via};
use tunnel_client::secret::Secret;

use crate::common::http::reply;
use crate::common::mcp_server::{McpServer, Next};

/// Answers everything with this; requests are recorded.
fn service(status: u16, body: &'static str) -> McpServer {
    McpServer::scripted(move |_, stream| {
        let _ = stream.write_all(&reply(status, &[("x-request-id", "req_1")], body));
        Next::KeepAlive
    })
}

fn admin(service: &McpServer) -> AdminClient {
    let settings = AdminSettings {
        base_url: service.url().parse().unwrap(),
        url_path: "/pre".to_owned(),
        api_key: Secret::new("admin-key".to_owned()),
        instance_id: random_hex().unwrap(),
        client_version: "1.2.3".to_owned(),
    };
    AdminClient::new(&settings, &Route::new(Via::Direct, Trust::system()), &Cancel::new()).unwrap()
}

#[test]
fn each_operation_has_its_method_path_body_and_request_id() {
    let service = service(200, r#"{"id":"t/1","name":"n","description":"","request_id":"body"}"#);
    let admin = admin(&service);
    let new = NewTunnel { name: "Prod".into(), organization_ids: vec!["o".into()], ..NewTunnel::default() };
    let clear = TunnelUpdate {
        name: Some("New".into()),
        organization_ids: Some(Vec::new()),
        ..TunnelUpdate::default()
    };
    for tunnel in [
        admin.create(&new).unwrap(),
        admin.get("t/1").unwrap(),
        admin.update("t1", &clear).unwrap(),
        admin.delete("t1").unwrap(),
    ] {
        assert_eq!((tunnel.id.as_str(), tunnel.request_id.as_str()), ("t/1", "req_1"));
    }
    let filter = TunnelFilter { workspace_id: "w 1".into(), ..TunnelFilter::default() };
    assert_eq!(admin.list(&filter).unwrap().request_id, "req_1");
    let seen = service.seen();
    let requests: Vec<_> = seen.iter().map(|r| format!("{} {} {}", r.method, r.path, r.text())).collect();
    assert_eq!(
        requests,
        [
            r#"POST /pre/v1/tunnels {"name":"Prod","description":"","organization_ids":["o"]}"#,
            "GET /pre/v1/tunnels/t%2F1 ",
            r#"POST /pre/v1/tunnels/t1 {"name":"New","organization_ids":[]}"#,
            "DELETE /pre/v1/tunnels/t1 ",
            "GET /pre/v1/tunnels?workspace_id=w%201 ",
        ]
    );
    for request in &seen {
        assert_eq!(request.header("Authorization"), Some("Bearer admin-key"));
        assert_eq!(request.header("Accept"), Some("application/json"));
        assert_eq!(request.header("User-Agent"), Some("tunnel-client-rs/1.2.3"));
        assert!(request.header("X-Tunnel-MCP-Server-Info").is_none());
        assert_eq!(request.header("Content-Type").is_some(), !request.body.is_empty());
    }
}

#[test]
fn failures_are_told_with_status_body_and_request_id() {
    let text = admin(&service(500, "boom")).get("t").unwrap_err().to_string();
    assert_eq!(text, "request GET /pre/v1/tunnels/t failed: 500 boom (x-request-id: req_1)");
    let text = admin(&service(404, "Invalid URL (DELETE /v1/x)")).delete("t").unwrap_err().to_string();
    assert!(text.contains("delete is not exposed on this control-plane base URL yet"), "{text}");
    let text = admin(&service(200, "[]")).get("t").unwrap_err().to_string();
    assert!(text.starts_with("decode response"), "{text}");
    for id in ["", ".", ".."] {
        assert!(admin(&service(200, "{}")).get(id).is_err());
    }
}
