//! `harpoon.*`: the embedded caller of allow-listed HTTP targets.

use std::collections::BTreeMap;

use super::error::ErrorKind;
use super::loader::{Loader, Lookup, Source};
use super::schema::Value;
use super::settings::{self, Kind};
use super::{Harpoon, HarpoonTarget, ProxySetting, proxy, reference, urls};

const MAX_RESPONSE_BYTES: i64 = 102_400;
const MAX_REDIRECTS: i64 = 5;
const MAX_LABEL_CHARS: usize = 64;
const HTTP_STREAMABLE: &str = "http-streamable";

/// The parts of an entry, by the keys of its text form.
type Parts = BTreeMap<&'static str, String>;

impl Loader<'_> {
    /// Loads the section; `None` means that something was reported.
    pub(crate) fn harpoon(&mut self, global_proxy: Option<&ProxySetting>) -> Option<Harpoon> {
        let allow_plaintext_http = self.boolean(&settings::HARPOON_ALLOW_PLAINTEXT_HTTP);
        let max_response_bytes = self.integer(
            &settings::HARPOON_MAX_RESPONSE_BYTES,
            (1, "must be positive"),
            (MAX_RESPONSE_BYTES, "must be less than or equal to 102400"),
        );
        let max_redirects = self.integer(
            &settings::HARPOON_MAX_REDIRECTS,
            (0, "must be non-negative"),
            (MAX_REDIRECTS, "must be less than or equal to 5"),
        );
        let targets = self.targets(allow_plaintext_http.unwrap_or(true));
        let http_streamable = self.transports();
        let suffixes = self.suffixes();
        let regexes = self.pattern_texts();
        let hosts_include_loopback = self.boolean(&settings::HARPOON_HOSTS_INCLUDE_LOOPBACK);
        let hosts_include_private = self.boolean(&settings::HARPOON_HOSTS_INCLUDE_PRIVATE);
        let hosts_include_regex = self.compiling(regexes);
        let proxy = self.proxy(&settings::HARPOON_HTTP_PROXY);
        Some(Harpoon {
            targets: targets?,
            allow_plaintext_http: allow_plaintext_http?,
            max_response_bytes: usize::try_from(max_response_bytes?).ok()?,
            max_redirects: usize::try_from(max_redirects?).ok()?,
            proxy: proxy::effective([proxy.as_ref(), global_proxy, None]),
            http_streamable: http_streamable?,
            capture_payloads: false,
            hosts_include_suffix: suffixes,
            hosts_include_regex: hosts_include_regex?,
            hosts_include_loopback: hosts_include_loopback?,
            hosts_include_private: hosts_include_private?,
        })
    }

    fn targets(&mut self, plaintext: bool) -> Option<Vec<HarpoonTarget>> {
        let setting = &settings::HARPOON_TARGETS;
        let mut found: Vec<(Result<Parts, String>, Source)> = Vec::new();
        let mut whole = true;
        if self.document_is_silenced(setting) {
            if let Lookup::Found((texts, source)) = self.list(setting) {
                for text in texts.iter().filter(|text| !text.trim().is_empty()) {
                    let parts = target_parts(text).map(|(parts, unknown)| {
                        for key in unknown {
                            self.findings
                                .warn(format!("{} ({source}): unknown key {key:?} is ignored", setting.flag));
                        }
                        parts
                    });
                    found.push((parts, source.clone()));
                }
            }
        } else if let (Some(Value::Entries(_, entries)), Kind::Entries(_, fields)) =
            (self.in_document(setting), setting.kind)
        {
            whole = !self.document.broken.contains(setting.yaml);
            for entry in entries {
                let place = self.document.place(&format!("{}[{}]", setting.yaml, entry.index), entry.at);
                let parts = fields.iter().filter_map(|field| {
                    Some((field.key, entry.fields.get(field.yaml)?.text.trim().to_owned()))
                });
                found.push((complete(parts.collect()), place));
            }
        }
        let mut targets: Vec<HarpoonTarget> = Vec::with_capacity(found.len());
        for (parts, source) in found {
            let target = parts.and_then(|parts| self.target(&parts, plaintext));
            let named = target.map_err(|reason| format!("invalid harpoon target: {reason} ({source})"));
            match self.findings.check(ErrorKind::Other, named) {
                None => whole = false,
                Some(target) if targets.iter().any(|have| have.label == target.label) => {
                    let message = format!("harpoon: duplicate target label {:?} ({source})", target.label);
                    self.findings.error(ErrorKind::Other, message);
                }
                Some(target) => targets.push(target),
            }
        }
        whole.then_some(targets)
    }

    fn target(&self, parts: &Parts, plaintext: bool) -> Result<HarpoonTarget, String> {
        let part = |key: &str| parts.get(key).map(String::as_str).unwrap_or_default();
        let (label, url) = (part("label"), part("url"));
        if label.is_empty() || url.is_empty() {
            return Err("label and url are required".to_owned());
        }
        if !is_label(label) {
            return Err(format!("label must match ^[a-z0-9][a-z0-9_-]{{0,63}}$, and {label:?} does not"));
        }
        let spelled = url.trim().to_owned();
        let url = urls::absolute_http(url).map_err(|reason| format!("{label}: invalid url: {reason}"))?;
        if url.scheme() != "https" && !plaintext {
            return Err(format!("{label}: https is required; --harpoon.allow-plaintext-http accepts http"));
        }
        let unix_socket = reference::path(part("unix-socket"), self.environment)
            .map_err(|reason| format!("{label}: unix-socket: {reason}"))?;
        let (label, description) = (label.to_owned(), part("desc").to_owned());
        Ok(HarpoonTarget { label, url, spelled, unix_socket, description })
    }

    /// Whether the HTTP transport is on; `None` was reported.
    fn transports(&mut self) -> Option<bool> {
        let Lookup::Found((items, source)) = self.list(&settings::HARPOON_ADDITIONAL_TRANSPORTS) else {
            return Some(false);
        };
        let items = elements(&items, &source);
        if let Some(item) = items.iter().find(|item| !item.eq_ignore_ascii_case(HTTP_STREAMABLE)) {
            let message =
                format!("unsupported harpoon transport {item:?} ({source}): only {HTTP_STREAMABLE} exists");
            self.findings.error(ErrorKind::Other, message);
            return None;
        }
        Some(!items.is_empty())
    }

    fn suffixes(&mut self) -> Vec<String> {
        let Lookup::Found((items, source)) = self.list(&settings::HARPOON_HOSTS_INCLUDE_SUFFIX) else {
            return Vec::new();
        };
        let names =
            elements(&items, &source).into_iter().map(|item| item.trim_start_matches('.').to_lowercase());
        names.filter(|name| !name.is_empty()).collect()
    }

    /// The patterns as written, and where.
    fn pattern_texts(&mut self) -> Option<(Vec<String>, Source)> {
        self.list(&settings::HARPOON_HOSTS_INCLUDE_REGEX).found()
    }

    /// The patterns, which compile; `None` was reported.
    fn compiling(&mut self, patterns: Option<(Vec<String>, Source)>) -> Option<Vec<String>> {
        let Some((items, source)) = patterns else { return Some(Vec::new()) };
        let mut good = Vec::with_capacity(items.len());
        for item in items.iter().map(|item| item.trim()).filter(|item| !item.is_empty()) {
            // A document's element is one pattern if its pieces make no sense alone.
            let pieces = elements(std::slice::from_ref(&item.to_owned()), &source);
            if pieces.iter().all(|piece| compile(piece).is_ok()) {
                good.extend(pieces);
            } else if let Err(error) = compile(item) {
                let message = format!("invalid harpoon host regex {item:?}: {error} ({source})");
                self.findings.error(ErrorKind::Other, message);
                return None;
            } else {
                good.push(item.to_owned());
            }
        }
        Some(good)
    }
}

/// The trimmed elements that are not blank. An element of the document may hold several, as in the
/// environment; a flag holds one.
fn elements(items: &[String], source: &Source) -> Vec<String> {
    let separators: &[char] = if matches!(source, Source::Document(_)) { &[';', '\n'] } else { &[] };
    let pieces = items.iter().flat_map(|item| item.split(separators)).map(str::trim);
    pieces.filter(|piece| !piece.is_empty()).map(str::to_owned).collect()
}

fn compile(pattern: &str) -> Result<(), regex_lite::Error> {
    regex_lite::RegexBuilder::new(pattern).case_insensitive(true).build().map(|_| ())
}

fn is_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    text.len() <= MAX_LABEL_CHARS
        && text.bytes().next().is_some_and(inner)
        && text.bytes().all(|b| inner(b) || b == b'_' || b == b'-')
}

/// The parts of an entry of the document, if it has those that every entry needs.
fn complete(parts: Parts) -> Result<Parts, String> {
    let given = |key: &str| parts.get(key).filter(|text| !text.is_empty());
    match (given("label"), given("url")) {
        (None, _) => Err("harpoon.targets entry requires label".to_owned()),
        (Some(label), None) => Err(format!("harpoon.targets entry {label:?} requires url")),
        _ => Ok(parts),
    }
}

/// Keys and values of an entry's text, and the keys that nobody knows.
fn target_parts(entry: &str) -> Result<(Parts, Vec<String>), String> {
    let Kind::Entries(_, fields) = settings::HARPOON_TARGETS.kind else { return Ok(Default::default()) };
    let (mut parts, mut unknown) = (BTreeMap::new(), Vec::new());
    for segment in entry.split(',').map(str::trim).filter(|segment| !segment.is_empty()) {
        let (key, value) = segment.split_once('=').ok_or("expected key=value pairs")?;
        let key = key.trim().to_ascii_lowercase();
        if key.is_empty() {
            return Err("empty key".to_owned());
        }
        match fields.iter().find(|field| field.key == key) {
            Some(field) => {
                parts.insert(field.key, unquoted(value.trim()).to_owned());
            }
            None => unknown.push(key),
        }
    }
    Ok((parts, unknown))
}

/// Without one pair of matching quotes.
fn unquoted(text: &str) -> &str {
    for quote in ['"', '\''] {
        if let Some(inner) = text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)) {
            return inner;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_keys_and_values() {
        let (parts, unknown) =
            target_parts("Label = auth ,url='https://a/b',desc=\"Token endpoint\",,color=red,label=auth2")
                .unwrap();
        assert_eq!(parts.get("label").map(String::as_str), Some("auth2"));
        assert_eq!(parts.get("url").map(String::as_str), Some("https://a/b"));
        assert_eq!(parts.get("desc").map(String::as_str), Some("Token endpoint"));
        assert_eq!(unknown, ["color"]);
        assert!(target_parts("label=a,junk").unwrap_err().contains("expected key=value pairs"));
        assert!(target_parts("=x").unwrap_err().contains("empty key"));
    }

    #[test]
    fn only_matching_quotes_are_stripped() {
        assert_eq!(unquoted("\"a\""), "a");
        assert_eq!(unquoted("'a'"), "a");
        for kept in ["\"a", "a'", "\"a'", "\"", "a"] {
            assert_eq!(unquoted(kept), kept);
        }
    }

    #[test]
    fn labels_are_short_and_lower_case() {
        for good in ["a", "0-_", &"a".repeat(64)] {
            assert!(is_label(good), "{good}");
        }
        for bad in ["", "Auth", "-a", "_a", "a.b", &"a".repeat(65)] {
            assert!(!is_label(bad), "{bad}");
        }
    }
}
