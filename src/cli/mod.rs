//! The command line: what was asked for, done, and told in words for humans.
//!
//! Flags are read by `config::flags` (dots, `=`, repeated flags), commands by argh. Invariant: results
//! go to stdout, the one message of a failure to stderr, and the exit code is 0, 1 or 2.

mod args;
mod demo;
mod dev_proxy;
mod help;
mod mcp_stub;
mod run;
mod server;
mod signals;

use std::fmt;
use std::process::ExitCode;

pub use self::server::server_main;

/// A command failed; the message is all that is printed.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    code: u8,
}

impl Failure {
    /// An ordinary error: exit code 1.
    pub(crate) fn new(message: impl fmt::Display) -> Failure {
        Failure { message: message.to_string(), code: 1 }
    }
}

/// Runs `tunnel-client` with the process's arguments.
pub fn client_main() -> ExitCode {
    let arguments: Vec<String> =
        std::env::args_os().skip(1).map(|a| a.to_string_lossy().into_owned()).collect();
    match client(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.message.is_empty() {
                eprintln!("{}", failure.message);
            }
            ExitCode::from(failure.code)
        }
    }
}

fn client(arguments: &[String]) -> Result<(), Failure> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] | ["--help" | "-h"] | ["help"] => help::print(&help::root()),
        ["--version" | "-v", ..] => help::print(&help::version()),
        ["run", rest @ ..] => run::main(rest),
        ["demo", rest @ ..] => demo::main(rest),
        ["dev"] | ["dev", "--help" | "-h", ..] => help::print(help::DEV),
        ["dev", "mcp-stub", rest @ ..] => mcp_stub::main(rest),
        ["dev", "proxy", rest @ ..] => dev_proxy::main(rest),
        ["dev", other, ..] if !other.starts_with('-') => Err(unknown_command(other, "tunnel-client dev")),
        ["help", command] => help::command(command),
        [flag, ..] if flag.starts_with("--") => {
            Err(Failure::new(format!("unknown flag: {}", flag.split('=').next().unwrap_or(flag))))
        }
        [flag, ..] if flag.starts_with('-') => {
            let letter = flag.chars().nth(1).map(String::from).unwrap_or_default();
            Err(Failure::new(format!("unknown shorthand flag: '{letter}' in {flag}")))
        }
        [other, ..] => Err(unknown_command(other, "tunnel-client")),
    }
}

fn unknown_command(word: &str, parent: &str) -> Failure {
    Failure::new(format!(
        "unknown command \"{word}\" for \"{parent}\"\nRun \"{parent} --help\" for the commands there are."
    ))
}
