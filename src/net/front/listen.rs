//! Listeners and the threads that accept on them.

use std::collections::VecDeque;
use std::fmt;
use std::fs::{File, Permissions};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::connection::{Connection, Peer};
use super::pool::Pool;
use super::response::{DateField, End, Persistence, render_head};
use super::socket::{Socket, remaining};
use super::transport::{Secure, Transport};
use super::{Live, Registered, Service, Shared};
use crate::net::Waker;
use crate::net::error::is_exhaustion;

/// Connections that may wait to be accepted; std asks for fewer than a burst of callers needs.
const BACKLOG: i32 = 4096;
/// Connections told 503 that are kept open until their peer has had time to read it.
const REFUSED: usize = 64;
/// That time.
const REFUSED_TIME: Duration = Duration::from_millis(500);
/// How long a new connection waits for the thread of one that has ended, or was cut to make room.
const HANDOVER_TIME: Duration = Duration::from_secs(1);
/// Pause when the system has no descriptors or memory left.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAt {
    /// A TCP address; port 0 picks a free one.
    Tcp(SocketAddr),
    /// A Unix socket to be created; its directory must exist.
    Unix(PathBuf),
}

impl fmt::Display for ListenAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAt::Tcp(address) => address.fmt(f),
            ListenAt::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A listening socket; the file of a Unix socket that was made here is removed when it is dropped.
pub(crate) struct Bound {
    socket: BoundSocket,
    /// The address as bound.
    pub(crate) at: ListenAt,
    secure: Option<Arc<dyn Secure>>,
}

enum BoundSocket {
    Tcp(TcpListener),
    /// The file goes with the listener, if it is ours.
    Unix {
        listener: UnixListener,
        _file: Option<SocketFile>,
    },
}

impl Bound {
    /// Binds and listens.
    pub(crate) fn bind(at: &ListenAt) -> io::Result<Bound> {
        let (socket, at) = match at {
            ListenAt::Tcp(address) => {
                let listener = TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                rustix::net::listen(&listener, BACKLOG)?;
                let at = ListenAt::Tcp(listener.local_addr()?);
                (BoundSocket::Tcp(listener), at)
            }
            ListenAt::Unix(path) => {
                let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
                let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
                // Whoever may connect can use the tunnel: only this user, from the first moment on. The file
                // takes its mode from the socket that is bound to it.
                let socket = File::from(socket);
                socket.set_permissions(Permissions::from_mode(0o600))?;
                rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
                let file = SocketFile::created(path)?;
                rustix::net::listen(&socket, BACKLOG)?;
                let listener = UnixListener::from(OwnedFd::from(socket));
                (BoundSocket::Unix { listener, _file: Some(file) }, at.clone())
            }
        };
        Ok(Bound { socket, at, secure: None })
    }

    /// Each connection accepted here begins with a layer of `secure`.
    pub(crate) fn secured_by(self, secure: Arc<dyn Secure>) -> Bound {
        Bound { secure: Some(secure), ..self }
    }

    /// Takes over a TCP socket that listens already.
    pub(crate) fn tcp(listener: TcpListener) -> io::Result<Bound> {
        listener.set_nonblocking(true)?;
        let at = ListenAt::Tcp(listener.local_addr()?);
        Ok(Bound { socket: BoundSocket::Tcp(listener), at, secure: None })
    }

    /// Takes over a Unix socket that listens already at `path`; its file stays somebody else's.
    pub(crate) fn unix(listener: UnixListener, path: &Path) -> io::Result<Bound> {
        listener.set_nonblocking(true)?;
        let socket = BoundSocket::Unix { listener, _file: None };
        Ok(Bound { socket, at: ListenAt::Unix(path.to_owned()), secure: None })
    }

    fn accept(&self) -> io::Result<(Socket, Option<SocketAddr>)> {
        match &self.socket {
            BoundSocket::Tcp(listener) => {
                let (stream, address) = listener.accept()?;
                let socket = Socket::new(OwnedFd::from(stream));
                socket.set_nodelay();
                Ok((socket, Some(address)))
            }
            BoundSocket::Unix { listener, .. } => {
                let (stream, _) = listener.accept()?;
                Ok((Socket::new(OwnedFd::from(stream)), None))
            }
        }
    }
}

/// A socket's file, removed with it unless somebody replaced it.
struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl SocketFile {
    fn created(path: &Path) -> io::Result<SocketFile> {
        Ok(SocketFile { path: path.to_owned(), inode: std::fs::symlink_metadata(path)?.ino() })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if std::fs::symlink_metadata(&self.path).is_ok_and(|now| now.ino() == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Accepts the connections of one listener.
pub(super) struct Acceptor {
    pub(super) number: usize,
    pub(super) bound: Bound,
    pub(super) shared: Arc<Shared>,
    pub(super) pool: Arc<Pool>,
    pub(super) service: Arc<dyn Service>,
    pub(super) waker: Arc<Waker>,
}

impl Acceptor {
    /// Accepts until the waker is raised; an error means that the listener is lost.
    pub(super) fn run(self) -> io::Result<()> {
        let mut refused: VecDeque<(Instant, Arc<Socket>)> = VecDeque::new();
        let mut next_connection = 0u64;
        let mut exhausted = false;
        loop {
            let now = Instant::now();
            while refused.front().is_some_and(|(until, _)| *until <= now) || refused.len() > REFUSED {
                refused.pop_front();
            }
            let timeout = refused.front().map(|(until, _)| remaining(*until));
            let listener = match &self.bound.socket {
                BoundSocket::Tcp(listener) => listener.as_fd(),
                BoundSocket::Unix { listener, .. } => listener.as_fd(),
            };
            let mut fds = [PollFd::new(&listener, PollFlags::IN), PollFd::new(&self.waker, PollFlags::IN)];
            match poll(&mut fds, timeout.as_ref()) {
                Ok(0) | Err(Errno::INTR) => continue,
                Ok(_) => {}
                Err(error) => return Err(error.into()),
            }
            if !fds[1].revents().is_empty() {
                return Ok(());
            }
            match self.bound.accept() {
                Ok((socket, address)) => {
                    // Numbers of different listeners must not collide in the registry.
                    let number = next_connection << 8 | (self.number as u64 & 0xff);
                    next_connection += 1;
                    exhausted = false;
                    if let Some(turned_away) = self.admit(number, Arc::new(socket), address) {
                        refused.push_back((Instant::now() + REFUSED_TIME, turned_away));
                    }
                }
                Err(error) if is_passing(&error) => {}
                Err(error) if is_exhaustion(&error) => {
                    if !exhausted {
                        let name = self.shared.settings.name;
                        log::warn!(target: name, error:% = error; "cannot accept connections for the moment");
                        exhausted = true;
                    }
                    let mut fds = [PollFd::new(&self.waker, PollFlags::IN)];
                    let _ = poll(&mut fds, Some(&remaining(Instant::now() + EXHAUSTED_PAUSE)));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Hands the connection to a thread; gives the socket back if it was turned away with 503.
    fn admit(&self, number: u64, socket: Arc<Socket>, address: Option<SocketAddr>) -> Option<Arc<Socket>> {
        let layer = match self.bound.secure.as_ref().map(|secure| secure.layer()).transpose() {
            Ok(layer) => layer,
            Err(error) => {
                log::error!(target: self.shared.settings.name, error:% = error; "cannot begin TLS");
                return None;
            }
        };
        let transport = Transport::new(Arc::clone(&socket), layer);
        let peer =
            Peer { listener: self.number, address, tls: transport.is_tls(), client_certificate: false };
        let live = Arc::new(Live::new(Arc::clone(&self.shared)));
        let patience = if self.shared.make_room() { HANDOVER_TIME } else { Duration::ZERO };
        let registered = Registered { live: Arc::clone(&live), socket: Arc::clone(&socket) };
        self.shared.connections().insert(number, registered);
        let entry = Entry { shared: Arc::clone(&self.shared), number };
        let service = Arc::clone(&self.service);
        let job = move || {
            let _entry = entry;
            Connection::new(transport, live, peer).serve(&*service);
        };
        let submitted = self.pool.submit(Box::new(job), patience);
        if submitted.is_ok() {
            return None;
        }
        if self.bound.secure.is_some() {
            socket.shut();
            return None;
        }
        let response =
            self.service.refusal(503, "too many connections; try again shortly").header("Retry-After", "1");
        let mut out = Vec::new();
        let id = self.service.exchange_id();
        let end = End::Length(response.body().len());
        render_head(
            &mut out,
            503,
            id.as_deref(),
            &mut DateField::new(),
            response.fields(),
            end,
            Persistence::Close,
        );
        out.extend_from_slice(response.body());
        let _ = socket.send_all(&out, Instant::now());
        socket.shut_write();
        Some(socket)
    }
}

/// Takes a connection out of the registry, however its thread ends.
struct Entry {
    shared: Arc<Shared>,
    number: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.shared.connections().remove(&self.number);
    }
}

fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, WouldBlock};
    matches!(error.kind(), WouldBlock | Interrupted | ConnectionAborted | ConnectionReset)
        || matches!(
            Errno::from_io_error(error),
            // The network's errors of a connection that was to be accepted; accept(2) hands them on.
            Some(
                Errno::PROTO
                    | Errno::PERM
                    | Errno::NETDOWN
                    | Errno::NETUNREACH
                    | Errno::HOSTDOWN
                    | Errno::HOSTUNREACH
                    | Errno::NOPROTOOPT
                    | Errno::TIMEDOUT
            )
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_a_unix_socket_is_this_user_s_alone_and_goes_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let at = ListenAt::Unix(path.clone());
        let bound = Bound::bind(&at).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Bound::bind(&at).err().map(|error| error.kind()), Some(io::ErrorKind::AddrInUse));
        let _peer = std::os::unix::net::UnixStream::connect(&path).unwrap();
        assert!(bound.accept().is_ok());
        drop(bound);
        assert!(!path.exists());
    }
}
