//! Values that need a text form of their own.

use std::fmt;

use crate::control_plane::event::LIST_MARK;
pub use crate::control_plane::event::List;

/// Marks the text of a [`Json`]; no other value starts with it.
const JSON_MARK: char = '\u{1e}';

/// A piece of JSON as the value of a field: itself in JSON, its text in text.
pub struct Json<'a>(pub &'a str);

impl fmt::Display for Json<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{JSON_MARK}{}", self.0)
    }
}

/// The JSON of a displayed [`Json`]; `None` for any other text.
pub(super) fn json_text(text: &str) -> Option<&str> {
    text.strip_prefix(JSON_MARK)
}

/// The items of a displayed [`List`]; `None` for any other text.
pub(super) fn list_items(text: &str) -> Option<impl Iterator<Item = &str>> {
    let items = text.strip_prefix(LIST_MARK)?;
    Some(items.split_terminator(LIST_MARK))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lists_are_taken_for_lists() {
        let shown = List(&["1:https://a", ""]).to_string();
        assert_eq!(list_items(&shown).map(|items| items.collect::<Vec<_>>()), Some(vec!["1:https://a", ""]));
        assert_eq!(list_items(&List::<String>(&[]).to_string()).map(Iterator::count), Some(0));
        assert!(list_items("[a]").is_none());
    }
}
