// SPDX-License-Identifier: Apache-2.0
//! Token of the plugins: asked of the API server for their service account and bound to no pod, so that none ends with
//! a rollout; renewed at a start and at 80 % of its life. While the API server is away, the old one is good as long
//! as it lives.

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::PostParams;
use sluice_install::{Installation, Kubeconfig, pem, token_times};
use tokio::time::{Instant, timeout};

use super::step;
use crate::cluster;
use crate::config::InstallConfig;
use crate::context::Context;
use crate::parts::PartError;

/// Name by which the kubeconfig says who keeps it.
const KEEPER: &str = "sluice-agent";
/// Time limit of one request.
const PATIENCE: Duration = Duration::from_secs(10);
/// First pause after a request that failed; it doubles.
const PAUSE: Duration = Duration::from_secs(1);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Keeper of the kubeconfig.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    /// Whether this process has renewed the token.
    renewed: bool,
    /// Failure of the last request, the moment of the next, and the pause before it.
    failed: Option<(String, Instant, Duration)>,
}

impl Keeper {
    /// Renews the token if that is due.
    ///
    /// # Errors
    /// There is no token that is good.
    pub(super) async fn keep(
        &mut self,
        context: &Context,
        config: &InstallConfig,
    ) -> Result<(), PartError> {
        let there =
            Kubeconfig::read(&config.plan.kubeconfig()).filter(|there| there.keeper == KEEPER);
        let (server, ca) = api_server(context, config).await?;
        let now = wall_clock();
        let times = there.as_ref().and_then(|there| token_times(&there.token));
        let same = there
            .as_ref()
            .is_some_and(|there| there.server == server && there.ca == ca);
        let due = !self.renewed || !same || times.is_none_or(|times| now >= times.renew_at());
        let pauses = self
            .failed
            .as_ref()
            .is_some_and(|(_, at, _)| Instant::now() < *at);
        if due && !pauses {
            match request(context, config).await {
                Ok(token) => {
                    let kubeconfig = Kubeconfig {
                        server,
                        ca,
                        token,
                        keeper: KEEPER.to_owned(),
                    };
                    let write = move |node: &mut Installation| node.kubeconfig(&kubeconfig);
                    step(&config.plan, write).await?;
                    self.renewed = true;
                    self.failed = None;
                    return Ok(());
                }
                Err(error) => {
                    let pause = self
                        .failed
                        .as_ref()
                        .map_or(PAUSE, |(_, _, pause)| *pause * 2);
                    let pause = pause.min(LONGEST_PAUSE);
                    let why = format!("{error:#}");
                    if self
                        .failed
                        .as_ref()
                        .is_none_or(|(before, ..)| *before != why)
                    {
                        tracing::warn!(
                            "the plugins' token was not renewed, and is asked for again: {why}"
                        );
                    }
                    self.failed = Some((why, Instant::now() + pause, pause));
                }
            }
        }
        let Some((why, ..)) = &self.failed else {
            return Ok(());
        };
        match times {
            Some(times) if now < times.ends && same => Ok(()),
            Some(times) if now >= times.ends => {
                bail!("the plugins' token has ended, and cannot be renewed: {why}")
            }
            _ => bail!("the plugins have no token yet: {why}"),
        }
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "a token's claims are moments of the wall clock"
)]
fn wall_clock() -> SystemTime {
    SystemTime::now()
}

/// Address and authorities of the API server, for the plugins: those that the agent itself has.
async fn api_server(
    context: &Context,
    config: &InstallConfig,
) -> Result<(String, Option<String>), PartError> {
    let own = cluster::config(context).await?;
    let server = match &config.server {
        Some(server) => server.clone(),
        None => own.cluster_url.to_string().trim_end_matches('/').to_owned(),
    };
    Ok((server, own.root_cert.as_deref().map(pem)))
}

async fn request(context: &Context, config: &InstallConfig) -> Result<String, PartError> {
    let client = cluster::client(context).await?;
    let accounts: Api<ServiceAccount> = Api::namespaced(client, &config.account_namespace);
    // No bound object: the token of a pod ends with the pod.
    let request = TokenRequest {
        spec: TokenRequestSpec {
            expiration_seconds: Some(config.token_seconds.into()),
            ..TokenRequestSpec::default()
        },
        ..TokenRequest::default()
    };
    let what = format!(
        "token for service account {}/{}",
        config.account_namespace, config.account
    );
    let params = PostParams::default();
    let asked = accounts.create_token_request(&config.account, &params, &request);
    let answer = timeout(PATIENCE, asked).await.with_context(|| {
        format!(
            "{what}: the API server gave no answer in {} s",
            PATIENCE.as_secs()
        )
    })?;
    let answer = answer.map_err(|error| {
        let hint = match &error {
            kube::Error::Api(status) if status.code == 404 => {
                ": apply deploy/base/rbac.yaml, which has that account"
            }
            kube::Error::Api(status) if status.code == 403 => {
                ": apply deploy/base/rbac.yaml, which grants that"
            }
            _ => "",
        };
        anyhow::Error::new(error).context(format!("{what}{hint}"))
    })?;
    let token = answer.status.map(|status| status.token).unwrap_or_default();
    anyhow::ensure!(!token.is_empty(), "{what}: the answer has none");
    Ok(token)
}
