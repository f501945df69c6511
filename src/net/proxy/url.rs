//! A proxy's address and credentials.

use std::fmt;
use std::sync::Arc;

use crate::net::basic_auth::{basic, split_user_info};
use crate::net::origin::Bracketed;

/// The protocol spoken with a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyKind {
    /// HTTP over TCP.
    Http,
    /// HTTP over TLS.
    Https,
    /// SOCKS 5.
    Socks5,
}

/// The URL of a proxy. `Display` and `Debug` show `scheme://host[:port]` and never user info.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyUrl(Arc<Parts>);

#[derive(PartialEq, Eq)]
struct Parts {
    kind: ProxyKind,
    /// Lower case, IPv6 literals without brackets.
    host: String,
    port: u16,
    /// User name and password, decoded.
    credentials: Option<(Vec<u8>, Vec<u8>)>,
    shown: String,
}

/// Why a text is not the URL of a proxy. Shows nothing of the text, which may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyUrlError {
    /// It is no URL.
    Invalid,
    /// Its scheme is not supported.
    Scheme,
    /// It names no host.
    Host,
}

impl ProxyUrl {
    /// Parses an absolute `http` or `https` URL.
    pub fn parse(text: &str) -> Result<ProxyUrl, ProxyUrlError> {
        let proxy = ProxyUrl::parse_any(text)?;
        if proxy.kind() == ProxyKind::Socks5 { Err(ProxyUrlError::Scheme) } else { Ok(proxy) }
    }

    /// As [`ProxyUrl::parse`], of a URL that has been parsed already.
    pub fn from_url(url: &url::Url) -> Result<ProxyUrl, ProxyUrlError> {
        ProxyUrl::parse(url.as_str())
    }

    /// As [`ProxyUrl::parse`], with `socks5` and `socks5h` as well.
    pub(super) fn parse_any(text: &str) -> Result<ProxyUrl, ProxyUrlError> {
        let text = text.trim();
        let url = url::Url::parse(text).map_err(|e| match e {
            url::ParseError::EmptyHost => ProxyUrlError::Host,
            _ => ProxyUrlError::Invalid,
        })?;
        let (kind, default_port) = match url.scheme() {
            "http" => (ProxyKind::Http, 80),
            "https" => (ProxyKind::Https, 443),
            "socks5" | "socks5h" => (ProxyKind::Socks5, 1080),
            _ => return Err(ProxyUrlError::Scheme),
        };
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(ProxyUrlError::Host)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        let port = url.port().or_else(|| written_port(text));
        let mut shown = format!("{}://{}", url.scheme(), Bracketed(&host));
        if let Some(port) = port {
            shown.push_str(&format!(":{port}"));
        }
        let has_user = !url.username().is_empty() || url.password().is_some();
        let user_info = || format!("{}:{}", url.username(), url.password().unwrap_or_default());
        let credentials = has_user.then(|| split_user_info(&user_info()));
        Ok(ProxyUrl(Arc::new(Parts { kind, host, port: port.unwrap_or(default_port), credentials, shown })))
    }

    /// The protocol spoken with it.
    pub fn kind(&self) -> ProxyKind {
        self.0.kind
    }

    /// Its host, lower case, without the brackets of an IPv6 literal.
    pub fn host(&self) -> &str {
        &self.0.host
    }

    /// Its port, the scheme's default filled in.
    pub fn port(&self) -> u16 {
        self.0.port
    }

    /// Lower-case hex SHA-256 of what `Display` shows.
    pub fn id(&self) -> String {
        crate::net::hex_sha256(self.0.shown.as_bytes())
    }

    /// User name and password.
    pub(crate) fn credentials(&self) -> Option<(&[u8], &[u8])> {
        self.0.credentials.as_ref().map(|(user, password)| (user.as_slice(), password.as_slice()))
    }

    /// The value of `Proxy-Authorization` (RFC 7617), if the URL has user info.
    pub(crate) fn authorization(&self) -> Option<String> {
        let (user, password) = self.credentials()?;
        Some(basic(user, password))
    }
}

/// The port as it stands in the text, which the URL parser drops when it is the scheme's default.
fn written_port(text: &str) -> Option<u16> {
    let rest = text.split_once("://")?.1;
    let authority = rest.split(['/', '?', '#', '\\']).next()?;
    let host_and_port = authority.rsplit('@').next()?;
    let (host, port) = host_and_port.rsplit_once(':')?;
    if host.starts_with('[') && !host.ends_with(']') { None } else { port.parse().ok() }
}

impl fmt::Display for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.shown)
    }
}

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProxyUrl({})", self.0.shown)
    }
}

impl fmt::Display for ProxyUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ProxyUrlError::Invalid => "the proxy URL is not an absolute URL",
            ProxyUrlError::Scheme => "the proxy URL must have the scheme http or https",
            ProxyUrlError::Host => "the proxy URL must name a host",
        })
    }
}

impl std::error::Error for ProxyUrlError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxy_urls_show_scheme_host_and_written_port_only() {
        for (text, shown, port) in [
            ("HTTP://User:pw@Proxy.Example.COM:8080/x?y", "http://proxy.example.com:8080", 8080),
            ("https://p", "https://p", 443),
            ("http://p:80/", "http://p:80", 80),
            ("http://u:p@[::1]:80", "http://[::1]:80", 80),
            ("http://[::1]", "http://[::1]", 80),
        ] {
            let proxy = ProxyUrl::parse(text).unwrap();
            assert_eq!((proxy.to_string().as_str(), proxy.port()), (shown, port), "{text}");
            assert_eq!(format!("{proxy:?}"), format!("ProxyUrl({shown})"));
        }
    }

    #[test]
    fn other_texts_are_refused_without_being_shown() {
        for (text, error) in [
            ("socks5://user:secret@p", ProxyUrlError::Scheme),
            ("ftp://user:secret@p", ProxyUrlError::Scheme),
            ("http://", ProxyUrlError::Host),
            ("user:secret@p:3128", ProxyUrlError::Scheme),
            ("secret", ProxyUrlError::Invalid),
            ("http://secret host", ProxyUrlError::Invalid),
        ] {
            let refused = ProxyUrl::parse(text).unwrap_err();
            assert_eq!(refused, error, "{text}");
            assert!(!format!("{refused} {refused:?}").contains("secret"));
        }
    }

    #[test]
    fn user_info_becomes_basic_credentials() {
        for (text, expected) in [
            ("http://Aladdin:open%20sesame@p", Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==")),
            ("http://u@p", Some("Basic dTo=")),
            ("http://a:%2@p", Some("Basic YTolMg==")),
            ("http://ab:c@p", Some("Basic YWI6Yw==")),
            ("http://p", None),
        ] {
            assert_eq!(ProxyUrl::parse(text).unwrap().authorization().as_deref(), expected, "{text}");
        }
    }
}
