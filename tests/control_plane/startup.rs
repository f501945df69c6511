//! Configurations that a start refuses: exit code 1, one clear sentence, no secret, nothing sent.

use crate::authority::Authority;
use crate::common::control_plane::ControlPlane;
use crate::common::process::run_to_its_end;
use crate::common::{API_KEY, TUNNEL_ID};

const TARGET: [&str; 2] = ["--mcp.server-url", "http://127.0.0.1:9/mcp"];

/// The output of a start that must fail; nothing may have been sent.
fn refused(arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let plane = ControlPlane::start();
    let base = plane.base_url();
    let arguments = [&["--control-plane.base-url", base.as_str()], &TARGET[..], arguments].concat();
    let (code, output) = run_to_its_end(&arguments, variables);
    assert_eq!(code, Some(1), "{arguments:?} {variables:?}: {output}");
    assert_eq!(plane.connections(), 0, "{arguments:?}");
    assert!(!output.contains(API_KEY), "{output}");
    output
}

#[test]
fn url_paths_that_are_none_are_refused_by_name() {
    for path in ["a/b", "http://x/", "/a?b=1", "/a#f", "//x/y", "//u@x/y", "/%zz"] {
        let output = refused(&["--control-plane.url-path", path], &[]);
        assert!(output.contains("control-plane.url-path"), "{path}: {output}");
    }
    let output = refused(&[], &[("CONTROL_PLANE_URL_PATH", "a/b")]);
    assert!(output.contains("control-plane.url-path"), "{output}");
}

#[test]
fn base_urls_without_scheme_or_host_are_refused_by_name() {
    for base in ["gw.example.com", "localhost:1234", "https://", "http:///x", "://h"] {
        let (code, output) =
            run_to_its_end(&[&["--control-plane.base-url", base], &TARGET[..]].concat(), &[]);
        assert_eq!(code, Some(1));
        assert!(output.contains("invalid control-plane.base-url"), "{base}: {output}");
    }
}

#[test]
fn wrong_tunnel_ids_are_quoted_and_a_missing_one_is_asked_for() {
    let short = &TUNNEL_ID[..TUNNEL_ID.len() - 1];
    let upper = TUNNEL_ID.to_uppercase();
    let long = format!("{TUNNEL_ID}0");
    for id in [short, &upper, &long, "tunnel_", "../../etc", "0123456789abcdef0123456789abcdef"] {
        let output = refused(&["--control-plane.tunnel-id", id], &[]);
        assert!(output.contains("invalid tunnel ID") && output.contains(id), "{id}: {output}");
        for part in ["^tunnel_[a-z0-9]{32}$", "32 lowercase letters or digits"] {
            assert!(output.contains(part), "{output}");
        }
    }
    for id in ["", "  "] {
        let output = refused(&[], &[("CONTROL_PLANE_TUNNEL_ID", id)]);
        for part in ["tunnel ID is required", "--control-plane.tunnel-id", "CONTROL_PLANE_TUNNEL_ID"] {
            assert!(output.contains(part), "{output}");
        }
    }
}

#[test]
fn a_malformed_key_is_refused_and_no_part_of_it_is_shown() {
    for (key, parts) in [
        ("sk-hidden one", ["sk-hidden", "one"]),
        ("\"sk-hidden\"", ["sk-hidden", "hidden"]),
        (" sk-hidden- -one", ["sk-hidden", "-one"]),
        ("sk-hidden\tx1y2z3", ["sk-hidden", "x1y2z3"]),
        ("sk-hidden\nx1y2z3", ["sk-hidden", "x1y2z3"]),
        ("env:HIDDEN_NAME.x1y2z3", ["HIDDEN_NAME", "x1y2z3"]),
        ("schlüssel", ["schl", "ssel"]),
    ] {
        let output = refused(&[], &[("CONTROL_PLANE_API_KEY", key)]);
        assert!(output.contains("control plane API key is malformed"), "{output}");
        for part in parts {
            assert!(!output.contains(part), "{key:?}: {output}");
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key");
    std::fs::write(&file, "sk-hidden one\n").unwrap();
    let reference = format!("file:{}", file.display());
    let output = refused(&["--control-plane.api-key", &reference], &[]);
    assert!(
        output.contains("control plane API key is malformed") && !output.contains("sk-hidden"),
        "{output}"
    );
    let output = refused(&["--control-plane.api-key", "sk-literal-hidden"], &[]);
    assert!(output.contains("env:") && !output.contains("sk-literal"), "{output}");
    let output = refused(&[], &[("CONTROL_PLANE_API_KEY", "")]);
    assert!(output.contains("control plane API key is required"), "{output}");
}

#[test]
fn reserved_malformed_and_contradicting_extra_headers_are_refused_without_their_values() {
    for name in [
        "authorization",
        "Accept",
        "USER-AGENT",
        "X-Tunnel-Client-Name",
        "X-Tunnel-Client-Version",
        "X-Tunnel-MCP-Server-Info",
        "x-tunnel-client-instance-id",
        "X-Tunnel-Shard-Token",
        "X-Client-Request-Id",
        "Content-Type",
        "content-length",
        "Host",
        "Transfer-Encoding",
    ] {
        let header = format!("{name}: hidden-value");
        let output = refused(&["--control-plane.extra-headers", &header], &[]);
        assert!(output.contains("cannot override control-plane authentication"), "{name}: {output}");
        assert!(output.contains(name) && !output.contains("hidden-value"), "{output}");
    }
    for header in ["no colon hidden-value", ": hidden-value", "X A: hidden-value", "X-A: a\u{1}hidden-value"]
    {
        let output = refused(&["--control-plane.extra-headers", header], &[]);
        assert!(output.contains("control-plane.extra-headers"), "{output}");
        assert!(!output.contains("hidden-value"), "{output}");
    }
    let output = refused(
        &["--control-plane.extra-headers", "X-A: hidden-1", "--control-plane.extra-headers", "x-a: hidden-2"],
        &[],
    );
    assert!(output.contains("conflicting values for case-insensitive HTTP header"), "{output}");
    assert!(!output.contains("hidden-"), "{output}");
}

#[test]
fn poll_channels_must_be_canonical_unique_and_served() {
    for (channels, part) in [
        (&["Main"][..], "main"),
        (&[" main"], "not canonical"),
        (&["main", "main"], "duplicate"),
        (&[""], "empty"),
        (&["bad channel"], "invalid channel name"),
        (&["main", "reports"], "reports has no local handler"),
        (&["harpoon"], "harpoon has no routable target"),
    ] {
        let mut arguments = Vec::new();
        for channel in channels {
            arguments.extend(["--control-plane.poll-channel", channel]);
        }
        let output = refused(&arguments, &[]);
        assert!(output.contains(part), "{channels:?}: {output}");
    }
    for list in ["", "main,", "main, reports"] {
        let output = refused(&[], &[("CONTROL_PLANE_POLL_CHANNELS", list)]);
        assert!(output.contains("control-plane.poll-channel"), "{list:?}: {output}");
    }
}

#[test]
fn limits_and_times_out_of_bounds_are_refused() {
    for (flag, value, part) in [
        ("max-inflight", "0", "greater than zero"),
        ("max-inflight", "10001", "less than or equal to 10000"),
        ("max-inflight", "many", "control-plane.max-inflight"),
        ("poll-timeout", "0s", "greater than zero"),
        ("poll-timeout", "30", "control-plane.poll-timeout"),
        ("poll-timeout", "10m", "at most 10m0s"),
        ("poll-deadline-guardrail", "0s", "greater than zero"),
        ("poll-deadline-guardrail", "60s", "less than 1m0s"),
        ("organization-id", "a\nb", "line break"),
    ] {
        let output = refused(&[&format!("--control-plane.{flag}"), value], &[]);
        assert!(output.contains(part), "{flag} {value}: {output}");
    }
}

#[test]
fn client_certificates_need_both_parts_and_must_match() {
    let authority = Authority::new();
    authority.client_certificate();
    let certificate = authority.path("client.pem").display().to_string();
    let key = authority.path("client.key").display().to_string();
    let other = authority.sign("other", |_| {});
    let other_key = authority.write("other.key", &other.key.serialize_pem());
    let junk = authority.write("junk.pem", "not a certificate");
    let missing = authority.path("missing.pem").display().to_string();
    let (cert_flag, key_flag) = ("--control-plane.client-cert", "--control-plane.client-key");
    for (arguments, part) in [
        (vec![cert_flag, &certificate], "missing client-key"),
        (vec![key_flag, &key], "missing client-cert"),
        (vec![cert_flag, &certificate, key_flag, &other_key], "does not match"),
        (vec![cert_flag, &junk, key_flag, &key], "junk.pem"),
        (vec![cert_flag, &certificate, key_flag, &junk], "junk.pem"),
        (vec![cert_flag, &missing, key_flag, &key], "missing.pem"),
    ] {
        let output = refused(&arguments, &[]);
        assert!(
            output.contains("invalid control-plane client certificate configuration")
                && output.contains(part),
            "{arguments:?}: {output}"
        );
    }
}

#[test]
fn a_bundle_that_holds_no_certificate_is_refused() {
    let authority = Authority::new();
    let junk = authority.write("junk.pem", "nothing in here\n");
    let only_key = authority.write("key.pem", &authority.sign("x", |_| {}).key.serialize_pem());
    let broken =
        authority.write("broken.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    for bundle in [junk, only_key, broken] {
        let output = refused(&["--ca-bundle", &bundle], &[]);
        assert!(output.contains("invalid ca-bundle") && output.contains(&bundle), "{output}");
        assert!(output.contains("contained no certificates"), "{output}");
    }
    let missing = authority.path("missing.pem").display().to_string();
    let output = refused(&[], &[("CA_BUNDLE", &missing)]);
    assert!(output.contains("invalid ca-bundle") && output.contains("missing.pem"), "{output}");
}

#[test]
fn proxies_must_be_http_urls() {
    for proxy in ["socks5://u:hidden-pw@p:1", "p:3128", "http://", "ftp://p", "env:NOT_SET_ANYWHERE", ""] {
        let output = refused(&["--control-plane.http-proxy", proxy], &[]);
        assert!(output.contains("control-plane.http-proxy"), "{proxy}: {output}");
        assert!(!output.contains("hidden-pw"), "{output}");
    }
    let output = refused(&["--http-proxy", "env:P"], &[("P", "socks5://u:hidden-pw@p:1")]);
    assert!(output.contains("http-proxy") && !output.contains("hidden-pw"), "{output}");
}

#[test]
fn the_cloudflared_companion_is_refused_in_one_sentence_and_its_endpoint_never_asked() {
    let token = [("TOKEN", "hidden-token")];
    for (arguments, variables) in [
        (vec!["--cloudflared.managed"], vec![]),
        (vec!["--cloudflared.managed=true", "--cloudflared.token", "env:TOKEN"], token.to_vec()),
        (vec![], vec![("CLOUDFLARED_TUNNEL_TOKEN", "hidden-token")]),
        (vec!["--log.http-raw-unsafe"], vec![("CLOUDFLARED_MANAGED", "true")]),
    ] {
        let output = refused(&arguments, &variables);
        assert!(output.contains("cloudflared companion is not part of this client"), "{output}");
        assert!(!output.contains("hidden-token"), "{output}");
    }
}

#[test]
fn more_channels_than_can_be_declared_are_refused_before_anything_runs() {
    let directory = tempfile::tempdir().unwrap();
    let trace = directory.path().join("ran");
    let command = format!("channel=child,command=touch {}", trace.display());
    let entries: Vec<String> = (0..32).map(|n| format!("channel=c{n},url=http://127.0.0.1:9/mcp")).collect();
    let mut arguments = vec!["--mcp.command", command.as_str()];
    for entry in &entries {
        arguments.extend(["--mcp.server-url", entry]);
    }
    let output = refused(&arguments, &[]);
    assert!(output.contains("35 are more than 32"), "with harpoon, which may come up: {output}");
    assert!(!trace.exists(), "a child ran");
}
