//! Percent-encoding (RFC 3986 §2.1) and base64 (RFC 4648).

use std::borrow::Cow;

/// The bytes of a text whose escapes are undone; `None` if one of them is broken.
pub(crate) fn percent_decoded(text: &str) -> Option<Cow<'_, [u8]>> {
    let (bytes, is_whole) = unescaped(text);
    is_whole.then_some(bytes)
}

/// The same where broken escapes stay as they are.
pub(crate) fn percent_decoded_leniently(text: &str) -> Cow<'_, [u8]> {
    unescaped(text).0
}

/// The same as text; what is no UTF-8 is replaced.
pub(crate) fn percent_decoded_text(text: &str) -> String {
    String::from_utf8_lossy(&percent_decoded_leniently(text)).into_owned()
}

/// The bytes, and whether all escapes were good.
fn unescaped(text: &str) -> (Cow<'_, [u8]>, bool) {
    let bytes = text.as_bytes();
    if !bytes.contains(&b'%') {
        return (Cow::Borrowed(bytes), true);
    }
    let digit = |at: usize| bytes.get(at).and_then(|digit| char::from(*digit).to_digit(16));
    let (mut decoded, mut is_whole, mut at) = (Vec::with_capacity(bytes.len()), true, 0);
    while let Some(byte) = bytes.get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high << 4 | low) as u8);
                at += 3;
            }
            _ => {
                is_whole &= *byte != b'%';
                decoded.push(*byte);
                at += 1;
            }
        }
    }
    (Cow::Owned(decoded), is_whole)
}

/// Standard alphabet, padded (RFC 4648 §4).
pub(crate) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let value = group.iter().fold(0_u32, |value, byte| value << 8 | u32::from(*byte));
        let bits = value << (8 * (3 - group.len()));
        for index in 0..4 {
            let sextet = bits >> (18 - 6 * index) & 63;
            text.push(if index <= group.len() { ALPHABET[sextet as usize] as char } else { '=' });
        }
    }
    text
}

/// The bytes of a text in base64 of either alphabet (RFC 4648 §4 and §5), padded or not; `None` if it is
/// anything else.
pub(crate) fn base64_decoded(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=').as_bytes();
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    let (mut bits, mut count) = (0u32, 0);
    for digit in digits {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    // A single digit more is no whole byte.
    (digits.len() % 4 != 1).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_undone_and_broken_ones_noticed() {
        for (text, lenient, is_whole) in [
            ("", &b""[..], true),
            ("a+b", b"a+b", true),
            ("a%2Fb%2520", b"a/b%20", true),
            ("%c3%A9%ff", b"\xc3\xa9\xff", true),
            ("%", b"%", false),
            ("a%2", b"a%2", false),
            ("%zz%41", b"%zzA", false),
            ("%+1", b"%+1", false),
            ("%é", "%é".as_bytes(), false),
        ] {
            assert_eq!(&*percent_decoded_leniently(text), lenient, "{text}");
            assert_eq!(percent_decoded(text).as_deref(), is_whole.then_some(lenient), "{text}");
        }
        assert_eq!(percent_decoded_text("%41%ff"), "A\u{fffd}");
    }

    #[test]
    fn base64_is_written_and_read() {
        for (bytes, text) in [
            (&b""[..], ""),
            (b"f", "Zg=="),
            (b"fo", "Zm8="),
            (b"foo", "Zm9v"),
            (b"foob", "Zm9vYg=="),
            (b"\xfb\xff\xbf", "+/+/"),
        ] {
            assert_eq!(base64(bytes), text);
            for text in [text, text.trim_end_matches('='), &text.replace('+', "-").replace('/', "_")] {
                assert_eq!(base64_decoded(text).as_deref(), Some(bytes), "{text}");
            }
        }
        for wrong in ["Z", "Zm9v\n", "!", "Zm 9v", "Zm=9"] {
            assert_eq!(base64_decoded(wrong), None, "{wrong}");
        }
    }
}
