//! What went with its definition.
//!
//! Deleting a CRD of ours deletes every object of its kind, and that is nobody's word about any one of them: what was
//! delivered stays, and names keep their answers. So such objects count as last seen, until one of the same name is there
//! again. A hub that restarts meanwhile waits for the definitions before it says anything, and then begins with what is
//! there.

use std::collections::{BTreeMap, BTreeSet};

/// Names of objects of one kind that went with their definition and have not come back.
#[derive(Clone, Debug)]
pub struct Orphans<I>(BTreeSet<I>);

impl<I> Default for Orphans<I> {
    fn default() -> Self {
        Self(BTreeSet::new())
    }
}

impl<I: Ord + Clone> Orphans<I> {
    /// Brings `seen` up to date with what is there `now`. `going`: the definition is being deleted, or is not there.
    pub fn carry<T>(&mut self, seen: &mut BTreeMap<I, T>, mut now: BTreeMap<I, T>, going: bool) {
        if going {
            self.0.extend(seen.keys().filter(|id| !now.contains_key(*id)).cloned());
        }
        self.0.retain(|id| !now.contains_key(id));
        for id in &self.0 {
            if let Some(last) = seen.remove(id) {
                now.insert(id.clone(), last);
            }
        }
        *seen = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_with_its_definition_stays_until_it_is_there_again() {
        let mut orphans = Orphans::default();
        let mut seen = BTreeMap::from([("a", 1), ("b", 1), ("c", 1)]);
        // One is deleted by somebody; the others go with their definition, one after the other.
        orphans.carry(&mut seen, BTreeMap::from([("b", 1), ("c", 1)]), false);
        orphans.carry(&mut seen, BTreeMap::from([("c", 1)]), true);
        orphans.carry(&mut seen, BTreeMap::new(), true);
        assert_eq!(seen, BTreeMap::from([("b", 1), ("c", 1)]));
        // The definition is there again before its objects are; then one of them is, and is deleted by somebody.
        orphans.carry(&mut seen, BTreeMap::new(), false);
        orphans.carry(&mut seen, BTreeMap::from([("b", 2)]), false);
        assert_eq!(seen, BTreeMap::from([("b", 2), ("c", 1)]));
        orphans.carry(&mut seen, BTreeMap::new(), false);
        assert_eq!(seen, BTreeMap::from([("c", 1)]));
    }
}
