//! The query of a poll.

use std::collections::BTreeSet;
use std::time::Duration;

use super::route::percent_decode;
use crate::ids::Channel;
use crate::server::engine::Subscription;

/// Commands of one poll at the most.
const LIMIT_MAX: usize = 25;

/// What a poll gets when it does not say, and how long it may park.
#[derive(Clone, Copy, Debug)]
pub(super) struct PollDefaults {
    pub(super) limit: usize,
    pub(super) wait: Duration,
    pub(super) wait_max: Duration,
}

/// What a poll asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PollQuery {
    pub(super) limit: usize,
    pub(super) wait: Duration,
    pub(super) subscription: Subscription,
}

/// Which parameter is wrong.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BadQuery {
    Limit,
    Timeout,
    Channel,
}

impl PollQuery {
    /// Reads `query`; unknown parameters are ignored.
    pub(super) fn parse(query: &str, defaults: &PollDefaults) -> Result<PollQuery, BadQuery> {
        let mut parsed =
            PollQuery { limit: defaults.limit, wait: defaults.wait, subscription: Subscription::All };
        let mut channels = BTreeSet::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "limit" => {
                    let limit = number(value).ok_or(BadQuery::Limit)?;
                    if !(1..=LIMIT_MAX as u64).contains(&limit) {
                        return Err(BadQuery::Limit);
                    }
                    parsed.limit = limit as usize;
                }
                "timeout_ms" => {
                    let wait = number(value).filter(|ms| *ms > 0).ok_or(BadQuery::Timeout)?;
                    parsed.wait = Duration::from_millis(wait);
                }
                "channel" => {
                    let plain = value.replace('+', " ");
                    let name = percent_decode(&plain).ok_or(BadQuery::Channel)?;
                    channels.insert(Channel::parse(&name).map_err(|_| BadQuery::Channel)?);
                }
                _ => {}
            }
        }
        parsed.wait = parsed.wait.min(defaults.wait_max);
        if !channels.is_empty() {
            parsed.subscription = Subscription::Only(channels);
        }
        Ok(parsed)
    }
}

/// A decimal number; one too large to hold counts as the largest.
fn number(value: &str) -> Option<u64> {
    let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| value.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULTS: PollDefaults =
        PollDefaults { limit: 25, wait: Duration::from_secs(30), wait_max: Duration::from_secs(55) };

    #[test]
    fn parameters_are_read_bounded_and_defaulted() {
        let parse = |query: &str| PollQuery::parse(query, &DEFAULTS);
        let plain = parse("").unwrap();
        assert_eq!((plain.limit, plain.wait), (25, Duration::from_secs(30)));
        assert_eq!(plain.subscription, Subscription::All);
        let full = parse("channel=main&limit=5&x=y&timeout_ms=1500&channel=Harpoon&channel=%6dain").unwrap();
        assert_eq!((full.limit, full.wait), (5, Duration::from_millis(1500)));
        let harpoon = Channel::parse("harpoon").unwrap();
        assert_eq!(full.subscription, Subscription::Only([Channel::main(), harpoon].into()));
        for huge in ["timeout_ms=60000", "timeout_ms=99999999999999999999999"] {
            assert_eq!(parse(huge).unwrap().wait, Duration::from_secs(55));
        }
    }

    #[test]
    fn what_is_out_of_range_or_no_number_is_refused() {
        for (query, bad) in [
            ("limit=0", BadQuery::Limit),
            ("limit=26", BadQuery::Limit),
            ("limit=x", BadQuery::Limit),
            ("limit=", BadQuery::Limit),
            ("limit", BadQuery::Limit),
            ("limit=-1", BadQuery::Limit),
            ("limit=+5", BadQuery::Limit),
            ("limit=1.0", BadQuery::Limit),
            ("timeout_ms=0", BadQuery::Timeout),
            ("timeout_ms=1s", BadQuery::Timeout),
            ("channel=bad%20name", BadQuery::Channel),
            ("channel=%zz", BadQuery::Channel),
        ] {
            assert_eq!(PollQuery::parse(query, &DEFAULTS).unwrap_err(), bad, "{query}");
        }
    }
}
