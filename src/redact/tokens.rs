//! Credentials that are known by their shape, wherever they stand.

use super::REDACTED;
use super::text::{Rewrite, is_word, skip, starts_with_ignoring_case};

const SCHEME: &str = "bearer ";
/// Shorter words behind `Bearer` are words.
const MIN_BEARER_BYTES: usize = 8;
/// Base64 of `{"`: the head of every web token (RFC 7519).
const WEB_TOKEN: &str = "eyJ";
const MIN_WEB_TOKEN_BYTES: usize = 20;

/// A byte of a token (RFC 6750 §2.1).
fn is_token(byte: u8) -> bool {
    is_word(byte) || matches!(byte, b'-' | b'.' | b'~' | b'+' | b'/')
}

/// `Bearer …`, but not the parameters of a challenge.
pub(super) fn bearer(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut out = Rewrite::new(text);
    let mut at = 0;
    while let Some(space) = bytes[at..].iter().position(|b| *b == b' ').map(|found| at + found) {
        at = space + 1;
        let Some(scheme) = at.checked_sub(SCHEME.len()) else { continue };
        if !starts_with_ignoring_case(&bytes[scheme..], SCHEME) || scheme < out.from {
            continue;
        }
        let word = skip(bytes, at, is_token);
        let end = skip(bytes, word, |b| b == b'=');
        let token = &bytes[at..word];
        // A parameter: `resource_metadata="…"`.
        let is_parameter = end > word && bytes.get(end) == Some(&b'"');
        if token.len() >= MIN_BEARER_BYTES && token.iter().any(u8::is_ascii_digit) && !is_parameter {
            out.replace(at, end, REDACTED);
            at = end;
        }
    }
    out.finish()
}

/// Web tokens: `eyJ….….…`.
pub(super) fn web_tokens(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut out = Rewrite::new(text);
    let mut at = 0;
    while let Some(start) = text[at..].find(WEB_TOKEN).map(|found| at + found) {
        let end = skip(bytes, start, |b| is_word(b) || matches!(b, b'-' | b'.'));
        let bounded = start == 0 || !is_word(bytes[start - 1]);
        if bounded && end - start >= MIN_WEB_TOKEN_BYTES && bytes[start..end].contains(&b'.') {
            out.replace(start, end, REDACTED);
        }
        at = end;
    }
    out.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_known_by_their_shape() {
        for (text, expected) in [
            (
                r#"{"name":"Authorization","value":"Bearer abc123-def"}"#,
                r#"{"name":"Authorization","value":"Bearer [REDACTED]"}"#,
            ),
            ("bearer  x, BEARER abcdefg1== end", "bearer  x, BEARER [REDACTED] end"),
        ] {
            assert_eq!(bearer(text).as_deref(), Some(expected));
        }
        for text in [
            "Bearer authentication required",
            "Bearer resource_metadata2=\"http://h/x\"",
            "Bearer short1",
            "forbearer",
        ] {
            assert_eq!(bearer(text), None, "{text}");
        }
        assert_eq!(
            web_tokens("token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln, keyJ eyJ").as_deref(),
            Some("token [REDACTED], keyJ eyJ")
        );
        assert_eq!(web_tokens("greyJacketsWithManyPockets.txt"), None);
    }
}
