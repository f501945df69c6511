//! Server-sent events, read incrementally (WHATWG HTML §9.2.6).
//!
//! What comes out are the data of `message` events only; ids and retry hints are kept aside. An event
//! counts once its blank line has been seen: half an event at the end of the stream is dropped.
//! Invariant: every byte is looked at once, and no event may hold more than the limit.

use std::io::{self, Read};
use std::ops::Range;
use std::time::Duration;

use crate::net::long;

/// Size of one read, and of the buffer until an event does not fit.
const BUFFER_BYTES: usize = 8 * 1024;
/// A longer id is not remembered: it has to fit into a request header.
const MAX_ID_BYTES: usize = 4 * 1024;
/// Cap of a server's `retry` hint.
const MAX_RETRY: Duration = Duration::from_secs(600);
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads the events of one stream.
pub struct EventReader<R> {
    source: R,
    max_event_bytes: usize,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that are filled.
    filled: usize,
    /// Where the current line starts.
    line: usize,
    /// Up to where the current line was searched for its end.
    searched: usize,
    /// The previous line ended in CR: a LF right after it belongs to it.
    after_cr: bool,
    /// Nothing has been read yet: a byte order mark may come.
    at_start: bool,
    event: Pending,
    last_event_id: Option<Vec<u8>>,
    retry: Option<Duration>,
}

/// What is known of an event whose blank line has not been seen.
#[derive(Default)]
struct Pending {
    data: Data,
    /// Its `event` field names something other than a message.
    foreign: bool,
    id: Option<Vec<u8>>,
    /// The caller has seen this event; the next line starts a new one.
    delivered: bool,
}

/// An event's data: a place in the buffer as long as one line in one buffer filling makes it up.
#[derive(Default)]
struct Data {
    lines: usize,
    place: Option<Range<usize>>,
    copy: Vec<u8>,
}

/// The stream cannot be read on.
#[derive(Debug)]
pub enum ReadError {
    /// The source failed.
    Io(io::Error),
    /// A line or an event is longer than the limit.
    TooLarge,
}

impl<R: Read> EventReader<R> {
    /// Reads events of at most `max_event_bytes` of data from `source`.
    pub fn new(source: R, max_event_bytes: usize) -> EventReader<R> {
        EventReader {
            source,
            max_event_bytes,
            buffer: Vec::new(),
            filled: 0,
            line: 0,
            searched: 0,
            after_cr: false,
            at_start: true,
            event: Pending::default(),
            last_event_id: None,
            retry: None,
        }
    }

    /// The data of the next message event, never empty; `None` at the end of the stream.
    pub fn next_message(&mut self) -> Result<Option<&[u8]>, ReadError> {
        if self.event.delivered {
            self.event = Pending::default();
        }
        loop {
            while let Some(line) = self.next_line()? {
                if line.is_empty() {
                    if self.end_event() {
                        return Ok(Some(self.delivered_data()));
                    }
                } else {
                    self.take_field(line)?;
                }
            }
            if !self.fill().map_err(ReadError::Io)? {
                return Ok(None);
            }
        }
    }

    /// The last id that a complete event of this stream carried.
    pub fn last_event_id(&self) -> Option<&[u8]> {
        self.last_event_id.as_deref()
    }

    /// The delay before reconnecting that the server asked for.
    pub fn retry(&self) -> Option<Duration> {
        self.retry
    }

    /// The source, with an unknown part of it read.
    pub fn into_source(self) -> R {
        self.source
    }

    /// The next complete line, without its end; `None` if it has not arrived yet.
    fn next_line(&mut self) -> Result<Option<Range<usize>>, ReadError> {
        if self.after_cr && self.line < self.filled {
            self.after_cr = false;
            if self.buffer[self.line] == b'\n' {
                self.line += 1;
                self.searched = self.searched.max(self.line);
            }
        }
        let Some(offset) = line_end(&self.buffer[self.searched..self.filled]) else {
            self.searched = self.filled;
            let held = self.filled - self.line + self.event.data.copy.len();
            // Field name, colon, space and id of a line are small beside the data.
            return if held > self.max_event_bytes.saturating_add(MAX_ID_BYTES) {
                Err(ReadError::TooLarge)
            } else {
                Ok(None)
            };
        };
        let end = self.searched + offset;
        let mut line = self.line..end;
        self.after_cr = self.buffer[end] == b'\r';
        self.line = end + 1;
        self.searched = self.line;
        if std::mem::take(&mut self.at_start) && self.buffer[line.clone()].starts_with(BYTE_ORDER_MARK) {
            line.start += BYTE_ORDER_MARK.len();
        }
        Ok(Some(line))
    }

    /// Notes the field in `line`, which is not empty.
    fn take_field(&mut self, line: Range<usize>) -> Result<(), ReadError> {
        let text = &self.buffer[line.clone()];
        let (name, value) = match text.iter().position(|b| *b == b':') {
            Some(colon) => {
                let value = line.start + colon + 1;
                let space = usize::from(self.buffer.get(value) == Some(&b' ') && value < line.end);
                (&text[..colon], value + space..line.end)
            }
            None => (text, line.end..line.end),
        };
        match name {
            b"data" => return self.take_data(value),
            b"event" => self.event.foreign = !matches!(&self.buffer[value], b"" | b"message"),
            b"id" => {
                let id = &self.buffer[value];
                if !id.is_empty() && id.len() <= MAX_ID_BYTES && !id.contains(&0) {
                    self.event.id = Some(id.to_vec());
                }
            }
            b"retry" => {
                let digits = &self.buffer[value];
                if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) {
                    let millis = std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok());
                    self.retry = Some(millis.map_or(MAX_RETRY, Duration::from_millis).min(MAX_RETRY));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn take_data(&mut self, value: Range<usize>) -> Result<(), ReadError> {
        let data = &mut self.event.data;
        if data.len() + usize::from(data.lines > 0) + value.len() > self.max_event_bytes {
            return Err(ReadError::TooLarge);
        }
        if data.lines == 0 {
            data.place = Some(value);
        } else {
            data.leave_buffer(&self.buffer);
            data.copy.push(b'\n');
            data.copy.extend_from_slice(&self.buffer[value]);
        }
        data.lines += 1;
        Ok(())
    }

    /// A blank line came: settles the event, and tells whether it is one for the caller.
    fn end_event(&mut self) -> bool {
        if let Some(id) = self.event.id.take() {
            self.last_event_id = Some(id);
        }
        if self.event.foreign || self.event.data.len() == 0 {
            self.event = Pending::default();
            return false;
        }
        self.event.delivered = true;
        true
    }

    fn delivered_data(&self) -> &[u8] {
        match &self.event.data.place {
            Some(place) => &self.buffer[place.clone()],
            None => &self.event.data.copy,
        }
    }

    /// Reads more; false at the end of the source.
    fn fill(&mut self) -> io::Result<bool> {
        self.event.data.leave_buffer(&self.buffer);
        if self.line > 0 {
            self.buffer.copy_within(self.line..self.filled, 0);
            self.filled -= self.line;
            self.searched -= self.line;
            self.line = 0;
        }
        if self.filled == self.buffer.len() {
            // Twice as long, but no longer than an event of the greatest length needs.
            let most = self.max_event_bytes.saturating_add(MAX_ID_BYTES + BUFFER_BYTES);
            let longer = (self.buffer.len() * 2).min(most).max(self.filled + BUFFER_BYTES);
            long::make_room(&mut self.buffer, longer);
            self.buffer.resize(longer, 0);
        }
        loop {
            match self.source.read(&mut self.buffer[self.filled..]) {
                Ok(0) => return Ok(false),
                Ok(count) => {
                    self.filled += count;
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Data {
    fn len(&self) -> usize {
        self.place.as_ref().map_or(self.copy.len(), Range::len)
    }

    /// Makes the data independent of the buffer, whose content is about to move.
    fn leave_buffer(&mut self, buffer: &[u8]) {
        if let Some(place) = self.place.take() {
            let bytes = self.copy.len() + place.len();
            long::make_room(&mut self.copy, bytes);
            self.copy.extend_from_slice(&buffer[place]);
        }
    }
}

/// The first CR or LF. In blocks, because the plain search is not vectorised.
fn line_end(bytes: &[u8]) -> Option<usize> {
    const BLOCK: usize = 32;
    let is_end = |b: &u8| *b == b'\n' || *b == b'\r';
    let mut offset = 0;
    for block in bytes.chunks_exact(BLOCK) {
        if block.iter().fold(false, |found, b| found | is_end(b)) {
            break;
        }
        offset += BLOCK;
    }
    bytes[offset..].iter().position(is_end).map(|position| offset + position)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives out its bytes in the pieces it is told.
    struct Pieces<'a>(Vec<&'a [u8]>);

    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            while let Some(first) = self.0.first_mut() {
                if first.is_empty() {
                    self.0.remove(0);
                    continue;
                }
                let count = first.len().min(buffer.len());
                buffer[..count].copy_from_slice(&first[..count]);
                *first = &first[count..];
                return Ok(count);
            }
            Ok(0)
        }
    }

    #[derive(Debug, PartialEq, Eq)]
    struct Read_ {
        messages: Vec<String>,
        id: Option<String>,
        retry: Option<Duration>,
    }

    fn read(pieces: Vec<&[u8]>) -> Read_ {
        let mut reader = EventReader::new(Pieces(pieces), 1 << 20);
        let mut messages = Vec::new();
        while let Some(data) = reader.next_message().unwrap() {
            messages.push(String::from_utf8(data.to_vec()).unwrap());
        }
        let id = reader.last_event_id().map(|id| String::from_utf8(id.to_vec()).unwrap());
        Read_ { messages, id, retry: reader.retry() }
    }

    #[test]
    fn streams_are_read_the_same_however_they_are_cut() {
        let millis = |n| Some(Duration::from_millis(n));
        type Row = (&'static str, &'static [&'static str], Option<&'static str>, Option<Duration>);
        let table: &[Row] = &[
            ("data: a\n\n", &["a"], None, None),
            ("data: a\r\n\r\ndata: b\r\n\r\n", &["a", "b"], None, None),
            ("data: a\r\rdata: b\r\r", &["a", "b"], None, None),
            ("data: a\n\r\ndata: b\r\n\n", &["a", "b"], None, None),
            ("\u{feff}data: a\n\n", &["a"], None, None),
            ("\u{feff}\ndata: a\n\n", &["a"], None, None),
            ("data: \u{feff}a\n\n", &["\u{feff}a"], None, None),
            ("data:a\n\ndata:  b \n\n", &["a", " b "], None, None),
            ("data: {\"a\":\ndata: 1}\n\n", &["{\"a\":\n1}"], None, None),
            ("data: a\ndata\ndata: b\n\n", &["a\n\nb"], None, None),
            ("data\n\ndata:\n\ndata: a\n\n", &["a"], None, None),
            (": comment\n:\n: another\ndata: a\n\n", &["a"], None, None),
            ("field without colon\nunknown: x\ndata: a\n\n", &["a"], None, None),
            ("event: ping\ndata: ping\n\ndata: a\n\n", &["a"], None, None),
            ("event: message\ndata: a\n\nevent:\ndata: b\n\n", &["a", "b"], None, None),
            ("event: ping\nevent: message\ndata: a\n\n", &["a"], None, None),
            ("event: ping\n\ndata: a\n\n", &["a"], None, None),
            ("id: 7\n\n", &[], Some("7"), None),
            ("id: 7\ndata: a\n\nid\ndata: b\n\n", &["a", "b"], Some("7"), None),
            ("id: 7\n\nid: a\0b\n\n", &[], Some("7"), None),
            ("id: 7\ndata: a\n\nid: 8\ndata: half", &["a"], Some("7"), None),
            ("id: 7\ndata: a\n\nid: 8\ndata: half\n", &["a"], Some("7"), None),
            ("event: ping\nid: 9\ndata: x\n\n", &[], Some("9"), None),
            ("retry: 250\nretry: 2x\nretry:\nretry: -1\n\n", &[], None, millis(250)),
            ("retry: 99999999999999999999999\n\n", &[], None, Some(MAX_RETRY)),
            ("", &[], None, None),
            ("\n\n\n\r\r\n", &[], None, None),
        ];
        for (stream, messages, id, retry) in table {
            let expected = Read_ {
                messages: messages.iter().map(|text| (*text).to_owned()).collect(),
                id: id.map(str::to_owned),
                retry: *retry,
            };
            let bytes = stream.as_bytes();
            assert_eq!(read(vec![bytes]), expected, "{stream:?}");
            for cut in 0..=bytes.len() {
                let (head, tail) = bytes.split_at(cut);
                assert_eq!(read(vec![head, tail]), expected, "{stream:?} cut at {cut}");
            }
            assert_eq!(read(bytes.chunks(1).collect()), expected, "{stream:?} byte by byte");
        }
    }

    #[test]
    fn an_event_much_longer_than_the_buffer_arrives_whole() {
        let long = "x".repeat(5 * BUFFER_BYTES + 3);
        let stream = format!("data: short\n\ndata: {long}\ndata: {long}\n\ndata: end\n\n");
        let pieces = stream.as_bytes().chunks(1000).collect();
        assert_eq!(read(pieces).messages, ["short".to_owned(), format!("{long}\n{long}"), "end".to_owned()]);
    }

    #[test]
    fn an_event_beyond_the_limit_is_refused_before_it_is_held_in_full() {
        let limit = 64 * 1024;
        let fits = format!("data: {}\n\n", "x".repeat(limit));
        let mut reader = EventReader::new(fits.as_bytes(), limit);
        assert_eq!(reader.next_message().unwrap().map(<[u8]>::len), Some(limit));
        let long_line = io::Cursor::new(b"data: ").chain(io::repeat(b'x'));
        assert!(matches!(EventReader::new(long_line, limit).next_message(), Err(ReadError::TooLarge)));
        let many_lines = "data: x\n".repeat(limit);
        let mut reader = EventReader::new(many_lines.as_bytes(), limit);
        assert!(matches!(reader.next_message(), Err(ReadError::TooLarge)));
    }

    #[test]
    fn comments_without_end_do_not_pile_up() {
        let stream = ": keep-alive\n".repeat(100_000) + "data: a\n\n";
        let mut reader = EventReader::new(stream.as_bytes(), 1024);
        assert_eq!(reader.next_message().unwrap(), Some(&b"a"[..]));
        assert!(reader.buffer.len() <= BUFFER_BYTES);
    }
}
