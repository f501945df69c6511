//! MCP servers, proxies and harpoon targets.

use super::*;

#[test]
fn a_main_binding_is_required_unless_channels_exclude_it() {
    let given = Given::minimal().variable("MCP_SERVER_URL", "channel=tools,url=http://a");
    given.refused("main channel is required");
    given.refused("add channel=main");
    assert_eq!(given.load().unwrap_err().first().kind, ErrorKind::McpTarget);
}

#[test]
fn each_channel_has_one_binding() {
    Given::minimal().variable("MCP_COMMAND", "x").refused("duplicate channel");
    Given::minimal().document("mcp: {commands: [{command: x}]}").refused("duplicate channel");
    Given::minimal().variable("MCP_COMMAND", "channel=harpoon,command=x").refused("is reserved");
    Given::minimal().variable("MCP_SERVER_URL", "channel=Harpoon,url=http://a").refused("is reserved");
    Given::minimal().variable("MCP_COMMAND", "channel=b d,command=x").refused("invalid channel name");
}

#[test]
fn commands_may_hold_commas_and_semicolons() {
    for entry in [
        "channel=main,command=python -c \"print(1,2,3)\"",
        "command=python -c \"print(1,2,3)\",channel=main",
        "python -c \"print(1,2,3)\"",
    ] {
        let config = Given::minimal().without("MCP_SERVER_URL").arguments(&["--mcp.command", entry]).config();
        assert_eq!(argv(&config.mcp.bindings[0]), ["python", "-c", "print(1,2,3)"], "{entry}");
    }
    let config = Given::minimal()
        .without("MCP_SERVER_URL")
        .variable("MCP_COMMAND", "bash -c \"echo a; echo b\"")
        .config();
    assert_eq!(argv(&config.mcp.bindings[0]), ["bash", "-c", "echo a; echo b"]);
    let config = Given::minimal()
        .without("MCP_SERVER_URL")
        .document("mcp:\n  commands:\n    - command: a,url=b;c\n    - {channel: two, command: 'x ,channel=y'}\n    - {command: 'z,channel=three'}\n")
        .config();
    assert_eq!(channels(&config), ["main", "two", "three"]);
    assert_eq!(argv(&config.mcp.bindings[0]), ["a,url=b;c"]);
    assert_eq!(argv(&config.mcp.bindings[1]), ["x", ",channel=y"]);
    assert_eq!(argv(&config.mcp.bindings[2]), ["z"]);
    for (entry, part) in [
        ("channel=main,command=x,http-proxy=http://p", "unsupported key"),
        ("command=x,URL=http://p", "unsupported key"),
        ("url=http://a", "unsupported key"),
        ("COMMAND=x", "unsupported key"),
        ("channel=main", "expected channel=NAME,command=COMMAND"),
        ("channel=main,cmd=x", "unsupported key"),
        ("command=", "command is empty"),
        ("x 'y", "unterminated quoted string"),
        ("x \\", "unterminated escape sequence"),
    ] {
        let given = Given::minimal().without("MCP_SERVER_URL").arguments(&["--mcp.command", entry]);
        given.refused(part);
        given.refused("invalid mcp.command");
    }
}

#[test]
fn http_entries_have_keys() {
    let config = Given::minimal()
        .variable("MCP_SERVER_URL", "http://a\n\nchannel=foo, url=http://b/x ,unix-socket=file:/s,,")
        .config();
    assert_eq!(channels(&config), ["main", "foo"]);
    let (url, socket, via, _) = http(&config.mcp.bindings[1]);
    assert_eq!((url.as_str(), socket, via), ("http://b/x", Some(Path::new("/s")), None));
    for (entry, part) in [
        ("url=http://a,unix-socket=/s,http-proxy=http://p", "cannot be combined with"),
        ("channel=main", "url is missing"),
        ("url=", "empty value"),
        ("url=http://a,x", "expected key=value"),
        ("url=http://a,tls=no", "unsupported key"),
        ("URL=http://a", "unsupported key"),
        ("command=x", "unsupported key"),
        ("url=http://a,client-cert=/c", "missing client-key"),
        ("url=http://a,client-key=/c", "missing client-cert"),
        ("localhost:3001/mcp", "must include scheme and host"),
        ("url =http://a", "invalid mcp.server-url"),
        ("url=http://a,http-proxy=socks5://h:1", "http-proxy"),
        ("url=http://a,unix-socket=env:NOPE", "is not set"),
    ] {
        let given = Given::minimal().arguments(&["--mcp.server-url", entry]);
        given.refused(part);
        given.refused("invalid mcp.server-url");
    }
    let given = Given::minimal().arguments(&["--mcp.server-url", "http://user:hunter2@h:bad/"]);
    assert!(!given.error().contains("hunter2"));
}

#[test]
fn typed_document_values_may_hold_separators() {
    let config = Given::minimal()
        .without("MCP_SERVER_URL")
        .document(
            "mcp: {server_urls: [{url: \"http://a/x,y;z\"}]}\nharpoon:\n  targets: [{label: a, url: \"https://a/b,c\", description: \"one, two; three\"}]\n  hosts_include_regex: ['[a;b]', 'c;d']\n  hosts_include_suffix: ['.Corp.Example', 'a;b']\n",
        )
        .config();
    assert_eq!(http(&config.mcp.bindings[0]).0.as_str(), "http://a/x,y;z");
    assert_eq!(config.harpoon.targets[0].description, "one, two; three");
    assert_eq!(config.harpoon.hosts_include_regex, ["[a;b]", "c", "d"]);
    assert_eq!(config.harpoon.hosts_include_suffix, ["corp.example", "a", "b"]);
}

#[test]
fn the_most_specific_proxy_is_used() {
    let given = || {
        Given::minimal()
            .variable("TUNNEL_CLIENT_HTTP_PROXY", "http://global:1")
            .variable("MCP_SERVER_URL", "http://a\nchannel=own,url=http://b,http-proxy=http://entry:1\nchannel=sock,url=http://c,unix-socket=/s")
    };
    let show = |setting: &ProxySetting| proxy(setting).map(|(url, source)| format!("{url} {source}"));
    let config = given().config();
    assert_eq!(
        show(&config.control_plane.proxy).as_deref(),
        Some("http://global:1/ TUNNEL_CLIENT_HTTP_PROXY")
    );
    assert_eq!(show(&config.harpoon.proxy).as_deref(), Some("http://global:1/ TUNNEL_CLIENT_HTTP_PROXY"));
    assert_eq!(http(&config.mcp.bindings[0]).2.map(|(url, _)| url).as_deref(), Some("http://global:1/"));
    assert_eq!(http(&config.mcp.bindings[2]).2, None);
    let config = given()
        .variable("P", "https://u:p@own:2")
        .arguments(&["--control-plane.http-proxy", "http://cp:1", "--mcp.http-proxy", "env:P"])
        .document("harpoon: {http_proxy: \"HTTP://harpoon:3\"}")
        .config();
    assert_eq!(show(&config.control_plane.proxy).as_deref(), Some("http://cp:1/ control-plane.http-proxy"));
    assert_eq!(show(&config.harpoon.proxy).as_deref(), Some("http://harpoon:3/ HARPOON_HTTP_PROXY"));
    assert_eq!(http(&config.mcp.bindings[0]).2, Some(("https://u:p@own:2/".to_owned(), "env:P")));
    assert_eq!(http(&config.mcp.bindings[1]).2, Some(("http://entry:1/".to_owned(), "mcp.server-url")));
    Given::minimal().document("http_proxy: \"env:NOPE\"").refused("NOPE is not set");
    Given::minimal().arguments(&["--http-proxy", "socks5://h:1"]).refused("invalid http-proxy");
    let error = Given::minimal().arguments(&["--http-proxy", "http://u:hunter2@"]).error();
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn the_mcp_certificate_needs_an_http_binding() {
    let given = Given::minimal();
    let other = given.file("other.pem", &pem()).display().to_string();
    let pem = given.file("c.pem", &pem()).display().to_string();
    let arguments = ["--mcp.client-cert", &pem, "--mcp.client-key", &pem];
    let config = Given::minimal().arguments(&arguments).config();
    assert_eq!(http(&config.mcp.bindings[0]).3.map(|pair| &pair.key), Some(&PathBuf::from(&pem)));
    Given::minimal()
        .without("MCP_SERVER_URL")
        .variable("MCP_COMMAND", "x")
        .arguments(&arguments)
        .refused(INVALID_MCP_CERTIFICATE);
    Given::minimal().arguments(&arguments[..2]).refused("missing client-key");
    // A pair that does not fit is told in its place among the other mistakes.
    let errors = Given::minimal()
        .without("CONTROL_PLANE_TUNNEL_ID")
        .variable("MCP_CONNECTION_MAX_TTL", "0s")
        .arguments(&["--mcp.client-cert", &pem, "--mcp.client-key", &other])
        .errors();
    let parts = ["tunnel ID is required", INVALID_MCP_CERTIFICATE, "must be positive"];
    assert_eq!(errors.len(), parts.len(), "{errors:#?}");
    for (error, part) in errors.iter().zip(parts) {
        assert!(error.contains(part), "{part:?} not in {error:?}");
    }
}

#[test]
fn harpoon_targets_are_checked() {
    for (entry, part) in [
        ("label=Auth,url=https://a", "label must match"),
        ("label=a,url=http://a", "https is required"),
        ("label=a,url=nope", "must include scheme and host"),
        ("label=a", "label and url are required"),
        ("junk", "expected key=value pairs"),
        ("label=a,url=https://a,unix-socket=env:NOPE", "is not set"),
    ] {
        let given = Given::minimal().arguments(&["--harpoon.target", entry]);
        given.refused(part);
        given.refused("invalid harpoon target");
    }
    let plain = ["--harpoon.target", "label=a,url=http://a,color=red", "--harpoon.allow-plaintext-http"];
    let config = Given::minimal().arguments(&plain).config();
    assert_eq!(config.harpoon.targets[0].label, "a");
    assert!(config.warnings[0].contains("\"color\" is ignored"), "{:?}", config.warnings);
    let document = |targets: &str| Given::minimal().document(&format!("harpoon: {{targets: [{targets}]}}"));
    document("{url: \"https://a\"}").refused("harpoon.targets entry requires label");
    document("{label: a}").refused("harpoon.targets entry \"a\" requires url");
    let twice = Given::minimal().variable("HARPOON_TARGETS", "label=a,url=https://a;label=a,url=https://b");
    twice.refused("harpoon: duplicate target label \"a\"");
    Given::minimal().variable("HARPOON_HOSTS_INCLUDE_REGEX", "[").refused("invalid harpoon host regex \"[\"");
    Given::minimal()
        .variable("HARPOON_ADDITIONAL_TRANSPORTS", "sse")
        .refused("unsupported harpoon transport \"sse\"");
    let config = Given::minimal().variable("HARPOON_ADDITIONAL_TRANSPORTS", "HTTP-Streamable;").config();
    assert!(config.harpoon.http_streamable);
}

#[test]
fn variables_that_hold_credentials_are_remembered() {
    let config = Given::minimal()
        .variable("MCP_SERVER_URL", "http://user:pw@a/mcp\nchannel=b,url=http://b,http-proxy=env:ENTRY_PROXY")
        .variable("ENTRY_PROXY", "http://u:p@proxy:1")
        .variable("MCP_HTTP_PROXY", "http://proxy:1")
        .variable("TUNNEL_CLIENT_HTTP_PROXY", "http://u:p@proxy:2")
        .variable("MCP_EXTRA_HEADERS", "Authorization: Bearer x")
        .variable("MCP_DISCOVERY_EXTRA_HEADERS", "")
        .config();
    assert_eq!(
        config.secret_variables,
        [
            "CONTROL_PLANE_API_KEY",
            "ENTRY_PROXY",
            "MCP_EXTRA_HEADERS",
            "MCP_SERVER_URL",
            "TUNNEL_CLIENT_HTTP_PROXY"
        ]
    );
}

#[test]
fn secrets_that_others_can_read_are_warned_about() {
    let readable = |content: &str| {
        let given = Given::minimal()
            .without("MCP_SERVER_URL")
            .variable("MCP_URL", "http://u:p@a")
            .variable("MCP_PROXY", "http://u:p@proxy:1");
        restrict(&given.file("key.pem", &pem()), 0o640);
        let given = given.document(content);
        restrict(&given.directory.path().join("doc.yaml"), 0o644);
        given.config()
    };
    let main = "mcp: {server_urls: [{url: 'http://a'}]}";
    let entry = |text: &str| format!("mcp: {{server_urls: [{{{text}}}]}}");
    let pair = "client_cert: DIR/key.pem, client_key: DIR/key.pem";
    for (document, part) in [
        (format!("{main}\nhttp_proxy: 'http://u:p@proxy:1'"), "(http_proxy)"),
        (format!("{main}\ncontrol_plane: {{http_proxy: 'http://u@proxy:1'}}"), "(control_plane.http_proxy)"),
        (format!("{main}\nharpoon: {{targets: [{{label: a, url: 'https://u:p@a'}}]}}"), "(harpoon.targets)"),
        (format!("{main}\ncontrol_plane: {{{pair}}}"), "key.pem holds a secret"),
        (entry("url: 'http://u:p@a'"), "(mcp.server_urls)"),
        (entry("url: 'http://a', http_proxy: 'http://u:p@proxy:1'"), "(mcp.server_urls)"),
        (entry(&format!("url: 'http://a', {pair}")), "key.pem holds a secret"),
    ] {
        let warnings = readable(&document).warnings;
        assert!(matches!(&warnings[..], [only] if only.contains(part)), "{part:?} in {warnings:?}");
    }
    let referring = readable(&entry("url: 'env:MCP_URL', http_proxy: 'env:MCP_PROXY'"));
    assert!(referring.warnings.is_empty(), "{:?}", referring.warnings);
    assert_eq!(referring.secret_variables, ["CONTROL_PLANE_API_KEY", "MCP_PROXY", "MCP_URL"]);
}

#[test]
fn an_entry_may_have_its_own_word_on_bridging() {
    let given = Given::minimal().without("MCP_SERVER_URL").document(
        "mcp:\n  protocol_bridge: off\n  server_urls:\n    - {url: 'http://a', protocol_bridge: AUTO}\n    - {channel: b, url: 'http://b'}\n  commands:\n    - {channel: c, command: x, protocol_bridge: auto}\n    - {channel: d, command: y}\n",
    );
    let bridges: Vec<(String, Switch)> = given
        .config()
        .mcp
        .bindings
        .iter()
        .map(|binding| (binding.channel.to_string(), binding.protocol_bridge))
        .collect();
    let expected = [("main", Switch::Auto), ("b", Switch::Off), ("c", Switch::Auto), ("d", Switch::Off)];
    assert_eq!(bridges, expected.map(|(channel, switch)| (channel.to_owned(), switch)));
    let config = Given::minimal().variable("MCP_SERVER_URL", "url=http://a,protocol-bridge=off").config();
    assert_eq!(
        (config.mcp.bindings[0].protocol_bridge, config.mcp.protocol_bridge),
        (Switch::Off, Switch::Auto)
    );
    Given::minimal()
        .variable("MCP_SERVER_URL", "url=http://a,protocol-bridge=on")
        .refused("protocol-bridge \"on\" must be auto or off");
}
