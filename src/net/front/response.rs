//! Responses: built by the service, rendered into one buffer with their head.

use std::borrow::Cow;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::net::{http_date, is_name, is_value, reason_phrase};

/// A response with its whole body.
pub(crate) struct Response {
    /// The status.
    pub(crate) status: u16,
    fields: Vec<u8>,
    body: Cow<'static, [u8]>,
}

impl Response {
    /// A response without a body.
    pub(crate) fn new(status: u16) -> Response {
        Response { status, fields: Vec::new(), body: Cow::Borrowed(&[]) }
    }

    /// A response with a body of type `content_type`.
    pub(crate) fn of(status: u16, content_type: &str, body: impl Into<Cow<'static, [u8]>>) -> Response {
        Response::new(status).header("Content-Type", content_type).with_body(body)
    }

    /// A response with a JSON body.
    pub(crate) fn json(status: u16, body: impl Into<Cow<'static, [u8]>>) -> Response {
        Response::of(status, "application/json", body)
    }

    /// Adds a header field. What could not be framed safely (see [`is_value`]) is left out.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Response {
        add_field(&mut self.fields, name, value);
        self
    }

    /// Replaces the body.
    pub(crate) fn with_body(mut self, body: impl Into<Cow<'static, [u8]>>) -> Response {
        self.body = body.into();
        self
    }

    /// The header fields as they appear on the wire.
    pub(super) fn fields(&self) -> &[u8] {
        &self.fields
    }

    pub(super) fn body(&self) -> &[u8] {
        &self.body
    }
}

fn add_field(out: &mut Vec<u8>, name: &str, value: &str) {
    if is_name(name) && is_value(value) {
        for part in [name, ": ", value, "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
    }
}

/// How the end of a response's body is told.
#[derive(Clone, Copy)]
pub(super) enum End {
    /// By its length.
    Length(usize),
    /// By the chunked coding.
    Chunked,
    /// By closing the connection.
    Close,
    /// There is none, whatever the head says (204, 304).
    Bodiless,
}

/// Which word on the connection's future the head carries.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Persistence {
    /// None is needed.
    Implied,
    /// `Connection: keep-alive`, for HTTP/1.0.
    KeepAlive,
    /// `Connection: close`.
    Close,
}

/// Writes a response head to the end of `out`.
pub(super) fn render_head(
    out: &mut Vec<u8>,
    status: u16,
    request_id: Option<&str>,
    date: &mut DateField,
    fields: &[u8],
    end: End,
    persistence: Persistence,
) {
    let mut text = [0u8; 20];
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(decimal(usize::from(status), &mut text));
    out.push(b' ');
    out.extend_from_slice(reason_phrase(status).unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\nDate: ");
    out.extend_from_slice(date.now().as_bytes());
    if let Some(id) = request_id {
        out.extend_from_slice(b"\r\nX-Request-Id: ");
        out.extend_from_slice(id.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(fields);
    match end {
        End::Length(length) => {
            out.extend_from_slice(b"Content-Length: ");
            out.extend_from_slice(decimal(length, &mut text));
            out.extend_from_slice(b"\r\n");
        }
        End::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        End::Close | End::Bodiless => {}
    }
    match persistence {
        Persistence::Implied => {}
        Persistence::KeepAlive => out.extend_from_slice(b"Connection: keep-alive\r\n"),
        Persistence::Close => out.extend_from_slice(b"Connection: close\r\n"),
    }
    out.extend_from_slice(b"\r\n");
}

fn decimal(mut value: usize, text: &mut [u8; 20]) -> &[u8] {
    let mut at = text.len();
    loop {
        at -= 1;
        text[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 || at == 0 {
            return &text[at..];
        }
    }
}

/// The value of `Date`, rendered once a second.
pub(super) struct DateField {
    text: String,
    until: Instant,
}

impl DateField {
    pub(super) fn new() -> DateField {
        DateField { text: String::new(), until: Instant::now() }
    }

    fn now(&mut self) -> &str {
        let now = Instant::now();
        if now >= self.until || self.text.is_empty() {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            self.text = http_date::format(UNIX_EPOCH + since);
            self.until =
                now + (Duration::from_secs(1) - Duration::from_nanos(u64::from(since.subsec_nanos())));
        }
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_break_the_framing_is_left_out() {
        let response = Response::new(200)
            .header("X-A", "1\r\nX-B: 2")
            .header("X C", "1")
            .header("", "1")
            .header("X-D", "a\u{7f}")
            .header("X-E", "é\tz");
        assert_eq!(response.fields(), "X-E: é\tz\r\n".as_bytes());
    }

    #[test]
    fn numbers_are_spelled_in_full() {
        for value in [0, 7, 10, 65_536, usize::MAX] {
            assert_eq!(decimal(value, &mut [0; 20]), value.to_string().as_bytes());
        }
    }
}
