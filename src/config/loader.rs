//! Looking a setting up in its layers: flag, environment, document, default.
//!
//! Invariant: one place decides which layer speaks and what an empty value means; the sections only
//! judge what was found.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::time::Duration;

use super::error::{ErrorKind, Findings};
use super::reference::Origin;
use super::schema::{self, Value};
use super::settings::{Kind, Separator, Setting};
use super::yaml::At;
use super::{Environment, FlagValues, duration, flags};
use crate::net::HeaderList;

/// Where a value was found, for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A flag, by its canonical name.
    Flag(&'static str),
    /// An environment variable.
    Variable(&'static str),
    /// A place of the document, with file, line and column.
    Document(String),
    /// The built-in default.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Flag(name) => write!(f, "--{name}"),
            Source::Variable(name) => f.write_str(name),
            Source::Document(place) => f.write_str(place),
            Source::Default => f.write_str("the default"),
        }
    }
}

/// Text and where it was found.
#[derive(Clone, Debug)]
pub(crate) struct Located {
    pub(crate) text: String,
    pub(crate) source: Source,
}

/// What the layers say about a setting.
#[derive(Debug)]
pub(crate) enum Lookup<T> {
    /// The highest layer that says something.
    Found(T),
    /// No layer says anything.
    Absent,
    /// The layer's value is wrong, which was reported.
    Broken,
}

impl<T> Lookup<T> {
    /// The value, where a broken one may count as absent because it was reported already.
    pub(crate) fn found(self) -> Option<T> {
        match self {
            Lookup::Found(value) => Some(value),
            Lookup::Absent | Lookup::Broken => None,
        }
    }
}

/// The document of this run.
#[derive(Debug, Default)]
pub(crate) struct LoadedDocument {
    pub(crate) path: String,
    pub(crate) values: schema::Values,
    /// Settings whose document value is wrong, which was reported.
    pub(crate) broken: BTreeSet<&'static str>,
    /// Where the referenced values came from.
    pub(crate) origins: BTreeMap<&'static str, Origin>,
    /// The reference texts themselves.
    pub(crate) references: BTreeMap<&'static str, String>,
    /// Header maps that are in effect, checked and resolved.
    pub(crate) headers: BTreeMap<&'static str, HeaderList>,
}

impl LoadedDocument {
    pub(crate) fn place(&self, key: &str, at: At) -> Source {
        Source::Document(format!("{key} in {} {at}", self.path))
    }
}

/// One load.
pub(crate) struct Loader<'a> {
    pub(crate) flags: &'a FlagValues,
    pub(crate) environment: &'a Environment,
    pub(crate) document: LoadedDocument,
    pub(crate) findings: Findings,
    secret_variables: BTreeSet<String>,
}

impl<'a> Loader<'a> {
    pub(crate) fn new(flags: &'a FlagValues, environment: &'a Environment) -> Loader<'a> {
        Loader {
            flags,
            environment,
            document: LoadedDocument::default(),
            findings: Findings::default(),
            secret_variables: BTreeSet::new(),
        }
    }

    /// The document's value of a setting.
    pub(crate) fn in_document(&self, setting: &Setting) -> Option<&Value> {
        if setting.yaml.is_empty() { None } else { self.document.values.get(setting.yaml) }
    }

    fn is_broken(&self, setting: &Setting) -> bool {
        self.document.broken.contains(setting.yaml)
    }

    /// Whether a flag or variable silences the document, even with an empty value.
    pub(crate) fn document_is_silenced(&self, setting: &Setting) -> bool {
        let by_variable = !setting.variable.is_empty() && self.environment.get(setting.variable).is_some();
        self.flags.is_given(setting.flag) || by_variable
    }

    /// The value of a variable; an empty one that hides the document's value is worth a warning.
    fn variable(&mut self, setting: &Setting) -> Option<&'a str> {
        if setting.variable.is_empty() {
            return None;
        }
        let value = self.environment.get(setting.variable)?;
        if value.is_empty() && !setting.empty_variable_counts && self.in_document(setting).is_some() {
            self.findings.warn(format!(
                "{} is set but empty: the default of {} applies and {} of the document is ignored",
                setting.variable, setting.flag, setting.yaml
            ));
        }
        Some(value)
    }

    /// The text of a setting that is no list.
    pub(crate) fn text(&mut self, setting: &'static Setting) -> Lookup<Located> {
        if let Some(text) = self.flags.last(setting.flag)
            && (!text.is_empty() || setting.empty_flag_counts)
        {
            return Lookup::Found(Located { text: text.to_owned(), source: Source::Flag(setting.flag) });
        }
        if let Some(text) = self.variable(setting) {
            if text.is_empty() && !setting.empty_variable_counts {
                return Lookup::Absent;
            }
            return Lookup::Found(Located {
                text: text.to_owned(),
                source: Source::Variable(setting.variable),
            });
        }
        if self.is_broken(setting) {
            return Lookup::Broken;
        }
        match self.in_document(setting) {
            Some(Value::Text(found)) if !found.text.is_empty() || setting.empty_variable_counts => {
                let source = self.document.place(setting.yaml, found.at);
                Lookup::Found(Located { text: found.text.clone(), source })
            }
            _ => Lookup::Absent,
        }
    }

    /// As [`Loader::text`], with the default of the table.
    pub(crate) fn text_or_default(&mut self, setting: &'static Setting) -> Option<Located> {
        match self.text(setting) {
            Lookup::Found(found) => Some(found),
            Lookup::Absent => Some(Located { text: setting.default.to_owned(), source: Source::Default }),
            Lookup::Broken => None,
        }
    }

    /// Which layer speaks, for a message about a value that was looked up before.
    pub(crate) fn source(&mut self, setting: &'static Setting) -> Source {
        let found = match setting.kind {
            Kind::List(_) => self.list(setting).found().map(|(_, source)| source),
            _ => self.text(setting).found().map(|found| found.source),
        };
        found.unwrap_or(Source::Default)
    }

    /// Text or nothing; blank is nothing.
    pub(crate) fn optional_text(&mut self, setting: &'static Setting) -> Option<String> {
        self.text(setting).found().map(|found| found.text).filter(|text| !text.trim().is_empty())
    }

    /// A boolean; `None` was reported.
    pub(crate) fn boolean(&mut self, setting: &'static Setting) -> Option<bool> {
        let found = self.text_or_default(setting)?;
        let value = flags::parse_bool(&found.text);
        if value.is_none() {
            let Located { text, source } = found;
            self.findings.error(
                ErrorKind::Other,
                format!(
                    "invalid {}: {source} is {text:?}, which is no boolean; use true or false",
                    setting.flag
                ),
            );
        }
        value
    }

    /// An integer within `low..=high`; `None` was reported in the words of `bounds` for too small and
    /// too large values.
    pub(crate) fn integer(
        &mut self,
        setting: &'static Setting,
        (low, too_low): (i64, &str),
        (high, too_high): (i64, &str),
    ) -> Option<i64> {
        let Located { text, source } = self.text_or_default(setting)?;
        let name = setting.flag;
        // `str::parse` takes what a variable may hold: decimal digits with an optional sign.
        let wrong = match text.parse::<i64>() {
            Ok(value) if value < low => format!("{name} {too_low} ({source} is {value})"),
            Ok(value) if value > high => format!("{name} {too_high} ({source} is {value})"),
            Ok(value) => return Some(value),
            Err(_) if text.is_empty() => format!("invalid {name}: {source} is empty; it {too_low}"),
            Err(_) => format!("invalid {name}: {source} is {text:?}, which is no integer"),
        };
        self.findings.error(ErrorKind::Other, wrong);
        None
    }

    /// A duration that is not negative, and where it was found; `None` was reported. `must` says what is
    /// demanded of the duration.
    pub(crate) fn duration(
        &mut self,
        setting: &'static Setting,
        must: &str,
        fits: impl Fn(Duration) -> bool,
    ) -> Option<Duration> {
        let Located { text, source } = self.text_or_default(setting)?;
        let name = setting.flag;
        let wrong = match duration::parse(&text) {
            None => {
                format!(
                    "invalid {name}: {source} is {text:?}, which is no duration; write it like 1m30s or 500ms"
                )
            }
            Some(signed) => match signed.non_negative().filter(|value| fits(*value)) {
                Some(value) => return Some(value),
                None => format!("{name} {must} ({source} is {text})"),
            },
        };
        self.findings.error(ErrorKind::Other, wrong);
        None
    }

    /// The elements of a list of texts, as the layer wrote them. A flag given once with nothing is an
    /// empty list.
    pub(crate) fn list(&mut self, setting: &'static Setting) -> Lookup<(Vec<String>, Source)> {
        if self.flags.is_given(setting.flag) {
            let given = self.flags.all(setting.flag);
            let items = if matches!(given, [only] if only.is_empty()) { &[] } else { given };
            return Lookup::Found((items.to_vec(), Source::Flag(setting.flag)));
        }
        if let Some(text) = self.variable(setting) {
            if text.is_empty() && !setting.empty_variable_counts {
                return Lookup::Absent;
            }
            return Lookup::Found((split_list(text, setting.kind), Source::Variable(setting.variable)));
        }
        if self.is_broken(setting) {
            return Lookup::Broken;
        }
        match self.in_document(setting) {
            Some(Value::List(at, items)) => {
                let texts = items.iter().map(|item| item.text.clone()).collect();
                Lookup::Found((texts, self.document.place(setting.yaml, *at)))
            }
            _ => Lookup::Absent,
        }
    }

    /// Remembers that one of our own secrets was read from a variable or file.
    pub(crate) fn secret_came_from(&mut self, origin: &Origin) {
        match origin {
            Origin::Literal => {}
            Origin::Variable(name) => {
                self.secret_variables.insert(name.clone());
            }
            Origin::File(path) => {
                if readable_by_others(path) {
                    self.findings.warn(format!(
                        "{} holds a secret but is readable by group or others; restrict it with chmod 600",
                        path.display()
                    ));
                }
            }
        }
    }

    /// Remembers that a setting holds a secret as it was written, whatever layer it stands in.
    pub(crate) fn secret_was_written_in(&mut self, source: &Source, key: &str) {
        match source {
            Source::Variable(name) => self.secret_came_from(&Origin::Variable((*name).to_owned())),
            Source::Document(_) => self.secret_is_literal_in_document(key),
            Source::Flag(_) | Source::Default => {}
        }
    }

    /// Remembers that the document holds a secret in plain text.
    pub(crate) fn secret_is_literal_in_document(&mut self, key: &str) {
        if readable_by_others(Path::new(&self.document.path)) {
            self.findings.warn(format!(
                "{} holds a literal secret ({key}) but is readable by group or others; use env: or file:, or restrict it with chmod 600",
                self.document.path
            ));
        }
    }

    pub(crate) fn take_secret_variables(&mut self) -> Vec<String> {
        std::mem::take(&mut self.secret_variables).into_iter().collect()
    }
}

/// The elements of a list in a variable.
fn split_list(text: &str, kind: Kind) -> Vec<String> {
    let separator = match kind {
        Kind::List(separator) | Kind::Entries(separator, _) => separator,
        _ => return vec![text.to_owned()],
    };
    let trimmed = |separators: &[char]| {
        text.split(separators).map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
    };
    match separator {
        Separator::Comma => text.split(',').map(str::to_owned).collect(),
        Separator::Line => trimmed(&['\n', '\r']),
        Separator::SemicolonOrLine => trimmed(&[';', '\n']),
    }
}

#[cfg(unix)]
fn readable_by_others(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o044 != 0)
}

#[cfg(not(unix))]
fn readable_by_others(_path: &Path) -> bool {
    false
}
