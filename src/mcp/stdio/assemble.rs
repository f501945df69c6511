//! JSON values that a server spreads over several lines.
//!
//! Invariant: a line that is a message by itself is never swallowed by what came before it, and what
//! is collected stays below the limit of one message.

use serde::de::IgnoredAny;

/// The lines of one value so far.
#[derive(Default)]
pub(super) struct Assembler {
    text: Vec<u8>,
    /// Up to here the text is known to be the beginning of JSON.
    checked: usize,
    depth: usize,
}

/// What a further line made of the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It is complete.
    Complete,
    /// It goes on.
    More,
    /// It is not JSON after all, or longer than allowed.
    Broken,
}

impl Assembler {
    /// Whether lines have been collected.
    pub(super) fn is_collecting(&self) -> bool {
        !self.text.is_empty()
    }

    /// Whether they are the beginning of an array: a batch, whose messages may come one a line.
    pub(super) fn is_array(&self) -> bool {
        self.text.trim_ascii_start().first() == Some(&b'[')
    }

    /// Takes the first line of a value; `false` if it is no beginning of an object or array.
    pub(super) fn begin(&mut self, line: &[u8]) -> bool {
        self.clear();
        if matches!(line.trim_ascii_start().first(), Some(b'{' | b'[')) && is_beginning(line) {
            self.text.extend_from_slice(line);
            self.depth = scan(line, 0).unwrap_or(0);
            self.checked = self.text.len();
        }
        self.depth > 0 || {
            self.clear();
            false
        }
    }

    /// Takes a further line.
    pub(super) fn push(&mut self, line: &[u8], max_bytes: usize) -> Progress {
        let depth = scan(line, self.depth);
        if depth.is_none() || self.text.len() + line.len() >= max_bytes {
            return Progress::Broken;
        }
        self.depth = depth.unwrap_or(0);
        self.text.push(b'\n');
        self.text.extend_from_slice(line);
        if self.depth == 0 {
            return Progress::Complete;
        }
        // Checked each time it has doubled: text that is no JSON is noticed early, at linear cost.
        if self.text.len() >= 2 * self.checked {
            self.checked = self.text.len();
            if !is_beginning(&self.text) {
                return Progress::Broken;
            }
        }
        Progress::More
    }

    /// The lines collected.
    pub(super) fn take(&mut self) -> Vec<u8> {
        let text = std::mem::take(&mut self.text);
        self.clear();
        text
    }

    /// Forgets them.
    pub(super) fn clear(&mut self) {
        *self = Assembler::default();
    }
}

/// Whether `text` is JSON that merely ends too early.
fn is_beginning(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok()
        && serde_json::from_slice::<IgnoredAny>(text).is_err_and(|error| error.is_eof())
}

/// The nesting after `line`; `None` when a string is left open, which no line break may do, or more is
/// closed than was opened.
fn scan(line: &[u8], mut depth: usize) -> Option<usize> {
    let (mut in_string, mut escaped) = (false, false);
    for &byte in line {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.checked_sub(1)?,
            _ => {}
        }
    }
    (!in_string).then_some(depth)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_over_several_lines_is_put_together() {
        let mut assembler = Assembler::default();
        assert!(assembler.begin(b"{"));
        assert_eq!(assembler.push(br#"  "a": "}\"{","#, 100), Progress::More);
        assert_eq!(assembler.push(b"  \"b\": [1,", 100), Progress::More);
        assert_eq!(assembler.push(b"2]}", 100), Progress::Complete);
        assert_eq!(assembler.take(), b"{\n  \"a\": \"}\\\"{\",\n  \"b\": [1,\n2]}");
        assert!(!assembler.is_collecting());
    }

    #[test]
    fn what_cannot_become_json_is_refused_early() {
        let mut assembler = Assembler::default();
        for garbage in ["[INFO] started", "plain", "\"text", "3", "{}", "{\"a\": \"open", "", "{a"] {
            assert!(!assembler.begin(garbage.as_bytes()), "{garbage}");
        }
        assert!(assembler.begin(b"{"));
        assert_eq!(assembler.push(b"}]", 100), Progress::Broken);
        assert!(assembler.begin(b"{"));
        assert_eq!(assembler.push(b"not json, but short lines of text", 100), Progress::Broken);
        assert!(assembler.begin(b"["));
        assert_eq!(assembler.push(b"1,", 3), Progress::Broken, "too long");
    }
}
