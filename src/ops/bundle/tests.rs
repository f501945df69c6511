use std::io::Read;

use flate2::read::GzDecoder;
use serde_json::Value;

use super::*;
use crate::config::{FlagValues, load};
use crate::net::Trust;
use crate::ops::admin::Facts;
use crate::ops::log::RingEvent;
use crate::ops::{Metrics, ProxyHealth, State};
use crate::redact::KnownSecrets;

const TUNNEL: &str = "tunnel_0123456789abcdef0123456789abcdef";

fn environment(more: &[(&str, &str)]) -> Environment {
    let base = [
        ("CONTROL_PLANE_API_KEY", "known-api-key"),
        ("CONTROL_PLANE_TUNNEL_ID", TUNNEL),
        ("MCP_SERVER_URL", "http://127.0.0.1:1/mcp"),
        ("HOME", "/home/of-the-operator"),
    ];
    base.iter().chain(more).copied().collect()
}

fn sources(ring: &Arc<Ring>, environment: &Environment) -> Sources {
    let config = load(&FlagValues::default(), environment).unwrap();
    Sources {
        ring: Arc::clone(ring),
        metrics: Box::new(|| Some("liveness 1\n".to_owned())),
        admin: Arc::new(admin(config.known_secrets(environment))),
        config,
        arguments: vec!["run".to_owned()],
        environment: environment.clone(),
    }
}

fn admin(secrets: KnownSecrets) -> Admin {
    let document =
        || serde_json::json!({"b": "https://u:p@h/x?y=z", "a": {"Cookie": ["c=d"]}, "key": "known-api-key"});
    Admin::new(crate::ops::admin::Sources {
        facts: Facts::default(),
        state: Arc::new(State::new()),
        proxy_health: Arc::new(ProxyHealth::new(&[], Arc::new(Metrics::new()))),
        log: None,
        secrets,
        channels: Box::new(Vec::new),
        trust: Box::new(|| Trust::system().report()),
        oauth: Box::new(document),
        harpoon: None,
    })
}

fn ring_of(messages: &[&str]) -> Arc<Ring> {
    let ring = Arc::new(Ring::new(100, Arc::new(|_, text| text.into())));
    for message in messages {
        ring.push(RingEvent {
            seq: 0,
            time: OffsetDateTime::now_utc(),
            level: log::Level::Error,
            message: (*message).to_owned(),
            attributes: Vec::new(),
        });
    }
    ring
}

/// Names and texts of a tar.gz.
fn unpack(bytes: &[u8]) -> Vec<(String, String)> {
    let mut tar = Vec::new();
    GzDecoder::new(bytes).read_to_end(&mut tar).unwrap();
    let mut members = Vec::new();
    let mut rest = &tar[..];
    while rest[0] != 0 {
        let text =
            |from: usize, to: usize| std::str::from_utf8(&rest[from..to]).unwrap().trim_end_matches('\0');
        let size = usize::from_str_radix(text(124, 136), 8).unwrap();
        members.push((text(0, 100).to_owned(), String::from_utf8(rest[512..512 + size].to_vec()).unwrap()));
        rest = &rest[512 + size.next_multiple_of(512)..];
    }
    members
}

#[test]
fn a_query_asks_for_a_window_and_a_format() {
    for (query, minutes, format) in [
        ("", 30, Format::TarGz),
        ("minutes=5", 5, Format::TarGz),
        ("minutes=x", 30, Format::TarGz),
        ("minutes=0", 30, Format::TarGz),
        ("minutes=-3&format=zip", 30, Format::Zip),
        ("minutes=99999", 1440, Format::TarGz),
        ("minutes=99999999999999999999999&format=ZIP", 1440, Format::Zip),
        ("format=rar&minutes=1441", 1440, Format::TarGz),
    ] {
        assert_eq!(asked(query), (Duration::from_secs(minutes * 60), format), "{query}");
    }
}

#[test]
fn a_bundle_holds_nine_members_and_says_so() {
    let ring = ring_of(&["one", "two with known-api-key inside"]);
    let bundle = Bundle::new(sources(&ring, &environment(&[("MCP_EXTRA_HEADERS", "X-A: v1, X-B: v2")])));
    let archive = bundle.export(Format::TarGz, Duration::from_secs(1800)).unwrap();
    assert!(archive.file_name.starts_with("tunnel-client-logs-2") && archive.file_name.ends_with("Z.tar.gz"));
    let members = unpack(&archive.bytes);
    let names: Vec<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "manifest.json",
            "README.txt",
            "tunnel-client.runtime.yaml",
            "tunnel-client.logs.ndjson",
            "tunnel-client.metrics.prom",
            "admin/status.json",
            "admin/system.json",
            "admin/oauth.json",
            "admin/harpoon.json"
        ]
    );
    let text = |name: &str| members.iter().find(|(have, _)| have == name).unwrap().1.clone();
    let manifest: Value = serde_json::from_str(&text("manifest.json")).unwrap();
    assert_eq!(manifest["files"], serde_json::json!(names));
    assert_eq!(manifest["redacted"], true);
    assert_eq!(manifest["window"], "30m0s");
    assert_eq!(manifest["event_count"], 2);
    assert_eq!(manifest["log_buffer_capacity"], 100);
    assert_eq!(manifest["metrics_bytes"], "liveness 1\n".len());
    assert!(manifest["generated_at"].as_str().unwrap().ends_with('Z'));
    let runtime = crate::config::document_as_json(text("tunnel-client.runtime.yaml").as_bytes()).unwrap();
    assert_eq!(runtime, manifest["runtime"]);
    assert_eq!(runtime["environment"]["MCP_EXTRA_HEADERS"], "X-A: [REDACTED], X-B: [REDACTED]");
    assert_eq!(runtime["effective_config"]["control_plane"]["api_key"], "[REDACTED]");
    assert_eq!(runtime["effective_config"]["mcp"]["extra_headers"]["X-B"], "[REDACTED]");
    assert_eq!(runtime["effective_config"]["log"]["level"], "INFO");
    assert_eq!(runtime["effective_config"]["mcp"]["channel_bindings"][0]["channel"], "main");
    assert!(runtime.get("actual_config").is_none(), "no file was read");
    let logs: Vec<Value> =
        text("tunnel-client.logs.ndjson").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(logs[1]["message"], "two with [REDACTED] inside");
    assert_eq!(
        text("admin/oauth.json"),
        "{\n  \"a\": {\n    \"Cookie\": \"[REDACTED]\"\n  },\n  \"b\": \"https://h/x\",\n  \"key\": \"[REDACTED]\"\n}\n"
    );
    let all: String = members.iter().map(|(_, text)| text.as_str()).collect();
    assert!(!all.contains("known-api-key") && !all.contains("of-the-operator"), "{all}");
}

#[test]
fn a_document_keeps_its_shape_and_a_broken_one_does_no_harm() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.yaml");
    let document = "\
control_plane:
  api_key: literal-api-key
  client_cert: /c.pem
  extra_headers: {X-One: header-value-1, X-Two: env:TWO}
mcp:
  server_urls:
    - {channel: main, url: 'https://user:pass@mcp.example/p?sig=query-value'}
";
    std::fs::write(&path, document).unwrap();
    let ring = ring_of(&[]);
    let variables = [("TWO", "header-value-2")];
    let mut made = sources(&ring, &environment(&variables));
    made.config.document.path = Some(path.clone());
    made.config.document.bytes = Some(crate::secret::Secret::new(document.as_bytes().to_vec()));
    let runtime = runtime::snapshot(&made.config, &made.arguments, &made.environment);
    let contents = &runtime["actual_config"]["contents"];
    assert_eq!(runtime["actual_config"]["path"], path.to_str().unwrap());
    assert_eq!(contents["control_plane"]["api_key"], "[REDACTED]");
    assert_eq!(contents["control_plane"]["client_cert"], "/c.pem");
    assert_eq!(contents["control_plane"]["extra_headers"]["X-Two"], "[REDACTED]");
    assert_eq!(contents["mcp"]["server_urls"][0]["url"], "https://mcp.example/p");

    made.config.document.bytes = Some(crate::secret::Secret::new(b"a: [".to_vec()));
    let archive = Bundle::new(made).export(Format::TarGz, Duration::from_secs(60)).unwrap();
    assert!(unpack(&archive.bytes)[0].1.contains("\"parse_error\": \"line"));
}

#[test]
fn without_metrics_there_is_no_bundle() {
    let ring = ring_of(&[]);
    let made = Sources { metrics: Box::new(|| None), ..sources(&ring, &environment(&[])) };
    let error = Bundle::new(made).export(Format::Zip, Duration::from_secs(60)).err().unwrap();
    assert_eq!(error.to_string(), "capture metrics snapshot");
}

#[test]
fn the_newest_events_are_kept_when_all_would_be_too_many() {
    let mut events = Events::default();
    for number in 0..20 {
        events.push(format!("{}{number}\n", "x".repeat(LOG_BYTES / 16)));
    }
    assert!(events.bytes <= LOG_BYTES && events.lines.len() == 15, "{}", events.lines.len());
    assert_eq!(events.left_out, 5);
    assert!(events.lines[14].ends_with("19\n"));
}
