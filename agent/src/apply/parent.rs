//! The ApplySet parent of an app: a ConfigMap in the agent's namespace, written by the agent itself.

use std::collections::BTreeSet;

use super::{
    Api, AppId, Applier, ConfigMap, DeleteParams, Failure, GroupKind, Patch, PatchParams, REQUEST, ResourceExt,
    SetRecord, Value, bounded, failure, json, names,
};

/// Field manager of what the agent keeps for itself.
const MANAGER: &str = "isochrone-agent";

impl Applier {
    /// What the parent says; `None` when there is none.
    pub(super) async fn read_parent(&self, name: &str, set: &str) -> Result<Option<SetRecord>, Failure> {
        let doing = format!("read ApplySet parent {}/{name}", self.namespace);
        let Some(found) = bounded(&doing, self.parents().get_opt(name)).await? else {
            return Ok(None);
        };
        let tooling = found.annotations().get(names::TOOLING).map(String::as_str);
        if tooling != Some(names::TOOLING_VALUE) || found.labels().get(names::SET_ID).map(String::as_str) != Some(set) {
            let text = format!(
                "{doing}: another tool keeps it ({}); delete it if it is not needed",
                tooling.unwrap_or("none named")
            );
            return Err(Failure::new("ForeignApplySet", text));
        }
        let listed = |key: &str| -> Vec<String> {
            let text = found.annotations().get(key).cloned().unwrap_or_default();
            text.split(',').filter(|s| !s.is_empty()).map(str::to_owned).collect()
        };
        let kinds = listed(names::GROUP_KINDS).iter().filter_map(|k| k.parse::<GroupKind>().ok()).collect();
        Ok(Some(SetRecord { kinds, namespaces: listed(names::NAMESPACES).into_iter().collect() }))
    }

    /// Makes or changes the parent.
    pub(super) async fn write_parent(
        &self,
        name: &str,
        set: &str,
        app: &AppId,
        record: &SetRecord,
    ) -> Result<(), Failure> {
        let params = PatchParams::apply(MANAGER).force();
        let body = self.parent(name, set, app, record);
        let doing = format!("write ApplySet parent {}/{name}", self.namespace);
        bounded(&doing, self.parents().patch(name, &params, &Patch::Apply(&body))).await.map(drop)
    }

    /// Deletes the parent of an empty set.
    pub(super) async fn delete_parent(&self, name: &str) -> Result<(), Failure> {
        let doing = format!("delete ApplySet parent {}/{name}", self.namespace);
        match tokio::time::timeout(REQUEST, self.parents().delete(name, &DeleteParams::default())).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(()),
            Ok(Err(error)) => Err(failure(&doing, &error)),
            Err(_) => Err(failure::timed_out(&doing)),
        }
    }

    fn parent(&self, name: &str, set: &str, app: &AppId, record: &SetRecord) -> Value {
        let kinds: Vec<String> =
            record.kinds.iter().map(ToString::to_string).collect::<BTreeSet<_>>().into_iter().collect();
        // The parent's own namespace too, if members are there: what is read back must equal what was written.
        let namespaces: Vec<&str> = record.namespaces.iter().map(String::as_str).collect();
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {
                "name": name, "namespace": self.namespace,
                "labels": {names::SET_ID: set},
                "annotations": {
                    names::TOOLING: names::TOOLING_VALUE,
                    names::GROUP_KINDS: kinds.join(","),
                    names::NAMESPACES: namespaces.join(","),
                },
            },
            "data": {"app": app.to_string()},
        })
    }

    fn parents(&self) -> Api<ConfigMap> {
        Api::namespaced(self.own(), &self.namespace)
    }
}
