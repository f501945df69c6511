//! The worker pool.
//!
//! A worker is started when the last idle one takes a command, up to the configured number: a large
//! number costs nothing until that much work is there. Invariant: no panic ends a worker, and none
//! costs a command its answer.

use crate::order;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::control_plane::Command;
use crate::net::Deadline;
use crate::oauth::Discovery;

use super::command::Site;
use super::listens::Listens;
use super::queue::Taken;
use super::reply::Reply;
use super::{Observer, Poster, Queue, Routes, command};

/// Ample for one exchange; keeps many workers cheap.
const WORKER_STACK_BYTES: usize = 512 * 1024;
/// Threads that answer what was still queued at a stop.
const ABANDON_THREADS: usize = 16;

/// What a dispatcher works with.
pub struct Setup {
    /// Commands that may wait.
    pub capacity: usize,
    /// Exchanges that may run at once; at least one.
    pub workers: usize,
    /// Longest life of one exchange.
    pub connection_ttl: Duration,
    /// Where commands go.
    pub routes: Routes,
    /// What answers an `oauth_discovery` for `main`; none when there is nothing to discover.
    pub discovery: Option<Arc<Discovery>>,
    /// Where responses go.
    pub poster: Arc<dyn Poster>,
    /// Who wants to know.
    pub observer: Arc<dyn Observer>,
}

/// Queue and workers.
pub struct Dispatcher {
    shared: Arc<Shared>,
    /// Disconnected once the last worker is gone.
    all_gone: Receiver<Infallible>,
}

struct Shared {
    queue: Queue,
    /// Most workers.
    limit: usize,
    /// Workers so far: none ends before the stop.
    started: AtomicUsize,
    handles: Mutex<Vec<JoinHandle<()>>>,
    /// The system refused a thread.
    short_of_threads: AtomicBool,
    routes: Routes,
    discovery: Option<Arc<Discovery>>,
    connection_ttl: Duration,
    listens: Listens,
    poster: Arc<dyn Poster>,
    observer: Arc<dyn Observer>,
}

/// The first worker thread cannot be started.
#[derive(Debug)]
pub struct StartError(io::Error);

impl Dispatcher {
    /// Starts the first worker.
    pub fn start(setup: Setup) -> Result<Dispatcher, StartError> {
        let limit = setup.workers.max(1);
        announce(&setup.routes);
        // A child reads one message after another: there the order of the commands is worth something.
        let channels =
            setup.routes.iter().map(|(channel, binding)| (channel.clone(), binding.process_affinity()));
        let shared = Arc::new(Shared {
            queue: Queue::new(setup.capacity, limit, channels),
            limit,
            started: AtomicUsize::new(0),
            handles: Mutex::default(),
            short_of_threads: AtomicBool::new(false),
            routes: setup.routes,
            discovery: setup.discovery,
            connection_ttl: setup.connection_ttl,
            listens: Listens::new(limit),
            poster: setup.poster,
            observer: setup.observer,
        });
        let (alive, all_gone) = bounded::<Infallible>(0);
        shared.hire(&alive).map_err(StartError)?;
        Ok(Dispatcher { shared, all_gone })
    }

    /// The queue that feeds the workers.
    pub fn queue(&self) -> &Queue {
        &self.shared.queue
    }

    /// Stops taking commands: those that still wait, and `leftovers`, are answered with 502; those that
    /// run may finish. Both until `deadline`; true if all who ran did. Stop the poller first.
    pub fn drain(&self, leftovers: Vec<Command>, deadline: Deadline) -> bool {
        let mut waiting = self.shared.queue.close();
        waiting.extend(leftovers);
        self.shared.abandon_all(&waiting, deadline);
        self.wait_until_idle(deadline)
    }

    /// Waits until `deadline` for workers that still run; joins them. True if all are gone.
    pub fn join(self, deadline: Deadline) -> bool {
        let gone = self.wait_until_idle(deadline);
        if gone {
            for worker in std::mem::take(&mut *self.shared.handles()) {
                let _ = worker.join();
            }
        }
        gone
    }

    /// Workers so far.
    #[cfg(test)]
    pub(super) fn started(&self) -> usize {
        self.shared.started.load(SeqCst)
    }

    fn wait_until_idle(&self, deadline: Deadline) -> bool {
        let time = deadline.remaining().unwrap_or(Duration::MAX);
        matches!(self.all_gone.recv_timeout(time), Err(RecvTimeoutError::Disconnected))
    }
}

impl Drop for Dispatcher {
    fn drop(&mut self) {
        self.shared.queue.close();
    }
}

impl Shared {
    /// Starts one more worker, unless there are as many as there may be.
    fn hire(self: &Arc<Self>, alive: &Sender<Infallible>) -> io::Result<()> {
        let one_more = |started: usize| Some(started + 1).filter(|more| *more <= self.limit);
        let Ok(worker) = self.started.fetch_update(SeqCst, SeqCst, one_more) else { return Ok(()) };
        let (shared, alive) = (Arc::clone(self), alive.clone());
        let thread =
            std::thread::Builder::new().name(format!("worker-{worker}")).stack_size(WORKER_STACK_BYTES);
        match thread.spawn(move || shared.work(&alive)) {
            Ok(handle) => {
                self.handles().push(handle);
                Ok(())
            }
            Err(error) => {
                self.started.fetch_sub(1, SeqCst);
                Err(error)
            }
        }
    }

    /// The life of a worker; `alive` tells that it is not over.
    fn work(self: &Arc<Self>, alive: &Sender<Infallible>) {
        let mut done = None;
        while let Some(Taken { command, place, nobody_waits }) = self.queue.take(done.as_ref()) {
            if nobody_waits
                && let Err(error) = self.hire(alive)
                && !self.short_of_threads.swap(true, SeqCst)
            {
                // Told once. The workers there are go on; commands wait in the queue.
                log::warn!(target: "dispatcher", error:%, workers = self.started.load(SeqCst);
                    "no further worker can be started");
            }
            self.contained(&command, |reply| {
                self.observer.worker_busy();
                let site = Site {
                    routes: &self.routes,
                    discovery: self.discovery.as_deref(),
                    ttl: self.connection_ttl,
                    observer: &*self.observer,
                    listens: &self.listens,
                };
                command::process(&command, place, &site, reply);
            });
            let _ = catch_unwind(AssertUnwindSafe(|| self.observer.worker_idle()));
            done = Some(command.channel);
        }
    }

    /// Runs `work` on a command. Whatever goes wrong in it: the command is answered, the thread lives.
    fn contained(&self, command: &Command, work: impl FnOnce(&mut Reply<'_>)) {
        self.contained_until(Deadline::NEVER, command, work);
    }

    fn contained_until(&self, limit: Deadline, command: &Command, work: impl FnOnce(&mut Reply<'_>)) {
        let mut reply = Reply::new(command, &*self.poster, &*self.observer, limit);
        let complain = |what: &str| {
            log::error!(target: "dispatcher", request_id = command.request_id.as_str(),
                channel = command.channel.as_str(); "{what}; this is a bug, please report it");
        };
        if catch_unwind(AssertUnwindSafe(|| work(&mut reply))).is_err() {
            complain("a worker panicked");
        }
        if !reply.ended() && catch_unwind(AssertUnwindSafe(|| command::abandon(command, &mut reply))).is_err()
        {
            complain("a command could not be answered: a worker panicked twice");
        }
    }

    /// Answers commands that will not run, as many as `deadline` allows.
    fn abandon_all(&self, commands: &[Command], deadline: Deadline) {
        if commands.is_empty() {
            return;
        }
        log::info!(target: "dispatcher", commands = commands.len(); "answering queued commands before stopping");
        let (next, answered) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let work = || {
            while let Some(command) = commands.get(next.fetch_add(1, SeqCst)).filter(|_| !deadline.is_past())
            {
                answered.fetch_add(1, SeqCst);
                self.contained_until(deadline, command, |reply| command::abandon(command, reply));
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..ABANDON_THREADS.min(commands.len()) {
                let thread = std::thread::Builder::new().name("abandon".into());
                // Where no thread can be made, this one does the work.
                let _ = thread.stack_size(WORKER_STACK_BYTES).spawn_scoped(scope, work);
            }
            work();
        });
        let left = commands.len() - answered.into_inner();
        if left > 0 {
            log::warn!(target: "dispatcher", commands = left; "no time was left to answer these commands");
        }
    }

    fn handles(&self) -> std::sync::MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Logs what is served. No channel has precedence over another.
fn announce(routes: &Routes) {
    let mut channels: Vec<_> = routes.iter().collect();
    order::sort_by_key(&mut channels, |(channel, _)| channel.as_str());
    for (channel, binding) in channels {
        log::info!(target: "dispatcher", name = channel.as_str(), priority = 0,
            routable_now = binding.is_routable(),
            supports_mcp = true, supports_oauth = channel.is_main(); "channel registered");
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot start a worker thread: {}; raise the limit of threads", self.0)
    }
}

impl std::error::Error for StartError {}
