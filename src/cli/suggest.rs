//! Words for commands and flags that do not exist.
//!
//! Invariant: only names that the very place of the command line knows are suggested.

use super::Failure;
use super::tree::Node;
use crate::config::flags::FlagError;

/// Edits between a typo and the name it was meant to be.
const MAX_DISTANCE: usize = 2;
/// Names that are suggested at most.
const MAX_SUGGESTIONS: usize = 4;

/// The failure for `word`, with the names it may have been meant to be.
pub(super) fn unknown_command(word: &str, parent: &str, children: &[&Node]) -> Failure {
    let mut message = format!("unknown command \"{word}\" for \"{parent}\"");
    let near = nearest(word, children.iter().filter(|child| !child.hidden).map(|child| child.name));
    if near.is_empty() {
        message.push_str(&format!("\nRun \"{parent} --help\" for the commands there are."));
    } else {
        suggest(&mut message, "", &near);
    }
    Failure::new(message)
}

/// The failure for a command line whose flags are wrong; `flags` are those that `command` has.
pub(super) fn wrong_flags<'a>(
    error: &FlagError,
    command: &str,
    flags: impl Iterator<Item = &'a str>,
) -> Failure {
    let mut message = error.to_string();
    let meant = match error {
        FlagError::Unknown(name) => name.as_str(),
        // `-profile` is what other tools' users write.
        FlagError::UnknownShorthand(_, argument) => argument.trim_start_matches('-'),
        _ => return Failure::new(message),
    };
    let meant = meant.split('=').next().unwrap_or_default();
    let near = nearest(meant, flags.filter(|name| !name.is_empty()));
    if near.is_empty() {
        message.push_str(&format!("\nRun \"{command} --help\" for the flags there are."));
    } else {
        suggest(&mut message, "--", &near);
    }
    Failure::new(message)
}

/// The sentence for a flag that `tunnel-server` does not have.
pub(super) fn unknown_server_flag(name: &str) -> String {
    let near: Vec<String> = nearest(name, super::server::flags().map(|flag| flag.name))
        .iter()
        .map(|name| format!("--{name}"))
        .collect();
    let advice = if near.is_empty() {
        "see tunnel-server --help".to_owned()
    } else {
        format!("did you mean {}?", near.join(" or "))
    };
    format!("unknown flag: --{name}; {advice}")
}

/// The names that may have been meant, the nearest first.
pub(super) fn nearest<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut near: Vec<(usize, &str)> = names
        .filter(|name| is_near(word, name))
        .map(|name| (distance(&plain(word), &plain(name)), name))
        .collect();
    near.sort_unstable();
    near.dedup();
    near.truncate(MAX_SUGGESTIONS);
    near.into_iter().map(|(_, name)| name).collect()
}

fn suggest(message: &mut String, prefix: &str, names: &[&str]) {
    message.push_str("\n\nDid you mean this?");
    names.iter().for_each(|name| message.push_str(&format!("\n\t{prefix}{name}")));
}

fn is_near(word: &str, name: &str) -> bool {
    let (word, name) = (plain(word), plain(name));
    // Two edits turn almost any word of two letters into another.
    let allowed = if word.chars().count() > 3 { MAX_DISTANCE } else { 1 };
    (!word.is_empty() && name.starts_with(&word)) || distance(&word, &name) <= allowed
}

/// What is left when the letters' case and the separators do not matter: `--log-level` means `--log.level`.
fn plain(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '.' | '-' | '_')).flat_map(char::to_lowercase).collect()
}

/// Levenshtein's distance, in characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_is_near_its_name() {
        for (word, name, near) in [
            ("rn", "run", true),
            ("doctro", "doctor", true),
            ("prof", "profiles", true),
            ("DOCTOR", "doctor", true),
            ("log-level", "log.level", true),
            ("tunel-id", "tunnel-id", true),
            ("mcp-serverurl", "mcp.server-url", true),
            ("xy", "run", false),
            ("bogus", "doctor", false),
            ("", "profiles", false),
        ] {
            assert_eq!(is_near(word, name), near, "{word} {name}");
        }
    }

    #[test]
    fn the_nearest_name_stands_first_and_there_are_few() {
        let names = ["profile-dir", "profile", "profile-file", "log.level"];
        assert_eq!(nearest("profil", names.into_iter()), ["profile", "profile-dir", "profile-file"]);
        assert!(nearest("bogus", names.into_iter()).is_empty());
    }

    #[test]
    fn a_wrong_flag_is_told_with_the_right_one() {
        let told = |error| wrong_flags(&error, "x run", ["log.level", "json"].into_iter()).to_string();
        assert_eq!(
            told(FlagError::Unknown("log-level".into())),
            "unknown flag: --log-level\n\nDid you mean this?\n\t--log.level"
        );
        assert!(told(FlagError::UnknownShorthand('j', "-json=true".into())).ends_with("\n\t--json"));
        assert!(
            told(FlagError::Unknown("bogus".into()))
                .ends_with("\nRun \"x run --help\" for the flags there are.")
        );
        assert_eq!(
            told(FlagError::MissingArgument("log.level".into())),
            "flag needs an argument: --log.level"
        );
    }

    #[test]
    fn distances_count_edits() {
        for (a, b, edits) in [("", "abc", 3), ("abc", "abc", 0), ("kitten", "sitting", 3), ("é", "e", 1)] {
            assert_eq!(distance(a, b), edits, "{a} {b}");
        }
    }
}
