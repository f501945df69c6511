//! Single members of JSON objects, borrowed from the original text.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The values of `names` in the object `json`; of duplicates the last. All `None` for anything but an
/// object.
pub(in crate::mcp) fn members<'a, const N: usize>(
    json: &'a str,
    names: [&str; N],
) -> [Option<&'a RawValue>; N] {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    Members(names).deserialize(&mut deserializer).unwrap_or([None; N])
}

/// The value of `name` in `object`.
pub(in crate::mcp) fn member<'a>(object: &'a RawValue, name: &str) -> Option<&'a RawValue> {
    members(object.get(), [name])[0]
}

/// The content of a JSON string; `None` for any other value.
pub(in crate::mcp) fn string(value: &RawValue) -> Option<Cow<'_, str>> {
    /// Borrows what holds no escapes, which plain `Cow` does not.
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    serde_json::from_str(value.get()).ok().map(|Text(text)| text)
}

struct Members<'n, const N: usize>([&'n str; N]);

impl<'de, const N: usize> DeserializeSeed<'de> for Members<'_, N> {
    type Value = [Option<&'de RawValue>; N];

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, const N: usize> Visitor<'de> for Members<'_, N> {
    type Value = [Option<&'de RawValue>; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        #[derive(Deserialize)]
        struct Name<'a>(#[serde(borrow)] Cow<'a, str>);
        let mut found = [None; N];
        while let Some(Name(name)) = map.next_key::<Name<'de>>()? {
            match self.0.iter().position(|wanted| *wanted == name) {
                Some(index) => found[index] = Some(map.next_value::<&'de RawValue>()?),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_found_by_name_and_the_last_duplicate_counts() {
        let [a, b] = members(r#"{"a":1,"x":{"b":0},"b":[ 1.0 ],"a":2}"#, ["a", "b"]);
        assert_eq!((a.unwrap().get(), b.unwrap().get()), ("2", "[ 1.0 ]"));
        assert!(members("[1]", ["a"])[0].is_none());
        assert!(members(r#"{"a":1"#, ["a"])[0].is_none());
    }

    #[test]
    fn strings_are_decoded_and_other_values_are_not_strings() {
        let value = RawValue::from_string(r#""a\u0062""#.into()).unwrap();
        assert_eq!(string(&value).unwrap(), "ab");
        let value = RawValue::from_string("1".into()).unwrap();
        assert!(string(&value).is_none());
    }
}
