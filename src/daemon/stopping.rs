//! The way down.

use std::time::Duration;

use crate::control_plane::PollerHandle;
use crate::net::Deadline;

use super::{Daemon, StopError};

/// Parts of the budget, counted from its end: what remains when running exchanges are cut …
const CUT_EXCHANGES_BEFORE_END: Duration = Duration::from_secs(5);
/// … when the answers to those are cut as well …
const CUT_ANSWERS_BEFORE_END: Duration = Duration::from_secs(3);
/// … and when children are killed.
const KILL_CHILDREN_BEFORE_END: Duration = Duration::from_secs(1);

/// Stops everything by `deadline`, in reverse order of the start, the listener last.
pub(super) fn stop(mut daemon: Daemon, deadline: Deadline) -> Result<(), StopError> {
    let mut problems = Vec::new();
    let before = |left: Duration| {
        deadline.instant().and_then(|at| at.checked_sub(left)).map_or(deadline, Deadline::at)
    };

    if let Some(file) = daemon.pid_file.take()
        && let Err(error) = file.remove()
    {
        problems.push(error.to_string());
    }
    let leftovers = daemon.poller.take().map(PollerHandle::stop).unwrap_or_default();
    if let Some(probing) = &daemon.probing {
        probing.cancel();
    }
    if let Some(discovering) = &daemon.discovering {
        discovering.cancel();
    }
    drop(daemon.metadata.take());
    drop(daemon.proxy_checks.take());
    if let Some(dispatcher) = daemon.dispatcher.take() {
        if !dispatcher.drain(leftovers, before(CUT_EXCHANGES_BEFORE_END)) {
            log::warn!(target: "dispatcher", "exchanges still run at the end of the drain; cutting them");
            daemon.mcp_cut.cancel();
            dispatcher.drain(Vec::new(), before(CUT_ANSWERS_BEFORE_END));
        }
        daemon.control_plane_cut.cancel();
        if !dispatcher.join(before(KILL_CHILDREN_BEFORE_END)) {
            log::warn!(target: "dispatcher", "workers did not end in time");
            problems.push("workers did not end in time".to_owned());
        }
    }
    daemon.control_plane_cut.cancel();
    std::thread::scope(|scope| {
        for binding in &daemon.bindings {
            let stop = || binding.stop(before(KILL_CHILDREN_BEFORE_END));
            let thread = std::thread::Builder::new().name("stop".into());
            // Where there is no thread to be had, one after the other.
            if thread.spawn_scoped(scope, stop).is_err() {
                stop();
            }
        }
    });
    // Not before: a child whose pipes are cut ends, which would be taken for a crash.
    daemon.mcp_cut.cancel();
    for binding in &daemon.bindings {
        binding.join();
    }
    drop(daemon.probing.take());
    drop(daemon.discovering.take());
    // It goes its own way; only its end is noted, should it have come.
    if let Some(browser) = &mut daemon.browser {
        let _ = browser.try_wait();
    }
    if let Some(summary) = daemon.trust_summary.take() {
        let _ = summary.join();
    }
    if let Some(listener) = daemon.listener.take()
        && let Err(error) = listener.stop(deadline)
    {
        problems.push(error.to_string());
    }
    if problems.is_empty() { Ok(()) } else { Err(StopError(problems.join("; "))) }
}
