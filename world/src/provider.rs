//! What the clusters of a world are made of. Everything else about a world is the same, so that one test runs on either.
//!
//! * [`Provider::Real`] is Kubernetes: what it accepts, defaults, refuses and audits is right by definition, and its parts
//!   are processes that can be killed, frozen and set back.
//! * [`Provider::Memory`] starts in a moment, wants one program instead of five, and is held against the real one case by
//!   case. It lives and dies with this program; what only processes can do is refused
//!   ([`Cluster::kill`](crate::Cluster::kill) and its like), and so are network namespaces.

use std::path::PathBuf;

use anyhow::Context;

use crate::assets::{ASSETS_VARIABLE, Assets, KUBECTL};

/// What clusters are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Provider {
    /// Kubernetes' own components, as processes.
    Real(Assets),
    /// [`kubeworld`], the Kubernetes API from memory, inside this program.
    Memory {
        /// What [`Cluster::kubectl`](crate::Cluster::kubectl) runs: who asks is as real as ever.
        kubectl: PathBuf,
    },
}

impl Provider {
    /// Clusters from memory, with the kubectl of `cargo xtask test` where that provided one, else that in `PATH`.
    ///
    /// # Errors
    /// When there is neither.
    pub fn memory_from_env() -> anyhow::Result<Self> {
        let given = std::env::var_os(ASSETS_VARIABLE).map(PathBuf::from);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let dirs = given.into_iter().chain(std::env::split_paths(&path));
        let found = dirs.map(|dir| dir.join(KUBECTL)).find(|program| program.is_file());
        let kubectl = found.with_context(|| {
            format!(
                "there is no {KUBECTL}, neither in ${ASSETS_VARIABLE} nor in PATH: install one, or run `cargo xtask test`, \
                 which builds one, or leave these tests out with `-- --skip real_`"
            )
        })?;
        let kubectl = std::path::absolute(&kubectl).with_context(|| format!("resolving {}", kubectl.display()))?;
        Ok(Self::Memory { kubectl })
    }

    pub(crate) fn kubectl(&self) -> PathBuf {
        match self {
            Self::Real(assets) => assets.program(KUBECTL),
            Self::Memory { kubectl } => kubectl.clone(),
        }
    }
}

impl From<&Assets> for Provider {
    fn from(assets: &Assets) -> Self {
        Self::Real(assets.clone())
    }
}
