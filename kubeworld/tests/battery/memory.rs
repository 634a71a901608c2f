//! kubeworld, over its own HTTP shell: what is compared is what a client gets.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;

use anyhow::Context;
use jiff::Timestamp;
use kubeworld::serve::{Config, Server as Shell};
use kubeworld::{Api, Options, User};
use tokio::runtime::Runtime;

use crate::http::{Request, Response, exchange};
use crate::run::{ANSWER_WITHIN, Provider, USERS, bearer};

/// A server in this process.
pub(crate) struct Server {
    address: SocketAddr,
    // Kept alive; the runtime ends with it.
    _shell: Shell,
    _runtime: Runtime,
}

impl Server {
    pub(crate) fn start() -> anyhow::Result<Self> {
        let runtime = Runtime::new()?;
        let listener = runtime.block_on(tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let api = Api::new(Options { service_account_admission: false, ..Options::default() }, Timestamp::now());
        let tokens = USERS.map(|(name, groups)| (format!("token-of-{name}"), user(name, groups)));
        let config = Config { tokens: BTreeMap::from(tokens), ..Config::default() };
        let _within = runtime.enter();
        let shell = Shell::start(api, listener, config, Arc::new(Timestamp::now))?;
        drop(_within);
        Ok(Self { address: shell.address(), _shell: shell, _runtime: runtime })
    }
}

fn user(name: &str, groups: &str) -> User {
    let groups = groups.split(',').filter(|group| !group.is_empty()).map(str::to_owned);
    User {
        name: name.to_owned(),
        uid: format!("uid-of-{name}"),
        groups: groups.chain(["system:authenticated".to_owned()]).collect(),
        ..User::default()
    }
}

impl Provider for Server {
    fn send(&self, request: &Request) -> anyhow::Result<Response> {
        let stream = TcpStream::connect(self.address).context("connecting to kubeworld")?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        stream.set_nodelay(true)?;
        exchange(stream, request)
    }

    fn credentials(&self, user: &str) -> Vec<(String, String)> {
        bearer(user)
    }
}
