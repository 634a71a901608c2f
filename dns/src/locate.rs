//! Where a client is: addresses to places, by geo databases and the built-in country table behind one trait.
//!
//! Two uses, two methods. A question about one address is [`Locate::locate`]; the compiler of steering tables reads the
//! whole database once, as ranges in the order of addresses, so that it needs no memory but for what it builds.
//! IPv4 addresses mapped into IPv6 (RFC 4291 §2.5.5.2) are IPv4 addresses everywhere here, see [`canonical`].
//!
//! Absent on purpose: choosing a cluster, and watching database files: a new database is a new snapshot.

pub mod builtin;
pub mod mmdb;
mod overrides;

#[cfg(test)]
pub(crate) mod fixture;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use ipnet::IpNet;
use policies::geo::Coordinates;

pub use builtin::Builtin;
pub use mmdb::Mmdb;
pub use overrides::Overrides;

/// A country by its ISO 3166-1 alpha-2 code; `Country::UNKNOWN` where a database gives a place without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Country([u8; 2]);

impl Country {
    /// No country.
    pub const UNKNOWN: Self = Self(*b"--");

    /// The country `code`: two ASCII letters; anything else is [`Country::UNKNOWN`].
    pub fn new(code: &str) -> Self {
        match code.as_bytes() {
            [a, b] if a.is_ascii_alphabetic() && b.is_ascii_alphabetic() => {
                Self([a.to_ascii_uppercase(), b.to_ascii_uppercase()])
            }
            _ => Self::UNKNOWN,
        }
    }

    /// The code, two characters.
    pub fn as_str(&self) -> &str {
        // Only ASCII gets in.
        std::str::from_utf8(&self.0).unwrap_or("--")
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a database says of a range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Where they are.
    pub coordinates: Coordinates,
    /// The country that is in.
    pub country: Country,
}

/// What a database says of one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    /// The place.
    pub place: Place,
    /// The prefix that the database says it of.
    pub prefix: IpNet,
}

/// Addresses of one family as unsigned integers.
pub trait Address: Copy + Ord + fmt::Debug + Send + Sync + 'static {
    /// The first address of the family.
    const MIN: Self;
    /// The last address of the family.
    const MAX: Self;
    /// Bits of an address.
    const BITS: u8;
    /// The address after this one; `None` after the last.
    fn next(self) -> Option<Self>;
    /// The address before this one; `None` before the first.
    fn previous(self) -> Option<Self>;
    /// How many leading bits the two share.
    fn common_bits(self, other: Self) -> u8;
    /// The first sixteen bits.
    fn head(self) -> u16;
    /// As an address.
    fn address(self) -> IpAddr;
}

macro_rules! address {
    ($int:ty, $bits:literal, $family:ident, $type:ident) => {
        impl Address for $int {
            const MIN: Self = 0;
            const MAX: Self = <$int>::MAX;
            const BITS: u8 = $bits;

            fn next(self) -> Option<Self> {
                self.checked_add(1)
            }

            fn previous(self) -> Option<Self> {
                self.checked_sub(1)
            }

            fn common_bits(self, other: Self) -> u8 {
                (self ^ other).leading_zeros() as u8
            }

            fn head(self) -> u16 {
                (self >> ($bits - 16)) as u16
            }

            fn address(self) -> IpAddr {
                IpAddr::$family($type::from(self))
            }
        }
    };
}

address!(u32, 32, V4, Ipv4Addr);
address!(u128, 128, V6, Ipv6Addr);

/// A range of addresses in one place, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range<A> {
    /// The first address.
    pub first: A,
    /// The last address, not before the first.
    pub last: A,
    /// Where they are.
    pub place: Place,
}

/// Ranges of one database: disjoint, in the order of addresses. An error ends them.
pub type Ranges<'a, A> = Box<dyn Iterator<Item = Result<Range<A>, LocateError>> + 'a>;

/// Something that knows where addresses are.
pub trait Locate: Send + Sync {
    /// Where `address` is, or `None` where this database does not know.
    fn locate(&self, address: IpAddr) -> Option<Location>;

    /// All of IPv4 that this database knows.
    fn ipv4(&self) -> Ranges<'_, u32>;

    /// All of IPv6 that this database knows.
    fn ipv6(&self) -> Ranges<'_, u128>;
}

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LocateError {
    /// The file could not be read.
    #[error("read geo database {path}")]
    Read {
        /// Which file.
        path: String,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The bytes are no MaxMind-format database, or a damaged one.
    #[error("geo database {name} is damaged or not of MaxMind's format (.mmdb)")]
    Damaged {
        /// Which database.
        name: String,
        /// What the reader says.
        #[source]
        source: maxminddb::MaxMindDbError,
    },
    /// A readable database without a single usable record.
    #[error(
        "geo database {name} ({kind}) names no place: a city or country database is needed, with location.latitude and \
         location.longitude, latitude and longitude, country.iso_code or country_code in its records"
    )]
    NoPlaces {
        /// Which database.
        name: String,
        /// Its `database_type`.
        kind: String,
    },
    /// A line of a list of places.
    #[error("{name}, line {number}: {what}")]
    Line {
        /// Which list.
        name: String,
        /// The line, from one.
        number: usize,
        /// What is wrong, and what to write instead.
        what: String,
    },
    /// The built-in table does not decode.
    #[error("the built-in country table is damaged: {what}")]
    Builtin {
        /// What is wrong.
        what: &'static str,
    },
}

/// `address` without the IPv6 clothes of an IPv4 address (`::ffff:192.0.2.1` is 192.0.2.1).
pub fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// Opens a file of either form: a database of MaxMind's, or a list of [`Overrides`]. Text is a list.
///
/// # Errors
/// When it cannot be read, or says nothing usable.
pub fn open(path: &Path) -> Result<Box<dyn Locate>, LocateError> {
    let name = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|source| LocateError::Read { path: name.clone(), source })?;
    // A database holds binary numbers from its first bytes on, and its metadata begin with a byte that is none of UTF-8.
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Box::new(Overrides::parse(&name, &text)?)),
        Err(binary) => Ok(Box::new(Mmdb::from_bytes(name, binary.into_bytes())?)),
    }
}

/// Databases in order of preference: each address is where the first one that knows it says.
#[derive(Default)]
pub struct Stack {
    layers: Vec<Box<dyn Locate>>,
}

impl Stack {
    /// An empty stack, which knows nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts `layer` below those that are there.
    #[must_use]
    pub fn below(mut self, layer: impl Locate + 'static) -> Self {
        self.layers.push(Box::new(layer));
        self
    }

    /// The same, of what [`open`] gives.
    #[must_use]
    pub fn below_opened(mut self, layer: Box<dyn Locate>) -> Self {
        self.layers.push(layer);
        self
    }
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stack of {} databases", self.layers.len())
    }
}

impl Locate for Stack {
    fn locate(&self, address: IpAddr) -> Option<Location> {
        self.layers.iter().find_map(|layer| layer.locate(address))
    }

    fn ipv4(&self) -> Ranges<'_, u32> {
        overlay(self.layers.iter().map(|layer| layer.ipv4()))
    }

    fn ipv6(&self) -> Ranges<'_, u128> {
        overlay(self.layers.iter().map(|layer| layer.ipv6()))
    }
}

/// Lays each layer under those before it.
fn overlay<'a, A: Address>(layers: impl Iterator<Item = Ranges<'a, A>>) -> Ranges<'a, A> {
    let under = |upper: Ranges<'a, A>, lower: Ranges<'a, A>| -> Ranges<'a, A> {
        Box::new(Overlay { upper: upper.peekable(), lower: lower.peekable(), next: Some(A::MIN) })
    };
    layers.reduce(under).unwrap_or_else(|| Box::new(std::iter::empty()))
}

/// `upper`, and `lower` where `upper` has a gap.
struct Overlay<'a, A: Address> {
    upper: std::iter::Peekable<Ranges<'a, A>>,
    lower: std::iter::Peekable<Ranges<'a, A>>,
    /// The first address that no range returned so far reaches; `None` after the last address.
    next: Option<A>,
}

impl<A: Address> Iterator for Overlay<'_, A> {
    type Item = Result<Range<A>, LocateError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next?;
        while self.lower.next_if(|range| range.as_ref().is_ok_and(|range| range.last < next)).is_some() {}
        let upper_first = match self.upper.peek() {
            Some(Ok(range)) => Some(range.first),
            Some(Err(_)) => return self.fail(true),
            None => None,
        };
        let gap_last = upper_first.map_or(Some(A::MAX), Address::previous).filter(|last| *last >= next);
        if let Some(gap_last) = gap_last {
            match self.lower.peek() {
                Some(Ok(range)) if range.first <= gap_last => {
                    let piece =
                        Range { first: range.first.max(next), last: range.last.min(gap_last), place: range.place };
                    self.next = piece.last.next();
                    return Some(Ok(piece));
                }
                Some(Err(_)) => return self.fail(false),
                Some(Ok(_)) | None => {}
            }
        }
        let range = self.upper.next()?;
        self.next = range.as_ref().ok().and_then(|range| range.last.next());
        Some(range)
    }
}

impl<A: Address> Overlay<'_, A> {
    fn fail(&mut self, upper: bool) -> Option<Result<Range<A>, LocateError>> {
        self.next = None;
        if upper { self.upper.next() } else { self.lower.next() }
    }
}

#[cfg(test)]
mod tests;
