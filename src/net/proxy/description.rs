//! Routes as operators see them.

use std::collections::BTreeSet;

use serde::Serialize;

use super::Decision;
use crate::net::{Origin, Via};

/// What a route is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteKind {
    /// The control plane.
    ControlPlane,
    /// The MCP server of a channel.
    McpChannel,
    /// An allow-listed target.
    HarpoonTarget,
}

impl RouteKind {
    /// The kind's name in logs and status.
    pub fn label(self) -> &'static str {
        match self {
            RouteKind::ControlPlane => "control_plane",
            RouteKind::McpChannel => "mcp_channel",
            RouteKind::HarpoonTarget => "harpoon_target",
        }
    }
}

/// How one target is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RouteDescription {
    /// What it is for.
    pub kind: RouteKind,
    /// `control-plane`, the channel or the target's label.
    pub name: String,
    /// `host:port`; empty for a child process.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub target: String,
    /// `direct` or `proxy`.
    pub route_mode: &'static str,
    /// The setting that supplied the proxy, `none`, or `ignored` where no proxy can apply.
    pub proxy_source: String,
    /// `scheme://host[:port]` of the proxy.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub proxy_url: String,
    /// SHA-256 of `proxy_url`, hex.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub proxy_id: String,
}

/// One proxy that is in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProxyIdentity {
    /// SHA-256 of `proxy_url`, hex.
    pub proxy_id: String,
    /// `scheme://host[:port]`.
    pub proxy_url: String,
    /// Where it was set.
    pub proxy_source: String,
}

impl RouteDescription {
    /// The route to `target` along `via`, as it would be dialled.
    pub fn of(kind: RouteKind, name: impl Into<String>, target: &Origin, via: &Via) -> RouteDescription {
        let mut route = RouteDescription::without_target(kind, name, "none");
        route.target = target.host_and_port();
        match via {
            Via::Direct => {}
            Via::Unix(_) => route.proxy_source = "ignored".into(),
            Via::Proxies(policy) => {
                if let Decision::Proxy { proxy, source } = policy.decide(target) {
                    route.route_mode = "proxy";
                    route.proxy_source = source;
                    route.proxy_url = proxy.to_string();
                    route.proxy_id = proxy.id();
                }
            }
        }
        route
    }

    /// The route to a child process, which no proxy setting concerns.
    pub fn of_child(kind: RouteKind, name: impl Into<String>) -> RouteDescription {
        RouteDescription::without_target(kind, name, "ignored")
    }

    fn without_target(kind: RouteKind, name: impl Into<String>, proxy_source: &str) -> RouteDescription {
        RouteDescription {
            kind,
            name: name.into(),
            target: String::new(),
            route_mode: "direct",
            proxy_source: proxy_source.into(),
            proxy_url: String::new(),
            proxy_id: String::new(),
        }
    }
}

/// Each proxy of `routes` once; the first route that uses it names its source.
pub fn proxy_identities(routes: &[RouteDescription]) -> Vec<ProxyIdentity> {
    let mut seen = BTreeSet::new();
    let proxied = routes.iter().filter(|route| !route.proxy_id.is_empty());
    proxied
        .filter(|route| seen.insert(&route.proxy_id))
        .map(|route| ProxyIdentity {
            proxy_id: route.proxy_id.clone(),
            proxy_url: route.proxy_url.clone(),
            proxy_source: route.proxy_source.clone(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{EnvironmentProxies, ProxyPolicy, ProxyUrl};
    use std::sync::Arc;

    fn describe(target: &str, via: &Via) -> String {
        let origin = Origin::of(&target.parse().unwrap()).unwrap();
        let route = RouteDescription::of(RouteKind::ControlPlane, "control-plane", &origin, via);
        serde_json::to_string(&route).unwrap()
    }

    #[test]
    fn a_proxied_route_names_its_proxy_without_credentials() {
        let proxy = ProxyUrl::parse("HTTP://User:pw@Proxy.Example.COM:8080/x?y").unwrap();
        let via = Via::Proxies(ProxyPolicy::Fixed { proxy, source: "http-proxy".into() });
        assert_eq!(
            describe("https://api.example.com/x", &via),
            concat!(
                r#"{"kind":"control_plane","name":"control-plane","target":"api.example.com:443","#,
                r#""route_mode":"proxy","proxy_source":"http-proxy","#,
                r#""proxy_url":"http://proxy.example.com:8080","#,
                r#""proxy_id":"6c43a61d04d3c4d829ed457f9b300a29435c41f90f4cbd615f7346313e3af555"}"#,
            )
        );
    }

    #[test]
    fn a_route_reads_as_it_is_dialled() {
        let variables = |name: &str| match name {
            "HTTPS_PROXY" => Some("proxy:3128".to_owned()),
            "NO_PROXY" => Some("10.0.0.0/8".to_owned()),
            _ => None,
        };
        let policy = ProxyPolicy::Environment(Arc::new(EnvironmentProxies::from_lookup(variables)));
        let via = Via::Proxies(policy);
        assert!(describe("https://a.example", &via).contains(r#""proxy_source":"env:HTTPS_PROXY""#));
        for direct in ["http://a.example", "https://10.1.1.1", "https://localhost:8443"] {
            let shown = describe(direct, &via);
            assert!(shown.ends_with(r#""route_mode":"direct","proxy_source":"none"}"#), "{shown}");
        }
        let unix = Via::Unix("/run/s".into());
        assert!(describe("https://a.example", &unix).ends_with(r#""direct","proxy_source":"ignored"}"#));
    }

    #[test]
    fn each_proxy_is_listed_once_with_its_first_source() {
        let route = |source: &str, url: &str| {
            let via = Via::Proxies(ProxyPolicy::Fixed {
                proxy: ProxyUrl::parse(url).unwrap(),
                source: source.into(),
            });
            RouteDescription::of(
                RouteKind::McpChannel,
                "main",
                &Origin::of(&"http://t".parse().unwrap()).unwrap(),
                &via,
            )
        };
        let routes = [
            RouteDescription::of_child(RouteKind::McpChannel, "child"),
            route("first", "http://p:1"),
            route("second", "http://u:x@p:1/"),
            route("third", "http://p:2"),
        ];
        let listed: Vec<_> = proxy_identities(&routes).into_iter().map(|p| p.proxy_source).collect();
        assert_eq!(listed, ["first", "third"]);
    }
}
