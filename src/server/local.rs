//! The local profile: one tunnel on this machine, for developers, tests and benchmarks.
//!
//! Two listeners that never serve each other's routes: whoever reaches the ingress cannot poll.

use std::fs::DirBuilder;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};

use super::api::{
    Access, Administration, Api, Grants, IngressAuth, Keeper, Key, KeyDigest, KeyKind, Options, Principals,
    PublicUrl, Record, Serves,
};
use super::clock;
use super::engine::{Engine, Limits};
use super::front;
use crate::ids::{TunnelId, random_hex};
use crate::net::front::{Bound, Front, ListenAt};
use crate::secret::Secret;

/// Name of the control socket within its private directory.
const CONTROL_SOCKET: &str = "control.sock";

/// Where the client's side of a [`Local`] listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientListener {
    /// A Unix socket in a private directory of its own; TCP on the loopback if that cannot be.
    PrivateUnix,
    /// A TCP address.
    Tcp(SocketAddr),
}

/// Settings of a [`Local`].
#[derive(Clone, Debug)]
pub struct LocalOptions {
    /// The one tunnel.
    pub tunnel_id: TunnelId,
    /// The key its client must present.
    pub api_key: Secret<String>,
    /// Where connectors call; the loopback or a Unix socket.
    pub ingress: ListenAt,
    /// Where the client polls.
    pub client: ClientListener,
    /// How long a connector's request is held.
    pub response_timeout: Duration,
    /// How long a silent client counts as connected.
    pub client_last_seen_timeout: Duration,
    /// How long a poll that does not say may park.
    pub poll_wait: Duration,
    /// How long any poll may park.
    pub poll_wait_max: Duration,
    /// Commands that may wait for the client.
    pub queue_max: usize,
    /// Largest connector body in bytes.
    pub request_bytes: usize,
    /// Largest response POST in bytes.
    pub response_bytes: usize,
    /// Connections of both listeners together.
    pub connections: usize,
}

impl LocalOptions {
    /// The defaults of the local profile, on an ephemeral loopback port.
    pub fn new(tunnel_id: TunnelId, api_key: Secret<String>) -> LocalOptions {
        LocalOptions {
            tunnel_id,
            api_key,
            ingress: ListenAt::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
            client: ClientListener::PrivateUnix,
            response_timeout: Duration::from_secs(30),
            client_last_seen_timeout: Duration::from_secs(20),
            poll_wait: Duration::from_millis(500),
            poll_wait_max: Duration::from_secs(5),
            queue_max: 1000,
            request_bytes: 4 << 20,
            response_bytes: 16 << 20,
            connections: 2048,
        }
    }
}

/// How busy a [`Local`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gauges {
    /// Commands waiting for the client.
    pub queued: usize,
    /// Connector requests waiting for their answer.
    pub held: usize,
    /// Polls waiting for a command.
    pub parked: usize,
}

/// A running control plane of one tunnel. Stops when dropped.
pub struct Local {
    // Ended before the directory of its socket goes.
    front: Option<Front>,
    engine: Arc<Engine>,
    tunnel_id: TunnelId,
    ingress: ListenAt,
    client: ListenAt,
    warning: Option<String>,
    failed: Receiver<io::Error>,
    _directory: Option<PrivateDirectory>,
}

impl Local {
    /// Binds both listeners and serves. The error names the listener that could not be had.
    pub fn start(options: LocalOptions) -> io::Result<Local> {
        if let ListenAt::Tcp(address) = &options.ingress
            && !address.ip().is_loopback()
        {
            let text = format!(
                "listen on {address}: only loopback addresses and Unix sockets are served without keys"
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let (client, directory, warning) = bind_client(&options.client)?;
        let ingress = bind_ingress(&options.ingress)?;
        let (ingress_at, client_at) = (ingress.at.clone(), client.at.clone());
        let engine = Arc::new(Engine::new().map_err(io::Error::other)?);
        engine.add(options.tunnel_id.clone(), limits(&options));
        let serves = vec![
            Serves { connector: true, ready: true, ..Serves::default() },
            Serves { client: true, ..Serves::default() },
        ];
        let api_options = Options {
            serves,
            ingress_auth: IngressAuth::None,
            public_url: PublicUrl::default(),
            path_prefix: String::new(),
            request_bytes: options.request_bytes,
            response_bytes: options.response_bytes,
            poll_limit: 1,
            poll_wait: options.poll_wait,
            poll_wait_max: options.poll_wait_max,
            tells_commands: false,
        };
        let administration = Administration::new(None, limits(&options));
        let api = Api::new(Arc::clone(&engine), api_options, access(&options), administration);
        let api = api.map_err(io::Error::other)?;
        let (fail, failed) = bounded(2);
        let front = front::start(vec![ingress, client], options.connections, Arc::new(api), &fail)?;
        Ok(Local {
            front: Some(front),
            engine,
            tunnel_id: options.tunnel_id,
            ingress: ingress_at,
            client: client_at,
            warning,
            failed,
            _directory: directory,
        })
    }

    /// The tunnel.
    pub fn tunnel_id(&self) -> &TunnelId {
        &self.tunnel_id
    }

    /// The path connectors post to.
    pub fn mcp_url_path(&self) -> String {
        format!("/v1/mcp/{}", self.tunnel_id)
    }

    /// The URL connectors post to; empty when the ingress is a Unix socket.
    pub fn mcp_url(&self) -> String {
        match &self.ingress {
            ListenAt::Tcp(address) => format!("http://{address}{}", self.mcp_url_path()),
            ListenAt::Unix(_) => String::new(),
        }
    }

    /// Where connectors call.
    pub fn ingress(&self) -> &ListenAt {
        &self.ingress
    }

    /// The base URL of the client; `http://localhost` when it goes over [`Local::client_socket`].
    pub fn client_base_url(&self) -> String {
        match &self.client {
            ListenAt::Tcp(address) => format!("http://{address}"),
            ListenAt::Unix(_) => "http://localhost".to_owned(),
        }
    }

    /// The Unix socket of the client, if it is one.
    pub fn client_socket(&self) -> Option<&Path> {
        match &self.client {
            ListenAt::Tcp(_) => None,
            ListenAt::Unix(path) => Some(path),
        }
    }

    /// Why the client's side is not what was asked for, if it is not.
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// Yields an error when a listener has died by itself.
    pub fn failed(&self) -> &Receiver<io::Error> {
        &self.failed
    }

    /// How busy it is now.
    pub fn gauges(&self) -> Gauges {
        let load = self.engine.tunnel(&self.tunnel_id).map(|tunnel| tunnel.load()).unwrap_or_default();
        Gauges { queued: load.queued.iter().map(|(_, n)| n).sum(), held: load.held, parked: load.parked }
    }

    /// Closes everything at once: open calls and polls are cut.
    pub fn stop(mut self) {
        self.close();
    }

    fn close(&mut self) {
        if let Some(front) = self.front.take() {
            self.engine.cut();
            front.stop();
        }
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.close();
    }
}

fn limits(options: &LocalOptions) -> Limits {
    Limits {
        response_timeout: options.response_timeout,
        client_last_seen_timeout: options.client_last_seen_timeout,
        queue_max: options.queue_max,
        queue_bytes: 64 << 20,
        notifications: 16,
        notification_bytes: 4 << 20,
        rate: None,
        affinity_lease: None,
    }
}

fn access(options: &LocalOptions) -> Access {
    let now = clock::rfc3339(std::time::SystemTime::now());
    let record = Record {
        id: options.tunnel_id.clone(),
        name: "local tunnel-client dev proxy".to_owned(),
        description: "Tunnel served by this machine for development".to_owned(),
        creator: "local".to_owned(),
        principals: Principals::default(),
        created_at: now.clone(),
        updated_at: now,
        response_timeout: None,
        affinity: None,
        keeper: Keeper::Configuration,
    };
    let key = Key {
        name: "local".to_owned(),
        digest: KeyDigest::of(options.api_key.expose().as_bytes()),
        kind: KeyKind::Runtime,
        read: true,
        write: false,
        use_: true,
        principals: Principals::default(),
        grants: Grants::All,
    };
    Access {
        keys: vec![key],
        connector_keys: Vec::new(),
        records: [(options.tunnel_id.clone(), Arc::new(record))].into(),
    }
}

fn bind_ingress(at: &ListenAt) -> io::Result<Bound> {
    let what = match at {
        ListenAt::Tcp(address) => format!("listen on {address}"),
        ListenAt::Unix(path) => format!("listen on external MCP unix socket {}", path.display()),
    };
    let made = match at {
        ListenAt::Unix(path) => path.parent().map_or(Ok(()), std::fs::create_dir_all),
        ListenAt::Tcp(_) => Ok(()),
    };
    made.and_then(|()| Bound::bind(at)).map_err(|error| named(&what, &error))
}

fn bind_client(listener: &ClientListener) -> io::Result<(Bound, Option<PrivateDirectory>, Option<String>)> {
    let tcp = |address: SocketAddr| {
        Bound::bind(&ListenAt::Tcp(address))
            .map_err(|error| named(&format!("listen on {address} for the tunnel client"), &error))
    };
    match listener {
        ClientListener::Tcp(address) => Ok((tcp(*address)?, None, None)),
        ClientListener::PrivateUnix => {
            let private = PrivateDirectory::create().and_then(|directory| {
                let bound = Bound::bind(&ListenAt::Unix(directory.0.join(CONTROL_SOCKET)))?;
                Ok((bound, directory))
            });
            match private {
                Ok((bound, directory)) => Ok((bound, Some(directory), None)),
                Err(error) => {
                    let warning =
                        format!("no private Unix socket for the tunnel client, using TCP instead: {error}");
                    Ok((tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?, None, Some(warning)))
                }
            }
        }
    }
}

fn named(what: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

/// A directory that only this user can enter, removed when dropped.
struct PrivateDirectory(PathBuf);

impl PrivateDirectory {
    fn create() -> io::Result<PrivateDirectory> {
        let name = format!("tunnel-{}", random_hex().map_err(io::Error::other)?);
        let path = std::env::temp_dir().join(name);
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(PrivateDirectory(path))
    }
}

impl Drop for PrivateDirectory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
