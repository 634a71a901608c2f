//! The snapshot: everything a DNS node answers from, as one numbered, content-addressed value.
//!
//! It carries tables, never verdicts: which clusters there are, where, with what addresses, for which hosts. Health is
//! decided by each node for itself and applied at query time. Protobuf: never reuse or renumber a tag. Its bytes are
//! canonical (lists sorted as each field says), so equal content has an equal digest.

use prost::Message;

/// The whole of what a DNS node answers from.
#[derive(Clone, PartialEq, Message)]
pub struct Snapshot {
    /// The leader's term that made it.
    #[prost(uint64, tag = "1")]
    pub term: u64,
    /// Orders snapshots; a node refuses an older one.
    #[prost(uint64, tag = "2")]
    pub number: u64,
    /// Clusters, sorted by name; hosts refer to them by index.
    #[prost(message, repeated, tag = "3")]
    pub clusters: Vec<Cluster>,
    /// Zones, sorted by origin.
    #[prost(message, repeated, tag = "4")]
    pub zones: Vec<Zone>,
    /// Digests of geo database blobs, in order of preference; empty: the built-in country table.
    #[prost(bytes = "vec", repeated, tag = "5")]
    pub geo: Vec<Vec<u8>>,
    /// DNS nodes, sorted by name: whose findings count, and where to tell them one's own.
    #[prost(message, repeated, tag = "6")]
    pub nodes: Vec<Node>,
    /// The hub's failure domain; empty where nobody said.
    #[prost(string, tag = "7")]
    pub hub_region: String,
    /// Certificates of DNS nodes that their fellows refuse, sorted by name and time.
    #[prost(message, repeated, tag = "8")]
    pub revoked: Vec<Revoked>,
}

/// Every certificate of a DNS node up to some moment.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Revoked {
    /// The node's name.
    #[prost(string, tag = "1")]
    pub node: String,
    /// Certificates that began then or earlier, seconds since 1970.
    #[prost(uint64, tag = "2")]
    pub until_s: u64,
}

/// One DNS node.
#[derive(Clone, PartialEq, Message)]
pub struct Node {
    /// Its name, as in its certificate.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its region, which is its failure domain.
    #[prost(string, tag = "2")]
    pub region: String,
    /// Where its fellows reach it over QUIC, `host:port`; empty: nowhere, then it hears nobody.
    #[prost(string, repeated, tag = "3")]
    pub peering: Vec<String>,
}

/// One cluster as the steering sees it.
#[derive(Clone, PartialEq, Message)]
pub struct Cluster {
    /// Name of the `Cluster` object.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its region, which is its failure domain.
    #[prost(string, tag = "2")]
    pub region: String,
    /// Degrees north.
    #[prost(double, tag = "3")]
    pub latitude: f64,
    /// Degrees east.
    #[prost(double, tag = "4")]
    pub longitude: f64,
    /// How every DNS node sees whether it lives; absent while no address of it is known.
    #[prost(message, optional, tag = "5")]
    pub probe: Option<Probe>,
}

/// A question whose full HTTP answer is a sign of life. One good answer on any address and port is enough.
#[derive(Clone, PartialEq, Message)]
pub struct Probe {
    /// IPv4 and IPv6 addresses as text, sorted.
    #[prost(string, repeated, tag = "1")]
    pub addresses: Vec<String>,
    /// Ports, in the order written.
    #[prost(message, repeated, tag = "2")]
    pub ports: Vec<ProbePort>,
    /// Path and query of the request, `/healthz`.
    #[prost(string, tag = "3")]
    pub path: String,
    /// Host header and TLS server name; empty: the address, and no server name.
    #[prost(string, tag = "4")]
    pub host: String,
}

/// A port to ask on.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct ProbePort {
    /// TCP port.
    #[prost(uint32, tag = "1")]
    pub port: u32,
    /// Whether TLS comes first. Its certificate is not looked at: a probe trusts nothing that it is told.
    #[prost(bool, tag = "2")]
    pub tls: bool,
}

/// One DNS zone (RFC 9499).
#[derive(Clone, PartialEq, Message)]
pub struct Zone {
    /// Origin in lower case without the final dot, `gslb.example.com`.
    #[prost(string, tag = "1")]
    pub origin: String,
    /// SOA fields (RFC 1035 §3.3.13).
    #[prost(message, optional, tag = "2")]
    pub soa: Option<Soa>,
    /// Name servers, in the order written.
    #[prost(message, repeated, tag = "3")]
    pub name_servers: Vec<NameServer>,
    /// TTL of NS, SOA and name server address records, seconds.
    #[prost(uint32, tag = "4")]
    pub ttl_s: u32,
    /// Static records, sorted by name, type and value.
    #[prost(message, repeated, tag = "5")]
    pub records: Vec<Record>,
    /// Steered hosts, sorted by name.
    #[prost(message, repeated, tag = "6")]
    pub hosts: Vec<Host>,
}

/// SOA fields. The serial changes with zone content only.
#[derive(Clone, PartialEq, Message)]
pub struct Soa {
    /// Mailbox of the responsible person as a domain name, `hostmaster.example.com`.
    #[prost(string, tag = "1")]
    pub rname: String,
    /// Version of the zone's content.
    #[prost(uint32, tag = "2")]
    pub serial: u32,
    /// Seconds.
    #[prost(uint32, tag = "3")]
    pub refresh_s: u32,
    /// Seconds.
    #[prost(uint32, tag = "4")]
    pub retry_s: u32,
    /// Seconds.
    #[prost(uint32, tag = "5")]
    pub expire_s: u32,
    /// Negative caching TTL, seconds (RFC 2308).
    #[prost(uint32, tag = "6")]
    pub minimum_s: u32,
}

/// A name server of a zone; the first is the SOA's MNAME.
#[derive(Clone, PartialEq, Message)]
pub struct NameServer {
    /// Fully qualified, lower case, no final dot.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its addresses, served as A and AAAA when the name lies in the zone.
    #[prost(string, repeated, tag = "2")]
    pub addresses: Vec<String>,
}

/// A static record.
#[derive(Clone, PartialEq, Message)]
pub struct Record {
    /// Owner, fully qualified, lower case, no final dot.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Type mnemonic: A, AAAA, CNAME, MX, TXT, CAA, SRV, NS, …
    #[prost(string, tag = "2")]
    pub r#type: String,
    /// Seconds.
    #[prost(uint32, tag = "3")]
    pub ttl_s: u32,
    /// RDATA in presentation form (RFC 1035 §5.1).
    #[prost(string, tag = "4")]
    pub value: String,
}

/// A host whose answer depends on the client.
#[derive(Clone, PartialEq, Message)]
pub struct Host {
    /// Fully qualified, lower case, no final dot.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The App that owns it, `namespace/name`.
    #[prost(string, tag = "2")]
    pub app: String,
    /// TTL of its answers, seconds.
    #[prost(uint32, tag = "3")]
    pub ttl_s: u32,
    /// Clusters whose estimate lies this close to the best one's count as equal, milliseconds.
    #[prost(uint32, tag = "4")]
    pub tolerance_ms: u32,
    /// Candidates, sorted by cluster index.
    #[prost(message, repeated, tag = "5")]
    pub targets: Vec<Target>,
    /// What it is for.
    #[prost(enumeration = "Role", tag = "6")]
    pub role: i32,
}

/// What a host is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Role {
    /// Any cluster that serves it will do.
    Any = 0,
    /// Reads.
    Read = 1,
    /// Writes: a suspect cluster is never offered beside another.
    Write = 2,
}

impl From<Role> for policies::steering::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Any => Self::Any,
            Role::Read => Self::Read,
            Role::Write => Self::Write,
        }
    }
}

/// One cluster that serves a host.
#[derive(Clone, PartialEq, Message)]
pub struct Target {
    /// Index into [`Snapshot::clusters`].
    #[prost(uint32, tag = "1")]
    pub cluster: u32,
    /// IPv4 and IPv6 addresses as text, sorted; never empty.
    #[prost(string, repeated, tag = "2")]
    pub addresses: Vec<String>,
}
