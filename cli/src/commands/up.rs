//! `isochrone up`: a whole world in this process. Lines to paste go to stdout, what happens goes to stderr; with
//! `--watch` a view of all that takes the terminal instead.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::Instant;

use ::up::seen::{Event, State};
use ::up::{Spec, World};
use anyhow::{Context as _, Result, bail};
use tokio_util::sync::CancellationToken;

use super::{print, until_signal, world};
use crate::args::UpArgs;

pub(super) async fn run(args: UpArgs) -> Result<()> {
    let spec = args.config.as_deref().map_or_else(|| Ok(Spec::default()), Spec::read)?;
    if args.watch && !std::io::stdout().is_terminal() {
        bail!("--watch wants a terminal: leave it out, and what happens is told line by line");
    }
    let stop = until_signal()?;
    let begun = Instant::now();
    let say = |what: &str| eprintln!("[{:4.1} s] {what}", begun.elapsed().as_secs_f64());
    let world = tokio::select! {
        world = World::start(spec, &say) => world?,
        () = stop.cancelled() => return Ok(()),
    };
    say("ready: every user is served by the nearest region");
    let shown = show(&world, args.watch, &stop).await;
    let left = world.stop().await;
    shown?;
    if !left.is_empty() {
        bail!("did not end when asked: {}", left.join(", "));
    }
    Ok(())
}

/// Shows the world until somebody stops it, or it ends by itself, which is an error.
async fn show(world: &Arc<World>, watch: bool, stop: &CancellationToken) -> Result<()> {
    let program = std::env::current_exe().context("asking for the path of this program")?;
    let lines = world.lines(&program);
    let mut text = String::new();
    for line in &lines {
        if !line.shows.is_empty() {
            text += &format!("\n# {}\n", line.shows);
        }
        text += &format!("{}\n", line.command);
    }
    if !watch {
        print::text(&format!("{text}\n"))?;
        eprintln!("Paste these into another terminal; Ctrl-C here ends the world, and leaves nothing behind.");
        for missing in missing_tools() {
            eprintln!("{missing} is not on this machine: lines with it need it installed.");
        }
    }
    let (mut changes, mut state, mut told) = (world.changes(), world.state(), 0);
    loop {
        if watch {
            print::screen(&view(&state, &text))?;
        } else {
            for event in state.events.iter().filter(|event| event.number > told) {
                eprintln!("{}", said(event));
            }
            told = state.events.back().map_or(told, |event| event.number);
        }
        state = tokio::select! {
            next = changes.next() => match next {
                Some(next) => next,
                None => bail!("the world ended by itself"),
            },
            ended = world.ended() => return Err(ended),
            () = stop.cancelled() => return Ok(()),
        };
    }
}

fn said(event: &Event) -> String {
    format!("{} {}", event.at.strftime("%H:%M:%S"), event.what)
}

/// What programs of others the lines use that are not there.
fn missing_tools() -> impl Iterator<Item = &'static str> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs: Vec<_> = std::env::split_paths(&path).collect();
    ["kubectl", "dig", "curl"].into_iter().filter(move |tool| !dirs.iter().any(|dir| dir.join(tool).is_file()))
}

/// One screen of it: how all stands, what happened last, and where the lines to paste are.
fn view(state: &State, lines: &str) -> String {
    /// As many as leave room for the rest on a screen of some forty lines.
    const EVENTS: usize = 12;
    let events: Vec<String> = state.events.iter().rev().take(EVENTS).rev().map(said).collect();
    let to_paste = lines.lines().filter(|line| line.starts_with("export ") || line.contains(" world "));
    let to_paste = to_paste.collect::<Vec<_>>().join("\n");
    format!("{}\n{}\n\n{to_paste}\nCtrl-C ends the world.\n", world::tables(state), events.join("\n"))
}
