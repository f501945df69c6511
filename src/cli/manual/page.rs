//! One man page: its sections in the usual order, from what a person wrote and what the program knows.

use std::fmt::Write as _;

use crate::config::settings::{self, Kind, Setting};

use super::super::commands::ROOT;
use super::super::help::sentence;
use super::super::tree::{Node, PROGRAM, Shape, Words, path};
use super::super::{help, server};
use super::{mdoc, paged};

/// When the pages last changed in more than names and defaults.
const DATE: &str = "November 26, 2026";

/// The settings of `run` under their headings, by the beginnings of their keys in the document.
const GROUPS: &[(&str, &[&str])] = &[
    ("Choice of the document, trust, proxy", &["", "ca_bundle", "http_proxy", "config_version"]),
    ("Control plane", &["control_plane."]),
    ("MCP servers", &["mcp."]),
    ("Allow-listed HTTP targets", &["harpoon."]),
    ("Logging", &["log."]),
    ("Local listener and process", &["health.", "process.", "admin_ui.", "proxy."]),
    ("Companion", &["cloudflared."]),
];

/// The order of sections; what is not in it stands before OPTIONS.
const BEHIND_OPTIONS: &[&str] =
    &["ENVIRONMENT", "FILES", "EXIT STATUS", "EXAMPLES", "SECURITY", "SEE ALSO", "STANDARDS"];

/// What a page is about, and what a person wrote of it.
pub(super) struct Title<'a> {
    pub(super) name: &'a str,
    pub(super) section: char,
    /// One phrase.
    pub(super) what: &'a str,
    /// mdoc; empty for none.
    pub(super) synopsis: &'a str,
    /// Sections in mdoc; lines such as `@keys` stand for what the program knows.
    pub(super) prose: &'a str,
}

/// A page whose sections are all written.
pub(super) fn written(title: &Title<'_>) -> String {
    let mut text = head(title);
    for line in title.prose.lines() {
        match line {
            "@commands" => commands(&mut text),
            "@keys" => keys(&mut text),
            "@serverflags" => server_flags(&mut text),
            ".Sh STANDARDS" => {
                see_also(&mut text, title.name);
                let _ = writeln!(text, "{line}");
            }
            _ => {
                let _ = writeln!(text, "{line}");
            }
        }
    }
    if !title.prose.contains(".Sh STANDARDS") {
        see_also(&mut text, title.name);
    }
    text
}

/// The page of a command, or of a group with all its commands.
pub(super) fn of_command(command: &'static Node, prose: &str) -> String {
    let name = format!("{PROGRAM}-{}", command.name);
    let what = command.summary.to_lowercase().replace("mcp", "MCP").replace("oauth", "OAuth");
    let leaves = leaves(command);
    let mut synopsis = String::new();
    leaves.iter().for_each(|nodes| usage(&mut synopsis, nodes));
    let mut text = head(&Title { name: &name, section: '1', what: &what, synopsis: &synopsis, prose: "" });
    let written = sections(prose);
    let known = |name: &str| written.iter().find(|(title, _)| *title == name).map(|(_, body)| *body);
    let mut section = |title: &str, generated: String| {
        let body = match known(title) {
            Some(body) => body.to_owned(),
            None => generated,
        };
        if !body.is_empty() {
            let _ = write!(text, ".Sh {title}\n{body}");
        }
    };
    section("DESCRIPTION", description(command));
    for (title, body) in &written {
        if *title != "DESCRIPTION" && !BEHIND_OPTIONS.contains(title) {
            section(title, (*body).to_owned());
        }
    }
    section("OPTIONS", options(command, &leaves));
    section("ENVIRONMENT", if all_settings(command) { environment(command) } else { String::new() });
    section("FILES", String::new());
    section("EXIT STATUS", "0 on success, 1 on any error, with one message on standard error.\n".to_owned());
    section("EXAMPLES", examples(&leaves));
    section("SECURITY", String::new());
    see_also(&mut text, &name);
    text
}

fn head(title: &Title<'_>) -> String {
    let Title { name, section, what, synopsis, .. } = title;
    let mut text = format!(
        ".\\\" SPDX-License-Identifier: Apache-2.0\n.\\\" Written by \"{PROGRAM} generate\".\n.Dd {DATE}\n.Dt {} {section}\n.Os\n.Sh NAME\n.Nm {name}\n.Nd {what}\n",
        name.to_uppercase()
    );
    if !synopsis.is_empty() {
        let _ = write!(text, ".Sh SYNOPSIS\n{synopsis}");
    }
    text
}

/// Titles and bodies of what a person wrote.
fn sections(prose: &str) -> Vec<(&str, &str)> {
    prose
        .split(".Sh ")
        .filter_map(|part| part.split_once('\n'))
        .filter(|(title, _)| !title.is_empty())
        .collect()
}

/// The ways to the commands below a node, from the root.
fn leaves(command: &'static Node) -> Vec<Vec<&'static Node>> {
    fn collect(nodes: &mut Vec<&'static Node>, found: &mut Vec<Vec<&'static Node>>) {
        let children = nodes[nodes.len() - 1].children();
        if children.is_empty() {
            found.push(nodes.clone());
        }
        for child in children {
            nodes.push(child);
            collect(nodes, found);
            nodes.pop();
        }
    }
    let mut found = Vec::new();
    collect(&mut vec![&ROOT, command], &mut found);
    found
}

fn all_settings(command: &Node) -> bool {
    command.settings.len() == settings::ALL.len()
}

fn usage(text: &mut String, nodes: &[&'static Node]) {
    let words: Vec<&str> = nodes[1..].iter().map(|node| node.name).collect();
    let _ = writeln!(text, ".Nm {PROGRAM}\n.Cm {}", words.join(" "));
    if nodes[1..].iter().any(|node| !node.own_flags().is_empty() || !node.settings.is_empty()) {
        text.push_str(".Op Ar flags\n");
    }
    match nodes[nodes.len() - 1].kind {
        Shape::Command { words: Words::One(name), .. } => {
            let _ = writeln!(text, ".Ar {name}");
        }
        Shape::Command { words: Words::Optional(name), .. } => {
            let _ = writeln!(text, ".Op Ar {}", name.replace('|', " | Ar "));
        }
        Shape::Command { words: Words::Any(shown), .. } if !shown.is_empty() => {
            text.push_str(".Op Fl - Ar command ...\n");
        }
        _ => {}
    }
}

fn description(command: &Node) -> String {
    let mut text = String::new();
    if command.about.is_empty() {
        mdoc::sentences(&mut text, &sentence(command.summary));
    } else {
        mdoc::paragraphs(&mut text, command.about);
    }
    text
}

/// The flags: of a group first its own, then those of each command with what it is for.
fn options(command: &'static Node, leaves: &[Vec<&'static Node>]) -> String {
    let mut text = String::new();
    if all_settings(command) {
        mdoc::list(&mut text, &own_items(command));
        if command.name == "run" {
            groups(&mut text);
        } else {
            let _ = writeln!(text, ".Pp\nTakes all settings of\n.Xr {PROGRAM}-run 1\nas well.");
        }
        return text;
    }
    mdoc::list(&mut text, &own_items(command));
    for nodes in leaves.iter().filter(|nodes| nodes.len() > 2) {
        let leaf = nodes[nodes.len() - 1];
        let _ = writeln!(text, ".Ss {}", path(&nodes[1..]));
        mdoc::sentences(&mut text, &sentence(leaf.summary));
        if !leaf.about.is_empty() {
            text.push_str(".Pp\n");
            mdoc::paragraphs(&mut text, leaf.about);
        }
        let mut items = own_items(leaf);
        // Of the groups between, whose flags nobody else tells.
        items.extend(nodes[2..nodes.len() - 1].iter().flat_map(|node| own_items(node)));
        mdoc::list(&mut text, &items);
    }
    text
}

fn own_items(node: &Node) -> Vec<(String, String)> {
    let mut items: Vec<_> = node.own_flags().iter().map(mdoc::own_item).collect();
    if !all_settings(node) {
        items.extend(node.settings.iter().map(|setting| mdoc::setting_item(setting)));
    }
    items.sort();
    items
}

fn groups(text: &mut String) {
    for (title, beginnings) in GROUPS {
        let belongs = |setting: &&&Setting| match setting.yaml {
            // Only the choice of the document and one flag for compatibility have no key.
            "" => {
                beginnings.contains(&"") && !setting.variable.is_empty()
                    || setting.variable.is_empty()
                        && beginnings.iter().any(|start| !start.is_empty() && setting.flag.starts_with(start))
            }
            yaml => beginnings.iter().any(|start| {
                !start.is_empty()
                    && (if start.ends_with('.') { yaml.starts_with(start) } else { yaml == *start })
            }),
        };
        let chosen = settings::ALL.iter().filter(belongs).filter(|setting| !setting.flag.is_empty());
        let items: Vec<_> = chosen.map(|setting| mdoc::setting_item(setting)).collect();
        let _ = writeln!(text, ".Ss {title}");
        mdoc::list(text, &items);
    }
}

fn environment(command: &Node) -> String {
    if command.name != "run" {
        return format!("As\n.Xr {PROGRAM}-run 1 .\n");
    }
    let mut items: Vec<(String, String)> = settings::ALL
        .iter()
        .filter(|setting| !setting.variable.is_empty())
        .map(|setting| (format!("Ev {}", setting.variable), format!("As\n.Fl -{} .\n", setting.flag)))
        .collect();
    items.push((
        "Ev OPENAI_API_KEY".to_owned(),
        "Runtime API key of last resort, after the document.\n".to_owned(),
    ));
    items.push((
        "Ev HTTPS_PROXY , HTTP_PROXY , NO_PROXY".to_owned(),
        "Proxies, where no setting names one.\n".to_owned(),
    ));
    let mut text = "In a variable, headers and channels are separated by commas, headers also by\nsemicolons; MCP servers and commands by line breaks; other lists by semicolons\nor line breaks.\n".to_owned();
    mdoc::list(&mut text, &items);
    text
}

fn examples(leaves: &[Vec<&'static Node>]) -> String {
    let lines: Vec<&str> = leaves.iter().flat_map(|nodes| nodes[nodes.len() - 1].examples).copied().collect();
    let mut text = String::new();
    if !lines.is_empty() {
        mdoc::examples(&mut text, &lines);
    }
    text
}

/// The list of commands with their pages.
fn commands(text: &mut String) {
    let mut items: Vec<(String, String)> = paged()
        .map(|node| {
            let mut words = String::new();
            mdoc::sentences(&mut words, &sentence(node.summary));
            let _ = writeln!(words, "See\n.Xr {PROGRAM}-{} 1 .", node.name);
            (format!("Cm {}", node.name), words)
        })
        .collect();
    let mut words = String::new();
    mdoc::sentences(&mut words, &sentence(help::COMMAND.summary));
    mdoc::sentences(&mut words, &help::COMMAND.about.replace('\n', " "));
    items.push((format!("Cm {} Op Ar topic | Ar command", help::COMMAND.name), words));
    mdoc::list(text, &items);
}

/// The keys of the document.
fn keys(text: &mut String) {
    let items: Vec<(String, String)> = settings::ALL
        .iter()
        .filter(|setting| !setting.yaml.is_empty())
        .map(|setting| {
            let mut words = String::new();
            mdoc::sentences(&mut words, &mdoc::with_default(setting.help, setting.help_default()));
            if let Kind::Entries(_, fields) = setting.kind {
                let fields: Vec<String> = fields
                    .iter()
                    .map(|field| {
                        format!(".Ic {}{}", field.yaml, if field.required { " Pq required" } else { "" })
                    })
                    .collect();
                let _ = writeln!(words, "Each element is a mapping of\n{} .", fields.join(" ,\n"));
            }
            if !setting.flag.is_empty() {
                let _ = writeln!(words, ".br\n.Fl -{} , Ev {}", setting.flag, setting.variable);
            }
            (format!("Ic {} : Ar {}", setting.yaml, yaml_kind(setting.kind)), words)
        })
        .collect();
    mdoc::list(text, &items);
}

fn yaml_kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Text => "text",
        Kind::Bool => "boolean",
        Kind::Integer => "integer",
        Kind::Duration => "duration",
        Kind::List(_) => "list of texts",
        Kind::Headers => "mapping of names to values",
        Kind::Entries(..) => "list of mappings",
    }
}

fn server_flags(text: &mut String) {
    let items: Vec<(String, String)> = server::flags()
        .map(|flag| {
            let mut words = String::new();
            // A list of literal values does not begin with a capital.
            let literal = flag.help.split(' ').next().is_some_and(|word| word.contains([',', ':']));
            let help = if literal { format!("{}.", flag.help) } else { sentence(flag.help) };
            mdoc::sentences(&mut words, &help);
            let value = if flag.value.is_empty() { String::new() } else { format!(" Ar {}", flag.value) };
            (format!("Fl -{}{value}", flag.name), words)
        })
        .collect();
    mdoc::list(text, &items);
}

/// All other pages.
fn see_also(text: &mut String, own: &str) {
    let mut pages: Vec<(char, String)> =
        paged().map(|node| ('1', format!("{PROGRAM}-{}", node.name))).collect();
    pages.push(('1', PROGRAM.to_owned()));
    pages.push(('5', "tunnel-client.yaml".to_owned()));
    pages.push(('8', server::PROGRAM.to_owned()));
    pages.sort();
    pages.retain(|(_, name)| name != own);
    let pages: Vec<String> = pages.iter().map(|(section, name)| format!(".Xr {name} {section}")).collect();
    let _ = writeln!(text, ".Sh SEE ALSO\n{}", pages.join(" ,\n"));
}
