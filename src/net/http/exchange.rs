//! Our end of ureq's transport.
//!
//! The request is held back until the reply is awaited, so that it leaves in one write. When ureq asks
//! after a complete reply whether the connection can be kept, it goes to our own [`Pool`], and ureq,
//! told no, forgets it: its pool, which would look over every idle connection each time, stays empty.

use std::fmt;
use std::sync::Arc;

use ureq::Error as UreqError;
use ureq::config::Config;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

use super::call;
use super::cut::{self, Watched};
use super::pool::Pool;
use crate::net::connection::{self, Connection, HELD_BOUND_BYTES};
use crate::net::{Cause, Deadline, Error, Uri};

/// Resolves nothing: names are looked up when a connection is opened, and only then.
#[derive(Debug)]
pub(super) struct NoNames;

impl Resolver for NoNames {
    fn resolve(&self, _: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, UreqError> {
        Ok(self.empty())
    }
}

/// Takes connections from a pool.
pub(super) struct Connect(pub(super) Arc<Pool>);

impl Connector for Connect {
    type Out = Exchange;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _chained: Option<()>,
    ) -> Result<Option<Exchange>, UreqError> {
        let mut connection = self.0.connect(details.uri, call::deadline()).map_err(call::fail)?;
        call::set_reused(connection.reused);
        let watched = cut::watch(&connection).map_err(call::fail)?;
        let (total, line) = call::sizes();
        connection.buffers.reserve_output(total, line);
        let pool = Arc::clone(&self.0);
        Ok(Some(Exchange {
            buffers: ExchangeBuffers(Some(connection)),
            pool,
            line_sent: false,
            refused: None,
            watched,
        }))
    }
}

impl fmt::Debug for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connect")
    }
}

/// One request and its reply on a connection.
pub(super) struct Exchange {
    buffers: ExchangeBuffers,
    pool: Arc<Pool>,
    /// Whether the request line has been handed to the connection.
    line_sent: bool,
    /// Why the peer took the request only in part. It may have answered all the same (RFC 9112 §9.5).
    refused: Option<Error>,
    /// Who may end it from another thread.
    watched: Option<Watched>,
}

/// The connection, until it goes back to the pool.
struct ExchangeBuffers(Option<Box<Connection>>);

impl Exchange {
    /// Sends what is held back.
    fn flush(&mut self, deadline: Deadline) -> Result<(), Error> {
        let connection = self.buffers.connection()?;
        if connection.buffers.held().is_empty() {
            return Ok(());
        }
        if self.refused.is_some() {
            connection.buffers.release_held();
            return Ok(());
        }
        let first = !std::mem::replace(&mut self.line_sent, true);
        let mut started = false;
        let sent = connection.send_held(first, deadline, &mut started);
        if started {
            call::set_written();
        }
        match sent {
            Err(error) if connection.reused && !call::is_written() && is_stale(&error) => {
                let fresh = self.pool.opener().open_origin(connection.origin.clone(), deadline)?;
                let mut old = std::mem::replace(&mut **connection, fresh);
                connection.buffers.take_output_of(&mut old.buffers);
                self.watched = cut::watch(connection)?;
                call::set_reused(false);
                let sent = connection.send_held(false, deadline, &mut started);
                if started {
                    call::set_written();
                }
                sent
            }
            Err(error) if call::is_written() && is_stale(&error) => {
                connection.buffers.release_held();
                self.refused = Some(error);
                Ok(())
            }
            sent => sent,
        }
    }

    fn receive(&mut self, deadline: Deadline) -> Result<bool, Error> {
        self.flush(deadline)?;
        let connection = self.buffers.connection()?;
        let received = connection.receive(deadline);
        let amount = match &self.refused {
            Some(error) if !matches!(received, Ok(1..)) && !call::is_received() => return Err(error.clone()),
            _ => received?,
        };
        if amount > 0 {
            call::set_received();
        }
        Ok(amount > 0)
    }
}

/// Whether the peer had closed the connection before it got anything.
fn is_stale(error: &Error) -> bool {
    matches!(error.cause, Cause::ClosedPipe | Cause::ConnectionReset | Cause::ConnectionAborted)
}

impl Transport for Exchange {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), UreqError> {
        let connection = self.buffers.connection().map_err(call::fail)?;
        connection.buffers.hold(amount);
        if connection.buffers.held().len() >= HELD_BOUND_BYTES {
            self.flush(call::deadline()).map_err(call::fail)?;
        }
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, UreqError> {
        let deadline = call::deadline();
        // Of ureq's own time-outs only the wait for `100 Continue` is in use; it is no failure.
        if timeout.after.is_not_happening() {
            return self.receive(deadline).map_err(call::fail);
        }
        let soon = Deadline::after(*timeout.after);
        match self.receive(soon.earliest(deadline)) {
            Err(error) if error.cause == Cause::Timeout && !deadline.is_past() => {
                Err(UreqError::Timeout(timeout.reason))
            }
            outcome => outcome.map_err(call::fail),
        }
    }

    /// Asked once, when the reply has been read to its end and the connection may be kept.
    fn is_open(&mut self) -> bool {
        self.watched = None;
        if let Some(connection) = self.buffers.0.take()
            && self.refused.is_none()
        {
            self.pool.put(connection);
        }
        false
    }

    fn is_tls(&self) -> bool {
        self.buffers.0.as_ref().is_some_and(|connection| connection.is_tls())
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exchange")
    }
}

impl ExchangeBuffers {
    fn connection(&mut self) -> Result<&mut Box<Connection>, Error> {
        // ureq does not touch a transport again that it was told is not open.
        self.0.as_mut().ok_or_else(|| Error::after_writing(Cause::Other, "the exchange is over"))
    }

    fn get(&mut self) -> Option<&mut connection::Buffers> {
        self.0.as_mut().map(|connection| &mut connection.buffers)
    }
}

impl Buffers for ExchangeBuffers {
    fn output(&mut self) -> &mut [u8] {
        self.get().map(connection::Buffers::free_output).unwrap_or_default()
    }

    fn input(&self) -> &[u8] {
        self.0.as_ref().map(|connection| connection.buffers.unread()).unwrap_or_default()
    }

    fn input_append_buf(&mut self) -> &mut [u8] {
        self.get().map(connection::Buffers::free_input).unwrap_or_default()
    }

    fn input_appended(&mut self, amount: usize) {
        if let Some(buffers) = self.get() {
            buffers.received(amount);
        }
    }

    fn input_consume(&mut self, amount: usize) {
        if let Some(buffers) = self.get() {
            buffers.consume(amount);
        }
    }

    fn tmp_and_output(&mut self) -> (&mut [u8], &mut [u8]) {
        self.get().map(connection::Buffers::scratch_and_output).unwrap_or_default()
    }

    fn can_use_input(&self) -> bool {
        self.0.as_ref().is_some_and(|connection| connection.buffers.is_worth_a_look())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;
    use std::time::Duration;

    use super::*;
    use crate::net::connection::Opener;
    use crate::net::tls::ClientTls;
    use crate::net::{Cancel, Limits, Trust, Via};

    #[test]
    fn a_request_that_meets_a_dead_connection_before_it_left_goes_over_a_new_one() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let uri: Uri = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let tls = ClientTls::new(Trust::system(), None);
        let opener = Opener::new(Via::Direct, tls, Limits::default(), Cancel::new());
        let pool = Pool::new(opener);
        let deadline = Deadline::after(Duration::from_secs(30));
        let hold = |connection: &mut Connection, bytes: &[u8]| {
            connection.buffers.free_output()[..bytes.len()].copy_from_slice(bytes);
            connection.buffers.hold(bytes.len());
        };

        // A peer that closes with bytes unread resets the connection.
        let mut connection = pool.connect(&uri, deadline).unwrap();
        hold(&mut connection, b"never read");
        connection.send_held(true, deadline, &mut false).unwrap();
        drop(listener.accept().unwrap());
        while connection.is_quiet() {
            std::thread::yield_now();
        }

        connection.reused = true;
        hold(&mut connection, b"whole request");
        let buffers = ExchangeBuffers(Some(connection));
        let pool = Arc::clone(&pool);
        let mut exchange = Exchange { buffers, pool, line_sent: false, refused: None, watched: None };
        exchange.flush(deadline).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        let mut seen = [0; 13];
        peer.read_exact(&mut seen).unwrap();
        assert_eq!(&seen, b"whole request");
    }
}
