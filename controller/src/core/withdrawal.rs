//! Copies that their policy no longer wants: which may go now ([`policies::withdrawal`]), and what waits for what.

use std::collections::BTreeMap;

use policies::id::{AppId, ClusterId};
use policies::steering::Class;
use policies::withdrawal::{Facts, Verdict, step};

use super::choice::{AppChoice, Choice, ClusterChoice};
use super::{Seen, is_ready, ledger_entry};

/// Why each copy that is not wanted any more still stands, by app and cluster.
pub(super) type Waits = BTreeMap<AppId, BTreeMap<ClusterId, Verdict>>;

/// Looks at every withdrawal, after the snapshot was made; what may go is marked as going.
pub(super) fn advance(seen: &Seen, choice: &mut Choice) -> Waits {
    let mut waits = Waits::new();
    let served = |name: &String| seen.nodes.get(name).map_or(0, |node| node.snapshot);
    let nobody = BTreeMap::new();
    let nodes: BTreeMap<String, u64> = choice.nodes.keys().map(|name| (name.clone(), served(name))).collect();
    for (id, app) in &mut choice.apps {
        let AppChoice { clusters, hosts, traffic, .. } = app;
        // Where no answer ever named it, there is nobody to wait for.
        let (nodes, ttl_s) = match *traffic {
            Some(traffic) if !hosts.is_empty() => (&nodes, traffic.ttl_s),
            Some(_) | None => (&nobody, 0),
        };
        let another_ready = clusters.iter().any(|(cluster, c)| c.stays() && takes_over(seen, id, cluster, c));
        for (cluster, copy) in clusters {
            let Some(leaving) = copy.leaving.filter(|_| !copy.removing) else { continue };
            let facts = Facts {
                now_s: seen.now_s,
                another_ready,
                named: hosts.values().any(|targets| targets.0.contains_key(cluster)),
                snapshot: choice.snapshot.number,
                nodes,
                ttl_s,
            };
            let (after, verdict) = step(leaving, &facts);
            copy.leaving = Some(after);
            if verdict == Verdict::Remove {
                (copy.removing, copy.leaving) = (true, None);
            } else {
                waits.entry(id.clone()).or_default().insert(cluster.clone(), verdict);
            }
        }
    }
    waits
}

/// Whether a copy can take users over: its agent is there and says so, and no DNS node holds its cluster for suspect or
/// down. One that its owner drains is well, and whoever names no other cluster wants users there.
fn takes_over(seen: &Seen, app: &AppId, cluster: &ClusterId, copy: &ClusterChoice) -> bool {
    let ledger = seen.ledgers.get(cluster).filter(|_| seen.connected.contains(cluster));
    let ready = ledger.and_then(|ledger| ledger_entry(ledger, app)).is_some_and(|e| is_ready(e, copy));
    let judged = seen.nodes.values().flat_map(|node| &node.judged).filter(|judged| judged.cluster == cluster.as_str());
    let doubted = [Class::Suspect, Class::Down].map(Class::as_str);
    ready && judged.into_iter().all(|judged| !doubted.contains(&judged.class.as_str()))
}
