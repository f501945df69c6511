//! Values that are known to be secret, hidden wherever they stand.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::known_values;

/// Shorter values would hide harmless text everywhere.
const MIN_CHARS: usize = 6;

/// The secrets of one process, in each spelling in which they may turn up.
#[derive(Default)]
pub struct Known {
    /// Longest first, so that no secret leaves the rest of a longer one behind.
    values: Vec<String>,
}

impl Known {
    /// Of `secrets`; those of fewer than six characters are not hidden.
    pub fn new(secrets: impl IntoIterator<Item = String>) -> Known {
        let mut spellings = BTreeSet::new();
        for secret in secrets {
            let secret = secret.trim();
            if secret.chars().count() < MIN_CHARS {
                continue;
            }
            // As it stands inside a JSON string.
            let quoted = serde_json::Value::from(secret).to_string();
            spellings.insert(quoted[1..quoted.len() - 1].to_owned());
            spellings.insert(secret.to_owned());
        }
        let mut values: Vec<String> = spellings.into_iter().collect();
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        Known { values }
    }

    /// `text` without any of them.
    pub fn hide<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let values: Vec<&str> = self.values.iter().map(String::as_str).collect();
        known_values(text, &values)
    }
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "<{} secrets>", self.values.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_in_each_spelling_and_the_longest_first() {
        let known =
            Known::new(["s3cret\"x".to_owned(), "s3cret".to_owned(), "short".to_owned(), String::new()]);
        assert_eq!(known.hide("a s3cret\"x b s3cret c short"), "a [REDACTED] b [REDACTED] c short");
        assert_eq!(known.hide(r#"{"a":"s3cret\"x"}"#), r#"{"a":"[REDACTED]"}"#);
        assert!(matches!(known.hide("plain"), Cow::Borrowed("plain")));
        assert_eq!(format!("{known:?}"), "<3 secrets>");
    }
}
