//! Connection threads: started on demand up to a limit, kept for a while for the next connection.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, SendTimeoutError, Sender, TrySendError, bounded};

/// How long a thread without a connection waits for the next one.
const SPARE_TIME: Duration = Duration::from_secs(5);
/// How often a wait for a thread looks whether a new one may be started after all.
const RETRY_TIME: Duration = Duration::from_millis(20);

/// One connection's work.
pub(super) type Job = Box<dyn FnOnce() + Send>;

/// The threads of one front.
pub(super) struct Pool {
    name: &'static str,
    limit: usize,
    stack_bytes: usize,
    state: Mutex<State>,
    ended: Condvar,
    jobs: Receiver<Job>,
}

struct State {
    /// A rendezvous: a job passes only to a thread that waits for one. `None` once closed.
    sender: Option<Sender<Job>>,
    live: usize,
    next: u64,
    threads: HashMap<u64, JoinHandle<()>>,
    finished: Vec<u64>,
}

impl Pool {
    pub(super) fn new(limit: usize, name: &'static str, stack_bytes: usize) -> Arc<Pool> {
        let (sender, jobs) = bounded(0);
        let state =
            State { sender: Some(sender), live: 0, next: 0, threads: HashMap::new(), finished: Vec::new() };
        Arc::new(Pool { name, limit, stack_bytes, state: Mutex::new(state), ended: Condvar::new(), jobs })
    }

    /// Runs `job` on a thread of its own; gives it back when none can be had within `patience`.
    pub(super) fn submit(self: &Arc<Pool>, mut job: Job, patience: Duration) -> Result<(), Job> {
        let deadline = Instant::now() + patience;
        loop {
            let mut state = self.state();
            let Some(sender) = state.sender.clone() else { return Err(job) };
            job = match sender.try_send(job) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => job,
            };
            state.reap();
            if state.live < self.limit {
                return self.spawn(&mut state, job);
            }
            drop(state);
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(job);
            }
            job = match sender.send_timeout(job, left.min(RETRY_TIME)) {
                Ok(()) => return Ok(()),
                Err(SendTimeoutError::Timeout(job) | SendTimeoutError::Disconnected(job)) => job,
            };
        }
    }

    fn spawn(self: &Arc<Pool>, state: &mut State, job: Job) -> Result<(), Job> {
        let number = state.next;
        let pool = Arc::clone(self);
        // The job travels in a slot so that it survives a failed spawn.
        let slot = Arc::new(Mutex::new(Some(job)));
        let taken = Arc::clone(&slot);
        let spawned = std::thread::Builder::new()
            .name(format!("{}-conn-{number}", self.name))
            .stack_size(self.stack_bytes)
            .spawn(move || pool.run(number, &taken));
        match spawned {
            Ok(thread) => {
                state.threads.insert(number, thread);
                state.live += 1;
                state.next += 1;
                Ok(())
            }
            Err(error) => {
                log::warn!(target: self.name, error:% = error; "cannot start a connection thread");
                let job = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
                Err(job.unwrap_or_else(|| Box::new(|| {})))
            }
        }
    }

    fn run(&self, number: u64, first: &Mutex<Option<Job>>) {
        let mut next = first.lock().unwrap_or_else(PoisonError::into_inner).take();
        while let Some(job) = next {
            if catch_unwind(AssertUnwindSafe(job)).is_err() {
                log::error!(target: self.name, "a connection thread panicked; its connection is closed");
            }
            next = self.jobs.recv_timeout(SPARE_TIME).ok();
        }
        let mut state = self.state();
        state.live -= 1;
        state.finished.push(number);
        self.ended.notify_all();
    }

    /// Accepts no more jobs; threads end when theirs is done.
    pub(super) fn close(&self) {
        self.state().sender = None;
    }

    /// Waits for all threads to end; false if `deadline` came first.
    pub(super) fn wait_empty(&self, deadline: Instant) -> bool {
        let mut state = self.state();
        while state.live > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.ended.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Joins the threads that have ended.
    pub(super) fn reap(&self) {
        self.state().reap();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn reap(&mut self) {
        for number in std::mem::take(&mut self.finished) {
            if let Some(thread) = self.threads.remove(&number) {
                // It only had to return after reporting itself; that takes no lock of ours.
                let _ = thread.join();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::unbounded;

    #[test]
    fn jobs_beyond_the_limit_are_refused_and_threads_are_reused() {
        let pool = Pool::new(1, "test", super::super::SMALL_STACK_BYTES);
        let (release, wait) = bounded::<()>(0);
        let (tell, told) = unbounded();
        let teller = tell.clone();
        let first: Job = Box::new(move || {
            let _ = wait.recv();
            let _ = teller.send(std::thread::current().id());
        });
        assert!(pool.submit(first, Duration::ZERO).is_ok());
        assert!(pool.submit(Box::new(|| {}), Duration::ZERO).is_err());
        release.send(()).unwrap();
        let thread = told.recv().unwrap();
        let mut job: Job = Box::new(move || {
            let _ = tell.send(std::thread::current().id());
        });
        // The thread may not be back at the rendezvous yet.
        while let Err(refused) = pool.submit(job, Duration::ZERO) {
            job = refused;
            std::thread::yield_now();
        }
        assert_eq!(told.recv().unwrap(), thread);
        pool.close();
        assert!(pool.wait_empty(Instant::now() + Duration::from_secs(5)));
        pool.reap();
        assert!(pool.state().threads.is_empty());
    }

    #[test]
    fn a_panic_ends_neither_the_thread_nor_the_pool() {
        let pool = Pool::new(1, "test", super::super::SMALL_STACK_BYTES);
        assert!(pool.submit(Box::new(|| panic!("expected in this test")), Duration::ZERO).is_ok());
        pool.close();
        assert!(pool.wait_empty(Instant::now() + Duration::from_secs(5)));
    }
    #[test]
    fn a_patient_job_takes_over_the_thread_that_becomes_free() {
        let pool = Pool::new(1, "test", super::super::SMALL_STACK_BYTES);
        let (release, wait) = bounded::<()>(0);
        let (tell, told) = unbounded();
        let first: Job = Box::new(move || {
            let _ = wait.recv();
        });
        assert!(pool.submit(first, Duration::ZERO).is_ok());
        let patient = Arc::clone(&pool);
        let second = std::thread::spawn(move || {
            let job: Job = Box::new(move || tell.send(()).unwrap());
            patient.submit(job, Duration::from_secs(20)).is_ok()
        });
        drop(release);
        assert!(second.join().unwrap());
        told.recv().unwrap();
        pool.close();
        assert!(pool.wait_empty(Instant::now() + Duration::from_secs(5)));
    }
}
