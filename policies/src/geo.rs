//! Places on earth, the distance between them, and what it says about round-trip time before anything was measured.
//!
//! Coordinates enter as checked values, so nothing below has to think about NaN; estimates leave as whole microseconds,
//! so that they compare, order and print alike everywhere. Trigonometry comes from the platform's mathematics library,
//! whose last bit may differ between machines: a microsecond is about 40 to 90 metres here, so two nodes would have to
//! meet a tie to within a nanometre to disagree.
//!
//! Absent on purpose: looking up an address (a shell's work), and measured latency, which replaces the prior wherever
//! there is any.

use std::cmp::Ordering;
use std::fmt;
use std::time::Duration;

/// A place on earth, in degrees. Always finite and in range; ordered by latitude, then longitude.
#[derive(Clone, Copy, Debug)]
pub struct Coordinates {
    latitude: f64,
    longitude: f64,
}

/// Numbers that are no place on earth.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error(
    "latitude {latitude}, longitude {longitude} is no place on earth: write degrees north from -90 to 90 and degrees \
     east from -180 to 180"
)]
pub struct CoordinatesError {
    latitude: f64,
    longitude: f64,
}

impl Coordinates {
    /// The place at `latitude` degrees north and `longitude` degrees east.
    ///
    /// # Errors
    /// When a number is not finite, or beyond ±90 and ±180.
    pub const fn new(latitude: f64, longitude: f64) -> Result<Self, CoordinatesError> {
        // Not a number is neither more nor less than anything.
        if latitude.abs() <= 90.0 && longitude.abs() <= 180.0 {
            // Adding zero turns -0.0 into 0.0, so that equal places are equal bits.
            Ok(Self { latitude: latitude + 0.0, longitude: longitude + 0.0 })
        } else {
            Err(CoordinatesError { latitude, longitude })
        }
    }

    /// Degrees north, -90 to 90.
    pub const fn latitude(self) -> f64 {
        self.latitude
    }

    /// Degrees east, -180 to 180.
    pub const fn longitude(self) -> f64 {
        self.longitude
    }
}

impl PartialEq for Coordinates {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Coordinates {}

impl PartialOrd for Coordinates {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Coordinates {
    fn cmp(&self, other: &Self) -> Ordering {
        self.latitude.total_cmp(&other.latitude).then(self.longitude.total_cmp(&other.longitude))
    }
}

impl fmt::Display for Coordinates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.4},{:.4}", self.latitude, self.longitude)
    }
}

/// Mean radius of the earth, kilometres (IUGG R1). The flattening that it leaves out is worth 0.5 % at most.
const EARTH_RADIUS_KM: f64 = 6371.0088;

/// Distance along the great circle, kilometres, by the haversine formula: exact near zero, and within rounding at the
/// antipode.
pub fn distance_km(a: Coordinates, b: Coordinates) -> f64 {
    let half_chord = |degrees: f64| (degrees.to_radians() / 2.0).sin();
    let (north, east) = (half_chord(b.latitude - a.latitude), half_chord(b.longitude - a.longitude));
    let cosines = a.latitude.to_radians().cos() * b.latitude.to_radians().cos();
    let haversine = north * north + cosines * east * east;
    2.0 * EARTH_RADIUS_KM * haversine.min(1.0).sqrt().asin()
}

/// An estimated round-trip time in whole microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rtt(u32);

impl Rtt {
    /// An estimate of `micros` microseconds.
    pub const fn from_micros(micros: u32) -> Self {
        Self(micros)
    }

    /// Microseconds.
    pub const fn as_micros(self) -> u32 {
        self.0
    }

    /// By how much this exceeds `other`; zero if it does not.
    pub const fn excess(self, other: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(other.0) as u64)
    }
}

impl From<Rtt> for Duration {
    fn from(rtt: Rtt) -> Self {
        Self::from_micros(u64::from(rtt.0))
    }
}

impl fmt::Display for Rtt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} ms", f64::from(self.0) / 1000.0)
    }
}

/// Median round-trip time by distance: kilometres, microseconds.
///
/// The medians of 57,568 city pairs (WonderNetwork, 2018), each set at the middle of its bin: 100–500, 500–1000,
/// 1000–2000, 2000–5000, 5000–8000, 8000–12000 and above 12000 km, whose pairs reach to the antipode at 20,015 km. The
/// first point has no pairs behind it: 2 ms is what two networks of one metropolis need to reach each other through
/// its exchange.
const PRIOR: [(f64, f64); 8] = [
    (0.0, 2_000.0),
    (300.0, 13_900.0),
    (750.0, 25_600.0),
    (1_500.0, 40_900.0),
    (3_500.0, 74_800.0),
    (6_500.0, 123_000.0),
    (10_000.0, 183_000.0),
    (16_000.0, 262_000.0),
];

/// What to expect of the round trip over `distance_km` before anything was measured.
///
/// Medians per bin rather than a line: a line through all pairs misses by 34 ms on average, mostly near by, where the
/// tolerance of a policy is decided. Interpolated between the bins, and onward with the last slope, rather than one
/// step per bin, because an estimate must grow with every kilometre: among unmeasured clusters the nearest stays the
/// nearest, and two clusters of one bin are not equal just because they share it. Each kilometre is worth at least
/// 13 µs, so whole microseconds keep the order of distances down to 80 metres.
///
/// Nothing is sampled here: the spread within a bin (p90 is about twice the median near by) is the simulator's.
pub fn prior_rtt(distance_km: f64) -> Rtt {
    let distance = distance_km.max(0.0);
    let beyond = PRIOR.iter().position(|(km, _)| distance < *km).unwrap_or(PRIOR.len());
    let upper = beyond.clamp(1, PRIOR.len() - 1);
    let ((km0, us0), (km1, us1)) = (PRIOR[upper - 1], PRIOR[upper]);
    let micros = us0 + (distance - km0) * (us1 - us0) / (km1 - km0);
    // A cast from a float saturates, so an absurd distance gives an absurd estimate, never a small one.
    Rtt(micros.round() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(latitude: f64, longitude: f64) -> Coordinates {
        Coordinates::new(latitude, longitude).unwrap()
    }

    #[test]
    fn only_places_on_earth() {
        for (latitude, longitude) in [(90.1, 0.0), (0.0, -180.1), (f64::NAN, 0.0), (0.0, f64::INFINITY)] {
            let error = Coordinates::new(latitude, longitude).unwrap_err().to_string();
            assert!(error.contains("-90 to 90"), "{error}");
        }
        assert_eq!(at(-0.0, 0.0), at(0.0, -0.0));
        assert!(at(-90.0, -180.0) < at(90.0, 180.0));
    }

    #[test]
    fn known_distances() {
        let (frankfurt, virginia, singapore) = (at(50.11, 8.68), at(38.95, -77.45), at(1.35, 103.82));
        for (a, b, km) in [
            (frankfurt, virginia, 6_553.0),
            (frankfurt, singapore, 10_270.0),
            (frankfurt, frankfurt, 0.0),
            (at(0.0, 0.0), at(0.0, 180.0), 20_015.1),
            // Across the date line.
            (at(0.0, 179.5), at(0.0, -179.5), 111.2),
        ] {
            let found = distance_km(a, b);
            assert!((found - km).abs() <= 0.1 + km / 500.0, "{a} to {b}: {found}");
            assert!((found - distance_km(b, a)).abs() < 1e-9);
        }
    }

    #[test]
    fn the_prior_meets_its_bins_and_grows_with_every_kilometre() {
        for (km, us) in PRIOR {
            assert_eq!(prior_rtt(km), Rtt(us as u32));
        }
        assert_eq!(prior_rtt(-1.0), Rtt(2_000));
        let estimates: Vec<Rtt> = (0..=20_100).map(|km| prior_rtt(f64::from(km))).collect();
        assert!(estimates.windows(2).all(|pair| pair[1].as_micros() >= pair[0].as_micros() + 13));
        assert_eq!(prior_rtt(20_015.0).to_string(), "314.9 ms");
        assert_eq!(Rtt(5_000).excess(Rtt(7_000)), Duration::ZERO);
    }
}
