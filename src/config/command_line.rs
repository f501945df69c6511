//! Splitting a command line into words, without a shell.

use std::fmt;

/// The text is no command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandLineError {
    /// There is no word, or the first one is empty.
    Empty,
    /// A quote is not closed.
    UnterminatedQuote,
    /// Nothing follows a backslash.
    UnterminatedEscape,
}

impl fmt::Display for CommandLineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CommandLineError::Empty => "command is empty",
            CommandLineError::UnterminatedQuote => "unterminated quoted string",
            CommandLineError::UnterminatedEscape => "unterminated escape sequence",
        })
    }
}

impl std::error::Error for CommandLineError {}

/// Splits trimmed `text` at spaces, tabs and line breaks. Single quotes take everything literally; in
/// double quotes and outside of quotes a backslash takes the next character literally. Nothing is
/// expanded. An empty quoted word is an empty word; the first word is never empty.
///
/// # Errors
///
/// [`CommandLineError`].
pub fn split_command(text: &str) -> Result<Vec<String>, CommandLineError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.trim().chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\r' | '\n' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next().ok_or(CommandLineError::UnterminatedQuote)? {
                        '\'' => break,
                        c => word.push(c),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next().ok_or(CommandLineError::UnterminatedQuote)? {
                        '"' => break,
                        '\\' => word.push(chars.next().ok_or(CommandLineError::UnterminatedEscape)?),
                        c => word.push(c),
                    }
                }
            }
            '\\' => {
                let next = chars.next().ok_or(CommandLineError::UnterminatedEscape)?;
                word.get_or_insert_default().push(next);
            }
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    if words.first().is_none_or(String::is_empty) { Err(CommandLineError::Empty) } else { Ok(words) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_without_a_shell() {
        let table: &[(&str, &[&str])] = &[
            (r#"node "a b/app.js" --n="x y""#, &["node", "a b/app.js", "--n=x y"]),
            (r"cmd hello\ world", &["cmd", "hello world"]),
            ("bash s.sh ; touch f", &["bash", "s.sh", ";", "touch", "f"]),
            (r#"python -c "print(1,2,3)""#, &["python", "-c", "print(1,2,3)"]),
            (r#"bash -c "echo a; echo b""#, &["bash", "-c", "echo a; echo b"]),
            (r#"x '' "" y"#, &["x", "", "", "y"]),
            (r"x 'a\b' $HOME ~ *", &["x", r"a\b", "$HOME", "~", "*"]),
            ("  a\tb\r\nc  ", &["a", "b", "c"]),
            (r#"x "a\"b\n""#, &["x", "a\"bn"]),
            (r"x \é", &["x", "é"]),
        ];
        for (text, words) in table {
            assert_eq!(split_command(text).unwrap(), *words, "{text}");
        }
    }

    #[test]
    fn unfinished_command_lines_are_refused() {
        for (text, error) in [
            ("", CommandLineError::Empty),
            (" \n", CommandLineError::Empty),
            ("''", CommandLineError::Empty),
            ("x 'a", CommandLineError::UnterminatedQuote),
            ("x \"a", CommandLineError::UnterminatedQuote),
            ("x \\", CommandLineError::UnterminatedEscape),
            ("x \\ ", CommandLineError::UnterminatedEscape),
            ("x \"a\\", CommandLineError::UnterminatedEscape),
        ] {
            assert_eq!(split_command(text), Err(error), "{text}");
        }
    }
}
