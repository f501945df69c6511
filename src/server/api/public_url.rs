//! The URL under which callers reach this server.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::ids::TunnelId;
use crate::net::front::{Exchange, Head};

/// A network of trusted proxies, in CIDR notation; a bare address is a network of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) struct Network {
    address: IpAddr,
    bits: u32,
}

/// The text is no network.
#[derive(Debug)]
pub(in crate::server) struct BadNetwork;

impl FromStr for Network {
    type Err = BadNetwork;

    fn from_str(text: &str) -> Result<Network, BadNetwork> {
        let (address, bits) =
            text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| BadNetwork)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), |bits| bits.parse().map_err(|_| BadNetwork))?;
        if bits > most { Err(BadNetwork) } else { Ok(Network { address, bits }) }
    }
}

impl fmt::Display for BadNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it is neither an IP address nor a network like 10.0.0.0/8")
    }
}

impl Network {
    fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => {
                let mask = u32::MAX.checked_shl(32 - self.bits).unwrap_or(0);
                u32::from(net) & mask == u32::from(ip) & mask
            }
            (IpAddr::V6(net), IpAddr::V6(ip)) => {
                let mask = u128::MAX.checked_shl(128 - self.bits).unwrap_or(0);
                u128::from(net) & mask == u128::from(ip) & mask
            }
            _ => false,
        }
    }
}

/// How the public URL is known.
#[derive(Clone, Debug, Default)]
pub(in crate::server) struct PublicUrl {
    /// As configured, without a trailing slash; replaces scheme, host, port and path prefix.
    pub(in crate::server) base: Option<String>,
    /// Peers whose `X-Forwarded-*` are believed.
    pub(in crate::server) trusted_proxies: Vec<Network>,
    /// Follows scheme, host and port where no base is configured.
    pub(in crate::server) path_prefix: String,
}

impl PublicUrl {
    /// The well-known URL of the tunnel's protected-resource metadata (RFC 9728 §3.1).
    pub(super) fn protected_resource(
        &self,
        head: &Head,
        exchange: &Exchange<'_>,
        tunnel: &TunnelId,
    ) -> String {
        format!("{}/.well-known/oauth-protected-resource/v1/mcp/{tunnel}", self.base(head, exchange))
    }

    /// The URL of the tunnel's MCP endpoint.
    pub(super) fn mcp(&self, head: &Head, exchange: &Exchange<'_>, tunnel: &TunnelId) -> String {
        format!("{}/v1/mcp/{tunnel}", self.base(head, exchange))
    }

    /// The issuer that stands for an authorization server behind the tunnel.
    pub(super) fn authorization_server(
        &self,
        head: &Head,
        exchange: &Exchange<'_>,
        tunnel: &TunnelId,
        server: &str,
    ) -> String {
        format!("{}/v1/oauth/{tunnel}/{server}", self.base(head, exchange))
    }

    fn base(&self, head: &Head, exchange: &Exchange<'_>) -> String {
        if let Some(base) = &self.base {
            return base.clone();
        }
        let peer = exchange.peer();
        let trusted =
            peer.address.is_some_and(|at| self.trusted_proxies.iter().any(|net| net.contains(at.ip())));
        let forwarded = |name: &'static str| {
            let value = head.value(name).filter(|_| trusted)?;
            let first = value.split(',').next().unwrap_or_default().trim();
            is_plain(first).then_some(first)
        };
        let own_scheme = if peer.tls { "https" } else { "http" };
        let scheme =
            forwarded("X-Forwarded-Proto").filter(|s| matches!(*s, "http" | "https")).unwrap_or(own_scheme);
        let own_host = head.value("Host").map(str::trim).filter(|host| is_plain(host));
        let host = forwarded("X-Forwarded-Host").or(own_host).unwrap_or("127.0.0.1");
        format!("{scheme}://{host}{}", self.path_prefix)
    }
}

/// Whether it can stand in a URL as a host with port, or as a scheme.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_contain_their_addresses() {
        for (network, address, expected) in [
            ("10.0.0.0/8", "10.255.1.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.1.1.1", true),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.8", false),
            ("0.0.0.0/0", "203.0.113.1", true),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("2001:db8::/32", "10.0.0.1", false),
        ] {
            let network: Network = network.parse().unwrap();
            assert_eq!(network.contains(address.parse().unwrap()), expected, "{network:?} {address}");
        }
        for bad in ["", "10.0.0.0/33", "host", "10.0.0.0/x"] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }
}
