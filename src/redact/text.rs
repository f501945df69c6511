//! Redaction of free text.
//!
//! The rules run one after another and see each other's output. Each is skipped at once if the text
//! lacks the character that it hangs on, which is the case for nearly all log lines.

use std::borrow::Cow;

use super::members::{json_string_end, members};
use super::tokens::{bearer, web_tokens};
use super::{REDACTED, keys};

/// Headers whose value is hidden to the end of the line.
const HEADERS: &[&str] = &[
    "proxy-authorization:",
    "authorization:",
    "x-tunnel-shard-token:",
    "x-api-key:",
    "set-cookie:",
    "cookie:",
];
/// Authentication schemes that may stay visible.
const SCHEMES: &[&str] = &["bearer", "basic", "digest", "negotiate", "ntlm", "dpop", "token", "apikey"];
const KEY_PREFIX: &str = "sk-";
const MIN_KEY_CHARS: usize = 10;
/// A number that short behind `code=` is a status, not an authorization code.
const MAX_STATUS_DIGITS: usize = 3;

/// Hides credentials in free text: authentication and cookie headers, API keys, secret parameters and
/// JSON members, user info in URLs, secret flags in command lines.
pub fn text(text: &str) -> Cow<'_, str> {
    let mut current = Cow::Borrowed(text);
    for rule in [headers, api_keys, bearer, web_tokens, parameters, assignments, members, flags, user_info] {
        if let Some(changed) = rule(&current) {
            current = Cow::Owned(changed);
        }
    }
    current
}

/// Hides every occurrence of the given values, such as secrets that the process has read.
pub fn known_values<'t, S: AsRef<str>>(text: &'t str, values: &[S]) -> Cow<'t, str> {
    let mut current = Cow::Borrowed(text);
    for value in values.iter().map(AsRef::as_ref).filter(|value| !value.is_empty()) {
        if current.contains(value) {
            current = Cow::Owned(current.replace(value, REDACTED));
        }
    }
    current
}

/// Collects a changed copy of a text.
pub(super) struct Rewrite<'t> {
    text: &'t str,
    done: String,
    /// Where the part begins that is not copied yet.
    pub(super) from: usize,
}

impl<'t> Rewrite<'t> {
    pub(super) fn new(text: &'t str) -> Rewrite<'t> {
        Rewrite { text, done: String::new(), from: 0 }
    }

    /// Replaces the bytes `start..end`; both must be at or behind what was replaced before.
    pub(super) fn replace(&mut self, start: usize, end: usize, with: &str) {
        self.done.push_str(&self.text[self.from..start]);
        self.done.push_str(with);
        self.from = end;
    }

    pub(super) fn finish(mut self) -> Option<String> {
        if self.from == 0 && self.done.is_empty() {
            return None;
        }
        self.done.push_str(&self.text[self.from..]);
        Some(self.done)
    }
}

pub(super) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

pub(super) fn is_name(byte: u8) -> bool {
    is_word(byte) || byte == b'-'
}

pub(super) fn starts_with_ignoring_case(text: &[u8], prefix: &str) -> bool {
    text.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix.as_bytes()))
}

/// The first position at or behind `from` whose byte does not satisfy `keep`.
pub(super) fn skip(bytes: &[u8], from: usize, keep: impl Fn(u8) -> bool) -> usize {
    bytes[from..].iter().position(|b| !keep(*b)).map_or(bytes.len(), |at| from + at)
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// `Authorization: Bearer …`, `Cookie: …` and their like.
fn headers(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut out = Rewrite::new(text);
    let mut at = 0;
    while let Some(colon) = bytes[at..].iter().position(|b| *b == b':').map(|found| at + found) {
        at = colon + 1;
        let matched = HEADERS.iter().find(|name| {
            let start = (colon + 1).checked_sub(name.len());
            start.is_some_and(|start| start >= out.from && starts_with_ignoring_case(&bytes[start..], name))
        });
        let Some(name) = matched else { continue };
        let end = skip(bytes, at, |b| b != b'\r' && b != b'\n');
        let mut start = skip(bytes, at, |b| b.is_ascii_whitespace() && b != b'\r' && b != b'\n');
        if name.ends_with("authorization:") {
            let scheme_end = skip(bytes, start, |b| b.is_ascii_alphanumeric());
            let value = skip(bytes, scheme_end, is_blank);
            let scheme = text[start..scheme_end].to_ascii_lowercase();
            if value > scheme_end && value < end && SCHEMES.contains(&scheme.as_str()) {
                start = value;
            }
        }
        if start < end {
            out.replace(start, end, REDACTED);
        }
        at = end;
    }
    out.finish()
}

/// `sk-` and at least ten more characters, at the beginning of a word.
fn api_keys(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut out = Rewrite::new(text);
    let mut at = 0;
    while let Some(start) = text[at..].find(KEY_PREFIX).map(|found| at + found) {
        let end = skip(bytes, start + KEY_PREFIX.len(), is_name);
        let bounded = start == 0 || !is_word(bytes[start - 1]);
        if bounded && end - start - KEY_PREFIX.len() >= MIN_KEY_CHARS {
            out.replace(start, end, "sk-REDACTED");
            at = end;
        } else {
            at = start + KEY_PREFIX.len();
        }
    }
    out.finish()
}

/// `?code=…` and `&token=…`.
fn parameters(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut out = Rewrite::new(text);
    let mut at = 0;
    while let Some(mark) = bytes[at..].iter().position(|b| matches!(b, b'?' | b'&')).map(|found| at + found) {
        at = mark + 1;
        let name_end = skip(bytes, at, is_name);
        if bytes.get(name_end) != Some(&b'=') || !keys::is_secret_name(&text[at..name_end]) {
            continue;
        }
        let start = name_end + 1;
        let end = skip(bytes, start, |b| !matches!(b, b'&' | b'#') && !b.is_ascii_whitespace());
        if start < end {
            out.replace(start, end, REDACTED);
            at = end;
        }
    }
    out.finish()
}

/// `password = …`.
fn assignments(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut out = Rewrite::new(text);
    let mut at = 0;
    while let Some(equals) = bytes[at..].iter().position(|b| *b == b'=').map(|found| at + found) {
        at = equals + 1;
        let before = &bytes[out.from..equals];
        let name_end =
            before.iter().rposition(|b| !b.is_ascii_whitespace()).map_or(out.from, |p| out.from + p + 1);
        let name_start = bytes[out.from..name_end]
            .iter()
            .rposition(|b| !is_name(*b))
            .map_or(out.from, |p| out.from + p + 1);
        let name = &text[name_start..name_end];
        if !keys::is_secret_name(name) {
            continue;
        }
        let start = skip(bytes, at, |b| b.is_ascii_whitespace());
        let end = match bytes.get(start) {
            Some(b'"') => json_string_end(bytes, start, 0),
            _ => None,
        }
        .unwrap_or_else(|| skip(bytes, start, |b| b != b'&' && !b.is_ascii_whitespace()));
        let value = &text[start..end];
        let is_status = name.eq_ignore_ascii_case("code")
            && value.trim_end_matches([',', ';', '.', ')']).len() <= MAX_STATUS_DIGITS
            && value.trim_end_matches([',', ';', '.', ')']).bytes().all(|b| b.is_ascii_digit());
        if start < end && !is_status {
            out.replace(start, end, REDACTED);
            at = end;
        }
    }
    out.finish()
}

/// `--api-key …` in a command line; references stay visible.
fn flags(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut out = Rewrite::new(text);
    let mut at = 0;
    while let Some(dashes) = text[at..].find("--").map(|found| at + found) {
        let name_start = dashes + 2;
        let name_end = skip(bytes, name_start, |b| is_name(b) || b == b'.');
        at = name_end.max(name_start);
        let bounded = dashes == 0
            || bytes[dashes - 1].is_ascii_whitespace()
            || matches!(bytes[dashes - 1], b'"' | b'\'');
        let start = skip(bytes, name_end, is_blank);
        if !bounded || start == name_end || !keys::is_sensitive_setting(&text[name_start..name_end]) {
            continue;
        }
        let end = match bytes.get(start) {
            None | Some(b'-') => continue,
            Some(quote @ (b'"' | b'\'')) => (skip(bytes, start + 1, |b| b != *quote) + 1).min(bytes.len()),
            Some(_) => skip(bytes, start, |b| !b.is_ascii_whitespace()),
        };
        let value = &text[start..end];
        if !value.starts_with("env:") && !value.starts_with("file:") && !value.starts_with('[') {
            out.replace(start, end, REDACTED);
        }
        at = end;
    }
    out.finish()
}

/// `scheme://user:password@` and `scheme://user@`.
fn user_info(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut out = Rewrite::new(text);
    let mut at = 0;
    while let Some(mark) = text[at..].find("://").map(|found| at + found) {
        let start = mark + 3;
        at = start;
        if mark == 0 || !bytes[mark - 1].is_ascii_alphanumeric() {
            continue;
        }
        let end = skip(bytes, start, |b| !matches!(b, b'/' | b'@') && !b.is_ascii_whitespace());
        let info = &text[start..end];
        let with_password =
            info.split_once(':').is_some_and(|(user, password)| !user.is_empty() && !password.is_empty());
        let user_alone = !info.is_empty() && !info.contains(['?', '#', '"', '\'']);
        if bytes.get(end) == Some(&b'@') && (with_password || user_alone) {
            out.replace(start, end, REDACTED);
            at = end;
        }
    }
    out.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(table: &[(&str, &str)]) {
        for (input, expected) in table {
            assert_eq!(text(input), *expected, "{input}");
            assert_eq!(text(expected), *expected, "once more: {expected}");
        }
    }

    #[test]
    fn headers_are_hidden_to_the_end_of_the_line() {
        check(&[
            ("Authorization: Bearer abc def\r\nX: y", "Authorization: Bearer [REDACTED]\r\nX: y"),
            ("authorization:bearer  abc", "authorization:bearer  [REDACTED]"),
            ("Authorization: Basic dTpw\n", "Authorization: Basic [REDACTED]\n"),
            ("Authorization: opaque words", "Authorization: [REDACTED]"),
            ("Proxy-Authorization: Basic dTpw", "Proxy-Authorization: Basic [REDACTED]"),
            ("X-Tunnel-Shard-Token: a b c", "X-Tunnel-Shard-Token: [REDACTED]"),
            ("X-Api-Key: k", "X-Api-Key: [REDACTED]"),
            ("Cookie: a=b; c=d\nHost: h", "Cookie: [REDACTED]\nHost: h"),
            ("GET / HTTP/1.1\r\nset-cookie:a=b\r\n\r\n", "GET / HTTP/1.1\r\nset-cookie:[REDACTED]\r\n\r\n"),
            ("Cookie:\r\nHost: h", "Cookie:\r\nHost: h"),
            ("Authorization: Bearer \nX: y", "Authorization: [REDACTED]\nX: y"),
        ]);
    }

    #[test]
    fn api_keys_are_hidden_at_word_boundaries() {
        check(&[
            ("key sk-abcdefghij.", "key sk-REDACTED."),
            ("key=sk-abcdefghi", "key=sk-abcdefghi"),
            ("risk-abcdefghijklmno", "risk-abcdefghijklmno"),
            ("SK-abcdefghijklmno", "SK-abcdefghijklmno"),
            ("(sk-aaaaaaaaaa)(sk-bbbbbbbbbb)", "(sk-REDACTED)(sk-REDACTED)"),
        ]);
    }

    #[test]
    fn secret_parameters_and_assignments_are_hidden() {
        check(&[
            ("https://h/cb?code=abc123&state=1", "https://h/cb?code=[REDACTED]&state=1"),
            ("?code=v#f", "?code=[REDACTED]"),
            ("x&ACCESS_TOKEN=abc y", "x&ACCESS_TOKEN=[REDACTED] y"),
            ("?session_token=abc", "?session_token=[REDACTED]"),
            ("password = hunter2 next", "password = [REDACTED] next"),
            ("password=\"two words\" next", "password=[REDACTED] next"),
            ("client-secret=x", "client-secret=[REDACTED]"),
            ("api-key=abc&x=1", "api-key=[REDACTED]&x=1"),
            ("CONTROL_PLANE_API_KEY=abc", "CONTROL_PLANE_API_KEY=[REDACTED]"),
            ("status code=404", "status code=404"),
            ("exit code=1, bye", "exit code=1, bye"),
            ("code=4/0AbC", "code=[REDACTED]"),
            ("decode=yes encoded=no tokens=12", "decode=yes encoded=no tokens=12"),
            ("password=", "password="),
        ]);
    }

    #[test]
    fn secret_json_members_are_hidden() {
        check(&[
            (r#"{"api_key":"a\"b","x":1}"#, r#"{"api_key":"[REDACTED]","x":1}"#),
            (r#"{"password" : 1234}"#, r#"{"password" : "[REDACTED]"}"#),
            (r#"{"Authorization":["Bearer x","]"],"a":[1]}"#, r#"{"Authorization":"[REDACTED]","a":[1]}"#),
            (
                r#"{"shard_token":"t","Cookie":["a=b"]}"#,
                r#"{"shard_token":"[REDACTED]","Cookie":"[REDACTED]"}"#,
            ),
            (r#"{"id_token":"unterminated"#, r#"{"id_token":"[REDACTED]""#),
            (r#"{"name":"secret"}"#, r#"{"name":"secret"}"#),
            (r#"{"code":-32601,"message":"m"}"#, r#"{"code":-32601,"message":"m"}"#),
            (r#"{"code":"123","code":1234567}"#, r#"{"code":"[REDACTED]","code":"[REDACTED]"}"#),
            (r#"{"refresh_token":null}"#, r#"{"refresh_token":"[REDACTED]"}"#),
        ]);
    }

    #[test]
    fn user_info_and_secret_flags_are_hidden() {
        check(&[
            ("dial http://u:p@h:1/x failed", "dial http://[REDACTED]@h:1/x failed"),
            ("http://token@h/", "http://[REDACTED]@h/"),
            ("see http://h/a@b and mail x@y", "see http://h/a@b and mail x@y"),
            ("http://h?mail=a@b", "http://h?mail=a@b"),
            ("x --api-key abc --name y", "x --api-key [REDACTED] --name y"),
            ("x --token 'a b' y", "x --token [REDACTED] y"),
            ("x --control-plane.api-key env:KEY", "x --control-plane.api-key env:KEY"),
            ("x --api-key --name y", "x --api-key --name y"),
        ]);
    }

    #[test]
    fn ordinary_text_is_not_copied() {
        for plain in
            ["poll failed; backing off", "a=b \"c\": 1 http://h/x?y=z --verbose x", "", "ünïcode: ✓ a=ö"]
        {
            assert!(matches!(text(plain), Cow::Borrowed(same) if same == plain), "{plain}");
        }
    }

    #[test]
    fn known_values_are_hidden_wherever_they_stand() {
        assert_eq!(known_values("a k3y b k3yk3y", &["k3y", ""]), "a [REDACTED] b [REDACTED][REDACTED]");
        assert!(matches!(known_values("abc", &["x"]), Cow::Borrowed(_)));
    }

    #[test]
    fn no_text_makes_it_panic() {
        let pieces = [
            "authorization:",
            "Cookie:",
            "\"",
            "\\",
            "[",
            "]",
            "{",
            "sk-",
            "code",
            "=",
            "?",
            "&",
            "--api-key",
            " ",
            "://",
            "@",
            ":",
            "é",
            "✓",
            "token",
            "\r\n",
            "a",
            "'",
            "http",
            "/",
            "#",
            "-",
        ];
        let mut state = 1u64;
        for _ in 0..20_000 {
            let mut input = String::new();
            for _ in 0..12 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                input.push_str(pieces[(state >> 33) as usize % pieces.len()]);
            }
            let _ = text(&input);
            let _ = crate::redact::snapshot(&input);
            let _ = crate::redact::urls_to_origins(&input);
        }
    }
}
