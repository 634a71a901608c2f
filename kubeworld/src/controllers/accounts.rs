//! What every namespace has: the service account `default`, and the certificates of the API server.

use serde_json::json;

use super::server::{ACCOUNT, CONFIG_MAP, Program};
use super::{Work, cache};
use crate::kinds::fields::at;

const CERTIFICATES: &str = "kube-root-ca.crt";
const DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal \
    endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across \
    distributions of Kubernetes clusters.";

pub(super) fn sync(work: &mut Work, namespace: &str) {
    let Some(known) = work.cache.known(cache::NAMESPACES, "", namespace) else { return };
    if known.deleting {
        return;
    }
    if work.cache.get(cache::ACCOUNTS, namespace, "default").is_none() {
        let account = json!({"metadata": {"name": "default", "namespace": namespace}});
        let _there = work.create(Program::ControllerManager, ACCOUNT, &account);
    }
    let data = json!({"ca.crt": work.settings.root_certificates});
    match work.cache.get(cache::CONFIG_MAPS, namespace, CERTIFICATES) {
        None => {
            let map = json!({"metadata": {"name": CERTIFICATES, "namespace": namespace,
                "annotations": {"kubernetes.io/description": DESCRIPTION}}, "data": data});
            let _there = work.create(Program::ControllerManager, CONFIG_MAP, &map);
        }
        Some(map) if at(&map, &["data"]) != &data => {
            let mut map = (*map).clone();
            map["data"] = data;
            let _refused = work.update(Program::ControllerManager, CONFIG_MAP, "", &map);
        }
        Some(_) => {}
    }
}
