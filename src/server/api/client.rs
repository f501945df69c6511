//! What tunnel clients and administrators call: key first, then path, method, permission.

use std::sync::Arc;

use super::access::{Access, Key, KeyKind, Need};
use super::error::{code, error, unauthenticated};
use super::record::Record;
use super::route::Route;
use super::{Api, Serves, method_not_allowed, not_found, tunnel_id};
use crate::ids::TunnelId;
use crate::net::front::{Exchange, Head, Method, Response};

impl Api {
    /// Answers anything below `/v1/tunnels`.
    pub(super) fn client(&self, route: Route<'_>, serves: Serves, head: &Head, exchange: &mut Exchange<'_>) {
        let access = self.access();
        let response = match self.client_response(&access, route, serves, head, exchange) {
            Ok(()) => return,
            Err(response) => response.header("Cache-Control", "no-store"),
        };
        let response = match route {
            Route::CloudflareRuntime { .. } => response.header("Pragma", "no-cache"),
            _ => response,
        };
        let _ = exchange.respond(&response);
    }

    /// `Ok` when the exchange has been answered, or given up, already.
    fn client_response(
        &self,
        access: &Access,
        route: Route<'_>,
        serves: Serves,
        head: &Head,
        exchange: &mut Exchange<'_>,
    ) -> Result<(), Response> {
        let key = authenticate(access, head)?;
        match (route, head.method) {
            (Route::Poll { tunnel }, Method::Get) if serves.client => {
                let tunnel = tunnel_id(tunnel)?;
                authorize(access, key, Need::Use, &tunnel, head)?;
                self.poll(&tunnel, head, exchange)
            }
            (Route::Poll { .. }, _) if serves.client => Err(method_not_allowed("GET")),
            (Route::Response { tunnel }, Method::Post) if serves.client => {
                let tunnel = tunnel_id(tunnel)?;
                authorize(access, key, Need::Use, &tunnel, head)?;
                self.post(&tunnel, head, exchange)
            }
            (Route::Response { .. }, _) if serves.client => Err(method_not_allowed("POST")),
            (Route::CloudflareRuntime { tunnel }, Method::Get) if serves.client => {
                let tunnel = tunnel_id(tunnel)?;
                authorize(access, key, Need::Use, &tunnel, head)?;
                Err(error(404, None, "no managed Cloudflare tunnel is stored for this tunnel"))
            }
            (Route::CloudflareRuntime { .. }, _) if serves.client => Err(method_not_allowed("GET")),
            (Route::Tunnel { tunnel }, Method::Get) => {
                let tunnel = tunnel_id(tunnel)?;
                if key.kind == KeyKind::Admin && !access.records.contains_key(&tunnel) {
                    return Err(error(404, None, "there is no such tunnel"));
                }
                let record = authorize(access, key, Need::View, &tunnel, head)?;
                Err(Response::json(200, record.to_json().to_string().into_bytes()))
            }
            (Route::Tunnel { tunnel }, Method::Post) if serves.admin => {
                Err(self.update_tunnel(key, &tunnel_id(tunnel)?, head, exchange)?)
            }
            (Route::Tunnel { tunnel }, Method::Delete) if serves.admin => {
                Err(self.delete_tunnel(key, &tunnel_id(tunnel)?, head)?)
            }
            (Route::Tunnel { .. }, _) => {
                Err(method_not_allowed(if serves.admin { "GET, POST, DELETE" } else { "GET" }))
            }
            (Route::Tunnels, Method::Get) if serves.admin => Err(self.list_tunnels(access, key, head)?),
            (Route::Tunnels, Method::Post) if serves.admin => Err(self.create_tunnel(key, head, exchange)?),
            (Route::Tunnels, _) if serves.admin => Err(method_not_allowed("GET, POST")),
            _ => Err(not_found()),
        }
    }
}

fn authenticate<'a>(access: &'a Access, head: &Head) -> Result<&'a Key, Response> {
    let mut values = head.values("Authorization");
    let key = match (values.next(), values.next()) {
        (Some(value), None) => access.key(value),
        _ => None,
    };
    key.ok_or_else(|| {
        let message = "the API key is missing or wrong; send it as Authorization: Bearer <key>";
        unauthenticated(message).header("WWW-Authenticate", "Bearer")
    })
}

fn authorize<'a>(
    access: &'a Access,
    key: &Key,
    need: Need,
    tunnel: &TunnelId,
    head: &Head,
) -> Result<&'a Arc<Record>, Response> {
    let organization = head.value("OpenAI-Organization").filter(|id| !id.is_empty());
    let status = match need {
        Need::View => 403,
        Need::Use => 401,
    };
    access
        .check(key, need, tunnel, organization)
        .map_err(|denied| error(status, Some(denied), reason(denied)))
}

fn reason(denied: &str) -> &'static str {
    match denied {
        code::MISSING_PRINCIPALS => {
            "the key belongs to no organization, workspace or tenant; use one that does"
        }
        code::ORGANIZATION_REQUIRED => {
            "the key belongs to several organizations; name one in the OpenAI-Organization header"
        }
        _ => {
            "the key may not use this tunnel, or there is no such tunnel; use a runtime key with access to it"
        }
    }
}
