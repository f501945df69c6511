//! Loading as a whole: which layer wins, what is refused, and in which words.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;

const TUNNEL: &str = "tunnel_0123456789abcdef0123456789abcdef";

/// A run's inputs: the minimal set, changed by each test.
struct Given {
    arguments: Vec<String>,
    environment: Environment,
    directory: tempfile::TempDir,
}

impl Given {
    fn nothing() -> Given {
        Given {
            arguments: Vec::new(),
            environment: Environment::default(),
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn minimal() -> Given {
        Given::nothing()
            .variable("CONTROL_PLANE_TUNNEL_ID", TUNNEL)
            .variable("CONTROL_PLANE_API_KEY", "sk-test")
            .variable("MCP_SERVER_URL", "http://127.0.0.1:9/mcp")
    }

    fn variable(mut self, name: &str, value: &str) -> Given {
        self.environment.set(name, value);
        self
    }

    fn without(mut self, name: &str) -> Given {
        self.environment = self.environment.iter().filter(|(have, _)| *have != name).collect();
        self
    }

    fn arguments(mut self, arguments: &[&str]) -> Given {
        self.arguments.extend(arguments.iter().map(|a| (*a).to_owned()));
        self
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        restrict(&path, 0o600);
        path
    }

    /// Selects a document; `DIR` in it stands for the temporary directory.
    fn document(self, content: &str) -> Given {
        let content = content.replace("DIR", &self.directory.path().display().to_string());
        let path = self.file("doc.yaml", &content).display().to_string();
        self.arguments(&["--config", &path])
    }

    fn load(&self) -> Result<Config, ConfigErrors> {
        let extracted = extract(self.arguments.iter().cloned(), settings::ALL, &[]).unwrap();
        load(&extracted.flags, &self.environment)
    }

    fn config(&self) -> Config {
        self.load().unwrap_or_else(|errors| panic!("{errors}"))
    }

    fn errors(&self) -> Vec<String> {
        match self.load() {
            Ok(_) => panic!("accepted {:?}", self.arguments),
            Err(errors) => errors.iter().map(ToString::to_string).collect(),
        }
    }

    /// The only error.
    #[track_caller]
    fn error(&self) -> String {
        let errors = self.errors();
        assert_eq!(errors.len(), 1, "{errors:#?}");
        errors.into_iter().next().unwrap_or_default()
    }

    #[track_caller]
    fn refused(&self, part: &str) {
        let error = self.error();
        assert!(error.contains(part), "{part:?} not in {error:?}");
    }
}

fn restrict(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn key(config: &Config) -> &str {
    config.control_plane.api_key.expose()
}

fn headers(list: &crate::net::HeaderList) -> Vec<(&str, &str)> {
    list.iter().collect()
}

fn proxy(setting: &ProxySetting) -> Option<(String, &str)> {
    match setting {
        ProxySetting::Environment => None,
        ProxySetting::Fixed { url, source } => Some((url.expose().to_string(), source)),
    }
}

fn http(
    binding: &McpBinding,
) -> (&url::Url, Option<&Path>, Option<(String, &str)>, Option<&CertificatePair>) {
    match &binding.target {
        McpTarget::Http { url, unix_socket, proxy: via, client_certificate } => {
            (url, unix_socket.as_deref(), proxy(via), client_certificate.as_ref())
        }
        McpTarget::Stdio { .. } => panic!("{binding:?}"),
    }
}

fn argv(binding: &McpBinding) -> Vec<&str> {
    match &binding.target {
        McpTarget::Stdio { argv, .. } => argv.iter().map(String::as_str).collect(),
        McpTarget::Http { .. } => panic!("{binding:?}"),
    }
}

fn channels(config: &Config) -> Vec<&str> {
    config.mcp.bindings.iter().map(|binding| binding.channel.as_str()).collect()
}

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
fn the_key_is_never_shown() {
    for (given, part) in [
        (Given::minimal().arguments(&["--control-plane.api-key", "sk-abcdef"]), "env: or file:"),
        (Given::minimal().variable("CONTROL_PLANE_API_KEY", "sk-abc def"), "malformed"),
        (Given::minimal().variable("CONTROL_PLANE_API_KEY", "sk-abc\tdef"), "malformed"),
        (Given::minimal().variable("CONTROL_PLANE_API_KEY", "'sk-abc'"), "malformed"),
        (Given::minimal().variable("CONTROL_PLANE_API_KEY", "sk-abc\ndef"), "malformed"),
        (Given::minimal().variable("CONTROL_PLANE_API_KEY", " sk-abc"), "malformed"),
        (Given::minimal().variable("CONTROL_PLANE_API_KEY", "env:sk-abc"), "malformed"),
    ] {
        given.refused(part);
        assert!(!given.error().contains("sk-"), "{}", given.error());
    }
    assert_eq!(key(&Given::minimal().variable("CONTROL_PLANE_API_KEY", "sk-abc\n").config()), "sk-abc");
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
fn numbers_have_bounds() {
    for (name, value, part) in [
        ("CONTROL_PLANE_MAX_INFLIGHT_REQUESTS", "0", "greater than zero"),
        ("CONTROL_PLANE_MAX_INFLIGHT_REQUESTS", "10001", "less than or equal to 10000"),
        ("CONTROL_PLANE_MAX_INFLIGHT_REQUESTS", "abc", "invalid control-plane.max-inflight"),
        ("CONTROL_PLANE_MAX_INFLIGHT_REQUESTS", "0x10", "invalid control-plane.max-inflight"),
        ("MCP_MAX_CONCURRENT_REQUESTS", "0", "greater than zero"),
        ("MCP_MAX_MESSAGE_BYTES", "1023", "at least 1024"),
        ("ADMIN_UI_LOG_BUFFER_EVENTS", "100001", "less than or equal to 100000"),
        ("ADMIN_UI_LOG_BUFFER_EVENTS", "0", "greater than zero"),
        ("LOG_HTTP_RAW_UNSAFE", "maybe", "invalid log.http-raw-unsafe"),
        ("HARPOON_MAX_RESPONSE_BYTES", "0", "harpoon.max-response-bytes must be positive"),
        (
            "HARPOON_MAX_RESPONSE_BYTES",
            "102401",
            "harpoon.max-response-bytes must be less than or equal to 102400",
        ),
        ("HARPOON_MAX_REDIRECTS", "-1", "harpoon.max-redirects must be non-negative"),
        ("HARPOON_MAX_REDIRECTS", "6", "harpoon.max-redirects must be less than or equal to 5"),
    ] {
        Given::minimal().variable(name, value).refused(part);
    }
    let config = Given::minimal().variable("CONTROL_PLANE_MAX_INFLIGHT_REQUESTS", "10000").config();
    assert_eq!(config.control_plane.max_inflight, 10_000);
}

#[test]
fn a_client_certificate_moves_the_default_host() {
    let given = Given::minimal();
    let cert = given.file("c.pem", "x").display().to_string();
    let key = given.file("k.pem", "x").display().to_string();
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
fn a_ca_bundle_holds_at_least_one_certificate() {
    let given = Given::minimal();
    let empty = given.file("empty.pem", "no certificate here").display().to_string();
    let authority = rcgen::generate_simple_self_signed(vec!["x".to_owned()]).unwrap();
    let good = given.file("good.pem", &format!("junk\n{}", authority.cert.pem()));
    Given::minimal().variable("CA_BUNDLE", &empty).refused("invalid ca-bundle");
    Given::minimal().variable("CA_BUNDLE", "/nope.pem").refused("invalid ca-bundle");
    Given::minimal().variable("CA_BUNDLE", "env:NOPE").refused("is not set");
    let good_text = good.display().to_string();
    let config = Given::minimal().variable("WHERE", &good_text).variable("CA_BUNDLE", "env:WHERE").config();
    assert_eq!(config.ca_bundle, Some(good));
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
    let pem = given.file("c.pem", "x").display().to_string();
    let arguments = ["--mcp.client-cert", &pem, "--mcp.client-key", &pem];
    let config = Given::minimal().arguments(&arguments).config();
    assert_eq!(http(&config.mcp.bindings[0]).3.map(|pair| &pair.key), Some(&PathBuf::from(&pem)));
    Given::minimal()
        .without("MCP_SERVER_URL")
        .variable("MCP_COMMAND", "x")
        .arguments(&arguments)
        .refused(INVALID_MCP_CERTIFICATE);
    Given::minimal().arguments(&arguments[..2]).refused("missing client-key");
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

#[test]
fn secrets_in_readable_files_are_worth_a_warning() {
    let given = Given::minimal().without("CONTROL_PLANE_API_KEY");
    let secret = given.file("key", "abc\n");
    restrict(&secret, 0o644);
    let warnings = given.document("control_plane: {api_key: 'file:DIR/key'}").config().warnings;
    assert!(warnings[0].contains("chmod 600"), "{warnings:?}");

    let given =
        Given::minimal().without("CONTROL_PLANE_API_KEY").document("control_plane: {api_key: sk-literal}");
    assert!(given.config().warnings.is_empty());
    restrict(&given.directory.path().join("doc.yaml"), 0o640);
    let warnings = given.config().warnings;
    assert!(warnings[0].contains("control_plane.api_key"), "{warnings:?}");
    assert!(!warnings[0].contains("sk-literal"));
}

#[test]
fn levels_other_than_info_need_a_format() {
    Given::minimal().variable("LOG_LEVEL", "debug").refused("log level requires");
    Given::minimal().variable("LOG_FORMAT", "yaml").refused("unsupported log format");
    Given::minimal().variable("LOG_LEVEL", "loud").refused("parse log level \"loud\"");
    let log = Given::minimal().variable("LOG_LEVEL", "Debug").variable("LOG_FILE", "/tmp/x").config().log;
    assert_eq!((log.level, log.format), (LogLevel::Debug, Some(LogFormat::StructText)));
    let log = Given::minimal().variable("LOG_LEVEL", "error").variable("LOG_FORMAT", "JSON").config().log;
    assert_eq!((log.level, log.format), (LogLevel::Error, Some(LogFormat::Json)));
    assert_eq!(Given::minimal().variable("LOG_LEVEL", "INFO").config().log.format, None);
}

#[test]
fn the_listen_address_is_checked_unless_a_socket_replaces_it() {
    Given::minimal().variable("HEALTH_LISTEN_ADDR", "nonsense").refused("invalid health.listen-addr");
    let config = Given::minimal()
        .variable("HEALTH_LISTEN_ADDR", "nonsense")
        .variable("HEALTH_UNIX_SOCKET", "/s")
        .config();
    assert_eq!(config.health.unix_socket, Some(PathBuf::from("/s")));
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
fn the_companion_is_refused_politely() {
    Given::minimal()
        .document("cloudflared: {token: abc}")
        .errors()
        .iter()
        .for_each(|error| assert!(!error.contains("abc")));
    Given::minimal().document("cloudflared: {token: abc}").refused("must be prefixed with env: or file:");
    Given::minimal().variable("CLOUDFLARED_TUNNEL_TOKEN", "t").refused("not part of this client");
    Given::minimal()
        .variable("T", "t")
        .arguments(&["--cloudflared.token", "env:T"])
        .refused("not part of this client");
    Given::minimal().arguments(&["--cloudflared.managed"]).refused("not part of this client");
    Given::minimal().document("cloudflared: {managed: false, path: /x, ready_timeout: 45s}").config();
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
    given.file("c.pem", "x");
    given.file("k.pem", "x");
    given.file("probe", "p\n");
    let authority = rcgen::generate_simple_self_signed(vec!["x".to_owned()]).unwrap();
    let roots = given.file("roots.pem", &authority.cert.pem()).display().to_string();
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
