//! Lines of bounded length from a non-blocking pipe.

use std::io::{self, BufRead};
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;

use crate::net::long;

use super::pipe::{Ready, StopSignal};

/// Size of the buffer while lines are short.
const BUFFER_BYTES: usize = 64 * 1024;
/// A buffer that a long line has made larger than this is given back once it is empty.
const BUFFER_KEPT_BYTES: usize = 1024 * 1024;
/// A pipe that is never empty is read so many times before the signal is looked at again.
const MAX_READS: u32 = 64;
/// What is kept of the beginning and of the end of a line that is too long.
const EXCERPT_BYTES: usize = 4 * 1024;

/// Splits a pipe into lines.
pub(super) struct LineReader {
    pipe: OwnedFd,
    buffer: Vec<u8>,
    /// Unread bytes are `buffer[start..filled]`; none of `buffer[start..scanned]` is a line break.
    start: usize,
    scanned: usize,
    filled: usize,
    max_line_bytes: usize,
    /// The last read emptied the pipe: poll before the next one.
    drained: bool,
    /// Reads since the last poll.
    reads: u32,
    /// Set while the rest of a line that is too long is being skipped.
    skipping: Option<Excerpt>,
}

/// The two ends of a line that was too long.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Excerpt {
    /// Its first bytes.
    pub(super) head: Vec<u8>,
    /// Its last bytes.
    pub(super) tail: Vec<u8>,
}

/// What comes next in the pipe.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<'a> {
    /// A line without its line feed.
    Line(&'a [u8]),
    /// A line that was longer than allowed; the rest of it has been skipped.
    TooLong(Excerpt),
    /// The pipe ended; what came after the last line feed.
    End(&'a [u8]),
    /// The signal was raised.
    Stopped,
}

impl LineReader {
    /// Reads `pipe`, which must be non-blocking.
    pub(super) fn new(pipe: OwnedFd, max_line_bytes: usize) -> LineReader {
        LineReader {
            pipe,
            buffer: vec![0; BUFFER_BYTES],
            start: 0,
            scanned: 0,
            filled: 0,
            max_line_bytes,
            drained: true,
            reads: 0,
            skipping: None,
        }
    }

    /// The next line; waits for it.
    pub(super) fn next(&mut self, stop: &StopSignal) -> io::Result<Next<'_>> {
        loop {
            if let Some(end) = find_line_feed(&self.buffer[self.scanned..self.filled]) {
                let line = self.start..self.scanned + end;
                self.start = line.end + 1;
                self.scanned = self.start;
                if let Some(mut excerpt) = self.skipping.take() {
                    excerpt.extend_tail(&self.buffer[line]);
                    return Ok(Next::TooLong(excerpt));
                }
                if line.len() > self.max_line_bytes {
                    let mut excerpt = Excerpt::of(&self.buffer[line.clone()]);
                    excerpt.extend_tail(&self.buffer[line]);
                    return Ok(Next::TooLong(excerpt));
                }
                return Ok(Next::Line(&self.buffer[line]));
            }
            self.scanned = self.filled;
            self.make_room();
            if self.drained {
                match stop.wait_readable(self.pipe.as_fd(), None)? {
                    Ready::Yes | Ready::TimedOut => {}
                    Ready::Stopped => return Ok(Next::Stopped),
                }
                self.reads = 0;
            }
            match rustix::io::read(&self.pipe, &mut self.buffer[self.filled..]) {
                Ok(0) => {
                    if self.skipping.take().is_some() {
                        self.start = self.filled;
                    }
                    let rest = self.start..self.filled;
                    self.start = self.filled;
                    return Ok(Next::End(&self.buffer[rest]));
                }
                Ok(count) => {
                    self.filled += count;
                    self.reads += 1;
                    self.drained = self.filled < self.buffer.len() || self.reads >= MAX_READS;
                }
                Err(Errno::AGAIN) => self.drained = true,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Makes sure that at least one byte can be read; called with nothing but an unfinished line left.
    fn make_room(&mut self) {
        let unfinished = self.filled - self.start;
        if self.skipping.is_some() || unfinished > self.max_line_bytes {
            let rest = &self.buffer[self.start..self.filled];
            self.skipping.get_or_insert_with(|| Excerpt::of(rest)).extend_tail(rest);
            self.start = self.filled;
        }
        if self.start == self.filled {
            (self.start, self.scanned, self.filled) = (0, 0, 0);
            if self.buffer.len() > BUFFER_KEPT_BYTES {
                self.buffer = vec![0; BUFFER_BYTES];
            }
        } else if self.filled == self.buffer.len() {
            if self.start > 0 {
                self.buffer.copy_within(self.start.., 0);
                self.filled -= self.start;
                (self.start, self.scanned) = (0, self.filled);
            } else {
                // One byte above the limit is enough to know that a line is too long.
                let size =
                    (self.buffer.len() * 2).min(self.max_line_bytes.saturating_add(1)).max(self.filled + 1);
                long::make_room(&mut self.buffer, size);
                self.buffer.resize(size, 0);
            }
        }
    }
}

impl Excerpt {
    fn of(beginning: &[u8]) -> Excerpt {
        Excerpt { head: beginning[..beginning.len().min(EXCERPT_BYTES)].to_vec(), tail: Vec::new() }
    }

    fn extend_tail(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(&bytes[bytes.len().saturating_sub(EXCERPT_BYTES)..]);
        self.tail.drain(..self.tail.len().saturating_sub(EXCERPT_BYTES));
    }
}

/// The position of the first line feed; the standard library's search is the fast one.
fn find_line_feed(bytes: &[u8]) -> Option<usize> {
    let mut rest = bytes;
    let last = rest.skip_until(b'\n').ok()?.checked_sub(1)?;
    (bytes[last] == b'\n').then_some(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn reader(max: usize) -> (LineReader, io::PipeWriter, StopSignal) {
        let (pipe, writer) = io::pipe().unwrap();
        super::super::pipe::set_nonblocking(&pipe).unwrap();
        (LineReader::new(pipe.into(), max), writer, StopSignal::new().unwrap())
    }

    #[test]
    fn lines_are_split_whatever_the_writes_look_like() {
        let (mut lines, mut pipe, stop) = reader(100);
        pipe.write_all(b"one\n\ntwo\r\nthr").unwrap();
        assert_eq!(lines.next(&stop).unwrap(), Next::Line(b"one"));
        assert_eq!(lines.next(&stop).unwrap(), Next::Line(b""));
        assert_eq!(lines.next(&stop).unwrap(), Next::Line(b"two\r"));
        pipe.write_all(b"ee\nend").unwrap();
        assert_eq!(lines.next(&stop).unwrap(), Next::Line(b"three"));
        drop(pipe);
        assert_eq!(lines.next(&stop).unwrap(), Next::End(b"end"));
        assert_eq!(lines.next(&stop).unwrap(), Next::End(b""));
    }

    #[test]
    fn a_line_of_the_greatest_length_passes_and_a_longer_one_is_skipped() {
        for max in [3, BUFFER_BYTES, 3 * BUFFER_BYTES + 7] {
            let (mut lines, mut pipe, stop) = reader(max);
            let writer = std::thread::spawn(move || {
                pipe.write_all(&vec![b'a'; max]).unwrap();
                pipe.write_all(b"\n<").unwrap();
                pipe.write_all(&vec![b'b'; 2 * max]).unwrap();
                pipe.write_all(b">\nok\n<").unwrap();
                pipe.write_all(&vec![b'c'; 2 * max]).unwrap();
            });
            assert_eq!(lines.next(&stop).unwrap(), Next::Line(&vec![b'a'; max]), "{max}");
            let Next::TooLong(excerpt) = lines.next(&stop).unwrap() else { panic!("{max}") };
            assert!(excerpt.head.starts_with(b"<b") && excerpt.tail.ends_with(b"b>"), "{max}");
            assert!(excerpt.head.len() <= EXCERPT_BYTES && excerpt.tail.len() <= EXCERPT_BYTES);
            assert_eq!(lines.next(&stop).unwrap(), Next::Line(b"ok"), "{max}");
            assert_eq!(lines.next(&stop).unwrap(), Next::End(b""), "{max}");
            assert!(lines.buffer.len() <= BUFFER_KEPT_BYTES);
            writer.join().unwrap();
        }
    }

    #[test]
    fn a_raised_signal_ends_the_reading() {
        let (mut lines, _pipe, stop) = reader(10);
        stop.raise();
        assert_eq!(lines.next(&stop).unwrap(), Next::Stopped);
    }
}
