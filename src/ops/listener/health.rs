//! `/healthz`, `/readyz` and `/metrics`: open to everyone, whatever the access rules of other paths.

use std::io::{self, Write};
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::request::Request;
use super::response::{Content, Response};
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
                let text = self.metrics.scrape(ready);
                // A scraper whose text cannot be packed gets it as it is.
                let packed = takes_gzip(request).then(|| gzip(text.as_bytes()).ok()).flatten();
                let mut response = Response::text(200, "");
                response.headers = vec![("Content-Type", METRICS_TYPE.into())];
                match packed {
                    Some(packed) => {
                        response.content = Content::Bytes(packed.into());
                        response.with("Content-Encoding", "gzip")
                    }
                    None => {
                        response.content = Content::Bytes(text.into_bytes().into());
                        response
                    }
                }
            }
        })
    }
}

/// Whether `Accept-Encoding` names gzip, and not with a weight of zero (RFC 9110 §12.5.3).
fn takes_gzip(request: &Request<'_>) -> bool {
    request.headers.get_all("Accept-Encoding").flat_map(|value| value.split(',')).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let weight = weight.trim().strip_prefix("q=").and_then(|weight| weight.trim().parse::<f32>().ok());
        name.trim().eq_ignore_ascii_case("gzip") && weight != Some(0.0)
    })
}

fn gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut packing = GzEncoder::new(Vec::new(), Compression::fast());
    packing.write_all(bytes)?;
    packing.finish()
}
