//! What a refusal of the API server means to people.

use kube::core::ApiResource;
use policies::plan::ObjectId;

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

/// The lines that give the App's user the right it lacks. For the cluster's owner to read, judge and run.
pub(super) fn hint(namespace: &str, id: &ObjectId, resource: &ApiResource) -> String {
    let user = app_user(namespace);
    let role = format!("isochrone-app-{namespace}-{}", resource.plural);
    let dot = if resource.group.is_empty() { "" } else { "." };
    let what = format!("{}{dot}{}", resource.plural, resource.group);
    let make =
        format!("kubectl create clusterrole {role} --verb=get,list,watch,create,update,patch,delete --resource={what}");
    match &id.namespace {
        Some(place) => {
            format!(
                "{make} && kubectl create rolebinding {role} --namespace={place} --clusterrole={role} --user={user}"
            )
        }
        None => format!("{make} && kubectl create clusterrolebinding {role} --clusterrole={role} --user={user}"),
    }
}

#[cfg(test)]
mod tests {
    use policies::plan::GroupKind;

    use super::*;

    #[test]
    fn the_hint_is_a_line_to_paste() {
        let resource = ApiResource {
            group: "example.com".into(),
            version: "v1".into(),
            api_version: "example.com/v1".into(),
            kind: "Widget".into(),
            plural: "widgets".into(),
        };
        let mut id = ObjectId { kind: GroupKind::new("example.com", "Widget"), namespace: None, name: "w".into() };
        assert_eq!(
            hint("shop", &id, &resource),
            "kubectl create clusterrole isochrone-app-shop-widgets --verb=get,list,watch,create,update,patch,delete \
             --resource=widgets.example.com && kubectl create clusterrolebinding isochrone-app-shop-widgets \
             --clusterrole=isochrone-app-shop-widgets --user=isochrone:app:shop"
        );
        id.namespace = Some("other".into());
        assert!(
            hint("shop", &id, &resource).contains("create rolebinding isochrone-app-shop-widgets --namespace=other ")
        );
    }
}
