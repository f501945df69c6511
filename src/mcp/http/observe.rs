//! Requests to MCP servers, for whoever counts them.
//!
//! Invariant: what is told of a path is bounded in number and holds no query and nothing that looks like
//! a secret.

use std::sync::Arc;
use std::time::Duration;

use url::Url;

use crate::net::{Method, Uri};
use crate::redact;

use super::headers::Reach;

/// Stands for the paths that redirects lead to.
const OTHER_ROUTE: &str = "_other";
/// Metadata has names of its own below this.
const WELL_KNOWN: &str = "/.well-known/";

/// One HTTP request, a redirect's included.
#[derive(Clone, Copy, Debug)]
pub struct HttpSent<'a> {
    /// The endpoint's path, the name of a metadata document, or `_other`.
    pub route: &'a str,
    /// Method.
    pub method: &'a str,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// Host without port.
    pub host: &'a str,
    /// Port, if it is not the scheme's default.
    pub port: Option<u16>,
    /// The reply's status; `None` when there was no reply.
    pub status: Option<u16>,
    /// Until the reply's head, or the failure.
    pub duration: Duration,
    /// Bytes of body sent.
    pub body_bytes: usize,
}

/// Hears of every request once its head has arrived or it has failed.
pub trait HttpObserver: Send + Sync {
    /// Called on the thread that sent the request; it must not block.
    fn http_sent(&self, sent: &HttpSent<'_>);
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
        observer.http_sent(&HttpSent {
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
