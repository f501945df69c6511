//! Words as mdoc(7): sentences on lines of their own, flags, lists.

use std::fmt::Write as _;

use crate::config::flags::OwnFlag;
use crate::config::settings::{Kind, Setting};

use super::super::help::sentence;

/// Columns that prose is filled to.
const COLUMNS: usize = 76;
/// The same, where examples are indented.
const EXAMPLE_COLUMNS: usize = 68;
/// A word of more characters may be broken where one of its optional parts begins.
const UNBROKEN: usize = 60;

/// A flag with what follows it: `Fl -name Ar value`.
pub(super) fn flag(name: &str, kind: Kind) -> String {
    match kind.value_name() {
        "" => format!("Fl -{name}"),
        "'Name: value'" => format!("Fl -{name} Ar name:value"),
        value => format!("Fl -{name} Ar {value}"),
    }
}

/// The entry of a flag that is no setting, and its text.
pub(super) fn own_item(own: &OwnFlag) -> (String, String) {
    let mut text = String::new();
    sentences(&mut text, &with_default(&sentence(own.help), own.default));
    (flag(own.name, own.kind), text)
}

/// The entry of a setting's flag, and its text with the setting's other names.
pub(super) fn setting_item(setting: &Setting) -> (String, String) {
    let mut text = String::new();
    sentences(&mut text, &with_default(setting.help, setting.help_default()));
    let others = [("Ev", setting.variable), ("Ic", setting.yaml)];
    let others: Vec<String> = others
        .into_iter()
        .filter(|(_, name)| !name.is_empty())
        .map(|(kind, name)| format!("{kind} {name}"))
        .collect();
    if !others.is_empty() {
        let _ = writeln!(text, ".br\n.{}", others.join(" , "));
    }
    (flag(setting.flag, setting.kind), text)
}

/// A list of entries and their texts; nothing if there are none.
pub(super) fn list(text: &mut String, items: &[(String, String)]) {
    if items.is_empty() {
        return;
    }
    text.push_str(".Bl -tag -width Ds\n");
    for (entry, words) in items {
        let _ = write!(text, ".It {entry}\n{words}");
    }
    text.push_str(".El\n");
}

/// Text with the default behind it. That a switch is off unless it is given goes without saying.
pub(super) fn with_default(help: &str, default: &str) -> String {
    if matches!(default, "" | "false") {
        help.to_owned()
    } else {
        format!("{help} The default is {default}.")
    }
}

/// Help text: prose is filled, what is laid out in columns stays as it is.
pub(super) fn paragraphs(text: &mut String, words: &str) {
    if words.lines().any(|line| line.trim_start().contains("  ")) {
        let lines: Vec<String> = words.lines().map(escaped).collect();
        let _ = writeln!(text, ".Bd -literal\n{}\n.Ed", lines.join("\n"));
    } else {
        sentences(text, &words.replace('\n', " "));
    }
}

/// Command lines to copy; long ones go on in the next line.
pub(super) fn examples(text: &mut String, lines: &[&str]) {
    text.push_str(".Bd -literal -offset indent\n");
    for line in lines {
        let mut shown = String::new();
        for (number, part) in line.split(" --").enumerate() {
            let part = if number == 0 { part.to_owned() } else { format!("--{part}") };
            if number > 0 && shown.len() + part.len() > EXAMPLE_COLUMNS {
                let _ = writeln!(text, "{} \\e", escaped(&shown));
                shown = format!("    {part}");
            } else {
                shown = if number == 0 { part } else { format!("{shown} {part}") };
            }
        }
        let _ = writeln!(text, "{}", escaped(&shown));
    }
    text.push_str(".Ed\n");
}

/// Each sentence begins a line, as mdoc wants it.
pub(super) fn sentences(text: &mut String, prose: &str) {
    let mut line = String::new();
    for word in prose.split_whitespace() {
        if !line.is_empty() && line.len() + word.len() > COLUMNS {
            let _ = writeln!(text, "{}", escaped(&line));
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        if word.len() > UNBROKEN {
            line.push_str(&word.replace("[,", "\u{1}[,"));
        } else {
            line.push_str(word);
        }
        if word.ends_with('.') && !word.ends_with("..") {
            let _ = writeln!(text, "{}", escaped(&line));
            line.clear();
        }
    }
    if !line.is_empty() {
        let _ = writeln!(text, "{}", escaped(&line));
    }
}

/// A text line that no macro processor mistakes for a macro.
fn escaped(line: &str) -> String {
    let line = line.replace('\\', "\\e").replace('-', "\\-").replace('\u{1}', "\\:");
    if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_begin_lines_and_macros_do_not_arise_by_accident() {
        let mut text = String::new();
        sentences(&mut text, "One two. Three... four. .It is-no macro");
        assert_eq!(text, "One two.\nThree... four.\n\\&.It is\\-no macro\n");
        assert_eq!(escaped("a\\b"), "a\\eb");
        let mut text = String::new();
        sentences(&mut text, &format!("{}[,b]", "a".repeat(60)));
        assert_eq!(text, format!("{}\\:[,b]\n", "a".repeat(60)));
    }

    #[test]
    fn columns_stay_as_they_are() {
        let mut text = String::new();
        paragraphs(&mut text, "Names:\n  a   one");
        assert_eq!(text, ".Bd -literal\nNames:\n  a   one\n.Ed\n");
    }
}
