//! `health`: is a running client alive, ready, and polling?
//!
//! Invariant: whatever it finds is reported on stdout; only a wrong command line is an error.

mod locate;
mod probe;
mod report;

use std::path::PathBuf;
use std::time::Duration;

use argh::{ArgsInfo, FromArgs};

use crate::config::parse_duration;

use super::tree::{Call, Node, Shape, Words};
use super::{Failure, help};

use locate::Locator;
use report::{Process, Report};

/// Probe a running client.
#[derive(ArgsInfo, FromArgs)]
struct Health {
    /// base URL, or the URL of /healthz or /readyz (http, https or http+unix)
    #[argh(option, default = "String::new()")]
    url: String,
    /// file that holds such a URL
    #[argh(option, default = "String::new()")]
    url_file: String,
    /// port on 127.0.0.1
    #[argh(option, arg_name = "int", default = "0")]
    port: i64,
    /// process that must be running
    #[argh(option, arg_name = "int", default = "0")]
    pid: i64,
    /// file that holds the id of such a process
    #[argh(option, default = "String::new()")]
    pid_file: String,
    /// require one successful poll of the control plane
    #[argh(switch)]
    require_control_plane_poll: bool,
    /// require that the last successful poll is at most this long ago
    #[argh(option, arg_name = "duration")]
    max_poll_age: Option<String>,
    /// print JSON
    #[argh(switch)]
    json: bool,
}

pub(super) static COMMAND: Node = Node {
    name: "health",
    summary: "Probe a running client",
    about: "\
Give exactly one of --url, --url-file and --port. Exit code 0 means that everything asked for is fine, 2
that something is not, 1 that the command line is wrong.",
    examples: &[
        "tunnel-client health --port 8080",
        "tunnel-client health --url-file /run/tunnel-client/health.url --pid-file /run/tunnel-client/pid",
        "tunnel-client health --url-file /run/tunnel-client/health.url --max-poll-age 2m --json",
    ],
    declared: Some(Health::get_args_info),
    kind: Shape::Command { words: Words::None, help: None, main },
    ..Node::BLANK
};

fn main(call: &Call) -> Result<(), Failure> {
    let given: Health = call.arguments()?;
    let (locator, process) = check(&given)?;
    let max_poll_age = given.max_poll_age.as_deref().map(poll_age).transpose()?;
    let mut report = Report::new(locator);
    if let Some(base) = report.base_url().map(str::to_owned) {
        report.healthz = probe::endpoint(&base, "/healthz");
        report.readyz = probe::endpoint(&base, "/readyz");
    }
    if given.require_control_plane_poll || max_poll_age.is_some() {
        report.control_plane_poll =
            Some(report.base_url().map_or_else(Default::default, |base| probe::poll(base, max_poll_age)));
    }
    report.process = process.map(Process::check);
    let text = if given.json { report.json() } else { report.text() };
    help::print(&text)?;
    if report.is_ok() { Ok(()) } else { Err(Failure::reported()) }
}

/// What the flags say where to look, or why they say nothing.
fn check(given: &Health) -> Result<(Locator, Option<Process>), Failure> {
    if given.port < 0 {
        return Err(Failure::new("--port must be positive"));
    }
    let port = u16::try_from(given.port)
        .map_err(|_| Failure::new(format!("--port must be at most 65535, not {}", given.port)))?;
    if given.pid < 0 {
        return Err(Failure::new("--pid must be positive"));
    }
    let pid = i32::try_from(given.pid)
        .map_err(|_| Failure::new(format!("--pid {} is no process id", given.pid)))?;
    let (url, url_file, pid_file) = (given.url.trim(), given.url_file.trim(), given.pid_file.trim());
    let locator = match (url, url_file, port) {
        (url, "", 0) if !url.is_empty() => Locator::Url(url.to_owned()),
        ("", file, 0) if !file.is_empty() => Locator::UrlFile(PathBuf::from(file)),
        ("", "", port) if port > 0 => Locator::Port(port),
        _ => return Err(Failure::new("choose exactly one of --url, --url-file, or --port")),
    };
    let process = match (pid, pid_file) {
        (0, "") => None,
        (pid, "") => Some(Process::Pid(pid)),
        (0, file) => Some(Process::File(PathBuf::from(file))),
        _ => return Err(Failure::new("choose at most one of --pid or --pid-file")),
    };
    Ok((locator, process))
}

fn poll_age(text: &str) -> Result<Duration, Failure> {
    parse_duration(text)
        .filter(|age| !age.is_zero())
        .ok_or_else(|| Failure::new("--max-poll-age must be a positive duration such as 2m"))
}
