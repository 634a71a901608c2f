//! When and where to dial next. Sans-IO: the time and a random number are arguments.
//!
//! Full jitter: after the n-th failure in a row the next attempt comes at a uniformly random moment of the next
//! `first × 2ⁿ⁻¹` (at most `cap`), so that 5,000 agents of a hub that died do not come back in step. A failure moves on
//! to the next hub of the list; a session that ended stays with its hub, which may just have restarted, unless the hub
//! said that it goes away.

use std::time::Duration;

/// How the waits grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The longest wait after the first failure. 200 ms: a restarted hub is found again before a person notices.
    pub first: Duration,
    /// The longest wait at all. 30 s: the load of 5,000 agents on a hub that refuses them is then 330 handshakes a
    /// second, and no agent is later than that once it is back.
    pub cap: Duration,
    /// A session that held for less counts as a failure: a hub that dies on each hello must not be dialled five times a
    /// second. 5 s is far above any hello and below what a person calls connected.
    pub steady: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_millis(200), cap: Duration::from_secs(30), steady: Duration::from_secs(5) }
    }
}

impl Backoff {
    /// The wait after the `failures`-th failure in a row (from 1), for a uniformly random `random`.
    pub fn delay(&self, failures: u32, random: u64) -> Duration {
        scale(self.ceiling(failures), random)
    }

    /// The wait when trying again soon cannot help: the upper half of the cap.
    pub fn slow(&self, random: u64) -> Duration {
        self.cap / 2 + scale(self.cap / 2, random)
    }

    fn ceiling(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        self.first.saturating_mul(1 << doublings).min(self.cap)
    }
}

/// `range × random / 2⁶⁴`.
fn scale(range: Duration, random: u64) -> Duration {
    let nanos = (range.as_nanos() * u128::from(random)) >> 64;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// One attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Not before.
    pub at: Duration,
    /// The hub's address as configured, `host:port`.
    pub hub: String,
    /// How many times this list was gone through: which of the addresses that a name stands for.
    pub round: usize,
}

/// The dialling end's memory between attempts.
#[derive(Clone, Debug)]
pub struct Dialer {
    hubs: Vec<String>,
    backoff: Backoff,
    next: usize,
    failures: u32,
    connected: Option<Duration>,
    at: Duration,
}

impl Dialer {
    /// Starts at once, with a hub of the list that `random` chooses, so that a fleet spreads over its hubs.
    pub fn new(hubs: Vec<String>, backoff: Backoff, now: Duration, random: u64) -> Self {
        let len = u64::try_from(hubs.len()).unwrap_or(1).max(1);
        let next = usize::try_from(random % len).unwrap_or(0);
        Self { hubs, backoff, next, failures: 0, connected: None, at: now }
    }

    /// The next attempt; `None` without any hub.
    pub fn attempt(&self) -> Option<Attempt> {
        let hub = self.hubs.get(self.next % self.hubs.len().max(1))?;
        Some(Attempt { at: self.at, hub: hub.clone(), round: self.next / self.hubs.len() })
    }

    /// The attempt failed.
    pub fn handle_failure(&mut self, now: Duration, random: u64) {
        self.wait(now, random);
        self.next = self.next.wrapping_add(1);
    }

    /// The hub refused us, and will until a person acts.
    pub fn handle_refusal(&mut self, now: Duration, random: u64) {
        self.connected = None;
        self.at = now + self.backoff.slow(random);
        self.next = self.next.wrapping_add(1);
    }

    /// A session began.
    pub fn handle_connected(&mut self, now: Duration) {
        self.connected = Some(now);
    }

    /// The session ended.
    pub fn handle_ended(&mut self, now: Duration, random: u64) {
        let steady = self.connected.is_some_and(|since| now.saturating_sub(since) >= self.backoff.steady);
        if steady {
            self.failures = 0;
        }
        self.wait(now, random);
    }

    /// The hub said that it goes away: dial the next.
    pub fn handle_go_away(&mut self, now: Duration, random: u64) {
        self.handle_ended(now, random);
        self.next = self.next.wrapping_add(1);
    }

    /// Dial again at once, such as after a renewal that had to come first.
    pub fn handle_again(&mut self, now: Duration) {
        self.connected = None;
        self.at = now;
    }

    fn wait(&mut self, now: Duration, random: u64) {
        self.connected = None;
        self.failures = self.failures.saturating_add(1);
        self.at = now + self.backoff.delay(self.failures, random);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn hubs(n: usize) -> Vec<String> {
        (0..n).map(|n| format!("hub{n}:1")).collect()
    }

    proptest! {
        #[test]
        fn a_wait_is_jittered_within_its_ceiling(failures in 1u32..80, random: u64) {
            let backoff = Backoff::default();
            let ceiling = Duration::from_millis(200u64.saturating_mul(1u64.checked_shl(failures - 1).unwrap_or(u64::MAX)))
                .min(30 * SECOND);
            let delay = backoff.delay(failures, random);
            prop_assert!(delay <= ceiling);
            // Uniform: the random number is the share of the ceiling.
            let share = delay.as_secs_f64() / ceiling.as_secs_f64();
            prop_assert!((share - random as f64 / u64::MAX as f64).abs() < 1e-6);
            prop_assert!((15 * SECOND..=30 * SECOND).contains(&backoff.slow(random)));
        }

        #[test]
        fn every_hub_is_tried_before_one_is_tried_twice(count in 1usize..6, start: u64, randoms: [u64; 12]) {
            let mut dialer = Dialer::new(hubs(count), Backoff::default(), Duration::ZERO, start);
            let mut now = Duration::ZERO;
            let mut tried = Vec::new();
            for random in randoms {
                let attempt = dialer.attempt().expect("there are hubs");
                prop_assert!(attempt.at >= now);
                now = attempt.at;
                tried.push(attempt.hub);
                dialer.handle_failure(now, random);
            }
            for window in tried.windows(count) {
                let distinct: std::collections::BTreeSet<_> = window.iter().collect();
                prop_assert_eq!(distinct.len(), count);
            }
        }
    }

    #[test]
    fn a_steady_session_starts_the_waits_anew_and_stays_with_its_hub() {
        let mut dialer = Dialer::new(hubs(2), Backoff::default(), Duration::ZERO, 0);
        for _ in 0..10 {
            dialer.handle_failure(Duration::ZERO, u64::MAX);
        }
        assert!(dialer.attempt().expect("hubs").at > 29 * SECOND);
        dialer.handle_connected(100 * SECOND);
        dialer.handle_ended(105 * SECOND, u64::MAX);
        let attempt = dialer.attempt().expect("hubs");
        assert!(attempt.at <= 105 * SECOND + Duration::from_millis(200));
        assert_eq!(attempt.hub, "hub0:1");
        dialer.handle_connected(200 * SECOND);
        dialer.handle_go_away(300 * SECOND, 0);
        assert_eq!(dialer.attempt().expect("hubs").hub, "hub1:1");
    }

    #[test]
    fn a_session_that_dies_at_once_is_a_failure() {
        let mut dialer = Dialer::new(hubs(1), Backoff::default(), Duration::ZERO, 0);
        let mut now = Duration::ZERO;
        for _ in 0..12 {
            dialer.handle_connected(now);
            now += Duration::from_millis(10);
            dialer.handle_ended(now, u64::MAX);
            now = dialer.attempt().expect("hubs").at;
        }
        dialer.handle_connected(now);
        dialer.handle_ended(now, u64::MAX);
        assert!(dialer.attempt().expect("hubs").at - now > 29 * SECOND);
    }

    #[test]
    fn no_hub_no_attempt() {
        assert_eq!(Dialer::new(Vec::new(), Backoff::default(), Duration::ZERO, 7).attempt(), None);
    }
}
