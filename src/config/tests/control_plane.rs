//! `control_plane.*` and headers.

use super::*;

#[test]
fn the_api_key_comes_from_the_first_of_four_places() {
    let openai = || Given::minimal().without("CONTROL_PLANE_API_KEY").variable("OPENAI_API_KEY", "a");
    assert_eq!(key(&openai().config()), "a");
    assert_eq!(openai().config().secret_variables, ["OPENAI_API_KEY"]);
    let given = openai();
    given.file("F", "b\n");
    let given = given.document("control_plane: {api_key: \"file:DIR/F\"}");
    assert_eq!(key(&given.config()), "b");
    assert!(given.config().control_plane.api_key_source.starts_with("file:"));
    let given = given.variable("CONTROL_PLANE_API_KEY", "c");
    assert_eq!(key(&given.config()), "c");
    let given = given.variable("GOOD", "d").arguments(&["--control-plane.api-key", "env:GOOD"]);
    let config = given.config();
    assert_eq!((key(&config), config.control_plane.api_key_source.as_str()), ("d", "env:GOOD"));
    assert_eq!(config.secret_variables, ["GOOD"]);
}

#[test]
fn the_key_is_never_shown() {
    for (given, part) in [
        (Given::minimal().arguments(&["--control-plane.api-key", "sk-abcdef"]), "env: or file:"),
        (Given::minimal().variable("CONTROL_PLANE_API_KEY", "sk-abc def"), "malformed"),
        (Given::minimal().variable("CONTROL_PLANE_API_KEY", "sk-abc\tdef"), "malformed"),
        (Given::minimal().variable("CONTROL_PLANE_API_KEY", "'sk-abc'"), "malformed"),
        (Given::minimal().variable("CONTROL_PLANE_API_KEY", "sk-abc\ndef"), "malformed"),
        (Given::minimal().variable("CONTROL_PLANE_API_KEY", "env:sk-abc"), "malformed"),
    ] {
        given.refused(part);
        assert!(!given.error().contains("sk-"), "{}", given.error());
    }
    assert_eq!(key(&Given::minimal().variable("CONTROL_PLANE_API_KEY", " sk-abc\n").config()), "sk-abc");
}

#[test]
fn tunnel_ids_are_trimmed_and_checked() {
    let id = |text: &str| Given::minimal().variable("CONTROL_PLANE_TUNNEL_ID", text);
    for bad in [
        "bad id",
        "0123456789abcdef0123456789abcdef",
        "tunnel_0123456789ABCDEF0123456789ABCDEF",
        "tunnel_1234",
        "path/unsafe",
    ] {
        id(bad).refused("invalid tunnel ID");
    }
    id(" ").refused("tunnel ID is required");
    let zs = format!("tunnel_{}", "z".repeat(32));
    assert_eq!(id(&format!("{zs}\n")).config().control_plane.tunnel_id.as_str(), zs);
}

#[test]
fn poll_times_have_units_and_bounds() {
    let config = Given::minimal().document("control_plane: {poll_timeout: 30000ms}").config();
    assert_eq!(config.control_plane.poll_timeout, Duration::from_secs(30));
    Given::minimal()
        .document("control_plane: {poll_timeout: 30}")
        .refused("invalid control-plane.poll-timeout");
    for (arguments, part) in [
        (["--control-plane.poll-timeout", "10m1ms"], "at most 10m0s"),
        (["--control-plane.poll-timeout", "9m55.1s"], "at most 10m0s"),
        (["--control-plane.poll-timeout", "0s"], "greater than zero"),
        (["--control-plane.poll-timeout", "-1s"], "greater than zero"),
        (["--control-plane.poll-deadline-guardrail", "1m"], "less than 1m0s"),
        (["--control-plane.poll-deadline-guardrail", "0s"], "greater than zero"),
        (["--mcp.startup-wait-timeout", "-1s"], "must not be negative"),
        (["--mcp.connection-max-ttl", "0"], "must be positive"),
        (["--mcp.handshake-timeout", "999ms"], "must be from 1s to 10m"),
        (["--mcp.protocol-probe-timeout", "61s"], "must be from 100ms to 60s"),
        (["--mcp.protocol-bridge", "on"], "must be auto or off"),
        (["--proxy.check-interval", "0s"], "must be positive"),
        (["--cloudflared.ready-timeout", "0s"], "must be positive"),
    ] {
        Given::minimal().arguments(&arguments).refused(part);
    }
    Given::minimal().arguments(&["--control-plane.poll-timeout", "9m55s"]).config();
    assert_eq!(
        Given::minimal().variable("MCP_STDIO_LIFECYCLE", " OFF ").config().mcp.stdio_lifecycle,
        Switch::Off
    );
}

#[test]
fn a_client_certificate_moves_the_default_host() {
    let given = Given::minimal();
    let pem = pem();
    let cert = given.file("c.pem", &pem).display().to_string();
    let key = given.file("k.pem", &pem).display().to_string();
    let pair = ["--control-plane.client-cert", &cert, "--control-plane.client-key", &key];
    let host = |given: Given| given.config().control_plane.base_url.to_string();
    let given = given.arguments(&pair);
    let config = given.config();
    assert_eq!(config.control_plane.base_url.as_str(), "https://mtls.api.openai.com/");
    assert_eq!(config.control_plane.client_certificate.map(|pair| pair.key), Some(PathBuf::from(&key)));
    for (base, expected) in [
        ("https://cp.example", "https://cp.example/"),
        ("https://api.openai.com/", "https://mtls.api.openai.com/"),
        (" https://api.openai.com// ", "https://mtls.api.openai.com/"),
        ("https://api.openai.com:443", "https://api.openai.com/"),
        ("https://api.openai.com/x", "https://api.openai.com/"),
    ] {
        assert_eq!(
            host(Given::minimal().arguments(&pair).variable("CONTROL_PLANE_BASE_URL", base)),
            expected,
            "{base}"
        );
    }
    for half in [&pair[..2], &pair[2..]] {
        Given::minimal().arguments(half).refused(INVALID_CONTROL_PLANE_CERTIFICATE);
    }
    Given::minimal().arguments(&pair[..2]).refused("missing client-key");
    Given::minimal().arguments(&pair[2..]).refused("missing client-cert");
    Given::minimal()
        .arguments(&[pair[0], "/nope.pem", pair[2], &key])
        .refused("invalid control-plane client certificate configuration");
    let by_reference = Given::minimal()
        .variable("CERT", &cert)
        .arguments(&[pair[0], "env:CERT", pair[2], &format!("file:{key}")])
        .config();
    assert_eq!(
        by_reference.control_plane.client_certificate.map(|pair| pair.certificate),
        Some(PathBuf::from(&cert))
    );
}

#[test]
fn base_url_and_path_are_separate_settings() {
    for (name, value, part) in [
        ("CONTROL_PLANE_URL_PATH", "x/y", "invalid control-plane.url-path"),
        ("CONTROL_PLANE_URL_PATH", "https://h/x", "invalid control-plane.url-path"),
        ("CONTROL_PLANE_URL_PATH", "/x?a=1", "invalid control-plane.url-path"),
        ("CONTROL_PLANE_BASE_URL", "mcp.example.com/x", "invalid control-plane.base-url"),
        ("CONTROL_PLANE_BASE_URL", "ftp://h", "invalid control-plane.base-url"),
        ("CONTROL_PLANE_ORGANIZATION_ID", "a\nb", "line break"),
    ] {
        Given::minimal().variable(name, value).refused(part);
    }
    let config = Given::minimal()
        .variable("CONTROL_PLANE_URL_PATH", "/x/y/")
        .variable("CONTROL_PLANE_BASE_URL", "https://u:p@gw.example.net:8443/ignored?q#f")
        .variable("CONTROL_PLANE_ORGANIZATION_ID", " org-1\n")
        .config();
    assert_eq!(config.control_plane.url_path, "/x/y");
    assert_eq!(config.control_plane.base_url.as_str(), "https://gw.example.net:8443/");
    assert_eq!(config.control_plane.organization_id.as_deref(), Some("org-1"));
}

#[test]
fn a_key_over_plain_http_is_worth_a_warning() {
    let warnings = |base: &str| Given::minimal().variable("CONTROL_PLANE_BASE_URL", base).config().warnings;
    assert!(warnings("http://cp.example")[0].contains("unencrypted"));
    for quiet in ["http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1", "https://cp.example"] {
        assert!(warnings(quiet).is_empty(), "{quiet}");
    }
}

#[test]
fn poll_channels_must_be_canonical_and_lead_somewhere() {
    let polled = |given: Given| -> Vec<String> {
        let channels = given.config().control_plane.poll_channels.unwrap_or_default();
        channels.iter().map(ToString::to_string).collect()
    };
    let with = |channels: &str| Given::minimal().variable("CONTROL_PLANE_POLL_CHANNELS", channels);
    assert_eq!(polled(with("main,harpoon")), ["harpoon", "main"]);
    with("harpoon").refused("harpoon has no routable target");
    let harpoon_alone =
        with("harpoon").without("MCP_SERVER_URL").arguments(&["--harpoon.target", "label=a,url=https://a"]);
    assert_eq!(polled(harpoon_alone), ["harpoon"]);
    for bad in ["", "main,", "Main", "main,main", "main, harpoon"] {
        with(bad).refused("invalid control-plane.poll-channel");
    }
    with("unknown").refused("has no local handler");
    with("main").without("MCP_SERVER_URL").refused("main has no local MCP handler");
    Given::minimal().document("control_plane: {poll_channels: []}").refused("empty channel");
    assert_eq!(
        polled(Given::minimal().document("control_plane: {poll_channels: [\"main,harpoon\"]}")),
        ["harpoon", "main"]
    );
    let left_out = with("foo").variable("MCP_SERVER_URL", "http://a\nchannel=foo,url=http://b").config();
    assert_eq!(channels(&left_out), ["main", "foo"]);
}

#[test]
fn headers_are_collected_from_every_layer() {
    let config = Given::minimal().variable("CONTROL_PLANE_EXTRA_HEADERS", "a: 1; b:2, c: 3").config();
    assert_eq!(headers(&config.control_plane.extra_headers), [("A", "1"), ("B", "2"), ("C", "3")]);
    let config = Given::minimal()
        .document("control_plane: {extra_headers: {X-List: \"one,two;three\", x-n: 1}}")
        .config();
    assert_eq!(headers(&config.control_plane.extra_headers), [("X-List", "one,two;three"), ("X-N", "1")]);
    let flags = |pair: [&str; 2]| {
        let [a, b] = pair.map(|header| format!("--control-plane.extra-headers={header}"));
        Given::minimal().arguments(&[&a, &b])
    };
    flags(["X-A: 1", "x-a: 2"]).refused("conflicting values for case-insensitive HTTP header");
    assert_eq!(headers(&flags(["X-A: 1", "x-a: 1"]).config().control_plane.extra_headers), [("X-A", "1")]);
    assert_eq!(headers(&flags(["X-A: 1", "X-A: 2"]).config().control_plane.extra_headers), [("X-A", "2")]);
    assert_eq!(
        headers(&flags(["X-A: a:b", "X-B: c, d"]).config().control_plane.extra_headers),
        [("X-A", "a:b"), ("X-B", "c, d")]
    );
    for (header, part) in [
        ("no colon", "expected `Key: Value`"),
        (": v", "invalid HTTP header name"),
        ("a b: v", "invalid HTTP header name"),
        ("X-A:", "is empty"),
        ("X-A: s3cret\u{1}", "invalid HTTP header value"),
    ] {
        let given = flags([header, "X-Z: 1"]);
        given.refused(part);
        assert!(!given.error().contains("s3cret"));
    }
}

#[test]
fn authentication_headers_cannot_be_replaced() {
    let part = "cannot override control-plane authentication";
    Given::minimal().arguments(&["--control-plane.extra-headers", "authorization: x"]).refused(part);
    Given::minimal().variable("CONTROL_PLANE_EXTRA_HEADERS", "X-Tunnel-MCP-Server-Info: x").refused(part);
    Given::minimal().document("control_plane: {extra_headers: {AUTHORIZATION: x}}").refused(part);
    let config = Given::minimal().variable("MCP_EXTRA_HEADERS", "Authorization: x").config();
    assert_eq!(headers(&config.mcp.extra_headers), [("Authorization", "x")]);
}

#[test]
fn header_references_are_resolved_and_remembered() {
    let given = Given::minimal();
    given.file("secret", "s3cret\n");
    given.file("lines", "s3\ncret\n");
    let given = given.variable("TOKEN", " t0ken ");
    let document = "mcp:\n  extra_headers: {X-A: 'file:DIR/secret', X-B: 'env:TOKEN'}\n";
    let config = given.document(document).config();
    assert_eq!(headers(&config.mcp.extra_headers), [("X-A", "s3cret"), ("X-B", "t0ken")]);
    assert_eq!(config.secret_variables, ["CONTROL_PLANE_API_KEY", "TOKEN"]);
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);

    let given = Given::minimal();
    let lines = given.file("lines", "s3\ncret\n").display().to_string();
    let given = given.arguments(&["--mcp.extra-headers", &format!("X-A: file:{lines}")]);
    given.refused("line break");
    assert!(!given.error().contains("cret\n"));
}

#[test]
fn a_flag_or_variable_silences_the_documents_headers() {
    let document = "mcp: {extra_headers: {\"bad name\": \"env:NOPE\"}}";
    Given::minimal().document(document).refused("invalid HTTP header name");
    Given::minimal().document(document).arguments(&["--mcp.extra-headers", "A: b"]).config();
    Given::minimal().document(document).variable("MCP_EXTRA_HEADERS", "").config();
}
