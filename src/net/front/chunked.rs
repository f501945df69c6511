//! Decoding of the chunked transfer coding (RFC 9112 §7.1), strictly: line ends are CR LF, sizes are
//! plain hexadecimal digits. Extensions and trailers are skipped within a bound.

/// Bytes of all size lines' extensions, and of all trailers, of one body.
const OVERHEAD_BYTES: usize = 16 * 1024;
/// Hexadecimal digits of one chunk size.
const SIZE_DIGITS: u8 = 8;

/// What [`Decoder::feed`] found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fed {
    /// All input was used, more is needed.
    More,
    /// The body is complete; so many bytes of the input belonged to it.
    Done(usize),
}

/// Why a chunked body is refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BadChunk {
    /// The framing is wrong.
    Malformed,
    /// The decoded body exceeds its limit.
    TooLarge,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Size { digits: u8, value: usize },
    Extension { value: usize },
    SizeEnd { value: usize },
    Data { left: usize },
    DataCr,
    DataEnd,
    TrailerStart,
    Trailer,
    TrailerEnd,
    LastEnd,
}

/// Decodes one body in pieces as they arrive.
#[derive(Debug)]
pub(crate) struct Decoder {
    state: State,
    overhead: usize,
    body: usize,
}

impl Decoder {
    pub(crate) fn new() -> Decoder {
        Decoder { state: State::Size { digits: 0, value: 0 }, overhead: 0, body: 0 }
    }

    /// Appends the data of `input` to `out`, of which no more than `limit` bytes come together.
    pub(crate) fn feed(&mut self, input: &[u8], out: &mut Vec<u8>, limit: usize) -> Result<Fed, BadChunk> {
        let mut at = 0;
        while let Some(&byte) = input.get(at) {
            if let State::Data { left } = self.state {
                let take = left.min(input.len() - at);
                out.extend_from_slice(&input[at..at + take]);
                at += take;
                self.state = if take == left { State::DataCr } else { State::Data { left: left - take } };
                continue;
            }
            at += 1;
            self.state = match (self.state, byte) {
                (State::Size { digits, value }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F')
                    if digits < SIZE_DIGITS =>
                {
                    let digit = char::from(byte).to_digit(16).unwrap_or(0) as usize;
                    State::Size { digits: digits + 1, value: value << 4 | digit }
                }
                (State::Size { digits: 1.., value }, b';' | b' ' | b'\t') => State::Extension { value },
                (State::Size { digits: 1.., value }, b'\r') => self.sized(value, limit)?,
                (State::Extension { value }, b'\r') => self.sized(value, limit)?,
                (State::Extension { value }, b' '..=b'~' | b'\t' | 0x80..) => {
                    self.spend()?;
                    State::Extension { value }
                }
                (State::SizeEnd { value: 0 }, b'\n') => State::TrailerStart,
                (State::SizeEnd { value }, b'\n') => State::Data { left: value },
                (State::DataCr, b'\r') => State::DataEnd,
                (State::DataEnd, b'\n') => State::Size { digits: 0, value: 0 },
                (State::TrailerStart, b'\r') => State::LastEnd,
                (State::Trailer, b'\r') => State::TrailerEnd,
                (State::TrailerStart | State::Trailer, b' '..=b'~' | b'\t' | 0x80..) => {
                    self.spend()?;
                    State::Trailer
                }
                (State::TrailerEnd, b'\n') => State::TrailerStart,
                (State::LastEnd, b'\n') => return Ok(Fed::Done(at)),
                _ => return Err(BadChunk::Malformed),
            };
        }
        Ok(Fed::More)
    }

    fn sized(&mut self, value: usize, limit: usize) -> Result<State, BadChunk> {
        self.body = self.body.saturating_add(value);
        if self.body > limit { Err(BadChunk::TooLarge) } else { Ok(State::SizeEnd { value }) }
    }

    fn spend(&mut self) -> Result<(), BadChunk> {
        self.overhead += 1;
        if self.overhead > OVERHEAD_BYTES { Err(BadChunk::Malformed) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(input: &[u8], step: usize) -> Result<(Fed, Vec<u8>), BadChunk> {
        let (mut decoder, mut out, mut fed) = (Decoder::new(), Vec::new(), Fed::More);
        for piece in input.chunks(step) {
            fed = decoder.feed(piece, &mut out, 64)?;
            if fed != Fed::More {
                break;
            }
        }
        Ok((fed, out))
    }

    #[test]
    fn a_body_is_the_same_however_it_is_cut() {
        let input = b"5\r\nhello\r\n1;ext=\"v\"\r\n \r\n5\r\nworld\r\n0\r\nTrailer: x\r\n\r\n";
        assert_eq!(decode(input, input.len()), Ok((Fed::Done(input.len()), b"hello world".to_vec())));
        for step in 1..input.len() {
            let (fed, out) = decode(input, step).unwrap();
            assert_eq!(out, b"hello world", "{step}");
            assert!(matches!(fed, Fed::Done(_)), "{step}");
        }
    }

    #[test]
    fn the_next_request_is_not_touched() {
        assert_eq!(decode(b"1\r\nx\r\n0\r\n\r\nGET", 99), Ok((Fed::Done(11), b"x".to_vec())));
    }

    #[test]
    fn sloppy_framing_is_refused() {
        for bad in [
            "\r\n",
            ";\r\n",
            "g\r\n",
            "-1\r\n",
            "0x1\r\n",
            "1\nx",
            "1\r\nxx",
            "1\r\nx\n",
            "1\r\nx\r\r",
            "000000001\r\n",
            "0\r\nA\n",
            "0\r\n\r\r",
            " 1\r\n",
        ] {
            assert_eq!(decode(bad.as_bytes(), 1), Err(BadChunk::Malformed), "{bad:?}");
        }
        assert_eq!(decode(b"41\r\n", 9), Err(BadChunk::TooLarge));
        assert_eq!(decode(b"ffffffff\r\n", 99), Err(BadChunk::TooLarge));
        let long = format!("1;{}\r\n", "x".repeat(OVERHEAD_BYTES + 1));
        assert_eq!(decode(long.as_bytes(), 999), Err(BadChunk::Malformed));
    }
}
