//! The values that go into and come out of one exchange.

use crate::jsonrpc::Message;
use crate::net::{Deadline, HeaderList};

use super::Failure;

/// One message on its way to an MCP server.
pub struct Exchange<'a> {
    /// A call or a notification.
    pub message: &'a Message,
    /// Headers of the command; transports without headers ignore them.
    pub headers: &'a HeaderList,
    /// Bounds everything: connecting, writing, waiting, reading, and the time `on_event` takes.
    pub deadline: Deadline,
}

/// Status and headers of a reply; 200 and none for transports without them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// HTTP status.
    pub status: u16,
    /// The headers of the reply that an MCP client may care about.
    pub headers: HeaderList,
}

/// A notification that arrived before the response.
pub struct Event<'a> {
    /// Head of the enclosing reply.
    pub head: &'a Head,
    /// The message, byte for byte.
    pub json: &'a str,
}

/// Receives notifications in stream order; the transport is not read while it runs.
pub type OnEvent<'a> = &'a mut dyn FnMut(Event<'_>);

/// A response with the call's id.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Head of the reply.
    pub head: Head,
    /// The message, byte for byte.
    pub json: String,
}

/// How an exchange ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The call was answered: a result, an error, or an MCP error under a non-2xx status.
    Answered(Answer),
    /// The notification was delivered, or the session's end was answered.
    Accepted(Head),
    /// There is no usable answer.
    Failed(Failure),
    /// The exchange's deadline passed first.
    Expired,
    /// The connector took its call back; nobody waits for an answer.
    Withdrawn,
}

impl Head {
    /// A status without headers.
    pub fn bare(status: u16) -> Head {
        Head { status, headers: HeaderList::new() }
    }

    /// Whether the status is a 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}
