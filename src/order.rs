//! Sorting, compiled once.
//!
//! The standard library's sort is compiled anew, eight kilobytes of it, for each kind of element. Here only
//! positions are sorted, by one copy of it, and a few bytes a kind move the elements. All sorts are stable.

use std::cmp::Ordering;

/// Sorts by the elements' own order.
pub fn sort<T: Ord>(list: &mut [T]) {
    sort_by(list, T::cmp);
}

/// Sorts by what `key` says of an element; what it borrows must not be the list itself.
pub fn sort_by_key<T, K: Ord>(list: &mut [T], mut key: impl FnMut(&T) -> K) {
    sort_by(list, |a, b| key(a).cmp(&key(b)));
}

/// Sorts by `compare`.
pub fn sort_by<T>(list: &mut [T], mut compare: impl FnMut(&T, &T) -> Ordering) {
    let order = positions(list.len(), &mut |a, b| compare(&list[a], &list[b]));
    for place in 0..list.len() {
        // What was to come here may have been moved out of the way by an earlier swap.
        let mut from = order[place];
        while from < place {
            from = order[from];
        }
        list.swap(place, from);
    }
}

/// The positions of `count` elements in the order of `compare`.
fn positions(count: usize, compare: &mut dyn FnMut(usize, usize) -> Ordering) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by(|a, b| compare(*a, *b));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_sorted_and_equals_keep_their_order() {
        // All lists of up to six of three values, told apart by where they stood.
        for count in 0..=6_usize {
            for code in 0..3_usize.pow(u32::try_from(count).unwrap()) {
                let mut list: Vec<(usize, usize)> = (0..count)
                    .map(|index| (code / 3_usize.pow(u32::try_from(index).unwrap()) % 3, index))
                    .collect();
                let mut expected = list.clone();
                expected.sort_by_key(|(value, _)| *value);
                sort_by_key(&mut list, |(value, _)| *value);
                assert_eq!(list, expected);
            }
        }
        let mut words = vec!["b".to_owned(), "a".to_owned(), "c".to_owned()];
        sort(&mut words);
        assert_eq!(words, ["a", "b", "c"]);
    }
}
