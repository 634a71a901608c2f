//! The network namespaces of one world: made at its start, gone with it, and swept when their owner died first.
//!
//! Names are `iso-SLOT-PID-SITE`: worlds of several programs are told apart, and a name shows whether its owner lives.
//! The one thing in the caller's own namespace is the link `isoSLOT` with a route to `10.(20+SLOT).0.0/16`.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};

use super::Faults;

/// Where `ip netns` keeps names.
const NAMES: &str = "/run/netns";
/// The router's name among the sites'; not a DNS label, so no member's.
const ROUTER: &str = "router_";
/// The router's end of every pair.
const ROUTER_HOST: u8 = 254;
/// The network of the pair that ends in the caller's own namespace; no site has this number.
const OUTSIDE_NUMBER: u8 = 0;

/// A /24 of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NetworkPrefix {
    second: u8,
    number: u8,
}

impl NetworkPrefix {
    pub(super) fn new(second: u8, number: u8) -> Self {
        Self { second, number }
    }

    fn host(self, host: u8) -> String {
        format!("10.{}.{}.{host}", self.second, self.number)
    }
}

impl fmt::Display for NetworkPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/24", self.host(0))
    }
}

/// The namespaces of a running world; dropping it removes their names and the link. The kernel removes a namespace once
/// its last process has ended, so processes are to be ended first.
#[derive(Debug)]
pub(crate) struct Namespaces {
    /// By the number of the site.
    names: BTreeMap<u8, String>,
    router: String,
    link: String,
    faults: Faults,
}

impl Namespaces {
    /// Makes a namespace for each number and joins all. Several sites may have one number, and so one namespace.
    ///
    /// # Errors
    /// When a program or the rights are missing, or the slot is in use; the text says what to do.
    pub(super) fn create(slot: u8, second: u8, sites: &BTreeMap<String, u8>) -> anyhow::Result<Self> {
        for (tool, package) in [("ip", "iproute2"), ("nsenter", "util-linux")] {
            let path = std::env::var_os("PATH").unwrap_or_default();
            ensure!(
                std::env::split_paths(&path).any(|dir| dir.join(tool).is_file()),
                "a world of network namespaces needs `{tool}`: install the Debian package {package}, or use a world on \
                 loopback"
            );
        }
        let link = format!("iso{slot}");
        sweep(slot, &link)?;
        let name = |site: &str| format!("iso-{slot}-{}-{site}", std::process::id());
        let mut names = BTreeMap::new();
        for (site, number) in sites {
            names.entry(*number).or_insert_with(|| name(site));
        }
        let prefixes = sites.iter().map(|(site, number)| (site.clone(), NetworkPrefix::new(second, *number))).collect();
        let router = name(ROUTER);
        let faults = Faults::new(router.clone(), prefixes);
        // From here on dropping it undoes what was done so far.
        let this = Self { names, router, link, faults };
        this.build(second)?;
        Ok(this)
    }

    fn build(&self, second: u8) -> anyhow::Result<()> {
        add(&self.router)?;
        let forward = "echo 1 > /proc/sys/net/ipv4/ip_forward";
        let mut enter = Command::new("nsenter");
        run(enter.arg(net_argument(&self.router)).args(["--", "sh", "-c", forward]), "")?;
        batch(&self.router, "link set lo up\n")?;
        for (number, name) in &self.names {
            add(name)?;
            let prefix = NetworkPrefix::new(second, *number);
            let (own, router) = (prefix.host(1), prefix.host(ROUTER_HOST));
            let pair = format!(
                "link add site{number} type veth peer name router netns {name}\naddr add {router}/24 dev site{number}\nlink \
                 set site{number} up\n"
            );
            batch(&self.router, &pair)?;
            let mut site = format!("link set lo up\nlink set router up\naddr add {own}/24 dev router\n");
            // Every address that anything of a site may take; the first is the source of what binds none.
            for host in (2..=7).chain([53]) {
                site.push_str(&format!("addr add {}/24 dev router\n", prefix.host(host)));
            }
            site.push_str(&format!("route add default via {router}\n"));
            batch(name, &site)?;
        }
        let outside = NetworkPrefix::new(second, OUTSIDE_NUMBER);
        let (own, router, link) = (outside.host(1), outside.host(ROUTER_HOST), &self.link);
        // The other end goes where this process is, whichever namespace that is.
        let pair = format!(
            "link add outside type veth peer name {link} netns {}\naddr add {router}/24 dev outside\nlink set outside up\n",
            std::process::id()
        );
        batch(&self.router, &pair)?;
        run(Command::new("ip").args(["addr", "add", &format!("{own}/24"), "dev", link]), "")?;
        run(Command::new("ip").args(["link", "set", link, "up"]), "")?;
        let all = format!("10.{second}.0.0/16");
        run(Command::new("ip").args(["route", "add", &all, "via", &router]), "")
            .with_context(|| format!("{all} must be free on this machine; another slot has another network"))
    }

    /// By the number of the site.
    pub(super) fn names(&self) -> BTreeMap<u8, String> {
        self.names.clone()
    }

    pub(crate) fn faults(&self) -> &Faults {
        &self.faults
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        // What was not made yet cannot be removed; there is nobody to tell.
        let _ = run(Command::new("ip").args(["link", "del", &self.link]), "");
        for name in self.names.values().chain([&self.router]) {
            let _ = run(Command::new("ip").args(["netns", "del", name]), "");
        }
    }
}

/// Whether this program may make namespaces in which packets vanish: makes one with a link and a rule, and removes it.
///
/// # Errors
/// When something of it is not possible; the text says what to do.
pub(super) fn check_rights() -> anyhow::Result<()> {
    let name = format!("iso-check-{}", std::process::id());
    add(&name)?;
    let tried = batch(&name, "link add one type veth peer name two\nrule add pref 1 from 10.0.0.0/8 blackhole\n");
    run(Command::new("ip").args(["netns", "del", &name]), "")?;
    tried.context("this kernel gives network namespaces without veth links or policy rules; use a world on loopback")
}

/// `nsenter`'s argument that names a namespace.
pub(crate) fn net_argument(name: &str) -> String {
    format!("--net={NAMES}/{name}")
}

/// Runs lines of `ip` inside a namespace; the first that fails ends it.
pub(super) fn batch(namespace: &str, lines: &str) -> anyhow::Result<()> {
    run(Command::new("ip").args(["-n", namespace, "-batch", "-"]), lines)
}

fn add(name: &str) -> anyhow::Result<()> {
    run(Command::new("ip").args(["netns", "add", name]), "").context(
        "network namespaces need the rights of root (CAP_SYS_ADMIN and CAP_NET_ADMIN): run this as root, as with `sudo \
         -E`, or use a world on loopback",
    )
}

/// Each is a matter of milliseconds, so nothing is gained by awaiting it.
fn run(command: &mut Command, input: &str) -> anyhow::Result<()> {
    let words = format!("{command:?}").replace('"', "");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("running {words}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that ends early says why by its exit code.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().with_context(|| format!("running {words}"))?;
    if !output.status.success() {
        bail!("{words}: {}: {}\n{input}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Removes what dead owners left, in any slot, and refuses a slot whose owner lives.
fn sweep(slot: u8, link: &str) -> anyhow::Result<()> {
    let entries = match std::fs::read_dir(NAMES) {
        Ok(entries) => entries,
        // Nobody ever made one.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("listing {NAMES}")),
    };
    let mut dead_links = vec![];
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some((owner_slot, pid)) = name.to_str().and_then(owner) else { continue };
        if Path::new("/proc").join(pid.to_string()).exists() {
            ensure!(owner_slot != slot, "slot {slot} is in use by process {pid}; take another, or end that one");
            continue;
        }
        dead_links.push(format!("iso{owner_slot}"));
        // Another program may sweep at the same time; then the name is gone, which is all that is wanted.
        let _ = run(Command::new("ip").args(["netns", "del"]).arg(&name), "");
    }
    // The kernel removes a namespace a while after its name, and the other end of its links with it.
    dead_links.push(link.to_owned());
    for link in dead_links.iter().filter(|link| PathBuf::from("/sys/class/net").join(link).exists()) {
        let _ = run(Command::new("ip").args(["link", "del", link]), "");
    }
    Ok(())
}

/// The slot and process in a name of ours.
fn owner(name: &str) -> Option<(u8, u32)> {
    let mut parts = name.strip_prefix("iso-")?.splitn(3, '-');
    let owner = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    parts.next().map(|_| owner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_names_have_owners() {
        assert_eq!(owner("iso-3-712-fra"), Some((3, 712)));
        assert_eq!(owner("iso-3-712-two-words"), Some((3, 712)));
        for name in ["fra", "iso-3", "iso-3-712", "iso-x-712-fra", "docker-3-712-fra", "iso-300-712-fra"] {
            assert_eq!(owner(name), None, "{name}");
        }
    }
}
