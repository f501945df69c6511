//! What `run` tells a human at a terminal: which tunnel, which channels, and whether it works.
//!
//! Only shown where a person reads it; everybody else gets the log lines that these words stand for.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use crate::config::{Config, Environment, FlagValues, Log, LogLevel, McpTarget, settings};
use crate::control_plane::PollStatus;
use crate::daemon::Daemon;
use crate::net::Cancel;
use crate::ops::Readiness;
use crate::redact;

use super::help::write_out;
use super::terminal::{Paint, takes_colour};

/// How often the state is looked at; a stop ends the wait at once.
const STEP: Duration = Duration::from_millis(250);

/// Whether somebody reads along who did not ask for log lines on the terminal: with a flag, a variable or a
/// level. That a profile names a format is for service managers, and a log file stands in nobody's way.
pub(super) fn is_wanted(log: &Log, flags: &FlagValues, environment: &Environment) -> bool {
    let format = &settings::LOG_FORMAT;
    let asked = flags.is_given(format.flag) || environment.get(format.variable).is_some();
    let quiet = log.file.is_some() || (!asked && log.level == LogLevel::Info);
    quiet && std::io::stdout().is_terminal() && std::io::stderr().is_terminal()
}

/// Tells what runs, and each change of its state until `stop` fires or the listener is `lost`.
pub(super) fn follow(config: &Config, daemon: &mut Daemon, stop: &Cancel, lost: &Cancel) {
    for warning in &config.warnings {
        // A closed stderr is no reason to panic.
        let _ = writeln!(std::io::stderr(), "Warning: {warning}");
    }
    write_out(&introduction(config, daemon.health_url().unwrap_or_default()));
    let mut told = String::new();
    let colour = takes_colour();
    let (mut announced, mut advised) = (false, false);
    loop {
        let polling = daemon.poll_state().snapshot();
        let (fine, text) = state(&daemon.state().readiness(), &polling);
        if text != told {
            let paint = if fine { Paint::Green } else { Paint::Yellow };
            write_out(&format!("Status    {}", if colour { paint.on(&text) } else { text.clone() }));
            told = text;
            if polling.failing && !std::mem::replace(&mut advised, true) {
                write_out(
                    "          `tunnel-client doctor --online --explain` with the same flags tells what to do.",
                );
            }
        }
        if !std::mem::replace(&mut announced, true) {
            daemon.announce(config, stop);
        }
        if lost.is_cancelled() {
            return;
        }
        if stop.wait(STEP) {
            return write_out("Stopping: calls under way may finish; Ctrl-C again ends at once.");
        }
    }
}

fn introduction(config: &Config, health_url: &str) -> String {
    let control_plane = &config.control_plane;
    let base = control_plane.base_url.origin().ascii_serialization();
    let mut text = format!("Tunnel    {} at {base}{}\n", control_plane.tunnel_id, control_plane.url_path);
    for binding in &config.mcp.bindings {
        let polled = control_plane.poll_channels.as_ref().is_none_or(|list| list.contains(&binding.channel));
        let target = match &binding.target {
            McpTarget::Http { url, .. } => redact::snapshot(url.as_str()),
            McpTarget::Stdio { command, .. } => redact::text(command).into_owned(),
        };
        let note = if polled { "" } else { " (not polled)" };
        let _ = writeln!(text, "Channel   {}: {target}{note}", binding.channel);
    }
    if !health_url.is_empty() {
        let _ = writeln!(text, "Health    {health_url}/readyz");
    }
    text.push_str("Ctrl-C stops; set --log.format for log lines.\n");
    text
}

/// Whether commands can be served, and in which words.
fn state(readiness: &Readiness, polling: &PollStatus) -> (bool, String) {
    let ready = readiness.status == 200;
    let mut text = if ready { readiness.body.clone() } else { format!("not ready: {}", readiness.body) };
    if let Some(trouble) = polling.last_error.as_ref().filter(|_| polling.failing) {
        let why = trouble.text.strip_prefix("poll failed: ").unwrap_or(&trouble.text);
        text = format!("not connected: {why}; trying again");
        if let Some(mitigation) = trouble.mitigation.filter(|mitigation| !why.contains(mitigation)) {
            let _ = write!(text, " ({mitigation})");
        }
        if !ready {
            let _ = write!(text, "; {}", readiness.body);
        }
    } else if ready {
        text.push_str(", waiting for commands");
    }
    (ready && !polling.failing, text.replace('\n', " "))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::control_plane::PollTrouble;

    #[test]
    fn the_state_says_why_nothing_can_be_served() {
        let readiness = |status, body: &str| Readiness { status, body: body.to_owned() };
        let fine = PollStatus::default();
        let trouble = PollTrouble {
            at: SystemTime::UNIX_EPOCH,
            text: "poll failed: 401 Unauthorized".into(),
            status: Some(401),
            code: String::new(),
            mitigation: Some("use the runtime key"),
        };
        let failing = PollStatus { last_error: Some(trouble), failing: true, ..PollStatus::default() };
        let mut told = failing.clone();
        if let Some(trouble) = &mut told.last_error {
            trouble.text = "403 mitigation: use the runtime key".into();
        }
        let recovered = PollStatus { failing: false, ..failing.clone() };
        for (readiness, polling, fine, text) in [
            (readiness(200, "ready"), &fine, true, "ready, waiting for commands"),
            (readiness(200, "ready"), &recovered, true, "ready, waiting for commands"),
            (
                readiness(503, "mcp probe failed: refused"),
                &fine,
                false,
                "not ready: mcp probe failed: refused",
            ),
            (
                readiness(200, "ready"),
                &failing,
                false,
                "not connected: 401 Unauthorized; trying again (use the runtime key)",
            ),
            (
                readiness(200, "ready"),
                &told,
                false,
                "not connected: 403 mitigation: use the runtime key; trying again",
            ),
            (
                readiness(503, "pending"),
                &failing,
                false,
                "not connected: 401 Unauthorized; trying again (use the runtime key); pending",
            ),
        ] {
            assert_eq!(state(&readiness, polling), (fine, text.to_owned()));
        }
    }
}
