//! Deadlines on the monotonic clock.

use std::time::{Duration, Instant};

/// A moment after which an operation must not continue; may be "never".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// No deadline.
    pub const NEVER: Deadline = Deadline(None);

    /// At `instant`.
    pub fn at(instant: Instant) -> Deadline {
        Deadline(Some(instant))
    }

    /// `after` from now; a sum beyond the clock's range means never.
    pub fn after(after: Duration) -> Deadline {
        Deadline(Instant::now().checked_add(after))
    }

    /// The moment, if there is one.
    pub fn instant(self) -> Option<Instant> {
        self.0
    }

    /// Whether the moment has come.
    pub fn is_past(self) -> bool {
        self.0.is_some_and(|instant| instant <= Instant::now())
    }

    /// Time left, zero when past; `None` when there is no deadline.
    pub fn remaining(self) -> Option<Duration> {
        self.0.map(|instant| instant.saturating_duration_since(Instant::now()))
    }

    /// The earlier of the two.
    pub fn earliest(self, other: Deadline) -> Deadline {
        match (self.0, other.0) {
            (Some(a), Some(b)) => Deadline(Some(a.min(b))),
            (a, b) => Deadline(a.or(b)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_of_two_deadlines_wins_and_never_loses() {
        let soon = Deadline::after(Duration::from_secs(1));
        let late = Deadline::after(Duration::from_secs(9));
        assert_eq!(soon.earliest(late), soon);
        assert_eq!(Deadline::NEVER.earliest(late), late);
        assert_eq!(Deadline::NEVER.earliest(Deadline::NEVER), Deadline::NEVER);
        assert!(Deadline::after(Duration::ZERO).is_past());
        assert_eq!(Deadline::NEVER.remaining(), None);
    }
}
