//! Which proxy requests go through, and what is told of it.

use std::os::unix::net::UnixListener;

use crate::authority::Authority;
use crate::common::control_plane::{ControlPlane, call};
use crate::common::eventually;
use crate::common::process::{Client, stdio_fixture};
use crate::rig::{VERBOSE, events_of, wait_events};

/// A client for the control plane at `base`, which only a proxy can reach.
fn client(base: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Client {
    // A child, which no proxy concerns.
    let fixture = stdio_fixture().display().to_string();
    let arguments = [&VERBOSE[..], &["--mcp.command", &fixture], arguments].concat();
    Client::start_with(base, &arguments, variables)
}

fn sha256(text: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn an_explicit_proxy_takes_http_requests_in_absolute_form_whatever_no_proxy_says() {
    let proxy_variables = [("NO_PROXY", "*"), ("HTTP_PROXY", "http://127.0.0.1:9"), ("P", "")];
    for base in ["http://control-plane.invalid:8123", "http://127.0.0.1:9"] {
        let plane = ControlPlane::start();
        let proxy = format!("HTTP://us%40er:pass%3Aword@{}/ignored?x=hidden", plane.address());
        let client = client(base, &["--control-plane.http-proxy", &proxy], &proxy_variables);
        plane.send(&[call("r", "echo", "")]);
        plane.wait_answers(&["r"]);
        eventually("the metadata is asked for", || !plane.metadata_requests().is_empty());
        for seen in plane.seen() {
            assert_eq!(seen.asked_through_proxy.as_deref(), Some(base), "{}", seen.path);
            assert_eq!(seen.header("Host"), base.strip_prefix("http://"));
            // us@er:pass:word
            assert_eq!(seen.header("Proxy-Authorization"), Some("Basic dXNAZXI6cGFzczp3b3Jk"));
        }
        let route = wait_events(&client, "route resolved", 1).remove(0);
        let shown = format!("http://{}", plane.address());
        for (field, expected) in [
            ("target_host", base.strip_prefix("http://").unwrap()),
            ("route_mode", "proxy"),
            ("proxy_source", "control-plane.http-proxy"),
            ("proxy_url", &shown),
            ("proxy_id", &sha256(&shown)),
        ] {
            assert_eq!(route[field], expected, "{field}: {route}");
        }
        let map = wait_events(&client, "proxy identity map", 1).remove(0);
        assert_eq!(
            map["records"],
            serde_json::json!([{"proxy_id": sha256(&shown), "proxy_url": shown,
                "proxy_source": "control-plane.http-proxy"}])
        );
        assert!(
            !client.output().contains("pass") && !client.output().contains("hidden"),
            "{}",
            client.output()
        );
    }
}

#[test]
fn https_requests_go_through_a_tunnel_and_nothing_of_them_is_said_to_the_proxy() {
    let authority = Authority::new();
    let bundle = authority.path("ca.pem").display().to_string();
    let plane = ControlPlane::behind_proxy(authority.sign("control-plane.invalid", |_| {}).config());
    let proxy = format!("http://user:secret-pw@{}", plane.address());
    let client = client(
        "https://control-plane.invalid",
        &["--ca-bundle", &bundle, "--http-proxy", "env:CORP_PROXY"],
        &[("CORP_PROXY", &proxy), ("NO_PROXY", "*")],
    );
    plane.send(&[call("r", "echo", "")]);
    plane.wait_answers(&["r"]);
    for connect in plane.connects() {
        assert_eq!(connect.path, "control-plane.invalid:443");
        assert_eq!(connect.header("Host"), Some("control-plane.invalid:443"));
        assert_eq!(connect.header("Proxy-Authorization"), Some("Basic dXNlcjpzZWNyZXQtcHc="));
        assert_eq!(connect.headers.len(), 2, "{connect:?}");
    }
    assert!(plane.seen().iter().all(|seen| seen.header("Proxy-Authorization").is_none()));
    let route = wait_events(&client, "route resolved", 1).remove(0);
    assert_eq!((&route["route_mode"], &route["proxy_source"]), (&"proxy".into(), &"env:CORP_PROXY".into()));
    assert!(!client.output().contains("secret-pw"));
}

#[test]
fn a_refused_tunnel_fails_the_poll_with_the_proxys_status() {
    let plane = ControlPlane::behind_proxy(Authority::new().sign("x", |_| {}).config());
    plane.refuse_connect(407);
    let proxy = format!("http://user:secret-pw@{}", plane.address());
    let client = client("https://control-plane.invalid", &["--control-plane.http-proxy", &proxy], &[]);
    let failed = wait_events(&client, "poll failed; backing off", 1);
    let text = failed[0]["error"].as_str().unwrap();
    assert!(text.contains("407") && text.contains("control-plane.invalid:443"), "{text}");
    assert!(!client.output().contains("secret-pw"));
}

#[test]
fn the_settings_of_the_proxy_have_their_order() {
    let base = "http://control-plane.invalid";
    let dead = "http://127.0.0.1:9";
    for (name, flags, variables, source) in [
        (
            "flag",
            vec!["--control-plane.http-proxy", "@", "--http-proxy", dead],
            vec![],
            "control-plane.http-proxy",
        ),
        (
            "variable",
            vec!["--http-proxy", dead],
            vec![("CONTROL_PLANE_HTTP_PROXY", "@")],
            "CONTROL_PLANE_HTTP_PROXY",
        ),
        ("global flag", vec!["--http-proxy", "@"], vec![("TUNNEL_CLIENT_HTTP_PROXY", dead)], "http-proxy"),
        ("global variable", vec![], vec![("TUNNEL_CLIENT_HTTP_PROXY", "@")], "TUNNEL_CLIENT_HTTP_PROXY"),
        ("environment", vec![], vec![("HTTP_PROXY", "@"), ("http_proxy", dead)], "env:HTTP_PROXY"),
        ("lower case", vec![], vec![("http_proxy", "@")], "env:http_proxy"),
        ("reference", vec!["--control-plane.http-proxy", "env:MINE"], vec![("MINE", "@")], "env:MINE"),
    ] {
        let plane = ControlPlane::start();
        let address = format!("http://{}", plane.address());
        let here = |text: &str| if text == "@" { address.clone() } else { text.to_owned() };
        let flags: Vec<String> = flags.into_iter().map(here).collect();
        let variables: Vec<(&str, String)> = variables.into_iter().map(|(n, v)| (n, here(v))).collect();
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let variables: Vec<(&str, &str)> = variables.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let client = client(base, &flags, &variables);
        let polls = plane.wait_polls(1);
        assert_eq!(polls[0].asked_through_proxy.as_deref(), Some(base), "{name}");
        let route = wait_events(&client, "route resolved", 1).remove(0);
        assert_eq!(
            (&route["route_mode"], &route["proxy_source"]),
            (&"proxy".into(), &source.into()),
            "{name}"
        );
    }
}

#[test]
fn an_environment_proxy_without_scheme_is_used_and_exemptions_and_loopback_are_not_sent_to_it() {
    let plane = ControlPlane::start();
    let address = plane.address().to_string();
    let through = client("http://control-plane.invalid", &[], &[("HTTP_PROXY", &address)]);
    plane.wait_polls(1);
    let route = wait_events(&through, "route resolved", 1).remove(0);
    assert_eq!(route["proxy_url"], format!("http://{address}"));
    drop(through);
    for (base, variables) in [
        ("https://gw.corp.invalid", vec![("NO_PROXY", ".corp.invalid")]),
        ("https://gw.corp.invalid", vec![("NO_PROXY", "corp.invalid:443")]),
        ("https://gw.corp.invalid", vec![("NO_PROXY", "*")]),
        ("https://gw.corp.invalid", vec![("no_proxy", "x,gw.corp.invalid")]),
        ("https://localhost:9", vec![]),
        ("http://gw.corp.invalid", vec![]),
    ] {
        let proxy = ControlPlane::start();
        let url = proxy.base_url();
        let variables = [&[("HTTPS_PROXY", url.as_str())], &variables[..]].concat();
        let client = client(base, &[], &variables);
        let route = wait_events(&client, "route resolved", 1).remove(0);
        assert_eq!(
            (&route["route_mode"], &route["proxy_source"]),
            (&"direct".into(), &"none".into()),
            "{base}"
        );
        assert!(route.get("proxy_url").is_none());
        assert!(events_of(&client, "proxy identity map").is_empty());
        wait_events(&client, "poll failed; backing off", 1);
        assert_eq!(proxy.connections(), 0, "{base} {variables:?}");
    }
}

#[test]
fn requests_to_loopback_do_not_use_the_environments_proxy() {
    let plane = ControlPlane::start();
    let dead = "http://127.0.0.1:9";
    let _client = client(&plane.base_url(), &[], &[("HTTP_PROXY", dead), ("http_proxy", dead)]);
    assert!(plane.wait_polls(1)[0].asked_through_proxy.is_none());
}

#[test]
fn no_variable_sends_the_control_planes_requests_to_a_socket() {
    let plane = ControlPlane::start();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("plane");
    let listener = UnixListener::bind(&path).unwrap();
    listener.set_nonblocking(true).unwrap();
    let variable = ("TUNNEL_INTEGRATION_TUNNEL_SERVICE_SOCKET_PATH", path.to_str().unwrap());
    let _client = client(&plane.base_url(), &[], &[variable]);
    plane.send(&[call("r", "echo", "")]);
    plane.wait_answers(&["r"]);
    assert!(listener.accept().is_err(), "the key belongs to the host of the base URL alone");
}
