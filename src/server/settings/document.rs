//! The configuration document, as serde sees it. Unknown keys are errors.

use std::path::PathBuf;

use serde::Deserialize;

use super::reference::KeyReference;
use super::units::{Size, Span};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    pub(super) listeners: Vec<ListenerEntry>,
    pub(super) public_base_url: Option<String>,
    #[serde(default)]
    pub(super) path_prefix: String,
    #[serde(default)]
    pub(super) trusted_proxies: Vec<String>,
    #[serde(default)]
    pub(super) ingress_auth: IngressEntry,
    #[serde(default)]
    pub(super) limits: LimitsEntry,
    pub(super) client_last_seen_timeout: Option<Span>,
    pub(super) affinity: Option<String>,
    pub(super) affinity_lease: Option<Span>,
    #[serde(default)]
    pub(super) queue: QueueEntry,
    pub(super) store: Option<StoreEntry>,
    #[serde(default)]
    pub(super) keys: Vec<KeyEntry>,
    #[serde(default)]
    pub(super) tunnels: Vec<TunnelEntry>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListenerEntry {
    pub(super) addr: String,
    pub(super) serve: Vec<Group>,
    pub(super) tls: Option<TlsEntry>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Group {
    Client,
    Connector,
    Admin,
    Operator,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TlsEntry {
    pub(super) cert: String,
    pub(super) key: String,
    pub(super) client_ca: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct IngressEntry {
    #[serde(default)]
    pub(super) mode: IngressMode,
    #[serde(default)]
    pub(super) keys: Vec<KeyReference>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum IngressMode {
    #[default]
    None,
    Key,
    Mtls,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LimitsEntry {
    pub(super) response_timeout: Option<Span>,
    pub(super) poll_wait_max: Option<Span>,
    pub(super) queue_max: Option<usize>,
    pub(super) queue_bytes: Option<Size>,
    pub(super) request_bytes: Option<Size>,
    pub(super) response_bytes: Option<Size>,
    pub(super) connections: Option<usize>,
    /// Calls of connectors per tunnel.
    pub(super) calls_per_second: Option<f64>,
    /// How many may come at once after a pause.
    pub(super) calls_burst: Option<u32>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct QueueEntry {
    pub(super) backend: Option<String>,
    #[serde(rename = "url")]
    pub(super) _url: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StoreEntry {
    pub(super) path: PathBuf,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyEntry {
    pub(super) name: String,
    pub(super) kind: KeyKindEntry,
    pub(super) secret: KeyReference,
    #[serde(default)]
    pub(super) permissions: Vec<String>,
    #[serde(default)]
    pub(super) organization_ids: Vec<String>,
    #[serde(default)]
    pub(super) workspace_ids: Vec<String>,
    #[serde(default)]
    pub(super) tenant_ids: Vec<String>,
    /// Tunnels that may be used without a shared principal; `*` means all.
    #[serde(default)]
    pub(super) tunnels: Vec<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum KeyKindEntry {
    Runtime,
    Admin,
}

/// A tunnel; the store's records have the same members.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TunnelEntry {
    pub(super) id: String,
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) description: String,
    #[serde(default)]
    pub(super) creator: String,
    #[serde(default)]
    pub(super) organization_ids: Vec<String>,
    #[serde(default)]
    pub(super) workspace_ids: Vec<String>,
    #[serde(default)]
    pub(super) tenant_ids: Vec<String>,
    pub(super) created_at: Option<String>,
    pub(super) updated_at: Option<String>,
    /// Instead of `limits.response_timeout`.
    pub(super) response_timeout: Option<Span>,
    /// Instead of the server's.
    pub(super) affinity: Option<String>,
}

/// The store's file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StoredTunnels {
    #[serde(default)]
    pub(super) tunnels: Vec<TunnelEntry>,
}
