//! `cargo xtask geo`: makes the country table that DNS nodes have built in, `dns/data/countries.bin`, and on request
//! the centres of countries beside it.
//!
//! The table is what a node knows of clients before anybody gives it a geo database, so it is small rather than fine:
//! IPv4 by /24 and IPv6 by /48, the shortest prefixes that the Internet routes, each as the country that holds most of
//! it. Its format stands in `dns/src/locate/builtin.rs`, which reads it.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

/// Country by prefix; CC0-1.0 by its package, with parts under CC BY 4.0 of the NRO: credit in `dns/data/README.md`.
/// Pinned, so that the table changes by a commit only.
const PACKAGE: &str = "@ip-location-db/geo-whois-asn-country@2.3.2026061719";

/// First bytes of the table: what it is, and the version of its format.
const MAGIC: &[u8; 8] = b"ISOGEO01";

/// The country byte of addresses that nobody holds.
const NOBODY: &str = "";

/// Blocks that are nobody's whatever the package says (it has a country for 192.168.0.0/16): those of the IANA registries
/// of special-purpose addresses that are not globally reachable, multicast and class E.
const NOBODYS: [(&str, u32); 15] = [
    ("0.0.0.0", 8),
    ("10.0.0.0", 8),
    ("100.64.0.0", 10),
    ("127.0.0.0", 8),
    ("169.254.0.0", 16),
    ("172.16.0.0", 12),
    ("192.0.0.0", 24),
    ("192.0.2.0", 24),
    ("192.168.0.0", 16),
    ("198.18.0.0", 15),
    ("198.51.100.0", 24),
    ("203.0.113.0", 24),
    ("224.0.0.0", 3),
    ("2001:db8::", 32),
    ("fc00::", 6),
];

/// Options of `cargo xtask geo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Also make country-centres.csv, from a CSV of cities with the columns geonameid,name,cc,lat,lon,population
    /// (GeoNames cities15000; .gz is unpacked)
    #[arg(long)]
    cities: Option<PathBuf>,

    /// Use this unpacked package instead of fetching it by npm
    #[arg(long)]
    package: Option<PathBuf>,
}

/// Writes `dns/data/countries.bin`, and `dns/data/country-centres.csv` when `cities` is given, under `workspace`.
///
/// # Errors
/// When npm or tar is missing or fails, a row is not understood, or the table would not fit its megabyte.
pub(crate) fn run(workspace: &Path, args: &Args) -> Result<()> {
    let data = workspace.join("dns/data");
    fs::create_dir_all(&data).with_context(|| format!("make {}", data.display()))?;
    let centres = data.join("country-centres.csv");
    if let Some(cities) = &args.cities {
        let text = centre_rows(&read_text(cities)?)?;
        fs::write(&centres, text).with_context(|| format!("write {}", centres.display()))?;
    }
    let known = countries_of(&read_text(&centres)?);
    let package = match &args.package {
        Some(package) => package.clone(),
        None => fetch(&workspace.join("target/xtask/geo"))?,
    };
    let mut v4 = family(&package, "ipv4", 32, 24, Gaps::Keep, &known)?;
    let mut v6 = family(&package, "ipv6", 128, 48, Gaps::CloseWithinCountry, &known)?;
    for (network, length) in NOBODYS {
        match network.parse()? {
            IpAddr::V4(v4_network) => carve(&mut v4, u64::from(u32::from(v4_network) >> 8), 1 << (24 - length)),
            IpAddr::V6(v6_network) => carve(&mut v6, (u128::from(v6_network) >> 80) as u64, 1 << (48 - length)),
        }
    }
    let table = encode(&known, &v4, &v6)?;
    ensure!(table.len() <= 1 << 20, "the table has {} bytes, more than the megabyte it may have", table.len());
    let path = data.join("countries.bin");
    fs::write(&path, &table).with_context(|| format!("write {}", path.display()))?;
    eprintln!(
        "{}: {} bytes, {} + {} ranges, {} countries",
        path.display(),
        table.len(),
        v4.len(),
        v6.len(),
        known.len()
    );
    Ok(())
}

/// Fetches and unpacks the package below `directory`.
fn fetch(directory: &Path) -> Result<PathBuf> {
    fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
    let output = Command::new("npm")
        .args(["pack", "--silent", PACKAGE])
        .current_dir(directory)
        .output()
        .context("run npm, which fetches the package")?;
    ensure!(output.status.success(), "npm pack {PACKAGE}: {}", String::from_utf8_lossy(&output.stderr));
    let archive = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let status = Command::new("tar").args(["xzf", &archive]).current_dir(directory).status().context("run tar")?;
    ensure!(status.success(), "tar xzf {archive} in {}: {status}", directory.display());
    Ok(directory.join("package"))
}

fn read_text(path: &Path) -> Result<String> {
    if path.extension().is_some_and(|extension| extension == "gz") {
        let output = Command::new("gzip").arg("-dc").arg(path).output().context("run gzip")?;
        ensure!(output.status.success(), "gzip -dc {}: {}", path.display(), String::from_utf8_lossy(&output.stderr));
        return String::from_utf8(output.stdout).with_context(|| format!("{} is not UTF-8", path.display()));
    }
    fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

/// The centre of each country, weighted by the population of its cities: the direction of the sum of their positions as
/// vectors, which is the place with the least mean square distance to all of them and knows no date line.
fn centre_rows(cities: &str) -> Result<String> {
    #[derive(Default)]
    struct Sum {
        vector: [f64; 3],
        people: u64,
        cities: u32,
    }
    let mut sums: BTreeMap<&str, Sum> = BTreeMap::new();
    for line in cities.lines().skip(1) {
        // The name is the only field that may be quoted, so the others are counted from both ends.
        let (mut front, mut back) = (line.split(','), line.rsplit(','));
        let (_id, people, lon, lat, country) = (front.next(), back.next(), back.next(), back.next(), back.next());
        let number = |text: Option<&str>| text.and_then(|text| text.parse::<f64>().ok());
        let (Some(country), Some(lat), Some(lon), Some(people)) = (country, number(lat), number(lon), number(people))
        else {
            bail!("a row of cities is not geonameid,name,cc,lat,lon,population: {line}");
        };
        // A city of unknown population counts as one person: a place, but no weight.
        let people = people.max(1.0);
        let (lat, lon) = (lat.to_radians(), lon.to_radians());
        let sum = sums.entry(country).or_default();
        for (total, part) in sum.vector.iter_mut().zip([lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()]) {
            *total += part * people;
        }
        sum.people += people as u64;
        sum.cities += 1;
    }
    let mut text = "country,latitude,longitude,population,cities\n".to_owned();
    for (country, Sum { vector: [x, y, z], people, cities }) in sums {
        let (latitude, longitude) = (z.atan2(x.hypot(y)).to_degrees(), y.atan2(x).to_degrees());
        text.push_str(&format!("{country},{latitude:.3},{longitude:.3},{people},{cities}\n"));
    }
    Ok(text)
}

/// The codes in a table of centres; a country without a centre is no place, so the table leaves it out.
fn countries_of(centres: &str) -> Vec<String> {
    centres.lines().skip(1).filter_map(|line| line.split(',').next()).map(str::to_owned).collect()
}

/// What to do with addresses between two ranges of one country that nobody holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gaps {
    /// They are nobody's: IPv4 has few, and private addresses are among them.
    Keep,
    /// They are that country's: in IPv6 they are what a registry holds back between two of its allocations, a third of
    /// all ranges, and no packet comes from them.
    CloseWithinCountry,
}

/// Where each run of blocks begins, and who holds it (an index into `known` plus one; zero: nobody).
type Runs = Vec<(u64, u8)>;

/// Runs of one family's file, in blocks of `prefix` bits.
fn family(package: &Path, name: &str, bits: u32, prefix: u32, gaps: Gaps, known: &[String]) -> Result<Runs> {
    let path = package.join(format!("geo-whois-asn-country-{name}.csv"));
    let text = read_text(&path)?;
    let shift = bits - prefix;
    // A block's holders, by how many of its addresses they hold: only for blocks that a range begins or ends in.
    let mut shared: BTreeMap<u64, BTreeMap<&str, u128>> = BTreeMap::new();
    let mut whole: Vec<(u64, u64, &str)> = Vec::new();
    let mut rows = Vec::new();
    for line in text.lines() {
        let row = line.split(',').collect::<Vec<_>>();
        let [first, last, country] = row[..] else { bail!("{}: not first,last,country: {line}", path.display()) };
        rows.push((address(first)?, address(last)?, country));
    }
    for (first, last, country) in flatten(rows) {
        let (from, to) = ((first >> shift) as u64, (last >> shift) as u64);
        let from_whole = if first & mask(shift) == 0 { from } else { from + 1 };
        let to_whole = if last & mask(shift) == mask(shift) { to + 1 } else { to };
        if from_whole < to_whole {
            whole.push((from_whole, to_whole, country));
        }
        for block in [from, to].into_iter().filter(|block| !(from_whole..to_whole).contains(block)) {
            let (block_first, block_last) = (u128::from(block) << shift, (u128::from(block) << shift) | mask(shift));
            let held = last.min(block_last) - first.max(block_first) + 1;
            *shared.entry(block).or_default().entry(country).or_default() += held;
        }
    }
    for (block, holders) in &shared {
        let most = holders.iter().max_by_key(|(_, held)| **held).map_or(NOBODY, |(country, _)| *country);
        whole.push((*block, block + 1, most));
    }
    whole.sort_unstable();
    runs(&whole, 1 << prefix, gaps, known).with_context(|| format!("runs of {}", path.display()))
}

/// Makes ranges disjoint. The file lays what operators say of parts (geofeeds) over what registries say of the whole, so
/// the range that begins later, or else ends sooner, or else comes later in the file, wins.
fn flatten(mut rows: Vec<(u128, u128, &str)>) -> Vec<(u128, u128, &str)> {
    rows.sort_by_key(|(first, last, _)| (*first, std::cmp::Reverse(*last)));
    let mut flat = Vec::with_capacity(rows.len());
    // Ranges that have begun and not ended, and the first address that is not yet in `flat`.
    let (mut open, mut next): (Vec<(u128, &str)>, u128) = (Vec::new(), 0);
    // The last turn ends everything; no file has a range that begins there.
    for (first, last, country) in rows.into_iter().chain([(u128::MAX, u128::MAX, NOBODY)]) {
        while let Some((end, holder)) = open.last().copied() {
            let until = end.min(first.saturating_sub(1));
            if next <= until {
                flat.push((next, until, holder));
                next = until + 1;
            }
            if end >= first {
                break;
            }
            open.pop();
        }
        next = next.max(first);
        open.push((last, country));
    }
    flat
}

/// Joins neighbours of one holder.
fn runs(whole: &[(u64, u64, &str)], blocks: u64, gaps: Gaps, known: &[String]) -> Result<Runs> {
    let index = |country: &str| known.binary_search_by(|code| code.as_str().cmp(country)).map_or(0, |i| i as u8 + 1);
    let mut runs: Runs = vec![(0, 0)];
    let mut next = 0;
    for (from, to, country) in whole {
        ensure!(*from >= next, "block {from:x} is held twice");
        let holder = index(country);
        let close = gaps == Gaps::CloseWithinCountry && runs.last().is_some_and(|(_, before)| *before == holder);
        if *from > next && !close {
            push(&mut runs, next, 0);
        }
        push(&mut runs, *from, holder);
        next = *to;
    }
    if next < blocks {
        push(&mut runs, next, 0);
    }
    Ok(runs)
}

fn push(runs: &mut Runs, from: u64, holder: u8) {
    match runs.last_mut() {
        Some((_, before)) if *before == holder => {}
        Some(last) if last.0 == from => last.1 = holder,
        _ => runs.push((from, holder)),
    }
}

/// Takes `count` blocks from `from` on away from whoever holds them.
fn carve(runs: &mut Runs, from: u64, count: u64) {
    let after = runs.partition_point(|(start, _)| *start <= from + count);
    let holder_after = runs[after - 1].1;
    let before = runs.partition_point(|(start, _)| *start < from);
    let tail = runs.split_off(after);
    runs.truncate(before);
    for (start, holder) in [(from, 0), (from + count, holder_after)].into_iter().chain(tail) {
        push(runs, start, holder);
    }
}

const fn mask(bits: u32) -> u128 {
    (1 << bits) - 1
}

fn address(text: &str) -> Result<u128> {
    let address: IpAddr = text.parse().with_context(|| format!("{text} is not an address"))?;
    Ok(match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    })
}

fn encode(known: &[String], v4: &Runs, v6: &Runs) -> Result<Vec<u8>> {
    let mut body = vec![u8::try_from(known.len()).context("more than 255 countries")?];
    for code in known {
        ensure!(code.len() == 2 && code.is_ascii(), "{code:?} is not a country code");
        body.extend_from_slice(code.as_bytes());
    }
    for runs in [v4, v6] {
        body.extend_from_slice(&u32::try_from(runs.len())?.to_be_bytes());
        let mut before = 0;
        for (from, holder) in runs {
            let mut delta = from - before;
            while delta >= 0x80 {
                body.push(delta as u8 | 0x80);
                delta >>= 7;
            }
            body.extend_from_slice(&[delta as u8, *holder]);
            before = *from;
        }
    }
    let mut table = MAGIC.to_vec();
    table.extend_from_slice(&Sha256::digest(&body));
    table.extend_from_slice(&body);
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Vec<String> {
        ["DE", "US"].map(str::to_owned).to_vec()
    }

    #[test]
    fn blocks_go_to_whom_they_belong() {
        let directory = std::env::temp_dir().join(format!("isochrone-geo-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let rows = "1.0.0.0,1.0.1.255,DE\n1.0.2.0,1.0.2.63,US\n1.0.2.64,1.0.3.255,DE\n1.0.5.0,1.0.5.255,DE\n";
        fs::write(directory.join("geo-whois-asn-country-ipv4.csv"), rows).unwrap();
        let runs = |gaps| family(&directory, "ipv4", 32, 24, gaps, &known()).unwrap();
        let block = 0x1_0000;
        assert_eq!(runs(Gaps::Keep), [(0, 0), (block, 1), (block + 4, 0), (block + 5, 1), (block + 6, 0)]);
        assert_eq!(runs(Gaps::CloseWithinCountry), [(0, 0), (block, 1), (block + 6, 0)]);
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn the_narrower_range_wins() {
        let rows = vec![(10, 99, "A"), (20, 39, "B"), (30, 34, "C"), (35, 50, "D"), (60, 69, "E"), (60, 69, "F")];
        let flat =
            [(10, 19, "A"), (20, 29, "B"), (30, 34, "C"), (35, 50, "D"), (51, 59, "A"), (60, 69, "F"), (70, 99, "A")];
        assert_eq!(flatten(rows), flat);
    }

    #[test]
    fn what_is_carved_out_is_nobodys() {
        let carved = |from, count| {
            let mut runs = vec![(0, 0), (10, 1), (20, 2), (30, 0)];
            carve(&mut runs, from, count);
            runs
        };
        assert_eq!(carved(12, 3), [(0, 0), (10, 1), (12, 0), (15, 1), (20, 2), (30, 0)]);
        assert_eq!(carved(15, 10), [(0, 0), (10, 1), (15, 0), (25, 2), (30, 0)]);
        assert_eq!(carved(0, 40), [(0, 0)]);
        assert_eq!(carved(10, 10), [(0, 0), (20, 2), (30, 0)]);
        assert_eq!(carved(40, 8), [(0, 0), (10, 1), (20, 2), (30, 0)]);
    }

    #[test]
    fn centres_are_weighted_and_know_no_date_line() {
        let cities =
            "geonameid,name,cc,lat,lon,population\n1,\"A, b\",FJ,0,179,100\n2,C,FJ,0,-179,100\n3,D,DE,50,8,0\n";
        let rows = centre_rows(cities).unwrap();
        assert!(rows.contains("DE,50.000,8.000,1,1\n"), "{rows}");
        assert!(rows.contains("FJ,0.000,180.000,200,2\n") || rows.contains("FJ,0.000,-180.000,200,2\n"), "{rows}");
    }
}
