//! The URLs of the control plane.
//!
//! Of the base URL only scheme, host and port count; the operator's URL path stands between them
//! and the route. Paths are cleaned lexically and percent-encoded exactly once.

use crate::order;
use std::fmt;
use std::time::Duration;

use url::Url;

use crate::ids::{Channel, TunnelId};
use crate::net::Uri;

/// Most commands that one poll may ask for.
pub const POLL_LIMIT_MAX: usize = 25;

/// Origin and path prefix shared by every request.
#[derive(Clone, Debug)]
pub(super) struct Base {
    /// `scheme://host[:port]`.
    origin: String,
    /// Decoded.
    url_path: String,
}

/// The base URL cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidBaseUrl(String);

/// URLs of one tunnel.
#[derive(Clone, Debug)]
pub(super) struct Endpoints {
    pub(super) metadata: Uri,
    pub(super) response: Uri,
    /// By limit, from 1 up.
    polls: Vec<Uri>,
}

impl Base {
    /// Keeps scheme, host and port of `base_url`; `url_path` is in decoded form.
    pub(super) fn new(base_url: &Url, url_path: &str) -> Result<Base, InvalidBaseUrl> {
        let invalid = |reason: &str| InvalidBaseUrl(reason.to_owned());
        let host =
            base_url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| invalid("it has no host"))?;
        if !matches!(base_url.scheme(), "http" | "https") {
            return Err(invalid("its scheme is neither http nor https"));
        }
        let port = base_url.port().map_or_else(String::new, |port| format!(":{port}"));
        let origin = format!("{}://{host}{port}", base_url.scheme());
        Ok(Base { origin, url_path: url_path.trim().to_owned() })
    }

    /// The encoded path of `route`, below the URL path.
    pub(super) fn path(&self, route: &str) -> String {
        encode(&clean(&format!("/{}{route}", self.url_path.trim_matches('/'))), b"/$&+,:;=@")
    }

    /// Origin and an already encoded path (and query).
    pub(super) fn uri(&self, encoded: &str) -> Result<Uri, InvalidBaseUrl> {
        format!("{}{encoded}", self.origin)
            .parse()
            .map_err(|_| InvalidBaseUrl("it forms no valid URL".to_owned()))
    }
}

impl Endpoints {
    /// Prepares every URL this tunnel will ever use. `channels` is the allow-list of poll channels.
    pub(super) fn new(
        base: &Base,
        tunnel_id: &TunnelId,
        poll_timeout: Duration,
        channels: Option<&[Channel]>,
    ) -> Result<Endpoints, InvalidBaseUrl> {
        let route = format!("/v1/tunnels/{tunnel_id}");
        let timeout_ms = poll_timeout.as_millis().max(1);
        let mut names: Vec<&str> = channels.unwrap_or_default().iter().map(Channel::as_str).collect();
        order::sort(&mut names);
        let names: String = names.iter().map(|name| format!("channel={name}&")).collect();
        let poll = base.path(&format!("{route}/poll"));
        let polls = (1..=POLL_LIMIT_MAX)
            .map(|limit| base.uri(&format!("{poll}?{names}limit={limit}&timeout_ms={timeout_ms}")))
            .collect::<Result<_, _>>()?;
        Ok(Endpoints {
            metadata: base.uri(&base.path(&route))?,
            response: base.uri(&base.path(&format!("{route}/response")))?,
            polls,
        })
    }

    /// The poll for at most `limit` commands, which is kept within 1 and [`POLL_LIMIT_MAX`].
    pub(super) fn poll(&self, limit: usize) -> &Uri {
        &self.polls[limit.clamp(1, self.polls.len()) - 1]
    }
}

/// Resolves `.` and `..`, collapses slashes; the result starts with a slash and ends without one.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Percent-encodes everything but unreserved characters (RFC 3986 §2.3) and those in `keep`.
pub(super) fn encode(text: &str, keep: &[u8]) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || keep.contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

impl fmt::Display for InvalidBaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "invalid control-plane.base-url: {}; give an absolute URL such as https://host.example",
            self.0
        )
    }
}

impl std::error::Error for InvalidBaseUrl {}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "tunnel_0123456789abcdef0123456789abcdef";

    fn endpoints(base: &str, path: &str, timeout: Duration, channels: Option<&[Channel]>) -> Endpoints {
        let base = Base::new(&Url::parse(base).unwrap(), path).unwrap();
        Endpoints::new(&base, &TunnelId::parse(ID).unwrap(), timeout, channels).unwrap()
    }

    #[test]
    fn paths_of_the_base_url_are_ignored_and_the_url_path_is_cleaned() {
        for (base, path, expected) in [
            ("https://api.openai.com", "", "https://api.openai.com/v1/tunnels/T"),
            ("https://gw.example.com/", "/ws/dev/us", "https://gw.example.com/ws/dev/us/v1/tunnels/T"),
            ("https://gw.example.com/ws", "", "https://gw.example.com/v1/tunnels/T"),
            ("https://u:p@gw.example.com/a?b=c#d", "/", "https://gw.example.com/v1/tunnels/T"),
            ("http://h:8080/some/path", "/a/b", "http://h:8080/a/b/v1/tunnels/T"),
            ("http://[::1]:80/x", "//a/./b/../c/", "http://[::1]/a/c/v1/tunnels/T"),
            ("https://h:443", "/a b/é%", "https://h/a%20b/%C3%A9%25/v1/tunnels/T"),
        ] {
            let got = endpoints(base, path, Duration::from_secs(1), None).metadata.to_string();
            assert_eq!(got, expected.replace('T', ID), "{base} {path}");
        }
    }

    #[test]
    fn the_poll_carries_sorted_channels_limit_and_whole_milliseconds() {
        let channels = ["main", "harpoon"].map(|name| Channel::parse(name).unwrap());
        let with = endpoints("http://h", "", Duration::from_millis(15_000), Some(&channels));
        let query = |endpoints: &Endpoints, limit| endpoints.poll(limit).query().unwrap().to_owned();
        assert_eq!(query(&with, 25), "channel=harpoon&channel=main&limit=25&timeout_ms=15000");
        assert_eq!(query(&with, 99), "channel=harpoon&channel=main&limit=25&timeout_ms=15000");
        let without = endpoints("http://h", "", Duration::from_nanos(1), None);
        assert_eq!(query(&without, 7), "limit=7&timeout_ms=1");
        assert_eq!(query(&without, 0), "limit=1&timeout_ms=1");
    }

    #[test]
    fn a_base_url_without_host_is_refused() {
        for bad in ["mailto:a@b", "file:///x", "ftp://h/"] {
            let error = Base::new(&Url::parse(bad).unwrap(), "").unwrap_err().to_string();
            assert!(error.contains("control-plane.base-url"), "{error}");
        }
    }
}
