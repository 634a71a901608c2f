//! Services: the addresses and ports they are given, and their rules.
//!
//! The real server gives addresses *before* it validates, so the handler calls [`begin_create`] or [`begin_update`]
//! first. Which ones are taken is the handler's to know: [`Allocator`] is a range, and picks the lowest that is free,
//! where the real one picks at random.
//!
//! One family only, IPv4: a world has no dual-stack services.

use std::{collections::BTreeSet, net::Ipv4Addr, ops::RangeInclusive};

use ipnet::Ipv4Net;
use serde_json::{Value, json};

use super::{
    causes::{Causes, Path},
    fields::{at, child, count, elements, field_text, has, integer, list, option, text},
    names, networking, pods, selectors,
};
use crate::status::Cause;

/// Where addresses and ports come from.
#[derive(Clone, Debug)]
pub(crate) struct Allocator {
    /// The cluster's service addresses.
    pub(crate) addresses: Ipv4Net,
    /// The ports that every node opens.
    pub(crate) ports: RangeInclusive<u16>,
}

/// What other Services hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct Taken {
    /// Their cluster addresses.
    pub(crate) addresses: BTreeSet<Ipv4Addr>,
    /// Their node ports.
    pub(crate) ports: BTreeSet<u16>,
}

impl Taken {
    /// Adds what one Service holds.
    pub(crate) fn add(&mut self, service: &Value) {
        let spec = at(service, &["spec"]);
        self.addresses.extend(list(spec, "clusterIPs").iter().filter_map(|ip| ip.as_str()?.parse::<Ipv4Addr>().ok()));
        self.ports.extend(list(spec, "ports").iter().filter_map(|port| number(port, "nodePort")));
        self.ports.extend(number(spec, "healthCheckNodePort"));
    }
}

impl Allocator {
    /// The lowest free address; the first belongs to the API server's own Service.
    pub(crate) fn next_address(&self, taken: &Taken) -> Option<Ipv4Addr> {
        self.addresses.hosts().find(|address| !taken.addresses.contains(address))
    }

    /// The lowest free port.
    pub(crate) fn next_port(&self, taken: &Taken) -> Option<u16> {
        self.ports.clone().find(|port| !taken.ports.contains(port))
    }
}

fn number(value: &Value, key: &str) -> Option<u16> {
    integer(value, key).and_then(|number| u16::try_from(number).ok()).filter(|number| *number != 0)
}

/// Gives a new Service what it did not choose, and checks what it chose.
pub(crate) fn begin_create(service: &mut Value, taken: &Taken, allocator: &Allocator) -> Result<(), Vec<Cause>> {
    let Some(spec) = service.as_object_mut().and_then(|it| child(it, "spec")) else { return Ok(()) };
    let address = field_text(spec, "clusterIP").to_owned();
    if !address.is_empty() && spec.get("clusterIPs").and_then(Value::as_array).is_none_or(Vec::is_empty) {
        spec.insert("clusterIPs".into(), json!([address]));
    }
    let mut taken = taken.clone();
    families(service, None)?;
    give_address(service, None, &mut taken, allocator)?;
    give_ports(service, None, &mut taken, allocator)
}

/// Keeps what the Service held and the client left out, gives what it newly needs, and checks what it newly chose.
/// `taken` does not hold what this Service itself has.
pub(crate) fn begin_update(
    new: &mut Value,
    old: &Value,
    taken: &Taken,
    allocator: &Allocator,
) -> Result<(), Vec<Cause>> {
    same_addresses(new, old);
    keep_given(new, old);
    let mut taken = taken.clone();
    families(new, Some(old))?;
    give_address(new, Some(old), &mut taken, allocator)?;
    give_ports(new, Some(old), &mut taken, allocator)
}

/// The singular and the plural field say the same.
fn same_addresses(new: &mut Value, old: &Value) {
    let old_spec = at(old, &["spec"]);
    let Some(spec) = new.as_object_mut().and_then(|it| child(it, "spec")) else { return };
    let one = field_text(spec, "clusterIP").to_owned();
    let before = text(old_spec, "clusterIP");
    let old_all = list(old_spec, "clusterIPs");
    let all = spec.get("clusterIPs").and_then(Value::as_array).cloned().unwrap_or_default();
    if !old_all.is_empty() && all.is_empty() && before == one {
        spec.insert("clusterIPs".into(), json!(old_all));
    }
    if before != one && old_all == all.as_slice() {
        if !before.is_empty() && one.is_empty() {
            spec.remove("clusterIPs");
        } else {
            spec.insert("clusterIPs".into(), json!([one]));
        }
    }
}

fn keep_given(new: &mut Value, old: &Value) {
    let old_spec = at(old, &["spec"]);
    let needs =
        (needs_address(at(new, &["spec"])), needs_ports(at(new, &["spec"])), needs_health_port(at(new, &["spec"])));
    let Some(spec) = new.as_object_mut().and_then(|it| child(it, "spec")) else { return };
    if needs.0 && needs_address(old_spec) {
        if field_text(spec, "clusterIP").is_empty() && !text(old_spec, "clusterIP").is_empty() {
            spec.insert("clusterIP".into(), old_spec["clusterIP"].clone());
        }
        if spec.get("clusterIPs").and_then(Value::as_array).is_none_or(Vec::is_empty) && has(old_spec, "clusterIPs") {
            spec.insert("clusterIPs".into(), old_spec["clusterIPs"].clone());
        }
    }
    if needs.1 && needs_ports(old_spec) {
        let old_ports = list(old_spec, "ports");
        let before: BTreeSet<u16> = old_ports.iter().filter_map(|port| number(port, "nodePort")).collect();
        let now: BTreeSet<u16> =
            elements(spec, "ports").filter_map(|port| number(&Value::Object(port.clone()), "nodePort")).collect();
        for port in elements(spec, "ports") {
            if port.get("nodePort").and_then(Value::as_i64).unwrap_or_default() != 0 {
                continue;
            }
            let same_name = |old: &&Value| text(old, "name") == field_text(port, "name");
            if let Some(held) = old_ports.iter().rfind(same_name).and_then(|old| number(old, "nodePort"))
                && !(before.contains(&held) && now.contains(&held))
            {
                port.insert("nodePort".into(), held.into());
            }
        }
    }
    if needs.2 && needs_health_port(old_spec) && !has(&Value::Object(spec.clone()), "healthCheckNodePort") {
        spec.insert("healthCheckNodePort".into(), at(old_spec, &["healthCheckNodePort"]).clone());
    }
}

fn families(service: &mut Value, old: Option<&Value>) -> Result<(), Vec<Cause>> {
    let Some(spec) = service.as_object_mut().and_then(|it| child(it, "spec")) else { return Ok(()) };
    if field_text(spec, "type") == "ExternalName" {
        return Ok(());
    }
    let view = Value::Object(spec.clone());
    let headless = text(&view, "clusterIP") == "None";
    let selectorless = count(&view, "selector") == 0;
    if !has(&view, "ipFamilyPolicy") {
        let before = old.map(|old| at(old, &["spec", "ipFamilyPolicy"])).and_then(Value::as_str);
        let policy = before.unwrap_or(if headless && selectorless { "RequireDualStack" } else { "SingleStack" });
        spec.insert("ipFamilyPolicy".into(), policy.into());
    }
    let policy = field_text(spec, "ipFamilyPolicy").to_owned();
    let addresses = list(&view, "clusterIPs");
    let mut families: Vec<Value> = list(&view, "ipFamilies").to_vec();
    let mut causes = Vec::new();
    if policy == "SingleStack" {
        for (key, count, what) in
            [("clusterIPs", addresses.len(), "cluster IPs"), ("ipFamilies", families.len(), "IP families")]
        {
            if count == 2 && old.is_none_or(|old| at(old, &["spec", key]) != at(&view, &[key])) {
                let why = format!("must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified");
                causes.push(Cause::invalid("spec.ipFamilyPolicy", &json!(policy), &why));
            }
        }
    }
    for (index, address) in addresses.iter().enumerate() {
        let address = address.as_str().unwrap_or_default();
        if address == "None" {
            break;
        }
        if index >= families.len() {
            if address.contains(':') {
                let why = "IPv6 is not configured on this cluster";
                causes.push(Cause::invalid(format!("spec.clusterIPs[{index}]"), &json!(addresses), why));
            } else {
                families.push("IPv4".into());
            }
        }
    }
    if !causes.is_empty() {
        return Err(causes);
    }
    if headless && selectorless {
        if families.is_empty() {
            families.push("IPv4".into());
        }
        if families.len() < 2 && policy != "SingleStack" {
            families.push(if families[0] == "IPv4" { "IPv6" } else { "IPv4" }.into());
        }
    } else {
        if policy == "RequireDualStack" {
            let why = "this cluster is not configured for dual-stack services";
            causes.push(Cause::invalid("spec.ipFamilyPolicy", &json!(policy), why));
        }
        for (index, family) in families.iter().enumerate().filter(|(_, family)| *family != "IPv4") {
            causes.push(Cause::invalid(format!("spec.ipFamilies[{index}]"), family, "not configured on this cluster"));
        }
        if families.is_empty() {
            families.push("IPv4".into());
        }
    }
    spec.insert("ipFamilies".into(), families.into());
    if causes.is_empty() { Ok(()) } else { Err(causes) }
}

fn give_address(
    service: &mut Value,
    old: Option<&Value>,
    taken: &mut Taken,
    allocator: &Allocator,
) -> Result<(), Vec<Cause>> {
    let Some(spec) = service.as_object_mut().and_then(|it| child(it, "spec")) else { return Ok(()) };
    if field_text(spec, "type") == "ExternalName" || field_text(spec, "clusterIP") == "None" {
        return Ok(());
    }
    let chosen = spec.get("clusterIPs").and_then(Value::as_array).cloned().unwrap_or_default();
    let held = old.map(|old| list(at(old, &["spec"]), "clusterIPs")).unwrap_or_default();
    let fail = |why: String| Err(vec![Cause::invalid("spec.clusterIPs", &json!(chosen), &why)]);
    if let Some(first) = chosen.first() {
        let text = first.as_str().unwrap_or_default();
        let Ok(address) = text.parse::<Ipv4Addr>() else { return Ok(()) };
        if held.contains(first) {
            return Ok(());
        }
        if !allocator.addresses.contains(&address) {
            let why = "the provided network does not match the current range";
            return fail(format!("failed to allocate IP {text}: {why}"));
        }
        if taken.addresses.contains(&address) {
            return fail(format!("failed to allocate IP {text}: provided IP is already allocated"));
        }
        return Ok(());
    }
    let Some(address) = allocator.next_address(taken) else {
        return fail("failed to allocate IP: range is full".to_owned());
    };
    taken.addresses.insert(address);
    spec.insert("clusterIP".into(), address.to_string().into());
    spec.insert("clusterIPs".into(), json!([address.to_string()]));
    Ok(())
}

fn give_ports(
    service: &mut Value,
    old: Option<&Value>,
    taken: &mut Taken,
    allocator: &Allocator,
) -> Result<(), Vec<Cause>> {
    let view = at(service, &["spec"]).clone();
    let Some(spec) = service.as_object_mut().and_then(|it| child(it, "spec")) else { return Ok(()) };
    if needs_ports(&view) {
        let allocate = text(&view, "type") == "NodePort" || view["allocateLoadBalancerNodePorts"] != json!(false);
        let held: BTreeSet<u16> = old
            .map(|old| list(at(old, &["spec"]), "ports"))
            .unwrap_or_default()
            .iter()
            .filter_map(|port| number(port, "nodePort"))
            .collect();
        // Two protocols on one port share their node port, whichever of the two chose it.
        let mut by_port: Vec<(i64, u16)> = Vec::new();
        for (index, port) in elements(spec, "ports").enumerate() {
            let own = port.get("port").and_then(Value::as_i64).unwrap_or_default();
            let chosen = number(&Value::Object(port.clone()), "nodePort");
            if chosen.is_none() && !allocate {
                continue;
            }
            let shared = by_port.iter().find(|(port, _)| *port == own).map(|(_, node)| *node);
            let asked = list(&view, "ports")
                .iter()
                .skip(index)
                .find(|other| integer(other, "port") == Some(own) && number(other, "nodePort").is_some());
            let wanted = chosen.or(shared).or(asked.and_then(|other| number(other, "nodePort")));
            let given = match wanted {
                Some(wanted) if shared == Some(wanted) || held.contains(&wanted) => wanted,
                Some(wanted) => {
                    if let Some(why) = refused(wanted, taken, allocator) {
                        let field = format!("spec.ports[{index}].nodePort");
                        return Err(vec![Cause::invalid(field, &json!(wanted), &why)]);
                    }
                    wanted
                }
                None => {
                    let avoid = Taken { ports: &taken.ports | &held, ..Taken::default() };
                    let Some(next) = allocator.next_port(&avoid) else { continue };
                    next
                }
            };
            taken.ports.insert(given);
            by_port.push((own, given));
            port.insert("nodePort".into(), given.into());
        }
    }
    if needs_health_port(&view)
        && number(&view, "healthCheckNodePort").is_none()
        && let Some(port) = allocator.next_port(taken)
    {
        spec.insert("healthCheckNodePort".into(), port.into());
    }
    Ok(())
}

fn refused(port: u16, taken: &Taken, allocator: &Allocator) -> Option<String> {
    if !allocator.ports.contains(&port) {
        let (first, last) = (allocator.ports.start(), allocator.ports.end());
        return Some(format!("provided port is not in the valid range. The range of valid ports is {first}-{last}"));
    }
    taken.ports.contains(&port).then(|| "provided port is already allocated".to_owned())
}

fn needs_address(spec: &Value) -> bool {
    text(spec, "type") != "ExternalName"
}

fn needs_ports(spec: &Value) -> bool {
    matches!(text(spec, "type"), "NodePort" | "LoadBalancer")
}

fn needs_health_port(spec: &Value) -> bool {
    text(spec, "type") == "LoadBalancer" && text(spec, "externalTrafficPolicy") == "Local"
}

fn externally_accessible(spec: &Value) -> bool {
    needs_ports(spec) || (text(spec, "type") == "ClusterIP" && count(spec, "externalIPs") > 0)
}

/// A Service that changes its type loses what only the old type has, if the client did not change it too.
pub(super) fn drop_what_the_type_lost(new: &mut Value, old: &Value) {
    let old = at(old, &["spec"]);
    let view = at(new, &["spec"]).clone();
    let same = |key: &str| at(&view, &[key]) == at(old, &[key]);
    let Some(fields) = new.as_object_mut() else { return };
    let Some(spec) = child(fields, "spec") else { return };
    if needs_address(old) && !needs_address(&view) {
        if same("clusterIP") && same("clusterIPs") {
            spec.remove("clusterIP");
            spec.remove("clusterIPs");
        }
        for key in ["ipFamilies", "ipFamilyPolicy"] {
            if same(key) {
                spec.remove(key);
            }
        }
    }
    let ports = |spec: &Value| -> BTreeSet<u16> {
        list(spec, "ports").iter().filter_map(|port| number(port, "nodePort")).collect()
    };
    if needs_ports(old) && !needs_ports(&view) && ports(old).is_superset(&ports(&view)) {
        for port in elements(spec, "ports") {
            port.remove("nodePort");
        }
    }
    if needs_health_port(old) && !needs_health_port(&view) && same("healthCheckNodePort") {
        spec.remove("healthCheckNodePort");
    }
    if text(old, "type") == "LoadBalancer" && text(&view, "type") != "LoadBalancer" {
        for key in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
            if same(key) {
                spec.remove(key);
            }
        }
    }
    if externally_accessible(old) && !externally_accessible(&view) && same("externalTrafficPolicy") {
        spec.remove("externalTrafficPolicy");
    }
    if text(&view, "type") != "LoadBalancer"
        && let Some(status) = child(fields, "status")
    {
        status.insert("loadBalancer".into(), json!({}));
    }
}

const SPEC: Path<'static> = Path::root("spec");

fn is_headless(spec: &Value) -> bool {
    list(spec, "clusterIPs") == [json!("None")]
}

/// A Service, on a create and on an update.
pub(super) fn check(causes: &mut Causes, service: &Value, old: Option<&Value>) {
    let spec = at(service, &["spec"]);
    let kind = text(spec, "type");
    let headless = is_headless(spec);
    let ports = list(spec, "ports");
    if ports.is_empty() && !headless && kind != "ExternalName" {
        causes.required(SPEC.child("ports"), "");
    }
    match kind {
        "LoadBalancer" | "NodePort" if headless => {
            let path = SPEC.child("clusterIPs");
            causes.invalid(path.index(0), "None", &format!("may not be set to 'None' for {kind} services"));
        }
        "ExternalName" => check_external_name(causes, spec),
        _ => {}
    }
    check_ports(causes, ports);
    selectors::check_labels(causes, SPEC.child("selector"), at(spec, &["selector"]));
    check_affinity(causes, spec);
    check_addresses(causes, spec, old);
    let path = SPEC.child("externalIPs");
    let known = old.map(|old| list(at(old, &["spec"]), "externalIPs")).unwrap_or_default();
    for (index, value) in list(spec, "externalIPs").iter().enumerate() {
        let ip = value.as_str().unwrap_or_default();
        if known.contains(value) || names::check_ip(causes, path.index(index), ip) {
            names::check_endpoint_ip(causes, path.index(index), ip);
        }
    }
    causes.one_of(SPEC.child("type"), kind, &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]);
    check_duplicates(causes, kind, ports);
    check_source_ranges(causes, kind, spec);
    if has(spec, "allocateLoadBalancerNodePorts") && kind != "LoadBalancer" {
        let path = SPEC.child("allocateLoadBalancerNodePorts");
        causes.forbidden(path, "may only be used when `type` is 'LoadBalancer'");
    }
    check_class(causes, kind, spec);
    check_traffic(causes, spec);
}

fn check_external_name(causes: &mut Causes, spec: &Value) {
    for key in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        let there = if key == "ipFamilyPolicy" { has(spec, key) } else { count(spec, key) > 0 };
        if there {
            causes.forbidden(SPEC.child(key), "may not be set for ExternalName services");
        }
    }
    let path = SPEC.child("externalName");
    match text(spec, "externalName").trim_end_matches('.') {
        "" => causes.required(path, ""),
        name => causes.each_invalid(path, name, names::dns_subdomain(name)),
    }
}

fn check_ports(causes: &mut Causes, ports: &[Value]) {
    let path = SPEC.child("ports");
    let mut seen = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let path = path.index(index);
        let name = text(port, "name");
        if ports.len() > 1 && name.is_empty() {
            causes.required(path.child("name"), "");
        } else if !name.is_empty() {
            causes.each_invalid(path.child("name"), name, names::dns_label(name));
            if !seen.insert(name) {
                causes.duplicate(path.child("name"), name);
            }
        }
        pods::check_port_number(causes, path.child("port"), integer(port, "port").unwrap_or_default());
        causes.one_of(path.child("protocol"), text(port, "protocol"), &["SCTP", "TCP", "UDP"]);
        pods::check_port(causes, path.child("targetPort"), at(port, &["targetPort"]));
        if let Some(protocol) = option(port, "appProtocol").and_then(Value::as_str) {
            causes.each_invalid(path.child("appProtocol"), protocol, names::qualified(protocol));
        }
    }
}

fn check_affinity(causes: &mut Causes, spec: &Value) {
    let affinity = text(spec, "sessionAffinity");
    causes.one_of(SPEC.child("sessionAffinity"), affinity, &["ClientIP", "None"]);
    if affinity == "ClientIP"
        && let Some(seconds) = integer(at(spec, &["sessionAffinityConfig", "clientIP"]), "timeoutSeconds")
        && !(1..=86400).contains(&seconds)
    {
        let path = SPEC.child("sessionAffinityConfig.clientIP.timeoutSeconds");
        causes.invalid(path, seconds, "must be greater than 0 and less than 86400");
    }
}

fn check_addresses(causes: &mut Causes, spec: &Value, old: Option<&Value>) {
    if text(spec, "type") == "ExternalName" {
        return;
    }
    let path = SPEC.child("clusterIPs");
    let all = list(spec, "clusterIPs");
    let shown = || if all.is_empty() { Value::Null } else { json!(all) };
    match (text(spec, "clusterIP"), all.first().and_then(Value::as_str)) {
        ("", Some(_)) => causes.invalid(path, shown(), "must be empty when `clusterIP` is not specified"),
        ("", None) => {}
        (_, None) => causes.required(path, ""),
        (one, Some(first)) if one != first => {
            causes.invalid(path, shown(), "first value must match `clusterIP`");
        }
        (_, Some(_)) => {}
    }
    let families = SPEC.child("ipFamilies");
    let mut seen: Vec<&str> = Vec::new();
    for (index, family) in list(spec, "ipFamilies").iter().enumerate() {
        let family = family.as_str().unwrap_or_default();
        if !matches!(family, "IPv4" | "IPv6") {
            causes.not_supported(families.index(index), family, &["IPv4", "IPv6"]);
        }
        if seen.contains(&family) {
            causes.duplicate(families.index(index), family);
        }
        seen.push(family);
    }
    if let Some(policy) = option(spec, "ipFamilyPolicy").and_then(Value::as_str)
        && !matches!(policy, "PreferDualStack" | "RequireDualStack" | "SingleStack")
    {
        let supported = ["PreferDualStack", "RequireDualStack", "SingleStack"];
        causes.not_supported(SPEC.child("ipFamilyPolicy"), policy, &supported);
    }
    let known = old.map(|old| list(at(old, &["spec"]), "clusterIPs")).unwrap_or_default();
    for (index, value) in all.iter().enumerate() {
        let ip = value.as_str().unwrap_or_default();
        if index == 0 && ip == "None" {
            if all.len() > 1 {
                causes.invalid(path, shown(), "'None' must be the first and only value");
            }
        } else if !known.contains(value) {
            names::check_ip(causes, path.index(index), ip);
        }
    }
    if all.len() > 2 {
        causes.invalid(path, shown(), "may only hold up to 2 values");
    }
}

fn check_duplicates(causes: &mut Causes, kind: &str, ports: &[Value]) {
    let path = SPEC.child("ports");
    if kind == "ClusterIP" {
        for (index, _) in ports.iter().enumerate().filter(|(_, port)| number(port, "nodePort").is_some()) {
            causes.forbidden(path.index(index).child("nodePort"), "may not be used when `type` is 'ClusterIP'");
        }
    }
    let mut seen = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        if let Some(node) = number(port, "nodePort")
            && !seen.insert((text(port, "protocol"), node))
        {
            causes.duplicate(path.index(index).child("nodePort"), node);
        }
    }
    let mut seen = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let (protocol, own) = (text(port, "protocol"), integer(port, "port").unwrap_or_default());
        if !seen.insert((protocol, own)) {
            // The real one prints a struct of its own, all its fields in Go's order.
            let shown = format!(
                "{{\"Name\":\"\",\"Protocol\":\"{protocol}\",\"AppProtocol\":null,\"Port\":{own},\"TargetPort\":0,\"NodePort\":0}}"
            );
            causes.duplicate_shown(path.index(index), &shown);
        }
    }
}

fn check_source_ranges(causes: &mut Causes, kind: &str, spec: &Value) {
    let ranges = list(spec, "loadBalancerSourceRanges");
    let path = SPEC.child("LoadBalancerSourceRanges");
    if !ranges.is_empty() && kind != "LoadBalancer" {
        causes.forbidden(path, "may only be used when `type` is 'LoadBalancer'");
    }
    for (index, range) in ranges.iter().enumerate() {
        names::check_cidr(causes, path.index(index), range.as_str().unwrap_or_default().trim());
    }
}

fn check_class(causes: &mut Causes, kind: &str, spec: &Value) {
    let Some(class) = option(spec, "loadBalancerClass").and_then(Value::as_str) else { return };
    let path = SPEC.child("loadBalancerClass");
    if kind == "LoadBalancer" {
        causes.each_invalid(path, class, names::qualified(class));
    } else {
        causes.forbidden(path, "may only be used when `type` is 'LoadBalancer'");
    }
}

fn check_traffic(causes: &mut Causes, spec: &Value) {
    let external = text(spec, "externalTrafficPolicy");
    let path = SPEC.child("externalTrafficPolicy");
    if externally_accessible(spec) {
        causes.one_of(path, external, &["Cluster", "Local"]);
    } else if !external.is_empty() {
        causes.invalid(path, external, "may only be set for externally-accessible services");
    }
    let port = integer(spec, "healthCheckNodePort").unwrap_or_default();
    let path = SPEC.child("healthCheckNodePort");
    match (needs_health_port(spec), port) {
        (false, 0) => {}
        (false, port) => {
            let why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            causes.invalid(path, port, why);
        }
        (true, 0) => causes.required(path, ""),
        (true, port) => pods::check_port_number(causes, path, port),
    }
    let path = SPEC.child("internalTrafficPolicy");
    match option(spec, "internalTrafficPolicy").and_then(Value::as_str) {
        None if matches!(text(spec, "type"), "NodePort" | "LoadBalancer" | "ClusterIP") => causes.required(path, ""),
        None | Some("Cluster" | "Local") => {}
        Some(other) => causes.not_supported(path, other, &["Cluster", "Local"]),
    }
    let supported = ["PreferClose", "PreferSameZone", "PreferSameNode"];
    if let Some(distribution) = option(spec, "trafficDistribution").and_then(Value::as_str)
        && !supported.contains(&distribution)
    {
        causes.not_supported(SPEC.child("trafficDistribution"), distribution, &supported);
    }
}

/// What an update of a Service may not change.
pub(super) fn check_update(causes: &mut Causes, new_service: &Value, old_service: &Value) {
    let (new, old) = (at(new_service, &["spec"]), at(old_service, &["spec"]));
    let external = text(new, "type") == "ExternalName" || text(old, "type") == "ExternalName";
    let both_headless = is_headless(new) && is_headless(old);
    if !external && !both_headless {
        let (now, before) = (list(new, "clusterIPs"), list(old, "clusterIPs"));
        let path = SPEC.child("clusterIPs");
        if now.is_empty() && !before.is_empty() {
            causes.invalid(path.index(0), Value::Null, "primary clusterIP can not be unset");
        }
        for (index, (now_one, before_one)) in now.iter().zip(before).enumerate() {
            if now_one != before_one {
                causes.invalid(path.index(index), json!(now), "may not change once set");
            }
        }
    }
    if !external && !is_headless(new) && !is_headless(old) {
        let (now, before) = (list(new, "ipFamilies"), list(old, "ipFamilies"));
        if now.len() == before.len() {
            for _ in now.iter().zip(before).filter(|(now, before)| now != before) {
                let path = SPEC.child("ipFamilies");
                causes.invalid(path.index(0), json!(now), "may not change once set");
            }
        }
    }
    if text(new, "type") == "LoadBalancer" && text(old, "type") == "LoadBalancer" {
        let (now, before) = (at(new, &["loadBalancerClass"]), at(old, &["loadBalancerClass"]));
        if now != before {
            causes.invalid(SPEC.child("loadBalancerClass"), now.clone(), "may not change once set");
        }
    }
    check_class(causes, text(new, "type"), new);
    if needs_health_port(new)
        && needs_health_port(old)
        && integer(new, "healthCheckNodePort") != integer(old, "healthCheckNodePort")
    {
        causes.forbidden(SPEC.child("healthCheckNodePort"), "field is immutable");
    }
    check(causes, new_service, Some(old_service));
}

/// The addresses that a Service's status names.
pub(super) fn check_status(causes: &mut Causes, service: &Value) {
    let balancer = at(service, &["status", "loadBalancer"]);
    let path = Path::root("status");
    let path = path.child("loadBalancer");
    if text(at(service, &["spec"]), "type") != "LoadBalancer" && count(balancer, "ingress") > 0 {
        causes.forbidden(path.child("ingress"), "may only be used when `spec.type` is 'LoadBalancer'");
    } else {
        networking::check_balancer(causes, path, balancer, true);
    }
}

#[cfg(test)]
mod tests;
