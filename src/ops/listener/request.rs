//! Requests as routes see them, and how their heads are read (RFC 9112).
//!
//! Invariant: a head is bounded in bytes, in fields and in the time it may take as a whole.

use std::time::Instant;

use super::Limits;
use super::body::{Body, BodyError, Framing};
use super::socket::{Peer, Socket};
use crate::net::HeaderList;

/// Longest head of a request, in bytes.
pub(super) const HEAD_BYTES: usize = 16 * 1024;
/// Most header fields of a request.
pub(super) const HEAD_FIELDS: usize = 100;

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

/// Why no request could be read from a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum HeadError {
    /// Nothing more to say: closed, too slow, or silent for too long.
    Gone,
    /// To be answered with this status before closing.
    Refused(u16),
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
}
