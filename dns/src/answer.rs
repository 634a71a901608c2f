//! One function answers every query, whatever it came over: bytes in, length out.
//!
//! It reads no clock, takes no lock, allocates nothing, and writes nothing but its reply, so that every transport and
//! every test calls the same thing. The order of checks is that of RFC 8906: what is no query gets no reply (a reply to
//! a reply is a loop), then header, question, EDNS, class, type, name.
//!
//! Clients are where their subnet is (RFC 7871) if the query carries one that says anything, else where their resolver
//! is. A source prefix of zero says "do not tell": the resolver's address decides, as if there were no option (§7.1.2),
//! and the scope is zero. Addresses that are nobody's on the Internet and in no database say nothing either, but may be
//! kept for their own block only.
//!
//! Absent on purpose: cookies and rate limits (they come before this function), DNSSEC, zone transfers.

use std::net::{IpAddr, SocketAddr};

use policies::steering::{Candidate, Class, Entry, Family, Selection, candidate, select};
use policies::time::Instant;

use crate::compile::Found;
use crate::view::{Host, Target, View};
pub use crate::wire::Scratch;
use crate::wire::{Ecs, Edns, Flags, HEADER, Opt, PAYLOAD, Query, Question, Rcode, Section, Writer, read};
use crate::zone::{Lookup, Node, RrSet, Zone, code};

/// What a query came over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// One datagram; replies are cut to what the client takes.
    Udp,
    /// A stream; replies have up to 65,535 bytes.
    Tcp,
}

/// Where a query came from and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The resolver.
    pub addr: SocketAddr,
    /// The address it asked.
    pub local: SocketAddr,
    /// What it came over.
    pub transport: Transport,
    /// When.
    pub now: Instant,
}

/// The least room that [`answer`] needs for a reply.
pub const REPLY_MIN: usize = 512;

/// The most a reply takes over UDP.
pub const REPLY_UDP: usize = PAYLOAD as usize;

/// CNAMEs followed within a zone for one query; longer chains are a resolver's work.
const CHAIN_MAX: usize = 8;

/// Extended errors (RFC 8914 §4).
const NOT_READY: u16 = 14;
const NOT_AUTHORITATIVE: u16 = 20;

/// Answers `query` into `reply` and returns the reply's length; zero means that it deserves none.
///
/// `reply` has at least [`REPLY_MIN`] bytes, else nothing is answered; a UDP reply never has more than [`REPLY_UDP`].
pub fn answer(view: &View, peer: &Peer, scratch: &mut Scratch, query: &[u8], reply: &mut [u8]) -> usize {
    // No header, a reply, or a source port that nobody listens on: whoever sends that wants no answer.
    if query.len() < HEADER || query[2] & 0x80 != 0 || peer.addr.port() == 0 || reply.len() < REPLY_MIN {
        return 0;
    }
    let read = read(query, scratch);
    let mut responder = Responder::new(view, peer, query, &read, reply);
    let rcode = responder.respond(&read, scratch);
    responder.finish(rcode)
}

struct Responder<'a> {
    view: &'a View,
    peer: &'a Peer,
    query: &'a [u8],
    question: Option<Question>,
    writer: Writer<'a>,
    opt: Option<Opt<'a>>,
    flags: Flags,
}

impl<'a> Responder<'a> {
    fn new(view: &'a View, peer: &'a Peer, query: &'a [u8], read: &Query, reply: &'a mut [u8]) -> Self {
        // RFC 6891 §6.2.5: a payload below 512 counts as 512; without EDNS it is 512 (RFC 1035 §4.2.1).
        let limit = match (peer.transport, read.edns) {
            (Transport::Udp, Some(edns)) => usize::from(edns.payload.clamp(512, PAYLOAD)),
            (Transport::Udp, None) => 512,
            (Transport::Tcp, _) => usize::from(u16::MAX),
        };
        let opt = read.edns.map(|edns| Opt {
            dnssec_ok: edns.dnssec_ok,
            nsid: edns.nsid.then_some(&*view.nsid),
            ecs: None,
            extended_error: None,
        });
        let writer = Writer::new(reply, limit, query, read.question);
        Self { view, peer, query, question: read.question, writer, opt, flags: Flags::default() }
    }

    fn respond(&mut self, read: &Query, scratch: &mut Scratch) -> Rcode {
        if read.opcode != 0 {
            return Rcode::NotImp;
        }
        let Some(question) = self.question.filter(|_| !read.malformed) else {
            return Rcode::FormErr;
        };
        let edns = read.edns.unwrap_or_default();
        if edns.version != 0 {
            return Rcode::BadVers;
        }
        match (question.class, question.rtype) {
            // Questions about one message, which make no sense in another.
            (_, code::OPT | code::TKEY | code::TSIG) => Rcode::FormErr,
            (_, code::MAILA | code::MAILB) => Rcode::NotImp,
            (code::CH, _) => self.chaos(&scratch.name[..question.name_len], question.rtype),
            (code::IN, code::AXFR | code::IXFR) => Rcode::Refused,
            (code::IN, _) => self.internet(question, edns, scratch),
            _ => Rcode::Refused,
        }
    }

    /// What the server says of itself: `id.server` (RFC 4892) and what BIND made a habit.
    fn chaos(&mut self, name: &[u8], rtype: u16) -> Rcode {
        let tables = self.view.tables();
        let mut text = Text::default();
        match name {
            b"\x02id\x06server\x00" | b"\x08hostname\x04bind\x00" => {
                text.string(format_args!("{}", self.view.identity().as_str()));
                text.string(format_args!("snapshot {}", tables.number));
            }
            b"\x07version\x06server\x00" | b"\x07version\x04bind\x00" => {
                text.string(format_args!("isochrone {}", env!("CARGO_PKG_VERSION")));
                text.string(format_args!("snapshot {} {}", tables.number, Hex(&tables.digest)));
            }
            _ => return Rcode::Refused,
        }
        self.flags.authoritative = true;
        if matches!(rtype, code::TXT | code::ANY) {
            self.writer.chaos(text.as_bytes());
        }
        Rcode::NoError
    }

    fn internet(&mut self, question: Question, edns: Edns, scratch: &mut Scratch) -> Rcode {
        let tables = self.view.tables();
        let labels = &scratch.labels[..question.labels];
        let Some(zone) = tables.zones.find(&scratch.name[..question.name_len], labels, question.rtype) else {
            let (rcode, info) = match tables.zones.is_empty() && tables.number == 0 {
                true => (Rcode::ServFail, NOT_READY),
                false => (Rcode::Refused, NOT_AUTHORITATIVE),
            };
            if let Some(opt) = &mut self.opt {
                opt.extended_error = Some(info);
            }
            return rcode;
        };
        self.set_scope(edns.ecs, 0);
        self.writer.reserve(self.opt.as_ref());
        let rcode = self.chain(zone, question, edns.ecs, scratch);
        if !self.writer.full {
            return rcode;
        }
        // All or nothing: part of an answer is kept by some as if it were whole (RFC 2181 §9).
        self.writer.clear(self.question);
        self.set_scope(edns.ecs, 0);
        match self.peer.transport {
            Transport::Udp => {
                self.flags.truncated = true;
                rcode
            }
            // No message can carry it.
            Transport::Tcp => {
                self.flags = Flags::default();
                Rcode::ServFail
            }
        }
    }

    /// Answers for the name in question, and for the names that CNAMEs lead to within the zone.
    fn chain(&mut self, zone: &'a Zone, question: Question, ecs: Option<Ecs>, scratch: &mut Scratch) -> Rcode {
        let apex = HEADER + question.name_len - zone.origin.len();
        let (mut name_len, mut label_count, mut owner) = (question.name_len, question.labels, HEADER);
        let mut followed = [None::<&RrSet>; CHAIN_MAX];
        self.flags.authoritative = true;
        for hop in 0..=CHAIN_MAX {
            let (name, labels) = (&scratch.name[..name_len], &scratch.labels[..label_count]);
            let node = match zone.lookup(name, labels, question.rtype, &mut scratch.wildcard) {
                Lookup::Node(node) => node,
                Lookup::Cut(node, at) => {
                    self.refer(zone, node, owner + at, hop);
                    return Rcode::NoError;
                }
                Lookup::NoName => {
                    self.negative(zone, apex);
                    return Rcode::NxDomain;
                }
            };
            let cname = node.rrset(code::CNAME).filter(|_| !matches!(question.rtype, code::CNAME | code::ANY));
            let Some(cname) = cname else {
                self.node(zone, node, question.rtype, owner, apex, ecs);
                return Rcode::NoError;
            };
            // Round in a circle, or too long for us: the resolver sees from the records which of the two.
            if hop == CHAIN_MAX || followed[..hop].iter().flatten().any(|before| std::ptr::eq(*before, cname)) {
                return Rcode::NoError;
            }
            followed[hop] = Some(cname);
            let target = &cname.rdata[0];
            owner = self.writer.record(Section::Answer, owner, code::CNAME, cname.ttl_s, target);
            (name_len, label_count) = scratch_name(scratch, target);
            // Other zones are for the resolver to ask, even those that are ours: it would not believe this reply.
            if name_len == 0 || !zone_has(zone, &scratch.name[..name_len], &scratch.labels[..label_count]) {
                return Rcode::NoError;
            }
        }
        Rcode::NoError
    }

    /// Answers from one node.
    fn node(&mut self, zone: &'a Zone, node: &'a Node, rtype: u16, owner: usize, apex: usize, ecs: Option<Ecs>) {
        let host = node.host.map(|host| &self.view.tables().hosts[host]);
        match (host, rtype) {
            (Some(host), code::A | code::AAAA) => {
                if !self.steered(host, rtype, owner, ecs) {
                    self.negative(zone, apex);
                }
            }
            (_, code::ANY) if !node.is_empty() => self.any(node, owner),
            _ => match node.rrset(rtype) {
                Some(rrset) => {
                    self.rrset(Section::Answer, owner, rrset);
                    if rtype == code::NS {
                        self.glue(zone, rrset, false);
                    }
                }
                None => self.negative(zone, apex),
            },
        }
    }

    /// Writes the addresses for this client; false when there is none of the family.
    fn steered(&mut self, host: &Host, rtype: u16, owner: usize, ecs: Option<Ecs>) -> bool {
        let (found, scope) = find(self.view, host, self.peer.addr.ip(), ecs);
        let family = if rtype == code::A { Family::Ipv4 } else { Family::Ipv6 };
        let selection = choose(self.view, host, found.ranking, family);
        let ttl_s = selection.ttl.apply(host.ttl_s);
        let mut any = false;
        for target in selection.clusters().iter().filter_map(|cluster| host.target(*cluster)) {
            match family {
                Family::Ipv4 => target.ipv4.iter().for_each(|address| {
                    self.writer.record(Section::Answer, owner, rtype, ttl_s, address);
                    any = true;
                }),
                Family::Ipv6 => target.ipv6.iter().for_each(|address| {
                    self.writer.record(Section::Answer, owner, rtype, ttl_s, address);
                    any = true;
                }),
            }
        }
        // Resolvers take a negative answer for everybody (RFC 7871 §7.4), so its scope says so.
        if any {
            self.set_scope(ecs, scope);
        }
        any
    }

    /// ANY gets one small record set (RFC 8482), the CNAME if there is one: large replies to small questions are what
    /// attackers look for.
    fn any(&mut self, node: &Node, owner: usize) {
        const RFC8482: &[u8] = b"\x07RFC8482\x00";
        match node.rrset(code::CNAME) {
            Some(cname) => self.rrset(Section::Answer, owner, cname),
            // An hour: the answer never changes.
            None => drop(self.writer.record(Section::Answer, owner, code::HINFO, 3600, RFC8482)),
        }
    }

    fn rrset(&mut self, section: Section, owner: usize, rrset: &RrSet) {
        for rdata in &rrset.rdata {
            self.writer.record(section, owner, rrset.rtype, rrset.ttl_s, rdata);
        }
    }

    fn negative(&mut self, zone: &Zone, apex: usize) {
        self.rrset(Section::Authority, apex, &zone.negative);
    }

    /// Points to the servers of a zone below (RFC 1034 §4.3.2, step 3b).
    fn refer(&mut self, zone: &Zone, node: &Node, owner: usize, hop: usize) {
        // The CNAMEs before it are ours to answer; the referral is not.
        self.flags.authoritative = hop > 0;
        let Some(servers) = node.rrset(code::NS) else { return };
        self.rrset(Section::Authority, owner, servers);
        self.glue(zone, servers, true);
    }

    /// Addresses of name servers, as far as this zone has them. A delegation cannot work without them (RFC 9471 §3), any
    /// other answer can.
    fn glue(&mut self, zone: &Zone, servers: &RrSet, needed: bool) {
        let mark = self.writer.mark();
        if self.writer.full {
            return;
        }
        for server in &servers.rdata {
            let Some(node) = zone.node(server) else { continue };
            for rrset in [code::A, code::AAAA].into_iter().filter_map(|rtype| node.rrset(rtype)) {
                for rdata in &rrset.rdata {
                    self.writer.record_of(Section::Additional, server, rrset.rtype, rrset.ttl_s, rdata);
                }
            }
        }
        if self.writer.full && !needed {
            self.writer.rewind(mark);
        }
    }

    fn set_scope(&mut self, ecs: Option<Ecs>, scope: u8) {
        if let Some(opt) = &mut self.opt {
            opt.ecs = ecs.map(|ecs| (ecs, scope));
        }
    }

    fn finish(self, rcode: Rcode) -> usize {
        self.writer.finish(self.query, rcode, self.flags, self.opt.as_ref())
    }
}

/// What the tables say of a client, and the scope of the answer.
pub(crate) fn find<'a>(view: &'a View, host: &Host, resolver: IpAddr, ecs: Option<Ecs>) -> (Found<'a>, u8) {
    let steering = &view.tables().steering[host.steering];
    let by_resolver = || steering.find(resolver);
    let Some((ecs, address)) = ecs.and_then(|ecs| Some((ecs, ecs.address()?))) else {
        return (by_resolver(), 0);
    };
    // An IPv4 address in IPv6 clothes has its prefix behind 96 bits; a subnet that leaves the end of it open is none.
    let mapped = address.is_ipv6() && address.to_canonical().is_ipv4();
    let found = match mapped && ecs.source < 96 {
        true => return (by_resolver(), 96),
        false => steering.find(address),
    };
    let scope = found.scope + if mapped { 96 } else { 0 };
    (if found.special { by_resolver() } else { found }, scope)
}

/// The clusters for a client whose ranking is `ranking`.
pub(crate) fn choose(view: &View, host: &Host, ranking: &[Entry], family: Family) -> Selection {
    select(ranking, |cluster| class_of(view, host, cluster, family), host.role)
}

/// The class with which a cluster stands for election, if it does.
pub(crate) fn class_of(view: &View, host: &Host, cluster: u16, family: Family) -> Option<Class> {
    let Target { ipv4, ipv6, .. } = host.target(cluster)?;
    candidate(family, Candidate { class: view.class(cluster), ipv4: !ipv4.is_empty(), ipv6: !ipv6.is_empty() })
}

/// Takes `name`, in wire form, into the scratch. Returns its length and labels; zero if it is none.
fn scratch_name(scratch: &mut Scratch, name: &[u8]) -> (usize, usize) {
    let (mut at, mut labels) = (0, 0);
    while let Some(length) = name.get(at).filter(|_| at < scratch.name.len()) {
        scratch.labels[labels] = at as u8;
        labels += 1;
        let end = at + 1 + usize::from(*length);
        if *length == 0 && end == name.len() {
            scratch.name[..end].copy_from_slice(name);
            scratch.name[..end].make_ascii_lowercase();
            return (end, labels);
        }
        if *length == 0 || labels == scratch.labels.len() {
            break;
        }
        at = end;
    }
    (0, 0)
}

/// Whether `name` lies in `zone`.
fn zone_has(zone: &Zone, name: &[u8], labels: &[u8]) -> bool {
    labels.iter().any(|at| name[usize::from(*at)..] == *zone.origin)
}

/// Character-strings of a TXT record, without allocation.
struct Text {
    bytes: [u8; 160],
    len: usize,
}

impl Default for Text {
    fn default() -> Self {
        Self { bytes: [0; 160], len: 0 }
    }
}

impl Text {
    fn string(&mut self, text: std::fmt::Arguments<'_>) {
        let length_at = self.len;
        self.len += 1;
        // What does not fit is cut; names are bounded so that everything fits.
        let _ = std::fmt::Write::write_fmt(self, text);
        self.bytes[length_at] = (self.len - length_at - 1) as u8;
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl std::fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let room = self.bytes.get_mut(self.len..self.len + text.len()).ok_or(std::fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.len += text.len();
        Ok(())
    }
}

/// The first six bytes of a digest, as people read it elsewhere.
struct Hex<'a>(&'a [u8]);

impl std::fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().take(6).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
