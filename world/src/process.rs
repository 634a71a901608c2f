//! A child process that cannot outlive this program.
//!
//! Three layers, because each has a hole. [`Process`] kills on drop, but a program that is killed drops nothing. Hence
//! the kernel kills the child when its parent thread ends (`PR_SET_PDEATHSIG`, set by `setpriv` of util-linux, since
//! setting it here would need `unsafe`); the thread that starts the child therefore does nothing but wait for it. Where
//! `setpriv` is missing, the state file of a cluster lets its next start name what was left behind; whoever else uses this
//! leaves it behind.
//!
//! Each child leads a process group, so that Ctrl-C on a terminal reaches this program only, which then stops the
//! children in their proper order.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, anyhow};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::sync::watch;

use crate::network::net_argument;

/// What to run. Kept, so that a killed process can be started again with the same arguments.
#[derive(Clone, Debug)]
pub struct Launch {
    /// For messages.
    pub name: &'static str,
    /// The file to run.
    pub program: PathBuf,
    /// Its arguments, without its name.
    pub args: Vec<String>,
    /// Output of both streams is appended here.
    pub log: PathBuf,
    /// `HOME` and working directory: the programs must not find the user's own configuration.
    pub home: PathBuf,
    /// The network namespace to run in, by its name; `None` for this program's own.
    pub namespace: Option<String>,
}

/// A running or ended child.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    exit: watch::Receiver<Option<ExitStatus>>,
    waiter: Option<JoinHandle<()>>,
}

impl Process {
    /// Starts it, in a process group of its own.
    ///
    /// # Errors
    /// When the log cannot be opened, or there is no such program.
    pub fn start(launch: &Launch) -> anyhow::Result<Self> {
        let (started, pid) = mpsc::channel();
        let (ended, exit) = watch::channel(None);
        let mut command = command(launch)?;
        let waiter = std::thread::Builder::new()
            .name(format!("wait-{}", launch.name))
            .spawn(move || {
                let mut child = match command.spawn() {
                    Ok(child) => child,
                    Err(error) => {
                        let _ = started.send(Err(error));
                        return;
                    }
                };
                let _ = started.send(Ok(child.id()));
                // The only error of `wait` is that somebody else has reaped the child: it has ended in any case.
                let status = child.wait().unwrap_or_else(|_| ExitStatus::from_raw(0));
                let _ = ended.send(Some(status));
            })
            .with_context(|| format!("starting the thread that waits for {}", launch.name))?;
        let pid = pid
            .recv()
            .map_err(|_| anyhow!("the thread that waits for {} ended early", launch.name))?
            .with_context(|| format!("starting {}", launch.program.display()))?;
        Ok(Self { pid, exit, waiter: Some(waiter) })
    }

    /// Its number, which may be another's once it has ended.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it has not ended.
    pub fn is_running(&self) -> bool {
        self.exit.borrow().is_none()
    }

    /// Follows the end of this process; several may.
    pub(crate) fn exit(&self) -> watch::Receiver<Option<ExitStatus>> {
        self.exit.clone()
    }

    /// Signals the process and what it started. One that has ended is left alone: its number may be another's by now.
    pub(crate) fn signal(&self, signal: Signal) {
        if !self.is_running() {
            return;
        }
        if let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) {
            // It may end between the check and here; then there is nothing left to signal.
            let _ = kill_process_group(pid, signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        if let Some(waiter) = self.waiter.take() {
            let _ = waiter.join();
        }
    }
}

/// Waits for the end of a process.
pub(crate) async fn ended(exit: &mut watch::Receiver<Option<ExitStatus>>) -> String {
    match exit.wait_for(Option::is_some).await {
        Ok(status) => status.map_or_else(String::new, |status| status.to_string()),
        Err(_) => "its end was not observed".to_owned(),
    }
}

/// Asks a process to end, and kills it when it does not within `bound`. Returns whether it ended by itself.
pub(crate) async fn stop(process: &Process, bound: Duration) -> bool {
    let mut exit = process.exit();
    process.signal(Signal::TERM);
    // A frozen process acts on the request only when it runs again.
    process.signal(Signal::CONT);
    let by_itself = tokio::time::timeout(bound, ended(&mut exit)).await.is_ok();
    if !by_itself {
        process.signal(Signal::KILL);
        ended(&mut exit).await;
    }
    by_itself
}

/// The last lines of a log, for an error message.
pub fn log_tail(path: &Path) -> String {
    /// Enough for the message before a crash; an apiserver writes much more.
    const LINES: usize = 15;
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines.get(lines.len().saturating_sub(LINES)..).unwrap_or_default().join("\n  ");
    format!("last lines of {}:\n  {tail}", path.display())
}

fn command(launch: &Launch) -> anyhow::Result<Command> {
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&launch.log)
        .with_context(|| format!("opening {}", launch.log.display()))?;
    let errors = log.try_clone().with_context(|| format!("sharing {}", launch.log.display()))?;
    // Each of these becomes the next by exec, so that the number of the process stays.
    let mut words: Vec<OsString> = vec![];
    if let Some(namespace) = &launch.namespace {
        words.extend(["nsenter".into(), net_argument(namespace).into(), "--".into()]);
    }
    if let Some(setpriv) = setpriv() {
        words.push(setpriv.into());
        words.extend(["--pdeathsig", "KILL", "--"].map(OsString::from));
    }
    words.push(launch.program.clone().into());
    words.extend(launch.args.iter().map(OsString::from));
    let (program, args) = words.split_first().context("a program to run")?;
    let mut command = Command::new(program);
    command
        .args(args)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", &launch.home)
        .current_dir(&launch.home)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .process_group(0);
    Ok(command)
}

fn setpriv() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join("setpriv")).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch(dir: &Path, program: &str, args: &[&str]) -> Launch {
        Launch {
            name: "test",
            program: PathBuf::from(program),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            log: dir.join("log"),
            home: dir.to_owned(),
            namespace: None,
        }
    }

    #[tokio::test]
    async fn a_dropped_process_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let process = Process::start(&launch(dir.path(), "/bin/sleep", &["1000"])).unwrap();
        let proc = PathBuf::from(format!("/proc/{}", process.pid()));
        assert!(proc.exists() && process.is_running());
        drop(process);
        assert!(!proc.exists());
    }

    #[tokio::test]
    async fn stop_kills_what_ignores_the_request() {
        let dir = tempfile::tempdir().unwrap();
        let script = "trap '' TERM; echo ready; while :; do sleep 1000; done";
        let process = Process::start(&launch(dir.path(), "/bin/sh", &["-c", script])).unwrap();
        while !log_tail(&dir.path().join("log")).contains("ready") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(!stop(&process, Duration::from_millis(50)).await);
        assert!(!process.is_running());
    }

    #[tokio::test]
    async fn a_frozen_process_stops_by_itself() {
        let dir = tempfile::tempdir().unwrap();
        let process = Process::start(&launch(dir.path(), "/bin/sleep", &["1000"])).unwrap();
        process.signal(Signal::STOP);
        assert!(stop(&process, Duration::from_secs(60)).await);
    }

    #[tokio::test]
    async fn the_end_and_the_last_words_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let process =
            Process::start(&launch(dir.path(), "/bin/sh", &["-c", "echo out; echo err >&2; exit 3"])).unwrap();
        assert_eq!(ended(&mut process.exit()).await, "exit status: 3");
        let tail = log_tail(&dir.path().join("log"));
        assert!(tail.ends_with("out\n  err"), "{tail}");
    }
}
