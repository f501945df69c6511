//! The stdio binding: a child process that speaks newline-delimited JSON.
//!
//! Road of a call: `exchange` → `Draft` → `Session` (who may write next) → writer thread → child →
//! reader thread → `Mailbox` → `exchange`. Invariant: an exchange returns no later than its deadline,
//! and a child that hangs, dies or talks nonsense costs at most the calls that it was given.

mod across;
mod assemble;
mod calls;
mod child;
mod draft;
mod eras;
mod handshake;
mod handshaking;
mod health;
mod incoming;
mod known;
mod lines;
mod mailbox;
mod notice;
mod outbox;
mod outcomes;
mod pipe;
mod session;
mod shared;
mod spawn;
mod stderr;
mod stdout;
mod supervisor;
#[cfg(test)]
mod tests;

use std::cell::OnceCell;
use std::fmt;
use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::jsonrpc::{Kind, Message};
use crate::net::{Cancel, CancelGuard, Deadline};

use super::bridge::{ChildProtocol, Protocol, Tally, complete, own};
use super::era::Era;
use super::{Event, Exchange, FailureKind, Head, OnEvent, Outcome, Source};

use across::Crossed;
use child::Child;
use draft::Draft;
use eras::Crossing;
use health::Health;
use mailbox::{Mail, Mailbox};
use notice::Tag;
use outcomes::failed;
use session::{Mode, Settings};
use shared::Shared;
use supervisor::Supervisor;

pub use health::{EndReason, HealthReport};
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
    /// Translate messages of the era that the child does not speak.
    pub bridge: bool,
    /// How long the child may take to answer `server/discover`.
    pub probe_window: Duration,
    /// How long the child may take to answer `initialize`.
    pub handshake_timeout: Duration,
    /// How long a server that refuses both eras is not asked again.
    pub refusal_kept: Duration,
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
            bridge: true,
            probe_window: Duration::from_secs(5),
            handshake_timeout: Duration::from_secs(30),
            refusal_kept: Duration::from_secs(30),
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
            bridge: target.bridge,
            probe_window: target.probe_window,
            handshake_limit: target.handshake_timeout,
            refusal_kept: target.refusal_kept,
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

    /// What is known about the eras of the server, for status.
    pub fn protocol(&self) -> Protocol {
        let health = self.health.report();
        let restarts = health.restarts_by_reason.iter().map(|(_, count)| count).sum();
        self.shared.with(|session| {
            let known = &session.knowledge;
            let initialized = session.result.as_deref().and_then(|text| serde_json::from_str(text).ok());
            let discovered = known.discovered.as_deref().and_then(|text| serde_json::from_str(text).ok());
            let info = |member| match session.mode {
                Mode::Modern => discovered.and_then(|result| handshake::discovered_info(result, member)),
                _ => initialized.and_then(|result| handshake::server_info(result, member)),
            };
            Protocol {
                bridge: session.settings.bridge,
                speaks_legacy: known.legacy,
                speaks_modern: known.modern,
                protocol_version: match session.mode {
                    Mode::Modern => Some(own::MODERN_VERSION.to_owned()),
                    _ => session.negotiated(),
                },
                server_name: info("name"),
                server_version: info("version"),
                last_transition: known.changed,
                child: Some(ChildProtocol {
                    mode: session.mode.label(),
                    handshake: match (&session.handshake, session.mode, session.failed_handshake) {
                        (Some(_), Mode::Unknown, _) => "running",
                        (_, Mode::Legacy, _) => "done",
                        (_, Mode::Unknown, Some(_)) => "failed",
                        _ => "none",
                    },
                    generation: health.generation,
                    restarts,
                }),
                bridge_sessions: None,
                bridged_connectors: self.shared.tally.bridged_connectors(),
            }
        })
    }

    /// Counters of what bridging and lifecycle care did.
    pub fn tally(&self) -> &Tally {
        &self.shared.tally
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
        let (completed, crossed) = (OnceCell::new(), OnceCell::new());
        loop {
            let mut draft = Draft::new(completed.get().unwrap_or(exchange.message), exchange.headers);
            if self.target.bridge
                && draft.era == Era::Modern
                && let Some(message) = complete::body(draft.message, exchange.headers)
                && let Ok(message) = Message::parse(message)
            {
                draft = Draft::new(completed.get_or_init(|| message), exchange.headers);
            }
            let original = draft.message;
            let mut cross = |crossing: &Crossing| {
                let translated = self.cross(original, crossing)?;
                let translated: &Crossed = crossed.get_or_init(|| translated);
                Ok(Draft::crossed(&translated.message, translated.target(), translated.log_level))
            };
            let mailbox = Arc::new(Mailbox::default());
            let sequence =
                match self.shared.admit(&mut draft, &mailbox, exchange.deadline, entered, &mut cross) {
                    Ok(sequence) => sequence,
                    Err(outcome) => return outcome,
                };
            // Whatever comes next, a panic in `on_event` included: nobody waits any more.
            let pending = Pending { shared: &self.shared, mailbox: &mailbox, sequence, done: false };
            match crossed.get().filter(|_| draft.crossed) {
                Some(crossed) => {
                    let mut first = Some(pending);
                    let wait = |message: &Message, on_event: OnEvent<'_>| match first.take() {
                        Some(pending) => {
                            pending.wait(exchange.deadline, on_event).unwrap_or(Outcome::Expired)
                        }
                        None => self.once(message, crossed.target(), exchange.deadline, on_event),
                    };
                    return self.cross_back(exchange, crossed, wait, on_event);
                }
                None => {
                    if let Some(outcome) = pending.wait(exchange.deadline, on_event) {
                        return outcome;
                    }
                }
            }
        }
    }

    /// One exchange of a message that was translated already.
    fn once(&self, message: &Message, target: Era, deadline: Deadline, on_event: OnEvent<'_>) -> Outcome {
        let mut draft = Draft::crossed(message, target, None);
        let mailbox = Arc::new(Mailbox::default());
        let mut cross = |_: &Crossing| Err(failed(Source::ClientInternal, FailureKind::Unknown));
        match self.shared.admit(&mut draft, &mailbox, deadline, &mut || {}, &mut cross) {
            Ok(sequence) => {
                let pending = Pending { shared: &self.shared, mailbox: &mailbox, sequence, done: false };
                pending.wait(deadline, on_event).unwrap_or(Outcome::Expired)
            }
            Err(outcome) => outcome,
        }
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
    /// The outcome; `None` when the message has to be brought in once more.
    fn wait(mut self, deadline: Deadline, on_event: OnEvent<'_>) -> Option<Outcome> {
        let head = Head::bare(200);
        loop {
            match self.mailbox.take(deadline) {
                Mail::Event(json) => on_event(Event { head: &head, json: &json }),
                Mail::Outcome(outcome) => {
                    self.done = true;
                    return Some(outcome);
                }
                Mail::Again => {
                    self.done = true;
                    return None;
                }
                Mail::TimedOut => return Some(Outcome::Expired),
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
