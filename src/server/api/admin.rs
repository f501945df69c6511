//! Administration of tunnels: create, list, change, delete.
//!
//! Invariant: what is answered with success is in force, and in the store if there is one.

use crate::order;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use serde_json::{Value, json};

use super::access::{Access, Key, KeyKind};
use super::error::{code, error, invalid};
use super::post::bad_body;
use super::record::{Keeper, Record};
use super::record_input::Input;
use super::route::percent_decode;
use super::{Api, unavailable};
use crate::ids::{TunnelId, random_hex};
use crate::net::front::{Exchange, Head, Response};
use crate::server::clock;
use crate::server::engine::Limits;
use crate::server::store::Store;

/// Largest body.
const BODY_BYTES: usize = 256 * 1024;

/// What administration works with.
pub(in crate::server) struct Administration {
    pub(in crate::server) store: Option<Store>,
    /// Bounds of tunnels that have none of their own.
    pub(in crate::server) limits: Limits,
    /// Held over the write of the store: it orders the changes, and only administrators wait for it.
    pub(super) order: Mutex<()>,
}

impl Administration {
    pub(in crate::server) fn new(store: Option<Store>, limits: Limits) -> Administration {
        Administration { store, limits, order: Mutex::new(()) }
    }

    pub(super) fn order(&self) -> MutexGuard<'_, ()> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Api {
    /// `POST /v1/tunnels`.
    pub(super) fn create_tunnel(
        &self,
        key: &Key,
        head: &Head,
        exchange: &mut Exchange<'_>,
    ) -> Result<Response, Response> {
        manager(key, head)?;
        let mut input = Input::parse(&read_body(exchange)?)?;
        let missing = |name: &str| invalid(name, &format!("{name} is missing"));
        let name = input.name.take().ok_or_else(|| missing("name"))?;
        let description = input.description.take().ok_or_else(|| missing("description"))?;
        let principals = input.principals(&Default::default());
        if principals.is_empty() {
            return Err(nobody());
        }
        if !key.manages(&principals) {
            return Err(unmanaged());
        }
        let id = random_hex().ok().and_then(|digits| TunnelId::parse(&format!("tunnel_{digits}")).ok());
        let id = id.ok_or_else(|| error(500, None, "no random bytes for a tunnel id; try again"))?;
        let now = clock::rfc3339(SystemTime::now());
        let record = Record {
            id: id.clone(),
            name,
            description,
            creator: format!("key:{}", key.name),
            principals,
            created_at: now.clone(),
            updated_at: now,
            response_timeout: None,
            affinity: None,
            keeper: Keeper::Administration,
        };
        let shown = record.to_json();
        self.change(|records| {
            records.insert(id.clone(), Arc::new(record));
            Ok(())
        })?;
        self.engine.add(id.clone(), self.administration.limits.clone());
        log::info!(target: "server", tunnel_id:% = id, key = key.name.as_str(); "tunnel created");
        Ok(json_response(&shown))
    }

    /// `GET /v1/tunnels?…`.
    pub(super) fn list_tunnels(&self, access: &Access, key: &Key, head: &Head) -> Result<Response, Response> {
        if key.kind != KeyKind::Admin || !(key.write || key.read) {
            return Err(unmanaged());
        }
        active_organization(key, head)?;
        let (kind, id) = filter(head.query())?;
        let pick = |principals: &super::Principals| match kind {
            "organization_id" => principals.organizations.contains(&id),
            "workspace_id" => principals.workspaces.contains(&id),
            _ => principals.tenants.contains(&id),
        };
        if !key.grants_all() && !pick(&key.principals) {
            return Err(unmanaged());
        }
        let mut found: Vec<&Record> =
            access.records.values().map(|record| &**record).filter(|one| pick(&one.principals)).collect();
        order::sort_by(&mut found, |a, b| {
            (&a.created_at, a.id.as_str()).cmp(&(&b.created_at, b.id.as_str()))
        });
        let tunnels: Vec<Value> = found.into_iter().map(Record::to_json).collect();
        Ok(json_response(&json!({ "tunnels": tunnels })))
    }

    /// `POST /v1/tunnels/{id}`.
    pub(super) fn update_tunnel(
        &self,
        key: &Key,
        id: &TunnelId,
        head: &Head,
        exchange: &mut Exchange<'_>,
    ) -> Result<Response, Response> {
        manager(key, head)?;
        let mut input = Input::parse(&read_body(exchange)?)?;
        if input == Input::default() {
            return Err(error(400, None, "nothing to change; give at least one member of the record"));
        }
        let mut shown = Value::Null;
        self.change(|records| {
            let mut record = Record::clone(managed(key, records, id)?);
            let principals = input.principals(&record.principals);
            if principals.is_empty() {
                return Err(nobody());
            }
            if !key.manages(&principals) && principals != record.principals {
                return Err(unmanaged());
            }
            record.principals = principals;
            record.name = input.name.take().unwrap_or(record.name);
            record.description = input.description.take().unwrap_or(record.description);
            record.updated_at = clock::rfc3339(SystemTime::now());
            shown = record.to_json();
            records.insert(id.clone(), Arc::new(record));
            Ok(())
        })?;
        log::info!(target: "server", tunnel_id:% = id, key = key.name.as_str(); "tunnel changed");
        Ok(json_response(&shown))
    }

    /// `DELETE /v1/tunnels/{id}`.
    pub(super) fn delete_tunnel(&self, key: &Key, id: &TunnelId, head: &Head) -> Result<Response, Response> {
        manager(key, head)?;
        let mut shown = Value::Null;
        self.change(|records| {
            shown = managed(key, records, id)?.to_json();
            records.remove(id);
            Ok(())
        })?;
        self.engine.remove(id);
        log::info!(target: "server", tunnel_id:% = id, key = key.name.as_str(); "tunnel deleted");
        Ok(json_response(&shown))
    }

    /// Changes the records: the store first, then what is in force.
    fn change(
        &self,
        change: impl FnOnce(&mut HashMap<TunnelId, Arc<Record>>) -> Result<(), Response>,
    ) -> Result<(), Response> {
        let _order = self.administration.order();
        let mut access = Access::clone(&self.access());
        change(&mut access.records)?;
        if let Some(store) = &self.administration.store {
            let kept = access.records.values().filter(|record| record.keeper == Keeper::Administration);
            let mut kept: Vec<&Arc<Record>> = kept.collect();
            order::sort_by(&mut kept, |a, b| {
                (&a.created_at, a.id.as_str()).cmp(&(&b.created_at, b.id.as_str()))
            });
            let tunnels: Vec<Value> = kept.into_iter().map(|record| record.to_stored()).collect();
            let text = format!("{:#}\n", json!({ "tunnels": tunnels }));
            if let Err(error) = store.write(&text) {
                log::error!(target: "server", error:% = error; "the tunnel store cannot be written");
                return Err(unavailable("the tunnel store cannot be written; see the server's log"));
            }
        }
        self.set_access(access);
        Ok(())
    }
}

/// The record of a tunnel that `key` may change or delete.
fn managed<'a>(
    key: &Key,
    records: &'a HashMap<TunnelId, Arc<Record>>,
    id: &TunnelId,
) -> Result<&'a Arc<Record>, Response> {
    let record = records.get(id).ok_or_else(|| error(404, None, "there is no such tunnel"))?;
    if !key.manages(&record.principals) && !key.is_granted(id) {
        return Err(unmanaged());
    }
    if record.keeper == Keeper::Configuration {
        let message = "this tunnel is declared in the server's configuration; change it there";
        return Err(error(403, None, message));
    }
    Ok(record)
}

fn manager(key: &Key, head: &Head) -> Result<(), Response> {
    if key.kind != KeyKind::Admin || !key.write {
        return Err(unmanaged());
    }
    active_organization(key, head)
}

fn active_organization(key: &Key, head: &Head) -> Result<(), Response> {
    if key.principals.is_empty() && !key.grants_all() && !key.is_granted_any() {
        let message = "the key belongs to no organization, workspace or tenant; use one that does";
        return Err(error(401, Some(code::MISSING_PRINCIPALS), message));
    }
    match head.value("OpenAI-Organization").filter(|id| !id.is_empty()) {
        Some(active) if !key.grants_all() && !key.principals.organizations.iter().any(|id| id == active) => {
            let message = "the key does not belong to the active organization; name another one";
            Err(error(403, Some(code::USE_FORBIDDEN), message))
        }
        _ => Ok(()),
    }
}

fn unmanaged() -> Response {
    let message = "managing tunnels needs an admin key with Manage for every principal of the tunnel";
    error(403, Some(code::MANAGEMENT_REQUIRED), message)
}

fn nobody() -> Response {
    error(400, None, "at least one id in organization_ids, workspace_ids or tenant_ids is needed")
}

/// The one filter of a list, and its value.
fn filter(query: &str) -> Result<(&'static str, String), Response> {
    const NAMES: [&str; 3] = ["organization_id", "workspace_id", "tenant_id"];
    let wrong = || error(400, None, "give exactly one of organization_id, workspace_id and tenant_id");
    let mut found = None;
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let Some(name) = NAMES.into_iter().find(|known| *known == name) else { continue };
        let value = percent_decode(&value.replace('+', " ")).ok_or_else(wrong)?.trim().to_owned();
        if value.is_empty() || found.replace((name, value)).is_some() {
            return Err(wrong());
        }
    }
    found.ok_or_else(wrong)
}

fn json_response(value: &Value) -> Response {
    Response::json(200, value.to_string().into_bytes())
}

fn read_body(exchange: &mut Exchange<'_>) -> Result<Vec<u8>, Response> {
    exchange.read_body(BODY_BYTES).map_err(|bad| {
        exchange.close_after();
        bad_body(bad).unwrap_or_else(|| error(400, None, "the request body did not arrive"))
    })
}
