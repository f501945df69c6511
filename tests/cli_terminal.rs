//! What a terminal gets and a pipe does not: status words, colours, lines that fit.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "test code")]

mod common;

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use rustix::fs::{Mode, OFlags};
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use common::TUNNEL_ID;
use common::command::Home;

/// A command whose three streams are a terminal.
struct OnTerminal {
    child: Child,
    screen: File,
    shown: String,
}

impl OnTerminal {
    fn start(mut command: Command, columns: u16) -> OnTerminal {
        let screen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&screen).unwrap();
        unlockpt(&screen).unwrap();
        let name = ptsname(&screen, Vec::new()).unwrap();
        let terminal: OwnedFd =
            rustix::fs::open(&*name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
        let size = Winsize { ws_row: 40, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&terminal, size).unwrap();
        let copy = || Stdio::from(terminal.try_clone().unwrap());
        let child = command.stdin(copy()).stdout(copy()).stderr(copy()).env("TERM", "xterm").spawn().unwrap();
        OnTerminal { child, screen: File::from(screen), shown: String::new() }
    }

    /// Reads until `text` was shown; the end of the command is an end too.
    fn until(&mut self, text: &str) -> &mut OnTerminal {
        let mut bytes = [0; 4096];
        while !self.shown.contains(text) {
            // The terminal of a command that has ended answers with an error.
            let count = self.screen.read(&mut bytes).unwrap_or(0);
            assert!(count > 0, "ended without {text:?}: {}", self.shown);
            self.shown.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
        self
    }

    /// Everything that was shown, and the exit code.
    fn end(mut self) -> (String, Option<i32>) {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = self.screen.read(&mut bytes) {
            self.shown.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
        (self.shown.replace("\r\n", "\n"), self.child.wait().unwrap().code())
    }
}

fn home() -> Home {
    Home::new()
        .with("CONTROL_PLANE_API_KEY", "k")
        .with("CONTROL_PLANE_TUNNEL_ID", TUNNEL_ID)
        .with("CONTROL_PLANE_BASE_URL", "http://127.0.0.1:1")
        .with("HEALTH_LISTEN_ADDR", "127.0.0.1:0")
        .with("MCP_COMMAND", "cat")
}

#[test]
fn run_tells_a_terminal_what_it_serves_and_why_not() {
    let home = home();
    let document = home.file("doc.yaml", "log: {format: json}\nmcp: {startup_wait_timeout: 0s}\n");
    let mut run = OnTerminal::start(home.command(&["run", "--config", &document]), 80);
    run.until("Status    ")
        .until("not connected: cannot connect to 127.0.0.1:1")
        .until("doctor --online --explain");
    let pid = rustix::process::Pid::from_child(&run.child);
    rustix::process::kill_process(pid, Signal::INT).unwrap();
    let (shown, code) = run.end();
    assert_eq!(code, Some(0), "{shown}");
    for part in [
        &format!("Tunnel    {TUNNEL_ID} at http://127.0.0.1:1\n"),
        "Channel   main: cat\n",
        "Health    http://127.0.0.1:",
        "Stopping: ",
    ] {
        assert!(shown.contains(part), "no {part:?}: {shown}");
    }
    assert!(!shown.contains("\"level\":\"INFO\"") && !shown.contains("poll failed; backing off"), "{shown}");
}

#[test]
fn run_writes_log_lines_to_a_terminal_that_asks_for_them() {
    let home = home();
    let mut run = OnTerminal::start(home.command(&["run", "--log.format=json"]), 80);
    run.until("tunnel-client startup summary");
    rustix::process::kill_process(rustix::process::Pid::from_child(&run.child), Signal::TERM).unwrap();
    let (shown, code) = run.end();
    assert_eq!(code, Some(0), "{shown}");
    assert!(!shown.contains("Status    "), "{shown}");
}

#[test]
fn doctor_has_colours_on_a_terminal_unless_nobody_wants_them() {
    let (shown, code) = OnTerminal::start(home().command(&["doctor"]), 80).end();
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("\u{1b}[32mPASS\u{1b}[0m") && shown.contains("; checking "), "{shown}");
    let plain = home().with("NO_COLOR", "1");
    let (shown, _) = OnTerminal::start(plain.command(&["doctor"]), 80).end();
    assert!(shown.contains(" PASS ") && !shown.contains("\u{1b}[3"), "{shown}");
    let piped = home().line("doctor");
    piped.ok(&["PASS"]);
    assert!(!piped.stdout.contains('\u{1b}'), "{piped:?}");
}

#[test]
fn help_keeps_to_the_width_of_the_terminal() {
    let (shown, code) = OnTerminal::start(Home::new().command(&["init", "--help"]), 60).end();
    assert_eq!(code, Some(0));
    for line in shown.lines().filter(|line| !line.trim_start().starts_with("tunnel-client ")) {
        assert!(line.chars().count() <= 60, "{line}");
    }
    assert!(shown.contains("--mcp-server-url"));
}
