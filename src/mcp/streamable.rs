//! What our own Streamable HTTP servers demand of a request before they look at its body.
//!
//! Invariant: a request that a browser sends on behalf of another site, or by a name that is not this
//! host's, is refused whatever else is right with it.

use std::borrow::Cow;
use std::net::IpAddr;

pub(crate) use super::era::LEGACY_VERSIONS;

/// The revision without a handshake that they speak.
pub(crate) const MODERN_VERSION: &str = "2026-07-28";

/// A refusal: status and a line for humans.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal(pub(crate) u16, pub(crate) Cow<'static, str>);

/// The headers that matter, however the request came.
pub(crate) struct Facts<'a> {
    pub(crate) method: &'a str,
    /// Whether a local address is asked by a local peer.
    pub(crate) local: bool,
    pub(crate) host: &'a str,
    pub(crate) origin: Option<&'a str>,
    pub(crate) fetch_site: Option<&'a str>,
    pub(crate) content_type: &'a str,
    pub(crate) accept: Vec<&'a str>,
    pub(crate) version: Option<&'a str>,
    pub(crate) session_id: Option<&'a str>,
}

impl<'a> Facts<'a> {
    /// `values` gives all values of a header.
    pub(crate) fn of(
        method: &'a str,
        local: bool,
        values: impl Fn(&'static str) -> Vec<&'a str>,
    ) -> Facts<'a> {
        let get = |name: &'static str| values(name).first().map(|value| value.trim());
        Facts {
            method,
            local,
            host: get("Host").unwrap_or_default(),
            origin: get("Origin"),
            fetch_site: get("Sec-Fetch-Site"),
            content_type: get("Content-Type").unwrap_or_default(),
            accept: values("Accept").into_iter().flat_map(|value| value.split(',')).map(media_type).collect(),
            version: get("Mcp-Protocol-Version").filter(|version| !version.is_empty()),
            session_id: get("Mcp-Session-Id").filter(|id| !id.is_empty()),
        }
    }

    fn accepts(&self, wanted: &str) -> bool {
        let group = wanted.split('/').next().unwrap_or_default();
        self.accept.iter().any(|range| {
            *range == "*/*"
                || range.eq_ignore_ascii_case(wanted)
                || range.strip_suffix("/*").is_some_and(|prefix| prefix.eq_ignore_ascii_case(group))
        })
    }

    /// Checks everything up to the session.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        if self.local && !is_loopback(host_name(self.host)) {
            return refused(403, format!("Forbidden: invalid Host header {:?}", self.host));
        }
        let is_safe = matches!(self.method, "GET" | "HEAD" | "OPTIONS");
        if !is_safe && self.is_cross_origin() {
            return refused(403, "Forbidden: cross-origin request");
        }
        if self.method == "POST" && !media_type(self.content_type).eq_ignore_ascii_case("application/json") {
            return refused(415, "Content-Type must be 'application/json'");
        }
        match self.method {
            "GET" if !self.accepts("text/event-stream") => {
                return refused(400, "Accept must contain 'text/event-stream' for GET requests");
            }
            "GET" | "DELETE" => {}
            _ if !(self.accepts("application/json") && self.accepts("text/event-stream")) => {
                return refused(400, "Accept must contain both 'application/json' and 'text/event-stream'");
            }
            _ => {}
        }
        if !matches!(self.method, "GET" | "POST" | "DELETE") {
            return refused(405, "Method Not Allowed");
        }
        let known = |version: &str| LEGACY_VERSIONS.contains(&version) || version == MODERN_VERSION;
        if self.version.is_some_and(|version| !known(version)) {
            return refused(400, "Bad Request: unsupported protocol version");
        }
        if self.session_id.is_none() && matches!(self.method, "GET" | "DELETE") {
            return refused(400, "Bad Request: Mcp-Session-Id header is required");
        }
        Ok(())
    }

    /// Whether a browser sent it on behalf of another site.
    fn is_cross_origin(&self) -> bool {
        match (self.fetch_site, self.origin) {
            (Some(site), _) => !matches!(site, "same-origin" | "none"),
            (None, Some(origin)) => origin.split_once("://").is_none_or(|(_, host)| host != self.host),
            (None, None) => false,
        }
    }
}

fn refused(status: u16, text: impl Into<Cow<'static, str>>) -> Result<(), Refusal> {
    Err(Refusal(status, text.into()))
}

fn media_type(value: &str) -> &str {
    value.split(';').next().unwrap_or_default().trim()
}

/// A host without its port.
fn host_name(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    }
}

fn is_loopback(name: &str) -> bool {
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts<'static> {
        Facts {
            method: "POST",
            local: true,
            host: "127.0.0.1:80",
            origin: None,
            fetch_site: None,
            content_type: "application/json",
            accept: vec!["application/json", "text/event-stream"],
            version: None,
            session_id: None,
        }
    }

    fn status(change: impl FnOnce(&mut Facts<'static>)) -> u16 {
        let mut facts = facts();
        change(&mut facts);
        facts.check().err().map_or(200, |refusal| refusal.0)
    }

    #[test]
    fn requests_are_refused_for_what_they_lack() {
        assert_eq!(status(|_| {}), 200);
        assert_eq!(status(|f| f.accept = vec!["*/*"]), 200);
        assert_eq!(status(|f| f.accept = vec!["application/*", "text/*"]), 200);
        assert_eq!(status(|f| f.accept = vec!["application/json"]), 400);
        assert_eq!(status(|f| f.content_type = "Application/JSON; charset=utf-8"), 200);
        assert_eq!(status(|f| f.content_type = "text/plain"), 415);
        assert_eq!(status(|f| f.content_type = ""), 415);
        assert_eq!(status(|f| f.version = Some("1999-01-01")), 400);
        assert_eq!(status(|f| f.version = Some("2025-06-18")), 200);
        assert_eq!(status(|f| f.version = Some("2026-07-28")), 200);
        for (method, session, accept, expected) in [
            ("GET", Some("s"), "text/event-stream", 200),
            ("GET", None, "text/event-stream", 400),
            ("GET", Some("s"), "application/json", 400),
            ("DELETE", Some("s"), "", 200),
            ("DELETE", None, "", 400),
            ("PUT", Some("s"), "*/*", 405),
            ("PUT", Some("s"), "", 400),
        ] {
            let shown = format!("{method} {session:?} {accept}");
            let got = status(|f| (f.method, f.session_id, f.accept) = (method, session, vec![accept]));
            assert_eq!(got, expected, "{shown}");
        }
    }

    #[test]
    fn foreign_hosts_and_sites_are_refused() {
        for host in ["localhost", "LOCALHOST:1", "127.0.0.2:80", "[::1]:80"] {
            assert_eq!(status(|f| f.host = host), 200, "{host}");
        }
        for host in ["evil.example", "127.0.0.1.evil.example:80", "", "10.0.0.1"] {
            assert_eq!(status(|f| f.host = host), 403, "{host}");
            assert_eq!(status(|f| (f.local, f.host) = (false, host)), 200, "{host}");
        }
        assert_eq!(status(|f| f.origin = Some("http://127.0.0.1:80")), 200);
        assert_eq!(status(|f| f.origin = Some("http://evil.example")), 403);
        assert_eq!(status(|f| f.origin = Some("null")), 403);
        assert_eq!(status(|f| f.fetch_site = Some("cross-site")), 403);
        assert_eq!(status(|f| f.fetch_site = Some("none")), 200);
    }
}
