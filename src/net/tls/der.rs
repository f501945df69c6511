//! The few facts of a certificate that reports and checks of our own need (RFC 5280 §4.1), read from its DER.
//!
//! Invariant: what is not spelled as the RFC says is no certificate. The times decide about one that an
//! operator lists (see [`super::verifier`]); nothing else in here has a say in trust.

use std::fmt::Write;

use crate::net::http_date::{self, days_from_epoch};

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const INTEGER: u8 = 0x02;
const OID: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
const TELETEX_STRING: u8 = 0x14;
const IA5_STRING: u8 = 0x16;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const BMP_STRING: u8 = 0x1e;
const EXPLICIT_VERSION: u8 = 0xa0;

/// Who a certificate is for, who issued it, and when it is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) subject: Name,
    pub(super) issuer: Name,
    pub(super) not_before: Moment,
    pub(super) not_after: Moment,
}

/// A distinguished name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    /// The last common name, empty if there is none.
    pub(super) common_name: String,
    /// The whole name, most specific part first (RFC 4514).
    pub(super) whole: String,
}

/// A moment in UTC, as text (RFC 3339) and in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) text: String,
    pub(super) unix_seconds: i64,
}

impl Facts {
    /// Reads a certificate; `None` if it is not one.
    pub(super) fn read(certificate: &[u8]) -> Option<Facts> {
        let mut fields = from_issuer(certificate)?;
        let issuer = read_name(fields.expect(SEQUENCE)?)?;
        let mut validity = Reader(fields.expect(SEQUENCE)?);
        let not_before = read_moment(&mut validity)?;
        let not_after = read_moment(&mut validity)?;
        let subject = read_name(fields.expect(SEQUENCE)?)?;
        Some(Facts { subject, issuer, not_before, not_after })
    }
}

/// A certificate's public key with its algorithm, as it stands there (RFC 5280 §4.1.2.7).
pub(super) fn public_key_info(certificate: &[u8]) -> Option<&[u8]> {
    let mut fields = from_issuer(certificate)?;
    for _ in ["issuer", "validity", "subject"] {
        fields.expect(SEQUENCE)?;
    }
    let start = fields.0;
    fields.expect(SEQUENCE)?;
    start.get(..start.len() - fields.0.len())
}

/// The fields of a certificate of any version, from the issuer on.
fn from_issuer(certificate: &[u8]) -> Option<Reader<'_>> {
    let mut outer = Reader(Reader(certificate).expect(SEQUENCE)?);
    let mut fields = Reader(outer.expect(SEQUENCE)?);
    if fields.peek() == Some(EXPLICIT_VERSION) {
        fields.expect(EXPLICIT_VERSION)?;
    }
    fields.expect(INTEGER)?; // serial number
    fields.expect(SEQUENCE)?; // signature algorithm
    Some(fields)
}

/// Reads tag-length-value triples off the front of a slice.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, mut rest) = rest.split_first()?;
        let mut length = usize::from(first);
        if first >= 0x80 {
            let count = usize::from(first & 0x7f);
            if count == 0 || count > 4 {
                return None;
            }
            let (bytes, tail) = rest.split_at_checked(count)?;
            length = bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
            rest = tail;
        }
        let (value, tail) = rest.split_at_checked(length)?;
        self.0 = tail;
        Some((tag, value))
    }

    fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(have, _)| *have == tag).map(|(_, value)| value)
    }
}

fn read_name(sequence: &[u8]) -> Option<Name> {
    let mut common_name = String::new();
    let mut parts = Vec::new();
    let mut sets = Reader(sequence);
    while !sets.0.is_empty() {
        let mut set = Reader(sets.expect(SET)?);
        let mut attributes = Vec::new();
        while !set.0.is_empty() {
            let mut attribute = Reader(set.expect(SEQUENCE)?);
            let oid = attribute.expect(OID)?;
            let (tag, value) = attribute.next()?;
            let text = read_string(tag, value);
            if oid == [0x55, 4, 3] {
                text.clone_into(&mut common_name);
            }
            attributes.push(format!("{}={}", attribute_name(oid), escape(&text)));
        }
        parts.push(attributes.join("+"));
    }
    parts.reverse();
    Some(Name { common_name, whole: parts.join(",") })
}

fn read_string(tag: u8, value: &[u8]) -> String {
    match tag {
        UTF8_STRING | PRINTABLE_STRING | IA5_STRING => String::from_utf8_lossy(value).into_owned(),
        TELETEX_STRING => value.iter().map(|byte| char::from(*byte)).collect(),
        BMP_STRING => {
            let units: Vec<u16> =
                value.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
            String::from_utf16_lossy(&units)
        }
        _ => value.iter().fold("#".to_owned(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        }),
    }
}

/// The short name of an attribute type (RFC 4514 §3), or its number.
fn attribute_name(oid: &[u8]) -> String {
    let known = match oid {
        [0x55, 4, 3] => "CN",
        [0x55, 4, 5] => "SERIALNUMBER",
        [0x55, 4, 6] => "C",
        [0x55, 4, 7] => "L",
        [0x55, 4, 8] => "ST",
        [0x55, 4, 9] => "STREET",
        [0x55, 4, 10] => "O",
        [0x55, 4, 11] => "OU",
        [0x55, 4, 17] => "POSTALCODE",
        _ => return dotted(oid),
    };
    known.to_owned()
}

fn dotted(oid: &[u8]) -> String {
    let mut text = String::new();
    let mut value: u64 = 0;
    for byte in oid {
        value = value << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 != 0 {
            continue;
        }
        if text.is_empty() {
            let first = (value / 40).min(2);
            let _ = write!(text, "{first}.{}", value - first * 40);
        } else {
            let _ = write!(text, ".{value}");
        }
        value = 0;
    }
    text
}

/// Escapes what would be mistaken for structure (RFC 4514 §2.4).
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let last = text.chars().count().saturating_sub(1);
    for (index, c) in text.chars().enumerate() {
        let at_edge = c == ' ' && (index == 0 || index == last) || c == '#' && index == 0;
        if at_edge || matches!(c, ',' | '+' | '"' | '\\' | '<' | '>' | ';') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// `YYMMDDhhmmssZ` or `YYYYMMDDhhmmssZ`.
fn read_moment(reader: &mut Reader<'_>) -> Option<Moment> {
    let (tag, value) = reader.next()?;
    let digits = std::str::from_utf8(value).ok()?.strip_suffix('Z')?;
    let number = |range: std::ops::Range<usize>| http_date::number(digits.get(range)?);
    let (year, rest) = match tag {
        UTC_TIME if digits.len() == 12 => {
            let short = number(0..2)?;
            (if short < 50 { 2000 + short } else { 1900 + short }, 2)
        }
        GENERALIZED_TIME if digits.len() == 14 => (number(0..4)?, 4),
        _ => return None,
    };
    let at = |index: usize| number(rest + 2 * index..rest + 2 * index + 2);
    let (month, day, hour, minute, second) = (at(0)?, at(1)?, at(2)?, at(3)?, at(4)?);
    let in_range = (1..=12).contains(&month) && (1..=31).contains(&day);
    if !(in_range && hour < 24 && minute < 60 && second < 60) {
        return None;
    }
    let text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z");
    let days = days_from_epoch(year, month, day);
    Some(Moment { text, unix_seconds: days * 86_400 + hour * 3_600 + minute * 60 + second })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};

    #[test]
    fn names_and_validity_are_read() {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.distinguished_name.remove(DnType::CommonName);
        parameters.distinguished_name.push(DnType::CountryName, "DE");
        parameters.distinguished_name.push(DnType::OrganizationName, "Corp, Inc");
        parameters.not_before = date_time_ymd(2025, 1, 2);
        parameters.not_after = date_time_ymd(2055, 3, 4);
        let key = KeyPair::generate().unwrap();
        let nameless = parameters.self_signed(&key).unwrap();
        let facts = Facts::read(nameless.der()).unwrap();
        assert_eq!(facts.subject.common_name, "");
        assert_eq!(facts.subject.whole, "O=Corp\\, Inc,C=DE");
        assert_eq!(facts.not_before.text, "2025-01-02T00:00:00Z");
        assert_eq!(facts.not_before.unix_seconds, 1_735_776_000);
        assert_eq!(facts.not_after.text, "2055-03-04T00:00:00Z");

        parameters.distinguished_name.push(DnType::CommonName, "Corp CA");
        let named = Facts::read(parameters.self_signed(&key).unwrap().der()).unwrap();
        assert_eq!(named.subject.common_name, "Corp CA");
        assert_eq!(named.issuer, named.subject);
    }

    #[test]
    fn cut_certificates_are_none() {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
        for length in 0..certificate.der().len() {
            assert_eq!(Facts::read(&certificate.der()[..length]), None, "{length}");
        }
    }

    #[test]
    fn a_moment_is_spelled_in_digits_that_a_calendar_has() {
        let seconds = |tag: u8, text: &str| {
            let bytes = [&[tag, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
            read_moment(&mut Reader(&bytes)).map(|moment| moment.unix_seconds)
        };
        assert_eq!(seconds(UTC_TIME, "250102000000Z"), Some(1_735_776_000));
        assert_eq!(seconds(GENERALIZED_TIME, "20250102000000Z"), Some(1_735_776_000));
        for bad in [
            "250102000000",
            "2501020000-1Z",
            "25+102000000Z",
            "251302000000Z",
            "250100000000Z",
            "250102240000Z",
        ] {
            assert_eq!(seconds(UTC_TIME, bad), None, "{bad}");
        }
    }

    #[test]
    fn object_identifiers_are_dotted() {
        assert_eq!(dotted(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1]), "1.2.840.113549.1.9.1");
        assert_eq!(dotted(&[0x55, 4, 65]), "2.5.4.65");
    }
}
