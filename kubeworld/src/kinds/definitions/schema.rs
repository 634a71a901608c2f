//! What one schema of a definition may say, and whether its rules in CEL can be compiled at a price that anybody can pay.

use serde_json::{Value, json};

use super::{defaults, shown, structural};
use crate::custom::{self, cost};
use crate::kinds::fields::{at, entries, has, list, option, text, truth};
use crate::status::Cause;

/// What one rule may cost at most, by estimate, over all places where it is asked.
const RULE_COST_MAX: u64 = 10_000_000;

/// What all rules of a schema may cost together.
const SCHEMA_COST_MAX: u64 = 100_000_000;

/// With a status of its own, the root of a schema says only these.
const ROOT_FIELDS: [&str; 22] = [
    "Description",
    "Type",
    "Format",
    "Title",
    "Maximum",
    "ExclusiveMaximum",
    "Minimum",
    "ExclusiveMinimum",
    "MaxLength",
    "MinLength",
    "Pattern",
    "MaxItems",
    "MinItems",
    "UniqueItems",
    "MultipleOf",
    "Required",
    "Items",
    "Properties",
    "ExternalDocs",
    "Example",
    "XPreserveUnknownFields",
    "XValidations",
];

/// What a schema is checked for.
#[derive(Clone, Copy)]
pub(super) struct Options {
    /// Its objects have a status of their own.
    pub(super) status: bool,
    /// It was accepted before.
    pub(super) unchanged: bool,
}

/// Walks a schema with all that is below it.
pub(super) fn each(node: &Value, look: &mut impl FnMut(&Value)) {
    if !node.is_object() {
        return;
    }
    look(node);
    for key in ["items", "not", "additionalProperties", "additionalItems"] {
        each(at(node, &[key]), look);
    }
    for key in ["allOf", "anyOf", "oneOf"] {
        list(node, key).iter().for_each(|below| each(below, look));
    }
    for key in ["properties", "patternProperties", "definitions"] {
        entries(node, key).for_each(|(_, below)| each(below, look));
    }
}

/// What is wrong with a schema.
pub(super) fn check(out: &mut Vec<Cause>, root: &Value, path: &str, options: Options) {
    if root.is_null() {
        return;
    }
    let mut faults = Vec::new();
    if options.status {
        check_root(&mut faults, root, path);
    }
    if truth(root, "nullable") {
        faults.push(Cause::forbidden(format!("{path}.nullable"), "nullable cannot be true at the root"));
    }
    let unsupported = structural::unsupported(root);
    let mut sound = false;
    if unsupported.is_none() {
        let found = structural::check(root, path);
        let found = if found.is_empty() { defaults::check(root, path) } else { found };
        sound = found.is_empty();
        faults.extend(found);
    }
    let mut walk = Walk { options, total: sound.then(cost::Total::default) };
    let (schema, cel) =
        walk.node(root, path, &Scope { is_root: true, ..Scope::default() }, sound.then_some(Place::ROOT));
    faults.extend(schema);
    faults.extend(cel);
    if faults.is_empty()
        && let Some(why) = unsupported
    {
        faults.push(Cause::invalid(path, &json!(""), &why));
    }
    if let Some(total) = walk.total.filter(|total| total.sum > SCHEMA_COST_MAX) {
        for (path, _) in &total.dearest {
            let why = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
            faults.push(Cause::forbidden(path.clone(), why));
        }
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        faults.push(Cause::forbidden(path, &cost::message(what, total.sum, SCHEMA_COST_MAX)));
    }
    out.extend(faults);
}

fn check_root(out: &mut Vec<Cause>, root: &Value, path: &str) {
    for field in shown::set_fields(root) {
        let kind = text(root, "type");
        if field == "Type" && kind != "object" {
            let why = "only \"object\" is allowed as the type at the root of the schema if the status subresource is \
                       enabled";
            out.push(Cause::invalid(format!("{path}.type"), &json!(kind), why));
            return;
        }
        if !ROOT_FIELDS.contains(&field) {
            let why = format!(
                "only [{}] fields are allowed at the root of the schema if the status subresource is enabled",
                ROOT_FIELDS.join(" ")
            );
            out.push(Cause {
                reason: "FieldValueInvalid",
                message: format!("Invalid value: {}: {why}", shown::schema(root)),
                field: path.to_owned(),
            });
            return;
        }
    }
}

/// What holds in a part of a schema.
#[derive(Clone, Default)]
struct Scope {
    is_root: bool,
    /// Why defaults are forbidden.
    no_default: Option<String>,
    in_meta: bool,
    /// Below this, an old value cannot be told from the new one.
    no_old: Option<String>,
}

/// How often a value can be there; `None` without a bound.
#[derive(Clone, Copy)]
struct Place {
    most: Option<u64>,
}

impl Place {
    const ROOT: Self = Self { most: Some(1) };

    fn below(self, node: &Value) -> Self {
        let count = |key: &str| node.get(key).and_then(Value::as_i64).map(|most| u64::try_from(most).unwrap_or(0));
        let own = match text(node, "type") {
            "object" if has(node, "additionalProperties") => count("maxProperties"),
            "array" => count("maxItems"),
            _ => Some(1),
        };
        Self { most: self.most.zip(own).map(|(most, own)| most.saturating_mul(own)) }
    }
}

struct Walk {
    options: Options,
    total: Option<cost::Total>,
}

type Faults = (Vec<Cause>, Vec<Cause>);

impl Walk {
    /// Faults of the schema, and those of its rules, which are only looked at where the schema is right.
    fn node(&mut self, node: &Value, path: &str, scope: &Scope, place: Option<Place>) -> Faults {
        let mut faults: Faults = (Vec::new(), Vec::new());
        if !node.is_object() {
            return faults;
        }
        check_words(&mut faults.0, node, path, scope);
        let below = place.map(|place| place.below(node));
        let mut take = |found: Faults| {
            faults.0.extend(found.0);
            faults.1.extend(found.1);
        };
        let mut own = Vec::new();
        if truth(node, "uniqueItems") {
            let why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
            own.push(Cause::forbidden(format!("{path}.uniqueItems"), why));
        }
        if let Some(additional) = option(node, "additionalProperties") {
            let path = format!("{path}.additionalProperties");
            if entries(node, "properties").next().is_some() && *additional != json!(true) {
                let why = "additionalProperties and properties are mutual exclusive";
                own.push(Cause::forbidden(path.clone(), why));
            }
            let mut inner = Scope { is_root: false, ..scope.clone() };
            if scope.in_meta {
                inner.no_default = Some("inside additionalProperties applying to object metadata".to_owned());
            }
            take((own, Vec::new()));
            take(self.node(additional, &path, &inner, below));
        } else {
            take((own, Vec::new()));
        }
        for (key, property) in entries(node, "properties") {
            let inner = property_scope(node, key, path, scope);
            take(self.node(property, &format!("{path}.properties[{key}]"), &inner, below));
        }
        let branch = Scope { is_root: false, ..scope.clone() };
        take(self.node(at(node, &["not"]), &format!("{path}.not"), &branch, None));
        for key in ["allOf", "oneOf", "anyOf"] {
            for (index, below) in list(node, key).iter().enumerate() {
                take(self.node(below, &format!("{path}.{key}[{index}]"), &branch, None));
            }
        }
        for (key, below) in entries(node, "definitions") {
            take(self.node(below, &format!("{path}.definitions[{key}]"), &branch, None));
        }
        if let Some(items) = option(node, "items") {
            let mut inner = branch.clone();
            if text(node, "x-kubernetes-list-type") != "map" {
                inner.no_old.get_or_insert_with(|| path.to_owned());
            }
            match items {
                Value::Array(items) => {
                    for (index, item) in items.iter().enumerate() {
                        take(self.node(item, &format!("{path}.items[{index}]"), &inner, below));
                    }
                }
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
                    take(self.node(items, &format!("{path}.items"), &inner, below));
                }
            }
        }
        check_extensions(&mut faults.0, node, path);
        check_list_map(&mut faults.0, node, path);
        check_keys(&mut faults.0, node, path);
        check_rules(&mut faults.0, node, path);
        if faults.0.is_empty()
            && let Some(place) = place
        {
            self.compile(&mut faults.1, node, path, scope, place);
        }
        faults
    }

    fn compile(&mut self, out: &mut Vec<Cause>, node: &Value, path: &str, scope: &Scope, place: Place) {
        let is_object = scope.is_root || truth(node, "x-kubernetes-embedded-resource");
        for (index, rule) in list(node, "x-kubernetes-validations").iter().enumerate() {
            let path = format!("{path}.x-kubernetes-validations[{index}]");
            let invalid = |key: &str, why: &str| Cause {
                reason: "FieldValueInvalid",
                message: format!("Invalid value: {}: {why}", shown::rule(rule)),
                field: format!("{path}.{key}"),
            };
            let compiled = cost::compile(node, is_object, rule);
            let most = place.most.unwrap_or(compiled.cardinality);
            self.charge(out, "rule", "estimated rule cost", &path, compiled.cost.saturating_mul(most));
            if let Some(why) = &compiled.error {
                out.push(invalid("rule", why));
            }
            match (&compiled.message_error, compiled.message_cost) {
                (Some(why), _) => out.push(invalid("messageExpression", why)),
                (None, Some(cost)) => {
                    self.charge(out, "messageExpression", "estimated messageExpression cost", &path, cost);
                }
                (None, None) => {}
            }
            if compiled.uses_old {
                if let Some(place) = &scope.no_old {
                    let why =
                        format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {place}");
                    out.push(Cause::invalid(format!("{path}.rule"), at(rule, &["rule"]), &why));
                }
            } else if let Some(optional) = option(rule, "optionalOldSelf") {
                let why = "may not be set if oldSelf is not used in rule";
                out.push(Cause::invalid(format!("{path}.optionalOldSelf"), optional, why));
            }
        }
    }

    fn charge(&mut self, out: &mut Vec<Cause>, key: &str, what: &str, path: &str, cost: u64) {
        let path = format!("{path}.{key}");
        if !self.options.unchanged && cost > RULE_COST_MAX {
            out.push(Cause::forbidden(path.clone(), &cost::message(what, cost, RULE_COST_MAX)));
        }
        if let Some(total) = &mut self.total {
            total.add(path, cost, SCHEMA_COST_MAX / 100);
        }
    }
}

fn property_scope(node: &Value, key: &str, path: &str, scope: &Scope) -> Scope {
    let mut inner = Scope { is_root: false, ..scope.clone() };
    let map_type = text(node, "x-kubernetes-map-type");
    if !matches!(map_type, "" | "granular" | "atomic") {
        inner.no_old.get_or_insert_with(|| path.to_owned());
    }
    let is_root = scope.is_root;
    if (is_root || truth(node, "x-kubernetes-embedded-resource")) && matches!(key, "metadata" | "kind" | "apiVersion") {
        inner.in_meta = true;
        if is_root {
            inner.no_default = Some(format!("in top-level {key}"));
        }
    }
    inner
}

fn check_words(out: &mut Vec<Cause>, node: &Value, path: &str, scope: &Scope) {
    const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
    let kind = text(node, "type");
    if !kind.is_empty() && !TYPES.contains(&kind) {
        out.push(Cause::not_supported(format!("{path}.type"), &json!(kind), &TYPES));
    }
    if has(node, "default")
        && let Some(reason) = &scope.no_default
    {
        out.push(Cause::forbidden(format!("{path}.default"), &format!("must not be set {reason}")));
    }
    let mut forbid = |says: bool, key: &str| {
        if says {
            out.push(Cause::forbidden(format!("{path}.{key}"), &format!("{key} is not supported")));
        }
    };
    forbid(!text(node, "id").is_empty(), "id");
    forbid(has(node, "additionalItems"), "additionalItems");
    forbid(entries(node, "patternProperties").next().is_some(), "patternProperties");
    forbid(entries(node, "definitions").next().is_some(), "definitions");
    forbid(has(node, "dependencies"), "dependencies");
    forbid(has(node, "$ref"), "$ref");
    if kind == "null" {
        let why = "type cannot be set to null, use nullable as an alternative";
        out.push(Cause::forbidden(format!("{path}.type"), why));
    }
    if at(node, &["items"]).as_array().is_some_and(|items| !items.is_empty()) {
        out.push(Cause::forbidden(format!("{path}.items"), "items must be a schema object and not an array"));
    }
    if scope.in_meta && truth(node, "x-kubernetes-embedded-resource") {
        let path = format!("{path}.x-kubernetes-embedded-resource");
        out.push(Cause::forbidden(path, "must not be used inside of resource meta"));
    }
}

fn check_extensions(out: &mut Vec<Cause>, node: &Value, path: &str) {
    let kind = text(node, "type");
    let typed = |out: &mut Vec<Cause>, wanted: &str, by: &str| {
        let why = format!("must be {wanted} if {by} is specified");
        let path = format!("{path}.type");
        out.push(if kind.is_empty() { Cause::required(path, &why) } else { Cause::invalid(path, &json!(kind), &why) });
    };
    if node.get("x-kubernetes-preserve-unknown-fields") == Some(&json!(false)) {
        let path = format!("{path}.x-kubernetes-preserve-unknown-fields");
        out.push(Cause::invalid(path, &json!(false), "must be true or undefined"));
    }
    let map_type = option(node, "x-kubernetes-map-type").and_then(Value::as_str);
    if map_type.is_some() && kind != "object" {
        typed(out, "object", "x-kubernetes-map-type");
    }
    if let Some(map_type) = map_type
        && !matches!(map_type, "atomic" | "granular")
    {
        let path = format!("{path}.x-kubernetes-map-type");
        out.push(Cause::not_supported(path, &json!(map_type), &["atomic", "granular"]));
    }
    let list_type = option(node, "x-kubernetes-list-type").and_then(Value::as_str);
    let items = at(node, &["items"]);
    if list_type.is_some() && kind != "array" {
        typed(out, "array", "x-kubernetes-list-type");
    } else if list_type == Some("set") && items.is_object() {
        let why = "must be atomic as item of a list with x-kubernetes-list-type=set";
        let own = at(items, &["x-kubernetes-list-type"]);
        match text(items, "type") {
            "array" if !own.is_null() && own != "atomic" => {
                out.push(Cause::invalid(format!("{path}.items.x-kubernetes-list-type"), own, why));
            }
            "object" if text(items, "x-kubernetes-map-type") != "atomic" => {
                // The real server shows the type of the list here.
                out.push(Cause::invalid(format!("{path}.items.x-kubernetes-map-type"), own, why));
            }
            _ => {}
        }
    }
    if let Some(list_type) = list_type
        && !matches!(list_type, "atomic" | "set" | "map")
    {
        let path = format!("{path}.x-kubernetes-list-type");
        out.push(Cause::not_supported(path, &json!(list_type), &["atomic", "set", "map"]));
    }
}

fn check_list_map(out: &mut Vec<Cause>, node: &Value, path: &str) {
    let keys = list(node, "x-kubernetes-list-map-keys");
    let list_type = option(node, "x-kubernetes-list-type").and_then(Value::as_str);
    if !keys.is_empty() && list_type != Some("map") {
        let why = "must be map if x-kubernetes-list-map-keys is non-empty";
        let path = format!("{path}.x-kubernetes-list-type");
        out.push(match list_type {
            None => Cause::required(path, why),
            Some(other) => Cause::invalid(path, &json!(other), why),
        });
    }
    if list_type != Some("map") {
        return;
    }
    let keys_path = format!("{path}.x-kubernetes-list-map-keys");
    if keys.is_empty() {
        out.push(Cause::required(keys_path.clone(), "must not be empty if x-kubernetes-list-type is map"));
    }
    let Some(items) = option(node, "items") else {
        let why = "must have a schema if x-kubernetes-list-type is map";
        out.push(Cause::required(format!("{path}.items"), why));
        return;
    };
    let kind = text(items, "type");
    if items.is_object() && kind != "object" {
        let why = "must be object if parent array's x-kubernetes-list-type is map";
        out.push(Cause::invalid(format!("{path}.items.type"), &json!(kind), why));
        return;
    }
    let mut seen: Vec<&Value> = Vec::new();
    for key in keys {
        let name = key.as_str().unwrap_or_default();
        match option(at(items, &["properties"]), name) {
            Some(property) if matches!(text(property, "type"), "array" | "object") => {
                let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                out.push(Cause::invalid(format!("{path}.items.properties[{name}].type"), &json!(kind), why));
            }
            Some(_) => {}
            None => {
                let why = "entries must all be names of item properties";
                out.push(Cause::invalid(keys_path.clone(), &json!(keys), why));
            }
        }
        if seen.contains(&key) {
            out.push(Cause::invalid(keys_path.clone(), &json!(keys), "must not contain duplicate entries"));
        }
        seen.push(key);
    }
}

/// Items of sets and maps must be there, and so must what tells them apart.
fn check_keys(out: &mut Vec<Cause>, node: &Value, path: &str) {
    let list_type = text(node, "x-kubernetes-list-type");
    let items = at(node, &["items"]);
    if !items.is_object() || !matches!(list_type, "set" | "map") {
        return;
    }
    if truth(items, "nullable") {
        let why = format!("cannot be nullable when x-kubernetes-list-type is {list_type}");
        out.push(Cause::forbidden(format!("{path}.items.nullable"), &why));
    }
    if list_type != "map" {
        return;
    }
    for key in list(node, "x-kubernetes-list-map-keys") {
        let name = key.as_str().unwrap_or_default();
        let Some(property) = option(at(items, &["properties"]), name) else { continue };
        let path = format!("{path}.items.properties[{name}]");
        let owed = "this property is in x-kubernetes-list-map-keys, so it";
        if !list(items, "required").contains(key) && !has(property, "default") {
            let why = format!("{owed} must have a default or be a required property");
            out.push(Cause::required(format!("{path}.default"), &why));
        }
        if truth(property, "nullable") {
            out.push(Cause::forbidden(format!("{path}.nullable"), &format!("{owed} cannot be nullable")));
        }
    }
}

fn check_rules(out: &mut Vec<Cause>, node: &Value, path: &str) {
    const REASONS: [&str; 4] =
        ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];
    let breaks = |text: &str| text.contains(['\n', '\r']);
    for (index, rule) in list(node, "x-kubernetes-validations").iter().enumerate() {
        let at = |key: &str| format!("{path}.x-kubernetes-validations[{index}].{key}");
        let (expression, message) = (text(rule, "rule").trim(), text(rule, "message"));
        if expression.is_empty() {
            out.push(Cause::required(at("rule"), "rule is not specified"));
        } else if !message.is_empty() && message.trim().is_empty() {
            out.push(Cause::invalid(at("message"), &json!(message), "must be non-empty if specified"));
        } else if breaks(message.trim()) {
            out.push(Cause::invalid(at("message"), &json!(message), "must not contain line breaks"));
        } else if breaks(expression) && message.is_empty() {
            let why = "message must be specified if rule contains line breaks";
            out.push(Cause::required(at("message"), why));
        }
        let dynamic = text(rule, "messageExpression");
        if !dynamic.is_empty() && dynamic.trim().is_empty() {
            let why = "messageExpression must be non-empty if specified";
            out.push(Cause::required(at("messageExpression"), why));
        }
        if let Some(reason) = option(rule, "reason").and_then(Value::as_str)
            && !REASONS.contains(&reason)
        {
            out.push(Cause::not_supported(at("reason"), &json!(reason), &REASONS));
        }
        let field = text(rule, "fieldPath");
        if field.is_empty() {
            continue;
        }
        if field.trim().is_empty() {
            out.push(Cause::invalid(at("fieldPath"), &json!(field), "must be non-empty if specified"));
        }
        if breaks(field) {
            out.push(Cause::invalid(at("fieldPath"), &json!(field), "must not contain line breaks"));
        }
        if structural::unsupported(node).is_none() && custom::field_path(field, node, true).is_err() {
            out.push(Cause::invalid(at("fieldPath"), &json!(field), "must be a valid path"));
        }
    }
}
