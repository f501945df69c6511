//! Sizes and durations as operators write them.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Visitor};

/// A number of bytes, like `64MiB`, `512KiB` or `1000`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) usize);

/// A duration, like `120s`, `300ms` or `1m30s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

const SIZE_UNITS: [(&str, u64); 8] = [
    ("", 1),
    ("b", 1),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
];
const SPAN_UNITS: [(&str, u64); 6] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

impl Size {
    /// Reads a size; `None` if it is none.
    pub(crate) fn parse(text: &str) -> Option<Size> {
        let (number, unit) = split_number(text.trim())?;
        let unit = unit.trim_start().to_ascii_lowercase();
        let (_, factor) = SIZE_UNITS.into_iter().find(|(name, _)| *name == unit)?;
        let bytes = number.parse::<u64>().ok()?.checked_mul(factor)?;
        usize::try_from(bytes).ok().map(Size)
    }
}

impl Span {
    /// Reads a duration; `None` if it is none.
    pub(crate) fn parse(text: &str) -> Option<Span> {
        let mut rest = text.trim();
        let mut nanos = 0u64;
        if rest.is_empty() {
            return None;
        }
        if rest == "0" {
            return Some(Span(Duration::ZERO));
        }
        while !rest.is_empty() {
            let (number, after) = split_number(rest)?;
            let (fraction, after) = match after.strip_prefix('.') {
                Some(after) => split_number(after)?,
                None => ("", after),
            };
            let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
            let (_, factor) = SPAN_UNITS.into_iter().find(|(name, _)| *name == &after[..end])?;
            nanos = nanos.checked_add(number.parse::<u64>().ok()?.checked_mul(factor)?)?;
            let mut place = factor;
            for digit in fraction.bytes() {
                place /= 10;
                nanos = nanos.checked_add(u64::from(digit - b'0') * place)?;
            }
            rest = &after[end..];
        }
        Some(Span(Duration::from_nanos(nanos)))
    }
}

/// The digits at the start of `text`, of which there must be some, and the rest.
fn split_number(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Size, D::Error> {
        deserializer.deserialize_any(SizeVisitor)
    }
}

struct SizeVisitor;

impl Visitor<'_> for SizeVisitor {
    type Value = Size;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a size like 64MiB")
    }

    fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<Size, E> {
        usize::try_from(bytes).map(Size).map_err(E::custom)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
        Size::parse(text).ok_or_else(|| E::custom(format!("{text:?} is no size; write it like 64MiB")))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
        let text = String::deserialize(deserializer)?;
        Span::parse(&text)
            .ok_or_else(|| de::Error::custom(format!("{text:?} is no duration; write it like 120s or 1m30s")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_and_decimal_units() {
        for (text, bytes) in [
            ("7", 7),
            ("64MiB", 64 << 20),
            ("4 kib", 4096),
            ("1GB", 1_000_000_000),
            ("10b", 10),
            (" 1KB ", 1000),
        ] {
            assert_eq!(Size::parse(text), Some(Size(bytes)), "{text}");
        }
        for bad in ["", "MiB", "-1", "1.5MiB", "1TiB", "99999999999GiB"] {
            assert_eq!(Size::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn durations_may_be_composed() {
        for (text, ms) in [
            ("120s", 120_000),
            ("300ms", 300),
            ("1m30s", 90_000),
            ("1.5s", 1500),
            ("2h", 7_200_000),
            ("0", 0),
            ("0s", 0),
        ] {
            assert_eq!(Span::parse(text), Some(Span(Duration::from_millis(ms))), "{text}");
        }
        for bad in ["", "5", "s", "-1s", "1 s", "1d", "1.s", "9999999999999h"] {
            assert_eq!(Span::parse(bad), None, "{bad}");
        }
    }
}
