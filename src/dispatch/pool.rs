//! The worker pool.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::control_plane::Command;
use crate::net::{Cancel, Deadline};

use super::reply::Reply;
use super::{Observer, Poster, Queue, Routes, command};

/// Ample for one exchange; keeps many workers cheap.
const WORKER_STACK_BYTES: usize = 512 * 1024;
/// Threads that answer what was still queued at a stop.
const ABANDON_THREADS: usize = 4;

/// What a dispatcher works with.
pub struct Setup {
    /// Commands that may wait.
    pub capacity: usize,
    /// Exchanges that may run at once.
    pub workers: usize,
    /// Longest life of one exchange.
    pub connection_ttl: Duration,
    /// Where commands go.
    pub routes: Routes,
    /// Where responses go.
    pub poster: Arc<dyn Poster>,
    /// Who wants to know.
    pub observer: Arc<dyn Observer>,
}

/// Queue and workers.
pub struct Dispatcher {
    shared: Arc<Shared>,
    queue: Queue,
    /// Ends idle workers.
    stop: Cancel,
    workers: Vec<JoinHandle<()>>,
    /// Disconnected once the last worker is gone.
    all_gone: Receiver<Infallible>,
}

struct Shared {
    routes: Routes,
    connection_ttl: Duration,
    poster: Arc<dyn Poster>,
    observer: Arc<dyn Observer>,
}

/// A worker thread cannot be started.
#[derive(Debug)]
pub struct StartError {
    worker: usize,
    source: io::Error,
}

impl Dispatcher {
    /// Starts the workers.
    pub fn start(setup: Setup) -> Result<Dispatcher, StartError> {
        let queue = Queue::new(setup.capacity, setup.workers, setup.routes.keys().cloned());
        let shared = Arc::new(Shared {
            routes: setup.routes,
            connection_ttl: setup.connection_ttl,
            poster: setup.poster,
            observer: setup.observer,
        });
        let stop = Cancel::new();
        let (alive, all_gone) = bounded::<Infallible>(0);
        let mut dispatcher = Dispatcher { shared, queue, stop, workers: Vec::new(), all_gone };
        for worker in 0..setup.workers.max(1) {
            match dispatcher.spawn(worker, alive.clone()) {
                Ok(handle) => dispatcher.workers.push(handle),
                Err(source) => {
                    drop(alive);
                    dispatcher.stop.cancel();
                    dispatcher.join(Deadline::after(Duration::from_secs(1)));
                    return Err(StartError { worker, source });
                }
            }
        }
        Ok(dispatcher)
    }

    /// The queue that feeds the workers.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Stops taking commands: those that still wait, and `leftovers`, are answered with 502; those that
    /// run may finish until `deadline`. True if all of them did. Stop the poller first.
    pub fn drain(&self, leftovers: Vec<Command>, deadline: Deadline) -> bool {
        let mut waiting = self.queue.close();
        waiting.extend(leftovers);
        self.stop.cancel();
        self.abandon(waiting);
        self.wait_until_idle(deadline)
    }

    /// Waits until `deadline` for workers that still run; joins them. True if all are gone.
    pub fn join(mut self, deadline: Deadline) -> bool {
        let gone = self.wait_until_idle(deadline);
        if gone {
            for worker in self.workers.drain(..) {
                let _ = worker.join();
            }
        }
        gone
    }

    fn wait_until_idle(&self, deadline: Deadline) -> bool {
        let time = deadline.remaining().unwrap_or(Duration::MAX);
        matches!(self.all_gone.recv_timeout(time), Err(RecvTimeoutError::Disconnected))
    }

    fn spawn(&self, worker: usize, alive: Sender<Infallible>) -> io::Result<JoinHandle<()>> {
        let (shared, queue, stop) = (Arc::clone(&self.shared), self.queue.clone(), self.stop.clone());
        std::thread::Builder::new().name(format!("worker-{worker}")).stack_size(WORKER_STACK_BYTES).spawn(
            move || {
                let _alive = alive;
                let mut next = None;
                while let Some(command) = next.take().or_else(|| queue.take(&stop)) {
                    shared.observer.worker_busy();
                    shared.run(&command);
                    shared.observer.worker_idle();
                    next = queue.finish(&command.channel);
                }
            },
        )
    }

    /// Answers commands that will not run.
    fn abandon(&self, commands: Vec<Command>) {
        if commands.is_empty() {
            return;
        }
        log::info!(target: "dispatcher", commands = commands.len(); "answering queued commands before stopping");
        let chunk = commands.len().div_ceil(ABANDON_THREADS);
        std::thread::scope(|scope| {
            for part in commands.chunks(chunk) {
                scope.spawn(move || {
                    for command in part {
                        let mut reply = Reply::new(command, &*self.shared.poster, &*self.shared.observer);
                        command::abandon(command, &mut reply);
                    }
                });
            }
        });
    }
}

impl Shared {
    fn run(&self, command: &Command) {
        let mut reply = Reply::new(command, &*self.poster, &*self.observer);
        let result = catch_unwind(AssertUnwindSafe(|| {
            command::process(command, &self.routes, self.connection_ttl, &*self.observer, &mut reply);
        }));
        if result.is_err() {
            log::error!(target: "dispatcher", request_id = command.request_id.as_str(),
                channel = command.channel.as_str(); "a worker panicked; this is a bug, please report it");
        }
        // Whatever went wrong above: the command is answered, and the worker lives on.
        if !reply.ended() {
            let _ = catch_unwind(AssertUnwindSafe(|| command::abandon(command, &mut reply)));
        }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cannot start worker thread {}: {}; lower mcp.max-concurrent-requests or raise the thread limit",
            self.worker, self.source
        )
    }
}

impl std::error::Error for StartError {}
