//! Values that need a text form of their own.

use std::fmt;
use std::time::Duration;

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

/// Hours, minutes and seconds from the largest unit that is not zero; below a second one smaller
/// unit: `1h0m0s`, `1m30s`, `1.5s`, `500ms`, `0s`.
pub fn duration_text(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    for (unit, name) in [(1_000u128, "ns"), (1_000_000, "µs"), (1_000_000_000, "ms")] {
        if nanos < unit {
            return format!("{}{name}", decimal(nanos, unit / 1000));
        }
    }
    let seconds = duration.as_secs();
    let mut text = String::new();
    if seconds >= 3600 {
        text += &format!("{}h", seconds / 3600);
    }
    if seconds >= 60 {
        text += &format!("{}m", seconds / 60 % 60);
    }
    text + &format!("{}s", decimal(nanos % 60_000_000_000, 1_000_000_000))
}

/// `value / unit` without trailing zeros; `unit` is a power of ten.
fn decimal(value: u128, unit: u128) -> String {
    let (whole, rest) = (value / unit, value % unit);
    if rest == 0 {
        return whole.to_string();
    }
    let digits = unit.ilog10() as usize;
    format!("{whole}.{}", format!("{rest:0digits$}").trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_like_operators_write_them() {
        for (nanos, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (500_000_000, "500ms"),
            (1_500_000_000, "1.5s"),
            (30_000_000_000, "30s"),
            (60_000_000_000, "1m0s"),
            (90_000_000_000, "1m30s"),
            (86_400_000_000_000, "24h0m0s"),
            (3_600_000_000_001, "1h0m0.000000001s"),
        ] {
            assert_eq!(duration_text(Duration::from_nanos(nanos)), text);
        }
    }

    #[test]
    fn only_lists_are_taken_for_lists() {
        let shown = List(&["1:https://a", ""]).to_string();
        assert_eq!(list_items(&shown).map(|items| items.collect::<Vec<_>>()), Some(vec!["1:https://a", ""]));
        assert_eq!(list_items(&List::<String>(&[]).to_string()).map(Iterator::count), Some(0));
        assert!(list_items("[a]").is_none());
    }
}
