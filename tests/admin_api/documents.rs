//! What the documents say.

use std::io::{BufReader, Write};
use std::net::TcpListener;

use crate::common::connector::Connector;
use crate::common::process::{Client, stdio_fixture};
use crate::common::{TUNNEL_ID, engine, eventually, http, wait_polled};
use crate::{Site, site, site_with};

#[test]
fn status_tells_what_the_client_is_and_how_its_channel_is_doing() {
    let site = site(&["--control-plane.poll-timeout", "7s", "--control-plane.max-inflight", "3"]);
    site.client.wait_ready();
    eventually("the metadata is known", || site.document("/api/status").get("tunnel_metadata").is_some());
    let status = site.document("/api/status");
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["client_instance_id"].as_str().unwrap().len(), 32);
    assert!(status["started_at"].as_str().unwrap().starts_with("20"), "{status}");
    assert!(status["uptime_seconds"].is_u64());
    assert_eq!(status["health_listen_addr"], site.address());
    assert_eq!(status["control_plane_base_url"], site.engine.client_base_url().as_str());
    assert_eq!(status["control_plane_tunnel_id"], TUNNEL_ID);
    assert_eq!(status["control_plane_max_inflight"], 3);
    assert_eq!(status["control_plane_poll_timeout"], "7s");
    let url = status["mcp_server_url"].as_str().unwrap();
    assert!(url.ends_with("/mcp"), "{url}");
    let metadata: Vec<_> = status["mcp_resource_metadata_urls"].as_array().unwrap().iter().collect();
    assert!(metadata[0].as_str().unwrap().ends_with("/.well-known/oauth-protected-resource/mcp"));
    assert_eq!(status["raw_http_logging_enabled"], false);
    assert!(status.get("warnings").is_none());
    let known = &status["tunnel_metadata"];
    assert_eq!((&known["ID"], &known["id"]), (&TUNNEL_ID.into(), &TUNNEL_ID.into()));
    assert!(known["Name"].is_string() && known["Name"] == known["name"]);
    let main = &status["channels"][0];
    let expected = serde_json::json!({
        "name": "main", "enabled": true, "server_kind": "external", "transport_kind": "http-streamable",
        "probe_status": "ok", "details": [{"key": "address", "value": url}],
    });
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&main[key], value, "{key}");
    }
    let harpoon = status["channels"].as_array().unwrap().last().unwrap();
    assert_eq!((&harpoon["name"], &harpoon["enabled"]), (&"harpoon".into(), &false.into()));
    assert_eq!(
        (&harpoon["server_kind"], &harpoon["transport_kind"]),
        (&"builtin".into(), &"in-memory".into())
    );
    let route = &status["control_plane_route"];
    assert_eq!((&route["kind"], &route["route_mode"]), (&"control_plane".into(), &"direct".into()));
    assert_eq!(status["mcp_routes"][0]["name"], "main");
}

#[test]
fn a_child_shows_its_process_and_a_channel_that_is_not_polled_why() {
    let engine = engine();
    let fixture = stdio_fixture().display().to_string();
    let arguments = [
        "--mcp.command",
        &format!("channel=main,command={fixture}"),
        "--mcp.server-url",
        "channel=other,url=http://127.0.0.1:9/mcp",
        "--control-plane.poll-channel",
        "main",
    ];
    let client = Client::start(&engine.client_base_url(), &arguments);
    wait_polled(&engine);
    let status = http::get(&format!("{}/api/status", client.health_url())).unwrap().json();
    let [main, other, harpoon] = &status["channels"].as_array().unwrap()[..] else { panic!("{status}") };
    assert_eq!((&main["transport_kind"], &main["probe_status"]), (&"stdio".into(), &"ok".into()));
    assert_eq!(main["details"][0]["key"], "pid");
    let pid: u32 = main["details"][0]["value"].as_str().unwrap().parse().unwrap();
    assert!(std::path::Path::new(&format!("/proc/{pid}")).exists());
    assert_eq!(main["details"][1], serde_json::json!({"key": "command", "value": fixture}));
    assert_eq!(main["protocol"]["child_generation"], 1);
    assert!(status.get("mcp_server_url").is_none());
    assert_eq!(
        (&other["enabled"], &other["reason"]),
        (&false.into(), &"not in control_plane.poll_channels".into())
    );
    assert!(other.get("probe_status").is_none());
    assert_eq!(harpoon["name"], "harpoon");
}

#[test]
fn no_document_and_no_event_shows_a_credential() {
    let server = crate::common::mcp_server::McpServer::by_tool_name();
    let engine = engine();
    let url = server.url().replace("http://", "http://someone:pass-w0rd-1@") + "?token=query-secret-2";
    let client = Client::start_with(
        &engine.client_base_url(),
        &[
            "--mcp.server-url",
            &url,
            "--mcp.extra-headers",
            "X-Api: header-secret-3",
            "--http-proxy",
            "http://proxy-user:proxy-secret-4@127.0.0.1:9",
            "--log.level",
            "debug",
            "--log.format",
            "json",
            "--log.http-raw-unsafe",
        ],
        &[],
    );
    let paths = [
        "status",
        "system",
        "oauth",
        "harpoon/status",
        "harpoon/targets",
        "harpoon/calls",
        "logs?limit=5000",
    ];
    eventually("a poll was dumped", || client.output().contains("raw http request"));
    for path in paths {
        let text = http::get(&format!("{}/api/{path}", client.health_url())).unwrap().text();
        for secret in
            ["pass-w0rd-1", "query-secret-2", "header-secret-3", "proxy-secret-4", crate::common::API_KEY]
        {
            assert!(!text.contains(secret), "{path} shows {secret}: {text}");
        }
    }
}

#[test]
fn a_proxy_that_refuses_shows_in_the_system_document_and_recovers() {
    // Answers each CONNECT with what the next line of the script says.
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = proxy.local_addr().unwrap();
    let status = std::sync::Arc::new(std::sync::atomic::AtomicU16::new(407));
    let told = std::sync::Arc::clone(&status);
    std::thread::spawn(move || {
        for mut stream in proxy.incoming().flatten() {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let _ = http::read_request(&mut reader);
            let status = told.load(std::sync::atomic::Ordering::SeqCst);
            let _ = stream.write_all(format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n").as_bytes());
        }
    });
    let fixture = stdio_fixture().display().to_string();
    let proxy_url = format!("http://user:proxy-secret@{address}");
    let client = Client::start_with(
        "https://control-plane.invalid",
        &["--mcp.command", &fixture, "--proxy.check-interval", "100ms"],
        &[("HTTPS_PROXY", &proxy_url)],
    );
    let system = || http::get(&format!("{}/api/system", client.health_url())).unwrap().json();
    let route = |system: &serde_json::Value| system["proxy_health"][0].clone();
    eventually("the refusal is seen", || route(&system())["history"].is_array());
    let seen = system();
    let route_now = route(&seen);
    assert_eq!(route_now["route"]["kind"], "control_plane");
    assert_eq!(route_now["health_state"], "unhealthy");
    let check = &route_now["history"][0];
    assert_eq!((&check["success"], &check["error_phase"]), (&false.into(), &"connect".into()), "{check}");
    assert_eq!(
        (&check["error_reason"], &check["http_status_category"]),
        (&"bad_status".into(), &"4xx".into())
    );
    let identity = &seen["proxy_identity_map"][0];
    assert_eq!(identity["proxy_url"], format!("http://{address}"));
    assert_eq!(identity["proxy_source"], "env:HTTPS_PROXY");
    assert_eq!(identity["proxy_id"], route_now["route"]["proxy_id"]);
    assert!(!seen.to_string().contains("proxy-secret"));
    assert_eq!(seen["main_channel_probe_status"], "ok");
    assert_eq!(seen["tls"]["system_trust"]["source"], "system cert pool");
    status.store(200, std::sync::atomic::Ordering::SeqCst);
    eventually("the recovery is seen", || route(&system())["health_state"] == "healthy");
    assert!(route(&system())["last_success"].is_string());
    eventually("the history is full", || route(&system())["history"].as_array().unwrap().len() == 10);
    assert_eq!(client.readyz().0, 200);
}

#[test]
fn oauth_and_harpoon_have_their_documents() {
    let site = site(&[]);
    let oauth = site.document("/api/oauth");
    assert_eq!(oauth["auth_server_metadata_mode"], "authorization_servers[0] only (source of truth)");
    assert!(oauth["authorization_server_count"].is_u64());
    assert!(oauth["discovery_urls"].is_array());
    assert_eq!(site.document("/api/harpoon/status")["enabled"], false);
    assert!(site.document("/api/harpoon/targets").get("targets").is_some());
    assert!(site.document("/api/harpoon/calls?label=x&limit=7").get("calls").is_some());
}

#[test]
fn read_paths_are_read_only_and_the_assistant_is_not_there() {
    let site = site(&[]);
    for path in [
        "status",
        "system",
        "oauth",
        "logs",
        "logs/stream",
        "harpoon/status",
        "harpoon/targets",
        "harpoon/calls",
    ] {
        let reply = site.ask("POST", &format!("/api/{path}"), &[], "{}");
        assert_eq!((reply.status, reply.header("Allow")), (405, Some("GET, HEAD")), "{path}");
        assert_eq!(reply.text(), "method not allowed\n");
    }
    let head = site.head("/api/status");
    assert_eq!((head.status, head.body.len()), (200, 0));
    for path in ["status", "events", "events/stream"] {
        let reply = site.get(&format!("/api/codex/{path}"));
        assert_eq!((reply.status, reply.text().as_str()), (503, "codex bridge unavailable\n"));
    }
    assert_eq!(site.ask("POST", "/api/codex/thread/start", &[], "{}").status, 503);
    let missing = site.get("/api/nope");
    assert_eq!((missing.status, missing.text().as_str()), (404, "404 page not found\n"));
}

#[test]
fn raw_logging_is_announced_and_dumps_only_at_debug() {
    let raw = ["--log.http-raw-unsafe", "--log.format", "struct-text"];
    let site = site(&raw);
    let warning = "⚠️  WARNING: Raw HTTP logging enabled — sensitive data may be exposed";
    site.client.wait_output(warning);
    let status = site.document("/api/status");
    assert_eq!(status["raw_http_logging_enabled"], true);
    assert_eq!(
        status["warnings"],
        serde_json::json!(["Raw HTTP logging is enabled; sensitive data may be exposed."])
    );
    call(&site, 1);
    assert!(!site.client.output().contains("raw http"), "not below debug");
    assert!(site.events().iter().all(|event| event["message"] != "raw http request"));
    assert_eq!(site.ask("PUT", "/api/log-level", &[], r#"{"level":"debug"}"#).status, 200);
    call(&site, 2);
    site.client.wait_output("Authorization: Bearer [REDACTED]");
    assert!(!site.client.output().contains(crate::common::API_KEY));
    let events = site.events();
    let dumps: Vec<_> = events.iter().filter(|event| event["message"] == "raw http request").collect();
    let of = |component: &str| {
        dumps.iter().find(|event| event["attrs"]["component"] == component).expect(component)["attrs"]["dump"]
            .clone()
    };
    assert!(of("controlplane").as_str().unwrap().contains("\r\nAuthorization: Bearer [REDACTED]\r\n"));
    assert!(of("mcpclient").as_str().unwrap().starts_with("POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:"));
    let answered = events.iter().any(|event| {
        event["message"] == "raw http response"
            && event["attrs"]["component"] == "mcpclient"
            && event["attrs"]["dump"].as_str().unwrap().contains("\r\n\r\n{\"")
    });
    assert!(answered, "the reply was dumped with its body");
}

#[test]
fn a_variable_makes_raw_logging_visible_as_well() {
    let site = site_with(&[], &[("LOG_HTTP_RAW_UNSAFE", "true")]);
    assert_eq!(site.document("/api/status")["raw_http_logging_enabled"], true);
}

fn call(site: &Site, id: u64) {
    let reply = Connector::new(&site.engine.mcp_url()).call(id, "echo", r#"{"text":"hi"}"#);
    assert_eq!(reply.status, 200);
}
