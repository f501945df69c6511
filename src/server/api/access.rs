//! Who may do what: keys, what they grant, and the tunnels they are measured against.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use ring::digest::{SHA256, digest};

use super::error::code;
use super::record::{Principals, Record, share};
use crate::ids::TunnelId;
use crate::server::engine::same;

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyKind {
    /// The daemon beside a private server.
    Runtime,
    /// Managing tunnels.
    Admin,
}

/// The SHA-256 of a key; the key itself is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyDigest([u8; 32]);

impl KeyDigest {
    /// The digest of `secret`.
    pub(crate) fn of(secret: &[u8]) -> KeyDigest {
        let mut bytes = [0u8; 32];
        bytes.copy_from_slice(digest(&SHA256, secret).as_ref());
        KeyDigest(bytes)
    }

    /// Takes a digest that was made elsewhere.
    pub(crate) fn from_bytes(bytes: [u8; 32]) -> KeyDigest {
        KeyDigest(bytes)
    }

    /// Whether they are equal, in constant time.
    fn matches(&self, other: &KeyDigest) -> bool {
        same(&self.0, &other.0)
    }
}

/// Tunnels a key may use whatever their principals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Grants {
    /// All of them.
    All,
    /// These.
    Only(BTreeSet<String>),
}

/// One key.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    /// As configured, for records and logs.
    pub(crate) name: String,
    pub(crate) digest: KeyDigest,
    pub(crate) kind: KeyKind,
    /// Read: records and metadata.
    pub(crate) read: bool,
    /// Manage: create, change, delete.
    pub(crate) write: bool,
    /// Use: poll, respond.
    pub(crate) use_: bool,
    pub(crate) principals: Principals,
    pub(crate) grants: Grants,
}

/// Everything that a reload replaces at once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Access {
    pub(crate) keys: Vec<Key>,
    /// Keys of `X-Tunnel-Connector-Key`.
    pub(crate) connector_keys: Vec<KeyDigest>,
    pub(crate) records: HashMap<TunnelId, Arc<Record>>,
}

/// What a request needs of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Poll, respond, fetch run-time material.
    Use,
    /// See a tunnel's record.
    View,
}

impl Access {
    /// The key that `authorization` names, which must be exactly `Bearer <key>`.
    pub(super) fn key(&self, authorization: &[u8]) -> Option<&Key> {
        let secret = authorization.strip_prefix(b"Bearer ")?;
        let given = KeyDigest::of(secret);
        // All are compared, so that the time does not tell which one matched.
        let matches = |key: &&Key| key.digest.matches(&given);
        self.keys.iter().fold(None, |found, key| if matches(&key) { Some(key) } else { found })
    }

    /// Whether `secret` is a connector's key.
    pub(super) fn is_connector(&self, secret: &[u8]) -> bool {
        let given = KeyDigest::of(secret);
        self.connector_keys.iter().fold(false, |found, key| key.matches(&given) | found)
    }

    /// Whether `key` may do `need` on the tunnel, `organization` being the active one; else the code to
    /// answer with. A tunnel that does not exist is like one that must not be used.
    pub(super) fn check(
        &self,
        key: &Key,
        need: Need,
        tunnel: &TunnelId,
        organization: Option<&str>,
    ) -> Result<&Arc<Record>, &'static str> {
        let able = match need {
            Need::Use => key.kind == KeyKind::Runtime && key.use_,
            Need::View => key.read || key.use_ || (key.kind == KeyKind::Admin && key.write),
        };
        if !able {
            return Err(code::USE_FORBIDDEN);
        }
        let record = self.records.get(tunnel);
        if let Some(record) = record.filter(|_| key.is_granted(tunnel)) {
            return Ok(record);
        }
        let Principals { organizations, workspaces, tenants } = &key.principals;
        if key.principals.is_empty() && !key.is_granted_any() {
            return Err(code::MISSING_PRINCIPALS);
        }
        let belongs = |ids: &[String], active: &str| ids.iter().any(|id| id == active);
        if organization.is_some_and(|active| !belongs(organizations, active)) {
            return Err(code::USE_FORBIDDEN);
        }
        let record = record.ok_or(code::USE_FORBIDDEN)?;
        let theirs = &record.principals;
        // Administrators name the organizations in what they send.
        let needs_one = key.kind == KeyKind::Runtime && organizations.len() > 1;
        if organization.is_none() && needs_one && !theirs.organizations.is_empty() {
            return Err(code::ORGANIZATION_REQUIRED);
        }
        let shares_organization = match organization {
            Some(active) => belongs(&theirs.organizations, active),
            None => share(organizations, &theirs.organizations),
        };
        let shares =
            shares_organization || share(workspaces, &theirs.workspaces) || share(tenants, &theirs.tenants);
        if shares { Ok(record) } else { Err(code::USE_FORBIDDEN) }
    }
}

impl Key {
    /// Whether it may manage tunnels of these principals.
    pub(super) fn manages(&self, principals: &Principals) -> bool {
        self.grants_all() || self.principals.cover(principals)
    }

    /// Whether it may do with every tunnel what it may do at all.
    pub(super) fn grants_all(&self) -> bool {
        self.grants == Grants::All
    }

    /// Whether it has been given this tunnel by name.
    pub(super) fn is_granted(&self, tunnel: &TunnelId) -> bool {
        match &self.grants {
            Grants::All => true,
            Grants::Only(tunnels) => tunnels.contains(tunnel.as_str()),
        }
    }

    /// Whether it has been given any tunnel by name.
    pub(super) fn is_granted_any(&self) -> bool {
        self.grants != Grants::Only(BTreeSet::new())
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::Keeper;
    use super::*;

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn tunnel() -> TunnelId {
        TunnelId::parse("tunnel_0123456789abcdef0123456789abcdef").unwrap()
    }

    fn key(organizations: &[&str]) -> Key {
        Key {
            name: "k".into(),
            digest: KeyDigest::of(b"k"),
            kind: KeyKind::Runtime,
            read: true,
            write: false,
            use_: true,
            principals: Principals { organizations: list(organizations), ..Principals::default() },
            grants: Grants::Only(BTreeSet::new()),
        }
    }

    fn access(organizations: &[&str], workspaces: &[&str]) -> Access {
        let record = Record {
            id: tunnel(),
            name: "n".into(),
            description: "d".into(),
            creator: "c".into(),
            principals: Principals {
                organizations: list(organizations),
                workspaces: list(workspaces),
                tenants: Vec::new(),
            },
            created_at: String::new(),
            updated_at: String::new(),
            response_timeout: None,
            affinity: None,
            keeper: Keeper::Configuration,
        };
        Access { records: [(tunnel(), Arc::new(record))].into(), ..Access::default() }
    }

    #[test]
    fn use_needs_a_runtime_key_with_the_atom_and_a_shared_principal() {
        let access = access(&["org_a"], &["ws_1"]);
        let check =
            |key: &Key, organization| access.check(key, Need::Use, &tunnel(), organization).map(|_| ());
        assert_eq!(check(&key(&["org_a"]), None), Ok(()));
        assert_eq!(check(&key(&["org_b"]), None), Err(code::USE_FORBIDDEN));
        assert_eq!(check(&key(&[]), None), Err(code::MISSING_PRINCIPALS));
        assert_eq!(check(&key(&["org_a", "org_b"]), None), Err(code::ORGANIZATION_REQUIRED));
        assert_eq!(check(&key(&["org_a", "org_b"]), Some("org_a")), Ok(()));
        assert_eq!(check(&key(&["org_a", "org_b"]), Some("org_b")), Err(code::USE_FORBIDDEN));
        assert_eq!(check(&key(&["org_a"]), Some("org_x")), Err(code::USE_FORBIDDEN));
        let workspace = Key {
            principals: Principals { workspaces: list(&["ws_1"]), ..Principals::default() },
            ..key(&[])
        };
        assert_eq!(check(&workspace, None), Ok(()));
        assert_eq!(check(&Key { kind: KeyKind::Admin, ..key(&["org_a"]) }, None), Err(code::USE_FORBIDDEN));
        assert_eq!(check(&Key { use_: false, ..key(&["org_a"]) }, None), Err(code::USE_FORBIDDEN));
        let granted = Key { grants: Grants::Only(set(&[tunnel().as_str()])), ..key(&[]) };
        assert_eq!(check(&granted, None), Ok(()));
    }

    #[test]
    fn a_record_is_seen_with_either_atom_and_with_neither_forbidden() {
        let access = access(&["org_a"], &[]);
        let check = |key: &Key| access.check(key, Need::View, &tunnel(), None).map(|_| ());
        assert_eq!(check(&Key { read: false, ..key(&["org_a"]) }), Ok(()));
        assert_eq!(check(&Key { use_: false, ..key(&["org_a"]) }), Ok(()));
        assert_eq!(check(&Key { use_: false, read: false, ..key(&["org_a"]) }), Err(code::USE_FORBIDDEN));
        let unknown = TunnelId::parse("tunnel_zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz").unwrap();
        assert_eq!(
            access.check(&key(&["org_a"]), Need::View, &unknown, None).unwrap_err(),
            code::USE_FORBIDDEN
        );
    }

    #[test]
    fn the_authorization_is_taken_to_the_letter() {
        let access = Access { keys: vec![key(&[])], ..Access::default() };
        assert!(access.key(b"Bearer k").is_some());
        for bad in
            ["", "k", "Bearer", "Bearer ", "bearer k", "Bearer  k", "Bearer k x", "Bearer k ", "Basic k"]
        {
            assert!(access.key(bad.as_bytes()).is_none(), "{bad:?}");
        }
    }
}
