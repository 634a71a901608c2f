//! `isochrone agent`.

use anyhow::{Context as _, Result};

use super::hub::host_name;
use super::{kube_config, until_signal};
use crate::args::AgentArgs;

pub(super) async fn run(args: AgentArgs) -> Result<()> {
    let config = ::agent::runtime::Config {
        kube: kube_config(&args.kube).await?,
        namespace: args.kube.namespace,
        join: args.join,
        instance: host_name(),
        admin: args.admin,
    };
    ::agent::runtime::run(config, until_signal()?).await.context("agent")
}
