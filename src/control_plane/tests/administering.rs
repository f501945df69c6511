//! Administration of tunnels.

use super::*;

const TUNNEL_JSON: &str = r#"{"id":"tunnel_x","name":"Prod","description":null,"creator":"u","organization_ids":["o1"],"unknown":{}}"#;

fn admin(server: &Server) -> AdminClient {
    let settings = AdminSettings {
        base_url: server.url(),
        url_path: "/ws".to_owned(),
        api_key: Secret::new(KEY.to_owned()),
        instance_id: random_hex().unwrap(),
        client_version: "1.2.3".to_owned(),
    };
    AdminClient::new(&settings, &route(), &Cancel::new()).unwrap()
}

fn answered(answer: Answer) -> Server {
    Server::start(move |_| answer.clone())
}

#[test]
fn each_operation_has_its_request() {
    let server = answered(Answer::json(200, TUNNEL_JSON).with("x-request-id", "req_1"));
    let admin = admin(&server);
    let new = NewTunnel { name: "Prod".into(), organization_ids: vec!["o1".into()], ..NewTunnel::default() };
    let update = TunnelUpdate {
        name: Some("New".into()),
        organization_ids: Some(Vec::new()),
        ..TunnelUpdate::default()
    };
    let expected = Tunnel {
        id: "tunnel_x".into(),
        name: "Prod".into(),
        creator: "u".into(),
        organization_ids: vec!["o1".into()],
        request_id: "req_1".into(),
        ..Tunnel::default()
    };
    assert_eq!(admin.create(&new).unwrap(), expected);
    assert_eq!(admin.get("tunnel_x").unwrap(), expected);
    assert_eq!(admin.update("tunnel_x", &update).unwrap(), expected);
    assert_eq!(admin.delete("a b/../%2f?").unwrap(), expected);
    for (method, target, body) in [
        ("POST", "/ws/v1/tunnels", r#"{"name":"Prod","description":"","organization_ids":["o1"]}"#),
        ("GET", "/ws/v1/tunnels/tunnel_x", ""),
        ("POST", "/ws/v1/tunnels/tunnel_x", r#"{"name":"New","organization_ids":[]}"#),
        ("DELETE", "/ws/v1/tunnels/a%20b%2F..%2F%252f%3F", ""),
    ] {
        let seen = server.next();
        assert_identified(&seen);
        assert_eq!(seen.header("x-tunnel-mcp-server-info"), None);
        assert_eq!((seen.method.as_str(), seen.target.as_str()), (method, target));
        assert_eq!(String::from_utf8(seen.body).unwrap(), body);
    }
    assert_eq!(
        serde_json::to_string(&Tunnel { id: "t".into(), ..Tunnel::default() }).unwrap(),
        r#"{"id":"t","name":"","description":""}"#
    );
}

#[test]
fn a_list_is_filtered_by_what_was_given() {
    let server =
        answered(Answer::json(200, format!(r#"{{"tunnels":[{TUNNEL_JSON}]}}"#)).with("X-Request-Id", "r"));
    let admin = admin(&server);
    let filter =
        TunnelFilter { organization_id: "o&1".into(), workspace_id: "w".into(), ..TunnelFilter::default() };
    let list = admin.list(&filter).unwrap();
    assert_eq!((list.tunnels.len(), list.request_id.as_str()), (1, "r"));
    assert_eq!(server.next().target, "/ws/v1/tunnels?organization_id=o%261&workspace_id=w");
    admin.list(&TunnelFilter::default()).unwrap();
    assert_eq!(server.next().target, "/ws/v1/tunnels");
}

#[test]
fn an_empty_reply_is_an_empty_tunnel() {
    let server = answered(Answer::status(204).with("x-request-id", "r"));
    assert_eq!(admin(&server).get("t").unwrap(), Tunnel::default());
    assert_eq!(admin(&server).list(&TunnelFilter::default()).unwrap(), TunnelList::default());
}

#[test]
fn ids_that_name_no_tunnel_are_refused_locally() {
    let server = answered(Answer::status(200));
    let admin = admin(&server);
    assert_eq!(admin.get("").unwrap_err().to_string(), "tunnel id is required");
    for id in [".", ".."] {
        assert!(matches!(admin.delete(id), Err(AdminError::InvalidId(_))));
    }
    assert!(server.rest().is_empty());
}

#[test]
fn failures_are_told_with_everything_known() {
    let long = "y".repeat(9000);
    for (answer, expected) in [
        (
            Answer::json(403, r#"{"error":{"message":"m","type":"t","code":"c"}}"#)
                .with("x-request-id", "req_1"),
            "request GET /ws/v1/tunnels/t failed: 403 c: m (x-request-id: req_1)".to_owned(),
        ),
        (Answer::json(500, " boom "), "request GET /ws/v1/tunnels/t failed: 500 boom".to_owned()),
        (Answer::status(502), "request GET /ws/v1/tunnels/t failed: 502".to_owned()),
        (
            Answer::json(500, r#"{"error":{"code":"some_code"}}"#),
            r#"request GET /ws/v1/tunnels/t failed: 500 some_code: {"error":{"code":"some_code"}}"#
                .to_owned(),
        ),
        (Answer::json(400, &*long), format!("request GET /ws/v1/tunnels/t failed: 400 {}", "y".repeat(4096))),
    ] {
        let server = answered(answer);
        assert_eq!(admin(&server).get("t").unwrap_err().to_string(), expected);
    }
    let server = answered(Answer::json(403, r#"{"error":{"code":"tunnel_use_forbidden","type":"t"}}"#));
    let Err(AdminError::Status(refusal)) = admin(&server).get("t") else { panic!() };
    assert_eq!(
        (refusal.status, refusal.detail.code.as_str(), refusal.detail.kind.as_str()),
        (403, "tunnel_use_forbidden", "t")
    );
    assert!(refusal.to_string().contains(" mitigation: ") && refusal.detail.mitigation().is_some());
}

#[test]
fn a_control_plane_without_delete_is_explained() {
    let server = answered(Answer::json(404, r#"{"error":{"message":"Invalid URL (DELETE ...)"}}"#));
    let text = admin(&server).delete("t").unwrap_err().to_string();
    assert!(text.contains("delete is not exposed on this control-plane base URL yet"), "{text}");
    assert!(text.contains("Invalid URL (DELETE ...)"), "{text}");
    let text = admin(&server).get("t").unwrap_err().to_string();
    assert!(!text.contains("not exposed"), "{text}");
}

#[test]
fn a_reply_that_is_no_tunnel_is_an_error() {
    for body in ["nonsense", "[]", r#"{"id":5}"#] {
        let server = answered(Answer::json(200, body));
        let text = admin(&server).get("t").unwrap_err().to_string();
        assert!(text.starts_with("decode response: "), "{text}");
    }
}
