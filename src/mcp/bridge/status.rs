//! What operators may know about one server: the era of each side and whether a bridge is at work.

use std::time::SystemTime;

use super::edit::quoted;

/// What is known about one era.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fact {
    /// Nothing yet.
    #[default]
    Unknown,
    /// The server speaks it.
    Yes,
    /// It does not.
    No,
}

/// A snapshot of one binding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Protocol {
    /// Messages of the other era are translated.
    pub bridge: bool,
    /// Revisions with a handshake.
    pub speaks_legacy: Fact,
    /// Revisions without.
    pub speaks_modern: Fact,
    /// The revision that the server chose, or the newest that it offers.
    pub protocol_version: Option<String>,
    /// What it calls itself.
    pub server_name: Option<String>,
    /// Its version.
    pub server_version: Option<String>,
    /// When one of these last changed.
    pub last_transition: Option<SystemTime>,
    /// What only a child process has.
    pub child: Option<ChildProtocol>,
    /// Sessions that were opened for connectors without any; only over HTTP.
    pub bridge_sessions: Option<usize>,
    /// The eras of the connectors that the bridge has been at work for: `legacy`, `modern`.
    pub bridged_connectors: Vec<&'static str>,
}

/// What only a child process has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChildProtocol {
    /// `none`, `legacy` or `modern`: how the running child is spoken to.
    pub mode: &'static str,
    /// `none`, `running`, `done` or `failed`.
    pub handshake: &'static str,
    /// Number of the child, 1 first.
    pub generation: u64,
    /// Children replaced so far.
    pub restarts: u64,
}

impl Fact {
    /// `unknown`, `yes` or `no`.
    pub fn label(self) -> &'static str {
        match self {
            Fact::Unknown => "unknown",
            Fact::Yes => "yes",
            Fact::No => "no",
        }
    }
}

/// A time in UTC, as RFC 3339 spells it.
fn calendar(at: SystemTime) -> String {
    let at = time::OffsetDateTime::from(at);
    let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", at.hour(), at.minute(), at.second())
}

impl Protocol {
    /// The object that operators are shown.
    pub fn to_json(&self) -> String {
        let mut json = format!(
            r#"{{"bridge":"{}","speaks_legacy":"{}","speaks_modern":"{}""#,
            if self.bridge { "auto" } else { "off" },
            self.speaks_legacy.label(),
            self.speaks_modern.label()
        );
        let mut text = |name: &str, value: Option<&str>| {
            if let Some(value) = value {
                json.push_str(&format!(r#","{name}":{}"#, quoted(value)));
            }
        };
        text("mode", self.child.map(|child| child.mode));
        text("protocol_version", self.protocol_version.as_deref());
        text("server_name", self.server_name.as_deref());
        text("server_version", self.server_version.as_deref());
        text("handshake", self.child.map(|child| child.handshake));
        if let Some(child) = self.child {
            json.push_str(&format!(
                r#","child_generation":{},"restarts":{}"#,
                child.generation, child.restarts
            ));
        }
        if let Some(sessions) = self.bridge_sessions {
            json.push_str(&format!(r#","bridge_sessions":{sessions}"#));
        }
        if !self.bridged_connectors.is_empty() {
            json.push_str(&format!(
                r#","bridged_connectors":["{}"]"#,
                self.bridged_connectors.join(r#"",""#)
            ));
        }
        if let Some(at) = self.last_transition {
            json.push_str(&format!(r#","last_transition":"{}""#, calendar(at)));
        }
        json.push('}');
        json
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_snapshot_reads_as_operators_expect() {
        let protocol = Protocol {
            bridge: true,
            speaks_legacy: Fact::Yes,
            speaks_modern: Fact::No,
            protocol_version: Some("2025-11-25".into()),
            server_name: Some("demo".into()),
            child: Some(ChildProtocol { mode: "legacy", handshake: "done", generation: 2, restarts: 1 }),
            bridged_connectors: vec!["legacy", "modern"],
            ..Protocol::default()
        };
        assert_eq!(
            protocol.to_json(),
            r#"{"bridge":"auto","speaks_legacy":"yes","speaks_modern":"no","mode":"legacy","protocol_version":"2025-11-25","server_name":"demo","handshake":"done","child_generation":2,"restarts":1,"bridged_connectors":["legacy","modern"]}"#
        );
    }
}
