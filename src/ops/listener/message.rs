//! Requests as routes see them, the responses they give, and both on the wire (RFC 9112).
//!
//! Invariant: nothing is read without a limit in bytes and a limit in time.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;
use std::time::{Duration, Instant};

use time::OffsetDateTime;

use super::Limits;
use super::socket::{Peer, Socket};
use crate::net::{Cancel, HeaderList};

/// Longest head of a request, in bytes.
const HEAD_BYTES: usize = 16 * 1024;
/// Most header fields of a request.
const HEAD_FIELDS: usize = 100;
/// Longest line that announces a chunk.
const CHUNK_LINE_BYTES: usize = 256;

/// A request whose head has arrived.
#[derive(Debug)]
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
    /// Whether the connection may serve another request afterwards.
    pub(super) keep_alive: bool,
    /// HTTP/1.0 knows no chunks.
    pub(super) chunks: bool,
    pub(super) body: Body<'a>,
}

/// The part of a request that has not been read.
#[derive(Debug)]
pub(super) struct Body<'a> {
    pub(super) socket: &'a Socket,
    pub(super) buffer: &'a mut Vec<u8>,
    pub(super) framing: Framing,
    pub(super) expects_continue: bool,
    pub(super) time: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Length(u64),
    Chunked,
}

/// Why a request's body could not be read.
#[derive(Debug)]
pub enum BodyError {
    /// It is longer than the route allows.
    TooLarge,
    /// It did not arrive, not in time, or not as announced.
    Broken,
}

/// Why no request could be read from a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum HeadError {
    /// Nothing more to say: closed, too slow, or silent for too long.
    Gone,
    /// To be answered with this status before closing.
    Refused(u16),
}

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

impl Request<'_> {
    /// Whether the method asks for a representation only.
    pub fn is_read(&self) -> bool {
        self.method == "GET" || self.method == "HEAD"
    }

    /// Reads the body, `limit` bytes at most, within the listener's time for bodies.
    ///
    /// # Errors
    /// [`BodyError`]; the connection is closed after the answer then.
    pub fn read_body(&mut self, limit: usize) -> Result<Vec<u8>, BodyError> {
        self.body.read(limit).inspect_err(|_| self.keep_alive = false)
    }
}

impl Body<'_> {
    /// Whether nothing of it is left on the wire.
    pub(super) fn is_read(&self) -> bool {
        self.framing == Framing::Length(0)
    }

    /// Skips what has arrived already; true if that was all of it.
    pub(super) fn skip(&mut self) -> bool {
        let Framing::Length(left) = self.framing else { return false };
        let here = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
        self.buffer.drain(..here);
        self.framing = Framing::Length(left - here as u64);
        self.is_read()
    }

    fn read(&mut self, limit: usize) -> Result<Vec<u8>, BodyError> {
        let deadline = Instant::now() + self.time;
        if self.framing == Framing::Length(0) {
            return Ok(Vec::new());
        }
        if matches!(self.framing, Framing::Length(length) if length > limit as u64) {
            return Err(BodyError::TooLarge);
        }
        if self.expects_continue && self.buffer.is_empty() {
            let go_on = self.socket.write_all(b"HTTP/1.1 100 Continue\r\n\r\n", deadline);
            go_on.map_err(|_| BodyError::Broken)?;
        }
        let mut body = Vec::new();
        match self.framing {
            Framing::Length(length) => self.take(length as usize, &mut body, deadline)?,
            Framing::Chunked => loop {
                let size = self.chunk_size(deadline)?;
                if size == 0 {
                    self.skip_trailers(deadline)?;
                    break;
                }
                if size > (limit - body.len()) as u64 {
                    return Err(BodyError::TooLarge);
                }
                self.take(size as usize, &mut body, deadline)?;
                let mut end = Vec::new();
                self.take(2, &mut end, deadline)?;
                if end != b"\r\n" {
                    return Err(BodyError::Broken);
                }
            },
        }
        self.framing = Framing::Length(0);
        Ok(body)
    }

    /// Moves the next `count` bytes to `body`.
    fn take(&mut self, count: usize, body: &mut Vec<u8>, deadline: Instant) -> Result<(), BodyError> {
        let mut left = count;
        loop {
            let here = left.min(self.buffer.len());
            body.extend(self.buffer.drain(..here));
            left -= here;
            if left == 0 {
                return Ok(());
            }
            self.fill(deadline)?;
        }
    }

    fn chunk_size(&mut self, deadline: Instant) -> Result<u64, BodyError> {
        loop {
            match httparse::parse_chunk_size(self.buffer) {
                Ok(httparse::Status::Complete((used, size))) => {
                    self.buffer.drain(..used);
                    return Ok(size);
                }
                Ok(httparse::Status::Partial) if self.buffer.len() < CHUNK_LINE_BYTES => {
                    self.fill(deadline)?;
                }
                _ => return Err(BodyError::Broken),
            }
        }
    }

    fn skip_trailers(&mut self, deadline: Instant) -> Result<(), BodyError> {
        loop {
            let mut fields = [httparse::EMPTY_HEADER; HEAD_FIELDS];
            let used = match httparse::parse_headers(self.buffer, &mut fields) {
                Ok(httparse::Status::Complete((used, _))) => Some(used),
                Ok(httparse::Status::Partial) if self.buffer.len() < HEAD_BYTES => None,
                _ => return Err(BodyError::Broken),
            };
            if let Some(used) = used {
                self.buffer.drain(..used);
                return Ok(());
            }
            self.fill(deadline)?;
        }
    }

    fn fill(&mut self, deadline: Instant) -> Result<(), BodyError> {
        let mut bytes = [0; 4096];
        match self.socket.read(&mut bytes, deadline) {
            Ok(count) if count > 0 => {
                self.buffer.extend_from_slice(&bytes[..count]);
                Ok(())
            }
            _ => Err(BodyError::Broken),
        }
    }
}

/// Reads the next request's head. `fresh` says that the connection was just made: then the head must
/// be complete within the head's time; later the first byte may take the idle time.
pub(super) fn read_head<'a>(
    socket: &'a Socket,
    buffer: &'a mut Vec<u8>,
    peer: Peer,
    limits: &Limits,
    fresh: bool,
) -> Result<Request<'a>, HeadError> {
    let mut deadline = Instant::now() + if fresh { limits.head } else { limits.idle };
    let mut started = fresh;
    loop {
        if !buffer.is_empty() && !started {
            started = true;
            deadline = Instant::now() + limits.head;
        }
        if let Some((used, head)) = parse_head(buffer)? {
            buffer.drain(..used);
            let body = Body {
                socket,
                buffer,
                framing: head.framing,
                expects_continue: head.expects_continue,
                time: limits.body,
            };
            let Head { method, path, query, headers, keep_alive, chunks, .. } = head;
            return Ok(Request { method, path, query, headers, peer, keep_alive, chunks, body });
        }
        if buffer.len() >= HEAD_BYTES {
            return Err(HeadError::Refused(431));
        }
        let mut bytes = [0; 2048];
        match socket.read(&mut bytes, deadline) {
            Ok(count) if count > 0 => buffer.extend_from_slice(&bytes[..count]),
            _ => return Err(HeadError::Gone),
        }
    }
}

struct Head {
    method: String,
    path: String,
    query: String,
    headers: HeaderList,
    keep_alive: bool,
    chunks: bool,
    framing: Framing,
    expects_continue: bool,
}

/// The head at the start of `bytes` and its length; `None` while it is incomplete.
fn parse_head(bytes: &[u8]) -> Result<Option<(usize, Head)>, HeadError> {
    let bad = HeadError::Refused(400);
    let mut fields = [httparse::EMPTY_HEADER; HEAD_FIELDS];
    let mut parsed = httparse::Request::new(&mut fields);
    let used = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(used)) => used,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(HeadError::Refused(431)),
        Err(httparse::Error::Version) => return Err(HeadError::Refused(505)),
        Err(_) => return Err(bad),
    };
    let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(bad);
    };
    let headers: HeaderList = parsed
        .headers
        .iter()
        .map(|field| (field.name, String::from_utf8_lossy(field.value).into_owned()))
        .collect();
    if headers.get_all("Host").count() != 1 && (minor > 0 || headers.get("Host").is_some()) {
        return Err(bad);
    }
    let framing = framing(&headers, minor)?;
    let target = path_of(target).ok_or(bad)?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let says = |word: &str| {
        let mut options = headers.get_all("Connection").flat_map(|value| value.split(','));
        options.any(|option| option.trim().eq_ignore_ascii_case(word))
    };
    let head = Head {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        keep_alive: if minor > 0 { !says("close") } else { says("keep-alive") },
        chunks: minor > 0,
        framing,
        expects_continue: minor > 0
            && headers.get("Expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")),
        headers,
    };
    Ok(Some((used, head)))
}

/// How the end of the body is found; ambiguity is refused (RFC 9112 §6.3).
fn framing(headers: &HeaderList, minor: u8) -> Result<Framing, HeadError> {
    let bad = Err(HeadError::Refused(400));
    let mut lengths = headers.get_all("Content-Length");
    let length = lengths.next();
    if lengths.any(|other| Some(other) != length) {
        return bad;
    }
    let codings: Vec<&str> = headers.get_all("Transfer-Encoding").collect();
    match (length, codings.as_slice()) {
        (None, []) => Ok(Framing::Length(0)),
        (Some(length), []) => {
            let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
            match length.parse() {
                Ok(length) if digits => Ok(Framing::Length(length)),
                _ => bad,
            }
        }
        (None, [coding]) if minor > 0 && coding.eq_ignore_ascii_case("chunked") => Ok(Framing::Chunked),
        (None, [_]) if minor > 0 => Err(HeadError::Refused(501)),
        _ => bad,
    }
}

/// Path and query of a request target in origin or absolute form.
fn path_of(target: &str) -> Option<&str> {
    if target.starts_with('/') || target == "*" {
        return Some(target);
    }
    let (_scheme, rest) = target.split_once("://")?;
    Some(rest.find(['/', '?']).map_or("/", |start| &rest[start..]))
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

    fn parsed(text: &str) -> Result<Option<(usize, Head)>, HeadError> {
        parse_head(text.as_bytes())
    }

    #[test]
    fn heads_are_accepted_or_refused_with_a_status() {
        let ok = [
            ("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", "/healthz", "", true),
            ("GET /a?b=c?d HTTP/1.1\r\nHost: x\r\nConnection: Close\r\n\r\n", "/a", "b=c?d", false),
            ("GET / HTTP/1.0\r\n\r\n", "/", "", false),
            ("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "/", "", true),
            ("GET http://h:1/p?q HTTP/1.1\r\nHost: x\r\n\r\n", "/p", "q", true),
            ("GET http://h HTTP/1.1\r\nHost: x\r\n\r\n", "/", "", true),
        ];
        for (text, path, query, keep_alive) in ok {
            let (used, head) = parsed(text).unwrap().unwrap();
            assert_eq!(used, text.len());
            assert_eq!((head.path.as_str(), head.query.as_str(), head.keep_alive), (path, query, keep_alive));
        }
        let long_length = format!("Content-Length: {}", "9".repeat(30));
        let refused: &[(&str, u16)] = &[
            ("", 400),
            ("Host: a\r\nHost: b", 400),
            ("Host: a\r\nContent-Length: 1\r\nContent-Length: 2", 400),
            ("Host: a\r\nContent-Length: +1", 400),
            ("Host: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked", 400),
            ("Host: a\r\nTransfer-Encoding: gzip", 501),
        ];
        for (fields, status) in refused {
            let end = if fields.is_empty() { "\r\n" } else { "\r\n\r\n" };
            let text = format!("GET / HTTP/1.1\r\n{fields}{end}");
            assert_eq!(parsed(&text).err(), Some(HeadError::Refused(*status)), "{text}");
        }
        assert_eq!(
            parsed(&format!("GET / HTTP/1.1\r\nHost: a\r\n{long_length}\r\n\r\n")).err(),
            Some(HeadError::Refused(400))
        );
        assert_eq!(parsed("GET / HTTP/2.0\r\n\r\n").err(), Some(HeadError::Refused(505)));
        assert_eq!(parsed("GET nothing HTTP/1.1\r\nHost: a\r\n\r\n").err(), Some(HeadError::Refused(400)));
        assert!(parsed("GET / HTTP/1.1\r\nHost: a\r\n").unwrap().is_none());
        let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(HEAD_FIELDS));
        assert_eq!(parsed(&many).err(), Some(HeadError::Refused(431)));
    }

    #[test]
    fn dates_have_the_form_of_http() {
        let mut out = String::new();
        push_date(&mut out, OffsetDateTime::from_unix_timestamp(784_111_777).unwrap());
        assert_eq!(out, "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
    }
}
