//! The patches that change an object directly: JSON patch (RFC 6902), JSON merge patch (RFC 7386), and Kubernetes'
//! strategic merge patch, which knows from the schema how lists merge.

use serde_json::{Map, Value};

use crate::decode;
use crate::registry::Resource;
use crate::schema::{PatchStrategy, Schema, TypeId};
use crate::status::{Details, Status};

/// The most operations of a JSON patch (the real server's limit).
const OPERATIONS_MAX: usize = 10_000;

/// The object with the patch in it, and what a strict reading of the patch refuses.
pub(crate) fn patch(
    resource: &Resource,
    kind: &str,
    object: &Value,
    body: &[u8],
) -> Result<(Value, Vec<String>), Status> {
    match kind {
        "application/json-patch+json" => json_patch(object, body),
        "application/merge-patch+json" => {
            let parsed = decode::json(body).map_err(|_| Status::bad_request("invalid JSON patch"))?;
            if !parsed.value.is_object() {
                return Err(Status::bad_request(format!(
                    "error decoding patch: json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
                    match parsed.value {
                        Value::Array(_) => "array",
                        Value::String(_) => "string",
                        Value::Number(_) => "number",
                        Value::Bool(_) => "bool",
                        Value::Null | Value::Object(_) => "null",
                    }
                )));
            }
            let mut out = object.clone();
            json_patch::merge(&mut out, &parsed.value);
            Ok((out, parsed.strict))
        }
        _ => {
            let parsed = decode::json(body).map_err(|_| Status::bad_request("invalid JSON patch"))?;
            let Value::Object(patch) = parsed.value else {
                return Err(Status::bad_request(
                    "json: cannot unmarshal array into Go value of type map[string]interface {}",
                ));
            };
            let typed = resource.typed();
            let at = typed.map(|typed| At { schema: typed.schema, ty: Some(typed.ty) });
            let Some(at) = at else { return Err(crate::handle::method_not_allowed()) };
            let fields = object.as_object().cloned().unwrap_or_default();
            Ok((Value::Object(merge_map(at, fields, &patch)?), parsed.strict))
        }
    }
}

fn json_patch(object: &Value, body: &[u8]) -> Result<(Value, Vec<String>), Status> {
    let parsed = decode::json(body).map_err(|_| Status::bad_request("invalid JSON patch"))?;
    let Value::Array(operations) = &parsed.value else {
        return Err(Status::bad_request(
            "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp",
        ));
    };
    if operations.len() > OPERATIONS_MAX {
        return Err(Status {
            code: 413,
            reason: "RequestEntityTooLarge",
            message: format!(
                "Request entity too large: The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {}",
                operations.len()
            ),
            details: None,
        });
    }
    let mut out = object.clone();
    let mut strict = Vec::new();
    for (at, operation) in operations.iter().enumerate() {
        for field in operation.as_object().into_iter().flatten().map(|(field, _)| field) {
            if !matches!(field.as_str(), "op" | "path" | "from" | "value") {
                strict.push(format!("json patch unknown field \"[{at}].{field}\""));
            }
        }
        let one: json_patch::PatchOperation = match serde_json::from_value(operation.clone()) {
            Ok(one) => one,
            Err(_) => return Err(rejected(&refused_operation(operation))),
        };
        // The real server's library puts a field that is missing where one is to be replaced.
        let mut one = one;
        if let json_patch::PatchOperation::Replace(replace) = &one
            && out.pointer(&replace.path.to_string()).is_none()
        {
            let json_patch::ReplaceOperation { path, value } = replace.clone();
            one = json_patch::PatchOperation::Add(json_patch::AddOperation { path, value });
        }
        // That a field is missing is tested with null there; kube's finalizers rely on it.
        if let json_patch::PatchOperation::Test(test) = &one
            && test.value.is_null()
            && is_missing_field(&out, &test.path.to_string())
        {
            continue;
        }
        let result = json_patch::patch(&mut out, std::slice::from_ref(&one));
        if result.is_err() {
            return Err(rejected(&failed_operation(operation)));
        }
    }
    Ok((out, strict))
}

/// Whether there is an object that could have this field, and has not.
fn is_missing_field(object: &Value, path: &str) -> bool {
    let parent = path.rsplit_once('/').and_then(|(parent, _)| object.pointer(parent));
    parent.is_some_and(Value::is_object) && object.pointer(path).is_none()
}

fn text<'a>(operation: &'a Value, key: &str) -> &'a str {
    operation[key].as_str().unwrap_or_default()
}

fn refused_operation(operation: &Value) -> String {
    match operation.get("path") {
        Some(_) => format!("Unexpected kind: {}", text(operation, "op")),
        None => format!("{} operation does not apply: missing path", text(operation, "op")),
    }
}

/// In the words of the library that the real server uses.
fn failed_operation(operation: &Value) -> String {
    let path = text(operation, "path");
    let last = path.rsplit('/').next().unwrap_or_default();
    match text(operation, "op") {
        "test" => format!("testing value {path} failed: test failed"),
        "remove" => {
            format!("error in remove for path: '{path}': Unable to remove nonexistent key: {last}: missing value")
        }
        "replace" => format!("replace operation does not apply: doc is missing key: {path}: missing value"),
        "add" => format!("add operation does not apply: doc is missing path: \"{path}\": missing value"),
        "copy" => format!(
            "copy operation does not apply: doc is missing from path: \"{}\": missing value",
            text(operation, "from")
        ),
        "move" => format!(
            "error in move for path: '{}': Unable to remove nonexistent key: missing value",
            text(operation, "from")
        ),
        other => format!("Unexpected kind: {other}"),
    }
}

/// 422 as the real server words what its own libraries refuse: why is for its log only.
fn rejected(why: &str) -> Status {
    tracing::debug!(why, "a patch does not apply");
    Status {
        code: 422,
        reason: "Invalid",
        message: "the server rejected our request due to an error in our request".to_owned(),
        details: Some(Box::new(Details::default())),
    }
}

/// Where in the schema a patch is. Without a type, everything merges as JSON merge patches do.
#[derive(Clone, Copy)]
struct At<'a> {
    schema: &'a Schema,
    ty: Option<TypeId>,
}

impl At<'_> {
    /// The type and the strategy of a field.
    fn field(self, name: &str) -> (Self, PatchStrategy) {
        let map = self.ty.and_then(|ty| self.schema.get(ty).map.as_ref());
        let field = map.and_then(|map| map.fields.get(name));
        let ty = map.and_then(|map| map.under(name));
        (Self { ty, ..self }, field.map(|field| field.patch.clone()).unwrap_or_default())
    }

    fn element(self) -> Self {
        let list = self.ty.and_then(|ty| self.schema.get(ty).list.as_ref());
        Self { ty: list.map(|list| list.element), ..self }
    }
}

const DIRECTIVE: &str = "$patch";
const RETAIN: &str = "$retainKeys";
const ORDER: &str = "$setElementOrder/";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";

fn merge_map(
    at: At<'_>,
    mut own: Map<String, Value>,
    patch: &Map<String, Value>,
) -> Result<Map<String, Value>, Status> {
    match patch.get(DIRECTIVE).map(|directive| directive.as_str().unwrap_or_default()) {
        Some("replace") => {
            let rest = patch.iter().filter(|(key, _)| *key != DIRECTIVE);
            return Ok(rest.map(|(key, value)| (key.clone(), value.clone())).collect());
        }
        Some("delete") => return Ok(Map::new()),
        Some("merge") | None => {}
        Some(other) => return Err(unknown_directive(other, patch)),
    }
    if let Some(retain) = patch.get(RETAIN) {
        let bad = || Status::bad_request("invalid patch format of retainKeys");
        let keys = retain.as_array().ok_or_else(bad)?;
        // What the patch sets must be among what stays.
        if patch.keys().any(|key| !key.starts_with('$') && !keys.iter().any(|keep| keep == key)) {
            return Err(bad());
        }
        own.retain(|key, _| keys.iter().any(|keep| keep == key));
    }
    for (key, value) in patch {
        if let Some(field) = key.strip_prefix(DELETE_FROM) {
            let gone = value.as_array().cloned().unwrap_or_default();
            if let Some(Value::Array(items)) = own.get_mut(field) {
                items.retain(|item| !gone.contains(item));
            }
        }
    }
    for (key, value) in patch {
        if key.starts_with('$') {
            continue;
        }
        if value.is_null() {
            own.remove(key);
            continue;
        }
        let (below, strategy) = at.field(key);
        let merged = match (own.remove(key), value) {
            (Some(Value::Object(old)), Value::Object(new)) => Value::Object(merge_map(below, old, new)?),
            // Nothing is replaced by nothing, as the real server has it.
            (None, Value::Object(new)) if new.contains_key(DIRECTIVE) => continue,
            (_, Value::Object(new)) => Value::Object(merge_map(below, Map::new(), new)?),
            (old, Value::Array(new)) if strategy.merge => {
                let old = old.and_then(|old| match old {
                    Value::Array(items) => Some(items),
                    Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => None,
                });
                // Where there is no list, the patch's own is taken as it stands, even with a key twice.
                let Some(old) = old else {
                    let plain = new.iter().filter(|item| item.get(DIRECTIVE).is_none());
                    own.insert(key.clone(), plain.cloned().collect());
                    continue;
                };
                let order = patch.get(&format!("{ORDER}{key}")).and_then(Value::as_array);
                let items = merge_list(below.element(), &strategy, old, new, order)?;
                Value::Array(items)
            }
            (_, new) => new.clone(),
        };
        own.insert(key.clone(), merged);
    }
    // An order can come without items.
    for (key, order) in patch {
        let Some(field) = key.strip_prefix(ORDER) else { continue };
        if patch.contains_key(field) {
            continue;
        }
        let (below, strategy) = at.field(field);
        if let (Some(Value::Array(items)), Some(order)) = (own.get(field).cloned(), order.as_array()) {
            let items = merge_list(below.element(), &strategy, items, &[], Some(order))?;
            own.insert(field.to_owned(), Value::Array(items));
        }
    }
    Ok(own)
}

fn merge_list(
    at: At<'_>,
    strategy: &PatchStrategy,
    own: Vec<Value>,
    patch: &[Value],
    order: Option<&Vec<Value>>,
) -> Result<Vec<Value>, Status> {
    let server_order = own.clone();
    let Some(key) = &strategy.merge_key else {
        let mut merged = own;
        for item in patch {
            if !merged.contains(item) {
                merged.push(item.clone());
            }
        }
        let same = |a: &Value, b: &Value| a == b;
        return Ok(arranged(merged, order.map_or(patch, Vec::as_slice), &server_order, same));
    };
    let same = |a: &Value, b: &Value| a.get(key).is_some_and(|own| Some(own) == b.get(key));
    let directive = |item: &Value| item.get(DIRECTIVE).and_then(Value::as_str).map(ToOwned::to_owned);
    if patch.iter().any(|item| directive(item).as_deref() == Some("replace")) {
        return Ok(patch.iter().filter(|item| item.get(DIRECTIVE).is_none()).cloned().collect());
    }
    let mut merged = own;
    for item in patch.iter().filter(|item| directive(item).as_deref() == Some("delete")) {
        if item.get(key).is_none() {
            return Err(missing_key(item, key));
        }
        merged.retain(|own| !same(own, item));
    }
    for item in patch {
        if let (Some(other), Value::Object(fields)) = (directive(item), item)
            && !matches!(other.as_str(), "delete" | "merge" | "replace")
        {
            return Err(unknown_directive(&other, fields));
        }
    }
    let plain: Vec<Value> = patch.iter().filter(|item| item.get(DIRECTIVE).is_none()).cloned().collect();
    for item in &plain {
        let Value::Object(fields) = item else { return Err(missing_key(item, key)) };
        if !fields.contains_key(key) {
            return Err(missing_key(item, key));
        }
        match merged.iter_mut().find(|own| same(own, item)) {
            Some(own) => {
                let old = own.as_object().cloned().unwrap_or_default();
                *own = Value::Object(merge_map(at, old, fields)?);
            }
            None => merged.push(Value::Object(merge_map(at, Map::new(), fields)?)),
        }
    }
    Ok(arranged(merged, order.map_or(plain.as_slice(), Vec::as_slice), &server_order, same))
}

/// Items that the patch names in its order, the others in the server's, both woven together where the server's order
/// tells.
fn arranged(
    items: Vec<Value>,
    wanted: &[Value],
    server: &[Value],
    same: impl Fn(&Value, &Value) -> bool,
) -> Vec<Value> {
    let (mut named, mut others): (Vec<Value>, Vec<Value>) =
        items.into_iter().partition(|item| wanted.iter().any(|one| same(one, item)));
    named.sort_by_key(|item| wanted.iter().position(|one| same(one, item)));
    let at = |item: &Value| server.iter().position(|one| same(one, item));
    // Of several that are the same to a patch, as two ports of one number, the first says where all of them stand.
    others.sort_by_key(at);
    let mut out = Vec::with_capacity(named.len() + others.len());
    let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
    loop {
        match (others.peek(), named.peek()) {
            (None, None) => return out,
            (Some(_), None) => out.extend(others.next()),
            (None, Some(_)) => out.extend(named.next()),
            (Some(other), Some(one)) => match (at(other), at(one)) {
                (Some(left), Some(right)) if left < right => out.extend(others.next()),
                (_, _) => out.extend(named.next()),
            },
        }
    }
}

fn unknown_directive(directive: &str, patch: &Map<String, Value>) -> Status {
    let shown = go_map(&Value::Object(patch.clone()));
    Status::unclassified(format!("unknown patch type: {directive} in map: {shown}"))
}

fn missing_key(item: &Value, key: &str) -> Status {
    Status::unclassified(format!("map: {} does not contain declared merge key: {key}", go_map(item)))
}

/// A value as Go's `%v` prints it.
pub(crate) fn go_map(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let fields: Vec<String> = fields.iter().map(|(key, value)| format!("{key}:{}", go_map(value))).collect();
            format!("map[{}]", fields.join(" "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(go_map).collect::<Vec<_>>().join(" ")),
        Value::String(text) => text.clone(),
        Value::Null => "<nil>".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests;
