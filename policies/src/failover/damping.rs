//! How long a target must be well before it counts as well.

use std::time::Duration;

use crate::time::Instant;

/// Success needed after the first trouble. Down is fast and up is slow, since a wrong *up* costs users and a late one
/// only distance.
pub const HOLD_MIN: Duration = Duration::from_secs(30);
/// Success needed at most, however often it flapped.
pub const HOLD_MAX: Duration = Duration::from_secs(15 * 60);
/// Well for so long: earlier flaps are forgotten. Twice the longest hold, so that a target that fails once a quarter of
/// an hour does not start over each time.
pub const FORGIVE: Duration = Duration::from_secs(30 * 60);

/// Flaps of one target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Damping {
    flaps: u32,
    well_since: Option<Instant>,
}

impl Damping {
    /// A target that never fell.
    pub const fn new() -> Self {
        Self { flaps: 0, well_since: None }
    }

    /// It fell ill. Call once for each fall, not for each sign of it.
    pub fn fell(&mut self, now: Instant, was_well_since: Option<Instant>) {
        if was_well_since.is_some_and(|since| now.since(since) >= FORGIVE) {
            self.flaps = 0;
        }
        self.flaps = self.flaps.saturating_add(1);
        self.well_since = None;
    }

    /// Signs of health (`well`) or of trouble; returns when the target may count as well again, if it goes on like this.
    pub fn observe(&mut self, now: Instant, well: bool) -> Option<Instant> {
        if !well {
            self.well_since = None;
            return None;
        }
        let since = *self.well_since.get_or_insert(now);
        Some(since + self.hold())
    }

    /// Success needed now: 30 s, doubled with each flap after the first, at most 15 min.
    pub fn hold(&self) -> Duration {
        let doublings = self.flaps.saturating_sub(1).min(16);
        HOLD_MIN.saturating_mul(1 << doublings).min(HOLD_MAX)
    }
}
