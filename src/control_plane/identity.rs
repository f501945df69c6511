//! The headers that every control-plane request carries.
//!
//! Built once, cloned per request. Invariant: what an operator adds can replace none of the headers
//! that identify, authorise, frame or route a request.

use std::fmt;

use log::Level;

use super::event::Event;
use crate::net::{HeaderList, HeaderMap, HeaderName, HeaderValue, header};
use crate::secret::Secret;

/// Carries the channels of this process.
pub(super) const SERVER_INFO: HeaderName = HeaderName::from_static("x-tunnel-mcp-server-info");
/// Carries a command's shard token.
pub(super) const SHARD_TOKEN: HeaderName = HeaderName::from_static("x-tunnel-shard-token");
/// Carries the connector's request id.
pub(super) const CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("x-client-request-id");

const CLIENT_NAME: HeaderName = HeaderName::from_static("x-tunnel-client-name");
const CLIENT_VERSION: HeaderName = HeaderName::from_static("x-tunnel-client-version");
const INSTANCE_ID: HeaderName = HeaderName::from_static("x-tunnel-client-instance-id");
const ORGANIZATION: HeaderName = HeaderName::from_static("openai-organization");

/// Names an operator cannot set.
const PROTECTED: [HeaderName; 13] = [
    header::AUTHORIZATION,
    header::ACCEPT,
    header::USER_AGENT,
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::HOST,
    header::TRANSFER_ENCODING,
    CLIENT_NAME,
    CLIENT_VERSION,
    INSTANCE_ID,
    SERVER_INFO,
    SHARD_TOKEN,
    CLIENT_REQUEST_ID,
];

/// Who we are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Identity<'a> {
    pub(super) api_key: &'a Secret<String>,
    pub(super) instance_id: &'a str,
    pub(super) version: &'a str,
}

/// A setting that cannot be sent in a header; holds the setting's name, never its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidIdentity(&'static str);

impl Identity<'_> {
    /// The headers that administrative requests carry too.
    pub(super) fn headers(&self) -> Result<HeaderMap, InvalidIdentity> {
        let value = |text: &str, setting| HeaderValue::from_str(text).map_err(|_| InvalidIdentity(setting));
        let mut key = value(&format!("Bearer {}", self.api_key.expose()), "API key")?;
        key.set_sensitive(true);
        let agent = format!("{}/{}", crate::CLIENT_NAME, self.version);
        let mut headers = HeaderMap::with_capacity(16);
        headers.insert(header::AUTHORIZATION, key);
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(header::USER_AGENT, value(&agent, "client version")?);
        headers.insert(CLIENT_NAME, HeaderValue::from_static(crate::CLIENT_NAME));
        headers.insert(CLIENT_VERSION, value(self.version, "client version")?);
        headers.insert(INSTANCE_ID, value(self.instance_id, "client instance id")?);
        Ok(headers)
    }

    /// The headers of a tunnel's requests: `extra` is added, `organization` wins over it.
    pub(super) fn tunnel_headers(
        &self,
        extra: &HeaderList,
        organization: Option<&str>,
    ) -> Result<HeaderMap, InvalidIdentity> {
        let mut headers = self.headers()?;
        for (name, value) in extra.iter() {
            let (Ok(header), Ok(value)) =
                (HeaderName::try_from(name), HeaderValue::from_bytes(value.as_bytes()))
            else {
                Event::at(Level::Warn).with("header", name).emit("extra header skipped: it cannot be sent");
                continue;
            };
            if PROTECTED.contains(&header) {
                Event::at(Level::Warn)
                    .with("header", name)
                    .emit("extra header skipped: its name is protected");
                continue;
            }
            let replaced = headers.insert(&header, value.clone());
            if replaced.is_some_and(|old| !old.is_empty() && old != value) {
                Event::at(Level::Warn).with("header", name).emit("extra header replaces an earlier value");
            }
        }
        if let Some(organization) = organization.filter(|organization| !organization.is_empty()) {
            let value = HeaderValue::from_bytes(organization.as_bytes());
            headers
                .insert(ORGANIZATION, value.map_err(|_| InvalidIdentity("control-plane.organization-id"))?);
        }
        Ok(headers)
    }
}

impl fmt::Display for InvalidIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} contains characters that cannot be sent in an HTTP header", self.0)
    }
}

impl std::error::Error for InvalidIdentity {}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(extra: &[(&str, &str)], organization: Option<&str>) -> HeaderMap {
        let key = Secret::new("example-key".to_owned());
        let identity =
            Identity { api_key: &key, instance_id: "5f0c6b1e9a2d4478b3e1c7d09f24a6bb", version: "1.2.3" };
        identity.tunnel_headers(&extra.iter().copied().collect(), organization).unwrap()
    }

    #[test]
    fn the_standard_headers_are_exact() {
        let headers = build(&[], None);
        for (name, expected) in [
            ("authorization", "Bearer example-key"),
            ("accept", "application/json"),
            ("user-agent", "tunnel-client-rs/1.2.3"),
            ("x-tunnel-client-name", "tunnel-client-rs"),
            ("x-tunnel-client-version", "1.2.3"),
            ("x-tunnel-client-instance-id", "5f0c6b1e9a2d4478b3e1c7d09f24a6bb"),
        ] {
            assert_eq!(headers[name], expected);
        }
        assert_eq!(headers.len(), 6);
        assert!(!format!("{headers:?}").contains("example-key"));
    }

    #[test]
    fn protected_names_keep_their_real_values() {
        for name in
            PROTECTED.iter().map(HeaderName::as_str).chain(["X-Tunnel-Client-Instance-Id", "AUTHORIZATION"])
        {
            assert_eq!(build(&[(name, "stolen")], None), build(&[], None), "{name}");
        }
    }

    #[test]
    fn a_configured_organization_wins_over_an_extra_header() {
        let extra = [("openai-organization", "other"), ("X-Corp", "1")];
        assert_eq!(build(&extra, Some("org_1"))["openai-organization"], "org_1");
        assert_eq!(build(&extra, None)["openai-organization"], "other");
        assert_eq!(build(&extra, Some(""))["openai-organization"], "other");
        assert_eq!(build(&extra, None)["x-corp"], "1");
    }

    #[test]
    fn a_key_that_cannot_be_sent_is_refused_without_showing_it() {
        let key = Secret::new("bad\nkey".to_owned());
        let identity = Identity { api_key: &key, instance_id: "i", version: "1" };
        let error = identity.headers().unwrap_err().to_string();
        assert!(error.contains("API key") && !error.contains("bad"), "{error}");
    }
}
