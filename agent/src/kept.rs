//! What the agent was told, as it is kept in its own cluster. The messages only; [`crate::keep`] writes and reads them.

use api::wire::{DesiredApp, Digest};
use prost::Message;

/// Everything an agent must remember. Protobuf, since an agent reads what an earlier version wrote: never reuse or
/// renumber a tag.
#[derive(Clone, PartialEq, Message)]
pub struct Kept {
    /// Highest leader term obeyed.
    #[prost(uint64, tag = "1")]
    pub term: u64,
    /// Highest desired number taken in.
    #[prost(uint64, tag = "2")]
    pub number: u64,
    /// Apps, ordered by namespace and name.
    #[prost(message, repeated, tag = "3")]
    pub apps: Vec<KeptApp>,
    /// The hub does not want this agent any more: it does nothing until a hub lets it in again.
    #[prost(bool, tag = "4")]
    pub dismissed: bool,
}

/// One app, as far as its render has arrived.
#[derive(Clone, PartialEq, Message)]
pub struct KeptApp {
    /// What is acted upon.
    #[prost(message, optional, tag = "1")]
    pub desired: Option<DesiredApp>,
    /// The hub does not name it any more: left as it is.
    #[prost(bool, tag = "2")]
    pub absent: bool,
    /// `prune: Cascade` of the last render, for a removal, which comes without one.
    #[prost(bool, tag = "3")]
    pub cascade: bool,
    /// Highest epoch heard of; it may be ahead of `desired` while a render is on its way.
    #[prost(uint64, tag = "4")]
    pub epoch: u64,
}

impl Kept {
    /// The renders that it needs, each once.
    pub fn renders(&self) -> std::collections::BTreeSet<Digest> {
        let desired = self.apps.iter().filter_map(|a| a.desired.as_ref());
        desired.filter(|d| !d.remove).map(|d| d.render.clone()).collect()
    }
}
