//! `/api/oauth` of a client that discovers nothing itself: what readiness knows of discovery.

use serde_json::Value;

use super::Sources;
use super::document::Members;
use crate::ops::Discovery;

/// Which of the authorization servers counts.
const MODE: &str = "authorization_servers[0] only (source of truth)";

pub(super) fn document(from: &Sources) -> Value {
    let discovery = from.state.discovery().value;
    let (error, source) = match &discovery {
        Discovery::Failed { optional: true, .. } => ("", "not_advertised"),
        Discovery::Failed { error, optional: false } => (error.trim(), ""),
        Discovery::Pending | Discovery::Done => ("", ""),
    };
    let shown = Members::new()
        .with_some("discovery_urls", from.facts.resource_metadata_urls.as_slice())
        .with_some("error", error)
        .with_some("pending", discovery == Discovery::Pending)
        .with_some("metadata_source", source)
        .with("auth_server_metadata_mode", MODE)
        .with("authorization_server_count", 0);
    shown.into()
}
