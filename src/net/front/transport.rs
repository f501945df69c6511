//! A connection's byte stream: the bare socket, or a layer over it.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use super::socket::{Peek, Socket};

/// How long a read may wait.
#[derive(Clone, Copy)]
pub(crate) enum Until {
    /// Until this moment.
    Time(Instant),
    /// As long as the socket's idle time.
    Idle,
    /// Not at all.
    Now,
}

/// What lies between the socket and the bytes of HTTP. Behind a trait, so that a program that serves no
/// TLS carries no code for it.
pub(crate) trait Layer: Send {
    /// Whether the client presented a certificate that its authority vouches for.
    fn has_client_certificate(&self) -> bool;
    /// Reads some bytes; 0 means that the peer closed.
    fn read(&mut self, socket: &Socket, buffer: &mut [u8], until: Until) -> io::Result<usize>;
    /// Writes all of `bytes` by `deadline`; an error means that the system did not take all of them.
    fn write_all(&mut self, socket: &Socket, bytes: &[u8], deadline: Instant) -> io::Result<()>;
    /// Looks at the peer without waiting.
    fn peek(&mut self, socket: &Socket) -> Peek;
    /// Says goodbye in the way of the protocol.
    fn close_notify(&mut self, socket: &Socket, deadline: Instant);
}

/// Begins the layer of each accepted connection.
pub(crate) trait Secure: Send + Sync {
    /// A layer that has not read anything yet.
    fn layer(&self) -> io::Result<Box<dyn Layer>>;
}

/// The bytes of one connection.
pub(super) struct Transport {
    socket: Arc<Socket>,
    /// `None`: the bytes go as they come.
    layer: Option<Box<dyn Layer>>,
}

impl Transport {
    pub(super) fn new(socket: Arc<Socket>, layer: Option<Box<dyn Layer>>) -> Transport {
        Transport { socket, layer }
    }

    pub(super) fn socket(&self) -> &Arc<Socket> {
        &self.socket
    }

    /// As [`Layer::has_client_certificate`].
    pub(super) fn has_client_certificate(&self) -> bool {
        self.layer.as_ref().is_some_and(|layer| layer.has_client_certificate())
    }

    pub(super) fn is_tls(&self) -> bool {
        self.layer.is_some()
    }

    /// As [`Layer::read`].
    pub(super) fn read(&mut self, buffer: &mut [u8], until: Until) -> io::Result<usize> {
        match &mut self.layer {
            None => read_socket(&self.socket, buffer, until),
            Some(layer) => layer.read(&self.socket, buffer, until),
        }
    }

    /// As [`Layer::write_all`].
    pub(super) fn write_all(&mut self, bytes: &[u8], deadline: Instant) -> io::Result<()> {
        match &mut self.layer {
            None => self.socket.send_all(bytes, deadline),
            Some(layer) => layer.write_all(&self.socket, bytes, deadline),
        }
    }

    /// As [`Layer::peek`].
    pub(super) fn peek(&mut self) -> Peek {
        match &mut self.layer {
            None => self.socket.peek(),
            Some(layer) => layer.peek(&self.socket),
        }
    }

    /// As [`Layer::close_notify`].
    pub(super) fn close_notify(&mut self, deadline: Instant) {
        if let Some(layer) = &mut self.layer {
            layer.close_notify(&self.socket, deadline);
        }
    }
}

/// One read of the bare socket.
pub(super) fn read_socket(socket: &Socket, buffer: &mut [u8], until: Until) -> io::Result<usize> {
    match until {
        Until::Time(deadline) => socket.recv(buffer, deadline),
        Until::Idle => socket.recv_blocking(buffer),
        Until::Now => socket.recv_now(buffer),
    }
}
