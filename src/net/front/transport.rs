//! A connection's byte stream: the bare socket, or TLS over it.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ServerConnection;

use super::socket::{Peek, Socket};

/// Time for the peer to take what the protocol itself sends within a read.
const PROTOCOL_WRITE_TIME: Duration = Duration::from_secs(5);

/// How long a read may wait.
#[derive(Clone, Copy)]
pub(super) enum Until {
    /// Until this moment.
    Time(Instant),
    /// As long as the socket's idle time.
    Idle,
    /// Not at all.
    Now,
}

/// The bytes of one connection.
pub(super) enum Transport {
    /// As they come.
    Plain(Arc<Socket>),
    /// Through TLS; the handshake happens within the first read.
    Tls(Arc<Socket>, Box<ServerConnection>),
}

impl Transport {
    pub(super) fn socket(&self) -> &Arc<Socket> {
        match self {
            Transport::Plain(socket) | Transport::Tls(socket, _) => socket,
        }
    }

    /// Whether the client presented a certificate that its authority vouches for.
    pub(super) fn has_client_certificate(&self) -> bool {
        match self {
            Transport::Plain(_) => false,
            Transport::Tls(_, tls) => tls.peer_certificates().is_some_and(|chain| !chain.is_empty()),
        }
    }

    pub(super) fn is_tls(&self) -> bool {
        matches!(self, Transport::Tls(..))
    }

    /// Reads some bytes; 0 means that the peer closed.
    pub(super) fn read(&mut self, buffer: &mut [u8], until: Until) -> io::Result<usize> {
        match self {
            Transport::Plain(socket) => read_socket(socket, buffer, until),
            Transport::Tls(socket, tls) => loop {
                match tls.reader().read(buffer) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    other => return other,
                }
                let mut wire = Wire { socket, until };
                if tls.read_tls(&mut wire)? == 0 {
                    return Ok(0);
                }
                let state = tls.process_new_packets();
                // Handshake messages and alerts must leave even when the packets were bad.
                while tls.wants_write() {
                    tls.write_tls(&mut wire)?;
                }
                state.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            },
        }
    }

    /// Writes all of `bytes` by `deadline`; an error means that the system did not take all of them.
    pub(super) fn write_all(&mut self, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
        match self {
            Transport::Plain(socket) => socket.send_all(bytes, deadline),
            Transport::Tls(socket, tls) => {
                let mut wire = Wire { socket, until: Until::Time(deadline) };
                while !bytes.is_empty() {
                    let taken = tls.writer().write(bytes)?;
                    bytes = &bytes[taken..];
                    while tls.wants_write() {
                        tls.write_tls(&mut wire)?;
                    }
                }
                Ok(())
            }
        }
    }

    /// Looks at the peer without waiting. Bytes of TLS records that carry no data are taken in.
    pub(super) fn peek(&mut self) -> Peek {
        match self {
            Transport::Plain(socket) => socket.peek(),
            Transport::Tls(socket, tls) => {
                let mut wire = Wire { socket, until: Until::Now };
                match tls.read_tls(&mut wire) {
                    Ok(0) => return Peek::Gone,
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Peek::Quiet,
                    Err(_) => return Peek::Gone,
                }
                match tls.process_new_packets() {
                    Ok(state) if state.peer_has_closed() => Peek::Gone,
                    Ok(state) if state.plaintext_bytes_to_read() > 0 => Peek::Bytes,
                    Ok(_) => Peek::Quiet,
                    Err(_) => Peek::Gone,
                }
            }
        }
    }

    /// Says goodbye in the way of the protocol.
    pub(super) fn close_notify(&mut self, deadline: Instant) {
        if let Transport::Tls(socket, tls) = self {
            tls.send_close_notify();
            let mut wire = Wire { socket, until: Until::Time(deadline) };
            while tls.wants_write() && tls.write_tls(&mut wire).is_ok() {}
        }
    }
}

fn read_socket(socket: &Socket, buffer: &mut [u8], until: Until) -> io::Result<usize> {
    match until {
        Until::Time(deadline) => socket.recv(buffer, deadline),
        Until::Idle => socket.recv_blocking(buffer),
        Until::Now => socket.recv_now(buffer),
    }
}

/// The socket as rustls wants to see it.
struct Wire<'a> {
    socket: &'a Socket,
    until: Until,
}

impl Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        read_socket(self.socket, buffer, self.until)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let deadline = match self.until {
            Until::Time(deadline) => deadline,
            // Replies within a read (handshake, alerts) are small: the send buffer has room or the peer stalls.
            Until::Idle | Until::Now => Instant::now() + PROTOCOL_WRITE_TIME,
        };
        self.socket.send(bytes, deadline)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
