//! Packets that vanish between sites.
//!
//! A cut is one or two policy rules of type `blackhole` in the router: the kernel looks a packet's route up, finds the
//! rule first, and drops the packet without a word. Open connections are hit as new ones are, since every forwarded
//! packet is looked up. Why rules and not a packet filter: they need nothing but `ip`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, ensure};

use super::namespaces::{NetworkPrefix, batch};

/// Before the rule for the main table (32766), after the one for the router's own addresses (0).
const PREFERENCE: u32 = 100;

/// Packets that are to vanish. Sites are named as members are, and [`super::HUB`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cut {
    /// All to and from a site.
    BlackHole(String),
    /// What a site sends.
    From(String),
    /// What is sent to a site.
    To(String),
    /// Both ways between two sites; each goes on with all others.
    Between(String, String),
}

/// What the router of a world drops. A cut works at once for every packet that comes after the call.
#[derive(Debug)]
pub struct Faults {
    router: String,
    sites: BTreeMap<String, NetworkPrefix>,
    cuts: Mutex<BTreeSet<Cut>>,
}

impl Faults {
    pub(super) fn new(router: String, sites: BTreeMap<String, NetworkPrefix>) -> Self {
        Self { router, sites, cuts: Mutex::default() }
    }

    /// Makes packets vanish, beside those of other cuts. One that is there already stays as it is.
    ///
    /// # Errors
    /// When there is no such site, or the two are one.
    pub fn cut(&self, cut: Cut) -> anyhow::Result<()> {
        self.change(|cuts| {
            cuts.insert(cut);
        })
    }

    /// Undoes one cut; what another one drops goes on vanishing.
    ///
    /// # Errors
    /// When the router cannot be changed.
    pub fn heal(&self, cut: &Cut) -> anyhow::Result<()> {
        self.change(|cuts| {
            cuts.remove(cut);
        })
    }

    /// Undoes all cuts.
    ///
    /// # Errors
    /// When the router cannot be changed.
    pub fn heal_all(&self) -> anyhow::Result<()> {
        self.change(BTreeSet::clear)
    }

    /// Cuts may overlap, so what changes is the difference between the rules of before and after.
    fn change(&self, change: impl FnOnce(&mut BTreeSet<Cut>)) -> anyhow::Result<()> {
        let mut cuts = self.cuts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut wanted = cuts.clone();
        change(&mut wanted);
        let (before, after) = (self.rules(&cuts)?, self.rules(&wanted)?);
        let mut script = String::new();
        for (verb, rules) in [("add", after.difference(&before)), ("del", before.difference(&after))] {
            for rule in rules {
                writeln!(script, "rule {verb} pref {PREFERENCE} {rule} blackhole").context("writing a rule")?;
            }
        }
        if !script.is_empty() {
            batch(&self.router, &script)?;
        }
        *cuts = wanted;
        Ok(())
    }

    fn rules(&self, cuts: &BTreeSet<Cut>) -> anyhow::Result<BTreeSet<String>> {
        let site = |name: &String| self.sites.get(name).with_context(|| format!("there is no site {name}"));
        let mut rules = BTreeSet::new();
        for cut in cuts {
            match cut {
                Cut::BlackHole(name) => {
                    let site = site(name)?;
                    rules.extend([format!("from {site}"), format!("from all to {site}")]);
                }
                Cut::From(name) => {
                    rules.insert(format!("from {}", site(name)?));
                }
                Cut::To(name) => {
                    rules.insert(format!("from all to {}", site(name)?));
                }
                Cut::Between(a, b) => {
                    let (one, other) = (site(a)?, site(b)?);
                    ensure!(one != other, "{a} and {b} are one site: no packet between them passes the router");
                    rules.extend([format!("from {one} to {other}"), format!("from {other} to {one}")]);
                }
            }
        }
        Ok(rules)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults() -> Faults {
        let sites = [("fra", 1), ("iad", 2), ("hub", 2)];
        let sites = sites.map(|(name, number)| (name.to_owned(), NetworkPrefix::new(20, number)));
        Faults::new("none".to_owned(), sites.into())
    }

    #[test]
    fn overlapping_cuts_share_rules() {
        let (fra, iad) = ("fra".to_owned(), "iad".to_owned());
        let rules = |cuts: &[Cut]| faults().rules(&cuts.iter().cloned().collect()).unwrap();
        let hole = rules(&[Cut::BlackHole(fra.clone())]);
        assert_eq!(hole, rules(&[Cut::From(fra.clone()), Cut::To(fra.clone())]));
        assert_eq!(hole, ["from 10.20.1.0/24", "from all to 10.20.1.0/24"].map(str::to_owned).into());
        let between = ["from 10.20.1.0/24 to 10.20.2.0/24", "from 10.20.2.0/24 to 10.20.1.0/24"];
        assert_eq!(rules(&[Cut::Between(fra, iad)]), between.map(str::to_owned).into());
    }

    #[test]
    fn a_cut_that_cannot_be_is_refused_and_not_kept() {
        let faults = faults();
        let unknown = faults.cut(Cut::From("mars".to_owned())).unwrap_err().to_string();
        assert!(unknown.contains("no site mars"), "{unknown}");
        let same = faults.cut(Cut::Between("hub".to_owned(), "iad".to_owned())).unwrap_err().to_string();
        assert!(same.contains("one site"), "{same}");
        // Nothing was kept, so there is nothing to undo, and the router, which does not exist, is not asked.
        faults.heal_all().unwrap();
    }
}
