//! Requests for metadata beside the MCP endpoint.

use url::Url;

use crate::mcp::Head;
use crate::net::{Body, Deadline, Error, HeaderList, HeaderMap, Method, header};

use super::HttpBinding;
use super::headers::{Purpose, basic_credentials, built_in, forwarded};
use super::send::{Call, Follow};

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
