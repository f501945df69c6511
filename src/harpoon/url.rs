//! URLs compared as they are spelled.
//!
//! Parsed by RFC 3986 alone: nothing is decoded, cleaned or completed, for whatever one side of a
//! comparison normalises and the other does not is a way around an allow-list. Invariant: two URLs are
//! the same if and only if their texts are, but for the letter case of scheme and host.

use std::fmt;

use super::parts::{Parts, host_of, is_http, port_of, push_sendable, unbracketed, without_dots};
use crate::net::{Uri, percent_decoded};

/// An absolute `http` or `https` URL with a host.
#[derive(Clone, PartialEq, Eq)]
pub struct TargetUrl {
    /// As it was written.
    spelled: Box<str>,
    /// The same with scheme and host in lower case.
    normal: Box<str>,
}

/// Why a text is no URL that could be called. Holds none of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidUrl {
    /// No URL reference at all (RFC 3986).
    Malformed,
    /// No scheme or no host.
    NotAbsolute,
    /// A scheme that is neither `http` nor `https`.
    Scheme,
}

/// What a reference leads to from a base.
pub(super) enum Joined {
    /// An `http` or `https` URL.
    Url(TargetUrl),
    /// Somewhere that is not reached by HTTP.
    Foreign,
}

impl TargetUrl {
    /// Takes `text` as it is.
    ///
    /// # Errors
    /// [`InvalidUrl`].
    pub fn parse(text: &str) -> Result<TargetUrl, InvalidUrl> {
        let parts = Parts::of(text).ok_or(InvalidUrl::Malformed)?;
        match (parts.scheme, parts.authority) {
            (Some(scheme), Some(authority)) if !host_of(authority).is_empty() => {
                if !is_http(scheme) {
                    return Err(InvalidUrl::Scheme);
                }
                Ok(TargetUrl { spelled: text.into(), normal: parts.normal().into() })
            }
            _ => Err(InvalidUrl::NotAbsolute),
        }
    }

    /// As it was written.
    pub fn spelled(&self) -> &str {
        &self.spelled
    }

    /// What is compared: scheme and host in lower case, all else as written.
    pub fn normal(&self) -> &str {
        &self.normal
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &str {
        self.normal.split(':').next().unwrap_or_default()
    }

    /// Whether TLS is spoken.
    pub fn is_https(&self) -> bool {
        self.scheme() == "https"
    }

    /// The host in lower case, without the brackets of an IPv6 literal.
    pub fn host(&self) -> &str {
        unbracketed(host_of(self.authority()))
    }

    /// The port as written, or none if it is absent or the scheme's own.
    pub fn port(&self) -> Option<u16> {
        let own = if self.is_https() { 443 } else { 80 };
        port_of(self.authority()).parse().ok().filter(|port| *port != own)
    }

    /// `scheme://host[:port]`: all of it that may be logged.
    pub fn origin(&self) -> String {
        let authority = self.authority();
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        format!("{}://{host}", self.scheme())
    }

    /// Whether it holds credentials.
    pub fn has_user_info(&self) -> bool {
        self.authority().contains('@')
    }

    /// Whether it holds a fragment that is not empty.
    pub fn has_fragment(&self) -> bool {
        self.parts().fragment.is_some_and(|fragment| !fragment.is_empty())
    }

    pub(super) fn path(&self) -> &str {
        self.parts().path
    }

    pub(super) fn query(&self) -> Option<&str> {
        self.parts().query
    }

    /// Whether no segment of the path, its escapes decoded, climbs or stands still (`.`, `..`), be it
    /// between escaped slashes.
    pub fn has_plain_path(&self) -> bool {
        self.path().split('/').all(|segment| {
            percent_decoded(segment).is_some_and(|bytes| {
                bytes.split(|b| matches!(b, b'/' | b'\\')).all(|part| !matches!(part, b"." | b".."))
            })
        })
    }

    /// What is asked for over HTTP: user info is kept for its credentials, the fragment is not sent, and
    /// what HTTP does not carry as it is is escaped. `None` if it cannot be sent at all.
    pub(super) fn uri(&self) -> Option<Uri> {
        // An international name has to be spelled in ASCII: of look-alikes nobody knows which is meant.
        if !self.host().is_ascii() {
            return None;
        }
        let parts = self.parts();
        let mut text = format!("{}://", self.scheme());
        push_sendable(&mut text, self.authority());
        push_sendable(&mut text, parts.path);
        if let Some(query) = parts.query {
            if parts.path.is_empty() {
                text.push('/');
            }
            text.push('?');
            push_sendable(&mut text, query);
        }
        text.parse().ok()
    }

    /// Where `reference` leads from here (RFC 3986 §5.2).
    ///
    /// # Errors
    /// When it is no URL reference.
    pub(super) fn join(&self, reference: &str) -> Result<Joined, InvalidUrl> {
        let base = self.parts();
        let reference = Parts::of(reference).ok_or(InvalidUrl::Malformed)?;
        let clean: String;
        let mut target = reference;
        if reference.scheme.is_some() || reference.authority.is_some() {
            target.scheme = reference.scheme.or(base.scheme);
            clean = without_dots(reference.path);
        } else {
            (target.scheme, target.authority) = (base.scheme, base.authority);
            clean = if reference.path.is_empty() {
                target.query = reference.query.or(base.query);
                base.path.to_owned()
            } else if reference.path.starts_with('/') {
                without_dots(reference.path)
            } else {
                let directory = base.path.rfind('/').map_or("/", |end| &base.path[..=end]);
                without_dots(&format!("{directory}{}", reference.path))
            };
        }
        target.path = &clean;
        match TargetUrl::parse(&target.text()) {
            Ok(url) => Ok(Joined::Url(url)),
            Err(InvalidUrl::Malformed) => Err(InvalidUrl::Malformed),
            Err(InvalidUrl::NotAbsolute | InvalidUrl::Scheme) => Ok(Joined::Foreign),
        }
    }

    fn parts(&self) -> Parts<'_> {
        Parts::split(&self.normal)
    }

    fn authority(&self) -> &str {
        self.parts().authority.unwrap_or_default()
    }
}

/// Shows nothing that may be secret.
impl fmt::Debug for TargetUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin())
    }
}

impl fmt::Display for InvalidUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            InvalidUrl::Malformed => "it is no URL",
            InvalidUrl::NotAbsolute => "it must include scheme and host",
            InvalidUrl::Scheme => "its scheme must be http or https",
        })
    }
}

impl std::error::Error for InvalidUrl {}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> TargetUrl {
        TargetUrl::parse(text).unwrap()
    }

    #[test]
    fn only_scheme_and_host_lose_their_letter_case() {
        for (text, normal) in [
            ("HTTPS://Auth.Example:443/A?B#C", "https://auth.example:443/A?B#C"),
            ("https://U:P@H/x", "https://U:P@h/x"),
            ("http://[FD00::1]:8080/", "http://[fd00::1]:8080/"),
            ("https://h", "https://h"),
            ("https://h//a//b/?", "https://h//a//b/?"),
            ("https://h/a%2fb?x=a+b", "https://h/a%2fb?x=a+b"),
        ] {
            assert_eq!(url(text).normal(), normal);
            assert_eq!(url(text).spelled(), text);
        }
        for (one, other) in [
            ("https://h", "https://h/"),
            ("https://h/a%2Fb", "https://h/a/b"),
            ("https://h/?x=a+b", "https://h/?x=a%20b"),
            ("https://h:443/", "https://h/"),
            ("https://h/#", "https://h/"),
            ("https://h./", "https://h/"),
        ] {
            assert_ne!(url(one).normal(), url(other).normal());
        }
    }

    #[test]
    fn what_is_no_http_url_with_a_host_is_refused() {
        for (text, why) in [
            ("", InvalidUrl::NotAbsolute),
            ("/x", InvalidUrl::NotAbsolute),
            ("https:///x", InvalidUrl::NotAbsolute),
            ("https://:8443/x", InvalidUrl::NotAbsolute),
            ("https:h/x", InvalidUrl::NotAbsolute),
            ("ftp://h/x", InvalidUrl::Scheme),
            ("https://h/%zz", InvalidUrl::Malformed),
            ("https://h/%2", InvalidUrl::Malformed),
            ("https://h:x/", InvalidUrl::Malformed),
            ("https://[::1/", InvalidUrl::Malformed),
            ("https://[::1]x/", InvalidUrl::Malformed),
            ("https://[fe80::1%25eth0]/", InvalidUrl::Malformed),
            ("https://a b/", InvalidUrl::Malformed),
            ("https://h\\@evil/", InvalidUrl::Malformed),
            ("https://%68/", InvalidUrl::Malformed),
            ("https://h/\r\nx", InvalidUrl::Malformed),
            ("://x", InvalidUrl::Malformed),
        ] {
            assert_eq!(TargetUrl::parse(text).map(|url| url.normal), Err(why), "{text}");
        }
    }

    #[test]
    fn parts_are_found_where_they_are() {
        let full = url("https://u:p@Host.example:8443/a/b?c=d#e");
        assert_eq!((full.scheme(), full.host(), full.port()), ("https", "host.example", Some(8443)));
        assert_eq!((full.path(), full.query()), ("/a/b", Some("c=d")));
        assert_eq!(full.origin(), "https://host.example:8443");
        assert!(full.has_user_info() && full.has_fragment() && full.is_https());
        assert_eq!(format!("{full:?}"), "https://host.example:8443");
        let literal = url("http://[::1]:80/#");
        assert_eq!((literal.host(), literal.port(), literal.has_fragment()), ("::1", None, false));
    }

    #[test]
    fn paths_that_climb_are_noticed_however_they_are_escaped() {
        for bad in [
            "/../a",
            "/a/..",
            "/./a",
            "/%2e/a",
            "/%2E%2e/a",
            "/.%2e",
            "/a%2F..%2Fb",
            "/a%2f%2e%2e",
            "/a%5c..",
            "/a\\..\\b",
        ] {
            assert!(!url(&format!("https://h{bad}")).has_plain_path(), "{bad}");
        }
        for good in ["", "/", "//", "/a//b", "/...", "/.a", "/a..", "/a%2Fb", "/%25", "/%252e%252e/x"] {
            assert!(url(&format!("https://h{good}")).has_plain_path(), "{good}");
        }
    }

    #[test]
    fn what_is_sent_holds_no_fragment_and_nothing_unescaped() {
        for (text, sent) in [
            ("https://h/a?b#c", "https://h/a?b"),
            ("https://h?x", "https://h/?x"),
            ("https://h/a b\"<é>", "https://h/a%20b%22%3C%C3%A9%3E"),
            ("https://u:p@h/%41//", "https://u:p@h/%41//"),
            ("https://ü:p@[::1]:8443/", "https://%C3%BC:p@[::1]:8443/"),
            ("https://xn--bcher-kva.example/", "https://xn--bcher-kva.example/"),
        ] {
            assert_eq!(url(text).uri().unwrap().to_string(), sent);
        }
        assert!(url("https://bücher.example/").uri().is_none());
    }

    #[test]
    fn references_resolve_as_the_standard_says() {
        let base = url("https://u@h:8443/a/b?q");
        for (reference, found) in [
            ("/x", "https://u@h:8443/x"),
            ("c", "https://u@h:8443/a/c"),
            ("../c", "https://u@h:8443/c"),
            ("/x/../b", "https://u@h:8443/b"),
            ("/x/./b/.", "https://u@h:8443/x/b/"),
            ("/../../b", "https://u@h:8443/b"),
            ("?z", "https://u@h:8443/a/b?z"),
            ("#f", "https://u@h:8443/a/b?q#f"),
            ("", "https://u@h:8443/a/b?q"),
            ("//Other/x", "https://other/x"),
            ("HTTP://Other", "http://other"),
            ("https://h/x/../y", "https://h/y"),
            ("/%2e%2e/b", "https://u@h:8443/%2e%2e/b"),
        ] {
            let Ok(Joined::Url(url)) = base.join(reference) else { panic!("{reference}") };
            assert_eq!(url.normal(), found, "{reference}");
        }
        for foreign in ["javascript:alert(1)", "ftp://h/", "file:///etc/passwd", "https:x", "mailto:a@b"] {
            assert!(matches!(base.join(foreign), Ok(Joined::Foreign)), "{foreign}");
        }
        for broken in ["/%zz", "http://[::1", "http://a b/", "://x", "1http://x", "/a\u{7f}"] {
            assert!(base.join(broken).is_err(), "{broken}");
        }
    }
}
