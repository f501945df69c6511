//! The admin API: what an operator may ask a running client, as JSON, and the live event stream.
//!
//! [`Admin`] makes the documents, [`AdminRoutes`] answers with them; the support bundle takes them from
//! [`Admin`] as well. Invariant: every document is redacted and every secret that the process has read
//! is hidden in it, whoever supplied it; log events are redacted before they are stored.

mod channel;
mod document;
mod level;
mod logs;
mod routes;
mod status;
mod stream;
mod system;

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::harpoon::MAX_CALLS;
use crate::net::TrustReport;
use crate::redact::{self, KnownSecrets};

use super::log::LogHandle;
use super::{ProxyHealth, State};

pub(crate) use self::channel::NOT_POLLED;
pub use self::channel::{ChannelReport, ChannelTarget};
pub use self::document::to_text;
pub use self::routes::AdminRoutes;

/// What stays the same while a client runs.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Version of this client.
    pub version: String,
    /// 32 hexadecimal digits.
    pub client_instance_id: String,
    /// Where the local listener is bound; empty if it is closed.
    pub health_listen_addr: String,
    /// Scheme, host and port of the control plane.
    pub control_plane_base_url: String,
    /// The tunnel that is served.
    pub tunnel_id: String,
    /// Capacity of the queue.
    pub max_inflight: usize,
    /// How long the control plane may hold a poll.
    pub poll_timeout: Duration,
    /// Added to it before a poll is given up.
    pub poll_deadline_guardrail: Duration,
    /// The server of channel `main`, if it is reached over HTTP.
    pub mcp_server_url: String,
    /// Where its protected-resource metadata may be, in the order of trying.
    pub resource_metadata_urls: Vec<String>,
    /// Whether whole HTTP messages are logged at debug level.
    pub raw_http_logging: bool,
    /// Whether `harpoon` is on the allow-list of polled channels, or there is no list.
    pub harpoon_polled: bool,
}

/// Makes one document each time it is asked.
pub type Document = Box<dyn Fn() -> Value + Send + Sync>;

/// What the embedded caller of allow-listed targets tells about itself. Each value is one of the
/// documents of `/api/harpoon/…`; redaction is the admin API's business.
pub trait HarpoonReport: Send + Sync {
    /// `enabled`, `reason`?, `capture_payloads`, `allow_plaintext_http`, `max_response_bytes`,
    /// `max_redirects`, `proxy_routes`?
    fn status(&self) -> Value;
    /// `{"targets":[…]}` in the order of registration.
    fn targets(&self) -> Value;
    /// `{"calls":[…]}`, the newest first, `limit` (1 to 100) at most, of target `label` if given.
    fn calls(&self, label: Option<&str>, limit: usize) -> Value;
}

/// Where the documents come from.
pub struct Sources {
    /// What stays the same.
    pub facts: Facts,
    /// Readiness, probe, metadata.
    pub state: Arc<State>,
    /// Routes and their proxies.
    pub proxy_health: Arc<ProxyHealth>,
    /// Level and ring; without it there is neither.
    pub log: Option<LogHandle>,
    /// Values that no document may show.
    pub secrets: KnownSecrets,
    /// The configured channels, without `harpoon`.
    pub channels: Box<dyn Fn() -> Vec<ChannelReport> + Send + Sync>,
    /// Whom TLS trusts.
    pub trust: Box<dyn Fn() -> TrustReport + Send + Sync>,
    /// The document of `/api/oauth`.
    pub oauth: Document,
    /// The documents of `/api/harpoon/…`.
    pub harpoon: Option<Arc<dyn HarpoonReport>>,
}

/// The documents of the admin API.
pub struct Admin(Sources);

impl Admin {
    /// Documents out of `sources`.
    pub fn new(sources: Sources) -> Admin {
        Admin(sources)
    }

    /// `/api/status`.
    pub fn status(&self) -> Value {
        self.shown(status::document(&self.0))
    }

    /// `/api/system`.
    pub fn system(&self) -> Value {
        self.shown(system::document(&self.0))
    }

    /// `/api/oauth`.
    pub fn oauth(&self) -> Value {
        self.whole((self.0.oauth)())
    }

    /// `/api/harpoon/status`.
    pub fn harpoon_status(&self) -> Value {
        self.shown(match &self.0.harpoon {
            Some(harpoon) => harpoon.status(),
            None => serde_json::json!({
                "enabled": false, "reason": "harpoon not initialized", "capture_payloads": false,
                "allow_plaintext_http": false, "max_response_bytes": 0, "max_redirects": 0,
            }),
        })
    }

    /// `/api/harpoon/targets`.
    pub fn harpoon_targets(&self) -> Value {
        let targets = self.0.harpoon.as_ref().map(|harpoon| harpoon.targets());
        self.whole(targets.unwrap_or_else(|| serde_json::json!({ "targets": null })))
    }

    /// `/api/harpoon/calls`; `limit` is cut to 1 to 100.
    pub fn harpoon_calls(&self, label: Option<&str>, limit: usize) -> Value {
        let calls = self.0.harpoon.as_ref().map(|harpoon| harpoon.calls(label, limit.clamp(1, MAX_CALLS)));
        self.whole(calls.unwrap_or_else(|| serde_json::json!({ "calls": null })))
    }

    /// Level and ring of the log.
    pub fn log(&self) -> Option<&LogHandle> {
        self.0.log.as_ref()
    }

    /// Values that nothing shown may hold.
    pub fn secrets(&self) -> &KnownSecrets {
        &self.0.secrets
    }

    fn shown(&self, document: Value) -> Value {
        self.hidden(document, redact::admin_json)
    }

    /// With URLs whole: the operator must see what exactly may be called, and what was asked.
    fn whole(&self, document: Value) -> Value {
        self.hidden(document, redact::calls_json)
    }

    fn hidden(&self, mut document: Value, redacted: fn(&mut Value)) -> Value {
        redacted(&mut document);
        self.0.secrets.hide_in_json(&mut document);
        document
    }
}
