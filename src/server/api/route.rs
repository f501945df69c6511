//! Paths: which resource a request is for.

use std::borrow::Cow;

/// A resource. Segments are as sent, still percent-encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route<'a> {
    /// `/v1/mcp/{tunnel}[/{channel}]`.
    Mcp { tunnel: &'a str, channel: &'a str },
    /// `/.well-known/oauth-protected-resource/v1/mcp/{tunnel}`.
    ProtectedResource { tunnel: &'a str },
    /// Any other OAuth path.
    Oauth,
    /// `/v1/tunnels`.
    Tunnels,
    /// `/v1/tunnels/{tunnel}`.
    Tunnel { tunnel: &'a str },
    /// `/v1/tunnels/{tunnel}/poll`.
    Poll { tunnel: &'a str },
    /// `/v1/tunnels/{tunnel}/response`.
    Response { tunnel: &'a str },
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
        let Some(below) = path.strip_prefix(prefix) else { return operator(path) };
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
        if let Some(rest) = below.strip_prefix("/.well-known/oauth-protected-resource/v1/mcp/") {
            let whole = !rest.is_empty() && !rest.contains('/');
            return if whole { Route::ProtectedResource { tunnel: rest } } else { Route::Unknown };
        }
        let oauth =
            ["/v1/oauth/", "/.well-known/oauth-authorization-server/", "/.well-known/openid-configuration/"];
        if oauth.iter().any(|start| below.starts_with(start)) {
            return Route::Oauth;
        }
        operator(below)
    }

    /// The route's place in [`LABELS`].
    pub(super) fn number(self) -> usize {
        match self {
            Route::Mcp { .. } => 0,
            Route::ProtectedResource { .. } | Route::Oauth => 1,
            Route::Tunnels => 2,
            Route::Tunnel { .. } => 3,
            Route::Poll { .. } => 4,
            Route::Response { .. } => 5,
            Route::CloudflareRuntime { .. } => 6,
            Route::Ready => 7,
            Route::Health => 8,
            Route::Metrics => 9,
            Route::UnknownClient | Route::Unknown => 10,
        }
    }
}

/// The routes' names in metrics.
pub(super) const LABELS: [&str; 11] = [
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
];

/// One or two segments; nothing after the first slash means the channel `main`.
fn mcp(rest: &str) -> Option<(&str, &str)> {
    let (tunnel, channel) = rest.split_once('/').unwrap_or((rest, ""));
    (!tunnel.is_empty() && !channel.contains('/')).then_some((tunnel, channel))
}

fn client_route(rest: &str) -> Route<'_> {
    let (tunnel, rest) = rest.split_once('/').unwrap_or((rest, ""));
    match rest {
        "" => Route::Tunnel { tunnel },
        "poll" => Route::Poll { tunnel },
        "response" => Route::Response { tunnel },
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

/// Decodes `%XX` once; `None` when an escape is malformed or the result is no UTF-8.
pub(super) fn percent_decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        if byte != b'%' {
            bytes.push(byte);
            rest = after;
            continue;
        }
        let digits = after.get(..2)?;
        let digit = |at: usize| char::from(digits[at]).to_digit(16);
        bytes.push((digit(0)? << 4 | digit(1)?) as u8);
        rest = &after[2..];
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_their_resources() {
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
            ("/v1/oauth/t/a/token", Route::Oauth),
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
