//! Which proxy a request goes through.
//!
//! Invariant: one function, [`ProxyPolicy::decide`], serves the dialler and the descriptions that
//! operators see, so that what is shown is what is done.

mod description;
mod environment;
mod url;

use std::sync::Arc;

pub use self::description::{ProxyIdentity, RouteDescription, RouteKind, proxy_identities};
pub use self::environment::EnvironmentProxies;
pub use self::url::{ProxyKind, ProxyUrl, ProxyUrlError};
use super::Origin;

/// How the proxy of a route is chosen.
#[derive(Clone, Debug)]
pub enum ProxyPolicy {
    /// Never a proxy.
    None,
    /// As `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` say.
    Environment(Arc<EnvironmentProxies>),
    /// Always this one, loopback targets included; `NO_PROXY` does not matter.
    Fixed {
        /// The proxy.
        proxy: ProxyUrl,
        /// Which setting supplied it, as shown to operators (`http-proxy`, `env:NAME`, …).
        source: String,
    },
}

/// The way to one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Straight to it.
    Direct,
    /// Through a proxy.
    Proxy {
        /// The proxy.
        proxy: ProxyUrl,
        /// Where it was set.
        source: String,
    },
}

impl ProxyPolicy {
    /// The policy of the process's environment, which is read once per process.
    pub fn environment() -> ProxyPolicy {
        ProxyPolicy::Environment(EnvironmentProxies::of_process())
    }

    /// The way to `target`.
    pub fn decide(&self, target: &Origin) -> Decision {
        match self {
            ProxyPolicy::None => Decision::Direct,
            ProxyPolicy::Fixed { proxy, source } => {
                Decision::Proxy { proxy: proxy.clone(), source: source.clone() }
            }
            ProxyPolicy::Environment(proxies) => match proxies.proxy_for(target) {
                Some((proxy, variable)) => {
                    Decision::Proxy { proxy: proxy.clone(), source: format!("env:{variable}") }
                }
                None => Decision::Direct,
            },
        }
    }
}
