//! TLS to the control plane: whom we trust, and whom we show a certificate.

use std::sync::Arc;

use rcgen::date_time_ymd;
use rustls::ServerConfig;

use crate::authority::Authority;
use crate::common::control_plane::{ControlPlane, call, json};
use crate::common::eventually;
use crate::common::mcp_server::McpServer;
use crate::common::process::Client;
use crate::rig::{VERBOSE, start, wait_events};

fn bundle(authority: &Authority) -> String {
    authority.path("ca.pem").display().to_string()
}

#[test]
fn a_private_authority_is_trusted_through_the_bundle_and_only_through_it() {
    let authority = Authority::new();
    let bundle = bundle(&authority);
    let (plane, mcp) =
        (ControlPlane::over_tls(authority.sign("localhost", |_| {}).config()), McpServer::by_tool_name());
    let stranger = start(&plane, &mcp, &[], &[]);
    let failed = wait_events(&stranger, "poll failed; backing off", 1);
    let text = failed[0]["error"].as_str().unwrap();
    assert!(text.contains("not trusted") && text.contains("CA bundle"), "{text}");
    assert!(plane.seen().is_empty(), "no request and no key was sent");
    drop(stranger);
    for (arguments, variables) in
        [(vec!["--ca-bundle", bundle.as_str()], vec![]), (vec![], vec![("CA_BUNDLE", bundle.as_str())])]
    {
        plane.expect_clients(2);
        let client = start(&plane, &mcp, &arguments, &variables);
        let id = format!("r-{}", arguments.len());
        plane.send(&[call(&id, "echo", "")]);
        assert_eq!(plane.wait_answers(&[&id])[0].json()["resp_code"], 200);
        let trust = wait_events(&client, "tls trust summary", 1).remove(0);
        assert_eq!(
            (&trust["level"], trust["extra_bundle"]["cert_count"].as_u64()),
            (&"INFO".into(), Some(1))
        );
        let listed = &trust["extra_bundle"]["certificates"][0];
        assert_eq!((&listed["name"], &listed["parse_status"]), (&"Test CA".into(), &"ok".into()), "{trust}");
        assert_eq!(trust["extra_bundle"]["path"], bundle.as_str());
    }
}

#[test]
fn certificates_out_of_time_or_for_another_name_are_refused_in_clear_words() {
    let authority = Authority::new();
    let bundle = bundle(&authority);
    let mcp = McpServer::by_tool_name();
    for (identity, words) in [
        (authority.sign("localhost", |p| p.not_after = date_time_ymd(2020, 1, 1)), "has expired"),
        (authority.sign("localhost", |p| p.not_before = date_time_ymd(2999, 1, 1)), "not valid yet"),
        (authority.sign("other.example", |_| {}), "not valid for this host name"),
    ] {
        let plane = ControlPlane::over_tls(identity.config());
        let client = start(&plane, &mcp, &["--ca-bundle", &bundle], &[]);
        let failed = wait_events(&client, "poll failed; backing off", 1);
        assert!(failed[0]["error"].as_str().unwrap().contains(words), "{}", failed[0]);
        assert!(plane.seen().is_empty());
    }
}

/// A control plane that demands a certificate, and the arguments of a client that has one.
fn demanding(authority: &Authority) -> (Arc<ServerConfig>, [String; 6]) {
    authority.client_certificate();
    let config = authority.demanding(&authority.sign("localhost", |_| {}));
    let path = |name: &str| authority.path(name).display().to_string();
    let arguments = [
        "--ca-bundle".to_owned(),
        path("ca.pem"),
        "--control-plane.client-cert".to_owned(),
        path("client.pem"),
        "--control-plane.client-key".to_owned(),
        path("client.key"),
    ];
    (config, arguments)
}

#[test]
fn a_control_plane_that_demands_a_certificate_gets_it_for_every_kind_of_request() {
    let authority = Authority::new();
    let (config, arguments) = demanding(&authority);
    let (plane, mcp) = (ControlPlane::over_tls(config), McpServer::by_tool_name());
    plane.on_metadata(|_| json(r#"{"name":"Prod"}"#));
    let arguments = arguments.each_ref().map(String::as_str);
    let client = start(&plane, &mcp, &arguments, &[]);
    plane.send(&[call("r", "echo", "")]);
    plane.wait_answers(&["r"]);
    wait_events(&client, "tunnel metadata fetched", 1);
    plane.wait_polls(2);
}

#[test]
fn without_a_certificate_the_demand_is_told() {
    let authority = Authority::new();
    let (config, arguments) = demanding(&authority);
    let (plane, mcp) = (ControlPlane::over_tls(config), McpServer::by_tool_name());
    let client = start(&plane, &mcp, &[&arguments[0], &arguments[1]], &[]);
    let failed = wait_events(&client, "poll failed; backing off", 1);
    assert!(failed[0]["error"].as_str().unwrap().contains("requires a client certificate"), "{}", failed[0]);
    assert!(plane.seen().is_empty());
}

#[test]
fn with_a_certificate_the_default_host_is_the_one_for_certificates() {
    let authority = Authority::new();
    let (config, arguments) = demanding(&authority);
    let mcp = McpServer::by_tool_name();
    let url = mcp.url();
    let certificate = &arguments.each_ref().map(String::as_str)[2..];
    for (base, with_certificate, expected) in [
        (None, true, "mtls.api.openai.com:443"),
        (Some("https://api.openai.com"), true, "mtls.api.openai.com:443"),
        (Some(" https://api.openai.com// "), true, "mtls.api.openai.com:443"),
        (Some("https://api.openai.com:443"), true, "api.openai.com:443"),
        (Some("https://api.openai.com/v1"), true, "api.openai.com:443"),
        (Some("https://API.openai.com"), true, "api.openai.com:443"),
        (Some("https://gw.example.com"), true, "gw.example.com:443"),
        (None, false, "api.openai.com:443"),
    ] {
        // Nothing leaves this machine: every connection ends at a proxy that refuses.
        let proxy = ControlPlane::behind_proxy(Arc::clone(&config));
        proxy.refuse_connect(403);
        let proxy_url = proxy.base_url();
        let mut arguments = [&VERBOSE[..], &["--mcp.server-url", &url]].concat();
        arguments.extend(["--control-plane.http-proxy", &proxy_url]);
        if with_certificate {
            arguments.extend(certificate);
        }
        if let Some(base) = base {
            arguments.extend(["--control-plane.base-url", base]);
        }
        let client = Client::start_bare(&arguments, &[]);
        let route = wait_events(&client, "route resolved", 1).remove(0);
        assert_eq!(route["target_host"], expected, "{base:?}");
        eventually("it is asked for", || !proxy.connects().is_empty());
        assert_eq!(proxy.connects()[0].path, expected, "{base:?}");
    }
}
