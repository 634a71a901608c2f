//! Zones as they are answered from: names in wire form, records already encoded, lookups by RFC 1034 §4.3.2 and
//! RFC 4592.
//!
//! Everything that can be wrong with a zone is found here, when a snapshot is taken in, and refuses it with the zone,
//! name and type in the message; nothing is parsed when a query comes. Names are stored in lower case and compared as
//! bytes. Hosts whose answer depends on the client stand in the same tree, so that a steered name exists for wildcards
//! and empty non-terminals like any other.
//!
//! Absent on purpose: choosing among clusters, DNSSEC, DNAME (hickory does not read it), zone transfers.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use api::snapshot;
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder, NameEncoding};
use hickory_proto::serialize::txt::{ParseError, Parser};

/// Record types and classes by number (IANA "Domain Name System (DNS) Parameters").
pub mod code {
    /// Address, IPv4.
    pub const A: u16 = 1;
    /// Name server.
    pub const NS: u16 = 2;
    /// Canonical name.
    pub const CNAME: u16 = 5;
    /// Start of authority.
    pub const SOA: u16 = 6;
    /// Host information; what ANY is answered with (RFC 8482 §4.2).
    pub const HINFO: u16 = 13;
    /// Pointer to a name.
    pub const PTR: u16 = 12;
    /// Mail exchange.
    pub const MX: u16 = 15;
    /// Text.
    pub const TXT: u16 = 16;
    /// Address, IPv6.
    pub const AAAA: u16 = 28;
    /// Service location (RFC 2782).
    pub const SRV: u16 = 33;
    /// EDNS pseudo-record (RFC 6891).
    pub const OPT: u16 = 41;
    /// Delegation signer, which belongs to the parent's side of a cut (RFC 4035 §3.1.4.1).
    pub const DS: u16 = 43;
    /// Key of a secret transaction (RFC 2930).
    pub const TKEY: u16 = 249;
    /// Signature of a transaction (RFC 8945).
    pub const TSIG: u16 = 250;
    /// Incremental zone transfer.
    pub const IXFR: u16 = 251;
    /// Zone transfer.
    pub const AXFR: u16 = 252;
    /// Mailbox records, obsolete.
    pub const MAILB: u16 = 253;
    /// Mail agents, obsolete.
    pub const MAILA: u16 = 254;
    /// Any type.
    pub const ANY: u16 = 255;
    /// Class Internet.
    pub const IN: u16 = 1;
    /// Class Chaos, which servers speak of themselves in.
    pub const CH: u16 = 3;
}

/// Why a zone is refused.
#[derive(Debug, thiserror::Error)]
pub enum ZoneError {
    /// A name is none.
    #[error("zone {zone}: {name:?} is no DNS name: write labels of 1 to 63 characters, 255 in all")]
    Name {
        /// The zone's origin.
        zone: String,
        /// What was written.
        name: String,
    },
    /// A name lies elsewhere.
    #[error("zone {zone}: {name} lies outside the zone")]
    Outside {
        /// The zone's origin.
        zone: String,
        /// The name.
        name: String,
    },
    /// SOA fields are missing.
    #[error("zone {zone} has no SOA")]
    NoSoa {
        /// The zone's origin.
        zone: String,
    },
    /// Nobody serves the zone.
    #[error("zone {zone} has no name server")]
    NoNameServer {
        /// The zone's origin.
        zone: String,
    },
    /// Two zones have one origin.
    #[error("zone {zone} is there twice")]
    Twice {
        /// The zone's origin.
        zone: String,
    },
    /// An address is none.
    #[error("zone {zone}: {address:?} of {name} is no IP address")]
    Address {
        /// The zone's origin.
        zone: String,
        /// Whose address.
        name: String,
        /// What was written.
        address: String,
    },
    /// A type that static records cannot have.
    #[error("zone {zone}: {name} has a record of type {kind}, which cannot be written as a static record")]
    Type {
        /// The zone's origin.
        zone: String,
        /// Owner of the record.
        name: String,
        /// Its type.
        kind: String,
    },
    /// A value that is not of its type.
    #[error("zone {zone}: the {kind} record of {name} has the value {value:?}, which does not read as {kind}")]
    Value {
        /// The zone's origin.
        zone: String,
        /// Owner of the record.
        name: String,
        /// Its type.
        kind: String,
        /// What was written.
        value: String,
        /// What the parser says.
        #[source]
        source: Option<Box<ParseError>>,
    },
    /// A CNAME beside other data (RFC 1034 §3.6.2), or two of them.
    #[error("zone {zone}: {name} has a CNAME and something else beside it")]
    CnameBeside {
        /// The zone's origin.
        zone: String,
        /// The name.
        name: String,
    },
    /// A steered host that has addresses of its own.
    #[error(
        "zone {zone}: {name} is steered, so it cannot have static records of type A, AAAA, CNAME or NS, nor an App twice"
    )]
    Steered {
        /// The zone's origin.
        zone: String,
        /// The host.
        name: String,
    },
}

/// Records of one name and type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RrSet {
    pub(crate) rtype: u16,
    pub(crate) ttl_s: u32,
    /// One for each record: its RDATA, uncompressed.
    pub(crate) rdata: Vec<Box<[u8]>>,
}

/// A name that exists.
#[derive(Debug, Default)]
pub(crate) struct Node {
    /// Sorted by type.
    pub(crate) rrsets: Vec<RrSet>,
    /// Index of the host whose A and AAAA records this name has.
    pub(crate) host: Option<usize>,
}

impl Node {
    pub(crate) fn rrset(&self, rtype: u16) -> Option<&RrSet> {
        let found = self.rrsets.binary_search_by_key(&rtype, |rrset| rrset.rtype).ok()?;
        Some(&self.rrsets[found])
    }

    /// Whether the name exists only because something lies below it.
    pub(crate) fn is_empty(&self) -> bool {
        self.rrsets.is_empty() && self.host.is_none()
    }
}

/// One zone, compiled.
#[derive(Debug)]
pub(crate) struct Zone {
    /// Wire form, lower case.
    pub(crate) origin: Box<[u8]>,
    /// Every name of the zone, empty non-terminals included, in wire form and lower case.
    nodes: HashMap<Box<[u8]>, Node>,
    /// The SOA as negative answers carry it (RFC 2308 §3).
    pub(crate) negative: RrSet,
}

/// What a zone has at a name.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lookup<'a> {
    /// The name, or the wildcard that stands for it.
    Node(&'a Node),
    /// The name lies at or below a zone cut: its records, and the bytes of the name before those of the cut's.
    Cut(&'a Node, usize),
    /// There is no such name.
    NoName,
}

/// All zones of a snapshot.
#[derive(Debug, Default)]
pub(crate) struct Zones {
    by_origin: HashMap<Box<[u8]>, Zone>,
}

impl Zones {
    /// The zone that `name` lies in: the one with the longest origin. `labels` are the offsets of its labels, the root's
    /// last.
    pub(crate) fn find(&self, name: &[u8], labels: &[u8], rtype: u16) -> Option<&Zone> {
        let mut zones = labels.iter().filter_map(|at| self.by_origin.get(&name[usize::from(*at)..]));
        let zone = zones.next()?;
        // The DS of a zone stands in its parent, if that is ours as well.
        match zones.next() {
            Some(parent) if rtype == code::DS && zone.origin.len() == name.len() && parent.node(name).is_some() => {
                Some(parent)
            }
            Some(_) | None => Some(zone),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_origin.is_empty()
    }

    pub(crate) fn add(&mut self, zone: Zone, text: &str) -> Result<(), ZoneError> {
        match self.by_origin.insert(zone.origin.clone(), zone) {
            None => Ok(()),
            Some(_) => Err(ZoneError::Twice { zone: text.to_owned() }),
        }
    }
}

impl Zone {
    /// Looks `name`, which lies in this zone, up. `wildcard` is room for a name.
    pub(crate) fn lookup(&self, name: &[u8], labels: &[u8], rtype: u16, wildcard: &mut [u8; 258]) -> Lookup<'_> {
        // From the apex down, so that a cut hides what lies below it.
        let apex = name.len() - self.origin.len();
        let mut encloser = apex;
        for at in labels.iter().rev().map(|at| usize::from(*at)).filter(|at| *at <= apex) {
            let Some(node) = self.nodes.get(&name[at..]) else {
                return self.synthesize(&name[encloser..], wildcard);
            };
            if at < apex && node.rrset(code::NS).is_some() && !(at == 0 && rtype == code::DS) {
                return Lookup::Cut(node, at);
            }
            encloser = at;
        }
        self.nodes.get(name).map_or(Lookup::NoName, Lookup::Node)
    }

    /// The wildcard below the closest encloser, if there is one (RFC 4592 §3.3.1).
    fn synthesize(&self, encloser: &[u8], wildcard: &mut [u8; 258]) -> Lookup<'_> {
        wildcard[..2].copy_from_slice(b"\x01*");
        wildcard[2..2 + encloser.len()].copy_from_slice(encloser);
        self.nodes.get(&wildcard[..2 + encloser.len()]).map_or(Lookup::NoName, Lookup::Node)
    }

    /// The node of a name as it stands, for addresses of name servers.
    pub(crate) fn node(&self, name: &[u8]) -> Option<&Node> {
        self.nodes.get(name)
    }
}

/// A steered host that the caller knows by its index.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SteeredName<'a> {
    pub(crate) name: &'a str,
    pub(crate) index: usize,
}

/// Compiles a zone.
pub(crate) fn compile(zone: &snapshot::Zone, hosts: &[SteeredName<'_>]) -> Result<Zone, ZoneError> {
    let text = zone.origin.as_str();
    let origin = wire_name(text, text)?;
    let mut names = Names { text, origin: origin.clone(), nodes: BTreeMap::new() };
    let soa = zone.soa.as_ref().ok_or_else(|| ZoneError::NoSoa { zone: text.to_owned() })?;
    let primary = zone.name_servers.first().ok_or_else(|| ZoneError::NoNameServer { zone: text.to_owned() })?;

    let mut soa_rdata = wire_name(text, &primary.name)?;
    soa_rdata.extend_from_slice(&wire_name(text, &soa.rname)?);
    for field in [soa.serial, soa.refresh_s, soa.retry_s, soa.expire_s, soa.minimum_s] {
        soa_rdata.extend_from_slice(&field.to_be_bytes());
    }
    let soa_rdata: Box<[u8]> = soa_rdata.into();
    let negative = RrSet { rtype: code::SOA, ttl_s: zone.ttl_s.min(soa.minimum_s), rdata: vec![soa_rdata.clone()] };
    names.add(origin.clone(), code::SOA, zone.ttl_s, soa_rdata);
    for server in &zone.name_servers {
        let name = wire_name(text, &server.name)?;
        names.add(origin.clone(), code::NS, zone.ttl_s, name.clone().into());
        for address in &server.addresses {
            let parsed: IpAddr = address.parse().map_err(|_| ZoneError::Address {
                zone: text.to_owned(),
                name: server.name.clone(),
                address: address.clone(),
            })?;
            // Addresses of servers elsewhere are for others to say.
            if ends_with(&name, &origin) {
                let (rtype, rdata) = address_rdata(parsed);
                names.add(name.clone(), rtype, zone.ttl_s, rdata);
            }
        }
    }
    let parent = Name::from_ascii(format!("{text}.")).map_err(|_| names.no_name(text))?;
    for record in &zone.records {
        let name = names.inside(&record.name)?;
        let (rtype, rdata) = parse_record(text, &parent, record)?;
        names.add(name, rtype, record.ttl_s, rdata);
    }
    for host in hosts {
        let name = names.inside(host.name)?;
        let node = names.nodes.entry(name).or_default();
        if node.host.replace(host.index).is_some() {
            return Err(ZoneError::Steered { zone: text.to_owned(), name: host.name.to_owned() });
        }
    }
    let nodes = names.finish()?;
    Ok(Zone { origin: origin.into(), nodes, negative })
}

/// Names of a zone in the making.
struct Names<'a> {
    text: &'a str,
    origin: Vec<u8>,
    nodes: BTreeMap<Vec<u8>, Node>,
}

impl Names<'_> {
    fn no_name(&self, name: &str) -> ZoneError {
        ZoneError::Name { zone: self.text.to_owned(), name: name.to_owned() }
    }

    fn inside(&self, name: &str) -> Result<Vec<u8>, ZoneError> {
        let wire = wire_name(self.text, name)?;
        match ends_with(&wire, &self.origin) {
            true => Ok(wire),
            false => Err(ZoneError::Outside { zone: self.text.to_owned(), name: name.to_owned() }),
        }
    }

    /// Adds one record. Records of a set have one TTL (RFC 2181 §5.2): the lowest.
    fn add(&mut self, name: Vec<u8>, rtype: u16, ttl_s: u32, rdata: Box<[u8]>) {
        // RFC 2181 §8: above this a TTL counts as zero.
        let ttl_s = ttl_s.min(i32::MAX as u32);
        let rrsets = &mut self.nodes.entry(name).or_default().rrsets;
        match rrsets.binary_search_by_key(&rtype, |rrset| rrset.rtype) {
            Ok(found) => {
                let rrset = &mut rrsets[found];
                rrset.ttl_s = rrset.ttl_s.min(ttl_s);
                if !rrset.rdata.contains(&rdata) {
                    rrset.rdata.push(rdata);
                }
            }
            Err(place) => rrsets.insert(place, RrSet { rtype, ttl_s, rdata: vec![rdata] }),
        }
    }

    /// Checks what only the whole shows, and adds the empty non-terminals.
    fn finish(mut self) -> Result<HashMap<Box<[u8]>, Node>, ZoneError> {
        for (name, node) in &self.nodes {
            let has = |rtype| node.rrset(rtype).is_some();
            let cname = node.rrset(code::CNAME);
            let (zone, name) = (self.text.to_owned(), name.as_slice());
            if cname.is_some_and(|cname| cname.rdata.len() > 1 || node.rrsets.len() > 1) && node.host.is_none() {
                return Err(ZoneError::CnameBeside { zone, name: text_name(name) });
            }
            if node.host.is_some() && [code::A, code::AAAA, code::CNAME].into_iter().any(has) {
                return Err(ZoneError::Steered { zone, name: text_name(name) });
            }
            if node.host.is_some() && has(code::NS) && name.len() > self.origin.len() {
                return Err(ZoneError::Steered { zone, name: text_name(name) });
            }
        }
        let names: Vec<Vec<u8>> = self.nodes.keys().cloned().collect();
        for name in names {
            let mut at = 0;
            while name.len() - at > self.origin.len() {
                at += 1 + usize::from(name[at]);
                self.nodes.entry(name[at..].to_vec()).or_default();
            }
        }
        Ok(self.nodes.into_iter().map(|(name, node)| (name.into(), node)).collect())
    }
}

/// The type and RDATA of an address.
fn address_rdata(address: IpAddr) -> (u16, Box<[u8]>) {
    match address {
        IpAddr::V4(v4) => (code::A, v4.octets().into()),
        IpAddr::V6(v6) => (code::AAAA, v6.octets().into()),
    }
}

/// A static record as type and uncompressed RDATA. Names in it that do not end in a dot are relative to the origin, as
/// in a zone file (RFC 1035 §5.1); `\# length hex` is read for every type (RFC 3597 §5).
fn parse_record(zone: &str, origin: &Name, record: &snapshot::Record) -> Result<(u16, Box<[u8]>), ZoneError> {
    let refuse_type =
        || ZoneError::Type { zone: zone.to_owned(), name: record.name.clone(), kind: record.r#type.clone() };
    let refuse_value = |source| ZoneError::Value {
        zone: zone.to_owned(),
        name: record.name.clone(),
        kind: record.r#type.clone(),
        value: record.value.clone(),
        source,
    };
    let known = record.r#type.parse::<RecordType>().ok();
    let numbered = || record.r#type.strip_prefix("TYPE")?.parse::<u16>().ok();
    let rtype = known.map(u16::from).or_else(numbered).ok_or_else(refuse_type)?;
    // Made by the server (SOA), about one message (OPT, TSIG, TKEY), questions (128 to 255), or nothing (0).
    if matches!(rtype, 0 | code::SOA | code::OPT | 128..=255) {
        return Err(refuse_type());
    }
    if let Some(generic) = record.value.trim().strip_prefix("\\#") {
        return Ok((rtype, generic_rdata(generic).ok_or_else(|| refuse_value(None))?));
    }
    // The parser passes over surplus fields, which are most likely a second record that lost its place.
    let fields = match rtype {
        code::A | code::AAAA | code::CNAME | code::NS | code::PTR => Some(1),
        code::MX => Some(2),
        code::SRV => Some(4),
        _ => None,
    };
    if fields.is_some_and(|fields| record.value.split_ascii_whitespace().count() != fields) {
        return Err(refuse_value(None));
    }
    // One line of a zone file: a value that holds another line would be read as another record.
    if record.value.contains(['\n', '\r']) {
        return Err(refuse_value(None));
    }
    let line = format!("@ 0 IN {} {}\n", record.r#type, record.value);
    let (_, records) =
        Parser::new(line, None, Some(origin.clone())).parse().map_err(|source| refuse_value(Some(Box::new(source))))?;
    let mut data = records
        .values()
        .flat_map(|set| set.records_without_rrsigs())
        .filter(|read| read.dns_class == DNSClass::IN && u16::from(read.record_type()) == rtype);
    let rdata = match (data.next(), data.next()) {
        (Some(Record { data, .. }), None) => encode(data).ok_or_else(|| refuse_value(None))?,
        _ => return Err(refuse_value(None)),
    };
    Ok((rtype, rdata))
}

fn encode(data: &RData) -> Option<Box<[u8]>> {
    let mut bytes = Vec::new();
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_name_encoding(NameEncoding::Uncompressed);
    data.emit(&mut encoder).ok()?;
    (bytes.len() <= usize::from(u16::MAX)).then(|| bytes.into())
}

fn generic_rdata(text: &str) -> Option<Box<[u8]>> {
    let (length, digits) = text.trim_start().split_once(char::is_whitespace).unwrap_or((text.trim(), ""));
    let digits: Vec<u8> = digits.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = digits.chunks(2).map(pair).collect();
    let bytes = bytes.filter(|bytes| digits.len() == 2 * bytes.len())?;
    (length.parse() == Ok(bytes.len()) && bytes.len() <= usize::from(u16::MAX)).then(|| bytes.into())
}

/// A name in wire form and lower case.
pub(crate) fn wire_name(zone: &str, text: &str) -> Result<Vec<u8>, ZoneError> {
    let refuse = || ZoneError::Name { zone: zone.to_owned(), name: text.to_owned() };
    let name = Name::from_ascii(text.strip_suffix('.').unwrap_or(text)).map_err(|_| refuse())?;
    let mut wire = Vec::with_capacity(text.len() + 2);
    for label in name.iter() {
        wire.push(u8::try_from(label.len()).map_err(|_| refuse())?);
        wire.extend(label.iter().map(u8::to_ascii_lowercase));
    }
    wire.push(0);
    // The root is nobody's zone here, and an empty name means that a field was left out.
    if (2..=255).contains(&wire.len()) { Ok(wire) } else { Err(refuse()) }
}

/// A wire name for people.
fn text_name(wire: &[u8]) -> String {
    let mut text = String::new();
    let mut rest = wire;
    while let Some((length, tail)) = rest.split_first().filter(|(length, _)| **length > 0) {
        let (label, tail) = tail.split_at(usize::from(*length).min(tail.len()));
        if !text.is_empty() {
            text.push('.');
        }
        text.push_str(&String::from_utf8_lossy(label));
        rest = tail;
    }
    text
}

/// Whether `name` is `origin` or lies below it; both in wire form and lower case.
fn ends_with(name: &[u8], origin: &[u8]) -> bool {
    let mut at = 0;
    while name.len() - at > origin.len() {
        at += 1 + usize::from(name[at]);
    }
    name[at..] == *origin
}
