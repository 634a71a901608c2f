//! The plugin PodSecurity: the Pod Security Standards that a namespace's labels ask for.
//!
//! Always the newest version of the standards, whichever the labels name. Absent: the mode `audit`, since there is no
//! audit log, and exemptions, which are a real server's configuration.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::kinds::fields::{at, has, list, text, truth};

/// What a namespace says about one mode: which standard, and in which version.
fn standard<'a>(namespace: &'a Value, mode: &str) -> Option<(&'a str, &'a str)> {
    let labels = at(namespace, &["metadata", "labels"]);
    let level = text(labels, &format!("pod-security.kubernetes.io/{mode}"));
    let version = text(labels, &format!("pod-security.kubernetes.io/{mode}-version"));
    let version = if version.is_empty() { "latest" } else { version };
    matches!(level, "baseline" | "restricted").then_some((level, version))
}

/// Why a pod may not be in a namespace, if it may not.
pub(crate) fn refusal(namespace: &Value, spec: &Value) -> Option<String> {
    sentence(namespace, "enforce", spec).map(|what| format!("violates {what}"))
}

/// What a namespace warns of in a pod, or in a template of pods.
pub(crate) fn warning(namespace: &Value, spec: &Value) -> Option<String> {
    sentence(namespace, "warn", spec).map(|what| format!("would violate {what}"))
}

fn sentence(namespace: &Value, mode: &str, spec: &Value) -> Option<String> {
    let (level, version) = standard(namespace, mode)?;
    let wrong = violations(level == "restricted", spec);
    (!wrong.is_empty()).then(|| format!("PodSecurity \"{level}:{version}\": {}", wrong.join(", ")))
}

/// What is wrong, in the real order: the basic rules by name, then the stricter ones, which replace some of them.
pub(super) fn violations(restricted: bool, spec: &Value) -> Vec<String> {
    let pod = Pod { spec, containers: Pod::all(spec) };
    let mut wrong = vec![pod.app_armor()];
    if !restricted {
        wrong.push(pod.capabilities());
    }
    wrong.push(pod.host_namespaces());
    if !restricted {
        wrong.push(pod.host_paths());
    }
    wrong.extend([pod.host_ports(), pod.probe_hosts(), pod.privileged()]);
    if !restricted && pod.spec.get("hostUsers") != Some(&json!(false)) {
        wrong.push(pod.unmasked());
    }
    wrong.push(pod.se_linux());
    if !restricted {
        wrong.push(pod.unconfined().map(|who| format!("seccompProfile ({who})")));
    }
    wrong.extend([pod.sysctls(), pod.windows()]);
    if restricted {
        wrong.extend([pod.escalation(), pod.few_capabilities(), pod.unmasked(), pod.volumes()]);
        if pod.spec.get("hostUsers") != Some(&json!(false)) {
            wrong.extend([pod.not_root(), pod.not_user_zero()]);
        }
        wrong.push(pod.seccomp());
    }
    wrong.into_iter().flatten().collect()
}

struct Pod<'a> {
    spec: &'a Value,
    containers: Vec<&'a Value>,
}

/// `container "a"`, `containers "a", "b"`
fn named(what: &str, names: &[&str]) -> String {
    let plural = if names.len() == 1 { "" } else { "s" };
    format!("{what}{plural} {}", quoted(names.iter().copied()))
}

fn quoted<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}

/// Who is at fault: `pod`, `pod and container "a"`, `containers "a", "b"`.
fn blamed(pod: bool, names: &[&str]) -> Option<String> {
    match (pod, names) {
        (false, []) => None,
        (true, []) => Some("pod".to_owned()),
        (true, names) => Some(format!("pod and {}", named("container", names))),
        (false, names) => Some(named("container", names)),
    }
}

fn context(value: &Value) -> &Value {
    at(value, &["securityContext"])
}

impl<'a> Pod<'a> {
    fn all(spec: &'a Value) -> Vec<&'a Value> {
        ["initContainers", "containers", "ephemeralContainers"].iter().flat_map(|kind| list(spec, kind)).collect()
    }

    /// The names of the containers of which something holds.
    fn which(&self, test: impl Fn(&Value) -> bool) -> Vec<&'a str> {
        self.containers.iter().filter(|one| test(one)).map(|one| text(one, "name")).collect()
    }

    fn app_armor(&self) -> Option<String> {
        let bad = |one: &Value| text(at(context(one), &["appArmorProfile"]), "type") == "Unconfined";
        let who = blamed(bad(self.spec), &self.which(bad))?;
        Some(format!("forbidden AppArmor profile ({who} must not set AppArmor profile type to \"Unconfined\")"))
    }

    fn added<'b>(container: &'b Value, allowed: &'b [&'b str]) -> impl Iterator<Item = &'b str> {
        let added = list(at(context(container), &["capabilities"]), "add");
        added.iter().filter_map(Value::as_str).filter(|name| !allowed.contains(name))
    }

    fn added_sentence(&self, allowed: &[&str]) -> Option<String> {
        let names = self.which(|one| Self::added(one, allowed).next().is_some());
        let bad: BTreeSet<&str> = self.containers.iter().flat_map(|one| Self::added(one, allowed)).collect();
        let bad = quoted(bad.into_iter());
        (!names.is_empty()).then(|| {
            format!("{} must not include {bad} in securityContext.capabilities.add", named("container", &names))
        })
    }

    fn capabilities(&self) -> Option<String> {
        const ALLOWED: [&str; 13] = [
            "AUDIT_WRITE",
            "CHOWN",
            "DAC_OVERRIDE",
            "FOWNER",
            "FSETID",
            "KILL",
            "MKNOD",
            "NET_BIND_SERVICE",
            "SETFCAP",
            "SETGID",
            "SETPCAP",
            "SETUID",
            "SYS_CHROOT",
        ];
        Some(format!("non-default capabilities ({})", self.added_sentence(&ALLOWED)?))
    }

    fn few_capabilities(&self) -> Option<String> {
        let dropped = |one: &Value| list(at(context(one), &["capabilities"]), "drop").contains(&json!("ALL"));
        let keeping = self.which(|one| !dropped(one));
        let keeping = (!keeping.is_empty())
            .then(|| format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", named("container", &keeping)));
        let parts: Vec<String> = keeping.into_iter().chain(self.added_sentence(&["NET_BIND_SERVICE"])).collect();
        (!parts.is_empty() && !self.is_for_windows())
            .then(|| format!("unrestricted capabilities ({})", parts.join("; ")))
    }

    fn host_namespaces(&self) -> Option<String> {
        let keys = ["hostNetwork", "hostPID", "hostIPC"].iter().filter(|key| truth(self.spec, key));
        let shown: Vec<String> = keys.map(|key| format!("{key}=true")).collect();
        (!shown.is_empty()).then(|| format!("host namespaces ({})", shown.join(", ")))
    }

    fn host_paths(&self) -> Option<String> {
        let volumes = list(self.spec, "volumes").iter().filter(|one| has(one, "hostPath"));
        let names: Vec<&str> = volumes.map(|one| text(one, "name")).collect();
        (!names.is_empty()).then(|| format!("hostPath volumes ({})", named("volume", &names)))
    }

    fn host_ports(&self) -> Option<String> {
        let ports = |one: &Value| -> Vec<String> {
            let ports = list(one, "ports").iter().filter_map(|port| port.get("hostPort").and_then(Value::as_i64));
            ports.filter(|port| *port != 0).map(|port| port.to_string()).collect()
        };
        let names = self.which(|one| !ports(one).is_empty());
        let all: BTreeSet<String> = self.containers.iter().flat_map(|one| ports(one)).collect();
        let all: Vec<String> = all.into_iter().collect();
        let verb = if names.len() == 1 { "uses" } else { "use" };
        let plural = if all.len() == 1 { "" } else { "s" };
        let who = named("container", &names);
        (!names.is_empty()).then(|| format!("hostPort ({who} {verb} hostPort{plural} {})", all.join(", ")))
    }

    fn probe_hosts(&self) -> Option<String> {
        const PLACES: [&[&str]; 5] = [
            &["livenessProbe"],
            &["readinessProbe"],
            &["startupProbe"],
            &["lifecycle", "postStart"],
            &["lifecycle", "preStop"],
        ];
        let hosts = |one: &'a Value| -> Vec<&'a str> {
            let actions =
                PLACES.iter().flat_map(|place| ["httpGet", "tcpSocket"].map(|kind| at(at(one, place), &[kind])));
            actions.map(|action| text(action, "host")).filter(|host| !host.is_empty()).collect()
        };
        let bad = self.containers.iter().filter(|one| !hosts(one).is_empty());
        let names: Vec<&str> = bad.map(|one| text(one, "name")).collect();
        let all: BTreeSet<&str> = self.containers.iter().flat_map(|one| hosts(one)).collect();
        let verb = if names.len() == 1 { "uses" } else { "use" };
        let plural = if all.len() == 1 { "" } else { "s" };
        let who = named("container", &names);
        let all = quoted(all.into_iter());
        (!names.is_empty())
            .then(|| format!("probe or lifecycle host ({who} {verb} probe or lifecycle host{plural} {all})"))
    }

    fn privileged(&self) -> Option<String> {
        let who = blamed(false, &self.which(|one| truth(context(one), "privileged")))?;
        Some(format!("privileged ({who} must not set securityContext.privileged=true)"))
    }

    fn unmasked(&self) -> Option<String> {
        let who = blamed(false, &self.which(|one| text(context(one), "procMount") == "Unmasked"))?;
        Some(format!("procMount ({who} must not set securityContext.procMount to \"Unmasked\")"))
    }

    fn se_linux(&self) -> Option<String> {
        const TYPES: [&str; 5] = ["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];
        let options = |one: &'a Value| at(context(one), &["seLinuxOptions"]);
        let bad = |one: &'a Value| {
            let options = options(one);
            !TYPES.contains(&text(options, "type"))
                || !text(options, "user").is_empty()
                || !text(options, "role").is_empty()
        };
        let names: Vec<&str> = self.containers.iter().filter(|one| bad(one)).map(|one| text(one, "name")).collect();
        let who = blamed(bad(self.spec), &names)?;
        let everybody = || std::iter::once(self.spec).chain(self.containers.iter().copied()).map(options);
        let types: BTreeSet<&str> =
            everybody().map(|one| text(one, "type")).filter(|name| !TYPES.contains(name)).collect();
        let mut parts = Vec::new();
        if !types.is_empty() {
            let plural = if types.len() == 1 { "" } else { "s" };
            parts.push(format!("type{plural} {}", quoted(types.into_iter())));
        }
        for key in ["user", "role"] {
            if everybody().any(|one| !text(one, key).is_empty()) {
                parts.push(format!("{key} may not be set"));
            }
        }
        let parts = parts.join("; ");
        Some(format!("seLinuxOptions ({who} set forbidden securityContext.seLinuxOptions: {parts})"))
    }

    fn unconfined(&self) -> Option<String> {
        let bad = |one: &Value| text(at(context(one), &["seccompProfile"]), "type") == "Unconfined";
        let who = blamed(bad(self.spec), &self.which(bad))?;
        Some(format!("{who} must not set securityContext.seccompProfile.type to \"Unconfined\""))
    }

    fn seccomp(&self) -> Option<String> {
        if let Some(who) = self.unconfined() {
            return Some(format!("seccompProfile ({who})"));
        }
        let unset = |one: &Value| text(at(context(one), &["seccompProfile"]), "type").is_empty();
        let names = self.which(unset);
        let free = unset(self.spec) && !names.is_empty() && !self.is_for_windows();
        let who = named("container", &names);
        let wanted = "must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"";
        free.then(|| format!("seccompProfile (pod or {who} {wanted})"))
    }

    fn sysctls(&self) -> Option<String> {
        const ALLOWED: [&str; 12] = [
            "kernel.shm_rmid_forced",
            "net.ipv4.ip_local_port_range",
            "net.ipv4.ip_local_reserved_ports",
            "net.ipv4.ip_unprivileged_port_start",
            "net.ipv4.ping_group_range",
            "net.ipv4.tcp_fin_timeout",
            "net.ipv4.tcp_keepalive_intvl",
            "net.ipv4.tcp_keepalive_probes",
            "net.ipv4.tcp_keepalive_time",
            "net.ipv4.tcp_rmem",
            "net.ipv4.tcp_syncookies",
            "net.ipv4.tcp_wmem",
        ];
        let all = list(context(self.spec), "sysctls").iter().map(|one| text(one, "name"));
        let bad: Vec<&str> = all.filter(|name| !ALLOWED.contains(name)).collect();
        (!bad.is_empty()).then(|| format!("forbidden sysctls ({})", bad.join(", ")))
    }

    fn windows(&self) -> Option<String> {
        let bad = |one: &Value| truth(at(context(one), &["windowsOptions"]), "hostProcess");
        let who = blamed(bad(self.spec), &self.which(bad))?;
        Some(format!("hostProcess ({who} must not set securityContext.windowsOptions.hostProcess=true)"))
    }

    fn is_for_windows(&self) -> bool {
        text(at(self.spec, &["os"]), "name") == "windows"
    }

    fn escalation(&self) -> Option<String> {
        let kept = |one: &Value| context(one).get("allowPrivilegeEscalation") == Some(&json!(false));
        let who = blamed(false, &self.which(|one| !kept(one))).filter(|_| !self.is_for_windows())?;
        Some(format!(
            "allowPrivilegeEscalation != false ({who} must set securityContext.allowPrivilegeEscalation=false)"
        ))
    }

    fn volumes(&self) -> Option<String> {
        const ALLOWED: [&str; 10] = [
            "name",
            "image",
            "configMap",
            "csi",
            "downwardAPI",
            "emptyDir",
            "ephemeral",
            "persistentVolumeClaim",
            "projected",
            "secret",
        ];
        let source = |one: &'a Value| -> Option<&'a str> {
            let keys = one.as_object()?.keys();
            keys.map(String::as_str).find(|key| !ALLOWED.contains(key))
        };
        let bad = || list(self.spec, "volumes").iter().filter_map(|one| Some((text(one, "name"), source(one)?)));
        let names: Vec<&str> = bad().map(|(name, _)| name).collect();
        let kinds: BTreeSet<&str> = bad().map(|(_, kind)| kind).collect();
        let verb = if names.len() == 1 { "uses" } else { "use" };
        let plural = if kinds.len() == 1 { "" } else { "s" };
        let who = named("volume", &names);
        let kinds = quoted(kinds.into_iter());
        (!names.is_empty())
            .then(|| format!("restricted volume types ({who} {verb} restricted volume type{plural} {kinds})"))
    }

    fn not_root(&self) -> Option<String> {
        let said = |one: &Value| context(one).get("runAsNonRoot").and_then(Value::as_bool);
        let pod = said(self.spec);
        let names = self.which(|one| said(one) == Some(false));
        let relying = self.which(|one| said(one).is_none());
        if let Some(who) = blamed(pod == Some(false), &names) {
            return Some(format!("runAsNonRoot != true ({who} must not set securityContext.runAsNonRoot=false)"));
        }
        (pod.is_none() && !relying.is_empty()).then(|| {
            let who = named("container", &relying);
            format!("runAsNonRoot != true (pod or {who} must set securityContext.runAsNonRoot=true)")
        })
    }

    fn not_user_zero(&self) -> Option<String> {
        let zero = |one: &Value| context(one).get("runAsUser").and_then(Value::as_i64) == Some(0);
        let who = blamed(zero(self.spec), &self.which(zero))?;
        Some(format!("runAsUser=0 ({who} must not set runAsUser=0)"))
    }
}
