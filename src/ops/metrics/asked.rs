//! What is asked for at each scrape: child processes and the eras of MCP servers.

use std::sync::PoisonError;

use super::Metrics;

/// How the child process of a stdio channel is doing.
#[derive(Clone, Debug, Default)]
pub struct ChildReport {
    /// It runs.
    pub up: bool,
    /// How often it was replaced, by reason: `exit`, `stdout_closed`, `stdin_failed`, …
    pub restarts: Vec<(&'static str, u64)>,
}

/// What is known about the eras of one MCP server, and what bridging did; the labels of a count are two.
#[derive(Clone, Debug, Default)]
pub struct ProtocolReport {
    /// Whether the revisions with a handshake are spoken.
    pub legacy: Option<bool>,
    /// Whether those without are.
    pub modern: Option<bool>,
    /// Sessions that were opened for connectors.
    pub sessions: Option<usize>,
    /// Tests by method and result.
    pub probes: Vec<([&'static str; 2], u64)>,
    /// Handshakes by trigger and result.
    pub handshakes: Vec<([&'static str; 2], u64)>,
    /// Translated messages by direction and outcome.
    pub messages: Vec<([&'static str; 2], u64)>,
    /// Refused requests of the server by kind; the second label is empty.
    pub refused: Vec<([&'static str; 2], u64)>,
}

pub(super) type Child = (Box<str>, Box<dyn Fn() -> ChildReport + Send + Sync>);
pub(super) type Server = (Box<str>, Box<dyn Fn() -> ProtocolReport + Send + Sync>);

impl Metrics {
    /// How to ask for the state of the child process of a stdio channel; `report` must not block.
    pub fn watch_child(&self, channel: &str, report: impl Fn() -> ChildReport + Send + Sync + 'static) {
        let child: Child = (channel.into(), Box::new(report));
        self.children.lock().unwrap_or_else(PoisonError::into_inner).push(child);
    }

    pub(super) fn ask_children(&self) {
        for (channel, report) in self.children.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let report = report();
            self.child_up.record([channel], |state| *state = f64::from(u8::from(report.up)));
            for (reason, total) in report.restarts.iter().filter(|(_, total)| *total > 0) {
                self.child_restarts.record([channel, reason], |count| *count = *total);
            }
        }
    }

    /// How to ask for the eras of the MCP server of a channel; `report` must not block.
    pub fn watch_protocol(&self, channel: &str, report: impl Fn() -> ProtocolReport + Send + Sync + 'static) {
        let server: Server = (channel.into(), Box::new(report));
        self.servers.lock().unwrap_or_else(PoisonError::into_inner).push(server);
    }

    pub(super) fn ask_servers(&self) {
        // What is unknown again has no sample.
        self.server_era.clear();
        for (channel, report) in self.servers.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let report = report();
            for (era, known) in [("legacy", report.legacy), ("modern", report.modern)] {
                if let Some(yes) = known {
                    self.server_era.record([channel, era], |state| *state = f64::from(u8::from(yes)));
                }
            }
            if let Some(sessions) = report.sessions {
                self.bridge_sessions.record([channel], |open| *open = sessions as f64);
            }
            let counters = [
                (&self.era_probes, report.probes),
                (&self.handshakes, report.handshakes),
                (&self.bridge_messages, report.messages),
            ];
            for (family, counts) in counters {
                for ([a, b], total) in counts {
                    family.record([channel, a, b], |count| *count = total);
                }
            }
            for ([method, _], total) in report.refused {
                self.refused_requests.record([channel, method], |count| *count = total);
            }
        }
    }
}
