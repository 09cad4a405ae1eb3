// SPDX-License-Identifier: Apache-2.0
//! The API server.

use anyhow::Context as _;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::context::Context;

/// Makes a client with the agent's kubeconfig or, without one, the service account of its pod. Nothing is asked yet.
///
/// It has the plugins' own connector: proxies, certificates and names are taken as a plugin on this node takes them,
/// and no name is looked up by the C library, which is static.
///
/// # Errors
/// The credentials cannot be read.
pub async fn client(context: &Context) -> anyhow::Result<Client> {
    let kubeconfig = context.config.kubeconfig.as_deref();
    sluicegate::multus::api_client(kubeconfig).await.map_err(|error| {
        let hint = match kubeconfig {
            Some(_) => "",
            None => "; there is no `kubeconfig` in the agent's configuration, so this must be a pod with a service account",
        };
        anyhow::anyhow!("{error}{hint}")
    })
}

/// Reads the address and the authorities of the API server, for a kubeconfig of the plugins.
///
/// # Errors
/// The agent's own credentials cannot be read.
pub(crate) async fn config(context: &Context) -> anyhow::Result<Config> {
    match &context.config.kubeconfig {
        Some(path) => {
            let of = || format!("kubeconfig {}", path.display());
            let file = Kubeconfig::read_from(path).with_context(of)?;
            let options = KubeConfigOptions::default();
            Config::from_custom_kubeconfig(file, &options).await.with_context(of)
        }
        None => Config::incluster().context(
            "there is no `kubeconfig` in the agent's configuration, and this is no pod with a service account",
        ),
    }
}
