//! Basic credentials (RFC 7617) out of the user info of a URL.

use super::encoding::{base64, percent_decoded_text};

/// User name and password, percent-decoded, of the text between `://` and `@`.
pub(super) fn split_user_info(user_info: &str) -> (String, String) {
    let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
    (percent_decoded_text(user), percent_decoded_text(password))
}

/// The value of an `Authorization` or `Proxy-Authorization` field.
pub(super) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", base64(format!("{user}:{password}").as_bytes()))
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
