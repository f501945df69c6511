//! Who may ask.

use std::net::{TcpListener, UdpSocket};

use crate::common::process::Client;
use crate::common::{engine, http, wait_polled};
use crate::site;

const GUARDED: [&str; 5] = ["/api/status", "/api/logs", "/api/logs/stream", "/api/log-level", "/nope"];

#[test]
fn every_guarded_answer_carries_the_security_headers() {
    let site = site(&[]);
    for (method, path) in
        [("GET", "/api/status"), ("GET", "/nope"), ("POST", "/api/status"), ("GET", "/api/log-level")]
    {
        let reply = site.ask(method, path, &[], "");
        let policy = reply.header("Content-Security-Policy").unwrap();
        assert!(
            policy.contains("default-src 'self'") && policy.contains("frame-ancestors 'none'"),
            "{policy}"
        );
        for (name, value) in [
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
            ("Cache-Control", "no-store"),
        ] {
            assert_eq!(reply.header(name), Some(value), "{method} {path}: {name}");
        }
    }
}

#[test]
fn names_that_are_not_ours_are_refused_on_every_guarded_path() {
    let site = site(&[]);
    for path in GUARDED {
        // The helper's own Host comes first; a second one is refused as malformed.
        let raw = |host: &str| {
            use std::io::Write;
            let mut stream = std::net::TcpStream::connect(site.address()).unwrap();
            let text = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            stream.write_all(text.as_bytes()).unwrap();
            http::read_reply_head(&mut std::io::BufReader::new(stream)).unwrap().status
        };
        assert_eq!(raw("attacker.example:8080"), 403, "{path}");
        assert_ne!(raw("localhost"), 403, "{path}");
        assert_ne!(raw("[::1]:8080"), 403, "{path}");
    }
    assert_eq!(site.get("/healthz").status, 200);
}

#[test]
fn other_origins_change_nothing() {
    let site = site(&[]);
    let body = r#"{"level":"debug"}"#;
    let own = format!("http://{}", site.address());
    for (headers, allowed) in [
        (vec![("Origin", "https://attacker.example")], false),
        (vec![("Origin", "null")], false),
        (vec![("Sec-Fetch-Site", "cross-site")], false),
        (vec![("Referer", "http://attacker.example/x")], false),
        (vec![("Origin", own.as_str())], true),
        (vec![], true),
    ] {
        for (method, path) in [("PUT", "/api/log-level"), ("POST", "/api/codex/thread/start")] {
            let reply = site.ask(method, path, &headers, body);
            assert_eq!(reply.status != 403, allowed, "{path} {headers:?}: {}", reply.text());
            if !allowed {
                assert_eq!(reply.text(), "admin UI unsafe request must be same-origin\n");
            }
        }
        let level = if allowed { "debug" } else { "info" };
        assert_eq!(site.document("/api/log-level")["level"], level, "{headers:?}");
        site.ask("PUT", "/api/log-level", &[], r#"{"level":"info"}"#);
    }
}

#[test]
fn peers_beyond_loopback_see_health_only_unless_they_are_let_in() {
    // An address of this host that is not loopback, if it has one.
    let probe = UdpSocket::bind("0.0.0.0:0").unwrap();
    let Some(ip) = probe.connect("192.0.2.1:9").ok().and_then(|()| probe.local_addr().ok()) else { return };
    let ip = ip.ip();
    if ip.is_loopback() || ip.is_unspecified() || TcpListener::bind((ip, 0)).is_err() {
        return;
    }
    let engine = engine();
    for (arguments, status) in [(vec![], 403), (vec!["--allow-remote-ui"], 200)] {
        let arguments = [
            &["--mcp.server-url", "http://127.0.0.1:9/mcp", "--health.listen-addr", "0.0.0.0:0"],
            &arguments[..],
        ]
        .concat();
        let client = Client::start(&engine.client_base_url(), &arguments);
        wait_polled(&engine);
        let port = client.health_url().rsplit_once(':').unwrap().1;
        let remote = format!("{ip}:{port}");
        let ask = |path: &str| {
            http::request(&remote, "GET", path, &[("X-Forwarded-For", "127.0.0.1")], "").unwrap()
        };
        let reply = ask("/api/status");
        assert_eq!(reply.status, status);
        if status == 403 {
            let text = "admin UI is restricted to loopback; set --allow-remote-ui to override\n";
            assert_eq!(reply.text(), text);
            assert_eq!(ask("/nope").status, 403, "guarded before it is looked for");
        }
        for path in ["/healthz", "/metrics"] {
            assert_eq!(ask(path).status, 200);
        }
        assert_ne!(ask("/readyz").status, 403);
    }
}
