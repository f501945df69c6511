//! `completion`: shell completion scripts, written from the tree's declarations.

use crate::order;
use std::fmt::Write as _;

use super::commands::ROOT;
use super::topics::TOPICS;
use super::tree::{Call, Node, PROGRAM, Shape, Words, path};
use super::{Failure, help, server};
use crate::config::settings::Kind;

pub(super) static GROUP: Node = Node {
    name: "completion",
    summary: "Print a shell completion script",
    about: "\
Load it once:   source <(tunnel-client completion bash)
For good:       save it where your shell looks for completions.",
    kind: Shape::Group(&[&BASH, &ZSH, &FISH, &POWERSHELL]),
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

static POWERSHELL: Node = Node {
    name: "powershell",
    summary: "Print the completion script for PowerShell",
    kind: Shape::Command { words: Words::None, help: None, main: |_: &Call| print(powershell) },
    ..Node::BLANK
};

fn print(script: fn(&Program) -> String) -> Result<(), Failure> {
    help::print(&script(&client()))
}

/// A program and what its command line may hold.
pub(super) struct Program {
    name: &'static str,
    levels: Vec<Level>,
}

/// `tunnel-client`, from its tree.
pub(super) fn client() -> Program {
    let mut levels = Vec::new();
    collect(&mut vec![&ROOT], &mut levels);
    Program { name: PROGRAM, levels }
}

/// `tunnel-server`, from its help.
pub(super) fn server() -> Program {
    let mut flags: Vec<_> =
        server::flags().map(|flag| (flag.name, !flag.value.is_empty(), flag.help)).collect();
    order::sort(&mut flags);
    let level = Level { path: server::PROGRAM.to_owned(), words: Vec::new(), flags };
    Program { name: server::PROGRAM, levels: vec![level] }
}

impl Program {
    /// The scripts by the names of their files.
    pub(super) fn scripts(&self) -> [(String, String); 3] {
        let name = self.name;
        [
            (format!("{name}.bash"), bash(self)),
            (format!("_{name}"), zsh(self)),
            (format!("{name}.fish"), fish(self)),
        ]
    }

    /// The name of a shell function.
    fn function(&self) -> String {
        format!("_{}", self.name.replace('-', "_"))
    }
}

/// What may follow at one place of the command line.
struct Level {
    path: String,
    /// Words and what they are.
    words: Vec<(&'static str, &'static str)>,
    /// Flags, whether each needs a value, and what they are.
    flags: Vec<(&'static str, bool, &'static str)>,
}

fn collect(nodes: &mut Vec<&'static Node>, levels: &mut Vec<Level>) {
    let node = nodes[nodes.len() - 1];
    let mut words: Vec<_> = shown(node).map(|child| (child.name, child.summary)).collect();
    if node.name == help::COMMAND.name {
        words.extend(TOPICS.iter().map(|(name, _)| (*name, "topic")));
        let commands = shown(&ROOT).filter(|child| child.name != node.name);
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
    order::sort(&mut flags);
    levels.push(Level { path: path(nodes), words, flags });
    for child in shown(node) {
        nodes.push(child);
        collect(nodes, levels);
        nodes.pop();
    }
}

/// The commands that are not hidden.
fn shown(node: &Node) -> impl Iterator<Item = &'static Node> {
    node.children().iter().copied().filter(|child| !child.hidden)
}

/// The alternatives of a shell's `case` that recognise the name of a command.
fn descents(levels: &[Level], quote: char, separator: &str) -> String {
    let paths: Vec<String> =
        levels.iter().skip(1).map(|level| format!("{quote}{}{quote}", level.path)).collect();
    // A pattern has to be there; nothing matches this one.
    if paths.is_empty() { format!("{quote}{quote}") } else { paths.join(separator) }
}

fn bash(program: &Program) -> String {
    let Program { name: program_name, levels } = program;
    let function = program.function();
    let mut script = format!(
        "# bash completion of {program_name}\n\
         {function}() {{\n    \
             local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} at={program_name} words='' flags='' valued='' i\n    \
             for ((i = 1; i < COMP_CWORD; i++)); do\n        \
                 case \"$at ${{COMP_WORDS[i]}}\" in\n            {descents}) at=\"$at ${{COMP_WORDS[i]}}\" ;;\n        esac\n    \
             done\n    \
             case $at in\n",
        descents = descents(levels, '"', "|"),
    );
    for Level { path, words, flags } in levels {
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
    let _ = write!(
        script,
        "    esac\n    \
         if [[ \" $valued \" == *\" $prev \"* ]]; then\n        COMPREPLY=($(compgen -f -- \"$cur\"))\n    \
         elif [[ $cur == -* ]]; then\n        COMPREPLY=($(compgen -W \"$flags\" -- \"$cur\"))\n    \
         else\n        COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n    fi\n}}\n\
         complete -o default -F {function} {program_name}\n",
    );
    script
}

fn zsh(program: &Program) -> String {
    let Program { name: program_name, levels } = program;
    let function = program.function();
    let mut script = format!(
        "#compdef {program_name}\n\
         {function}() {{\n    \
             local at={program_name} word\n    \
             local -a names flags valued\n    \
             for word in \"${{(@)words[2,CURRENT-1]}}\"; do\n        \
                 case \"$at $word\" in\n            {descents}) at=\"$at $word\" ;;\n        esac\n    \
             done\n    \
             case $at in\n",
        descents = descents(levels, '"', "|"),
    );
    for Level { path, words, flags } in levels {
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
    let _ = write!(
        script,
        "    esac\n    \
         if (( ${{valued[(Ie)${{words[CURRENT-1]}}]}} )); then\n        _files\n    \
         elif [[ $words[CURRENT] == -* ]]; then\n        _describe -o flag flags\n    \
         elif (( $#names )); then\n        _describe command names\n    \
         else\n        _files\n    fi\n}}\n\
         {function} \"$@\"\n",
    );
    script
}

fn fish(program: &Program) -> String {
    let Program { name: program_name, levels } = program;
    let function = program.function();
    let mut script = format!(
        "# fish completion of {program_name}\n\
         function _{function}_at\n    \
             set -l at {program_name}\n    \
             for word in (commandline -opc)[2..-1]\n        \
                 switch \"$at $word\"\n            case {}\n                set at \"$at $word\"\n        end\n    \
             end\n    \
             test \"$at\" = \"$argv[1]\"\n\
         end\n\
         complete -c {program_name} -f\n",
        descents(levels, '\'', " ")
    );
    for Level { path, words, flags } in levels {
        let condition = format!("complete -c {program_name} -n '_{function}_at \"{path}\"'");
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

fn powershell(program: &Program) -> String {
    let Program { name: program_name, levels } = program;
    let mut script = format!(
        "# PowerShell completion of {program_name}\n\
         Register-ArgumentCompleter -Native -CommandName {program_name} -ScriptBlock {{\n    \
             param($word, $line, $cursor)\n    \
             $levels = @{{\n"
    );
    for Level { path, words, flags } in levels {
        let words = words.iter().map(|(name, _)| format!("'{name}'"));
        let flags = flags.iter().map(|(name, ..)| format!("'--{name}'"));
        let names = words.chain(flags).collect::<Vec<_>>().join(", ");
        let _ = writeln!(script, "        '{path}' = @({names})");
    }
    let _ = write!(
        script,
        "    }}\n    \
         $at = '{program_name}'\n    \
         foreach ($element in $line.CommandElements | Select-Object -Skip 1) {{\n        \
             if ($element.Extent.EndOffset -ge $cursor) {{ break }}\n        \
             if ($levels.ContainsKey(\"$at $element\")) {{ $at = \"$at $element\" }}\n    \
         }}\n    \
         $levels[$at] | Where-Object {{ $_ -like \"$word*\" }} | ForEach-Object {{\n        \
             [System.Management.Automation.CompletionResult]::new($_, $_, 'ParameterValue', $_)\n    \
         }}\n}}\n"
    );
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

    #[test]
    fn scripts_know_every_command_and_flag() {
        for program in [client(), server()] {
            let powershell = ("powershell".to_owned(), powershell(&program));
            for (name, script) in program.scripts().into_iter().chain([powershell]) {
                for Level { path, words, flags } in &program.levels {
                    assert!(script.contains(path), "{name}: {path}");
                    assert!(words.iter().all(|(word, _)| script.contains(word)), "{name}: {path}");
                    assert!(flags.iter().all(|(flag, ..)| script.contains(flag)), "{name}: {path}");
                }
            }
        }
    }

    #[test]
    fn hidden_commands_are_not_suggested() {
        for (name, script) in client().scripts() {
            assert!(!script.contains("generate"), "{name}");
        }
    }

    #[test]
    fn texts_are_quoted_for_their_shell() {
        assert_eq!(single_quoted("it's"), r"'it'\''s'");
        assert_eq!(fish_quoted(r"it's \"), r"'it\'s \\'");
    }
}
