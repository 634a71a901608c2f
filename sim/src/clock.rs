//! A process's own clock: it begins at zero when the process starts, and runs too fast or too slow.

use std::time::Duration;

use policies::time::Instant;

/// A clock with a rate error.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
    ppm: i64,
}

impl Clock {
    /// A clock that starts at zero now and gains `ppm` microseconds a second; loses, where negative.
    pub const fn new(started: Instant, ppm: i64) -> Self {
        Self { started, ppm }
    }

    /// The same oscillator in a process that starts now.
    pub const fn restarted(self, now: Instant) -> Self {
        Self { started: now, ppm: self.ppm }
    }

    /// What it shows at `now`.
    pub fn local(self, now: Instant) -> Instant {
        let shown = now.since(self.started).as_nanos() * self.rate() / MILLION;
        Instant::from_nanos(u64::try_from(shown).unwrap_or(u64::MAX))
    }

    /// The first instant at which it shows `local` or later.
    pub fn world(self, local: Instant) -> Instant {
        let nanos = (u128::from(local.as_nanos()) * MILLION).div_ceil(self.rate());
        self.started + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    fn rate(self) -> u128 {
        // Nobody's clock stands still: a rate error stays far from minus one million.
        u128::try_from(1_000_000 + self.ppm).unwrap_or(1)
    }
}

const MILLION: u128 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back_is_never_early() {
        for ppm in [-200_000, -250, 0, 250, 200_000] {
            let clock = Clock::new(Instant::from_nanos(777), ppm);
            for nanos in [0, 1, 999, 1_000_000_007] {
                let local = Instant::from_nanos(nanos);
                assert!(clock.local(clock.world(local)) >= local, "{ppm} {nanos}");
            }
        }
        let fast = Clock::new(Instant::ORIGIN, 200_000);
        assert_eq!(fast.local(Instant::from_nanos(10)), Instant::from_nanos(12));
        assert_eq!(fast.restarted(Instant::from_nanos(10)).local(Instant::from_nanos(10)), Instant::ORIGIN);
    }
}
