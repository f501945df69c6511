//! Redaction of URLs.

use std::fmt::Write as _;

use super::{REDACTED, keys, text};
use crate::net::percent_decoded_text;

/// Path segments behind which a secret stands.
const KEY_SEGMENTS: &[&str] = &[
    "api_key",
    "apikey",
    "access_token",
    "refresh_token",
    "id_token",
    "client_secret",
    "code",
    "password",
    "secret",
    "token",
    "authorization",
    "cookie",
    "key",
];
const MIN_JWT_CHARS: usize = 40;

/// An absolute URL, taken apart without being normalised.
struct Parts<'u> {
    scheme: &'u str,
    /// Host and port, without user info.
    host: &'u str,
    path: &'u str,
}

fn parts(url: &str) -> Option<Parts<'_>> {
    let (scheme, rest) = url.split_once("://")?;
    let valid = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    if !valid || url.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return None;
    }
    let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(authority_end);
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let path = &rest[..rest.find(['?', '#']).unwrap_or(rest.len())];
    (!host.is_empty() && !host.starts_with(':')).then_some(Parts { scheme, host, path })
}

/// A string as a snapshot shows it: of an absolute URL scheme, host and a path without secrets, of
/// anything else the redacted text.
pub fn snapshot(string: &str) -> String {
    let Some(parts) = parts(string) else { return text(string).into_owned() };
    let mut shown = format!("{}://{}", parts.scheme, parts.host);
    let mut hide_next = false;
    for (index, segment) in parts.path.split('/').enumerate() {
        if index > 0 {
            shown.push('/');
        }
        if segment.is_empty() {
            continue;
        }
        let decoded = percent_decoded_text(segment);
        let hidden = std::mem::take(&mut hide_next);
        shown.push_str(if hidden || is_secret_segment(&decoded) { REDACTED } else { segment });
        hide_next =
            !hidden && KEY_SEGMENTS.contains(&decoded.to_lowercase().replace(['-', '.'], "_").as_str());
    }
    shown
}

/// A string as the local API shows it where what is called is the point: an absolute URL whole but for
/// its credentials, of anything else the redacted text.
pub fn without_credentials(string: &str) -> String {
    let Some(Parts { scheme, host, path }) = parts(string) else { return text(string).into_owned() };
    let behind = &string[scheme.len() + 3..];
    let authority = &behind[..behind.find(['/', '?', '#']).unwrap_or(behind.len())];
    let masked = if authority.len() > host.len() { "[REDACTED]@" } else { "" };
    let mut shown = format!("{scheme}://{masked}{host}{path}");
    let mut parameters = &behind[authority.len() + path.len()..];
    if let Some(query) = parameters.strip_prefix('?') {
        shown.push('?');
        parameters = query;
    }
    for piece in parameters.split_inclusive(['&', '#']) {
        let end = piece.trim_end_matches(['&', '#']).len();
        match piece[..end].split_once('=') {
            Some((name, _)) if is_secret_parameter(name) => {
                let _ = write!(shown, "{name}={REDACTED}{}", &piece[end..]);
            }
            _ => shown.push_str(piece),
        }
    }
    text(&shown).into_owned()
}

fn is_secret_parameter(name: &str) -> bool {
    keys::is_sensitive_setting(name) || KEY_SEGMENTS.contains(&name.to_lowercase().as_str())
}

fn is_secret_segment(segment: &str) -> bool {
    let lower = segment.to_lowercase();
    text(segment) != segment
        || lower.contains("secret")
        || lower.starts_with("sk-")
        || (segment.len() >= MIN_JWT_CHARS && segment.matches('.').count() >= 2)
}

/// `scheme://host[:port]` in lower case; empty if `url` is not absolute.
pub fn origin(url: &str) -> String {
    parts(url.trim())
        .map(|parts| format!("{}://{}", parts.scheme, parts.host).to_lowercase())
        .unwrap_or_default()
}

/// Replaces each absolute URL in a message by its origin.
pub fn urls_to_origins(message: &str) -> String {
    let mut shown = String::with_capacity(message.len());
    let mut rest = message;
    while let Some(mark) = rest.find("://") {
        let scheme = rest[..mark]
            .rfind(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.')))
            .map_or(0, |at| at + rest[at..].chars().next().map_or(1, char::len_utf8));
        let end = rest[mark..]
            .find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '>' | '`' | ')'))
            .map_or(rest.len(), |found| mark + found);
        let url = rest[scheme..end].trim_end_matches([':', ',', '.', ';']);
        shown.push_str(&rest[..scheme]);
        let shown_url = origin(url);
        let _ = write!(shown, "{}", if shown_url.is_empty() { "<redacted>" } else { &shown_url });
        rest = &rest[(scheme + url.len()).max(mark + 3).min(rest.len())..];
    }
    shown.push_str(rest);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_keep_host_and_harmless_path() {
        let jwt = format!("https://h/{}.{}.{}", "a".repeat(20), "b".repeat(20), "c".repeat(20));
        for (input, expected) in [
            (
                "https://u:p@idp.example/oauth/token/abc123/cb?x=1",
                "https://idp.example/oauth/token/[REDACTED]/cb",
            ),
            ("https://idp.example/token?access_token=z", "https://idp.example/token"),
            ("https://idp.example", "https://idp.example"),
            ("https://idp.example/", "https://idp.example/"),
            ("https://h:8443/a//b/#f", "https://h:8443/a//b/"),
            ("https://h/api-key//v/w", "https://h/api-key//[REDACTED]/w"),
            ("https://h/my-Secret-thing/x", "https://h/[REDACTED]/x"),
            ("https://h/secret/v/w", "https://h/[REDACTED]/[REDACTED]/w"),
            ("https://h/SK-1/x", "https://h/[REDACTED]/x"),
            ("https://h/a%20b/%73k-x", "https://h/a%20b/[REDACTED]"),
            (&jwt, "https://h/[REDACTED]"),
            ("secret/value", "secret/value"),
            ("see https://u:p@h/x", "see https://[REDACTED]@h/x"),
            ("mcp://h/x", "mcp://h/x"),
            ("file:///etc/x", "file:///etc/x"),
        ] {
            assert_eq!(snapshot(input), expected, "{input}");
        }
    }

    #[test]
    fn what_is_called_is_shown_whole_but_for_its_credentials() {
        for (input, expected) in [
            ("https://h/a//b?c=d&e=%2F#f", "https://h/a//b?c=d&e=%2F#f"),
            ("https://h/oauth/token/v2?x", "https://h/oauth/token/v2?x"),
            ("https://h", "https://h"),
            ("https://u:p@h:1/x?y", "https://[REDACTED]@h:1/x?y"),
            ("https://u@h?a=b", "https://[REDACTED]@h?a=b"),
            ("https://h/?key=k&a=b#token=t", "https://h/?key=[REDACTED]&a=b#token=[REDACTED]"),
            ("https://h/?Client-Secret=s&a", "https://h/?Client-Secret=[REDACTED]&a"),
            ("https://h/?token=a?b/c=d&e", "https://h/?token=[REDACTED]&e"),
            ("https://h/?code=4711abc", "https://h/?code=[REDACTED]"),
            ("https://h/sk-0123456789abc", "https://h/sk-REDACTED"),
            ("see https://u:p@h/x", "see https://[REDACTED]@h/x"),
            ("{\"password\":\"x\"}", "{\"password\":\"[REDACTED]\"}"),
        ] {
            assert_eq!(without_credentials(input), expected, "{input}");
        }
    }

    #[test]
    fn origins_hold_nothing_but_scheme_host_and_port() {
        assert_eq!(origin("HTTPS://u:p@H.example:1/x?y"), "https://h.example:1");
        assert_eq!(origin("/x"), "");
        assert_eq!(origin("http://"), "");
        assert_eq!(
            urls_to_origins("Get \"https://u:p@h/x?code=1\": dial http://b:2/, then http://"),
            "Get \"https://h\": dial http://b:2, then <redacted>"
        );
        assert_eq!(urls_to_origins("no url"), "no url");
    }
}
