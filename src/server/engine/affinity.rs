//! Which client gets the work of a channel where clients say that it depends on their process.
//!
//! The first client that takes work of such a channel keeps getting it until its lease lapses. A session
//! stays with the client that began it: another process would not know it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::presence::Presence;
use crate::ids::Channel;

/// Sessions remembered per tunnel.
const SESSIONS: usize = 4096;

/// Owners of channels and sessions of one tunnel.
pub(super) struct Affinity {
    lease: Duration,
    owners: HashMap<Channel, Arc<str>>,
    sessions: HashMap<(Channel, String), Arc<str>>,
    oldest: VecDeque<(Channel, String)>,
}

/// Where a request of a session has to go.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Bound {
    /// To whoever owns the channel.
    Nowhere,
    /// To this client.
    To(Arc<str>),
    /// To a client that is gone.
    Gone,
}

impl Affinity {
    /// `lease` is how long a client keeps a channel without being heard of.
    pub(super) fn new(lease: Duration) -> Affinity {
        Affinity { lease, owners: HashMap::new(), sessions: HashMap::new(), oldest: VecDeque::new() }
    }

    /// The client that alone gets work of `channel` at present.
    pub(super) fn owner(&self, channel: &Channel, presence: &Presence, now: Instant) -> Option<&Arc<str>> {
        let owner = self.owners.get(channel)?;
        let owns = presence.is_affine(channel, now) && self.lasts(owner, presence, now);
        owns.then_some(owner)
    }

    /// Whether that client still holds what it was given.
    pub(super) fn lasts(&self, instance: &str, presence: &Presence, now: Instant) -> bool {
        presence.holds_lease(instance, self.lease, now)
    }

    /// A client took work of `channel` that was for nobody in particular.
    pub(super) fn took(&mut self, channel: &Channel, instance: &str, presence: &Presence, now: Instant) {
        let is_new = self.owners.get(channel).is_none_or(|owner| **owner != *instance);
        if is_new && presence.is_affine(channel, now) {
            // Clients come and go with channels of their own: what none of them serves has no owner.
            self.owners.retain(|channel, _| presence.is_affine(channel, now));
            self.owners.insert(channel.clone(), Arc::from(instance));
        }
    }

    /// A client began a session.
    pub(super) fn bind(&mut self, channel: &Channel, session: &str, instance: &str) {
        let key = (channel.clone(), session.to_owned());
        if self.sessions.insert(key.clone(), Arc::from(instance)).is_none() {
            self.oldest.push_back(key);
        }
        if self.oldest.len() > SESSIONS
            && let Some(key) = self.oldest.pop_front()
        {
            self.sessions.remove(&key);
        }
    }

    /// Where a request of `session` has to go.
    pub(super) fn bound(&self, channel: &Channel, session: &str, presence: &Presence, now: Instant) -> Bound {
        match self.sessions.get(&(channel.clone(), session.to_owned())) {
            None => Bound::Nowhere,
            Some(instance) if self.lasts(instance, presence, now) => Bound::To(Arc::clone(instance)),
            Some(_) => Bound::Gone,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::presence::{About, ClientKey};
    use super::super::queue::Subscription;
    use super::*;

    const LEASE: Duration = Duration::from_secs(10);
    const INFO: &str = r#"{"version":1,"channels":[{"name":"main","proc_affinity":true}]}"#;

    const SAID: About<'_> = About { info: Some(INFO), name: "", version: "" };

    fn key(instance: &str) -> Arc<ClientKey> {
        Arc::new(ClientKey { instance: instance.to_owned(), subscription: Arc::new(Subscription::All) })
    }

    #[test]
    fn the_first_to_take_work_owns_the_channel_until_its_lease_lapses() {
        let (mut affinity, main) = (Affinity::new(LEASE), Channel::main());
        let mut presence = Presence::new(Duration::from_secs(20));
        let (a, start) = (key("a"), Instant::now());
        assert!(presence.poll_began(&a, &SAID, start));
        affinity.took(&main, "a", &presence, start);
        let owner = |affinity: &Affinity, presence: &Presence, now| {
            affinity.owner(&main, presence, now).map(|owner| owner.to_string())
        };
        let much_later = start + LEASE * 3;
        assert_eq!(owner(&affinity, &presence, much_later).as_deref(), Some("a"), "a parked poll renews");
        presence.poll_ended(&a, start, false);
        assert_eq!(owner(&affinity, &presence, start + LEASE).as_deref(), Some("a"));
        assert_eq!(owner(&affinity, &presence, start + LEASE + Duration::from_secs(1)), None);
        // A poll that broke off and is not followed by another counts for less.
        assert!(presence.poll_began(&a, &SAID, start));
        presence.poll_ended(&a, start, true);
        assert_eq!(owner(&affinity, &presence, start + Duration::from_secs(1)).as_deref(), Some("a"));
        assert_eq!(owner(&affinity, &presence, start + Duration::from_secs(3)), None);
    }

    #[test]
    fn owners_of_channels_that_nobody_serves_are_forgotten() {
        let (mut affinity, main) = (Affinity::new(LEASE), Channel::main());
        let mut presence = Presence::new(Duration::from_secs(20));
        let start = Instant::now();
        let take = |affinity: &mut Affinity, presence: &mut Presence, instance: &str, channel: &str, now| {
            let info = INFO.replace("main", channel);
            let client = key(instance);
            assert!(presence.poll_began(&client, &About { info: Some(&info), ..SAID }, now));
            presence.poll_ended(&client, now, false);
            affinity.took(&Channel::parse(channel).unwrap(), instance, presence, now);
        };
        take(&mut affinity, &mut presence, "a", "x", start);
        take(&mut affinity, &mut presence, "b", "y", start);
        assert_eq!(affinity.owners.len(), 2);
        take(&mut affinity, &mut presence, "c", "main", start + Duration::from_secs(60));
        assert_eq!(affinity.owners.keys().collect::<Vec<_>>(), [&main]);
    }

    #[test]
    fn a_session_stays_with_its_client() {
        let (mut affinity, main) = (Affinity::new(LEASE), Channel::main());
        let mut presence = Presence::new(Duration::from_secs(20));
        let (a, start) = (key("a"), Instant::now());
        assert!(presence.poll_began(&a, &SAID, start));
        presence.poll_ended(&a, start, false);
        affinity.bind(&main, "s", "a");
        assert_eq!(affinity.bound(&main, "s", &presence, start), Bound::To("a".into()));
        assert_eq!(affinity.bound(&main, "other", &presence, start), Bound::Nowhere);
        assert_eq!(affinity.bound(&main, "s", &presence, start + LEASE * 2), Bound::Gone);
        for number in 0..SESSIONS {
            affinity.bind(&main, &number.to_string(), "a");
        }
        assert_eq!(affinity.sessions.len(), SESSIONS);
        assert_eq!(affinity.bound(&main, "s", &presence, start), Bound::Nowhere);
    }
}
