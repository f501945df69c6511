//! The live log level.

use crate::common::process::Client;
use crate::common::{engine, eventually, http};
use crate::site;

#[test]
fn the_level_changes_at_once_everywhere() {
    let site = site(&["--log.format", "struct-text"]);
    let shown = site.document("/api/log-level");
    assert_eq!(shown, serde_json::json!({"level": "info", "supported_levels": ["debug", "info", "warn"]}));
    let mut stream = site.stream(&[]);
    let reply = site.ask("PUT", "/api/log-level", &[], r#"{"level":" DEBUG "}"#);
    assert_eq!((reply.status, &reply.json()["level"]), (200, &"debug".into()));
    let changed = stream.find(|event| event["message"] == "runtime log level updated").data;
    assert_eq!(changed["level"], "DEBUG");
    assert_eq!(
        (&changed["attrs"]["component"], &changed["attrs"]["previous_level"], &changed["attrs"]["new_level"]),
        (&"adminui".into(), &"info".into(), &"debug".into())
    );
    crate::common::connector::Connector::new(&site.engine.mcp_url()).call(1, "echo", "{}");
    let poll = stream.find(|event| event["message"] == "poll cycle complete");
    assert_eq!(poll.id, poll.data["seq"].as_u64());
    site.client.wait_output("level=DEBUG msg=\"poll cycle complete\"");
    assert!(site.events().iter().any(|event| event["message"] == "poll cycle complete"));
    assert_eq!(site.ask("PUT", "/api/log-level", &[], r#"{"level":"warn"}"#).json()["level"], "warn");
    site.client.wait_output("level=WARN msg=\"runtime log level updated\"");
}

#[test]
fn a_level_that_is_not_understood_changes_nothing() {
    let site = site(&[]);
    let unsupported =
        |raw: &str| format!("unsupported log level \"{raw}\" (expected one of: debug, info, warn)\n");
    let decode = "decode request: ".to_owned();
    let long = format!(r#"{{"level":"{}"}}"#, "x".repeat(1 << 20));
    for (body, text) in [
        (r#"{"level":"error"}"#, unsupported("error")),
        (r#"{"level":" Loud "}"#, unsupported(" Loud ")),
        (r#"{"level":"info","x":1}"#, decode.clone()),
        (r#"{"level":"info"} {}"#, decode.clone()),
        ("", decode.clone()),
        ("debug", decode.clone()),
        (&long, decode),
    ] {
        let reply = site.ask("PUT", "/api/log-level", &[("Content-Type", "text/plain")], body);
        assert_eq!(reply.status, 400, "{body:.40}");
        assert!(reply.text().starts_with(&text), "{body:.40}: {}", reply.text());
        assert_eq!(reply.header("Content-Type"), Some("text/plain; charset=utf-8"));
    }
    let head = site.head("/api/log-level");
    assert_eq!((head.status, head.header("Allow")), (405, Some("GET, PUT")));
    for method in ["POST", "DELETE"] {
        let reply = site.ask(method, "/api/log-level", &[], "");
        assert_eq!((reply.status, reply.header("Allow")), (405, Some("GET, PUT")), "{method}");
    }
    assert_eq!(site.document("/api/log-level")["level"], "info");
}

#[test]
fn a_level_that_cannot_be_set_is_shown_when_the_client_was_started_with_it() {
    let engine = engine();
    let client = Client::start(
        &engine.client_base_url(),
        &["--mcp.server-url", "http://127.0.0.1:9/mcp", "--log.level", "error", "--log.format", "json"],
    );
    let shown = http::get(&format!("{}/api/log-level", client.health_url())).unwrap().json();
    assert_eq!(shown["level"], "error");
    let only_errors = || {
        let logs = http::get(&format!("{}/api/logs", client.health_url())).unwrap().json();
        let events = logs["events"].as_array().unwrap().clone();
        assert!(events.iter().all(|event| event["level"] == "ERROR"), "{logs}");
        !events.is_empty()
    };
    eventually("an error is captured", only_errors);
}
