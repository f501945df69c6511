//! Judging a stdio command line without running it: is there a program, and a script for it?
//!
//! Invariant: nothing is executed; at most the first bytes of a script are read.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::{Environment, split_command};

/// Wrappers are followed that deep.
const MAX_DEPTH: usize = 4;
/// A `#!` line beyond that many bytes is not looked at.
const SHEBANG_BYTES: u64 = 4096;

/// Why a command line cannot work; one sentence with a remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreflightError(String);

impl fmt::Display for PreflightError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PreflightError {}

type Check<T> = Result<T, PreflightError>;

fn fail<T>(message: impl Into<String>) -> Check<T> {
    Err(PreflightError(message.into()))
}

/// Checks a command line and yields the path of its program.
///
/// # Errors
///
/// [`PreflightError`] if the program, the interpreter of a script, or the script is missing or unusable.
pub fn preflight(command: &str, environment: &Environment) -> Check<PathBuf> {
    let words = split_command(command).map_err(|error| PreflightError(error.to_string()))?;
    check_words(&words, environment, 0)
}

fn check_words(words: &[String], environment: &Environment, depth: usize) -> Check<PathBuf> {
    let Some((program, arguments)) = words.split_first() else { return fail("command is empty") };
    let path = resolve(program, environment)?;
    if cfg!(unix) {
        check_shebang(&path, environment)?;
    }
    if depth < MAX_DEPTH {
        match base_name(program).as_str() {
            "sh" | "bash" | "zsh" | "dash" | "ksh" => check_shell(program, arguments, environment, depth)?,
            "env" => check_env(arguments, environment, depth)?,
            name => {
                if let Some(interpreter) = INTERPRETERS.iter().find(|i| i.names.contains(&name)) {
                    interpreter.check(program, arguments)?;
                }
            }
        }
    }
    Ok(path)
}

/// The lower-cased last component without `.exe`.
fn base_name(program: &str) -> String {
    let name = program.rsplit(['/', '\\']).next().unwrap_or(program).to_lowercase();
    name.strip_suffix(".exe").unwrap_or(&name).to_owned()
}

/// The program's path: as given if it has a separator, else by `PATH`.
fn resolve(program: &str, environment: &Environment) -> Check<PathBuf> {
    let missing = || {
        fail(format!(
            "stdio MCP executable {program:?} was not found: install it, give its absolute path, or add its directory to PATH"
        ))
    };
    if program.contains('/') {
        let path = PathBuf::from(program);
        return match std::fs::metadata(&path) {
            Err(_) => missing(),
            Ok(meta) if is_executable(&meta) => Ok(path),
            Ok(_) => not_executable(program, &path),
        };
    }
    let mut unusable = None;
    for directory in std::env::split_paths(environment.get("PATH").unwrap_or_default()) {
        // A program found through a relative entry would change with the working directory.
        if program.is_empty() || !directory.is_absolute() {
            continue;
        }
        let path = directory.join(program);
        match std::fs::metadata(&path) {
            Ok(meta) if is_executable(&meta) => return Ok(path),
            Ok(meta) if meta.is_file() => {
                unusable.get_or_insert(path);
            }
            _ => {}
        }
    }
    match unusable {
        Some(path) => not_executable(program, &path),
        None => missing(),
    }
}

fn not_executable<T>(program: &str, path: &Path) -> Check<T> {
    let path = path.display();
    fail(format!(
        "stdio MCP executable {program:?} is not executable: name a regular file and run `chmod +x {path}`"
    ))
}

#[cfg(unix)]
fn is_executable(meta: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    meta.is_file() && meta.permissions().mode() & 0o111 != 0
}

#[cfg(not(unix))]
fn is_executable(meta: &std::fs::Metadata) -> bool {
    meta.is_file()
}

/// If the program is a script, its interpreter must exist.
fn check_shebang(path: &Path, environment: &Environment) -> Check<()> {
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(SHEBANG_BYTES).read_to_end(&mut head));
    if let Err(error) = read {
        return fail(format!("stdio MCP executable {} cannot be read: {error}", path.display()));
    }
    let Some(line) = head.strip_prefix(b"#!") else { return Ok(()) };
    let line = line.split(|b| *b == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let script = path.display();
    let words = match split_command(&line) {
        Ok(words) => words,
        Err(error) => {
            return fail(format!("{script} has an unusable first line ({error}): update the shebang"));
        }
    };
    let (interpreter, arguments) = (&words[0], &words[1..]);
    let checked = if base_name(interpreter) == "env" {
        resolve(interpreter, environment)
            .and_then(|_| unwrap_env(arguments))
            .and_then(|rest| resolve(rest.first().map_or("", String::as_str), environment))
    } else if Path::new(interpreter).is_absolute() {
        resolve(interpreter, environment)
    } else {
        return fail(format!(
            "{script} uses non-absolute shebang interpreter {interpreter:?}: update the shebang to an absolute path"
        ));
    };
    checked.map(|_| ()).map_err(|error| {
        PreflightError(format!(
            "{script} uses an unavailable interpreter ({error}): install it or update the shebang"
        ))
    })
}

/// The command behind `env` and its options and assignments.
fn unwrap_env(arguments: &[String]) -> Check<Vec<String>> {
    let mut rest = arguments.iter();
    let mut words: Vec<String> = Vec::new();
    let split = |text: &str| split_command(text).map_err(|error| PreflightError(format!("env -S: {error}")));
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--" => break,
            "-u" | "--unset" | "-C" | "--chdir" => {
                rest.next();
            }
            "-S" | "--split-string" => {
                words = split(rest.next().map_or("", String::as_str))?;
                break;
            }
            option if option.starts_with("--split-string=") => {
                words = split(&option["--split-string=".len()..])?;
                break;
            }
            option if option.starts_with("-S") => {
                words = split(&option[2..])?;
                break;
            }
            option if option.starts_with('-') => {}
            word if is_assignment(word) => {}
            word => {
                words.push(word.to_owned());
                break;
            }
        }
    }
    words.extend(rest.cloned());
    let command: Vec<String> = words.into_iter().skip_while(|word| is_assignment(word)).collect();
    if command.is_empty() { fail("env names no command to run") } else { Ok(command) }
}

fn check_env(arguments: &[String], environment: &Environment, depth: usize) -> Check<()> {
    check_words(&unwrap_env(arguments)?, environment, depth + 1).map(|_| ())
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| super::reference::is_variable_name(name))
}

fn check_shell(shell: &str, arguments: &[String], environment: &Environment, depth: usize) -> Check<()> {
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--" => return rest.next().map_or(Ok(()), |script| check_script(shell, script)),
            "--rcfile" | "--init-file" => {
                rest.next();
            }
            "-" => return Ok(()),
            long if long.starts_with("--") => {}
            cluster if cluster.starts_with(['-', '+']) => {
                if cluster.starts_with('-') && cluster.contains('c') {
                    return check_shell_string(
                        shell,
                        rest.next().map_or("", String::as_str),
                        environment,
                        depth,
                    );
                }
                // `-o pipefail` and its like: the option's name follows.
                if cluster.contains(['o', 'O']) {
                    rest.next();
                }
            }
            script => return check_script(shell, script),
        }
    }
    Ok(())
}

/// Words that a shell understands by itself; what follows them cannot be judged from outside.
const SHELL_WORDS: &[&str] = &[
    ".", ":", "[", "[[", "{", "(", "!", "case", "cd", "eval", "export", "for", "if", "set", "source", "test",
    "trap", "ulimit", "umask", "unset", "until", "while",
];

fn check_shell_string(shell: &str, text: &str, environment: &Environment, depth: usize) -> Check<()> {
    if text.trim().is_empty() {
        return fail(format!("{shell} -c has no command string: give one"));
    }
    let words = match split_command(text) {
        Ok(words) => words,
        Err(error) => return fail(format!("the command string of {shell} -c: {error}")),
    };
    let command: Vec<String> = words
        .into_iter()
        .skip_while(|word| matches!(word.as_str(), "exec" | "command") || is_assignment(word))
        .collect();
    match command.first() {
        None => Ok(()),
        Some(word) if SHELL_WORDS.contains(&word.as_str()) || word.starts_with('(') => Ok(()),
        Some(_) => check_words(&command, environment, depth + 1).map(|_| ()),
    }
}

/// Where an interpreter's script stands among its arguments.
struct Interpreter {
    names: &'static [&'static str],
    /// Options that bring the code themselves.
    inline: &'static [&'static str],
    /// Options whose value is the next argument.
    with_value: &'static [&'static str],
}

const INTERPRETERS: &[Interpreter] = &[
    Interpreter { names: &["python", "python3"], inline: &["-m", "-c"], with_value: &["-W", "-X"] },
    Interpreter {
        names: &["node"],
        inline: &["-e", "--eval", "-p", "--print"],
        with_value: &["-r", "--require", "--loader", "--import"],
    },
    Interpreter { names: &["ruby"], inline: &["-e", "-E"], with_value: &["-I", "-r"] },
    Interpreter { names: &["perl"], inline: &["-e", "-E"], with_value: &["-I", "-M"] },
    Interpreter { names: &["php"], inline: &["-e", "-E", "-r"], with_value: &["-c", "-d"] },
    Interpreter { names: &["deno"], inline: &["eval"], with_value: &["--config", "--import-map", "--cert"] },
];

impl Interpreter {
    fn check(&self, program: &str, arguments: &[String]) -> Check<()> {
        let is_deno = self.names.contains(&"deno");
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let name = argument.split('=').next().unwrap_or_default();
            match argument.as_str() {
                "--" => return rest.next().map_or(Ok(()), |script| check_script(program, script)),
                "-" => return Ok(()),
                _ if self.inline.contains(&name) => return Ok(()),
                option if self.with_value.contains(&option) => {
                    rest.next();
                }
                option if option.starts_with('-') => {}
                "run" | "serve" if is_deno => {}
                // Deno fetches these itself.
                remote
                    if is_deno
                        && (remote.contains("://")
                            || remote.starts_with("npm:")
                            || remote.starts_with("jsr:")) =>
                {
                    return Ok(());
                }
                script => return check_script(program, script),
            }
        }
        Ok(())
    }
}

fn check_script(program: &str, script: &str) -> Check<()> {
    let unusable = match std::fs::metadata(script) {
        Err(error) => format!("cannot be found ({error})"),
        Ok(meta) if meta.is_dir() => "is a directory".to_owned(),
        Ok(_) => match File::open(script) {
            Ok(_) => return Ok(()),
            Err(error) => format!("cannot be read ({error})"),
        },
    };
    fail(format!("the script {script:?} of {program:?} {unusable}: check its path and permissions"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    struct Place {
        directory: tempfile::TempDir,
        environment: Environment,
    }

    impl Place {
        fn new() -> Place {
            let directory = tempfile::tempdir().unwrap();
            let path = format!(".:{}", directory.path().display());
            let environment = [("PATH", path)].into_iter().collect();
            let place = Place { directory, environment };
            for program in ["sh", "bash", "python3", "node", "env", "deno", "server"] {
                place.file(program, "\u{7f}ELF", 0o755);
            }
            place.file("script", "print", 0o644);
            place
        }

        fn file(&self, name: &str, content: &str, mode: u32) -> String {
            let path = self.directory.path().join(name);
            std::fs::write(&path, content).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            path.display().to_string()
        }

        fn check(&self, command: &str) -> Result<PathBuf, String> {
            let command = command.replace("DIR", &self.directory.path().display().to_string());
            preflight(&command, &self.environment).map_err(|error| error.to_string())
        }
    }

    #[test]
    fn usable_commands_yield_their_program() {
        let place = Place::new();
        for good in [
            "server --x y",
            "DIR/server",
            "sh DIR/script",
            "sh -e DIR/script",
            "sh -- DIR/script",
            "sh -c 'server a b'",
            "bash -lc 'exec env A=1 server'",
            "bash -euo pipefail -c 'A=1 server'",
            "bash --rcfile /x -c server",
            "bash -c 'cd /tmp && server'",
            "bash -c A=1",
            "bash",
            "python3 -u DIR/script x",
            "python3 -m http.server",
            "python3 -c 'x'",
            "node --require x --eval=1",
            "node -r DIR/nope DIR/script",
            "deno run --allow-net DIR/script",
            "deno run npm:server",
            "deno eval x",
            "env A=1 -u B server",
            "env -S 'server x'",
            "env -- server",
        ] {
            let path = place.check(good);
            assert!(path.is_ok(), "{good}: {path:?}");
        }
        assert_eq!(place.check("server"), Ok(place.directory.path().join("server")));
    }

    #[test]
    fn unusable_commands_are_told_with_a_remedy() {
        let place = Place::new();
        let plain = place.file("plain", "x", 0o644);
        for (bad, parts) in [
            ("", &["command is empty"][..]),
            ("server 'x", &["unterminated quoted string"]),
            ("nope", &["stdio MCP executable \"nope\"", "was not found", "PATH"]),
            ("DIR/nope", &["was not found"]),
            ("plain", &["is not executable", &format!("chmod +x {plain}")]),
            ("DIR/plain", &["is not executable", &format!("chmod +x {plain}")]),
            ("DIR", &["is not executable"]),
            ("sh DIR/nope", &["nope", "cannot be found"]),
            ("sh DIR", &["is a directory"]),
            ("sh -c", &["no command string"]),
            ("sh -c ''", &["no command string"]),
            ("sh -c 'nope x'", &["was not found"]),
            ("sh -c 'sh -c nope'", &["was not found"]),
            ("python3 DIR/nope", &["cannot be found"]),
            ("node --import x DIR/nope", &["cannot be found"]),
            ("env A=1", &["env names no command"]),
            ("env nope", &["was not found"]),
        ] {
            let error = place.check(bad).expect_err(bad);
            for part in parts {
                assert!(error.contains(part), "{bad}: {part:?} not in {error:?}");
            }
        }
    }

    #[test]
    fn wrappers_are_followed_four_levels_deep() {
        let place = Place::new();
        assert!(place.check("env env env env nope").is_err());
        assert!(place.check("env env env env env nope").is_ok());
    }

    #[test]
    fn the_interpreter_of_a_script_must_exist() {
        let place = Place::new();
        let root = place.directory.path().display().to_string();
        for (name, shebang) in [
            ("a", format!("#!{root}/sh -e\nx")),
            ("b", format!("#! {root}/env -S node --x\nx")),
            ("c", format!("#!{root}/env node")),
            ("d", "no shebang".to_owned()),
        ] {
            place.file(name, &shebang, 0o755);
            let checked = place.check(name);
            assert!(checked.is_ok(), "{shebang}: {checked:?}");
        }
        for (shebang, parts) in [
            ("#!/nope/python\n".to_owned(), &["uses an unavailable interpreter", "update the shebang"][..]),
            (format!("#!{root}/env nope\n"), &["uses an unavailable interpreter", "update the shebang"]),
            (format!("#!{root}/env\n"), &["uses an unavailable interpreter", "update the shebang"]),
            ("#!python\n".to_owned(), &["uses non-absolute shebang interpreter", "update the shebang"]),
            ("#!\n".to_owned(), &["update the shebang"]),
        ] {
            place.file("bad", &shebang, 0o755);
            let error = place.check("bad").expect_err(&shebang);
            for part in parts {
                assert!(error.contains(part), "{shebang}: {part:?} not in {error:?}");
            }
        }
    }
}
