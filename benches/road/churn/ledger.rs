//! The books of a churn run: which commands were given, how each may end, how each did end.
//!
//! The one rule that is checked: every command gets exactly one terminal answer, of the kind that its fate
//! allows, and none only when its `response_timeout` has passed.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::payload;
use crate::wire;

/// Size of the text in calls.
pub(crate) const TEXT_BYTES: usize = 700;
/// An answer that arrives this long after its deadline was not sent in time.
const LATE_ALLOWANCE: Duration = Duration::from_millis(500);
/// After this long beyond its deadline no answer is waited for.
const GRACE: Duration = Duration::from_millis(800);
/// The time given to commands that are not about time.
const AMPLE: Duration = Duration::from_secs(30);
/// Violations that are kept in words.
const NOTES_MAX: usize = 12;

/// What happens to a command at the MCP server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Fate {
    Answer,
    Stream,
    Slow,
    /// Answered at once, but with hardly any time to do so.
    Tight,
    Reset,
    Status500,
    CutStream,
    /// Never answered; has a short timeout.
    Stall,
    Notification,
    Termination,
    /// For a channel that nobody serves.
    Unroutable,
    ChildAnswer,
    ChildStall,
    /// Ends the stdio server.
    ChildCrash,
}

/// Fates and how many in 1000 commands have them.
const SHARES: [(Fate, u64); 14] = [
    (Fate::Answer, 360),
    (Fate::Stream, 120),
    (Fate::Slow, 60),
    (Fate::Tight, 20),
    (Fate::Reset, 40),
    (Fate::Status500, 50),
    (Fate::CutStream, 40),
    (Fate::Stall, 20),
    (Fate::Notification, 60),
    (Fate::Termination, 30),
    (Fate::Unroutable, 20),
    (Fate::ChildAnswer, 168),
    (Fate::ChildStall, 10),
    (Fate::ChildCrash, 2),
];

impl Fate {
    pub(crate) fn drawn(number: u64) -> Fate {
        let mut left = number % 1000;
        for (fate, share) in SHARES {
            if left < share {
                return fate;
            }
            left -= share;
        }
        Fate::Answer
    }

    /// The tool's name in the call, from which the servers read what to do.
    pub(crate) fn tool(self) -> &'static str {
        match self {
            Fate::Stream => "stream",
            Fate::Slow => "slow",
            Fate::Reset => "reset",
            Fate::Status500 => "status-500",
            Fate::CutStream => "cut-stream",
            Fate::Stall => "stall",
            Fate::ChildStall => "child-stall",
            Fate::ChildCrash => "child-crash",
            _ => "echo",
        }
    }

    pub(crate) fn channel(self) -> &'static str {
        match self {
            Fate::ChildAnswer | Fate::ChildStall | Fate::ChildCrash => "child",
            Fate::Unroutable => "nowhere",
            _ => "main",
        }
    }

    fn timeout(self, draw: u64) -> Duration {
        match self {
            Fate::Stall | Fate::ChildStall => Duration::from_millis(100 + draw % 300),
            Fate::Tight => Duration::from_millis(5 + draw % 40),
            _ => AMPLE,
        }
    }

    /// Whether nothing but the end of its time can end it.
    fn must_expire(self) -> bool {
        matches!(self, Fate::Stall)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) fate: Fate,
    pub(crate) timeout: Duration,
    handed: Option<Instant>,
    ended: bool,
    /// Notifications accepted.
    steps: u8,
    /// A notification was refused or lost, so that later ones may be missing.
    gap: bool,
    /// Faults that its terminal answer has met.
    pub(crate) refusals: u8,
    /// The acceptance of its answer never reached the client, which may then repeat it.
    reply_lost: bool,
    /// Times the MCP server saw it.
    executed: u8,
}

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
pub(crate) struct Books {
    pub(crate) entries: Vec<Entry>,
    pub(crate) open: usize,
    pub(crate) answered: u64,
    pub(crate) expired: u64,
    pub(crate) violations: u64,
    pub(crate) notes: Vec<String>,
}

/// What the control plane shall say to a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ruling {
    Accept,
    Gone,
}

impl Ledger {
    pub(crate) fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    fn violation(&mut self, number: usize, what: &str, evidence: &[u8]) {
        self.violations += 1;
        if self.notes.len() < NOTES_MAX {
            let fate = self.entries.get(number).map(|entry| entry.fate);
            let shown = String::from_utf8_lossy(&evidence[..evidence.len().min(300)]).into_owned();
            self.notes.push(format!("command {number} {fate:?}: {what} {shown}"));
        }
    }

    /// A new command; its number.
    pub(crate) fn open(&mut self, fate: Fate, draw: u64) -> usize {
        self.open += 1;
        self.entries.push(Entry {
            fate,
            timeout: fate.timeout(draw),
            handed: None,
            ended: false,
            steps: 0,
            gap: false,
            refusals: 0,
            reply_lost: false,
            executed: 0,
        });
        self.entries.len() - 1
    }

    /// It was written into a poll's reply.
    pub(crate) fn hand_out(&mut self, number: usize) {
        self.entries[number].handed = Some(Instant::now());
    }

    /// The MCP server received it.
    pub(crate) fn execute(&mut self, number: usize) {
        let Some(entry) = self.entries.get_mut(number) else { return };
        entry.executed = entry.executed.saturating_add(1);
        if entry.executed > 1 {
            self.violation(number, "was sent to the MCP server twice", b"");
        }
    }

    /// Ends what is past its time and its grace. How many that were.
    pub(crate) fn sweep(&mut self) -> usize {
        let now = Instant::now();
        let mut count = 0;
        // Only the youngest entries can be open; an old one that is would be found at the end.
        let from = self.entries.len().saturating_sub(20_000);
        for entry in &mut self.entries[from..] {
            let past = entry.handed.is_some_and(|handed| now > handed + entry.timeout + GRACE);
            if !entry.ended && past && entry.timeout < AMPLE {
                entry.ended = true;
                count += 1;
            }
        }
        self.open -= count;
        self.expired += count as u64;
        count
    }

    /// Records what was left without an answer though it had time.
    pub(crate) fn close(&mut self) {
        let left: Vec<usize> =
            (0..self.entries.len()).filter(|&number| !self.entries[number].ended).collect();
        for number in left {
            self.violation(number, "was never answered", b"");
        }
    }

    /// A notification or answer that no fault has swallowed.
    pub(crate) fn take(&mut self, number: usize, arrived: Instant, body: &[u8]) -> Ruling {
        let Some(entry) = self.entries.get(number).cloned() else {
            self.violation(number, "does not exist", body);
            return Ruling::Gone;
        };
        let deadline = entry.handed.map(|handed| handed + entry.timeout);
        if entry.ended {
            let late = deadline.is_none_or(|deadline| arrived > deadline + LATE_ALLOWANCE);
            if late && entry.timeout < AMPLE {
                self.violation(number, "was answered after its deadline", body);
            } else if !entry.reply_lost {
                self.violation(number, "was answered again", body);
            }
            return Ruling::Gone;
        }
        if deadline.is_none_or(|deadline| arrived > deadline + LATE_ALLOWANCE) {
            self.violation(number, "was answered after its deadline", body);
        }
        let kind = wire::text_after(body, b"\"resp_type\":\"").unwrap_or_default();
        if kind == b"jsonrpc_notify" {
            self.take_notification(number, &entry, body);
            return Ruling::Accept;
        }
        if let Some(what) = fault_of(&entry, number, kind, body) {
            self.violation(number, what, body);
        }
        self.entries[number].ended = true;
        self.open -= 1;
        self.answered += 1;
        Ruling::Accept
    }

    fn take_notification(&mut self, number: usize, entry: &Entry, body: &[u8]) {
        let id = payload::id(0, number as u64);
        let step = (1..=payload::NOTIFICATIONS)
            .find(|&step| wire::find(body, &payload::progress(id.as_bytes(), step)).is_some());
        match step {
            Some(step) if step == entry.steps + 1 || entry.gap && step > entry.steps => {
                self.entries[number].steps = step;
            }
            _ => self.violation(number, "had a notification out of turn", body),
        }
    }

    /// The next POST for it shall be refused or cut: note what that excuses. `accepted` if it counts all the same.
    pub(crate) fn disturb(&mut self, number: usize, notification: bool, accepted: bool) {
        let Some(entry) = self.entries.get_mut(number) else { return };
        if notification {
            entry.gap = true;
        } else {
            entry.refusals += 1;
            entry.reply_lost |= accepted;
        }
    }
}

/// What is wrong with a terminal answer.
fn fault_of(entry: &Entry, number: usize, kind: &[u8], body: &[u8]) -> Option<&'static str> {
    let seq = number as u64;
    let code = wire::find_near_ends(body, b"\"resp_code\":").map(|at| wire::number(&body[at + 12..]));
    let is_echo = || payload::is_echo(body, 0, seq, TEXT_BYTES) && code == Some(200);
    let is_failure = |status: u64| {
        let synthesised = wire::find_near_ends(body, b"\"tunnel_failure\"").is_some();
        payload::has_id(body, 0, seq) && synthesised && code == Some(status)
    };
    let is_error = || payload::has_id(body, 0, seq) && wire::find_near_ends(body, b"\"error\":").is_some();
    let due_kind: &[u8] = match entry.fate {
        Fate::Notification => b"notify_ack",
        Fate::Termination => b"session_termination_response",
        _ => b"jsonrpc_response",
    };
    if kind != due_kind {
        return Some("got an answer of the wrong type");
    }
    if entry.fate.must_expire() {
        return Some("was answered though nobody had answered it");
    }
    let right = match entry.fate {
        Fate::Stream => is_echo() && (entry.steps == payload::NOTIFICATIONS || entry.gap),
        Fate::Reset | Fate::CutStream => is_failure(502),
        Fate::Status500 => is_failure(500),
        Fate::Notification => code == Some(202),
        Fate::Termination => code == Some(204),
        Fate::Unroutable => is_error() && code == Some(400),
        // The child may be down because of a crash that another command asked for.
        Fate::ChildAnswer => is_echo() || is_error(),
        Fate::ChildCrash | Fate::ChildStall => is_error(),
        Fate::Answer | Fate::Slow | Fate::Tight | Fate::Stall => is_echo(),
    };
    (!right).then_some("got the wrong answer")
}
