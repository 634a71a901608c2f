//! Databases of MaxMind's format, by what their records hold rather than by what they call themselves.
//!
//! Two schemas are read: MaxMind's nested one (`country.iso_code`, `location.latitude`, `city.names`) and the flat one
//! of ip-location-db (`country_code`, `latitude`, `city`), with numbers as float or double, record sizes of 24, 28 and
//! 32 bits, and files for one family or both. A record that names a country but no city has coordinates that mean "this
//! country" (MaxMind puts half of all IPv4 addresses there), and a point in the middle of Kansas must not pass for a
//! place: it gets the country's centre, the same that the built-in table would give.
//!
//! The whole file is held in memory, for as long as the value lives: a mapped file that is cut short under its reader
//! kills the process.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
use maxminddb::{MaxMindDbError, PathElement, Reader, WithinOptions};
use policies::geo::Coordinates;

use super::{Address, Builtin, Country, Locate, LocateError, Location, Place, Range, Ranges, canonical};

/// How many records may pass without a place before the database counts as one without places.
///
/// Real files have one within the first few; a file of another kind (ASN, ISP) has none at all, and reading it to its
/// end would take seconds to find that out.
const RECORDS_TRIED: usize = 10_000;

/// One database.
pub struct Mmdb {
    name: String,
    reader: Reader<Vec<u8>>,
}

impl Mmdb {
    /// Opens a file.
    ///
    /// # Errors
    /// When it cannot be read, is not of the format, or names no place.
    pub fn open(path: &Path) -> Result<Self, LocateError> {
        let name = path.display().to_string();
        let bytes = std::fs::read(path).map_err(|source| LocateError::Read { path: name.clone(), source })?;
        Self::from_bytes(name, bytes)
    }

    /// Takes a database from memory; `name` is what errors call it.
    ///
    /// # Errors
    /// When it is not of the format, or names no place.
    pub fn from_bytes(name: impl Into<String>, bytes: Vec<u8>) -> Result<Self, LocateError> {
        let name = name.into();
        let reader =
            Reader::from_source(bytes).map_err(|source| LocateError::Damaged { name: name.clone(), source })?;
        let database = Self { name, reader };
        database.find_a_place()?;
        Ok(database)
    }

    fn find_a_place(&self) -> Result<(), LocateError> {
        let networks = self.reader.networks(WithinOptions::default()).map_err(|source| self.damaged(source))?;
        for record in networks.take(RECORDS_TRIED) {
            let record = record.map_err(|source| self.damaged(source))?;
            if place_of(&record).map_err(|source| self.damaged(source))?.is_some() {
                return Ok(());
            }
        }
        Err(LocateError::NoPlaces { name: self.name.clone(), kind: self.reader.metadata().database_type.clone() })
    }

    fn damaged(&self, source: MaxMindDbError) -> LocateError {
        LocateError::Damaged { name: self.name.clone(), source }
    }

    /// The ranges within `network`, each as what `bounds` makes of its prefix; those that it does not want are skipped.
    fn ranges<'a, A: Address>(
        &'a self,
        network: &str,
        bounds: impl Fn(IpAddr, u8) -> Option<(A, A)> + 'a,
    ) -> Ranges<'a, A> {
        let within = network.parse().map_err(MaxMindDbError::InvalidNetwork);
        let within = within.and_then(|network| self.reader.within(network, WithinOptions::default()));
        let networks = match within {
            Ok(networks) => networks,
            Err(source) => return Box::new(std::iter::once(Err(self.damaged(source)))),
        };
        // Most networks share their record with many others, so a record is decoded once.
        let mut decoded: HashMap<usize, Option<Place>> = HashMap::new();
        let mut next = Some(A::MIN);
        let mut failed = false;
        let mut range = move |record: Result<Record<'a>, MaxMindDbError>| -> Result<Option<Range<A>>, MaxMindDbError> {
            let record = record?;
            let Some(offset) = record.offset() else { return Ok(None) };
            let place = match decoded.get(&offset) {
                Some(place) => *place,
                None => *decoded.entry(offset).or_insert(place_of(&record)?),
            };
            let network = record.network()?;
            let (Some(place), Some((first, last))) = (place, bounds(network.network(), network.prefix())) else {
                return Ok(None);
            };
            // A damaged tree may lead twice to one place; what the compiler gets is in order whatever the file says.
            if next.is_none_or(|next| first < next) {
                return Err(MaxMindDbError::invalid_database("networks are not in the order of addresses"));
            }
            next = last.next();
            Ok(Some(Range { first, last, place }))
        };
        Box::new(
            networks
                .map_while(move |record| {
                    if failed {
                        return None;
                    }
                    let range = range(record).map_err(|source| self.damaged(source));
                    failed = range.is_err();
                    Some(range.transpose())
                })
                .flatten(),
        )
    }
}

type Record<'a> = maxminddb::LookupResult<'a, Vec<u8>>;

impl fmt::Debug for Mmdb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mmdb {} ({})", self.name, self.reader.metadata().database_type)
    }
}

impl Locate for Mmdb {
    fn locate(&self, address: IpAddr) -> Option<Location> {
        let address = canonical(address);
        if address.is_ipv6() && self.reader.metadata().ip_version == 4 {
            return None;
        }
        let record = self.reader.lookup(address).ok()?;
        let place = place_of(&record).ok()??;
        let network = record.network().ok()?;
        let prefix = IpNet::new(network.network(), network.prefix()).ok()?;
        Some(Location { place, prefix })
    }

    fn ipv4(&self) -> Ranges<'_, u32> {
        // In a file of both families, IPv4 lies at ::/96 (or wherever the reader found it to).
        self.ranges("0.0.0.0/0", |network, length| match network {
            IpAddr::V4(v4) => {
                let first = u32::from(v4);
                Some((first, first | u32::MAX.checked_shr(u32::from(length)).unwrap_or(0)))
            }
            IpAddr::V6(_) => None,
        })
    }

    fn ipv6(&self) -> Ranges<'_, u128> {
        if self.reader.metadata().ip_version == 4 {
            return Box::new(std::iter::empty());
        }
        self.ranges("::/0", |network, length| match network {
            IpAddr::V6(v6) => {
                let first = u128::from(v6);
                Some((first, first | u128::MAX.checked_shr(u32::from(length)).unwrap_or(0)))
            }
            IpAddr::V4(_) => None,
        })
    }
}

/// What a record says, by either schema; `None` when it names neither coordinates nor a country.
fn place_of(record: &Record<'_>) -> Result<Option<Place>, MaxMindDbError> {
    let country = match text(record, &["country", "iso_code"])? {
        Some(code) => Country::new(code),
        None => text(record, &["country_code"])?.map_or(Country::UNKNOWN, Country::new),
    };
    let coordinates = match point(record, &["location"])? {
        Some(point) => Some(point),
        None => point(record, &[])?,
    };
    let city = text(record, &["city", "names", "en"])?.or(text(record, &["city"])?).unwrap_or("");
    let centre = Builtin::get().centre(country);
    Ok(match (coordinates, centre) {
        (Some(coordinates), None) => Some(Place { coordinates, country }),
        (Some(coordinates), Some(_)) if !city.is_empty() => Some(Place { coordinates, country }),
        (_, centre) => centre,
    })
}

/// The text at `path`; `None` where there is none, or something else.
fn text<'a>(record: &Record<'a>, path: &[&str]) -> Result<Option<&'a str>, MaxMindDbError> {
    Ok(match field::<Scalar<'a>>(record, path)? {
        Some(Scalar::Text(text)) if !text.is_empty() => Some(text),
        Some(Scalar::Text(_) | Scalar::Number(_) | Scalar::Other) | None => None,
    })
}

fn point(record: &Record<'_>, parent: &[&str]) -> Result<Option<Coordinates>, MaxMindDbError> {
    let number = |name| -> Result<Option<f64>, MaxMindDbError> {
        let path = [parent, &[name]].concat();
        Ok(match field::<Scalar<'_>>(record, &path)? {
            Some(Scalar::Number(number)) => Some(number),
            Some(Scalar::Text(_) | Scalar::Other) | None => None,
        })
    };
    let (latitude, longitude) = (number("latitude")?, number("longitude")?);
    Ok(latitude.zip(longitude).and_then(|(latitude, longitude)| Coordinates::new(latitude, longitude).ok()))
}

fn field<'a, T: serde::Deserialize<'a>>(record: &Record<'a>, path: &[&str]) -> Result<Option<T>, MaxMindDbError> {
    let path: Vec<PathElement<'_>> = path.iter().map(|key| PathElement::Key(key)).collect();
    match record.decode_path(&path) {
        Ok(value) => Ok(value),
        // A path through something that is no map: the record is of the other schema.
        Err(MaxMindDbError::Decoding { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whatever stands in a field: the two schemas give one name to different things (`city` is a text or a map).
enum Scalar<'a> {
    Text(&'a str),
    Number(f64),
    Other,
}

impl<'de> serde::Deserialize<'de> for Scalar<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Scalar<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field of a geo record")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Scalar::Text(text))
            }

            fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
                Ok(Scalar::Other)
            }

            fn visit_f32<E>(self, number: f32) -> Result<Self::Value, E> {
                Ok(Scalar::Number(number.into()))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
                Ok(Scalar::Number(number))
            }

            fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
                Ok(Scalar::Other)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
                Ok(Scalar::Other)
            }

            fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
                Ok(Scalar::Other)
            }

            fn visit_bytes<E>(self, _: &[u8]) -> Result<Self::Value, E> {
                Ok(Scalar::Other)
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                while map.next_entry::<serde::de::IgnoredAny, serde::de::IgnoredAny>()?.is_some() {}
                Ok(Scalar::Other)
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                while seq.next_element::<serde::de::IgnoredAny>()?.is_some() {}
                Ok(Scalar::Other)
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}
