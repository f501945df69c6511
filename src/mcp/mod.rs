//! MCP servers behind the tunnel, whatever their transport.
//!
//! One blocking [`Binding::exchange`] per message. Invariant: it returns no later than its deadline,
//! and what a server or a child does never ends the process.

pub mod bridge;
mod era;
mod exchange;
mod failure;
pub mod http;
mod peek;
pub mod probe;
#[cfg(test)]
mod scripted;
pub mod sse;
pub mod stdio;
pub(crate) mod streamable;
pub mod stub;

pub use exchange::{Answer, Event, Exchange, Head, OnEvent, Outcome};
pub use failure::{Failure, FailureKind, LifecycleNote, Source};

use crate::net::{Deadline, HeaderList};

/// One channel's MCP server.
#[allow(clippy::large_enum_variant, reason = "one value a channel, made once")]
pub enum Binding {
    /// Streamable HTTP.
    Http(std::sync::Arc<http::HttpBinding>),
    /// A child process that speaks newline-delimited JSON.
    Stdio(stdio::StdioBinding),
    /// A server of our own in this process.
    InMemory(Box<dyn InMemory>),
    /// Whatever a test wants to happen.
    #[cfg(test)]
    Scripted(Script),
}

/// A server in this process.
pub trait InMemory: Send + Sync {
    /// Whether it has anything to offer right now; asked for each command and poll.
    fn is_routable(&self) -> bool;
    /// Answers one message, by its deadline; tells with `entered` when the next one may come.
    fn exchange(&self, exchange: &Exchange<'_>, entered: &mut dyn FnMut()) -> Outcome;
    /// Cuts what runs.
    fn stop(&self);
}

/// The exchange of a scripted binding.
#[cfg(test)]
pub(crate) type Script = Box<dyn Fn(&Exchange<'_>, OnEvent<'_>) -> Outcome + Send + Sync>;

impl Binding {
    /// The transport's name in logs and status: `http-streamable`, `stdio` or `in-memory`.
    pub fn transport(&self) -> &'static str {
        match self {
            Binding::Http(_) => "http-streamable",
            Binding::Stdio(_) => "stdio",
            Binding::InMemory(_) => "in-memory",
            #[cfg(test)]
            Binding::Scripted(_) => "scripted",
        }
    }

    /// Whether work on this channel depends on this process (stdio, in memory): declared to the control
    /// plane.
    pub fn process_affinity(&self) -> bool {
        matches!(self, Binding::Stdio(_) | Binding::InMemory(_))
    }

    /// Whether commands can be routed to it right now.
    pub fn is_routable(&self) -> bool {
        match self {
            Binding::InMemory(server) => server.is_routable(),
            _ => true,
        }
    }

    /// Sends one message and waits for what ends it; notifications met on the way go to `on_event`.
    pub fn exchange(&self, exchange: &Exchange<'_>, on_event: OnEvent<'_>) -> Outcome {
        self.exchange_in_turn(exchange, &mut || {}, on_event)
    }

    /// The same; tells with `entered` (once or more, before it waits for anything) that a message which
    /// comes now would be written after this one, where all messages share one connection.
    pub fn exchange_in_turn(
        &self,
        exchange: &Exchange<'_>,
        entered: &mut dyn FnMut(),
        on_event: OnEvent<'_>,
    ) -> Outcome {
        match self {
            Binding::Http(binding) => binding.exchange(exchange, on_event),
            Binding::Stdio(binding) => binding.exchange_in_turn(exchange, entered, on_event),
            Binding::InMemory(server) => server.exchange(exchange, entered),
            #[cfg(test)]
            Binding::Scripted(script) => script(exchange, on_event),
        }
    }

    /// Ends the MCP session that `headers` name. A transport without sessions answers 405.
    pub fn terminate_session(&self, headers: &HeaderList, deadline: Deadline) -> Outcome {
        match self {
            Binding::Http(binding) => binding.terminate_session(headers, deadline),
            Binding::Stdio(_) | Binding::InMemory(_) => Outcome::Accepted(Head::bare(405)),
            #[cfg(test)]
            Binding::Scripted(_) => Outcome::Accepted(Head::bare(405)),
        }
    }

    /// Why the server cannot be reached at all right now: its child is not running. `None` otherwise.
    pub fn not_running(&self) -> Option<String> {
        match self {
            Binding::Http(_) | Binding::InMemory(_) => None,
            Binding::Stdio(binding) => binding.health().unready_text(),
            #[cfg(test)]
            Binding::Scripted(_) => None,
        }
    }

    /// Starts what has to run before the first exchange (a child process).
    pub fn start(&self) -> Result<(), stdio::StartError> {
        match self {
            Binding::Http(_) | Binding::InMemory(_) => Ok(()),
            Binding::Stdio(binding) => binding.start(),
            #[cfg(test)]
            Binding::Scripted(_) => Ok(()),
        }
    }

    /// Kills what [`Binding::start`] started, at once and without waiting.
    pub fn kill(&self) {
        if let Binding::Stdio(binding) = self {
            binding.kill();
        }
    }

    /// What is known about the eras of the server, for status.
    pub fn protocol(&self) -> bridge::Protocol {
        match self {
            Binding::Http(binding) => binding.protocol(),
            Binding::Stdio(binding) => binding.protocol(),
            Binding::InMemory(_) => bridge::Protocol::default(),
            #[cfg(test)]
            Binding::Scripted(_) => bridge::Protocol::default(),
        }
    }

    /// Counters of what bridging and lifecycle care did; none for a server of our own.
    pub fn tally(&self) -> Option<&bridge::Tally> {
        match self {
            Binding::Http(binding) => Some(binding.tally()),
            Binding::Stdio(binding) => Some(binding.tally()),
            Binding::InMemory(_) => None,
            #[cfg(test)]
            Binding::Scripted(_) => None,
        }
    }

    /// Waits for threads of its own that may still run; call it when everything is cut.
    pub fn join(&self) {
        if let Binding::Http(binding) = self {
            binding.join_threads();
        }
    }

    /// Ends what [`Binding::start`] started (and sessions that were opened since), by force when
    /// `deadline` comes.
    pub fn stop(&self, deadline: Deadline) {
        match self {
            Binding::Http(binding) => binding.close_sessions(deadline),
            Binding::Stdio(binding) => binding.stop(deadline),
            Binding::InMemory(server) => server.stop(),
            #[cfg(test)]
            Binding::Scripted(_) => {}
        }
    }
}
