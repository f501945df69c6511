//! Telling systemd how a service is doing (`sd_notify(3)`), when it was started under it.
//!
//! Without `NOTIFY_SOCKET` nothing of this runs. Invariant: a manager that does not listen costs
//! nothing but datagrams, and the watchdog is fed only while the state can still be looked at.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::Cancel;

/// What concerns this process alone: no child should inherit it.
pub(crate) const VARIABLES: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];
/// How often the status is looked at.
const LOOK_TIME: Duration = Duration::from_secs(5);
/// Longest status, in bytes; what `systemctl status` shows is one line.
const STATUS_BYTES: usize = 512;

/// Tells systemd until dropped.
pub(crate) struct Notifier {
    manager: Arc<Manager>,
    cancel: Cancel,
    thread: Option<JoinHandle<()>>,
}

/// The service manager's socket.
struct Manager {
    socket: UnixDatagram,
    address: SocketAddr,
}

impl Notifier {
    /// Tells that the service has started, and from now on how it is doing: what `status` says, and by
    /// saying anything, that it lives. `None` when nobody asked.
    pub(crate) fn start(status: Box<dyn Fn() -> String + Send>) -> Option<Notifier> {
        let manager = match Manager::of_environment()? {
            Ok(manager) => Arc::new(manager),
            Err(error) => {
                log::warn!(target: "process", error:%; "systemd cannot be told how the service is doing");
                return None;
            }
        };
        let watchdog = watchdog(|name| std::env::var(name).ok(), std::process::id());
        let mut shown = one_line(status());
        manager.tell(&format!("READY=1\nSTATUS={shown}"));
        let cancel = Cancel::new();
        let (seen, told) = (cancel.clone(), Arc::clone(&manager));
        let pause = watchdog.map_or(LOOK_TIME, |limit| (limit / 2).min(LOOK_TIME));
        let thread = std::thread::Builder::new().name("systemd".into()).spawn(move || {
            while !seen.wait(pause) {
                let now = one_line(status());
                if watchdog.is_some() {
                    told.tell("WATCHDOG=1");
                }
                if now != shown {
                    told.tell(&format!("STATUS={now}"));
                    shown = now;
                }
            }
        });
        let thread = thread.inspect_err(|error| {
            log::warn!(target: "process", error:%; "systemd is not told how the service is doing");
        });
        Some(Notifier { manager, cancel, thread: thread.ok() })
    }

    /// Tells that the service is on its way down, and what takes time; the watchdog is fed on.
    pub(crate) fn stopping(&self, status: &str) {
        self.manager.tell(&format!("STOPPING=1\nSTATUS={status}"));
    }
}

impl Drop for Notifier {
    fn drop(&mut self) {
        self.cancel.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Manager {
    /// `None` when nobody asked; the address is a path, or a name in the abstract namespace behind `@`.
    fn of_environment() -> Option<io::Result<Manager>> {
        let name = std::env::var_os(VARIABLES[0]).filter(|name| !name.is_empty())?;
        Some(Manager::at(name.as_bytes()))
    }

    fn at(name: &[u8]) -> io::Result<Manager> {
        let address = match name {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name))?,
            _ => return Err(io::Error::other("NOTIFY_SOCKET is neither a path nor an abstract name")),
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Manager { socket, address })
    }

    /// A manager that has gone, or whose queue is full, misses it.
    fn tell(&self, text: &str) {
        let _ = self.socket.send_to_addr(text.as_bytes(), &self.address);
    }
}

/// How long systemd waits for a sign of life, if it does and means this process.
fn watchdog(variable: impl Fn(&str) -> Option<String>, own: u32) -> Option<Duration> {
    if variable(VARIABLES[2]).is_some_and(|pid| pid.trim().parse() != Ok(own)) {
        return None;
    }
    let microseconds: u64 = variable(VARIABLES[1])?.trim().parse().ok()?;
    Some(Duration::from_micros(microseconds)).filter(|limit| !limit.is_zero())
}

fn one_line(text: String) -> String {
    let mut text = text.replace(['\r', '\n'], " ");
    let end = (0..=STATUS_BYTES.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.truncate(end.unwrap_or_default());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_counts_when_it_means_this_process() {
        for (time, pid, expected) in [
            (None, None, None),
            (Some("30000000"), None, Some(30)),
            (Some("30000000"), Some("7"), Some(30)),
            (Some("30000000"), Some("8"), None),
            (Some("0"), None, None),
            (Some("soon"), None, None),
        ] {
            let variable = |name: &str| match name {
                "WATCHDOG_USEC" => time.map(str::to_owned),
                "WATCHDOG_PID" => pid.map(str::to_owned),
                _ => None,
            };
            assert_eq!(watchdog(variable, 7), expected.map(Duration::from_secs), "{time:?} {pid:?}");
        }
    }

    #[test]
    fn paths_and_abstract_names_are_addresses() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let name = format!("tunnel-client-test-{}", std::process::id());
        let abstract_address = SocketAddr::from_abstract_name(&name).unwrap();
        for (manager, address) in [
            (UnixDatagram::bind(&path).unwrap(), path.as_os_str().as_bytes().to_vec()),
            (UnixDatagram::bind_addr(&abstract_address).unwrap(), format!("@{name}").into_bytes()),
        ] {
            Manager::at(&address).unwrap().tell("READY=1");
            let mut buffer = [0; 64];
            let length = manager.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"READY=1");
        }
        assert!(Manager::at(b"vsock:2").is_err());
    }

    #[test]
    fn the_status_is_one_line_of_bounded_length() {
        assert_eq!(one_line("a\nb\r\nc".to_owned()), "a b  c");
        let long = one_line("ä".repeat(STATUS_BYTES));
        assert_eq!((long.len(), long.chars().count()), (STATUS_BYTES, STATUS_BYTES / 2));
    }
}
