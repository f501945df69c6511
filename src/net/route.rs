//! Everything that decides how requests reach their target.

use std::path::PathBuf;
use std::time::Duration;

use super::{OriginCertificate, ProxyPolicy, Trust};

/// How the connections of a client reach their targets.
#[derive(Clone, Debug)]
pub enum Via {
    /// Straight to the URL's host and port.
    Direct,
    /// Directly or through a proxy, as the policy decides for each target.
    Proxies(ProxyPolicy),
    /// Every connection goes to this Unix socket, whatever the URL says; proxies do not matter.
    Unix(PathBuf),
}

/// Bounds of one client.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Idle connections kept for reuse.
    pub idle_connections: usize,
    /// How long an idle connection is kept.
    pub idle_age: Duration,
    /// Time to get a connection: name resolution, TCP connect and the proxy's consent together.
    pub connect: Duration,
    /// Time for each TLS handshake.
    pub handshake: Duration,
}

/// Everything that decides how a client reaches its target.
#[derive(Clone, Debug)]
pub struct Route {
    /// The way to the target.
    pub via: Via,
    /// Whom TLS trusts.
    pub trust: Trust,
    /// Shown to its own origin when that asks for it, and to nobody else.
    pub client_certificate: Option<OriginCertificate>,
    /// Ask for compressed replies. Replies that come compressed are decoded in any case.
    pub accept_gzip: bool,
    /// Connect to no address at which there are no servers but the host's own surroundings, whatever a
    /// name resolves to. What a proxy connects to is the proxy's affair.
    pub only_servers: bool,
    /// Time and pool bounds.
    pub limits: Limits,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            idle_connections: 16,
            idle_age: Duration::from_secs(90),
            connect: Duration::from_secs(30),
            handshake: Duration::from_secs(10),
        }
    }
}

impl Route {
    /// A route along `via` that trusts `trust`, without client certificate and with default bounds.
    pub fn new(via: Via, trust: Trust) -> Route {
        Route {
            via,
            trust,
            client_certificate: None,
            accept_gzip: false,
            only_servers: false,
            limits: Limits::default(),
        }
    }
}
