//! Messages between the hub and its agents and DNS nodes: the payloads of the tunnel's publications and blobs.
//!
//! All of them are **level-triggered**: each publication on a topic carries the whole current state of that topic for
//! one peer, so a lost or replaced one costs nothing, and the newest wins. Large things travel as content-addressed
//! blobs that a publication names by digest. Protobuf, so that neighbouring versions understand each other: never
//! reuse or renumber a tag.

use std::collections::BTreeMap;
use std::time::Duration;

use policies::failover::vote;
use policies::id::ClusterId;
use prost::Message;

/// Topics of publications; the payload type stands beside each.
pub mod topic {
    /// Hub → agent, [`super::Desired`].
    pub const DESIRED: &str = "desired";
    /// Agent → hub, [`super::Ledger`].
    pub const LEDGER: &str = "ledger";
    /// Agent → hub, [`super::ClusterReport`].
    pub const CLUSTER: &str = "cluster";
    /// Hub → DNS node, [`super::SnapshotHead`].
    pub const SNAPSHOT: &str = "snapshot";
    /// Hub → DNS node, [`super::HubReport`].
    pub const HUB_REPORT: &str = "hub-report";
    /// Hub → DNS node, each second, [`super::TunnelReport`].
    pub const TUNNELS: &str = "tunnels";
    /// DNS node → DNS node, each second and at once when a threshold is crossed, [`super::Findings`].
    pub const FINDINGS: &str = "findings";
    /// DNS node → hub, [`super::NodeReport`].
    pub const NODE: &str = "node";
    /// Hub → DNS node, [`super::Question`]. Of two that wait only the newer one is answered.
    pub const EXPLAIN: &str = "explain";
    /// DNS node → hub, [`super::Explained`].
    pub const EXPLAINED: &str = "explained";
}

/// SHA-256 of a blob, the name it is fetched by.
pub type Digest = Vec<u8>;

/// The digest of `bytes`.
pub fn digest(bytes: &[u8]) -> Digest {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).to_vec()
}

/// A digest for people: the first twelve hexadecimal digits.
pub fn short(digest: &[u8]) -> String {
    digest.iter().take(6).map(|b| format!("{b:02x}")).collect()
}

/// Everything one cluster shall run. An app that is *absent* here is left as it is; only `remove` removes.
#[derive(Clone, PartialEq, Message)]
pub struct Desired {
    /// The leader's term; an older one is refused.
    #[prost(uint64, tag = "1")]
    pub term: u64,
    /// Orders desired states within the cluster's life; an older one is refused.
    #[prost(uint64, tag = "2")]
    pub number: u64,
    /// Apps, ordered by namespace and name.
    #[prost(message, repeated, tag = "3")]
    pub apps: Vec<DesiredApp>,
}

/// One app in one cluster.
#[derive(Clone, PartialEq, Message)]
pub struct DesiredApp {
    /// Namespace of the App, on the hub and in the member.
    #[prost(string, tag = "1")]
    pub namespace: String,
    /// Name of the App.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Orders decisions about this app; an older one is refused.
    #[prost(uint64, tag = "3")]
    pub epoch: u64,
    /// Digest of the [`Render`] blob; empty when `remove`.
    #[prost(bytes = "vec", tag = "4")]
    pub render: Digest,
    /// True: take away what was delivered of this app, nothing else.
    #[prost(bool, tag = "5")]
    pub remove: bool,
}

/// The objects of one app for one cluster, rendered on the hub: replicas divided, patches applied. Content-addressed.
#[derive(Clone, PartialEq, Message)]
pub struct Render {
    /// Each a whole Kubernetes object as JSON with sorted keys.
    #[prost(string, repeated, tag = "1")]
    pub objects: Vec<String>,
    /// Host names of the app whose addresses the agent shall look for in Ingress and Service status.
    #[prost(string, repeated, tag = "2")]
    pub hosts: Vec<String>,
    /// Whether CRDs, Namespaces, PersistentVolumes and PersistentVolumeClaims may be pruned (`prune: Cascade`).
    #[prost(bool, tag = "3")]
    pub cascade: bool,
    /// What becomes of objects that were there before.
    #[prost(enumeration = "Adopt", tag = "4")]
    pub adopt: i32,
    /// Fields that others may set.
    #[prost(message, repeated, tag = "5")]
    pub ignore: Vec<Ignore>,
}

/// Whether an object that was there before becomes the app's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Adopt {
    /// Never.
    Never = 0,
    /// If applying would change nothing in it.
    IfIdentical = 1,
    /// Always.
    Always = 2,
}

/// Fields that others may set, see `App.spec.ignoreDifferences`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Ignore {
    /// API group of the objects; empty for the core group.
    #[prost(string, tag = "1")]
    pub group: String,
    /// Their kind.
    #[prost(string, tag = "2")]
    pub kind: String,
    /// Name of one object; empty: all of this kind.
    #[prost(string, tag = "3")]
    pub name: String,
    /// JSON pointers (RFC 6901).
    #[prost(string, repeated, tag = "4")]
    pub pointers: Vec<String>,
    /// Field managers.
    #[prost(string, repeated, tag = "5")]
    pub managers: Vec<String>,
}

/// What one agent did, for every app it knows.
#[derive(Clone, PartialEq, Message)]
pub struct Ledger {
    /// Highest leader term the agent has obeyed.
    #[prost(uint64, tag = "1")]
    pub term: u64,
    /// Highest desired number the agent has taken in.
    #[prost(uint64, tag = "2")]
    pub number: u64,
    /// Apps, ordered by namespace and name.
    #[prost(message, repeated, tag = "3")]
    pub entries: Vec<LedgerEntry>,
}

/// One app as it stands in one cluster.
#[derive(Clone, PartialEq, Message)]
pub struct LedgerEntry {
    /// Namespace of the App.
    #[prost(string, tag = "1")]
    pub namespace: String,
    /// Name of the App.
    #[prost(string, tag = "2")]
    pub name: String,
    /// The epoch that `phase` speaks of.
    #[prost(uint64, tag = "3")]
    pub epoch: u64,
    /// Digest of the render that `phase` speaks of.
    #[prost(bytes = "vec", tag = "4")]
    pub render: Digest,
    /// Where the app stands.
    #[prost(enumeration = "Phase", tag = "5")]
    pub phase: i32,
    /// Objects in the render.
    #[prost(uint32, tag = "6")]
    pub objects: u32,
    /// Objects applied and current (their own status says so).
    #[prost(uint32, tag = "7")]
    pub objects_ready: u32,
    /// CamelCase reason when not Ready, as in a condition.
    #[prost(string, tag = "8")]
    pub reason: String,
    /// The same for people: what failed, and what to do.
    #[prost(string, tag = "9")]
    pub message: String,
    /// Addresses found for the app's hosts.
    #[prost(message, repeated, tag = "10")]
    pub addresses: Vec<HostAddresses>,
    /// Ready pods over all workloads of the app.
    #[prost(uint32, tag = "11")]
    pub replicas_ready: u32,
}

/// Where an app stands in one cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Phase {
    /// Not yet looked at.
    Unknown = 0,
    /// Being applied, or applied and not yet current.
    Progressing = 1,
    /// Applied, and every object current.
    Ready = 2,
    /// Something was refused or failed; `reason` and `message` say what.
    Failed = 3,
    /// Removal under way.
    Removing = 4,
    /// Gone; the hub may forget the pair.
    Removed = 5,
}

/// Addresses that serve one host in one cluster.
#[derive(Clone, PartialEq, Message)]
pub struct HostAddresses {
    /// The host.
    #[prost(string, tag = "1")]
    pub host: String,
    /// IPv4 and IPv6 addresses as text, sorted.
    #[prost(string, repeated, tag = "2")]
    pub addresses: Vec<String>,
    /// Why there is none, as a CamelCase reason (`LoadBalancerHostname`, `NoAddress`).
    #[prost(string, tag = "3")]
    pub reason: String,
}

/// What an agent sees of its cluster as a whole.
#[derive(Clone, PartialEq, Message)]
pub struct ClusterReport {
    /// UID of the `kube-system` namespace: what the cluster *is*, whatever its name.
    #[prost(string, tag = "1")]
    pub uid: String,
    /// Version of its API server, `v1.37.2`.
    #[prost(string, tag = "2")]
    pub kubernetes: String,
    /// Nodes that are Ready.
    #[prost(uint32, tag = "3")]
    pub nodes_ready: u32,
    /// Nodes in all.
    #[prost(uint32, tag = "4")]
    pub nodes: u32,
    /// True when the agent's own API server answers.
    #[prost(bool, tag = "5")]
    pub api_ready: bool,
}

/// Names the snapshot a DNS node shall answer from; the bytes ([`crate::snapshot::Snapshot`]) are fetched by digest.
#[derive(Clone, PartialEq, Message)]
pub struct SnapshotHead {
    /// The leader's term.
    #[prost(uint64, tag = "1")]
    pub term: u64,
    /// The snapshot's number; an older one is refused.
    #[prost(uint64, tag = "2")]
    pub number: u64,
    /// Digest of its bytes.
    #[prost(bytes = "vec", tag = "3")]
    pub digest: Digest,
}

/// What the hub itself contributes to a DNS node's verdicts and what its owner said: kept by the node.
#[derive(Clone, PartialEq, Message)]
pub struct HubReport {
    /// The leader's term.
    #[prost(uint64, tag = "1")]
    pub term: u64,
    /// Orders reports.
    #[prost(uint64, tag = "2")]
    pub number: u64,
    /// Clusters that their owner drains (`Cluster.spec.drain`), sorted.
    #[prost(string, repeated, tag = "3")]
    pub drained: Vec<String>,
}

impl HubReport {
    /// Digest of what it says, whoever says it and whichever number it has.
    pub fn content(&self) -> Digest {
        digest(&Self { term: 0, number: 0, ..self.clone() }.encode_to_vec())
    }
}

/// How long the hub has heard nothing from the agents it knows. Good for seconds, so never kept.
#[derive(Clone, PartialEq, Message)]
pub struct TunnelReport {
    /// The leader's term.
    #[prost(uint64, tag = "1")]
    pub term: u64,
    /// Clusters whose agents this hub has heard and that did not say goodbye, sorted by name.
    #[prost(message, repeated, tag = "2")]
    pub tunnels: Vec<Finding>,
}

/// What one observer has seen of one cluster.
#[derive(Clone, PartialEq, Message)]
pub struct Finding {
    /// The cluster.
    #[prost(string, tag = "1")]
    pub cluster: String,
    /// Milliseconds since the last success, or since it began to look when there was none.
    #[prost(uint64, tag = "2")]
    pub silent_ms: u64,
    /// Answers in a row by which the cluster itself said that it fails.
    #[prost(uint32, tag = "3")]
    pub positives: u32,
    /// Whether there ever was a success.
    #[prost(bool, tag = "4")]
    pub seen: bool,
}

/// Findings for the wire, in the order of their clusters.
pub fn findings(found: &BTreeMap<ClusterId, vote::Finding>) -> Vec<Finding> {
    let finding = |(id, found): (&ClusterId, &vote::Finding)| Finding {
        cluster: id.to_string(),
        silent_ms: u64::try_from(found.silent.as_millis()).unwrap_or(u64::MAX),
        positives: found.positives,
        seen: found.seen,
    };
    found.iter().map(finding).collect()
}

/// Findings from the wire. Of two about one cluster the last counts.
pub fn found(findings: &[Finding]) -> BTreeMap<ClusterId, vote::Finding> {
    let finding = |finding: &Finding| {
        let silent = Duration::from_millis(finding.silent_ms);
        (ClusterId::new(&finding.cluster), vote::Finding { silent, positives: finding.positives, seen: finding.seen })
    };
    findings.iter().map(finding).collect()
}

/// What a DNS node tells its fellows.
#[derive(Clone, PartialEq, Message)]
pub struct Findings {
    /// It heard from nobody outside its own failure domain, so what it found counts for nothing.
    #[prost(bool, tag = "1")]
    pub blind: bool,
    /// Its own probes, sorted by cluster.
    #[prost(message, repeated, tag = "2")]
    pub clusters: Vec<Finding>,
}

/// What a DNS node says of itself.
#[derive(Clone, PartialEq, Message)]
pub struct NodeReport {
    /// Number of the snapshot it answers from; zero before the first.
    #[prost(uint64, tag = "1")]
    pub snapshot: u64,
    /// Digest of that snapshot.
    #[prost(bytes = "vec", tag = "2")]
    pub digest: Digest,
    /// Why a newer one was refused, if so.
    #[prost(string, tag = "3")]
    pub refused: String,
    /// Highest leader term of a snapshot that it obeyed.
    #[prost(uint64, tag = "4")]
    pub term: u64,
    /// Where it answers, `address:port` as text.
    #[prost(string, repeated, tag = "5")]
    pub listening: Vec<String>,
    /// Where fellow nodes reach it, `host:port`. A host of `0.0.0.0` or `[::]` stands for the address that the hub sees
    /// it come from.
    #[prost(string, repeated, tag = "6")]
    pub peering: Vec<String>,
    /// What it holds of each cluster that it watches, sorted by cluster. For people: nothing is decided by it.
    #[prost(message, repeated, tag = "7")]
    pub judged: Vec<Judged>,
    /// Highest leader term of any message that it obeyed, snapshot or not.
    #[prost(uint64, tag = "8")]
    pub obeyed: u64,
    /// Number of the [`HubReport`] that it goes by; zero before the first.
    #[prost(uint64, tag = "9")]
    pub report: u64,
    /// Digest of what that report says ([`HubReport::content`]).
    #[prost(bytes = "vec", tag = "10")]
    pub report_digest: Digest,
}

/// What an operator asks of a DNS node, passed on by the hub.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Question {
    /// Names it in the answer.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// The query of `GET /explain`, as it came.
    #[prost(string, tag = "2")]
    pub query: String,
}

/// A DNS node's answer to a [`Question`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Explained {
    /// Which question.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// The HTTP status of the answer.
    #[prost(uint32, tag = "2")]
    pub status: u32,
    /// Its body: JSON, or what was wrong, for people.
    #[prost(string, tag = "3")]
    pub body: String,
}

/// One node's class of one cluster.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Judged {
    /// The cluster.
    #[prost(string, tag = "1")]
    pub cluster: String,
    /// `healthy`, `suspect`, `down` or `drained`.
    #[prost(string, tag = "2")]
    pub class: String,
}
