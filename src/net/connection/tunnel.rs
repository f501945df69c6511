//! `CONNECT` through an HTTP proxy (RFC 9110 §9.3.6).

use super::wire::Wire;
use crate::net::origin::Origin;
use crate::net::proxy::ProxyUrl;
use crate::net::{Cause, Deadline, Error};

/// Longest reply head of a proxy, in bytes.
const HEAD_BOUND_BYTES: usize = 16 * 1024;

/// Asks the proxy at the other end of `wire` for a tunnel to `target`.
pub(super) fn connect(
    wire: &mut Wire,
    proxy: &ProxyUrl,
    target: &Origin,
    deadline: Deadline,
) -> Result<(), Error> {
    let authority = target.host_and_port();
    let status = request(wire, proxy, &authority, deadline).map_err(|e| Error {
        message: format!("proxy {proxy}, asked for a tunnel to {authority}: {}", e.message),
        ..e
    })?;
    if (200..300).contains(&status) {
        return Ok(());
    }
    let mut message = format!("proxy {proxy} refused a tunnel to {authority} with status {status}");
    if status == 407 {
        message.push_str("; it wants other credentials in its URL");
    }
    Err(Error::before_writing(Cause::ProxyRefused(status), message))
}

/// Sends the request and reads the head of the reply; its status.
pub(super) fn request(
    wire: &mut Wire,
    proxy: &ProxyUrl,
    authority: &str,
    deadline: Deadline,
) -> Result<u16, Error> {
    let mut head = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n");
    if let Some(value) = proxy.authorization() {
        head.push_str("Proxy-Authorization: ");
        head.push_str(&value);
        head.push_str("\r\n");
    }
    head.push_str("\r\n");
    wire.write_all(head.as_bytes(), deadline, &mut false)?;
    read_status(wire, deadline)
}

fn read_status(wire: &mut Wire, deadline: Deadline) -> Result<u16, Error> {
    let invalid = |why: &str| Error::before_writing(Cause::Dial, why);
    let mut head = Vec::with_capacity(256);
    let mut piece = [0_u8; 1024];
    loop {
        let amount = wire.read(&mut piece, deadline)?;
        if amount == 0 {
            return Err(Error::before_writing(Cause::Dial, "it closed the connection"));
        }
        head.extend_from_slice(&piece[..amount]);
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut reply = httparse::Response::new(&mut headers);
        match reply.parse(&head) {
            Ok(httparse::Status::Complete(length)) => {
                let status = reply.code.unwrap_or_default();
                // In a tunnel we speak first. Bytes after a refusal are its body, which nobody needs.
                if length < head.len() && (200..300).contains(&status) {
                    return Err(invalid("it sent data before the tunnel was used"));
                }
                return Ok(status);
            }
            Ok(httparse::Status::Partial) if head.len() <= HEAD_BOUND_BYTES => {}
            Ok(httparse::Status::Partial) => return Err(invalid("the head of its reply is too long")),
            Err(_) => return Err(invalid("its reply is not HTTP")),
        }
    }
}
