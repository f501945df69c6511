//! The Prometheus text form, version 0.0.4.

use crate::order;
use std::collections::BTreeMap;
use std::fmt::Write;

use super::family::{Bounds, Family, Histogram};

/// Who records a metric: the instrumentation scope, shown as three labels of each of its series.
#[derive(Clone, Copy)]
pub(super) struct Scope {
    pub(super) name: &'static str,
    pub(super) version: &'static str,
}

/// Name and help of a metric.
#[derive(Clone, Copy)]
pub(super) struct Meta {
    pub(super) scope: Option<Scope>,
    pub(super) name: &'static str,
    pub(super) help: &'static str,
}

/// Families by name; the text shows them sorted.
#[derive(Default)]
pub(super) struct Exposition(BTreeMap<&'static str, String>);

impl Exposition {
    pub(super) fn finish(self) -> String {
        self.0.into_values().collect()
    }

    pub(super) fn gauge(&mut self, meta: Meta, labels: &[(&str, &str)], value: f64) {
        let block = self.block(meta, "gauge");
        push_sample(block, meta, "", labels, None, value);
    }

    pub(super) fn counter(&mut self, meta: Meta, labels: &[(&str, &str)], value: f64) {
        let block = self.block(meta, "counter");
        push_sample(block, meta, "", labels, None, value);
    }

    pub(super) fn counters<const N: usize>(&mut self, meta: Meta, family: &Family<u64, N>) {
        family.each(|values, count| {
            self.counter(meta, &labelled(family, values), *count as f64);
        });
    }

    pub(super) fn gauges<const N: usize>(&mut self, meta: Meta, family: &Family<f64, N>) {
        family.each(|values, value| {
            self.gauge(meta, &labelled(family, values), *value);
        });
    }

    pub(super) fn histograms<B: Bounds, const N: usize>(
        &mut self,
        meta: Meta,
        family: &Family<Histogram<B>, N>,
    ) {
        self.histograms_of(meta, family, |histogram| histogram);
    }

    /// The same for a histogram that is a part of each series.
    pub(super) fn histograms_of<V: Default, B: Bounds, const N: usize>(
        &mut self,
        meta: Meta,
        family: &Family<V, N>,
        part: fn(&V) -> &Histogram<B>,
    ) {
        family.each(|values, series| {
            let (labels, histogram) = (labelled(family, values), part(series));
            let block = self.block(meta, "histogram");
            for (bound, count) in histogram.cumulative() {
                push_sample(block, meta, "_bucket", &labels, Some(bound), count as f64);
            }
            push_sample(block, meta, "_sum", &labels, None, histogram.sum);
            push_sample(block, meta, "_count", &labels, None, histogram.count() as f64);
        });
    }

    fn block(&mut self, meta: Meta, kind: &str) -> &mut String {
        let Meta { name, help, .. } = meta;
        self.0.entry(name).or_insert_with(|| format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"))
    }
}

fn labelled<'a, V: Default, const N: usize>(
    family: &Family<V, N>,
    values: [&'a str; N],
) -> Vec<(&'static str, &'a str)> {
    family.labels.iter().map(|label| label.name).zip(values).collect()
}

/// One line; an empty value means that there is no such label.
fn push_sample(
    out: &mut String,
    meta: Meta,
    suffix: &str,
    labels: &[(&str, &str)],
    bound: Option<f64>,
    value: f64,
) {
    *out += meta.name;
    *out += suffix;
    let mut all: Vec<(&str, &str)> = labels.iter().copied().filter(|(_, value)| !value.is_empty()).collect();
    if let Some(scope) = meta.scope {
        all.push(("otel_scope_name", scope.name));
        all.push(("otel_scope_schema_url", ""));
        all.push(("otel_scope_version", scope.version));
    }
    order::sort_by_key(&mut all, |(name, _)| *name);
    let mut separator = '{';
    for (name, value) in all {
        out.push(separator);
        separator = ',';
        *out += name;
        *out += "=\"";
        push_escaped(out, value);
        *out += "\"";
    }
    if let Some(bound) = bound {
        out.push(separator);
        separator = ',';
        *out += "le=\"";
        push_number(out, bound);
        *out += "\"";
    }
    if separator == ',' {
        *out += "}";
    }
    *out += " ";
    push_number(out, value);
    *out += "\n";
}

fn push_escaped(out: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '\\' => *out += "\\\\",
            '"' => *out += "\\\"",
            '\n' => *out += "\\n",
            c => out.push(c),
        }
    }
}

fn push_number(out: &mut String, value: f64) {
    // Writing to a string cannot fail.
    let _ = match value {
        value if value == f64::INFINITY => write!(out, "+Inf"),
        value if value == f64::NEG_INFINITY => write!(out, "-Inf"),
        value => write!(out, "{value}"),
    };
}

#[cfg(test)]
mod tests {
    use super::super::family::{own, remote};
    use super::*;

    struct Small;
    impl Bounds for Small {
        const BOUNDS: &'static [f64] = &[0.005, 5.0];
    }

    #[test]
    fn families_and_labels_are_sorted_and_the_bound_comes_last() {
        let scope = Some(Scope { name: "dispatcher", version: "1" });
        let mut text = Exposition::default();
        text.gauge(Meta { scope, name: "z_gauge", help: "Last." }, &[], 1_750_000_000.5);
        let family = Family::<Histogram<Small>, 2>::new([own("zone"), remote("method")]);
        family.record(["eu", "a\"b\\c\nd"], |histogram| histogram.observe(2.0));
        family.record(["eu", ""], |histogram| histogram.observe(7.5));
        text.histograms(Meta { scope, name: "a_seconds", help: "First." }, &family);
        text.counter(Meta { scope: None, name: "m_total", help: "Middle." }, &[], 0.0);
        let scoped = "otel_scope_name=\"dispatcher\",otel_scope_schema_url=\"\",otel_scope_version=\"1\"";
        let one = format!("{{{scoped},zone=\"eu\"");
        let two = format!("{{method=\"a\\\"b\\\\c\\nd\",{scoped},zone=\"eu\"");
        let expected = format!(
            "# HELP a_seconds First.\n# TYPE a_seconds histogram\n\
             a_seconds_bucket{one},le=\"0.005\"}} 0\na_seconds_bucket{one},le=\"5\"}} 0\n\
             a_seconds_bucket{one},le=\"+Inf\"}} 1\na_seconds_sum{one}}} 7.5\na_seconds_count{one}}} 1\n\
             a_seconds_bucket{two},le=\"0.005\"}} 0\na_seconds_bucket{two},le=\"5\"}} 1\n\
             a_seconds_bucket{two},le=\"+Inf\"}} 1\na_seconds_sum{two}}} 2\na_seconds_count{two}}} 1\n\
             # HELP m_total Middle.\n# TYPE m_total counter\nm_total 0\n\
             # HELP z_gauge Last.\n# TYPE z_gauge gauge\nz_gauge{{{scoped}}} 1750000000.5\n"
        );
        assert_eq!(text.finish(), expected);
    }
}
