//! One poll.

use std::fmt;
use std::time::{Duration, SystemTime};

use super::client::{Client, Outgoing, Reply};
use super::decode::{InvalidBody, decode};
use super::errors::StatusError;
use super::refusal::Refused;
use super::server_info::InvalidServerInfo;
use super::types::Command;
use crate::net::{Cause, Deadline, Error, Method};

/// Path template of polls, for metrics.
const ROUTE: &str = "/v1/tunnels/{tunnel_id}/poll";
/// Longest reply.
const BODY_BYTES: usize = 64 * 1024 * 1024;

/// What a successful poll brought.
#[derive(Debug)]
pub struct Batch {
    /// In the order of the reply; all received at the same moment.
    pub commands: Vec<Command>,
    /// Commands that cannot be executed. Those that can be answered are in `commands` as well.
    pub refused: Vec<Refused>,
    /// Number of elements in the reply.
    pub total: usize,
    /// Wall-clock time of the reply's head.
    pub received_at: SystemTime,
    /// The control plane's id of the poll.
    pub tunnel_request_id: Option<String>,
}

/// A failed poll.
#[derive(Debug)]
pub struct PollError {
    /// Why.
    pub failure: PollFailure,
    /// The control plane's id of the poll, if there was a reply.
    pub tunnel_request_id: Option<String>,
    /// Least delay before the next poll that the reply asks for.
    pub retry_after: Option<Duration>,
}

/// Why a poll failed.
#[derive(Debug)]
pub enum PollFailure {
    /// It reached its deadline.
    Timeout,
    /// It was cut because the client is stopping.
    Cancelled,
    /// No usable reply.
    Transport(Error),
    /// A status other than 200 and 204.
    Status(Box<StatusError>),
    /// A reply that is not a poll's.
    Body(InvalidBody),
    /// The channels cannot be declared; nothing was sent.
    ServerInfo(InvalidServerInfo),
}

/// A poll whose head has arrived.
pub(super) struct PollReply {
    reply: Reply,
    received_at: SystemTime,
}

impl Client {
    /// Asks for up to `limit` commands and waits for them.
    pub fn poll(&self, limit: usize) -> Result<Batch, PollError> {
        let reply = self.begin_poll(limit)?;
        self.finish_poll(reply)
    }

    /// Sends a poll and waits for the head of its reply.
    pub(super) fn begin_poll(&self, limit: usize) -> Result<PollReply, PollError> {
        let headers = self.request_headers().map_err(|error| PollFailure::ServerInfo(error).bare())?;
        let outgoing = Outgoing {
            route: ROUTE,
            method: Method::GET,
            uri: self.endpoints.poll(limit),
            headers,
            body: None,
            deadline: Deadline::after(self.request_time),
        };
        let reply = self.send(&self.poll_http, outgoing).map_err(|error| self.classified(error).bare())?;
        Ok(PollReply { reply, received_at: SystemTime::now() })
    }

    /// Reads and decodes the reply.
    pub(super) fn finish_poll(&self, poll: PollReply) -> Result<Batch, PollError> {
        let PollReply { mut reply, received_at } = poll;
        let tunnel_request_id = reply.tunnel_request_id.take();
        let retry_after = reply.retry_after;
        let failed = |failure, tunnel_request_id| Err(PollError { failure, tunnel_request_id, retry_after });
        match reply.status {
            204 => {
                reply.discard();
                Ok(Batch {
                    commands: Vec::new(),
                    refused: Vec::new(),
                    total: 0,
                    received_at,
                    tunnel_request_id,
                })
            }
            200 => {
                let head_at = reply.head_at;
                let body = match reply.read(BODY_BYTES) {
                    Ok(body) => body,
                    Err(error) => return failed(self.classified(error), tunnel_request_id),
                };
                match decode(&body, head_at) {
                    Ok(decoded) => Ok(Batch {
                        commands: decoded.commands,
                        refused: decoded.refused,
                        total: decoded.total,
                        received_at,
                        tunnel_request_id,
                    }),
                    Err(error) => failed(PollFailure::Body(error), tunnel_request_id),
                }
            }
            status => {
                let detail = self.error_detail(reply, None);
                failed(PollFailure::Status(Box::new(StatusError { status, detail })), tunnel_request_id)
            }
        }
    }

    fn classified(&self, error: Error) -> PollFailure {
        match error.cause {
            _ if self.poll_cut.is_cancelled() => PollFailure::Cancelled,
            Cause::Cancelled => PollFailure::Cancelled,
            Cause::Timeout => PollFailure::Timeout,
            _ => PollFailure::Transport(error),
        }
    }
}

impl PollFailure {
    /// A failure without a reply.
    fn bare(self) -> PollError {
        PollError { failure: self, tunnel_request_id: None, retry_after: None }
    }
}

impl PollError {
    /// The reply's status and text, if there was a reply with an unexpected one.
    pub fn status(&self) -> Option<&StatusError> {
        match &self.failure {
            PollFailure::Status(error) => Some(error),
            _ => None,
        }
    }
}

impl fmt::Display for PollError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("poll failed: ")?;
        match &self.failure {
            PollFailure::Timeout => f.write_str("no reply before its deadline"),
            PollFailure::Cancelled => f.write_str("cancelled"),
            PollFailure::Transport(error) => error.fmt(f),
            PollFailure::Status(error) => error.fmt(f),
            PollFailure::Body(error) => error.fmt(f),
            PollFailure::ServerInfo(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for PollError {}
