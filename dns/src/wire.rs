//! DNS messages as bytes: a bounded reader of queries and a bounded writer of replies (RFC 1035 §4, RFC 6891, RFC 7871).
//!
//! The reader takes in what a server must know of a query and nothing else, and cannot fail: what is wrong with a query
//! is part of what it returns, since most wrong queries still deserve a reply that says so. The writer never writes past
//! its limit; what does not fit sets a flag, and the caller decides what that means. Neither allocates.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::zone::code;

/// Bytes of a header.
pub(crate) const HEADER: usize = 12;

/// Response codes (IANA "DNS RCODEs").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rcode {
    NoError = 0,
    FormErr = 1,
    ServFail = 2,
    NxDomain = 3,
    NotImp = 4,
    Refused = 5,
    /// Its upper bits stand in the OPT record.
    BadVers = 16,
}

/// Room that a query is read into, kept between queries.
#[derive(Debug)]
pub struct Scratch {
    /// The name in question in lower case.
    pub(crate) name: [u8; 255],
    /// Offsets of its labels, the root's last.
    pub(crate) labels: [u8; 128],
    /// Room for the name of a wildcard: two bytes more than the longest name, and one to be even.
    pub(crate) wildcard: [u8; 258],
}

impl Default for Scratch {
    fn default() -> Self {
        Self { name: [0; 255], labels: [0; 128], wildcard: [0; 258] }
    }
}

/// A client subnet (RFC 7871 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ecs {
    pub(crate) family: u16,
    pub(crate) source: u8,
    address: [u8; 16],
}

impl Ecs {
    /// Bytes of the address that the option carries.
    fn octets(&self) -> usize {
        usize::from(self.source).div_ceil(8)
    }

    /// The first address of the subnet; `None` when the client asked not to be told of (source zero).
    pub(crate) fn address(&self) -> Option<IpAddr> {
        let [a, b, c, d, ..] = self.address;
        match self.family {
            1 if self.source > 0 => Some(Ipv4Addr::new(a, b, c, d).into()),
            2 if self.source > 0 => Some(Ipv6Addr::from(self.address).into()),
            _ => None,
        }
    }
}

/// What the OPT record of a query says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Edns {
    pub(crate) payload: u16,
    pub(crate) version: u8,
    pub(crate) dnssec_ok: bool,
    pub(crate) nsid: bool,
    pub(crate) ecs: Option<Ecs>,
}

/// The question of a query; its name is in the [`Scratch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    /// Bytes of the name in the scratch.
    pub(crate) name_len: usize,
    /// How many labels it has, the root included.
    pub(crate) labels: usize,
    pub(crate) rtype: u16,
    pub(crate) class: u16,
    /// Where the question ends in the query.
    pub(crate) end: usize,
}

/// A query as far as it could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Query {
    pub(crate) opcode: u8,
    /// The question, if there is exactly one and it could be read.
    pub(crate) question: Option<Question>,
    pub(crate) edns: Option<Edns>,
    /// The query is not well-formed.
    pub(crate) malformed: bool,
}

/// Reads a query of at least [`HEADER`] bytes.
pub(crate) fn read(query: &[u8], scratch: &mut Scratch) -> Query {
    let opcode = query[2] >> 3 & 0x0f;
    let mut read = Query { opcode, question: None, edns: None, malformed: true };
    let mut input = Reader { query, at: HEADER };
    let count = |at: usize| u16::from_be_bytes([query[at], query[at + 1]]);
    if count(4) != 1 {
        return read;
    }
    read.question = input.question(scratch);
    if read.question.is_none() {
        return read;
    }
    let records = u32::from(count(6)) + u32::from(count(8));
    let whole = (0..records).all(|_| input.skip_record().is_some())
        && (0..count(10)).all(|_| input.additional(&mut read.edns).is_some());
    read.malformed = !whole || input.at != query.len();
    read
}

struct Reader<'a> {
    query: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let taken = self.query.get(self.at..self.at.checked_add(length)?)?;
        self.at += length;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// A question. Its name is never compressed: there is nothing before it to point to.
    fn question(&mut self, scratch: &mut Scratch) -> Option<Question> {
        let (mut name_len, mut labels) = (0, 0);
        loop {
            let length = usize::from(self.u8()?);
            let end = name_len + 1 + length;
            if length > 63 || end > 255 {
                return None;
            }
            let label = self.take(length)?;
            // At most 127 labels and the root fit into 255 bytes.
            scratch.labels[labels] = name_len as u8;
            labels += 1;
            scratch.name[name_len] = length as u8;
            for (to, from) in scratch.name[name_len + 1..end].iter_mut().zip(label) {
                *to = from.to_ascii_lowercase();
            }
            name_len = end;
            if length == 0 {
                break;
            }
        }
        let (rtype, class) = (self.u16()?, self.u16()?);
        Some(Question { name_len, labels, rtype, class, end: self.at })
    }

    /// Passes over a name, compressed or not, without following it.
    fn skip_name(&mut self) -> Option<()> {
        loop {
            match self.u8()? {
                0 => return Some(()),
                length @ 1..=63 => self.take(usize::from(length)).map(drop)?,
                0xc0.. => return self.u8().map(drop),
                64..=0xbf => return None,
            }
        }
    }

    fn skip_record(&mut self) -> Option<()> {
        self.skip_name()?;
        self.take(8)?;
        let length = self.u16()?;
        self.take(usize::from(length)).map(drop)
    }

    /// A record of the additional section: the OPT record is read, others are passed over.
    fn additional(&mut self, edns: &mut Option<Edns>) -> Option<()> {
        let begin = self.at;
        self.skip_name()?;
        let root = self.at == begin + 1;
        let rtype = self.u16()?;
        if rtype != code::OPT {
            self.take(6)?;
            let length = self.u16()?;
            return self.take(usize::from(length)).map(drop);
        }
        // RFC 6891 §6.1.1: at most one, owned by the root.
        if edns.is_some() || !root {
            return None;
        }
        let (payload, _extended_rcode, version, flags) = (self.u16()?, self.u8()?, self.u8()?, self.u16()?);
        let length = usize::from(self.u16()?);
        let options = self.take(length)?;
        let found = edns.insert(Edns { payload, version, dnssec_ok: flags & 0x8000 != 0, ..Edns::default() });
        // Options of a version that we do not know may mean anything.
        if version == 0 { read_options(options, found) } else { Some(()) }
    }
}

fn read_options(options: &[u8], edns: &mut Edns) -> Option<()> {
    let mut input = Reader { query: options, at: 0 };
    while input.at < options.len() {
        let (option, length) = (input.u16()?, input.u16()?);
        let value = input.take(usize::from(length))?;
        match option {
            NSID => edns.nsid = true,
            // The first one counts; a second is as wrong as a malformed one.
            ECS if edns.ecs.is_some() => return None,
            ECS => edns.ecs = Some(read_ecs(value)?),
            _ => {}
        }
    }
    Some(())
}

/// EDNS option codes (IANA "DNS EDNS0 Option Codes").
const NSID: u16 = 3;
const ECS: u16 = 8;
const EXTENDED_ERROR: u16 = 15;

/// A client subnet, checked as RFC 7871 §6 and §7.2.1 say: the scope of a query is zero, the address has just the octets
/// that the source needs, and no bit beyond it. Family zero is what a client sends that tells nothing (`+subnet=0`).
fn read_ecs(value: &[u8]) -> Option<Ecs> {
    let [family_high, family_low, source, scope, octets @ ..] = value else {
        return None;
    };
    let family = u16::from_be_bytes([*family_high, *family_low]);
    let bits_max = match family {
        0 => 0,
        1 => 32,
        2 => 128,
        _ => return None,
    };
    let mut ecs = Ecs { family, source: *source, address: [0; 16] };
    if *scope != 0 || *source > bits_max || octets.len() != ecs.octets() {
        return None;
    }
    ecs.address[..octets.len()].copy_from_slice(octets);
    let spare = (8 - *source % 8) % 8;
    let last = octets.last().copied().unwrap_or(0);
    (last & ((1_u16 << spare) - 1) as u8 == 0).then_some(ecs)
}

/// Writes a reply.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    reply: &'a mut [u8],
    at: usize,
    limit: usize,
    /// Something did not fit.
    pub(crate) full: bool,
    counts: [u16; 3],
}

/// A section of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    Answer = 0,
    Authority = 1,
    Additional = 2,
}

/// The OPT record of a reply.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opt<'a> {
    pub(crate) dnssec_ok: bool,
    /// What to say of this node, if asked.
    pub(crate) nsid: Option<&'a [u8]>,
    /// The client subnet asked with, if the reply may be kept for it, and the scope.
    pub(crate) ecs: Option<(Ecs, u8)>,
    /// Extended error (RFC 8914).
    pub(crate) extended_error: Option<u16>,
}

impl Opt<'_> {
    fn len(&self) -> usize {
        let nsid = self.nsid.map_or(0, |nsid| 4 + nsid.len());
        let ecs = self.ecs.map_or(0, |(ecs, _)| 8 + ecs.octets());
        11 + nsid + ecs + self.extended_error.map_or(0, |_| 6)
    }
}

/// The payload that we offer, and never exceed over UDP: it passes every network unfragmented (DNS flag day 2020).
pub(crate) const PAYLOAD: u16 = 1232;

impl<'a> Writer<'a> {
    /// A reply of at most `limit` bytes into `reply`, which holds the header and, when there is one, the question of
    /// `query`.
    pub(crate) fn new(reply: &'a mut [u8], limit: usize, query: &[u8], question: Option<Question>) -> Self {
        let at = question.map_or(HEADER, |question| question.end);
        reply[..at].copy_from_slice(&query[..at]);
        reply[4..HEADER].fill(0);
        reply[5] = u8::from(question.is_some());
        let limit = limit.min(reply.len());
        Self { reply, at, limit, full: false, counts: [0; 3] }
    }

    /// Keeps room for `opt`, which is written at the end.
    pub(crate) fn reserve(&mut self, opt: Option<&Opt<'_>>) {
        self.limit = self.limit.saturating_sub(opt.map_or(0, Opt::len));
    }

    /// Takes all records back.
    pub(crate) fn clear(&mut self, question: Option<Question>) {
        self.at = question.map_or(HEADER, |question| question.end);
        self.counts = [0; 3];
        self.full = false;
    }

    /// What to return to, should what follows not fit.
    pub(crate) const fn mark(&self) -> (usize, [u16; 3]) {
        (self.at, self.counts)
    }

    /// Takes back what was written since `mark`.
    pub(crate) fn rewind(&mut self, (at, counts): (usize, [u16; 3])) {
        (self.at, self.counts, self.full) = (at, counts, false);
    }

    fn put(&mut self, bytes: &[u8]) {
        match self.reply[..self.limit].get_mut(self.at..self.at + bytes.len()) {
            Some(room) if !self.full => {
                room.copy_from_slice(bytes);
                self.at += bytes.len();
            }
            Some(_) | None => self.full = true,
        }
    }

    /// One record whose owner is the name at `owner` in this reply. Returns where its RDATA begins.
    pub(crate) fn record(&mut self, section: Section, owner: usize, rtype: u16, ttl_s: u32, rdata: &[u8]) -> usize {
        self.put(&(0xc000 | owner as u16).to_be_bytes());
        self.rest(section, rtype, code::IN, ttl_s, rdata)
    }

    /// One record with its owner written out.
    pub(crate) fn record_of(&mut self, section: Section, owner: &[u8], rtype: u16, ttl_s: u32, rdata: &[u8]) {
        self.put(owner);
        self.rest(section, rtype, code::IN, ttl_s, rdata);
    }

    /// One record of class Chaos that belongs to the question.
    pub(crate) fn chaos(&mut self, rdata: &[u8]) {
        self.put(&(0xc000 | HEADER as u16).to_be_bytes());
        self.rest(Section::Answer, code::TXT, code::CH, 0, rdata);
    }

    fn rest(&mut self, section: Section, rtype: u16, class: u16, ttl_s: u32, rdata: &[u8]) -> usize {
        self.put(&rtype.to_be_bytes());
        self.put(&class.to_be_bytes());
        self.put(&ttl_s.to_be_bytes());
        // RDATA was measured when it was compiled.
        self.put(&(rdata.len() as u16).to_be_bytes());
        let begin = self.at;
        self.put(rdata);
        self.counts[section as usize] += 1;
        begin
    }

    /// Ends the reply: flags, counts, OPT. Returns its length.
    pub(crate) fn finish(mut self, query: &[u8], rcode: Rcode, flags: Flags, opt: Option<&Opt<'_>>) -> usize {
        if let Some(opt) = opt {
            self.limit = self.reply.len();
            self.opt(opt, rcode);
        }
        let code = rcode as u8;
        // Of the query's flags a reply keeps the opcode and RD.
        self.reply[2] = 0x80 | query[2] & 0x79 | u8::from(flags.authoritative) << 2 | u8::from(flags.truncated) << 1;
        self.reply[3] = code & 0x0f;
        for (section, count) in self.counts.iter().enumerate() {
            self.reply[6 + 2 * section..8 + 2 * section].copy_from_slice(&count.to_be_bytes());
        }
        self.at
    }

    fn opt(&mut self, opt: &Opt<'_>, rcode: Rcode) {
        let length = (opt.len() - 11) as u16;
        self.put(&[0]);
        self.put(&code::OPT.to_be_bytes());
        self.put(&PAYLOAD.to_be_bytes());
        self.put(&[(rcode as u8) >> 4, 0, u8::from(opt.dnssec_ok) << 7, 0]);
        self.put(&length.to_be_bytes());
        if let Some(nsid) = opt.nsid {
            self.put(&NSID.to_be_bytes());
            self.put(&(nsid.len() as u16).to_be_bytes());
            self.put(nsid);
        }
        if let Some((ecs, scope)) = &opt.ecs {
            self.put(&ECS.to_be_bytes());
            self.put(&(4 + ecs.octets() as u16).to_be_bytes());
            self.put(&ecs.family.to_be_bytes());
            self.put(&[ecs.source, *scope]);
            self.put(&ecs.address[..ecs.octets()]);
        }
        if let Some(info) = opt.extended_error {
            self.put(&EXTENDED_ERROR.to_be_bytes());
            self.put(&[0, 2]);
            self.put(&info.to_be_bytes());
        }
        self.counts[Section::Additional as usize] += 1;
    }
}

/// Flags of a reply that the answerer decides.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Flags {
    pub(crate) authoritative: bool,
    pub(crate) truncated: bool,
}
