//! The wire between the hub and the processes that dial it: agents and DNS nodes.
//!
//! What it gives: mutually authenticated connections under the hub's own authority, enrolment by a token, renewal,
//! beats, publications (the newest payload of a topic, either way) and fetches of content-addressed blobs. It carries
//! bytes under topics and digests; **it knows no policy and no Kubernetes**, and depends on no other crate of ours.
//!
//! Code map, from pure to wired:
//! * [`message`] — the frames: protobuf behind a length, with limits; total on any bytes.
//! * [`code`] — why a stream or a connection ended, as numbers on the wire.
//! * [`identity`] — authority, certificates, tokens, and the rules that say who a peer is; [`state`] keeps an identity
//!   in a directory.
//! * [`session`] — the control conversation (hello, beats, silence, go-away); sans-IO.
//! * [`dial`] — when and where to dial next; sans-IO.
//! * [`outbox`] — which publication to send next: per topic the newest only; sans-IO.
//! * [`transport`] — connections and streams behind one trait, and QUIC under it.
//! * [`client`] — [`Link`](client::Link), the dialling end; [`server`] — [`Stub`](server::Stub), the hub's end.
//!
//! Deliberately absent: request streams to a cluster's API (a gateway's matter), fallbacks for networks that block UDP,
//! several hubs at once (start one link for each), and rotation of the authority itself.

pub mod client;
pub mod code;
pub mod dial;
pub mod identity;
pub mod message;
pub mod outbox;
pub mod server;
pub mod session;
pub mod state;
mod streams;
pub mod transport;

#[cfg(test)]
#[expect(clippy::wildcard_enum_match_arm, reason = "a test names the one event that it waits for and prints any other")]
mod tests;

use std::time::Duration;

/// Clocks jump and machines sleep: whoever waits for a time of day looks at the clock again at least so often. Against
/// the life of a certificate a minute is nothing.
const WALL_CLOCK_STEP: Duration = Duration::from_secs(60);

/// The times that both ends keep. The defaults are for production; tests shorten what they wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Between two beats of one side. One second: three missed ones fit into the seconds in which a frozen peer must be
    /// suspected, and 5,000 peers cost 5,000 small packets a second.
    pub beat: Duration,
    /// Without any beat for so long the conversation is over. As long as `idle`: the transport notices a dead host, this
    /// one a peer whose kernel lives and whose program does not.
    pub silence: Duration,
    /// The transport's idle limit: without any packet for so long the connection is gone. 10 s outlives the gap of a
    /// route change or a moved address, and is the bar for a frozen peer to be out of rotation.
    pub idle: Duration,
    /// The dialling end sends something at least so often. Beats do that in a session; this covers the time before it,
    /// such as an enrolment that waits for its backend. A third of `idle`: two may be lost.
    pub keep_alive: Duration,
    /// A handshake, a stream's head, a hello and its answer take no longer each. Ten seconds is generous for three
    /// round trips on the worst path and bounds what a stalled peer can hold.
    pub handshake: Duration,
    /// How the dialling end waits between attempts.
    pub backoff: dial::Backoff,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            beat: Duration::from_secs(1),
            silence: Duration::from_secs(10),
            idle: Duration::from_secs(10),
            keep_alive: Duration::from_secs(3),
            handshake: Duration::from_secs(10),
            backoff: dial::Backoff::default(),
        }
    }
}
