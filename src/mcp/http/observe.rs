//! Requests to MCP servers, for whoever counts them.
//!
//! Invariant: what is told of a path is bounded in number and holds no query and nothing that looks like
//! a secret.

use std::sync::Arc;
use std::time::Duration;

use url::Url;

use crate::net::{HttpExchange, Method, Uri};
use crate::redact;

use super::headers::Reach;

/// Stands for the paths that redirects lead to.
const OTHER_ROUTE: &str = "_other";
/// Metadata has names of its own below this.
const WELL_KNOWN: &str = "/.well-known/";

/// Hears of every request once its head has arrived or it has failed.
pub trait HttpObserver: Send + Sync {
    /// Called on the thread that sent the request; it must not block.
    fn http_sent(&self, sent: &HttpExchange<'_>);
}

/// The observer of a binding and what it may be told of its path.
pub(super) struct Observed {
    observer: Option<Arc<dyn HttpObserver>>,
    own_route: String,
}

impl Observed {
    pub(super) fn new(url: &Url, observer: Option<Arc<dyn HttpObserver>>) -> Observed {
        Observed { observer, own_route: redact::text(url.path()).into_owned() }
    }

    pub(super) fn note(
        &self,
        (method, uri, reach): (&Method, &Uri, Reach),
        status: Option<u16>,
        duration: Duration,
        body_bytes: usize,
    ) {
        let Some(observer) = &self.observer else { return };
        let scheme = uri.scheme_str().unwrap_or_default();
        let default = if scheme == "https" { 443 } else { 80 };
        observer.http_sent(&HttpExchange {
            route: if reach == Reach::OWN { &self.own_route } else { route(uri.path()) },
            method: method.as_str(),
            scheme,
            host: uri.host().unwrap_or_default(),
            port: uri.port_u16().filter(|port| *port != default),
            status,
            duration,
            body_bytes,
        });
    }
}

/// What is told of a path that is not the endpoint's.
fn route(path: &str) -> &str {
    match path.strip_prefix(WELL_KNOWN) {
        Some(rest) => &path[..WELL_KNOWN.len() + rest.find('/').unwrap_or(rest.len())],
        None => OTHER_ROUTE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_paths_are_told() {
        for (path, expected) in [
            ("/.well-known/oauth-protected-resource/mcp/private", "/.well-known/oauth-protected-resource"),
            ("/.well-known/openid-configuration", "/.well-known/openid-configuration"),
            ("/anything", "_other"),
        ] {
            assert_eq!(route(path), expected);
        }
    }
}
