//! Host names to addresses.
//!
//! Literals and `localhost` need no look-up. Everything else goes through `getaddrinfo`, which can be
//! neither cancelled nor timed: it runs on a thread of its own that the caller joins. A caller that
//! gives up leaves the thread to be joined by a later look-up. Invariant: never more than
//! [`MAX_LOOKUPS`] such threads.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded, select};

use super::socket::cancelled;
use crate::net::error::is_exhaustion;
use crate::net::{Cancel, Cause, Deadline, Error};

/// Look-ups that may run at once; more callers wait.
const MAX_LOOKUPS: usize = 4;

/// `getaddrinfo` needs more stack than our own code, but far less than the default.
const STACK_BYTES: usize = 256 * 1024;

/// Addresses tried for one name.
const MAX_ADDRESSES: usize = 16;

/// The addresses of `host` in the order in which they are to be tried; never empty.
pub(crate) fn resolve(
    host: &str,
    port: u16,
    deadline: Deadline,
    cancel: &Cancel,
) -> Result<Vec<SocketAddr>, Error> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    if is_localhost(host) {
        let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        return Ok(loopback.map(|address| SocketAddr::new(address, port)).to_vec());
    }
    let name = host.to_owned();
    let found = Lookups::shared().run(deadline, cancel, move || look_up(&name, port));
    let failed = |why: &str| Error::before_writing(Cause::Dns, format!("cannot resolve {host}: {why}"));
    match found {
        Ok(Ok(addresses)) if addresses.is_empty() => Err(failed("it has no address")),
        Ok(Ok(addresses)) => Ok(alternate_families(addresses)),
        Ok(Err(e)) if is_exhaustion(&e) => Err(Error { cause: Cause::Exhausted, ..failed(&reason(&e)) }),
        Ok(Err(e)) => Err(failed(&reason(&e))),
        Err(GaveUp::Cancelled) => Err(cancelled()),
        Err(GaveUp::Late) => Err(failed("the name service did not answer in time")),
        Err(GaveUp::NoThread) => Err(failed("no thread could be started")),
    }
}

/// `localhost` and names below it are loopback, whatever a name service says (RFC 6761 §6.3).
pub(crate) fn is_localhost(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let tail = host.len().checked_sub("localhost".len()).and_then(|start| host.get(start..));
    tail.is_some_and(|tail| tail.eq_ignore_ascii_case("localhost"))
        && (host.len() == "localhost".len() || host[..host.len() - "localhost".len()].ends_with('.'))
}

fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok((host, port).to_socket_addrs()?.take(MAX_ADDRESSES).collect())
}

/// The resolver's own words, without the prefix that `std` puts before them.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.rsplit_once("address information: ").map_or(text.clone(), |(_, reason)| reason.to_owned())
}

/// Keeps the resolver's order within a family, and lets the families take turns, so that one family
/// without a route costs one attempt and not all of them (RFC 8305 §4).
fn alternate_families(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|a| a.is_ipv6() == first_is_v6);
    let mut mixed = Vec::with_capacity(first.len() + second.len());
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    loop {
        match (first.next(), second.next()) {
            (None, None) => return mixed,
            (a, b) => mixed.extend(a.into_iter().chain(b)),
        }
    }
}

/// Bounded, joined threads for calls that cannot be interrupted.
struct Lookups {
    permits: (Sender<()>, Receiver<()>),
    /// Threads whose callers gave up.
    abandoned: Mutex<Vec<JoinHandle<()>>>,
}

/// The right to one thread; given back when dropped, whatever became of the thread.
struct Permit(Sender<()>);

impl Drop for Permit {
    fn drop(&mut self) {
        let _ = self.0.try_send(());
    }
}

#[derive(Debug, PartialEq, Eq)]
enum GaveUp {
    Cancelled,
    Late,
    NoThread,
}

impl Lookups {
    fn new(threads: usize) -> Lookups {
        let permits = bounded(threads);
        for _ in 0..threads {
            // Cannot fail: the channel has room for exactly these.
            let _ = permits.0.try_send(());
        }
        Lookups { permits, abandoned: Mutex::default() }
    }

    fn shared() -> &'static Lookups {
        static SHARED: OnceLock<Lookups> = OnceLock::new();
        SHARED.get_or_init(|| Lookups::new(MAX_LOOKUPS))
    }

    fn run<T: Send + 'static>(
        &self,
        deadline: Deadline,
        cancel: &Cancel,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, GaveUp> {
        self.join_finished();
        receive(&self.permits.1, deadline, cancel)?;
        let permit = Permit(self.permits.0.clone());
        let (sender, receiver) = bounded(1);
        let thread =
            thread::Builder::new().name("resolver".into()).stack_size(STACK_BYTES).spawn(move || {
                let value = call();
                drop(permit);
                let _ = sender.send(value);
            });
        let Ok(thread) = thread else { return Err(GaveUp::NoThread) };
        let value = receive(&receiver, deadline, cancel);
        if value.is_ok() {
            let _ = thread.join();
        } else {
            self.abandoned.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        }
        value
    }

    fn join_finished(&self) {
        let mut abandoned = self.abandoned.lock().unwrap_or_else(PoisonError::into_inner);
        for index in (0..abandoned.len()).rev() {
            if abandoned[index].is_finished() {
                let _ = abandoned.swap_remove(index).join();
            }
        }
    }
}

fn receive<T>(receiver: &Receiver<T>, deadline: Deadline, cancel: &Cancel) -> Result<T, GaveUp> {
    let never = crossbeam_channel::never();
    let late = deadline.instant().map(crossbeam_channel::at);
    select! {
        recv(receiver) -> value => value.map_err(|_| GaveUp::NoThread),
        recv(cancel.receiver()) -> _ => Err(GaveUp::Cancelled),
        recv(late.as_ref().unwrap_or(&never)) -> _ => Err(GaveUp::Late),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn literals_and_localhost_need_no_lookup() {
        let resolve = |host| resolve(host, 80, Deadline::after(Duration::ZERO), &Cancel::new()).unwrap();
        assert_eq!(resolve("127.0.0.2"), ["127.0.0.2:80".parse().unwrap()]);
        assert_eq!(resolve("::1"), ["[::1]:80".parse().unwrap()]);
        for host in ["localhost", "LocalHost.", "a.localhost"] {
            assert_eq!(resolve(host), ["127.0.0.1:80".parse().unwrap(), "[::1]:80".parse().unwrap()]);
        }
        for host in ["xlocalhost", "localhost.example", "local"] {
            assert!(!is_localhost(host), "{host}");
        }
    }

    #[test]
    fn families_take_turns() {
        let parse = |list: &[&str]| list.iter().map(|a| a.parse().unwrap()).collect::<Vec<SocketAddr>>();
        let mixed = alternate_families(parse(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"]));
        assert_eq!(mixed, parse(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"]));
    }

    #[test]
    fn a_hanging_lookup_ends_at_the_deadline_and_with_the_cancellation_and_is_joined_later() {
        let lookups = Lookups::new(1);
        let (release, held) = bounded::<()>(0);
        let hang = move || held.recv().is_ok();
        let soon = Deadline::after(Duration::from_millis(20));
        assert_eq!(lookups.run(soon, &Cancel::new(), hang), Err(GaveUp::Late));

        // The one permit is taken: the next caller waits for it, and can be cancelled there.
        let cancel = Cancel::new();
        cancel.cancel();
        assert_eq!(lookups.run(Deadline::NEVER, &cancel, || 1), Err(GaveUp::Cancelled));

        drop(release);
        assert_eq!(lookups.run(Deadline::NEVER, &Cancel::new(), || 2), Ok(2));
        while !lookups.abandoned.lock().unwrap().is_empty() {
            lookups.join_finished();
        }
    }

    #[test]
    fn a_lookup_that_panics_takes_no_permit_with_it() {
        let lookups = Lookups::new(1);
        let panics = || -> i32 { panic!("expected in this test") };
        assert_eq!(lookups.run(Deadline::NEVER, &Cancel::new(), panics), Err(GaveUp::NoThread));
        let soon = Deadline::after(Duration::from_secs(20));
        assert_eq!(lookups.run(soon, &Cancel::new(), || 2), Ok(2));
    }

    #[test]
    fn a_name_that_does_not_exist_is_a_name_failure() {
        let deadline = Deadline::after(Duration::from_secs(30));
        let error = resolve("no-such-host.invalid", 80, deadline, &Cancel::new()).unwrap_err();
        assert_eq!(error.cause, Cause::Dns);
        assert!(error.message.contains("no-such-host.invalid"), "{error}");
    }
}
