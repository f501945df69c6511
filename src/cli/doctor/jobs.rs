//! Doing independent checks at the same time.

use crate::order;
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::super::terminal::Progress;
use super::report::Check;

/// Checks done at a time; each mostly waits for a peer.
const PARALLEL: usize = 8;

/// Something to check, and what it yields in the order of the report.
pub(super) struct Job<'a> {
    /// What the line of progress calls it.
    pub(super) name: String,
    /// Does it; everything it waits for has a deadline.
    pub(super) work: Box<dyn FnOnce() -> Vec<Check> + Send + 'a>,
}

impl<'a> Job<'a> {
    pub(super) fn new(name: impl Into<String>, work: impl FnOnce() -> Vec<Check> + Send + 'a) -> Job<'a> {
        Job { name: name.into(), work: Box::new(work) }
    }
}

/// Does all jobs; the checks come in the order of the jobs, whichever ends first.
pub(super) fn run(jobs: Vec<Job<'_>>, show_progress: bool) -> Vec<Check> {
    let count = jobs.len();
    let progress = Progress::new(count, show_progress);
    let waiting = Mutex::new(jobs.into_iter().enumerate());
    let done: Mutex<Vec<(usize, Vec<Check>)>> = Mutex::new(Vec::with_capacity(count));
    let work = || {
        loop {
            let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((index, job)) = next else { return };
            progress.begin(&job.name);
            let checks = (job.work)();
            progress.end(&job.name);
            done.lock().unwrap_or_else(PoisonError::into_inner).push((index, checks));
        }
    };
    thread::scope(|scope| {
        for number in 1..count.min(PARALLEL) {
            // Whatever cannot be started leaves its work to the others; this thread is one of them.
            let _ = thread::Builder::new().name(format!("doctor-{number}")).spawn_scoped(scope, work);
        }
        work();
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    order::sort_by_key(&mut done, |(index, _)| *index);
    done.into_iter().flat_map(|(_, checks)| checks).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn checks_run_at_the_same_time_and_are_told_in_order() {
        // Nobody passes the barrier alone.
        let meeting = Barrier::new(3);
        let job = |id: &'static str, meets: bool| {
            let meeting = &meeting;
            Job::new(id, move || {
                if meets {
                    meeting.wait();
                }
                vec![Check::pass(id, "x"), Check::skip(id, "y")]
            })
        };
        let checks = run(vec![job("a", true), job("b", false), job("c", true), job("d", true)], false);
        let ids: Vec<&str> = checks.iter().map(Check::id).collect();
        assert_eq!(ids, ["a", "a", "b", "b", "c", "c", "d", "d"]);
        assert!(run(Vec::new(), false).is_empty());
    }
}
