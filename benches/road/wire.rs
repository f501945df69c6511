//! Hand-written HTTP/1.1 over blocking sockets, for both ends of the bench.
//!
//! It understands what the peers of this bench send and no more: a head, then a body of known length or
//! chunks. A `Conn` reads whole messages into one buffer that it keeps, so that a small message costs one
//! read and, with `send`, one write.

use std::io::{self, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection, StreamOwned};

/// A message larger than this is a bug of a peer.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
const BUFFER_BYTES_START: usize = 16 << 10;

/// A socket, plain or under TLS.
pub(crate) enum Stream {
    Plain(TcpStream),
    ServerTls(Box<StreamOwned<ServerConnection, TcpStream>>),
    ClientTls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    pub(crate) fn accepted(socket: TcpStream, tls: Option<&Arc<ServerConfig>>) -> io::Result<Stream> {
        socket.set_nodelay(true)?;
        Ok(match tls {
            None => Stream::Plain(socket),
            Some(config) => {
                let session = ServerConnection::new(config.clone()).map_err(io::Error::other)?;
                Stream::ServerTls(Box::new(StreamOwned::new(session, socket)))
            }
        })
    }

    pub(crate) fn connect(addr: SocketAddr, tls: Option<&Arc<ClientConfig>>) -> io::Result<Stream> {
        let socket = TcpStream::connect(addr)?;
        socket.set_nodelay(true)?;
        Ok(match tls {
            None => Stream::Plain(socket),
            Some(config) => {
                let name = ServerName::from(addr.ip());
                let session = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
                Stream::ClientTls(Box::new(StreamOwned::new(session, socket)))
            }
        })
    }

    fn socket(&self) -> &TcpStream {
        match self {
            Stream::Plain(socket) => socket,
            Stream::ServerTls(stream) => &stream.sock,
            Stream::ClientTls(stream) => &stream.sock,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.read(into),
            Stream::ServerTls(stream) => stream.read(into),
            Stream::ClientTls(stream) => stream.read(into),
        }
    }
}

/// What `Conn::receive` found; the ranges are good until the next call that reads.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) head: Range<usize>,
    pub(crate) body: Range<usize>,
}

/// A kept-alive connection with its read buffer.
pub(crate) struct Conn {
    stream: Stream,
    buffer: Vec<u8>,
    /// Consumed up to here.
    start: usize,
    /// Filled up to here.
    end: usize,
}

impl Conn {
    pub(crate) fn new(stream: Stream) -> Conn {
        Conn { stream, buffer: vec![0; BUFFER_BYTES_START], start: 0, end: 0 }
    }

    pub(crate) fn bytes(&self, range: &Range<usize>) -> &[u8] {
        &self.buffer[range.clone()]
    }

    /// Whether the peer has closed or reset within `wait`; it must not send anything meanwhile.
    pub(crate) fn closed_within(&self, wait: Duration) -> bool {
        let socket = self.stream.socket();
        let mut byte = [0];
        let _ = socket.set_read_timeout(Some(wait));
        let seen = socket.peek(&mut byte);
        let _ = socket.set_read_timeout(None);
        match seen {
            Ok(count) => count == 0,
            Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
        }
    }

    /// Lets the peer see a reset instead of an orderly end.
    pub(crate) fn reset_on_close(&self) {
        let _ = rustix::net::sockopt::set_socket_linger(self.stream.socket(), Some(Duration::ZERO));
    }

    /// The next message with its whole body; `None` when the peer closed between messages.
    pub(crate) fn receive(&mut self) -> io::Result<Option<Message>> {
        let Some(head) = self.receive_head()? else { return Ok(None) };
        let length = match header(self.bytes(&head), "content-length") {
            Some(value) => number(value) as usize,
            None => 0,
        };
        if length > MESSAGE_BYTES_MAX {
            return Err(io::Error::other("message too large"));
        }
        let head_bytes = head.len();
        let body = self.take(length, head_bytes)?;
        Ok(Some(Message { head: body.start - head_bytes..body.start, body }))
    }

    /// The next head only, up to and with the empty line.
    pub(crate) fn receive_head(&mut self) -> io::Result<Option<Range<usize>>> {
        let mut searched = 0;
        loop {
            let filled = &self.buffer[self.start..self.end];
            if let Some(at) = find(&filled[searched..], b"\r\n\r\n") {
                let head = self.start..self.start + searched + at + 4;
                self.start = head.end;
                return Ok(Some(head));
            }
            searched = filled.len().saturating_sub(3);
            let empty = filled.is_empty();
            if self.fill(0)? == 0 {
                return if empty { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    /// The data of the next chunk of a chunked body; `None` at its end.
    pub(crate) fn receive_chunk(&mut self) -> io::Result<Option<Range<usize>>> {
        let size = loop {
            let filled = &self.buffer[self.start..self.end];
            if let Some(at) = find(filled, b"\r\n") {
                let text = std::str::from_utf8(&filled[..at]).map_err(io::Error::other)?;
                let size = usize::from_str_radix(text.trim(), 16).map_err(io::Error::other)?;
                self.start += at + 2;
                break size;
            }
            if self.fill(0)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        let with_end = self.take(size + 2, 0)?;
        Ok((size > 0).then(|| with_end.start..with_end.end - 2))
    }

    /// Consumes `count` bytes; the `keep` bytes before them stay where `range.start - keep` says.
    fn take(&mut self, count: usize, keep: usize) -> io::Result<Range<usize>> {
        while self.end - self.start < count {
            if self.fill(keep)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let range = self.start..self.start + count;
        self.start = range.end;
        Ok(range)
    }

    /// One read; makes room first, keeping the `keep` bytes before `start`.
    fn fill(&mut self, keep: usize) -> io::Result<usize> {
        if self.start == self.end && keep == 0 {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.buffer.len() {
            let from = self.start - keep;
            if from > 0 {
                self.buffer.copy_within(from..self.end, 0);
                self.start -= from;
                self.end -= from;
            }
            if self.end == self.buffer.len() {
                self.buffer.resize(self.buffer.len() * 2, 0);
            }
        }
        loop {
            match self.stream.read(&mut self.buffer[self.end..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(count) => {
                    self.end += count;
                    return Ok(count);
                }
            }
        }
    }

    /// Writes the parts, in one system call where the socket takes them.
    pub(crate) fn send(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let mut rest = &mut slices[..];
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            let written = match &mut self.stream {
                Stream::Plain(socket) => socket.write_vectored(rest),
                Stream::ServerTls(stream) => stream.write_vectored(rest),
                Stream::ClientTls(stream) => stream.write_vectored(rest),
            };
            match written {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => IoSlice::advance_slices(&mut rest, count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        match &mut self.stream {
            Stream::Plain(_) => Ok(()),
            Stream::ServerTls(stream) => stream.flush(),
            Stream::ClientTls(stream) => stream.flush(),
        }
    }
}

/// The first place of `byte`, a block at a time: `contains` compares whole words.
pub(crate) fn position(hay: &[u8], byte: u8) -> Option<usize> {
    const BLOCK_BYTES: usize = 128;
    for (number, block) in hay.chunks(BLOCK_BYTES).enumerate() {
        if block.contains(&byte) {
            return block.iter().position(|&other| other == byte).map(|at| number * BLOCK_BYTES + at);
        }
    }
    None
}

/// The first place of `needle`.
pub(crate) fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    let (first, rest) = needle.split_first()?;
    let mut from = 0;
    loop {
        let at = from + position(hay.get(from..)?, *first)?;
        if hay[at + 1..].starts_with(rest) {
            return Some(at);
        }
        from = at + 1;
    }
}

/// `find`, but looks at both ends first: envelopes are short, payloads long.
pub(crate) fn find_near_ends(hay: &[u8], needle: &[u8]) -> Option<usize> {
    const END_BYTES: usize = 320;
    if hay.len() > 2 * END_BYTES {
        if let Some(at) = find(&hay[..END_BYTES], needle) {
            return Some(at);
        }
        let tail = hay.len() - END_BYTES;
        if let Some(at) = find(&hay[tail..], needle) {
            return Some(tail + at);
        }
    }
    find(hay, needle)
}

/// The text after `key` (which ends in a quote) up to the next quote.
pub(crate) fn text_after<'a>(hay: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let from = find_near_ends(hay, key)? + key.len();
    let rest = &hay[from..];
    Some(&rest[..position(rest, b'"')?])
}

/// The raw scalar after `"id":`.
pub(crate) fn raw_id(message: &[u8]) -> Option<&[u8]> {
    let rest = &message[find_near_ends(message, b"\"id\":")? + 5..];
    let end = match rest.first()? {
        b'"' => 2 + rest[1..].iter().position(|&byte| byte == b'"')?,
        _ => rest.iter().position(|&byte| byte == b',' || byte == b'}')?,
    };
    Some(&rest[..end])
}

/// The value of a header, name in lower case.
pub(crate) fn header<'a>(head: &'a [u8], name: &str) -> Option<&'a [u8]> {
    head.split(|&byte| byte == b'\n').skip(1).find_map(|line| {
        let (found, value) = line.split_at_checked(name.len())?;
        let value = value.strip_prefix(b":")?;
        found.eq_ignore_ascii_case(name.as_bytes()).then(|| value.trim_ascii())
    })
}

/// The status of a response head.
pub(crate) fn status(head: &[u8]) -> u64 {
    head.get(9..12).map_or(0, number)
}

/// Leading decimal digits as a number.
pub(crate) fn number(text: &[u8]) -> u64 {
    text.iter()
        .take_while(|byte| byte.is_ascii_digit())
        .fold(0, |sum: u64, byte| sum.wrapping_mul(10).wrapping_add(u64::from(byte - b'0')))
}
