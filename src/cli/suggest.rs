//! Words for a command that does not exist.

use super::Failure;
use super::tree::Node;

/// Edits between a typo and the name it was meant to be.
const MAX_DISTANCE: usize = 2;

/// The failure for `word`, with the names it may have been meant to be.
pub(super) fn unknown_command(word: &str, parent: &str, children: &[&Node]) -> Failure {
    let mut message = format!("unknown command \"{word}\" for \"{parent}\"");
    let near: Vec<&str> =
        children.iter().map(|child| child.name).filter(|name| is_near(word, name)).collect();
    if near.is_empty() {
        message.push_str(&format!("\nRun \"{parent} --help\" for the commands there are."));
    } else {
        message.push_str("\n\nDid you mean this?");
        near.iter().for_each(|name| message.push_str(&format!("\n\t{name}")));
    }
    Failure::new(message)
}

fn is_near(word: &str, name: &str) -> bool {
    let word = word.to_lowercase();
    (!word.is_empty() && name.starts_with(&word)) || distance(&word, name) <= MAX_DISTANCE
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
            ("bogus", "doctor", false),
            ("", "profiles", false),
        ] {
            assert_eq!(is_near(word, name), near, "{word} {name}");
        }
    }

    #[test]
    fn distances_count_edits() {
        for (a, b, edits) in [("", "abc", 3), ("abc", "abc", 0), ("kitten", "sitting", 3), ("é", "e", 1)] {
            assert_eq!(distance(a, b), edits, "{a} {b}");
        }
    }
}
