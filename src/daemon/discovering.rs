//! The thread that discovers the OAuth metadata of the MCP server behind `main`.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::mcp::Binding;
use crate::net::Cancel;
use crate::oauth::{self, Conclusion, Register, Status};
use crate::ops::{Discovery, State};

/// Ample for one request at a time.
const STACK_BYTES: usize = 512 * 1024;

/// Discovery, running or done.
pub(super) struct Discovering {
    cancel: Cancel,
    thread: Option<JoinHandle<()>>,
    status: Arc<Status>,
    on_command: Option<Arc<oauth::Discovery>>,
}

/// What is discovered, and where it goes.
pub(super) struct Subject {
    /// The server of channel `main`; none when its commands are not polled.
    pub(super) main: Option<Arc<Binding>>,
    /// Its Unix socket.
    pub(super) unix_socket: Option<PathBuf>,
    /// Where found URLs go.
    pub(super) register: Box<Register>,
}

impl Discovering {
    /// Prepares the discovery of `subject`; [`Discovering::start`] starts it.
    pub(super) fn prepare(subject: Subject, mcp_cut: &Cancel, state: &Arc<State>) -> Discovering {
        let Subject { main, unix_socket, register } = subject;
        let without_thread = |status: Status| {
            state.set_discovery(discovery(&status.conclusion()));
            Discovering { cancel: mcp_cut.child(), thread: None, status: Arc::new(status), on_command: None }
        };
        let Some(main) = main else { return without_thread(Status::unused()) };
        let Binding::Http(binding) = &*main else {
            return without_thread(Status::disabled(main.transport()));
        };
        let status = Arc::new(Status::pending(binding.url()));
        let reported = Arc::clone(state);
        let on_change = move |conclusion: &Conclusion| {
            reported.set_discovery(discovery(&Some(conclusion.clone())));
        };
        let on_command = Some(Arc::new(oauth::Discovery::new(
            main,
            unix_socket,
            register,
            Arc::clone(&status),
            Box::new(on_change),
        )));
        Discovering { cancel: mcp_cut.child(), thread: None, status, on_command }
    }

    /// Starts the discovery, if there is anything to discover; with a startup wait, after the probe.
    pub(super) fn start(&mut self, startup_wait: Duration, state: &Arc<State>) -> io::Result<()> {
        let Some(discovery) = self.on_command.clone() else {
            if let Some(Conclusion::NotAdvertised(error)) = self.status.conclusion() {
                log::warn!(target: "oauth", error = error.as_str(); "OAuth discovery is not used");
                log::debug!(target: "oauth", error = error.as_str(); "oauth discovery server URL is not configured");
            }
            return Ok(());
        };
        let (cancel, state) = (self.cancel.clone(), Arc::clone(state));
        let thread = std::thread::Builder::new().name("oauth".into()).stack_size(STACK_BYTES);
        self.thread = Some(thread.spawn(move || {
            if !startup_wait.is_zero() {
                log::info!(target: "oauth", timeout:? = startup_wait;
                    "waiting for MCP startup probe before OAuth discovery");
                if state.wait_for_probe(&cancel).is_none() {
                    return;
                }
            }
            discovery.keep_trying(&cancel);
        })?);
        Ok(())
    }

    /// What answers the commands that ask for a discovery; none when there is nothing to discover.
    pub(super) fn on_command(&self) -> Option<Arc<oauth::Discovery>> {
        self.on_command.clone()
    }

    /// What is known.
    pub(super) fn status(&self) -> &Arc<Status> {
        &self.status
    }

    /// Tells the discovery to end.
    pub(super) fn cancel(&self) {
        self.cancel.cancel();
    }
}

impl Drop for Discovering {
    fn drop(&mut self) {
        self.cancel.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn discovery(conclusion: &Option<Conclusion>) -> Discovery {
    match conclusion {
        None => Discovery::Pending,
        Some(Conclusion::Found) => Discovery::Done,
        Some(Conclusion::NotAdvertised(error)) => Discovery::Failed { error: error.clone(), optional: true },
        Some(Conclusion::Failed(error)) => Discovery::Failed { error: error.clone(), optional: false },
    }
}
