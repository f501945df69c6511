//! Parked polls of one tunnel, oldest first.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::presence::ClientKey;
use super::queue::Subscription;
use crate::ids::Channel;
use crate::net::Waker;

/// Polls that wait for a command.
#[derive(Default)]
pub(super) struct Pollers {
    waiting: BTreeMap<u64, Waiting>,
    of_all: BTreeSet<u64>,
    of_channel: HashMap<Channel, BTreeSet<u64>>,
}

struct Waiting {
    waker: Arc<Waker>,
    key: Arc<ClientKey>,
}

impl Pollers {
    /// Parks a poll; one that parks again keeps its number and so its turn.
    pub(super) fn park(&mut self, number: u64, key: &Arc<ClientKey>, waker: &Arc<Waker>) {
        match &*key.subscription {
            Subscription::All => {
                self.of_all.insert(number);
            }
            Subscription::Only(channels) => {
                for channel in channels {
                    self.of_channel.entry(channel.clone()).or_default().insert(number);
                }
            }
        }
        let waiting = Waiting { waker: Arc::clone(waker), key: Arc::clone(key) };
        self.waiting.insert(number, waiting);
    }

    /// Takes a poll out; `None` if it was woken, or never parked.
    pub(super) fn unpark(&mut self, number: u64) -> Option<Arc<Waker>> {
        let waiting = self.waiting.remove(&number)?;
        match &*waiting.key.subscription {
            Subscription::All => {
                self.of_all.remove(&number);
            }
            Subscription::Only(channels) => {
                for channel in channels {
                    if let Some(numbers) = self.of_channel.get_mut(channel) {
                        numbers.remove(&number);
                        if numbers.is_empty() {
                            self.of_channel.remove(channel);
                        }
                    }
                }
            }
        }
        Some(waiting.waker)
    }

    /// Takes out the poll that has waited longest for commands of `channel`; wake it without the lock.
    pub(super) fn next_for(&mut self, channel: &Channel) -> Option<Arc<Waker>> {
        let of_channel = self.of_channel.get(channel).and_then(|numbers| numbers.first());
        let number = self.of_all.first().into_iter().chain(of_channel).min().copied()?;
        self.unpark(number)
    }

    /// The same among the polls that `may` have them.
    pub(super) fn next_of(
        &mut self,
        channel: &Channel,
        may: impl Fn(&ClientKey) -> bool,
    ) -> Option<Arc<Waker>> {
        let mut wanted = self.waiting.iter().filter(|(_, one)| one.key.subscription.covers(channel));
        let number = wanted.find(|(_, one)| may(&one.key)).map(|(number, _)| *number)?;
        self.unpark(number)
    }

    /// Takes out all.
    pub(super) fn drain(&mut self) -> Vec<Arc<Waker>> {
        self.of_all.clear();
        self.of_channel.clear();
        std::mem::take(&mut self.waiting).into_values().map(|waiting| waiting.waker).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_poll_that_waited_longest_is_woken_if_it_wants_the_channel() {
        let (main, harpoon) = (Channel::main(), Channel::parse("harpoon").unwrap());
        let key = |subscription| {
            Arc::new(ClientKey { instance: String::new(), subscription: Arc::new(subscription) })
        };
        let only = key(Subscription::Only([harpoon.clone()].into()));
        let all = key(Subscription::All);
        let wakers: Vec<_> = (0..3).map(|_| Arc::new(Waker::new().unwrap())).collect();
        let mut pollers = Pollers::default();
        pollers.park(0, &only, &wakers[0]);
        pollers.park(1, &all, &wakers[1]);
        pollers.park(2, &only, &wakers[2]);
        assert!(Arc::ptr_eq(&pollers.next_for(&main).unwrap(), &wakers[1]));
        assert!(pollers.next_for(&main).is_none());
        pollers.park(1, &all, &wakers[1]);
        assert!(Arc::ptr_eq(&pollers.next_for(&harpoon).unwrap(), &wakers[0]));
        assert!(Arc::ptr_eq(&pollers.next_for(&harpoon).unwrap(), &wakers[1]));
        assert!(pollers.unpark(1).is_none());
        assert!(Arc::ptr_eq(&pollers.unpark(2).unwrap(), &wakers[2]));
        assert_eq!(pollers.len(), 0);
    }
}
