//! What kinds of response body a caller takes.

/// The caller's `Accept`, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Accept {
    /// An event stream; only when named outright.
    pub(super) sse: bool,
    /// A JSON document.
    pub(super) json: bool,
}

impl Accept {
    /// Reads the values of all `Accept` header fields. None at all means JSON. `q=0` refuses.
    pub(super) fn of<'a>(values: impl Iterator<Item = &'a [u8]>) -> Accept {
        let mut accept = Accept { sse: false, json: false };
        let mut any = false;
        for value in values {
            for range in value.split(|b| *b == b',').map(<[u8]>::trim_ascii).filter(|range| !range.is_empty())
            {
                any = true;
                let mut parts = range.split(|b| *b == b';').map(<[u8]>::trim_ascii);
                let kind = parts.next().unwrap_or_default();
                if parts.any(is_zero_quality) {
                    continue;
                }
                accept.sse |= kind.eq_ignore_ascii_case(b"text/event-stream");
                accept.json |= [&b"application/json"[..], b"application/*", b"*/*"]
                    .iter()
                    .any(|json| kind.eq_ignore_ascii_case(json));
            }
        }
        if any { accept } else { Accept { sse: false, json: true } }
    }

    /// Whether nothing but an event stream is taken.
    pub(super) fn only_sse(self) -> bool {
        self.sse && !self.json
    }
}

/// `q=0`, with or without decimals (RFC 9110 §12.4.2).
fn is_zero_quality(parameter: &[u8]) -> bool {
    let mut sides = parameter.splitn(2, |b| *b == b'=').map(<[u8]>::trim_ascii);
    let (name, value) = (sides.next().unwrap_or_default(), sides.next().unwrap_or_default());
    name.eq_ignore_ascii_case(b"q")
        && value.first() == Some(&b'0')
        && value[1..].iter().all(|b| matches!(b, b'0' | b'.'))
}

/// Whether a `Content-Type` value is that of an event stream.
pub(super) fn is_event_stream(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default();
    kind.trim().eq_ignore_ascii_case("text/event-stream")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_explicit_media_type_asks_for_a_stream() {
        for (values, sse, json) in [
            (vec![], false, true),
            (vec![""], false, true),
            (vec!["application/json, text/event-stream"], true, true),
            (vec!["application/json", "Text/Event-Stream; charset=utf-8"], true, true),
            (vec!["text/event-stream"], true, false),
            (vec!["*/*"], false, true),
            (vec!["text/*"], false, false),
            (vec!["text/event-stream;q=0, application/json"], false, true),
            (vec!["text/event-stream; q=0.000"], false, false),
            (vec!["text/event-stream;q=0.1"], true, false),
        ] {
            let accept = Accept::of(values.iter().map(|value| value.as_bytes()));
            assert_eq!((accept.sse, accept.json), (sse, json), "{values:?}");
        }
    }
}
