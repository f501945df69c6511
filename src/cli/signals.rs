//! SIGINT and SIGTERM.

use std::io;
use std::thread::JoinHandle;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals as Iterator};

use crate::net::Cancel;

/// Watches for signals until dropped.
pub(super) struct Signals {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

/// The first SIGINT or SIGTERM fires `stop`; the next one fires `force` and ends the process at once,
/// with exit code 1.
pub(super) fn watch(stop: &Cancel, force: &Cancel) -> io::Result<Signals> {
    let mut signals = Iterator::new([SIGINT, SIGTERM])?;
    let handle = signals.handle();
    let (stop, force) = (stop.clone(), force.clone());
    let thread = std::thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            if stop.is_cancelled() {
                force.cancel();
                std::process::exit(1);
            }
            log::info!(target: "process", signal = signal; "stopping; a second signal ends the process at once");
            stop.cancel();
        }
    })?;
    Ok(Signals { handle, thread: Some(thread) })
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
