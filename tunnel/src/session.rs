//! The control conversation: hello and its answer, beats, silence, go-away. Sans-IO, and the same machine at both ends.
//!
//! `now` is the time since an origin that the caller chose, never going back. After every `handle_*` and command call
//! [`Conversation::poll_output`] until `None`, then [`Conversation::poll_timeout`].
//!
//! ```text
//! dialling end   Greeting ──HelloAck──▶ Open ──▶ Over
//! hub            Waiting ──Hello──▶ Asked ──answer──▶ Open ──▶ Over
//! ```

use std::collections::VecDeque;
use std::time::Duration;

use crate::Timing;
use crate::code::Code;
use crate::message::{Beat, Control, ControlBody, GoAway, Hello, HelloAck};

/// How a conversation ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// The hub refused the hello, in these words.
    Refused(HelloAck),
    /// The peer goes away.
    PeerLeaves(GoAway),
    /// We went away.
    WeLeave,
    /// No hello, or no answer to ours, in time.
    NoHello,
    /// No beat for so long.
    Silent(Duration),
    /// The peer broke the protocol; what it did.
    Violation(&'static str),
}

impl End {
    /// The code to close the connection with.
    pub fn code(&self) -> Code {
        match self {
            Self::Refused(_) => Code::Refused,
            Self::PeerLeaves(_) | Self::WeLeave => Code::Goodbye,
            Self::NoHello => Code::TooSlow,
            Self::Silent(_) => Code::Silent,
            Self::Violation(_) => Code::Protocol,
        }
    }
}

/// What the shell must now do.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Write this frame.
    Send(Control),
    /// The hub's end: a peer greets; call [`Conversation::answer`].
    Greeted(Hello),
    /// The session is open. At the dialling end with the hub's words.
    Open(Option<HelloAck>),
    /// It is over; nothing follows.
    Over(End),
}

/// What the owner may see of the other side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pulse {
    /// When its last beat (or its hello) came.
    pub last_beat: Option<Duration>,
    /// The round trip as the other side measures it.
    pub peer_rtt: Option<Duration>,
    /// The sequence number of its last beat; 0 before the first.
    pub sequence: u64,
}

/// One conversation.
#[derive(Debug)]
pub struct Conversation {
    state: State,
    timing: Timing,
    outputs: VecDeque<Output>,
    deadline: Duration,
    next_beat: Duration,
    sent: u64,
    pulse: Pulse,
}

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum State {
    /// Dialling end: hello sent.
    Greeting,
    /// Hub: no hello yet.
    Waiting,
    /// Hub: hello there, the owner has not answered.
    Asked,
    /// Both: beats.
    Open,
    /// Both: no more.
    Over,
}

impl Conversation {
    /// The dialling end begins.
    pub fn dial(now: Duration, hello: Hello, timing: Timing) -> Self {
        let mut this = Self::new(State::Greeting, now, timing);
        this.outputs.push_back(Output::Send(ControlBody::Hello(hello).into()));
        this
    }

    /// The hub waits for a hello.
    pub fn serve(now: Duration, timing: Timing) -> Self {
        Self::new(State::Waiting, now, timing)
    }

    fn new(state: State, now: Duration, timing: Timing) -> Self {
        Self {
            state,
            timing,
            outputs: VecDeque::new(),
            deadline: now + timing.handshake,
            next_beat: now,
            sent: 0,
            pulse: Pulse::default(),
        }
    }

    /// A frame came.
    pub fn handle_frame(&mut self, now: Duration, frame: Control) {
        let Some(body) = frame.body else { return };
        match (self.state, body) {
            (State::Over, _) => {}
            (_, ControlBody::GoAway(go_away)) => self.end(End::PeerLeaves(go_away)),
            (State::Waiting, ControlBody::Hello(hello)) => {
                self.state = State::Asked;
                self.pulse.last_beat = Some(now);
                self.outputs.push_back(Output::Greeted(hello));
            }
            (State::Greeting, ControlBody::HelloAck(ack)) => {
                if ack.refusal.is_some() {
                    self.end(End::Refused(ack));
                } else {
                    self.open(now, Some(ack));
                }
            }
            (State::Open, ControlBody::Beat(beat)) => {
                if beat.sequence <= self.pulse.sequence {
                    return self.end(End::Violation("beats do not count up"));
                }
                let peer_rtt = Some(Duration::from_micros(beat.rtt_us));
                self.pulse = Pulse { last_beat: Some(now), peer_rtt, sequence: beat.sequence };
            }
            (State::Waiting | State::Asked, ControlBody::Beat(_)) => {
                self.end(End::Violation("a beat before the hello"))
            }
            (State::Greeting, ControlBody::Beat(_)) => self.end(End::Violation("a beat before the answer to hello")),
            (State::Greeting | State::Asked | State::Open, ControlBody::Hello(_)) => {
                self.end(End::Violation("a hello out of place"));
            }
            (State::Waiting | State::Asked | State::Open, ControlBody::HelloAck(_)) => {
                self.end(End::Violation("an answer to no hello"));
            }
        }
    }

    /// The hub's owner answers the hello. Without effect if none waits for an answer.
    pub fn answer(&mut self, now: Duration, ack: HelloAck) {
        if self.state != State::Asked {
            return;
        }
        self.outputs.push_back(Output::Send(ControlBody::HelloAck(ack.clone()).into()));
        if ack.refusal.is_some() {
            self.end(End::Refused(ack));
        } else {
            self.open(now, None);
        }
    }

    /// Our owner leaves.
    pub fn go_away(&mut self, code: Code, reason: &str) {
        if self.state != State::Over {
            let go_away = GoAway { reason: reason.to_owned(), code: code.number() };
            self.outputs.push_back(Output::Send(ControlBody::GoAway(go_away).into()));
            self.end(End::WeLeave);
        }
    }

    /// Time passed; `rtt` is our estimate of the round trip.
    pub fn handle_timeout(&mut self, now: Duration, rtt: Duration) {
        match self.state {
            State::Over => {}
            State::Greeting | State::Waiting | State::Asked => {
                if now >= self.deadline {
                    self.end(End::NoHello);
                }
            }
            State::Open => {
                if now >= self.deadline() {
                    return self.end(End::Silent(self.timing.silence));
                }
                if now >= self.next_beat {
                    self.sent += 1;
                    // From now, not from the last due time: after a pause one beat is due, not all that were missed.
                    self.next_beat = now + self.timing.beat;
                    let rtt_us = u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX);
                    self.outputs
                        .push_back(Output::Send(ControlBody::Beat(Beat { sequence: self.sent, rtt_us }).into()));
                }
            }
        }
    }

    /// The next thing to do, in order.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Conversation::handle_timeout`] next; `None` once it is over.
    pub fn poll_timeout(&self) -> Option<Duration> {
        match self.state {
            State::Over => None,
            State::Greeting | State::Waiting | State::Asked => Some(self.deadline),
            State::Open => Some(self.next_beat.min(self.deadline())),
        }
    }

    /// What is known of the other side.
    pub fn pulse(&self) -> Pulse {
        self.pulse
    }

    fn deadline(&self) -> Duration {
        self.pulse.last_beat.unwrap_or_default() + self.timing.silence
    }

    fn open(&mut self, now: Duration, ack: Option<HelloAck>) {
        self.state = State::Open;
        self.pulse.last_beat = Some(now);
        self.next_beat = now;
        self.outputs.push_back(Output::Open(ack));
    }

    fn end(&mut self, end: End) {
        self.state = State::Over;
        self.outputs.push_back(Output::Over(end));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::{Refusal, RefusalCode};

    const SECOND: Duration = Duration::from_secs(1);
    const RTT: Duration = Duration::from_millis(3);

    fn drain(conversation: &mut Conversation) -> Vec<Output> {
        std::iter::from_fn(|| conversation.poll_output()).collect()
    }

    /// Runs both ends over a wire with no delay; `cut` drops what the dialling end sends.
    struct Pair {
        now: Duration,
        agent: Conversation,
        hub: Conversation,
        cut: bool,
        seen: Vec<String>,
    }

    impl Pair {
        fn new() -> Self {
            let timing = Timing::default();
            let hello = Hello { instance: "a".into(), ..Hello::default() };
            Self {
                now: Duration::ZERO,
                agent: Conversation::dial(Duration::ZERO, hello, timing),
                hub: Conversation::serve(Duration::ZERO, timing),
                cut: false,
                seen: Vec::new(),
            }
        }

        fn settle(&mut self) {
            loop {
                let from_agent = drain(&mut self.agent);
                let from_hub = drain(&mut self.hub);
                if from_agent.is_empty() && from_hub.is_empty() {
                    return;
                }
                for output in from_agent {
                    match output {
                        Output::Send(frame) if !self.cut => self.hub.handle_frame(self.now, frame),
                        Output::Send(_) => {}
                        Output::Greeted(_) => panic!("nobody greets the dialling end"),
                        Output::Open(_) => self.seen.push("agent open".into()),
                        Output::Over(end) => self.seen.push(format!("agent {end:?}")),
                    }
                }
                for output in from_hub {
                    match output {
                        Output::Send(frame) => self.agent.handle_frame(self.now, frame),
                        Output::Greeted(_) => self.hub.answer(self.now, HelloAck::default()),
                        Output::Open(_) => self.seen.push("hub open".into()),
                        Output::Over(end) => self.seen.push(format!("hub {end:?}")),
                    }
                }
            }
        }

        fn run_until(&mut self, end: Duration) {
            self.settle();
            loop {
                let next = [self.agent.poll_timeout(), self.hub.poll_timeout()].into_iter().flatten().min();
                let Some(next) = next.filter(|&next| next <= end) else {
                    break;
                };
                self.now = self.now.max(next);
                self.agent.handle_timeout(self.now, RTT);
                self.hub.handle_timeout(self.now, RTT);
                self.settle();
            }
            self.now = end;
        }
    }

    #[test]
    fn both_open_and_beat_each_second() {
        let mut pair = Pair::new();
        pair.run_until(60 * SECOND);
        assert_eq!(pair.seen, ["hub open", "agent open"]);
        for end in [&pair.agent, &pair.hub] {
            let pulse = end.pulse();
            assert_eq!(pulse, Pulse { last_beat: Some(60 * SECOND), peer_rtt: Some(RTT), sequence: 61 });
        }
    }

    #[test]
    fn silence_ends_it_after_ten_seconds() {
        let mut pair = Pair::new();
        pair.run_until(5 * SECOND);
        pair.cut = true;
        pair.run_until(14 * SECOND);
        assert_eq!(pair.seen.len(), 2, "not yet");
        pair.run_until(16 * SECOND);
        assert_eq!(pair.seen[2], "hub Silent(10s)");
    }

    #[test]
    fn go_away_ends_both() {
        let mut pair = Pair::new();
        pair.run_until(SECOND);
        pair.hub.go_away(Code::Draining, "upgrade");
        pair.settle();
        assert_eq!(pair.seen[2..], ["hub WeLeave", "agent PeerLeaves(GoAway { reason: \"upgrade\", code: 8 })"]);
        assert_eq!(pair.agent.poll_timeout(), None);
    }

    #[test]
    fn no_hello_and_no_answer_end_by_their_deadline() {
        let mut hub = Conversation::serve(SECOND, Timing::default());
        assert_eq!(hub.poll_timeout(), Some(11 * SECOND));
        hub.handle_timeout(11 * SECOND, RTT);
        assert_eq!(drain(&mut hub), [Output::Over(End::NoHello)]);
    }

    #[test]
    fn a_refusal_reaches_the_dialling_end() {
        let refused = HelloAck { refusal: Some(Refusal::new(RefusalCode::Revoked, "no")), ..HelloAck::default() };
        let mut agent = Conversation::dial(SECOND, Hello::default(), Timing::default());
        drain(&mut agent);
        agent.handle_frame(SECOND, ControlBody::HelloAck(refused.clone()).into());
        assert_eq!(drain(&mut agent), [Output::Over(End::Refused(refused))]);
    }

    #[test]
    fn after_a_pause_one_beat_is_due() {
        let mut pair = Pair::new();
        pair.run_until(SECOND);
        drain(&mut pair.hub);
        pair.hub.handle_timeout(9 * SECOND, RTT);
        assert_eq!(drain(&mut pair.hub).len(), 1);
    }

    proptest! {
        /// Any frames in any order: the machine ends at most once, says nothing after, and never panics.
        #[test]
        fn any_order_of_frames_is_survived(
            hub: bool, steps in proptest::collection::vec((0u8..7, 0u64..4, 0u64..6), 0..60),
        ) {
            let mut now = Duration::ZERO;
            let mut machine = if hub {
                Conversation::serve(now, Timing::default())
            } else {
                Conversation::dial(now, Hello::default(), Timing::default())
            };
            let mut over = false;
            for (step, number, wait) in steps {
                now += Duration::from_secs(wait);
                match step {
                    0 => machine.handle_frame(now, ControlBody::Hello(Hello::default()).into()),
                    1 => machine.handle_frame(now, ControlBody::HelloAck(HelloAck::default()).into()),
                    2 | 3 => machine.handle_frame(now, ControlBody::Beat(Beat { sequence: number, rtt_us: number }).into()),
                    4 => machine.handle_frame(now, Control { body: None }),
                    5 => machine.answer(now, HelloAck::default()),
                    _ => machine.handle_timeout(now, RTT),
                }
                for output in drain(&mut machine) {
                    prop_assert!(!over, "{output:?} after the end");
                    over = matches!(output, Output::Over(_));
                }
                prop_assert_eq!(machine.poll_timeout().is_none(), over);
            }
        }
    }
}
