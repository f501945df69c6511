//! Tunnels as their administrators see them.

use serde_json::{Value, json};

use std::time::Duration;

use crate::ids::TunnelId;

/// Organizations, workspaces and tenants, each in the order given and without duplicates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::server) struct Principals {
    pub(in crate::server) organizations: Vec<String>,
    pub(in crate::server) workspaces: Vec<String>,
    pub(in crate::server) tenants: Vec<String>,
}

impl Principals {
    pub(super) fn is_empty(&self) -> bool {
        self.organizations.is_empty() && self.workspaces.is_empty() && self.tenants.is_empty()
    }

    /// Whether all of `others` are among these.
    pub(super) fn cover(&self, others: &Principals) -> bool {
        let all = |mine: &[String], theirs: &[String]| theirs.iter().all(|id| mine.contains(id));
        all(&self.organizations, &others.organizations)
            && all(&self.workspaces, &others.workspaces)
            && all(&self.tenants, &others.tenants)
    }
}

/// Whether the two lists have something in common.
pub(super) fn share(mine: &[String], theirs: &[String]) -> bool {
    mine.iter().any(|id| theirs.contains(id))
}

/// Who keeps a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Keeper {
    /// The configuration: it is changed there.
    Configuration,
    /// The administration, in the store if there is one.
    Administration,
}

/// A tunnel's record.
#[derive(Clone, Debug)]
pub(in crate::server) struct Record {
    pub(in crate::server) id: TunnelId,
    pub(in crate::server) name: String,
    pub(in crate::server) description: String,
    pub(in crate::server) creator: String,
    pub(in crate::server) principals: Principals,
    /// RFC 3339.
    pub(in crate::server) created_at: String,
    pub(in crate::server) updated_at: String,
    /// How long its calls are held, if not as long as those of others; not shown.
    pub(in crate::server) response_timeout: Option<Duration>,
    /// Whether clients own channels, if not as with others; not shown.
    pub(in crate::server) affinity: Option<bool>,
    pub(in crate::server) keeper: Keeper,
}

impl Record {
    /// The record as JSON.
    pub(super) fn to_json(&self) -> Value {
        json!({
            "id": self.id.as_str(),
            "name": self.name,
            "description": self.description,
            "creator": self.creator,
            "organization_ids": self.principals.organizations,
            "workspace_ids": self.principals.workspaces,
            "tenant_ids": self.principals.tenants,
            "created_at": self.created_at,
            "updated_at": self.updated_at,
        })
    }

    /// The record as the store keeps it.
    pub(super) fn to_stored(&self) -> Value {
        let mut stored = self.to_json();
        if let Some(time) = self.response_timeout {
            stored["response_timeout"] = format!("{}ms", time.as_millis()).into();
        }
        if let Some(owned) = self.affinity {
            stored["affinity"] = if owned { "lazy-owner" } else { "off" }.into();
        }
        stored
    }
}
