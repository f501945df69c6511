//! Counters and histograms under sets of labels.
//!
//! Written by hand: the exposition that dashboards rely on (labels sorted across scope and own ones,
//! families sorted, absent labels) is not what metric crates write, and recording under a known set of
//! labels must not allocate. Invariant: the number of series is bounded whatever peers send.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Distinct values of one label that a remote party chooses; the rest is counted as [`OTHER`].
const VALUES_LIMIT: usize = 200;
/// Series of one family; beyond it new sets of labels have their remote values replaced by [`OTHER`].
const SERIES_LIMIT: usize = 1000;
/// Longest label value that is kept as it is, in bytes.
const VALUE_BYTES: usize = 128;
/// Stands for values beyond the limits.
pub(super) const OTHER: &str = "_other";

/// A label: its name, and whether a remote party chooses its values.
#[derive(Clone, Copy)]
pub(super) struct Label {
    pub(super) name: &'static str,
    remote: bool,
}

/// A label with values of our own choosing.
pub(super) const fn own(name: &'static str) -> Label {
    Label { name, remote: false }
}

/// A label whose values come from outside.
pub(super) const fn remote(name: &'static str) -> Label {
    Label { name, remote: true }
}

/// All series of one metric, told apart by the values of `N` labels. An empty value means that the
/// series does not have the label.
pub(super) struct Family<V, const N: usize> {
    pub(super) labels: [Label; N],
    hasher: RandomState,
    series: Mutex<Series<V, N>>,
}

/// The values of a series and what was recorded under them.
type Entry<V, const N: usize> = ([Box<str>; N], V);

struct Series<V, const N: usize> {
    /// By the hash of the values: a lookup needs no owned key.
    by_hash: HashMap<u64, Vec<Entry<V, N>>>,
    count: usize,
    /// What was seen of each remote label.
    seen: [HashSet<Box<str>>; N],
}

impl<V: Default, const N: usize> Family<V, N> {
    pub(super) fn new(labels: [Label; N]) -> Family<V, N> {
        Family {
            labels,
            hasher: RandomState::new(),
            series: Mutex::new(Series {
                by_hash: HashMap::new(),
                count: 0,
                seen: std::array::from_fn(|_| HashSet::new()),
            }),
        }
    }

    /// Applies `record` to the series of `values`, which is created if need be.
    pub(super) fn record(&self, values: [&str; N], record: impl FnOnce(&mut V)) {
        let mut series = self.lock();
        if let Some(value) = series.find(self.hash(&values), &values) {
            return record(value);
        }
        let full = series.count >= SERIES_LIMIT;
        let mut kept = values;
        for (index, label) in self.labels.iter().enumerate() {
            if label.remote && !values[index].is_empty() {
                kept[index] = if full { OTHER } else { series.admit(index, values[index]) };
            }
        }
        let hash = self.hash(&kept);
        match series.find(hash, &kept) {
            Some(value) => record(value),
            None => {
                let mut value = V::default();
                record(&mut value);
                series.by_hash.entry(hash).or_default().push((kept.map(Box::from), value));
                series.count += 1;
            }
        }
    }

    /// Forgets all series.
    pub(super) fn clear(&self) {
        let mut series = self.lock();
        series.by_hash.clear();
        series.count = 0;
    }

    /// Hands each series to `show`, sorted by its values.
    pub(super) fn each(&self, mut show: impl FnMut([&str; N], &V)) {
        let series = self.lock();
        let mut all: Vec<_> = series.by_hash.values().flatten().collect();
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        for (values, value) in all {
            show(std::array::from_fn(|index| &*values[index]), value);
        }
    }

    fn hash(&self, values: &[&str; N]) -> u64 {
        self.hasher.hash_one(values)
    }

    fn lock(&self) -> MutexGuard<'_, Series<V, N>> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V, const N: usize> Series<V, N> {
    fn find(&mut self, hash: u64, values: &[&str; N]) -> Option<&mut V> {
        let same_hash = self.by_hash.get_mut(&hash)?;
        same_hash.iter_mut().find(|(have, _)| is_same(have, values)).map(|(_, value)| value)
    }

    /// `value` if it is known or there is room for it.
    fn admit<'a>(&mut self, index: usize, value: &'a str) -> &'a str {
        let seen = &mut self.seen[index];
        if value.len() > VALUE_BYTES {
            return OTHER;
        }
        if !seen.contains(value) {
            if seen.len() >= VALUES_LIMIT {
                return OTHER;
            }
            seen.insert(value.into());
        }
        value
    }
}

fn is_same<const N: usize>(have: &[Box<str>; N], values: &[&str; N]) -> bool {
    have.iter().zip(values).all(|(have, value)| **have == **value)
}

/// Bucket bounds of a histogram.
pub(super) trait Bounds {
    const BOUNDS: &'static [f64];
}

/// Observations by size.
pub(super) struct Histogram<B> {
    /// One more than there are bounds: the last counts what is above all of them.
    counts: Vec<u64>,
    pub(super) sum: f64,
    bounds: std::marker::PhantomData<B>,
}

impl<B: Bounds> Default for Histogram<B> {
    fn default() -> Histogram<B> {
        Histogram { counts: vec![0; B::BOUNDS.len() + 1], sum: 0.0, bounds: std::marker::PhantomData }
    }
}

impl<B: Bounds> Histogram<B> {
    pub(super) fn observe(&mut self, value: f64) {
        let bucket = B::BOUNDS.partition_point(|bound| *bound < value);
        self.counts[bucket] += 1;
        self.sum += value;
    }

    /// Bounds and how many observations were not above them; the last bound is infinite.
    pub(super) fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let bounds = B::BOUNDS.iter().copied().chain([f64::INFINITY]);
        bounds.zip(self.counts.iter().scan(0, |total, count| {
            *total += count;
            Some(*total)
        }))
    }

    pub(super) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Small;
    impl Bounds for Small {
        const BOUNDS: &'static [f64] = &[0.0, 5.0, 10.0];
    }

    fn shown<const N: usize>(family: &Family<u64, N>) -> Vec<(Vec<String>, u64)> {
        let mut all = Vec::new();
        family.each(|values, count| all.push((values.map(str::to_owned).to_vec(), *count)));
        all
    }

    #[test]
    fn a_value_on_a_bound_belongs_to_its_bucket() {
        let mut histogram = Histogram::<Small>::default();
        [0.0, 5.0, 5.1, 10.0, 99.0].iter().for_each(|value| histogram.observe(*value));
        let cumulative: Vec<u64> = histogram.cumulative().map(|(_, count)| count).collect();
        assert_eq!(cumulative, [1, 2, 4, 5]);
        assert_eq!((histogram.count(), histogram.sum), (5, 119.1));
    }

    #[test]
    fn remote_values_beyond_the_limit_share_one_series() {
        let family = Family::<u64, 2>::new([own("kind"), remote("method")]);
        for index in 0..VALUES_LIMIT + 50 {
            family.record(["call", &format!("m{index}")], |count| *count += 1);
        }
        family.record(["call", "m0"], |count| *count += 1);
        family.record(["call", ""], |count| *count += 1);
        family.record(["call", &"x".repeat(VALUE_BYTES + 1)], |count| *count += 1);
        let all = shown(&family);
        assert_eq!(all.len(), VALUES_LIMIT + 2);
        let of = |method: &str| all.iter().find(|(values, _)| values[1] == method).map(|(_, count)| *count);
        assert_eq!((of("_other"), of("m0"), of(""), of("m249")), (Some(51), Some(2), Some(1), None));
    }

    #[test]
    fn the_number_of_series_is_bounded() {
        let family = Family::<u64, 2>::new([remote("a"), remote("b")]);
        for a in 0..150 {
            for b in 0..150 {
                family.record([&a.to_string(), &b.to_string()], |count| *count += 1);
            }
        }
        let all = shown(&family);
        assert_eq!(all.len(), SERIES_LIMIT + 1);
        assert_eq!(all.iter().map(|(_, count)| count).sum::<u64>(), 150 * 150);
    }
}
