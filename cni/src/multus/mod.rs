// SPDX-License-Identifier: Apache-2.0
//! `sluicegate`: the meta plugin. It makes no interface itself; it runs delegates.
//!
//! ADD goes through the modules in this order: `pod_context` (the pod, and the API server if there is one),
//! `ask` (what its annotations ask for), `networks` with `source` (where each network's configuration
//! is), `naming` (what its interface is called), `requirements` (what the pod wants of it); then every
//! delegate is run, with `routes` and `device_info` after each, and `status` tells the pod. DEL, CHECK
//! and GC go by `record` alone, or by `multus_cache` where Multus made the pod.

mod annotation;
mod capability;
mod check;
mod conf;
pub(crate) mod del;
mod device_info;
mod gc;
mod multus_cache;
mod naming;
mod network;
mod networks;
mod pod_context;
mod record;
mod requirements;
mod result_cache;
mod routes;
mod source;
mod status;

pub use conf::{DEFAULT_BIN_DIR, MetaConf};
pub use record::PodRecord;
pub use source::api_client;

use pod_context::PodContext;
use requirements::Requirements;

use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::spec::budget::{self, Budget};
use crate::spec::delegate::Delegate;
use crate::spec::exec::Runner;
use crate::spec::log::Log;
use crate::spec::progress::Progress;
use crate::spec::protocol::{Context, Plugin};
use crate::spec::{netns, result};
use crate::state::lock::ContainerLock;
use crate::{Error, state};

/// The meta plugin.
#[derive(Debug)]
pub struct Sluicegate;

impl Plugin for Sluicegate {
    const NAME: &'static str = "sluicegate";
    const ABOUT: &'static str =
        "sluicegate: CNI meta plugin that gives a pod several networks by running other plugins";

    fn add(&self, context: &Context) -> Result<Map<String, Value>, Error> {
        let log = &context.log;
        let conf = MetaConf::read(&context.conf)?;
        wait_until_ready(&conf, context.budget)?;
        let pod_context = PodContext::load(&conf, context)?;
        let added = add_all(&conf, context, &pod_context);
        match &added {
            Ok((record, requirements)) => write_status(&pod_context, record, requirements, log),
            Err(error) => pod_context.event("NetworkFailed", &error.to_string(), log),
        }
        answer(&added?.0, context)
    }

    fn del(&self, context: &Context) -> Result<(), Error> {
        let conf = MetaConf::read(&context.conf).unwrap_or_else(|error| {
            context.log.error(format_args!(
                "only what is on record can be deleted: {error}"
            ));
            MetaConf::for_del(&context.conf)
        });
        del::run(&conf, context)
    }

    fn check(&self, context: &Context) -> Result<(), Error> {
        let conf = MetaConf::read(&context.conf)?;
        if conf.disable_check {
            return Ok(());
        }
        let _lock = lock(&conf, context)?;
        check::run(&conf, context)
    }

    fn gc(&self, context: &Context) -> Result<(), Error> {
        gc::run(context)
    }

    /// Says whether pods would get their primary interface: the other networks' troubles must
    /// not make a node unready.
    fn status(&self, context: &Context) -> Result<(), Error> {
        let conf = MetaConf::read(&context.conf)?;
        if let Some(file) = conf.readiness_file.as_deref().filter(|file| !file.exists()) {
            return Err(not_ready(file, Error::Unavailable));
        }
        let runner = Runner::new(&context.call, &conf.bin_dir, &context.log);
        let Some(mut default) = default_network(&conf, context)? else {
            return Ok(());
        };
        // It is about no interface.
        default.ifname.clear();
        for program in default.programs() {
            runner
                .find(program)
                .map_err(|error| Error::Unavailable(error.to_string()))?;
        }
        default.status(&runner, context.budget).map(|_| ())
    }
}

/// Resolves the pod's networks and runs them all; what was begun is undone if one fails.
fn add_all(
    conf: &MetaConf,
    context: &Context,
    pod_context: &PodContext,
) -> Result<(PodRecord, Vec<Requirements>), Error> {
    let Context { call, log, .. } = context;
    let planned = networks::resolve(conf, pod_context, &call.ifname, log)?;
    let (mut delegates, requirements): (Vec<Delegate>, Vec<Requirements>) = planned
        .into_iter()
        .map(|planned| (planned.delegate, planned.requirements))
        .unzip();
    for (delegate, requirements) in delegates.iter_mut().zip(&requirements) {
        device_info::prepare(call, delegate, requirements);
    }
    let runner = Runner::new(call, &conf.bin_dir, log);
    for program in delegates.iter().flat_map(Delegate::programs) {
        runner.find(program)?;
    }
    let lock = lock(conf, context)?;
    let known = PodRecord::load(&conf.state_dir, &call.container_id, &call.ifname, log)?;
    let names: Vec<&str> = delegates
        .iter()
        .map(|delegate| delegate.ifname.as_str())
        .collect();
    if let Err(error) = netns::check_free(call, &names) {
        if known.is_none() {
            // The DEL that follows a failed ADD must not take the interface for ours.
            PodRecord::new(&conf.name, call, Vec::new()).save(&conf.state_dir)?;
        }
        return Err(error);
    }
    if let Some(old) = known {
        log.info(format_args!(
            "an earlier ADD left a record: undoing it first"
        ));
        del::finish(conf, old, call, log, context.budget)?;
    }

    for delegate in &mut delegates {
        let plugins = delegate.plugins.len();
        delegate.states.resize(plugins, Progress::NotRun.into());
    }
    let mut record = PodRecord::new(&conf.name, call, delegates);
    let added = run_all(
        &mut record,
        &requirements,
        &conf.state_dir,
        &runner,
        context.budget,
    )
    .and_then(|()| answer(&record, context));
    let error = match added {
        Ok(_) => return Ok((record, requirements)),
        Err(error) => error,
    };
    log.error(format_args!("undoing {} delegates: {error}", record.begun));
    match del::finish(conf, record, call, log, Budget::of(budget::DEL)) {
        Ok(()) => lock.remove(),
        Err(left) => log.error(format_args!("left for DEL, which will try again: {left}")),
    }
    Err(error)
}

/// Writes back to the pod what it got. That this fails must not cost the pod its networks.
fn write_status(
    pod_context: &PodContext,
    record: &PodRecord,
    requirements: &[Requirements],
    log: &Log,
) {
    let (Some(cluster), Some(pod)) = (&pod_context.cluster, &pod_context.pod) else {
        return;
    };
    let info =
        |index: usize| device_info::read(&record.delegates[index], &requirements[index], log);
    let written = status::annotations(&pod.annotations, &record.delegates, info)
        .and_then(|annotations| cluster.annotate(pod, &annotations));
    if let Err(error) = written {
        let text = format!("network-status was not written: {error}");
        log.error(format_args!("{text}"));
        pod_context.event("NetworkStatusFailed", &text, log);
    }
}

/// The default network's delegate, for STATUS. That it is an object which the API server does not give out
/// now says nothing of the node's networks.
fn default_network(conf: &MetaConf, context: &Context) -> Result<Option<Delegate>, Error> {
    let cluster = PodContext::cluster(conf, context);
    let pod_context = PodContext {
        cluster: cluster.map_err(|error| Error::Unavailable(error.to_string()))?,
        pod: None,
    };
    let names_one = !conf.delegates.is_empty() || conf.names.cluster_network.is_some();
    if pod_context.cluster.is_some() && !names_one {
        // Each pod names its own.
        return Ok(None);
    }
    match networks::resolve(conf, &pod_context, "eth0", &context.log) {
        Ok(planned) => Ok(planned.into_iter().next().map(|planned| planned.delegate)),
        Err(Error::TryAgain(why)) => {
            context.log.warning(format_args!("{why}"));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Takes the container's lock.
fn lock(conf: &MetaConf, context: &Context) -> Result<ContainerLock, Error> {
    state::make_dir(&conf.state_dir)?;
    let wait = context.budget.at_most(budget::LOCK);
    ContainerLock::take(
        &lock_dir(conf),
        &context.call.container_id,
        wait,
        &context.log,
    )
}

fn lock_dir(conf: &MetaConf) -> std::path::PathBuf {
    conf.state_dir.join("locks")
}

/// Runs every delegate's ADD. What is begun is on disk before it is begun.
fn run_all(
    record: &mut PodRecord,
    requirements: &[Requirements],
    state_dir: &Path,
    runner: &Runner<'_>,
    budget: Budget,
) -> Result<(), Error> {
    let call = runner.call();
    let route_plans = routes::plan(requirements);
    for index in 0..record.delegates.len() {
        if index > 0 {
            // An earlier delegate may have made more than it was asked for.
            netns::check_free(call, &[&record.delegates[index].ifname])?;
        }
        record.begun = index + 1;
        device_info::make_folder(&record.delegates[index], runner.log());
        for position in 0..record.delegates[index].plugins.len() {
            record.delegates[index].states[position].progress = Progress::Unknown;
            if let Err(error) = record.save(state_dir) {
                record.delegates[index].states[position].progress = Progress::NotRun;
                return Err(error);
            }
            record.delegates[index].add(position, runner, budget)?;
        }
        let delegate = &mut record.delegates[index];
        requirements[index].verify(delegate)?;
        routes::apply(call, delegate, &route_plans[index])?;
        delegate.has_link = match call.netns.as_deref() {
            Some(path) => netns::taken(path, &[&delegate.ifname])?.is_some(),
            None => false,
        };
        if let Err(error) = result_cache::save(state_dir, call, delegate) {
            // It is for others: the record has it too.
            runner.log().warning(format_args!("{error}"));
        }
        runner.log().info(format_args!(
            "network {} is on {}",
            delegate.name, delegate.ifname
        ));
    }
    record.complete = true;
    record.save(state_dir)
}

/// Result of the primary network in the version asked for.
fn answer(record: &PodRecord, context: &Context) -> Result<Map<String, Value>, Error> {
    let primary = record
        .delegates
        .first()
        .and_then(|primary| primary.result.as_ref());
    let primary =
        primary.ok_or_else(|| Error::Internal("the primary network has no result".into()))?;
    result::convert(primary, context.conf.version)
}

/// Waits for `readinessindicatorfile`, so that the default network's agent is up before its
/// plugin runs.
fn wait_until_ready(conf: &MetaConf, budget: Budget) -> Result<(), Error> {
    let Some(file) = &conf.readiness_file else {
        return Ok(());
    };
    // Half of the time: the delegates need theirs.
    let wait = budget.share(2);
    while !file.exists() {
        if wait.left().is_zero() {
            return Err(not_ready(file, Error::TryAgain));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn not_ready(file: &Path, kind: impl Fn(String) -> Error) -> Error {
    kind(format!(
        "readinessindicatorfile {} is not there: the default network is not ready yet",
        file.display()
    ))
}
