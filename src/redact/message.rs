//! HTTP messages as the debug log shows them: the head as on the wire, a bounded part of the body, and no
//! credentials.

use std::fmt::Write;

use super::text;
use crate::net::{HeaderMap, canonical};

/// Bytes of a body that are shown.
const BODY_BYTES: usize = 64 * 1024;

/// A message that begins with `start`: its first line, and lines of the head that `headers` lacks, each
/// with its end.
pub fn http_message(start: &str, headers: &HeaderMap, body: &[u8]) -> String {
    let mut message = start.to_owned();
    for (name, value) in headers {
        let (name, value) = (canonical(name.as_str()), String::from_utf8_lossy(value.as_bytes()));
        // Writing to a string cannot fail.
        let _ = write!(message, "{name}: {value}\r\n");
    }
    message.push_str("\r\n");
    message.push_str(&shortened(body));
    text(&message).into_owned()
}

/// A message's payload alone.
pub fn payload(body: &[u8]) -> String {
    text(&shortened(body)).into_owned()
}

fn shortened(body: &[u8]) -> String {
    let mut shown = String::from_utf8_lossy(&body[..body.len().min(BODY_BYTES)]).into_owned();
    if body.len() > BODY_BYTES {
        let _ = write!(shown, "… ({} bytes more)", body.len() - BODY_BYTES);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::HeaderValue;

    #[test]
    fn credentials_are_hidden_and_long_bodies_cut() {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::from_static("Bearer abc"));
        headers.insert("x-tunnel-client-name", HeaderValue::from_static("n"));
        let body = br#"{"headers":{"Cookie":["a=b"]},"shard_token":"t","x":1}"#;
        assert_eq!(
            http_message("POST /x HTTP/1.1\r\nHost: h\r\n", &headers, body),
            "POST /x HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer [REDACTED]\r\nX-Tunnel-Client-Name: n\r\n\r\n\
             {\"headers\":{\"Cookie\":\"[REDACTED]\"},\"shard_token\":\"[REDACTED]\",\"x\":1}"
        );
        let long = payload(&vec![b'a'; BODY_BYTES + 7]);
        assert!(long.ends_with("aa… (7 bytes more)"), "{}", long.len());
    }
}
