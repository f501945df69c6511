//! Layers, documents and the order of errors.

use super::*;

#[test]
fn the_minimal_set_loads_with_all_defaults() {
    let config = Given::minimal().config();
    let control_plane = &config.control_plane;
    assert_eq!(control_plane.base_url.as_str(), "https://api.openai.com/");
    assert_eq!(control_plane.url_path, "");
    assert_eq!(control_plane.tunnel_id.as_str(), TUNNEL);
    assert_eq!(control_plane.organization_id, None);
    assert_eq!(key(&config), "sk-test");
    assert_eq!(control_plane.api_key_source, "env:CONTROL_PLANE_API_KEY");
    assert_eq!(control_plane.max_inflight, 20);
    assert_eq!(control_plane.poll_timeout, Duration::from_secs(30));
    assert_eq!(control_plane.poll_deadline_guardrail, Duration::from_secs(5));
    assert_eq!(control_plane.poll_channels, None);
    assert!(control_plane.extra_headers.is_empty());
    assert!(proxy(&control_plane.proxy).is_none());
    assert_eq!(config.log.level, LogLevel::Info);
    assert_eq!(config.log.format, None);
    assert_eq!(config.log.file, None);
    assert_eq!(config.health.listen_addr, "127.0.0.1:8080");
    assert_eq!(config.admin_ui.log_buffer_events, 2000);
    assert_eq!(config.proxy_check_interval, Duration::from_secs(60));
    assert_eq!(channels(&config), ["main"]);
    assert_eq!(http(&config.mcp.bindings[0]).0.as_str(), "http://127.0.0.1:9/mcp");
    assert_eq!(config.mcp.startup_wait_timeout, Duration::ZERO);
    assert_eq!(config.mcp.connection_max_ttl, Duration::from_secs(600));
    assert_eq!(config.mcp.max_concurrent_requests, 10);
    assert_eq!(config.mcp.max_message_bytes, 64 << 20);
    assert_eq!((config.mcp.protocol_bridge, config.mcp.stdio_lifecycle), (Switch::Auto, Switch::Auto));
    assert_eq!(config.mcp.protocol_probe_timeout, Duration::from_secs(5));
    assert_eq!(config.mcp.handshake_timeout, Duration::from_secs(30));
    assert_eq!(config.harpoon.max_response_bytes, 102_400);
    assert_eq!(config.harpoon.max_redirects, 5);
    assert!(config.harpoon.hosts_include_loopback && config.harpoon.hosts_include_private);
    assert!(!config.harpoon.allow_plaintext_http && !config.harpoon.http_streamable);
    assert_eq!(config.secret_variables, ["CONTROL_PLANE_API_KEY"]);
    assert_eq!(config.warnings, Vec::<String>::new());
}

#[test]
fn flag_beats_variable_beats_document() {
    let host = |given: Given| given.config().control_plane.base_url.to_string();
    let document = "control_plane: {base_url: \"https://a.example\"}";
    assert_eq!(host(Given::minimal().document(document)), "https://a.example/");
    let with_variable =
        || Given::minimal().document(document).variable("CONTROL_PLANE_BASE_URL", "https://b.example");
    assert_eq!(host(with_variable()), "https://b.example/");
    assert_eq!(
        host(with_variable().arguments(&["--control-plane.base-url", "https://c.example"])),
        "https://c.example/"
    );
    assert_eq!(host(with_variable().arguments(&["--control-plane.base-url="])), "https://b.example/");
}

#[test]
fn an_empty_variable_hides_the_document_and_says_so() {
    let config = Given::minimal()
        .document("health: {listen_addr: \"127.0.0.1:7001\"}")
        .variable("HEALTH_LISTEN_ADDR", "")
        .config();
    assert_eq!(config.health.listen_addr, "127.0.0.1:8080");
    assert!(config.warnings[0].contains("HEALTH_LISTEN_ADDR is set but empty"), "{:?}", config.warnings);
}

#[test]
fn variables_that_must_not_be_empty_are_refused() {
    for (name, part) in [
        ("CONTROL_PLANE_TUNNEL_ID", "tunnel ID is required"),
        ("CONTROL_PLANE_API_KEY", "control plane API key is required"),
        ("CONTROL_PLANE_MAX_INFLIGHT_REQUESTS", "greater than zero"),
        ("CONTROL_PLANE_POLL_CHANNELS", "contains an empty channel"),
        ("CLOUDFLARED_TUNNEL_TOKEN", "set but empty"),
        ("ADMIN_UI_LOG_BUFFER_EVENTS", "invalid admin-ui.log-buffer-events"),
        ("PROXY_CHECK_INTERVAL", "invalid proxy.check-interval"),
    ] {
        Given::minimal().variable("OPENAI_API_KEY", "sk-other").variable(name, "").refused(part);
    }
    for setting in settings::ALL.iter().filter(|s| !s.variable.is_empty() && !s.empty_variable_counts) {
        let given = match setting.variable {
            "MCP_SERVER_URL" => Given::minimal().variable("MCP_COMMAND", "x"),
            _ => Given::minimal(),
        };
        given.variable(setting.variable, "").config();
    }
}

#[test]
fn an_empty_flag_means_what_its_kind_says() {
    for (flag, part) in [
        ("--config=", "required"),
        ("--profile=", "required"),
        ("--profile-file= ", "required"),
        ("--profile-dir=", "required"),
        ("--control-plane.tunnel-id=", "tunnel ID is required"),
        ("--http-proxy=", "value is required"),
        ("--control-plane.http-proxy= ", "value is required"),
        ("--mcp.http-proxy=", "value is required"),
        ("--harpoon.http-proxy=", "value is required"),
        ("--mcp.server-url=", "main channel is required"),
        ("--mcp.server-url= ", "entry is empty"),
        ("--mcp.command= ", "entry is empty"),
        ("--control-plane.poll-channel=", "contains an empty channel"),
        ("--control-plane.extra-headers= ", "expected `Key: Value`"),
    ] {
        Given::minimal().arguments(&[flag]).refused(part);
    }
    Given::minimal().arguments(&["--mcp.server-url=http://a", "--mcp.server-url="]).refused("entry is empty");
    Given::minimal()
        .arguments(&["--mcp.extra-headers=A: b", "--mcp.extra-headers="])
        .refused("expected `Key: Value`");
    for flag in [
        "--control-plane.extra-headers=",
        "--mcp.extra-headers=",
        "--mcp.command=",
        "--ca-bundle=",
        "--log.level=",
        "--harpoon.target=",
        "--harpoon.target= ",
        "--harpoon.hosts-include-suffix=",
        "--control-plane.api-key=",
    ] {
        Given::minimal().variable("CA_BUNDLE", "").arguments(&[flag]).config();
    }
    let given = Given::minimal().variable("CA_BUNDLE", "/nowhere.pem");
    assert!(given.arguments(&["--ca-bundle="]).config().ca_bundle.is_none());
    let config =
        Given::minimal().variable("MCP_EXTRA_HEADERS", "A: b").arguments(&["--mcp.extra-headers="]).config();
    assert!(config.mcp.extra_headers.is_empty());
}

#[test]
fn a_reference_in_the_document_counts_even_if_overridden() {
    let given = Given::minimal()
        .without("CONTROL_PLANE_API_KEY")
        .variable("OPENAI_API_KEY", "a")
        .document("control_plane: {api_key: \"env:CONTROL_PLANE_API_KEY\"}");
    given.refused("CONTROL_PLANE_API_KEY is not set");
    given.variable("GOOD", "x").arguments(&["--control-plane.api-key", "env:GOOD"]).refused("is not set");
    for (document, part) in [
        (
            "control_plane: {base_url: \"env:NOPE\"}",
            "control_plane.base_url: environment variable NOPE is not set",
        ),
        ("control_plane: {url_path: \"\"}", "control_plane.url_path cannot be empty"),
        ("health: {listen_addr: \"file:/nope\"}", "health.listen_addr: file /nope cannot be read"),
        ("health: {unix_socket: \" \"}", "health.unix_socket cannot be empty"),
        ("mcp: {server_urls: [{url: \"env:NOPE\"}]}", "mcp.server_urls[0].url: "),
        (
            "mcp: {server_urls: [{url: \"http://a\", unix_socket: \"env:NOPE\"}]}",
            "mcp.server_urls[0].unix_socket: ",
        ),
        ("mcp: {commands: [{command: \"\"}]}", "mcp.commands[0].command cannot be empty"),
        ("harpoon: {targets: [{label: a, url: \"env:NOPE\"}]}", "harpoon.targets[0].url: "),
    ] {
        Given::minimal().document(document).refused(part);
    }
}

#[test]
fn everything_missing_is_reported_together_and_in_order() {
    let errors = Given::nothing().errors();
    let parts = [
        (
            "tunnel ID is required",
            &[
                "admin tunnels create --help",
                "admin tunnels list --help",
                "tunnel-client init",
                "help quickstart",
            ][..],
        ),
        ("control plane API key is required", &["tunnel-client help quickstart", "tunnel-client init"]),
        (
            "main channel is required",
            &[
                "set --mcp.server-url or --mcp.command",
                "run --embedded-mcp-stub",
                "--health.listen-addr 127.0.0.1:0",
                "--health.url-file",
            ],
        ),
    ];
    assert_eq!(errors.len(), parts.len(), "{errors:#?}");
    for (error, (reason, guidance)) in errors.iter().zip(parts) {
        assert!(error.starts_with(reason), "{error}");
        for part in guidance {
            assert!(error.contains(part), "{part} in {error}");
        }
    }
    let text = Given::nothing().load().unwrap_err().with_prefix("configure tunnel-client: ");
    assert!(text.lines().all(|line| line.starts_with("configure tunnel-client: ")));
}

#[test]
fn a_document_is_found_read_and_remembered() {
    let given = Given::minimal();
    let directory = given.directory.path().to_path_buf();
    given.file("lab.yaml", "{}");
    let given = given.variable("TUNNEL_CLIENT_PROFILE_DIR", &directory.display().to_string());
    let document = given.arguments(&["--profile", "lab"]).config().document;
    assert_eq!(document.profile_name.as_deref(), Some("lab"));
    assert_eq!(document.profile_dir.as_deref(), Some(&*directory));
    assert_eq!(document.path.as_deref(), Some(&*directory.join("lab.yaml")));
    assert_eq!(document.bytes.as_ref().map(|bytes| bytes.expose().as_slice()), Some(&b"{}"[..]));
    assert!(!document.from_profile_file);

    let error = Given::minimal().arguments(&["--config", "/nope/a.yaml"]).load().unwrap_err();
    assert_eq!(error.first().kind, ErrorKind::DocumentUnreadable);
    assert!(error.to_string().starts_with("read config file /nope/a.yaml: "), "{error}");
    let error = Given::minimal().arguments(&["--config", "a", "--profile", "b"]).load().unwrap_err();
    assert_eq!(error.first().kind, ErrorKind::Selection);
}

#[test]
fn a_malformed_document_is_told_with_all_its_problems() {
    for (document, parts) in [
        ("x: 1\nlog: {levl: a}", &["field x not found", "line 1", "field levl not found", "line 2"][..]),
        ("config_version: 2", &["unsupported config_version 2"]),
        ("log: {level: info}\nlog: {level: info}", &["\"log\"", "line 1", "line 2"]),
        ("", &["end of input"]),
        ("a: [", &["line"]),
    ] {
        let given = Given::minimal().document(document);
        let error = given.error();
        assert!(error.starts_with("parse config file "), "{error}");
        for part in parts {
            assert!(error.contains(part), "{part} in {error}");
        }
        assert_eq!(given.load().unwrap_err().first().kind, ErrorKind::Document);
    }
    Given::nothing().document("{}").errors();
    let config = Given::minimal().document("config_version: 1\n---\nx: y\n").config();
    assert!(config.warnings[0].contains("only the first is used"), "{:?}", config.warnings);
}

#[test]
fn both_spellings_with_different_values_are_worth_a_warning() {
    let config = Given::minimal()
        .arguments(&["--health-listen-addr", "127.0.0.1:1", "--health.listen-addr=127.0.0.1:2"])
        .config();
    assert_eq!(config.health.listen_addr, "127.0.0.1:2");
    assert!(config.warnings[0].contains("--health-listen-addr is ignored"), "{:?}", config.warnings);
}

#[test]
fn a_document_with_every_key_loads() {
    let given = Given::nothing();
    given.file("tunnel.key", "sk-key\n");
    let pair = pem();
    given.file("c.pem", &pair);
    given.file("k.pem", &pair);
    given.file("probe", "p\n");
    let roots = given.file("roots.pem", &pair).display().to_string();
    let key_path = given.directory.path().join("k.pem").display().to_string();
    let config = given
        .variable("SITE_ROOT_CA", &roots)
        .variable("SITE_EGRESS_PROXY", "http://egress:3128")
        .variable("TUNNEL_CLIENT_KEY_PATH", &key_path)
        .variable("GATEWAY_TOKEN", "gw")
        .document(EVERY_KEY)
        .config();
    assert_eq!(config.control_plane.url_path, "/mcp-tunnel/prod");
    assert_eq!(config.control_plane.max_inflight, 40);
    assert_eq!(
        headers(&config.control_plane.extra_headers),
        [("X-Gateway-Zone", "blue; primary, eu"), ("X-Gateway-Token", "gw")]
    );
    assert_eq!(channels(&config), ["main", "reports", "shell-tools"]);
    assert_eq!(argv(&config.mcp.bindings[2]), ["/usr/bin/node", "/srv/mcp tools/server.js", "--quiet"]);
    assert_eq!(config.mcp.max_concurrent_requests, 16);
    assert_eq!(config.harpoon.hosts_include_regex, ["^idp-[0-9]+\\."]);
    assert_eq!(config.proxy_check_interval, Duration::from_secs(120));
    assert_eq!(config.secret_variables, ["GATEWAY_TOKEN"]);
}

const EVERY_KEY: &str = r#"
config_version: 1
ca_bundle: env:SITE_ROOT_CA
http_proxy: env:SITE_EGRESS_PROXY
control_plane:
  base_url: https://gateway.site.example
  url_path: /mcp-tunnel/prod
  tunnel_id: tunnel_00aa11bb22cc33dd44ee55ff66778899
  organization_id: org-site
  api_key: file:DIR/tunnel.key
  client_cert: DIR/c.pem
  client_key: env:TUNNEL_CLIENT_KEY_PATH
  http_proxy: http://egress-a.site.example:3128
  max_inflight_requests: 40
  poll_timeout: 25s
  poll_deadline_guardrail: 2500ms
  poll_channels: [harpoon, main, reports]
  extra_headers:
    X-Gateway-Zone: "blue; primary, eu"
    X-Gateway-Token: env:GATEWAY_TOKEN
log: {level: warn, format: json, file: /var/log/site/tunnel.ndjson, http_raw_unsafe: false}
health:
  listen_addr: 127.0.0.1:0
  url_file: /run/site/tunnel.url
admin_ui: {allow_remote: false, open_browser: no, log_buffer_events: 5000}
process: {pid_file: /run/site/tunnel.pid}
cloudflared: {managed: false, path: /opt/site/cloudflared, ready_timeout: 45s}
mcp:
  server_urls:
    - channel: main
      url: https://mcp.site.example/mcp
      client_cert: DIR/c.pem
      client_key: DIR/k.pem
    - channel: reports
      url: http://reports.local/mcp
      unix_socket: /run/reports/mcp.sock
  commands:
    - channel: shell-tools
      command: /usr/bin/node "/srv/mcp tools/server.js" --quiet
  http_proxy: http://egress-b.site.example:3128
  client_cert: DIR/c.pem
  client_key: DIR/k.pem
  extra_headers: {X-Site-Caller: tunnel}
  discovery_extra_headers: {X-Site-Probe: "file:DIR/probe"}
  startup_wait_timeout: 90s
  connection_max_ttl: 20m
  max_concurrent_requests: 16
harpoon:
  targets:
    - label: login
      url: https://login.site.example
      description: Identity provider
  allow_plaintext_http: false
  max_response_bytes: 65536
  max_redirects: 2
  http_proxy: http://egress-c.site.example:3128
  additional_transports: [http-streamable]
  capture_payloads: false
  hosts_include_suffix: [corp.site.example]
  hosts_include_regex: ['^idp-[0-9]+\.']
  hosts_include_loopback: true
  hosts_include_private: true
proxy: {check_interval: 2m}
"#;

#[test]
fn the_stub_stands_alone() {
    let check = |arguments: &[&str]| {
        let extracted = extract(arguments.iter().copied(), settings::ALL, settings::RUN_FLAGS).unwrap();
        check_stub_flags(&extracted.flags).map_err(|error| error.to_string())
    };
    assert_eq!(
        check(&["--embedded-mcp-stub", "--mcp-command", "x"]),
        Err("--embedded-mcp-stub cannot be combined with --mcp.command; use one main MCP target path"
            .to_owned())
    );
    assert!(check(&["--embedded-mcp-stub", "--mcp.server-url=channel=x,url=http://a"]).is_err());
    assert_eq!(check(&["--embedded-mcp-stub=false", "--mcp.command", "x"]), Ok(()));
    assert_eq!(check(&["--embedded-mcp-stub"]), Ok(()));
}

#[test]
fn a_document_can_be_shown_as_json() {
    let json = document_as_json(b"a: &x {n: 1, t: yes, s: '1', z: ~}\nb: [*x]\n---\n][").unwrap();
    assert_eq!(
        json.to_string(),
        r#"{"a":{"n":1,"s":"1","t":true,"z":null},"b":[{"n":1,"s":"1","t":true,"z":null}]}"#
    );
    assert!(document_as_json(b"a: [").unwrap_err().contains("line"));
}
