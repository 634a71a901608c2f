//! Ports for the servers of a cluster.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Mutex, PoisonError};

use anyhow::bail;

/// The ports of one cluster.
pub(super) struct Ports {
    pub(super) etcd: u16,
    pub(super) etcd_peer: u16,
    pub(super) api: u16,
}

impl Ports {
    pub(super) fn reserve() -> anyhow::Result<Self> {
        Ok(Self { etcd: free_port()?, etcd_peer: free_port()?, api: free_port()? })
    }
}

/// A port on 127.0.0.1 that is free now and that no outgoing connection can take.
///
/// Port 0 would be simpler, but the kernel takes such ports from the range that it also uses for outgoing connections:
/// between here and the start of the server, or between a kill and a revival, one of those may get it. So ports below
/// that range are tried. Two programs that try the same one in the same instant are told apart by chance only, which
/// the start at a number that depends on the process makes rare; within one program none is given twice.
///
/// # Errors
/// When none is free.
pub fn free_port() -> anyhow::Result<u16> {
    /// Linux' default for the lower end of the range of outgoing connections (`ip_local_port_range`).
    const OUTGOING_FROM: u16 = 32768;
    /// Above what common services use.
    const LOWEST: u16 = 16384;
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let below = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse().ok())
        .filter(|first| *first > LOWEST)
        .unwrap_or(OUTGOING_FROM);
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let span = u32::from(below - LOWEST);
    let first = std::process::id().wrapping_mul(97) % span;
    for step in 0..span {
        let Ok(offset) = u16::try_from((first + step) % span) else {
            continue;
        };
        let port = LOWEST + offset;
        if !given.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            given.insert(port);
            return Ok(port);
        }
    }
    bail!("no port of 127.0.0.1 between {LOWEST} and {below} is free")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_given_once() {
        let ports: BTreeSet<u16> = (0..50).map(|_| free_port().unwrap()).collect();
        assert_eq!(ports.len(), 50);
    }
}
