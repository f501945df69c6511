//! Opening sockets.
//!
//! Invariant: a dial ends at its deadline and at once when its [`Cancel`] fires; of a host's addresses
//! all are tried, each with a head start of [`HEAD_START`] before the next one (RFC 8305 §5).

use std::fmt;
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use super::names;
use super::socket::{Socket, Stream, cancelled};
use crate::net::error::is_exhaustion;
use crate::net::origin::host_and_port;
use crate::net::{Cancel, CancelGuard, Cause, Deadline, Error};

/// How long an address may keep the next one waiting.
const HEAD_START: Duration = Duration::from_millis(250);

/// Silence after which the kernel probes whether an idle peer is still there, and between its probes.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Longest pause between two attempts to get into the full queue of a Unix listener.
const FULL_QUEUE_PAUSE: Duration = Duration::from_millis(50);

/// Which addresses may be dialled.
pub(crate) type Allowed = fn(IpAddr) -> bool;

/// All of them.
pub(crate) const ANY: Allowed = |_| true;

/// Connects to `host:port` over TCP, at an address that is `allowed`.
pub(crate) fn tcp(
    host: &str,
    port: u16,
    allowed: Allowed,
    deadline: Deadline,
    cancel: &Cancel,
) -> Result<Socket, Error> {
    let peer: Arc<str> = host_and_port(host, port).into();
    let mut addresses = names::resolve(host, port, deadline, cancel)?;
    addresses.retain(|address| allowed(address.ip()));
    if addresses.is_empty() {
        let message = format!("destination refused: {peer} is at no address that may be asked");
        return Err(Error::before_writing(Cause::InvalidRequest, message));
    }
    let alarm = Alarm::new(cancel).map_err(|e| cannot_connect(&peer, &e))?;
    let mut race = Race { next: addresses.into_iter(), running: Vec::new(), first_failure: None };
    let stream = race.run(&peer, deadline, cancel, &alarm)?;
    let tuned = tune(&stream);
    tuned.map_err(|e| cannot_connect(&peer, &e))?;
    Ok(Socket::new(Stream::Tcp(stream), peer, cancel))
}

/// Connects to the Unix stream socket at `path`.
pub(crate) fn unix(path: &Path, deadline: Deadline, cancel: &Cancel) -> Result<Socket, Error> {
    let peer: Arc<str> = path.display().to_string().into();
    let failed = |e: Errno| cannot_connect(&peer, &io::Error::from(e));
    let address = SocketAddrUnix::new(path).map_err(failed)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(failed)?;
    let mut pause = Duration::from_millis(1);
    loop {
        if cancel.is_cancelled() {
            return Err(cancelled());
        }
        match rustix::net::connect(&fd, &address) {
            Ok(()) => break,
            Err(Errno::INTR) => {}
            // The listener's queue is full, which no system call waits for with a cancellation.
            Err(Errno::AGAIN) => {
                let left = deadline.remaining().unwrap_or(pause);
                if left.is_zero() {
                    return Err(late(&peer));
                }
                cancel.wait(pause.min(left));
                pause = (pause * 2).min(FULL_QUEUE_PAUSE);
            }
            Err(Errno::NOENT) => {
                let message = format!("the Unix socket {peer} does not exist");
                return Err(Error::before_writing(Cause::SocketMissing, message));
            }
            Err(e) => return Err(failed(e)),
        }
    }
    let stream = UnixStream::from(fd);
    stream.set_nonblocking(false).map_err(|e| cannot_connect(&peer, &e))?;
    Ok(Socket::new(Stream::Unix(stream), peer, cancel))
}

/// Attempts that run side by side; the first to connect wins.
struct Race {
    next: std::vec::IntoIter<SocketAddr>,
    running: Vec<(OwnedFd, SocketAddr)>,
    first_failure: Option<io::Error>,
}

impl Race {
    fn run(
        &mut self,
        peer: &str,
        deadline: Deadline,
        cancel: &Cancel,
        alarm: &Alarm,
    ) -> Result<TcpStream, Error> {
        let mut next_start = Instant::now();
        loop {
            if cancel.is_cancelled() {
                return Err(cancelled());
            }
            if deadline.is_past() {
                return Err(late(peer));
            }
            if next_start <= Instant::now() || self.running.is_empty() {
                match self.start_one() {
                    Some(Ok(stream)) => return Ok(stream),
                    // Failed at once: no head start for it.
                    Some(Err(())) => continue,
                    None if self.running.is_empty() => {
                        let failure = self.first_failure.take();
                        let failure = failure.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into());
                        return Err(cannot_connect(peer, &failure));
                    }
                    None => {}
                }
                next_start = Instant::now() + HEAD_START;
            }
            let mut until = deadline;
            if !self.next.as_slice().is_empty() {
                until = until.earliest(Deadline::at(next_start));
            }
            self.wait(until, alarm).map_err(|e| cannot_connect(peer, &e.into()))?;
            if let Some(stream) = self.take_connected() {
                return Ok(stream);
            }
        }
    }

    /// Starts on the next address. `None`: there is no other; `Err`: it failed at once.
    fn start_one(&mut self) -> Option<Result<TcpStream, ()>> {
        let address = self.next.next()?;
        match begin(address) {
            Ok((fd, true)) => match connected(fd, address) {
                Ok(stream) => return Some(Ok(stream)),
                Err(e) => self.failed(e),
            },
            Ok((fd, false)) => {
                self.running.push((fd, address));
                return None;
            }
            Err(e) => self.failed(e),
        }
        Some(Err(()))
    }

    fn failed(&mut self, error: io::Error) {
        self.first_failure.get_or_insert(error);
    }

    /// Waits until an attempt is decided, the alarm rings or `until` has come.
    fn wait(&self, until: Deadline, alarm: &Alarm) -> Result<(), Errno> {
        let mut fds: Vec<PollFd<'_>> =
            self.running.iter().map(|(fd, _)| PollFd::new(fd, PollFlags::OUT)).collect();
        fds.push(PollFd::new(&alarm.bell, PollFlags::IN));
        let timeout = until.remaining().map(|left| Timespec {
            tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        });
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Removes failed attempts; the stream of one that stands.
    fn take_connected(&mut self) -> Option<TcpStream> {
        let mut index = 0;
        while index < self.running.len() {
            let decided = match sockopt::socket_error(&self.running[index].0) {
                Ok(Ok(())) => rustix::net::getpeername(&self.running[index].0).is_ok(),
                Ok(Err(e)) | Err(e) => {
                    self.running.remove(index);
                    self.failed(e.into());
                    continue;
                }
            };
            if decided {
                let (fd, address) = self.running.remove(index);
                match connected(fd, address) {
                    Ok(stream) => return Some(stream),
                    Err(e) => self.failed(e),
                }
            } else {
                index += 1;
            }
        }
        None
    }
}

/// Starts to connect; true when the connection stands already.
fn begin(address: SocketAddr) -> io::Result<(OwnedFd, bool)> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    match rustix::net::connect(&fd, &address) {
        Ok(()) => Ok((fd, true)),
        // Interrupted or not, it goes on in the background.
        Err(Errno::INPROGRESS | Errno::INTR) => Ok((fd, false)),
        Err(e) => Err(e.into()),
    }
}

fn connected(fd: OwnedFd, address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::from(fd);
    // Where nobody listens on an ephemeral port, TCP can connect a socket to itself.
    if address.ip().is_loopback() && stream.local_addr()? == address {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(stream)
}

fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEP_ALIVE)?;
    sockopt::set_tcp_keepintvl(stream, KEEP_ALIVE)?;
    Ok(())
}

/// Something to poll that becomes readable on cancellation.
struct Alarm {
    bell: UnixStream,
    _guard: CancelGuard,
}

impl Alarm {
    fn new(cancel: &Cancel) -> io::Result<Alarm> {
        let (bell, rope) = UnixStream::pair()?;
        let guard = cancel.on_cancel(move || {
            let _ = rope.shutdown(Shutdown::Both);
        });
        Ok(Alarm { bell, _guard: guard })
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

fn late(peer: impl fmt::Display) -> Error {
    Error::before_writing(Cause::Timeout, format!("cannot connect to {peer}: no answer in time"))
}

fn cannot_connect(peer: impl fmt::Display, error: &io::Error) -> Error {
    let (cause, why) = match error.kind() {
        io::ErrorKind::ConnectionRefused => (Cause::ConnectionRefused, "the connection was refused"),
        io::ErrorKind::NetworkUnreachable => (Cause::NetworkUnreachable, "the network is unreachable"),
        io::ErrorKind::HostUnreachable => (Cause::HostUnreachable, "the host is unreachable"),
        io::ErrorKind::ConnectionReset => (Cause::ConnectionReset, "the connection was reset"),
        io::ErrorKind::ConnectionAborted => (Cause::ConnectionAborted, "the connection was aborted"),
        io::ErrorKind::TimedOut => (Cause::Timeout, "no answer in time"),
        _ if is_exhaustion(error) => (Cause::Exhausted, ""),
        _ => (Cause::Dial, ""),
    };
    let message = match why {
        "" => format!("cannot connect to {peer}: {error}"),
        why => format!("cannot connect to {peer}: {why}"),
    };
    Error::before_writing(cause, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    fn free_port() -> u16 {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
    }

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(20))
    }

    /// A listener whose queue is full: further connections are neither accepted nor refused.
    fn black_hole() -> (TcpListener, Vec<OwnedFd>, SocketAddr) {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let fd = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        rustix::net::bind(&fd, &any).unwrap();
        rustix::net::listen(&fd, 0).unwrap();
        let listener = TcpListener::from(fd);
        let address = listener.local_addr().unwrap();
        let fillers = (0..3).map(|_| begin(address).unwrap().0).collect();
        (listener, fillers, address)
    }

    #[test]
    fn a_closed_port_is_refused() {
        let error = tcp("127.0.0.1", free_port(), ANY, soon(), &Cancel::new()).err().unwrap();
        assert_eq!(error.cause, Cause::ConnectionRefused);
        assert!(!error.written && error.message.contains("127.0.0.1"), "{error}");
    }

    #[test]
    fn a_name_with_one_dead_family_still_connects() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(tcp("localhost", port, ANY, soon(), &Cancel::new()).is_ok());
        let Ok(listener) = TcpListener::bind("[::1]:0") else { return };
        let port = listener.local_addr().unwrap().port();
        assert!(tcp("localhost", port, ANY, soon(), &Cancel::new()).is_ok());
    }

    #[test]
    fn an_address_that_is_not_allowed_is_not_dialled_whatever_name_leads_to_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        for host in ["localhost", "127.0.0.1"] {
            let refused = tcp(host, port, |address| !address.is_loopback(), soon(), &Cancel::new());
            let error = refused.err().unwrap();
            assert!(error.cause == Cause::InvalidRequest && !error.written, "{error}");
        }
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err(), "nobody came");
    }

    #[test]
    fn a_silent_address_keeps_the_next_one_waiting_only_for_its_head_start() {
        let (_listener, _fillers, silent) = black_hole();
        let answering = TcpListener::bind("127.0.0.1:0").unwrap();
        let cancel = Cancel::new();
        let addresses = vec![silent, answering.local_addr().unwrap()].into_iter();
        let mut race = Race { next: addresses, running: Vec::new(), first_failure: None };
        let stream = race.run("peer", soon(), &cancel, &Alarm::new(&cancel).unwrap()).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), answering.local_addr().unwrap());
    }

    #[test]
    fn a_dial_into_the_void_ends_at_the_deadline_and_with_the_cancellation() {
        let (_listener, _fillers, address) = black_hole();
        let deadline = Deadline::after(Duration::from_millis(50));
        let error = tcp("127.0.0.1", address.port(), ANY, deadline, &Cancel::new()).err().unwrap();
        assert_eq!(error.cause, Cause::Timeout);

        let cancel = Cancel::new();
        let canceller = {
            let cancel = cancel.clone();
            std::thread::spawn(move || {
                cancel.wait(Duration::from_millis(50));
                cancel.cancel();
            })
        };
        let error = tcp("127.0.0.1", address.port(), ANY, soon(), &cancel).err().unwrap();
        assert_eq!(error.cause, Cause::Cancelled);
        canceller.join().unwrap();
    }

    #[test]
    fn unix_sockets_are_missing_refused_full_or_connected() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let cause = |deadline| unix(&path, deadline, &Cancel::new()).err().map(|e| e.cause);
        assert_eq!(cause(soon()), Some(Cause::SocketMissing));
        let listener = UnixListener::bind(&path).unwrap();
        assert_eq!(cause(soon()), None);
        rustix::net::listen(&listener, 0).unwrap();
        let mut kept = Vec::new();
        let full = loop {
            match unix(&path, Deadline::after(Duration::from_millis(50)), &Cancel::new()) {
                Ok(socket) => kept.push(socket),
                Err(error) => break error,
            }
        };
        assert_eq!(full.cause, Cause::Timeout);
        drop(listener);
        assert_eq!(cause(soon()), Some(Cause::ConnectionRefused));
    }
}
