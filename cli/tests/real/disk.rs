//! A DNS node whose disk is full. The disk is a file system of its own, in memory, within a mount namespace that ends
//! with the node; making it needs the same rights as network namespaces, hence the name of the test.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, ensure};
use world::demo::{self, HOST};
use world::resolver::Resolver;
use world::system::{System, kubectl};
use world::{World, WorldSpec, assets_from_env};

use crate::delivery::{ready, until};
use crate::{ISOCHRONE, ONE_WORLD};

/// Where the node listens.
const ADDRESS: &str = "127.19.3.1";
/// A client of no known place: any answer will do.
const CLIENT: &str = "192.0.2.1";

#[tokio::test(flavor = "multi_thread")]
async fn real_network_a_full_disk_costs_no_answer_and_heals() -> anyhow::Result<()> {
    let _alone = ONE_WORLD.lock().await;
    let spec = WorldSpec { slot: 3, ingress_port: 8080, ..WorldSpec::with_members(1)? };
    let world = World::start(&assets_from_env()?, spec).await?;
    let system = System::start(&world, Path::new(ISOCHRONE)).await?;
    let dir = tempfile::tempdir()?;
    let log = dir.path().join("log");
    let done = story(&world, &system, dir.path(), &log).await;
    let done = done.map_err(|error| error.context(std::fs::read_to_string(&log).unwrap_or_default()));
    system.stop().await;
    world.stop().await;
    done
}

async fn story(world: &World, system: &System, dir: &Path, log: &Path) -> anyhow::Result<()> {
    kubectl(&world.hub, &["apply", "--server-side", "-f", "-"], demo::MANIFESTS).await?;
    ready(world, "shop").await?;
    let admin = world.hub.admin_kubeconfig().to_str().context("UTF-8")?;
    let line = system.isochrone(&["dns", "add", "ns-small", "--region", "eu-west", "--kubeconfig", admin]).await?;
    let token = line.split_whitespace().skip_while(|word| *word != "--join").nth(1).context("a token")?;
    let state = dir.join("state");
    std::fs::create_dir(&state)?;
    let output = std::fs::File::create(log)?;
    let at = |port: &str| format!("{ADDRESS}:{port}");
    // Each becomes the next by exec: the process that is started is the node.
    let mut node = tokio::process::Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c"])
        .arg(r#"mount -t tmpfs -o size=256k tmpfs "$0" && exec "$@""#)
        .arg(&state)
        .args([ISOCHRONE, "dns", "--join", token, "--listen", &at("5353"), "--admin", &at("7482")])
        .args(["--peering", &at("7444"), "--state"])
        .arg(&state)
        .stdin(Stdio::null())
        .stderr(output)
        .kill_on_drop(true)
        .spawn()?;
    let pid = node.id().context("it runs")?;
    // The node's own view of its directory.
    let state = PathBuf::from(format!("/proc/{pid}/root{}", state.display()));

    let server = at("5353").parse()?;
    answered(server, HOST).await.context("the node answers at first")?;
    // The hub tells of this node too; after that nothing new comes by itself.
    let written = until("the snapshot that names this node is on disk", async || {
        let bytes = std::fs::read(state.join("snapshot"))?;
        Ok(bytes.windows(8).any(|name| name == b"ns-small").then_some(bytes))
    })
    .await?;
    let fill = state.join("fill");
    let full = (0..).try_for_each(|_| append(&fill));
    ensure!(full.is_err_and(|error| error.kind() == std::io::ErrorKind::StorageFull), "the disk is not full");

    // What is new is served all the same, and the log says what is wrong and what to do.
    let record = r#"{"spec":{"records":[{"name":"new","type":"A","values":["192.0.2.7"]}]}}"#;
    kubectl(&world.hub, &["patch", "dnszones.isochrone.dev/gslb", "--type=merge", "-p", record], "").await?;
    answered(server, "new.gslb.example.com").await.context("what is new is served")?;
    let says = "the snapshot is served, but not on disk: a restart would serve an older one. Make room in";
    let said = until("the node says so", async || {
        let text = std::fs::read_to_string(log)?;
        Ok(text.lines().find(|line| line.contains(says)).map(str::to_owned))
    })
    .await?;
    ensure!(said.contains("No space left on device") && said.contains("written again by itself"), "{said}");
    // The one before is whole: another process could start from it, and would give the old answers.
    ensure!(std::fs::read(state.join("snapshot"))? == written, "the old snapshot was touched");
    let offline = state.to_str().context("UTF-8")?;
    let explain = system.isochrone(&["explain", HOST, "--client", CLIENT, "--state", offline]).await?;
    ensure!(explain.contains("fra"), "{explain}");

    std::fs::remove_file(&fill)?;
    until("it is written once there is room", async || {
        let now = std::fs::read(state.join("snapshot"))?;
        let healed = std::fs::read_to_string(log)?.contains("the snapshot that is served is on disk again");
        Ok((healed && now != written).then_some(()))
    })
    .await?;
    ensure!(std::fs::read(state.join("snapshot.previous"))? == written, "the one before it is not kept");
    answered(server, HOST).await?;
    node.kill().await?;
    Ok(())
}

fn append(path: &Path) -> std::io::Result<()> {
    use std::io::Write as _;
    std::fs::OpenOptions::new().create(true).append(true).open(path)?.write_all(&[0; 4096])
}

async fn answered(server: std::net::SocketAddr, host: &str) -> anyhow::Result<()> {
    let mut resolver = Resolver::new(server, host).await?;
    until("an answer", async || {
        let answer = resolver.ask(CLIENT.parse()?).await?;
        Ok((!answer.addresses.is_empty()).then_some(()))
    })
    .await
}
