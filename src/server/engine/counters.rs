//! What the engine counts, for the metrics page. All of it is counted without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::answer::AnswerKind;
use super::command::Kind;

/// How a held request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// Every outcome, in the order of their declaration.
    pub(crate) const ALL: [Outcome; 5] =
        [Outcome::Answered, Outcome::Timeout, Outcome::Cancelled, Outcome::ExpiredQueued, Outcome::Refused];

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

/// Who asked for a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A connector.
    Connector,
    /// This server, on behalf of an OAuth request.
    OauthShim,
}

impl Origin {
    /// Every origin, in the order of their declaration.
    pub(crate) const ALL: [Origin; 2] = [Origin::Connector, Origin::OauthShim];

    /// The label's value.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Origin::Connector => "connector",
            Origin::OauthShim => "oauth_shim",
        }
    }
}

/// What became of a response POST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PostResult {
    Ok,
    NotFound,
    Mismatch,
    TooLarge,
    Invalid,
}

impl PostResult {
    /// Every result, in the order of their declaration.
    pub(crate) const ALL: [PostResult; 5] = [
        PostResult::Ok,
        PostResult::NotFound,
        PostResult::Mismatch,
        PostResult::TooLarge,
        PostResult::Invalid,
    ];

    /// The label's value.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            PostResult::Ok => "ok",
            PostResult::NotFound => "not_found",
            PostResult::Mismatch => "mismatch",
            PostResult::TooLarge => "too_large",
            PostResult::Invalid => "invalid",
        }
    }
}

/// Upper bounds of the histograms' buckets, in seconds.
pub(crate) const BUCKETS: [f64; 12] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 120.0];

/// Durations in buckets.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    counts: [AtomicU64; BUCKETS.len() + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    fn observe(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        let bucket = BUCKETS.iter().position(|bound| seconds <= *bound).unwrap_or(BUCKETS.len());
        add(&self.counts[bucket]);
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// Observations per bucket, not cumulative; the last one is beyond all bounds.
    pub(crate) fn counts(&self) -> impl Iterator<Item = u64> {
        self.counts.iter().map(get)
    }

    /// Sum of all observations in seconds.
    pub(crate) fn sum(&self) -> f64 {
        get(&self.sum_us) as f64 / 1e6
    }
}

/// Kinds of response POSTs; the last one is for those whose kind was never read.
const POST_KINDS: usize = AnswerKind::ALL.len() + 1;

/// Counters of one engine.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    commands: [[[AtomicU64; Outcome::ALL.len()]; Kind::ALL.len()]; Origin::ALL.len()],
    queue_seconds: [Histogram; Kind::ALL.len()],
    total_seconds: [Histogram; Kind::ALL.len()],
    posts: [[AtomicU64; PostResult::ALL.len()]; POST_KINDS],
    notifications_dropped: AtomicU64,
    requeued: AtomicU64,
}

impl Counters {
    pub(crate) fn command_refused(&self, origin: Origin, kind: Kind) {
        add(&self.commands[origin as usize][kind as usize][Outcome::Refused as usize]);
    }

    pub(crate) fn command_ended(
        &self,
        origin: Origin,
        kind: Kind,
        outcome: Outcome,
        queued: Option<Duration>,
        total: Duration,
    ) {
        add(&self.commands[origin as usize][kind as usize][outcome as usize]);
        if let Some(queued) = queued {
            self.queue_seconds[kind as usize].observe(queued);
        }
        self.total_seconds[kind as usize].observe(total);
    }

    pub(crate) fn response_posted(&self, kind: Option<AnswerKind>, result: PostResult) {
        let kind = kind.map_or(POST_KINDS - 1, |kind| kind as usize);
        add(&self.posts[kind][result as usize]);
    }

    pub(crate) fn notification_dropped(&self) {
        add(&self.notifications_dropped);
    }

    pub(crate) fn requeued(&self, count: usize) {
        self.requeued.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Commands that ended so.
    pub(crate) fn commands(&self, origin: Origin, kind: Kind, outcome: Outcome) -> u64 {
        get(&self.commands[origin as usize][kind as usize][outcome as usize])
    }

    /// Time from arrival to delivery.
    pub(crate) fn queue_seconds(&self, kind: Kind) -> &Histogram {
        &self.queue_seconds[kind as usize]
    }

    /// Time from arrival to the end.
    pub(crate) fn total_seconds(&self, kind: Kind) -> &Histogram {
        &self.total_seconds[kind as usize]
    }

    /// Response POSTs by `resp_type` (`unknown` if it was never read) and result.
    pub(crate) fn posts(&self) -> impl Iterator<Item = (&'static str, PostResult, u64)> {
        let kinds = AnswerKind::ALL.iter().map(|kind| kind.as_str()).chain(["unknown"]);
        kinds.zip(&self.posts).flat_map(|(kind, results)| {
            PostResult::ALL.into_iter().zip(results).map(move |(result, count)| (kind, result, get(count)))
        })
    }

    /// Notifications dropped because their buffer stayed full.
    pub(crate) fn notifications_dropped_total(&self) -> u64 {
        get(&self.notifications_dropped)
    }

    /// Commands put back because a poll's reply could not be written.
    pub(crate) fn requeued_total(&self) -> u64 {
        get(&self.requeued)
    }
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
