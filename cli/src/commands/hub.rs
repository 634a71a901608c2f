//! `isochrone hub`.

use anyhow::{Context as _, Result, bail};
use controller::runtime::{Config, run as run_hub};

use super::{kube_client, until_signal};
use crate::args::HubArgs;

pub(super) async fn run(args: HubArgs) -> Result<()> {
    for address in &args.advertise {
        let port = address.rsplit_once(':').and_then(|(host, port)| (!host.is_empty()).then(|| port.parse::<u16>()));
        if !matches!(port, Some(Ok(_))) {
            bail!("--advertise {address} has no port: write HOST:PORT, such as hub.example.com:7443");
        }
    }
    // A database that is none would be refused by every DNS node, and with it every snapshot.
    for file in &args.geoip {
        ::dns::locate::open(file).context("--geoip")?;
    }
    let config = Config {
        client: kube_client(&args.kube).await?,
        namespace: args.kube.namespace,
        // The Lease names its holder: two starts of one machine must differ.
        identity: format!("{}-{}", host_name(), tunnel::identity::random_id()),
        listen: args.listen,
        advertise: args.advertise,
        admin: args.admin,
        geoip: args.geoip,
        region: args.region,
        certificate_lifetime: args.certificate_lifetime,
    };
    run_hub(config, until_signal()?).await.context("hub")
}

/// The pod's or machine's name, for people.
pub(super) fn host_name() -> String {
    std::env::var("HOSTNAME")
        .or_else(|_| std::fs::read_to_string("/proc/sys/kernel/hostname").map(|s| s.trim().to_owned()))
        .unwrap_or_else(|_| "unnamed".to_owned())
}
