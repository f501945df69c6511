//! SIGINT and SIGTERM; SIGHUP for whoever wants it.

use std::io::{self, Write as _};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals as Iterator};

use crate::net::Cancel;

/// Watches for signals until dropped.
pub(super) struct Signals {
    handle: Handle,
    hangup: Hangup,
    loading: Loading,
    thread: Option<JoinHandle<()>>,
}

type Hangup = Arc<OnceLock<Box<dyn Fn() + Send + Sync>>>;

/// Whether there is nothing to undo yet; held while a signal ends the process for that reason.
type Loading = Arc<Mutex<bool>>;

/// As [`watch`], but until [`Signals::loaded`] a signal ends the process with exit code 0, whatever it is
/// waiting for.
pub(super) fn watch_loading(stop: &Cancel, force: &Cancel) -> io::Result<Signals> {
    start(stop, force, true)
}

/// The first SIGINT or SIGTERM fires `stop`; the next one fires `force` and ends the process at once,
/// with exit code 1.
pub(super) fn watch(stop: &Cancel, force: &Cancel) -> io::Result<Signals> {
    start(stop, force, false)
}

fn start(stop: &Cancel, force: &Cancel, is_loading: bool) -> io::Result<Signals> {
    let mut signals = Iterator::new([SIGINT, SIGTERM])?;
    let handle = signals.handle();
    let (stop, force) = (stop.clone(), force.clone());
    let hangup = Hangup::default();
    let hung_up = Arc::clone(&hangup);
    let loading: Loading = Arc::new(Mutex::new(is_loading));
    let is_loading = Arc::clone(&loading);
    let thread = std::thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            if signal == SIGHUP {
                if let Some(act) = hung_up.get() {
                    act();
                }
                continue;
            }
            let is_loading = is_loading.lock().unwrap_or_else(PoisonError::into_inner);
            if *is_loading {
                // A closed stderr is no reason to panic.
                let _ = writeln!(io::stderr(), "stopped before anything was started");
                std::process::exit(0);
            }
            if stop.is_cancelled() {
                force.cancel();
                std::process::exit(1);
            }
            log::info!(target: "process", signal = signal; "stopping; a second signal ends the process at once");
            stop.cancel();
        }
    })?;
    Ok(Signals { handle, hangup, loading, thread: Some(thread) })
}

impl Signals {
    /// From now on there is something to undo: a signal fires `stop`.
    pub(super) fn loaded(&self) {
        *self.loading.lock().unwrap_or_else(PoisonError::into_inner) = false;
    }

    /// From now on SIGHUP does `act` instead of ending the process; once only.
    pub(super) fn on_hangup(&self, act: impl Fn() + Send + Sync + 'static) -> io::Result<()> {
        let _ = self.hangup.set(Box::new(act));
        self.handle.add_signal(SIGHUP)
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
