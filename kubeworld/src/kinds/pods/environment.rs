//! The variables of a container, and where they come from.

use serde_json::Value;

use super::super::{
    causes::{Causes, Path},
    fields::{at, has, option, text},
    names,
};
use super::volumes;

const ENV_FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

const RESOURCE_FIELDS: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

pub(super) fn check_env(causes: &mut Causes, path: Path<'_>, variables: &[Value]) {
    for (index, variable) in variables.iter().enumerate() {
        let path = path.index(index);
        let name = text(variable, "name");
        if name.is_empty() {
            causes.required(path.child("name"), "");
        } else {
            causes.each_invalid(path.child("name"), name, names::variable(name));
        }
        if has(variable, "valueFrom") {
            check_value_from(causes, path.child("valueFrom"), variable);
        }
    }
}

fn check_value_from(causes: &mut Causes, path: Path<'_>, variable: &Value) {
    let from = at(variable, &["valueFrom"]);
    let mut sources = 0;
    if let Some(field) = option(from, "fieldRef") {
        sources += 1;
        volumes::check_field(causes, path.child("fieldRef"), field, &ENV_FIELDS);
    }
    if let Some(field) = option(from, "resourceFieldRef") {
        sources += 1;
        check_resource_field(causes, path.child("resourceFieldRef"), field, false);
    }
    for key in ["configMapKeyRef", "secretKeyRef"] {
        let Some(reference) = option(from, key) else { continue };
        sources += 1;
        let path = path.child(key);
        let name = text(reference, "name");
        causes.each_invalid(path.child("name"), name, names::dns_subdomain(name));
        match text(reference, "key") {
            "" => causes.required(path.child("key"), ""),
            key => causes.each_invalid(path.child("key"), key, names::config_key(key)),
        }
    }
    sources += usize::from(has(from, "fileKeyRef"));
    if sources == 0 {
        let why =
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
        causes.invalid(path, "", why);
    } else if !text(variable, "value").is_empty() {
        causes.invalid(path, "", "may not be specified when `value` is not empty");
    } else if sources > 1 {
        causes.invalid(path, "", "may not have more than one field specified at a time");
    }
}

pub(super) fn check_resource_field(causes: &mut Causes, path: Path<'_>, field: &Value, in_volume: bool) {
    let resource = text(field, "resource");
    if in_volume && text(field, "containerName").is_empty() {
        causes.required(path.child("containerName"), "");
    } else if resource.is_empty() {
        causes.required(path.child("resource"), "");
    } else if !RESOURCE_FIELDS.contains(&resource)
        && !resource.starts_with("limits.hugepages-")
        && !resource.starts_with("requests.hugepages-")
    {
        causes.not_supported(path.child("resource"), resource, &RESOURCE_FIELDS);
    }
}

pub(super) fn check_env_from(causes: &mut Causes, path: Path<'_>, sources: &[Value]) {
    for (index, source) in sources.iter().enumerate() {
        let at_index = path.index(index);
        let prefix = text(source, "prefix");
        if !prefix.is_empty() {
            causes.each_invalid(at_index.child("prefix"), prefix, names::variable(prefix));
        }
        let mut count = 0;
        for key in ["configMapRef", "secretRef"] {
            let Some(reference) = option(source, key) else { continue };
            count += 1;
            let path = at_index.child(key);
            match text(reference, "name") {
                "" => causes.required(path.child("name"), ""),
                name => causes.each_invalid(path.child("name"), name, names::dns_subdomain(name)),
            }
        }
        if count == 0 {
            causes.invalid(path, "", "must specify one of: `configMapRef` or `secretRef`");
        } else if count > 1 {
            causes.invalid(path, "", "may not have more than one field specified at a time");
        }
    }
}
