//! The server profile: many tunnels, keys with permissions, TLS.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};

use super::api::{Administration, Api};
use super::engine::Engine;
use super::front;
use super::settings::{ServerConfig, TunnelConfig};
use crate::net::front::{Bound, Front, Identity, ListenAt, TlsError};

/// How long the connections may take to end once nothing is held any more.
const CLOSE_TIME: Duration = Duration::from_secs(1);

/// Why a server does not start, or does not reload.
#[derive(Debug)]
pub enum StartError {
    /// A listener cannot be had.
    Listen(ListenAt, io::Error),
    /// A certificate or key cannot be used.
    Tls(String),
    /// The system refuses something else.
    System(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Listen(at, error) => write!(f, "cannot listen on {at}: {error}"),
            StartError::Tls(text) => f.write_str(text),
            StartError::System(error) => write!(f, "cannot start: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

impl From<TlsError> for StartError {
    fn from(error: TlsError) -> StartError {
        StartError::Tls(error.to_string())
    }
}

/// A running server.
pub struct Standalone {
    front: Front,
    engine: Arc<Engine>,
    api: Arc<Api>,
    identities: Vec<Arc<Identity>>,
    listening: Vec<Listening>,
    failed: Receiver<io::Error>,
}

/// A listener of a running server.
#[derive(Clone, Debug)]
pub struct Listening {
    /// The address as bound.
    pub at: ListenAt,
    /// Whether it speaks TLS.
    pub tls: bool,
}

impl Listening {
    /// Its base URL; for a Unix socket `unix:` and its path.
    pub fn url(&self) -> String {
        match &self.at {
            ListenAt::Tcp(address) => format!("http{}://{address}", if self.tls { "s" } else { "" }),
            ListenAt::Unix(_) => self.at.to_string(),
        }
    }
}

impl Standalone {
    /// Binds all listeners and serves.
    pub fn start(config: ServerConfig) -> Result<Standalone, StartError> {
        let engine = Arc::new(Engine::new().map_err(|error| StartError::System(io::Error::other(error)))?);
        for TunnelConfig { id, limits } in config.tunnels {
            engine.add(id, limits);
        }
        let (mut bound, mut identities, mut listening) = (Vec::new(), Vec::new(), Vec::new());
        for listener in config.listeners {
            let identity = listener.tls.map(Identity::load).transpose()?.map(Arc::new);
            let mut socket =
                Bound::bind(&listener.at).map_err(|error| StartError::Listen(listener.at, error))?;
            let tls = identity.is_some();
            if let Some(identity) = identity {
                identities.push(Arc::clone(&identity));
                socket = socket.secured_by(identity);
            }
            listening.push(Listening { at: socket.at.clone(), tls });
            bound.push(socket);
        }
        let administration = Administration::new(config.store, config.limits);
        let api = Api::new(Arc::clone(&engine), config.options, config.access, administration);
        let api = Arc::new(api.map_err(|error| StartError::System(io::Error::other(error)))?);
        let (fail, failed) = bounded(bound.len());
        let front =
            front::start(bound, config.connections, Arc::clone(&api), &fail).map_err(StartError::System)?;
        Ok(Standalone { front, engine, api, identities, listening, failed })
    }

    /// The listeners, in the order of the configuration.
    pub fn listening(&self) -> &[Listening] {
        &self.listening
    }

    /// Yields an error when a listener has died by itself.
    pub fn failed(&self) -> &Receiver<io::Error> {
        &self.failed
    }

    /// Says in a line how busy the server is, for as long as somebody asks.
    pub fn status(&self) -> impl Fn() -> String + Send + use<> {
        let engine = Arc::clone(&self.engine);
        move || {
            let tunnels = engine.tunnels();
            let loads = tunnels.iter().map(|tunnel| tunnel.load());
            let (held, parked) = loads.fold((0, 0), |sum, load| (sum.0 + load.held, sum.1 + load.parked));
            format!("serving; tunnels: {}, calls held: {held}, polls waiting: {parked}", tunnels.len())
        }
    }

    /// Takes over keys and tunnels of what `read` yields and reads the certificates again. Listeners and
    /// limits stay as they are. Tunnels that are gone end what goes on in them. An error changes nothing.
    pub fn reload(&self, read: impl FnOnce() -> Result<ServerConfig, String>) -> Result<(), String> {
        self.api.reload(|| {
            let config = read()?;
            // All of them first: a file that cannot be used leaves every listener as it was.
            let read = self.identities.iter().map(|identity| identity.read_again());
            let renewed = read.collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
            for (identity, renewal) in self.identities.iter().zip(renewed) {
                identity.adopt(renewal);
            }
            let tunnels = config.tunnels.into_iter().map(|tunnel| (tunnel.id, tunnel.limits)).collect();
            Ok((config.access, tunnels))
        })
    }

    /// Stops: parked polls and queued requests end at once, delivered ones may be answered within `grace`.
    pub fn stop(mut self, grace: Duration) {
        // The front stays open meanwhile: clients post their answers through it.
        self.api.drain();
        self.engine.wait_empty(Instant::now() + grace);
        self.engine.cut();
        self.front.drain();
        self.front.wait_drained(CLOSE_TIME);
        self.front.stop();
    }
}
