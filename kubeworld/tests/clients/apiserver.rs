//! The real server that a transcript is compared with.

use rcgen::KeyPair;

use crate::processes::Processes;
use crate::terminal::Terminal;
use crate::world::TOKEN;

/// etcd and kube-apiserver.
pub(crate) struct Server {
    _processes: Processes,
    _dir: tempfile::TempDir,
}

/// A terminal whose server is a new one, and ready.
pub(crate) fn with_terminal(version: Option<&str>) -> anyhow::Result<(Terminal, Server)> {
    let dir = tempfile::tempdir()?;
    let key = KeyPair::generate()?;
    for (name, text) in [
        ("tokens.key", key.serialize_pem()),
        ("tokens.pub", key.public_key_pem()),
        ("tokens.csv", format!("{TOKEN},admin,uid-of-admin,system:masters\n")),
    ] {
        std::fs::write(dir.path().join(name), text)?;
    }
    let mut processes = Processes::start(dir.path())?;
    // The certificate that it makes for itself is taken as it is.
    let terminal = Terminal::new(version, &format!("https://127.0.0.1:{}", processes.port), None)?;
    processes.until_ready(|| match terminal.run(&["kubectl", "get", "--raw", "/readyz"], None) {
        Ok(output) if output.code == 0 => Ok(()),
        answer => Err(format!("{answer:?}")),
    })?;
    Ok((terminal, Server { _processes: processes, _dir: dir }))
}
