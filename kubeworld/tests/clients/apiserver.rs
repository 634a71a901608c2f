//! The real server that a transcript is compared with.

use std::time::{Duration, Instant};

use anyhow::ensure;
use rcgen::KeyPair;

use crate::processes::{Processes, READY_WITHIN};
use crate::terminal::Terminal;
use crate::world::TOKEN;

/// etcd and kube-apiserver.
pub(crate) struct Server {
    processes: Processes,
    _dir: tempfile::TempDir,
}

/// A terminal whose server is a new one, and ready.
pub(crate) fn with_terminal(version: Option<&str>) -> anyhow::Result<(Terminal, Server)> {
    let mut server = Server::start()?;
    // The certificate that it makes for itself is taken as it is.
    let terminal = Terminal::new(version, &format!("https://127.0.0.1:{}", server.processes.port), None)?;
    server.until_ready(&terminal)?;
    Ok((terminal, server))
}

impl Server {
    fn start() -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let key = KeyPair::generate()?;
        for (name, text) in [
            ("tokens.key", key.serialize_pem()),
            ("tokens.pub", key.public_key_pem()),
            ("tokens.csv", format!("{TOKEN},admin,uid-of-admin,system:masters\n")),
        ] {
            std::fs::write(dir.path().join(name), text)?;
        }
        Ok(Self { processes: Processes::start(dir.path())?, _dir: dir })
    }

    fn until_ready(&mut self, terminal: &Terminal) -> anyhow::Result<()> {
        let started = Instant::now();
        loop {
            let output = terminal.run(&["kubectl", "get", "--raw", "/readyz"], None)?;
            if output.code == 0 {
                return Ok(());
            }
            self.processes.check()?;
            let log = self.processes.log();
            ensure!(started.elapsed() < READY_WITHIN, "kube-apiserver is not ready: {output:?}\n{log}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}
