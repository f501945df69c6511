//! Routes and the health of proxies as operators see them: log lines and metrics.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "test code")]

mod common;
mod mcp_support;

use std::net::TcpListener;

use common::process::Client;
use common::{eventually, http};
use mcp_support::plane::Plane;
use mcp_support::proxy::Proxy;
use mcp_support::site::{Site, plain};
use mcp_support::splice;
use mcp_support::tls::Authority;

const JSON: &[&str] = &["--log.format", "json", "--log.level", "info"];

fn client(plane: &Plane, arguments: &[&str], variables: &[(&str, &str)]) -> Client {
    let all: Vec<&str> = arguments.iter().chain(JSON).copied().collect();
    let client = Client::start_with(&plane.base_url(), &all, variables);
    client.wait_output("starting control-plane poller");
    client
}

/// The JSON log events with this message.
fn events(client: &Client, message: &str) -> Vec<serde_json::Value> {
    let lines = client.output();
    let events = lines.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    events.filter(|event| event["msg"] == message).collect()
}

/// The value of the first sample of `name` whose labels hold all of `labels`.
fn sample(client: &Client, name: &str, labels: &[&str]) -> Option<f64> {
    let text = http::get(&format!("{}/metrics", client.health_url())).unwrap().text();
    let line = text.lines().find(|line| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{'))
            && labels.iter().all(|label| line.contains(label))
    })?;
    line.rsplit(' ').next()?.parse().ok()
}

fn id_label(event: &serde_json::Value) -> String {
    format!("proxy_id=\"{}\"", event["proxy_id"].as_str().unwrap())
}

#[test]
fn each_channels_route_is_logged_as_it_is_dialled() {
    let plane = Plane::start();
    let server = Site::tcp(plain);
    let authority = Authority::new();
    let (certificate, key) = authority.client_pair();
    let entries = [
        format!("url={}", server.url()),
        format!(
            "channel=mtls,url=https://Secure.Example/x?q=private,client-cert={certificate},client-key={key},http-proxy=HTTP://User:pw@Proxy.Example.COM:8080/x?y"
        ),
        "channel=sock,url=http://localhost:81/mcp,unix-socket=/no/such.sock".to_owned(),
        "channel=env,url=http://a.test/mcp".to_owned(),
        "channel=exempt,url=http://10.1.2.3:8000/mcp".to_owned(),
        "channel=secure-env,url=https://b.test/mcp".to_owned(),
    ];
    let fixture = format!("channel=child,command={}", common::process::stdio_fixture().display());
    let mut arguments: Vec<&str> = entries.iter().flat_map(|entry| ["--mcp.server-url", entry]).collect();
    arguments.extend(["--mcp.command", &fixture]);
    let proxy = Proxy::start(None);
    let url = proxy.url();
    let client = client(&plane, &arguments, &[("HTTP_PROXY", &url), ("no_proxy", "10.0.0.0/8")]);
    client.wait_output("tunnel-client started");
    let routes = events(&client, "mcp channel route resolved");
    let shown: Vec<String> = routes
        .iter()
        .map(|event| {
            let text = |name: &str| event[name].as_str().unwrap_or("-").to_owned();
            format!(
                "{} {} {} {} {} {}",
                text("channel"),
                text("transport"),
                text("target_host"),
                text("route_mode"),
                text("proxy_source"),
                text("proxy_url")
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            format!("main http-streamable {} direct none -", server.address),
            "mtls http-streamable secure.example:443 proxy mcp.server-url http://proxy.example.com:8080"
                .to_owned(),
            "sock http-streamable localhost:81 direct ignored -".to_owned(),
            format!("env http-streamable a.test:80 proxy env:HTTP_PROXY {url}"),
            "exempt http-streamable 10.1.2.3:8000 direct none -".to_owned(),
            "secure-env http-streamable b.test:443 direct none -".to_owned(),
            "child stdio  direct ignored -".to_owned(),
        ]
    );
    let mtls = &routes[1];
    assert_eq!(
        (&mtls["mtls_enabled"], &mtls["mtls_cert_path"]),
        (&true.into(), &certificate.as_str().into())
    );
    assert_eq!((&mtls["route_kind"], &mtls["route_name"]), (&"mcp_channel".into(), &"mtls".into()));
    assert_eq!(mtls["component"], "mcpclient");
    assert_eq!(mtls["proxy_id"], "6c43a61d04d3c4d829ed457f9b300a29435c41f90f4cbd615f7346313e3af555");
    assert_eq!((&routes[0]["mtls_enabled"], routes[0].get("mtls_cert_path")), (&false.into(), None));
    assert_eq!(routes[2]["unix_socket_path"], "/no/such.sock");
    let map = events(&client, "proxy identity map");
    assert_eq!(map.len(), 1);
    let records = &map[0]["records"];
    assert_eq!(records.as_array().unwrap().len(), 2);
    assert_eq!(records[0]["proxy_url"], "http://proxy.example.com:8080");
    assert_eq!(records[1]["proxy_source"], "env:HTTP_PROXY");
    assert!(!client.output().contains("pw@") && !client.output().contains("private"), "{}", client.output());
}

#[test]
fn without_a_proxy_nothing_is_mapped_or_checked() {
    let plane = Plane::start();
    let server = Site::tcp(plain);
    let client = client(&plane, &["--mcp.server-url", &server.url(), "--proxy.check-interval", "10ms"], &[]);
    client.wait_ready();
    client.wait_output("tunnel-client started");
    assert!(events(&client, "proxy identity map").is_empty());
    assert_eq!(sample(&client, "proxy_health_state", &[]), None);
}

#[test]
fn a_proxy_that_refuses_is_unhealthy_until_it_lets_through() {
    let plane = Plane::start();
    let proxy = Proxy::start(None);
    proxy.refuse(Some(407));
    let backend = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("https://{}/mcp", backend.local_addr().unwrap());
    let entry = format!("url={target},http-proxy=http://user:secret@{}", proxy.address);
    let client = client(&plane, &["--mcp.server-url", &entry, "--proxy.check-interval", "30ms"], &[]);
    let id = id_label(&events(&client, "mcp channel route resolved")[0]);
    let failures = || {
        sample(&client, "proxy_check_failures_total", &[&id, r#"phase="connect""#, r#"reason="bad_status""#])
    };
    eventually("failures are counted", || failures().unwrap_or(0.0) >= 2.0);
    assert_eq!(sample(&client, "proxy_health_state", &[&id, r#"otel_scope_name="proxyhealth""#]), Some(0.0));
    assert!(sample(&client, "proxy_last_check_timestamp", &[&id]).unwrap() > 1e9);
    assert_eq!(sample(&client, "proxy_last_success_timestamp", &[&id]), None);
    let asked = &proxy.seen()[0];
    let expected = backend.local_addr().unwrap().to_string();
    assert_eq!((asked.method.as_str(), &asked.path), ("CONNECT", &expected));
    assert_eq!(asked.header("Host"), Some(expected.as_str()));
    assert!(proxy.seen().iter().all(|r| r.header("Proxy-Authorization") == Some("Basic dXNlcjpzZWNyZXQ=")));
    proxy.refuse(None);
    eventually("healthy", || sample(&client, "proxy_health_state", &[&id]) == Some(1.0));
    assert!(sample(&client, "proxy_last_success_timestamp", &[&id]).unwrap() > 1e9);
    let (_, ready) = client.readyz();
    proxy.refuse(Some(503));
    eventually("unhealthy again", || sample(&client, "proxy_health_state", &[&id]) == Some(0.0));
    assert_eq!(client.readyz().1.split(':').next(), ready.split(':').next(), "readiness does not care");
    for hidden in ["secret", "dXNlcjpzZWNyZXQ="] {
        assert!(!client.output().contains(hidden), "{}", client.output());
    }
}

#[test]
fn a_proxy_for_plain_http_is_only_connected_to_and_nothing_reaches_the_target() {
    let plane = Plane::start();
    let proxy = Proxy::start(None);
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let entries = [
        format!("url=http://a.test/mcp,http-proxy={}", proxy.url()),
        format!("channel=gone,url=https://b.test/mcp,http-proxy=http://{gone}"),
    ];
    let arguments =
        ["--mcp.server-url", &entries[0], "--mcp.server-url", &entries[1], "--proxy.check-interval", "30ms"];
    let client = client(&plane, &arguments, &[]);
    let ids: Vec<_> = events(&client, "mcp channel route resolved").iter().map(id_label).collect();
    eventually("the good one is healthy", || sample(&client, "proxy_health_state", &[&ids[0]]) == Some(1.0));
    let failures = &[ids[1].as_str(), r#"phase="tcp""#, r#"reason="dial_error""#];
    eventually("the other is not", || sample(&client, "proxy_check_failures_total", failures).is_some());
    assert_eq!(sample(&client, "proxy_health_state", &[&ids[1]]), Some(0.0));
    assert!(proxy.lines().iter().all(|line| !line.starts_with("CONNECT")), "{:?}", proxy.lines());
}

#[test]
fn proxies_that_hang_do_not_hold_up_the_others_nor_the_stop() {
    let plane = Plane::start();
    // Connections are taken by the kernel; nobody ever answers.
    let silent: Vec<TcpListener> = (0..5).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let proxy = Proxy::start(None);
    let backend = TcpListener::bind("127.0.0.1:0").unwrap();
    std::thread::spawn(move || {
        for stream in backend.incoming().flatten() {
            splice(&stream, &stream);
        }
    });
    let mut entries: Vec<String> = silent
        .iter()
        .enumerate()
        .map(|(n, listener)| {
            format!(
                "channel=c{n},url=https://t.test/mcp,http-proxy=http://{}",
                listener.local_addr().unwrap()
            )
        })
        .collect();
    entries.push(format!("url=https://127.0.0.1:9/mcp,http-proxy={}", proxy.url()));
    let arguments: Vec<&str> = entries.iter().flat_map(|entry| ["--mcp.server-url", entry]).collect();
    let mut client = client(&plane, &arguments, &[]);
    let checked = || proxy.lines().iter().any(|line| line == "CONNECT 127.0.0.1:9");
    eventually("the last one is checked beside the others", checked);
    let started = std::time::Instant::now();
    assert_eq!(client.terminate().code(), Some(0), "{}", client.output());
    assert!(started.elapsed().as_secs() < 10, "took {:?}", started.elapsed());
}

#[test]
fn an_https_proxy_is_checked_over_tls_with_the_bundles_trust() {
    let plane = Plane::start();
    let authority = Authority::new();
    let proxy = Site::tls(authority.asking(&authority.sign("localhost", |_| {}), false), |_| {
        mcp_support::site::reply(200, &[], "")
    });
    let (certificate, key) = authority.client_pair();
    let entry = format!(
        "url=https://t.test/mcp,http-proxy=https://u:p@localhost:{},client-cert={certificate},client-key={key}",
        proxy.port()
    );
    let bundle = authority.file("ca.pem");
    let arguments = ["--mcp.server-url", &entry, "--ca-bundle", &bundle, "--proxy.check-interval", "30ms"];
    let first = client(&plane, &arguments, &[]);
    let id = id_label(&events(&first, "mcp channel route resolved")[0]);
    eventually("healthy", || sample(&first, "proxy_health_state", &[&id]) == Some(1.0));
    let shown = mcp_support::site::SHOWN;
    assert!(
        proxy.seen().iter().all(|r| r.header(shown) == Some("no")),
        "the certificate is the target's only"
    );
    assert_eq!(proxy.seen()[0].header("Proxy-Authorization"), Some("Basic dTpw"));
    drop(first);
    let second = client(&plane, &[&arguments[..2], &arguments[4..]].concat(), &[]);
    let failures = &[id.as_str(), r#"phase="connect""#, r#"reason="connect_error""#];
    eventually("not trusted", || sample(&second, "proxy_check_failures_total", failures).is_some());
}

#[test]
fn requests_to_mcp_servers_are_counted_without_their_queries() {
    let plane = Plane::start();
    let server = Site::tcp(plain);
    let url = format!("http://{}/mcp?token=private", server.address);
    let client = client(&plane, &["--mcp.server-url", &url], &[]);
    client.wait_ready();
    plane.call("counted");
    let port = format!("server_port=\"{}\"", server.port());
    let labels = [
        r#"http_route="/mcp""#,
        r#"http_request_method="POST""#,
        r#"http_response_status_code="200""#,
        r#"server_address="127.0.0.1""#,
        r#"url_scheme="http""#,
        &port,
    ];
    let count = sample(&client, "http_client_request_duration_seconds_count", &labels);
    assert_eq!(count, Some(2.0), "the probe's initialize and the call");
    let text = http::get(&format!("{}/metrics", client.health_url())).unwrap().text();
    assert!(!text.contains("private"));
}

#[test]
fn the_interval_must_be_positive() {
    for interval in ["0s", "-1s", "x"] {
        let text = mcp_support::refused(&[
            "--mcp.server-url",
            "http://127.0.0.1:9/mcp",
            "--proxy.check-interval",
            interval,
        ]);
        assert!(text.contains("proxy.check-interval"), "{text}");
    }
}
