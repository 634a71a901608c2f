//! What happened, line by line. The digest covers every line, so two runs with one digest were the same run.

use std::collections::VecDeque;
use std::fmt::Write as _;

use policies::time::Instant;

use crate::fact::Fact;

/// Lines that are kept for whoever looks at a failure; they reach some seconds back.
const LAST: usize = 60;

/// The trace of one run.
#[derive(Clone, Debug)]
pub struct Trace {
    verbose: bool,
    lines: VecDeque<String>,
    digest: u64,
    buffer: String,
}

impl Trace {
    /// An empty one; `verbose` keeps every line, else the last ones.
    pub fn new(verbose: bool) -> Self {
        // FNV-1a: what is told apart is runs of one program, not forgeries.
        Self { verbose, lines: VecDeque::new(), digest: 0xcbf2_9ce4_8422_2325, buffer: String::new() }
    }

    /// Adds a fact.
    pub fn line(&mut self, now: Instant, fact: &Fact<'_>) {
        self.buffer.clear();
        // Writing into a string does not fail.
        let _ = write!(self.buffer, "{now} {fact}");
        for byte in now.as_nanos().to_le_bytes().into_iter().chain(self.buffer.bytes()) {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        // Answers are many, and tell nothing as long as there is one.
        if !self.verbose && matches!(fact, Fact::Answered { clusters, .. } if !clusters.is_empty()) {
            return;
        }
        if !self.verbose && self.lines.len() == LAST {
            self.lines.pop_front();
        }
        self.lines.push_back(self.buffer.clone());
    }

    /// The digest of all lines so far.
    pub const fn digest(&self) -> u64 {
        self.digest
    }

    /// The lines that were kept, oldest first.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }
}
