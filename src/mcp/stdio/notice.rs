//! What is worth logging about a child, decided under the lock and written after it.

use std::time::Duration;

use log::{debug, info, warn};

use crate::mcp::bridge::{Direction, Tally, own};

/// Names a child in logs.
#[derive(Clone, Debug)]
pub(super) struct Tag {
    /// The channel that it serves.
    pub(super) channel: String,
    /// The command line, for display.
    pub(super) command: String,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// A handshake succeeded.
    Initialized {
        trigger: &'static str,
        protocol_version: Option<String>,
        server_name: Option<String>,
        elapsed: Duration,
    },
    /// `notifications/initialized` was written in a connector's place.
    InitializedOnBehalf,
    /// A second `initialize` was answered from the first one's result.
    AnsweredFromCache { client_name: Option<String>, capabilities_differ: bool },
    /// A handshake was refused (with the error's code) or stayed unanswered (without).
    HandshakeFailed { trigger: &'static str, error_code: Option<i64>, elapsed: Duration },
    /// A test of an era ended: its method, and how.
    Probed(&'static str, &'static str),
    /// The server's era is known.
    EraDetermined {
        era: &'static str,
        protocol_version: Option<String>,
        evidence: &'static str,
        elapsed: Duration,
    },
    /// The first message was translated in this direction.
    BridgeActive(Direction),
    /// A request of the server was answered with an error.
    RefusedRequest { method: String, first: bool },
    /// Something that names no call was dropped.
    Dropped(&'static str),
}

impl Notice {
    fn count(&self, tally: &Tally) {
        match self {
            Notice::Initialized { trigger, .. } => {
                tally.handshake(trigger, "ok");
                tally.probe("initialize", "supported");
            }
            Notice::HandshakeFailed { trigger, error_code, .. } => {
                tally.handshake(trigger, if error_code.is_some() { "error" } else { "timeout" });
            }
            Notice::Probed(method, result) => tally.probe(method, result),
            Notice::RefusedRequest { method, .. } => tally.refused_request(method),
            _ => {}
        }
    }

    /// Writes the event.
    pub(super) fn log(&self, tag: &Tag, generation: u64, tally: &Tally) {
        self.count(tally);
        let channel = tag.channel.as_str();
        if let Notice::Initialized { protocol_version: Some(version), .. } = self {
            own::warn_of_unfamiliar(channel, version);
        }
        match self {
            Notice::Initialized { trigger, protocol_version, server_name, elapsed } => info!(
                target: "mcpclient", transport = "stdio", channel, child_generation = generation,
                trigger = *trigger, protocol_version = protocol_version.as_deref().unwrap_or_default(),
                server_name = server_name.as_deref().unwrap_or_default(),
                elapsed_ms = millis(*elapsed);
                "stdio MCP child initialized"
            ),
            Notice::Probed(..) => {}
            Notice::EraDetermined { era, protocol_version, evidence, elapsed } => info!(
                target: "mcpclient", transport = "stdio", channel, child_generation = generation,
                era = *era, protocol_version = protocol_version.as_deref().unwrap_or_default(),
                evidence = *evidence, elapsed_ms = millis(*elapsed);
                "mcp server era determined"
            ),
            Notice::BridgeActive(direction) => {
                let (connector_era, server_era) = direction.eras();
                info!(
                    target: "mcpclient", transport = "stdio", channel, child_generation = generation,
                    connector_era, server_era;
                    "protocol bridge active"
                );
            }
            Notice::InitializedOnBehalf => info!(
                target: "mcpclient", transport = "stdio", channel, child_generation = generation;
                "sent notifications/initialized on behalf of connector"
            ),
            Notice::AnsweredFromCache { client_name, capabilities_differ } => info!(
                target: "mcpclient", transport = "stdio", channel, child_generation = generation,
                client_name = client_name.as_deref().unwrap_or_default(),
                capabilities_differ = *capabilities_differ;
                "answered initialize from cache"
            ),
            Notice::HandshakeFailed { trigger, error_code: Some(code), elapsed } => warn!(
                target: "mcpclient", transport = "stdio", channel, child_generation = generation,
                trigger = *trigger, rpc_error_code = *code, elapsed_ms = millis(*elapsed);
                "mcp handshake failed"
            ),
            Notice::HandshakeFailed { trigger, error_code: None, elapsed } => warn!(
                target: "mcpclient", transport = "stdio", channel, child_generation = generation,
                trigger = *trigger, kind = "timeout", elapsed_ms = millis(*elapsed);
                "mcp handshake failed"
            ),
            Notice::RefusedRequest { method, first: true } => warn!(
                target: "mcpclient", transport = "stdio", channel, child_generation = generation,
                method = method.as_str();
                "refused server request"
            ),
            Notice::RefusedRequest { method, first: false } => debug!(
                target: "mcpclient", transport = "stdio", channel, child_generation = generation,
                method = method.as_str();
                "refused server request"
            ),
            Notice::Dropped(what) => debug!(
                target: "mcpclient", transport = "stdio", channel, child_generation = generation,
                what = *what;
                "dropped a message of the stdio MCP child"
            ),
        }
    }
}

/// Whole milliseconds for a log field.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
