//! URL references taken apart by RFC 3986, nothing decoded or completed.
//!
//! Invariant: whatever is put together again is, byte for byte, what was taken apart.

use std::net::Ipv6Addr;

use crate::net::percent_decoded;

/// The parts of a reference, as written.
#[derive(Clone, Copy, Default)]
pub(super) struct Parts<'a> {
    pub(super) scheme: Option<&'a str>,
    pub(super) authority: Option<&'a str>,
    pub(super) path: &'a str,
    pub(super) query: Option<&'a str>,
    pub(super) fragment: Option<&'a str>,
}

impl<'a> Parts<'a> {
    /// The parts of a well-formed reference.
    pub(super) fn of(text: &'a str) -> Option<Parts<'a>> {
        if text.bytes().any(|b| b.is_ascii_control()) {
            return None;
        }
        let parts = Parts::split(text);
        let first_segment = parts.path.split('/').next().unwrap_or_default();
        let whole = match parts.scheme {
            Some(_) => true,
            None => !text.starts_with(':') && (parts.authority.is_some() || !first_segment.contains(':')),
        };
        let fits = whole
            && parts.authority.is_none_or(is_authority)
            && percent_decoded(parts.path).is_some()
            && parts.fragment.is_none_or(|fragment| percent_decoded(fragment).is_some());
        fits.then_some(parts)
    }

    /// The parts of any text (RFC 3986, appendix B).
    pub(super) fn split(text: &'a str) -> Parts<'a> {
        let mut parts = Parts::default();
        let mut rest = text;
        if let Some((before, fragment)) = rest.split_once('#') {
            (rest, parts.fragment) = (before, Some(fragment));
        }
        if let Some((before, query)) = rest.split_once('?') {
            (rest, parts.query) = (before, Some(query));
        }
        if let Some((scheme, after)) = rest.split_once(':')
            && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
        {
            (parts.scheme, rest) = (Some(scheme), after);
        }
        if let Some(after) = rest.strip_prefix("//") {
            let end = after.find('/').unwrap_or(after.len());
            (parts.authority, rest) = (Some(&after[..end]), &after[end..]);
        }
        parts.path = rest;
        parts
    }

    pub(super) fn text(&self) -> String {
        self.written(self.scheme.unwrap_or_default(), self.authority.unwrap_or_default())
    }

    pub(super) fn normal(&self) -> String {
        let authority = self.authority.unwrap_or_default();
        let host = authority.rfind('@').map_or(0, |at| at + 1);
        let lower = format!("{}{}", &authority[..host], authority[host..].to_lowercase());
        self.written(&self.scheme.unwrap_or_default().to_ascii_lowercase(), &lower)
    }

    fn written(&self, scheme: &str, authority: &str) -> String {
        let mut text = String::from(scheme);
        text.push(':');
        if self.authority.is_some() {
            text.push_str("//");
            text.push_str(authority);
        }
        text.push_str(self.path);
        for (mark, part) in [('?', self.query), ('#', self.fragment)] {
            if let Some(part) = part {
                text.push(mark);
                text.push_str(part);
            }
        }
        text
    }
}

pub(super) fn is_http(scheme: &str) -> bool {
    ["http", "https"].iter().any(|known| known.eq_ignore_ascii_case(scheme))
}

/// Whether user info, host and port are spelled as they may be. A host may be empty here.
fn is_authority(authority: &str) -> bool {
    let (user_info, host_port) = authority.rsplit_once('@').unwrap_or(("", authority));
    let user_fits = user_info
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:%@".contains(&b) || !b.is_ascii());
    let host = host_of(host_port);
    let host_fits = match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']').is_some_and(|inner| inner.parse::<Ipv6Addr>().is_ok()),
        None => host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&b) || !b.is_ascii()),
    };
    let rest = &host_port[host.len()..];
    let port_fits = match rest.strip_prefix(':') {
        Some(port) => port.bytes().all(|b| b.is_ascii_digit()),
        None => rest.is_empty(),
    };
    user_fits && percent_decoded(user_info).is_some() && host_fits && port_fits
}

/// The host of an authority, IPv6 literals with their brackets.
pub(super) fn host_of(authority: &str) -> &str {
    let host_port = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let end = match host_port.strip_prefix('[').and_then(|rest| rest.find(']')) {
        Some(bracket) => bracket + 2,
        None => host_port.find(':').unwrap_or(host_port.len()),
    };
    &host_port[..end]
}

pub(super) fn port_of(authority: &str) -> &str {
    let host_port = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    host_port[host_of(host_port).len()..].strip_prefix(':').unwrap_or_default()
}

pub(super) fn unbracketed(host: &str) -> &str {
    host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(host)
}

/// Adds `text`, escaping what may not stand in a request line.
pub(super) fn push_sendable(to: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte) {
            to.push(char::from(byte));
        } else {
            to.push_str(&format!("%{byte:02X}"));
        }
    }
}

/// Resolves the dot segments of a path (RFC 3986 §5.2.4).
pub(super) fn without_dots(path: &str) -> String {
    if !path.starts_with('/') {
        return path.to_owned();
    }
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path[1..].split('/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if is_last {
                    kept.push("");
                }
            }
            _ => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}
