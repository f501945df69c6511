//! What a terminal gets and a pipe does not: colour, lines that fit, a line of progress.
//!
//! Invariant: what is written to anything but a terminal is the same bytes for everybody.

use std::io::{IsTerminal as _, Write as _};
use std::sync::{Mutex, PoisonError};

/// Columns below which nothing is fitted: a wrong report, or nothing that could help.
const MIN_COLUMNS: usize = 40;
/// Lines longer than this are hard to read, however wide the terminal.
const MAX_COLUMNS: usize = 110;

/// The colours in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Paint {
    Green,
    Yellow,
    Red,
}

impl Paint {
    /// `text` in this colour.
    pub(super) fn on(self, text: &str) -> String {
        let code = match self {
            Paint::Green => 32,
            Paint::Yellow => 33,
            Paint::Red => 31,
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

/// Whether stdout takes colours: a terminal, and nobody said no (see no-color.org).
pub(super) fn takes_colour() -> bool {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    std::io::stdout().is_terminal()
        && set("NO_COLOR").is_none()
        && set("TERM").is_none_or(|term| term != "dumb")
}

/// The columns that text on stdout should keep to; none if it is not read on a terminal.
pub(super) fn columns() -> Option<usize> {
    let stdout = std::io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(&stdout).ok()?;
    let columns = usize::from(size.ws_col);
    (columns >= MIN_COLUMNS).then_some(columns.min(MAX_COLUMNS))
}

/// `text` with lines of at most `columns` characters, where they have a space to break at. What follows a
/// break stands below the column that the line's text begins in. Command lines stay whole.
pub(super) fn fitted(text: &str, columns: usize) -> String {
    let mut fitted = String::with_capacity(text.len() + text.len() / 16);
    for line in text.split_inclusive('\n') {
        if line.chars().count() <= columns || line.trim_start().starts_with("tunnel-") {
            fitted.push_str(line);
        } else {
            fit_line(&mut fitted, line, columns);
        }
    }
    fitted
}

fn fit_line(fitted: &mut String, line: &str, columns: usize) {
    let indent = hanging_indent(line).min(columns / 2);
    let (head, rest) = line.split_at(line.len() - line.trim_start().len());
    fitted.push_str(head);
    let mut at = head.chars().count();
    let mut first = true;
    for word in rest.trim_end_matches('\n').split(' ') {
        let width = word.chars().count();
        if !first && at + 1 + width > columns && at > indent {
            fitted.push('\n');
            fitted.extend(std::iter::repeat_n(' ', indent));
            at = indent;
        } else if !first {
            fitted.push(' ');
            at += 1;
        }
        fitted.push_str(word);
        at += width;
        first = false;
    }
    if line.ends_with('\n') {
        fitted.push('\n');
    }
}

/// Where a line's text begins: behind the name in a list of names, else where its first word does.
fn hanging_indent(line: &str) -> usize {
    let start = line.chars().take_while(|c| *c == ' ').count();
    let named = line[start..].split_once("  ").filter(|(_, text)| !text.trim().is_empty());
    named.map_or(start, |(name, text)| {
        let gap = 2 + text.chars().take_while(|c| *c == ' ').count();
        start + name.chars().count() + gap
    })
}

/// One line on a terminal that says what is being done, and is gone when it is done.
pub(super) struct Progress {
    shown: bool,
    total: usize,
    state: Mutex<(usize, Vec<String>)>,
}

impl Progress {
    /// Of `total` pieces of work; shown only if `wanted` and stderr is a terminal.
    pub(super) fn new(total: usize, wanted: bool) -> Progress {
        Progress { shown: wanted && std::io::stderr().is_terminal(), total, state: Mutex::default() }
    }

    /// Work on `name` begins.
    pub(super) fn begin(&self, name: &str) {
        self.change(|_, running| running.push(name.to_owned()));
    }

    /// Work on `name` is done.
    pub(super) fn end(&self, name: &str) {
        self.change(|done, running| {
            *done += 1;
            running.retain(|other| other != name);
        });
    }

    fn change(&self, change: impl FnOnce(&mut usize, &mut Vec<String>)) {
        if !self.shown {
            return;
        }
        let line = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let (done, running) = &mut *state;
            change(done, running);
            match running.as_slice() {
                [] => String::new(),
                names => format!("{done} of {} done; checking {}", self.total, names.join(", ")),
            }
        };
        // Back to the start of the line, which is erased.
        let _ = write!(std::io::stderr(), "\r\u{1b}[K{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_break_at_spaces_and_go_on_below_their_text() {
        for (line, columns, expected) in [
            ("short\n", 40, "short\n"),
            (
                "  --flag\n        one two three four five\n",
                24,
                "  --flag\n        one two three\n        four five\n",
            ),
            (
                "  name      what it is and what for\n",
                26,
                "  name      what it is and\n            what for\n",
            ),
            (
                "  tunnel-client run --a-very-long-command-line\n",
                20,
                "  tunnel-client run --a-very-long-command-line\n",
            ),
            ("a-word-that-is-longer-than-any-line x\n", 20, "a-word-that-is-longer-than-any-line\nx\n"),
        ] {
            assert_eq!(fitted(line, columns), expected);
        }
    }

    #[test]
    fn colours_end_where_the_text_ends() {
        assert_eq!(Paint::Red.on("FAIL"), "\u{1b}[31mFAIL\u{1b}[0m");
    }
}
