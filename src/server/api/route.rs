//! Paths: which resource a request is for.

use std::borrow::Cow;

use super::shim::{Endpoint, Part};
use crate::net::percent_decoded;

/// A resource. Segments are as sent, still percent-encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route<'a> {
    /// `/v1/mcp/{tunnel}[/{channel}]`.
    Mcp { tunnel: &'a str, channel: &'a str },
    /// `/.well-known/oauth-protected-resource/v1/mcp/{tunnel}`.
    ProtectedResource { tunnel: &'a str },
    /// What is served for an authorization server of the tunnel.
    AuthorizationServer { tunnel: &'a str, server: &'a str, part: Part },
    /// `/v1/tunnels`.
    Tunnels,
    /// `/v1/tunnels/{tunnel}`.
    Tunnel { tunnel: &'a str },
    /// `/v1/tunnels/{tunnel}/poll`.
    Poll { tunnel: &'a str },
    /// `/v1/tunnels/{tunnel}/response`.
    Response { tunnel: &'a str },
    /// `/v1/tunnels/{tunnel}/clients`.
    Clients { tunnel: &'a str },
    /// `/v1/tunnels/{tunnel}/cloudflare/runtime`.
    CloudflareRuntime { tunnel: &'a str },
    /// Anything else below `/v1/tunnels`.
    UnknownClient,
    /// `/readyz`.
    Ready,
    /// `/healthz`.
    Health,
    /// `/metrics`.
    Metrics,
    /// Nothing that exists.
    Unknown,
}

impl<'a> Route<'a> {
    /// The resource at `path`, below `prefix`. What operators look at is found without it as well.
    pub(super) fn of(path: &'a str, prefix: &str) -> Route<'a> {
        let Some(below) = path.strip_prefix(prefix) else {
            // A well-known path is put before that of the resource (RFC 8615 §3), a prefix included.
            let moved = path.strip_prefix("/.well-known/").and_then(|rest| rest.split_once('/'));
            let moved = moved.and_then(|(name, rest)| {
                let rest = rest.strip_prefix(prefix.trim_start_matches('/'))?;
                suffixed(name, rest.strip_prefix('/')?)
            });
            return moved.unwrap_or_else(|| operator(path));
        };
        if let Some(rest) = below.strip_prefix("/v1/mcp/") {
            return mcp(rest).map_or(Route::Unknown, |(tunnel, channel)| Route::Mcp { tunnel, channel });
        }
        // The singular form serves old clients and is not advertised.
        let client = below.strip_prefix("/v1/tunnels").or_else(|| below.strip_prefix("/v1/tunnel"));
        match client {
            Some("" | "/") => return Route::Tunnels,
            Some(rest) if rest.starts_with('/') => return client_route(&rest[1..]),
            Some(_) | None => {}
        }
        if let Some(rest) = below.strip_prefix("/v1/oauth/") {
            return authorization_server(rest).unwrap_or(Route::Unknown);
        }
        well_known(below).unwrap_or_else(|| operator(below))
    }

    /// The route's place in [`LABELS`].
    pub(super) fn number(self) -> usize {
        match self {
            Route::Mcp { .. } => 0,
            Route::ProtectedResource { .. } | Route::AuthorizationServer { .. } => 1,
            Route::Tunnels => 2,
            Route::Tunnel { .. } => 3,
            Route::Poll { .. } => 4,
            Route::Response { .. } => 5,
            Route::CloudflareRuntime { .. } => 6,
            Route::Ready => 7,
            Route::Health => 8,
            Route::Metrics => 9,
            Route::UnknownClient | Route::Unknown => 10,
            Route::Clients { .. } => 11,
        }
    }
}

/// The routes' names in metrics.
pub(super) const LABELS: [&str; 12] = [
    "mcp",
    "oauth",
    "tunnels",
    "tunnel",
    "poll",
    "response",
    "cloudflare_runtime",
    "readyz",
    "healthz",
    "metrics",
    "unknown",
    "clients",
];

/// One or two segments; nothing after the first slash means the channel `main`.
fn mcp(rest: &str) -> Option<(&str, &str)> {
    let (tunnel, channel) = rest.split_once('/').unwrap_or((rest, ""));
    (!tunnel.is_empty() && !channel.contains('/')).then_some((tunnel, channel))
}

/// `/.well-known/{name}/…`.
fn well_known(path: &str) -> Option<Route<'_>> {
    let (name, rest) = path.strip_prefix("/.well-known/")?.split_once('/')?;
    suffixed(name, rest)
}

/// The document `name` of the resource at `rest`, which starts with `v1/`.
fn suffixed<'a>(name: &str, rest: &'a str) -> Option<Route<'a>> {
    match name {
        "oauth-protected-resource" => {
            let tunnel = rest.strip_prefix("v1/mcp/")?;
            let whole = !tunnel.is_empty() && !tunnel.contains('/');
            whole.then_some(Route::ProtectedResource { tunnel })
        }
        "oauth-authorization-server" | "openid-configuration" => {
            let (tunnel, server) = rest.strip_prefix("v1/oauth/")?.split_once('/')?;
            let whole = !tunnel.is_empty() && !server.is_empty() && !server.contains('/');
            whole.then_some(Route::AuthorizationServer { tunnel, server, part: Part::Metadata })
        }
        _ => None,
    }
}

/// `{tunnel}/{server}/…`.
fn authorization_server(rest: &str) -> Option<Route<'_>> {
    let (tunnel, rest) = rest.split_once('/')?;
    let (server, rest) = rest.split_once('/')?;
    let part = match rest {
        ".well-known/openid-configuration" => Part::Metadata,
        segment => Part::Endpoint(Endpoint::of_segment(segment)?),
    };
    Some(Route::AuthorizationServer { tunnel, server, part })
}

fn client_route(rest: &str) -> Route<'_> {
    let (tunnel, rest) = rest.split_once('/').unwrap_or((rest, ""));
    match rest {
        "" => Route::Tunnel { tunnel },
        "poll" => Route::Poll { tunnel },
        "response" => Route::Response { tunnel },
        "clients" => Route::Clients { tunnel },
        "cloudflare/runtime" => Route::CloudflareRuntime { tunnel },
        _ => Route::UnknownClient,
    }
}

fn operator(path: &str) -> Route<'_> {
    match path {
        "/readyz" => Route::Ready,
        "/healthz" => Route::Health,
        "/metrics" => Route::Metrics,
        _ => Route::Unknown,
    }
}

/// The text of a segment or value whose escapes are undone; `None` when one is broken or it is no UTF-8.
pub(super) fn percent_decode(text: &str) -> Option<Cow<'_, str>> {
    match percent_decoded(text)? {
        Cow::Borrowed(_) => Some(Cow::Borrowed(text)),
        Cow::Owned(bytes) => String::from_utf8(bytes).ok().map(Cow::Owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_their_resources() {
        let server = |part| Route::AuthorizationServer { tunnel: "t", server: "a", part };
        for (path, expected) in [
            ("/v1/mcp/t", Route::Mcp { tunnel: "t", channel: "" }),
            ("/v1/mcp/t/", Route::Mcp { tunnel: "t", channel: "" }),
            ("/v1/mcp/t/c", Route::Mcp { tunnel: "t", channel: "c" }),
            ("/v1/mcp/t/c/", Route::Unknown),
            ("/v1/mcp/t//", Route::Unknown),
            ("/v1/mcp/", Route::Unknown),
            ("/v1/mcp", Route::Unknown),
            ("/v1/tunnels", Route::Tunnels),
            ("/v1/tunnels/t", Route::Tunnel { tunnel: "t" }),
            ("/v1/tunnels/t/poll", Route::Poll { tunnel: "t" }),
            ("/v1/tunnel/t/poll", Route::Poll { tunnel: "t" }),
            ("/v1/tunnels/t/response", Route::Response { tunnel: "t" }),
            ("/v1/tunnels/t/cloudflare/runtime", Route::CloudflareRuntime { tunnel: "t" }),
            ("/v1/tunnels/t/poll/", Route::UnknownClient),
            ("/v1/tunnelsx", Route::Unknown),
            ("/.well-known/oauth-protected-resource/v1/mcp/t", Route::ProtectedResource { tunnel: "t" }),
            ("/.well-known/oauth-protected-resource/v1/mcp/t/c", Route::Unknown),
            ("/v1/oauth/t/a/token", server(Part::Endpoint(Endpoint::Token))),
            ("/v1/oauth/t/a/register", server(Part::Endpoint(Endpoint::Register))),
            ("/v1/oauth/t/a/.well-known/openid-configuration", server(Part::Metadata)),
            ("/.well-known/oauth-authorization-server/v1/oauth/t/a", server(Part::Metadata)),
            ("/.well-known/openid-configuration/v1/oauth/t/a", server(Part::Metadata)),
            ("/.well-known/openid-configuration/v1/oauth/t/a/x", Route::Unknown),
            ("/.well-known/other/v1/oauth/t/a", Route::Unknown),
            ("/v1/oauth/t/a/authorize", Route::Unknown),
            ("/v1/oauth/t/a", Route::Unknown),
            ("/readyz", Route::Ready),
            ("/", Route::Unknown),
            ("*", Route::Unknown),
        ] {
            assert_eq!(Route::of(path, ""), expected, "{path}");
        }
    }

    #[test]
    fn below_a_prefix_only_the_prefix_counts() {
        assert_eq!(Route::of("/gw/v1/mcp/t", "/gw"), Route::Mcp { tunnel: "t", channel: "" });
        assert_eq!(Route::of("/v1/mcp/t", "/gw"), Route::Unknown);
        let resource = Route::ProtectedResource { tunnel: "t" };
        assert_eq!(Route::of("/gw/.well-known/oauth-protected-resource/v1/mcp/t", "/gw"), resource);
        assert_eq!(Route::of("/.well-known/oauth-protected-resource/gw/v1/mcp/t", "/gw"), resource);
        assert_eq!(Route::of("/.well-known/oauth-protected-resource/v1/mcp/t", "/gw"), Route::Unknown);
        assert_eq!(Route::of("/readyz", "/gw"), Route::Ready);
        assert_eq!(Route::of("/gw/readyz", "/gw"), Route::Ready);
    }

    #[test]
    fn escapes_are_decoded_once() {
        assert_eq!(percent_decode("a%2Fb%2520").as_deref(), Some("a/b%20"));
        for bad in ["%", "%2", "%zz", "%+1", "%ff"] {
            assert_eq!(percent_decode(bad), None, "{bad}");
        }
    }
}
