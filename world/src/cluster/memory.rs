//! A cluster from memory, inside this program.
//!
//! Its nodes are like those of a real one, so that the same is scheduled in the same places. Cluster IPs come from the
//! same network. There is no other difference that is meant; which there are, `docs/kubeworld.md` says.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use kubeworld::Options;
use kubeworld::controllers::{NodeSettings, Settings};

use super::{Access, ClusterSpec, default_account, node_name, node_zone, nodes_ready};
use crate::clients;

/// A start takes a fraction of a second; this only ends one that would never end, such as with a capacity that is no
/// quantity, which no node can announce.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// What serves.
#[derive(Debug)]
pub(super) struct Memory {
    inner: kubeworld::cluster::Cluster,
}

impl Memory {
    pub(super) async fn start(spec: &ClusterSpec) -> anyhow::Result<(Self, Access)> {
        ensure!(
            spec.place.namespace.is_none(),
            "a cluster from memory lives in this program and so in its network: use Network::Loopback"
        );
        let node = |number| NodeSettings {
            place: Some((spec.region.clone(), node_zone(spec, number))),
            capacity: spec.node_capacity.clone(),
            ..NodeSettings::new(node_name(spec, number))
        };
        let nodes = (1..=spec.nodes).map(node).collect();
        let inner = kubeworld::cluster::ClusterSpec {
            name: spec.name.clone(),
            // Any free port: it is never given back, since this server cannot be killed and revived.
            listen: (spec.place.address, 0).into(),
            reached_at: None,
            options: Options::of(&spec.name),
            settings: Settings { nodes, ..Settings::default() },
        };
        let inner = kubeworld::cluster::Cluster::start(inner, Arc::new(jiff::Timestamp::now)).await?;
        let access = Access {
            api_url: inner.url().to_owned(),
            ca_pem: inner.ca_pem().to_owned(),
            admin: inner.admin_kubeconfig(),
        };
        let client = clients::by_content(access.admin.clone()).await?;
        let ready = async {
            nodes_ready(&client, spec).await?;
            default_account(&client).await
        };
        let ready = tokio::time::timeout(READY_WITHIN, ready).await;
        ready.with_context(|| format!("its nodes are not Ready within {} s", READY_WITHIN.as_secs()))??;
        Ok((Self { inner }, access))
    }

    pub(super) async fn stop(self) {
        self.inner.stop().await;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use k8s_openapi::api::core::v1::Node;
    use kube::Api;

    use crate::{Cluster, ClusterSpec, Component, Place, Provider};

    fn provider() -> Provider {
        Provider::Memory { kubectl: PathBuf::from("/nobody/asks/for/it") }
    }

    #[tokio::test]
    async fn its_nodes_are_as_those_of_a_real_one() {
        let dir = tempfile::tempdir().unwrap();
        let capacity = BTreeMap::from([("cpu".to_owned(), "3".to_owned()), ("pods".to_owned(), "5".to_owned())]);
        let spec = ClusterSpec {
            region: "eu-central".to_owned(),
            node_capacity: capacity.clone(),
            ..ClusterSpec::new("fra", dir.path())
        };
        let cluster = Cluster::start(provider(), spec).await.unwrap();
        let nodes = Api::<Node>::all(cluster.client());
        for (name, zone) in [("fra-1", "eu-central-1"), ("fra-2", "eu-central-2")] {
            let node = nodes.get(name).await.unwrap();
            let labels = node.metadata.labels.unwrap();
            assert_eq!(labels["topology.kubernetes.io/region"], "eu-central");
            assert_eq!(labels["topology.kubernetes.io/zone"], zone);
            let offered = node.status.unwrap().allocatable.unwrap();
            let offered: BTreeMap<_, _> = offered.into_iter().map(|(name, amount)| (name, amount.0)).collect();
            assert_eq!(offered, capacity);
        }
        // Others in the same world are told apart by it.
        assert_ne!(cluster.uid(), "");
        assert!(cluster.admin_kubeconfig().is_file());
        cluster.stop().await;
    }

    #[tokio::test]
    async fn what_only_processes_can_do_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let cluster = Cluster::start(provider(), ClusterSpec::new("iad", dir.path())).await.unwrap();
        let said = [
            cluster.kill(Component::ApiServer).await,
            cluster.revive(Component::ApiServer).await,
            cluster.freeze(Component::ApiServer),
            cluster.thaw(Component::ApiServer),
            cluster.log(Component::ApiServer).map(drop),
        ];
        for error in said {
            let words = "the cluster iad is from memory and has no kube-apiserver: this needs Provider::Real";
            assert_eq!(error.unwrap_err().to_string(), words);
        }
        assert!(cluster.audit_log().unwrap_err().to_string().contains("no audit log"));
        assert!(cluster.backup(dir.path()).await.unwrap_err().to_string().contains("no store on disk"));
        assert!(cluster.restore(dir.path()).await.unwrap_err().to_string().contains("no store on disk"));
        assert_eq!(cluster.processes(), BTreeMap::new());
        // It answers all the while, and ends with what holds it.
        cluster.client().apiserver_version().await.unwrap();
        let address = cluster.api_url().trim_start_matches("https://").to_owned();
        drop(cluster);
        while tokio::net::TcpStream::connect(&address).await.is_ok() {
            tokio::task::yield_now().await;
        }

        let place = Place { namespace: Some("elsewhere".to_owned()), ..Place::LOCAL };
        let spec = ClusterSpec { place, ..ClusterSpec::new("sin", dir.path()) };
        let error = format!("{:#}", Cluster::start(provider(), spec).await.unwrap_err());
        assert!(error.contains("starting the cluster sin") && error.contains("use Network::Loopback"), "{error}");
    }
}
