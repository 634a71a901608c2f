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

use super::fields::{at, child, count, elements, field_text, has, integer, list, text};
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
            let range = allocator.addresses;
            return fail(format!(
                "failed to allocate IP {text}: the provided IP ({text}) is not in the valid range. The range of valid IPs is {range}"
            ));
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
