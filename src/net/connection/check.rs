//! Does a proxy answer, and would it let us through?

use std::time::{Duration, Instant};

use super::{Opener, Wire, dial, tunnel};
use crate::net::proxy::{ProxyKind, ProxyUrl};
use crate::net::tls::ClientTls;
use crate::net::{Cancel, Cause, Deadline, Error, Limits, Trust, Via};

/// Time for the TCP connect, and again for the rest.
const PHASE: Duration = Duration::from_secs(5);

/// What a look at a proxy found.
#[derive(Clone, Debug)]
pub struct ProxyCheck {
    /// How long the TCP connect took.
    pub tcp: Duration,
    /// How long TLS and `CONNECT` took; `None` if it did not come to that.
    pub connect: Option<Duration>,
    /// Status of the reply to `CONNECT`, if there was one.
    pub status: Option<u16>,
    /// Why the proxy is of no use now.
    pub failure: Option<ProxyFailure>,
}

/// Where and why a check failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyFailure {
    /// `tcp` or `connect`.
    pub phase: &'static str,
    /// `timeout`, `dial_error`, `connect_error` or `bad_status`.
    pub reason: &'static str,
}

/// Connects to `proxy` (TLS included for an `https` one) and, if `target` (`host:port`) is given, asks
/// for a tunnel to it. Sends nothing to the target.
pub fn check_proxy(proxy: &ProxyUrl, target: Option<&str>, trust: &Trust, cancel: &Cancel) -> ProxyCheck {
    let started = Instant::now();
    let mut check = ProxyCheck { tcp: Duration::ZERO, connect: None, status: None, failure: None };
    let socket = dial::tcp(proxy.host(), proxy.port(), dial::ANY, Deadline::after(PHASE), cancel);
    check.tcp = started.elapsed();
    let socket = match socket {
        Ok(socket) => socket,
        Err(error) => {
            check.failure = Some(ProxyFailure { phase: "tcp", reason: reason(&error, "dial_error") });
            return check;
        }
    };
    let started = Instant::now();
    let asked = ask(Wire::Plain(socket), proxy, target, trust, cancel);
    check.connect = Some(started.elapsed());
    match asked {
        Ok(status) => {
            check.status = status;
            if status.is_some_and(|status| !(200..300).contains(&status)) {
                check.failure = Some(ProxyFailure { phase: "connect", reason: "bad_status" });
            }
        }
        Err(error) => {
            check.failure = Some(ProxyFailure { phase: "connect", reason: reason(&error, "connect_error") });
        }
    }
    check
}

fn ask(
    mut wire: Wire,
    proxy: &ProxyUrl,
    target: Option<&str>,
    trust: &Trust,
    cancel: &Cancel,
) -> Result<Option<u16>, Error> {
    let deadline = Deadline::after(PHASE);
    if proxy.kind() == ProxyKind::Https {
        let tls = ClientTls::new(trust.clone(), None);
        let opener = Opener::new(Via::Direct, tls, Limits::default(), cancel.clone());
        wire = opener.secure(wire, proxy.host(), proxy.port(), None, deadline)?;
    }
    match target {
        Some(target) if proxy.kind() != ProxyKind::Socks5 => {
            tunnel::request(&mut wire, proxy, target, deadline).map(Some)
        }
        _ => Ok(None),
    }
}

fn reason(error: &Error, otherwise: &'static str) -> &'static str {
    if error.cause == Cause::Timeout { "timeout" } else { otherwise }
}
