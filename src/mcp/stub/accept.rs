//! Where the stub's requests come from.
//!
//! tiny_http stops accepting for good at the first error, and takes memory for all that a dropped
//! request had announced. Invariant: neither the lack of file descriptors nor what a peer announces
//! ends the stub or the process that it runs in.

use std::io;
use std::mem::ManuallyDrop;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tiny_http::{Header, Request, Response, Server};

use crate::net::Cancel;

/// Longest body that a request may announce; far beyond what is read of any.
const MAX_ANNOUNCED_BYTES: usize = 64 * 1024 * 1024;
/// Pause after a failure to accept, which the lack of file descriptors makes lasting.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The listening socket and the server that accepts from it now.
pub(super) struct Front {
    listener: TcpListener,
    server: Mutex<Arc<Server>>,
    workers: usize,
    stopping: Cancel,
}

impl Front {
    /// Accepts for that many callers of [`Front::next`] until `stopping` fires.
    pub(super) fn new(listener: TcpListener, workers: usize, stopping: Cancel) -> io::Result<Front> {
        let server = Mutex::new(Arc::new(serve(&listener)?));
        Ok(Front { listener, server, workers, stopping })
    }

    /// The next request that can be answered; `None` once stopping.
    pub(super) fn next(&self) -> Option<Request> {
        while !self.stopping.is_cancelled() {
            let server = Arc::clone(&self.lock());
            match server.recv() {
                Ok(request) if request.body_length() > Some(MAX_ANNOUNCED_BYTES) => refuse(request),
                Ok(request) => return Some(request),
                Err(error) => self.replace(&server, &error),
            }
        }
        None
    }

    /// Wakes all callers of [`Front::next`], which end if stopping.
    pub(super) fn unblock(&self) {
        let server = self.lock();
        (0..self.workers).for_each(|_| server.unblock());
    }

    /// Puts a new server in the place of `broken`, unless another worker has done so.
    fn replace(&self, broken: &Arc<Server>, error: &io::Error) {
        let is_current = || Arc::ptr_eq(broken, &self.lock());
        if self.stopping.is_cancelled() || !is_current() {
            return;
        }
        log::warn!(target: "mcpclient", error:% = error; "MCP stub cannot accept connections; trying again");
        let fresh = loop {
            if self.stopping.wait(ACCEPT_PAUSE) {
                return;
            }
            if let Ok(server) = serve(&self.listener) {
                break server;
            }
        };
        *self.lock() = Arc::new(fresh);
        (1..self.workers).for_each(|_| broken.unblock());
        if self.stopping.is_cancelled() {
            self.unblock();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Server>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn serve(listener: &TcpListener) -> io::Result<Server> {
    Server::from_listener(listener.try_clone()?, None).map_err(io::Error::other)
}

/// Answers a request whose body nobody can take, and keeps its connection from being dropped: that would
/// allocate what it announced.
fn refuse(request: Request) {
    let text = "request body too large\n";
    let plain = Header::from_bytes("Content-Type", "text/plain; charset=utf-8").ok();
    let mut response = Response::from_string(text).with_status_code(413);
    plain.into_iter().for_each(|header| response.add_header(header));
    let _kept = ManuallyDrop::new(request.upgrade("none", response));
}
