//! `isochrone world`: does things to the world of `isochrone up`, and shows it.

use ::up::control::Asker;
use ::up::seen::{Link, RegionState, State, UserState};
use ::up::spec::Act;
use anyhow::Result;

use super::print;
use crate::args::{WorldArgs, WorldCommand};

pub(super) async fn run(args: WorldArgs) -> Result<()> {
    let world = Asker::new(args.world);
    let (act, region, gracefully) = match args.command {
        WorldCommand::Status { output } => {
            let state = world.state().await?;
            return print::value(&state, output, || tables(&state));
        }
        WorldCommand::Stop { region, graceful } => (Act::Stop, region, graceful),
        WorldCommand::Start { region } => (Act::Start, region, false),
        WorldCommand::Partition { region } => (Act::Partition, region, false),
        WorldCommand::Heal { region } => (Act::Heal, region, false),
    };
    let said = world.act(act, &region, gracefully).await?;
    print::text(&format!("{said}\n"))
}

/// Regions and users, for people.
pub(super) fn tables(state: &State) -> String {
    let region = |region: &RegionState| {
        vec![
            region.name.clone(),
            region.city.clone(),
            region.address.to_string(),
            match region.link {
                Link::Running if region.drained => "drained",
                Link::Running => "running",
                Link::Stopped => "stopped",
                Link::Partitioned => "cut off from the hub",
            }
            .to_owned(),
            region.connected.clone(),
            region.healthy.clone(),
            region.apps.to_string(),
        ]
    };
    let user = |user: &UserState| {
        let some = |text: String| if text.is_empty() { "none".to_owned() } else { text };
        vec![
            user.city.clone(),
            user.address.to_string(),
            some(user.node.clone().unwrap_or_default()),
            some(user.served_by.join(", ")),
            user.round_trip_ms.map_or_else(|| "unknown".to_owned(), |ms| format!("{ms} ms")),
        ]
    };
    let regions: Vec<_> = state.regions.iter().map(region).collect();
    let users: Vec<_> = state.users.iter().map(user).collect();
    [
        print::table(&["REGION", "CITY", "ADDRESS", "STATE", "CONNECTED", "HEALTHY", "APPS"], &regions),
        print::table(&["USERS IN", "ADDRESS", "ASK", "SERVED BY", "ROUND TRIP"], &users),
    ]
    .join("\n")
}
