//! What the engine counts, for the metrics page.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::command::Kind;

/// How a held request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// The client's terminal answer was passed on.
    Answered,
    /// Delivered, but not answered in time.
    Timeout,
    /// The caller left, or the tunnel or the server went away.
    Cancelled,
    /// No client took it in time.
    ExpiredQueued,
    /// Not admitted.
    Refused,
}

impl Outcome {
    /// The label's value.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Outcome::Answered => "answered",
            Outcome::Timeout => "timeout",
            Outcome::Cancelled => "cancelled",
            Outcome::ExpiredQueued => "expired_queued",
            Outcome::Refused => "refused",
        }
    }
}

/// Upper bounds of the histograms' buckets, in seconds.
pub(crate) const BUCKETS: [f64; 12] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 120.0];

/// Durations in buckets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Histogram {
    /// Observations per bucket, not cumulative; the last one is beyond all bounds.
    pub(crate) counts: [u64; BUCKETS.len() + 1],
    /// Sum of all observations in seconds.
    pub(crate) sum: f64,
}

impl Histogram {
    fn observe(&mut self, time: Duration) {
        let seconds = time.as_secs_f64();
        let bucket = BUCKETS.iter().position(|bound| seconds <= *bound).unwrap_or(BUCKETS.len());
        self.counts[bucket] += 1;
        self.sum += seconds;
    }
}

/// Counters keyed by labels.
#[derive(Clone, Debug, Default)]
pub(crate) struct Labelled {
    /// Commands by type and outcome.
    pub(crate) commands: BTreeMap<(Kind, Outcome), u64>,
    /// Time from arrival to delivery by type.
    pub(crate) queue_seconds: BTreeMap<Kind, Histogram>,
    /// Time from arrival to the end by type.
    pub(crate) total_seconds: BTreeMap<Kind, Histogram>,
    /// Posted responses by `resp_type` (or `unknown`) and result.
    pub(crate) responses: BTreeMap<(&'static str, &'static str), u64>,
    /// HTTP requests by route and status.
    pub(crate) http: BTreeMap<(&'static str, u16), u64>,
}

/// Counters of one engine.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    labelled: Mutex<Labelled>,
    notifications_dropped: AtomicU64,
    requeued: AtomicU64,
}

impl Counters {
    pub(crate) fn command_ended(
        &self,
        kind: Kind,
        outcome: Outcome,
        queued: Option<Duration>,
        total: Option<Duration>,
    ) {
        self.with(|labelled| {
            *labelled.commands.entry((kind, outcome)).or_default() += 1;
            if let Some(queued) = queued {
                labelled.queue_seconds.entry(kind).or_default().observe(queued);
            }
            if let Some(total) = total {
                labelled.total_seconds.entry(kind).or_default().observe(total);
            }
        });
    }

    pub(crate) fn response_posted(&self, kind: &'static str, result: &'static str) {
        self.with(|labelled| *labelled.responses.entry((kind, result)).or_default() += 1);
    }

    pub(crate) fn http_answered(&self, route: &'static str, status: u16) {
        self.with(|labelled| *labelled.http.entry((route, status)).or_default() += 1);
    }

    pub(crate) fn notification_dropped(&self) {
        self.notifications_dropped.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn requeued(&self, count: usize) {
        self.requeued.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Notifications dropped because their buffer stayed full.
    pub(crate) fn notifications_dropped_total(&self) -> u64 {
        self.notifications_dropped.load(Ordering::Relaxed)
    }

    /// Commands put back because a poll's reply could not be written.
    pub(crate) fn requeued_total(&self) -> u64 {
        self.requeued.load(Ordering::Relaxed)
    }

    /// A copy of everything that has labels.
    pub(crate) fn labelled(&self) -> Labelled {
        self.with(|labelled| labelled.clone())
    }

    fn with<T>(&self, read: impl FnOnce(&mut Labelled) -> T) -> T {
        read(&mut self.labelled.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
