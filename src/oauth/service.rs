//! Discovery as a running client does it: at the start, until it succeeds, and on command.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::asking::Budget;
use super::bundle::{self, Entry, Register, Registration, Sources};
use super::discover;
use super::report::Report;
use super::status::{Conclusion, Status};
use crate::control_plane::event::Event;
use crate::mcp::Binding;
use crate::net::{Cancel, Deadline, HeaderList};
use crate::redact;

/// Time for the first discovery after the start …
const STARTUP_TIME: Duration = Duration::from_secs(5);
/// … and for every other one.
const OVERALL_TIME: Duration = Duration::from_secs(15);
/// Time for one document.
const REQUEST_TIME: Duration = Duration::from_secs(5);
/// First and longest pause before a failed discovery is repeated.
const REPEAT_PAUSE: Duration = Duration::from_secs(3);
const REPEAT_PAUSE_MAX: Duration = Duration::from_secs(15);

/// Headers of a reply that belong to its connection or to its encoding, or that are secrets of the
/// server's: they mean nothing where the document goes.
const NOT_PASSED_ON: [&str; 13] = [
    "connection",
    "content-encoding",
    "content-length",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-connection",
    "set-cookie",
    "set-cookie2",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Discovery of one MCP server.
pub struct Discovery {
    binding: Arc<Binding>,
    unix_socket: Option<PathBuf>,
    register: Box<Register>,
    status: Arc<Status>,
    on_change: Box<OnChange>,
    /// Held while a result is noted and told: who hears of several hears of them in the order in which they
    /// became known.
    telling: Mutex<()>,
}

/// Told of every change of what is known; must not block.
pub type OnChange = dyn Fn(&Conclusion) + Send + Sync;

/// The answer to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The document, as it was received.
    Document {
        /// The status it came with.
        status: u16,
        /// The headers it came with, without those of the connection.
        headers: HeaderList,
        /// JSON.
        json: String,
    },
    /// The server has none. The text is for the connector.
    NotAdvertised(String),
    /// It could not be found out. The text is for the connector.
    Failed(String),
}

impl Discovery {
    /// Discovery of `binding`, which is served behind `unix_socket`. What is found goes to `register`
    /// first, then `on_change` is told. `status` must be the one of an HTTP server.
    pub fn new(
        binding: Arc<Binding>,
        unix_socket: Option<PathBuf>,
        register: Box<Register>,
        status: Arc<Status>,
        on_change: Box<OnChange>,
    ) -> Discovery {
        Discovery { binding, unix_socket, register, status, on_change, telling: Mutex::new(()) }
    }

    /// Discovers until there is a result that does not keep the client from being ready, a command had
    /// one, or `cancel` fires, which must be what cuts the binding's client.
    pub fn keep_trying(&self, cancel: &Cancel) {
        let mut time = STARTUP_TIME;
        let mut pause = REPEAT_PAUSE;
        let mut last = None;
        loop {
            let Some((report, registration)) = self.run(Deadline::after(time)) else { return };
            if cancel.is_cancelled() {
                return;
            }
            let conclusion = Conclusion::of(&report);
            // A command was luckier meanwhile.
            if matches!(conclusion, Conclusion::Failed(_)) && self.has_succeeded() {
                return;
            }
            // The same over and over is no news.
            if last.as_ref() != Some(&conclusion) {
                log_challenge(&report);
                log_end(&report, &conclusion, pause);
            }
            let known = self.conclude(report, registration, &conclusion);
            if !known || !matches!(conclusion, Conclusion::Failed(_)) || cancel.wait(pause) {
                return;
            }
            if self.has_succeeded() {
                return;
            }
            last = Some(conclusion);
            time = OVERALL_TIME;
            pause = (pause * 2).min(REPEAT_PAUSE_MAX);
        }
    }

    /// Discovers for a command whose answer is of no use after `deadline`. A success puts an end to a
    /// failure of the discovery at the start.
    pub fn answer(&self, deadline: Deadline) -> Answer {
        let Some((report, registration)) = self.run(Deadline::after(OVERALL_TIME).earliest(deadline)) else {
            return Answer::Failed("OAuth discovery is not possible here".to_owned());
        };
        let conclusion = Conclusion::of(&report);
        let answer = answer_of(&report, &conclusion);
        log_challenge(&report);
        if let Conclusion::Failed(error) = &conclusion {
            log::warn!(target: "oauth", error = error.as_str(); "OAuth discovery for a command failed");
        } else if matches!(self.status.conclusion(), Some(Conclusion::Failed(_))) {
            self.conclude(report, registration, &conclusion);
        }
        answer
    }

    /// Notes and tells a result; false for a failure where something better is known.
    fn conclude(&self, report: Report, registration: Registration, conclusion: &Conclusion) -> bool {
        let _telling = self.telling.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(conclusion, Conclusion::Failed(_)) && self.has_succeeded() {
            return false;
        }
        self.status.set(report, registration);
        (self.on_change)(conclusion);
        true
    }

    /// Whether something else than a failure is known.
    fn has_succeeded(&self) -> bool {
        matches!(self.status.conclusion(), Some(Conclusion::Found | Conclusion::NotAdvertised(_)))
    }

    /// One discovery. What it found is registered when this returns. `None` for a child process.
    fn run(&self, overall: Deadline) -> Option<(Report, Registration)> {
        let Binding::Http(binding) = &*self.binding else { return None };
        let report = discover(binding, Budget::new(overall, REQUEST_TIME), true);
        let (Some(found), Some(selected)) = (&report.found, report.selected()) else {
            return Some((report, Registration::default()));
        };
        let server = report.server.as_ref().and_then(|server| {
            let (at, metadata) = server.metadata.as_ref()?;
            Some((server.attempts.get(*at)?.place.text.as_str(), metadata))
        });
        let entries = bundle::entries(&Sources {
            endpoint: binding.url(),
            unix_socket: self.unix_socket.as_ref(),
            document: selected.url.as_str(),
            resource: &found.metadata,
            server,
        });
        let registration = if entries.is_empty() {
            let error = "no urls found in protected resource metadata";
            log::warn!(target: "oauth", error; "nothing to register");
            Registration { admitted: 0, refusals: vec![error.to_owned()] }
        } else {
            log_bundle(&entries);
            (self.register)(&entries)
        };
        Some((report, registration))
    }
}

fn answer_of(report: &Report, conclusion: &Conclusion) -> Answer {
    if let (Some(found), Some(selected)) = (&report.found, report.selected()) {
        return Answer::Document {
            status: selected.status,
            headers: passed_on(&found.headers),
            json: found.json.trim_ascii().to_owned(),
        };
    }
    match conclusion {
        Conclusion::NotAdvertised(_) => {
            Answer::NotAdvertised("the MCP server has no OAuth protected-resource metadata".to_owned())
        }
        _ => Answer::Failed(report.public_error()),
    }
}

/// The headers that still mean something where the document goes (RFC 9110 §7.6.1).
fn passed_on(headers: &HeaderList) -> HeaderList {
    let nominated: Vec<&str> =
        headers.get_all("Connection").flat_map(|value| value.split(',')).map(str::trim).collect();
    let stays =
        |name: &str| NOT_PASSED_ON.iter().chain(&nominated).any(|known| known.eq_ignore_ascii_case(name));
    headers.iter().filter(|(name, _)| !stays(name)).collect()
}

fn log_challenge(report: &Report) {
    for (method, error) in &report.challenge.failures {
        log::warn!(target: "oauth", method = method.as_str(), error = error.as_str();
            "probe for a WWW-Authenticate challenge failed");
    }
}

fn log_end(report: &Report, conclusion: &Conclusion, pause: Duration) {
    match conclusion {
        Conclusion::Failed(error) => {
            log::warn!(target: "oauth", error = error.as_str(), retry_in_ms = pause.as_millis() as u64;
                "OAuth discovery failed");
        }
        Conclusion::NotAdvertised(_) => {
            log::info!(target: "oauth", attempts = report.attempts.len();
                "the MCP server advertises no OAuth metadata");
        }
        Conclusion::Found => {
            let source = report.selected().map(|selected| selected.source.label()).unwrap_or_default();
            log::info!(target: "oauth", source; "OAuth discovery ProtectedResourceMetaData fetched");
        }
    }
}

/// Names of the fields, of which there is one of each for every entry.
const FIELDS: [[&str; 3]; 10] = [
    ["url_0", "role_0", "desc_0"],
    ["url_1", "role_1", "desc_1"],
    ["url_2", "role_2", "desc_2"],
    ["url_3", "role_3", "desc_3"],
    ["url_4", "role_4", "desc_4"],
    ["url_5", "role_5", "desc_5"],
    ["url_6", "role_6", "desc_6"],
    ["url_7", "role_7", "desc_7"],
    ["url_8", "role_8", "desc_8"],
    ["url_9", "role_9", "desc_9"],
];

fn log_bundle(entries: &[Entry]) {
    let origins: Vec<String> = entries.iter().map(|entry| redact::origin(&entry.url)).collect();
    let mut event = Event::of("oauth", log::Level::Info);
    for ((entry, origin), [url, role, description]) in entries.iter().zip(&origins).zip(FIELDS) {
        event = event.with(url, origin.as_str()).with(role, entry.role).with(description, entry.description);
    }
    event.emit("discovered OAuth URLs");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_the_connection_stay_behind() {
        let headers: HeaderList = [
            ("Content-Type", "application/json"),
            ("Connection", "keep-alive, X-Hop"),
            ("X-Hop", "1"),
            ("Keep-Alive", "timeout=5"),
            ("Set-Cookie", "a=b"),
            ("Content-Length", "2"),
            ("X-Upstream", "1"),
            ("X-Upstream", "2"),
            ("Cache-Control", "max-age=60"),
        ]
        .into_iter()
        .collect();
        let passed = passed_on(&headers);
        let names: Vec<&str> = passed.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["Content-Type", "X-Upstream", "X-Upstream", "Cache-Control"]);
    }
}
