//! The shape of the command tree, and the way from a command line to one command of it.
//!
//! Parsers, help, man page and shell completions are all read from these declarations. Invariant: a
//! command runs only after its whole command line was understood.

use argh::{CommandInfoWithArgs, FlagInfoKind, FromArgs, Optionality};

use crate::config::flags::{FlagError, FlagValues, OwnFlag, extract, parse_bool};
use crate::config::settings::{Kind, Separator, Setting};

use super::{Failure, help, suggest};

/// Name of the program in messages.
pub(super) const PROGRAM: &str = "tunnel-client";
/// The flag that asks for JSON, where a command has it.
const JSON: &str = "json";

/// One command, or a group of them.
pub(super) struct Node {
    /// The word that selects it.
    pub(super) name: &'static str,
    /// One line for the list of its group.
    pub(super) summary: &'static str,
    /// Paragraphs below the summary in its help; may be empty.
    pub(super) about: &'static str,
    /// Command lines to start from; may be empty.
    pub(super) examples: &'static [&'static str],
    /// Settings it reads as flags; a group's are read by its commands.
    pub(super) settings: &'static [&'static Setting],
    /// Flags of its own that no argh struct declares; a group's belong to its commands.
    pub(super) flags: &'static [OwnFlag],
    /// Flags of its own that an argh struct declares.
    pub(super) declared: Option<fn() -> CommandInfoWithArgs>,
    /// Kept out of lists of commands, completions and suggestions.
    pub(super) hidden: bool,
    /// What it is.
    pub(super) kind: Shape,
}

/// What a [`Node`] is.
pub(super) enum Shape {
    /// A group of commands.
    Group(&'static [&'static Node]),
    /// A command.
    Command {
        /// Its positional arguments.
        words: Words,
        /// Its help, where that is not laid out like the others.
        help: Option<fn() -> String>,
        /// Does it.
        main: fn(&Call) -> Result<(), Failure>,
    },
}

/// The positional arguments that a command takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Words {
    /// None.
    None,
    /// Exactly this one.
    One(&'static str),
    /// This one or none.
    Optional(&'static str),
    /// Any number; the command judges them. Holds what help shows, if anything.
    Any(&'static str),
}

/// A command line that was understood.
pub(super) struct Call {
    /// The command's full name, such as `tunnel-client admin tunnels get`.
    pub(super) path: String,
    /// The flags that were given.
    pub(super) flags: FlagValues,
    /// The positional arguments.
    pub(super) words: Vec<String>,
    declared: Vec<OwnFlag>,
}

impl Node {
    /// A node with nothing but its name, to be filled in.
    pub(super) const BLANK: Node = Node {
        name: "",
        summary: "",
        about: "",
        examples: &[],
        settings: &[],
        flags: &[],
        declared: None,
        hidden: false,
        kind: Shape::Group(&[]),
    };

    /// All flags of its own.
    pub(super) fn own_flags(&self) -> Vec<OwnFlag> {
        let mut flags = self.flags.to_vec();
        flags.extend(self.declared_flags());
        flags
    }

    fn declared_flags(&self) -> Vec<OwnFlag> {
        let Some(declared) = self.declared else { return Vec::new() };
        let flags = declared().flags.iter().filter_map(|flag| {
            let name = flag.long.strip_prefix("--").filter(|name| *name != "help")?;
            let kind = match (&flag.kind, &flag.optionality) {
                (FlagInfoKind::Switch, _) => Kind::Bool,
                (FlagInfoKind::Option { arg_name: "int" }, _) => Kind::Integer,
                (FlagInfoKind::Option { arg_name: "duration" }, _) => Kind::Duration,
                (_, Optionality::Repeating) => Kind::List(Separator::Line),
                _ => Kind::Text,
            };
            Some(OwnFlag { name, kind, default: "", help: flag.description })
        });
        flags.collect()
    }

    /// Its commands, if it is a group.
    pub(super) fn children(&self) -> &'static [&'static Node] {
        match self.kind {
            Shape::Group(children) => children,
            Shape::Command { .. } => &[],
        }
    }

    fn kind_of(&self, flag: &str) -> Option<Kind> {
        let own = self.own_flags().into_iter().find(|own| own.name == flag).map(|own| own.kind);
        let setting = || self.settings.iter().find(|s| s.flag == flag || s.alias == flag).map(|s| s.kind);
        own.or_else(setting).or_else(|| self.children().iter().find_map(|child| child.kind_of(flag)))
    }
}

impl Call {
    /// The command's argh struct.
    pub(super) fn arguments<T: FromArgs>(&self) -> Result<T, Failure> {
        let mut arguments: Vec<String> = Vec::new();
        for flag in &self.declared {
            match flag.kind {
                Kind::Bool if self.flags.is_true(flag.name) => arguments.push(format!("--{}", flag.name)),
                Kind::Bool => {}
                Kind::List(_) => {
                    for value in self.flags.all(flag.name) {
                        arguments.extend([format!("--{}", flag.name), value.clone()]);
                    }
                }
                // argh refuses a repeated option; of a scalar flag the last value counts.
                _ => {
                    if let Some(value) = self.flags.last(flag.name) {
                        arguments.extend([format!("--{}", flag.name), value.to_owned()]);
                    }
                }
            }
        }
        if !self.words.is_empty() {
            arguments.push("--".into());
            arguments.extend(self.words.iter().cloned());
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        T::from_args(&[&self.path], &arguments).map_err(|early| Failure::new(early.output.trim_end()))
    }

    /// The one positional argument of a command that takes one; empty if it was left out.
    pub(super) fn word(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    /// Whether JSON was asked for.
    pub(super) fn json(&self) -> bool {
        self.flags.is_true(JSON)
    }
}

/// How far a command line leads, before its flags are looked at.
struct Route<'a> {
    /// From the root to where it ends.
    nodes: Vec<&'static Node>,
    /// What is left without the names of the commands.
    rest: Vec<&'a str>,
    help: bool,
}

/// Does what `arguments` say, starting at `root`.
pub(super) fn dispatch(root: &'static Node, arguments: &[&str]) -> Result<(), Failure> {
    let mut route = Route { nodes: vec![root], rest: Vec::new(), help: false };
    let outcome = walk(&mut route, arguments).and_then(|at| match at {
        Walked::Version => help::print(&help::version()),
        Walked::Node => enter(&route),
    });
    let declares_json = || route.nodes.iter().any(|node| node.own_flags().iter().any(|f| f.name == JSON));
    outcome.map_err(|failure| {
        if failure.has_message() && asks_for_json(arguments) && declares_json() {
            failure.into_json()
        } else {
            failure
        }
    })
}

enum Walked {
    Version,
    Node,
}

fn walk<'a>(route: &mut Route<'a>, arguments: &[&'a str]) -> Result<Walked, Failure> {
    let mut at = 0;
    while let (node, Some(argument)) = (route.last(), arguments.get(at)) {
        let Shape::Group(children) = node.kind else { break };
        at += 1;
        let is_root = route.nodes.len() == 1;
        // Who asks for help is told nothing else.
        if route.help && !children.iter().any(|child| child.name == *argument) {
            continue;
        }
        if *argument == "--" {
            at -= 1;
            break;
        }
        if let Some(flag) = argument.strip_prefix("--") {
            let (name, inline) = flag.split_once('=').map_or((flag, false), |(name, _)| (name, true));
            match name {
                "help" => route.help = true,
                "version" if is_root => return Ok(Walked::Version),
                // Of its commands as well, for they may be given before the name.
                _ => {
                    let known =
                        route.nodes.iter().rev().find_map(|node| node.kind_of(name)).filter(|_| !is_root);
                    let kind =
                        known.ok_or_else(|| route.wrong_flags(&FlagError::Unknown(name.to_owned())))?;
                    route.rest.push(argument);
                    if kind != Kind::Bool && !inline {
                        route.rest.extend(arguments.get(at));
                        at += 1;
                    }
                }
            }
        } else if let Some(letter) = argument.strip_prefix('-').and_then(|letters| letters.chars().next()) {
            match letter {
                'h' => route.help = true,
                'v' if is_root => return Ok(Walked::Version),
                _ => {
                    let error = FlagError::UnknownShorthand(letter, (*argument).to_owned());
                    return Err(route.wrong_flags(&error));
                }
            }
        } else if let Some(child) = children.iter().find(|child| child.name == *argument) {
            route.nodes.push(child);
        } else {
            return Err(suggest::unknown_command(argument, &route.path(), children));
        }
    }
    route.rest.extend(arguments.iter().skip(at));
    Ok(Walked::Node)
}

fn enter(route: &Route<'_>) -> Result<(), Failure> {
    let node = route.last();
    let show_help = || help::show(&help::of(&route.nodes));
    if route.help {
        return show_help();
    }
    let settings: Vec<&'static Setting> =
        route.nodes.iter().flat_map(|node| node.settings).copied().collect();
    let flags: Vec<OwnFlag> = route.nodes.iter().flat_map(|node| node.own_flags()).collect();
    let extracted =
        extract(route.rest.iter().copied(), &settings, &flags).map_err(|error| route.wrong_flags(&error))?;
    let Shape::Command { words, main, .. } = node.kind else { return show_help() };
    if extracted.help {
        return show_help();
    }
    let path = route.path();
    check_words(words, &extracted.positionals, &path)?;
    let declared = node.declared_flags();
    main(&Call { path, flags: extracted.flags, words: extracted.positionals, declared })
}

fn check_words(words: Words, given: &[String], path: &str) -> Result<(), Failure> {
    let count = given.len();
    match words {
        Words::None if count > 0 => {
            let mut message = format!("unexpected arguments: {}; {path} takes none", given.join(" "));
            if given.iter().any(|word| parse_bool(word).is_some()) {
                message.push_str(" (a switch takes its value after an equals sign: --name=false)");
            }
            Err(Failure::new(message))
        }
        Words::One(_) if count != 1 => Err(Failure::new(format!("accepts 1 arg(s), received {count}"))),
        Words::Optional(_) if count > 1 => {
            Err(Failure::new(format!("accepts at most 1 arg(s), received {count}")))
        }
        _ => Ok(()),
    }
}

/// Whether `--json` stands anywhere among the flags: even a line that is not understood may ask for it.
fn asks_for_json(arguments: &[&str]) -> bool {
    arguments.iter().take_while(|argument| **argument != "--").any(|argument| {
        match argument.strip_prefix("--") {
            Some(JSON) => true,
            Some(flag) => flag.strip_prefix("json=").and_then(parse_bool) == Some(true),
            None => false,
        }
    })
}

impl Route<'_> {
    fn last(&self) -> &'static Node {
        // The root is always there.
        self.nodes[self.nodes.len() - 1]
    }

    fn path(&self) -> String {
        path(&self.nodes)
    }

    /// The failure for wrong flags, with the flags that may have been meant.
    fn wrong_flags(&self, error: &FlagError) -> Failure {
        let own: Vec<OwnFlag> = self.nodes.iter().flat_map(|node| node.own_flags()).collect();
        let settings = self.nodes.iter().flat_map(|node| node.settings).map(|setting| setting.flag);
        suggest::wrong_flags(error, &self.path(), own.iter().map(|flag| flag.name).chain(settings))
    }
}

/// The full name of the last of `nodes`.
pub(super) fn path(nodes: &[&'static Node]) -> String {
    nodes.iter().map(|node| node.name).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::commands::ROOT;

    fn walk_to(arguments: &[&str]) -> Result<(String, Vec<String>), String> {
        let mut route = Route { nodes: vec![&ROOT], rest: Vec::new(), help: false };
        match walk(&mut route, arguments) {
            Err(failure) => Err(failure.to_string()),
            Ok(_) => Ok((route.path(), route.rest.iter().map(|word| (*word).to_owned()).collect())),
        }
    }

    #[test]
    fn flags_may_stand_before_and_after_the_names_of_commands() {
        for line in [
            "admin --json tunnels get X",
            "admin tunnels --json get X",
            "admin tunnels get --json X",
            "admin tunnels get X --json",
        ] {
            let (path, mut rest) = walk_to(&line.split(' ').collect::<Vec<_>>()).unwrap();
            rest.sort_unstable();
            assert_eq!(
                (path.as_str(), rest.join(" ").as_str()),
                ("tunnel-client admin tunnels get", "--json X")
            );
        }
        let (path, rest) = walk_to(&["profiles", "--profile-dir", "list", "list"]).unwrap();
        assert_eq!(
            (path.as_str(), rest),
            ("tunnel-client profiles list", vec!["--profile-dir".into(), "list".into()])
        );
    }

    #[test]
    fn a_line_that_leads_nowhere_is_told() {
        assert!(walk_to(&["--json", "doctor"]).unwrap_err().contains("unknown flag: --json"));
        assert!(walk_to(&["admin", "--bogus"]).unwrap_err().contains("unknown flag: --bogus"));
        assert!(walk_to(&["-x"]).unwrap_err().contains("unknown shorthand flag: 'x' in -x"));
        let error = walk_to(&["profiles", "lst"]).unwrap_err();
        assert!(error.contains("unknown command \"lst\" for \"tunnel-client profiles\""), "{error}");
    }

    #[test]
    fn json_is_asked_for_by_a_flag_and_not_by_what_follows_the_flags() {
        assert!(asks_for_json(&["x", "--json"]) && asks_for_json(&["--json=T"]));
        assert!(
            !asks_for_json(&["--json=false"])
                && !asks_for_json(&["--", "--json"])
                && !asks_for_json(&["json"])
        );
    }

    #[test]
    fn every_command_says_what_it_is_for_and_declares_no_flag_twice() {
        fn check(nodes: &mut Vec<&'static Node>) {
            let node = nodes[nodes.len() - 1];
            assert!(!node.summary.is_empty(), "{}", path(nodes));
            let mut names: Vec<String> = nodes
                .iter()
                .flat_map(|node| {
                    let settings = node.settings.iter().flat_map(|s| [s.flag, s.alias]);
                    let own = node.own_flags();
                    settings
                        .map(str::to_owned)
                        .chain(own.into_iter().map(|f| f.name.to_owned()))
                        .collect::<Vec<_>>()
                })
                .filter(|name| !name.is_empty())
                .collect();
            let all = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), all, "{}", path(nodes));
            for child in node.children() {
                nodes.push(child);
                check(nodes);
                nodes.pop();
            }
        }
        check(&mut vec![&ROOT]);
    }
}
