//! Regular looks at the proxies in use.
//!
//! Invariant: one thread keeps the time, at most [`CHECKERS`] look at once, and none of them outlives
//! [`ProxyChecks`]. What they find changes neither readiness nor routing.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use crate::net::{Cancel, Trust, check_proxy};
use crate::ops::{CheckRecord, ProxyHealth};

use super::routes::{KnownRoute, Proxied};

/// Checks at the same time.
const CHECKERS: usize = 8;
/// Rounds are this much earlier or later than the interval, as a part of it, so that the clients of a
/// site do not all look at the same moment.
const JITTER: f64 = 0.1;

/// The checks, running until dropped.
pub(super) struct ProxyChecks {
    cancel: Cancel,
    thread: Option<JoinHandle<()>>,
}

impl ProxyChecks {
    /// Checks the proxies of `routes` at once and then every `interval`; without any, does nothing.
    pub(super) fn start(
        routes: &[KnownRoute],
        interval: Duration,
        trust: &Trust,
        health: &Arc<ProxyHealth>,
    ) -> io::Result<ProxyChecks> {
        let proxied: Vec<_> = routes.iter().filter(|route| route.proxied.is_some()).cloned().collect();
        let cancel = Cancel::new();
        if proxied.is_empty() {
            return Ok(ProxyChecks { cancel, thread: None });
        }
        let round = Round {
            routes: proxied,
            trust: trust.clone(),
            cancel: cancel.clone(),
            health: Arc::clone(health),
        };
        let seen = cancel.clone();
        let thread = std::thread::Builder::new().name("proxy-health".into()).spawn(move || {
            loop {
                round.run();
                if seen.wait(jittered(interval)) {
                    return;
                }
            }
        })?;
        Ok(ProxyChecks { cancel, thread: Some(thread) })
    }
}

impl Drop for ProxyChecks {
    fn drop(&mut self) {
        self.cancel.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One look at all of them.
struct Round {
    routes: Vec<KnownRoute>,
    trust: Trust,
    cancel: Cancel,
    health: Arc<ProxyHealth>,
}

impl Round {
    fn run(&self) {
        let next = AtomicUsize::new(0);
        let check_some = || {
            while let Some(route) = self.routes.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Some(proxied) = &route.proxied {
                    self.check(route, proxied);
                }
            }
        };
        std::thread::scope(|scope| {
            for number in 1..CHECKERS.min(self.routes.len()) {
                let checker = std::thread::Builder::new().name(format!("proxy-check-{number}"));
                if let Err(error) = checker.spawn_scoped(scope, check_some) {
                    log::warn!(target: "proxyhealth", error:%; "checking with fewer threads");
                    break;
                }
            }
            check_some();
        });
    }

    fn check(&self, route: &KnownRoute, proxied: &Proxied) {
        let found = check_proxy(&proxied.proxy, proxied.tunnel.as_deref(), &self.trust, &self.cancel);
        if self.cancel.is_cancelled() {
            return;
        }
        let failure = found.failure.map(|failure| (failure.phase, failure.reason));
        if let Some((phase, reason)) = failure {
            log::debug!(target: "proxyhealth", proxy_id = route.description.proxy_id.as_str(),
                proxy_url = route.description.proxy_url.as_str(), error_phase = phase, error_reason = reason;
                "proxy check failed");
        }
        self.health.record(
            &route.description,
            CheckRecord {
                at: SystemTime::now(),
                tcp: Some(found.tcp),
                connect: found.connect,
                failure,
                status: found.status,
            },
        );
    }
}

fn jittered(interval: Duration) -> Duration {
    let unit = getrandom::u32().map_or(0.5, |value| f64::from(value) / f64::from(u32::MAX));
    interval.mul_f64(1.0 - JITTER + 2.0 * JITTER * unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_spread_around_the_interval() {
        for _ in 0..100 {
            let pause = jittered(Duration::from_secs(60));
            assert!((Duration::from_secs(54)..=Duration::from_secs(66)).contains(&pause), "{pause:?}");
        }
    }
}
