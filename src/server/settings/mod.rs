//! Settings of a standalone server: from a document, or from a few flags for a single tunnel.
//!
//! Everything is checked before anything is opened; an error names the setting and what to write instead.

mod build;
mod document;
mod reference;
mod units;

use std::fmt;
use std::net::ToSocketAddrs;
use std::path::PathBuf;
use std::time::Duration;

use self::document::Document;
use super::api::{Access, IngressAuth, Network, Options, PublicUrl, Serves};
use super::engine::Limits;
use super::store::Store;
use crate::ids::TunnelId;
use crate::net::front::{ListenAt, TlsFiles};

/// Why settings cannot be used; one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsError(String);

impl SettingsError {
    pub(super) fn new(text: impl Into<String>) -> SettingsError {
        SettingsError(text.into())
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SettingsError {}

/// One listener of a server.
#[derive(Clone, Debug)]
pub(super) struct ListenerConfig {
    pub(super) at: ListenAt,
    pub(super) serves: Serves,
    pub(super) tls: Option<TlsFiles>,
}

/// A tunnel and the bounds it gets.
#[derive(Clone, Debug)]
pub(super) struct TunnelConfig {
    pub(super) id: TunnelId,
    pub(super) limits: Limits,
}

/// Checked settings of a standalone server, keys and tunnel records included.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    pub(super) listeners: Vec<ListenerConfig>,
    pub(super) options: Options,
    pub(super) connections: usize,
    pub(super) tunnels: Vec<TunnelConfig>,
    pub(super) access: Access,
    pub(super) store: Option<Store>,
    /// Bounds of tunnels that have none of their own.
    pub(super) limits: Limits,
}

/// What the flags of a single-tunnel server say.
#[derive(Clone, Debug)]
pub struct SimpleOptions {
    /// Where everything is served.
    pub listen: ListenAt,
    /// The tunnels, all with the same key.
    pub tunnels: Vec<TunnelId>,
    /// `env:NAME`, `file:/path` or `sha256:<digest>` of the clients' key.
    pub api_key: String,
    /// The same for a key that manages tunnels; without one nobody does.
    pub admin_key: Option<String>,
    /// File that keeps the tunnels that are managed.
    pub store: Option<PathBuf>,
    /// The same for the connectors' key; without one the ingress is open.
    pub connector_key: Option<String>,
    /// Certificate chain and key, PEM.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Serve an open ingress to other hosts.
    pub allow_open_ingress: bool,
    /// Instead of what the `Host` header says.
    pub public_base_url: Option<String>,
    /// Path that everything is served under.
    pub path_prefix: String,
    /// Defaults to 120 s.
    pub response_timeout: Option<Duration>,
    /// Defaults to 20 s.
    pub client_last_seen_timeout: Option<Duration>,
    /// Commands that may wait for the client; defaults to 1000.
    pub queue_max: Option<usize>,
    /// Connections at a time; defaults to 2048.
    pub connections: Option<usize>,
}

impl ServerConfig {
    /// Reads and checks a document; keys are read from where it says they are. With
    /// `allow_open_ingress` connectors of other hosts may call without a credential.
    pub fn from_yaml(text: &str, allow_open_ingress: bool) -> Result<ServerConfig, SettingsError> {
        let document: Document = serde_saphyr::from_str(text)
            .map_err(|error| SettingsError::new(format!("the configuration cannot be read: {error}")))?;
        build::from_document(document, allow_open_ingress)
    }

    /// Connections served at a time.
    pub fn connections(&self) -> usize {
        self.connections
    }

    /// Checks what flags said.
    pub fn simple(options: SimpleOptions) -> Result<ServerConfig, SettingsError> {
        build::simple(options)
    }
}

/// Reads an address: `host:port`, or `unix:/path`.
pub fn parse_listen(text: &str) -> Result<ListenAt, SettingsError> {
    if let Some(path) = text.strip_prefix("unix:") {
        return if path.is_empty() {
            Err(SettingsError::new("a Unix socket needs a path, like unix:/run/tunnel/server.sock"))
        } else {
            Ok(ListenAt::Unix(PathBuf::from(path)))
        };
    }
    let bad = |reason: String| SettingsError::new(format!("cannot listen on {text:?}: {reason}"));
    let mut addresses =
        text.to_socket_addrs().map_err(|error| bad(format!("{error}; write it like 127.0.0.1:8080")))?;
    addresses.next().map(ListenAt::Tcp).ok_or_else(|| bad("the name has no address".to_owned()))
}

/// Whether only this host reaches it.
fn is_local(at: &ListenAt) -> bool {
    match at {
        ListenAt::Tcp(address) => address.ip().is_loopback(),
        ListenAt::Unix(_) => true,
    }
}

fn networks(texts: &[String]) -> Result<Vec<Network>, SettingsError> {
    let parse = |text: &String| {
        text.parse().map_err(|error| SettingsError::new(format!("trusted_proxies holds {text:?}: {error}")))
    };
    texts.iter().map(parse).collect()
}

fn public_url(base: Option<&str>, proxies: Vec<Network>, prefix: &str) -> Result<PublicUrl, SettingsError> {
    let base = base.map(str::trim).filter(|base| !base.is_empty());
    if let Some(base) = base {
        let url = url::Url::parse(base).ok();
        let usable = url.is_some_and(|url| {
            matches!(url.scheme(), "http" | "https") && url.host().is_some() && url.query().is_none()
        });
        if !usable {
            let text = format!("public_base_url {base:?} is no URL like https://tunnels.example.com");
            return Err(SettingsError::new(text));
        }
    }
    let base = base.map(|base| base.trim_end_matches('/').to_owned());
    Ok(PublicUrl { base, trusted_proxies: proxies, path_prefix: prefix.to_owned() })
}

fn path_prefix(text: &str) -> Result<String, SettingsError> {
    let prefix = text.trim().trim_end_matches('/');
    let plain = |b: u8| b.is_ascii_graphic() && !b"?#%\"<>\\".contains(&b);
    if prefix.is_empty() || (prefix.starts_with('/') && prefix.bytes().all(plain)) {
        Ok(prefix.to_owned())
    } else {
        Err(SettingsError::new(format!("path_prefix {text:?} is no path like /gateway")))
    }
}

/// Refuses an ingress that other hosts reach without a credential.
fn check_ingress(
    listeners: &[ListenerConfig],
    auth: IngressAuth,
    allow_open_ingress: bool,
) -> Result<(), SettingsError> {
    let reachable = listeners.iter().find(|listener| listener.serves.connector && !is_local(&listener.at));
    match reachable {
        Some(listener) if auth == IngressAuth::None && !allow_open_ingress => {
            Err(SettingsError::new(format!(
                "connectors could call {} without a credential; set a connector key, listen on the loopback, \
             or give --allow-open-ingress",
                listener.at
            )))
        }
        _ => Ok(()),
    }
}

/// Reads a duration like `120s`, `300ms` or `1m30s`.
pub fn parse_duration(text: &str) -> Result<Duration, SettingsError> {
    let span = units::Span::parse(text).filter(|span| !span.0.is_zero());
    span.map(|span| span.0)
        .ok_or_else(|| SettingsError::new(format!("{text:?} is no duration; write it like 120s or 1m30s")))
}
