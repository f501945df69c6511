//! Requests for metadata beside the MCP endpoint.

use url::Url;

use crate::mcp::Head;
use crate::net::{Body, Deadline, Error, HeaderList, HeaderMap, Method, header};

use super::HttpBinding;
use super::headers::{Purpose, basic_credentials, built_in, forwarded};
use super::send::{Call, Follow};

/// Where protected-resource metadata is, below the origin.
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// A request for OAuth metadata; carries nothing of a command.
pub struct DiscoveryRequest<'a> {
    /// The method.
    pub method: Method,
    /// What is requested; its user info becomes basic credentials.
    pub url: &'a Url,
    /// Headers below the operator's.
    pub headers: &'a HeaderList,
    /// `None` sends no body.
    pub body: Option<&'a [u8]>,
    /// Which of the operator's headers it gets.
    pub scope: DiscoveryScope,
    /// Bounds the request and the reading of its reply's body.
    pub deadline: Deadline,
}

/// Whose metadata is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiscoveryScope {
    /// The MCP server's (RFC 9728): static and discovery headers at the binding's origin, on any path.
    Resource,
    /// An authorization server's (RFC 8414): static headers only, at the binding's own origin and path.
    AuthorizationServer,
}

/// A reply of any status, its body still to be read.
pub struct DiscoveryReply {
    /// Status and headers.
    pub head: Head,
    /// The body; see [`Body::read_to_limit`].
    pub body: Body,
}

impl HttpBinding {
    /// Whether the endpoint answers at all: the status of a GET, redirects followed. What it says does
    /// not matter.
    pub fn reach(&self, deadline: Deadline) -> Result<u16, Error> {
        let lowest = built_in(None, None);
        let call = Call {
            method: Method::GET,
            purpose: Purpose::Discovery,
            built_in: &lowest,
            forwarded: &HeaderMap::new(),
            body: None,
            deadline,
        };
        Ok(self.send(&call)?.head().status)
    }

    /// Sends `request`. Redirects are followed within its origin; one that leads elsewhere is an error.
    pub fn discovery_request(&self, request: &DiscoveryRequest<'_>) -> Result<DiscoveryReply, Error> {
        let mut lowest = built_in(None, None);
        if let Some(credentials) = basic_credentials(request.url) {
            lowest.insert(header::AUTHORIZATION, credentials);
        }
        lowest.extend(forwarded(request.headers).unwrap_or_default());
        let call = Call {
            method: request.method.clone(),
            purpose: match request.scope {
                DiscoveryScope::Resource => Purpose::Discovery,
                DiscoveryScope::AuthorizationServer => Purpose::Forward,
            },
            built_in: &lowest,
            forwarded: &HeaderMap::new(),
            body: request.body,
            deadline: request.deadline,
        };
        let reply = self.send_to(&call, Follow::SameOrigin, request.url)?;
        Ok(DiscoveryReply { head: reply.full_head(), body: reply.body })
    }
}

/// Where the protected-resource metadata of an MCP endpoint may be, without being told (RFC 9728 §3.1):
/// below the well-known path, then at it.
pub fn resource_metadata_urls(endpoint: &Url) -> Vec<Url> {
    let mut root = endpoint.clone();
    root.set_query(None);
    root.set_fragment(None);
    let _ = root.set_username("").and_then(|()| root.set_password(None));
    let path = endpoint.path().trim_matches('/').to_owned();
    let at = |path: &str| {
        let mut url = root.clone();
        url.set_path(path);
        url
    };
    let mut places = Vec::new();
    if path.starts_with(WELL_KNOWN.trim_start_matches('/')) {
        places.push(at(&path));
    } else if !path.is_empty() {
        let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        places.push(at(&format!("{WELL_KNOWN}/{}", segments.join("/"))));
    }
    places.push(at(WELL_KNOWN));
    places.dedup();
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_well_known_places_follow_from_the_endpoint() {
        for (endpoint, places) in [
            (
                "https://u:p@h/public/mcp?x=1#f",
                &[
                    "/.well-known/oauth-protected-resource/public/mcp",
                    "/.well-known/oauth-protected-resource",
                ][..],
            ),
            (
                "https://h//public//mcp/",
                &[
                    "/.well-known/oauth-protected-resource/public/mcp",
                    "/.well-known/oauth-protected-resource",
                ],
            ),
            ("https://h/", &["/.well-known/oauth-protected-resource"]),
            (
                "https://h/a%20b",
                &["/.well-known/oauth-protected-resource/a%20b", "/.well-known/oauth-protected-resource"],
            ),
            (
                "https://h/.well-known/oauth-protected-resource/x",
                &["/.well-known/oauth-protected-resource/x", "/.well-known/oauth-protected-resource"],
            ),
        ] {
            let found: Vec<String> =
                resource_metadata_urls(&Url::parse(endpoint).unwrap()).iter().map(Url::to_string).collect();
            let expected: Vec<String> = places.iter().map(|path| format!("https://h{path}")).collect();
            assert_eq!(found, expected, "{endpoint}");
        }
    }
}
