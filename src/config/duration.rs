//! Durations as operators write them: `1h15m`, `1.5s`, `500us`.

use std::fmt::Write as _;
use std::time::Duration;

/// Nanoseconds of the largest magnitude, about 292 years.
const MAX_NANOS: u128 = i64::MAX as u128;
const UNITS: &[(&str, u128)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// A duration that may be negative; nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SignedDuration(i64);

impl SignedDuration {
    /// The duration if it is not negative.
    pub(crate) fn non_negative(self) -> Option<Duration> {
        u64::try_from(self.0).ok().map(Duration::from_nanos)
    }
}

/// A duration of flags and settings, such as `1m30s`; negative ones read as zero, `None` is anything
/// else.
pub fn parse_duration(text: &str) -> Option<Duration> {
    parse(text).map(|duration| duration.non_negative().unwrap_or_default())
}

/// `[+-]? (number unit)+`, or a bare `0`; `None` if `text` is anything else or too large.
pub(crate) fn parse(text: &str) -> Option<SignedDuration> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(SignedDuration(0));
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (whole, after) = rest.split_at(digits);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => after.split_at(after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len())),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let unit_end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let nanos = UNITS.iter().find(|(name, _)| *name == unit)?.1;
        let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        total = total.checked_add(whole.checked_mul(nanos)?)?;
        // Digits beyond the nineteenth cannot change a number of nanoseconds.
        let kept = &fraction[..fraction.len().min(19)];
        if !kept.is_empty() {
            total += kept.parse::<u128>().ok()? * nanos / 10u128.pow(u32::try_from(kept.len()).ok()?);
        }
        if total > MAX_NANOS {
            return None;
        }
        rest = after;
    }
    let nanos = i64::try_from(total).ok()?;
    Some(SignedDuration(if negative { -nanos } else { nanos }))
}

/// The normalised text, as operators see it: `45s`, `1m30s`, `2m0s`, `1.5s`, `200ms`, `0s`.
pub fn format_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    for (unit, size) in [("ns", 1_u128), ("µs", 1_000), ("ms", 1_000_000)] {
        if nanos < size * 1_000 {
            return format!("{}{unit}", decimal(nanos, size));
        }
    }
    let (hours, rest) = (nanos / 3_600_000_000_000, nanos % 3_600_000_000_000);
    let (minutes, rest) = (rest / 60_000_000_000, rest % 60_000_000_000);
    let mut text = String::new();
    if hours > 0 {
        let _ = write!(text, "{hours}h");
    }
    if hours > 0 || minutes > 0 {
        let _ = write!(text, "{minutes}m");
    }
    let _ = write!(text, "{}s", decimal(rest, 1_000_000_000));
    text
}

fn decimal(value: u128, unit: u128) -> String {
    let (whole, fraction) = (value / unit, value % unit);
    if fraction == 0 {
        return whole.to_string();
    }
    let width = unit.to_string().len() - 1;
    let digits = format!("{fraction:0width$}");
    format!("{whole}.{}", digits.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_is_numbers_with_units() {
        for (text, nanos) in [
            ("30000ms", 30_000_000_000_i64),
            ("1h15m", 4_500_000_000_000),
            ("1.5s", 1_500_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("500us", 500_000),
            ("500µs", 500_000),
            ("500μs", 500_000),
            ("1ns", 1),
            ("0", 0),
            ("-0", 0),
            ("0s", 0),
            ("-1m", -60_000_000_000),
            ("+1m0s", 60_000_000_000),
            ("1.0000000000000000000000001s", 1_000_000_000),
            ("2562047h47m16.854775807s", i64::MAX),
        ] {
            assert_eq!(parse(text), Some(SignedDuration(nanos)), "{text}");
        }
        for bad in
            ["", "30", "30 s", "1d", "s", ".s", "-", "+", "1h1", "1m ", " 1m", "2562048h", "1e3s", "abc"]
        {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn durations_are_shown_normalised() {
        for (millis, text) in [
            (45_000, "45s"),
            (90_000, "1m30s"),
            (120_000, "2m0s"),
            (1_500, "1.5s"),
            (200, "200ms"),
            (0, "0s"),
            (3_600_000, "1h0m0s"),
            (86_400_000, "24h0m0s"),
        ] {
            assert_eq!(format_duration(Duration::from_millis(millis)), text);
        }
        assert_eq!(format_duration(Duration::from_nanos(1_500)), "1.5µs");
    }
}
