//! Garbage on every port: whatever comes, the role lives, goes on answering, and its memory does not grow with it.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tunnel::Timing;
use tunnel::client::enrol;
use tunnel::identity::{Key, Role as PeerRole, Token};
use world::demo::{CLIENTS, HOST};
use world::resolver::Resolver;
use world::system::{DNS_PORT, Role, System, kubectl};
use world::{Member, World};

use crate::delivery::{Random, until};

/// Rounds after the first, which makes what is made once (threads, buffers, tables).
const ROUNDS: u64 = 3;
/// Datagrams to each UDP port in a round.
const DATAGRAMS: u32 = 1_500;
/// Connections of each kind to each TCP port in a round.
const CONNECTIONS: u32 = 20;
/// One that says more than anybody has to say.
const OVERSIZED: usize = 1 << 20;
/// What a role's memory may grow by over [`ROUNDS`], in KiB: half of what the oversized connections of one port send in
/// that time, so that a role which kept them would be seen; an allocator's own ups and downs have a few MiB.
const GROWTH_KIB: u64 = ROUNDS * CONNECTIONS as u64 * (OVERSIZED as u64 >> 10) / 2;

/// Sends it, and looks after each round whether everybody is served, with half-open connections still there.
pub(crate) async fn on_every_port(world: &World, system: &System) -> anyhow::Result<()> {
    let roles = [Role::Hub, Role::Agent("fra".to_owned()), Role::Dns("fra".to_owned())];
    let pids = roles.each_ref().map(|role| system.pid(role));
    let first = first_flight().await?;
    let mut warm = vec![];
    for seed in 0..=ROUNDS {
        let ports = Ports::of(system)?;
        let datagrams = first.clone();
        let held = tokio::task::spawn_blocking(move || round(&ports, &datagrams, seed + 1)).await??;
        served(world, system, seed).await.with_context(|| format!("after round {seed}"))?;
        drop(held);
        let memory = pids.iter().map(|pid| resident_kib(*pid)).collect::<anyhow::Result<Vec<_>>>()?;
        if seed == 0 {
            warm = memory;
        } else {
            for ((role, before), now) in roles.iter().zip(&warm).zip(&memory) {
                ensure!(*now <= before + GROWTH_KIB, "{role:?} grew from {before} to {now} KiB in {seed} rounds");
            }
        }
    }
    ensure!(roles.each_ref().map(|role| system.pid(role)) == pids, "a role was started anew");
    Ok(())
}

struct Ports {
    udp: Vec<SocketAddr>,
    http: Vec<SocketAddr>,
    dns: SocketAddr,
}

impl Ports {
    fn of(system: &System) -> anyhow::Result<Self> {
        let at = |role: Role, port: u16| anyhow::Ok(SocketAddr::from((system.address(&role)?, port)));
        let (agent, node) = (|| Role::Agent("fra".to_owned()), || Role::Dns("fra".to_owned()));
        let dns = at(node(), DNS_PORT)?;
        Ok(Self {
            udp: vec![at(Role::Hub, 7443)?, at(node(), 7444)?, dns],
            http: vec![at(Role::Hub, 7480)?, at(agent(), 7481)?, at(node(), 7482)?],
            dns,
        })
    }
}

/// The datagrams with which a real agent begins to enrol. What answers is a socket that says nothing.
async fn first_flight() -> anyhow::Result<Vec<Vec<u8>>> {
    let silent = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let token = Token::generate(PeerRole::Agent, "nobody", [0; 32], vec![silent.local_addr()?.to_string()]);
    let key = Key::generate()?;
    let asking = tokio::spawn(async move { enrol(&token, "uid", &key, None, &Timing::default()).await.map(drop) });
    let mut flight = vec![];
    let mut buffer = [0; 2048];
    // Two: what comes later repeats them.
    while flight.len() < 2 {
        let received = tokio::time::timeout(Duration::from_secs(30), silent.recv(&mut buffer)).await;
        let length = received.context("an agent that enrols sends nothing")??;
        flight.push(buffer[..length].to_vec());
    }
    asking.abort();
    Ok(flight)
}

/// Blocking. Connections that have said nothing, or half of something, are returned, to be held.
fn round(ports: &Ports, flight: &[Vec<u8>], seed: u64) -> anyhow::Result<Vec<TcpStream>> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ seed);
    let query = query();
    for address in &ports.udp {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let templates: Vec<&[u8]> =
            if *address == ports.dns { vec![&query] } else { flight.iter().map(Vec::as_slice).collect() };
        for number in 0..DATAGRAMS {
            let template = templates[random.below(templates.len())];
            let datagram = match number % 4 {
                0 => random.bytes(1400),
                // Cut short, and behind that whatever.
                1 => [&template[..random.below(template.len())], &random.bytes(64)].concat(),
                2 => template[..random.below(template.len())].to_vec(),
                _ => {
                    let mut changed = template.to_vec();
                    let at = random.below(changed.len());
                    changed[at] ^= 1 << random.below(8);
                    changed
                }
            };
            // The system may have no room for it; then it is lost, as on any network.
            let _ = socket.send_to(&datagram, address);
        }
        let _ = socket.send_to(&random.bytes(65_000), address);
    }
    let mut held = vec![];
    let length = u16::try_from(query.len()).context("a short query")?.to_be_bytes();
    let framed = [&length[..], &query].concat();
    for (address, half) in ports.http.iter().map(|a| (a, &b"GET /metr"[..])).chain([(&ports.dns, &framed[..9])]) {
        for _ in 0..CONNECTIONS {
            // What is sent to one that has hung up already is an error, and no concern of ours.
            let _ = TcpStream::connect(address)?.write_all(&random.bytes(4096));
            let _ = TcpStream::connect(address)?.write_all(&oversized(*address == ports.dns, &mut random));
            held.push(TcpStream::connect(address)?);
            let mut slow = TcpStream::connect(address)?;
            slow.set_nodelay(true)?;
            for byte in half {
                slow.write_all(&[*byte])?;
            }
            held.push(slow);
        }
    }
    Ok(held)
}

/// More than a message may have: DNS messages that say they are as long as can be, a header without an end.
fn oversized(dns: bool, random: &mut Random) -> Vec<u8> {
    let mut bytes = vec![];
    if dns {
        while bytes.len() < OVERSIZED {
            bytes.extend_from_slice(&[0xff, 0xff]);
            bytes.extend(random.bytes(0xffff));
        }
    } else {
        bytes.extend_from_slice(b"GET / HTTP/1.1\r\nX: ");
        bytes.resize(OVERSIZED, b'x');
    }
    bytes
}

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next()).unwrap_or_default() % limit.max(1)
    }

    /// Up to `most`, at least one.
    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let length = 1 + self.below(most);
        (0..length).map(|_| self.next().to_le_bytes()[1]).collect()
    }
}

/// `HOST A`, without EDNS.
fn query() -> Vec<u8> {
    let mut query = vec![0x15, 0x0c, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in HOST.split('.') {
        query.extend(u8::try_from(label.len()));
        query.extend_from_slice(label.as_bytes());
    }
    query.extend_from_slice(&[0, 0, 1, 0, 1]);
    query
}

/// Everybody else is served: DNS over both transports, the admin ports, and a change that goes from the hub to a member.
async fn served(world: &World, system: &System, round: u64) -> anyhow::Result<()> {
    let ports = Ports::of(system)?;
    let mut resolver = Resolver::new(ports.dns, HOST).await?;
    let answer = resolver.ask(CLIENTS[0].1.parse()?).await?;
    ensure!(answer.addresses == [std::net::IpAddr::V4(member(world)?.address)], "{answer:?}");
    tokio::task::spawn_blocking(move || asked_by_tcp(&ports)).await??;
    let colour = format!("colour-{round}");
    let patch =
        format!(r#"[{{"op": "replace", "path": "/spec/source/inline/manifests/0/data/colour", "value": "{colour}"}}]"#);
    kubectl(&world.hub, &["patch", "-n", "shop", "apps.isochrone.dev/shop", "--type=json", "-p", &patch], "").await?;
    let fra = &member(world)?.cluster;
    until("a change arrives in the member", async || {
        let read = ["get", "-n", "shop", "configmap/settings", "-o", "jsonpath={.data.colour}"];
        Ok((kubectl(fra, &read, "").await? == colour).then_some(()))
    })
    .await
}

fn member(world: &World) -> anyhow::Result<&Member> {
    world.member("fra").context("fra")
}

fn asked_by_tcp(ports: &Ports) -> anyhow::Result<()> {
    let patience = Some(Duration::from_secs(30));
    for address in &ports.http {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(patience)?;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).with_context(|| format!("asking {address}"))?;
        ensure!(answer.starts_with("HTTP/1.1 200"), "{address}: {answer}");
    }
    let query = query();
    let mut stream = TcpStream::connect(ports.dns)?;
    stream.set_read_timeout(patience)?;
    stream.write_all(&[&u16::try_from(query.len())?.to_be_bytes()[..], &query].concat())?;
    let mut head = [0; 6];
    stream.read_exact(&mut head).context("asking DNS over TCP")?;
    ensure!(head[2..4] == query[..2] && head[5] & 0x0f == 0, "{head:?}");
    Ok(())
}

fn resident_kib(pid: Option<u32>) -> anyhow::Result<u64> {
    let pid = pid.context("a role that runs")?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("a role has ended")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    Ok(line.split_whitespace().next().context("a number")?.parse()?)
}
