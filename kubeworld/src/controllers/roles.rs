//! ClusterRoles that are put together from others by their labels.

use serde_json::Value;

use super::server::{CLUSTER_ROLE, Program};
use super::{Work, cache};
use crate::kinds::fields::{at, list, text};
use crate::kinds::selectors;

pub(super) fn sync(work: &mut Work, name: &str) {
    let Some(role) = work.cache.get(cache::CLUSTER_ROLES, "", name) else { return };
    let selecting = list(at(&role, &["aggregationRule"]), "clusterRoleSelectors");
    if selecting.is_empty() {
        return;
    }
    let mut rules: Vec<Value> = Vec::new();
    for selector in selecting {
        // By name, so that equal roles give equal rules.
        for other in work.cache.list(cache::CLUSTER_ROLES, "") {
            let meta = at(other, &["metadata"]);
            if text(meta, "name") == name || !selectors::matches(selector, at(meta, &["labels"])) {
                continue;
            }
            for rule in list(other, "rules") {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
        }
    }
    if list(&role, "rules") != rules.as_slice() {
        let mut new = (*role).clone();
        new["rules"] = rules.into();
        let _refused = work.update(Program::ControllerManager, CLUSTER_ROLE, "", &new);
    }
}
