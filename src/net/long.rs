//! Memory for long messages.
//!
//! The C library gives memory back to the system at once where an allocation has a mapping of its own,
//! which on 64-bit Linux is certain from 32 MiB on; what is shorter may stay with the process for good, up
//! to the most that was ever in use at once. So a buffer that outgrows [`LONG_BYTES`] gets that much address
//! space: of it only what is written takes memory. Where address space is scarce, things go on without.

/// From here on a buffer is given a mapping of its own.
const LONG_BYTES: usize = 1024 * 1024;
/// A size that is certain to get one.
const MAPPED_BYTES: usize = 33 * 1024 * 1024;

/// Prepares `buffer` for growing to `bytes` bytes.
pub(crate) fn make_room(buffer: &mut Vec<u8>, bytes: usize) {
    if bytes > LONG_BYTES && buffer.capacity() < MAPPED_BYTES {
        // Without it the buffer grows as others do.
        let _ = buffer.try_reserve_exact(bytes.max(MAPPED_BYTES).saturating_sub(buffer.len()));
    }
}

/// An empty buffer for `bytes` bytes.
pub(crate) fn buffer_for(bytes: usize) -> Vec<u8> {
    let mut buffer = Vec::new();
    make_room(&mut buffer, bytes);
    buffer.reserve(bytes);
    buffer
}

/// A copy of `text`.
pub(crate) fn copy_of(text: &str) -> String {
    if text.len() <= LONG_BYTES {
        return text.to_owned();
    }
    let mut copy = String::new();
    let _ = copy.try_reserve_exact(text.len().max(MAPPED_BYTES));
    copy.push_str(text);
    copy
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_long_buffers_get_a_mapping_of_their_own() {
        assert!(buffer_for(LONG_BYTES).capacity() < MAPPED_BYTES);
        assert!(buffer_for(LONG_BYTES + 1).capacity() >= MAPPED_BYTES);
        assert!(buffer_for(MAPPED_BYTES * 2).capacity() >= MAPPED_BYTES * 2);
        let mut buffer = vec![7; 10];
        make_room(&mut buffer, LONG_BYTES + 1);
        assert!(buffer.capacity() >= MAPPED_BYTES && buffer == [7; 10]);
        let text = "x".repeat(LONG_BYTES + 1);
        let copy = copy_of(&text);
        assert!(copy.capacity() >= MAPPED_BYTES && copy == text);
        assert_eq!(copy_of("short").capacity(), 5);
    }
}
