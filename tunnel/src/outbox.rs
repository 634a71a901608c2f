//! Which publication to send next. Sans-IO: the shell takes from here, sends, and says how it went.
//!
//! Publications are level-triggered: a topic's newest payload is all that matters. So a topic holds at most one payload
//! under way and one that waits; a newer one takes the place of the one that waits. A peer that does not read costs that
//! much memory and no more, and never delays another peer or another topic. At most one payload of a topic is under way,
//! so the payloads of a topic arrive in the order in which they were published.

use std::collections::BTreeMap;

use bytes::Bytes;

/// One payload on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// Its topic.
    pub topic: String,
    /// The owner's number.
    pub number: u64,
    /// The bytes.
    pub payload: Bytes,
}

/// What waits to be sent to one peer.
#[derive(Debug, Default)]
pub struct Outbox {
    topics: BTreeMap<String, Topic>,
    keep: bool,
}

#[derive(Debug, Default)]
struct Topic {
    newest: Option<(u64, Bytes)>,
    waiting: bool,
    under_way: bool,
}

impl Outbox {
    /// For one session: what was delivered is forgotten.
    pub fn for_session() -> Self {
        Self { topics: BTreeMap::new(), keep: false }
    }

    /// Over many sessions: each topic's newest payload is kept and waits again after [`Outbox::restart`].
    pub fn kept() -> Self {
        Self { topics: BTreeMap::new(), keep: true }
    }

    /// The topic's newest payload is now this one.
    pub fn publish(&mut self, topic: &str, number: u64, payload: Bytes) {
        let slot = self.topics.entry(topic.to_owned()).or_default();
        slot.newest = Some((number, payload));
        slot.waiting = true;
    }

    /// The topic is not kept any longer; what is under way still arrives.
    pub fn forget(&mut self, topic: &str) {
        if let Some(slot) = self.topics.get_mut(topic) {
            slot.newest = None;
            slot.waiting = false;
            if !slot.under_way {
                self.topics.remove(topic);
            }
        }
    }

    /// Takes one that may be sent now; call until `None`. Each is to be answered by [`Outbox::finished`].
    pub fn take(&mut self) -> Option<Publication> {
        let (topic, slot) = self.topics.iter_mut().find(|(_, slot)| slot.waiting && !slot.under_way)?;
        let (number, payload) = if self.keep { slot.newest.clone()? } else { slot.newest.take()? };
        slot.waiting = false;
        slot.under_way = true;
        Some(Publication { topic: topic.clone(), number, payload })
    }

    /// The one under way has arrived, or was refused for good (the receiver would refuse it again).
    pub fn finished(&mut self, topic: &str) {
        if let Some(slot) = self.topics.get_mut(topic) {
            slot.under_way = false;
            if slot.newest.is_none() {
                self.topics.remove(topic);
            }
        }
    }

    /// A new session begins: nothing is under way, and everything that is kept waits.
    pub fn restart(&mut self) {
        self.topics.retain(|_, slot| slot.newest.is_some());
        for slot in self.topics.values_mut() {
            slot.under_way = false;
            slot.waiting = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(n: u64) -> Bytes {
        Bytes::from(n.to_string())
    }

    #[test]
    fn a_newer_payload_takes_the_place_of_the_one_that_waits() {
        let mut outbox = Outbox::for_session();
        outbox.publish("a", 1, bytes(1));
        assert_eq!(outbox.take().map(|p| p.number), Some(1));
        outbox.publish("a", 2, bytes(2));
        outbox.publish("a", 3, bytes(3));
        outbox.publish("b", 9, bytes(9));
        assert_eq!(outbox.take().map(|p| p.number), Some(9), "another topic is not delayed");
        assert_eq!(outbox.take(), None);
        outbox.finished("a");
        assert_eq!(outbox.take().map(|p| p.number), Some(3));
        outbox.finished("a");
        outbox.finished("b");
        assert_eq!(outbox.take(), None);
        assert!(outbox.topics.is_empty(), "a session's outbox keeps nothing");
    }

    #[test]
    fn what_is_kept_waits_again_in_the_next_session() {
        let mut outbox = Outbox::kept();
        outbox.publish("a", 1, bytes(1));
        outbox.publish("b", 2, bytes(2));
        while outbox.take().is_some() {}
        outbox.finished("a");
        outbox.forget("b");
        outbox.restart();
        assert_eq!(outbox.take().map(|p| (p.topic, p.number)), Some(("a".to_owned(), 1)));
        assert_eq!(outbox.take(), None);
    }

    proptest! {
        /// Model: per topic the list of all published numbers. Arrivals must be a rising part of it that, once all is
        /// drained, ends with the last.
        #[test]
        fn the_newest_always_arrives_last(steps in proptest::collection::vec((0u8..4, 0u8..3), 0..200)) {
            let mut outbox = Outbox::for_session();
            let mut published: BTreeMap<String, u64> = BTreeMap::new();
            let mut arrived: BTreeMap<String, u64> = BTreeMap::new();
            let mut under_way: Vec<Publication> = Vec::new();
            let mut number = 0;
            let mut arrive = |p: Publication, outbox: &mut Outbox| {
                assert_eq!(&p.payload, &bytes(p.number));
                let before = arrived.insert(p.topic.clone(), p.number);
                assert!(before < Some(p.number));
                outbox.finished(&p.topic);
                arrived.clone()
            };
            for (step, topic) in steps {
                let topic = topic.to_string();
                match step {
                    0 | 1 => {
                        number += 1;
                        outbox.publish(&topic, number, bytes(number));
                        published.insert(topic, number);
                    }
                    2 => under_way.extend(outbox.take()),
                    _ => {
                        if let Some(p) = under_way.pop() {
                            arrive(p, &mut outbox);
                        }
                    }
                }
                let topics: std::collections::BTreeSet<_> = under_way.iter().map(|p| p.topic.clone()).collect();
                prop_assert!(topics.len() == under_way.len(), "one at a time per topic");
            }
            let mut last = BTreeMap::new();
            loop {
                under_way.extend(outbox.take());
                let Some(p) = under_way.pop() else { break };
                last = arrive(p, &mut outbox);
            }
            prop_assert!(last.is_empty() || last == published);
        }
    }
}
