//! Everything that runs beside the road.

use super::*;

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
    for level in ["debug", "info-1", "Info+0"] {
        Given::minimal().variable("LOG_LEVEL", level).refused("log level requires");
    }
    Given::minimal().variable("LOG_LEVEL", " ").config();
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
