//! The secrets that a configuration holds, for hiding them wherever they turn up.

use url::Url;

use super::types::{Config, McpTarget, ProxySetting};
use super::{Environment, HarpoonTarget};

/// Variables from which the proxies of the process are taken.
const PROXY_VARIABLES: &[&str] =
    &["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

/// Every credential in `config` and in the variables of `environment` that it came from: keys, header
/// values, user info and query values of URLs.
pub fn known_secrets(config: &Config, environment: &Environment) -> Vec<String> {
    let mut secrets = Secrets::default();
    let control_plane = &config.control_plane;
    secrets.0.push(control_plane.api_key.expose().clone());
    secrets.0.extend(config.cloudflared.token.iter().map(|token| token.expose().clone()));
    for headers in
        [&control_plane.extra_headers, &config.mcp.extra_headers, &config.mcp.discovery_extra_headers]
    {
        headers.iter().for_each(|(name, value)| secrets.header(name, value));
    }
    secrets.proxy(&control_plane.proxy);
    secrets.proxy(&config.harpoon.proxy);
    for binding in &config.mcp.bindings {
        if let McpTarget::Http { url, proxy, .. } = &binding.target {
            secrets.url(url);
            secrets.proxy(proxy);
        }
    }
    config.harpoon.targets.iter().for_each(|HarpoonTarget { url, .. }| secrets.url(url));
    for name in &config.secret_variables {
        secrets.0.extend(environment.get(name).map(str::to_owned));
    }
    for name in PROXY_VARIABLES {
        let Some(text) = environment.non_blank(name) else { continue };
        let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        if let Ok(url) = Url::parse(&with_scheme) {
            secrets.url(&url);
        }
    }
    secrets.0
}

#[derive(Default)]
struct Secrets(Vec<String>);

impl Secrets {
    /// A header's value; of `Bearer abc` the credential as well.
    fn header(&mut self, name: &str, value: &str) {
        // What is sent for the sake of HTTP itself is no secret, and hiding it would hide much else.
        if ["accept", "content-type", "user-agent", "host"]
            .iter()
            .any(|plain| name.eq_ignore_ascii_case(plain))
        {
            return;
        }
        self.0.extend(value.split_once(' ').map(|(_, credential)| credential.to_owned()));
        self.0.push(value.to_owned());
    }

    fn proxy(&mut self, proxy: &ProxySetting) {
        if let ProxySetting::Fixed { url, .. } = proxy {
            self.url(url.expose());
        }
    }

    /// The password (or the user name that stands alone), and the values of the query.
    fn url(&mut self, url: &Url) {
        if let Some(secret) = url.password().or_else(|| Some(url.username()).filter(|user| !user.is_empty()))
        {
            let whole = url.password().map(|password| format!("{}:{password}", url.username()));
            for encoded in whole.into_iter().chain([secret.to_owned()]) {
                let decoded = percent_decoded(&encoded);
                self.0.extend([encoded, decoded]);
            }
        }
        for (_, value) in url.query_pairs() {
            self.0.push(value.into_owned());
        }
        for pair in url.query().unwrap_or_default().split('&') {
            self.0.extend(pair.split_once('=').map(|(_, value)| value.to_owned()));
        }
    }
}

fn percent_decoded(text: &str) -> String {
    // As a query value without `+`, which user info does not treat as a blank.
    let pair = format!("v={}", text.replace('+', "%2B").replace('&', "%26"));
    url::form_urlencoded::parse(pair.as_bytes())
        .next()
        .map_or_else(String::new, |(_, value)| value.into_owned())
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
            ("MCP_SERVER_URL", "http://user:pass%20word@127.0.0.1:1/mcp?sig=query-secret"),
            ("MCP_EXTRA_HEADERS", "X-Key: header-secret, Authorization: env:MCP_TOKEN"),
            ("MCP_TOKEN", "Bearer mcp-token-value"),
            ("HTTP_PROXY", "proxy-user:proxy-pass@127.0.0.1:3128"),
        ]
        .into_iter()
        .collect();
        let config = load(&FlagValues::default(), &environment).unwrap();
        let secrets = known_secrets(&config, &environment);
        for secret in [
            "the-api-key",
            "pass word",
            "user:pass word",
            "pass%20word",
            "query-secret",
            "header-secret",
            "mcp-token-value",
            "proxy-pass",
        ] {
            assert!(secrets.iter().any(|known| known == secret), "{secret}");
        }
    }
}
