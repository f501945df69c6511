//! The stdio binding: a child process that speaks newline-delimited JSON.
//!
//! Road of a call: `exchange` → `Draft` → `Session` (who may write next) → writer thread → child →
//! reader thread → `Mailbox` → `exchange`. Invariant: an exchange returns no later than its deadline,
//! and a child that hangs, dies or talks nonsense costs at most the calls that it was given.

mod assemble;
mod calls;
mod child;
mod draft;
mod era;
mod handshake;
mod handshaking;
mod health;
mod incoming;
mod lines;
mod mailbox;
mod notice;
mod outbox;
mod outcomes;
mod peek;
mod pipe;
mod session;
mod shared;
mod spawn;
mod stderr;
mod stdout;
mod supervisor;
#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::jsonrpc::Kind;
use crate::net::{Cancel, CancelGuard, Deadline};

use super::{Event, Exchange, FailureKind, Head, OnEvent, Outcome, Source};

use child::Child;
use draft::Draft;
use health::Health;
use mailbox::{Mail, Mailbox};
use notice::Tag;
use outcomes::failed;
use session::{Mode, Settings};
use shared::Shared;
use supervisor::Supervisor;

pub use health::{EndReason, HealthReport};
pub use session::Mode as ChildMode;
pub use stderr::Redactor;

/// Longest time that a binding which is merely dropped takes to end its child.
const DROP_PATIENCE: Duration = Duration::from_secs(2);

/// What a stdio binding runs.
pub struct StdioTarget {
    /// The channel that it serves, for logs and thread names.
    pub channel: String,
    /// The command line as written, for logs and status.
    pub command: String,
    /// The argument vector; the first word is looked up on `PATH`. Never empty.
    pub argv: Vec<String>,
    /// Environment variables that the child must not inherit.
    pub hidden_variables: Vec<String>,
    /// Longest line of the child's output, in bytes.
    pub max_message_bytes: usize,
    /// Messages that may wait for the child's stdin at once; further ones wait with their worker.
    pub max_pending: usize,
    /// Initialise the child before anything else reaches it, and answer for it what it was asked
    /// already. Off: messages pass as they come.
    pub lifecycle_care: bool,
    /// How long the child may take to answer `initialize`.
    pub handshake_timeout: Duration,
    /// Pause before the first restart.
    pub restart_min: Duration,
    /// Longest pause between restarts.
    pub restart_max: Duration,
    /// A child that lived so long does not count as a failure.
    pub stable_after: Duration,
    /// Replaces secrets of ours in the child's stderr.
    pub redactor: Option<Redactor>,
    /// Where the child's stderr goes instead of ours.
    pub stderr: Option<File>,
    /// Dump all messages at debug level, secrets included.
    pub log_raw_messages: bool,
}

impl StdioTarget {
    /// A target with the default limits.
    pub fn new(channel: impl Into<String>, command: impl Into<String>, argv: Vec<String>) -> StdioTarget {
        StdioTarget {
            channel: channel.into(),
            command: command.into(),
            argv,
            hidden_variables: Vec::new(),
            max_message_bytes: 64 * 1024 * 1024,
            max_pending: 256,
            lifecycle_care: true,
            handshake_timeout: Duration::from_secs(30),
            restart_min: Duration::from_millis(500),
            restart_max: Duration::from_secs(30),
            stable_after: Duration::from_secs(60),
            redactor: None,
            stderr: None,
            log_raw_messages: false,
        }
    }
}

/// A child process that is restarted when it dies, shared by all exchanges of its channel.
pub struct StdioBinding {
    target: Arc<StdioTarget>,
    shared: Arc<Shared>,
    health: Arc<Health>,
    cancel: Cancel,
    supervisor: Mutex<Option<JoinHandle<()>>>,
    _cut: CancelGuard,
}

/// The child cannot be started.
#[derive(Debug)]
pub struct StartError(String);

impl StdioBinding {
    /// A binding for `target`; nothing runs before [`StdioBinding::start`]. When `cancel` fires, running
    /// exchanges fail at once; the child ends with [`StdioBinding::stop`].
    pub fn new(target: StdioTarget, cancel: &Cancel) -> StdioBinding {
        let command = match &target.redactor {
            Some(redact) => redact(target.command.trim()).into_owned(),
            None => target.command.trim().to_owned(),
        };
        let tag = Tag { channel: target.channel.clone(), command };
        let settings = Settings {
            lifecycle_care: target.lifecycle_care,
            handshake_limit: target.handshake_timeout,
            max_queued: target.max_pending,
        };
        let shared = Arc::new(Shared::new(tag, settings, target.max_message_bytes, target.log_raw_messages));
        let cut = {
            let shared = Arc::downgrade(&shared);
            cancel.on_cancel(move || {
                if let Some(shared) = shared.upgrade() {
                    shared.cut();
                }
            })
        };
        StdioBinding {
            target: Arc::new(target),
            shared,
            health: Arc::default(),
            cancel: cancel.clone(),
            supervisor: Mutex::new(None),
            _cut: cut,
        }
    }

    /// Starts the child and the threads that serve it. Once only; a child that dies later is replaced
    /// without further ado.
    ///
    /// # Errors
    /// The executable is missing or cannot be run, or no pipe or thread can be made.
    pub fn start(&self) -> Result<(), StartError> {
        let mut supervisor = self.supervisor.lock().unwrap_or_else(PoisonError::into_inner);
        if supervisor.is_some() {
            return Ok(());
        }
        let name = self.target.argv.first().map_or("", String::as_str);
        let owner = Supervisor {
            target: Arc::clone(&self.target),
            redactor: self.target.redactor.clone(),
            shared: Arc::clone(&self.shared),
            health: Arc::clone(&self.health),
            cancel: self.cancel.clone(),
            failures: 0,
            generation: 1,
            stop: None,
        };
        // The owner first: a child without one would be left behind if no thread could be made.
        let (first, started) = crossbeam_channel::bounded(1);
        let thread = std::thread::Builder::new()
            .name(format!("stdio-{}", self.target.channel))
            .spawn(move || started.recv().map_or((), |child| owner.run(child)))
            .map_err(|error| StartError::new(name, error))?;
        match Child::start(&self.target, self.target.redactor.clone(), &self.shared, 1) {
            Ok(child) => {
                supervisor::announce(&self.shared, &self.health, &child);
                let _ = first.send(child);
                *supervisor = Some(thread);
                Ok(())
            }
            Err(error) => {
                drop(first);
                let _ = thread.join();
                Err(error)
            }
        }
    }

    /// Closes the child's stdin, ends its process group, by force before `deadline`, and joins the
    /// threads. Exchanges that still run fail.
    pub fn stop(&self, deadline: Deadline) {
        let supervisor = self.supervisor.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(supervisor) = supervisor {
            let _ = self.shared.events.send(shared::Event::Stop(deadline));
            let _ = supervisor.join();
        }
    }

    /// Kills the child's process group at once; for a process that is about to end by itself.
    pub fn kill(&self) {
        let report = self.health.report();
        let pid = report.pid.filter(|_| report.running).and_then(|pid| i32::try_from(pid).ok());
        if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        }
    }

    /// How the child is doing.
    pub fn health(&self) -> HealthReport {
        self.health.report()
    }

    /// What is known about the running child.
    pub fn protocol(&self) -> ChildProtocol {
        self.shared.with(|session| {
            let result = session.result.as_deref().and_then(|text| serde_json::from_str(text).ok());
            ChildProtocol {
                mode: session.mode,
                handshake: match (&session.handshake, session.mode, session.failed_handshake) {
                    (Some(_), _, _) => "running",
                    (None, Mode::Legacy, _) => "done",
                    (None, _, Some(_)) => "failed",
                    (None, _, None) => "none",
                },
                protocol_version: result.and_then(handshake::protocol_version),
                server_name: result.and_then(|result| handshake::server_info(result, "name")),
                server_version: result.and_then(|result| handshake::server_info(result, "version")),
            }
        })
    }

    /// The command line, for display.
    pub fn command(&self) -> &str {
        &self.shared.tag.command
    }

    /// See [`super::Binding::exchange`]. A call may run beside others; a notification returns once its
    /// bytes are in the child's pipe.
    pub fn exchange(&self, exchange: &Exchange<'_>, on_event: OnEvent<'_>) -> Outcome {
        self.exchange_in_turn(exchange, &mut || {}, on_event)
    }

    /// See [`super::Binding::exchange_in_turn`].
    pub fn exchange_in_turn(
        &self,
        exchange: &Exchange<'_>,
        entered: &mut dyn FnMut(),
        on_event: OnEvent<'_>,
    ) -> Outcome {
        if exchange.message.kind() == Kind::Response {
            return failed(Source::ClientInternal, FailureKind::Unknown);
        }
        let mut draft = Draft::new(exchange.message, exchange.headers);
        let mailbox = Arc::new(Mailbox::default());
        let sequence = match self.shared.admit(&mut draft, &mailbox, exchange.deadline, entered) {
            Ok(sequence) => sequence,
            Err(outcome) => return outcome,
        };
        // Whatever comes next, a panic in `on_event` included: nobody waits any more.
        let pending = Pending { shared: &self.shared, mailbox: &mailbox, sequence, done: false };
        pending.wait(exchange.deadline, on_event)
    }
}

/// A message that was let in and that somebody waits for.
struct Pending<'a> {
    shared: &'a Shared,
    mailbox: &'a Arc<Mailbox>,
    sequence: Option<u64>,
    done: bool,
}

impl Pending<'_> {
    fn wait(mut self, deadline: Deadline, on_event: OnEvent<'_>) -> Outcome {
        let head = Head::bare(200);
        loop {
            match self.mailbox.take(deadline) {
                Mail::Event(json) => on_event(Event { head: &head, json: &json }),
                Mail::Outcome(outcome) => {
                    self.done = true;
                    return outcome;
                }
                Mail::TimedOut => return Outcome::Expired,
            }
        }
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        self.mailbox.close();
        self.shared.with(|session| match self.sequence {
            Some(sequence) => session.give_up(sequence, Instant::now()),
            None => session.withdraw_notification(self.mailbox),
        });
    }
}

impl Drop for StdioBinding {
    fn drop(&mut self) {
        self.stop(Deadline::after(DROP_PATIENCE));
    }
}

/// What is known about the running child, for status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildProtocol {
    /// How it must be spoken to.
    pub mode: ChildMode,
    /// `none`, `running`, `done` or `failed`.
    pub handshake: &'static str,
    /// What it chose.
    pub protocol_version: Option<String>,
    /// What it calls itself.
    pub server_name: Option<String>,
    /// Its version.
    pub server_version: Option<String>,
}

impl StartError {
    fn new(program: &str, reason: impl fmt::Display) -> StartError {
        StartError(format!("start stdio command \"{program}\": {reason}"))
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}
