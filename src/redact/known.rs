//! Secrets that this process has read, hidden wherever they turn up.

use crate::order;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use super::known_values;

/// Shorter values are not looked for: they would hide words that have nothing to do with them.
const MIN_BYTES: usize = 6;

/// Values that nothing shown may hold. `Debug` shows none of them.
#[derive(Clone, Default)]
pub struct KnownSecrets(Arc<Vec<String>>);

impl KnownSecrets {
    /// Of those values that are long enough to be told from other text.
    pub fn new(values: impl IntoIterator<Item = String>) -> KnownSecrets {
        let mut all = Vec::new();
        for value in values.into_iter().map(|value| value.trim().to_owned()) {
            if value.len() < MIN_BYTES {
                continue;
            }
            // As it stands inside a JSON string.
            let quoted = Value::from(value.as_str()).to_string();
            all.extend([quoted[1..quoted.len() - 1].to_owned(), value]);
        }
        let mut values = all;
        // The longest first: one may be a part of another.
        order::sort_by(&mut values, |a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        values.dedup();
        KnownSecrets(Arc::new(values))
    }

    /// `text` without them.
    pub fn hide<'t>(&self, text: &'t str) -> Cow<'t, str> {
        known_values(text, &self.0)
    }

    /// Replaces them in every text of a document.
    pub fn hide_in_json(&self, value: &mut Value) {
        match value {
            Value::String(text) => {
                if let Cow::Owned(shown) = self.hide(text) {
                    *text = shown;
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.hide_in_json(item)),
            Value::Object(members) => members.values_mut().for_each(|member| self.hide_in_json(member)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

impl fmt::Debug for KnownSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} secrets>", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_secrets_go_whatever_surrounds_them() {
        let values = ["abcdefgh", "abcdefgh-longer", "short", "", "quoted\"secret"].map(str::to_owned);
        let secrets = KnownSecrets::new(values);
        assert_eq!(secrets.hide("x=abcdefgh-longer,abcdefghi short"), "x=[REDACTED],[REDACTED]i short");
        let mut value = serde_json::json!({"a": ["abcdefgh", 1], "b": {"c": "no"}});
        secrets.hide_in_json(&mut value);
        assert_eq!(value, serde_json::json!({"a": ["[REDACTED]", 1], "b": {"c": "no"}}));
        assert_eq!(secrets.hide(r#"{"a":"quoted\"secret"}"#), r#"{"a":"[REDACTED]"}"#);
        assert_eq!(format!("{secrets:?}"), "<4 secrets>");
    }
}
