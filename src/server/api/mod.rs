//! The HTTP surface of the engine: connector endpoint, client endpoints, operator pages.
//!
//! Invariant: a key is checked before anything below `/v1/tunnels` is looked at, and a connector's own
//! `Authorization` is never looked at.

mod accept;
mod access;
mod admin;
mod challenge;
mod client;
mod connector;
mod discovery;
mod error;
mod forward;
mod message;
mod metrics;
mod poll;
mod post;
mod post_body;
mod public_url;
mod query;
mod record;
mod record_input;
mod relay;
mod route;
mod shim;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use self::error::{code, error};
use self::query::PollDefaults;
use self::route::{Route, percent_decode};
use super::engine::{Engine, Limits};
use super::front::ExchangeIds;
use crate::ids::TunnelId;
use crate::net::front::{Exchange, Head, Method, Response, Service};

pub(super) use self::access::{Access, Grants, Key, KeyDigest, KeyKind};
pub(super) use self::admin::Administration;
pub(super) use self::public_url::{Network, PublicUrl};
pub(super) use self::record::{Keeper, Principals, Record};

/// Which groups of routes a listener serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Serves {
    /// Metadata, poll, response.
    pub(super) client: bool,
    /// The MCP endpoint and OAuth.
    pub(super) connector: bool,
    /// Managing tunnels.
    pub(super) admin: bool,
    /// Health and metrics.
    pub(super) operator: bool,
    /// `/readyz` alone.
    pub(super) ready: bool,
}

/// Who may call the connector endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IngressAuth {
    /// Anyone who can connect.
    None,
    /// Holders of a key, in a header of its own.
    Key,
    /// Holders of a verified TLS client certificate.
    Mtls,
}

/// Settings of the surface.
#[derive(Clone, Debug)]
pub(super) struct Options {
    /// What each listener serves, in the listeners' order.
    pub(super) serves: Vec<Serves>,
    pub(super) ingress_auth: IngressAuth,
    pub(super) public_url: PublicUrl,
    /// Empty, or a path that starts with `/` and does not end with one.
    pub(super) path_prefix: String,
    /// Largest connector body.
    pub(super) request_bytes: usize,
    /// Largest response POST.
    pub(super) response_bytes: usize,
    pub(super) poll_limit: usize,
    pub(super) poll_wait: Duration,
    pub(super) poll_wait_max: Duration,
    /// Whether the end of each command is told at info level rather than debug.
    pub(super) tells_commands: bool,
}

/// Header of the connector's key.
const CONNECTOR_KEY: &str = "X-Tunnel-Connector-Key";

/// The service behind the front.
pub(super) struct Api {
    pub(super) engine: Arc<Engine>,
    options: Options,
    access: RwLock<Arc<Access>>,
    administration: Administration,
    requests: metrics::Requests,
    exchange_ids: ExchangeIds,
    shim: shim::Shim,
}

impl Api {
    pub(super) fn new(
        engine: Arc<Engine>,
        options: Options,
        access: Access,
        administration: Administration,
    ) -> Result<Api, getrandom::Error> {
        Ok(Api {
            engine,
            options,
            access: RwLock::new(Arc::new(access)),
            administration,
            requests: metrics::Requests::new(),
            exchange_ids: ExchangeIds::new()?,
            shim: shim::Shim::default(),
        })
    }

    /// Replaces keys and records by what `read` yields, while nobody changes them. Without a store, what
    /// administrators made stays. Yields what became of the records.
    pub(super) fn reload<E>(
        &self,
        read: impl FnOnce() -> Result<(Access, Vec<(TunnelId, Limits)>), E>,
    ) -> Result<(), E> {
        let _order = self.administration.order();
        let (mut access, tunnels) = read()?;
        if self.administration.store.is_none() {
            let old = self.access();
            let made = old.records.values().filter(|record| record.keeper == Keeper::Administration);
            for record in made {
                access.records.entry(record.id.clone()).or_insert_with(|| Arc::clone(record));
            }
        }
        for (id, limits) in tunnels {
            self.engine.add(id, limits);
        }
        for tunnel in self.engine.tunnels() {
            if !access.records.contains_key(tunnel.id()) {
                self.engine.remove(tunnel.id());
            }
        }
        self.set_access(access);
        Ok(())
    }

    /// Replaces keys and records for requests from now on.
    fn set_access(&self, access: Access) {
        *self.access.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(access);
    }

    fn access(&self) -> Arc<Access> {
        Arc::clone(&self.access.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn poll_defaults(&self) -> PollDefaults {
        let Options { poll_limit: limit, poll_wait: wait, poll_wait_max: wait_max, .. } = self.options;
        PollDefaults { limit, wait, wait_max }
    }

    fn dispatch(&self, route: Route<'_>, head: &Head, exchange: &mut Exchange<'_>) {
        let serves = self.options.serves.get(exchange.peer().listener).copied().unwrap_or_default();
        let operator = |allowed: bool, response: fn(&Api) -> Response| match (allowed, head.method) {
            (false, _) => not_found(),
            (true, Method::Get | Method::Head) => response(self),
            (true, _) => method_not_allowed("GET, HEAD"),
        };
        let response = match route {
            Route::Mcp { tunnel, channel } if serves.connector => {
                return self.connector(head, exchange, tunnel, channel);
            }
            Route::ProtectedResource { tunnel } if serves.connector => {
                return self.discovery(head, exchange, tunnel);
            }
            Route::AuthorizationServer { tunnel, server, part } if serves.connector => {
                return self.authorization_server(head, exchange, (tunnel, server, part));
            }
            Route::Tunnels
            | Route::Tunnel { .. }
            | Route::Poll { .. }
            | Route::Response { .. }
            | Route::CloudflareRuntime { .. }
            | Route::UnknownClient
                if serves.client || serves.admin =>
            {
                return self.client(route, serves, head, exchange);
            }
            Route::Ready => operator(serves.operator || serves.ready, |_| ok()),
            Route::Health => operator(serves.operator, |_| ok()),
            Route::Metrics => operator(serves.operator, |api| metrics::page(&api.engine, &api.requests)),
            _ => not_found(),
        };
        let _ = exchange.respond(&response);
    }
}

impl Service for Api {
    fn call(&self, head: &Head, exchange: &mut Exchange<'_>) {
        let route = Route::of(head.path(), &self.options.path_prefix);
        self.dispatch(route, head, exchange);
        if let Some(status) = exchange.status() {
            self.requests.count(route.number(), status);
        }
    }

    fn refusal(&self, status: u16, reason: &str) -> Response {
        error(status, None, reason)
    }

    fn exchange_id(&self) -> Option<String> {
        Some(self.exchange_ids.next())
    }
}

fn ok() -> Response {
    Response::json(200, &br#"{"status":"ok"}"#[..])
}

fn not_found() -> Response {
    error(404, None, "there is nothing at this path")
}

fn method_not_allowed(allowed: &str) -> Response {
    error(405, None, &format!("this path answers {allowed} only")).header("Allow", allowed)
}

fn unavailable(message: &str) -> Response {
    error(503, Some(code::UNAVAILABLE), message).header("Retry-After", "1")
}

/// Reads a tunnel id out of a path segment.
fn tunnel_id(segment: &str) -> Result<TunnelId, Response> {
    let id = percent_decode(segment).and_then(|text| TunnelId::parse(&text).ok());
    id.ok_or_else(|| {
        let message = "a tunnel id is tunnel_ followed by 32 lowercase letters or digits";
        error(400, Some(code::INVALID_TUNNEL_ID), message)
    })
}
