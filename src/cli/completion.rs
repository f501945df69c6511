//! `completion`: shell completion scripts, written from the tree's declarations.

use std::fmt::Write as _;

use super::commands::ROOT;
use super::topics::TOPICS;
use super::tree::{Call, Node, PROGRAM, Shape, Words, path};
use super::{Failure, help};
use crate::config::settings::Kind;

pub(super) static GROUP: Node = Node {
    name: "completion",
    summary: "Print a shell completion script",
    about: "\
Load it once:   source <(tunnel-client completion bash)
For good:       save it where your shell looks for completions.",
    kind: Shape::Group(&[&BASH, &ZSH, &FISH]),
    ..Node::BLANK
};

static BASH: Node = Node {
    name: "bash",
    summary: "Print the completion script for bash",
    kind: Shape::Command { words: Words::None, help: None, main: |_: &Call| print(bash) },
    ..Node::BLANK
};

static ZSH: Node = Node {
    name: "zsh",
    summary: "Print the completion script for zsh",
    kind: Shape::Command { words: Words::None, help: None, main: |_: &Call| print(zsh) },
    ..Node::BLANK
};

static FISH: Node = Node {
    name: "fish",
    summary: "Print the completion script for fish",
    kind: Shape::Command { words: Words::None, help: None, main: |_: &Call| print(fish) },
    ..Node::BLANK
};

fn print(script: fn() -> String) -> Result<(), Failure> {
    help::print(&script())
}

/// What may follow at one place of the command line.
struct Level {
    path: String,
    /// Words and what they are.
    words: Vec<(&'static str, &'static str)>,
    /// Flags, whether each needs a value, and what they are.
    flags: Vec<(&'static str, bool, &'static str)>,
}

fn levels() -> Vec<Level> {
    let mut levels = Vec::new();
    collect(&mut vec![&ROOT], &mut levels);
    levels
}

fn collect(nodes: &mut Vec<&'static Node>, levels: &mut Vec<Level>) {
    let node = nodes[nodes.len() - 1];
    let mut words: Vec<_> = node.children().iter().map(|child| (child.name, child.summary)).collect();
    if node.name == help::COMMAND.name {
        words.extend(TOPICS.iter().map(|(name, _)| (*name, "topic")));
        let commands = ROOT.children().iter().filter(|child| child.name != node.name);
        words.extend(commands.map(|child| (child.name, child.summary)));
        words.dedup_by_key(|(name, _)| *name);
    }
    let mut flags = vec![("help", false, "Show help")];
    if nodes.len() == 1 {
        flags.push(("version", false, "Show the version"));
    }
    for node in nodes.iter() {
        flags.extend(node.own_flags().iter().map(|flag| (flag.name, flag.kind != Kind::Bool, flag.help)));
        let settings = node.settings.iter().filter(|setting| !setting.flag.is_empty());
        flags.extend(settings.map(|setting| (setting.flag, setting.kind != Kind::Bool, setting.help)));
    }
    flags.sort_unstable();
    levels.push(Level { path: path(nodes), words, flags });
    for child in node.children() {
        nodes.push(child);
        collect(nodes, levels);
        nodes.pop();
    }
}

/// The alternatives of a shell's `case` that recognise the name of a command.
fn descents(levels: &[Level], quote: char, separator: &str) -> String {
    let paths = levels.iter().skip(1).map(|level| format!("{quote}{}{quote}", level.path));
    paths.collect::<Vec<_>>().join(separator)
}

fn bash() -> String {
    let levels = levels();
    let mut script = format!(
        "# bash completion of {PROGRAM}\n\
         _tunnel_client() {{\n    \
             local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} at={PROGRAM} words='' flags='' valued='' i\n    \
             for ((i = 1; i < COMP_CWORD; i++)); do\n        \
                 case \"$at ${{COMP_WORDS[i]}}\" in\n            {descents}) at=\"$at ${{COMP_WORDS[i]}}\" ;;\n        esac\n    \
             done\n    \
             case $at in\n",
        descents = descents(&levels, '"', "|"),
    );
    for Level { path, words, flags } in &levels {
        let names = |valued: Option<bool>| -> String {
            let kept =
                flags.iter().filter(|(_, needs_value, _)| valued.is_none_or(|want| want == *needs_value));
            kept.map(|(name, ..)| format!("--{name}")).collect::<Vec<_>>().join(" ")
        };
        let words = words.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" ");
        let _ = writeln!(
            script,
            "        \"{path}\") words='{words}' flags='{}' valued='{}' ;;",
            names(None),
            names(Some(true))
        );
    }
    script.push_str(
        "    esac\n    \
         if [[ \" $valued \" == *\" $prev \"* ]]; then\n        COMPREPLY=($(compgen -f -- \"$cur\"))\n    \
         elif [[ $cur == -* ]]; then\n        COMPREPLY=($(compgen -W \"$flags\" -- \"$cur\"))\n    \
         else\n        COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n    fi\n}\n\
         complete -o default -F _tunnel_client tunnel-client\n",
    );
    script
}

fn zsh() -> String {
    let levels = levels();
    let mut script = format!(
        "#compdef {PROGRAM}\n\
         _tunnel_client() {{\n    \
             local at={PROGRAM} word\n    \
             local -a names flags valued\n    \
             for word in \"${{(@)words[2,CURRENT-1]}}\"; do\n        \
                 case \"$at $word\" in\n            {descents}) at=\"$at $word\" ;;\n        esac\n    \
             done\n    \
             case $at in\n",
        descents = descents(&levels, '"', "|"),
    );
    for Level { path, words, flags } in &levels {
        let _ = writeln!(script, "        \"{path}\")");
        let described =
            |name: &str, about: &str| single_quoted(&format!("{}:{about}", name.replace(':', "\\:")));
        let names: Vec<String> = words.iter().map(|(name, about)| described(name, about)).collect();
        let _ = writeln!(script, "            names=({})", names.join(" "));
        let names: Vec<String> =
            flags.iter().map(|(name, _, about)| described(&format!("--{name}"), about)).collect();
        let _ = writeln!(script, "            flags=({})", names.join("\n                   "));
        let valued: Vec<String> =
            flags.iter().filter(|(_, valued, _)| *valued).map(|(name, ..)| format!("--{name}")).collect();
        let _ = writeln!(script, "            valued=({}) ;;", valued.join(" "));
    }
    script.push_str(
        "    esac\n    \
         if (( ${valued[(Ie)${words[CURRENT-1]}]} )); then\n        _files\n    \
         elif [[ $words[CURRENT] == -* ]]; then\n        _describe -o flag flags\n    \
         elif (( $#names )); then\n        _describe command names\n    \
         else\n        _files\n    fi\n}\n\
         _tunnel_client \"$@\"\n",
    );
    script
}

fn fish() -> String {
    let levels = levels();
    let mut script = format!(
        "# fish completion of {PROGRAM}\n\
         function __tunnel_client_at\n    \
             set -l at {PROGRAM}\n    \
             for word in (commandline -opc)[2..-1]\n        \
                 switch \"$at $word\"\n            case {}\n                set at \"$at $word\"\n        end\n    \
             end\n    \
             test \"$at\" = \"$argv[1]\"\n\
         end\n\
         complete -c {PROGRAM} -f\n",
        descents(&levels, '\'', " ")
    );
    for Level { path, words, flags } in &levels {
        let condition = format!("complete -c {PROGRAM} -n '__tunnel_client_at \"{path}\"'");
        for (name, about) in words {
            let _ = writeln!(script, "{condition} -a {name} -d {}", fish_quoted(about));
        }
        for (name, valued, about) in flags {
            let value = if *valued { " -r -F" } else { "" };
            let _ = writeln!(script, "{condition} -l {name}{value} -d {}", fish_quoted(about));
        }
    }
    script
}

/// One word of bash and zsh.
fn single_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// One word of fish, where a backslash escapes inside quotes too.
fn fish_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', r"\\").replace('\'', r"\'"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::manual::committed_file_is;

    #[test]
    fn scripts_know_every_command_and_flag() {
        for script in [bash(), zsh(), fish()] {
            for Level { path, words, flags } in levels() {
                assert!(script.contains(&path), "{path}");
                assert!(words.iter().all(|(name, _)| script.contains(name)), "{path}");
                assert!(flags.iter().all(|(name, ..)| script.contains(name)), "{path}");
            }
        }
    }

    #[test]
    fn the_packaged_scripts_are_the_ones_that_are_printed() {
        committed_file_is("packaging/completions/tunnel-client.bash", &bash());
        committed_file_is("packaging/completions/_tunnel-client", &zsh());
        committed_file_is("packaging/completions/tunnel-client.fish", &fish());
    }

    #[test]
    fn texts_are_quoted_for_their_shell() {
        assert_eq!(single_quoted("it's"), r"'it'\''s'");
        assert_eq!(fish_quoted(r"it's \"), r"'it\'s \\'");
    }
}
