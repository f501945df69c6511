//! The secrets among the settings, for whoever must not show them.

use url::Url;

use super::{Config, HarpoonTarget, McpTarget, ProxySetting};
use crate::redact::KnownSecrets;

impl Config {
    /// Every value that was configured as a secret or as the value of a header, to be hidden wherever it
    /// turns up.
    pub fn known_secrets(&self) -> KnownSecrets {
        let mut values = vec![self.control_plane.api_key.expose().clone()];
        values.extend(self.cloudflared.token.as_ref().map(|token| token.expose().clone()));
        let headers =
            [&self.control_plane.extra_headers, &self.mcp.extra_headers, &self.mcp.discovery_extra_headers];
        for (_, value) in headers.into_iter().flat_map(|headers| headers.iter()) {
            // Behind a scheme stands the credential itself.
            values.extend(value.split_once(' ').map(|(_, rest)| rest.trim().to_owned()));
            values.push(value.to_owned());
        }
        for proxy in [&self.control_plane.proxy, &self.harpoon.proxy] {
            values.extend(proxy_password(proxy));
        }
        for binding in &self.mcp.bindings {
            if let McpTarget::Http { url, proxy, .. } = &binding.target {
                values.extend(password(url));
                values.extend(proxy_password(proxy));
            }
        }
        values.extend(self.harpoon.targets.iter().filter_map(|HarpoonTarget { url, .. }| password(url)));
        KnownSecrets::new(values)
    }
}

fn proxy_password(proxy: &ProxySetting) -> Option<String> {
    match proxy {
        ProxySetting::Environment => None,
        ProxySetting::Fixed { url, .. } => password(url.expose()),
    }
}

fn password(url: &Url) -> Option<String> {
    url.password().map(str::to_owned)
}
