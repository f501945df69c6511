//! What is worth logging about a child, decided under the lock and written after it.

use std::time::Duration;

use log::{debug, info, warn};

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
    /// A request of the server was answered with an error.
    RefusedRequest { method: String, first: bool },
    /// Something that names no call was dropped.
    Dropped(&'static str),
}

impl Notice {
    /// Writes the event.
    pub(super) fn log(&self, tag: &Tag, generation: u64) {
        let channel = tag.channel.as_str();
        match self {
            Notice::Initialized { trigger, protocol_version, server_name, elapsed } => info!(
                target: "mcpclient", transport = "stdio", channel, child_generation = generation,
                trigger = *trigger, protocol_version = protocol_version.as_deref().unwrap_or_default(),
                server_name = server_name.as_deref().unwrap_or_default(),
                elapsed_ms = millis(*elapsed);
                "stdio MCP child initialized"
            ),
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
