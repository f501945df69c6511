//! From what was written to what is used.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::document::{
    Document, Group, IngressMode, KeyEntry, KeyKindEntry, LimitsEntry, ListenerEntry, StoredTunnels,
    TlsEntry, TunnelEntry,
};
use super::reference::KeyReference;
use super::units::{Size, Span};
use super::{
    ListenerConfig, ServerConfig, SettingsError, SimpleOptions, TunnelConfig, check_ingress, networks,
    parse_listen, path_prefix, public_url,
};
use crate::ids::TunnelId;
use crate::net::front::TlsFiles;
use crate::server::api::{
    Access, Grants, IngressAuth, Keeper, Key, KeyDigest, KeyKind, Options, Principals, Record, Serves,
};
use crate::server::clock;
use crate::server::engine::{Limits, Rate};
use crate::server::store::Store;

const READ: &str = "api.organization.tunnel.read";
const WRITE: &str = "api.organization.tunnel.write";
const USE: &str = "api.organization.tunnel.use";

/// How long a silent client keeps the channels it owns.
const AFFINITY_LEASE: Duration = Duration::from_secs(10);
/// A server without connections serves nobody; one with very many needs more threads than a host has.
const CONNECTIONS: std::ops::RangeInclusive<usize> = 1..=100_000;

pub(super) fn from_document(
    document: Document,
    allow_open_ingress: bool,
) -> Result<ServerConfig, SettingsError> {
    check_supported(&document)?;
    let listeners = document.listeners.iter().map(listener).collect::<Result<Vec<_>, _>>()?;
    if listeners.is_empty() {
        return Err(SettingsError::new("listeners is empty; name at least one address to serve"));
    }
    let ingress_auth = match document.ingress_auth.mode {
        IngressMode::None => IngressAuth::None,
        IngressMode::Key if document.ingress_auth.keys.is_empty() => {
            return Err(SettingsError::new("ingress_auth.mode is key, but ingress_auth.keys is empty"));
        }
        IngressMode::Key => IngressAuth::Key,
        IngressMode::Mtls => IngressAuth::Mtls,
    };
    let no_authority = |listener: &&ListenerConfig| {
        listener.serves.connector && listener.tls.as_ref().is_none_or(|tls| tls.client_ca.is_none())
    };
    if ingress_auth == IngressAuth::Mtls
        && let Some(listener) = listeners.iter().find(no_authority)
    {
        let text =
            format!("ingress_auth.mode is mtls, but the listener {} has no tls.client_ca", listener.at);
        return Err(SettingsError::new(text));
    }
    check_ingress(&listeners, ingress_auth, allow_open_ingress)?;
    let path_prefix = path_prefix(&document.path_prefix)?;
    let proxies = networks(&document.trusted_proxies)?;
    let public_url = public_url(document.public_base_url.as_deref(), proxies, &path_prefix)?;
    let mut limits = limits(&document.limits, document.client_last_seen_timeout)?;
    let lease = document.affinity_lease.unwrap_or(Span(AFFINITY_LEASE));
    let lease = positive("affinity_lease", lease)?;
    limits.affinity_lease = affinity(document.affinity.as_deref())?.unwrap_or_default().then_some(lease);
    let mut records = HashMap::new();
    let mut tunnels = Vec::new();
    let declared = document.tunnels.into_iter().map(|entry| (entry, Keeper::Configuration));
    let stored = document.store.as_ref().map(|store| read_store(&store.path)).transpose()?;
    let stored = stored.into_iter().flatten().map(|entry| (entry, Keeper::Administration));
    for (entry, keeper) in declared.chain(stored) {
        let (tunnel, record) = tunnel(entry, &limits, lease, keeper)?;
        if records.insert(tunnel.id.clone(), Arc::new(record)).is_some() {
            return Err(SettingsError::new(format!("the tunnel {} is declared twice", tunnel.id)));
        }
        tunnels.push(tunnel);
    }
    let access = Access {
        keys: document.keys.iter().map(key).collect::<Result<_, _>>()?,
        connector_keys: document
            .ingress_auth
            .keys
            .iter()
            .map(|reference| resolve("ingress_auth.keys", reference))
            .collect::<Result<_, _>>()?,
        records,
    };
    let mut options = options(&listeners, ingress_auth);
    options.public_url = public_url;
    options.path_prefix = path_prefix;
    if let Some(Size(bytes)) = document.limits.request_bytes {
        options.request_bytes = bytes;
    }
    if let Some(Size(bytes)) = document.limits.response_bytes {
        options.response_bytes = bytes;
    }
    if let Some(wait) = document.limits.poll_wait_max {
        options.poll_wait_max = positive("limits.poll_wait_max", wait)?;
    }
    let connections = connections(document.limits.connections)?;
    let store = document.store.map(|store| Store::new(store.path));
    Ok(ServerConfig { listeners, options, connections, tunnels, access, store, limits })
}

pub(super) fn simple(simple: SimpleOptions) -> Result<ServerConfig, SettingsError> {
    if simple.tunnels.is_empty() && simple.admin_key.is_none() {
        return Err(SettingsError::new("--tunnel-id is missing; name the tunnel to serve"));
    }
    let tls = simple.tls.map(|(cert, key)| TlsFiles { cert, key, client_ca: None });
    let serves = Serves {
        client: true,
        connector: true,
        operator: true,
        admin: simple.admin_key.is_some(),
        ready: true,
    };
    let listeners = vec![ListenerConfig { at: simple.listen, serves, tls }];
    let ingress_auth = if simple.connector_key.is_some() { IngressAuth::Key } else { IngressAuth::None };
    check_ingress(&listeners, ingress_auth, simple.allow_open_ingress)?;
    let mut entry = LimitsEntry { queue_max: simple.queue_max, ..LimitsEntry::default() };
    entry.response_timeout = simple.response_timeout.map(Span);
    let limits = limits(&entry, simple.client_last_seen_timeout.map(Span))?;
    let flag = |name: &str, text: &str| {
        let reference: KeyReference =
            text.parse().map_err(|error| SettingsError::new(format!("{name} cannot be used: {error}")))?;
        resolve(name, &reference)
    };
    let key = |name: &str, text: &str, kind: KeyKind| {
        Ok::<_, SettingsError>(Key {
            name: name.trim_start_matches('-').to_owned(),
            digest: flag(name, text)?,
            kind,
            read: true,
            write: kind == KeyKind::Admin,
            use_: kind == KeyKind::Runtime,
            principals: Principals::default(),
            grants: Grants::All,
        })
    };
    let mut keys = vec![key("--api-key", &simple.api_key, KeyKind::Runtime)?];
    if let Some(text) = &simple.admin_key {
        keys.push(key("--admin-key", text, KeyKind::Admin)?);
    }
    let connector_keys = match &simple.connector_key {
        None => Vec::new(),
        Some(text) => vec![flag("--connector-key", text)?],
    };
    let mut records: HashMap<_, _> =
        simple.tunnels.iter().map(|id| (id.clone(), Arc::new(plain_record(id)))).collect();
    let path_prefix = path_prefix(&simple.path_prefix)?;
    let mut options = options(&listeners, ingress_auth);
    options.public_url = public_url(simple.public_base_url.as_deref(), Vec::new(), &path_prefix)?;
    options.path_prefix = path_prefix;
    let mut tunnels: Vec<_> =
        simple.tunnels.into_iter().map(|id| TunnelConfig { id, limits: limits.clone() }).collect();
    for entry in simple.store.as_ref().map(|path| read_store(path)).transpose()?.into_iter().flatten() {
        let (tunnel, record) = tunnel(entry, &limits, AFFINITY_LEASE, Keeper::Administration)?;
        // What the flags name is not administered.
        if let Entry::Vacant(place) = records.entry(tunnel.id.clone()) {
            place.insert(Arc::new(record));
            tunnels.push(tunnel);
        }
    }
    Ok(ServerConfig {
        listeners,
        options,
        connections: connections(simple.connections)?,
        tunnels,
        access: Access { keys, connector_keys, records },
        store: simple.store.map(Store::new),
        limits,
    })
}

fn options(listeners: &[ListenerConfig], ingress_auth: IngressAuth) -> Options {
    Options {
        serves: listeners.iter().map(|listener| listener.serves).collect(),
        ingress_auth,
        public_url: super::PublicUrl::default(),
        path_prefix: String::new(),
        request_bytes: 4 << 20,
        response_bytes: 16 << 20,
        poll_limit: 25,
        poll_wait: Duration::from_secs(30),
        poll_wait_max: Duration::from_secs(55),
        tells_commands: true,
    }
}

fn check_supported(document: &Document) -> Result<(), SettingsError> {
    match document.queue.backend.as_deref() {
        None | Some("inmem") => Ok(()),
        Some(other) => {
            Err(SettingsError::new(format!("queue.backend {other:?} is not supported; set it to inmem")))
        }
    }
}

fn listener(entry: &ListenerEntry) -> Result<ListenerConfig, SettingsError> {
    let mut serves = Serves::default();
    for group in &entry.serve {
        match group {
            Group::Client => serves.client = true,
            Group::Connector => serves.connector = true,
            Group::Admin => serves.admin = true,
            Group::Operator => serves.operator = true,
        }
    }
    if entry.serve.is_empty() {
        let text =
            format!("the listener {} serves nothing; list client, connector, admin or operator", entry.addr);
        return Err(SettingsError::new(text));
    }
    Ok(ListenerConfig { at: parse_listen(&entry.addr)?, serves, tls: entry.tls.as_ref().map(tls) })
}

fn tls(entry: &TlsEntry) -> TlsFiles {
    let path = |text: &String| PathBuf::from(text.strip_prefix("file:").unwrap_or(text));
    TlsFiles { cert: path(&entry.cert), key: path(&entry.key), client_ca: entry.client_ca.as_ref().map(path) }
}

fn limits(entry: &LimitsEntry, last_seen: Option<Span>) -> Result<Limits, SettingsError> {
    let span = |name: &str, span: Option<Span>, default: u64| {
        span.map_or(Ok(Duration::from_secs(default)), |span| positive(name, span))
    };
    let queue_max = entry.queue_max.unwrap_or(1000);
    if queue_max == 0 {
        return Err(SettingsError::new("limits.queue_max must be at least 1"));
    }
    Ok(Limits {
        response_timeout: span("limits.response_timeout", entry.response_timeout, 120)?,
        client_last_seen_timeout: span("client_last_seen_timeout", last_seen, 20)?,
        queue_max,
        queue_bytes: entry.queue_bytes.map_or(64 << 20, |size| size.0),
        notifications: 64,
        notification_bytes: 4 << 20,
        rate: rate(entry)?,
        affinity_lease: None,
    })
}

/// Whether clients own channels; `None` when nothing is said.
fn affinity(text: Option<&str>) -> Result<Option<bool>, SettingsError> {
    match text {
        None => Ok(None),
        Some("off" | "false") => Ok(Some(false)),
        Some("lazy-owner") => Ok(Some(true)),
        Some(other) => Err(SettingsError::new(format!("affinity {other:?} is neither off nor lazy-owner"))),
    }
}

fn rate(entry: &LimitsEntry) -> Result<Option<Rate>, SettingsError> {
    let Some(per_second) = entry.calls_per_second else {
        return match entry.calls_burst {
            None => Ok(None),
            Some(_) => Err(SettingsError::new("limits.calls_burst needs limits.calls_per_second as well")),
        };
    };
    let burst = entry.calls_burst.map_or(per_second.ceil(), f64::from);
    if per_second.is_finite() && per_second > 0.0 && burst >= 1.0 {
        return Ok(Some(Rate { per_second, burst }));
    }
    Err(SettingsError::new("limits.calls_per_second must be more than 0, limits.calls_burst at least 1"))
}

fn positive(name: &str, span: Span) -> Result<Duration, SettingsError> {
    if span.0.is_zero() {
        Err(SettingsError::new(format!("{name} must be longer than zero")))
    } else {
        Ok(span.0)
    }
}

fn connections(given: Option<usize>) -> Result<usize, SettingsError> {
    let connections = given.unwrap_or(2048);
    if CONNECTIONS.contains(&connections) {
        return Ok(connections);
    }
    let (least, most) = (CONNECTIONS.start(), CONNECTIONS.end());
    Err(SettingsError::new(format!("limits.connections must be from {least} to {most}")))
}

fn resolve(what: &str, reference: &KeyReference) -> Result<KeyDigest, SettingsError> {
    reference.resolve().map_err(|error| SettingsError::new(format!("{what} cannot be used: {error}")))
}

fn principals(organizations: &[String], workspaces: &[String], tenants: &[String]) -> Principals {
    let list = |ids: &[String]| {
        let mut list: Vec<String> = Vec::with_capacity(ids.len());
        for id in ids {
            if !list.contains(id) {
                list.push(id.clone());
            }
        }
        list
    };
    Principals { organizations: list(organizations), workspaces: list(workspaces), tenants: list(tenants) }
}

fn key(entry: &KeyEntry) -> Result<Key, SettingsError> {
    for permission in &entry.permissions {
        if ![READ, WRITE, USE].contains(&permission.as_str()) {
            let text = format!("the key {:?} has the unknown permission {permission:?}", entry.name);
            return Err(SettingsError::new(text));
        }
    }
    let has = |atom: &str| entry.permissions.iter().any(|have| have == atom);
    let grants = if entry.tunnels.iter().any(|tunnel| tunnel == "*") {
        Grants::All
    } else {
        for tunnel in &entry.tunnels {
            TunnelId::parse(tunnel)
                .map_err(|error| SettingsError::new(format!("the key {:?} names an {error}", entry.name)))?;
        }
        Grants::Only(entry.tunnels.iter().cloned().collect())
    };
    Ok(Key {
        name: entry.name.clone(),
        digest: resolve(&format!("the secret of key {:?}", entry.name), &entry.secret)?,
        kind: match entry.kind {
            KeyKindEntry::Runtime => KeyKind::Runtime,
            KeyKindEntry::Admin => KeyKind::Admin,
        },
        read: has(READ),
        write: has(WRITE),
        use_: has(USE),
        principals: principals(&entry.organization_ids, &entry.workspace_ids, &entry.tenant_ids),
        grants,
    })
}

fn tunnel(
    entry: TunnelEntry,
    limits: &Limits,
    lease: Duration,
    keeper: Keeper,
) -> Result<(TunnelConfig, Record), SettingsError> {
    let id = TunnelId::parse(&entry.id).map_err(|error| SettingsError::new(error.to_string()))?;
    let mut limits = limits.clone();
    let own =
        entry.response_timeout.map(|span| positive("response_timeout of a tunnel", span)).transpose()?;
    limits.response_timeout = own.unwrap_or(limits.response_timeout);
    let affinity = affinity(entry.affinity.as_deref())?;
    if let Some(owned) = affinity {
        limits.affinity_lease = owned.then_some(lease);
    }
    let plain = plain_record(&id);
    let record = Record {
        id: id.clone(),
        name: entry.name,
        description: entry.description,
        creator: entry.creator,
        principals: principals(&entry.organization_ids, &entry.workspace_ids, &entry.tenant_ids),
        created_at: entry.created_at.unwrap_or(plain.created_at),
        updated_at: entry.updated_at.unwrap_or(plain.updated_at),
        response_timeout: own,
        affinity,
        keeper,
    };
    Ok((TunnelConfig { id, limits }, record))
}

fn plain_record(id: &TunnelId) -> Record {
    let now = clock::rfc3339(SystemTime::now());
    Record {
        id: id.clone(),
        name: id.to_string(),
        description: "Tunnel of a standalone server".to_owned(),
        creator: "configuration".to_owned(),
        principals: Principals::default(),
        created_at: now.clone(),
        updated_at: now,
        response_timeout: None,
        affinity: None,
        keeper: Keeper::Configuration,
    }
}

/// The store's tunnels; a file that does not exist yet holds none.
fn read_store(path: &Path) -> Result<Vec<TunnelEntry>, SettingsError> {
    let bad = |error: &dyn std::fmt::Display| {
        SettingsError::new(format!("the tunnel store {} cannot be read: {error}", path.display()))
    };
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(bad(&error)),
    };
    serde_json::from_str::<StoredTunnels>(&text).map(|store| store.tunnels).map_err(|error| bad(&error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::front::ListenAt;

    const TUNNEL: &str = "tunnel_0123456789abcdef0123456789abcdef";
    const DIGEST: &str = "sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

    fn yaml(text: &str) -> Result<ServerConfig, SettingsError> {
        ServerConfig::from_yaml(text, false)
    }

    #[test]
    fn a_full_document_is_understood() {
        let directory = tempfile::tempdir().unwrap();
        let store = directory.path().join("tunnels.json");
        std::fs::write(
            &store,
            format!(r#"{{"tunnels":[{{"id":"{}","name":"two"}}]}}"#, TUNNEL.replace('0', "z")),
        )
        .unwrap();
        let config = yaml(&format!(
            r#"
listeners:
  - {{addr: 127.0.0.1:8443, serve: [client, connector, admin], tls: {{cert: file:/etc/t/crt.pem, key: /etc/t/key.pem}}}}
  - {{addr: "unix:/run/t.sock", serve: [operator]}}
public_base_url: https://tunnels.corp.example/
path_prefix: ""
trusted_proxies: [10.0.0.0/8]
ingress_auth: {{mode: key, keys: ["{DIGEST}"]}}
limits: {{response_timeout: 90s, poll_wait_max: 55s, queue_max: 10, queue_bytes: 64MiB, request_bytes: 4MiB, response_bytes: 16MiB, connections: 2048}}
client_last_seen_timeout: 20s
affinity: off
queue: {{backend: inmem}}
store: {{path: {}}}
keys:
  - {{name: daemon-a, kind: runtime, secret: "{DIGEST}", permissions: [{READ}, {USE}], organization_ids: [org_a]}}
tunnels:
  - {{id: {TUNNEL}, name: one, organization_ids: [org_a], response_timeout: 5s}}
"#,
            store.display()
        ))
        .unwrap();
        assert_eq!(config.listeners.len(), 2);
        assert_eq!(config.listeners[0].tls.as_ref().unwrap().cert, Path::new("/etc/t/crt.pem"));
        assert_eq!(config.listeners[1].at, ListenAt::Unix("/run/t.sock".into()));
        assert!(config.listeners[1].serves.operator && !config.listeners[1].serves.connector);
        assert_eq!(config.options.public_url.base.as_deref(), Some("https://tunnels.corp.example"));
        assert_eq!(config.options.ingress_auth, IngressAuth::Key);
        assert_eq!(config.tunnels.len(), 2);
        assert_eq!(config.tunnels[0].limits.response_timeout, Duration::from_secs(5));
        assert_eq!(config.tunnels[1].limits.response_timeout, Duration::from_secs(90));
        assert!(config.access.keys[0].use_ && config.access.keys[0].read);
    }

    #[test]
    fn what_cannot_be_served_is_refused_with_its_reason() {
        let base = "listeners: [{addr: 127.0.0.1:0, serve: [client]}]\n";
        for (text, reason) in [
            ("listeners: []".to_owned(), "listeners is empty"),
            (format!("{base}unknown_key: 1"), "unknown_key"),
            ("listeners: [{addr: 0.0.0.0:0, serve: [connector]}]".to_owned(), "without a credential"),
            ("listeners: [{addr: 127.0.0.1:0, serve: []}]".to_owned(), "serves nothing"),
            ("listeners: [{addr: 127.0.0.1:0, serve: [other]}]".to_owned(), "other"),
            ("listeners: [{addr: nonsense, serve: [client]}]".to_owned(), "nonsense"),
            (format!("{base}ingress_auth: {{mode: key}}"), "keys is empty"),
            (
                "listeners: [{addr: 127.0.0.1:0, serve: [connector]}]\ningress_auth: {mode: mtls}".to_owned(),
                "client_ca",
            ),
            (format!("{base}affinity: sticky"), "sticky"),
            (format!("{base}limits: {{calls_per_second: 0}}"), "calls_per_second"),
            (format!("{base}queue: {{backend: redis}}"), "redis"),
            (format!("{base}limits: {{queue_bytes: lots}}"), "lots"),
            (format!("{base}limits: {{response_timeout: 0s}}"), "response_timeout"),
            (format!("{base}limits: {{connections: 0}}"), "connections"),
            (format!("{base}public_base_url: nowhere"), "public_base_url"),
            (format!("{base}path_prefix: gateway"), "path_prefix"),
            (format!("{base}trusted_proxies: [everyone]"), "everyone"),
            (format!("{base}tunnels: [{{id: short}}]"), "short"),
            (format!("{base}tunnels: [{{id: {TUNNEL}}}, {{id: {TUNNEL}}}]"), "twice"),
            (format!("{base}keys: [{{name: k, kind: runtime, secret: outright}}]"), "env:NAME"),
            (
                format!("{base}keys: [{{name: k, kind: runtime, secret: \"{DIGEST}\", permissions: [fly]}}]"),
                "fly",
            ),
        ] {
            let error = yaml(&text).unwrap_err().to_string();
            assert!(error.contains(reason), "{text}\n{error}");
        }
    }

    #[test]
    fn an_open_ingress_for_other_hosts_has_to_be_asked_for() {
        let text = "listeners: [{addr: 0.0.0.0:0, serve: [connector]}]";
        assert!(ServerConfig::from_yaml(text, true).is_ok());
    }
}
