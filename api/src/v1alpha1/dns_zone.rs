//! `DnsZone`: a zone that the DNS nodes are authoritative for.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Condition, duration};

/// A zone that the DNS nodes are authoritative for: delegate it to them in its parent zone.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "isochrone.dev",
    version = "v1alpha1",
    kind = "DnsZone",
    status = "DnsZoneStatus",
    derive = "PartialEq",
    category = "isochrone",
    shortname = "dz",
    doc = "A zone that the DNS nodes are authoritative for: delegate it to them in its parent zone.",
    printcolumn(name = "Origin", type_ = "string", json_path = ".spec.origin"),
    printcolumn(name = "Serial", type_ = "integer", json_path = ".status.serial"),
    printcolumn(name = "Hosts", type_ = "integer", json_path = ".status.hosts"),
    printcolumn(name = "Accepted", type_ = "string", json_path = ".status.conditions[?(@.type==\"Accepted\")].status"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct DnsZoneSpec {
    /// The zone's name in lower case without a final dot, such as gslb.example.com. It cannot be changed: make another
    /// DnsZone, move the hosts, delete this one.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(
        validation = Rule::new("self.matches('^([a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9_])?[.])*[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$')")
            .message("write a DNS name in lower case without a final dot, such as gslb.example.com"),
        validation = Rule::new("self == oldSelf").message("origin cannot be changed: make another DnsZone, move the hosts, delete this one")
    )]
    pub origin: String,

    /// Name servers, as the parent zone's delegation names them; the first is the SOA's MNAME.
    #[schemars(length(min = 1, max = 13))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub name_servers: Vec<NameServer>,

    /// Namespaces whose Apps may claim hosts in this zone; "*" allows all.
    #[schemars(length(min = 1, max = 256), inner(length(min = 1, max = 63)))]
    #[x_kube(validation = Rule::new("self.all(n, n == '*' || n.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$'))")
        .message("write names of namespaces, or \"*\" for all of them"))]
    pub allowed_namespaces: Vec<String>,

    /// Hosts that Apps may claim: exact names, or *.sub.zone for everything below. Left out: every name in the zone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 255)))]
    pub host_patterns: Vec<String>,

    /// TTL of the zone's own records.
    #[serde(default = "default_zone_ttl")]
    #[schemars(length(min = 2, max = 24), regex(pattern = duration::PATTERN))]
    pub ttl: String,

    /// Mailbox of who answers for the zone, as a DNS name: hostmaster.example.com means hostmaster@example.com. Left
    /// out: hostmaster at the origin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub mailbox: Option<String>,

    /// SOA timers.
    #[serde(default)]
    pub soa: SoaTimers,

    /// Records that are the same for everybody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub records: Vec<ZoneRecord>,
}

/// A name server of a zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct NameServer {
    /// Its name, fully qualified, without a final dot.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its addresses; needed when its name lies in the zone (glue).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(max = 45)))]
    #[x_kube(validation = Rule::new("self.all(a, isIP(a))").message("write IP addresses, such as 203.0.113.53"))]
    pub addresses: Vec<String>,
}

/// SOA timers (RFC 1035 §3.3.13).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SoaTimers {
    /// How often secondaries look for a new version.
    #[serde(default = "default_refresh")]
    #[schemars(length(min = 2, max = 24), regex(pattern = duration::PATTERN))]
    pub refresh: String,
    /// How soon they try again after a failure.
    #[serde(default = "default_retry")]
    #[schemars(length(min = 2, max = 24), regex(pattern = duration::PATTERN))]
    pub retry: String,
    /// When they give up.
    #[serde(default = "default_expire")]
    #[schemars(length(min = 2, max = 24), regex(pattern = duration::PATTERN))]
    pub expire: String,
    /// How long resolvers may keep a negative answer (RFC 2308).
    #[serde(default = "default_minimum")]
    #[schemars(length(min = 2, max = 24), regex(pattern = duration::PATTERN))]
    pub minimum: String,
}

impl Default for SoaTimers {
    fn default() -> Self {
        Self {
            refresh: default_refresh(),
            retry: default_retry(),
            expire: default_expire(),
            minimum: default_minimum(),
        }
    }
}

/// RIPE-203's advice for small zones, but for the negative TTL, which is short so that a new host is seen soon.
fn default_refresh() -> String {
    "1h".to_owned()
}
fn default_retry() -> String {
    "10m".to_owned()
}
fn default_expire() -> String {
    "336h".to_owned()
}
fn default_minimum() -> String {
    "30s".to_owned()
}

/// An hour: name servers move rarely, and a resolver that cannot reach one tries the next.
fn default_zone_ttl() -> String {
    "1h".to_owned()
}

/// Records of one name and type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ZoneRecord {
    /// Name relative to the origin; @ is the origin itself, *.sub a wildcard.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Type mnemonic: A, AAAA, CAA, CNAME, MX, NS, SRV, TXT, …
    #[schemars(length(min = 1, max = 16), regex(pattern = "^[A-Z0-9]+$"))]
    pub r#type: String,
    /// TTL; left out: the zone's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 24), regex(pattern = duration::PATTERN))]
    pub ttl: Option<String>,
    /// Values as in a zone file.
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 4096)))]
    pub values: Vec<String>,
}

/// What became of a zone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
pub struct DnsZoneStatus {
    /// SOA serial; changes with the zone's content only.
    #[serde(default)]
    pub serial: u32,
    /// Steered hosts in the zone.
    #[serde(default)]
    pub hosts: u32,
    /// Accepted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}
