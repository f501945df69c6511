//! Scheme, host and port: what a connection is opened for and a client certificate is bound to.

use std::fmt;

use super::Uri;

/// The origin of an `http` or `https` URI (RFC 6454), the default port filled in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    https: bool,
    /// Lower case, IPv6 literals without brackets.
    host: String,
    port: u16,
}

impl Origin {
    /// The origin of `uri`; `None` unless it is `http` or `https` and has a host.
    pub fn of(uri: &Uri) -> Option<Origin> {
        let (https, host, port) = parts(uri)?;
        Some(Origin { https, host: host.to_ascii_lowercase(), port })
    }

    /// Whether `uri` has this origin; allocates nothing.
    pub(crate) fn is_of(&self, uri: &Uri) -> bool {
        parts(uri).is_some_and(|(https, host, port)| {
            https == self.https && port == self.port && host.eq_ignore_ascii_case(&self.host)
        })
    }

    /// Whether the scheme is `https`.
    pub fn is_https(&self) -> bool {
        self.https
    }

    /// The host, lower case, without the brackets of an IPv6 literal.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `host:port`, an IPv6 literal in brackets.
    pub fn host_and_port(&self) -> String {
        host_and_port(&self.host, self.port)
    }
}

/// `scheme://host[:port]`; the scheme's default port is left out.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, default) = if self.https { ("https", 443) } else { ("http", 80) };
        write!(f, "{scheme}://{}", Bracketed(&self.host))?;
        if self.port == default { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

/// `host:port`, an IPv6 literal in brackets.
pub(crate) fn host_and_port(host: &str, port: u16) -> String {
    format!("{}:{port}", Bracketed(host))
}

/// A host as it stands in a URI: IPv6 literals get their brackets.
pub(crate) struct Bracketed<'a>(pub(crate) &'a str);

impl fmt::Display for Bracketed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.contains(':') { write!(f, "[{}]", self.0) } else { f.write_str(self.0) }
    }
}

fn parts(uri: &Uri) -> Option<(bool, &str, u16)> {
    let https = match uri.scheme_str()? {
        scheme if scheme.eq_ignore_ascii_case("https") => true,
        scheme if scheme.eq_ignore_ascii_case("http") => false,
        _ => return None,
    };
    let host = uri.host().filter(|host| !host.is_empty())?;
    let host = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(host);
    Some((https, host, uri.port_u16().unwrap_or(if https { 443 } else { 80 })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_ignore_case_and_fill_in_the_default_port() {
        for (uri, shown, target) in [
            ("http://Example.com/a?b", "http://example.com", "example.com:80"),
            ("HTTPS://example.com:8443", "https://example.com:8443", "example.com:8443"),
            ("https://[::1]:443/", "https://[::1]", "[::1]:443"),
        ] {
            let uri: Uri = uri.parse().unwrap();
            let origin = Origin::of(&uri).unwrap();
            assert_eq!(origin.to_string(), shown);
            assert_eq!(origin.host_and_port(), target);
            assert!(origin.is_of(&uri));
        }
        let origin = Origin::of(&"http://a:80".parse().unwrap()).unwrap();
        for other in ["https://a:80", "http://b", "http://a:81", "/a"] {
            assert!(!origin.is_of(&other.parse().unwrap()), "{other}");
        }
        assert_eq!(Origin::of(&"ftp://a".parse().unwrap()), None);
    }
}
