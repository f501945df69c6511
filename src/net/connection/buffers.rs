//! The two buffers of a connection: request bytes held back, reply bytes read ahead.
//!
//! They start small, grow within their bounds while a request needs it, and are cut back before the
//! connection idles, so that an idle connection costs little.

/// First size of either buffer, in bytes.
const FIRST_BYTES: usize = 8 * 1024;

/// What either buffer may keep while its connection idles, in bytes: connections that carry long
/// messages would otherwise allocate for each of them.
const IDLE_BYTES: usize = 72 * 1024;

/// Request bytes that are held back at most. A request below it leaves in one write.
pub(crate) const HELD_BOUND_BYTES: usize = 256 * 1024;

/// Reply bytes that are read ahead at most: more than the longest head.
const INPUT_BOUND_BYTES: usize = 128 * 1024;

/// Space there must be to write to, or to read into.
const LEAST_SPACE_BYTES: usize = 2 * 1024;

/// Request bytes held back and reply bytes read ahead.
#[derive(Debug)]
pub(crate) struct Buffers {
    output: Vec<u8>,
    held: usize,
    input: Vec<u8>,
    consumed: usize,
    filled: usize,
    /// Whether the last look at the input took something out of it.
    progress: bool,
}

impl Buffers {
    pub(crate) const fn new() -> Buffers {
        Buffers { output: Vec::new(), held: 0, input: Vec::new(), consumed: 0, filled: 0, progress: false }
    }

    /// Makes room for a request of about `total` bytes in pieces of at most `piece` bytes.
    pub(crate) fn reserve_output(&mut self, total: usize, piece: usize) {
        let space = total.min(HELD_BOUND_BYTES).max(piece).max(LEAST_SPACE_BYTES);
        grow(&mut self.output, self.held.saturating_add(space));
    }

    /// Space for the next piece of the request.
    pub(crate) fn free_output(&mut self) -> &mut [u8] {
        self.reserve_output(0, 0);
        &mut self.output[self.held..]
    }

    /// Keeps `amount` bytes of what was written to the free output.
    pub(crate) fn hold(&mut self, amount: usize) {
        self.held += amount;
    }

    /// What is held back.
    pub(crate) fn held(&self) -> &[u8] {
        &self.output[..self.held]
    }

    /// What is held back has been sent.
    pub(crate) fn release_held(&mut self) {
        self.held = 0;
    }

    /// Turns the origin form of the request line that is held back into the absolute form, and adds
    /// `lines` after it.
    pub(crate) fn amend_request_line(&mut self, prefix: &str, lines: &str) {
        let held = self.held();
        let path = held.iter().position(|byte| *byte == b' ').map(|space| space + 1);
        let end = held.windows(2).position(|pair| pair == b"\r\n").map(|end| end + 2);
        let (Some(path), Some(end)) = (path, end) else { return };
        if path > end || held.get(path) != Some(&b'/') {
            return;
        }
        let mut amended = Vec::with_capacity(self.output.len() + prefix.len() + lines.len());
        amended.extend_from_slice(&held[..path]);
        amended.extend_from_slice(prefix.as_bytes());
        amended.extend_from_slice(&held[path..end]);
        amended.extend_from_slice(lines.as_bytes());
        amended.extend_from_slice(&held[end..]);
        self.held = amended.len();
        self.output = amended;
    }

    /// Takes the request bytes of `other` over.
    pub(crate) fn take_output_of(&mut self, other: &mut Buffers) {
        self.output = std::mem::take(&mut other.output);
        self.held = std::mem::take(&mut other.held);
    }

    /// Reply bytes that nobody has consumed.
    pub(crate) fn unread(&self) -> &[u8] {
        &self.input[self.consumed..self.filled]
    }

    /// Space for the next bytes of the reply; empty when the bound is reached.
    pub(crate) fn free_input(&mut self) -> &mut [u8] {
        if self.consumed > 0 {
            self.input.copy_within(self.consumed..self.filled, 0);
            self.filled -= self.consumed;
            self.consumed = 0;
        }
        if self.input.len() - self.filled < LEAST_SPACE_BYTES {
            grow(&mut self.input, (self.filled * 2).clamp(FIRST_BYTES, INPUT_BOUND_BYTES));
        }
        &mut self.input[self.filled..]
    }

    /// `amount` bytes were put into the free input.
    pub(crate) fn received(&mut self, amount: usize) {
        self.filled += amount;
        // The peer sends faster than we read: fewer, larger reads.
        if self.filled == self.input.len() && self.filled < INPUT_BOUND_BYTES {
            grow(&mut self.input, (self.filled * 2).min(INPUT_BOUND_BYTES));
        }
    }

    /// Takes `amount` bytes out of the unread input.
    pub(crate) fn consume(&mut self, amount: usize) {
        self.progress = amount > 0;
        self.consumed += amount;
        if self.consumed == self.filled {
            self.consumed = 0;
            self.filled = 0;
        }
    }

    /// Whether the unread input may hold more than was seen at the last look.
    pub(crate) fn is_worth_a_look(&self) -> bool {
        self.progress && self.consumed < self.filled
    }

    /// The free input, as scratch space, and the free output.
    pub(crate) fn scratch_and_output(&mut self) -> (&mut [u8], &mut [u8]) {
        let _ = self.free_input();
        let _ = self.free_output();
        (&mut self.input[self.filled..], &mut self.output[self.held..])
    }

    /// Cuts both back to what an idle connection may cost.
    pub(crate) fn shrink(&mut self) {
        for buffer in [&mut self.output, &mut self.input] {
            if buffer.len() > IDLE_BYTES {
                buffer.truncate(IDLE_BYTES);
                buffer.shrink_to_fit();
            }
        }
    }
}

/// Makes `buffer` at least `bytes` long, in whole pages.
fn grow(buffer: &mut Vec<u8>, bytes: usize) {
    if buffer.len() < bytes {
        buffer.resize(bytes.max(FIRST_BYTES).next_multiple_of(4096), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holding(text: &str) -> Buffers {
        let mut buffers = Buffers::new();
        buffers.free_output()[..text.len()].copy_from_slice(text.as_bytes());
        buffers.hold(text.len());
        buffers
    }

    #[test]
    fn a_request_line_is_amended_once_and_only_in_origin_form() {
        let mut buffers = holding("GET /a?b HTTP/1.1\r\nhost: h\r\n\r\nbody /x\r\n");
        buffers.amend_request_line("http://h:81", "Proxy-Authorization: Basic eA==\r\n");
        let expected =
            "GET http://h:81/a?b HTTP/1.1\r\nProxy-Authorization: Basic eA==\r\nhost: h\r\n\r\nbody /x\r\n";
        assert_eq!(std::str::from_utf8(buffers.held()).unwrap(), expected);
        buffers.amend_request_line("http://h:81", "");
        assert_eq!(std::str::from_utf8(buffers.held()).unwrap(), expected);
    }

    #[test]
    fn input_grows_to_its_bound_and_no_further() {
        let mut buffers = Buffers::new();
        let mut total = 0;
        loop {
            let space = buffers.free_input().len();
            if space == 0 {
                break;
            }
            buffers.received(space);
            total += space;
        }
        assert_eq!(total, INPUT_BOUND_BYTES);
        buffers.consume(1);
        assert_eq!(buffers.unread().len(), total - 1);
        assert_eq!(buffers.free_input().len(), 1);
        buffers.consume(total - 1);
        buffers.shrink();
        assert_eq!(buffers.free_input().len(), IDLE_BYTES);
        buffers.received(IDLE_BYTES);
        assert_eq!(buffers.free_input().len(), INPUT_BOUND_BYTES - IDLE_BYTES, "after idling, too");
    }

    #[test]
    fn input_is_worth_a_look_only_after_progress() {
        let mut buffers = Buffers::new();
        buffers.free_input()[..4].copy_from_slice(b"abcd");
        buffers.received(4);
        buffers.consume(0);
        assert!(!buffers.is_worth_a_look());
        buffers.consume(2);
        assert!(buffers.is_worth_a_look());
        buffers.consume(2);
        assert!(!buffers.is_worth_a_look());
    }

    #[test]
    fn output_makes_room_for_a_long_piece() {
        let mut buffers = Buffers::new();
        buffers.reserve_output(0, 100_000);
        assert!(buffers.free_output().len() >= 100_000);
    }
}
