//! When a value of a text line needs quotes, and how it is quoted.

use std::fmt::Write;

/// Appends `text`, in double quotes with backslash escapes when it is empty or holds white space,
/// `=`, `"`, control or invisible characters.
pub(super) fn push_value(out: &mut String, text: &str) {
    if text.is_empty() || text.chars().any(forces_quotes) {
        out.push('"');
        text.chars().for_each(|c| push_escaped(out, c));
        out.push('"');
    } else {
        out.push_str(text);
    }
}

/// Appends `text` unquoted, but on one line whatever it holds.
pub(super) fn push_one_line(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '"' | '\\' => out.push(c),
            c => push_escaped(out, c),
        }
    }
}

fn forces_quotes(c: char) -> bool {
    matches!(c, ' ' | '=' | '"') || !is_printable(c)
}

fn push_escaped(out: &mut String, c: char) {
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\u{7}' => out.push_str("\\a"),
        '\u{8}' => out.push_str("\\b"),
        '\u{b}' => out.push_str("\\v"),
        '\u{c}' => out.push_str("\\f"),
        c if c == ' ' || is_printable(c) => out.push(c),
        c => {
            let code = u32::from(c);
            // Writing to a string cannot fail.
            let _ = match code {
                0..=0x7f => write!(out, "\\x{code:02x}"),
                0x80..=0xffff => write!(out, "\\u{code:04x}"),
                _ => write!(out, "\\U{code:08x}"),
            };
        }
    }
}

/// Whether a terminal shows it as what it is: no control, no space, no direction or format mark,
/// nothing private or unassigned.
fn is_printable(c: char) -> bool {
    !c.is_control()
        && !c.is_whitespace()
        && !matches!(c,
            '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{180e}'
            | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{e000}'..='\u{f8ff}' | '\u{fdd0}'..='\u{fdef}' | '\u{feff}' | '\u{fff0}'..='\u{fffb}'
            | '\u{fffd}'..='\u{ffff}' | '\u{e0000}'..='\u{e00ff}' | '\u{f0000}'..='\u{10ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_only_when_they_must_be() {
        for (text, expected) in [
            ("plain", "plain"),
            ("", "\"\""),
            ("a b", "\"a b\""),
            ("a=b", "\"a=b\""),
            ("say \"hi\"", "\"say \\\"hi\\\"\""),
            ("back\\slash", "back\\slash"),
            ("back\\slash here", "\"back\\\\slash here\""),
            ("two\nlines\r\t", "\"two\\nlines\\r\\t\""),
            ("\u{1b}[0m", "\"\\x1b[0m\""),
            ("\u{200e}", "\"\\u200e\""),
            ("naïve", "naïve"),
            ("🟢", "🟢"),
            ("\u{e0041}", "\"\\U000e0041\""),
        ] {
            let mut out = String::new();
            push_value(&mut out, text);
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn an_unquoted_message_stays_on_its_line() {
        let mut out = String::new();
        push_one_line(&mut out, "say \"hi\"\nforged line \u{85}");
        assert_eq!(out, "say \"hi\"\\nforged line \\u0085");
    }
}
