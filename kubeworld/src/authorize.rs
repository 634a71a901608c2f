//! Who may do what: from a request to a question for [`crate::access`], and from its answer to a refusal.

use bytes::Bytes;
use http::{Method, Request};
use serde_json::Value;

use crate::access::{self, Attributes};
use crate::api::{State, User};
use crate::handle::Call;
use crate::request::{Query, Target};
use crate::status::Status;

/// The verb of a request on a resource.
fn verb(method: &Method, target: &Target, query: &Query) -> &'static str {
    let one = !target.name.is_empty();
    match *method {
        Method::GET | Method::HEAD if query.flag("watch") || target.watch => "watch",
        Method::GET | Method::HEAD if one => "get",
        Method::GET | Method::HEAD => "list",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if one => "delete",
        Method::DELETE => "deletecollection",
        _ => "",
    }
}

fn attributes<'a>(method: &Method, target: &'a Target, query: &'a Query) -> Attributes<'a> {
    // A list or a watch of one object by its name is about that object.
    let selected = query.get("fieldSelector").strip_prefix("metadata.name=").filter(|name| !name.contains(','));
    let name = match selected {
        Some(selected) if target.name.is_empty() && *method == Method::GET => selected.trim_start_matches('='),
        Some(_) | None => &target.name,
    };
    Attributes {
        verb: verb(method, target, query),
        target: access::Target::Resource {
            group: &target.group,
            resource: &target.plural,
            subresource: &target.subresource,
            name,
            namespace: &target.namespace,
        },
    }
}

/// The user that a request acts as: the one of the connection, or the one that its `Impersonate-` headers name, where
/// that is allowed.
pub(crate) fn impersonated(
    state: &State,
    request: &Request<Bytes>,
    target: Option<&Target>,
    query: &Query,
    user: &User,
) -> Result<User, Status> {
    let Some(wanted) = access::wanted(request.headers())? else { return Ok(user.clone()) };
    let method = request.method().as_str().to_ascii_lowercase();
    let attributes = match target {
        Some(target) => attributes(request.method(), target, query),
        None => Attributes { verb: &method, target: access::Target::Path(request.uri().path()) },
    };
    state.access.impersonate(user, &wanted, &attributes, None).map(|(user, _)| user)
}

/// A path that is no resource's.
pub(crate) fn path(state: &State, user: &User, method: &Method, path: &str) -> Result<(), Status> {
    let verb = method.as_str().to_ascii_lowercase();
    state.access.check(user, &Attributes { verb: &verb, target: access::Target::Path(path) })
}

/// A request on a resource.
pub(crate) fn resource(
    state: &State,
    user: &User,
    method: &Method,
    target: &Target,
    query: &Query,
) -> Result<(), Status> {
    state.access.check(user, &attributes(method, target, query))
}

/// An apply of what is not there creates it.
pub(crate) fn may_create(state: &State, call: &Call<'_>) -> Result<(), Status> {
    let target = access::Target::Resource {
        group: &call.resource.group,
        resource: &call.resource.plural,
        subresource: &call.subresource,
        name: &call.name,
        namespace: &call.namespace,
    };
    state.access.check(call.user, &Attributes { verb: "create", target })
}

/// A role or a binding hands on rights, and nobody hands on what he does not hold.
pub(crate) fn may_grant(state: &State, call: &Call<'_>, new: &Value, old: Option<&Value>) -> Result<(), Status> {
    if call.resource.group != "rbac.authorization.k8s.io" {
        return Ok(());
    }
    let plural = call.resource.plural.as_str();
    let namespace = call.storage_namespace();
    match plural {
        "roles" | "clusterroles" => state.access.check_role(call.user, plural, namespace, &call.name, new, old),
        _ => state.access.check_binding(call.user, plural, namespace, new, old),
    }
}
