//! Places that a person wrote down: prefixes whose place a database has wrong, or cannot know, such as those of a
//! private network.
//!
//! A text file, one prefix a line, the longest prefix wins:
//!
//! ```text
//! # prefix, degrees north, degrees east[, country]
//! 10.20.0.0/16, 52.52, 13.40, DE
//! 2001:db8:20::/48, 52.52, 13.40
//! ```
//!
//! RFC 8805 has such a format for what networks publish of themselves; it names cities, and has no coordinates.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use policies::geo::Coordinates;

use super::{Address, Country, Locate, LocateError, Location, Place, Range, Ranges, canonical};

/// A list of prefixes and their places.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    places: BTreeMap<IpNet, Place>,
}

impl Overrides {
    /// Reads a list; `name` is what errors call it.
    ///
    /// # Errors
    /// [`LocateError::Line`] names the line and says what to write instead.
    pub fn parse(name: &str, text: &str) -> Result<Self, LocateError> {
        let mut places = BTreeMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let wrong = |what: String| LocateError::Line { name: name.to_owned(), number, what };
            let (prefix, place) = entry(line).map_err(wrong)?;
            if places.insert(prefix, place).is_some() {
                return Err(wrong(format!("{prefix} was given a place on an earlier line; leave one of them")));
            }
        }
        if places.is_empty() {
            return Err(LocateError::Line {
                name: name.to_owned(),
                number: 1,
                what: format!("no line names a place; {FORM}"),
            });
        }
        Ok(Self { places })
    }
}

const FORM: &str = "write PREFIX, LATITUDE, LONGITUDE[, COUNTRY], such as 10.20.0.0/16, 52.52, 13.40, DE";

fn entry(line: &str) -> Result<(IpNet, Place), String> {
    let fields: Vec<&str> = line.split(',').map(str::trim).collect();
    let (prefix, latitude, longitude, country) = match *fields.as_slice() {
        [prefix, latitude, longitude] => (prefix, latitude, longitude, None),
        [prefix, latitude, longitude, country] => (prefix, latitude, longitude, Some(country)),
        _ => return Err(format!("{line:?} has {} fields; {FORM}", fields.len())),
    };
    let net: IpNet = prefix.parse().map_err(|_| format!("{prefix:?} is no prefix; {FORM}"))?;
    if net != net.trunc() {
        return Err(format!("{prefix} has bits beyond its length; write {}", net.trunc()));
    }
    // Everywhere here they are IPv4 addresses.
    if let IpNet::V6(v6) = net
        && v6.network().to_ipv4_mapped().is_some()
    {
        return Err(format!("{prefix} is IPv4 within IPv6; write the IPv4 prefix"));
    }
    let degrees = |text: &str| text.parse::<f64>().map_err(|_| format!("{text:?} is no number of degrees; {FORM}"));
    let coordinates = Coordinates::new(degrees(latitude)?, degrees(longitude)?).map_err(|error| error.to_string())?;
    let country = match country {
        None => Country::UNKNOWN,
        Some(code) => match Country::new(code) {
            Country::UNKNOWN => {
                return Err(format!("{code:?} is no country; write two letters of ISO 3166-1, or none"));
            }
            country => country,
        },
    };
    Ok((net, Place { coordinates, country }))
}

impl Locate for Overrides {
    fn locate(&self, address: IpAddr) -> Option<Location> {
        let address = canonical(address);
        let holding = self.places.iter().filter(|(prefix, _)| prefix.contains(&address));
        let (prefix, place) = holding.max_by_key(|(prefix, _)| prefix.prefix_len())?;
        Some(Location { place: *place, prefix: *prefix })
    }

    fn ipv4(&self) -> Ranges<'_, u32> {
        let of = |(prefix, place): (&IpNet, &Place)| match prefix {
            IpNet::V4(net) => Some(Range { first: net.network().into(), last: net.broadcast().into(), place: *place }),
            IpNet::V6(_) => None,
        };
        Box::new(disjoint(self.places.iter().filter_map(of).collect()).into_iter().map(Ok))
    }

    fn ipv6(&self) -> Ranges<'_, u128> {
        let of = |(prefix, place): (&IpNet, &Place)| match prefix {
            IpNet::V6(net) => Some(Range { first: net.network().into(), last: net.broadcast().into(), place: *place }),
            IpNet::V4(_) => None,
        };
        Box::new(disjoint(self.places.iter().filter_map(of).collect()).into_iter().map(Ok))
    }
}

/// Prefixes, of which one may lie within another, as ranges that do not overlap: each address where the smallest prefix
/// around it is.
fn disjoint<A: Address>(mut prefixes: Vec<Range<A>>) -> Vec<Range<A>> {
    prefixes.sort_by_key(|range| (range.first, std::cmp::Reverse(range.last)));
    let mut pieces = Pieces { done: vec![], next: Some(A::MIN) };
    // Those around the current one, the smallest last.
    let mut around: Vec<Range<A>> = vec![];
    for range in prefixes {
        while let Some(ended) = around.pop_if(|outer| outer.last < range.first) {
            pieces.up_to(Some(ended.last), ended.place);
        }
        if let Some(outer) = around.last() {
            pieces.up_to(range.first.previous(), outer.place);
        }
        pieces.next = Some(range.first);
        around.push(range);
    }
    while let Some(ended) = around.pop() {
        pieces.up_to(Some(ended.last), ended.place);
    }
    pieces.done
}

struct Pieces<A> {
    done: Vec<Range<A>>,
    /// The first address that has no piece yet; `None` after the last of all.
    next: Option<A>,
}

impl<A: Address> Pieces<A> {
    fn up_to(&mut self, last: Option<A>, place: Place) {
        let (Some(first), Some(last)) = (self.next, last) else { return };
        if first <= last {
            self.done.push(Range { first, last, place });
            self.next = last.next();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_list_is_read_and_the_longest_prefix_wins() {
        let list =
            Overrides::parse("f", "# ours\n10.0.0.0/8, 1, 2\n10.1.0.0/16,52.5,13.4,de # Berlin\n::/0,0,0\n").unwrap();
        let found = list.locate("10.1.2.3".parse().unwrap()).unwrap();
        assert_eq!((found.prefix.to_string(), found.place.country.as_str()), ("10.1.0.0/16".to_owned(), "DE"));
        assert_eq!(list.locate("::ffff:10.9.9.9".parse().unwrap()).unwrap().prefix.to_string(), "10.0.0.0/8");
        assert!(list.locate("11.0.0.0".parse().unwrap()).is_none());
        let whole: Vec<_> = list.ipv6().collect::<Result<_, _>>().unwrap();
        assert_eq!((whole.len(), whole[0].first, whole[0].last), (1, 0, u128::MAX));
    }

    #[test]
    fn a_line_that_is_wrong_is_named_with_what_to_write() {
        for (text, number, words) in [
            ("", 1, "no line names a place"),
            ("\n10.0.0.0/8", 2, "has 1 fields"),
            ("10.0.0.1/8, 1, 2", 1, "write 10.0.0.0/8"),
            ("ten, 1, 2", 1, "is no prefix"),
            ("10.0.0.0/8, north, 2", 1, "no number of degrees"),
            ("10.0.0.0/8, 91, 2", 1, "91"),
            ("10.0.0.0/8, 1, 2, Germany", 1, "two letters"),
            ("::ffff:10.0.0.0/104, 1, 2", 1, "write the IPv4 prefix"),
            ("10.0.0.0/8, 1, 2\n\n10.0.0.0/8, 3, 4", 3, "on an earlier line"),
        ] {
            let error = Overrides::parse("places.csv", text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("places.csv, line {number}: ")) && error.contains(words), "{error}");
        }
    }

    proptest! {
        /// Each address lies where a plain search for the longest prefix puts it, and no ranges overlap.
        #[test]
        fn ranges_say_what_a_plain_search_says(
            nets in prop::collection::btree_map((any::<u32>(), 0u8..=32), -90i8..90, 0..40),
            more in prop::collection::vec(any::<u32>(), 50),
        ) {
            let text: String = nets.iter().map(|((address, length), latitude)| {
                let net = ipnet::Ipv4Net::new((*address).into(), *length).unwrap().trunc();
                format!("{net},{latitude},0\n")
            }).collect();
            // Two may be the same once cut to their lengths.
            prop_assume!(!nets.is_empty());
            let Ok(list) = Overrides::parse("f", &text) else { return Ok(()) };
            let ranges: Vec<_> = list.ipv4().collect::<Result<_, _>>().unwrap();
            prop_assert!(ranges.windows(2).all(|pair| pair[0].last < pair[1].first));
            let edges = ranges.iter().flat_map(|range| {
                [Some(range.first), Some(range.last), range.first.checked_sub(1), range.last.checked_add(1)]
            });
            for address in edges.flatten().chain(more) {
                let held = ranges.iter().find(|range| (range.first..=range.last).contains(&address));
                let found = list.locate(std::net::Ipv4Addr::from(address).into());
                prop_assert_eq!(held.map(|range| range.place), found.map(|found| found.place));
            }
        }
    }
}
