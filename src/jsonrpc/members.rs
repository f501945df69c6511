//! The members of a JSON object, as they stand in its text.
//!
//! Written by hand because derived visitors refuse duplicate members, which the protocol's peers do not;
//! compiled once for all who look.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Shows `visit` each member of the object that `json` is, in order. Of what comes before an error some
/// may have been shown.
pub(crate) fn for_each_member<'a>(
    json: &'a str,
    visit: &mut dyn FnMut(&str, &'a RawValue),
) -> serde_json::Result<()> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    Members(visit).deserialize(&mut deserializer)?;
    deserializer.end()
}

/// A JSON string, borrowed unless it holds escapes, which a plain `Cow` never is.
#[derive(Deserialize)]
pub(crate) struct Text<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

struct Members<'v, 'a>(&'v mut dyn FnMut(&str, &'a RawValue));

impl<'a> DeserializeSeed<'a> for Members<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a> Visitor<'a> for Members<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Text(name)) = map.next_key()? {
            (self.0)(&name, map.next_value()?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(json: &str) -> Option<Vec<(String, String)>> {
        let mut seen = Vec::new();
        let read = for_each_member(json, &mut |name, value| {
            seen.push((name.to_owned(), value.get().to_owned()));
        });
        read.ok().map(|()| seen)
    }

    #[test]
    fn members_are_shown_as_they_stand_and_duplicates_too() {
        let seen = members(r#" {"a":1.0, "\u0061" : [ 2 ],"b":null} "#).unwrap();
        let seen: Vec<_> = seen.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(seen, [("a", "1.0"), ("a", "[ 2 ]"), ("b", "null")]);
        for bad in ["", "[]", "null", "{", r#"{"a":}"#, "{} {}", r#"{"a":1,}"#] {
            assert_eq!(members(bad), None, "{bad}");
        }
    }
}
