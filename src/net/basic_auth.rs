//! Basic credentials (RFC 7617) out of the user info of a URL.

/// User name and password, percent-decoded, of the text between `://` and `@`.
pub(super) fn split_user_info(user_info: &str) -> (Vec<u8>, Vec<u8>) {
    let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
    (percent_decoded(user), percent_decoded(password))
}

/// The value of an `Authorization` or `Proxy-Authorization` field.
pub(super) fn basic(user: &[u8], password: &[u8]) -> String {
    format!("Basic {}", base64(&[user, b":", password].concat()))
}

/// The value of an `Authorization` field for the user info of a URL.
pub(crate) fn basic_of_user_info(user_info: &str) -> String {
    let (user, password) = split_user_info(user_info);
    basic(&user, &password)
}

/// Undoes percent-encoding (RFC 3986 §2.1); what is not valid stays as it is.
fn percent_decoded(text: &str) -> Vec<u8> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let escaped = (*first == b'%').then(|| digit(tail.first()).zip(digit(tail.get(1)))).flatten();
        bytes.push(escaped.map_or(*first, |(high, low)| (high << 4 | low) as u8));
        rest = if escaped.is_some() { &tail[2..] } else { tail };
    }
    bytes
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_pads_like_the_rfc() {
        for (text, encoded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(text.as_bytes()), encoded);
        }
    }

    #[test]
    fn user_info_becomes_basic_credentials() {
        for (user_info, expected) in [
            ("Aladdin:open%20sesame", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
            ("u", "Basic dTo="),
            ("a:%2", "Basic YTolMg=="),
            ("ab:c", "Basic YWI6Yw=="),
            ("a:b:c", "Basic YTpiOmM="),
            ("a:%+5", "Basic YTolKzU="),
            ("a:%fF", "Basic YTr/"),
        ] {
            assert_eq!(basic_of_user_info(user_info), expected, "{user_info}");
        }
    }
}
