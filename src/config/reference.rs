//! `env:NAME` and `file:PATH`, whose meaning depends on the setting.
//!
//! Only the process environment is looked at, and nothing that a reference yields is looked at again.
//! Invariant: messages show the reference, never what it resolved to.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::Environment;

/// Longest content of a referenced file, in bytes.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Where a resolved value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Written as it is.
    Literal,
    /// An environment variable.
    Variable(String),
    /// The content of a file.
    File(PathBuf),
}

/// A resolved value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub(crate) text: String,
    pub(crate) origin: Origin,
}

/// The two forms of a reference.
enum Form<'a> {
    Variable(&'a str),
    File(&'a str),
    Literal(&'a str),
}

fn form(text: &str, ignore_case: bool) -> Form<'_> {
    let strip = |prefix: &str| -> Option<&str> {
        let head = text.get(..prefix.len())?;
        let same = if ignore_case { head.eq_ignore_ascii_case(prefix) } else { head == prefix };
        same.then(|| &text[prefix.len()..])
    };
    match (strip("env:"), strip("file:")) {
        (Some(name), _) => Form::Variable(name),
        (_, Some(path)) => Form::File(path),
        _ => Form::Literal(text),
    }
}

/// Whether `text` is a reference by the document's rules (any letter case).
pub(crate) fn is_reference(text: &str) -> bool {
    !matches!(form(text.trim(), true), Form::Literal(_))
}

/// The API key's flag: a reference is obligatory, prefixes are case-sensitive.
pub(crate) fn key_flag(text: &str, environment: &Environment) -> Result<Resolved, String> {
    match form(text, false) {
        Form::Variable(name) => variable(name, environment, |value| value),
        Form::File(path) => file(path).and_then(|content| trimmed_file(path, &content)),
        Form::Literal(_) => Err(
            "must be prefixed with env: or file:, for everybody may read command lines; put the key into a variable or file"
                .to_owned(),
        ),
    }
}

/// A document value: variable, file content or literal, all trimmed.
pub(crate) fn value(text: &str, environment: &Environment) -> Result<Resolved, String> {
    let text = text.trim();
    match form(text, true) {
        Form::Variable(name) => variable(name, environment, str::trim),
        Form::File(path) => file(path).and_then(|content| trimmed_file(path, &content)),
        Form::Literal("") => Err("cannot be empty".to_owned()),
        Form::Literal(text) => Ok(Resolved { text: text.to_owned(), origin: Origin::Literal }),
    }
}

/// The companion's token: as a document value, but no literal.
pub(crate) fn token(text: &str, environment: &Environment) -> Result<Resolved, String> {
    let text = text.trim();
    match form(text, true) {
        Form::Literal(_) => Err("must be prefixed with env: or file:".to_owned()),
        _ => value(text, environment),
    }
}

/// A path; `None` if it is blank.
pub(crate) fn path(text: &str, environment: &Environment) -> Result<Option<PathBuf>, String> {
    let text = text.trim();
    match form(text, true) {
        Form::Variable(name) => {
            variable(name, environment, str::trim).map(|found| Some(PathBuf::from(found.text)))
        }
        Form::File(path) if path.trim().is_empty() => Err("file: names no path".to_owned()),
        Form::File(path) => Ok(Some(PathBuf::from(path.trim()))),
        Form::Literal("") => Ok(None),
        Form::Literal(path) => Ok(Some(PathBuf::from(path))),
    }
}

/// The text of a proxy URL: a variable's value or the text itself.
pub(crate) fn proxy(text: &str, environment: &Environment) -> Result<Resolved, String> {
    let text = text.trim();
    match form(text, false) {
        Form::Variable(name) => variable(name, environment, str::trim),
        _ => Ok(Resolved { text: text.to_owned(), origin: Origin::Literal }),
    }
}

/// A header's value; neither blank nor more than one line.
pub(crate) fn header(text: &str, environment: &Environment) -> Result<Resolved, String> {
    let text = text.trim();
    let found = match form(text, true) {
        Form::Variable(name) if !is_variable_name(name) => {
            return Err("env: must be followed by the name of a variable".to_owned());
        }
        Form::Variable(name) => match environment.get(name) {
            None => return Err(format!("environment variable {name} is not set")),
            Some(value) => {
                Resolved { text: value.trim().to_owned(), origin: Origin::Variable(name.to_owned()) }
            }
        },
        Form::File(path) => {
            let content = file(path)?;
            let line = content.strip_suffix("\r\n").or_else(|| content.strip_suffix(['\n', '\r']));
            Resolved {
                text: line.unwrap_or(&content).to_owned(),
                origin: Origin::File(PathBuf::from(path.trim())),
            }
        }
        Form::Literal(text) => Resolved { text: text.to_owned(), origin: Origin::Literal },
    };
    if found.text.trim().is_empty() {
        return Err(match found.origin {
            Origin::Literal => "the value is empty".to_owned(),
            Origin::Variable(name) => format!("environment variable {name} is empty"),
            Origin::File(path) => format!("file {} is empty", path.display()),
        });
    }
    if found.text.contains(['\r', '\n']) {
        return Err("the value contains a line break".to_owned());
    }
    Ok(found)
}

/// `^[A-Za-z_][A-Za-z0-9_]*$`
pub(crate) fn is_variable_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// The form of a reference without resolving it: used where secrets must not be needed.
pub(crate) fn check_form(text: &str) -> Result<(), String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("cannot be empty".to_owned());
    }
    if text.contains(['\r', '\n']) {
        return Err("contains a line break".to_owned());
    }
    match form(text, true) {
        Form::Variable(name) if !is_variable_name(name) => {
            Err("env: must be followed by the name of a variable".to_owned())
        }
        Form::File(path) if path.trim().is_empty() => Err("file: names no path".to_owned()),
        _ => Ok(()),
    }
}

fn variable(name: &str, environment: &Environment, keep: fn(&str) -> &str) -> Result<Resolved, String> {
    let name = name.trim();
    if name.is_empty() {
        return Err("env: names no variable".to_owned());
    }
    let value = environment.get(name).ok_or_else(|| format!("environment variable {name} is not set"))?;
    match keep(value) {
        "" => Err(format!("environment variable {name} is empty")),
        text => Ok(Resolved { text: text.to_owned(), origin: Origin::Variable(name.to_owned()) }),
    }
}

fn trimmed_file(path: &str, content: &str) -> Result<Resolved, String> {
    match content.trim() {
        "" => Err(format!("file {} is empty", path.trim())),
        text => Ok(Resolved { text: text.to_owned(), origin: Origin::File(PathBuf::from(path.trim())) }),
    }
}

fn file(path: &str) -> Result<String, String> {
    let path = path.trim();
    if path.is_empty() {
        return Err("file: names no path".to_owned());
    }
    let fail = |reason: &dyn std::fmt::Display| format!("file {path} cannot be read: {reason}");
    let bytes = read_bounded(Path::new(path), MAX_FILE_BYTES).map_err(|error| fail(&error))?;
    String::from_utf8(bytes).map_err(|_| fail(&"it is no UTF-8 text"))
}

/// The bytes of a file that has at most `limit` of them.
pub(crate) fn read_bounded(path: &Path, limit: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(std::io::Error::other(format!("it is longer than {limit} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment() -> Environment {
        [("SET", " v "), ("EMPTY", ""), ("BLANK", " \t"), ("LINES", "a\nb")].into_iter().collect()
    }

    fn text(result: Result<Resolved, String>) -> Result<String, String> {
        result.map(|found| found.text)
    }

    #[test]
    fn the_key_flag_needs_a_reference_and_keeps_white_space_of_a_variable() {
        let env = environment();
        assert_eq!(text(key_flag("env:SET", &env)), Ok(" v ".into()));
        for (bad, message) in [
            ("sk-abc", "must be prefixed with env: or file:"),
            ("ENV:SET", "must be prefixed"),
            (" env:SET", "must be prefixed"),
            ("env:EMPTY", "is empty"),
            ("env:NOPE", "is not set"),
            ("file:", "names no path"),
            ("file:/nope/nope", "cannot be read"),
        ] {
            let error = key_flag(bad, &env).unwrap_err();
            assert!(error.contains(message), "{bad}: {error}");
            assert!(!error.contains("sk-abc"));
        }
    }

    #[test]
    fn document_values_may_be_literal_and_are_trimmed() {
        let env = environment();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        std::fs::write(&file, " b\n\n").unwrap();
        let blank = dir.path().join("blank");
        std::fs::write(&blank, "\n").unwrap();
        assert_eq!(text(value(" Env:SET ", &env)), Ok("v".into()));
        assert_eq!(text(value(&format!("file:{}", file.display()), &env)), Ok("b".into()));
        assert_eq!(text(value(" lit ", &env)), Ok("lit".into()));
        for bad in ["", " ", "env:BLANK", "env:NOPE", "env:", &format!("file:{}", blank.display())] {
            assert!(value(bad, &env).is_err(), "{bad}");
        }
        assert!(token("abc", &env).is_err());
        assert_eq!(text(token("ENV:SET", &env)), Ok("v".into()));
    }

    #[test]
    fn a_file_reference_of_a_path_is_the_path() {
        let env = environment();
        assert_eq!(path("FILE:/a/b", &env), Ok(Some("/a/b".into())));
        assert_eq!(path(" /a ", &env), Ok(Some("/a".into())));
        assert_eq!(path("env:SET", &env), Ok(Some("v".into())));
        assert_eq!(path("  ", &env), Ok(None));
        assert!(path("file: ", &env).is_err());
        assert!(path("env:BLANK", &env).is_err());
    }

    #[test]
    fn header_values_are_one_line() {
        let env = environment();
        let dir = tempfile::tempdir().unwrap();
        let of = |content: &str| {
            let file = dir.path().join("h");
            std::fs::write(&file, content).unwrap();
            text(header(&format!("file:{}", file.display()), &env))
        };
        assert_eq!(of("s3cret\n"), Ok("s3cret".into()));
        assert_eq!(of(" s3cret\r\n"), Ok(" s3cret".into()));
        for bad in ["a\nb", "\n", "a\n\n"] {
            let error = of(bad).unwrap_err();
            assert!(!error.contains('a') || !error.contains("\n"), "{error}");
        }
        assert_eq!(text(header("env:SET", &env)), Ok("v".into()));
        for bad in ["env:LINES", "env:9x", "env:NOPE", "env:BLANK", " "] {
            assert!(header(bad, &env).is_err(), "{bad}");
        }
    }
}
