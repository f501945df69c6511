//! The local listener: health, readiness and metrics, and whatever other [`Module`]s add.
//!
//! Plain HTTP/1.1 on loopback or a Unix socket, no TLS, no authentication. Never on the road of a
//! command. Invariant: what keeps the listener waiting does so for no longer than the [`Limits`] say and
//! keeps nobody else out, and whatever was created (socket, URL file) is removed at the end.

mod bind;
mod files;
mod front;
pub mod guard;
mod guarded;
mod health;
mod request;
mod response;
mod router;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Resource, getrlimit};

use self::bind::{Listening, SocketFile};
use crate::config::Health;
use crate::net::front::{Bound, Front};
use crate::net::{Cancel, Deadline};

pub use self::bind::ListenError;
pub use self::files::{FileError, OwnFile, PidFile, PidFileError};
pub use self::guarded::Guarded;
pub use self::health::HealthRoutes;
pub use self::request::{BodyError, Peer, Request};
pub use self::response::{Awoken, Bell, Content, Response, Stream, Streaming};
pub use self::router::{Module, Router};

/// How long a listener that is dropped without [`Listener::stop`] lets answers finish.
const DROP_BUDGET: Duration = Duration::from_secs(1);

/// Connections that streams leave to others, at least.
const RESERVED: usize = 2;

/// Bounds of the listener.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Time for a request's head, from the connection or from its first byte.
    pub head: Duration,
    /// Time between two requests of a connection.
    pub idle: Duration,
    /// Time for a request's body.
    pub body: Duration,
    /// Time for the peer to take an answer, or one piece of a stream.
    pub write: Duration,
    /// Connections at one time, a quarter of the process's descriptors at most; one more replaces the one
    /// that has been waited for longest.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            head: Duration::from_secs(5),
            idle: Duration::from_secs(120),
            body: Duration::from_secs(15),
            write: Duration::from_secs(10),
            connections: 512,
        }
    }
}

/// A part of the descriptors that this process may have: the others are for the work.
fn affordable_connections() -> usize {
    let allowed = getrlimit(Resource::Nofile).current;
    allowed.map_or(usize::MAX, |allowed| usize::try_from(allowed / 4).unwrap_or(usize::MAX).max(4))
}

/// Whether [`Listener::bind`] would get its address now. Leaves no traces.
///
/// # Errors
/// What `bind` would say.
pub fn check(settings: &Health) -> Result<(), ListenError> {
    match &settings.unix_socket {
        Some(path) => bind::check_unix(path),
        None => bind::bind_tcp(&settings.listen_addr).map(drop),
    }
}

/// Something that could not be removed at the end.
#[derive(Debug)]
pub struct StopError(Vec<String>);

impl fmt::Display for StopError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

impl std::error::Error for StopError {}

/// The bound listener. Connections wait until [`Listener::serve`]; dropping it stops it.
pub struct Listener {
    /// Until it is served; then the front owns it.
    listening: Mutex<Option<Listening>>,
    socket_file: Option<SocketFile>,
    limits: Limits,
    base_url: String,
    address: String,
    /// As configured; empty for a Unix socket or every interface.
    host: String,
    url_file: Option<OwnFile>,
    serving: Mutex<Option<Front>>,
    stopped: Mutex<bool>,
    lost: Cancel,
}

impl Listener {
    /// Binds, writes the URL file and logs both.
    ///
    /// # Errors
    /// [`ListenError`]; nothing is left behind then.
    pub fn bind(settings: &Health) -> Result<Listener, ListenError> {
        Listener::bind_with(settings, Limits::default())
    }

    /// Like [`Listener::bind`], with other limits.
    ///
    /// # Errors
    /// [`ListenError`].
    pub fn bind_with(settings: &Health, limits: Limits) -> Result<Listener, ListenError> {
        let (listening, base_url, address, host) = match &settings.unix_socket {
            Some(path) => (bind::bind_unix(path)?, bind::unix_base_url(path), path.display().to_string(), ""),
            None => {
                let (listening, bound) = bind::bind_tcp(&settings.listen_addr)?;
                let (host, _) = bind::split_address(&settings.listen_addr)?;
                (listening, bind::base_url(host, bound), bound.to_string(), host)
            }
        };
        let mut listener = Listener {
            socket_file: match &listening {
                Listening::Unix { file, .. } => Some(file.clone()),
                Listening::Tcp(_) => None,
            },
            listening: Mutex::new(Some(listening)),
            limits: Limits { connections: limits.connections.min(affordable_connections()), ..limits },
            base_url,
            address,
            host: host.to_owned(),
            url_file: None,
            serving: Mutex::new(None),
            stopped: Mutex::new(false),
            lost: Cancel::new(),
        };
        if let Some(path) = &settings.url_file {
            let file = OwnFile::write_with_parents(path, listener.base_url.clone(), 0o600, true);
            listener.url_file = Some(file.map_err(ListenError::UrlFile)?);
            let url = listener.base_url.as_str();
            let path = path.display();
            log::info!(target: "health", url, path:%; "🩺 HEALTH URL: {url} (written to {path})");
        }
        log::info!(target: "health", addr = listener.address.as_str(); "health server listening");
        Ok(listener)
    }

    /// Starts answering with `router`. A second call does nothing.
    ///
    /// # Errors
    /// When the thread that accepts cannot be started.
    pub fn serve(&self, router: Router) -> std::io::Result<()> {
        let mut serving = lock(&self.serving);
        let Some(listening) = lock(&self.listening).take() else { return Ok(()) };
        let bound = match listening {
            Listening::Tcp(listener) => Bound::tcp(listener)?,
            Listening::Unix { listener, file } => Bound::unix(listener, file.path())?,
        };
        *serving = Some(front::start(bound, &self.limits, router, &self.lost)?);
        Ok(())
    }

    /// Fires when it can accept nothing more, though nobody has stopped it.
    pub fn lost(&self) -> Cancel {
        self.lost.clone()
    }

    /// `http://host:port` or `http+unix://…`, without a path.
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// The file that holds the base URL, if there is to be one.
    pub fn url_file(&self) -> Option<&OwnFile> {
        self.url_file.as_ref()
    }

    /// The bound address as logged: `127.0.0.1:8080`, or the path of the socket.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The host of the listen address as configured; empty for a Unix socket or every interface.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Connections that may be streams which never end by themselves: the others stay for health and metrics.
    pub fn stream_limit(&self) -> usize {
        let connections = self.limits.connections;
        connections.saturating_sub((connections / 8).max(RESERVED)).max(1)
    }

    /// Stops accepting, lets answers in progress finish until `deadline`, then removes the URL file
    /// and the socket, whatever became of the answers.
    ///
    /// # Errors
    /// Names what could not be removed; the listener is stopped nevertheless.
    pub fn stop(&self, deadline: Deadline) -> Result<(), StopError> {
        if std::mem::replace(&mut *lock(&self.stopped), true) {
            return Ok(());
        }
        let serving = lock(&self.serving).take();
        if let Some(mut front) = serving {
            // The listening socket ends with its thread, and with it what waits in the backlog.
            front.drain();
            front.wait_drained(deadline.remaining().unwrap_or(self.limits.write));
            front.stop();
        }
        drop(lock(&self.listening).take());
        let mut errors = Vec::new();
        if let Some(Err(error)) = self.url_file.as_ref().map(OwnFile::remove) {
            errors.push(format!("remove health url file {error}"));
        }
        if let Some(Err(error)) = self.socket_file.as_ref().map(SocketFile::remove) {
            errors.push(format!("remove health unix socket {error}"));
        }
        if errors.is_empty() { Ok(()) } else { Err(StopError(errors)) }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Whoever wants to know of errors calls `stop`.
        let _ = self.stop(Deadline::after(DROP_BUDGET));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
