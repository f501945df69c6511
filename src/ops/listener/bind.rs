//! Opening the listening socket and naming it.

use crate::order;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};

use super::files::FileError;
use crate::ids::random_hex;
use crate::net::base64;
use crate::ops::reason;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;
/// Stale sockets that are cleared away before giving up: somebody else keeps making them.
const STALE_LIMIT: usize = 3;

/// Why the listener could not be opened. The texts are those that operators look for.
#[derive(Debug)]
pub enum ListenError {
    /// The listen address cannot be used as written.
    Address(String),
    /// The address is taken, not ours or not permitted.
    Bind {
        /// `tcp` or `unix`.
        network: &'static str,
        /// The address as resolved.
        address: String,
        /// Why.
        error: io::Error,
    },
    /// There is something at the path that is not a socket; it was left alone.
    NotASocket(PathBuf),
    /// Another process accepts connections on the path.
    InUse(PathBuf),
    /// The path of the socket could not be prepared.
    Path {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The file with the base URL could not be written.
    UrlFile(FileError),
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenError::Address(text) => write!(f, "listen tcp: {text}"),
            ListenError::Bind { network, address, error } => {
                write!(f, "listen {network} {address}: bind: {}", reason(error))?;
                if error.kind() == io::ErrorKind::AddrInUse {
                    f.write_str("; stop the process that has it, or choose another health.listen-addr")?;
                }
                Ok(())
            }
            ListenError::NotASocket(path) => {
                write!(f, "health unix socket {} exists and is not a unix socket", path.display())
            }
            ListenError::InUse(path) => {
                write!(f, "health unix socket {} is already accepting connections", path.display())
            }
            ListenError::Path { action, path, error } => {
                write!(f, "{action} health unix socket {}: {}", path.display(), reason(error))
            }
            ListenError::UrlFile(error) => write!(f, "write health url file {error}"),
        }
    }
}

impl std::error::Error for ListenError {}

/// A listening socket.
#[derive(Debug)]
pub(super) enum Listening {
    Tcp(TcpListener),
    Unix { listener: UnixListener, file: SocketFile },
}

/// Device, inode and (inodes are used again) the time it was made, in seconds and nanoseconds.
type Identity = (u64, u64, i64, i64);

/// The socket's place in the file system, recognised by its identity.
#[derive(Clone, Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    id: Identity,
}

impl SocketFile {
    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it, unless something else stands there by now.
    pub(super) fn remove(&self) -> Result<(), FileError> {
        let missing_is_fine = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => Ok(()),
            _ => Err(FileError { path: self.path.clone(), error }),
        };
        match identity(&self.path) {
            Ok(id) if id == self.id => std::fs::remove_file(&self.path).or_else(missing_is_fine),
            Ok(_) => Ok(()),
            Err(error) => missing_is_fine(error),
        }
    }
}

/// Opens a TCP socket at `host:port`; an empty host is every interface, port 0 any free port.
pub(super) fn bind_tcp(listen_addr: &str) -> Result<(Listening, SocketAddr), ListenError> {
    let (host, port) = split_address(listen_addr)?;
    let candidates = resolve(host, port)?;
    let mut first_error = None;
    for candidate in candidates {
        match TcpListener::bind(candidate).and_then(|listener| Ok((listener.local_addr()?, listener))) {
            Ok((bound, listener)) => return Ok((Listening::Tcp(listener), bound)),
            Err(error) => {
                // An empty host is shown the way it was written.
                let address = if host.is_empty() { format!(":{port}") } else { candidate.to_string() };
                first_error.get_or_insert(ListenError::Bind { network: "tcp", address, error });
            }
        }
    }
    Err(first_error.unwrap_or_else(|| ListenError::Address(format!("lookup {host}: no such host"))))
}

/// Host (without brackets) and port of `host:port`.
pub(super) fn split_address(text: &str) -> Result<(&str, u16), ListenError> {
    let bad = |what: &str| ListenError::Address(format!("address {text}: {what}"));
    let (host, port) = text.rsplit_once(':').ok_or_else(|| bad("missing port in address"))?;
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').ok_or_else(|| bad("missing ']' in address"))?,
        None if host.contains(':') => return Err(bad("too many colons in address")),
        None => host,
    };
    let port = port.parse().map_err(|_| ListenError::Address(format!("address tcp/{port}: invalid port")))?;
    Ok((host, port))
}

/// Addresses to try, in order.
fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, ListenError> {
    if host.is_empty() {
        // Both families where the host has IPv6.
        return Ok(vec![
            (std::net::Ipv6Addr::UNSPECIFIED, port).into(),
            (std::net::Ipv4Addr::UNSPECIFIED, port).into(),
        ]);
    }
    let mut found: Vec<SocketAddr> = (host, port)
        .to_socket_addrs()
        .map_err(|_| ListenError::Address(format!("lookup {host}: no such host")))?
        .collect();
    order::sort_by_key(&mut found, SocketAddr::is_ipv6);
    found.truncate(1);
    Ok(found)
}

/// The base URL of a TCP listener: the configured host unless it is empty or unspecified, then the
/// bound one under the same condition, then `localhost`.
pub(super) fn base_url(configured_host: &str, bound: SocketAddr) -> String {
    let is_unspecified = |host: &str| host.parse().is_ok_and(|ip: IpAddr| ip.to_canonical().is_unspecified());
    let host = if !configured_host.is_empty() && !is_unspecified(configured_host) {
        configured_host.to_owned()
    } else if !bound.ip().to_canonical().is_unspecified() {
        bound.ip().to_string()
    } else {
        "localhost".to_owned()
    };
    let port = bound.port();
    if host.contains(':') { format!("http://[{host}]:{port}") } else { format!("http://{host}:{port}") }
}

/// The base URL of a Unix-socket listener: the path in URL-safe base64 without padding (RFC 4648 §5).
pub(super) fn unix_base_url(path: &Path) -> String {
    let text = base64(path.as_os_str().as_encoded_bytes()).replace('+', "-").replace('/', "_");
    format!("http+unix://{}", text.trim_end_matches('='))
}

/// Opens a Unix socket that only its owner can use; clears a stale one away.
pub(super) fn bind_unix(path: &Path) -> Result<Listening, ListenError> {
    let failed = |action, error: io::Error| ListenError::Path { action, path: path.to_owned(), error };
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o755).create(parent);
        made.map_err(|error| failed("create directory of", error))?;
    }
    let address = SocketAddrUnix::new(path).map_err(|error| bind_failed(path, error))?;
    for _ in 0..STALE_LIMIT {
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .map_err(|error| bind_failed(path, error))?;
        match bind(&socket, &address) {
            Err(Errno::ADDRINUSE) => clear_stale(path, &address)?,
            Err(error) => return Err(bind_failed(path, error)),
            Ok(()) => {
                // Nobody can connect before the socket listens: there is no moment with wider rights.
                let private = std::fs::Permissions::from_mode(0o600);
                let ready = std::fs::set_permissions(path, private)
                    .and_then(|()| identity(path))
                    .and_then(|id| listen(&socket, BACKLOG).map(|()| id).map_err(io::Error::from));
                return match ready {
                    Ok(id) => Ok(Listening::Unix {
                        listener: UnixListener::from(socket),
                        file: SocketFile { path: path.to_owned(), id },
                    }),
                    Err(error) => {
                        let _ = std::fs::remove_file(path);
                        Err(failed("open", error))
                    }
                };
            }
        }
    }
    Err(ListenError::InUse(path.to_owned()))
}

fn bind_failed(path: &Path, error: Errno) -> ListenError {
    ListenError::Bind { network: "unix", address: path.display().to_string(), error: error.into() }
}

/// Whether [`bind_unix`] would succeed, as far as can be told without making anything.
pub(super) fn check_unix(path: &Path) -> Result<(), ListenError> {
    let address = SocketAddrUnix::new(path).map_err(|error| bind_failed(path, error))?;
    stale(path, &address)?;
    let above =
        path.ancestors().skip(1).map(|path| if path.as_os_str().is_empty() { Path::new(".") } else { path });
    let directory = above.into_iter().find(|path| path.symlink_metadata().is_ok()).unwrap_or(Path::new("/"));
    let failed =
        |error: io::Error| ListenError::Path { action: "create directory of", path: path.to_owned(), error };
    if !directory.is_dir() {
        return Err(failed(Errno::NOTDIR.into()));
    }
    access(directory, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| bind_failed(path, error))
}

/// The socket at `path` if nobody accepts connections on it; `None` if there is none.
fn stale(path: &Path, address: &SocketAddrUnix) -> Result<Option<std::fs::Metadata>, ListenError> {
    let failed = |action, error: io::Error| ListenError::Path { action, path: path.to_owned(), error };
    let found = match std::fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(failed("inspect", error)),
    };
    if !found.file_type().is_socket() {
        return Err(ListenError::NotASocket(path.to_owned()));
    }
    // Does not block: a local socket accepts, refuses or (its backlog is full) says so at once.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let probe = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(|error| failed("probe", error.into()))?;
    match connect(&probe, address) {
        Ok(()) | Err(Errno::AGAIN | Errno::INPROGRESS) => Err(ListenError::InUse(path.to_owned())),
        Err(Errno::NOENT) => Ok(None),
        Err(Errno::CONNREFUSED) => Ok(Some(found)),
        Err(error) => Err(failed("probe", error.into())),
    }
}

/// Removes the socket at `path` if nobody accepts connections on it.
fn clear_stale(path: &Path, address: &SocketAddrUnix) -> Result<(), ListenError> {
    let failed = |action, error: io::Error| ListenError::Path { action, path: path.to_owned(), error };
    let Some(found) = stale(path, address)? else { return Ok(()) };
    // Taken aside before it is removed: if another process has put its own socket there since, that
    // one comes back.
    let random = random_hex().map_err(|error| failed("clear", io::Error::other(error)))?;
    let aside = path.with_file_name(format!(".{random}.stale"));
    match std::fs::rename(path, &aside) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(|error| failed("clear", error))?,
    }
    if identity(&aside).is_ok_and(|id| id == identity_of(&found)) {
        return std::fs::remove_file(&aside).map_err(|error| failed("clear", error));
    }
    let back = std::fs::hard_link(&aside, path);
    let _ = std::fs::remove_file(&aside);
    back.map_err(|error| failed("clear", error))?;
    Err(ListenError::InUse(path.to_owned()))
}

fn identity(path: &Path) -> io::Result<Identity> {
    std::fs::symlink_metadata(path).map(|found| identity_of(&found))
}

fn identity_of(found: &std::fs::Metadata) -> Identity {
    (found.dev(), found.ino(), found.mtime(), found.mtime_nsec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_url_prefers_the_configured_host() {
        for (host, bound, url) in [
            ("127.0.0.1", "127.0.0.1:41", "http://127.0.0.1:41"),
            ("tunnel.lan", "10.0.0.1:8080", "http://tunnel.lan:8080"),
            ("", "[::]:8080", "http://localhost:8080"),
            ("0.0.0.0", "0.0.0.0:80", "http://localhost:80"),
            ("::", "[::]:80", "http://localhost:80"),
            ("", "127.0.0.1:80", "http://127.0.0.1:80"),
            ("::1", "[::1]:80", "http://[::1]:80"),
            ("", "[::1]:80", "http://[::1]:80"),
        ] {
            assert_eq!(base_url(host, bound.parse().unwrap()), url);
        }
        assert_eq!(unix_base_url(Path::new("/run/tc/h.sock")), "http+unix://L3J1bi90Yy9oLnNvY2s");
        assert_eq!(unix_base_url(Path::new("/tmp/h.sock")), "http+unix://L3RtcC9oLnNvY2s");
        assert_eq!(unix_base_url(Path::new("/")), "http+unix://Lw");
        assert_eq!(unix_base_url(Path::new("/ÿ?")), "http+unix://L8O_Pw");
    }

    #[test]
    fn a_listen_address_that_cannot_be_used_is_named() {
        for (text, error) in [
            ("localhost", "listen tcp: address localhost: missing port in address"),
            ("::1:80", "listen tcp: address ::1:80: too many colons in address"),
            ("[::1:80", "listen tcp: address [::1:80: missing ']' in address"),
            ("127.0.0.1:99999", "listen tcp: address tcp/99999: invalid port"),
            ("127.0.0.1:", "listen tcp: address tcp/: invalid port"),
        ] {
            assert_eq!(bind_tcp(text).unwrap_err().to_string(), error);
        }
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        assert_eq!(
            bind_tcp(&address).unwrap_err().to_string(),
            format!(
                "listen tcp {address}: bind: address already in use; stop the process that has it, or choose another health.listen-addr"
            )
        );
        assert_eq!(
            bind_tcp("192.0.2.1:80").unwrap_err().to_string(),
            "listen tcp 192.0.2.1:80: bind: cannot assign requested address"
        );
        let bound = bind_tcp("localhost:0").unwrap().1;
        assert!(bound.ip().is_loopback() && bound.port() != 0);
    }

    #[test]
    fn a_unix_socket_is_private_and_replaces_only_a_stale_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/h.sock");
        let live = bind_unix(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let error = bind_unix(&path).unwrap_err().to_string();
        assert!(error.ends_with("h.sock is already accepting connections"), "{error}");
        drop(live);
        let Listening::Unix { file, .. } = bind_unix(&path).unwrap() else { panic!("not a unix socket") };
        file.remove().unwrap();
        assert!(!path.exists());
        file.remove().unwrap();
        std::fs::write(&path, "precious").unwrap();
        let error = bind_unix(&path).unwrap_err().to_string();
        assert!(error.ends_with("h.sock exists and is not a unix socket"), "{error}");
        file.remove().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
        let names: Vec<_> = std::fs::read_dir(path.parent().unwrap()).unwrap().collect();
        assert_eq!(names.len(), 1, "nothing is left aside: {names:?}");
    }
}
