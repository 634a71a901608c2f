//! Cities that need no coordinates when they are written.

use policies::geo::Coordinates;

use super::Place;

/// A city and where it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct City {
    /// Its name.
    pub name: &'static str,
    /// Where it is.
    pub at: Coordinates,
}

/// Where clouds have regions, and large cities between them. To a hundredth of a degree, which is a kilometre: a path's
/// latency says no more.
const CITIES: [City; 40] = [
    city("Amsterdam", 52.37, 4.90),
    city("Atlanta", 33.75, -84.39),
    city("Auckland", -36.85, 174.76),
    city("Bangkok", 13.76, 100.50),
    city("Berlin", 52.52, 13.40),
    city("Buenos Aires", -34.60, -58.38),
    city("Cairo", 30.04, 31.24),
    city("Chicago", 41.88, -87.63),
    city("Dallas", 32.78, -96.80),
    city("Delhi", 28.61, 77.21),
    city("Dubai", 25.20, 55.27),
    city("Dublin", 53.35, -6.26),
    city("Frankfurt", 50.11, 8.68),
    city("Hong Kong", 22.32, 114.17),
    city("Istanbul", 41.01, 28.98),
    city("Jakarta", -6.21, 106.85),
    city("Johannesburg", -26.20, 28.05),
    city("Lagos", 6.52, 3.38),
    city("London", 51.51, -0.13),
    city("Los Angeles", 34.05, -118.24),
    city("Madrid", 40.42, -3.70),
    city("Mexico City", 19.43, -99.13),
    city("Milan", 45.46, 9.19),
    city("Montreal", 45.50, -73.57),
    city("Mumbai", 19.08, 72.88),
    city("Nairobi", -1.29, 36.82),
    city("New York", 40.71, -74.01),
    city("Oregon", 45.52, -122.68),
    city("Paris", 48.86, 2.35),
    city("Santiago", -33.45, -70.67),
    city("São Paulo", -23.55, -46.63),
    city("Seoul", 37.57, 126.98),
    city("Singapore", 1.35, 103.82),
    city("Stockholm", 59.33, 18.07),
    city("Sydney", -33.87, 151.21),
    city("Tokyo", 35.68, 139.69),
    city("Toronto", 43.65, -79.38),
    city("Virginia", 39.04, -77.49),
    city("Warsaw", 52.23, 21.01),
    city("Zurich", 47.38, 8.54),
];

const fn city(name: &'static str, latitude: f64, longitude: f64) -> City {
    match Coordinates::new(latitude, longitude) {
        Ok(at) => City { name, at },
        Err(_) => panic!("no place on earth"),
    }
}

/// One that this program itself names, found while it is compiled.
pub(super) const fn known(name: &str) -> City {
    let mut index = 0;
    while index < CITIES.len() {
        if equal(CITIES[index].name.as_bytes(), name.as_bytes()) {
            return CITIES[index];
        }
        index += 1;
    }
    panic!("this city is not in the list")
}

const fn equal(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let mut index = 0;
    while index < one.len() {
        if one[index] != other[index] {
            return false;
        }
        index += 1;
    }
    true
}

impl City {
    /// By its name, in any case.
    pub fn find(name: &str) -> Option<Self> {
        CITIES.into_iter().find(|city| city.name.to_lowercase() == name.to_lowercase())
    }

    pub(super) fn place(self) -> Place {
        Place { city: self.name.to_owned(), at: self.at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cities_are_in_order_and_found_in_any_case() {
        let plain = |city: &City| city.name.replace('ã', "a");
        assert!(CITIES.windows(2).all(|pair| plain(&pair[0]) < plain(&pair[1])));
        assert_eq!(City::find("são paulo").map(|city| city.name), Some("São Paulo"));
        assert_eq!(City::find("Atlantis"), None);
    }
}
