//! `/api/logs`: the newest events.

use crate::ops::log::Ring;

/// Events without a `limit`.
const DEFAULT: usize = 200;
/// Events at most.
const MOST: usize = 5000;

/// `{"events":[…]}`, the newest that `limit` allows, oldest first.
pub(super) fn document(ring: Option<&Ring>, limit: &str) -> String {
    let limit = match limit.parse::<i64>() {
        Ok(limit) if limit > 0 => usize::try_from(limit).unwrap_or(MOST).min(MOST),
        _ => DEFAULT,
    };
    let mut text = "{\"events\":[".to_owned();
    for (index, event) in ring.map(|ring| ring.newest(limit)).unwrap_or_default().iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        event.push_json(&mut text);
    }
    text.push_str("]}\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_without_a_ring_has_no_events() {
        assert_eq!(document(None, "3"), "{\"events\":[]}\n");
    }
}
