//! Regions that fail, each way once: who moves, and who does not. How fast is measured by `cargo xtask bench failover`;
//! here nothing depends on it.

use std::path::Path;

use anyhow::{Context as _, ensure};
use world::assets_from_env;
use world::failover::{Expected, Run, Scenario, Scene, run};

use crate::{ISOCHRONE, ONE_WORLD};

/// The worlds of this test; others use lower ones.
const SLOT: u8 = 41;

#[tokio::test(flavor = "multi_thread")]
async fn real_network_loses_regions_and_their_users_move() -> anyhow::Result<()> {
    let _alone = ONE_WORLD.lock().await;
    all(false).await?;
    all(true).await
}

/// Every scenario that needs the hub at this place.
async fn all(hub_beside_victim: bool) -> anyhow::Result<()> {
    let mut scene = Scene::start(&assets_from_env()?, Path::new(ISOCHRONE), SLOT, hub_beside_victim).await?;
    let here = Scenario::ALL.into_iter().filter(|scenario| scenario.hub_beside_victim() == hub_beside_victim);
    for (number, scenario) in here.enumerate() {
        let what = || format!("{}: {}", scenario.name(), scenario.title());
        if number > 0 {
            scene.restore().await.with_context(|| format!("restoring before {}", what()))?;
        }
        let run = run(&mut scene, scenario).await.with_context(what)?;
        check(scenario, &run).with_context(|| format!("{}\n{run:#?}\n{}", what(), scene.system.tails()))?;
    }
    scene.stop().await;
    Ok(())
}

fn check(scenario: Scenario, run: &Run) -> anyhow::Result<()> {
    ensure!(run.unanswered == 0, "a living DNS node did not answer {} times", run.unanswered);
    ensure!(run.polls_per_second >= 5.0, "{} answers a second show nothing", run.polls_per_second);
    ensure!(run.moves_of_others == 0, "users of other regions moved {} times", run.moves_of_others);
    match scenario.expected() {
        Expected::Moves => {
            let demoted = run.demoted.context("no other address came into the answers of every living node")?;
            let absent = run.absent.context("its address stayed in the answers of a living node")?;
            ensure!(demoted <= absent);
        }
        Expected::Still => ensure!(run.moves == 0, "its users moved {} times", run.moves),
        Expected::AtMost(most) => ensure!(run.moves <= most, "its users moved {} times", run.moves),
    }
    Ok(())
}
