//! What the control plane's side reports to whoever counts.

use std::time::{Duration, SystemTime};

use super::metadata::TunnelMetadata;
use super::state::PollTrouble;
use crate::net::HttpExchange;

/// Receives every countable event. All methods default to nothing; they are called on the road of
/// the commands and must not block.
pub trait PollObserver: Send + Sync {
    /// A poll was started (waiting for room in the queue is no poll).
    fn poll_started(&self) {}
    /// A poll ended after `latency`.
    fn poll_finished(&self, _latency: Duration, _outcome: PollOutcome) {}
    /// A poll failed, and in which way.
    fn poll_failed(&self, _trouble: &PollTrouble) {}
    /// The tunnel's metadata are known, or why they could not be fetched.
    fn metadata_settled(&self, _outcome: &Result<TunnelMetadata, String>) {}
    /// A poll succeeded, with or without commands.
    fn poll_succeeded(&self, _at: SystemTime) {}
    /// Commands were received and decoded; refused ones are not counted here.
    fn commands_polled(&self, _count: usize) {}
    /// Commands were put in the queue; refused ones are not counted here.
    fn commands_enqueued(&self, _count: usize) {}
    /// Received commands could not be queued, for `reason`.
    fn commands_dropped(&self, _reason: &'static str, _count: usize) {}
    /// A malformed or unsupported command was met. `answered` tells whether it can be answered.
    fn command_refused(&self, _reason: &'static str, _answered: bool) {}
    /// Age of a command on arrival.
    fn command_age(&self, _age: Duration) {}
    /// A response posting ended; `result` is [`super::Delivery::label`].
    fn response_posted(&self, _resp_type: &'static str, _result: &'static str) {}
    /// One HTTP request was answered or failed.
    fn http_request(&self, _exchange: &HttpExchange<'_>) {}
}

/// Counts nothing.
impl PollObserver for () {}

/// How a poll ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollOutcome {
    /// 200 or 204.
    Success,
    /// It reached its deadline.
    Timeout,
    /// The client is stopping; no error.
    Stopped,
    /// Any other failure.
    Failed,
}

impl PollOutcome {
    /// The `error_kind` of a failure that counts as an error.
    pub fn error_kind(self) -> Option<&'static str> {
        match self {
            PollOutcome::Success | PollOutcome::Stopped => None,
            PollOutcome::Timeout => Some("timeout"),
            PollOutcome::Failed => Some("other"),
        }
    }
}
