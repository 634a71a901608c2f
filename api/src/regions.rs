//! Places of the cloud providers' regions, by their names.

use crate::v1alpha1::Location;

/// Source, licence and precision: `data/README.md`.
const TABLE: &str = include_str!("../data/cloud-regions.csv");

/// Where the region `name` lies, by the names that AWS, Google Cloud, Azure and Alibaba Cloud use.
///
/// `provider` (`aws`, `gcp`, `azure`, `alibaba`) chooses where two providers use one name for different places
/// (`eu-west-1` is Dublin or London); any other text, or none, takes the first in that order. `None`: no provider has
/// such a region.
pub fn locate(name: &str, provider: Option<&str>) -> Option<Location> {
    let mut found = TABLE.lines().skip(1).filter_map(Row::parse).filter(|row| row.region == name).peekable();
    let first = found.peek().map(|row| row.location);
    found.find(|row| Some(row.provider) == provider).map(|row| row.location).or(first)
}

struct Row {
    provider: &'static str,
    region: &'static str,
    location: Location,
}

impl Row {
    fn parse(line: &'static str) -> Option<Self> {
        let mut fields = line.split(',');
        let (provider, region, _place) = (fields.next()?, fields.next()?, fields.next()?);
        let (latitude, longitude) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        Some(Self { provider, region, location: Location { latitude, longitude } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_parses_and_is_on_earth() {
        let rows: Vec<Row> = TABLE.lines().skip(1).map(|line| Row::parse(line).expect(line)).collect();
        assert!(rows.len() > 100);
        for row in rows {
            assert!(row.location.latitude.abs() <= 90.0 && row.location.longitude.abs() <= 180.0, "{}", row.region);
        }
    }

    #[test]
    fn known_and_unknown_names() {
        let frankfurt = locate("eu-central-1", Some("aws")).unwrap();
        assert!((frankfurt.latitude - 50.1).abs() < 0.1 && (frankfurt.longitude - 8.7).abs() < 0.1);
        assert_eq!(locate("eu-central-1", Some("onprem")), Some(frankfurt));
        assert_ne!(locate("eu-west-1", Some("alibaba")), locate("eu-west-1", None));
        assert_eq!(locate("eu-west-1", Some("aws")), locate("eu-west-1", None));
        assert_eq!(locate("eu-central", None), None);
    }
}
