//! The queue of one tunnel: one order, from which a poll takes what its channels allow.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::command::RequestId;
use crate::ids::Channel;

/// The channels a poll wants commands of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Subscription {
    /// Every channel.
    All,
    /// These channels.
    Only(BTreeSet<Channel>),
}

impl Subscription {
    /// Whether commands of `channel` are wanted.
    pub(crate) fn covers(&self, channel: &Channel) -> bool {
        match self {
            Subscription::All => true,
            Subscription::Only(channels) => channels.contains(channel),
        }
    }
}

/// A place in the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Queued {
    pub(super) request: RequestId,
    pub(super) channel: Channel,
    pub(super) bytes: usize,
    /// The only client that may have it.
    pub(super) pin: Option<Arc<str>>,
}

/// Commands in the order they came, each with its number.
#[derive(Default)]
pub(super) struct Queue {
    order: BTreeMap<u64, Queued>,
    channels: HashMap<Channel, BTreeSet<u64>>,
    bytes: usize,
    pinned: usize,
}

impl Queue {
    /// Adds a command; one that returns after a failed delivery keeps its number and so its place.
    pub(super) fn insert(&mut self, number: u64, queued: Queued) {
        self.bytes += queued.bytes;
        self.pinned += usize::from(queued.pin.is_some());
        self.channels.entry(queued.channel.clone()).or_default().insert(number);
        self.order.insert(number, queued);
    }

    /// Takes a command out, wherever it stands.
    pub(super) fn remove(&mut self, number: u64) -> Option<Queued> {
        let queued = self.order.remove(&number)?;
        self.bytes -= queued.bytes;
        self.pinned -= usize::from(queued.pin.is_some());
        if let Some(numbers) = self.channels.get_mut(&queued.channel) {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.channels.remove(&queued.channel);
            }
        }
        Some(queued)
    }

    /// Takes the oldest command that `subscription` covers and that `may` lets its poll have.
    pub(super) fn take_if(
        &mut self,
        subscription: &Subscription,
        may: impl Fn(&Queued) -> bool,
    ) -> Option<Queued> {
        let mut wanted = self.order.iter().filter(|(_, queued)| subscription.covers(&queued.channel));
        let number = wanted.find(|(_, queued)| may(queued)).map(|(number, _)| *number);
        self.remove(number?)
    }

    /// Whether something is queued that not every client may have.
    pub(super) fn has_pinned(&self) -> bool {
        self.pinned > 0
    }

    /// Everything queued, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Queued> {
        self.order.values()
    }

    /// Takes the oldest command that `subscription` covers.
    pub(super) fn take(&mut self, subscription: &Subscription) -> Option<Queued> {
        let number = match subscription {
            Subscription::All => self.order.keys().next().copied(),
            Subscription::Only(channels) => {
                channels.iter().filter_map(|channel| self.channels.get(channel)?.first().copied()).min()
            }
        };
        self.remove(number?)
    }

    /// The channels of which something is queued, with how much.
    pub(super) fn channels(&self) -> impl Iterator<Item = (&Channel, usize)> {
        self.channels.iter().map(|(channel, numbers)| (channel, numbers.len()))
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::super::command::RequestIds;
    use super::*;

    fn queued(channel: &str) -> Queued {
        Queued {
            request: RequestIds::new().unwrap().next(),
            channel: Channel::parse(channel).unwrap(),
            bytes: 10,
            pin: None,
        }
    }

    fn only(names: &[&str]) -> Subscription {
        Subscription::Only(names.iter().map(|name| Channel::parse(name).unwrap()).collect())
    }

    #[test]
    fn a_pinned_command_is_only_for_its_client_and_holds_up_nobody_else() {
        let mut queue = Queue::default();
        let pinned = Queued { pin: Some("a".into()), ..queued("harpoon") };
        let free = queued("main");
        queue.insert(0, pinned.clone());
        queue.insert(1, free.clone());
        let of = |client: &'static str| {
            move |queued: &Queued| queued.pin.as_deref().is_none_or(|pin| pin == client)
        };
        assert!(queue.has_pinned());
        assert_eq!(queue.take_if(&Subscription::All, of("b")), Some(free));
        assert_eq!(queue.take_if(&Subscription::All, of("b")), None);
        assert_eq!(queue.take_if(&only(&["main"]), of("a")), None);
        assert_eq!(queue.take_if(&Subscription::All, of("a")), Some(pinned));
        assert!(!queue.has_pinned());
    }

    #[test]
    fn a_subscription_takes_its_oldest_and_the_rest_keeps_its_order() {
        let mut queue = Queue::default();
        let commands = [queued("main"), queued("harpoon"), queued("main"), queued("x")];
        for (number, command) in commands.iter().enumerate() {
            queue.insert(number as u64, command.clone());
        }
        assert_eq!((queue.len(), queue.bytes()), (4, 40));
        assert_eq!(queue.take(&only(&["other"])), None);
        assert_eq!(queue.take(&only(&["harpoon", "x"])), Some(commands[1].clone()));
        assert_eq!(queue.take(&Subscription::All), Some(commands[0].clone()));
        queue.insert(0, commands[0].clone());
        assert_eq!(queue.remove(2), Some(commands[2].clone()));
        assert_eq!(queue.remove(2), None);
        assert_eq!(queue.take(&Subscription::All), Some(commands[0].clone()));
        assert_eq!(queue.take(&Subscription::All), Some(commands[3].clone()));
        assert_eq!((queue.len(), queue.bytes(), queue.channels().count()), (0, 0, 0));
    }
}
