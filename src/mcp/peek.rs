//! Single members of JSON objects, borrowed from the original text.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::jsonrpc::{Text, for_each_member};

/// The values of `names` in the object `json`; of duplicates the last. All `None` for anything but an
/// object.
pub(in crate::mcp) fn members<'a, const N: usize>(
    json: &'a str,
    names: [&str; N],
) -> [Option<&'a RawValue>; N] {
    let mut found = [None; N];
    let read = for_each_member(json, &mut |name, value| {
        if let Some(index) = names.iter().position(|wanted| *wanted == name) {
            found[index] = Some(value);
        }
    });
    if read.is_ok() { found } else { [None; N] }
}

/// The value of `name` in `object`.
pub(in crate::mcp) fn member<'a>(object: &'a RawValue, name: &str) -> Option<&'a RawValue> {
    members(object.get(), [name])[0]
}

/// The content of a JSON string; `None` for any other value.
pub(in crate::mcp) fn string(value: &RawValue) -> Option<Cow<'_, str>> {
    serde_json::from_str(value.get()).ok().map(|Text(text)| text)
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
