//! Basic credentials (RFC 7617) out of the user info of a URL.

/// User name and password, percent-decoded, of the text between `://` and `@`.
pub(super) fn split_user_info(user_info: &str) -> (String, String) {
    let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
    (decode(user), decode(password))
}

/// The value of an `Authorization` or `Proxy-Authorization` field.
pub(super) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", base64(format!("{user}:{password}").as_bytes()))
}

/// Undoes percent-encoding; what is not valid stays as it is.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let escaped = tail.get(..2).filter(|_| *first == b'%');
        let value = escaped
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(value.unwrap_or(*first));
        rest = if value.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
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
    fn user_info_becomes_basic_credentials() {
        for (user_info, expected) in [
            ("Aladdin:open%20sesame", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
            ("u", "Basic dTo="),
            ("a:%2", "Basic YTolMg=="),
            ("ab:c", "Basic YWI6Yw=="),
            ("a:b:c", "Basic YTpiOmM="),
        ] {
            let (user, password) = split_user_info(user_info);
            assert_eq!(basic(&user, &password), expected, "{user_info}");
        }
    }
}
