//! Sessions between the edge and the hub, as the tunnel keeps them: dialled by the edge, one beat a second, over after
//! ten seconds of silence on either end's own clock, publications through [`Outbox`]es. What is sent on a session is
//! repeated until it arrives or the session ends; probes and findings are sent once.

use std::collections::BTreeMap;
use std::time::Duration;

use api::wire::{Digest, Findings};
use bytes::Bytes;
use policies::failover::traffic::Probe;
use policies::time::Instant;
use tunnel::Timing;
use tunnel::outbox::{Outbox, Publication};

use super::{Event, World};

/// Who sends and receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Party {
    /// The hub.
    Hub,
    /// The agent of a cluster.
    Agent(usize),
    /// A DNS node.
    Dns(usize),
    /// The ingress of a cluster.
    Ingress(usize),
}

/// One message.
#[derive(Clone, Debug)]
pub(super) struct Parcel {
    pub(super) from: Party,
    /// The sender's life; a dead sender repeats nothing.
    pub(super) boot: u64,
    pub(super) to: Party,
    /// Zero outside sessions.
    pub(super) session: u64,
    pub(super) body: Body,
}

#[derive(Clone, Debug)]
pub(super) enum Body {
    /// The edge dials.
    Hello,
    /// The hub has opened the session.
    Welcome,
    Beat,
    Publish(Publication),
    /// The publication on this topic has arrived.
    Arrived(String),
    Ask(Digest),
    Blob(Digest, Option<Bytes>),
    /// One DNS node to another.
    Findings(Findings),
    Probe(u64),
    Probed(u64, Probe),
}

impl Body {
    /// Whether it is repeated until it arrives.
    const fn is_sure(&self) -> bool {
        match self {
            Self::Publish(_) | Self::Arrived(_) | Self::Ask(_) | Self::Blob(..) => true,
            Self::Hello | Self::Welcome | Self::Beat | Self::Findings(_) | Self::Probe(_) | Self::Probed(..) => false,
        }
    }
}

/// The edge's end.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) session: Option<u64>,
    pub(super) outbox: Outbox,
    /// On the process's own clock.
    pub(super) heard: Instant,
    /// Numbers publications.
    pub(super) number: u64,
    dialled: Option<Instant>,
}

impl Link {
    pub(super) fn new() -> Self {
        Self { session: None, outbox: Outbox::kept(), heard: Instant::ORIGIN, number: 0, dialled: None }
    }
}

/// The hub's end.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) party: Party,
    pub(super) outbox: Outbox,
    /// Number and leader's term of what was told last, by topic.
    pub(super) told: BTreeMap<&'static str, (u64, u64)>,
    pub(super) heard: Instant,
}

/// Between two attempts to dial. The real backoff begins with less and grows to more.
const DIAL: Duration = Duration::from_secs(2);
/// First pause before a packet is repeated; it doubles up to four times as much.
const REPEAT: Duration = Duration::from_millis(250);

impl World {
    /// Sends on a session, or outside of any (`session` zero).
    pub(super) fn post(&mut self, from: Party, to: Party, session: u64, body: Body) {
        if let Some(boot) = self.boot(from) {
            self.transmit(Parcel { from, boot, to, session, body }, 0);
        }
    }

    pub(super) fn transmit(&mut self, parcel: Parcel, attempt: u32) {
        if self.boot(parcel.from) != Some(parcel.boot) || !self.holds(parcel.from, &parcel) {
            return;
        }
        match self.network.send(self.site(parcel.from), self.site(parcel.to)) {
            Some(delay) => self.after(delay, Event::Arrive(parcel)),
            None if parcel.body.is_sure() => {
                self.after(REPEAT * 2_u32.pow(attempt.min(2)), Event::Send(parcel, attempt + 1))
            }
            None => {}
        }
    }

    /// Whether an end still holds the session of a parcel.
    fn holds(&self, party: Party, parcel: &Parcel) -> bool {
        parcel.session == 0
            || match party {
                Party::Hub => self.hub.sessions.contains_key(&parcel.session),
                Party::Agent(i) => self.agents[i].link.session == Some(parcel.session),
                Party::Dns(i) => self.nodes[i].link.session == Some(parcel.session),
                Party::Ingress(_) => false,
            }
    }

    pub(super) fn arrive(&mut self, parcel: Parcel) {
        let (from, to) = (parcel.from, parcel.to);
        if let (Party::Ingress(_), Body::Probe(seq)) = (to, &parcel.body) {
            // A dead process on a living machine refuses.
            let probe = if self.boot(to).is_some() { Probe::Success } else { Probe::Refused };
            if let Some(delay) = self.network.send(self.site(to), self.site(from)) {
                let body = Body::Probed(*seq, probe);
                self.after(delay, Event::Arrive(Parcel { from: to, boot: 0, to: from, session: 0, body }));
            }
            return;
        }
        if self.boot(to).is_none() {
            return;
        }
        match (to, &parcel.body) {
            (Party::Hub, Body::Hello) => return self.hub_open(from),
            (_, Body::Welcome) => return self.open(to, parcel.session),
            _ if !self.holds(to, &parcel) => {
                // Ahead of the welcome, or behind the end: the sender repeats it while it holds the session itself.
                if parcel.body.is_sure() {
                    self.after(REPEAT, Event::Send(parcel, 1));
                }
                return;
            }
            _ => {}
        }
        if parcel.session != 0 {
            self.heard(to, parcel.session);
        }
        match (to, parcel.body) {
            (_, Body::Arrived(topic)) => {
                if let Some(outbox) = self.outbox(to, parcel.session) {
                    outbox.finished(&topic);
                }
                self.flush(to, parcel.session);
            }
            (_, Body::Publish(publication)) => {
                self.post(to, from, parcel.session, Body::Arrived(publication.topic.clone()));
                match to {
                    Party::Hub => self.hub_take(from, &publication),
                    Party::Agent(i) => self.agent_take(i, &publication),
                    Party::Dns(i) => self.node_take(i, &publication),
                    Party::Ingress(_) => {}
                }
            }
            (Party::Hub, Body::Ask(digest)) => {
                let found = self.hub_blob(from, &digest);
                self.post(to, from, parcel.session, Body::Blob(digest, found));
            }
            (Party::Agent(i), Body::Blob(digest, Some(bytes))) => self.agent_blob(i, &digest, bytes),
            (Party::Dns(i), Body::Blob(digest, bytes)) => self.node_blob(i, &digest, bytes),
            (Party::Dns(i), Body::Findings(findings)) => self.node_findings(i, from, &findings),
            (Party::Dns(i), Body::Probed(seq, probe)) => {
                if let Party::Ingress(cluster) = from {
                    let boot = self.nodes[i].boot;
                    self.node_probed(i, boot, cluster, seq, probe);
                }
            }
            (
                Party::Hub | Party::Agent(_) | Party::Dns(_) | Party::Ingress(_),
                Body::Hello
                | Body::Welcome
                | Body::Beat
                | Body::Ask(_)
                | Body::Blob(..)
                | Body::Findings(_)
                | Body::Probe(_)
                | Body::Probed(..),
            ) => {}
        }
    }

    /// Sends what an outbox gives.
    pub(super) fn flush(&mut self, party: Party, session: u64) {
        let to = match party {
            Party::Hub => match self.hub.sessions.get(&session) {
                Some(open) => open.party,
                None => return,
            },
            Party::Agent(_) | Party::Dns(_) | Party::Ingress(_) => Party::Hub,
        };
        while let Some(publication) = self.outbox(party, session).and_then(Outbox::take) {
            self.post(party, to, session, Body::Publish(publication));
        }
    }

    fn outbox(&mut self, party: Party, session: u64) -> Option<&mut Outbox> {
        match party {
            Party::Hub => self.hub.sessions.get_mut(&session).map(|open| &mut open.outbox),
            Party::Agent(_) | Party::Dns(_) => {
                self.link(party).filter(|link| link.session == Some(session)).map(|link| &mut link.outbox)
            }
            Party::Ingress(_) => None,
        }
    }

    pub(super) fn link(&mut self, party: Party) -> Option<&mut Link> {
        match party {
            Party::Agent(i) => Some(&mut self.agents[i].link),
            Party::Dns(i) => Some(&mut self.nodes[i].link),
            Party::Hub | Party::Ingress(_) => None,
        }
    }

    /// Publishes to the hub, now or when there is a session.
    pub(super) fn publish(&mut self, party: Party, topic: &str, payload: Bytes) {
        let Some(link) = self.link(party) else { return };
        link.number += 1;
        link.outbox.publish(topic, link.number, payload);
        if let Some(session) = link.session {
            self.flush(party, session);
        }
    }

    /// A second went by.
    pub(super) fn tick(&mut self, party: Party, boot: u64) {
        if self.boot(party) != Some(boot) {
            return;
        }
        let timing = Timing::default();
        let at = self.later(party, timing.beat);
        self.queue.push(at, Event::Tick(party, boot));
        let now = self.local(party);
        match party {
            Party::Hub => {
                let open: Vec<(u64, Party, Instant)> =
                    self.hub.sessions.iter().map(|(id, open)| (*id, open.party, open.heard)).collect();
                for (session, peer, heard) in open {
                    if now.since(heard) >= timing.silence {
                        self.watch.tally.add("session silent, closed by the hub");
                        self.hub_close(session);
                    } else {
                        self.post(party, peer, session, Body::Beat);
                    }
                }
                self.tell_tunnels();
            }
            Party::Agent(_) | Party::Dns(_) => self.tend_link(party, now, timing.silence),
            Party::Ingress(_) => {}
        }
        if let Party::Dns(i) = party {
            self.node_tick(i);
        }
    }

    fn tend_link(&mut self, party: Party, now: Instant, silence: Duration) {
        let Some(link) = self.link(party) else { return };
        match link.session {
            Some(_) if now.since(link.heard) >= silence => {
                link.session = None;
                self.watch.tally.add("session silent, closed by the edge");
            }
            Some(session) => self.post(party, Party::Hub, session, Body::Beat),
            None if link.dialled.is_none_or(|at| now.since(at) >= DIAL) => {
                link.dialled = Some(now);
                self.post(party, Party::Hub, 0, Body::Hello);
            }
            None => {}
        }
    }

    /// The hub opens a session; an earlier one of the same peer is over.
    fn hub_open(&mut self, peer: Party) {
        let earlier: Vec<u64> =
            self.hub.sessions.iter().filter(|(_, open)| open.party == peer).map(|(id, _)| *id).collect();
        earlier.into_iter().for_each(|session| self.hub_close(session));
        self.sessions += 1;
        let session = self.sessions;
        let heard = self.local(Party::Hub);
        let open = Open { party: peer, outbox: Outbox::for_session(), told: BTreeMap::new(), heard };
        self.hub.sessions.insert(session, open);
        self.post(Party::Hub, peer, session, Body::Welcome);
        self.hub_joined(peer);
    }

    /// The edge learns that its session is open.
    fn open(&mut self, party: Party, session: u64) {
        let now = self.local(party);
        let Some(link) = self.link(party).filter(|link| link.session.is_none_or(|old| old < session)) else { return };
        link.session = Some(session);
        link.heard = now;
        link.outbox.restart();
        self.watch.tally.add("session open");
        match party {
            Party::Agent(i) => self.agent_connected(i),
            Party::Dns(i) => self.node_connected(i),
            Party::Hub | Party::Ingress(_) => {}
        }
        self.flush(party, session);
    }

    fn heard(&mut self, party: Party, session: u64) {
        let now = self.local(party);
        if party == Party::Hub {
            if let Some(open) = self.hub.sessions.get_mut(&session) {
                open.heard = now;
            }
        } else if let Some(link) = self.link(party) {
            link.heard = now;
        }
    }
}
