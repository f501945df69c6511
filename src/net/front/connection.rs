//! One connection: requests in, responses out, in turn.
//!
//! Invariant: a connection is only kept when both sides agree where the next request starts; whatever
//! leaves that in doubt closes it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::exchange::{Exchange, Wake};
use super::head::{self, BadHead, Framing, Head, Method};
use super::live::{Live, Waiting};
use super::response::{DateField, End, Persistence, Response, render_head};
use super::socket::{Peek, Watched};
use super::transport::{Transport, Until};
use super::{Limits, Service};
use crate::net::Waker;

/// A connection's read buffer while it carries small requests.
const BUFFER_BYTES: usize = 8 * 1024;
/// Most that is read and thrown away of a body nobody wanted, to keep the connection.
const DISCARD_BYTES: u64 = 64 * 1024;
/// Most that is read and thrown away while closing, so that the peer gets to read the response.
const LINGER_BYTES: usize = 32 * 1024 * 1024;
/// Longest time spent on that.
const LINGER_TIME: Duration = Duration::from_secs(2);

/// Who is at the other end, and over which listener it came.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// The listener's number, in the order they were given.
    pub(crate) listener: usize,
    /// The address; `None` over a Unix socket.
    pub(crate) address: Option<SocketAddr>,
    /// Whether the bytes travel over TLS.
    pub(crate) tls: bool,
    /// Whether the client presented a certificate that was verified.
    pub(crate) client_certificate: bool,
}

/// One accepted connection.
pub(super) struct Connection {
    pub(super) transport: Transport,
    pub(super) live: Arc<Live>,
    pub(super) peer: Peer,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    pub(super) out: Vec<u8>,
    date: DateField,
    waker: Option<Arc<Waker>>,
    /// The peer sent bytes beyond the current request: reading them ahead is not our business now.
    pub(super) sent_ahead: bool,
}

/// Why no further request came.
enum NoRequest {
    /// Nothing to say: the peer left, or idled too long.
    Quiet,
    /// Answer, then close.
    Refused(BadHead),
}

impl Connection {
    pub(super) fn new(transport: Transport, live: Arc<Live>, peer: Peer) -> Connection {
        Connection {
            transport,
            live,
            peer,
            buffer: vec![0; BUFFER_BYTES],
            start: 0,
            end: 0,
            out: Vec::new(),
            date: DateField::new(),
            waker: None,
            sent_ahead: false,
        }
    }

    /// Serves requests until either side has had enough.
    pub(super) fn serve(mut self, service: &dyn Service) {
        let mut first = true;
        loop {
            let head = match self.next_head(first) {
                Ok(head) => head,
                Err(NoRequest::Quiet) => break,
                Err(NoRequest::Refused(bad)) => {
                    self.refuse(service, bad);
                    break;
                }
            };
            if first {
                self.peer.client_certificate = self.transport.has_client_certificate();
                if self.transport.socket().set_idle_time(self.limits().idle).is_err() {
                    break;
                }
                first = false;
            }
            let mut exchange = Exchange::new(&mut self, &head, service.exchange_id());
            service.call(&head, &mut exchange);
            if !exchange.finish() {
                break;
            }
            self.shrink();
            if self.live.stopping() {
                break;
            }
        }
        self.transport.close_notify(Instant::now() + Duration::from_millis(100));
    }

    fn next_head(&mut self, first: bool) -> Result<Head, NoRequest> {
        // A fresh connection waits since it was accepted.
        if !first {
            self.live.wait(Waiting::Between);
        }
        let head = self.read_head(first);
        if self.live.resume() { head } else { Err(NoRequest::Quiet) }
    }

    fn read_head(&mut self, first: bool) -> Result<Head, NoRequest> {
        let (head_time, head_bytes) = (self.limits().head, self.limits().head_bytes);
        let mut deadline = first.then(|| Instant::now() + head_time);
        let (mut pieces, mut scanned) = (0, self.start);
        loop {
            // The first piece is most often the whole; if a head trickles in, parsing waits for its end.
            let ready = match pieces {
                0 => self.end > self.start,
                1 => true,
                _ => has_blank_line(&self.buffer[self.start..self.end], scanned - self.start),
            };
            if ready {
                match head::parse(&self.buffer[self.start..self.end], head_bytes) {
                    Ok(Some((head, length))) => {
                        self.start += length;
                        return Ok(head);
                    }
                    Ok(None) => {}
                    Err(bad) => return Err(NoRequest::Refused(bad)),
                }
            }
            if self.end - self.start >= head_bytes {
                return Err(NoRequest::Refused(BadHead {
                    status: 431,
                    reason: "the request head is too long",
                }));
            }
            let until = match deadline {
                Some(deadline) => Until::Time(deadline),
                None if self.end > self.start => {
                    let new = Instant::now() + head_time;
                    deadline = Some(new);
                    Until::Time(new)
                }
                None => Until::Idle,
            };
            if matches!(until, Until::Idle) && self.live.stopping() {
                return Err(NoRequest::Quiet);
            }
            let begun = self.end > self.start;
            let before = self.end - self.start;
            match self.fill(until) {
                Ok(0) => return Err(NoRequest::Quiet),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::TimedOut && begun => {
                    return Err(NoRequest::Refused(BadHead {
                        status: 408,
                        reason: "the request head did not arrive in time",
                    }));
                }
                Err(_) => return Err(NoRequest::Quiet),
            }
            // A blank line may straddle what was there and what came.
            scanned = self.start + before.saturating_sub(3);
            pieces += 1;
        }
    }

    /// Reads more into the buffer; 0 means that the peer closed.
    fn fill(&mut self, until: Until) -> io::Result<usize> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            if self.end == self.buffer.len() {
                let most = self.limits().head_bytes.max(BUFFER_BYTES);
                self.buffer.resize((self.end * 2).min(most), 0);
            }
        }
        let read = self.transport.read(&mut self.buffer[self.end..], until)?;
        self.end += read;
        Ok(read)
    }

    /// Moves buffered bytes, `most` at the most, to the end of `out`.
    pub(super) fn take_buffered(&mut self, out: &mut Vec<u8>, most: usize) -> usize {
        let take = most.min(self.end - self.start);
        out.extend_from_slice(&self.buffer[self.start..self.start + take]);
        self.start += take;
        take
    }

    /// The buffered bytes, after reading some if there were none; empty means that the peer closed.
    pub(super) fn peek_buffered(&mut self, deadline: Instant) -> io::Result<&[u8]> {
        if self.start == self.end {
            self.fill(Until::Time(deadline))?;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    /// Marks so many buffered bytes as used.
    pub(super) fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.live.shared.settings.limits
    }

    /// Bytes that have been read but not used.
    pub(super) fn buffered(&self) -> usize {
        self.end - self.start
    }

    /// The waker of this connection's thread.
    pub(super) fn waker(&mut self) -> io::Result<Arc<Waker>> {
        if let Some(waker) = &self.waker {
            return Ok(Arc::clone(waker));
        }
        let waker = Arc::new(Waker::new()?);
        self.waker = Some(Arc::clone(&waker));
        Ok(waker)
    }

    /// Waits until the waker is raised, the peer goes or `deadline` passes.
    pub(super) fn wait(&mut self, deadline: Instant) -> Wake {
        let Ok(waker) = self.waker() else { return Wake::PeerGone };
        loop {
            let readable = !self.sent_ahead;
            match self.transport.socket().watch(&waker, readable, deadline) {
                Ok(Watched::Woken) => return Wake::Woken,
                Ok(Watched::Deadline) => return Wake::Deadline,
                Ok(Watched::Gone) | Err(_) => return Wake::PeerGone,
                Ok(Watched::Readable) => match self.transport.peek() {
                    Peek::Gone => return Wake::PeerGone,
                    Peek::Bytes => self.sent_ahead = true,
                    Peek::Quiet => {}
                },
            }
        }
    }

    /// Writes what `self.out` holds.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let written = self.transport.write_all(&self.out, Instant::now() + self.limits().write);
        self.out.clear();
        written
    }

    /// Puts a response head at the end of `self.out`.
    pub(super) fn begin(
        &mut self,
        status: u16,
        request_id: Option<&str>,
        fields: &[u8],
        end: End,
        persistence: Persistence,
    ) {
        render_head(&mut self.out, status, request_id, &mut self.date, fields, end, persistence);
    }

    fn refuse(&mut self, service: &dyn Service, bad: BadHead) {
        let response = service.refusal(bad.status, bad.reason);
        let id = service.exchange_id();
        let end = End::Length(response.body().len());
        self.begin(response.status, id.as_deref(), response.fields(), end, Persistence::Close);
        self.out.extend_from_slice(response.body());
        if self.flush().is_ok() {
            self.linger();
        }
    }

    /// Reads on for a moment after the last response: closing with unread bytes would reset the
    /// connection and could take the response from the peer.
    pub(super) fn linger(&mut self) {
        self.live.wait(Waiting::Between);
        let deadline = Instant::now() + LINGER_TIME;
        self.transport.close_notify(deadline);
        self.transport.socket().shut_write();
        let mut left = LINGER_BYTES;
        let mut sink = vec![0u8; 64 * 1024];
        while left > 0 && !self.live.stopping() {
            match self.transport.socket().recv(&mut sink, deadline) {
                Ok(0) | Err(_) => return,
                Ok(read) => left = left.saturating_sub(read),
            }
        }
    }

    /// Reads and throws away a body nobody wanted; false when that is not worth it.
    pub(super) fn discard(&mut self, length: u64, deadline: Instant) -> bool {
        if length > DISCARD_BYTES {
            return false;
        }
        let mut left = usize::try_from(length).unwrap_or(usize::MAX);
        while left > 0 {
            let Ok(piece) = self.peek_buffered(deadline) else { return false };
            let take = piece.len().min(left);
            if take == 0 {
                return false;
            }
            left -= take;
            self.consume(take);
        }
        true
    }

    /// Gives back what a large request or response needed.
    fn shrink(&mut self) {
        if self.out.capacity() > 4 * BUFFER_BYTES {
            self.out = Vec::new();
        }
        if self.buffer.len() > BUFFER_BYTES && self.end - self.start <= BUFFER_BYTES {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            self.buffer.truncate(BUFFER_BYTES);
            self.buffer.shrink_to_fit();
        }
    }
}

/// Whether a blank line ends at or after `from`, looking no further back.
fn has_blank_line(bytes: &[u8], from: usize) -> bool {
    bytes[from..].windows(2).any(|pair| pair == b"\n\n")
        || bytes[from..].windows(3).any(|three| three == b"\n\r\n")
}

/// Whether a response to `method` with `status` has no body by definition (RFC 9110 §6.4.1).
pub(super) fn is_bodiless(method: Method, status: u16) -> bool {
    method == Method::Head || matches!(status, 100..=199 | 204 | 304)
}

/// The response and connection wording of `head`.
pub(super) fn persistence(head: &Head, keep: bool) -> Persistence {
    match (keep, head.http11) {
        (false, _) => Persistence::Close,
        (true, true) => Persistence::Implied,
        (true, false) => Persistence::KeepAlive,
    }
}

/// Renders `response` in full behind whatever `connection.out` holds.
pub(super) fn render(
    connection: &mut Connection,
    response: &Response,
    head: &Head,
    id: Option<&str>,
    keep: bool,
) {
    let bodiless = is_bodiless(head.method, response.status);
    let end = match response.status {
        204 | 304 => End::Bodiless,
        _ => End::Length(response.body().len()),
    };
    connection.begin(response.status, id, response.fields(), end, persistence(head, keep));
    if !bodiless {
        connection.out.extend_from_slice(response.body());
    }
}

/// Bytes of a body still to come at the start of an exchange.
pub(super) fn pending(framing: Framing) -> bool {
    framing != Framing::Length(0)
}
