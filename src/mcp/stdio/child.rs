//! One process and the four threads that serve it.
//!
//! Invariant: all of them end, and are joined, when the process has ended or its group was killed,
//! even if some stranger keeps a pipe open.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Child as Process, ExitStatus};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use rustix::io::Errno;
use rustix::process::{Signal, WaitId, WaitIdOptions, waitid};

use crate::mcp::FailureKind;

use super::outbox::Purpose;
use super::outcomes::broken;
use super::pipe::{self, StopSignal};
use super::session::Phase;
use super::shared::{Event, Shared};
use super::spawn::{self, Group};
use super::stderr::{self, Redactor, Sink};
use super::{StartError, StdioTarget, stdout};

/// Stack of a thread that serves a child; none of them recurses.
const STACK_BYTES: usize = 256 * 1024;

/// A running process.
pub(super) struct Child {
    /// Its number.
    pub(super) generation: u64,
    /// Its process group, which has its process id.
    pub(super) group: Group,
    /// When it was started.
    pub(super) started: Instant,
    /// It has ended; until it is reaped its id is not reused.
    pub(super) exited: bool,
    /// Its stdout has been read to the end, and whether that was inside a message.
    pub(super) stdout_ended: Option<stdout::End>,
    process: Process,
    stop_writer: Arc<StopSignal>,
    stop_readers: Arc<StopSignal>,
    threads: Vec<JoinHandle<()>>,
}

impl Child {
    /// Starts a process and its threads.
    pub(super) fn start(
        target: &StdioTarget,
        redactor: Option<Redactor>,
        shared: &Arc<Shared>,
        generation: u64,
    ) -> Result<Child, StartError> {
        let name = target.argv.first().map_or("", String::as_str);
        let no_pipe = |error: io::Error| StartError::new(name, error.to_string());
        let sink = match &target.stderr {
            Some(file) => file.try_clone().map(OwnedFd::from),
            None => io::stderr().as_fd().try_clone_to_owned(),
        };
        let sink = Sink { file: sink.map_err(no_pipe)?, redactor };
        let stop_writer = Arc::new(StopSignal::new().map_err(no_pipe)?);
        let stop_readers = Arc::new(StopSignal::new().map_err(no_pipe)?);
        let process = spawn::spawn(&target.argv, &target.hidden_variables)?;
        let group = Group::of(&process);
        let mut child = Child {
            generation,
            group,
            started: Instant::now(),
            exited: false,
            stdout_ended: None,
            process,
            stop_writer,
            stop_readers,
            threads: Vec::with_capacity(4),
        };
        match child.start_threads(shared, sink) {
            Ok(()) => Ok(child),
            Err(error) => {
                shared.end(Phase::Idle, FailureKind::Eof);
                group.signal(Signal::KILL);
                child.exited = true;
                child.finish();
                Err(StartError::new(name, error.to_string()))
            }
        }
    }

    fn start_threads(&mut self, shared: &Arc<Shared>, sink: Sink) -> io::Result<()> {
        let missing = || io::Error::other("a pipe of the process is missing");
        let stdin = OwnedFd::from(self.process.stdin.take().ok_or_else(missing)?);
        let output = OwnedFd::from(self.process.stdout.take().ok_or_else(missing)?);
        let errors = OwnedFd::from(self.process.stderr.take().ok_or_else(missing)?);
        for pipe in [&stdin, &output, &errors] {
            pipe::set_nonblocking(pipe)?;
        }
        let (generation, stdin) = (self.generation, Arc::new(stdin));
        // Before the threads: the writer goes when it finds that the session is about another child.
        shared.with(|session| session.open(generation, Arc::clone(&stdin)));
        let (to, stop) = (Arc::clone(shared), Arc::clone(&self.stop_writer));
        self.spawn(shared, "in", move || {
            let written = catch_unwind(AssertUnwindSafe(|| write_lines(&to, generation, &stdin, &stop)));
            if written.is_err() {
                tell(&to, Event::StdinFailed(generation, "its writer panicked".to_owned()));
            }
        })?;
        let (to, stop) = (Arc::clone(shared), Arc::clone(&self.stop_readers));
        self.spawn(shared, "out", move || {
            let read = catch_unwind(AssertUnwindSafe(|| stdout::run(&to, generation, output, &stop)));
            // A child that nobody hears any more is replaced like one that has nothing more to say.
            let end = read.unwrap_or(stdout::End::Closed);
            tell(&to, Event::StdoutEnded(generation, end));
        })?;
        let stop = Arc::clone(&self.stop_readers);
        self.spawn(shared, "err", move || stderr::forward(&errors, &sink, &stop))?;
        let (to, leader) = (Arc::clone(shared), self.group.leader());
        self.spawn(shared, "wait", move || {
            // Without reaping: as long as the id is taken, a signal cannot hit a stranger.
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            while waitid(WaitId::Pid(leader), options).err() == Some(Errno::INTR) {}
            tell(&to, Event::Exited(generation));
        })
    }

    fn spawn(&mut self, shared: &Shared, name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let name = format!("{name}-{}", shared.tag.channel);
        self.threads.push(std::thread::Builder::new().name(name).stack_size(STACK_BYTES).spawn(work)?);
        Ok(())
    }

    /// The process id.
    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Closes stdin; what has not been written is lost.
    pub(super) fn close_stdin(&self) {
        self.stop_writer.raise();
    }

    /// Reaps the process, which must have ended.
    pub(super) fn reap(&mut self) -> io::Result<ExitStatus> {
        self.process.wait()
    }

    /// Ends and joins the threads. The process must have been reaped, or never be waited for.
    pub(super) fn finish(mut self) {
        self.stop_writer.raise();
        self.stop_readers.raise();
        if self.exited {
            // Already reaped, or about to be: a killed process does not keep us waiting.
            let _ = self.process.wait();
        }
        for thread in self.threads.drain(..) {
            let is_waiter = thread.thread().name().is_some_and(|name| name.starts_with("wait-"));
            // A process that not even SIGKILL ends cannot be waited for; its waiter is left behind.
            if self.exited || !is_waiter {
                let _ = thread.join();
            }
        }
    }
}

/// Writes queued lines, each with one call where the pipe has room, until the child is closed.
fn write_lines(shared: &Shared, generation: u64, stdin: &OwnedFd, stop: &StopSignal) {
    while let Some(line) = shared.next_line(generation) {
        shared.log_raw_line(&line);
        match pipe::write_all(stdin.as_fd(), &line.bytes[line.written..], stop) {
            Ok(true) => shared.written(line.purpose),
            Ok(false) => return,
            Err(error) => {
                let closed = || broken(FailureKind::ClosedPipe);
                match line.purpose {
                    Purpose::Notification(mailbox) => mailbox.finish(closed()),
                    Purpose::Call(sequence) | Purpose::Handshake(sequence, _) => {
                        let call = shared.with(|session| session.calls.withdraw(sequence));
                        if let Some(mailbox) = call.and_then(|call| call.mailbox) {
                            mailbox.finish(closed());
                        }
                    }
                    Purpose::Own => {}
                }
                tell(shared, Event::StdinFailed(generation, error.to_string()));
                return;
            }
        }
    }
}

fn tell(shared: &Shared, event: Event) {
    // The queue has room for every event of every child that can be pending at once.
    let _ = shared.events.try_send(event);
}
