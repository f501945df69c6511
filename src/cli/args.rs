//! From the words after a command's name to that command's argh struct.
//!
//! argh knows neither dots nor `=`, so flags are read by the same code as settings and handed to argh
//! in the one form that it understands.

use argh::FromArgs;

use crate::config::flags::{OwnFlag, extract};
use crate::config::settings::Kind;

use super::Failure;

/// A flag of an argh command, which has default and help itself.
pub(super) const fn flag(name: &'static str, kind: Kind) -> OwnFlag {
    OwnFlag { name, kind, default: "", help: "" }
}

/// Parsed, or help was asked for: its text.
pub(super) enum Parsed<T> {
    Command(T),
    Help(String),
}

/// Parses `words` for `command` (`tunnel-client demo`). Words that are no flags become positional.
pub(super) fn parse<T: FromArgs>(
    command: &str,
    words: &[&str],
    own: &[OwnFlag],
) -> Result<Parsed<T>, Failure> {
    let extracted = extract(words.iter().copied(), &[], own).map_err(Failure::new)?;
    let mut arguments: Vec<String> = Vec::new();
    if extracted.help {
        arguments.push("--help".into());
    }
    for flag in own {
        match flag.kind {
            Kind::Bool if extracted.flags.is_true(flag.name) => arguments.push(format!("--{}", flag.name)),
            Kind::Bool => {}
            // argh refuses a repeated option; of a scalar flag the last value counts.
            Kind::Text | Kind::Integer | Kind::Duration => {
                if let Some(value) = extracted.flags.last(flag.name) {
                    arguments.extend([format!("--{}", flag.name), value.to_owned()]);
                }
            }
            Kind::List(_) | Kind::Headers | Kind::Entries(..) => {
                for value in extracted.flags.all(flag.name) {
                    arguments.extend([format!("--{}", flag.name), value.clone()]);
                }
            }
        }
    }
    if !extracted.positionals.is_empty() {
        arguments.push("--".into());
        arguments.extend(extracted.positionals);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match T::from_args(&[command], &arguments) {
        Ok(parsed) => Ok(Parsed::Command(parsed)),
        Err(early) if early.status.is_ok() => Ok(Parsed::Help(early.output)),
        Err(early) => Err(Failure::new(early.output.trim_end())),
    }
}
