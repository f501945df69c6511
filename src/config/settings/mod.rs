//! The settings table: everything that is true of a setting is said here, once.
//!
//! Flags, layers, document schema, `--help`, man page and shell completions are all read from
//! [`ALL`]. Invariant: no other place spells a flag, a variable or a document key.

mod columns;

pub use columns::{Field, Kind, Reference, Secrecy, Separator, Setting};

use super::flags::OwnFlag;

/// The setting of a flag, by its name or hidden alias without dashes.
pub fn by_flag(name: &str) -> Option<&'static Setting> {
    ALL.iter().copied().find(|s| !name.is_empty() && (s.flag == name || s.alias == name))
}

/// The setting of an environment variable.
pub fn by_variable(name: &str) -> Option<&'static Setting> {
    ALL.iter().copied().find(|s| !name.is_empty() && s.variable == name)
}

macro_rules! settings {
    ($($name:ident, $help:literal, { $($field:ident: $value:expr),* $(,)? })*) => {
        $(#[doc = concat!("`", $help, "`")] pub static $name: Setting = Setting { $($field: $value,)* help: $help, ..Setting::BLANK };)*

        /// Every setting, in the order of the manual.
        pub static ALL: &[&Setting] = &[$(&$name),*];
    };
}

/// The directory of named profiles, as help shows it.
pub const PROFILE_DIR_SHOWN: &str = "$XDG_CONFIG_HOME/tunnel-client or ~/.config/tunnel-client";

const SERVER_URL_FIELDS: &[Field] = &[
    Field { yaml: "channel", key: "channel", required: false },
    Field { yaml: "url", key: "url", required: true },
    Field { yaml: "unix_socket", key: "unix-socket", required: false },
    Field { yaml: "http_proxy", key: "http-proxy", required: false },
    Field { yaml: "client_cert", key: "client-cert", required: false },
    Field { yaml: "client_key", key: "client-key", required: false },
    Field { yaml: "protocol_bridge", key: "protocol-bridge", required: false },
];
const COMMAND_FIELDS: &[Field] = &[
    Field { yaml: "channel", key: "channel", required: false },
    Field { yaml: "command", key: "command", required: true },
    Field { yaml: "protocol_bridge", key: "protocol-bridge", required: false },
];
const TARGET_FIELDS: &[Field] = &[
    Field { yaml: "label", key: "label", required: true },
    Field { yaml: "url", key: "url", required: true },
    Field { yaml: "unix_socket", key: "unix-socket", required: false },
    Field { yaml: "description", key: "desc", required: false },
];

settings! {
    CONFIG, "Configuration file (YAML).", {
        flag: "config", variable: "TUNNEL_CLIENT_CONFIG", empty_flag_counts: true,
    }
    PROFILE, "Named profile in the profile directory.", {
        flag: "profile", variable: "TUNNEL_CLIENT_PROFILE", empty_flag_counts: true,
    }
    PROFILE_FILE, "Profile given as a file ending in .yaml.", {
        flag: "profile-file", variable: "TUNNEL_CLIENT_PROFILE_FILE", empty_flag_counts: true,
    }
    PROFILE_DIR, "Directory of named profiles.", {
        flag: "profile-dir", variable: "TUNNEL_CLIENT_PROFILE_DIR", empty_flag_counts: true,
        shown_default: PROFILE_DIR_SHOWN,
    }
    CONFIG_VERSION, "Version of the document format; only 1 exists.", {
        yaml: "config_version", kind: Kind::Integer, default: "1",
    }
    CA_BUNDLE, "PEM file of certificates trusted besides the system's (path, env:NAME or file:PATH).", {
        yaml: "ca_bundle", flag: "ca-bundle", variable: "CA_BUNDLE", reference: Reference::Path,
        empty_flag_counts: true,
    }
    HTTP_PROXY, "Proxy of all outbound HTTP (http or https URL, or env:NAME).", {
        yaml: "http_proxy", flag: "http-proxy", variable: "TUNNEL_CLIENT_HTTP_PROXY",
        reference: Reference::Proxy, secrecy: Secrecy::MayEmbed, empty_flag_counts: true,
    }

    CONTROL_PLANE_BASE_URL, "Scheme, host and port of the control plane; a path in it is ignored.", {
        yaml: "control_plane.base_url", flag: "control-plane.base-url", alias: "control-plane-base-url",
        variable: "CONTROL_PLANE_BASE_URL", default: "https://api.openai.com",
        reference: Reference::DocumentValue,
    }
    CONTROL_PLANE_URL_PATH, "Path inserted between the control plane's host and /v1.", {
        yaml: "control_plane.url_path", flag: "control-plane.url-path", alias: "control-plane-url-path",
        variable: "CONTROL_PLANE_URL_PATH", reference: Reference::DocumentValue,
    }
    CONTROL_PLANE_TUNNEL_ID, "Tunnel to serve: tunnel_ and 32 lowercase letters or digits.", {
        yaml: "control_plane.tunnel_id", flag: "control-plane.tunnel-id", alias: "control-plane-tunnel-id",
        variable: "CONTROL_PLANE_TUNNEL_ID", empty_flag_counts: true, empty_variable_counts: true,
    }
    CONTROL_PLANE_ORGANIZATION_ID, "Organization sent as OpenAI-Organization.", {
        yaml: "control_plane.organization_id", flag: "control-plane.organization-id",
        alias: "control-plane-organization-id", variable: "CONTROL_PLANE_ORGANIZATION_ID",
    }
    CONTROL_PLANE_API_KEY, "Runtime API key as env:NAME or file:PATH; OPENAI_API_KEY is the last resort.", {
        yaml: "control_plane.api_key", flag: "control-plane.api-key", alias: "control-plane-api-key",
        variable: "CONTROL_PLANE_API_KEY", reference: Reference::Key, secrecy: Secrecy::Secret,
        empty_variable_counts: true,
    }
    CONTROL_PLANE_CLIENT_CERT, "Client certificate for the control plane (PEM path, env:NAME or file:PATH).", {
        yaml: "control_plane.client_cert", flag: "control-plane.client-cert",
        alias: "control-plane-client-cert", variable: "CONTROL_PLANE_CLIENT_CERT",
        reference: Reference::Path,
    }
    CONTROL_PLANE_CLIENT_KEY, "Key of the control plane's client certificate (PEM path, env:NAME or file:PATH).", {
        yaml: "control_plane.client_key", flag: "control-plane.client-key",
        alias: "control-plane-client-key", variable: "CONTROL_PLANE_CLIENT_KEY",
        reference: Reference::Path,
    }
    CONTROL_PLANE_HTTP_PROXY, "Proxy for the control plane (http or https URL, or env:NAME).", {
        yaml: "control_plane.http_proxy", flag: "control-plane.http-proxy",
        variable: "CONTROL_PLANE_HTTP_PROXY", reference: Reference::Proxy, secrecy: Secrecy::MayEmbed,
        empty_flag_counts: true,
    }
    CONTROL_PLANE_MAX_INFLIGHT, "Commands that may wait in the queue, 1 to 10000.", {
        yaml: "control_plane.max_inflight_requests", flag: "control-plane.max-inflight",
        variable: "CONTROL_PLANE_MAX_INFLIGHT_REQUESTS", kind: Kind::Integer, default: "20",
        empty_variable_counts: true,
    }
    CONTROL_PLANE_POLL_TIMEOUT, "How long the control plane may hold a poll.", {
        yaml: "control_plane.poll_timeout", flag: "control-plane.poll-timeout",
        variable: "CONTROL_PLANE_POLL_TIMEOUT", kind: Kind::Duration, default: "30s",
    }
    CONTROL_PLANE_POLL_DEADLINE_GUARDRAIL, "Added to the poll timeout before a request is given up.", {
        yaml: "control_plane.poll_deadline_guardrail", flag: "control-plane.poll-deadline-guardrail",
        variable: "CONTROL_PLANE_POLL_DEADLINE_GUARDRAIL", kind: Kind::Duration, default: "5s",
    }
    CONTROL_PLANE_POLL_CHANNELS, "Channel to poll; polls all when never given.", {
        yaml: "control_plane.poll_channels", flag: "control-plane.poll-channel",
        variable: "CONTROL_PLANE_POLL_CHANNELS", kind: Kind::List(Separator::Comma),
        empty_variable_counts: true,
    }
    CONTROL_PLANE_EXTRA_HEADERS, "Header added to control-plane requests; the value may be env:NAME or file:PATH.", {
        yaml: "control_plane.extra_headers", flag: "control-plane.extra-headers",
        variable: "CONTROL_PLANE_EXTRA_HEADERS", kind: Kind::Headers, reference: Reference::Header,
        secrecy: Secrecy::MayEmbed,
    }

    LOG_LEVEL, "Lowest level written: debug, info, warn or error; others than info need a format.", {
        yaml: "log.level", flag: "log.level", variable: "LOG_LEVEL", default: "info",
    }
    LOG_FORMAT, "Format of log lines: struct-text or json.", {
        yaml: "log.format", flag: "log.format", variable: "LOG_FORMAT",
    }
    LOG_FILE, "File that log lines are appended to.", {
        yaml: "log.file", flag: "log.file", variable: "LOG_FILE", shown_default: "stdout",
    }
    LOG_HTTP_RAW_UNSAFE, "Log HTTP messages with their bodies at debug level.", {
        yaml: "log.http_raw_unsafe", flag: "log.http-raw-unsafe", variable: "LOG_HTTP_RAW_UNSAFE",
        kind: Kind::Bool, default: "false",
    }
    HEALTH_LISTEN_ADDR, "Address of the local listener; port 0 takes a free one.", {
        yaml: "health.listen_addr", flag: "health.listen-addr", alias: "health-listen-addr",
        variable: "HEALTH_LISTEN_ADDR", default: "127.0.0.1:8080", reference: Reference::DocumentValue,
    }
    HEALTH_UNIX_SOCKET, "Unix socket of the local listener, instead of an address.", {
        yaml: "health.unix_socket", flag: "health.unix-socket", alias: "health-unix-socket",
        variable: "HEALTH_UNIX_SOCKET", reference: Reference::DocumentValue,
    }
    HEALTH_URL_FILE, "File to write the local listener's base URL to.", {
        yaml: "health.url_file", flag: "health.url-file", alias: "health-url-file",
        variable: "HEALTH_URL_FILE",
    }
    PID_FILE, "File to write the process id to.", {
        yaml: "process.pid_file", flag: "pid.file", variable: "PID_FILE",
    }
    ALLOW_REMOTE_UI, "Serve the web UI to other hosts too.", {
        yaml: "admin_ui.allow_remote", flag: "allow-remote-ui", variable: "ALLOW_REMOTE_UI",
        kind: Kind::Bool, default: "false",
    }
    OPEN_WEB_UI, "Open the web UI in a browser at start.", {
        yaml: "admin_ui.open_browser", flag: "open-web-ui", variable: "OPEN_WEB_UI",
        kind: Kind::Bool, default: "false",
    }
    LOG_BUFFER_EVENTS, "Log events kept for the web UI, 1 to 100000.", {
        yaml: "admin_ui.log_buffer_events", flag: "admin-ui.log-buffer-events",
        variable: "ADMIN_UI_LOG_BUFFER_EVENTS", kind: Kind::Integer, default: "2000",
        empty_variable_counts: true,
    }
    PROXY_CHECK_INTERVAL, "Time between two checks of a proxy.", {
        yaml: "proxy.check_interval", flag: "proxy.check-interval", variable: "PROXY_CHECK_INTERVAL",
        kind: Kind::Duration, default: "60s", empty_variable_counts: true,
    }

    MCP_SERVER_URL, "MCP server over HTTP: a URL for channel main, or channel=NAME,url=URL[,unix-socket=PATH][,http-proxy=URL][,client-cert=PATH,client-key=PATH].", {
        yaml: "mcp.server_urls", flag: "mcp.server-url", alias: "mcp-server-url",
        variable: "MCP_SERVER_URL", kind: Kind::Entries(Separator::Line, SERVER_URL_FIELDS),
        reference: Reference::Entry, secrecy: Secrecy::MayEmbed,
    }
    MCP_COMMAND, "MCP server over stdio: a command line for channel main, or channel=NAME,command=COMMAND.", {
        yaml: "mcp.commands", flag: "mcp.command", alias: "mcp-command", variable: "MCP_COMMAND",
        kind: Kind::Entries(Separator::Line, COMMAND_FIELDS), reference: Reference::Entry,
        secrecy: Secrecy::MayEmbed,
    }
    MCP_HTTP_PROXY, "Proxy for MCP servers over HTTP (http or https URL, or env:NAME).", {
        yaml: "mcp.http_proxy", flag: "mcp.http-proxy", variable: "MCP_HTTP_PROXY",
        reference: Reference::Proxy, secrecy: Secrecy::MayEmbed, empty_flag_counts: true,
    }
    MCP_CLIENT_CERT, "Client certificate for MCP servers over HTTP (PEM path, env:NAME or file:PATH).", {
        yaml: "mcp.client_cert", flag: "mcp.client-cert", variable: "MCP_CLIENT_CERT",
        reference: Reference::Path,
    }
    MCP_CLIENT_KEY, "Key of the MCP client certificate (PEM path, env:NAME or file:PATH).", {
        yaml: "mcp.client_key", flag: "mcp.client-key", variable: "MCP_CLIENT_KEY",
        reference: Reference::Path,
    }
    MCP_EXTRA_HEADERS, "Header added to requests to MCP servers; the value may be env:NAME or file:PATH.", {
        yaml: "mcp.extra_headers", flag: "mcp.extra-headers", alias: "mcp-extra-headers",
        variable: "MCP_EXTRA_HEADERS", kind: Kind::Headers, reference: Reference::Header,
        secrecy: Secrecy::MayEmbed,
    }
    MCP_DISCOVERY_EXTRA_HEADERS, "Header added to discovery and probe requests to MCP servers; the value may be env:NAME or file:PATH.", {
        yaml: "mcp.discovery_extra_headers", flag: "mcp.discovery-extra-headers",
        alias: "mcp-discovery-extra-headers", variable: "MCP_DISCOVERY_EXTRA_HEADERS",
        kind: Kind::Headers, reference: Reference::Header, secrecy: Secrecy::MayEmbed,
    }
    MCP_STARTUP_WAIT_TIMEOUT, "How long the first poll waits for the MCP probe; 0s does not wait.", {
        yaml: "mcp.startup_wait_timeout", flag: "mcp.startup-wait-timeout",
        variable: "MCP_STARTUP_WAIT_TIMEOUT", kind: Kind::Duration, default: "0s",
    }
    MCP_CONNECTION_MAX_TTL, "Longest life of one exchange with an MCP server.", {
        yaml: "mcp.connection_max_ttl", flag: "mcp.connection-max-ttl",
        variable: "MCP_CONNECTION_MAX_TTL", kind: Kind::Duration, default: "10m",
    }
    MCP_MAX_CONCURRENT_REQUESTS, "Commands executed at the same time.", {
        yaml: "mcp.max_concurrent_requests", flag: "mcp.max-concurrent-requests",
        variable: "MCP_MAX_CONCURRENT_REQUESTS", kind: Kind::Integer, default: "10",
    }
    MCP_MAX_MESSAGE_BYTES, "Longest reply body, event or line of an MCP server in bytes, at least 1024.", {
        yaml: "mcp.max_message_bytes", flag: "mcp.max-message-bytes", variable: "MCP_MAX_MESSAGE_BYTES",
        kind: Kind::Integer, default: "67108864",
    }
    MCP_PROTOCOL_BRIDGE, "Bridge between protocol eras: auto or off.", {
        yaml: "mcp.protocol_bridge", flag: "mcp.protocol-bridge", variable: "MCP_PROTOCOL_BRIDGE",
        default: "auto",
    }
    MCP_PROTOCOL_PROBE_TIMEOUT, "How long a server may take to show its protocol era, 100ms to 60s.", {
        yaml: "mcp.protocol_probe_timeout", flag: "mcp.protocol-probe-timeout",
        variable: "MCP_PROTOCOL_PROBE_TIMEOUT", kind: Kind::Duration, default: "5s",
    }
    MCP_HANDSHAKE_TIMEOUT, "How long the handshake with a stdio server may take, 1s to 10m.", {
        yaml: "mcp.handshake_timeout", flag: "mcp.handshake-timeout", variable: "MCP_HANDSHAKE_TIMEOUT",
        kind: Kind::Duration, default: "30s",
    }
    MCP_STDIO_LIFECYCLE, "Care for the handshake of stdio servers: auto or off.", {
        yaml: "mcp.stdio_lifecycle", flag: "mcp.stdio-lifecycle", variable: "MCP_STDIO_LIFECYCLE",
        default: "auto",
    }
    MCP_STDIO_SEND_INITIALIZED, "Accepted for compatibility; has no effect.", {
        flag: "mcp.stdio-send-initialized-notification", kind: Kind::Bool, default: "false",
    }

    HARPOON_TARGETS, "Allow-listed HTTP target: label=LABEL,url=URL[,unix-socket=PATH][,desc=TEXT].", {
        yaml: "harpoon.targets", flag: "harpoon.target", variable: "HARPOON_TARGETS",
        kind: Kind::Entries(Separator::SemicolonOrLine, TARGET_FIELDS), reference: Reference::Entry,
        secrecy: Secrecy::MayEmbed,
    }
    HARPOON_ALLOW_PLAINTEXT_HTTP, "Accept http targets.", {
        yaml: "harpoon.allow_plaintext_http", flag: "harpoon.allow-plaintext-http",
        variable: "HARPOON_ALLOW_PLAINTEXT_HTTP", kind: Kind::Bool, default: "false",
    }
    HARPOON_MAX_RESPONSE_BYTES, "Longest response handed on in bytes, 1 to 102400.", {
        yaml: "harpoon.max_response_bytes", flag: "harpoon.max-response-bytes",
        variable: "HARPOON_MAX_RESPONSE_BYTES", kind: Kind::Integer, default: "102400",
    }
    HARPOON_MAX_REDIRECTS, "Redirects followed, 0 to 5.", {
        yaml: "harpoon.max_redirects", flag: "harpoon.max-redirects", variable: "HARPOON_MAX_REDIRECTS",
        kind: Kind::Integer, default: "5",
    }
    HARPOON_HTTP_PROXY, "Proxy for allow-listed targets (http or https URL, or env:NAME).", {
        yaml: "harpoon.http_proxy", flag: "harpoon.http-proxy", variable: "HARPOON_HTTP_PROXY",
        reference: Reference::Proxy, secrecy: Secrecy::MayEmbed, empty_flag_counts: true,
    }
    HARPOON_ADDITIONAL_TRANSPORTS, "Further way to reach the embedded caller; only http-streamable exists.", {
        yaml: "harpoon.additional_transports", flag: "harpoon.additional-transport",
        variable: "HARPOON_ADDITIONAL_TRANSPORTS", kind: Kind::List(Separator::SemicolonOrLine),
    }
    HARPOON_CAPTURE_PAYLOADS, "Show request and response bodies in the web UI.", {
        yaml: "harpoon.capture_payloads", flag: "harpoon.capture-payloads",
        variable: "HARPOON_CAPTURE_PAYLOADS", kind: Kind::Bool, default: "false",
    }
    HARPOON_HOSTS_INCLUDE_SUFFIX, "Host suffix that counts as private.", {
        yaml: "harpoon.hosts_include_suffix", flag: "harpoon.hosts-include-suffix",
        variable: "HARPOON_HOSTS_INCLUDE_SUFFIX", kind: Kind::List(Separator::SemicolonOrLine),
    }
    HARPOON_HOSTS_INCLUDE_REGEX, "Host pattern that counts as private (regular expression).", {
        yaml: "harpoon.hosts_include_regex", flag: "harpoon.hosts-include-regex",
        variable: "HARPOON_HOSTS_INCLUDE_REGEX", kind: Kind::List(Separator::SemicolonOrLine),
    }
    HARPOON_HOSTS_INCLUDE_LOOPBACK, "Count loopback hosts as private.", {
        yaml: "harpoon.hosts_include_loopback", flag: "harpoon.hosts-include-loopback",
        variable: "HARPOON_HOSTS_INCLUDE_LOOPBACK", kind: Kind::Bool, default: "true",
    }
    HARPOON_HOSTS_INCLUDE_PRIVATE, "Count hosts in private address ranges as private.", {
        yaml: "harpoon.hosts_include_private", flag: "harpoon.hosts-include-private",
        variable: "HARPOON_HOSTS_INCLUDE_PRIVATE", kind: Kind::Bool, default: "true",
    }

    CLOUDFLARED_TOKEN, "Token of the cloudflared companion as env:NAME or file:PATH; the companion is not part of this client.", {
        yaml: "cloudflared.token", flag: "cloudflared.token", variable: "CLOUDFLARED_TUNNEL_TOKEN",
        reference: Reference::Token, secrecy: Secrecy::Secret, empty_variable_counts: true,
    }
    CLOUDFLARED_MANAGED, "Fetch the companion's token from the control plane; the companion is not part of this client.", {
        yaml: "cloudflared.managed", flag: "cloudflared.managed", variable: "CLOUDFLARED_MANAGED",
        kind: Kind::Bool, default: "false",
    }
    CLOUDFLARED_PATH, "Executable of the companion.", {
        yaml: "cloudflared.path", flag: "cloudflared.path", variable: "CLOUDFLARED_PATH",
    }
    CLOUDFLARED_READY_TIMEOUT, "How long the companion's start may take.", {
        yaml: "cloudflared.ready_timeout", flag: "cloudflared.ready-timeout",
        variable: "CLOUDFLARED_READY_TIMEOUT", kind: Kind::Duration, default: "30s",
    }
}

/// Switch of `run` that starts the demo server and binds `main` to it.
pub const EMBEDDED_STUB: &str = "embedded-mcp-stub";

/// The flags that `run` has besides the settings.
pub static RUN_FLAGS: &[OwnFlag] = &[
    OwnFlag {
        name: EMBEDDED_STUB,
        kind: Kind::Bool,
        default: "false",
        help: "Start a demo MCP and OAuth server in this process and bind channel main to it.",
    },
    OwnFlag {
        name: "embedded-mcp-listen-addr",
        kind: Kind::Text,
        default: "127.0.0.1:0",
        help: "Address of the demo server.",
    },
    OwnFlag {
        name: "embedded-mcp-server-name",
        kind: Kind::Text,
        default: "mcp-stub",
        help: "Name that the demo server gives itself.",
    },
    OwnFlag {
        name: "embedded-mcp-server-version",
        kind: Kind::Text,
        default: "0.1.0",
        help: "Version that the demo server gives itself.",
    },
];

/// The settings that the admin commands share with `run`; without the dash aliases.
pub static ADMIN: &[&Setting] = &[
    &Setting { alias: "", ..CONTROL_PLANE_BASE_URL },
    &Setting { alias: "", ..CONTROL_PLANE_URL_PATH },
    &CA_BUNDLE,
];

/// The flags that all admin commands have besides these settings.
pub static ADMIN_FLAGS: &[OwnFlag] = &[
    OwnFlag {
        name: "admin-key",
        kind: Kind::Text,
        default: "",
        help: "Admin API key as env:NAME or file:PATH; OPENAI_ADMIN_KEY is used without it.",
    },
    OwnFlag { name: "json", kind: Kind::Bool, default: "false", help: "Print JSON." },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_flag_variable_or_document_key_is_declared_twice() {
        for column in
            [|s: &Setting| vec![s.flag, s.alias], |s: &Setting| vec![s.variable], |s: &Setting| vec![s.yaml]]
        {
            let mut names: Vec<&str> =
                ALL.iter().flat_map(|s| column(s)).filter(|name| !name.is_empty()).collect();
            let all = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), all);
        }
    }

    #[test]
    fn exactly_fourteen_flags_have_a_dash_alias() {
        let aliases: Vec<_> = ALL.iter().filter(|s| !s.alias.is_empty()).collect();
        assert_eq!(aliases.len(), 14);
        for setting in aliases {
            assert_eq!(setting.alias, setting.flag.replace('.', "-"));
        }
    }

    #[test]
    fn flags_and_variables_lead_to_their_setting() {
        assert_eq!(by_flag("mcp-command").map(|s| s.flag), Some("mcp.command"));
        assert_eq!(by_flag("log-level").map(|s| s.flag), None);
        assert_eq!(by_flag("").map(|s| s.flag), None);
        assert_eq!(by_variable("MCP_COMMAND").map(|s| s.flag), Some("mcp.command"));
    }
}
