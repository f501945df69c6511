//! Which clients serve a tunnel at present.
//!
//! A client that has commands in hand counts as present without polling: one with a full queue does not.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::declared::Declared;
use super::queue::Subscription;
use crate::ids::Channel;

/// How long a tunnel counts as "has been polled".
const RETENTION: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a client whose poll broke off may take to poll again before its leases lapse.
const BROKEN_TIME: Duration = Duration::from_secs(2);
/// Characters kept of what a client calls itself.
const TEXT_CHARS: usize = 64;
/// Clients remembered per tunnel.
const CLIENTS: usize = 1024;

/// A client process, as far as it identifies itself, and what it polls for.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct ClientKey {
    /// `X-Tunnel-Client-Instance-Id`; empty when not sent.
    pub(crate) instance: String,
    /// The channels of its polls.
    pub(crate) subscription: Arc<Subscription>,
}

/// What a client says about itself with every poll.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct About<'a> {
    /// `X-Tunnel-MCP-Server-Info`.
    pub(crate) info: Option<&'a str>,
    /// `X-Tunnel-Client-Name`.
    pub(crate) name: &'a str,
    /// `X-Tunnel-Client-Version`.
    pub(crate) version: &'a str,
}

/// A client as administrators see it.
#[derive(Clone, Debug)]
pub(crate) struct ClientView {
    pub(crate) key: Arc<ClientKey>,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) declared: Option<Declared>,
    pub(crate) first_seen: SystemTime,
    /// How long ago it was heard of.
    pub(crate) silent: Duration,
    pub(crate) polls: u32,
    pub(crate) in_hand: u32,
    pub(crate) delivered: u64,
    pub(crate) answered: u64,
}

struct Client {
    first_seen: SystemTime,
    seen: Instant,
    name: Box<str>,
    version: Box<str>,
    delivered: u64,
    answered: u64,
    polls: u32,
    in_hand: u32,
    /// When its last poll broke off, if it did and no other followed.
    broken: Option<Instant>,
    /// The last declaration as sent, so that an unchanged one costs a comparison only.
    info: Option<Box<str>>,
    declared: Option<Declared>,
}

/// Whether clients serve a channel, by their own account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Declares {
    /// One that is connected says so.
    Yes,
    /// One that is connected says nothing about its channels.
    Unknown,
    /// All that are connected name other channels.
    No,
}

/// What is known of a tunnel's clients.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Somebody can serve the channel.
    Connected,
    /// Somebody could, but has not been heard of for too long.
    Absent,
    /// Nobody has polled the tunnel (within the retention).
    NeverSeen,
}

/// The clients of one tunnel.
pub(super) struct Presence {
    last_seen_timeout: Duration,
    clients: HashMap<Arc<ClientKey>, Client>,
    polled: Option<Instant>,
    responded: Option<Instant>,
    /// The client that answered the last question: usually the next one as well.
    recent: Option<Arc<ClientKey>>,
}

impl Presence {
    pub(super) fn new(last_seen_timeout: Duration) -> Presence {
        Presence { last_seen_timeout, clients: HashMap::new(), polled: None, responded: None, recent: None }
    }

    /// A poll begins, with what the client says about itself; false when its declaration cannot be read.
    pub(super) fn poll_began(&mut self, key: &Arc<ClientKey>, about: &About<'_>, now: Instant) -> bool {
        self.polled = Some(now);
        if !self.clients.contains_key(key) && self.clients.len() >= CLIENTS {
            self.forget_one(now);
        }
        let client = self.clients.entry(Arc::clone(key)).or_insert_with(|| Client {
            first_seen: SystemTime::now(),
            seen: now,
            name: Box::default(),
            version: Box::default(),
            delivered: 0,
            answered: 0,
            polls: 0,
            in_hand: 0,
            broken: None,
            info: None,
            declared: None,
        });
        client.seen = now;
        client.polls += 1;
        client.broken = None;
        for (have, said) in [(&mut client.name, about.name), (&mut client.version, about.version)] {
            if **have != *said {
                *have = said.chars().take(TEXT_CHARS).collect();
            }
        }
        let info = about.info;
        if client.info.as_deref() == info {
            return true;
        }
        client.info = info.map(Box::from);
        client.declared = info.and_then(Declared::parse);
        info.is_none() == client.declared.is_none()
    }

    /// A poll is seen to be alive.
    pub(super) fn poll_seen(&mut self, key: &Arc<ClientKey>, now: Instant) {
        self.polled = Some(now);
        if let Some(client) = self.clients.get_mut(key) {
            client.seen = now;
        }
    }

    /// A poll ends; `broken` when its peer went away.
    pub(super) fn poll_ended(&mut self, key: &Arc<ClientKey>, now: Instant, broken: bool) {
        self.poll_seen(key, now);
        if let Some(client) = self.clients.get_mut(key) {
            client.polls = client.polls.saturating_sub(1);
            client.broken = broken.then_some(now);
        }
    }

    /// A response was posted.
    pub(super) fn responded(&mut self, now: Instant) {
        self.responded = Some(now);
    }

    /// A command was handed to the client.
    pub(super) fn took(&mut self, key: &Arc<ClientKey>) {
        if let Some(client) = self.clients.get_mut(key) {
            client.in_hand += 1;
            client.delivered += 1;
        }
    }

    /// The client answered a command.
    pub(super) fn answered(&mut self, key: &Arc<ClientKey>, now: Instant) {
        if let Some(client) = self.clients.get_mut(key) {
            client.in_hand = client.in_hand.saturating_sub(1);
            client.seen = now;
            client.answered += 1;
        }
    }

    /// A command in the client's hands ended, or came back.
    pub(super) fn released(&mut self, key: &Arc<ClientKey>) {
        if let Some(client) = self.clients.get_mut(key) {
            client.in_hand = client.in_hand.saturating_sub(1);
        }
    }

    /// Whether anybody can serve `channel`.
    pub(super) fn standing(&mut self, channel: &Channel, now: Instant) -> Standing {
        let within = |moment: Instant, time| now.saturating_duration_since(moment) <= time;
        if self.polled.is_none_or(|polled| !within(polled, RETENTION)) {
            return Standing::NeverSeen;
        }
        if self.responded.is_some_and(|responded| within(responded, self.last_seen_timeout)) {
            return Standing::Connected;
        }
        let connected =
            |key: &ClientKey, client: &Client| self.is_here(client, now) && key.subscription.covers(channel);
        if let Some(key) = &self.recent
            && self.clients.get(key).is_some_and(|client| connected(key, client))
        {
            return Standing::Connected;
        }
        self.recent =
            self.clients.iter().find(|(key, client)| connected(key, client)).map(|(key, _)| Arc::clone(key));
        if self.recent.is_some() { Standing::Connected } else { Standing::Absent }
    }

    /// Whether that very client can serve `channel`.
    pub(super) fn is_connected(&self, instance: &str, channel: &Channel, now: Instant) -> bool {
        self.clients.iter().any(|(key, client)| {
            key.instance == instance && key.subscription.covers(channel) && self.is_here(client, now)
        })
    }

    /// Whether anybody who is connected serves `channel`, by their own account.
    pub(super) fn declares(&self, channel: &Channel, now: Instant) -> Declares {
        let here = |(key, client): &(&Arc<ClientKey>, &Client)| {
            key.subscription.covers(channel) && self.is_here(client, now)
        };
        let mut all = Declares::No;
        for (_, client) in self.clients.iter().filter(here) {
            match &client.declared {
                Some(declared) if declared.serves(channel) => return Declares::Yes,
                Some(_) => {}
                None => all = Declares::Unknown,
            }
        }
        all
    }

    /// Whether a connected client says that work on `channel` depends on its process.
    pub(super) fn is_affine(&self, channel: &Channel, now: Instant) -> bool {
        self.clients.values().any(|client| {
            client.declared.as_ref().is_some_and(|declared| declared.is_affine(channel))
                && self.is_here(client, now)
        })
    }

    /// Whether that client has been heard of within `lease`. One whose poll broke off and that has nothing
    /// in hand gets a moment to poll again.
    pub(super) fn holds_lease(&self, instance: &str, lease: Duration, now: Instant) -> bool {
        let within = |moment: Instant, time| now.saturating_duration_since(moment) <= time;
        self.clients.iter().filter(|(key, _)| key.instance == instance).any(|(_, client)| {
            let left = client.broken.filter(|_| client.in_hand == 0);
            client.polls > 0 || left.map_or(within(client.seen, lease), |left| within(left, BROKEN_TIME))
        })
    }

    /// The clients that are remembered.
    pub(super) fn clients(&self, now: Instant) -> Vec<ClientView> {
        let view = |(key, client): (&Arc<ClientKey>, &Client)| ClientView {
            key: Arc::clone(key),
            name: client.name.to_string(),
            version: client.version.to_string(),
            declared: client.declared.clone(),
            first_seen: client.first_seen,
            silent: now.saturating_duration_since(client.seen),
            polls: client.polls,
            in_hand: client.in_hand,
            delivered: client.delivered,
            answered: client.answered,
        };
        self.clients.iter().map(view).collect()
    }

    fn is_here(&self, client: &Client, now: Instant) -> bool {
        client.polls > 0
            || client.in_hand > 0
            || now.saturating_duration_since(client.seen) <= self.last_seen_timeout
    }

    /// Makes room: forgets the client that was silent longest and has nothing going on.
    fn forget_one(&mut self, now: Instant) {
        let idle = self.clients.iter().filter(|(_, client)| client.polls == 0 && client.in_hand == 0);
        let oldest = idle.max_by_key(|(_, client)| now.saturating_duration_since(client.seen));
        // With every client busy the new one is not worth less: any may go, its counters are re-made on its next poll.
        let key = oldest.or_else(|| self.clients.iter().next()).map(|(key, _)| Arc::clone(key));
        if let Some(key) = key {
            self.clients.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(info: Option<&str>) -> About<'_> {
        About { info, ..About::default() }
    }

    const TIMEOUT: Duration = Duration::from_secs(20);

    fn key(subscription: Subscription) -> Arc<ClientKey> {
        Arc::new(ClientKey { instance: String::new(), subscription: Arc::new(subscription) })
    }

    #[test]
    fn a_client_is_present_while_it_polls_shortly_after_and_while_it_works() {
        let mut presence = Presence::new(TIMEOUT);
        let (client, main) = (key(Subscription::All), Channel::main());
        let start = Instant::now();
        let later = start + TIMEOUT + Duration::from_secs(1);
        assert_eq!(presence.standing(&main, start), Standing::NeverSeen);
        presence.poll_began(&client, &said(None), start);
        assert_eq!(presence.standing(&main, later), Standing::Connected, "a parked poll");
        presence.poll_ended(&client, start, false);
        assert_eq!(presence.standing(&main, start + TIMEOUT), Standing::Connected, "just seen");
        assert_eq!(presence.standing(&main, later), Standing::Absent);
        presence.took(&client);
        assert_eq!(presence.standing(&main, later), Standing::Connected, "works on a command");
        presence.released(&client);
        assert_eq!(presence.standing(&main, later), Standing::Absent);
        presence.responded(later);
        assert_eq!(presence.standing(&main, later), Standing::Connected, "posted a response");
        assert_eq!(presence.standing(&main, start + RETENTION + TIMEOUT), Standing::NeverSeen);
    }

    #[test]
    fn a_client_of_other_channels_does_not_count() {
        let mut presence = Presence::new(TIMEOUT);
        let now = Instant::now();
        presence.poll_began(
            &key(Subscription::Only([Channel::parse("x").unwrap()].into())),
            &said(None),
            now,
        );
        assert_eq!(presence.standing(&Channel::main(), now), Standing::Absent);
        assert_eq!(presence.standing(&Channel::parse("x").unwrap(), now), Standing::Connected);
    }

    #[test]
    fn what_clients_declare_is_known_while_they_are_connected() {
        let mut presence = Presence::new(TIMEOUT);
        let (now, harpoon) = (Instant::now(), Channel::parse("harpoon").unwrap());
        let client = key(Subscription::All);
        assert_eq!(presence.declares(&harpoon, now), Declares::No);
        assert!(presence.poll_began(&client, &said(None), now));
        assert_eq!(presence.declares(&harpoon, now), Declares::Unknown);
        assert!(presence.poll_began(
            &client,
            &said(Some(r#"{"version":1,"channels":[{"name":"main"}]}"#)),
            now
        ));
        assert_eq!(presence.declares(&harpoon, now), Declares::No);
        assert!(presence.poll_began(
            &client,
            &said(Some(r#"{"version":1,"channels":[{"name":"harpoon"}]}"#)),
            now
        ));
        assert_eq!(presence.declares(&harpoon, now), Declares::Yes);
        assert!(!presence.poll_began(&client, &said(Some("{")), now), "told once");
        assert!(presence.poll_began(&client, &said(Some("{")), now));
        assert!(presence.is_connected("", &harpoon, now) && !presence.is_connected("x", &harpoon, now));
    }

    #[test]
    fn the_number_of_remembered_clients_is_bounded() {
        let mut presence = Presence::new(TIMEOUT);
        let now = Instant::now();
        for number in 0..CLIENTS + 10 {
            let subscription = Arc::new(Subscription::All);
            let client = Arc::new(ClientKey { instance: number.to_string(), subscription });
            presence.poll_began(&client, &said(None), now);
        }
        assert_eq!(presence.clients.len(), CLIENTS);
    }
}
