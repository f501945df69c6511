//! SIGINT and SIGTERM; SIGHUP for whoever wants it.

use std::io;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals as Iterator};

use crate::net::Cancel;

/// Watches for signals until dropped.
pub(super) struct Signals {
    handle: Handle,
    hangup: Hangup,
    thread: Option<JoinHandle<()>>,
}

type Hangup = Arc<OnceLock<Box<dyn Fn() + Send + Sync>>>;

/// The first SIGINT or SIGTERM fires `stop`; the next one fires `force` and ends the process at once,
/// with exit code 1.
pub(super) fn watch(stop: &Cancel, force: &Cancel) -> io::Result<Signals> {
    let mut signals = Iterator::new([SIGINT, SIGTERM])?;
    let handle = signals.handle();
    let (stop, force) = (stop.clone(), force.clone());
    let hangup = Hangup::default();
    let hung_up = Arc::clone(&hangup);
    let thread = std::thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            if signal == SIGHUP {
                if let Some(act) = hung_up.get() {
                    act();
                }
                continue;
            }
            if stop.is_cancelled() {
                force.cancel();
                std::process::exit(1);
            }
            log::info!(target: "process", signal = signal; "stopping; a second signal ends the process at once");
            stop.cancel();
        }
    })?;
    Ok(Signals { handle, hangup, thread: Some(thread) })
}

impl Signals {
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
