//! The parts of the manual page and of the package that follow from the tree: rendered here, compared
//! with what is committed. `UPDATE_GENERATED=1 cargo test --lib cli::` writes them anew.

use std::fmt::Write as _;
use std::path::PathBuf;

use crate::config::flags::OwnFlag;
use crate::config::settings::{self, Kind, Setting};

use super::commands::ROOT;
use super::tree::{Node, Shape, Words};

const PAGE: &str = "man/tunnel-client.1";
const UPDATE: &str = "UPDATE_GENERATED";

fn committed(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Compares a committed file with what it should be, or writes it.
pub(super) fn committed_file_is(path: &str, expected: &str) {
    let file = committed(path);
    if std::env::var_os(UPDATE).is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, expected).unwrap();
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(found == expected, "{path} is out of date: run {UPDATE}=1 cargo test --lib cli::");
}

/// `page` with the lines between the two markers of `section` replaced.
fn with_section(page: &str, section: &str, content: &str) -> String {
    let begin = format!(".\\\" begin generated {section}\n");
    let end = format!(".\\\" end generated {section}\n");
    let (before, rest) = page.split_once(&begin).unwrap();
    let (_, after) = rest.split_once(&end).unwrap();
    format!("{before}{begin}{content}{end}{after}")
}

#[test]
fn the_manual_page_describes_every_command_and_setting() {
    let page = std::fs::read_to_string(committed(PAGE)).unwrap();
    let page = with_section(&page, "synopsis", &synopsis());
    let page = with_section(&page, "commands", &commands());
    let page = with_section(&page, "settings", &settings());
    let page = with_section(&page, "environment", &environment());
    committed_file_is(PAGE, &page);
}

fn each_command(nodes: &mut Vec<&'static Node>, visit: &mut dyn FnMut(&[&'static Node])) {
    let node = nodes[nodes.len() - 1];
    if nodes.len() > 1 {
        visit(nodes);
    }
    for child in node.children() {
        nodes.push(child);
        each_command(nodes, visit);
        nodes.pop();
    }
}

/// The words after the program's name.
fn words(nodes: &[&'static Node]) -> String {
    nodes[1..].iter().map(|node| node.name).collect::<Vec<_>>().join(" ")
}

fn positional(node: &Node) -> String {
    match node.kind {
        Shape::Command { words: Words::One(name), .. } => format!(" Ar {name}"),
        Shape::Command { words: Words::Optional(name), .. } => {
            format!(" Op Ar {}", name.replace('|', " | Ar "))
        }
        Shape::Command { words: Words::Any(shown), .. } if !shown.is_empty() => {
            " Op Fl - Ar command ...".to_owned()
        }
        _ => String::new(),
    }
}

fn synopsis() -> String {
    let mut text = String::new();
    each_command(&mut vec![&ROOT], &mut |nodes| {
        let node = nodes[nodes.len() - 1];
        if node.children().is_empty() {
            let _ = writeln!(text, ".Nm\n.Cm {}", words(nodes));
            let takes_flags =
                nodes[1..].iter().any(|node| !node.own_flags().is_empty() || !node.settings.is_empty());
            if takes_flags {
                text.push_str(".Op Ar flags\n");
            }
            let positional = positional(node);
            if !positional.is_empty() {
                let _ = writeln!(text, ".{}", positional.trim_start());
            }
        }
    });
    text.push_str(".Nm\n.Fl -version\n");
    text
}

fn commands() -> String {
    let mut text = String::from(".Bl -tag -width Ds\n");
    each_command(&mut vec![&ROOT], &mut |nodes| {
        let node = nodes[nodes.len() - 1];
        let _ = writeln!(text, ".It Cm {}{}", words(nodes), positional(node));
        sentences(&mut text, &format!("{}.", node.summary));
        if !node.about.is_empty() {
            if node.about.lines().any(|line| line.contains("  ")) {
                let _ = writeln!(
                    text,
                    ".Bd -literal\n{}\n.Ed",
                    node.about.lines().map(escaped).collect::<Vec<_>>().join("\n")
                );
            } else {
                text.push_str(".Pp\n");
                sentences(&mut text, &node.about.replace('\n', " "));
            }
        }
        if node.settings.len() == settings::ALL.len() {
            text.push_str(".Pp\nTakes all flags of\n.Sx SETTINGS .\n");
        }
        let mut rows: Vec<(String, String)> = node.own_flags().iter().map(own_row).collect();
        if node.settings.len() < settings::ALL.len() {
            rows.extend(node.settings.iter().map(|setting| setting_row(setting)));
        }
        rows.sort();
        if !rows.is_empty() {
            text.push_str(".Bl -tag -width Ds\n");
            for (flag, help) in rows {
                let _ = writeln!(text, ".It {flag}");
                sentences(&mut text, &help);
            }
            text.push_str(".El\n");
        }
    });
    text.push_str(".El\n");
    text
}

fn settings() -> String {
    let mut text = String::from(".Bl -tag -width Ds\n");
    for setting in settings::ALL {
        let names = if setting.flag.is_empty() {
            format!("No {}", setting.yaml)
        } else {
            flag(setting.flag, setting.kind)
        };
        let _ = writeln!(text, ".It {names}");
        sentences(&mut text, &with_default(setting.help, setting.help_default()));
        let other: Vec<String> = [("Ev", setting.variable), ("Ic", setting.yaml)]
            .into_iter()
            .filter(|(_, name)| !name.is_empty() && !setting.flag.is_empty())
            .map(|(macro_name, name)| format!("{macro_name} {name}"))
            .collect();
        if !other.is_empty() {
            let _ = writeln!(text, ".br\n.{}", other.join(" , "));
        }
    }
    text.push_str(".El\n");
    text
}

fn environment() -> String {
    let mut text = String::from(".Bl -tag -width Ds\n");
    for setting in settings::ALL.iter().filter(|setting| !setting.variable.is_empty()) {
        let _ = writeln!(text, ".It Ev {}\nAs\n.Fl -{} .", setting.variable, setting.flag);
    }
    text
}

fn flag(name: &str, kind: Kind) -> String {
    match kind.value_name().trim_matches('\'') {
        "" => format!("Fl -{name}"),
        "Name: value" => format!("Fl -{name} Ar name:value"),
        value => format!("Fl -{name} Ar {value}"),
    }
}

fn own_row(own: &OwnFlag) -> (String, String) {
    (flag(own.name, own.kind), with_default(&super::help::sentence(own.help), own.default))
}

fn setting_row(setting: &Setting) -> (String, String) {
    (flag(setting.flag, setting.kind), with_default(setting.help, setting.help_default()))
}

fn with_default(help: &str, default: &str) -> String {
    // That a switch is off unless it is given goes without saying.
    if matches!(default, "" | "false") {
        help.to_owned()
    } else {
        format!("{help} The default is {default}.")
    }
}

/// Each sentence on its own line, as mdoc wants it; lines of at most 78 characters otherwise.
fn sentences(text: &mut String, prose: &str) {
    let mut line = String::new();
    for word in prose.split_whitespace() {
        if !line.is_empty() && line.len() + word.len() > 76 {
            let _ = writeln!(text, "{}", escaped(&line));
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
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
    let line = line.replace('\\', "\\e").replace('-', "\\-");
    if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line }
}
