//! The answers of routes: sent in one write, or piece by piece.

use std::borrow::Cow;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use crate::net::front::Wake;
use crate::net::{Cancel, Waker, front};

/// Header fields of a response.
pub(super) type Headers = Vec<(&'static str, Cow<'static, str>)>;

/// An answer.
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// Header fields besides those of the framing and the date.
    pub headers: Headers,
    /// Content.
    pub content: Content,
}

/// Writes the content of a response piece by piece; returns when it has ended or cannot be written.
pub type Streaming = Box<dyn FnOnce(&mut Stream<'_>) -> io::Result<()> + Send>;

/// Content of a response.
pub enum Content {
    /// All of it.
    Bytes(Cow<'static, [u8]>),
    /// Piece by piece; occupies its connection, not anyone else's.
    Stream(Streaming),
}

impl Response {
    /// Plain text.
    pub fn text(status: u16, text: impl Into<Cow<'static, str>>) -> Response {
        let bytes = match text.into() {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        };
        Response {
            status,
            headers: vec![("Content-Type", "text/plain; charset=utf-8".into())],
            content: Content::Bytes(bytes),
        }
    }

    /// An error for humans: the message and a newline.
    pub fn error(status: u16, message: &str) -> Response {
        Response::text(status, format!("{message}\n")).with("X-Content-Type-Options", "nosniff")
    }

    /// 405 for a route that answers `allowed` only.
    pub fn method_not_allowed(allowed: &'static str) -> Response {
        Response::error(405, "method not allowed").with("Allow", allowed)
    }

    /// Adds a header field.
    pub fn with(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Response {
        self.headers.push((name, value.into()));
        self
    }
}

/// Wakes a stream that waits. Ringing never blocks.
#[derive(Clone)]
pub struct Bell(Arc<Waker>);

impl Bell {
    /// Ends the stream's wait, or the next one.
    pub fn ring(&self) {
        self.0.wake();
    }
}

/// Why [`Stream::wait`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awoken {
    /// The bell rang: look at what is waited for.
    Rung,
    /// The peer has gone.
    Gone,
    /// The deadline passed.
    Deadline,
}

/// Content written piece by piece.
pub struct Stream<'a>(pub(super) front::Stream<'a>);

impl Stream<'_> {
    /// Sends one piece now.
    ///
    /// # Errors
    /// When the peer has gone or does not take it within the listener's time for writing.
    pub fn send(&mut self, piece: &[u8]) -> io::Result<()> {
        if piece.is_empty() {
            return Ok(());
        }
        self.0.push(piece);
        self.0.flush()
    }

    /// What ends [`Stream::wait`] from other threads.
    ///
    /// # Errors
    /// When the process is out of descriptors.
    pub fn bell(&mut self) -> io::Result<Bell> {
        self.0.waker().map(Bell)
    }

    /// Waits until the bell rings, the peer goes or `deadline` passes.
    pub fn wait(&mut self, deadline: Instant) -> Awoken {
        match self.0.wait(deadline) {
            Wake::Woken => Awoken::Rung,
            Wake::PeerGone => Awoken::Gone,
            Wake::Deadline => Awoken::Deadline,
        }
    }

    /// Fires when the listener stops: the content should end then.
    pub fn stopping(&self) -> &Cancel {
        self.0.stopping()
    }
}
