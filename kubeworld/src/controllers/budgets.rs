//! PodDisruptionBudgets: how many pods may be evicted now.

use serde_json::{Value, json};

use super::replica_sets::write_status;
use super::server::{BUDGET, set_condition};
use super::templates::{controller_uid, is_active, ready_since};
use super::{Work, cache, deployments};
use crate::kinds::fields::{at, has, integer};
use crate::kinds::selectors;

pub(super) fn sync(work: &mut Work, namespace: &str, name: &str) {
    let Some(budget) = work.cache.get(cache::BUDGETS, namespace, name) else { return };
    let spec = at(&budget, &["spec"]);
    let selector = at(spec, &["selector"]);
    let pods: Vec<Value> = work
        .cache
        .list(cache::PODS, namespace)
        .filter(|pod| selectors::matches(selector, at(pod, &["metadata", "labels"])) && is_active(pod))
        .map(|pod| (**pod).clone())
        .collect();
    let healthy = pods.iter().filter(|pod| ready_since(pod).is_some()).count();
    let healthy = i64::try_from(healthy).unwrap_or(i64::MAX);
    let by_number = at(spec, &["minAvailable"]).is_number();
    let expected = if by_number { i64::try_from(pods.len()).unwrap_or(i64::MAX) } else { scale(work, &pods) };
    let desired = if has(spec, "maxUnavailable") {
        (expected - deployments::share(at(spec, &["maxUnavailable"]), expected, true)).max(0)
    } else {
        deployments::share(at(spec, &["minAvailable"]), expected, true)
    };
    let allowed = if expected == 0 { 0 } else { (healthy - desired).max(0) };
    let generation = at(&budget, &["metadata", "generation"]);
    let mut status = at(&budget, &["status"]).clone();
    if status.is_null() {
        status = json!({});
    }
    status["expectedPods"] = expected.into();
    status["currentHealthy"] = healthy.into();
    status["desiredHealthy"] = desired.into();
    status["disruptionsAllowed"] = allowed.into();
    status["observedGeneration"] = generation.clone();
    let (is, reason) = if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    set_condition(
        &mut status,
        json!({"type": "DisruptionAllowed", "status": is, "reason": reason, "message": "",
        "lastTransitionTime": work.time(), "observedGeneration": generation}),
    );
    write_status(work, BUDGET, &budget, status);
}

/// How many pods the owners of these want.
fn scale(work: &Work, pods: &[Value]) -> i64 {
    let mut owners: Vec<&str> = pods.iter().filter_map(|pod| controller_uid(pod)).collect();
    owners.sort_unstable();
    owners.dedup();
    owners
        .into_iter()
        .filter_map(|uid| work.cache.of_uid(uid))
        .filter_map(|owner| {
            // A rollout's sets share what their Deployment wants.
            let top = owner.owners.iter().find(|it| it.controller).and_then(|it| work.cache.of_uid(&it.uid));
            let top = top.unwrap_or(owner);
            Some((top.uid.clone(), integer(at(top.value.as_ref()?, &["spec"]), "replicas")?))
        })
        .collect::<std::collections::BTreeMap<String, i64>>()
        .into_values()
        .sum()
}
