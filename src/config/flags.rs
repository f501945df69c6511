//! The flags of a command line, without judging what they hold.
//!
//! A command that accepts settings passes them with the flags of its own; what is left over are its
//! positional arguments. Invariant: nothing but the syntax is checked here.

use std::collections::BTreeMap;
use std::fmt;

use super::duration;
use super::settings::{Kind, Setting};

/// A flag of one command that is no setting.
#[derive(Clone, Copy, Debug)]
pub struct OwnFlag {
    /// Name without dashes.
    pub name: &'static str,
    /// What it holds; only the kind's syntax matters here.
    pub kind: Kind,
    /// Value when it is not given, for help; empty for none.
    pub default: &'static str,
    /// One sentence for help and manual.
    pub help: &'static str,
}

/// What a command line held.
#[derive(Clone, Debug, Default)]
pub struct Extracted {
    /// The flags.
    pub flags: FlagValues,
    /// What was no flag, in order.
    pub positionals: Vec<String>,
    /// `-h` or `--help` was met; nothing after it was looked at.
    pub help: bool,
}

/// The flags that were given, by their canonical names without dashes.
#[derive(Clone, Debug, Default)]
pub struct FlagValues {
    given: BTreeMap<&'static str, Vec<String>>,
    overruled_aliases: Vec<&'static str>,
}

impl FlagValues {
    /// Whether the flag was given, whatever its value.
    pub fn is_given(&self, flag: &str) -> bool {
        self.given.contains_key(flag)
    }

    /// The last value of a flag that was given.
    pub fn last(&self, flag: &str) -> Option<&str> {
        self.given.get(flag).and_then(|values| values.last()).map(String::as_str)
    }

    /// All values of a flag in order; none if it was not given.
    pub fn all(&self, flag: &str) -> &[String] {
        self.given.get(flag).map_or(&[], Vec::as_slice)
    }

    /// Whether a boolean flag was given and is true.
    pub fn is_true(&self, flag: &str) -> bool {
        self.last(flag) == Some("true")
    }

    /// Replaces the values of a flag, as if the command line had held these.
    pub fn set(&mut self, flag: &'static str, values: Vec<String>) {
        self.given.insert(flag, values);
    }

    /// Aliases that were ignored because the dotted spelling was given with another value.
    pub fn overruled_aliases(&self) -> &[&'static str] {
        &self.overruled_aliases
    }
}

/// The command line's syntax is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FlagError {
    /// No such flag; holds its name.
    Unknown(String),
    /// No such one-letter flag; holds the letter and the whole argument.
    UnknownShorthand(char, String),
    /// Nothing follows a flag that needs a value.
    MissingArgument(String),
    /// The value does not fit the flag.
    InvalidArgument {
        /// The value; flags of these kinds hold no secrets.
        value: String,
        /// The flag's name.
        flag: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// Something like `--=x`.
    BadSyntax(String),
}

impl fmt::Display for FlagError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FlagError::Unknown(name) => write!(f, "unknown flag: --{name}"),
            FlagError::UnknownShorthand(letter, argument) => {
                write!(f, "unknown shorthand flag: '{letter}' in {argument}")
            }
            FlagError::MissingArgument(name) => write!(f, "flag needs an argument: --{name}"),
            FlagError::InvalidArgument { value, flag, reason } => {
                write!(f, "invalid argument \"{}\" for \"--{flag}\" flag: {reason}", value.escape_debug())
            }
            FlagError::BadSyntax(argument) => write!(f, "bad flag syntax: {argument}"),
        }
    }
}

impl std::error::Error for FlagError {}

/// Reads the arguments after a command's name: flags of `settings` (with their hidden aliases) and of
/// `own`, in any order with positional arguments; `--` ends the flags.
///
/// # Errors
///
/// The first mistake, as [`FlagError`].
pub fn extract<I>(
    arguments: I,
    settings: &[&'static Setting],
    own: &[OwnFlag],
) -> Result<Extracted, FlagError>
where
    I: IntoIterator,
    I::Item: Into<String>,
{
    let mut extracted = Extracted::default();
    let mut raw: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
    let mut arguments = arguments.into_iter().map(Into::into);
    while let Some(argument) = arguments.next() {
        if argument == "--" {
            extracted.positionals.extend(arguments.by_ref());
            break;
        }
        let Some(flag) = argument.strip_prefix("--") else {
            match argument.strip_prefix('-').and_then(|letters| letters.chars().next()) {
                Some('h') => {
                    extracted.help = true;
                    break;
                }
                Some(letter) => return Err(FlagError::UnknownShorthand(letter, argument)),
                None => extracted.positionals.push(argument),
            }
            continue;
        };
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (flag, None),
        };
        if name.is_empty() || name.starts_with('-') {
            return Err(FlagError::BadSyntax(argument));
        }
        if name == "help" {
            extracted.help = true;
            break;
        }
        let (name, kind) = known(name, settings, own).ok_or_else(|| FlagError::Unknown(name.to_owned()))?;
        let value = match value {
            Some(value) => value,
            None if kind == Kind::Bool => "true".to_owned(),
            None => arguments.next().ok_or_else(|| FlagError::MissingArgument(name.to_owned()))?,
        };
        let value = checked(name, kind, value)?;
        raw.entry(name).or_default().push(value);
    }
    for setting in settings.iter().filter(|s| !s.alias.is_empty()) {
        let Some(values) = raw.remove(setting.alias) else { continue };
        match raw.get(setting.flag) {
            None => {
                raw.insert(setting.flag, values);
            }
            Some(dotted) => {
                let differs =
                    if setting.repeatable() { *dotted != values } else { dotted.last() != values.last() };
                if differs {
                    extracted.flags.overruled_aliases.push(setting.alias);
                }
            }
        }
    }
    extracted.flags.given = raw;
    Ok(extracted)
}

fn known(name: &str, settings: &[&'static Setting], own: &[OwnFlag]) -> Option<(&'static str, Kind)> {
    let own = own.iter().find(|flag| flag.name == name).map(|flag| (flag.name, flag.kind));
    own.or_else(|| {
        settings.iter().find_map(|s| match name {
            _ if name == s.flag => Some((s.flag, s.kind)),
            _ if name == s.alias => Some((s.alias, s.kind)),
            _ => None,
        })
    })
}

/// The value in its plain form: decimal integers, `true` or `false`, everything else as it is.
fn checked(flag: &str, kind: Kind, value: String) -> Result<String, FlagError> {
    let (plain, reason) = match kind {
        Kind::Bool => (parse_bool(&value).map(|b| b.to_string()), "not a boolean, use true or false"),
        Kind::Integer => (parse_integer(&value).map(|n| n.to_string()), "not an integer"),
        Kind::Duration => {
            (duration::parse(&value).map(|_| value.clone()), "not a duration, write it like 1m30s or 500ms")
        }
        Kind::Text | Kind::List(_) | Kind::Headers | Kind::Entries(..) => return Ok(value),
    };
    plain.ok_or_else(|| FlagError::InvalidArgument { value, flag: flag.to_owned(), reason })
}

/// The spellings of booleans on command lines and in variables.
pub(crate) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "True" | "TRUE" => Some(true),
        "0" | "f" | "F" | "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

/// Decimal, `0x`, `0o` or leading `0`, `0b`; `_` between digits; an optional sign.
pub(crate) fn parse_integer(text: &str) -> Option<i64> {
    let (negative, magnitude) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = magnitude.to_ascii_lowercase();
    let (radix, digits, prefixed) = match lower.get(..2) {
        Some("0x") => (16, &lower[2..], true),
        Some("0o") => (8, &lower[2..], true),
        Some("0b") => (2, &lower[2..], true),
        _ if lower.len() > 1 && lower.starts_with('0') => (8, &lower[1..], true),
        _ => (10, lower.as_str(), false),
    };
    let misplaced = digits.ends_with('_') || digits.contains("__") || (digits.starts_with('_') && !prefixed);
    let plain: String = digits.chars().filter(|c| *c != '_').collect();
    if misplaced || plain.is_empty() || !plain.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    let value = i128::from(u64::from_str_radix(&plain, radix).ok()?);
    i64::try_from(if negative { -value } else { value }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::ALL;

    const OWN: &[OwnFlag] = &[
        OwnFlag { name: "embedded-mcp-stub", kind: Kind::Bool, default: "false", help: "" },
        OwnFlag { name: "port", kind: Kind::Integer, default: "", help: "" },
    ];

    fn run(arguments: &[&str]) -> Result<Extracted, FlagError> {
        extract(arguments.iter().copied(), ALL, OWN)
    }

    #[test]
    fn both_forms_of_values_work_and_the_last_one_wins() {
        let found = run(&[
            "--log.level",
            "debug",
            "x",
            "--log.level=warn",
            "--embedded-mcp-stub",
            "--port=0x1F",
            "--",
            "--y",
        ])
        .unwrap();
        assert_eq!(found.flags.last("log.level"), Some("warn"));
        assert!(found.flags.is_true("embedded-mcp-stub"));
        assert_eq!(found.flags.last("port"), Some("31"));
        assert_eq!(found.positionals, ["x", "--y"]);
        assert!(!found.help);
    }

    #[test]
    fn a_boolean_takes_its_value_only_after_an_equals_sign() {
        let found = run(&["--open-web-ui", "false", "--allow-remote-ui=F"]).unwrap();
        assert!(found.flags.is_true("open-web-ui"));
        assert_eq!(found.flags.last("allow-remote-ui"), Some("false"));
        assert_eq!(found.positionals, ["false"]);
    }

    #[test]
    fn a_value_may_look_like_a_flag() {
        let found = run(&["--mcp.command", "--x", "--mcp.command=a=b,c"]).unwrap();
        assert_eq!(found.flags.all("mcp.command"), ["--x", "a=b,c"]);
    }

    #[test]
    fn the_dotted_spelling_beats_its_alias() {
        let found = run(&["--mcp-server-url", "https://a", "--mcp-server-url=https://b"]).unwrap();
        assert_eq!(found.flags.all("mcp.server-url"), ["https://a", "https://b"]);
        assert!(found.flags.overruled_aliases().is_empty());
        let found = run(&["--mcp-server-url", "https://a", "--mcp.server-url=https://c"]).unwrap();
        assert_eq!(found.flags.all("mcp.server-url"), ["https://c"]);
        assert_eq!(found.flags.overruled_aliases(), ["mcp-server-url"]);
        assert!(!found.flags.is_given("mcp-server-url"));
    }

    #[test]
    fn help_stops_everything_after_it() {
        for help in ["-h", "--help"] {
            assert!(run(&[help, "--bogus"]).unwrap().help);
        }
        assert!(run(&["--bogus", "--help"]).is_err());
    }

    #[test]
    fn mistakes_are_told_in_the_usual_words() {
        for (arguments, message) in [
            (&["--bogus=1"][..], "unknown flag: --bogus"),
            (&["--log-level", "debug"], "unknown flag: --log-level"),
            (&["-v"], "unknown shorthand flag: 'v' in -v"),
            (&["--log.level"], "flag needs an argument: --log.level"),
            (&["--open-web-ui=maybe"], "invalid argument \"maybe\" for \"--open-web-ui\" flag: "),
            (
                &["--control-plane.max-inflight", "abc"],
                "invalid argument \"abc\" for \"--control-plane.max-inflight\" flag: ",
            ),
            (
                &["--control-plane.poll-timeout=30"],
                "invalid argument \"30\" for \"--control-plane.poll-timeout\" flag: ",
            ),
            (&["--proxy.check-interval="], "invalid argument \"\" for \"--proxy.check-interval\" flag: "),
            (&["--=x"], "bad flag syntax: --=x"),
            (&["---x"], "bad flag syntax: ---x"),
        ] {
            let error = run(arguments).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
    }

    #[test]
    fn integers_have_prefixes_separators_and_signs() {
        for (text, value) in [
            ("10", 10),
            ("-10", -10),
            ("+10", 10),
            ("0x1f", 31),
            ("0X1F", 31),
            ("0o17", 15),
            ("017", 15),
            ("0b11", 3),
            ("1_000", 1000),
            ("0x_1f", 31),
            ("0", 0),
            ("-9223372036854775808", i64::MIN),
        ] {
            assert_eq!(parse_integer(text), Some(value), "{text}");
        }
        for bad in [
            "",
            "-",
            "08",
            "1__0",
            "_1",
            "1_",
            "0x",
            "1.5",
            " 1",
            "9223372036854775808",
            "abc",
            "--1",
            "0x-1",
        ] {
            assert_eq!(parse_integer(bad), None, "{bad}");
        }
    }
}
