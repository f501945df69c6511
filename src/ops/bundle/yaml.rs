//! A JSON value as block-style YAML, for people to read.
//!
//! Strings are written as in JSON, which YAML reads the same; so no text can be taken for anything else.

use serde_json::Value;

/// Words that YAML readers take for something other than text.
const RESERVED: &[&str] = &["null", "true", "false", "yes", "no", "on", "off", "y", "n"];

/// The document, with a newline at its end.
pub(super) fn document(value: &Value) -> String {
    let mut out = String::new();
    push(&mut out, value, 0);
    if !out.ends_with('\n') {
        out.push('\n');
    }
    out.trim_start().to_owned()
}

/// Appends a value behind a key or a dash: a scalar on the same line, a collection below it.
fn push(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            out.push('\n');
            for (name, member) in members {
                pad(out, indent);
                out.push_str(&key(name));
                out.push(':');
                push(out, member, indent + 1);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            out.push('\n');
            for item in items {
                pad(out, indent);
                out.push('-');
                push(out, item, indent + 1);
            }
        }
        scalar => {
            out.push(' ');
            out.push_str(&scalar.to_string());
            out.push('\n');
        }
    }
}

fn pad(out: &mut String, indent: usize) {
    (0..indent).for_each(|_| out.push_str("  "));
}

fn key(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
        && !RESERVED.contains(&name.to_ascii_lowercase().as_str());
    if plain { name.to_owned() } else { Value::from(name).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::document_as_json;
    use serde_json::json;

    #[test]
    fn what_is_written_is_read_back() {
        for value in [
            json!({"a": {"b": [1, true, null, "x: y", {"c": "d", "e": []}, [["deep"]]], "no": "yes"}, "": {}, "k\"y": "é\n"}),
            json!({"only": "- text"}),
            json!(["one", {"two": 2}]),
        ] {
            let text = document(&value);
            assert_eq!(document_as_json(text.as_bytes()).unwrap(), value, "{text}");
        }
    }
}
