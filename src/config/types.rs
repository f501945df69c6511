//! The configuration as the rest of the program sees it.

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use crate::ids::{Channel, TunnelId};
use crate::net::HeaderList;
use crate::secret::Secret;

/// Everything `run` needs, validated.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the document came from, for diagnostics.
    pub document: Document,
    /// PEM file whose certificates are trusted besides the system's.
    pub ca_bundle: Option<PathBuf>,
    /// The control plane's settings.
    pub control_plane: ControlPlane,
    /// Logging.
    pub log: Log,
    /// The local listener.
    pub health: Health,
    /// The local web UI.
    pub admin_ui: AdminUi,
    /// Where to write the process id.
    pub pid_file: Option<PathBuf>,
    /// The MCP servers.
    pub mcp: Mcp,
    /// The embedded caller of allow-listed HTTP targets.
    pub harpoon: Harpoon,
    /// The companion's settings: validated, then refused.
    pub cloudflared: Cloudflared,
    /// Time between two checks of a proxy.
    pub proxy_check_interval: Duration,
    /// Environment variables from which one of our own secrets was read; children do not inherit them.
    pub secret_variables: Vec<String>,
    /// Things the operator should know; logged right after loading.
    pub warnings: Vec<String>,
}

/// Origin of the document of this run.
#[derive(Clone, Debug, Default)]
pub struct Document {
    /// The file that was read.
    pub path: Option<PathBuf>,
    /// Profile name, when a profile was selected.
    pub profile_name: Option<String>,
    /// Directory of the profile.
    pub profile_dir: Option<PathBuf>,
    /// Whether the profile was given as a file.
    pub from_profile_file: bool,
    /// The document's exact bytes, for the (redacted) support bundle.
    pub bytes: Option<Secret<Vec<u8>>>,
}

/// `control_plane.*`
#[derive(Clone, Debug)]
pub struct ControlPlane {
    /// Scheme, host and port; already switched to the mTLS host where that applies. No path.
    pub base_url: Url,
    /// Decoded path between the host and `/v1/…`; empty for none, else with a leading slash.
    pub url_path: String,
    /// The tunnel this client serves.
    pub tunnel_id: TunnelId,
    /// Sent as `OpenAI-Organization`.
    pub organization_id: Option<String>,
    /// Sent as bearer token.
    pub api_key: Secret<String>,
    /// The reference that the key came from (`env:NAME`, `file:PATH`), or `configured`.
    pub api_key_source: String,
    /// Client certificate for the control plane.
    pub client_certificate: Option<CertificatePair>,
    /// Effective proxy (own or global setting).
    pub proxy: ProxySetting,
    /// Capacity of the queue of waiting commands.
    pub max_inflight: usize,
    /// How long the control plane may hold a poll.
    pub poll_timeout: Duration,
    /// Added to it before a request is given up.
    pub poll_deadline_guardrail: Duration,
    /// Allow-list of channels, sorted; `None` polls for all.
    pub poll_channels: Option<Vec<Channel>>,
    /// Added to every control-plane request.
    pub extra_headers: HeaderList,
}

/// Paths of a PEM certificate chain and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificatePair {
    /// Leaf first.
    pub certificate: PathBuf,
    /// PKCS#1, SEC1 or PKCS#8.
    pub key: PathBuf,
}

/// The proxy an operator set for some traffic.
#[derive(Clone, Debug)]
pub enum ProxySetting {
    /// Nothing set: the process's `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` decide.
    Environment,
    /// A fixed proxy; `NO_PROXY` does not matter.
    Fixed {
        /// `http` or `https`, may hold user info.
        url: Secret<Url>,
        /// Which setting supplied it, as shown in logs (`http-proxy`, `env:NAME`, …).
        source: String,
    },
}

/// `log.*`
#[derive(Clone, Debug)]
pub struct Log {
    /// Lowest level that is written.
    pub level: LogLevel,
    /// `None` is the plain format on stderr.
    pub format: Option<LogFormat>,
    /// Written to instead of a standard stream.
    pub file: Option<PathBuf>,
    /// Dump whole HTTP messages at debug level, credentials included.
    pub http_raw_unsafe: bool,
}

/// Levels of log events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum LogLevel {
    Debug,
    Info,
    Warn,
    Error,
}

/// Formats of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// `key=value` pairs.
    StructText,
    /// One JSON object a line.
    Json,
}

/// `health.*`
#[derive(Clone, Debug)]
pub struct Health {
    /// `host:port`; an empty host means all interfaces, port 0 an ephemeral one.
    pub listen_addr: String,
    /// Listens here instead, when set.
    pub unix_socket: Option<PathBuf>,
    /// Where to write the base URL.
    pub url_file: Option<PathBuf>,
}

/// `admin_ui.*`
#[derive(Clone, Debug)]
pub struct AdminUi {
    /// Serve the UI to peers beyond loopback.
    pub allow_remote: bool,
    /// Open the UI in a browser at start.
    pub open_browser: bool,
    /// Log events kept for the UI.
    pub log_buffer_events: usize,
}

/// `mcp.*`
#[derive(Clone, Debug)]
pub struct Mcp {
    /// One per channel, HTTP entries first, in configuration order. Bindings that the poll-channel
    /// allow-list leaves out stay in the list.
    pub bindings: Vec<McpBinding>,
    /// Set on every request to a binding's origin and path.
    pub extra_headers: HeaderList,
    /// Set on discovery requests to a binding's origin.
    pub discovery_extra_headers: HeaderList,
    /// How long the first poll waits for the startup probe; zero is off.
    pub startup_wait_timeout: Duration,
    /// Longest life of one exchange.
    pub connection_max_ttl: Duration,
    /// Workers.
    pub max_concurrent_requests: usize,
    /// Longest MCP reply body, SSE event or stdio line, in bytes.
    pub max_message_bytes: usize,
    /// Whether messages of one protocol era are bridged to servers of the other.
    pub protocol_bridge: Switch,
    /// How long a server may take to show its era.
    pub protocol_probe_timeout: Duration,
    /// How long a handshake with a stdio server may take.
    pub handshake_timeout: Duration,
    /// Whether the client cares for the handshake of stdio servers.
    pub stdio_lifecycle: Switch,
    /// The compatibility flag of that name was given; it has no effect but one line in the log.
    pub stdio_send_initialized_notification: bool,
}

/// A behaviour that is on unless switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// On where it is needed.
    Auto,
    /// Off.
    Off,
}

/// One MCP server and its channel.
#[derive(Clone, Debug)]
pub struct McpBinding {
    /// The channel it serves.
    pub channel: Channel,
    /// How it is reached.
    pub target: McpTarget,
    /// Translate messages of the era that it does not speak.
    pub protocol_bridge: Switch,
}

/// How an MCP server is reached.
#[expect(clippy::large_enum_variant, reason = "a handful of values, made once")]
#[derive(Clone, Debug)]
pub enum McpTarget {
    /// Streamable HTTP.
    Http {
        /// Endpoint; may hold user info.
        url: Url,
        /// Dialled instead of the URL's host; excludes every proxy.
        unix_socket: Option<PathBuf>,
        /// Effective proxy (entry, MCP default or global).
        proxy: ProxySetting,
        /// Effective client certificate (entry or MCP default).
        client_certificate: Option<CertificatePair>,
    },
    /// A child process.
    Stdio {
        /// The command line as written, for display.
        command: String,
        /// Its words; never empty.
        argv: Vec<String>,
    },
}

/// `harpoon.*`
#[derive(Clone, Debug)]
pub struct Harpoon {
    /// The allow-list.
    pub targets: Vec<HarpoonTarget>,
    /// Accept `http` targets.
    pub allow_plaintext_http: bool,
    /// Longest response body handed on, in bytes.
    pub max_response_bytes: usize,
    /// Redirects followed.
    pub max_redirects: usize,
    /// Effective proxy (own or global setting).
    pub proxy: ProxySetting,
    /// Serve the callouts over HTTP on the local listener as well.
    pub http_streamable: bool,
    /// Show request and response bodies in the local UI.
    pub capture_payloads: bool,
    /// Host suffixes, lower-case, without leading dot.
    pub hosts_include_suffix: Vec<String>,
    /// Host patterns.
    pub hosts_include_regex: Vec<String>,
    /// Include loopback hosts.
    pub hosts_include_loopback: bool,
    /// Include private hosts.
    pub hosts_include_private: bool,
}

/// One allow-listed target.
#[derive(Clone, Debug)]
pub struct HarpoonTarget {
    /// Its name.
    pub label: String,
    /// Its URL, as the URL standard reads it.
    pub url: Url,
    /// The same exactly as it was written: what the allow-list compares.
    pub spelled: String,
    /// Dialled instead of the URL's host.
    pub unix_socket: Option<PathBuf>,
    /// For humans.
    pub description: String,
}

/// `cloudflared.*`
#[derive(Clone, Debug)]
pub struct Cloudflared {
    /// Static token.
    pub token: Option<Secret<String>>,
    /// Fetch the token from the control plane.
    pub managed: bool,
    /// Executable.
    pub path: Option<PathBuf>,
    /// How long its start may take.
    pub ready_timeout: Duration,
}
