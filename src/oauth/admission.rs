//! Which discovered URLs the embedded caller may be allowed to reach.
//!
//! A host is private by its name or address alone: no name is looked up. Invariant: being private admits
//! nothing that is not on the MCP server's own origin.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use regex_lite::{Regex, RegexBuilder};
use url::Url;

use super::bundle::{Entry, Trust};
use crate::config::Harpoon;

/// Why an entry is admitted that is the protected resource's, or with it on one origin.
const RESOURCE_HOST: &str = "oauth-protected-resource-host";
/// Why an entry with a private host is not.
const NOT_OWN: &str = "private-host-registration-disabled";

/// What makes a host private.
pub struct PrivateHosts {
    loopback: bool,
    private: bool,
    /// Lower case, without a leading dot.
    suffixes: Vec<String>,
    patterns: Vec<(String, Regex)>,
}

impl PrivateHosts {
    /// As configured.
    pub fn new(settings: &Harpoon) -> PrivateHosts {
        let compiled = settings.hosts_include_regex.iter().filter_map(|pattern| {
            // They have compiled when the configuration was loaded.
            let regex = RegexBuilder::new(pattern).case_insensitive(true).build().ok()?;
            Some((pattern.clone(), regex))
        });
        PrivateHosts {
            loopback: settings.hosts_include_loopback,
            private: settings.hosts_include_private,
            suffixes: settings.hosts_include_suffix.clone(),
            patterns: compiled.collect(),
        }
    }

    /// Why `host` is private; `None` if it is not.
    fn reason(&self, host: &str) -> Option<String> {
        let host = host.trim_matches(['[', ']']).trim().to_lowercase();
        let host = host.strip_suffix('.').unwrap_or(&host);
        let address = host.parse::<IpAddr>().ok().map(unmapped);
        if self.loopback && (host == "localhost" || address.is_some_and(|address| address.is_loopback())) {
            return Some("loopback".to_owned());
        }
        if self.private && address.is_some_and(is_private) {
            return Some("private-ip".to_owned());
        }
        let below = |suffix: &str| {
            host.strip_suffix(suffix).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        if let Some(suffix) = self.suffixes.iter().find(|suffix| below(suffix)) {
            return Some(format!("suffix:.{suffix}"));
        }
        let (pattern, _) = self.patterns.iter().find(|(_, regex)| regex.is_match(host))?;
        Some(format!("regex:(?i:{pattern})"))
    }
}

impl Entry {
    /// Why the embedded caller may be allowed to reach it, or else why not (which may be empty).
    pub fn admission(&self, hosts: &PrivateHosts) -> Result<String, &'static str> {
        let host = Url::parse(&self.url).ok().and_then(|url| url.host_str().map(str::to_owned));
        let private = host.and_then(|host| hosts.reason(&host));
        match (self.trust, private) {
            (Trust::Own { as_private: true, .. }, Some(reason)) => Ok(reason),
            (Trust::Own { as_resource: true, .. }, _) => Ok(RESOURCE_HOST.to_owned()),
            (_, Some(_)) => Err(NOT_OWN),
            (_, None) => Err(""),
        }
    }
}

/// The IPv4 address in a mapped one.
fn unmapped(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => Ipv4Addr::is_private(&address),
        IpAddr::V6(address) => Ipv6Addr::is_unique_local(&address),
    }
}

#[cfg(test)]
mod tests {
    use super::super::bundle::{Sources, entries};
    use super::super::documents::{ResourceMetadata, ServerMetadata};
    use super::*;

    fn hosts(suffixes: &[&str], patterns: &[&str]) -> PrivateHosts {
        let build = |text: &&str| RegexBuilder::new(text).case_insensitive(true).build().unwrap();
        PrivateHosts {
            loopback: true,
            private: true,
            suffixes: suffixes.iter().map(|text| (*text).to_owned()).collect(),
            patterns: patterns.iter().map(|text| ((*text).to_owned(), build(text))).collect(),
        }
    }

    #[test]
    fn hosts_are_private_by_name_or_address() {
        let hosts = hosts(&["internal", "corp.example"], &["^MCP[0-9]+$"]);
        for (host, reason) in [
            ("localhost", Some("loopback")),
            ("LOCALHOST.", Some("loopback")),
            ("127.8.0.1", Some("loopback")),
            ("[::1]", Some("loopback")),
            ("[::ffff:127.0.0.1]", Some("loopback")),
            ("10.0.0.5", Some("private-ip")),
            ("172.16.0.1", Some("private-ip")),
            ("172.32.0.1", None),
            ("192.168.1.1", Some("private-ip")),
            ("[fd12::1]", Some("private-ip")),
            ("[::ffff:10.1.1.1]", Some("private-ip")),
            ("169.254.1.1", None),
            ("100.64.0.1", None),
            ("[fe80::1]", None),
            ("internal", Some("suffix:.internal")),
            ("api.Internal", Some("suffix:.internal")),
            ("notinternal", None),
            ("corp.example", Some("suffix:.corp.example")),
            ("mcp7", Some("regex:(?i:^MCP[0-9]+$)")),
            ("foo.localhost", None),
            ("notlocalhost", None),
            ("as.example", None),
        ] {
            assert_eq!(hosts.reason(host).as_deref(), reason, "{host}");
        }
        let off = PrivateHosts { loopback: false, private: false, suffixes: vec![], patterns: vec![] };
        assert!(["localhost", "::1", "10.0.0.1"].iter().all(|host| off.reason(host).is_none()));
    }

    /// What is admitted of a bundle, as `role reason`.
    fn admitted(endpoint: &str, hosts: &PrivateHosts, resource: &str, server: &str) -> Vec<String> {
        let endpoint = Url::parse(endpoint).unwrap();
        let document = endpoint.join("/.well-known/oauth-protected-resource").unwrap();
        let server = ServerMetadata::parse(server).unwrap();
        let place = endpoint.join("/.well-known/oauth-authorization-server").unwrap();
        let found = entries(&Sources {
            endpoint: &endpoint,
            unix_socket: None,
            document: document.as_str(),
            resource: &ResourceMetadata::parse(resource).unwrap(),
            server: Some((place.as_str(), &server)),
        });
        let admitted = found.iter().filter_map(|entry| Some((entry.role, entry.admission(hosts).ok()?)));
        admitted.map(|(role, reason)| format!("{role} {reason}")).collect()
    }

    #[test]
    fn only_what_is_on_the_servers_own_origin_is_admitted() {
        let none = hosts(&[], &[]);
        let resource = r#"{"resource":"https://mcp.corp.example/mcp","authorization_servers":["https://mcp.corp.example"]}"#;
        let server = r#"{"issuer":"https://idp.example.com/","token_endpoint":"https://10.0.0.5/admin",
            "registration_endpoint":"https://mcp.corp.example/register","jwks_uri":"http://localhost/jwks",
            "revocation_endpoint":"https://mcp.corp.example:8443/r"}"#;
        let found = admitted("https://mcp.corp.example/mcp", &none, resource, server);
        let roles: Vec<&str> = found.iter().filter_map(|line| line.split(' ').next()).collect();
        let expected = [
            "prmd-resource",
            "prmd-auth-server",
            "prmd-source",
            "auth-server-metadata",
            "registration-endpoint",
        ];
        assert_eq!(roles, expected);
        assert!(found.iter().all(|line| line.ends_with(RESOURCE_HOST)), "{found:?}");
    }

    #[test]
    fn a_private_server_vouches_for_itself_and_for_no_other() {
        let none = hosts(&[], &[]);
        // Its authorization server is elsewhere: what that says is trusted at the resource's own origin only.
        let elsewhere = r#"{"resource":"https://public/","authorization_servers":["https://as"]}"#;
        let server = r#"{"issuer":"https://as","token_endpoint":"https://10.0.0.1/t"}"#;
        let document_elsewhere = |resource: &str, own_document: bool| {
            let endpoint = Url::parse("https://10.0.0.1/mcp").unwrap();
            let document = if own_document { "https://10.0.0.1/prm" } else { "https://other/prm" };
            let found = entries(&Sources {
                endpoint: &endpoint,
                unix_socket: None,
                document,
                resource: &ResourceMetadata::parse(resource).unwrap(),
                server: Some(("https://as/.well-known/x", &ServerMetadata::parse(server).unwrap())),
            });
            let admitted = found.iter().filter_map(|entry| Some((entry.role, entry.admission(&none).ok()?)));
            admitted.map(|(role, reason)| format!("{role} {reason}")).collect::<Vec<_>>()
        };
        assert_eq!(
            document_elsewhere(elsewhere, true),
            ["prmd-source private-ip", "token-endpoint oauth-protected-resource-host"]
        );
        assert!(document_elsewhere(elsewhere, false).is_empty());
        // A host of one label is as good as any other.
        let single = r#"{"resource":"https://mcp:8443/","authorization_servers":[]}"#;
        assert_eq!(
            admitted("https://mcp:8443/", &none, single, "{}"),
            [
                "prmd-resource oauth-protected-resource-host",
                "prmd-source oauth-protected-resource-host",
                "auth-server-metadata oauth-protected-resource-host"
            ]
        );
    }

    #[test]
    fn entries_of_one_server_share_a_group_and_the_servers_own_share_its_socket() {
        let endpoint = Url::parse("http://localhost/mcp").unwrap();
        let socket = "/run/mcp.sock".into();
        let resource =
            r#"{"resource":"http://localhost/mcp","authorization_servers":["http://localhost/as"]}"#;
        let server = r#"{"issuer":"http://localhost/as","token_endpoint":"http://localhost/as/t",
            "jwks_uri":"http://localhost/elsewhere","revocation_endpoint":"https://other/as/r"}"#;
        let document = "http://localhost/.well-known/oauth-protected-resource";
        let found = entries(&Sources {
            endpoint: &endpoint,
            unix_socket: Some(&socket),
            document,
            resource: &ResourceMetadata::parse(resource).unwrap(),
            server: Some((
                "http://localhost/.well-known/oauth-authorization-server/as",
                &ServerMetadata::parse(server).unwrap(),
            )),
        });
        let group = format!("auth-server:{}:0", &crate::net::hex_sha256(document.as_bytes())[..12]);
        let seen: Vec<_> = found
            .iter()
            .map(|entry| {
                if let Some(have) = &entry.group {
                    assert_eq!(*have, group);
                }
                (entry.role, entry.group.is_some(), entry.unix_socket.is_some())
            })
            .collect();
        assert_eq!(
            seen,
            [
                ("prmd-resource", false, true),
                ("prmd-auth-server", true, true),
                ("prmd-source", false, true),
                ("auth-server-metadata", true, true),
                ("issuer", true, true),
                ("token-endpoint", true, true),
                ("jwks-uri", true, false),
                ("revocation-endpoint", true, false),
            ]
        );
    }
}
