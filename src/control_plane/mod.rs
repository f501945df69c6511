//! The client's side of the control plane: poll, decode, respond, metadata.
//!
//! Knows nothing of MCP servers. Invariant: the shard token leaves only in its header, the API key
//! only in `Authorization`, and no redirect is ever followed.

mod admin;
mod client;
mod decode;
mod endpoints;
mod errors;
pub(crate) mod event;
mod headers;
mod identity;
mod metadata;
mod mitigation;
mod observer;
mod pace;
mod poll;
mod poller;
mod raw_http;
mod refusal;
mod respond;
mod server_info;
mod state;
#[cfg(test)]
mod tests;
mod time_text;
pub(crate) mod trace;
mod types;
mod views;

pub use admin::{
    AdminClient, AdminError, AdminRefusal, AdminSettings, NewTunnel, Tunnel, TunnelFilter, TunnelList,
    TunnelUpdate,
};
pub use client::{Client, Settings, SetupError};
pub use decode::InvalidBody;
pub use endpoints::{InvalidBaseUrl, POLL_LIMIT_MAX};
pub use errors::{ErrorDetail, StatusError};
pub use headers::filter_response_headers;
pub use identity::InvalidIdentity;
pub use metadata::{MetadataError, MetadataFetch, MetadataSlot, TunnelMetadata};
pub use mitigation::mitigation;
pub use observer::{PollObserver, PollOutcome};
pub use poll::{Batch, PollError, PollFailure};
pub use poller::{CommandSink, Gate, Poller, PollerHandle, Stopped};
pub use refusal::{Reason, Refused};
pub use server_info::{DeclaredChannels, InvalidServerInfo, ServerInfo, render_server_info};
pub use state::{PollState, PollStatus, PollTrouble};
pub use types::{Command, Delivery, Posting, Refusal, ResponseBody, Work};
