//! Worlds in network namespaces: sites are apart, packets vanish and come back, and nothing is left behind. They need
//! root.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use world::network::HUB;
use world::{Component, Cut, Network, World, WorldSpec, assets_from_env};

/// What is not there by now does not come any more: a round trip between namespaces takes well below a millisecond.
const SILENCE: Duration = Duration::from_secs(2);
/// What must come may take this long: TCP sends a lost SYN again after 1 s, 3 s, 7 s.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn real_network_loses_packets_between_sites_and_gets_them_back() -> anyhow::Result<()> {
    let mut world = start(91, 2, None).await?;
    processes_are_at_their_sites(&world)?;
    let doors: Vec<SocketAddr> = world.members.iter().map(|member| member.ingress.address()).collect();
    let [fra, iad] = doors[..] else { anyhow::bail!("two members") };
    assert_eq!(fra.ip(), IpAddr::V4(Ipv4Addr::new(10, 111, 1, 1)));
    ensure!(answers(fra).await? && answers(iad).await?);

    black_hole_is_silent_for_old_and_new_connections(&world, fra, iad).await?;
    each_direction_alone(&world).await?;
    only_between_two_sites(&world).await?;
    a_killed_door_refuses(&mut world, fra).await?;

    let (pids, dir) = (pids(&world), world.dir().to_owned());
    world.stop().await;
    assert_eq!(pids.iter().filter(|pid| process(**pid).exists()).collect::<Vec<_>>(), Vec::<&u32>::new());
    ensure!(!dir.exists());
    nothing_is_left(91)
}

#[tokio::test(flavor = "multi_thread")]
async fn real_network_puts_the_hub_beside_a_member_and_cleans_up_when_dropped() -> anyhow::Result<()> {
    // What an owner left that did not live to remove it: this one has ended.
    let mut ended = std::process::Command::new("true").spawn()?;
    let pid = ended.id();
    ended.wait()?;
    let left = format!("iso-93-{pid}-fra");
    ensure!(std::process::Command::new("ip").args(["netns", "add", &left]).status()?.success(), "needs root");

    let world = start(92, 1, Some("fra")).await?;
    ensure!(!Path::new("/run/netns").join(&left).exists(), "{left} is still there");
    let second = start(92, 1, None).await.err().context("a second world in the slot")?;
    ensure!(format!("{second:#}").contains("slot 92 is in use"), "{second:#}");

    let version = async || tokio::time::timeout(PATIENCE, world.hub.client().apiserver_version()).await;
    version().await??;
    ensure!(world.hub.api_url().starts_with("https://10.112.1.6:"), "{}", world.hub.api_url());
    let faults = world.faults()?;
    let between = faults.cut(Cut::Between(HUB.to_owned(), "fra".to_owned())).err().context("one site")?;
    ensure!(between.to_string().contains("one site"), "{between}");
    faults.cut(Cut::BlackHole("fra".to_owned()))?;
    let api: SocketAddr = world.hub.api_url().trim_start_matches("https://").parse()?;
    ensure!(vanishes(api).await?, "the hub shares the fate of the site");
    faults.heal_all()?;
    ensure!(connects(api).await?);

    let pids = pids(&world);
    drop(world);
    assert_eq!(pids.iter().filter(|pid| process(**pid).exists()).collect::<Vec<_>>(), Vec::<&u32>::new());
    nothing_is_left(92)
}

async fn start(slot: u8, members: usize, hub_beside: Option<&str>) -> anyhow::Result<World> {
    let spec = WorldSpec {
        slot,
        network: Network::Namespaces,
        hub_beside: hub_beside.map(str::to_owned),
        ..WorldSpec::with_members(members)?
    };
    World::start(&assets_from_env()?, spec).await
}

/// All processes of a cluster, its door too, are in one network, which is nobody else's.
fn processes_are_at_their_sites(world: &World) -> anyhow::Result<()> {
    let network = |pid: u32| std::fs::read_link(process(pid).join("ns/net"));
    let mut networks = vec![network(std::process::id())?];
    for cluster in world.members.iter().map(|member| &member.cluster).chain([&world.hub]) {
        let processes = cluster.processes();
        let own = network(processes[&Component::Etcd])?;
        for (component, pid) in &processes {
            ensure!(network(*pid)? == own, "{component} of {} is not at its site", cluster.name());
        }
        let door = world.member(cluster.name()).and_then(|member| member.ingress.pid());
        ensure!(door.map(network).transpose()?.is_none_or(|door| door == own), "the door of {}", cluster.name());
        networks.push(own);
    }
    networks.sort();
    networks.dedup();
    assert_eq!(networks.len(), 4);
    Ok(())
}

async fn black_hole_is_silent_for_old_and_new_connections(
    world: &World,
    fra: SocketAddr,
    iad: SocketAddr,
) -> anyhow::Result<()> {
    let mut open = TcpStream::connect(fra).await?;
    let hole = Cut::BlackHole("fra".to_owned());
    world.faults()?.cut(hole.clone())?;
    ensure!(vanishes(fra).await?, "a new connection neither opens nor is refused");
    open.write_all(request().as_bytes()).await?;
    let mut answer = [0; 12];
    let silent = tokio::time::timeout(SILENCE, open.read_exact(&mut answer)).await;
    ensure!(silent.is_err(), "an open connection hears nothing, not even its end: {silent:?}");
    ensure!(answers(iad).await?, "the other site goes on");
    let unreachable = curl(world, HUB, fra).await?;
    ensure!(!unreachable, "nor does the hub reach it");
    ensure!(curl(world, HUB, iad).await? && curl(world, "fra", fra).await?, "what is at one site still talks");

    world.faults()?.heal(&hole)?;
    ensure!(answers(fra).await? && curl(world, HUB, fra).await?);
    // TCP sends again what was lost, and the connection that hung goes on where it was.
    tokio::time::timeout(PATIENCE, open.read_exact(&mut answer)).await.context("the open connection goes on")??;
    assert_eq!(&answer, b"HTTP/1.1 404");
    Ok(())
}

async fn each_direction_alone(world: &World) -> anyhow::Result<()> {
    let (from, to) = (Cut::From("fra".to_owned()), Cut::To("fra".to_owned()));
    assert_eq!((sends(world, "fra").await?, hears(world, "fra").await?), (true, true));
    world.faults()?.cut(from.clone())?;
    assert_eq!((sends(world, "fra").await?, hears(world, "fra").await?), (false, true));
    world.faults()?.cut(to.clone())?;
    assert_eq!((sends(world, "fra").await?, hears(world, "fra").await?), (false, false));
    world.faults()?.heal(&from)?;
    assert_eq!((sends(world, "fra").await?, hears(world, "fra").await?), (true, false));
    world.faults()?.heal_all()?;
    assert_eq!((sends(world, "fra").await?, hears(world, "fra").await?), (true, true));
    Ok(())
}

async fn only_between_two_sites(world: &World) -> anyhow::Result<()> {
    let fra = world.member("fra").context("fra")?.ingress.address();
    world.faults()?.cut(Cut::Between(HUB.to_owned(), "fra".to_owned()))?;
    ensure!(!curl(world, HUB, fra).await?);
    ensure!(curl(world, "iad", fra).await? && answers(fra).await?);
    world.faults()?.heal_all()?;
    ensure!(curl(world, HUB, fra).await?);
    Ok(())
}

async fn a_killed_door_refuses(world: &mut World, fra: SocketAddr) -> anyhow::Result<()> {
    let ingress = &mut world.member_mut("fra").context("fra")?.ingress;
    let pid = ingress.pid().context("it runs")?;
    let mut open = TcpStream::connect(fra).await?;
    ingress.kill();
    ensure!(!process(pid).exists() && ingress.pid().is_none());
    let refused = TcpStream::connect(fra).await.err().context("it was killed")?;
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    // A crash ends open connections, too.
    assert!(matches!(open.read(&mut [0]).await, Ok(0) | Err(_)));
    ingress.revive().await?;
    ensure!(answers(fra).await?);
    Ok(())
}

/// Whether a datagram that the site sends arrives here.
async fn sends(world: &World, site: &str) -> anyhow::Result<bool> {
    let socket = UdpSocket::bind("0.0.0.0:0").await?;
    let outside = Ipv4Addr::new(10, 111, 0, 1);
    let send = format!("echo hello > /dev/udp/{outside}/{}", socket.local_addr()?.port());
    ensure!(world.inside(site, "bash")?.args(["-c", &send]).status().await?.success());
    Ok(tokio::time::timeout(SILENCE, socket.recv(&mut [0; 16])).await.is_ok())
}

/// Whether a datagram from here arrives at the site.
async fn hears(world: &World, site: &str) -> anyhow::Result<bool> {
    let member = world.member(site).context("no such member")?;
    let (namespace, door) = (member.cluster.place().namespace.clone(), member.address);
    let namespace = namespace.context("a site has a namespace")?;
    // A socket belongs to the namespace of the thread that opens it, wherever it is used.
    let opened = std::thread::spawn(move || {
        let file = std::fs::File::open(Path::new("/run/netns").join(namespace))?;
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
        let socket = std::net::UdpSocket::bind((door, 0))?;
        socket.set_nonblocking(true)?;
        std::io::Result::Ok(socket)
    });
    let there = UdpSocket::from_std(opened.join().expect("the thread")?)?;
    let here = UdpSocket::bind("0.0.0.0:0").await?;
    here.send_to(b"hello", there.local_addr()?).await?;
    Ok(tokio::time::timeout(SILENCE, there.recv(&mut [0; 16])).await.is_ok())
}

/// Whether the site gets an answer of a door.
async fn curl(world: &World, site: &str, door: SocketAddr) -> anyhow::Result<bool> {
    let limit = SILENCE.as_secs().to_string();
    let mut curl = world.inside(site, "curl")?;
    Ok(curl.args(["-sS", "-m", &limit, &format!("http://{door}/")]).output().await?.status.success())
}

/// Whether a connection neither opens nor is refused.
async fn vanishes(address: SocketAddr) -> anyhow::Result<bool> {
    Ok(tokio::time::timeout(SILENCE, TcpStream::connect(address)).await.is_err())
}

async fn connects(address: SocketAddr) -> anyhow::Result<bool> {
    tokio::time::timeout(PATIENCE, TcpStream::connect(address)).await?.map(|_| Ok(true))?
}

async fn answers(door: SocketAddr) -> anyhow::Result<bool> {
    let answer = async {
        let mut stream = TcpStream::connect(door).await?;
        stream.write_all(request().as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        anyhow::Ok(answer.starts_with("HTTP/1.1 404"))
    };
    tokio::time::timeout(PATIENCE, answer).await?
}

fn request() -> &'static str {
    "GET / HTTP/1.1\r\nHost: nobody.example\r\nConnection: close\r\n\r\n"
}

fn pids(world: &World) -> Vec<u32> {
    let clusters = world.members.iter().map(|member| &member.cluster).chain([&world.hub]);
    let mut pids: Vec<u32> = clusters.flat_map(|cluster| cluster.processes().into_values()).collect();
    pids.extend(world.members.iter().filter_map(|member| member.ingress.pid()));
    pids
}

fn process(pid: u32) -> PathBuf {
    Path::new("/proc").join(pid.to_string())
}

fn nothing_is_left(slot: u8) -> anyhow::Result<()> {
    let prefix = format!("iso-{slot}-");
    let names = std::fs::read_dir("/run/netns")?.flatten().map(|entry| entry.file_name());
    let left: Vec<_> = names.filter(|name| name.to_string_lossy().starts_with(&prefix)).collect();
    ensure!(left.is_empty(), "{left:?} are left");
    ensure!(!Path::new("/sys/class/net").join(format!("iso{slot}")).exists(), "the link is left");
    Ok(())
}
