//! The command line: what was asked for, done, and told in words for humans.
//!
//! `commands` is the tree, one file each; `tree` finds the way through it.
//! Flags are read by `config::flags` (dots, `=`, repeated flags), what they hold by argh. Invariant: results
//! go to stdout, the one message of a failure to stderr, and the exit code is 0, 1 or 2.

mod admin;
mod cloudflared;
mod commands;
mod completion;
mod demo;
mod dev_proxy;
mod doctor;
mod health;
mod help;
mod init;
mod manual;
mod mcp_stub;
mod profiles;
mod run;
mod server;
mod signals;
mod status;
mod suggest;
mod terminal;
mod topics;
mod tree;

use std::fmt;
use std::io::Write as _;
use std::process::ExitCode;

pub use self::server::server_main;

/// The exit code of a command that did its work and reports something bad.
const BAD_RESULT: u8 = 2;

/// A command failed, or has something bad to report.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The one message on stderr; empty if a report on stdout said it all.
    message: String,
    /// What stands on stdout instead of the message, if it is told as JSON.
    document: Option<serde_json::Value>,
    json: bool,
    code: u8,
}

impl Failure {
    /// An ordinary error: exit code 1.
    pub(crate) fn new(message: impl fmt::Display) -> Failure {
        Failure { message: message.to_string(), document: None, json: false, code: 1 }
    }

    /// A report that was printed already tells what is bad: exit code 2.
    fn reported() -> Failure {
        Failure { message: String::new(), document: None, json: false, code: BAD_RESULT }
    }

    /// An ordinary error whose JSON document, should JSON be asked for, says more than its message.
    fn with_json_document(mut self, document: serde_json::Value) -> Failure {
        self.document = Some(document);
        self
    }

    /// The error as the JSON document that `--json` promises.
    fn into_json(mut self) -> Failure {
        let plain = || serde_json::json!({ "error": { "message": &self.message } });
        self.document = Some(self.document.take().unwrap_or_else(plain));
        self.json = true;
        self
    }

    /// Whether there is something to tell beyond a report.
    fn has_message(&self) -> bool {
        !self.message.is_empty()
    }

    /// Writes it where it belongs.
    fn tell(&self) {
        match &self.document {
            Some(document) if self.json => help::write_out(&format!("{document:#}")),
            _ if self.message.is_empty() => {}
            // A closed stderr is no reason to panic.
            _ => drop(writeln!(std::io::stderr(), "{}", self.message)),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Runs `tunnel-client` with the process's arguments.
pub fn client_main() -> ExitCode {
    let arguments: Vec<String> =
        std::env::args_os().skip(1).map(|a| a.to_string_lossy().into_owned()).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match tree::dispatch(&commands::ROOT, &arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.tell();
            ExitCode::from(failure.code)
        }
    }
}
