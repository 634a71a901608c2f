//! What there is to see of a world: where users are sent, how regions stand, and what changed.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use api::v1alpha1::{Cluster, standing};
use futures::StreamExt as _;
use futures::future::join_all;
use jiff::Timestamp;
use kube::runtime::reflector::Store;
use kube::{Api, Client, ResourceExt as _};
use policies::geo::distance_km;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::addresses::{Addresses, USER};
use crate::ask::{Answer, ask};
use crate::network::{Network, Site};
use crate::spec::{HUB, Place, Spec};
use crate::world::{LOOK_EVERY, SHOP_HOST};

/// Events that are kept: more than fit on a screen.
const EVENTS_MAX: usize = 100;

/// A world at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// In the order of the description.
    pub regions: Vec<RegionState>,
    /// In the order of the description.
    pub users: Vec<UserState>,
    /// The last things that happened, the oldest first.
    pub events: VecDeque<Event>,
    /// The longest time for which an answer may be kept, in seconds.
    pub ttl_seconds: u32,
}

/// How a region stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegionState {
    /// The cluster's name.
    pub name: String,
    /// The region's.
    pub region: String,
    /// Where it is.
    pub city: String,
    /// The address of its door.
    pub address: IpAddr,
    /// What was done to it.
    pub link: Link,
    /// Whether the hub hears its agent: `yes`, or why not.
    pub connected: String,
    /// Whether DNS nodes find it healthy: `yes`, or why not.
    pub healthy: String,
    /// Whether it is drained.
    pub drained: bool,
    /// How many apps run there.
    pub apps: u64,
}

/// What was done to a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Link {
    /// Nothing.
    Running,
    /// Nothing goes in or out.
    Stopped,
    /// Nothing passes between it and the hub.
    Partitioned,
}

/// How the users of a city are served.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UserState {
    /// The city.
    pub city: String,
    /// Their address.
    pub address: Ipv4Addr,
    /// The DNS node that they ask: the nearest that can be reached.
    pub node: Option<String>,
    /// The clusters whose addresses they get, by name.
    pub served_by: Vec<String>,
    /// There and back to the first of them, in milliseconds.
    pub round_trip_ms: Option<u64>,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its number, from one on.
    pub number: u64,
    /// When.
    pub at: Timestamp,
    /// What.
    pub what: String,
}

/// A world's state with what the world itself wants to know of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Looked {
    pub(crate) state: State,
    /// What each node says to the users of each city, as clusters' names.
    answers: BTreeMap<(String, String), Vec<String>>,
    /// The nearest cluster of each city.
    nearest: BTreeMap<String, String>,
}

impl Looked {
    /// Whether every node sends the users of every city to the nearest cluster.
    pub(crate) fn everybody_is_served(&self) -> bool {
        let nodes = self.state.regions.len();
        let right = |((_, city), clusters): (&(String, String), &Vec<String>)| {
            self.nearest.get(city).is_some_and(|nearest| *clusters == [nearest.clone()])
        };
        !self.answers.is_empty()
            && self.answers.len() == nodes * self.state.users.len()
            && self.answers.iter().all(right)
    }

    /// Whether an answer names a cluster.
    pub(crate) fn names(&self, cluster: &str) -> bool {
        self.answers.values().flatten().any(|name| name == cluster)
    }

    pub(crate) fn ttl(&self) -> Duration {
        Duration::from_secs(self.state.ttl_seconds.into())
    }
}

/// Looks all the time.
#[derive(Debug)]
pub(crate) struct Observer {
    looked: watch::Sender<Looked>,
}

impl Observer {
    pub(crate) fn start(
        spec: Arc<Spec>,
        network: Network,
        hub: Client,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Self {
        let looked = watch::Sender::new(Looked { nearest: nearest(&spec), ..Looked::default() });
        let (clusters, changes) = ingress::watch::objects(Api::<Cluster>::all(hub));
        let looker = Looker { spec, network, clusters };
        let (told, stop) = (looked.clone(), stop.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = looker.run(&told) => {}
                () = changes.for_each(|()| std::future::ready(())) => {}
            }
        });
        Self { looked }
    }

    pub(crate) fn state(&self) -> State {
        self.looked.borrow().state.clone()
    }

    pub(crate) fn changes(&self) -> watch::Receiver<Looked> {
        self.looked.subscribe()
    }

    /// Forgets what happened until now.
    pub(crate) fn begin_anew(&self) {
        self.looked.send_modify(|looked| looked.state.events.clear());
    }

    /// Something happened that nobody would see.
    pub(crate) fn tell(&self, what: &str) {
        self.looked.send_modify(|looked| tell(&mut looked.state.events, what.to_owned()));
    }
}

fn tell(events: &mut VecDeque<Event>, what: String) {
    let number = events.back().map_or(0, |last| last.number) + 1;
    events.push_back(Event { number, at: Timestamp::now(), what });
    if events.len() > EVENTS_MAX {
        events.pop_front();
    }
}

struct Looker {
    spec: Arc<Spec>,
    network: Network,
    clusters: Store<Cluster>,
}

impl Looker {
    async fn run(&self, told: &watch::Sender<Looked>) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let (answers, ttl_seconds) = self.answers().await;
            let (regions, users) = (self.regions(), self.users(&answers));
            told.send_if_modified(|looked| {
                let Looked { state, answers: before, nearest: _ } = looked;
                let same = state.regions == regions && state.users == users && *before == answers;
                if same && state.ttl_seconds == ttl_seconds {
                    return false;
                }
                for what in changes(state, &regions, &users) {
                    tell(&mut state.events, what);
                }
                (state.regions, state.users, state.ttl_seconds) = (regions, users, ttl_seconds);
                *before = answers;
                true
            });
        }
    }

    /// What each node that can be reached says to each city, and the longest TTL.
    async fn answers(&self) -> (BTreeMap<(String, String), Vec<String>>, u32) {
        let nodes = (1..).zip(&self.spec.regions).filter(|(_, region)| !self.is_dark(&region.name));
        let pairs = nodes.flat_map(|(number, region)| {
            self.spec.user_networks().map(move |(user, place)| (number, region, user, place))
        });
        let asked = join_all(pairs.map(async |(number, region, user, place)| {
            let node = Addresses::of(&self.spec, number).dns().server;
            // It is asked where it listens: how long the question travels is not what is looked at here.
            let answer = ask(self.spec.address(user, USER), node, SHOP_HOST).await.unwrap_or_default();
            ((region.name.clone(), place.city.clone()), answer)
        }))
        .await;
        let ttl = asked.iter().map(|(_, answer)| answer.ttl_s).max().unwrap_or_default();
        (asked.into_iter().map(|(view, answer)| (view, self.clusters_at(&answer))).collect(), ttl)
    }

    fn clusters_at(&self, answer: &Answer) -> Vec<String> {
        let regions = || (1..).zip(&self.spec.regions);
        let cluster = |address: &IpAddr| {
            let found =
                regions().find(|(number, _)| Addresses::of(&self.spec, *number).door().clients.ip() == *address);
            found.map_or_else(|| address.to_string(), |(_, region)| region.name.clone())
        };
        answer.addresses.iter().map(cluster).collect()
    }

    fn is_dark(&self, cluster: &str) -> bool {
        self.network.is_dark(&Site::from(cluster))
    }

    fn regions(&self) -> Vec<RegionState> {
        let state = |(number, region): (u8, &crate::spec::Region)| {
            let site = Site::from(region.name.as_str());
            let found = self.clusters.state().into_iter().find(|cluster| cluster.name_any() == region.name);
            let status = found.as_ref().and_then(|cluster| cluster.status.clone()).unwrap_or_default();
            RegionState {
                name: region.name.clone(),
                region: region.region.clone(),
                city: region.place.city.clone(),
                address: Addresses::of(&self.spec, number).door().clients.ip(),
                link: if self.network.is_dark(&site) {
                    Link::Stopped
                } else if self.network.is_apart(&site, &Site::from(HUB)) {
                    Link::Partitioned
                } else {
                    Link::Running
                },
                connected: standing(&status.conditions, "Connected"),
                healthy: standing(&status.conditions, "Healthy"),
                drained: found.is_some_and(|cluster| cluster.spec.drain),
                apps: status.apps.into(),
            }
        };
        (1..).zip(&self.spec.regions).map(state).collect()
    }

    fn users(&self, answers: &BTreeMap<(String, String), Vec<String>>) -> Vec<UserState> {
        let state = |(number, place): (u8, &Place)| {
            let node = nearest_regions(&self.spec, place).find(|name| !self.is_dark(name));
            let view = node.as_ref().map(|node| (node.clone(), place.city.clone()));
            let served_by = view.and_then(|view| answers.get(&view).cloned()).unwrap_or_default();
            let round_trip = |cluster: &String| {
                let time = self.network.round_trip(&Site::from(place.city.as_str()), &Site::from(cluster.as_str()));
                u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
            };
            UserState {
                city: place.city.clone(),
                address: self.spec.address(number, USER),
                node: node.map(|node| format!("ns-{node}")),
                round_trip_ms: served_by.first().map(round_trip),
                served_by,
            }
        };
        self.spec.user_networks().map(state).collect()
    }
}

/// Clusters by distance from a place, the nearest first.
pub(crate) fn nearest_regions<'a>(spec: &'a Spec, place: &Place) -> impl Iterator<Item = String> + use<'a> {
    let at = place.at;
    let mut all: Vec<_> = spec.regions.iter().collect();
    all.sort_by(|one, other| distance_km(at, one.place.at).total_cmp(&distance_km(at, other.place.at)));
    all.into_iter().map(|region| region.name.clone())
}

fn nearest(spec: &Spec) -> BTreeMap<String, String> {
    let nearest = |place: &Place| Some((place.city.clone(), nearest_regions(spec, place).next()?));
    spec.users.iter().filter_map(nearest).collect()
}

/// What differs, in words.
fn changes(before: &State, regions: &[RegionState], users: &[UserState]) -> Vec<String> {
    let mut said = vec![];
    for (old, new) in before.regions.iter().zip(regions) {
        if old.connected != new.connected {
            said.push(match new.connected.as_str() {
                "yes" => format!("the hub hears {}", new.name),
                why => format!("the hub does not hear {} ({why})", new.name),
            });
        }
        if old.healthy != new.healthy {
            said.push(match new.healthy.as_str() {
                "yes" => format!("DNS nodes find {} healthy", new.name),
                why => format!("DNS nodes do not find {} healthy ({why})", new.name),
            });
        }
    }
    for (old, new) in before.users.iter().zip(users) {
        if old.served_by != new.served_by {
            let to = if new.served_by.is_empty() { "nobody".to_owned() } else { new.served_by.join(" and ") };
            let far = new.round_trip_ms.map(|ms| format!(", {ms} ms away")).unwrap_or_default();
            said.push(format!("users in {} are sent to {to}{far}", new.city));
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(served_by: &[&str], connected: &str) -> State {
        let region = RegionState {
            name: "iad".to_owned(),
            region: "us-east".to_owned(),
            city: "Virginia".to_owned(),
            address: IpAddr::V4(Ipv4Addr::new(127, 1, 2, 1)),
            link: Link::Running,
            connected: connected.to_owned(),
            healthy: "yes".to_owned(),
            drained: false,
            apps: 1,
        };
        let user = UserState {
            city: "New York".to_owned(),
            address: Ipv4Addr::new(127, 1, 102, 1),
            node: Some("ns-iad".to_owned()),
            served_by: served_by.iter().map(|name| (*name).to_owned()).collect(),
            round_trip_ms: (!served_by.is_empty()).then_some(9),
        };
        State { regions: vec![region], users: vec![user], ..State::default() }
    }

    #[test]
    fn what_changes_is_said_in_words() {
        let said = |old: &State, new: &State| changes(old, &new.regions, &new.users);
        let (before, after) = (state(&["iad"], "yes"), state(&["fra"], "Silent"));
        assert_eq!(said(&before, &before), Vec::<String>::new());
        let told = ["the hub does not hear iad (Silent)", "users in New York are sent to fra, 9 ms away"];
        assert_eq!(said(&before, &after), told);
        assert_eq!(said(&before, &state(&[], "yes")), ["users in New York are sent to nobody"]);
        assert_eq!(said(&State::default(), &after), Vec::<String>::new(), "nothing was seen before");
    }

    #[test]
    fn everybody_is_served_once_every_node_names_the_nearest() {
        let view = |node: &str| (node.to_owned(), "New York".to_owned());
        let nearest = BTreeMap::from([("New York".to_owned(), "iad".to_owned())]);
        let mut looked = Looked { state: state(&["iad"], "yes"), nearest, ..Looked::default() };
        assert!(!looked.everybody_is_served(), "nobody was asked");
        looked.answers.insert(view("iad"), vec!["iad".to_owned()]);
        assert!(looked.everybody_is_served() && looked.names("iad") && !looked.names("fra"));
        looked.answers.insert(view("iad"), vec!["iad".to_owned(), "fra".to_owned()]);
        assert!(!looked.everybody_is_served() && looked.names("fra"));
    }
}
