//! What is known of a held request while it is held.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::answer::Answer;
use super::command::{Command, Kind};
use super::presence::ClientKey;
use crate::ids::Channel;
use crate::net::Waker;

/// Why a held request ended without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It came too close to its deadline while queued.
    ExpiredQueued,
    /// The client's answer was larger than the server takes.
    AnswerTooLarge,
    /// The only client that may answer it is gone.
    ClientGone,
    /// The server is stopping.
    Stopping,
    /// The tunnel is gone.
    Deleted,
}

/// Where a held request stands.
pub(super) enum Stage {
    Queued(Command),
    Delivered {
        by: Arc<ClientKey>,
        at: Instant,
    },
    /// Its terminal answer is in the inbox.
    Answered {
        by: Arc<ClientKey>,
        /// When it was delivered.
        at: Instant,
    },
    Ended(End),
}

pub(super) struct Held {
    pub(super) number: u64,
    pub(super) pin: Option<Arc<str>>,
    pub(super) kind: Kind,
    pub(super) channel: Channel,
    /// The request named a session.
    pub(super) in_session: bool,
    pub(super) started: Instant,
    pub(super) deadline: Instant,
    pub(super) stage: Stage,
    pub(super) waker: Arc<Waker>,
    pub(super) notifications: VecDeque<Answer>,
    pub(super) notification_bytes: usize,
    pub(super) terminal: Option<Answer>,
    /// Posting threads that wait for room among the notifications.
    pub(super) room: Vec<Arc<Waker>>,
}
