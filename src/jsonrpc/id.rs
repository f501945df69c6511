//! Request ids.

use std::hash::{Hash, Hasher};

use serde_json::value::RawValue;

/// A request id as it was spelled: a JSON string or number. Two ids are equal when type and value
/// are equal, so `"a"` equals `"\u0061"`, `1` equals `1.0`, and `1` differs from `"1"`. Integers compare
/// by spelling, however large: a peer echoes what it was sent.
#[derive(Clone, Debug)]
pub struct Id(Box<str>);

/// Every integer below is a double of its own.
const EXACT_BELOW: f64 = 9_007_199_254_740_992.0;

impl Id {
    /// Takes a JSON string or number; `None` for any other value.
    pub fn from_raw(raw: &RawValue) -> Option<Id> {
        Id::from_json(raw.get())
    }

    /// Takes the JSON text of a string or number; `None` for any other text.
    pub fn from_json(json: &str) -> Option<Id> {
        matches!(json.as_bytes().first(), Some(b'"' | b'-' | b'0'..=b'9')).then(|| Id(Box::from(json)))
    }

    /// The id's JSON text, as it came.
    pub fn as_json(&self) -> &str {
        &self.0
    }

    /// Whether the id is a JSON string.
    pub fn is_string(&self) -> bool {
        self.0.starts_with('"')
    }

    /// The text to compare: strings without escapes, numbers that are not spelled as integers by value.
    fn comparable(&self) -> std::borrow::Cow<'_, str> {
        if self.is_string()
            && self.0.contains('\\')
            && let Ok(text) = serde_json::from_str::<String>(&self.0)
        {
            return std::borrow::Cow::Owned(format!("\"{text}\""));
        }
        if !self.is_string()
            && (self.0.contains(['.', 'e', 'E']) || &*self.0 == "-0")
            && let Ok(value) = self.0.parse::<f64>()
        {
            let is_exact = value.fract() == 0.0 && value.abs() < EXACT_BELOW;
            let text =
                if is_exact { (value as i64).to_string() } else { format!("bits {}", value.to_bits()) };
            return std::borrow::Cow::Owned(text);
        }
        std::borrow::Cow::Borrowed(&self.0)
    }
}

impl PartialEq for Id {
    fn eq(&self, other: &Id) -> bool {
        self.0 == other.0 || self.comparable() == other.comparable()
    }
}

impl Eq for Id {}

impl Hash for Id {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.comparable().hash(state);
    }
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(json: &str) -> Id {
        Id::from_json(json).unwrap()
    }

    #[test]
    fn ids_compare_by_type_and_value() {
        assert_eq!(id("1"), id("1"));
        assert_ne!(id("1"), id("\"1\""));
        assert_eq!(id(r#""a""#), id(r#""\u0061""#));
        assert_ne!(id("9007199254740993"), id("9007199254740992"));
        for (one, other) in
            [("1", "1.0"), ("1e2", "100.0"), ("-0", "0"), ("1.50", "15E-1"), ("1e30", "1.0e30")]
        {
            assert_eq!(id(one), id(other));
        }
        for (one, other) in [("1.5", "1"), ("1.0", "\"1.0\""), ("9007199254740993.0", "9007199254740993")] {
            assert_ne!(id(one), id(other));
        }
        assert!(Id::from_json("null").is_none() && Id::from_json("true").is_none());
    }
}
