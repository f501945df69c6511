//! Every setting through flag, variable and document: names, defaults, precedence, and how a wrong value is
//! refused.
//!
//! The table below is written out by hand, so that a renamed flag or a changed default fails here.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "test code")]

use std::fmt::Debug;

use tunnel_client::config::settings::{self, Kind};
use tunnel_client::config::{Config, Environment, McpTarget, ProxySetting, extract, load};

const TUNNEL: &str = "tunnel_0123456789abcdef0123456789abcdef";
const TUNNELS: [&str; 3] = [
    "tunnel_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "tunnel_bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
    "tunnel_zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz",
];

/// One row of the table of settings.
struct Row {
    yaml: &'static str,
    flag: &'static str,
    variable: &'static str,
    /// What the configuration holds when nobody says anything.
    default: &'static str,
    /// YAML of the document, text of the variable, text of the flag; `DIR` is the test's directory.
    given: [&'static str; 3],
    /// What the configuration holds then.
    loaded: [&'static str; 3],
    seen: fn(&Config) -> String,
    /// Values that are refused in every layer, and what the message says.
    refused: &'static [(&'static str, &'static str)],
    /// Values that are accepted as a variable and as a flag.
    accepted: &'static [&'static str],
    /// Variables that the row needs besides.
    besides: &'static [(&'static str, &'static str)],
}

const ROW: Row = Row {
    yaml: "",
    flag: "",
    variable: "",
    default: "none",
    given: [""; 3],
    loaded: [""; 3],
    seen: |_| String::new(),
    refused: &[],
    accepted: &[],
    besides: &[],
};

fn shown(value: impl Debug) -> String {
    format!("{value:?}")
}

fn text(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| value.to_string())
}

fn path(value: Option<&std::path::PathBuf>) -> String {
    text(value.and_then(|path| path.file_name()).map(|name| name.to_string_lossy().into_owned()))
}

fn proxy(setting: &ProxySetting) -> String {
    match setting {
        ProxySetting::Environment => "none".to_owned(),
        ProxySetting::Fixed { url, .. } => url.expose().host_str().unwrap_or_default().to_owned(),
    }
}

fn headers(list: &tunnel_client::net::HeaderList) -> String {
    let rows: Vec<String> = list.iter().map(|(name, value)| format!("{name}={value}")).collect();
    if rows.is_empty() { "none".to_owned() } else { rows.join("|") }
}

fn bindings(config: &Config) -> String {
    let rows: Vec<String> = config
        .mcp
        .bindings
        .iter()
        .map(|binding| match &binding.target {
            McpTarget::Http { url, .. } => format!("{}={url}", binding.channel),
            McpTarget::Stdio { argv, .. } => format!("{}={}", binding.channel, argv.join(" ")),
        })
        .collect();
    rows.join("|")
}

fn mcp_proxy(config: &Config) -> String {
    match &config.mcp.bindings[0].target {
        McpTarget::Http { proxy: setting, .. } => proxy(setting),
        McpTarget::Stdio { .. } => "stdio".to_owned(),
    }
}

fn mcp_certificate(config: &Config) -> String {
    match &config.mcp.bindings[0].target {
        McpTarget::Http { client_certificate: Some(pair), .. } => {
            format!("{}+{}", path(Some(&pair.certificate)), path(Some(&pair.key)))
        }
        _ => "none".to_owned(),
    }
}

fn own_certificate(config: &Config) -> String {
    config.control_plane.client_certificate.as_ref().map_or_else(
        || "none".to_owned(),
        |pair| format!("{}+{}", path(Some(&pair.certificate)), path(Some(&pair.key))),
    )
}

fn joined<T: ToString>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    if items.is_empty() { "none".to_owned() } else { items.join("|") }
}

const PROXIES: [&str; 3] = ["\"http://d:3128\"", "http://v:3128", "HTTP://f:3128"];
const BAD_PROXIES: &[(&str, &str)] = &[
    ("socks5://h:1", "http or https URL"),
    ("h:3128", "http or https URL"),
    ("http://", "http or https URL"),
    ("env:NOPE", "environment variable NOPE is not set"),
    ("file:/x", "http or https URL"),
];
const BAD_URLS: &[(&str, &str)] = &[
    ("mcp.example.com/x", "must include scheme and host"),
    ("localhost:3001/mcp", "must include scheme and host"),
    ("http://", "must include scheme and host"),
    ("ftp://h/x", "http or https"),
];
const NO_BOOLEANS: &[(&str, &str)] = &[("maybe", "boolean"), ("2", "boolean")];
const BOOLEANS: &[&str] = &["1", "t", "T", "true", "True", "TRUE", "0", "f", "F", "false", "False", "FALSE"];
const SWITCH: [&str; 3] = ["yes", "false", "true"];
const SWITCHED: [&str; 3] = ["true", "false", "true"];
const DURATIONS: &[&str] = &["30000ms", "1m0.5s", "500000us", "1.5s", ".5s", "1.s", "+5s"];
const BAD_HEADERS: &[(&str, &str)] = &[
    ("a b: x", "invalid HTTP header name"),
    ("X-A: env:NOPE", "invalid HTTP header value"),
    ("X-A: file:/nope", "invalid HTTP header value"),
    ("X-A: env:9", "invalid HTTP header value"),
    ("X-A: env:TWO_LINES", "invalid HTTP header value"),
];
const HEADERS: [&str; 3] = ["{x-one: \"1, 2; 3\"}", "X-Two: 2; x-three: env:SPARE", "X-Four: a,b;c"];
const HEADERS_LOADED: [&str; 3] = ["X-One=1, 2; 3", "X-Two=2|X-Three=spare", "X-Four=a,b;c"];

const TABLE: &[Row] = &[
    Row {
        yaml: "ca_bundle",
        flag: "ca-bundle",
        variable: "CA_BUNDLE",
        given: ["DIR/one.pem", "file:DIR/two.pem", "env:THIRD"],
        loaded: ["one.pem", "two.pem", "three.pem"],
        seen: |c| path(c.ca_bundle.as_ref()),
        refused: &[
            ("/nope", "invalid ca-bundle"),
            ("DIR/api-key", "invalid ca-bundle"),
            ("env:NOPE", "environment variable NOPE is not set"),
            ("file:", "invalid ca-bundle"),
        ],
        accepted: &["ENV:THIRD", "File:DIR/one.pem"],
        ..ROW
    },
    Row {
        yaml: "http_proxy",
        flag: "http-proxy",
        variable: "TUNNEL_CLIENT_HTTP_PROXY",
        given: PROXIES,
        loaded: ["d", "v", "f"],
        seen: |c| {
            [proxy(&c.control_plane.proxy), mcp_proxy(c), proxy(&c.harpoon.proxy)]
                .join("+")
                .replace("none+none+none", "none")
                .split('+')
                .next()
                .unwrap()
                .to_owned()
        },
        refused: BAD_PROXIES,
        accepted: &["env:PROXY", " https://user:secret@p "],
        ..ROW
    },
    Row {
        yaml: "control_plane.base_url",
        flag: "control-plane.base-url",
        variable: "CONTROL_PLANE_BASE_URL",
        default: "https://api.openai.com/",
        given: ["\" file:DIR/url \"", "https://v.example/ignored?x#y", "HTTPS://f.example:8443"],
        loaded: ["https://d.example/", "https://v.example/", "https://f.example:8443/"],
        seen: |c| c.control_plane.base_url.to_string(),
        refused: BAD_URLS,
        ..ROW
    },
    Row {
        yaml: "control_plane.url_path",
        flag: "control-plane.url-path",
        variable: "CONTROL_PLANE_URL_PATH",
        default: "",
        given: ["/d/e/", "/v", " /f//g/../h "],
        loaded: ["/d/e", "/v", "/f/h"],
        seen: |c| c.control_plane.url_path.clone(),
        refused: &[
            ("x/y", "invalid control-plane.url-path"),
            ("https://h/x", "invalid control-plane.url-path"),
            ("//h/x", "invalid control-plane.url-path"),
            ("/x?a=1", "invalid control-plane.url-path"),
            ("/x#f", "invalid control-plane.url-path"),
        ],
        accepted: &["/", " "],
        ..ROW
    },
    Row {
        yaml: "control_plane.tunnel_id",
        flag: "control-plane.tunnel-id",
        variable: "CONTROL_PLANE_TUNNEL_ID",
        default: TUNNEL,
        given: TUNNELS,
        loaded: TUNNELS,
        seen: |c| c.control_plane.tunnel_id.to_string(),
        refused: &[
            ("bad id", "invalid tunnel ID"),
            ("0123456789abcdef0123456789abcdef", "invalid tunnel ID"),
            ("tunnel_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "invalid tunnel ID"),
            ("tunnel_1234", "invalid tunnel ID"),
            ("path/unsafe", "invalid tunnel ID"),
            ("", "tunnel ID is required"),
            (" ", "tunnel ID is required"),
        ],
        accepted: &[" tunnel_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n"],
        ..ROW
    },
    Row {
        yaml: "control_plane.organization_id",
        flag: "control-plane.organization-id",
        variable: "CONTROL_PLANE_ORGANIZATION_ID",
        given: ["org-d", " org-v ", "org-f"],
        loaded: ["org-d", "org-v", "org-f"],
        seen: |c| text(c.control_plane.organization_id.as_ref()),
        refused: &[("a\nb", "line break")],
        accepted: &[" "],
        ..ROW
    },
    Row {
        yaml: "control_plane.api_key",
        flag: "control-plane.api-key",
        variable: "CONTROL_PLANE_API_KEY",
        default: "key-minimal",
        given: ["file:DIR/api-key", "key_V", "env:SPARE"],
        loaded: ["key-file", "key_V", "spare"],
        seen: |c| c.control_plane.api_key.expose().clone(),
        accepted: &["env:SPARE\u{0}flag", "key\n\u{0}variable"],
        ..ROW
    },
    Row {
        yaml: "control_plane.client_cert",
        flag: "control-plane.client-cert",
        variable: "CONTROL_PLANE_CLIENT_CERT",
        given: ["DIR/one.pem", "file:DIR/two.pem", "env:THIRD"],
        loaded: ["one.pem+key", "two.pem+key", "three.pem+key"],
        seen: own_certificate,
        refused: &[
            ("/nope", "invalid control-plane client certificate configuration"),
            ("env:NOPE", "environment variable NOPE is not set"),
        ],
        besides: &[("CONTROL_PLANE_CLIENT_KEY", "DIR/key")],
        ..ROW
    },
    Row {
        yaml: "control_plane.client_key",
        flag: "control-plane.client-key",
        variable: "CONTROL_PLANE_CLIENT_KEY",
        given: ["DIR/one.pem", "file:DIR/two.pem", "env:THIRD"],
        loaded: ["key+one.pem", "key+two.pem", "key+three.pem"],
        seen: own_certificate,
        refused: &[
            ("/nope", "invalid control-plane client certificate configuration"),
            ("env:NOPE", "environment variable NOPE is not set"),
        ],
        besides: &[("CONTROL_PLANE_CLIENT_CERT", "DIR/key")],
        ..ROW
    },
    Row {
        yaml: "control_plane.http_proxy",
        flag: "control-plane.http-proxy",
        variable: "CONTROL_PLANE_HTTP_PROXY",
        default: "global",
        given: PROXIES,
        loaded: ["d", "v", "f"],
        seen: |c| proxy(&c.control_plane.proxy),
        refused: BAD_PROXIES,
        accepted: &["env:PROXY"],
        besides: &[("TUNNEL_CLIENT_HTTP_PROXY", "http://global")],
    },
    Row {
        yaml: "control_plane.max_inflight_requests",
        flag: "control-plane.max-inflight",
        variable: "CONTROL_PLANE_MAX_INFLIGHT_REQUESTS",
        default: "20",
        given: ["0x10", "+10000", "1"],
        loaded: ["16", "10000", "1"],
        seen: |c| shown(c.control_plane.max_inflight),
        refused: &[
            ("0", "must be greater than zero"),
            ("-1", "must be greater than zero"),
            ("10001", "must be less than or equal to 10000"),
            ("abc", "integer"),
            ("1.5", "integer"),
        ],
        ..ROW
    },
    Row {
        yaml: "control_plane.poll_timeout",
        flag: "control-plane.poll-timeout",
        variable: "CONTROL_PLANE_POLL_TIMEOUT",
        default: "30s",
        given: ["25s", "30000ms", "9m55s"],
        loaded: ["25s", "30s", "595s"],
        seen: |c| shown(c.control_plane.poll_timeout),
        refused: &[
            ("30", "duration"),
            ("30 s", "duration"),
            ("1d", "duration"),
            ("0s", "must be greater than zero"),
            ("0", "must be greater than zero"),
            ("-5s", "must be greater than zero"),
            ("9m55.001s", "at most 10m0s"),
        ],
        accepted: DURATIONS,
        ..ROW
    },
    Row {
        yaml: "control_plane.poll_deadline_guardrail",
        flag: "control-plane.poll-deadline-guardrail",
        variable: "CONTROL_PLANE_POLL_DEADLINE_GUARDRAIL",
        default: "5s",
        given: ["2500ms", "1ns", "59.9s"],
        loaded: ["2.5s", "1ns", "59.9s"],
        seen: |c| shown(c.control_plane.poll_deadline_guardrail),
        refused: &[
            ("5", "duration"),
            ("0s", "must be greater than zero"),
            ("1m", "less than 1m0s"),
            ("-1s", "must be greater than zero"),
        ],
        ..ROW
    },
    Row {
        yaml: "control_plane.poll_channels",
        flag: "control-plane.poll-channel",
        variable: "CONTROL_PLANE_POLL_CHANNELS",
        given: ["[main, harpoon]", "main,harpoon", "main"],
        loaded: ["harpoon|main", "harpoon|main", "main"],
        seen: |c| {
            c.control_plane.poll_channels.as_ref().map_or_else(|| "none".to_owned(), |list| joined(list))
        },
        refused: &[
            ("", "contains an empty channel"),
            ("Main", "not canonical; write \"main\""),
            (" main", "not canonical"),
            ("a b", "invalid channel name"),
            ("other", "has no local handler"),
            ("harpoon", "has no routable target"),
        ],
        ..ROW
    },
    Row {
        yaml: "control_plane.extra_headers",
        flag: "control-plane.extra-headers",
        variable: "CONTROL_PLANE_EXTRA_HEADERS",
        given: HEADERS,
        loaded: HEADERS_LOADED,
        seen: |c| headers(&c.control_plane.extra_headers),
        refused: &[
            BAD_HEADERS[0],
            BAD_HEADERS[1],
            BAD_HEADERS[2],
            BAD_HEADERS[3],
            BAD_HEADERS[4],
            ("authorization: x", "cannot override control-plane authentication"),
            ("Accept: x", "cannot override control-plane authentication"),
            ("user-agent: x", "cannot override control-plane authentication"),
            ("X-Tunnel-Client-Name: x", "cannot override control-plane authentication"),
            ("X-Tunnel-Client-Version: x", "cannot override control-plane authentication"),
            ("X-Tunnel-Client-Instance-Id: x", "cannot override control-plane authentication"),
            ("X-Tunnel-MCP-Server-Info: x", "cannot override control-plane authentication"),
        ],
        accepted: &["OpenAI-Organization: x"],
        ..ROW
    },
    Row {
        yaml: "log.level",
        flag: "log.level",
        variable: "LOG_LEVEL",
        default: "Info",
        given: ["warn", "DEBUG", "Error"],
        loaded: ["Warn", "Debug", "Error"],
        seen: |c| shown(c.log.level),
        refused: &[("loud", "use debug, info, warn or error"), ("trace", "use debug, info, warn or error")],
        accepted: &["warn+2", "DEBUG-1", "info"],
        besides: &[("LOG_FORMAT", "json")],
    },
    Row {
        yaml: "log.format",
        flag: "log.format",
        variable: "LOG_FORMAT",
        given: ["json", "STRUCT-TEXT", "Json"],
        loaded: ["Json", "StructText", "Json"],
        seen: |c| c.log.format.map_or_else(|| "none".to_owned(), shown),
        refused: &[("yaml", "unsupported log format"), ("text", "unsupported log format")],
        ..ROW
    },
    Row {
        yaml: "log.file",
        flag: "log.file",
        variable: "LOG_FILE",
        given: ["/d.log", "/v.log", "/f.log"],
        loaded: ["d.log", "v.log", "f.log"],
        seen: |c| path(c.log.file.as_ref()),
        ..ROW
    },
    Row {
        yaml: "log.http_raw_unsafe",
        flag: "log.http-raw-unsafe",
        variable: "LOG_HTTP_RAW_UNSAFE",
        default: "false",
        given: SWITCH,
        loaded: SWITCHED,
        seen: |c| shown(c.log.http_raw_unsafe),
        refused: NO_BOOLEANS,
        accepted: BOOLEANS,
        ..ROW
    },
    Row {
        yaml: "health.listen_addr",
        flag: "health.listen-addr",
        variable: "HEALTH_LISTEN_ADDR",
        default: "127.0.0.1:8080",
        given: ["\"127.0.0.1:0\"", ":8080", "[::1]:9"],
        loaded: ["127.0.0.1:0", ":8080", "[::1]:9"],
        seen: |c| c.health.listen_addr.clone(),
        refused: &[("8080", "host:port"), ("127.0.0.1:http", "port"), ("127.0.0.1:65536", "port")],
        ..ROW
    },
    Row {
        yaml: "health.unix_socket",
        flag: "health.unix-socket",
        variable: "HEALTH_UNIX_SOCKET",
        given: ["file:DIR/socket-path", "/v.sock", "/f.sock"],
        loaded: ["d.sock", "v.sock", "f.sock"],
        seen: |c| path(c.health.unix_socket.as_ref()),
        ..ROW
    },
    Row {
        yaml: "health.url_file",
        flag: "health.url-file",
        variable: "HEALTH_URL_FILE",
        given: ["/d.url", "/v.url", "/f.url"],
        loaded: ["d.url", "v.url", "f.url"],
        seen: |c| path(c.health.url_file.as_ref()),
        ..ROW
    },
    Row {
        yaml: "process.pid_file",
        flag: "pid.file",
        variable: "PID_FILE",
        given: ["/d.pid", "/v.pid", "/f.pid"],
        loaded: ["d.pid", "v.pid", "f.pid"],
        seen: |c| path(c.pid_file.as_ref()),
        ..ROW
    },
    Row {
        yaml: "admin_ui.allow_remote",
        flag: "allow-remote-ui",
        variable: "ALLOW_REMOTE_UI",
        default: "false",
        given: SWITCH,
        loaded: SWITCHED,
        seen: |c| shown(c.admin_ui.allow_remote),
        refused: NO_BOOLEANS,
        accepted: BOOLEANS,
        ..ROW
    },
    Row {
        yaml: "admin_ui.open_browser",
        flag: "open-web-ui",
        variable: "OPEN_WEB_UI",
        default: "false",
        given: ["On", "F", "T"],
        loaded: SWITCHED,
        seen: |c| shown(c.admin_ui.open_browser),
        refused: NO_BOOLEANS,
        accepted: BOOLEANS,
        ..ROW
    },
    Row {
        yaml: "admin_ui.log_buffer_events",
        flag: "admin-ui.log-buffer-events",
        variable: "ADMIN_UI_LOG_BUFFER_EVENTS",
        default: "2000",
        given: ["5_000", "1", "100000"],
        loaded: ["5000", "1", "100000"],
        seen: |c| shown(c.admin_ui.log_buffer_events),
        refused: &[
            ("0", "must be greater than zero"),
            ("100001", "must be less than or equal to 100000"),
            ("x", "integer"),
        ],
        ..ROW
    },
    Row {
        yaml: "proxy.check_interval",
        flag: "proxy.check-interval",
        variable: "PROXY_CHECK_INTERVAL",
        default: "60s",
        given: ["2m", "1m", "1h15m"],
        loaded: ["120s", "60s", "4500s"],
        seen: |c| shown(c.proxy_check_interval),
        refused: &[("0s", "must be positive"), ("-1s", "must be positive"), ("60", "duration")],
        ..ROW
    },
    Row {
        yaml: "mcp.server_urls",
        flag: "mcp.server-url",
        variable: "MCP_SERVER_URL",
        default: "main=http://127.0.0.1:9/mcp",
        given: [
            "[{url: \"env:MCP_URL\"}, {channel: Foo, url: \"http://e/a,b\"}]",
            "http://v/a\n\n channel=foo, url=http://w ",
            "url=http://f,channel=main",
        ],
        loaded: ["main=http://d/|foo=http://e/a,b", "main=http://v/a|foo=http://w/", "main=http://f/"],
        seen: bindings,
        refused: &[
            BAD_URLS[0],
            BAD_URLS[1],
            BAD_URLS[2],
            BAD_URLS[3],
            ("channel=harpoon,url=http://a", "is reserved"),
            ("channel=a b,url=http://a", "invalid channel name"),
            ("url=http://a,unix-socket=/x,http-proxy=http://p", "cannot be combined with"),
            ("url=http://a,client-cert=/x", "missing client-key"),
            ("url=http://a,client-key=/x", "missing client-cert"),
            ("url=http://a,http-proxy=env:NOPE", "environment variable NOPE is not set"),
            ("url=http://a,unix-socket=env:NOPE", "environment variable NOPE is not set"),
        ],
        accepted: &["url=http://a,url=http://b", "url=http://a,client-cert=DIR/key,client-key=env:THIRD"],
        ..ROW
    },
    Row {
        yaml: "mcp.commands",
        flag: "mcp.command",
        variable: "MCP_COMMAND",
        default: "main=http://127.0.0.1:9/mcp",
        given: [
            "[{channel: d, command: \"python -c \\\"print(1,2,3)\\\"\"}]",
            "command=bash -c \"echo a; echo b\",channel=V",
            "channel=f,command=a 'b c' d\\ e",
        ],
        loaded: [
            "main=http://127.0.0.1:9/mcp|d=python -c print(1,2,3)",
            "main=http://127.0.0.1:9/mcp|v=bash -c echo a; echo b",
            "main=http://127.0.0.1:9/mcp|f=a b c d e",
        ],
        seen: bindings,
        refused: &[
            ("x", "duplicate channel"),
            ("channel=harpoon,command=x", "is reserved"),
            ("channel=t,command=x 'y", "unterminated"),
            ("channel=t,command=x \\", "unterminated"),
        ],
        ..ROW
    },
    Row {
        yaml: "mcp.http_proxy",
        flag: "mcp.http-proxy",
        variable: "MCP_HTTP_PROXY",
        default: "global",
        given: PROXIES,
        loaded: ["d", "v", "f"],
        seen: mcp_proxy,
        refused: BAD_PROXIES,
        accepted: &["env:PROXY"],
        besides: &[("TUNNEL_CLIENT_HTTP_PROXY", "http://global")],
    },
    Row {
        yaml: "mcp.client_cert",
        flag: "mcp.client-cert",
        variable: "MCP_CLIENT_CERT",
        given: ["DIR/one.pem", "file:DIR/two.pem", "env:THIRD"],
        loaded: ["one.pem+key", "two.pem+key", "three.pem+key"],
        seen: mcp_certificate,
        refused: &[("/nope", "invalid MCP client certificate configuration")],
        besides: &[("MCP_CLIENT_KEY", "DIR/key")],
        ..ROW
    },
    Row {
        yaml: "mcp.client_key",
        flag: "mcp.client-key",
        variable: "MCP_CLIENT_KEY",
        given: ["DIR/one.pem", "file:DIR/two.pem", "env:THIRD"],
        loaded: ["key+one.pem", "key+two.pem", "key+three.pem"],
        seen: mcp_certificate,
        refused: &[("/nope", "invalid MCP client certificate configuration")],
        besides: &[("MCP_CLIENT_CERT", "DIR/key")],
        ..ROW
    },
    Row {
        yaml: "mcp.extra_headers",
        flag: "mcp.extra-headers",
        variable: "MCP_EXTRA_HEADERS",
        given: HEADERS,
        loaded: HEADERS_LOADED,
        seen: |c| headers(&c.mcp.extra_headers),
        refused: BAD_HEADERS,
        accepted: &["Authorization: x"],
        ..ROW
    },
    Row {
        yaml: "mcp.discovery_extra_headers",
        flag: "mcp.discovery-extra-headers",
        variable: "MCP_DISCOVERY_EXTRA_HEADERS",
        given: HEADERS,
        loaded: HEADERS_LOADED,
        seen: |c| headers(&c.mcp.discovery_extra_headers),
        refused: BAD_HEADERS,
        accepted: &["Authorization: x"],
        ..ROW
    },
    Row {
        yaml: "mcp.startup_wait_timeout",
        flag: "mcp.startup-wait-timeout",
        variable: "MCP_STARTUP_WAIT_TIMEOUT",
        default: "0ns",
        given: ["90s", "0", "1h"],
        loaded: ["90s", "0ns", "3600s"],
        seen: |c| shown(c.mcp.startup_wait_timeout),
        refused: &[("-1s", "must not be negative"), ("1d", "duration")],
        accepted: DURATIONS,
        ..ROW
    },
    Row {
        yaml: "mcp.connection_max_ttl",
        flag: "mcp.connection-max-ttl",
        variable: "MCP_CONNECTION_MAX_TTL",
        default: "600s",
        given: ["20m", "1m", "1ms"],
        loaded: ["1200s", "60s", "1ms"],
        seen: |c| shown(c.mcp.connection_max_ttl),
        refused: &[("0s", "must be positive"), ("-1s", "must be positive"), ("ten", "duration")],
        ..ROW
    },
    Row {
        yaml: "mcp.max_concurrent_requests",
        flag: "mcp.max-concurrent-requests",
        variable: "MCP_MAX_CONCURRENT_REQUESTS",
        default: "10",
        given: ["16", "1", "1000000"],
        loaded: ["16", "1", "1000000"],
        seen: |c| shown(c.mcp.max_concurrent_requests),
        refused: &[("0", "must be greater than zero"), ("-1", "must be greater than zero"), ("x", "integer")],
        ..ROW
    },
    Row {
        yaml: "mcp.max_message_bytes",
        flag: "mcp.max-message-bytes",
        variable: "MCP_MAX_MESSAGE_BYTES",
        default: "67108864",
        given: ["2048", "1024", "0x1000"],
        loaded: ["2048", "1024", "4096"],
        seen: |c| shown(c.mcp.max_message_bytes),
        refused: &[("1023", "at least 1024"), ("2147483648", "less than 2147483648"), ("x", "integer")],
        ..ROW
    },
    Row {
        yaml: "mcp.protocol_bridge",
        flag: "mcp.protocol-bridge",
        variable: "MCP_PROTOCOL_BRIDGE",
        default: "Auto",
        given: ["\"off\"", "auto", "OFF"],
        loaded: ["Off", "Auto", "Off"],
        seen: |c| shown(c.mcp.protocol_bridge),
        refused: &[("on", "auto or off")],
        ..ROW
    },
    Row {
        yaml: "mcp.protocol_probe_timeout",
        flag: "mcp.protocol-probe-timeout",
        variable: "MCP_PROTOCOL_PROBE_TIMEOUT",
        default: "5s",
        given: ["100ms", "60s", "1s"],
        loaded: ["100ms", "60s", "1s"],
        seen: |c| shown(c.mcp.protocol_probe_timeout),
        refused: &[("99ms", "100ms to 60s"), ("61s", "100ms to 60s")],
        ..ROW
    },
    Row {
        yaml: "mcp.handshake_timeout",
        flag: "mcp.handshake-timeout",
        variable: "MCP_HANDSHAKE_TIMEOUT",
        default: "30s",
        given: ["1s", "10m", "5s"],
        loaded: ["1s", "600s", "5s"],
        seen: |c| shown(c.mcp.handshake_timeout),
        refused: &[("999ms", "1s to 10m"), ("601s", "1s to 10m")],
        ..ROW
    },
    Row {
        yaml: "mcp.stdio_lifecycle",
        flag: "mcp.stdio-lifecycle",
        variable: "MCP_STDIO_LIFECYCLE",
        default: "Auto",
        given: ["\"off\"", "auto", "off"],
        loaded: ["Off", "Auto", "Off"],
        seen: |c| shown(c.mcp.stdio_lifecycle),
        refused: &[("on", "auto or off")],
        ..ROW
    },
    Row {
        yaml: "harpoon.targets",
        flag: "harpoon.target",
        variable: "HARPOON_TARGETS",
        given: [
            "[{label: d, url: \"https://d/a,b;c\", description: \"x, y; z\"}]",
            "label=v,url=https://v,desc='two words';label=w,url=https://w",
            "Label=f,URL=\"https://f\",unknown=1",
        ],
        loaded: ["d https://d/a,b;c x, y; z", "v https://v/ two words|w https://w/ ", "f https://f/ "],
        seen: |c| {
            let rows: Vec<String> = c
                .harpoon
                .targets
                .iter()
                .map(|t| format!("{} {} {}", t.label, t.url, t.description))
                .collect();
            joined(&rows)
        },
        refused: &[
            ("label=Auth,url=https://a", "label must match"),
            ("label=a,url=http://a", "https is required"),
            ("label=a,url=nope", "invalid url"),
            ("label=a,url=https://a,unix-socket=env:NOPE", "environment variable NOPE is not set"),
        ],
        ..ROW
    },
    Row {
        yaml: "harpoon.allow_plaintext_http",
        flag: "harpoon.allow-plaintext-http",
        variable: "HARPOON_ALLOW_PLAINTEXT_HTTP",
        default: "false",
        given: SWITCH,
        loaded: SWITCHED,
        seen: |c| shown(c.harpoon.allow_plaintext_http),
        refused: NO_BOOLEANS,
        accepted: BOOLEANS,
        ..ROW
    },
    Row {
        yaml: "harpoon.max_response_bytes",
        flag: "harpoon.max-response-bytes",
        variable: "HARPOON_MAX_RESPONSE_BYTES",
        default: "102400",
        given: ["65536", "1", "102_400"],
        loaded: ["65536", "1", "102400"],
        seen: |c| shown(c.harpoon.max_response_bytes),
        refused: &[("0", "must be positive"), ("102401", "less than or equal to 102400"), ("x", "integer")],
        ..ROW
    },
    Row {
        yaml: "harpoon.max_redirects",
        flag: "harpoon.max-redirects",
        variable: "HARPOON_MAX_REDIRECTS",
        default: "5",
        given: ["2", "0", "5"],
        loaded: ["2", "0", "5"],
        seen: |c| shown(c.harpoon.max_redirects),
        refused: &[("-1", "must be non-negative"), ("6", "less than or equal to 5"), ("x", "integer")],
        ..ROW
    },
    Row {
        yaml: "harpoon.http_proxy",
        flag: "harpoon.http-proxy",
        variable: "HARPOON_HTTP_PROXY",
        default: "global",
        given: PROXIES,
        loaded: ["d", "v", "f"],
        seen: |c| proxy(&c.harpoon.proxy),
        refused: BAD_PROXIES,
        accepted: &["env:PROXY"],
        besides: &[("TUNNEL_CLIENT_HTTP_PROXY", "http://global")],
    },
    Row {
        yaml: "harpoon.additional_transports",
        flag: "harpoon.additional-transport",
        variable: "HARPOON_ADDITIONAL_TRANSPORTS",
        default: "false",
        given: ["[http-streamable]", "HTTP-Streamable", "http-streamable"],
        loaded: ["true", "true", "true"],
        seen: |c| shown(c.harpoon.http_streamable),
        refused: &[("sse", "unsupported harpoon transport")],
        accepted: &[" "],
        ..ROW
    },
    Row {
        yaml: "harpoon.capture_payloads",
        flag: "harpoon.capture-payloads",
        variable: "HARPOON_CAPTURE_PAYLOADS",
        default: "false",
        given: SWITCH,
        loaded: SWITCHED,
        seen: |c| shown(c.harpoon.capture_payloads),
        refused: NO_BOOLEANS,
        accepted: BOOLEANS,
        ..ROW
    },
    Row {
        yaml: "harpoon.hosts_include_suffix",
        flag: "harpoon.hosts-include-suffix",
        variable: "HARPOON_HOSTS_INCLUDE_SUFFIX",
        given: ["[.Corp.example, d]", "v; w\nx", "f"],
        loaded: ["corp.example|d", "v|w|x", "f"],
        seen: |c| joined(&c.harpoon.hosts_include_suffix),
        ..ROW
    },
    Row {
        yaml: "harpoon.hosts_include_regex",
        flag: "harpoon.hosts-include-regex",
        variable: "HARPOON_HOSTS_INCLUDE_REGEX",
        given: ["['^idp-[0-9]+\\.']", "v.*;w", "(f|g)"],
        loaded: ["^idp-[0-9]+\\.", "v.*|w", "(f|g)"],
        seen: |c| joined(&c.harpoon.hosts_include_regex),
        refused: &[("[", "invalid harpoon host regex"), ("(?=x)", "invalid harpoon host regex")],
        ..ROW
    },
    Row {
        yaml: "harpoon.hosts_include_loopback",
        flag: "harpoon.hosts-include-loopback",
        variable: "HARPOON_HOSTS_INCLUDE_LOOPBACK",
        default: "true",
        given: ["off", "true", "false"],
        loaded: ["false", "true", "false"],
        seen: |c| shown(c.harpoon.hosts_include_loopback),
        refused: NO_BOOLEANS,
        accepted: BOOLEANS,
        ..ROW
    },
    Row {
        yaml: "harpoon.hosts_include_private",
        flag: "harpoon.hosts-include-private",
        variable: "HARPOON_HOSTS_INCLUDE_PRIVATE",
        default: "true",
        given: ["n", "true", "false"],
        loaded: ["false", "true", "false"],
        seen: |c| shown(c.harpoon.hosts_include_private),
        refused: NO_BOOLEANS,
        accepted: BOOLEANS,
        ..ROW
    },
    Row {
        yaml: "cloudflared.token",
        flag: "cloudflared.token",
        variable: "CLOUDFLARED_TUNNEL_TOKEN",
        seen: |c| shown(c.cloudflared.token.is_some()),
        default: "false",
        ..ROW
    },
    Row {
        yaml: "cloudflared.managed",
        flag: "cloudflared.managed",
        variable: "CLOUDFLARED_MANAGED",
        default: "false",
        given: ["no", "f", "F"],
        loaded: ["false", "false", "false"],
        seen: |c| shown(c.cloudflared.managed),
        refused: NO_BOOLEANS,
        ..ROW
    },
    Row {
        yaml: "cloudflared.path",
        flag: "cloudflared.path",
        variable: "CLOUDFLARED_PATH",
        given: ["/d", " /v ", "/f"],
        loaded: ["d", "v", "f"],
        seen: |c| path(c.cloudflared.path.as_ref()),
        ..ROW
    },
    Row {
        yaml: "cloudflared.ready_timeout",
        flag: "cloudflared.ready-timeout",
        variable: "CLOUDFLARED_READY_TIMEOUT",
        default: "30s",
        given: ["45s", "1m", "1s"],
        loaded: ["45s", "60s", "1s"],
        seen: |c| shown(c.cloudflared.ready_timeout),
        refused: &[("0s", "must be positive"), ("-1s", "must be positive"), ("x", "duration")],
        ..ROW
    },
];

/// The files and variables that the rows refer to.
struct World {
    directory: tempfile::TempDir,
}

impl World {
    fn new() -> World {
        let world = World { directory: tempfile::tempdir().unwrap() };
        // Any of them fits any other, as certificate and as key.
        let made = rcgen::generate_simple_self_signed(vec!["x".to_owned()]).unwrap();
        let pair = made.cert.pem() + &made.signing_key.serialize_pem();
        for name in ["one.pem", "two.pem", "three.pem", "key"] {
            world.file(name, &pair);
        }
        world.file("api-key", "key-file\n");
        world.file("url", "https://d.example\n");
        world.file("socket-path", "/d.sock\n");
        world
    }

    fn file(&self, name: &str, content: &str) -> String {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    }

    fn here(&self, text: &str) -> String {
        text.replace("DIR", &self.directory.path().display().to_string())
    }

    /// What a run makes of the layers: the row's value, or all messages.
    fn load(
        &self,
        row: &Row,
        document: Option<&str>,
        variable: Option<&str>,
        flags: &[String],
    ) -> Result<String, String> {
        let mut environment: Environment = [
            ("HOME", "/nonexistent"),
            ("CONTROL_PLANE_TUNNEL_ID", TUNNEL),
            ("CONTROL_PLANE_API_KEY", "key-minimal"),
            ("MCP_SERVER_URL", "http://127.0.0.1:9/mcp"),
            ("SPARE", "spare"),
            ("PROXY", "http://proxy.example"),
            ("MCP_URL", "http://d"),
            ("TWO_LINES", "a\nb"),
        ]
        .into_iter()
        .filter(|(name, _)| {
            *name != row.variable || (document.is_none() && variable.is_none() && flags.is_empty())
        })
        .collect();
        environment.set("THIRD", self.here("DIR/three.pem"));
        for (name, value) in row.besides {
            environment.set(*name, self.here(value));
        }
        if let Some(value) = variable {
            environment.set(row.variable, self.here(value));
        }
        let mut arguments: Vec<String> = flags.iter().map(|flag| self.here(flag)).collect();
        if let Some(document) = document {
            let path = self.file("doc.yaml", &self.here(document));
            arguments.extend(["--config".to_owned(), path]);
        }
        let extracted = extract(arguments, settings::ALL, &[]).map_err(|error| error.to_string())?;
        match load(&extracted.flags, &environment) {
            Ok(config) => Ok((row.seen)(&config)),
            Err(errors) => Err(errors.to_string()),
        }
    }
}

/// A document that holds one value, on its third line.
fn document(yaml: &str, value: &str) -> String {
    let mut text = String::from("# first line\nconfig_version: 1\n");
    let keys: Vec<&str> = yaml.split('.').collect();
    for (depth, key) in keys.iter().enumerate() {
        let end = if depth + 1 == keys.len() { format!(" {value}\n") } else { "\n".to_owned() };
        text.push_str(&format!("{}{key}:{end}", "  ".repeat(depth)));
    }
    text
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

/// A refused text as the document's value of its kind; none if the document cannot say it.
fn as_yaml(kind: Kind, text: &str) -> Option<String> {
    match kind {
        Kind::Text | Kind::Duration => Some(quoted(text)),
        Kind::Bool | Kind::Integer => Some(text.to_owned()),
        Kind::List(_) => Some(format!("[{}]", quoted(text))),
        Kind::Headers => {
            let (name, value) = text.split_once(':')?;
            Some(format!("{{{}: {}}}", quoted(name.trim()), quoted(value.trim())))
        }
        Kind::Entries(_, fields) => {
            let plain = fields.iter().find(|field| field.required).map(|field| field.yaml)?;
            if !text.contains('=') {
                return Some(format!("[{{{plain}: {}}}]", quoted(text)));
            }
            let parts: Vec<String> = text
                .split(',')
                .map(|part| {
                    let (key, value) = part.split_once('=').unwrap();
                    let field = fields.iter().find(|field| field.key == key).unwrap();
                    format!("{}: {}", field.yaml, quoted(value))
                })
                .collect();
            Some(format!("[{{{}}}]", parts.join(", ")))
        }
    }
}

fn setting(row: &Row) -> &'static settings::Setting {
    settings::by_flag(row.flag).unwrap_or_else(|| panic!("no flag --{}", row.flag))
}

#[test]
fn every_setting_has_its_names_in_all_three_layers() {
    for row in TABLE {
        let setting = setting(row);
        assert_eq!((setting.flag, setting.variable, setting.yaml), (row.flag, row.variable, row.yaml));
    }
    let selectors = ["config", "profile", "profile-file", "profile-dir"];
    let others = ["", "mcp.stdio-send-initialized-notification"];
    for setting in settings::ALL {
        let known = TABLE.iter().any(|row| row.flag == setting.flag);
        assert!(
            known || selectors.contains(&setting.flag) || others.contains(&setting.flag),
            "{}",
            setting.flag
        );
    }
}

#[test]
fn a_flag_beats_a_variable_beats_the_document_beats_the_default() {
    let world = World::new();
    for row in TABLE.iter().filter(|row| row.given != [""; 3]) {
        let [in_document, in_variable, in_flag] = row.given;
        let [from_document, from_variable, from_flag] = row.loaded.map(|text| Ok(text.to_owned()));
        let document = document(row.yaml, in_document);
        let flag = |name: &str| vec![format!("--{name}={in_flag}")];
        let name = row.flag;
        if !row.flag.contains("client-") {
            assert_eq!(world.load(row, None, None, &[]), Ok(row.default.to_owned()), "{name}: default");
        }
        assert_eq!(world.load(row, Some(&document), None, &[]), from_document, "{name}: document");
        assert_eq!(
            world.load(row, Some(&document), Some(in_variable), &[]),
            from_variable,
            "{name}: variable"
        );
        assert_eq!(world.load(row, None, Some(in_variable), &[]), from_variable, "{name}: variable alone");
        let all = world.load(row, Some(&document), Some(in_variable), &flag(name));
        assert_eq!(all, from_flag, "{name}: flag");
        assert_eq!(
            world.load(row, Some(&document), None, &flag(name)),
            from_flag,
            "{name}: flag and document"
        );
        if setting(row).kind != Kind::Bool {
            let apart = [format!("--{name}"), in_flag.to_owned()];
            assert_eq!(world.load(row, None, None, &apart), from_flag, "{name}: flag and value apart");
        }
        let alias = setting(row).alias;
        if !alias.is_empty() {
            assert_eq!(world.load(row, None, Some(in_variable), &flag(alias)), from_flag, "{alias}");
        }
    }
}

/// What is wrong with how a layer refused a value.
fn complaint(result: &Result<String, String>, part: &str, names: &[&str]) -> Option<String> {
    let message = match result {
        Ok(loaded) => return Some(format!("accepted as {loaded}")),
        Err(message) => message,
    };
    if !message.starts_with("invalid argument") && !message.contains(part) {
        return Some(format!("{part:?} not in {message:?}"));
    }
    if message.lines().count() != 1 {
        return Some(format!("not one line: {message:?}"));
    }
    names.iter().find(|name| !message.contains(**name)).map(|name| format!("{name:?} not in {message:?}"))
}

#[test]
fn a_wrong_value_is_refused_in_every_layer_by_name_and_place() {
    let world = World::new();
    let mut complaints = Vec::new();
    for row in TABLE {
        let kind = setting(row).kind;
        for (value, part) in row.refused {
            let flag = format!("--{}", row.flag);
            let place = ["doc.yaml", "line ", " column ", row.yaml];
            let mut results = vec![
                (world.load(row, None, None, &[format!("{flag}={value}")]), vec![flag.as_str()]),
                (world.load(row, None, Some(value), &[]), vec![row.variable]),
            ];
            if let Some(yaml) = as_yaml(kind, value) {
                results.push((world.load(row, Some(&document(row.yaml, &yaml)), None, &[]), place.to_vec()));
            }
            for (result, names) in &results {
                complaints.extend(
                    complaint(result, part, names).map(|text| format!("{} = {value:?}: {text}", row.flag)),
                );
            }
        }
    }
    assert!(complaints.is_empty(), "{complaints:#?}");
}

#[test]
fn each_layer_has_its_own_spellings() {
    let world = World::new();
    for row in TABLE {
        for value in row.accepted {
            let (value, only) = value.split_once('\u{0}').unwrap_or((value, ""));
            if only != "flag" {
                let loaded = world.load(row, None, Some(value), &[]);
                assert!(loaded.is_ok(), "{}={value:?}: {loaded:?}", row.variable);
            }
            if only != "variable" {
                let loaded = world.load(row, None, None, &[format!("--{}={value}", row.flag)]);
                assert!(loaded.is_ok(), "--{}={value:?}: {loaded:?}", row.flag);
            }
        }
    }
}

#[test]
fn an_empty_variable_hides_the_document() {
    let world = World::new();
    for row in TABLE.iter().filter(|row| row.given != [""; 3]) {
        let document = document(row.yaml, row.given[0]);
        let result = world.load(row, Some(&document), Some(""), &[]);
        let refused = match row.variable {
            "CONTROL_PLANE_TUNNEL_ID" => Some("tunnel ID is required"),
            "CONTROL_PLANE_API_KEY" => Some("control plane API key is required"),
            "CONTROL_PLANE_MAX_INFLIGHT_REQUESTS" => Some("must be greater than zero"),
            "CONTROL_PLANE_POLL_CHANNELS" => Some("contains an empty channel"),
            "ADMIN_UI_LOG_BUFFER_EVENTS" | "PROXY_CHECK_INTERVAL" => Some("invalid"),
            "MCP_SERVER_URL" => Some("main channel is required"),
            "CONTROL_PLANE_CLIENT_CERT" | "MCP_CLIENT_CERT" => Some("missing client-cert"),
            "CONTROL_PLANE_CLIENT_KEY" | "MCP_CLIENT_KEY" => Some("missing client-key"),
            _ => None,
        };
        match refused {
            Some(part) => assert!(
                result.as_ref().is_err_and(|error| error.contains(part)),
                "{}: {result:?}",
                row.variable
            ),
            None => assert_eq!(result, Ok(row.default.to_owned()), "{}", row.variable),
        }
    }
}

#[test]
fn secrets_and_what_may_hold_them_are_never_shown() {
    let world = World::new();
    let secret = "hunter2hunter2";
    for row in TABLE {
        let values: &[&str] = match setting(row).kind {
            Kind::Headers => {
                &["bad name: hunter2hunter2", "Authorization: hunter2hunter2\u{7f}", "hunter2hunter2"]
            }
            Kind::Entries(..) => {
                &["url=x://u:hunter2hunter2@h,bogus=hunter2hunter2", "https://u:hunter2hunter2@h:bad/"]
            }
            _ if row.flag.ends_with("api-key") || row.flag.ends_with("token") => {
                &["hunter2 hunter2hunter2", "hunter2hunter2\t"]
            }
            _ if row.flag.ends_with("http-proxy") || row.flag.ends_with("base-url") => {
                &["socks5://u:hunter2hunter2@h:1", "https://u:hunter2hunter2@h:bad"]
            }
            _ => continue,
        };
        for value in values {
            for result in [
                world.load(row, None, Some(value), &[]),
                world.load(row, None, None, &[format!("--{}={value}", row.flag)]),
                world.load(row, Some(&document(row.yaml, &as_yaml(Kind::Text, value).unwrap())), None, &[]),
            ] {
                let message = result.err().unwrap_or_default();
                assert!(!message.contains(secret), "{}: {message}", row.flag);
            }
        }
    }
}

#[test]
fn all_mistakes_of_one_load_are_told_together() {
    let world = World::new();
    let row = Row {
        variable: "LOG_LEVEL",
        besides: &[
            ("CONTROL_PLANE_TUNNEL_ID", "nope"),
            ("CONTROL_PLANE_API_KEY", "a b"),
            ("MCP_SERVER_URL", "nope"),
            ("LOG_FORMAT", "yaml"),
            ("HARPOON_MAX_REDIRECTS", "9"),
            ("PROXY_CHECK_INTERVAL", "0s"),
        ],
        ..ROW
    };
    let flags = ["--ca-bundle=/nope".to_owned(), "--http-proxy=socks5://x".to_owned()];
    let messages = world.load(&row, Some("health: {listen_addr: nope}"), None, &flags).unwrap_err();
    let order = [
        "invalid ca-bundle",
        "invalid http-proxy",
        "invalid tunnel ID",
        "API key is malformed",
        "invalid mcp.server-url",
        "unsupported log format",
        "harpoon.max-redirects must",
        "proxy.check-interval must",
        "invalid health.listen-addr",
    ];
    let lines: Vec<&str> = messages.lines().collect();
    assert_eq!(lines.len(), order.len(), "{messages}");
    for (line, part) in lines.iter().zip(order) {
        assert!(line.starts_with(part) || line.contains(part), "{part}: {line}");
    }
}
