//! What a world is to be like: the default one, or one that a file describes.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use api::v1alpha1::parse_duration;
use policies::geo::Coordinates;
use serde::Deserialize;

use crate::addresses::USER;

mod cities;

pub use cities::City;
use cities::known;

/// A world to start.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// The first two octets of all its addresses; the first is 127.
    pub network: [u8; 2],
    /// Ports, the same in every region.
    pub ports: Ports,
    /// Where the hub is.
    pub hub: Place,
    /// In the order in which they are told.
    pub regions: Vec<Region>,
    /// Where users are.
    pub users: Vec<Place>,
    /// Round trips that are known better than by distance, between regions, cities of users, and `hub`.
    pub latencies: Vec<Latency>,
    /// What happens by itself, in the order of time.
    pub faults: Vec<Fault>,
}

/// A city.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// Its name.
    pub city: String,
    /// Where it is.
    pub at: Coordinates,
}

/// A region with its cluster and its DNS node.
#[derive(Clone, Debug, PartialEq)]
pub struct Region {
    /// The cluster's name.
    pub name: String,
    /// The region's name.
    pub region: String,
    /// The city.
    pub place: Place,
    /// How many nodes its cluster has.
    pub nodes: usize,
}

/// A round trip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latency {
    /// Between these two.
    pub between: [String; 2],
    /// There and back.
    pub round_trip: Duration,
}

/// Something that happens at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// From the moment at which the world is ready.
    pub at: Duration,
    /// What.
    pub act: Act,
    /// To which region, by its cluster's name.
    pub region: String,
}

/// What can be done to a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Act {
    /// It falls silent: nothing goes in or out any more.
    Stop,
    /// It is there again.
    Start,
    /// Nothing passes between it and the hub.
    Partition,
    /// The way to the hub is mended.
    Heal,
}

/// Ports of a world; each region has addresses of its own, so they are the same everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ports {
    /// Where the doors of clusters answer HTTP.
    pub http: u16,
    /// Where DNS nodes answer. 53 would want rights, and 5353 is that of multicast DNS, which desktops have running.
    pub dns: u16,
    /// Where the Kubernetes APIs are.
    pub api: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Self { http: 8080, dns: 1053, api: 6443 }
    }
}

/// Why a description of a world is of no use.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// The file.
    #[error("cannot read {file}: {source}")]
    Read {
        /// Which.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// Its form.
    #[error("{file}: {what}")]
    Form {
        /// Which.
        file: String,
        /// Where and what.
        what: String,
    },
    /// A value.
    #[error("{file}: {field}: {what}")]
    Value {
        /// Which file.
        file: String,
        /// Which field.
        field: String,
        /// What is wrong, and what to write instead.
        what: String,
    },
}

/// Each region has its own network of 256 addresses, and so has each city of users, from this number on.
pub(crate) const FIRST_USER: u8 = 101;
/// As many as there are numbers below [`FIRST_USER`]; each costs some 60 MB and threads of its own.
const REGIONS_MAX: usize = 20;
/// As many as there are numbers from [`FIRST_USER`] on.
const USERS_MAX: usize = 150;
/// The name of the hub's site.
pub const HUB: &str = "hub";

impl Default for Spec {
    /// Frankfurt, Virginia and Singapore, a hub in Zurich, and users on five continents.
    fn default() -> Self {
        let region = |name: &str, region: &str, city: City| Region {
            name: name.to_owned(),
            region: region.to_owned(),
            place: city.place(),
            nodes: 3,
        };
        let users = const {
            [known("Berlin"), known("New York"), known("Jakarta"), known("Lagos"), known("São Paulo"), known("Sydney")]
        };
        Self {
            network: [127, 1],
            ports: Ports::default(),
            hub: const { known("Zurich") }.place(),
            regions: vec![
                region("fra", "eu-central", const { known("Frankfurt") }),
                region("iad", "us-east", const { known("Virginia") }),
                region("sin", "ap-southeast", const { known("Singapore") }),
            ],
            users: users.map(City::place).to_vec(),
            latencies: vec![],
            faults: vec![],
        }
    }
}

impl Spec {
    /// Reads a description; see `docs/world.md` for its form. What it leaves out is as in the default world.
    ///
    /// # Errors
    /// [`SpecError`] names the file and the field, and says what to write instead.
    pub fn read(path: &Path) -> Result<Self, SpecError> {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|source| SpecError::Read { file: file.clone(), source })?;
        Self::parse(&file, &text)
    }

    /// The same, of a text; `file` is what errors call it.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn parse(file: &str, text: &str) -> Result<Self, SpecError> {
        let written: Written = serde_saphyr::from_str(text)
            .map_err(|error| SpecError::Form { file: file.to_owned(), what: error.to_string() })?;
        written.spec().map_err(|(field, what)| SpecError::Value { file: file.to_owned(), field, what })
    }

    /// The names of all sites: the hub, regions by their clusters, and cities of users.
    pub fn sites(&self) -> impl Iterator<Item = (&str, Coordinates)> {
        let regions = self.regions.iter().map(|region| (region.name.as_str(), region.place.at));
        let users = self.users.iter().map(|user| (user.city.as_str(), user.at));
        std::iter::once((HUB, self.hub.at)).chain(regions).chain(users)
    }

    /// The region of a cluster's name, with its number, from one on.
    pub fn region(&self, name: &str) -> Option<(u8, &Region)> {
        (1..).zip(&self.regions).find(|(_, region)| region.name == name)
    }

    /// The number of the network of a city's users.
    pub(crate) fn user_networks(&self) -> impl Iterator<Item = (u8, &Place)> {
        (FIRST_USER..).zip(&self.users)
    }

    /// The address of a city's user.
    pub fn user_address(&self, city: &str) -> Option<Ipv4Addr> {
        let (number, _) = self.user_networks().find(|(_, user)| user.city == city)?;
        Some(self.address(number, USER))
    }

    pub(crate) fn address(&self, number: u8, host: u8) -> Ipv4Addr {
        let [a, b] = self.network;
        Ipv4Addr::new(a, b, number, host)
    }
}

/// The form of a file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    network: Option<String>,
    #[serde(default)]
    ports: Ports,
    hub: Option<WrittenPlace>,
    regions: Option<Vec<WrittenRegion>>,
    users: Option<Vec<WrittenPlace>>,
    #[serde(default)]
    latencies: Vec<WrittenLatency>,
    #[serde(default)]
    faults: Vec<WrittenFault>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenPlace {
    city: String,
    latitude: Option<f64>,
    longitude: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRegion {
    name: String,
    region: String,
    city: String,
    latitude: Option<f64>,
    longitude: Option<f64>,
    nodes: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct WrittenLatency {
    between: [String; 2],
    round_trip: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenFault {
    at: String,
    #[serde(rename = "do")]
    act: Act,
    region: String,
}

/// A field and what is wrong with it.
type Wrong = (String, String);

impl Written {
    fn spec(self) -> Result<Spec, Wrong> {
        let default = Spec::default();
        let hub = self.hub.map(|hub| hub.place("hub")).transpose()?;
        let users =
            self.users.map(|users| (0..).zip(users).map(|(n, user)| user.place(&format!("users[{n}]"))).collect());
        let regions = self.regions.map(|regions| (0..).zip(regions).map(|(n, region)| region.region(n)).collect());
        let spec = Spec {
            network: self.network.map_or(Ok(default.network), |text| network(&text))?,
            ports: self.ports,
            hub: hub.unwrap_or(default.hub),
            regions: regions.unwrap_or(Ok(default.regions))?,
            users: users.unwrap_or(Ok(default.users))?,
            latencies: (0..).zip(self.latencies).map(|(n, latency)| latency.latency(n)).collect::<Result<_, _>>()?,
            faults: (0..).zip(self.faults).map(|(n, fault)| fault.fault(n)).collect::<Result<_, _>>()?,
        };
        check(spec)
    }
}

impl WrittenPlace {
    fn place(self, field: &str) -> Result<Place, Wrong> {
        place(field, self.city, self.latitude, self.longitude)
    }
}

impl WrittenRegion {
    fn region(self, number: usize) -> Result<Region, Wrong> {
        let field = format!("regions[{number}]");
        for (part, name) in [("name", &self.name), ("region", &self.region)] {
            if !is_label(name) {
                let what = format!("{name:?} is no DNS label: write lower-case letters, digits and '-', such as fra");
                return Err((format!("{field}.{part}"), what));
            }
        }
        let nodes = self.nodes.unwrap_or(3);
        if !(1..=100).contains(&nodes) {
            return Err((format!("{field}.nodes"), format!("{nodes} is not between 1 and 100")));
        }
        let place = place(&field, self.city, self.latitude, self.longitude)?;
        Ok(Region { name: self.name, region: self.region, place, nodes })
    }
}

impl WrittenLatency {
    fn latency(self, number: usize) -> Result<Latency, Wrong> {
        let round_trip = duration(&format!("latencies[{number}].roundTrip"), &self.round_trip)?;
        Ok(Latency { between: self.between, round_trip })
    }
}

impl WrittenFault {
    fn fault(self, number: usize) -> Result<Fault, Wrong> {
        Ok(Fault { at: duration(&format!("faults[{number}].at"), &self.at)?, act: self.act, region: self.region })
    }
}

fn place(field: &str, city: String, latitude: Option<f64>, longitude: Option<f64>) -> Result<Place, Wrong> {
    let at = match (latitude, longitude) {
        (Some(latitude), Some(longitude)) => {
            Coordinates::new(latitude, longitude).map_err(|error| (field.to_owned(), error.to_string()))?
        }
        (None, None) => {
            let known = City::find(&city).ok_or_else(|| {
                let what = format!("where {city:?} is, is not known here: write its latitude and longitude beside it");
                (format!("{field}.city"), what)
            })?;
            return Ok(known.place());
        }
        _ => return Err((field.to_owned(), "write both latitude and longitude, or neither".to_owned())),
    };
    Ok(Place { city, at })
}

fn duration(field: &str, text: &str) -> Result<Duration, Wrong> {
    parse_duration(text).map_err(|error| (field.to_owned(), error.to_string()))
}

/// `127.N.0.0/16`.
fn network(text: &str) -> Result<[u8; 2], Wrong> {
    let wrong = || ("network".to_owned(), format!("{text:?} is of no use: write 127.N.0.0/16, such as 127.1.0.0/16"));
    let second = text.strip_prefix("127.").and_then(|rest| rest.strip_suffix(".0.0/16")).ok_or_else(wrong)?;
    match second.parse::<u8>() {
        // 127.0 is that of everybody else.
        Ok(second @ 1..) => Ok([127, second]),
        _ => Err(wrong()),
    }
}

fn is_label(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !name.is_empty() && name.len() <= 63 && name.bytes().all(inner) && !name.starts_with('-') && !name.ends_with('-')
}

/// What no field shows alone.
fn check(mut spec: Spec) -> Result<Spec, Wrong> {
    for (field, count, most) in [("regions", spec.regions.len(), REGIONS_MAX), ("users", spec.users.len(), USERS_MAX)] {
        if !(1..=most).contains(&count) {
            return Err((field.to_owned(), format!("there are {count}: write one to {most}")));
        }
    }
    let mut names = BTreeSet::new();
    for (name, _) in spec.sites() {
        if !names.insert(name.to_owned()) {
            return Err((
                "regions, users".to_owned(),
                format!("{name:?} is there twice, or is what the hub is called"),
            ));
        }
    }
    for (number, latency) in (0..).zip(&spec.latencies) {
        if let Some(unknown) = latency.between.iter().find(|name| !names.contains(*name)) {
            let known = names.iter().cloned().collect::<Vec<_>>().join(", ");
            return Err((
                format!("latencies[{number}].between"),
                format!("there is no {unknown:?}: write one of {known}"),
            ));
        }
    }
    for (number, fault) in (0..).zip(&spec.faults) {
        if spec.region(&fault.region).is_none() {
            let known = spec.regions.iter().map(|region| region.name.as_str()).collect::<Vec<_>>().join(", ");
            let what = format!("there is no region {:?}: write one of {known}", fault.region);
            return Err((format!("faults[{number}].region"), what));
        }
    }
    spec.faults.sort_by_key(|fault| fault.at);
    Ok(spec)
}

#[cfg(test)]
mod tests;
