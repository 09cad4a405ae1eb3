// SPDX-License-Identifier: Apache-2.0
//! The API server.

use anyhow::Context as _;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::context::Context;

/// Makes a client with the agent's kubeconfig or, without one, the service account of its pod. Nothing is asked yet.
///
/// # Errors
/// The credentials cannot be read.
pub async fn client(context: &Context) -> anyhow::Result<Client> {
    let config = match &context.config.kubeconfig {
        Some(path) => {
            let of = || format!("kubeconfig {}", path.display());
            let file = Kubeconfig::read_from(path).with_context(of)?;
            let options = KubeConfigOptions::default();
            Config::from_custom_kubeconfig(file, &options)
                .await
                .with_context(of)?
        }
        None => Config::incluster().context(
            "there is no `kubeconfig` in the agent's configuration, and this is no pod with a service account",
        )?,
    };
    Ok(Client::try_from(config)?)
}
