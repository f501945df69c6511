//! The answers of routes, and how they are sent: in one write, or piece by piece.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;
use std::time::{Duration, Instant};

use time::OffsetDateTime;

use super::Limits;
use super::socket::Socket;
use crate::net::Cancel;

/// An answer.
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// Header fields besides those of the framing and the date.
    pub headers: Vec<(&'static str, Cow<'static, str>)>,
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

/// Content written piece by piece.
pub struct Stream<'a> {
    socket: &'a Socket,
    chunks: bool,
    time: Duration,
    stopping: &'a Cancel,
}

impl Stream<'_> {
    /// Sends one piece now.
    ///
    /// # Errors
    /// When the peer has gone or does not take it within the listener's time for writing.
    pub fn send(&mut self, piece: &[u8]) -> io::Result<()> {
        if piece.is_empty() {
            return Ok(());
        }
        let deadline = Instant::now() + self.time;
        if !self.chunks {
            return self.socket.write_all(piece, deadline);
        }
        let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
        chunk.extend_from_slice(piece);
        chunk.extend_from_slice(b"\r\n");
        self.socket.write_all(&chunk, deadline)
    }

    /// Fires when the listener stops: the content should end then.
    pub fn stopping(&self) -> &Cancel {
        self.stopping
    }
}

/// Sends `response` in one write (a stream: its head, then its pieces).
pub(super) fn send(
    socket: &Socket,
    response: Response,
    head_only: bool,
    keep_alive: bool,
    chunks: bool,
    limits: &Limits,
    stopping: &Cancel,
) -> io::Result<()> {
    let mut out = String::with_capacity(256);
    // Writing to a string cannot fail.
    let _ = write!(out, "HTTP/1.1 {} {}\r\n", response.status, phrase(response.status));
    push_date(&mut out, OffsetDateTime::now_utc());
    for (name, value) in &response.headers {
        let _ = write!(out, "{name}: {value}\r\n");
    }
    if !keep_alive {
        out += "Connection: close\r\n";
    } else if !chunks {
        // HTTP/1.0 closes unless told otherwise.
        out += "Connection: keep-alive\r\n";
    }
    let deadline = Instant::now() + limits.write;
    match response.content {
        Content::Bytes(content) => {
            if response.status != 204 {
                let _ = write!(out, "Content-Length: {}\r\n", content.len());
            }
            out += "\r\n";
            let mut bytes = out.into_bytes();
            if !head_only {
                bytes.extend_from_slice(&content);
            }
            socket.write_all(&bytes, deadline)
        }
        Content::Stream(produce) => {
            if chunks {
                out += "Transfer-Encoding: chunked\r\n";
            }
            out += "\r\n";
            socket.write_all(out.as_bytes(), deadline)?;
            if head_only {
                return Ok(());
            }
            produce(&mut Stream { socket, chunks, time: limits.write, stopping })?;
            if chunks { socket.write_all(b"0\r\n\r\n", Instant::now() + limits.write) } else { Ok(()) }
        }
    }
}

/// The words of a status.
pub(super) fn phrase(status: u16) -> &'static str {
    ureq::http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("")
}

/// RFC 9110 §6.6.1.
fn push_date(out: &mut String, at: OffsetDateTime) {
    const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let day = DAYS[usize::from(at.weekday().number_days_from_monday()) % 7];
    let month = MONTHS[(usize::from(u8::from(at.month())) + 11) % 12];
    let (date, year, hour, minute, second) = (at.day(), at.year(), at.hour(), at.minute(), at.second());
    let _ = write!(out, "Date: {day}, {date:02} {month} {year} {hour:02}:{minute:02}:{second:02} GMT\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_have_the_form_of_http() {
        let mut out = String::new();
        push_date(&mut out, OffsetDateTime::from_unix_timestamp(784_111_777).unwrap());
        assert_eq!(out, "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
    }
}
