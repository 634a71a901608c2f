//! The processes of one cluster: which run, how they are started again, and what an earlier run left behind.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use kubeworld::cluster::kubeconfig;
use rustix::process::Signal;
use serde_json::json;
use tokio::sync::watch;

use super::Component;
use crate::process::{self, Launch, Process};

/// How long a component may take to become ready. A start takes seconds; four at once on two busy cores took 20 s, and
/// a wait that is too long costs only a test that fails anyway.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// How long a component may take to stop before it is killed. They take a second; only an API server with watchers that
/// do not let go takes a minute, which is not worth waiting for.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// The processes of one cluster and how to start them again.
pub(super) struct Processes {
    launches: BTreeMap<Component, Launch>,
    running: Mutex<BTreeMap<Component, Process>>,
    state_file: PathBuf,
}

impl Processes {
    pub(super) fn new(launches: BTreeMap<Component, Launch>, dir: &Path) -> Self {
        Self { launches, running: Mutex::default(), state_file: state_file(dir) }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Component, Process>> {
        // A panic of another holder leaves the map whole: every change of it is one insert or remove.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn start(&self, component: Component) -> anyhow::Result<()> {
        let launch = self.launches.get(&component).with_context(|| format!("{component} is not part of a cluster"))?;
        let mut running = self.lock();
        if let Some(process) = running.get(&component).filter(|process| process.is_running()) {
            bail!("{component} runs already, as process {}", process.pid());
        }
        running.insert(component, Process::start(launch)?);
        let pids: BTreeMap<&str, u32> =
            running.iter().map(|(component, process)| (component.program(), process.pid())).collect();
        kubeconfig::write_private(&self.state_file, &json!(pids).to_string())?;
        Ok(())
    }

    pub(super) fn running(&self) -> BTreeMap<Component, u32> {
        let running = self.lock();
        let alive = running.iter().filter(|(_, process)| process.is_running());
        alive.map(|(component, process)| (*component, process.pid())).collect()
    }

    pub(super) fn signal(
        &self,
        component: Component,
        signal: Signal,
    ) -> anyhow::Result<watch::Receiver<Option<ExitStatus>>> {
        let running = self.lock();
        let process = running
            .get(&component)
            .filter(|process| process.is_running())
            .with_context(|| format!("{component} does not run; `revive` starts it again"))?;
        process.signal(signal);
        Ok(process.exit())
    }

    /// Awaits what shows that a component is ready, but no longer than it lives, nor for ever.
    pub(super) async fn until<T>(
        &self,
        component: Component,
        what: &str,
        ready: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let mut exit = self.lock().get(&component).map(Process::exit).context("not started")?;
        let tail = || self.launches.get(&component).map(|launch| process::log_tail(&launch.log)).unwrap_or_default();
        tokio::select! {
            ready = ready => ready.with_context(|| format!("waiting for {component} {what}")).with_context(tail),
            how = process::ended(&mut exit) => Err(anyhow!("{component} ended ({how}) instead {what}\n{}", tail())),
            () = tokio::time::sleep(READY_WITHIN) => {
                Err(anyhow!("waited {} s for {component} {what}\n{}", READY_WITHIN.as_secs(), tail()))
            }
        }
    }

    pub(super) async fn stop(&self) -> Vec<Component> {
        let mut killed = Vec::new();
        for component in Component::ALL.into_iter().rev() {
            let process = self.lock().remove(&component);
            if let Some(process) = process
                && process.is_running()
                && !process::stop(&process, STOP_WITHIN).await
            {
                killed.push(component);
            }
        }
        // Left behind it would only be read as "nothing of this runs".
        let _ = std::fs::remove_file(&self.state_file);
        killed
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        // In stopping order, though all are killed: `BTreeMap` would begin with etcd.
        let mut running = std::mem::take(&mut *self.lock());
        while let Some((_, process)) = running.pop_last() {
            drop(process);
        }
        let _ = std::fs::remove_file(&self.state_file);
    }
}

fn state_file(dir: &Path) -> PathBuf {
    dir.join("processes.json")
}

/// Refuses a directory in which an earlier run left processes; two API servers over one set of files help nobody.
pub(super) fn refuse_running(dir: &Path) -> anyhow::Result<()> {
    let path = state_file(dir);
    let Ok(text) = std::fs::read(&path) else { return Ok(()) };
    // A file cut short by a crash says nothing about processes; it is written over.
    let Ok(pids) = serde_json::from_slice::<BTreeMap<String, u32>>(&text) else {
        return Ok(());
    };
    // The number may be another's by now: only a command line that names this directory is one of ours.
    let marker = dir.display().to_string();
    let ours = |pid: &u32| {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).contains(&marker)
    };
    let alive: Vec<String> =
        pids.iter().filter(|(_, pid)| ours(pid)).map(|(name, pid)| format!("{name} ({pid})")).collect();
    ensure!(
        alive.is_empty(),
        "an earlier run in {marker} left processes behind: {}; end them, or choose another directory",
        alive.join(", ")
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_directory_in_use_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let launch = Launch {
            name: "etcd",
            program: PathBuf::from("/bin/sh"),
            args: vec!["-c".to_owned(), "echo up; sleep 1000; :".to_owned(), dir.path().display().to_string()],
            log: dir.path().join("log"),
            home: dir.path().to_owned(),
            namespace: None,
        };
        let processes = Processes::new(BTreeMap::from([(Component::Etcd, launch)]), dir.path());
        processes.start(Component::Etcd).unwrap();
        let pid = processes.running().into_values().next().unwrap();
        // Its command line can be read once it runs.
        while !process::log_tail(&dir.path().join("log")).contains("up") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let error = refuse_running(dir.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("etcd ({pid})")), "{error}");
        drop(processes);
        refuse_running(dir.path()).unwrap();
    }
}
