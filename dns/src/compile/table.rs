//! An immutable map from all addresses of one family to numbers.

use crate::locate::Address;

/// Runs of addresses with equal numbers. Adjacent runs differ, so a run is maximal; that makes the exact ECS scope a
/// matter of two comparisons, with no tree: a prefix around an address has one number throughout if and only if it lies
/// within the run.
pub struct Table<A> {
    starts: Vec<A>,
    numbers: Vec<u32>,
    /// For each value of the first sixteen bits, how many runs start below it: cuts a search to one neighbourhood.
    /// Empty for small tables, where it would be larger than what it saves.
    pub(super) heads: Vec<u32>,
}

impl<A> std::fmt::Debug for Table<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Table of {} runs", self.starts.len())
    }
}

impl<A> Default for Table<A> {
    fn default() -> Self {
        Self { starts: Vec::new(), numbers: Vec::new(), heads: Vec::new() }
    }
}

/// From this many runs on a table has heads. The heads take 256 KiB, as much as 32,000 runs of IPv4 take, and a search
/// among 4,096 needs twelve steps without them.
const HEADS_FROM: usize = 4_096;

impl<A: Address> Table<A> {
    /// Begins a run. The first one begins at the first address, each later one after the one before.
    pub(super) fn push(&mut self, first: A, number: u32) {
        debug_assert!(self.starts.last().map_or(first == A::MIN, |last| *last < first));
        if self.numbers.last() != Some(&number) {
            self.starts.push(first);
            self.numbers.push(number);
        }
    }

    /// Ends the making.
    pub(super) fn finish(&mut self) {
        self.starts.shrink_to_fit();
        self.numbers.shrink_to_fit();
        if self.starts.len() >= HEADS_FROM {
            let mut below = 0;
            let head = |head: u32| {
                below += self.starts[below..].iter().take_while(|start| u32::from(start.head()) < head).count();
                below as u32
            };
            self.heads = (0..=1 << 16).map(head).collect();
        }
    }

    /// How many runs there are.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether nothing was entered.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// The number of `address`, and the length of the largest prefix around it that has this number throughout. An empty
    /// table gives zero for all.
    pub fn find(&self, address: A) -> (u32, u8) {
        let (low, high) = match self.heads.get(usize::from(address.head())..) {
            Some([low, high, ..]) => (*low as usize, *high as usize),
            Some(_) | None => (0, self.starts.len()),
        };
        let after = low + self.starts[low..high].partition_point(|start| *start <= address);
        let Some(run) = after.checked_sub(1) else { return (0, 0) };
        // One bit more than it shares with the nearest address outside keeps that one out, and all beyond it.
        let apart = |outside: A| address.common_bits(outside) + 1;
        let below = self.starts[run].previous().map_or(0, apart);
        let above = self.starts.get(after).copied().map_or(0, apart);
        (self.numbers[run], below.max(above))
    }
}
