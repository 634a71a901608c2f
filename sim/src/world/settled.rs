//! What must hold when all faults have ended long ago, by comparison with what users wrote, and by plain distance.

use std::collections::BTreeSet;

use policies::geo::{Coordinates, distance_km};
use policies::id::{AppId, ClusterId};
use policies::time::Instant;

use super::World;
use super::link::Party;
use crate::fact::Fact;
use crate::wishes::config_maps;

impl World {
    /// When the last node believes the last cluster again, by its own word.
    pub(super) fn last_well_at(&self) -> Option<Instant> {
        let nodes = self.nodes.iter();
        nodes.filter_map(|node| Some(node.clock.world(node.well_at()?))).max()
    }

    /// Tells whatever is not as it shall be.
    pub(super) fn check_settled(&mut self) {
        let now = self.now();
        if let Some(what) = self.unsettled() {
            self.watch.tell(now, &Fact::Unsettled { what: &what });
        }
    }

    fn unsettled(&mut self) -> Option<String> {
        let dead = |party: Party| self.boot(party).is_none();
        if dead(Party::Hub) || (0..self.agents.len()).any(|i| dead(Party::Agent(i))) {
            return Some("the script left a process dead".to_owned());
        }
        let wishes = &self.api.wishes;
        if let Some(id) = wishes.apps.keys().find(|id| !wishes.wanted.contains_key(*id)) {
            return Some(format!("{id} was deleted, and the hub still holds it"));
        }
        let names = ["web", "api", "base"].map(|name| AppId::new("shop", name));
        for (i, id) in self.ids.iter().enumerate() {
            for app in &names {
                if let Some(what) = self.unsettled_app(i, id, app) {
                    return Some(what);
                }
            }
        }
        for node in 0..self.nodes.len() {
            for host in 0..self.hosts.len() {
                for user in 0..self.users.len() {
                    if let Some(what) = self.unsettled_answer(node, host, user) {
                        return Some(what);
                    }
                }
            }
        }
        None
    }

    fn unsettled_app(&self, cluster: usize, id: &ClusterId, app: &AppId) -> Option<String> {
        let wishes = &self.api.wishes;
        let found: BTreeSet<String> = self.clusters[cluster]
            .of_app(app)
            .iter()
            .map(|object| format!("{} {}", object.kind, object.name))
            .collect();
        if !wishes.wants(app, id) {
            let stays = found.first()?;
            if self.is_left_alone(cluster, app) {
                return None;
            }
            return Some(format!("{id} still has {stays} of {app}, which is not wanted there"));
        }
        let version = wishes.wanted.get(app).map_or(0, |(_, version)| *version);
        let name = &app.name;
        let mut expected: BTreeSet<String> =
            (0..config_maps(version)).map(|k| format!("ConfigMap {name}-{k}")).collect();
        expected.extend([format!("Deployment.apps {name}"), format!("Service {name}")]);
        if self.hosts.iter().any(|(hosted, _)| hosted == app) {
            expected.insert(format!("Ingress.networking.k8s.io {name}"));
        }
        if found != expected {
            return Some(format!("{id} holds {found:?} of {app}, and shall hold {expected:?}"));
        }
        let stands = self.clusters[cluster].version_of(app);
        if stands != Some(version.into()) {
            return Some(format!("{id} runs version {stands:?} of {app}, and shall run {version}"));
        }
        (!self.clusters[cluster].serves(app)).then(|| format!("{app} does not serve in {id}"))
    }

    /// Whether a hub that was set back no longer knows that it delivered the app here. Then the agent does as DESIGN §7
    /// says: it deletes nothing and leaves the app as it is.
    fn is_left_alone(&self, cluster: usize, app: &AppId) -> bool {
        let kept = self.clusters[cluster].memory.iter().flat_map(|(kept, _)| &kept.apps);
        let mut absent = kept.filter(|kept| kept.absent).filter_map(|kept| kept.desired.as_ref());
        let restored = self.watch.tally.get("hub restored from an older copy") > 0;
        restored && absent.any(|order| order.namespace == app.namespace && order.name == app.name)
    }

    fn unsettled_answer(&self, node: usize, host: usize, user: usize) -> Option<String> {
        let (app, host) = &self.hosts[host];
        let (node, user) = (&self.nodes[node], &self.users[user]);
        let wishes = &self.api.wishes;
        let answer = node.answer(host, user.at).unwrap_or_default();
        let distance = |id: &ClusterId| {
            let place = wishes.clusters.get(id).and_then(|cluster| cluster.spec.location)?;
            Some(distance_km(user.at, Coordinates::new(place.latitude, place.longitude).ok()?))
        };
        let wanted: Vec<&ClusterId> = self.ids.iter().filter(|id| wishes.wants(app, id)).collect();
        let undrained = |id: &&ClusterId| !wishes.drained.contains(*id);
        let mut open: Vec<&ClusterId> = wanted.iter().copied().filter(undrained).collect();
        if open.is_empty() {
            open = wanted;
        }
        let nearest = open.into_iter().min_by(|a, b| {
            let far = |id| distance(id).unwrap_or(f64::MAX);
            far(a).total_cmp(&far(b))
        });
        (answer.first() != nearest).then(|| {
            format!("{} tells {} that {host} is at {answer:?}, and the nearest is {nearest:?}", node.name, user.name)
        })
    }
}
