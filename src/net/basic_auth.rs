//! Basic credentials (RFC 7617) out of the user info of a URL.

use super::encoding::{base64, percent_decoded_leniently};

/// User name and password, percent-decoded, of the text between `://` and `@`.
pub(super) fn split_user_info(user_info: &str) -> (Vec<u8>, Vec<u8>) {
    let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
    (decoded(user), decoded(password))
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

fn decoded(text: &str) -> Vec<u8> {
    percent_decoded_leniently(text).into_owned()
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
