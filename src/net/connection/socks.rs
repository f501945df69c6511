//! SOCKS 5 (RFC 1928) with user name and password (RFC 1929).
//!
//! Host names go to the proxy unresolved.

use std::net::IpAddr;

use super::wire::Wire;
use crate::net::origin::Origin;
use crate::net::proxy::ProxyUrl;
use crate::net::{Cause, Deadline, Error};

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const USER_AND_PASSWORD: u8 = 2;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// Asks the proxy at the other end of `wire` for a connection to `target`.
pub(super) fn connect(
    wire: &mut Wire,
    proxy: &ProxyUrl,
    target: &Origin,
    deadline: Deadline,
) -> Result<(), Error> {
    negotiate(wire, proxy, target, deadline)
        .map_err(|e| Error { message: format!("proxy {proxy}: {}", e.message), ..e })
}

fn negotiate(wire: &mut Wire, proxy: &ProxyUrl, target: &Origin, deadline: Deadline) -> Result<(), Error> {
    let send = |wire: &mut Wire, bytes: &[u8]| wire.write_all(bytes, deadline, &mut false);
    let credentials = proxy.credentials();
    let greeting: &[u8] = match credentials {
        Some(_) => &[VERSION, 2, NO_AUTHENTICATION, USER_AND_PASSWORD],
        None => &[VERSION, 1, NO_AUTHENTICATION],
    };
    send(wire, greeting)?;
    let [version, method] = read(wire, deadline)?;
    if version != VERSION {
        return Err(failed(Cause::Dial, "it does not speak SOCKS 5"));
    }
    match (method, credentials) {
        (NO_AUTHENTICATION, _) => {}
        (USER_AND_PASSWORD, Some((user, password))) => {
            let mut request = vec![1];
            push_counted(&mut request, user, "the user name")?;
            push_counted(&mut request, password, "the password")?;
            send(wire, &request)?;
            let [_, status] = read(wire, deadline)?;
            if status != 0 {
                return Err(failed(Cause::Dial, "it rejected the credentials"));
            }
        }
        _ => return Err(failed(Cause::Dial, "it wants credentials that its URL does not have")),
    }

    let mut request = vec![VERSION, CONNECT, 0];
    match target.host().parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => {
            request.push(IPV4);
            request.extend(address.octets());
        }
        Ok(IpAddr::V6(address)) => {
            request.push(IPV6);
            request.extend(address.octets());
        }
        Err(_) => {
            request.push(NAME);
            push_counted(&mut request, target.host().as_bytes(), "the host name")?;
        }
    }
    request.extend(target.port().to_be_bytes());
    send(wire, &request)?;

    let [version, status, _, kind] = read(wire, deadline)?;
    if version != VERSION {
        return Err(failed(Cause::Dial, "it does not speak SOCKS 5"));
    }
    if status != 0 {
        let (cause, why) = refusal(status);
        return Err(failed(cause, &format!("cannot reach {}: {why}", target.host_and_port())));
    }
    // The address it connected from: of no use, but it has to be taken off the stream.
    let address_bytes = match kind {
        IPV4 => 4,
        IPV6 => 16,
        NAME => usize::from(read::<1>(wire, deadline)?[0]),
        _ => return Err(failed(Cause::Dial, "it answered with an unknown kind of address")),
    };
    for _ in 0..address_bytes + 2 {
        read::<1>(wire, deadline)?;
    }
    Ok(())
}

fn refusal(status: u8) -> (Cause, &'static str) {
    match status {
        2 => (Cause::Dial, "not allowed by its rules"),
        3 => (Cause::NetworkUnreachable, "the network is unreachable"),
        4 => (Cause::HostUnreachable, "the host is unreachable"),
        5 => (Cause::ConnectionRefused, "the connection was refused"),
        6 => (Cause::Timeout, "no answer in time"),
        _ => (Cause::Dial, "it failed"),
    }
}

fn push_counted(request: &mut Vec<u8>, bytes: &[u8], what: &str) -> Result<(), Error> {
    let length = u8::try_from(bytes.len())
        .map_err(|_| failed(Cause::InvalidRequest, &format!("{what} is longer than 255 bytes")))?;
    request.push(length);
    request.extend_from_slice(bytes);
    Ok(())
}

/// Reads exactly `N` bytes and no more: what follows belongs to the target.
fn read<const N: usize>(wire: &mut Wire, deadline: Deadline) -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        match wire.read(&mut bytes[filled..], deadline)? {
            0 => return Err(failed(Cause::Dial, "it closed the connection")),
            amount => filled += amount,
        }
    }
    Ok(bytes)
}

fn failed(cause: Cause, message: &str) -> Error {
    Error::before_writing(cause, message)
}
