//! Compiles places of addresses into steering tables: for each distinct set of clusters and tolerance, which ranking
//! holds for which addresses.
//!
//! One pass over the databases builds all tables, in the order of addresses, and keeps nothing but what the tables hold:
//! runs of addresses with equal rankings, so a database of millions of networks becomes some ten thousand runs, and a
//! change of health changes none of them.
//!
//! Addresses that no database knows have the ranking of a client who may be anybody
//! ([`policies::steering::rank_unlocated`]). Those among them that are not anybody's on the Internet (private, loopback,
//! …) say nothing about their holder at all: for them a node looks at the resolver's address instead, see
//! [`Found::special`].

mod table;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use policies::geo::Coordinates;
use policies::steering::{Entry, Ranked, rank, rank_unlocated};

pub use table::Table;

use crate::locate::{Address, Locate, LocateError, Place, Ranges, canonical};

/// Clusters that compete for clients. Hosts with equal sets share a table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TargetSet {
    /// Indices into the snapshot's clusters, sorted.
    pub clusters: Vec<u16>,
    /// Clusters this close count as equal.
    pub tolerance: Duration,
}

/// The table of one [`TargetSet`].
pub struct Steering {
    /// All rankings, one after the other; each has as many entries as the set has clusters.
    rankings: Vec<Entry>,
    width: usize,
    ipv4: Table<u32>,
    ipv6: Table<u128>,
}

impl std::fmt::Debug for Steering {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (ipv4, ipv6, rankings) = self.size();
        write!(f, "Steering by {rankings} rankings in {ipv4} runs of IPv4 and {ipv6} of IPv6")
    }
}

/// What a table says of one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// The ranking, nearest first.
    pub ranking: &'a [Entry],
    /// Length of the largest prefix around the address in which every address finds the same.
    pub scope: u8,
    /// The address is nobody's on the Internet and in no database, so its ranking is a guess about anybody.
    pub special: bool,
}

/// The ranking of special-purpose addresses. It equals that of unknown ones, and has a number of its own so that a
/// scope never reaches from one into the other.
const SPECIAL: u32 = 0;

impl Steering {
    /// What holds for `address`; an IPv4 address mapped into IPv6 is looked up as what it is.
    pub fn find(&self, address: IpAddr) -> Found<'_> {
        let (number, scope) = match canonical(address) {
            IpAddr::V4(v4) => self.ipv4.find(v4.into()),
            IpAddr::V6(v6) => self.ipv6.find(v6.into()),
        };
        let from = number as usize * self.width;
        Found { ranking: &self.rankings[from..from + self.width], scope, special: number == SPECIAL }
    }

    /// How many runs of IPv4 and IPv6 the table has, and how many different rankings.
    pub fn size(&self) -> (usize, usize, usize) {
        (self.ipv4.len(), self.ipv6.len(), self.rankings.len().checked_div(self.width).unwrap_or(0))
    }
}

/// Compiles one table for each of `sets`, in their order.
///
/// `clusters` are the places of all clusters by index; `world` is where people live, with how many. Indices beyond
/// `clusters` are left out.
///
/// # Errors
/// When a database turns out to be damaged half-way.
pub fn compile(
    locate: &dyn Locate,
    world: &[(Coordinates, u64)],
    clusters: &[Coordinates],
    sets: &[TargetSet],
) -> Result<Vec<Steering>, LocateError> {
    let mut compiler = Compiler {
        sets: sets.iter().map(|set| Builder::new(set, world, clusters)).collect(),
        places: HashMap::new(),
        last: None,
    };
    if !sets.is_empty() {
        compiler.family(locate.ipv4(), &SPECIAL_IPV4, |builder| &mut builder.ipv4)?;
        compiler.family(locate.ipv6(), &SPECIAL_IPV6, |builder| &mut builder.ipv6)?;
    }
    Ok(compiler.sets.into_iter().map(Builder::finish).collect())
}

struct Compiler {
    sets: Vec<Builder>,
    /// Numbers of the places met so far, by the bits of their coordinates.
    places: HashMap<(u64, u64), usize>,
    /// The place before, which is often the place again.
    last: Option<(Coordinates, usize)>,
}

impl Compiler {
    fn family<A: Address>(
        &mut self,
        ranges: Ranges<'_, A>,
        special: &[(A, A)],
        table: impl Fn(&mut Builder) -> &mut Table<A>,
    ) -> Result<(), LocateError> {
        let mut next = Some(A::MIN);
        for range in ranges {
            let range = range?;
            if let Some((first, last)) = next.zip(range.first.previous()).filter(|(first, last)| first <= last) {
                self.unknown(first, last, special, &table);
            }
            let place = self.number(range.place);
            for builder in &mut self.sets {
                let ranking = builder.ranking_at(place, range.place.coordinates);
                table(builder).push(range.first, ranking);
            }
            next = range.last.next();
        }
        if let Some(first) = next {
            self.unknown(first, A::MAX, special, &table);
        }
        self.sets.iter_mut().for_each(|builder| table(builder).finish());
        Ok(())
    }

    /// Enters addresses that no database knows.
    fn unknown<A: Address>(
        &mut self,
        first: A,
        last: A,
        special: &[(A, A)],
        table: &impl Fn(&mut Builder) -> &mut Table<A>,
    ) {
        let mut next = Some(first);
        for (special_first, special_last) in special.iter().filter(|(from, to)| *from <= last && *to >= first) {
            for builder in &mut self.sets {
                let unknown = builder.unknown;
                if next.is_some_and(|next| next < *special_first) {
                    table(builder).push(next.unwrap_or(first), unknown);
                }
                table(builder).push(first.max(*special_first), SPECIAL);
            }
            next = special_last.next();
        }
        if let Some(next) = next.filter(|next| *next <= last) {
            for builder in &mut self.sets {
                let unknown = builder.unknown;
                table(builder).push(next, unknown);
            }
        }
    }

    fn number(&mut self, place: Place) -> usize {
        if let Some((_, number)) = self.last.filter(|(coordinates, _)| *coordinates == place.coordinates) {
            return number;
        }
        let bits = (place.coordinates.latitude().to_bits(), place.coordinates.longitude().to_bits());
        let fresh = self.places.len();
        let number = *self.places.entry(bits).or_insert(fresh);
        self.last = Some((place.coordinates, number));
        number
    }
}

/// One table in the making.
struct Builder {
    clusters: Vec<(u16, Coordinates)>,
    tolerance: Duration,
    /// Number of each ranking met so far.
    numbers: BTreeMap<Ranked, u32>,
    rankings: Vec<Entry>,
    /// Number of the ranking at each place, once it is known.
    at_place: Vec<Option<u32>>,
    unknown: u32,
    ipv4: Table<u32>,
    ipv6: Table<u128>,
}

impl Builder {
    fn new(set: &TargetSet, world: &[(Coordinates, u64)], clusters: &[Coordinates]) -> Self {
        let place = |index: &u16| Some((*index, *clusters.get(usize::from(*index))?));
        let clusters: Vec<(u16, Coordinates)> = set.clusters.iter().filter_map(place).collect();
        let anybody = rank_unlocated(world, &clusters, set.tolerance);
        let mut builder = Self {
            clusters,
            tolerance: set.tolerance,
            numbers: BTreeMap::new(),
            // Number zero, `SPECIAL`.
            rankings: anybody.to_vec(),
            at_place: Vec::new(),
            unknown: 1,
            ipv4: Table::default(),
            ipv6: Table::default(),
        };
        builder.unknown = builder.number(anybody);
        builder
    }

    fn ranking_at(&mut self, place: usize, coordinates: Coordinates) -> u32 {
        if let Some(Some(number)) = self.at_place.get(place) {
            return *number;
        }
        let number = self.number(rank(coordinates, &self.clusters, self.tolerance));
        if self.at_place.len() <= place {
            self.at_place.resize(place + 1, None);
        }
        self.at_place[place] = Some(number);
        number
    }

    fn number(&mut self, ranked: Ranked) -> u32 {
        // The special ranking comes before those that are counted here.
        let fresh = self.numbers.len() as u32 + 1;
        let (rankings, entry) = (&mut self.rankings, self.numbers.entry(ranked));
        *entry.or_insert_with_key(|ranked| {
            rankings.extend_from_slice(ranked);
            fresh
        })
    }

    fn finish(mut self) -> Steering {
        self.rankings.shrink_to_fit();
        Steering { rankings: self.rankings, width: self.clusters.len(), ipv4: self.ipv4, ipv6: self.ipv6 }
    }
}

/// Addresses that say nothing about where their holder is: the IANA registries of special-purpose addresses, as far as
/// they are not globally reachable and a host may have them. Sorted.
const SPECIAL_IPV4: [(u32, u32); 7] = [
    (0x0000_0000, 0x00ff_ffff), // 0.0.0.0/8, this network
    (0x0a00_0000, 0x0aff_ffff), // 10.0.0.0/8, private
    (0x6440_0000, 0x647f_ffff), // 100.64.0.0/10, behind carriers' NAT
    (0x7f00_0000, 0x7fff_ffff), // 127.0.0.0/8, loopback
    (0xa9fe_0000, 0xa9fe_ffff), // 169.254.0.0/16, link-local
    (0xac10_0000, 0xac1f_ffff), // 172.16.0.0/12, private
    (0xc0a8_0000, 0xc0a8_ffff), // 192.168.0.0/16, private
];

/// IPv4 inside IPv6 is among them, because it is looked up in the other table, so no scope of this one may cover it.
const SPECIAL_IPV6: [(u128, u128); 4] = [
    (0, 1),                                                                 // ::, ::1
    (0xffff_0000_0000, 0xffff_ffff_ffff),                                   // ::ffff:0:0/96, mapped
    (0xfc00 << 112, (0xfdff << 112) | (u128::MAX >> 16)),                   // fc00::/7, unique local
    (0xfe80 << 112, (0xfe80 << 112) | (0x003f << 112) | (u128::MAX >> 16)), // fe80::/10, link-local
];

#[cfg(test)]
mod tests;
