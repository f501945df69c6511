//! Which names belong to secrets.

use std::borrow::Cow;

use super::{REDACTED, text};

/// Names of secrets in parameters, assignments and JSON members.
const NAMES: &[&str] = &[
    "api_key",
    "apikey",
    "access_token",
    "refresh_token",
    "id_token",
    "client_secret",
    "code",
    "password",
    "secret",
];
/// Ends of longer names that are as telling.
const SUFFIXES: &[&str] = &["_token", "_api_key", "_apikey", "_secret", "_password", "_private_key"];
/// Attribute names whose whole value is hidden.
const KEYS: &[&str] = &[
    "authorization",
    "proxy_authorization",
    "cookie",
    "set_cookie",
    "x_tunnel_shard_token",
    "shard_token",
    "api_key",
    "x_api_key",
    "apikey",
    "access_token",
    "refresh_token",
    "id_token",
    "client_secret",
    "password",
    "secret",
    "token",
];
/// Words that make the name of a setting sensitive.
const WORDS: &[&str] = &["key", "token", "secret", "password", "cookie", "authorization"];

fn normal(name: &str) -> Cow<'_, str> {
    if name.bytes().any(|b| b == b'-' || b == b'.' || b.is_ascii_uppercase()) {
        Cow::Owned(name.replace(['-', '.'], "_").to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

/// Whether a parameter or assignment of that name holds a secret. A dash begins a new word:
/// `x-code` counts like `code`.
pub(super) fn is_secret_name(name: &str) -> bool {
    if name.is_empty() {
        return false;
    }
    let name = name.trim_start_matches('-');
    let normal = normal(name);
    let words = normal.len() == name.len()
        && name.match_indices('-').any(|(dash, _)| NAMES.contains(&&normal[dash + 1..]));
    words
        || NAMES.contains(&&*normal)
        || normal == "token"
        || SUFFIXES.iter().any(|suffix| normal.ends_with(suffix))
}

/// A body that no rule can look into.
const ENCODED_BODY: &str = "body_base64";

/// Whether a JSON member of that name holds a secret; header names count as well.
pub(super) fn is_secret_member(name: &str) -> bool {
    is_secret_name(name) || KEYS.contains(&&*normal(name)) || name == ENCODED_BODY
}

/// Whether the whole value of an attribute of that name is hidden.
pub fn is_sensitive_key(name: &str) -> bool {
    let normal = normal(name);
    KEYS.contains(&&*normal) || normal.ends_with("_token")
}

/// The name of a flag, variable or document key without leading dashes, in one spelling.
fn setting_name(name: &str) -> String {
    normal(name.trim_start_matches('-')).into_owned()
}

/// Whether a flag, variable or document key holds a list of headers.
pub fn is_header_list_key(name: &str) -> bool {
    let name = setting_name(name);
    name.ends_with("extra_header") || name.ends_with("extra_headers")
}

/// Whether a flag, variable or document key holds a secret or the path of one.
pub fn is_sensitive_setting(name: &str) -> bool {
    let name = setting_name(name);
    is_sensitive_key(&name)
        || name.split('_').any(|word| WORDS.contains(&word))
        || name.ends_with("_api_key")
        || name.ends_with("_private_key")
}

/// A setting's value as it may be shown.
pub fn setting_value(name: &str, value: &str) -> String {
    if is_header_list_key(name) {
        header_list(value)
    } else if is_sensitive_setting(name) {
        REDACTED.to_owned()
    } else {
        text(value).into_owned()
    }
}

/// A list of headers with the names only.
pub(super) fn header_list(value: &str) -> String {
    let joint = if value.contains(';') { "; " } else { ", " };
    let parts = value.split([',', ';']).map(str::trim).filter(|part| !part.is_empty());
    let shown: Vec<String> = parts
        .map(|part| match part.split_once(':') {
            Some((name, _)) if !name.trim().is_empty() => format!("{}: {REDACTED}", name.trim()),
            _ => text(part).into_owned(),
        })
        .collect();
    shown.join(joint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attribute_names_are_compared_in_one_spelling() {
        for name in [
            "Authorization",
            "set-cookie",
            "X-Tunnel-Shard-Token",
            "API_KEY",
            "api-key",
            "secret",
            "Session-Token",
            "token",
        ] {
            assert!(is_sensitive_key(name), "{name}");
        }
        for name in ["tunnel_id", "status", "key", "cookie_count", "max_tokens", "code", ""] {
            assert!(!is_sensitive_key(name), "{name}");
        }
    }

    #[test]
    fn settings_are_sensitive_by_their_words() {
        for name in [
            "--mcp.client-key",
            "CONTROL_PLANE_API_KEY",
            "cloudflared.token",
            "CLOUDFLARED_TUNNEL_TOKEN",
            "ssh_private_key",
        ] {
            assert!(is_sensitive_setting(name), "{name}");
        }
        for name in ["--mcp.client-cert", "log.level", "HEALTH_URL_FILE", "keyboard"] {
            assert!(!is_sensitive_setting(name), "{name}");
        }
        assert!(is_header_list_key("--mcp.discovery-extra-headers"));
        assert!(is_header_list_key("CONTROL_PLANE_EXTRA_HEADERS"));
        assert!(!is_header_list_key("headers"));
    }

    #[test]
    fn values_of_settings_are_shown_as_far_as_they_may() {
        assert_eq!(
            setting_value("--mcp.extra-headers", "X-A: v1, X-B: v2"),
            "X-A: [REDACTED], X-B: [REDACTED]"
        );
        assert_eq!(
            setting_value("MCP_EXTRA_HEADERS", "X-A: v1;X-B:v2, junk"),
            "X-A: [REDACTED]; X-B: [REDACTED]; junk"
        );
        assert_eq!(setting_value("control_plane.api_key", "abc"), REDACTED);
        assert_eq!(setting_value("mcp.server-url", "http://u:p@h"), "http://[REDACTED]@h");
    }
}
