//! The secrets among the settings, for whoever must not show them.

use url::Url;

use super::{Config, Environment, HarpoonTarget, McpTarget, ProxySetting};
use crate::net::percent_decoded_text;
use crate::redact::KnownSecrets;

/// Variables that the proxies of the process are taken from.
const PROXY_VARIABLES: &[&str] =
    &["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];
/// Headers that are no secret, whatever their value: hiding it would hide much else.
const PLAIN_HEADERS: &[&str] = &["accept", "content-type", "user-agent", "host"];
/// Shorter values of headers and queries are words rather than credentials.
const MIN_VALUE_BYTES: usize = 8;

impl Config {
    /// Every value that was configured as a secret, as the value of a header, or in a URL's user info or
    /// query, to be hidden wherever it turns up; the variables of `environment` that secrets and proxies
    /// came from included.
    pub fn known_secrets(&self, environment: &Environment) -> KnownSecrets {
        let mut secrets = Secrets(vec![self.control_plane.api_key.expose().clone()]);
        secrets.0.extend(self.cloudflared.token.as_ref().map(|token| token.expose().clone()));
        let headers =
            [&self.control_plane.extra_headers, &self.mcp.extra_headers, &self.mcp.discovery_extra_headers];
        for (name, value) in headers.into_iter().flat_map(|headers| headers.iter()) {
            secrets.header(name, value);
        }
        secrets.proxy(&self.control_plane.proxy);
        secrets.proxy(&self.harpoon.proxy);
        for binding in &self.mcp.bindings {
            if let McpTarget::Http { url, proxy, .. } = &binding.target {
                secrets.url(url);
                secrets.proxy(proxy);
            }
        }
        self.harpoon.targets.iter().for_each(|HarpoonTarget { url, .. }| secrets.url(url));
        for name in PROXY_VARIABLES {
            let Some(text) = environment.non_blank(name) else { continue };
            let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
            if let Ok(url) = Url::parse(&with_scheme) {
                secrets.url(&url);
            }
        }
        KnownSecrets::new(secrets.0)
    }
}

struct Secrets(Vec<String>);

impl Secrets {
    fn header(&mut self, name: &str, value: &str) {
        if PLAIN_HEADERS.iter().any(|plain| name.eq_ignore_ascii_case(plain)) {
            return;
        }
        // Behind a scheme stands the credential itself.
        self.value(value.split_once(' ').map_or("", |(_, rest)| rest));
        self.value(value);
    }

    fn value(&mut self, value: &str) {
        if value.len() >= MIN_VALUE_BYTES {
            self.0.push(value.to_owned());
        }
    }

    fn proxy(&mut self, proxy: &ProxySetting) {
        if let ProxySetting::Fixed { url, .. } = proxy {
            self.url(url.expose());
        }
    }

    /// The password, or the user name that stands alone, and the values of the query; encoded and plain.
    fn url(&mut self, url: &Url) {
        let user = url.username();
        let info = match url.password() {
            Some(password) => [password.to_owned(), format!("{user}:{password}")],
            None => [user.to_owned(), String::new()],
        };
        for encoded in info {
            self.0.push(percent_decoded_text(&encoded));
            self.0.push(encoded);
        }
        url.query_pairs().for_each(|(_, value)| self.value(&value));
        for pair in url.query().unwrap_or_default().split('&') {
            self.value(pair.split_once('=').map_or("", |(_, value)| value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{FlagValues, load};
    use super::*;

    #[test]
    fn every_credential_of_a_configuration_is_known() {
        let environment: Environment = [
            ("CONTROL_PLANE_API_KEY", "the-api-key"),
            ("CONTROL_PLANE_TUNNEL_ID", "tunnel_0123456789abcdef0123456789abcdef"),
            ("MCP_SERVER_URL", "http://user:pass%20word@127.0.0.1:1/mcp?sig=query-secret&v=2"),
            ("MCP_EXTRA_HEADERS", "X-Key: header-secret, Authorization: env:MCP_TOKEN"),
            ("MCP_TOKEN", "Bearer mcp-token-value"),
            ("HTTP_PROXY", "proxy-user:proxypw@127.0.0.1:3128"),
        ]
        .into_iter()
        .collect();
        let secrets = load(&FlagValues::default(), &environment).unwrap().known_secrets(&environment);
        for secret in [
            "the-api-key",
            "pass word",
            "user:pass word",
            "pass%20word",
            "query-secret",
            "header-secret",
            "mcp-token-value",
            "proxypw",
        ] {
            assert_eq!(secrets.hide(&format!("a {secret} b")), "a [REDACTED] b", "{secret}");
        }
        assert_eq!(secrets.hide("v=2 at 127.0.0.1:1/mcp"), "v=2 at 127.0.0.1:1/mcp");
    }
}
