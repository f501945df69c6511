//! Requests as routes see them.

use std::net::SocketAddr;

use crate::net::HeaderList;
use crate::net::front::{self, BadBody, Body, Exchange, Head};

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A TCP peer.
    Tcp(SocketAddr),
    /// A process of this host, over the Unix socket.
    Unix,
}

/// A request whose head has arrived.
pub struct Request<'a> {
    /// Upper case as sent; methods are case-sensitive.
    pub method: String,
    /// Path without the query, as sent.
    pub path: String,
    /// Text after the `?`, empty without one.
    pub query: String,
    /// Header fields in order.
    pub headers: HeaderList,
    /// Who asks.
    pub peer: Peer,
    body: Body<'a>,
}

/// Why a request's body could not be read.
#[derive(Debug)]
pub enum BodyError {
    /// It is longer than the route allows.
    TooLarge,
    /// It did not arrive, not in time, or not as announced.
    Broken,
}

impl<'a> Request<'a> {
    pub(super) fn of(head: &Head, exchange: &'a mut Exchange<'_>) -> Request<'a> {
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        Request {
            method: head.method_text().to_owned(),
            path: head.path().to_owned(),
            query: head.query().to_owned(),
            headers: head.headers().map(|(name, value)| (name, text(value))).collect(),
            peer: Peer::of(exchange.peer()),
            body: exchange.body(),
        }
    }

    /// Whether the method asks for a representation only.
    pub fn is_read(&self) -> bool {
        self.method == "GET" || self.method == "HEAD"
    }

    /// Reads the body, `limit` bytes at most, within the listener's time for bodies.
    ///
    /// # Errors
    /// [`BodyError`]; the connection is closed after the answer if some of the body is left then.
    pub fn read_body(&mut self, limit: usize) -> Result<Vec<u8>, BodyError> {
        self.body.read(limit).map_err(|bad| match bad {
            BadBody::TooLarge => BodyError::TooLarge,
            BadBody::Malformed | BadBody::Timeout | BadBody::Gone => BodyError::Broken,
        })
    }
}

impl Peer {
    fn of(peer: &front::Peer) -> Peer {
        peer.address.map_or(Peer::Unix, Peer::Tcp)
    }
}
