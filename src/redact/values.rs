//! Redaction of structured values.

use serde_json::Value;

use super::{REDACTED, keys, snapshot, without_credentials};

/// A JSON value of the local API: secrets by their names, strings like [`snapshot`].
pub fn admin_json(value: &mut Value) {
    hide(value, snapshot);
}

/// The same where it matters what exactly is called: strings like [`without_credentials`].
pub fn calls_json(value: &mut Value) {
    hide(value, without_credentials);
}

fn hide(value: &mut Value, shown: fn(&str) -> String) {
    match value {
        Value::String(string) => *string = shown(string),
        Value::Array(items) => items.iter_mut().for_each(|item| hide(item, shown)),
        Value::Object(members) => {
            for (name, member) in members {
                if keys::is_sensitive_key(name) {
                    *member = Value::String(REDACTED.to_owned());
                } else {
                    hide(member, shown);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The content of a configuration document: header names stay, secrets go, `env:` references stay.
pub fn document(value: &mut Value) {
    match value {
        Value::String(string) => *string = snapshot(string),
        Value::Array(items) => items.iter_mut().for_each(document),
        Value::Object(members) => {
            for (name, member) in members {
                if keys::is_header_list_key(name) {
                    header_values(member);
                } else if keys::is_sensitive_setting(name) {
                    if !matches!(member, Value::String(text) if text.starts_with("env:")) && !member.is_null()
                    {
                        *member = Value::String(REDACTED.to_owned());
                    }
                } else {
                    document(member);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn header_values(value: &mut Value) {
    match value {
        Value::String(string) => *string = keys::header_list(string),
        Value::Array(items) => items.iter_mut().for_each(header_values),
        Value::Object(members) => {
            for (_, member) in members {
                *member = Value::String(REDACTED.to_owned());
            }
        }
        other => *other = Value::String(REDACTED.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn api_json_loses_secrets_and_url_details() {
        let mut value = json!({
            "Authorization": ["Bearer x"], "url": "https://u:p@h/x?y", "n": 1, "ok": true,
            "list": ["Cookie: a=b", {"client-secret": {"a": 1}}]
        });
        admin_json(&mut value);
        assert_eq!(
            value,
            json!({
                "Authorization": "[REDACTED]", "url": "https://h/x", "n": 1, "ok": true,
                "list": ["Cookie: [REDACTED]", {"client-secret": "[REDACTED]"}]
            })
        );
    }

    #[test]
    fn documents_keep_their_shape() {
        let mut value = json!({
            "control_plane": {
                "api_key": "sk-x", "client_key": "file:/k", "client_cert": "/c", "poll_timeout": "30s",
                "extra_headers": {"X-A": "env:A", "X-B": "v"}
            },
            "cloudflared": {"token": "env:T"},
            "mcp": {"server_urls": [{"url": "https://u:p@h/x?y=z"}], "extra_headers": "X-A: v; X-B: w"}
        });
        document(&mut value);
        assert_eq!(
            value,
            json!({
                "control_plane": {
                    "api_key": "[REDACTED]", "client_key": "[REDACTED]", "client_cert": "/c", "poll_timeout": "30s",
                    "extra_headers": {"X-A": "[REDACTED]", "X-B": "[REDACTED]"}
                },
                "cloudflared": {"token": "env:T"},
                "mcp": {"server_urls": [{"url": "https://h/x"}], "extra_headers": "X-A: [REDACTED]; X-B: [REDACTED]"}
            })
        );
    }
}
