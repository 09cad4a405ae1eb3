//! `sluicegate`: the meta plugin. It makes no interface itself; it runs delegates.
//!
//! ADD goes through the modules in this order: `scene` (the pod, and the API server if there is one),
//! `ask` (what its annotations ask for), `networks` with `source` (where each network's configuration
//! is), `naming` (what its interface is called), `wishes` (what the pod wants of it); then every
//! delegate is run, with `routes` and `device_info` after each, and `status` tells the pod. DEL, CHECK
//! and GC go by `record` alone, or by `multus_cache` where Multus made the pod.

mod ask;
mod check;
mod conf;
mod device_info;
mod gc;
mod multus_cache;
mod naming;
mod networks;
mod record;
mod result_cache;
mod routes;
mod scene;
mod source;
mod status;
mod wanted;
mod wishes;

pub use conf::{DEFAULT_BIN_DIR, MetaConf};
pub use record::Record;

use scene::Scene;
use wishes::Wishes;

use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::budget::{self, Budget};
use crate::delegate::Delegate;
use crate::exec::Runner;
use crate::lock::Lock;
use crate::log::Log;
use crate::protocol::{Context, Plugin};
use crate::{Error, netns, result, store};

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
        let scene = Scene::look(&conf, context)?;
        let added = add_all(&conf, context, &scene);
        match &added {
            Ok((record, wishes)) => write_status(&scene, record, wishes, log),
            Err(error) => scene.event("NetworkFailed", &error.to_string(), log),
        }
        answer(&added?.0, context)
    }

    fn del(&self, context: &Context) -> Result<(), Error> {
        let Context { call, log, .. } = context;
        let conf = MetaConf::read(&context.conf).unwrap_or_else(|error| {
            log.error(format_args!(
                "only what is on record can be deleted: {error}"
            ));
            MetaConf::for_del(&context.conf)
        });
        let lock = lock(&conf, context)?;
        match Record::load(&conf.state_dir, &call.container_id, &call.ifname, log)? {
            Some(record) => {
                let mut call = call.clone();
                call.args = call.args.or_else(|| record.args.clone());
                let runner = Runner::new(&call, &conf.bin_dir, log);
                let errors = undo(record.to_undo(), &runner, &conf.state_dir, context.budget);
                Error::collect(errors)?;
            }
            None => del_without_record(&conf, context)?,
        }
        Record::remove(&conf.state_dir, &call.container_id, &call.ifname)?;
        lock.remove();
        Ok(())
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
        let Some(mut master) = default_network(&conf, context)? else {
            return Ok(());
        };
        // It is about no interface.
        master.ifname.clear();
        for program in master.programs() {
            runner
                .find(program)
                .map_err(|error| Error::Unavailable(error.to_string()))?;
        }
        master.status(&runner, context.budget).map(|_| ())
    }
}

/// Resolves the pod's networks and runs them all; what was begun is undone if one fails.
fn add_all(
    conf: &MetaConf,
    context: &Context,
    scene: &Scene,
) -> Result<(Record, Vec<Wishes>), Error> {
    let Context { call, log, .. } = context;
    let planned = networks::resolve(conf, scene, &call.ifname, log)?;
    let (mut delegates, wishes): (Vec<Delegate>, Vec<Wishes>) = planned
        .into_iter()
        .map(|planned| (planned.delegate, planned.wishes))
        .unzip();
    for (delegate, wishes) in delegates.iter_mut().zip(&wishes) {
        device_info::prepare(call, delegate, wishes);
    }
    let runner = Runner::new(call, &conf.bin_dir, log);
    for program in delegates.iter().flat_map(Delegate::programs) {
        runner.find(program)?;
    }
    let lock = lock(conf, context)?;
    let known = Record::load(&conf.state_dir, &call.container_id, &call.ifname, log)?;
    let names: Vec<&str> = delegates
        .iter()
        .map(|delegate| delegate.ifname.as_str())
        .collect();
    if let Err(error) = netns::check_free(call, &names) {
        if known.is_none() {
            // The DEL that follows a failed ADD must not take the interface for ours.
            Record::new(&conf.name, call, Vec::new()).save(&conf.state_dir)?;
        }
        return Err(error);
    }
    if let Some(old) = known {
        log.info(format_args!(
            "an earlier ADD left a record: undoing it first"
        ));
        let errors = undo(old.to_undo(), &runner, &conf.state_dir, context.budget);
        Error::collect(errors)?;
    }

    let mut record = Record::new(&conf.name, call, delegates);
    let added = run_all(
        &mut record,
        &wishes,
        &conf.state_dir,
        &runner,
        context.budget,
    )
    .and_then(|()| answer(&record, context));
    let error = match added {
        Ok(_) => return Ok((record, wishes)),
        Err(error) => error,
    };
    log.error(format_args!("undoing {} delegates: {error}", record.begun));
    let undone = undo(
        record.to_undo(),
        &runner,
        &conf.state_dir,
        Budget::of(budget::DEL),
    );
    if undone.is_empty() {
        Record::remove(&conf.state_dir, &call.container_id, &call.ifname)?;
        lock.remove();
    }
    for failure in undone {
        log.error(format_args!(
            "left for DEL, which will try again: {failure}"
        ));
    }
    Err(error)
}

/// Writes back to the pod what it got. That this fails must not cost the pod its networks.
fn write_status(scene: &Scene, record: &Record, wishes: &[Wishes], log: &Log) {
    let (Some(cluster), Some(pod)) = (&scene.cluster, &scene.pod) else {
        return;
    };
    let info = |index: usize| device_info::read(&record.delegates[index], &wishes[index], log);
    let written = status::annotations(&pod.annotations, &record.delegates, info)
        .and_then(|annotations| cluster.annotate(pod, &annotations));
    if let Err(error) = written {
        let text = format!("network-status was not written: {error}");
        log.error(format_args!("{text}"));
        scene.event("NetworkStatusFailed", &text, log);
    }
}

/// Nothing of ours is known of an ADD: what Multus knew of one is deleted, or else what the
/// configuration alone would have made.
fn del_without_record(conf: &MetaConf, context: &Context) -> Result<(), Error> {
    let Context { call, log, .. } = context;
    let runner = Runner::new(call, &conf.bin_dir, log);
    match multus_cache::load(&conf.multus_dir, &call.container_id, &call.ifname) {
        Ok(Some(delegates)) => {
            log.info(format_args!("deleting what Multus made"));
            let errors = undo(&delegates, &runner, &conf.state_dir, context.budget);
            Error::collect(errors)?;
            return multus_cache::remove(&conf.multus_dir, &call.container_id, &delegates);
        }
        Ok(None) => {}
        Err(error) => log.error(format_args!("{error}")),
    }
    match networks::written(conf, &call.ifname) {
        Ok(delegates) => {
            for error in undo(&delegates, &runner, &conf.state_dir, context.budget) {
                log.error(format_args!("without a record: {error}"));
            }
        }
        Err(error) => log.info(format_args!("no record: {error}")),
    }
    Ok(())
}

/// The default network's master, for STATUS. That it is an object which the API server does not give out
/// now says nothing of the node's networks.
fn default_network(conf: &MetaConf, context: &Context) -> Result<Option<Delegate>, Error> {
    let cluster = Scene::cluster(conf, context);
    let scene = Scene {
        cluster: cluster.map_err(|error| Error::Unavailable(error.to_string()))?,
        pod: None,
    };
    let names_one = !conf.delegates.is_empty() || conf.names.cluster_network.is_some();
    if scene.cluster.is_some() && !names_one {
        // Each pod names its own.
        return Ok(None);
    }
    match networks::resolve(conf, &scene, "eth0", &context.log) {
        Ok(planned) => Ok(planned.into_iter().next().map(|planned| planned.delegate)),
        Err(Error::TryAgain(why)) => {
            context.log.warning(format_args!("{why}"));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Takes the container's lock.
fn lock(conf: &MetaConf, context: &Context) -> Result<Lock, Error> {
    store::make_dir(&conf.state_dir)?;
    let wait = context.budget.at_most(budget::LOCK);
    Lock::take(
        &lock_dir(conf),
        &context.call.container_id,
        wait,
        &context.log,
    )
}

fn lock_dir(conf: &MetaConf) -> std::path::PathBuf {
    conf.state_dir.join("locks")
}

/// Runs every delegate's ADD. What was begun is on disk before it is begun.
fn run_all(
    record: &mut Record,
    wishes: &[Wishes],
    state_dir: &Path,
    runner: &Runner<'_>,
    budget: Budget,
) -> Result<(), Error> {
    let call = runner.call();
    let fates = routes::fates(wishes);
    for index in 0..record.delegates.len() {
        if index > 0 {
            // An earlier delegate may have made more than it was asked for.
            netns::check_free(call, &[&record.delegates[index].ifname])?;
        }
        record.begun = index + 1;
        record.save(state_dir)?;
        let delegate = &mut record.delegates[index];
        device_info::make_folder(delegate, runner.log());
        delegate.add(runner, budget)?;
        wishes[index].met(delegate)?;
        routes::settle(call, delegate, &fates[index])?;
        delegate.has_link = match call.netns.as_deref() {
            Some(path) => netns::taken(path, &[&delegate.ifname])?.is_some(),
            None => false,
        };
        result_cache::save(state_dir, call, delegate)?;
        runner.log().info(format_args!(
            "network {} is on {}",
            delegate.name, delegate.ifname
        ));
    }
    record.complete = true;
    record.save(state_dir)
}

/// The master's result in the version asked for.
fn answer(record: &Record, context: &Context) -> Result<Map<String, Value>, Error> {
    let master = record
        .delegates
        .first()
        .and_then(|master| master.result.as_ref());
    let master = master.ok_or_else(|| Error::Internal("the master has no result".into()))?;
    result::convert(master, context.conf.version)
}

/// Runs the delegates' DEL in reverse. One that fails or hangs leaves the others their turn.
fn undo(
    delegates: &[Delegate],
    runner: &Runner<'_>,
    state_dir: &Path,
    budget: Budget,
) -> Vec<Error> {
    let mut errors = Vec::new();
    for (left, delegate) in delegates.iter().enumerate().rev() {
        if let Err(error) = delegate.del(runner, budget.share(left + 1)) {
            errors.push(error);
            continue;
        }
        device_info::remove(delegate);
        let container = &runner.call().container_id;
        errors.extend(result_cache::remove(state_dir, container, delegate).err());
        runner.log().info(format_args!(
            "network {} is off {}",
            delegate.name, delegate.ifname
        ));
    }
    errors
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
