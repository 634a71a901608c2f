//! Which kinds the API server has: discovery with a memory.
//!
//! Asked per group and version, on demand, so that an aggregated API which is down disturbs nobody but those who use
//! it. Only what was found is remembered: a kind that is missing may be there the next moment.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use kube::Client;
use kube::core::ApiResource;
use policies::plan::GroupKind;

/// A kind as the API server serves it.
#[derive(Clone, Debug)]
pub struct Kind {
    /// Names for requests.
    pub resource: ApiResource,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
}

type Served = BTreeMap<String, Kind>;

/// The kinds of one API server.
#[derive(Debug)]
pub struct Kinds {
    known: Mutex<BTreeMap<(String, String), Arc<Served>>>,
}

impl Kinds {
    /// Knows nothing yet.
    pub const fn new() -> Self {
        Self { known: Mutex::new(BTreeMap::new()) }
    }

    /// The kind in this version. `None`: the server answered, and has no such kind.
    pub async fn resolve(&self, client: &Client, kind: &GroupKind, version: &str) -> kube::Result<Option<Kind>> {
        let key = (kind.group.clone(), version.to_owned());
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(found) = known.and_then(|served| served.get(&kind.kind).cloned()) {
            return Ok(Some(found));
        }
        let Some(served) = ask(client, &kind.group, version).await? else {
            self.forget(&kind.group);
            return Ok(None);
        };
        let found = served.get(&kind.kind).cloned();
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(key, Arc::new(served));
        Ok(found)
    }

    /// The kind in whatever version serves it, the preferred one first.
    pub async fn resolve_any(&self, client: &Client, kind: &GroupKind) -> kube::Result<Option<Kind>> {
        if kind.group.is_empty() {
            return self.resolve(client, kind, "v1").await;
        }
        let groups = client.list_api_groups().await?.groups;
        let Some(group) = groups.into_iter().find(|g| g.name == kind.group) else {
            return Ok(None);
        };
        let preferred = group.preferred_version.into_iter().chain(group.versions);
        for version in preferred {
            if let Some(found) = self.resolve(client, kind, &version.version).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Ask again next time: a CRD of this group came or went.
    pub fn forget(&self, group: &str) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).retain(|(g, _), _| g != group);
    }
}

impl Default for Kinds {
    fn default() -> Self {
        Self::new()
    }
}

async fn ask(client: &Client, group: &str, version: &str) -> kube::Result<Option<Served>> {
    let answer = if group.is_empty() {
        client.list_core_api_resources(version).await
    } else {
        client.list_api_group_resources(&format!("{group}/{version}")).await
    };
    let list = match answer {
        Ok(list) => list,
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(None),
        Err(error) => return Err(error),
    };
    let kinds = list.resources.into_iter().filter(|r| !r.name.contains('/')).map(|r| {
        let resource = ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version: if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") },
            kind: r.kind.clone(),
            plural: r.name,
        };
        (r.kind, Kind { resource, namespaced: r.namespaced })
    });
    Ok(Some(kinds.collect()))
}
