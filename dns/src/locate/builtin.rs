//! The built-in country table: what a node knows of clients before it is given a database.
//!
//! `data/countries.bin` (sources and licences in the README beside it), made by `cargo xtask geo`:
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `ISOGEO01` |
//! | 32 | SHA-256 of all that follows |
//! | 1 | number of countries, n |
//! | 2 n | their codes, sorted |
//! | 4 | number of IPv4 runs, big-endian |
//! | … | per run: blocks of /24 since the run before as LEB128, then its country: an index into the codes plus one, or zero where nobody holds the block. The first begins at 0.0.0.0 |
//! | 4, … | the same for IPv6, in blocks of /48 |
//!
//! A run ends where the next begins. Countries become places by `data/country-centres.csv`: the centre of their cities,
//! weighted by population. A country is one point here, so that point should be near *all* of its people, which is what
//! the weighted centre is (it has the least mean square distance to them); the largest city is nearer to some and may
//! lie at the edge (New York, Vladivostok's Moscow, Sydney), which sends the other coast the wrong way as soon as there
//! are clusters on both sides. For a wide country it is a guess either way; that is what city databases are for.

use std::net::IpAddr;
use std::sync::OnceLock;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use policies::geo::Coordinates;
use sha2::{Digest, Sha256};

use super::{Address, Country, Locate, LocateError, Location, Place, Range, Ranges, canonical};

const TABLE: &[u8] = include_bytes!("../../data/countries.bin");
const CENTRES: &str = include_str!("../../data/country-centres.csv");
const MAGIC: &[u8; 8] = b"ISOGEO01";

/// Bits of an IPv4 and IPv6 address below one block.
const IPV4_SHIFT: u32 = 8;
const IPV6_SHIFT: u32 = 80;

/// A country with its centre.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Centre {
    /// Where its people are, on average.
    pub place: Place,
    /// How many live in its cities.
    pub people: u64,
}

/// The country table, unpacked.
#[derive(Debug)]
pub struct Builtin {
    /// Sorted by country.
    centres: Vec<Centre>,
    ipv4: Runs,
    ipv6: Runs,
}

/// Where each run of blocks begins, and its country: an index into the centres plus one, zero for nobody.
#[derive(Debug, Default)]
struct Runs {
    starts: Vec<u64>,
    countries: Vec<u8>,
}

impl Builtin {
    /// The table that this program carries.
    ///
    /// # Panics
    /// When the program was built with a damaged table, which its tests look for.
    pub fn get() -> &'static Self {
        static BUILTIN: OnceLock<Builtin> = OnceLock::new();
        BUILTIN.get_or_init(|| match Self::parse(TABLE, CENTRES) {
            Ok(builtin) => builtin,
            Err(error) => panic!("{error}"),
        })
    }

    /// Unpacks a table and its centres.
    ///
    /// # Errors
    /// When the digest differs, a run leaves the address space, or a country has no centre.
    pub fn parse(table: &[u8], centres: &str) -> Result<Self, LocateError> {
        let damaged = |what| LocateError::Builtin { what };
        let rest = table.strip_prefix(MAGIC).ok_or(damaged("it does not begin with ISOGEO01"))?;
        let (digest, body) = rest.split_at_checked(32).ok_or(damaged("it ends within its digest"))?;
        if Sha256::digest(body).as_slice() != digest {
            return Err(damaged("its digest differs"));
        }
        let known = parse_centres(centres).ok_or(damaged("a row of country-centres.csv is not understood"))?;
        let mut input = Input(body);
        let mut read = || -> Option<(Vec<Centre>, Runs, Runs)> {
            let mut centres = Vec::new();
            for _ in 0..input.byte()? {
                let code = Country([input.byte()?, input.byte()?]);
                let found = known.binary_search_by_key(&code, |centre| centre.place.country).ok()?;
                centres.push(known[found]);
            }
            let (ipv4, ipv6) = (input.runs(1 << 24, centres.len())?, input.runs(1 << 48, centres.len())?);
            input.0.is_empty().then_some((centres, ipv4, ipv6))
        };
        let (centres, ipv4, ipv6) = read().ok_or(damaged("its runs or countries are not what the digest covers"))?;
        Ok(Self { centres, ipv4, ipv6 })
    }

    /// Every country of the table with its centre, sorted by code.
    pub fn centres(&self) -> &[Centre] {
        &self.centres
    }

    /// The centre of `country`.
    pub fn centre(&self, country: Country) -> Option<Place> {
        let found = self.centres.binary_search_by_key(&country, |centre| centre.place.country).ok()?;
        Some(self.centres[found].place)
    }

    fn place(&self, country: u8) -> Option<Place> {
        Some(self.centres.get(usize::from(country).checked_sub(1)?)?.place)
    }

    fn ranges<'a, A: Address>(&'a self, runs: &'a Runs, block: impl Fn(u64) -> A + 'a) -> Ranges<'a, A> {
        let ends = runs.starts.iter().skip(1).map(|start| Some(*start)).chain([None]);
        let run = move |((start, end), country): ((&u64, Option<u64>), &u8)| {
            let last = end.map_or(Some(A::MAX), |end| block(end).previous())?;
            Some(Ok(Range { first: block(*start), last, place: self.place(*country)? }))
        };
        Box::new(runs.starts.iter().zip(ends).zip(&runs.countries).filter_map(run))
    }
}

impl Locate for &'static Builtin {
    fn locate(&self, address: IpAddr) -> Option<Location> {
        // The prefix said is the largest one within the run that holds the address.
        match canonical(address) {
            IpAddr::V4(v4) => {
                let bits = u32::from(v4);
                let (country, length) = self.ipv4.find(u64::from(bits >> IPV4_SHIFT), 24);
                let prefix = IpNet::V4(Ipv4Net::new(v4, length).ok()?.trunc());
                Some(Location { place: self.place(country)?, prefix })
            }
            IpAddr::V6(v6) => {
                let bits = u128::from(v6);
                let (country, length) = self.ipv6.find((bits >> IPV6_SHIFT) as u64, 48);
                let prefix = IpNet::V6(Ipv6Net::new(v6, length).ok()?.trunc());
                Some(Location { place: self.place(country)?, prefix })
            }
        }
    }

    fn ipv4(&self) -> Ranges<'_, u32> {
        self.ranges(&self.ipv4, |block| (block << IPV4_SHIFT) as u32)
    }

    fn ipv6(&self) -> Ranges<'_, u128> {
        self.ranges(&self.ipv6, |block| u128::from(block) << IPV6_SHIFT)
    }
}

impl Runs {
    /// The country of `block`, and the length of the largest prefix around it within its run; blocks have `bits` bits.
    fn find(&self, block: u64, bits: u32) -> (u8, u8) {
        let after = self.starts.partition_point(|start| *start <= block);
        let differs = |other: u64| bits - (64 - (block ^ other).leading_zeros()) + 1;
        let below = self.starts[after - 1].checked_sub(1).map_or(0, differs);
        let above = self.starts.get(after).copied().map_or(0, differs);
        (self.countries[after - 1], below.max(above) as u8)
    }
}

/// Bytes not yet read.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// Runs within `blocks` blocks, of `countries` countries; the first begins at block zero.
    fn runs(&mut self, blocks: u64, countries: usize) -> Option<Runs> {
        let (count, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        let count = u32::from_be_bytes(*count) as usize;
        // Each run takes two bytes, so a count that lies cannot make this reserve more than the input is long.
        let mut runs = Runs { starts: Vec::with_capacity(count.min(rest.len() / 2)), ..Runs::default() };
        runs.countries.reserve(count.min(rest.len() / 2));
        let mut start = 0_u64;
        for index in 0..count {
            let delta = self.leb128()?;
            if (index == 0) != (delta == 0) {
                return None;
            }
            start = start.checked_add(delta).filter(|start| *start < blocks)?;
            let country = self.byte().filter(|country| usize::from(*country) <= countries)?;
            runs.starts.push(start);
            runs.countries.push(country);
        }
        (count > 0).then_some(runs)
    }

    fn leb128(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..56).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

fn parse_centres(text: &str) -> Option<Vec<Centre>> {
    let row = |line: &str| {
        let mut fields = line.split(',');
        let country = Country::new(fields.next()?);
        let (latitude, longitude) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let coordinates = Coordinates::new(latitude, longitude).ok()?;
        Some(Centre { place: Place { coordinates, country }, people: fields.next()?.parse().ok()? })
    };
    let centres: Option<Vec<Centre>> = text.lines().skip(1).map(row).collect();
    centres.filter(|centres| centres.is_sorted_by(|a, b| a.place.country < b.place.country))
}
