//! The two textual forms of time on the wire: RFC 3339 timestamps and response time-outs.

use std::time::{Duration, SystemTime};

use crate::net::days_from_epoch;

/// Parses an RFC 3339 timestamp; `None` for anything else.
pub(super) fn parse_timestamp(text: &str) -> Option<SystemTime> {
    let bytes = text.as_bytes();
    let punctuated = bytes.get(4) == Some(&b'-')
        && bytes.get(7) == Some(&b'-')
        && matches!(bytes.get(10), Some(b'T' | b't'))
        && bytes.get(13) == Some(&b':')
        && bytes.get(16) == Some(&b':');
    if !punctuated {
        return None;
    }
    let (year, month, day) = (digits(bytes, 0..4)?, digits(bytes, 5..7)?, digits(bytes, 8..10)?);
    let (hour, minute, second) = (digits(bytes, 11..13)?, digits(bytes, 14..16)?, digits(bytes, 17..19)?);
    // A leap second (:60) is the first second of the next minute to every other clock.
    let in_range = (1..=12).contains(&month)
        && (1..=days_in_month(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !in_range {
        return None;
    }
    let rest = bytes.get(19..)?;
    let (nanos, zone) = fraction(rest)?;
    let offset = zone_seconds(zone)?;
    let seconds = days_from_epoch(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second - offset;
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let at = if seconds < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(whole)?
    } else {
        SystemTime::UNIX_EPOCH.checked_add(whole)?
    };
    at.checked_add(Duration::from_nanos(nanos))
}

/// Parses `1*DIGIT unit` with unit `ns`, `us`, `ms`, `s`, `m` or `h`, up to 2⁶³−1 ns; `None` for
/// anything else.
pub(super) fn parse_timeout(text: &str) -> Option<Duration> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit_at);
    let nanos_per_unit: u64 = match unit {
        "ns" => 1,
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let nanos = number.parse::<u64>().ok()?.checked_mul(nanos_per_unit)?;
    (nanos <= i64::MAX as u64).then(|| Duration::from_nanos(nanos))
}

fn digits(bytes: &[u8], range: std::ops::Range<usize>) -> Option<i64> {
    let digits = bytes.get(range)?;
    digits.iter().try_fold(0, |value, b| b.is_ascii_digit().then(|| value * 10 + i64::from(b - b'0')))
}

/// Splits `.123Z` into nanoseconds and the zone; digits beyond the ninth are dropped.
fn fraction(rest: &[u8]) -> Option<(u64, &[u8])> {
    let Some((b'.', fraction)) = rest.split_first() else {
        return Some((0, rest));
    };
    let count = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
    let (fraction, zone) = fraction.split_at(count);
    let padded = fraction.iter().chain(std::iter::repeat(&b'0')).take(9);
    (count > 0).then(|| (padded.fold(0, |nanos, b| nanos * 10 + u64::from(b - b'0')), zone))
}

fn zone_seconds(zone: &[u8]) -> Option<i64> {
    match zone {
        b"Z" | b"z" => Some(0),
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let (hours, minutes) = (digits(zone, 1..3)?, digits(zone, 4..6)?);
            let seconds = hours * 3_600 + minutes * 60;
            (hours < 24 && minutes < 60).then_some(if *sign == b'-' { -seconds } else { seconds })
        }
        _ => None,
    }
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_with_fractions_and_zones_are_understood() {
        let at = |seconds: u64, nanos: u32| Some(SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos));
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", at(0, 0)),
            ("2026-03-01T09:30:00.250Z", at(1_772_357_400, 250_000_000)),
            ("2026-03-01T10:30:00.250+01:00", at(1_772_357_400, 250_000_000)),
            ("2026-03-01T04:00:00.2500000009-05:30", at(1_772_357_400, 250_000_000)),
            ("2000-02-29T00:00:00Z", at(951_782_400, 0)),
            ("1969-12-31T23:59:59.5Z", Some(SystemTime::UNIX_EPOCH - Duration::from_millis(500))),
        ] {
            assert_eq!(parse_timestamp(text), expected, "{text}");
        }
    }

    #[test]
    fn other_texts_are_no_timestamps() {
        for text in [
            "",
            "yesterday",
            "2026-03-01",
            "2026-03-01T09:30:00",
            "2026-03-01 09:30:00Z",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-03-01T24:00:00Z",
            "2026-03-01T09:30:00.Z",
            "2026-03-01T09:30:00+0100",
            "2026-03-01T09:30:00Zx",
            "+026-03-01T09:30:00Z",
            "2026-03-01T09:30:00+01:0é",
        ] {
            assert_eq!(parse_timestamp(text), None, "{text}");
        }
    }

    #[test]
    fn timeouts_are_whole_numbers_with_one_unit() {
        for (text, nanos) in [
            ("30s", 30_000_000_000),
            ("4500ms", 4_500_000_000),
            ("1ns", 1),
            ("1us", 1_000),
            ("2m", 120_000_000_000),
            ("3h", 10_800_000_000_000),
            ("0s", 0),
            ("0h", 0),
            ("9223372036854775807ns", i64::MAX as u64),
            ("00000000000000000000001s", 1_000_000_000),
        ] {
            assert_eq!(parse_timeout(text), Some(Duration::from_nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn every_other_timeout_counts_as_absent() {
        for text in [
            "0",
            "30",
            "1.5s",
            "1m30s",
            "-1s",
            "+1s",
            "-0s",
            " 1s",
            "1s ",
            "1s\n",
            "1e3s",
            "1d",
            "1S",
            "1µs",
            "",
            "s",
            "9223372036854775808ns",
            "999999999999h",
            "99999999999999999999s",
            "١s",
        ] {
            assert_eq!(parse_timeout(text), None, "{text:?}");
        }
    }
}
