//! What will happen, in the order of virtual time. Of events at one instant the one that was put in first comes first,
//! so the order never depends on a heap's whim.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use policies::time::Instant;

/// Events to come.
#[derive(Debug)]
pub struct Queue<E> {
    heap: BinaryHeap<Reverse<Slot<E>>>,
    sequence: u64,
    now: Instant,
}

#[derive(Debug)]
struct Slot<E> {
    at: Instant,
    sequence: u64,
    event: E,
}

impl<E> PartialEq for Slot<E> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.sequence) == (other.at, other.sequence)
    }
}

impl<E> Eq for Slot<E> {}

impl<E> PartialOrd for Slot<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Slot<E> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), sequence: 0, now: Instant::ORIGIN }
    }
}

impl<E> Queue<E> {
    /// The instant of the last event taken.
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// `event` happens at `at`, or now if that is past.
    pub fn push(&mut self, at: Instant, event: E) {
        self.sequence += 1;
        self.heap.push(Reverse(Slot { at: at.max(self.now), sequence: self.sequence, event }));
    }

    /// The next event, if it happens before `end`; virtual time moves to it.
    pub fn pop(&mut self, end: Instant) -> Option<E> {
        self.heap.peek().filter(|Reverse(slot)| slot.at < end)?;
        let Reverse(slot) = self.heap.pop()?;
        self.now = slot.at;
        Some(slot.event)
    }

    /// How many events wait.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Instant {
        Instant::from_nanos(s)
    }

    #[test]
    fn by_time_then_by_order_of_entry() {
        let mut queue = Queue::default();
        for (t, name) in [(5, "c"), (3, "a"), (5, "d"), (3, "b"), (9, "late")] {
            queue.push(at(t), name);
        }
        let order: Vec<&str> = std::iter::from_fn(|| queue.pop(at(9))).collect();
        assert_eq!(order, ["a", "b", "c", "d"]);
        assert_eq!((queue.now(), queue.len()), (at(5), 1), "what lies beyond the end stays");
        queue.push(at(1), "past");
        assert_eq!(queue.pop(at(9)), Some("past"));
        assert_eq!(queue.now(), at(5), "time never runs backwards");
    }
}
