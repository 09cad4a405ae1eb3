// SPDX-License-Identifier: Apache-2.0
//! Reaper: releases what pods left that ended without a DEL. Container runtimes never look back, so that a crash or a
//! reboot leaves addresses, links, VFs and attachments for ever.
//!
//! | left | is released when | by |
//! |---|---|---|
//! | record of the plugins | its network namespace has been gone for `grace` | the DEL of the record, by the plugins |
//! | attachment of the engine without a record | the same, and the API server has no such pod on this node | detach |
//!
//! What has a namespace that lives is never touched. Without an API server only records are released.

mod child;
mod status;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use sluice_api::AttachmentStatus;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::config::ReaperConfig;
use crate::context::Context;
use crate::parts::Part;
use child::{Listed, Seen};

pub use child::become_child;
pub use status::{ReaperCounts, ReaperStatus};

/// The part.
pub const PART: Part = Part {
    name: "reaper",
    is_wanted: |context| context.config.reaper.is_some(),
    start: |context| Box::pin(run(context)),
};

/// Thing that a pod left, to be released.
#[derive(Debug, Clone)]
enum Left {
    Record(Listed),
    Attachment(Box<AttachmentStatus>),
}

impl Left {
    /// Name for people and for the time since which it is due.
    fn name(&self) -> String {
        let pod =
            |pod: Option<String>| pod.map_or_else(String::new, |pod| format!(" of pod {pod}"));
        match self {
            Left::Record(record) => format!(
                "{} record {}/{}{}",
                record.kind,
                record.container_id,
                record.ifname,
                pod(record.pod.clone())
            ),
            Left::Attachment(attachment) => {
                let request = &attachment.request;
                let name = request.pod.as_ref();
                let name = name.map(|pod| format!("{}/{}", pod.namespace, pod.name));
                format!(
                    "attachment {}/{}{}",
                    request.container_id,
                    request.ifname,
                    pod(name)
                )
            }
        }
    }
}

/// Runs for good.
async fn run(context: Arc<Context>) -> anyhow::Result<()> {
    let config = context.config.reaper.clone().unwrap_or_default();
    // Since when each thing is due.
    let mut due: BTreeMap<String, Instant> = BTreeMap::new();
    let mut ticks = interval(config.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match once(&context, &config, &mut due).await {
            Ok(()) => context.health.good(PART.name),
            Err(error) => context.health.bad(PART.name, format!("{error:#}")),
        }
    }
}

async fn once(
    context: &Context,
    config: &ReaperConfig,
    due: &mut BTreeMap<String, Instant>,
) -> anyhow::Result<()> {
    let left = look(context, config).await?;
    let names: BTreeSet<String> = left.iter().map(Left::name).collect();
    due.retain(|name, _| names.contains(name));
    let (mut released, mut failed) = (0, 0);
    for one in left {
        let name = one.name();
        let since = *due.entry(name.clone()).or_insert_with(Instant::now);
        if since.elapsed() < config.grace {
            continue;
        }
        if config.dry_run {
            tracing::info!("would release {name}: its pod is gone");
            continue;
        }
        match release(context, config, one).await {
            Ok(()) => {
                tracing::info!("released {name}: its pod is gone");
                released += 1;
            }
            Err(error) => {
                tracing::warn!("{name} is not released, and will be tried again: {error:#}");
                failed += 1;
            }
        }
    }
    context.reaper.add(released, failed);
    Ok(())
}

/// Returns what is left of pods that are gone: records first, pods' before interfaces', as the DEL of a pod ends its
/// interfaces.
async fn look(context: &Context, config: &ReaperConfig) -> anyhow::Result<Vec<Left>> {
    // The engine first: an attachment that is made meanwhile has its record by then.
    let attachments = context.engine.ask(|client| client.attachments()).await;
    let attachments = attachments.unwrap_or_default();
    let namespaces = attachments.iter().map(|one| one.request.netns.clone());
    let namespaces = namespaces.collect();
    let (host_mounts, cni_dir) = (config.host_mounts, config.cni_dir.clone());
    let looked = move || child::seen(host_mounts, &cni_dir, namespaces);
    let Seen { records, gone } = tokio::task::spawn_blocking(looked).await??;
    let recorded = |attachment: &AttachmentStatus| {
        let request = &attachment.request;
        records.iter().any(|record| {
            record.container_id == request.container_id
                && (record.kind == "pod" || record.ifname == request.ifname)
        })
    };
    let lost: Vec<AttachmentStatus> = attachments
        .iter()
        .zip(gone)
        .filter(|(attachment, gone)| *gone && !recorded(attachment))
        .map(|(attachment, _)| attachment.clone())
        .collect();
    let records = records.iter().filter(|record| record.due).cloned();
    let mut left: Vec<Left> = records.map(Left::Record).collect();
    if !lost.is_empty() {
        match pods(context).await {
            Ok(pods) => {
                let lost = lost.into_iter().filter(|one| !is_known(&pods, one));
                left.extend(lost.map(|one| Left::Attachment(Box::new(one))));
            }
            Err(error) => tracing::debug!("attachments without a record are left alone: {error:#}"),
        }
    }
    Ok(left)
}

/// Pods of this node by the API server.
async fn pods(context: &Context) -> anyhow::Result<Vec<Pod>> {
    let node = &context.config.node;
    anyhow::ensure!(
        !node.is_empty(),
        "the node's name is not known: `node`, or --node"
    );
    let client = crate::cluster::client(context).await?;
    let of_node = ListParams::default().fields(&format!("spec.nodeName={node}"));
    Ok(Api::<Pod>::all(client).list(&of_node).await?.items)
}

/// Whether the pod of an attachment is among these, or cannot be told.
fn is_known(pods: &[Pod], attachment: &AttachmentStatus) -> bool {
    let Some(asked) = &attachment.request.pod else {
        return true;
    };
    pods.iter()
        .any(|pod| match (&asked.uid, &pod.metadata.uid) {
            (Some(asked), Some(uid)) => asked == uid,
            _ => {
                pod.metadata.name.as_ref() == Some(&asked.name)
                    && pod.metadata.namespace.as_ref() == Some(&asked.namespace)
            }
        })
}

async fn release(context: &Context, config: &ReaperConfig, left: Left) -> anyhow::Result<()> {
    match left {
        Left::Record(record) => {
            let (host_mounts, cni_dir) = (config.host_mounts, config.cni_dir.clone());
            let deleting = move || child::del(host_mounts, &cni_dir, &record);
            tokio::task::spawn_blocking(deleting).await?
        }
        Left::Attachment(attachment) => {
            let request = attachment.request;
            let detach = move |client: &sluice_api::client::Client| {
                client.detach(&request.container_id, &request.ifname)
            };
            context.engine.ask(detach).await?;
            Ok(())
        }
    }
}
