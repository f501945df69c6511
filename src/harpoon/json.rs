//! The string values of a JSON document, in place.
//!
//! Invariant: a document is looked at as the bytes it is; nothing but what is asked for is changed, be
//! it the spelling of a number, the order of members or white space.

use std::ops::Range;

/// A string value: where its token stands, quotes included, and the member that holds it.
pub(super) struct StringValue<M> {
    pub(super) token: Range<usize>,
    pub(super) member: M,
}

/// All string values of `document`, elements of an array under the array's member. `member` is asked
/// what a member name (its token, with quotes) means. `None` if it is not exactly one JSON value.
pub(super) fn strings<M: Copy + Default>(
    document: &[u8],
    member: impl Fn(&[u8]) -> M,
) -> Option<Vec<StringValue<M>>> {
    let mut scanner = Scanner { bytes: document, at: 0 };
    let mut found = Vec::new();
    // Of each open container: whether it is an object, and the member it stands in.
    let mut open: Vec<(bool, M)> = Vec::new();
    let mut here = M::default();
    'value: loop {
        scanner.skip_space();
        match *document.get(scanner.at)? {
            b'{' => {
                scanner.at += 1;
                open.push((true, here));
                scanner.skip_space();
                if document.get(scanner.at) != Some(&b'}') {
                    here = member(&document[scanner.key()?]);
                    continue 'value;
                }
                // The loop below closes it.
            }
            b'[' => {
                scanner.at += 1;
                open.push((false, here));
                scanner.skip_space();
                if document.get(scanner.at) != Some(&b']') {
                    continue 'value;
                }
            }
            b'"' => found.push(StringValue { token: scanner.string()?, member: here }),
            b't' => scanner.literal(b"true")?,
            b'f' => scanner.literal(b"false")?,
            b'n' => scanner.literal(b"null")?,
            _ => scanner.number()?,
        }
        loop {
            scanner.skip_space();
            let Some((is_object, outer)) = open.last().copied() else {
                return (scanner.at == document.len()).then_some(found);
            };
            match (is_object, document.get(scanner.at)?) {
                (true, b'}') | (false, b']') => {
                    scanner.at += 1;
                    open.pop();
                }
                (true, b',') => {
                    scanner.at += 1;
                    scanner.skip_space();
                    here = member(&document[scanner.key()?]);
                    continue 'value;
                }
                (false, b',') => {
                    scanner.at += 1;
                    here = outer;
                    continue 'value;
                }
                _ => return None,
            }
        }
    }
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Scanner<'_> {
    fn skip_space(&mut self) {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// A member name and its colon; the name's token.
    fn key(&mut self) -> Option<Range<usize>> {
        let token = self.string()?;
        self.skip_space();
        (self.bytes.get(self.at) == Some(&b':')).then(|| self.at += 1)?;
        Some(token)
    }

    fn string(&mut self) -> Option<Range<usize>> {
        let start = self.at;
        (self.bytes.get(self.at) == Some(&b'"')).then(|| self.at += 1)?;
        loop {
            match *self.bytes.get(self.at)? {
                b'"' => {
                    self.at += 1;
                    return Some(start..self.at);
                }
                b'\\' => match *self.bytes.get(self.at + 1)? {
                    b'u' => {
                        let digits = self.bytes.get(self.at + 2..self.at + 6)?;
                        digits.iter().all(u8::is_ascii_hexdigit).then_some(())?;
                        self.at += 6;
                    }
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.at += 2,
                    _ => return None,
                },
                0..0x20 => return None,
                _ => self.at += 1,
            }
        }
    }

    fn literal(&mut self, text: &[u8]) -> Option<()> {
        let end = self.at + text.len();
        (self.bytes.get(self.at..end) == Some(text)).then(|| self.at = end)
    }

    fn number(&mut self) -> Option<()> {
        if self.bytes.get(self.at) == Some(&b'-') {
            self.at += 1;
        }
        match self.bytes.get(self.at)? {
            b'0' => self.at += 1,
            _ => self.digits()?,
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.bytes.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.bytes.get(self.at), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Some(())
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(document: &str) -> Option<Vec<(String, String)>> {
        // Leaked: a member must be `Copy`, and these are a handful.
        let member = |token: &[u8]| -> &'static str {
            Box::leak(String::from_utf8_lossy(token).into_owned().into_boxed_str())
        };
        let strings = strings(document.as_bytes(), member)?;
        Some(strings.into_iter().map(|s| (s.member.to_owned(), document[s.token].to_owned())).collect())
    }

    #[test]
    fn values_are_found_under_the_member_that_holds_them() {
        let document = r#" {"a":"1","b":["2",["3",{"c":"4"},"5"],{}],"d":{"a":"6"},"e":[],"f":-1.5e+3,"g\"":"7\\\"","h":null} "#;
        let expected = [
            ("\"a\"", "\"1\""),
            ("\"b\"", "\"2\""),
            ("\"b\"", "\"3\""),
            ("\"c\"", "\"4\""),
            ("\"b\"", "\"5\""),
            ("\"a\"", "\"6\""),
            (r#""g\"""#, r#""7\\\"""#),
        ];
        let expected = expected.map(|(m, v)| (m.to_owned(), v.to_owned()));
        assert_eq!(found(document).unwrap(), expected);
        assert_eq!(found("\"x\"").unwrap(), [(String::new(), "\"x\"".to_owned())]);
    }

    #[test]
    fn it_agrees_with_a_full_parser_about_what_is_json() {
        let deep = "[".repeat(100_000);
        assert!(found(&deep).is_none());
        assert!(found(&format!("{deep}{}", "]".repeat(100_000))).is_some());
        for text in [
            "",
            " ",
            "{",
            "}",
            "[1,]",
            "[,1]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{a:1}",
            "[1 2]",
            "[1]]",
            "{}{}",
            "tru",
            "nul",
            "truee",
            "01",
            "-",
            "1.",
            ".5",
            "1e",
            "1e+",
            "+1",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"a",
            "\"a\nb\"",
            "[}",
            "{]",
            "{\"a\":1]",
            "NaN",
            "'a'",
            "0",
            "-0",
            "1.5E-7",
            "[]",
            "{}",
            "[[],{}]",
            "true",
            "false",
            "null",
            "\"\\u00e9\\n\"",
            "[1, 2 ,3]",
            "{\"a\" : [ ] }",
            "{\"\":\"\"}",
        ] {
            let expected = serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
            assert_eq!(found(text).is_some(), expected, "{text}");
        }
    }
}
