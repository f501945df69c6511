//! Operators' URLs and addresses.
//!
//! Invariant: no error shows the text it complains about, which may hold a password.

use url::Url;

use crate::net::percent_decoded;

/// An absolute `http` or `https` URL with a host.
pub(crate) fn absolute_http(text: &str) -> Result<Url, String> {
    let text = text.trim();
    // The URL standard accepts `https:host` and `https:///host`; operators who write that mean
    // something else.
    let after_scheme = text.split_once("://").map(|(_, rest)| rest).unwrap_or_default();
    if after_scheme.is_empty() || after_scheme.starts_with(['/', '\\', '?', '#']) {
        return Err("it must include scheme and host".to_owned());
    }
    if text.contains(|c: char| c.is_control() || c == ' ') {
        return Err("it contains white space or a control character".to_owned());
    }
    let url = Url::parse(text).map_err(|error| match error {
        url::ParseError::EmptyHost | url::ParseError::RelativeUrlWithoutBase => {
            "it must include scheme and host".to_owned()
        }
        other => format!("it is no URL: {other}"),
    })?;
    if url.host_str().is_none_or(str::is_empty) {
        return Err("it must include scheme and host".to_owned());
    }
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("its scheme must be http or https, not {}", url.scheme()));
    }
    Ok(url)
}

/// The path between host and route: empty, or with a leading and without a trailing slash, decoded and
/// clean.
pub(crate) fn url_path(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() || text == "/" {
        return Ok(String::new());
    }
    if !text.starts_with('/') {
        return Err("it must start with / and carry no scheme or host".to_owned());
    }
    if text.starts_with("//") {
        return Err("it must not carry a host".to_owned());
    }
    if text.contains(['?', '#']) {
        return Err("it must not carry a query or fragment".to_owned());
    }
    let decoded = percent_decoded(text).and_then(|bytes| String::from_utf8(bytes.into_owned()).ok());
    let decoded = decoded.ok_or("it holds an invalid % escape")?;
    if decoded.contains(char::is_control) {
        return Err("it contains a control character".to_owned());
    }
    let mut segments: Vec<&str> = Vec::new();
    for segment in decoded.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            name => segments.push(name),
        }
    }
    Ok(segments.into_iter().fold(String::new(), |path, segment| path + "/" + segment))
}

/// `host:port`; the host may be empty, an IPv6 address stands in brackets.
pub(crate) fn listen_address(text: &str) -> Result<(), String> {
    let bad = || "it must be host:port, such as 127.0.0.1:8080".to_owned();
    let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
    let host_fits = match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']').is_some_and(|ip| !ip.is_empty()),
        None => !host.contains([':', '[', ']', '/', ' ']),
    };
    if !host_fits {
        return Err(bad());
    }
    let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    if !digits || port.parse::<u16>().is_err() {
        return Err("its port must be a number from 0 to 65535".to_owned());
    }
    Ok(())
}

/// Whether the URL's host is this machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

/// Whether a URL holds credentials.
pub(crate) fn has_user_info(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_need_scheme_and_host() {
        for good in [
            "https://api.openai.com",
            "http://127.0.0.1:9/mcp?a=b",
            "HTTP://Host/",
            " https://a ",
            "http://[::1]:3/",
        ] {
            assert!(absolute_http(good).is_ok(), "{good}");
        }
        for bad in [
            "mcp.example.com/x",
            "localhost:3001/mcp",
            "http://",
            "",
            "https:///x",
            "https:x",
            "ftp://h/",
            "http://h:99999/",
            "http://a b/",
            "http://?x",
            "unix:///x",
            "://x",
        ] {
            assert!(absolute_http(bad).is_err(), "{bad}");
        }
        let error = absolute_http("https://user:hunter2@h:bad/").unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn the_path_before_the_route_is_normalised() {
        for (text, path) in [
            ("", ""),
            (" / ", ""),
            ("/x/y/", "/x/y"),
            ("/team//eu", "/team/eu"),
            ("/a/../b/./c", "/b/c"),
            ("/a%2Fb", "/a/b"),
            ("/a%20b", "/a b"),
            ("/..", ""),
        ] {
            assert_eq!(url_path(text).as_deref(), Ok(path), "{text}");
        }
        for bad in ["x/y", "https://h/x", "/x?a=1", "/x#f", "//h/x", "/%zz", "/%2", "/a%0a"] {
            assert!(url_path(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn listen_addresses_have_a_port() {
        for good in ["127.0.0.1:8080", ":8080", "[::1]:0", "localhost:1"] {
            assert!(listen_address(good).is_ok(), "{good}");
        }
        for bad in ["", "8080", "127.0.0.1", "::1:80", "h:99999", "h:http", "h:", "[]:1", "http://h:1"] {
            assert!(listen_address(bad).is_err(), "{bad}");
        }
    }
}
