//! `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use super::ProxyUrl;
use crate::net::{Origin, connection::is_localhost};

/// A snapshot of the proxy variables.
#[derive(Debug, Default)]
pub struct EnvironmentProxies {
    http: Option<(ProxyUrl, &'static str)>,
    https: Option<(ProxyUrl, &'static str)>,
    exceptions: Vec<Exception>,
}

/// One entry of `NO_PROXY`.
#[derive(Debug, PartialEq, Eq)]
enum Exception {
    /// `*`
    Everything,
    /// An address, perhaps on one port only.
    Address(IpAddr, Option<u16>),
    /// Addresses that share the first bits.
    Network(IpAddr, u8),
    /// Names below a domain (kept with its leading dot), perhaps the domain itself, perhaps on one port.
    Domain { suffix: String, itself: bool, port: Option<u16> },
    /// What can never match: kept out of the list.
    Nothing,
}

impl EnvironmentProxies {
    /// The process's variables, read at the first call.
    pub fn of_process() -> Arc<EnvironmentProxies> {
        static SNAPSHOT: OnceLock<Arc<EnvironmentProxies>> = OnceLock::new();
        let read = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        Arc::clone(SNAPSHOT.get_or_init(|| Arc::new(EnvironmentProxies::from_lookup(read))))
    }

    /// Takes the variables from `lookup`. The upper-case name wins; an empty value is as good as none.
    /// A value that is no proxy URL is ignored.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> EnvironmentProxies {
        let first = |names: [&'static str; 2]| {
            names.into_iter().find_map(|name| Some((lookup(name).filter(|value| !value.is_empty())?, name)))
        };
        let proxy = |names| {
            let (value, name) = first(names)?;
            Some((parse_proxy(&value)?, name))
        };
        let exceptions = first(["NO_PROXY", "no_proxy"]).map(|(list, _)| parse_exceptions(&list));
        EnvironmentProxies {
            http: proxy(["HTTP_PROXY", "http_proxy"]),
            https: proxy(["HTTPS_PROXY", "https_proxy"]),
            exceptions: exceptions.unwrap_or_default(),
        }
    }

    /// The proxy for `target` and the variable that holds it.
    pub fn proxy_for(&self, target: &Origin) -> Option<(&ProxyUrl, &'static str)> {
        let (proxy, name) = if target.is_https() { self.https.as_ref() } else { self.http.as_ref() }?;
        let exempt = is_loopback(target.host()) || self.exceptions.iter().any(|e| e.covers(target));
        (!exempt).then_some((proxy, name))
    }
}

fn is_loopback(host: &str) -> bool {
    is_localhost(host) || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

/// A value without a scheme is an `http` proxy.
fn parse_proxy(value: &str) -> Option<ProxyUrl> {
    let value = value.trim();
    if value.contains("://") {
        ProxyUrl::parse_any(value).ok()
    } else {
        ProxyUrl::parse_any(&format!("http://{value}")).ok()
    }
}

fn parse_exceptions(list: &str) -> Vec<Exception> {
    list.split(',').map(Exception::parse).filter(|exception| *exception != Exception::Nothing).collect()
}

impl Exception {
    fn parse(entry: &str) -> Exception {
        let entry = entry.trim().to_ascii_lowercase();
        if entry == "*" {
            return Exception::Everything;
        }
        if let Some(network) = parse_network(&entry) {
            return network;
        }
        let (host, port) = split_port(&entry);
        if let Ok(address) = host.parse::<IpAddr>() {
            return Exception::Address(address.to_canonical(), port);
        }
        let host = host.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(host);
        if host.is_empty() || host == "." {
            return Exception::Nothing;
        }
        let itself = !host.starts_with('.');
        let suffix = if itself { format!(".{host}") } else { host.to_owned() };
        Exception::Domain { suffix, itself, port }
    }

    fn covers(&self, target: &Origin) -> bool {
        let host = target.host();
        let address = || host.parse::<IpAddr>().ok().map(|address| address.to_canonical());
        let port_fits = |port: &Option<u16>| port.is_none_or(|port| port == target.port());
        match self {
            Exception::Everything => true,
            Exception::Address(ip, port) => address() == Some(*ip) && port_fits(port),
            Exception::Network(network, bits) => address().is_some_and(|ip| shares(ip, *network, *bits)),
            Exception::Domain { suffix, itself, port } => {
                let host = host.strip_suffix('.').unwrap_or(host);
                (host.ends_with(suffix.as_str()) || *itself && host == &suffix[1..]) && port_fits(port)
            }
            Exception::Nothing => false,
        }
    }
}

/// `address/bits`
fn parse_network(entry: &str) -> Option<Exception> {
    let (address, bits) = entry.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.parse().ok().filter(|bits| *bits <= longest)?;
    Some(Exception::Network(address, bits))
}

/// Whether both addresses are of one family and start with the same `bits`.
fn shares(ip: IpAddr, network: IpAddr, bits: u8) -> bool {
    match (ip, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            (a.to_bits() ^ b.to_bits()) & mask == 0
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            (a.to_bits() ^ b.to_bits()) & mask == 0
        }
        _ => false,
    }
}

/// Host, without brackets, and port. A lone IPv6 literal has colons but no port.
fn split_port(entry: &str) -> (&str, Option<u16>) {
    if let Some(rest) = entry.strip_prefix('[')
        && let Some((host, tail)) = rest.split_once(']')
    {
        return (host, tail.strip_prefix(':').and_then(|port| port.parse().ok()));
    }
    match entry.split_once(':') {
        Some((host, port)) if !port.contains(':') => match port.parse() {
            Ok(port) => (host, Some(port)),
            Err(_) if port.is_empty() => (host, None),
            // `host:name` can match nothing.
            Err(_) => ("", None),
        },
        _ => (entry, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> EnvironmentProxies {
        EnvironmentProxies::from_lookup(|name| {
            variables.iter().find(|(have, _)| *have == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn origin(uri: &str) -> Origin {
        Origin::of(&uri.parse().unwrap()).unwrap()
    }

    #[test]
    fn each_scheme_has_its_own_variable_and_upper_case_wins() {
        let set = proxies(&[
            ("HTTPS_PROXY", "secure.example:3128"),
            ("https_proxy", "http://other"),
            ("HTTP_PROXY", ""),
            ("http_proxy", "http://plain.example"),
        ]);
        let found = |uri| set.proxy_for(&origin(uri)).map(|(proxy, name)| (proxy.to_string(), name));
        assert_eq!(found("https://a"), Some(("http://secure.example:3128".into(), "HTTPS_PROXY")));
        assert_eq!(found("http://a"), Some(("http://plain.example".into(), "http_proxy")));

        let only_http = proxies(&[("HTTP_PROXY", "http://p")]);
        assert_eq!(only_http.proxy_for(&origin("https://a")), None, "HTTP_PROXY is not for https targets");

        let socks = proxies(&[("HTTPS_PROXY", "socks5://s"), ("HTTP_PROXY", "http://:bad")]);
        assert!(socks.proxy_for(&origin("https://a")).is_some());
        assert_eq!(socks.proxy_for(&origin("http://a")), None);
    }

    #[test]
    fn no_proxy_entries_exempt_what_they_name() {
        for (list, target, exempt) in [
            ("*", "http://a.example", true),
            ("a.example", "http://a.example", true),
            ("a.example", "http://b.a.example", true),
            ("a.example", "http://ba.example", false),
            ("A.Example", "http://a.EXAMPLE", true),
            (".a.example", "http://a.example", false),
            (".a.example", "http://b.a.example", true),
            ("*.a.example", "http://b.a.example", true),
            ("*.a.example", "http://a.example", false),
            ("a.example:80", "http://a.example", true),
            ("a.example:443", "https://a.example", true),
            ("a.example:81", "http://a.example", false),
            ("a.example:81", "http://a.example:81", true),
            ("x, a.example ,y", "http://a.example", true),
            ("10.1.2.3", "http://10.1.2.3", true),
            ("10.1.2.3", "http://10.1.2.30", false),
            ("10.1.2.3:8080", "http://10.1.2.3:8080", true),
            ("10.1.2.3:8080", "http://10.1.2.3", false),
            ("10.0.0.0/8", "http://10.200.0.1", true),
            ("10.0.0.0/8", "http://11.0.0.1", false),
            ("10.0.0.0/8", "http://name.example", false),
            ("0.0.0.0/0", "http://11.0.0.1", true),
            ("2001:db8::/32", "http://[2001:db8:1::1]", true),
            ("2001:db8::/32", "http://[2001:db9::1]", false),
            ("2001:db8::1", "http://[2001:db8::1]", true),
            ("[2001:db8::1]:81", "http://[2001:db8::1]:81", true),
            ("[2001:db8::1]:81", "http://[2001:db8::1]", false),
            ("", "http://a.example", false),
            (",,.", "http://a.example", false),
            ("10.0.0.0/99", "http://10.0.0.0", false),
        ] {
            let set = proxies(&[("HTTP_PROXY", "p"), ("HTTPS_PROXY", "p"), ("NO_PROXY", list)]);
            assert_eq!(set.proxy_for(&origin(target)).is_none(), exempt, "{list:?} {target}");
        }
        let lower = proxies(&[("HTTP_PROXY", "p"), ("no_proxy", "a")]);
        assert!(lower.proxy_for(&origin("http://a")).is_none());
    }

    #[test]
    fn loopback_targets_are_never_proxied() {
        let set = proxies(&[("HTTP_PROXY", "p"), ("HTTPS_PROXY", "p")]);
        for target in ["http://localhost:1", "https://LOCALHOST", "http://127.9.9.9", "https://[::1]:1"] {
            assert!(set.proxy_for(&origin(target)).is_none(), "{target}");
        }
        assert!(set.proxy_for(&origin("http://localhost.example")).is_some());
    }
}
