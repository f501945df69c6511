//! Help texts, laid out from the tree's declarations.

use std::fmt::Write as _;
use std::io::Write as _;

use crate::config::SETUP_URLS;
use crate::config::flags::OwnFlag;
use crate::config::settings::{self, Setting};

use super::commands::ROOT;
use super::topics::{self, TOPICS};
use super::tree::{Call, Node, PROGRAM, Shape, Words, path};
use super::{Failure, terminal};

/// Width of the column of names in lists.
const NAME_COLUMN: usize = 12;

pub(super) static COMMAND: Node = Node {
    name: "help",
    summary: "Show a help topic, or the help of a command",
    about: "Topics: doctor, oauth, plugin, quickstart, samples, troubleshooting. A topic wins over a command\nof the same name.",
    kind: Shape::Command { words: Words::Optional("topic|command"), help: None, main },
    ..Node::BLANK
};

fn main(call: &Call) -> Result<(), Failure> {
    let word = call.word().trim();
    if call.words.is_empty() {
        return show(&of(&[&ROOT]));
    }
    if let Some(text) = topics::text(word) {
        return show(text);
    }
    let command = ROOT.children().iter().find(|child| child.name == word && child.name != COMMAND.name);
    match command {
        Some(command) => show(&of(&[&ROOT, command])),
        None => {
            let names = TOPICS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
            Err(Failure::new(format!("unknown help topic {word:?}; available topics: {names}")))
        }
    }
}

/// Shows a help text: on a terminal with lines that fit.
pub(super) fn show(text: &str) -> Result<(), Failure> {
    match terminal::columns() {
        Some(columns) => print(&terminal::fitted(text, columns)),
        None => print(text),
    }
}

/// Writes `text` to stdout; a closed stdout is no failure.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    write_out(text);
    Ok(())
}

/// Writes `text` and, unless it ends with one, a newline to stdout.
pub(super) fn write_out(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let newline = if text.ends_with('\n') { "" } else { "\n" };
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.write_all(newline.as_bytes()));
    let _ = stdout.flush();
}

/// The source revision that a packager stamped at build time.
const REVISION: Option<&str> = option_env!("TUNNEL_CLIENT_GIT_SHA");

/// The version line.
pub(super) fn version() -> String {
    version_of(crate::VERSION, REVISION)
}

fn version_of(version: &str, revision: Option<&str>) -> String {
    match revision.map(str::trim).filter(|revision| !revision.is_empty()) {
        Some(revision) => format!("{version} (git sha: {revision})"),
        None => version.to_owned(),
    }
}

/// Help of the last of `nodes`, which lead there from the root.
pub(super) fn of(nodes: &[&'static Node]) -> String {
    let node = nodes[nodes.len() - 1];
    if nodes.len() == 1 {
        return root();
    }
    if let Shape::Command { help: Some(help), .. } = node.kind {
        return help();
    }
    let mut text = format!("{}.\n\nUsage: {}\n", node.summary, usage(nodes));
    if !node.about.is_empty() {
        let _ = write!(text, "\n{}\n", node.about);
    }
    if !node.examples.is_empty() {
        text.push_str("\nExamples:\n");
        for example in node.examples {
            let _ = writeln!(text, "  {example}");
        }
    }
    commands(&mut text, node);
    flags(&mut text, "Flags", &node.own_flags(), node.settings);
    let above = &nodes[..nodes.len() - 1];
    let inherited: Vec<OwnFlag> = above.iter().flat_map(|node| node.own_flags()).collect();
    let settings: Vec<&'static Setting> = above.iter().flat_map(|node| node.settings).copied().collect();
    flags(&mut text, "Inherited flags", &inherited, &settings);
    if !node.children().is_empty() {
        let _ = write!(text, "\nRun \"{} <command> --help\" for the flags of a command.\n", path(nodes));
    }
    text
}

/// How a command line of the last of `nodes` looks.
pub(super) fn usage(nodes: &[&'static Node]) -> String {
    let path = path(nodes);
    match nodes[nodes.len() - 1].kind {
        Shape::Group(_) => format!("{path} <command> [flags]"),
        Shape::Command { words: Words::None | Words::Any(""), .. } => format!("{path} [flags]"),
        Shape::Command { words: Words::One(name), .. } => format!("{path} <{name}> [flags]"),
        Shape::Command { words: Words::Optional(name), .. } => format!("{path} [{name}]"),
        Shape::Command { words: Words::Any(shown), .. } => format!("{path} [flags] {shown}"),
    }
}

fn commands(text: &mut String, node: &Node) {
    if node.children().is_empty() {
        return;
    }
    text.push_str("\nAvailable Commands:\n");
    for child in node.children().iter().filter(|child| !child.hidden) {
        let _ = writeln!(text, "  {:<NAME_COLUMN$}{}", child.name, child.summary);
    }
}

fn flags(text: &mut String, title: &str, own: &[OwnFlag], settings: &[&'static Setting]) {
    let mut rows: Vec<(String, String)> = own.iter().map(own_row).collect();
    rows.extend(settings.iter().filter(|setting| !setting.flag.is_empty()).map(|s| setting_row(s)));
    if rows.is_empty() {
        return;
    }
    rows.sort();
    let _ = write!(text, "\n{title}:\n");
    for (flag, help) in rows {
        let _ = write!(text, "  {}\n        {help}\n", flag.trim_end());
    }
}

fn own_row(flag: &OwnFlag) -> (String, String) {
    (format!("--{} {}", flag.name, flag.kind.value_name()), with_default(&sentence(flag.help), flag.default))
}

/// `text` with a capital at its start and a full stop at its end.
pub(super) fn sentence(text: &str) -> String {
    let mut letters = text.trim_end_matches('.').chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(letters).chain(['.']).collect())
}

fn setting_row(setting: &Setting) -> (String, String) {
    let flag = format!("--{} {}", setting.flag, setting.kind.value_name());
    (flag, with_default(setting.help, setting.help_default()))
}

fn with_default(help: &str, default: &str) -> String {
    if default.is_empty() { help.to_owned() } else { format!("{help} (default {default})") }
}

/// Help of the bare program.
fn root() -> String {
    let mut text = format!(
        "\
{PROGRAM} connects a local or private MCP server to a control plane over an outbound tunnel.
The daemon serves /healthz, /readyz and /ui on a local listener.

Usage: {PROGRAM} <command> [flags]

Try first:    {PROGRAM} demo
Your server:  {PROGRAM} demo --stdio -- COMMAND...
              {PROGRAM} demo --url http://127.0.0.1:3001/mcp
For real:     {PROGRAM} init --tunnel-id tunnel_... --mcp-server-url http://127.0.0.1:3001/mcp
"
    );
    commands(&mut text, &ROOT);
    text.push_str("\nAgent-first help topics:\n");
    for (name, _) in TOPICS {
        let _ = writeln!(text, "  {PROGRAM} help {name}");
    }
    text.push('\n');
    text.push_str(&setup_urls());
    let _ = write!(
        text,
        "\nFlags:\n  -h, --help       Show this help\n  -v, --version    Show the version\n\n\
         Run \"{PROGRAM} <command> --help\" for the flags of a command.\n"
    );
    text
}

/// The setup URLs under their heading.
fn setup_urls() -> String {
    let mut text = "Canonical setup URLs:\n".to_owned();
    for (_, label, url) in SETUP_URLS {
        let _ = writeln!(text, "  {label}: {url}");
    }
    text
}

/// Help of `run`, from the settings table.
pub(super) fn run() -> String {
    let mut text = format!(
        "{PROGRAM} {}\n\nRun the client in the foreground until SIGINT or SIGTERM.\n\nUsage: {PROGRAM} run [flags]\n",
        crate::VERSION
    );
    flags(&mut text, "Flags", settings::RUN_FLAGS, settings::ALL);
    let _ = write!(
        text,
        "
Values come from flags, then environment variables, then the document (--config, --profile,
--profile-file), then defaults. Without a directory of its own a profile is looked up in
$XDG_CONFIG_HOME/tunnel-client or ~/.config/tunnel-client. Header values of --mcp.extra-headers,
--mcp.discovery-extra-headers and --control-plane.extra-headers accept env:VAR or file:/path.

Next steps:
  {PROGRAM} profiles samples list            built-in profiles to start from
  {PROGRAM} profiles samples show NAME       one of them, with its document
  {PROGRAM} init --tunnel-id tunnel_... --mcp-server-url http://127.0.0.1:3001/mcp
  {PROGRAM} doctor --profile NAME --explain  check everything before the start
  {PROGRAM} run --embedded-mcp-stub --control-plane.tunnel-id tunnel_...
  The web UI is at http://<health.listen-addr>/ui while the client runs.

Environment:
"
    );
    for setting in settings::ALL.iter().filter(|setting| !setting.variable.is_empty()) {
        let _ = writeln!(text, "  {:<42} --{}", setting.variable, setting.flag);
    }
    let others = [
        ("OPENAI_API_KEY", "runtime API key of last resort"),
        ("XDG_CONFIG_HOME, HOME", "where the profile directory is"),
        ("HTTPS_PROXY, HTTP_PROXY, NO_PROXY", "proxies, where none is configured"),
    ];
    for (names, meaning) in others {
        let _ = writeln!(text, "  {names:<42} {meaning}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_line_names_the_revision_once() {
        assert_eq!(version_of("1.2.3", None), "1.2.3");
        assert_eq!(version_of("1.2.3", Some(" ")), "1.2.3");
        assert_eq!(version_of("1.2.3", Some("abc123")), "1.2.3 (git sha: abc123)");
    }

    #[test]
    fn help_of_run_lists_every_setting_and_no_commands() {
        let text = run();
        for setting in settings::ALL.iter().filter(|setting| !setting.flag.is_empty()) {
            assert!(text.contains(&format!("  --{}", setting.flag)), "{}", setting.flag);
            assert!(text.contains(setting.variable), "{}", setting.variable);
            assert!(setting.alias.is_empty() || !text.contains(&format!("--{}\n", setting.alias)));
        }
        assert!(!text.contains("Commands:"));
        assert!(
            text.contains("--log.file string\n        File that log lines are appended to. (default stdout)")
        );
    }

    #[test]
    fn help_of_every_command_says_how_to_use_it() {
        fn check(nodes: &mut Vec<&'static Node>) {
            let text = of(nodes);
            assert!(text.contains(&format!("Usage: {}", path(nodes))), "{text}");
            for flag in nodes[nodes.len() - 1].own_flags() {
                assert!(
                    text.contains(&format!("  --{}", flag.name)) && !flag.help.is_empty(),
                    "{}",
                    flag.name
                );
            }
            for child in nodes[nodes.len() - 1].children() {
                assert_eq!(text.contains(&format!("\n  {} ", child.name)), !child.hidden, "{}", child.name);
                nodes.push(child);
                check(nodes);
                nodes.pop();
            }
        }
        check(&mut vec![&ROOT]);
    }
}
