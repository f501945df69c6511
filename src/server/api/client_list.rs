//! `GET …/clients`: the clients of a tunnel, for administrators who look for what is wrong.

use std::time::SystemTime;

use serde_json::{Value, json};

use super::Api;
use super::access::{Access, Key, KeyKind, Need};
use super::client::authorize;
use super::error::{code, error};
use crate::ids::TunnelId;
use crate::net::front::{Head, Response};
use crate::order;
use crate::server::clock;
use crate::server::engine::{ClientView, Subscription};

impl Api {
    pub(super) fn list_clients(
        &self,
        access: &Access,
        key: &Key,
        id: &TunnelId,
        head: &Head,
    ) -> Result<Response, Response> {
        if key.kind != KeyKind::Admin {
            let message = "the clients of a tunnel are shown to admin keys only";
            return Err(error(403, Some(code::MANAGEMENT_REQUIRED), message));
        }
        authorize(access, key, Need::View, id, head)?;
        let mut clients = self.engine.tunnel(id).map(|tunnel| tunnel.clients()).unwrap_or_default();
        order::sort_by(&mut clients, |a, b| {
            a.key.instance.cmp(&b.key.instance).then(a.first_seen.cmp(&b.first_seen))
        });
        let clients: Vec<Value> = clients.iter().map(to_json).collect();
        Ok(Response::json(200, json!({ "clients": clients }).to_string().into_bytes()))
    }
}

fn to_json(client: &ClientView) -> Value {
    let channels = match &*client.key.subscription {
        Subscription::All => Value::Null,
        Subscription::Only(channels) => channels.iter().map(|channel| channel.as_str()).collect(),
    };
    let declared = client.declared.as_ref().map(|declared| {
        let one = |(name, affine): (&crate::ids::Channel, bool)| {
            json!({"name": name.as_str(), "proc_affinity": affine})
        };
        declared.channels().map(one).collect::<Value>()
    });
    let last_seen = SystemTime::now().checked_sub(client.silent).unwrap_or(client.first_seen);
    json!({
        "instance_id": client.key.instance,
        "name": client.name,
        "version": client.version,
        "poll_channels": channels,
        "declared_channels": declared,
        "first_seen": clock::rfc3339(client.first_seen),
        "last_seen": clock::rfc3339(last_seen),
        "polls": client.polls,
        "in_flight": client.in_hand,
        "delivered": client.delivered,
        "answered": client.answered,
    })
}
