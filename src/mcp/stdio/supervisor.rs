//! Watches the child, replaces it when it ends, and ends it when asked.
//!
//! Invariant: whatever a child does, its unanswered calls are answered at once, nothing of its process
//! group outlives it, and another one is started after a pause that grows.

use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::RecvTimeoutError;
use log::{info, warn};
use rustix::process::Signal;

use crate::mcp::{FailureKind, Source};
use crate::net::{Cancel, Deadline};

use super::StdioTarget;
use super::child::Child;
use super::health::{EndReason, Health};
use super::notice::millis;
use super::outcomes::{broken, failed};
use super::session::Phase;
use super::shared::{Event, Shared};
use super::stderr::Redactor;
use super::stdout::End;

/// How long the last output of a child is waited for.
const LAST_OUTPUT: Duration = Duration::from_millis(500);
/// A process that ends closes its pipes first; so much later its end must be known.
const EXIT_NEWS: Duration = Duration::from_millis(100);
/// How long a process group may take to end after SIGTERM.
const TERM_PATIENCE: Duration = Duration::from_secs(2);
/// How long SIGKILL may take.
const KILL_PATIENCE: Duration = Duration::from_secs(5);
/// Time between two looks at a process group whose leader has ended: nothing announces its end.
const GROUP_CHECK: Duration = Duration::from_millis(20);
/// On stopping, how long a child may take to end by itself once its stdin is closed.
const EOF_PATIENCE: Duration = Duration::from_secs(1);
/// On stopping without a deadline, how long a child may take to end after SIGTERM.
const STOP_PATIENCE: Duration = Duration::from_secs(10);
/// On stopping, what is kept of the time for SIGKILL.
const KILL_RESERVE: Duration = Duration::from_millis(500);

/// The owner of all children of a binding.
pub(super) struct Supervisor {
    pub(super) target: Arc<StdioTarget>,
    pub(super) redactor: Option<Redactor>,
    pub(super) shared: Arc<Shared>,
    pub(super) health: Arc<Health>,
    pub(super) cancel: Cancel,
    /// Children that ended soon after their start, in a row.
    pub(super) failures: u32,
    pub(super) generation: u64,
    /// When to be gone; set once we are told to stop.
    pub(super) stop: Option<Deadline>,
}

/// Why a child is no longer used.
struct Ending {
    reason: EndReason,
    error: Option<String>,
}

impl Supervisor {
    /// Serves `child` and its successors until told to stop.
    pub(super) fn run(mut self, child: Child) {
        let mut current = Some(child);
        loop {
            let due = match current.take() {
                Some(mut child) => match self.watch(&mut child) {
                    None => return self.shut_down(child),
                    Some(ending) => self.bury(child, ending),
                },
                None => {
                    self.failures += 1;
                    self.health.restarts(EndReason::SpawnFailed);
                    let due = Instant::now() + self.delay();
                    self.shared.with(|session| session.close(Phase::Down(due)));
                    self.health.next_start(due, self.failures);
                    due
                }
            };
            if self.stop.is_some() || !self.pause(due) {
                self.shared.cut();
                self.health.stopped();
                return;
            }
            self.generation += 1;
            match Child::start(&self.target, self.redactor.clone(), &self.shared, self.generation) {
                Ok(child) => {
                    announce(&self.shared, &self.health, &child);
                    current = Some(child);
                }
                Err(error) => {
                    let channel = self.shared.tag.channel.as_str();
                    warn!(
                        target: "mcpclient", transport = "stdio", channel, child_generation = self.generation,
                        reason = EndReason::SpawnFailed.label(), command = self.shared.tag.command.as_str(),
                        error:% = error;
                        "stdio MCP child ended"
                    );
                    self.health.ended(EndReason::SpawnFailed, Some(error.to_string()));
                }
            }
        }
    }

    /// Waits until the child can no longer be used; `None` when we are told to stop.
    fn watch(&mut self, child: &mut Child) -> Option<Ending> {
        loop {
            let event = self.shared.events_received.recv().ok()?;
            match event {
                Event::Stop(deadline) => {
                    self.stop = Some(deadline);
                    return None;
                }
                _ if !self.note(child, &event) => {}
                Event::Exited(_) => return Some(Ending { reason: EndReason::Exit, error: None }),
                Event::StdoutEnded(..) => {
                    return Some(Ending { reason: EndReason::StdoutClosed, error: None });
                }
                Event::StdinFailed(_, error) => {
                    return Some(Ending { reason: EndReason::StdinFailed, error: Some(error) });
                }
                Event::GivenUp(_) => {
                    return Some(Ending { reason: EndReason::HandshakeTimeout, error: None });
                }
            }
        }
    }

    /// Remembers what an event says about `child`; `false` if it is about another one.
    fn note(&mut self, child: &mut Child, event: &Event) -> bool {
        match event {
            Event::Stop(deadline) => {
                self.stop = Some(*deadline);
                false
            }
            Event::Exited(generation) if *generation == child.generation => {
                child.exited = true;
                true
            }
            Event::StdoutEnded(generation, end) if *generation == child.generation => {
                child.stdout_ended = Some(*end);
                true
            }
            Event::StdinFailed(generation, _) | Event::GivenUp(generation) => *generation == child.generation,
            Event::Exited(_) | Event::StdoutEnded(..) => false,
        }
    }

    /// Waits until `done` holds for `child`, `until` at most; a stop shortens that to its deadline.
    fn wait_for(&mut self, child: &mut Child, until: Instant, done: impl Fn(&Child) -> bool) -> bool {
        while !done(child) {
            let until = self.stop.and_then(Deadline::instant).map_or(until, |stop| until.min(stop));
            match self.shared.events_received.recv_deadline(until) {
                Ok(event) => {
                    self.note(child, &event);
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return done(child),
            }
        }
        true
    }

    /// Ends what is left of a child, answers its calls; when the next one is due.
    fn bury(&mut self, mut child: Child, mut ending: Ending) -> Instant {
        let uptime = child.started.elapsed();
        let by_test = ending.reason != EndReason::HandshakeTimeout
            && self.shared.with(super::session::Session::note_probe_exit);
        let due = if by_test {
            Instant::now()
        } else {
            self.failures = if uptime >= self.target.stable_after { 0 } else { self.failures + 1 };
            Instant::now() + self.delay()
        };
        let lost_by = match (ending.reason, child.stdout_ended) {
            (EndReason::StdinFailed, _) => FailureKind::ClosedPipe,
            (_, Some(End::MidMessage)) => FailureKind::UnexpectedEof,
            _ => FailureKind::Eof,
        };
        let inflight = self.shared.with(|session| {
            session.lost_by = lost_by;
            session.close(Phase::Down(due));
            session.calls.waiting()
        });
        let unwritten = ending.reason == EndReason::StdinFailed;
        if matches!(ending.reason, EndReason::StdoutClosed | EndReason::StdinFailed)
            && self.wait_for(&mut child, Instant::now() + EXIT_NEWS, |child| child.exited)
        {
            ending.reason = EndReason::Exit;
        }
        if by_test {
            ending.reason = EndReason::ProbeExit;
        }
        self.health.next_start(due, self.failures);
        self.health.ended(ending.reason, ending.error.clone());
        // An answer written just before the end is still an answer.
        self.wait_for(&mut child, Instant::now() + LAST_OUTPUT, |child| child.stdout_ended.is_some());
        let kind = match child.stdout_ended {
            Some(End::MidMessage) => FailureKind::UnexpectedEof,
            _ => FailureKind::Eof,
        };
        let unwritten = if unwritten { FailureKind::ClosedPipe } else { kind };
        let ended = self.shared.with(|session| session.end_all(&broken(kind), &broken(unwritten)));
        for (mailbox, outcome) in ended {
            mailbox.finish(outcome);
        }
        self.log_trigger(&ending);
        child.close_stdin();
        let status = self.end_process(&mut child, TERM_PATIENCE, KILL_PATIENCE);
        let channel = self.shared.tag.channel.as_str();
        warn!(
            target: "mcpclient", transport = "stdio", channel, child_generation = child.generation,
            reason = ending.reason.label(), command = self.shared.tag.command.as_str(),
            error = ending.error.as_deref().unwrap_or_default(),
            exit_status = status.map(|status| status.to_string()).unwrap_or_default().as_str(),
            uptime_ms = millis(uptime), inflight;
            "stdio MCP child ended"
        );
        self.health.restarts(ending.reason);
        child.finish();
        due
    }

    /// Logs what showed that the child has ended; its exit has a line of its own.
    fn log_trigger(&self, ending: &Ending) {
        let message = match ending.reason {
            EndReason::StdoutClosed => "stdio MCP command stdout closed",
            EndReason::StdinFailed => "stdio MCP command stdin write failed",
            EndReason::HandshakeTimeout => "stdio MCP command does not answer initialize",
            EndReason::Exit | EndReason::SpawnFailed | EndReason::ProbeExit => return,
        };
        warn!(
            target: "mcpclient", transport = "stdio", channel = self.shared.tag.channel.as_str(),
            reason = message, command = self.shared.tag.command.as_str(),
            error = ending.error.as_deref().unwrap_or_default();
            "{message}"
        );
    }

    /// Ends the process and all of its group: SIGTERM, then SIGKILL, each with its patience. The exit
    /// status, unless the process cannot be killed.
    fn end_process(&mut self, child: &mut Child, term: Duration, kill: Duration) -> Option<ExitStatus> {
        let term_until = Instant::now() + term;
        if !child.exited {
            child.group.signal(Signal::TERM);
            if !self.wait_for(child, term_until, |child| child.exited) {
                child.group.signal(Signal::KILL);
                self.wait_for(child, Instant::now() + kill, |child| child.exited);
            }
        }
        if !child.exited {
            warn!(
                target: "mcpclient", transport = "stdio", channel = self.shared.tag.channel.as_str(),
                pid = child.pid(), command = self.shared.tag.command.as_str();
                "stdio MCP command cannot be killed; it is left behind"
            );
            return None;
        }
        let status = child.reap().ok();
        self.log_exit(status);
        self.end_group(child, term_until);
        status
    }

    /// Ends what a leader that has been reaped left behind in its group.
    fn end_group(&mut self, child: &mut Child, term_until: Instant) {
        if child.group.is_empty() {
            return;
        }
        child.group.signal(Signal::TERM);
        while Instant::now() < term_until {
            let check = (Instant::now() + GROUP_CHECK).min(term_until);
            self.wait_for(child, check, |_| false);
            if child.group.is_empty() {
                return;
            }
            if self.stop.is_some_and(Deadline::is_past) {
                break;
            }
        }
        child.group.signal(Signal::KILL);
    }

    fn log_exit(&self, status: Option<ExitStatus>) {
        let (channel, command) = (self.shared.tag.channel.as_str(), self.shared.tag.command.as_str());
        match status {
            Some(status) if status.success() => info!(
                target: "mcpclient", transport = "stdio", channel, command;
                "stdio MCP command exited"
            ),
            status => warn!(
                target: "mcpclient", transport = "stdio", channel, command,
                error = status.map_or_else(|| "unknown".to_owned(), |status| status.to_string()).as_str();
                "stdio MCP command exited"
            ),
        }
    }

    /// Waits for the next start; `false` when we are told to stop.
    fn pause(&mut self, due: Instant) -> bool {
        let delay = due.saturating_duration_since(Instant::now());
        info!(
            target: "mcpclient", transport = "stdio", channel = self.shared.tag.channel.as_str(),
            child_generation = self.generation, attempt = self.failures, delay_ms = millis(delay);
            "stdio MCP child restarting"
        );
        loop {
            if self.stop.is_some() || self.cancel.is_cancelled() && self.wait_for_stop() {
                return false;
            }
            match self.shared.events_received.recv_deadline(due) {
                Ok(Event::Stop(deadline)) => self.stop = Some(deadline),
                Ok(_) => {}
                Err(_) => return !self.cancel.is_cancelled() || !self.wait_for_stop(),
            }
        }
    }

    /// Once everything is cut no child is started any more: waits to be stopped.
    fn wait_for_stop(&mut self) -> bool {
        while let Ok(event) = self.shared.events_received.recv() {
            if let Event::Stop(deadline) = event {
                self.stop = Some(deadline);
                return true;
            }
        }
        true
    }

    /// The pause before the next start: doubling, with jitter.
    fn delay(&self) -> Duration {
        let doublings = self.failures.saturating_sub(1).min(16);
        let delay = self.target.restart_min.saturating_mul(1 << doublings).min(self.target.restart_max);
        let unit = getrandom::u32().map_or(0.5, |value| f64::from(value) / f64::from(u32::MAX));
        delay.mul_f64(0.8 + 0.4 * unit)
    }

    /// The end of a running child that we are told to stop: end of file, SIGTERM, SIGKILL.
    fn shut_down(mut self, mut child: Child) {
        self.shared.with(|session| session.close(Phase::Stopped));
        let canceled = failed(Source::ClientInternal, FailureKind::Canceled);
        for (mailbox, outcome) in self.shared.with(|session| session.end_all(&canceled, &canceled)) {
            mailbox.cut(outcome);
        }
        let left = self.stop.and_then(Deadline::remaining).unwrap_or(STOP_PATIENCE);
        let kill_reserve = KILL_RESERVE.min(left / 4);
        let started = Instant::now();
        child.close_stdin();
        let patience = EOF_PATIENCE.min(left / 3);
        self.wait_for(&mut child, started + patience, |child| child.exited);
        let term = left.saturating_sub(kill_reserve).saturating_sub(started.elapsed());
        self.end_process(&mut child, term, kill_reserve);
        self.wait_for(&mut child, Instant::now() + LAST_OUTPUT.min(kill_reserve), |child| {
            child.stdout_ended.is_some()
        });
        child.finish();
        self.health.stopped();
    }
}

/// Announces a child that was just started.
pub(super) fn announce(shared: &Shared, health: &Health, child: &Child) {
    health.started(child.pid(), child.generation);
    info!(
        target: "mcpclient", transport = "stdio", channel = shared.tag.channel.as_str(),
        child_generation = child.generation, command = shared.tag.command.as_str(), pid = child.pid();
        "stdio MCP command started"
    );
}
