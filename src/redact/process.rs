//! Redaction of a process's arguments and environment.

use std::collections::BTreeSet;

use super::{REDACTED, keys, text};

/// Variables that a support bundle shows, besides those with one of the prefixes.
const VARIABLES: &[&str] = &[
    "ALLOW_REMOTE_UI",
    "CA_BUNDLE",
    "HEALTH_LISTEN_ADDR",
    "HEALTH_UNIX_SOCKET",
    "HEALTH_URL_FILE",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "OPENAI_API_KEY",
    "OPEN_WEB_UI",
    "PID_FILE",
    "PROXY_CHECK_INTERVAL",
];
const PREFIXES: &[&str] =
    &["ADMIN_UI_", "CLOUDFLARED_", "CONTROL_PLANE_", "HARPOON_", "LOG_", "MCP_", "OPENAI_TUNNEL_", "TUNNEL_"];

/// Arguments as a support bundle may show them. References stay visible, what they refer to does not.
pub fn arguments<S: AsRef<str>>(arguments: &[S]) -> Vec<String> {
    let mut shown = Vec::with_capacity(arguments.len());
    let mut flag: Option<&str> = None;
    for argument in arguments.iter().map(AsRef::as_ref) {
        if let Some(name) = flag.take() {
            shown.push(flag_value(name, argument));
        } else if let Some((name, value)) = argument.split_once('=').filter(|_| argument.starts_with("--")) {
            shown.push(format!("{name}={}", flag_value(name, value)));
        } else if argument.starts_with("--") {
            shown.push(argument.to_owned());
            flag = Some(argument)
                .filter(|name| keys::is_header_list_key(name) || keys::is_sensitive_setting(name));
        } else {
            shown.push(text(argument).into_owned());
        }
    }
    shown
}

fn flag_value(name: &str, value: &str) -> String {
    let is_reference = value.starts_with("env:") || value.starts_with("file:");
    if !keys::is_header_list_key(name) && keys::is_sensitive_setting(name) && is_reference {
        return text(value).into_owned();
    }
    keys::setting_value(name, value)
}

/// The variables that a support bundle shows, redacted: those that are ours, and those that the
/// arguments refer to. Values of `secret_variables` are always hidden.
pub fn environment<'v, S: AsRef<str>>(
    variables: impl IntoIterator<Item = (&'v str, &'v str)>,
    arguments: &[S],
    secret_variables: &[String],
) -> Vec<(String, String)> {
    let mut mentioned = BTreeSet::new();
    let mut secret: BTreeSet<&str> = secret_variables.iter().map(String::as_str).collect();
    let mut flag = "";
    for argument in arguments.iter().map(AsRef::as_ref) {
        let (name, value) = match argument.split_once('=').filter(|_| argument.starts_with("--")) {
            Some((name, value)) => (name, value),
            None => (std::mem::take(&mut flag), argument),
        };
        let hides = keys::is_header_list_key(name) || keys::is_sensitive_setting(name);
        for variable in references(value) {
            mentioned.insert(variable);
            if hides {
                secret.insert(variable);
            }
        }
        if argument.starts_with("--") && !argument.contains('=') {
            flag = argument;
        }
    }
    let is_ours = |name: &str| {
        let upper = name.to_ascii_uppercase();
        VARIABLES.contains(&upper.as_str()) || PREFIXES.iter().any(|prefix| upper.starts_with(prefix))
    };
    variables
        .into_iter()
        .filter(|(name, _)| is_ours(name) || mentioned.contains(name) || secret.contains(name))
        .map(|(name, value)| {
            // Of a list of headers the names may be seen, wherever their values came from.
            let hidden = secret.contains(name) && !(is_ours(name) && keys::is_header_list_key(name));
            let shown = if hidden { REDACTED.to_owned() } else { keys::setting_value(name, value) };
            (name.to_owned(), shown)
        })
        .collect()
}

/// The names behind each `env:` in any case.
fn references(value: &str) -> impl Iterator<Item = &str> {
    let lower = value.to_ascii_lowercase();
    let starts: Vec<usize> = lower.match_indices("env:").map(|(at, found)| at + found.len()).collect();
    starts.into_iter().filter_map(|start| {
        let rest = value.get(start..)?;
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
        Some(&rest[..end]).filter(|name| !name.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_keep_references_and_lose_secrets() {
        assert_eq!(
            arguments(&[
                "run",
                "--control-plane.api-key=env:MY_KEY",
                "--control-plane.api-key",
                "sk-live-abcdefghijk",
                "--mcp.extra-headers",
                "X-A: v1, X-B: v2",
                "--mcp.extra-headers=X-A: v1, X-B: v2",
                "--log.level",
                "debug",
                "--mcp.server-url=http://u:p@h/x",
                "--mcp.client-key",
                "file:/k",
                "--mcp.client-cert=/c.pem",
            ]),
            [
                "run",
                "--control-plane.api-key=env:MY_KEY",
                "--control-plane.api-key",
                "[REDACTED]",
                "--mcp.extra-headers",
                "X-A: [REDACTED], X-B: [REDACTED]",
                "--mcp.extra-headers=X-A: [REDACTED], X-B: [REDACTED]",
                "--log.level",
                "debug",
                "--mcp.server-url=http://[REDACTED]@h/x",
                "--mcp.client-key",
                "file:/k",
                "--mcp.client-cert=/c.pem",
            ]
        );
    }

    #[test]
    fn the_environment_shows_our_variables_only() {
        let variables = [
            ("HOME", "/h"),
            ("MY_KEY", "sk-x"),
            ("PLAIN", "v"),
            ("HDR", "h"),
            ("LOG_LEVEL", "info"),
            ("DOC_SECRET", "d"),
            ("CONTROL_PLANE_API_KEY", "k"),
            ("MCP_EXTRA_HEADERS", "X-A: 1"),
            ("https_proxy", "http://u:p@h:1"),
        ];
        let arguments = [
            "--control-plane.api-key=env:MY_KEY",
            "--http-proxy",
            "ENV:PLAIN",
            "--mcp.extra-headers",
            "X: env:HDR",
        ];
        let secret = ["DOC_SECRET", "MCP_EXTRA_HEADERS"].map(str::to_owned);
        let shown = environment(variables, &arguments, &secret);
        let shown: Vec<(&str, &str)> =
            shown.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(
            shown,
            [
                ("MY_KEY", "[REDACTED]"),
                ("PLAIN", "v"),
                ("HDR", "[REDACTED]"),
                ("LOG_LEVEL", "info"),
                ("DOC_SECRET", "[REDACTED]"),
                ("CONTROL_PLANE_API_KEY", "[REDACTED]"),
                ("MCP_EXTRA_HEADERS", "X-A: [REDACTED]"),
                ("https_proxy", "http://[REDACTED]@h:1"),
            ]
        );
    }
}
