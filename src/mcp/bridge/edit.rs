//! Changing members of a JSON object without touching the text of the others.
//!
//! Invariant: what is neither set nor dropped keeps its text, its place and its duplicates.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::mcp::peek;

/// An object that is being changed.
pub(in crate::mcp) struct Editor<'a> {
    text: &'a str,
    members: Vec<Member<'a>>,
    added: Vec<(&'a str, String)>,
}

struct Member<'a> {
    name: Cow<'a, str>,
    /// From the name's quote to the end of the value.
    start: usize,
    end: usize,
    value: &'a RawValue,
    change: Change,
}

enum Change {
    Keep,
    Drop,
    Replace(String),
}

impl<'a> Editor<'a> {
    /// `None` unless `text` is one object.
    pub(in crate::mcp) fn of(text: &'a str) -> Option<Editor<'a>> {
        let text = text.trim_ascii();
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let pairs = deserializer.deserialize_map(Pairs).ok()?;
        deserializer.end().ok()?;
        let base = text.as_ptr() as usize;
        let members = pairs.into_iter().map(|(name, value)| {
            let start = (name.get().as_ptr() as usize).checked_sub(base)?;
            let end = (value.get().as_ptr() as usize).checked_sub(base)?.checked_add(value.get().len())?;
            text.get(start..end)?;
            Some(Member { name: peek::string(name)?, start, end, value, change: Change::Keep })
        });
        Some(Editor { text, members: members.collect::<Option<_>>()?, added: Vec::new() })
    }

    /// The value of `name` as it came; of duplicates the last.
    pub(in crate::mcp) fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.members.iter().rev().find(|member| member.name == name).map(|member| member.value)
    }

    /// All values as they came, in order.
    pub(in crate::mcp) fn values(&self) -> impl Iterator<Item = &'a RawValue> {
        self.members.iter().map(|member| member.value)
    }

    /// Drops all members of this name; true if there was one.
    pub(in crate::mcp) fn drop(&mut self, name: &str) -> bool {
        self.drop_where(|member| member == name)
    }

    /// Drops all members whose name is wanted; true if there was one.
    pub(in crate::mcp) fn drop_where(&mut self, wanted: impl Fn(&str) -> bool) -> bool {
        let mut found = false;
        for member in self.members.iter_mut().filter(|member| wanted(&member.name)) {
            member.change = Change::Drop;
            found = true;
        }
        found
    }

    /// Gives `name` another value, JSON text; adds it if it is missing.
    pub(in crate::mcp) fn set(&mut self, name: &'a str, value: impl Into<String>) {
        let last = self.members.iter_mut().rev().find(|member| member.name == name);
        match last {
            Some(member) => member.change = Change::Replace(value.into()),
            None => self.added.push((name, value.into())),
        }
    }

    /// Adds `name` with a value, JSON text, unless it is there.
    pub(in crate::mcp) fn add(&mut self, name: &'a str, value: impl Into<String>) {
        if self.get(name).is_none() {
            self.added.push((name, value.into()));
        }
    }

    /// Whether nothing would be left.
    pub(in crate::mcp) fn is_empty(&self) -> bool {
        self.added.is_empty() && self.members.iter().all(|member| matches!(member.change, Change::Drop))
    }

    /// The text with all changes.
    pub(in crate::mcp) fn finish(self) -> String {
        let mut json = String::with_capacity(self.text.len() + 64);
        let piece = |from: usize, to: usize| self.text.get(from..to).unwrap_or_default();
        let first = self.members.first().map_or(1, |member| member.start);
        json.push_str(piece(0, first));
        let mut wrote = false;
        let mut last_end = first;
        for member in &self.members {
            let gap = piece(last_end, member.start);
            last_end = member.end;
            if matches!(member.change, Change::Drop) {
                continue;
            }
            if wrote {
                json.push_str(if gap.contains(',') { gap } else { "," });
            }
            wrote = true;
            match &member.change {
                Change::Replace(value) => {
                    json.push_str(piece(member.start, member.end - member.value.get().len()));
                    json.push_str(value);
                }
                _ => json.push_str(piece(member.start, member.end)),
            }
        }
        for (name, value) in &self.added {
            if wrote {
                json.push(',');
            }
            wrote = true;
            json.push_str(&quoted(name));
            json.push(':');
            json.push_str(value);
        }
        json.push_str(piece(last_end, self.text.len()));
        json
    }
}

/// A text as a JSON string.
pub(in crate::mcp) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The members of an object in order, duplicates included.
struct Pairs;

impl<'de> Visitor<'de> for Pairs {
    type Value = Vec<(&'de RawValue, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry::<&'de RawValue, &'de RawValue>()? {
            pairs.push(pair);
        }
        Ok(pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(text: &str, change: impl FnOnce(&mut Editor<'_>)) -> String {
        let mut editor = Editor::of(text).unwrap();
        change(&mut editor);
        editor.finish()
    }

    #[test]
    fn only_the_named_members_change() {
        let text = r#"{ "a" : 1.10, "b":{"x":12345678901234567890} ,"a":2, "\u0063" : [ ] }"#;
        assert_eq!(edited(text, |_| ()), text);
        assert_eq!(
            edited(text, |e| e.set("a", "3")),
            r#"{ "a" : 1.10, "b":{"x":12345678901234567890} ,"a":3, "\u0063" : [ ] }"#
        );
        assert_eq!(
            edited(text, |e| assert!(e.drop("a"))),
            r#"{ "b":{"x":12345678901234567890}, "\u0063" : [ ] }"#
        );
        assert_eq!(
            edited(text, |e| assert!(e.drop("c"))),
            r#"{ "a" : 1.10, "b":{"x":12345678901234567890} ,"a":2 }"#
        );
        assert_eq!(edited("{}", |e| e.set("n", "1")), r#"{"n":1}"#);
        assert_eq!(edited(r#"{"a":1}"#, |e| assert!(e.drop("a") && e.is_empty())), "{}");
        assert_eq!(
            edited(r#"{"a":1,"b":2}"#, |e| {
                e.drop("b");
                e.add("a", "9");
                e.add("z", "\"\"");
            }),
            r#"{"a":1,"z":""}"#
        );
    }

    #[test]
    fn only_objects_can_be_edited() {
        for text in ["[]", "1", "null", "", r#"{"a":1"#, "{} {}"] {
            assert!(Editor::of(text).is_none(), "{text}");
        }
    }
}
