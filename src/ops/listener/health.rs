//! `/healthz`, `/readyz` and `/metrics`: open to everyone, whatever the access rules of other paths.

use std::sync::Arc;

use super::request::Request;
use super::response::Response;
use super::router::Module;
use crate::ops::{Metrics, State};

const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";

/// The paths that orchestrators and scrapers ask.
pub struct HealthRoutes {
    state: Arc<State>,
    metrics: Arc<Metrics>,
}

impl HealthRoutes {
    /// Answers from `state` and `metrics`.
    pub fn new(state: Arc<State>, metrics: Arc<Metrics>) -> HealthRoutes {
        HealthRoutes { state, metrics }
    }
}

impl Module for HealthRoutes {
    fn answer(&self, request: &mut Request<'_>) -> Option<Response> {
        let path = request.path.as_str();
        if !matches!(path, "/healthz" | "/readyz" | "/metrics") {
            return None;
        }
        if !request.is_read() {
            return Some(Response::method_not_allowed("GET, HEAD"));
        }
        Some(match path {
            "/healthz" => Response::text(200, "live"),
            "/readyz" => {
                let readiness = self.state.readiness();
                Response::text(readiness.status, readiness.body)
            }
            _ => {
                let ready = self.state.readiness().status == 200;
                let mut response = Response::text(200, self.metrics.scrape(ready));
                response.headers = vec![("Content-Type", METRICS_TYPE.into())];
                response
            }
        })
    }
}
