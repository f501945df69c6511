use crate::common::mcp_server::McpServer;
use crate::common::process::Client;
use crate::common::{API_KEY, engine, http};
use crate::{get, unpack};

const MEMBERS: [&str; 9] = [
    "manifest.json",
    "README.txt",
    "tunnel-client.runtime.yaml",
    "tunnel-client.logs.ndjson",
    "tunnel-client.metrics.prom",
    "admin/status.json",
    "admin/system.json",
    "admin/oauth.json",
    "admin/harpoon.json",
];

#[test]
fn the_bundle_is_a_download_of_nine_members_that_match_its_manifest() {
    let (engine, server) = (engine(), McpServer::by_tool_name());
    let url = server.url();
    let client = Client::start_with(
        &engine.client_base_url(),
        &[
            "--mcp.server-url",
            &url,
            "--mcp.extra-headers",
            "X-A: v1, X-B: v2",
            "--mcp.extra-headers=X-C: v3",
            "--harpoon.http-proxy=http://user:pass@proxy.example:3128",
            "--harpoon.target=label=a,url=https://a.example",
        ],
        &[("MY_KEY", "sk-another-0123456789"), ("LOG_LEVEL", "info"), ("UNRELATED", "not ours")],
    );
    client.wait_ready();
    let reply = get(&client, "/api/logs/export");
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("Content-Type"), Some("application/gzip"));
    assert_eq!(reply.header("Cache-Control"), Some("no-store, max-age=0"));
    assert_eq!(reply.header("Content-Length"), Some(reply.body.len().to_string().as_str()));
    let name = reply.header("Content-Disposition").unwrap();
    let name = name.strip_prefix("attachment; filename=\"tunnel-client-logs-").unwrap();
    let stamp = name.strip_suffix("Z.tar.gz\"").unwrap();
    assert!(stamp.len() == 15 && stamp.as_bytes()[8] == b'T', "{stamp}");

    let members = unpack(&reply.body);
    let names: Vec<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, MEMBERS);
    let text = |name: &str| &members.iter().find(|(have, _)| have == name).unwrap().1;
    let manifest: serde_json::Value = serde_json::from_str(text("manifest.json")).unwrap();
    assert_eq!(manifest["files"], serde_json::json!(MEMBERS));
    assert_eq!((&manifest["redacted"], &manifest["window"]), (&true.into(), &"30m0s".into()));
    assert_eq!(manifest["log_buffer_capacity"], 2000);
    assert_eq!(manifest["metrics_bytes"], text("tunnel-client.metrics.prom").len());
    let events: Vec<serde_json::Value> = text("tunnel-client.logs.ndjson")
        .lines()
        .map(|line| serde_json::from_str(line).expect("one event a line"))
        .collect();
    assert_eq!(manifest["event_count"], events.len());
    assert!(events.windows(2).all(|pair| pair[0]["seq"].as_u64() < pair[1]["seq"].as_u64()));
    let runtime = &manifest["runtime"];
    let argv: Vec<&str> =
        runtime["argv"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    let headers = argv.iter().position(|word| *word == "--mcp.extra-headers").unwrap();
    assert_eq!(
        argv[headers + 1..headers + 3],
        ["X-A: [REDACTED], X-B: [REDACTED]", "--mcp.extra-headers=X-C: [REDACTED]"]
    );
    assert_eq!(runtime["environment"]["CONTROL_PLANE_API_KEY"], "[REDACTED]");
    assert_eq!(runtime["environment"]["LOG_LEVEL"], "info");
    assert!(runtime["environment"].get("UNRELATED").is_none());
    let effective = &runtime["effective_config"];
    assert_eq!(effective["mcp"]["server_url"], url);
    assert_eq!(effective["control_plane"]["base_url"], engine.client_base_url());
    assert_eq!(effective["harpoon"]["http_proxy"], "http://proxy.example:3128");
    assert_eq!(effective["harpoon"]["targets"][0]["base_url"], "https://a.example");
    assert!(text("tunnel-client.metrics.prom").contains("\nliveness{"));
    assert!(text("admin/status.json").starts_with("{\n  \"channels\""));
    for (name, member) in &members {
        assert!(!member.contains(API_KEY) && member.ends_with('\n'), "{name}");
    }
}

#[test]
fn window_and_format_are_asked_for_and_nonsense_counts_as_nothing() {
    let (engine, server) = (engine(), McpServer::by_tool_name());
    let client = Client::start(&engine.client_base_url(), &["--mcp.server-url", &server.url()]);
    for (query, window) in [
        ("minutes=5", "5m0s"),
        ("minutes=99999", "24h0m0s"),
        ("minutes=9223372036854775807", "24h0m0s"),
        ("minutes=x", "30m0s"),
        ("minutes=0", "30m0s"),
        ("minutes=-1", "30m0s"),
    ] {
        let reply = get(&client, &format!("/api/logs/export?{query}"));
        let manifest: serde_json::Value = serde_json::from_str(&unpack(&reply.body)[0].1).unwrap();
        assert_eq!(manifest["window"], window, "{query}");
    }
    let zip = get(&client, "/api/logs/export?format=zip");
    assert_eq!((zip.status, zip.header("Content-Type")), (200, Some("application/zip")));
    assert!(zip.header("Content-Disposition").unwrap().ends_with("Z.zip\""));
    assert!(zip.body.starts_with(b"PK\x03\x04"));
    let address = crate::common::address(client.health_url());
    let refused = http::request(address, "POST", "/api/logs/export", &[], "").unwrap();
    assert_eq!((refused.status, refused.header("Allow")), (405, Some("GET, HEAD")));
}

#[test]
fn variables_behind_references_are_hidden_whatever_their_names() {
    let (engine, server) = (engine(), McpServer::by_tool_name());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.yaml");
    std::fs::write(
        &path,
        "control_plane:\n  api_key: env:PLAIN_NAME\nmcp:\n  extra_headers: {X-One: env:OTHER_NAME, X-Two: literal-header-value}\n",
    )
    .unwrap();
    let url = server.url();
    let client = Client::start_with(
        &engine.client_base_url(),
        &[
            "--config",
            path.to_str().unwrap(),
            "--mcp.server-url",
            &url,
            "--control-plane.api-key=env:PLAIN_NAME",
        ],
        &[("PLAIN_NAME", API_KEY), ("OTHER_NAME", "value-of-a-header")],
    );
    let members = unpack(&get(&client, "/api/logs/export").body);
    let manifest: serde_json::Value = serde_json::from_str(&members[0].1).unwrap();
    let runtime = &manifest["runtime"];
    assert_eq!(runtime["environment"]["PLAIN_NAME"], "[REDACTED]");
    assert_eq!(runtime["environment"]["OTHER_NAME"], "[REDACTED]");
    assert!(
        runtime["argv"].to_string().contains("--control-plane.api-key=env:PLAIN_NAME"),
        "{}",
        runtime["argv"]
    );
    let actual = &runtime["actual_config"];
    assert_eq!(actual["path"], path.to_str().unwrap());
    assert_eq!(actual["contents"]["control_plane"]["api_key"], "env:PLAIN_NAME");
    assert_eq!(actual["contents"]["mcp"]["extra_headers"]["X-Two"], "[REDACTED]");
    for (name, text) in &members {
        for secret in [API_KEY, "value-of-a-header", "literal-header-value"] {
            assert!(!text.contains(secret), "{name} holds {secret}");
        }
    }
}
