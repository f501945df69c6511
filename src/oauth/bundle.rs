//! The URLs that one discovery found: what the embedded caller may be allowed to reach.
//!
//! Metadata comes from servers that may be hostile, so each entry says what the MCP server's own origin
//! vouches for. Invariant: an entry of another origin is never admitted, whatever the metadata claim.

use std::path::PathBuf;

use url::Url;

use super::documents::{Endpoint, ResourceMetadata, ServerMetadata};
use super::places::{Issuer, unambiguous};
use crate::mcp::http::same_origin;
use crate::net::hex_sha256;

/// Bytes of a digest that name a group.
const GROUP_BYTES: usize = 6;

/// One URL, and what is to be known about it before it is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `prmd-resource`, `token-endpoint`, …; the middle of its label.
    pub role: &'static str,
    /// For humans.
    pub description: &'static str,
    /// As its document spells it.
    pub url: String,
    /// The group of entries that describe one authorization server: `auth-server:<id>:0`.
    pub group: Option<String>,
    /// The MCP server's socket, when the URL is served behind it.
    pub unix_socket: Option<PathBuf>,
    /// What the MCP server vouches for.
    pub trust: Trust,
}

/// Position of an entry in labels: of several authorization servers only the first is looked at.
pub const INDEX: usize = 0;

/// How far an entry may be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// It is not on the MCP server's origin: never admitted.
    Foreign,
    /// It is on the MCP server's origin.
    Own {
        /// Admitted when its host is private: it describes the resource, or the MCP server is its own
        /// authorization server.
        as_private: bool,
        /// Admitted in any case: the protected resource, or where its document was, is on that origin.
        as_resource: bool,
    },
}

/// Told of every bundle, before the discovery is reported as successful or answered.
pub type Register = dyn Fn(&[Entry]) -> Registration + Send + Sync;

/// What became of a bundle, for the status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registration {
    /// Entries that are allowed now, or were already.
    pub admitted: usize,
    /// One sentence for each reason why others are not; no more of a URL than its origin.
    pub refusals: Vec<String>,
}

/// Where a bundle comes from.
pub(super) struct Sources<'a> {
    /// The MCP endpoint.
    pub(super) endpoint: &'a Url,
    /// Its Unix socket.
    pub(super) unix_socket: Option<&'a PathBuf>,
    /// Where the resource's document was.
    pub(super) document: &'a str,
    pub(super) resource: &'a ResourceMetadata,
    /// The authorization server's document and where that was.
    pub(super) server: Option<(&'a str, &'a ServerMetadata)>,
}

/// The entries, in their fixed order. What is no `http` or `https` URL with a host is left out.
pub(super) fn entries(sources: &Sources<'_>) -> Vec<Entry> {
    let first = sources.resource.authorization_servers.first().map(String::as_str).unwrap_or_default();
    let on_endpoint = |text: &str| unambiguous(text).is_some_and(|url| same_origin(sources.endpoint, &url));
    let as_resource = on_endpoint(&sources.resource.resource) || on_endpoint(sources.document);
    let context = Context {
        sources,
        as_resource,
        issuer: Issuer::of(first),
        own_server: on_endpoint(first),
        group: group(sources, first),
    };
    let mut found = Vec::new();
    let mut add = |entry: Option<Entry>| found.extend(entry);
    add(context.entry(("prmd-resource", "PRMD resource"), &sources.resource.resource, Part::Resource));
    add(context.entry(("prmd-auth-server", "PRMD authorization server"), first, Part::Named));
    add(context.entry(("prmd-source", "PRMD source URL"), sources.document, Part::Resource));
    if let Some((place, metadata)) = sources.server {
        add(context.entry(("auth-server-metadata", "Auth server metadata URL"), place, Part::Server));
        for endpoint in Endpoint::REGISTERED {
            let url = metadata.get(endpoint).unwrap_or_default();
            add(context.entry((endpoint.role(), endpoint.description()), url, Part::Server));
        }
    }
    found
}

/// Which document speaks for an entry.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// The resource's, about itself.
    Resource,
    /// The resource's, about its authorization server.
    Named,
    /// The authorization server's.
    Server,
}

struct Context<'a> {
    sources: &'a Sources<'a>,
    as_resource: bool,
    issuer: Option<Issuer>,
    own_server: bool,
    group: String,
}

impl Context<'_> {
    fn entry(
        &self,
        (role, description): (&'static str, &'static str),
        text: &str,
        part: Part,
    ) -> Option<Entry> {
        let url = unambiguous(text)?;
        let own = same_origin(self.sources.endpoint, &url);
        let trust = match own {
            false => Trust::Foreign,
            true => Trust::Own {
                as_private: part != Part::Server || self.own_server,
                as_resource: self.as_resource,
            },
        };
        let behind_socket =
            own && (part != Part::Server || self.issuer.as_ref().is_some_and(|issuer| issuer.covers(&url)));
        Some(Entry {
            role,
            description,
            url: text.to_owned(),
            group: (part != Part::Resource).then(|| self.group.clone()),
            unix_socket: self.sources.unix_socket.filter(|_| behind_socket).cloned(),
            trust,
        })
    }
}

/// The name of the group: the same for the same server, whatever process discovers it.
fn group(sources: &Sources<'_>, first: &str) -> String {
    let of = [sources.document, &sources.resource.resource, first, "default"];
    let of = of.into_iter().find(|text| !text.is_empty()).unwrap_or_default();
    format!("auth-server:{}:{INDEX}", &hex_sha256(of.as_bytes())[..GROUP_BYTES * 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Trust = Trust::Own { as_private: true, as_resource: true };
    const SERVERS: Trust = Trust::Own { as_private: false, as_resource: true };

    fn bundle(endpoint: &str, document: &str, resource: &str, server: &str) -> Vec<Entry> {
        let endpoint = Url::parse(endpoint).unwrap();
        let server = ServerMetadata::parse(server).unwrap();
        let place = endpoint.join("/.well-known/oauth-authorization-server").unwrap();
        entries(&Sources {
            endpoint: &endpoint,
            unix_socket: Some(&"/run/mcp.sock".into()),
            document,
            resource: &ResourceMetadata::parse(resource).unwrap(),
            server: Some((place.as_str(), &server)),
        })
    }

    #[test]
    fn only_what_is_on_the_servers_own_origin_is_trusted() {
        let found = bundle(
            "https://mcp.corp.example/mcp",
            "https://MCP.corp.example.:443/.well-known/oauth-protected-resource",
            r#"{"resource":"https://mcp.corp.example/mcp","authorization_servers":["https://mcp.corp.example"]}"#,
            r#"{"issuer":"https://idp.example.com/","token_endpoint":"https://10.0.0.5/admin",
                "registration_endpoint":"https://mcp.corp.example/register","jwks_uri":"ftp://mcp.corp.example/",
                "introspection_endpoint":"https://mcp.corp.example\\@evil/",
                "revocation_endpoint":"https://mcp.corp.example:8443/r","authorization_endpoint":"https://mcp.corp.example/a"}"#,
        );
        let seen: Vec<_> = found.iter().map(|entry| (entry.role, entry.trust)).collect();
        assert_eq!(
            seen,
            [
                ("prmd-resource", OWN),
                ("prmd-auth-server", OWN),
                ("prmd-source", OWN),
                ("auth-server-metadata", OWN),
                ("issuer", Trust::Foreign),
                ("token-endpoint", Trust::Foreign),
                ("registration-endpoint", OWN),
                ("revocation-endpoint", Trust::Foreign),
            ]
        );
    }

    #[test]
    fn what_a_foreign_authorization_server_says_is_trusted_for_the_resources_origin_only() {
        let resource = r#"{"resource":"https://public/","authorization_servers":["https://as"]}"#;
        let server = r#"{"token_endpoint":"https://mcp/t","issuer":"https://as"}"#;
        let trust = |document: &str| {
            let found = bundle("https://mcp/mcp", document, resource, server);
            let of = |role| found.iter().find(|entry| entry.role == role).map(|entry| entry.trust);
            (of("prmd-source"), of("token-endpoint"), of("issuer"))
        };
        assert_eq!(trust("https://mcp/prm"), (Some(OWN), Some(SERVERS), Some(Trust::Foreign)));
        let nowhere = Trust::Own { as_private: false, as_resource: false };
        assert_eq!(
            trust("https://elsewhere/prm"),
            (Some(Trust::Foreign), Some(nowhere), Some(Trust::Foreign))
        );
    }

    #[test]
    fn entries_of_one_server_share_a_group_and_the_servers_own_share_its_socket() {
        let document = "http://localhost/.well-known/oauth-protected-resource";
        let found = bundle(
            "http://localhost/mcp",
            document,
            r#"{"resource":"http://localhost/mcp","authorization_servers":["http://localhost/as"]}"#,
            r#"{"issuer":"http://localhost/as","token_endpoint":"http://localhost/as/t",
                "jwks_uri":"http://localhost/elsewhere","revocation_endpoint":"https://other/as/r"}"#,
        );
        let group = format!("auth-server:{}:0", &hex_sha256(document.as_bytes())[..12]);
        assert!(found.iter().flat_map(|entry| &entry.group).all(|have| *have == group));
        let seen: Vec<_> = found
            .iter()
            .map(|entry| (entry.role, entry.group.is_some(), entry.unix_socket.is_some()))
            .collect();
        assert_eq!(
            seen,
            [
                ("prmd-resource", false, true),
                ("prmd-auth-server", true, true),
                ("prmd-source", false, true),
                // Its issuer has a path: the place before it is another server's.
                ("auth-server-metadata", true, false),
                ("issuer", true, true),
                ("token-endpoint", true, true),
                ("jwks-uri", true, false),
                ("revocation-endpoint", true, false),
            ]
        );
    }
}
