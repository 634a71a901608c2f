//! What a refusal of the API server means to people.

use kube::core::ApiResource;
use policies::plan::ObjectId;
use serde_json::Value;

use super::chain;
use crate::core::Failure;
use crate::names::app_user;

/// No answer in time.
pub(super) fn timed_out(doing: &str) -> Failure {
    Failure::new("ApiTimeout", format!("{doing}: the API server did not answer in time"))
}

/// A failure of a request.
pub(super) fn failure(doing: &str, error: &kube::Error) -> Failure {
    let kube::Error::Api(status) = error else {
        return Failure::new("ApiUnreachable", format!("{doing}: {}", chain(error)));
    };
    let reason = match status.code {
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        400 | 413 | 422 => "Invalid",
        429 => "TooManyRequests",
        _ => "ApiError",
    };
    Failure::new(reason, format!("{doing}: {}", status.message))
}

/// The lines that give the App's user the right that a refusal of `object` says it lacks. For the cluster's owner to
/// read, judge and run. `None` when the refusal speaks of no right of that user, as one of an admission webhook.
pub(super) fn hint(
    namespace: &str,
    id: &ObjectId,
    resource: &ApiResource,
    object: &Value,
    refusal: &str,
) -> Option<String> {
    let user = app_user(namespace);
    let dot = if resource.group.is_empty() { "" } else { "." };
    let what = format!("{}{dot}{}", resource.plural, resource.group);
    if refusal.contains(&format!("User \"{user}\" cannot")) {
        let role = format!("isochrone-app-{namespace}-{}", resource.plural);
        let rules = format!("--verb=get,list,watch,create,update,patch,delete --resource={what}");
        return Some(grant(&role, id, &rules, &user));
    }
    // Who may write a role or a binding may still give nobody rights that it does not hold: Kubernetes asks for `bind` on
    // the role that is bound, or `escalate` on the role that is written.
    if !refusal.contains(&format!("user \"{user}\"")) || !refusal.contains("attempting to grant RBAC permissions") {
        return None;
    }
    let (verb, what, name) = match object.get("roleRef") {
        Some(bound) => {
            let text = |key: &str| bound.get(key).and_then(Value::as_str).unwrap_or_default();
            let plural = if text("kind") == "Role" { "roles" } else { "clusterroles" };
            ("bind", format!("{plural}.{}", resource.group), text("name").to_owned())
        }
        None => ("escalate", what, id.name.clone()),
    };
    let rules = format!("--verb={verb} --resource={what} --resource-name={name}");
    Some(grant(&format!("isochrone-app-{namespace}-{verb}-{name}"), id, &rules, &user))
}

/// Makes a role and binds it where the object is. One of a namespace is a Role of that namespace, so that the lines for
/// another namespace do not meet a role that is there already.
fn grant(role: &str, id: &ObjectId, rules: &str, user: &str) -> String {
    match &id.namespace {
        Some(place) => format!(
            "kubectl create role {role} --namespace={place} {rules} && kubectl create rolebinding {role} \
             --namespace={place} --role={role} --user={user}"
        ),
        None => format!(
            "kubectl create clusterrole {role} {rules} && kubectl create clusterrolebinding {role} --clusterrole={role} \
             --user={user}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use policies::plan::GroupKind;
    use serde_json::json;

    use super::*;

    fn resource(group: &str, kind: &str, plural: &str) -> ApiResource {
        let (group, kind, plural) = (group.to_owned(), kind.to_owned(), plural.to_owned());
        ApiResource { api_version: format!("{group}/v1"), version: "v1".into(), group, kind, plural }
    }

    #[test]
    fn the_hint_is_a_line_to_paste() {
        let widgets = resource("example.com", "Widget", "widgets");
        let refusal = "widgets.example.com \"w\" is forbidden: User \"isochrone:app:shop\" cannot patch resource";
        let mut id = ObjectId { kind: GroupKind::new("example.com", "Widget"), namespace: None, name: "w".into() };
        assert_eq!(
            hint("shop", &id, &widgets, &json!({}), refusal).unwrap(),
            "kubectl create clusterrole isochrone-app-shop-widgets --verb=get,list,watch,create,update,patch,delete \
             --resource=widgets.example.com && kubectl create clusterrolebinding isochrone-app-shop-widgets \
             --clusterrole=isochrone-app-shop-widgets --user=isochrone:app:shop"
        );
        id.namespace = Some("other".into());
        assert_eq!(
            hint("shop", &id, &widgets, &json!({}), refusal).unwrap(),
            "kubectl create role isochrone-app-shop-widgets --namespace=other \
             --verb=get,list,watch,create,update,patch,delete --resource=widgets.example.com && kubectl create \
             rolebinding isochrone-app-shop-widgets --namespace=other --role=isochrone-app-shop-widgets \
             --user=isochrone:app:shop"
        );
        for other in
            ["User \"isochrone:app:other\" cannot patch resource", "admission webhook \"a.b\" denied the request"]
        {
            assert_eq!(hint("shop", &id, &widgets, &json!({}), other), None);
        }
    }

    #[test]
    fn the_hint_for_rights_to_give_away_names_the_one_role() {
        let group = "rbac.authorization.k8s.io";
        let refusal = "\"x\" is forbidden: user \"isochrone:app:shop\" (groups=[\"system:authenticated\"]) is attempting \
                       to grant RBAC permissions not currently held:\n{APIGroups:[\"*\"]}";
        let of = |kind: &str, plural: &str, namespace: Option<&str>, object: Value| {
            let id = ObjectId {
                kind: GroupKind::new(group, kind),
                namespace: namespace.map(str::to_owned),
                name: "rise".into(),
            };
            hint("shop", &id, &resource(group, kind, plural), &object, refusal).unwrap()
        };
        let admin = json!({"roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "cluster-admin"}});
        assert_eq!(
            of("ClusterRoleBinding", "clusterrolebindings", None, admin),
            "kubectl create clusterrole isochrone-app-shop-bind-cluster-admin --verb=bind \
             --resource=clusterroles.rbac.authorization.k8s.io --resource-name=cluster-admin && kubectl create \
             clusterrolebinding isochrone-app-shop-bind-cluster-admin \
             --clusterrole=isochrone-app-shop-bind-cluster-admin --user=isochrone:app:shop"
        );
        let own = json!({"roleRef": {"apiGroup": group, "kind": "Role", "name": "reader"}});
        let line = of("RoleBinding", "rolebindings", Some("shop"), own);
        assert!(line.contains("--namespace=shop --verb=bind --resource=roles.rbac"), "{line}");
        assert!(line.contains("--resource-name=reader && "), "{line}");
        let line = of("ClusterRole", "clusterroles", None, json!({"rules": []}));
        assert!(line.contains("--verb=escalate --resource=clusterroles.rbac"), "{line}");
        assert!(line.contains("--resource-name=rise && "), "{line}");
    }
}
