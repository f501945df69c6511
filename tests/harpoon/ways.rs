//! How targets are reached: proxies and TLS.

use std::io::{BufReader, Write};
use std::net::TcpListener;
use std::sync::Arc;

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::json;

use super::rig::{Reply, Site, base, echo, target, text_of};
use crate::authority::Authority;
use crate::common::http;

#[test]
fn a_proxy_that_is_set_is_the_only_way_whatever_the_environment_says() {
    let proxy = target(|request| Reply::ok(format!("proxied {}", request.path)));
    let server = echo();
    let targets = ["--harpoon.target", "label=far,url=http://far.example/x?y", "--harpoon.target"];
    let near = format!("label=near,url={}/n", base(&server));
    let arguments = [&targets[..], &[&near, "--harpoon.allow-plaintext-http"]].concat();
    let with = |arguments: &[&str], variables: &[(&str, &str)]| {
        let site = Site::bare_with(arguments, variables);
        site.rpc("initialize", json!({"protocolVersion": "2025-06-18"}));
        let call = |label: &str| {
            let answer =
                site.tool("call_target", json!({"label": label, "method": "GET", "timeout_ms": 5000}));
            match answer["result"]["structuredContent"].is_object() {
                true => text_of(&answer["result"]["structuredContent"]),
                false => "failed".to_owned(),
            }
        };
        (call("far"), call("near"))
    };
    let url = base(&proxy);
    let fixed = [&arguments[..], &["--harpoon.http-proxy", &url]].concat();
    let (far, near) = with(&fixed, &[("NO_PROXY", "*")]);
    assert_eq!(far, "proxied http://far.example/x?y");
    assert_eq!(near, format!("proxied {}/n", base(&server)), "loopback is no exception");
    let (far, near) = with(&arguments, &[("HTTP_PROXY", &url)]);
    assert_eq!((far.as_str(), near.as_str()), ("proxied http://far.example/x?y", "GET /n "));
    let (far, _) = with(&arguments, &[("HTTP_PROXY", &url), ("NO_PROXY", "far.example")]);
    assert_eq!(far, "failed", "no such host without a proxy");
}

/// A TLS server that tells what it was asked; its port.
fn tls(config: Arc<ServerConfig>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut reader = BufReader::new(StreamOwned::new(connection, stream));
            while let Ok(Some(request)) = http::read_request(&mut reader) {
                let reply = http::reply(200, &[], &format!("{} {}", request.method, request.path));
                if reader.get_mut().write_all(&reply).is_err() {
                    break;
                }
            }
        }
    });
    port
}

#[test]
fn targets_over_tls_must_be_who_they_say_they_are() {
    let authority = Authority::new();
    let (good, other) = (
        tls(authority.sign("localhost", |_| {}).config()),
        tls(authority.sign("other.example", |_| {}).config()),
    );
    let bundle = authority.path("ca.pem").display().to_string();
    let (good, other) = (format!("https://localhost:{good}/x"), format!("https://localhost:{other}/x"));
    let targets = [("good", good.as_str()), ("other", other.as_str())];
    let trusting = Site::start(&targets, &["--ca-bundle", &bundle]);
    assert_eq!(text_of(&trusting.call(json!({"label": "good", "method": "PUT"}))), "PUT /x");
    assert_eq!(trusting.failure(json!({"label": "other", "method": "GET"})), "label other: request failed");
    let stranger = Site::start(&targets, &[]);
    assert_eq!(stranger.failure(json!({"label": "good", "method": "GET"})), "label good: request failed");
}
