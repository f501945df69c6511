//! Who may use the admin paths: pure decisions on a request's peer and headers.
//!
//! Invariant: forwarding headers (`X-Forwarded-For`, `Forwarded`) are never looked at.

use std::net::IpAddr;

use url::{Host, Url};

use super::request::{Peer, Request};
use super::response::Response;
use crate::net::HeaderList;

/// Why a request is refused; always with 403.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// A peer beyond loopback.
    Remote,
    /// A peer beyond loopback, where no setting opens the path.
    RemoteAlways,
    /// An unsafe request from another origin.
    CrossOrigin,
    /// A local request by a name that is not ours: DNS rebinding.
    ForeignHost,
}

impl Refused {
    /// The answer.
    pub fn response(self) -> Response {
        let text = match self {
            Refused::Remote => "admin UI is restricted to loopback; set --allow-remote-ui to override",
            Refused::RemoteAlways => "harpoon transport is restricted to loopback",
            Refused::CrossOrigin => "admin UI unsafe request must be same-origin",
            Refused::ForeignHost => "admin UI request has a Host that is not this listener",
        };
        Response::error(403, text)
    }
}

/// Whether the peer is on this host: a loopback address or the Unix socket.
pub fn is_local(peer: Peer) -> bool {
    match peer {
        Peer::Unix => true,
        Peer::Tcp(address) => address.ip().to_canonical().is_loopback(),
    }
}

/// The rules of the admin paths, in order: local only, then the `Host` of local requests, then the
/// origin of unsafe ones. `own_host` is the host of the listen address, as configured.
///
/// # Errors
/// The first rule that the request breaks.
pub fn check(request: &Request<'_>, allow_remote: bool, own_host: &str) -> Result<(), Refused> {
    check_peer(request.peer, allow_remote)?;
    check_host(request.peer, &request.headers, own_host)?;
    check_origin(request.peer, &request.method, &request.headers)
}

/// Loopback peers only, unless remote ones are allowed.
///
/// # Errors
/// [`Refused::Remote`].
pub fn check_peer(peer: Peer, allow_remote: bool) -> Result<(), Refused> {
    if allow_remote || is_local(peer) { Ok(()) } else { Err(Refused::Remote) }
}

/// A local TCP request must name loopback or the configured host. Others (remote, Unix socket, no
/// `Host` at all) cannot come from a browser that was lured by a name.
///
/// # Errors
/// [`Refused::ForeignHost`].
pub fn check_host(peer: Peer, headers: &HeaderList, own_host: &str) -> Result<(), Refused> {
    let Some(host) = headers.get("Host") else { return Ok(()) };
    if peer == Peer::Unix || !is_local(peer) {
        return Ok(());
    }
    let name = Url::parse(&format!("http://{host}/")).ok();
    let known = name.as_ref().is_some_and(|url| {
        is_loopback_host(url)
            || (!own_host.is_empty()
                && url.host_str().is_some_and(|name| unbracketed(name).eq_ignore_ascii_case(own_host)))
    });
    if known { Ok(()) } else { Err(Refused::ForeignHost) }
}

/// An unsafe request that a browser sends must come from the page's own origin.
///
/// # Errors
/// [`Refused::CrossOrigin`].
pub fn check_origin(peer: Peer, method: &str, headers: &HeaderList) -> Result<(), Refused> {
    if matches!(method, "GET" | "HEAD" | "OPTIONS" | "TRACE") {
        return Ok(());
    }
    let cross_site =
        headers.get("Sec-Fetch-Site").is_some_and(|value| value.trim().eq_ignore_ascii_case("cross-site"));
    let present = |name| headers.get(name).map(str::trim).filter(|value| !value.is_empty());
    let allowed = match present("Origin").or_else(|| present("Referer")) {
        _ if cross_site => false,
        Some(origin) => is_own_origin(origin, headers.get("Host").unwrap_or_default(), is_local(peer)),
        None => true,
    };
    if allowed { Ok(()) } else { Err(Refused::CrossOrigin) }
}

fn is_own_origin(origin: &str, host: &str, local: bool) -> bool {
    let (Ok(origin), Ok(own)) = (Url::parse(origin), Url::parse(&format!("http://{host}/"))) else {
        return false;
    };
    origin.scheme() == "http"
        && origin.host_str().is_some()
        && origin.host_str() == own.host_str()
        && origin.port_or_known_default() == own.port_or_known_default()
        && (!local || is_loopback_host(&origin))
}

fn is_loopback_host(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.strip_suffix('.').unwrap_or(name).eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => IpAddr::V6(ip).to_canonical().is_loopback(),
        None => false,
    }
}

fn unbracketed(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Fields<'a> = &'a [(&'a str, &'a str)];

    fn tcp(address: &str) -> Peer {
        Peer::Tcp(address.parse().unwrap())
    }

    fn headers(pairs: &[(&str, &str)]) -> HeaderList {
        pairs.iter().copied().collect()
    }

    #[test]
    fn only_loopback_peers_are_local() {
        for (peer, local) in [
            (tcp("127.0.0.1:1"), true),
            (tcp("127.9.9.9:1"), true),
            (tcp("[::1]:1"), true),
            (tcp("[::ffff:127.0.0.1]:1"), true),
            (Peer::Unix, true),
            (tcp("10.0.0.1:1"), false),
            (tcp("[::ffff:10.0.0.1]:1"), false),
            (tcp("[fe80::1]:1"), false),
            (tcp("0.0.0.0:1"), false),
        ] {
            assert_eq!(is_local(peer), local, "{peer:?}");
            assert_eq!(check_peer(peer, false).is_ok(), local);
            assert!(check_peer(peer, true).is_ok());
        }
    }

    #[test]
    fn local_requests_must_name_this_listener() {
        let local = tcp("127.0.0.1:1");
        for (peer, host, own, allowed) in [
            (local, Some("127.0.0.1:8080"), "", true),
            (local, Some("localhost"), "", true),
            (local, Some("LOCALHOST.:8080"), "", true),
            (local, Some("[::1]:8080"), "", true),
            (local, Some("tunnel.lan:8080"), "Tunnel.lan", true),
            (local, Some("[fd00::1]:8080"), "fd00::1", true),
            (local, Some("attacker.example:8080"), "tunnel.lan", false),
            (local, Some("127.0.0.1.attacker.example"), "", false),
            (local, Some("a b"), "", false),
            (local, Some(""), "", false),
            (local, None, "", true),
            (Peer::Unix, Some("anything"), "", true),
            (tcp("10.0.0.9:1"), Some("tunnel.lan"), "", true),
        ] {
            let fields: Vec<(&str, &str)> = host.iter().map(|host| ("Host", *host)).collect();
            assert_eq!(check_host(peer, &headers(&fields), own).is_ok(), allowed, "{host:?} {own}");
        }
    }

    #[test]
    fn unsafe_requests_must_come_from_their_own_origin() {
        let local = tcp("127.0.0.1:1");
        let remote = tcp("10.0.0.9:1");
        let own = ("Host", "127.0.0.1:8080");
        let cases: &[(Peer, Fields<'_>, bool)] = &[
            (local, &[own], true),
            (local, &[own, ("Origin", "http://127.0.0.1:8080")], true),
            (local, &[own, ("Origin", "https://127.0.0.1:8080")], false),
            (local, &[own, ("Origin", "http://127.0.0.1:8081")], false),
            (local, &[own, ("Origin", "https://attacker.example")], false),
            (local, &[own, ("Origin", "null")], false),
            (local, &[own, ("Sec-Fetch-Site", " Cross-Site ")], false),
            (local, &[own, ("Sec-Fetch-Site", "cross-site"), ("Origin", "http://127.0.0.1:8080")], false),
            (local, &[own, ("Sec-Fetch-Site", "same-origin")], true),
            (local, &[own, ("Referer", "http://127.0.0.1:8080/ui?x")], true),
            (local, &[own, ("Referer", "http://attacker.example/")], false),
            (local, &[("Host", "attacker.example:8080"), ("Origin", "http://attacker.example:8080")], false),
            (local, &[("Host", "localhost.:8080"), ("Origin", "http://LocalHost.:8080")], true),
            (remote, &[("Host", "tunnel.lan:8080"), ("Origin", "http://Tunnel.lan:8080")], true),
            (remote, &[("Host", "tunnel.lan:8080"), ("Origin", "http://other.lan:8080")], false),
            (Peer::Unix, &[("Host", "x"), ("Origin", "http://x")], false),
            (local, &[own, ("Origin", ""), ("Referer", "http://attacker.example/")], false),
        ];
        for (peer, fields, allowed) in cases {
            assert_eq!(check_origin(*peer, "POST", &headers(fields)).is_ok(), *allowed, "{fields:?}");
            assert!(check_origin(*peer, "GET", &headers(fields)).is_ok());
        }
    }
}
