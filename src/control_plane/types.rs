//! Commands in, responses out.

use std::time::{Instant, SystemTime};

use crate::ids::Channel;
use crate::jsonrpc::Message;
use crate::net::{Deadline, HeaderList};
use crate::secret::Secret;

/// One polled unit of work.
#[derive(Clone, Debug)]
pub struct Command {
    /// The control plane's id for it; opaque.
    pub request_id: String,
    /// Returned with every response, in a header only.
    pub shard_token: Secret<String>,
    /// Where it goes.
    pub channel: Channel,
    /// When the head of the poll's reply arrived.
    pub received_at: Instant,
    /// When the connector's request arrived at the control plane, if it said so.
    pub created_at: Option<SystemTime>,
    /// After this moment nothing may be posted for it.
    pub deadline: Deadline,
    /// The connector's headers.
    pub headers: HeaderList,
    /// What to do.
    pub work: Work,
}

/// What a command asks for.
#[derive(Clone, Debug)]
pub enum Work {
    /// Forward a JSON-RPC message.
    JsonRpc(Message),
    /// End the MCP session named in the headers.
    SessionTermination,
    /// Fetch the OAuth protected-resource metadata of the MCP server.
    OauthDiscovery,
    /// Nothing that can be executed: answer with this.
    Refused(Refusal),
}

/// The answer to a command that is malformed or unsupported but can be addressed.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// `resp_code`.
    pub code: u16,
    /// The response's type and payload.
    pub body: ResponseBody,
}

/// Type and payload of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResponseBody {
    /// `jsonrpc_response`: the terminal response to a call, as JSON text.
    JsonRpc(String),
    /// `jsonrpc_notify`: a notification met before it, as JSON text. The only one that is not final.
    Notify(String),
    /// `notify_ack`.
    NotifyAck,
    /// `session_termination_response`.
    SessionTermination,
    /// `oauth_discovery_response`, as JSON text.
    OauthDiscovery(String),
}

/// One response to be posted for `command`.
#[derive(Clone, Debug)]
pub struct Posting<'a> {
    /// The command that is answered.
    pub command: &'a Command,
    /// Type and payload.
    pub body: &'a ResponseBody,
    /// `resp_code`.
    pub code: u16,
    /// `resp_headers`, as they shall appear on the wire.
    pub headers: &'a HeaderList,
    /// No attempt, and no wait between attempts, goes beyond it.
    pub deadline: Deadline,
}

/// How a posting ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// 200.
    Delivered,
    /// 404: already fulfilled, expired or unknown. Counts as delivered.
    Gone,
    /// A status that is not retried.
    Rejected(u16),
    /// Every attempt failed.
    Exhausted,
    /// The deadline passed first.
    Expired,
    /// The client is stopping.
    Cancelled,
}

impl Command {
    /// The connector's own request id (`X-Request-Id`), if it sent one.
    pub fn connector_request_id(&self) -> Option<&str> {
        self.headers.get("X-Request-Id").filter(|value| !value.is_empty())
    }

    /// The MCP session named in the headers (`Mcp-Session-Id`).
    pub fn session_id(&self) -> Option<&str> {
        self.headers.get("Mcp-Session-Id").filter(|value| !value.is_empty())
    }
}

impl ResponseBody {
    /// The wire's `resp_type`.
    pub fn wire_type(&self) -> &'static str {
        match self {
            ResponseBody::JsonRpc(_) => "jsonrpc_response",
            ResponseBody::Notify(_) => "jsonrpc_notify",
            ResponseBody::NotifyAck => "notify_ack",
            ResponseBody::SessionTermination => "session_termination_response",
            ResponseBody::OauthDiscovery(_) => "oauth_discovery_response",
        }
    }

    /// Whether this ends the command.
    pub fn is_final(&self) -> bool {
        !matches!(self, ResponseBody::Notify(_))
    }
}

impl Delivery {
    /// The outcome as a metric label.
    pub fn label(&self) -> &'static str {
        match self {
            Delivery::Delivered => "delivered",
            Delivery::Gone => "gone",
            Delivery::Rejected(_) => "rejected",
            Delivery::Exhausted => "exhausted",
            Delivery::Expired => "expired",
            Delivery::Cancelled => "cancelled",
        }
    }

    /// Whether the control plane needs nothing more from us.
    pub fn is_delivered(&self) -> bool {
        matches!(self, Delivery::Delivered | Delivery::Gone)
    }
}
