//! Connections of one route: how they are opened, what they keep between two requests.
//!
//! Invariant: a client certificate is shown only inside the TLS session with its own origin, never to
//! a proxy and never to another origin.

mod buffers;
mod check;
mod dial;
mod names;
mod socket;
mod socks;
mod tunnel;
mod wire;

use std::fmt;

use rustls::pki_types::ServerName;

pub(super) use self::buffers::{Buffers, HELD_BOUND_BYTES};
pub use self::check::{ProxyCheck, ProxyFailure, check_proxy};
pub(crate) use self::names::is_localhost;
pub(super) use self::socket::{Cutter, cancelled};
use self::wire::{Tls, Wire};
use super::origin::{Origin, host_and_port};
use super::proxy::{Decision, ProxyKind, ProxyUrl};
use super::tls::ClientTls;
use super::{Cancel, Cause, Deadline, Error, Limits, Uri, Via, is_no_server_address};

/// A connection that stands, and its buffers.
pub(super) struct Connection {
    /// What it was opened for.
    pub(super) origin: Origin,
    /// Bytes held back and bytes read ahead.
    pub(super) buffers: Buffers,
    /// Whether an earlier request went over it.
    pub(super) reused: bool,
    /// The generation of certificates that it was opened with, or the one before.
    pub(super) generation: u32,
    wire: Wire,
    /// Set when a proxy expects requests in absolute form (RFC 9112 §3.2.2).
    absolute_form: Option<AbsoluteForm>,
}

/// What a forwarding proxy wants to see in every request.
struct AbsoluteForm {
    /// `http://host[:port]`, put before the path.
    prefix: String,
    /// A whole `Proxy-Authorization` line, or nothing.
    authorization: String,
}

/// Opens connections along one route.
pub(super) struct Opener {
    via: Via,
    tls: ClientTls,
    limits: Limits,
    cancel: Cancel,
    only_servers: bool,
}

impl Opener {
    pub(super) fn new(via: Via, tls: ClientTls, limits: Limits, cancel: Cancel) -> Opener {
        Opener { via, tls, limits, cancel, only_servers: false }
    }

    /// Whether to refuse addresses at which there are no servers.
    pub(super) fn only_to_servers(self, only_servers: bool) -> Opener {
        Opener { only_servers, ..self }
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(super) fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// The generation of certificates that connections are opened with now.
    pub(super) fn generation(&self) -> u32 {
        self.tls.look()
    }

    /// Opens a connection for requests to `uri`.
    pub(super) fn open(&self, uri: &Uri, deadline: Deadline) -> Result<Connection, Error> {
        let Some(origin) = Origin::of(uri) else {
            return Err(Error::before_writing(
                Cause::InvalidRequest,
                "the URL has no http(s) scheme and host",
            ));
        };
        self.open_origin(origin, deadline)
    }

    /// Opens a connection for requests to `origin`.
    pub(super) fn open_origin(&self, origin: Origin, deadline: Deadline) -> Result<Connection, Error> {
        let connect = deadline.earliest(Deadline::after(self.limits.connect));
        let generation = self.tls.generation();
        let mut absolute_form = None;
        let mut wire = match self.decide(&origin) {
            Way::Unix(path) => Wire::Plain(dial::unix(path, connect, &self.cancel)?),
            Way::Direct => {
                let allowed = self.allowed();
                Wire::Plain(dial::tcp(origin.host(), origin.port(), allowed, connect, &self.cancel)?)
            }
            Way::Proxy(proxy) => {
                let mut wire = self.reach_proxy(&proxy, connect, deadline)?;
                match proxy.kind() {
                    ProxyKind::Socks5 => socks::connect(&mut wire, &proxy, &origin, connect)?,
                    _ if origin.is_https() => tunnel::connect(&mut wire, &proxy, &origin, connect)?,
                    _ => {
                        let authorization = proxy.authorization();
                        absolute_form = Some(AbsoluteForm {
                            prefix: origin.to_string(),
                            authorization: authorization
                                .map(|value| format!("Proxy-Authorization: {value}\r\n"))
                                .unwrap_or_default(),
                        });
                    }
                }
                wire
            }
        };
        if origin.is_https() {
            wire = self.secure(wire, origin.host(), origin.port(), Some(&origin), deadline)?;
        }
        Ok(Connection { origin, buffers: Buffers::new(), reused: false, generation, wire, absolute_form })
    }

    fn allowed(&self) -> dial::Allowed {
        if self.only_servers { |address| !is_no_server_address(address) } else { dial::ANY }
    }

    fn decide(&self, origin: &Origin) -> Way<'_> {
        match &self.via {
            Via::Unix(path) => Way::Unix(path),
            Via::Direct => Way::Direct,
            Via::Proxies(policy) => match policy.decide(origin) {
                Decision::Direct => Way::Direct,
                Decision::Proxy { proxy, .. } => Way::Proxy(proxy),
            },
        }
    }

    fn reach_proxy(&self, proxy: &ProxyUrl, connect: Deadline, deadline: Deadline) -> Result<Wire, Error> {
        let wire = Wire::Plain(
            dial::tcp(proxy.host(), proxy.port(), dial::ANY, connect, &self.cancel)
                .map_err(|e| of_proxy(proxy, e))?,
        );
        match proxy.kind() {
            ProxyKind::Https => {
                self.secure(wire, proxy.host(), proxy.port(), None, deadline).map_err(|e| of_proxy(proxy, e))
            }
            ProxyKind::Http | ProxyKind::Socks5 => Ok(wire),
        }
    }

    /// Wraps `wire` in TLS to `host`; `target` is the origin that the client certificate may be for.
    fn secure(
        &self,
        wire: Wire,
        host: &str,
        port: u16,
        target: Option<&Origin>,
        deadline: Deadline,
    ) -> Result<Wire, Error> {
        let peer = host_and_port(host, port);
        let failed = |why: &dyn fmt::Display| {
            Error::before_writing(Cause::Tls, format!("cannot speak TLS with {peer}: {why}"))
        };
        let Ok(name) = ServerName::try_from(host.to_owned()) else {
            return Err(failed(&"it is neither a DNS name nor an IP address"));
        };
        let (config, offered) = self.tls.config_for(target).map_err(|e| failed(&e))?;
        let session = rustls::ClientConnection::new(config, name).map_err(|e| failed(&e))?;
        let limit = deadline.earliest(Deadline::after(self.limits.handshake));
        Ok(Wire::Tls(Box::new(Tls::handshake(session, wire, peer, offered, limit)?)))
    }
}

enum Way<'a> {
    Direct,
    Unix(&'a std::path::Path),
    Proxy(ProxyUrl),
}

fn of_proxy(proxy: &ProxyUrl, error: Error) -> Error {
    Error { message: format!("proxy {proxy}: {}", error.message), ..error }
}

impl Connection {
    /// What shuts it down from another thread.
    pub(super) fn cutter(&self) -> Cutter {
        self.wire.socket().cutter()
    }

    /// Sends what the buffers hold back; `first` when it starts with a request line. `started` is set
    /// as soon as any byte has left.
    pub(super) fn send_held(
        &mut self,
        first: bool,
        deadline: Deadline,
        started: &mut bool,
    ) -> Result<(), Error> {
        if let Some(form) = self.absolute_form.as_ref().filter(|_| first) {
            self.buffers.amend_request_line(&form.prefix, &form.authorization);
        }
        self.wire.write_all(self.buffers.held(), deadline, started)?;
        self.buffers.release_held();
        Ok(())
    }

    /// Reads into the buffers; 0 is the end of the stream.
    pub(super) fn receive(&mut self, deadline: Deadline) -> Result<usize, Error> {
        let amount = self.wire.read(self.buffers.free_input(), deadline)?;
        self.buffers.received(amount);
        Ok(amount)
    }

    /// Whether it is open and nothing unexpected has arrived.
    pub(super) fn is_quiet(&mut self) -> bool {
        self.wire.is_quiet()
    }

    /// Whether the origin is reached through TLS.
    pub(super) fn is_tls(&self) -> bool {
        self.wire.is_tls()
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opener").field("via", &self.via).field("limits", &self.limits).finish()
    }
}
