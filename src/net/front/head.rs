//! Request heads: a pure function from bytes to a checked head (RFC 9112 §2 to §6).
//!
//! Invariant: a head that comes out has exactly one interpretation of where its body ends. Whatever
//! another hop could read differently is refused.

use std::ops::Range;

/// Header fields of one request.
pub(crate) const HEADER_FIELDS: usize = 100;

/// A request method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    /// `GET`.
    Get,
    /// `HEAD`.
    Head,
    /// `POST`.
    Post,
    /// `DELETE`.
    Delete,
    /// Anything else.
    Other,
}

/// How the body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// So many bytes; zero when there is no body.
    Length(u64),
    /// Chunked transfer coding.
    Chunked,
}

/// Why a head is refused; the connection is closed afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadHead {
    /// The status to answer with.
    pub(crate) status: u16,
    /// What is wrong, without quoting the request.
    pub(crate) reason: &'static str,
}

/// A checked request head.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    text: Box<[u8]>,
    method_text: Range<usize>,
    target: Range<usize>,
    fields: Vec<(Range<usize>, Range<usize>)>,
    /// The method.
    pub(crate) method: Method,
    /// Where the body ends.
    pub(crate) framing: Framing,
    /// Whether the connection may carry another request.
    pub(crate) keep_alive: bool,
    /// Whether the peer speaks HTTP/1.1 or later 1.x.
    pub(crate) http11: bool,
    /// Whether the peer waits for `100 Continue` before it sends the body.
    pub(crate) expects_continue: bool,
}

impl Head {
    /// The method as sent; methods are case-sensitive.
    pub(crate) fn method_text(&self) -> &str {
        std::str::from_utf8(&self.text[self.method_text.clone()]).unwrap_or_default()
    }

    /// The path of the target, as sent (percent-encoded); `*` for the asterisk form.
    pub(crate) fn path(&self) -> &str {
        let target = self.target();
        match target.split_once('?').map_or(target, |(path, _)| path) {
            // An absolute URL may leave it out (RFC 9110 §4.2.3).
            "" => "/",
            path => path,
        }
    }

    /// The query of the target, without its `?`.
    pub(crate) fn query(&self) -> &str {
        self.target().split_once('?').map_or("", |(_, query)| query)
    }

    /// The values of `name`, in order.
    pub(crate) fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.headers().filter(move |(have, _)| have.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The first value of `name`, if it is visible text.
    pub(crate) fn value<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.values(name).next().and_then(|value| std::str::from_utf8(value).ok())
    }

    /// Names and values in order. Names are tokens; values may hold any byte but controls.
    pub(crate) fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> + Clone {
        self.fields.iter().map(|(name, value)| {
            (std::str::from_utf8(&self.text[name.clone()]).unwrap_or_default(), &self.text[value.clone()])
        })
    }

    fn target(&self) -> &str {
        std::str::from_utf8(&self.text[self.target.clone()]).unwrap_or_default()
    }
}

/// Parses the head at the start of `bytes`: `None` while it is incomplete, else the head and its length,
/// which is `limit` at the most.
pub(crate) fn parse(bytes: &[u8], limit: usize) -> Result<Option<(Head, usize)>, BadHead> {
    let mut fields = [httparse::EMPTY_HEADER; HEADER_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    let window = &bytes[..bytes.len().min(limit)];
    let length = match request.parse(window) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() < limit => return Ok(None),
        Ok(httparse::Status::Partial) => return Err(bad(431, "the request head is too long")),
        Err(httparse::Error::TooManyHeaders) => return Err(bad(431, "there are too many header fields")),
        Err(httparse::Error::Version) => return Err(bad(505, "only HTTP/1.0 and HTTP/1.1 are spoken here")),
        Err(_) => return Err(bad(400, "the request head is malformed")),
    };
    let http11 = request.version == Some(1);
    let method = match request.method {
        Some("GET") => Method::Get,
        Some("HEAD") => Method::Head,
        Some("POST") => Method::Post,
        Some("DELETE") => Method::Delete,
        _ => Method::Other,
    };
    let target = target_of(request.path.unwrap_or_default())?;
    let mut facts = Facts::default();
    for field in request.headers.iter() {
        facts.take(field)?;
    }
    let framing = facts.framing(http11)?;
    if facts.hosts > 1 || (http11 && facts.hosts == 0) {
        return Err(bad(400, "there must be exactly one Host header field"));
    }
    let place = |part: &[u8]| {
        let start = part.as_ptr() as usize - bytes.as_ptr() as usize;
        start..start + part.len()
    };
    let head = Head {
        method_text: place(request.method.unwrap_or_default().as_bytes()),
        target: place(target.as_bytes()),
        fields: request.headers.iter().map(|f| (place(f.name.as_bytes()), place(f.value))).collect(),
        text: Box::from(&bytes[..length]),
        method,
        framing,
        keep_alive: if http11 { !facts.close } else { facts.keep_alive && !facts.close },
        http11,
        expects_continue: http11 && facts.expects_continue && framing != Framing::Length(0),
    };
    Ok(Some((head, length)))
}

/// The origin form within `target`: a path and query, or `*`. The absolute form loses its authority
/// (RFC 9112 §3.2.2).
fn target_of(target: &str) -> Result<&str, BadHead> {
    if target.starts_with('/') || target == "*" {
        return Ok(target);
    }
    let rest = ["http://", "https://"].iter().find_map(|scheme| {
        let have = target.get(..scheme.len())?;
        have.eq_ignore_ascii_case(scheme).then(|| &target[scheme.len()..])
    });
    match rest {
        Some(rest) => Ok(&rest[rest.find(['/', '?']).unwrap_or(rest.len())..]),
        None => Err(bad(400, "the request target is neither a path nor an absolute URL")),
    }
}

/// What the header fields say about framing and the connection.
#[derive(Default)]
struct Facts {
    hosts: usize,
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    expects_continue: bool,
}

impl Facts {
    fn take(&mut self, field: &httparse::Header<'_>) -> Result<(), BadHead> {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        match field.name.len() {
            4 if is("host") => self.hosts += 1,
            14 if is("content-length") => {
                if self.length.is_some() {
                    return Err(bad(400, "there is more than one Content-Length header field"));
                }
                self.length = Some(length_of(field.value)?);
            }
            17 if is("transfer-encoding") => {
                if self.chunked {
                    return Err(bad(400, "there is more than one Transfer-Encoding header field"));
                }
                if !field.value.eq_ignore_ascii_case(b"chunked") {
                    return Err(bad(501, "the only transfer coding known here is chunked"));
                }
                self.chunked = true;
            }
            10 if is("connection") => {
                for option in field.value.split(|b| *b == b',').map(<[u8]>::trim_ascii) {
                    self.close |= option.eq_ignore_ascii_case(b"close");
                    self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            6 if is("expect") => {
                if !field.value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(bad(417, "the only expectation known here is 100-continue"));
                }
                self.expects_continue = true;
            }
            _ => {}
        }
        Ok(())
    }

    fn framing(&self, http11: bool) -> Result<Framing, BadHead> {
        match (self.chunked, self.length) {
            (true, Some(_)) => Err(bad(400, "both Content-Length and Transfer-Encoding are present")),
            (true, None) if !http11 => Err(bad(400, "HTTP/1.0 knows no transfer coding")),
            (true, None) => Ok(Framing::Chunked),
            (false, length) => Ok(Framing::Length(length.unwrap_or(0))),
        }
    }
}

fn length_of(value: &[u8]) -> Result<u64, BadHead> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(value).ok().filter(|_| digits);
    text.and_then(|text| text.parse().ok()).ok_or(bad(400, "the Content-Length header field is invalid"))
}

const fn bad(status: u16, reason: &'static str) -> BadHead {
    BadHead { status, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 16 * 1024;

    fn head(text: &str) -> Head {
        parse(text.as_bytes(), LIMIT).unwrap().unwrap().0
    }

    #[test]
    fn a_head_is_read_with_its_target_fields_and_framing() {
        let text = "POST /v1/mcp/t?a=b?c HTTP/1.1\r\nHost: h\r\nX-A: 1\r\nx-a:  2 \r\nContent-Length: 5\r\n\r\nhello";
        let (head, length) = parse(text.as_bytes(), LIMIT).unwrap().unwrap();
        assert_eq!(length, text.len() - 5);
        assert_eq!((head.method, head.path(), head.query()), (Method::Post, "/v1/mcp/t", "a=b?c"));
        assert_eq!(head.values("X-a").collect::<Vec<_>>(), [b"1", b"2"]);
        assert_eq!(head.value("host"), Some("h"));
        assert_eq!(head.framing, Framing::Length(5));
        assert!(head.keep_alive && head.http11 && !head.expects_continue);
    }

    #[test]
    fn what_is_cut_anywhere_is_incomplete() {
        let text = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
        for end in 0..text.len() {
            assert!(parse(&text.as_bytes()[..end], LIMIT).unwrap().is_none(), "{end}");
        }
    }

    #[test]
    fn connections_persist_as_version_and_options_say() {
        for (text, expected) in [
            ("GET / HTTP/1.1\r\nHost: h\r\n\r\n", true),
            ("GET / HTTP/1.1\r\nHost: h\r\nConnection: x, Close\r\n\r\n", false),
            ("GET / HTTP/1.0\r\n\r\n", false),
            ("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true),
            ("GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", false),
        ] {
            assert_eq!(head(text).keep_alive, expected, "{text}");
        }
    }

    #[test]
    fn the_absolute_form_is_reduced_to_its_path() {
        assert_eq!(head("GET HTTP://h:1/a/b?c HTTP/1.1\r\nHost: h\r\n\r\n").path(), "/a/b");
        for (target, path, query) in
            [("http://h", "/", ""), ("https://h?q", "/", "q"), ("http://h/?/", "/", "/"), ("*", "*", "")]
        {
            let head = head(&format!("OPTIONS {target} HTTP/1.1\r\nHost: h\r\n\r\n"));
            assert_eq!((head.path(), head.query()), (path, query));
            assert_eq!((head.method, head.method_text()), (Method::Other, "OPTIONS"));
        }
    }

    #[test]
    fn only_a_body_that_is_to_come_is_waited_for() {
        let text = "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n\r\n";
        assert!(head(text).expects_continue);
        let text = "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n\r\n";
        assert!(!head(text).expects_continue);
    }

    #[test]
    fn ambiguous_and_malformed_heads_are_refused() {
        let fields: [(&str, u16); 20] = [
            ("Content-Length: 1\r\nContent-Length: 1", 400),
            ("Content-Length: 1, 1", 400),
            ("Content-Length: +1", 400),
            ("Content-Length: -1", 400),
            ("Content-Length: 0x1", 400),
            ("Content-Length: 1 1", 400),
            ("Content-Length:", 400),
            ("Content-Length: 99999999999999999999", 400),
            ("Content-Length: 1\r\nTransfer-Encoding: chunked", 400),
            ("Transfer-Encoding: chunked\r\nContent-Length: 1", 400),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400),
            ("Transfer-Encoding: gzip, chunked", 501),
            ("Transfer-Encoding: xchunked", 501),
            ("Transfer-Encoding: \x0bchunked", 400),
            ("Transfer-Encoding : chunked", 400),
            ("X-A: 1\r\n folded", 400),
            ("X-A: a\x00b", 400),
            ("X A: b", 400),
            ("Host: again", 400),
            ("Expect: something", 417),
        ];
        for (field, status) in fields {
            let text = format!("POST / HTTP/1.1\r\nHost: h\r\n{field}\r\n\r\n");
            assert_eq!(parse(text.as_bytes(), LIMIT).unwrap_err().status, status, "{field:?}");
        }
        for (line, status) in [
            ("GET / HTTP/2.0\r\nHost: h\r\n\r\n", 505),
            ("GET / HTTP/1.1\r\n\r\n", 400),
            ("GET /\r\n\r\n", 400),
            ("GET  / HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            ("GET path HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            ("CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            ("\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n", 400),
            ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ] {
            assert_eq!(parse(line.as_bytes(), LIMIT).unwrap_err().status, status, "{line:?}");
        }
    }

    #[test]
    fn heads_beyond_the_bounds_are_refused() {
        let many = "X: y\r\n".repeat(HEADER_FIELDS);
        let text = format!("GET / HTTP/1.1\r\nHost: h\r\n{many}\r\n");
        assert_eq!(parse(text.as_bytes(), LIMIT).unwrap_err().status, 431);
        let long = format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}", "y".repeat(LIMIT));
        assert_eq!(parse(long.as_bytes(), LIMIT).unwrap_err().status, 431);
    }

    #[test]
    fn whatever_the_bytes_a_head_lies_within_them_and_is_the_same_when_more_follows() {
        let seed = b"POST /v1/mcp/t?a=b HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\nhello";
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = |below: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random % below as u64) as usize
        };
        let mut heads = 0;
        for _ in 0..50_000 {
            let mut bytes = seed.to_vec();
            for _ in 0..=next(3) {
                let at = next(bytes.len());
                match next(4) {
                    0 => bytes[at] = next(256) as u8,
                    1 => drop(bytes.remove(at)),
                    2 => bytes.insert(at, b"\r\n :,0\t\0"[next(8)]),
                    _ => drop(bytes.drain(at..(at + 17 + next(20)).min(bytes.len()))),
                }
                if bytes.is_empty() {
                    break;
                }
            }
            if let Ok(Some((head, length))) = parse(&bytes, LIMIT) {
                heads += 1;
                assert!(length <= bytes.len() && head.path().len() <= length);
                assert!(head.headers().all(|(name, _)| !name.is_empty()));
                let (again, same) = parse(&bytes[..length], LIMIT).unwrap().unwrap();
                assert_eq!((same, again.framing), (length, head.framing));
                assert!(head.values("Content-Length").count() < 2);
            }
        }
        assert!(heads > 1000, "{heads} heads: too few to mean anything");
    }
}
