// SPDX-License-Identifier: Apache-2.0
//! DEL: by the record of the pod alone. It ends: which failures of a delegate are repeated, and how often,
//! is [`crate::spec::progress`]'s; trouble with files of ours is logged and holds no pod.

use std::path::Path;

use super::{MetaConf, PodRecord, device_info, lock_dir, multus_cache, networks, result_cache};
use crate::Error;
use crate::spec::budget::{self, Budget};
use crate::spec::call::Call;
use crate::spec::delegate::Delegate;
use crate::spec::exec::Runner;
use crate::spec::log::Log;
use crate::spec::netns;
use crate::spec::progress::Progress;
use crate::spec::protocol::Context;
use crate::state;
use crate::state::lock::ContainerLock;

/// Ends what is recorded of the container's interface.
///
/// # Errors
/// A delegate failed, and a later DEL is to try again. [`Error::TryAgain`]: another call on the container
/// runs. [`Error::Netns`]: nothing is recorded, and the namespace named is the host's.
pub(crate) fn run(conf: &MetaConf, context: &Context) -> Result<(), Error> {
    let Context { call, log, .. } = context;
    let lock = match lock(conf, context) {
        Ok(lock) => Some(lock),
        // Without a lock rather than not at all.
        Err(error @ Error::File(_)) => {
            log.error(format_args!(
                "going on without the container's lock: {error}"
            ));
            None
        }
        Err(error) => return Err(error),
    };
    match recorded(conf, call, log) {
        Some(record) => finish(conf, record, call, log, context.budget)?,
        None if call.names_own_netns => {
            if let Some(lock) = lock {
                lock.remove();
            }
            return Err(netns::own(call));
        }
        None => {
            by_configuration(conf, context);
            // Torn, if it is there.
            let removed = PodRecord::remove(&conf.state_dir, &call.container_id, &call.ifname);
            if let Err(error) = removed {
                log.error(format_args!("{error}"));
            }
        }
    }
    if let Some(lock) = lock {
        lock.remove();
    }
    Ok(())
}

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

/// The record of the call's interface, one of Multus's among them.
fn recorded(conf: &MetaConf, call: &Call, log: &Log) -> Option<PodRecord> {
    let loaded = PodRecord::load(&conf.state_dir, &call.container_id, &call.ifname, log);
    match loaded {
        Ok(Some(record)) => Some(record),
        Ok(None) => adopt(conf, call, log),
        Err(error) => {
            log.error(format_args!("{error}: the record counts as absent"));
            adopt(conf, call, log)
        }
    }
}

/// Makes a record of ours of what Multus knew of a container.
pub(super) fn adopt(conf: &MetaConf, call: &Call, log: &Log) -> Option<PodRecord> {
    let loaded = multus_cache::load(&conf.multus_dir, &call.container_id, &call.ifname);
    let mut delegates = match loaded {
        Ok(delegates) => delegates?,
        Err(error) => {
            log.error(format_args!("{error}: it counts as absent"));
            return None;
        }
    };
    log.info(format_args!("deleting what Multus made"));
    for delegate in &mut delegates {
        let plugins = delegate.plugins.len();
        delegate.states.resize(plugins, Progress::Added.into());
    }
    let mut record = PodRecord::new(&conf.name, call, delegates);
    record.begun = record.delegates.len();
    record.complete = true;
    record.netns_identity = None;
    Some(record)
}

/// Ends every delegate of a record and removes it.
///
/// # Errors
/// What is to be tried again; the record says so.
pub(super) fn finish(
    conf: &MetaConf,
    mut record: PodRecord,
    call: &Call,
    log: &Log,
    budget: Budget,
) -> Result<(), Error> {
    let mut call = call.clone();
    call.args = call.args.or_else(|| record.args.clone());
    if call.path.is_empty() {
        call.path.clone_from(&record.plugin_path);
    }
    let netns = netns::still_there(&call, record.netns_identity.as_ref(), log);
    call.netns = netns;
    let runner = Runner::new(&call, &conf.bin_dir, log);
    undo(&mut record, conf, &runner, budget)?;
    let removed = [
        multus_cache::remove(&conf.multus_dir, &record.container_id, &record.delegates),
        PodRecord::remove(&conf.state_dir, &record.container_id, &record.ifname),
    ];
    for error in removed.into_iter().filter_map(Result::err) {
        log.error(format_args!("{error}: nothing of it is left to delete"));
    }
    Ok(())
}

/// Runs the delegates' DEL in reverse. One that fails or hangs leaves the others their turn. What is done
/// is on record afterwards.
///
/// # Errors
/// What is to be tried again.
pub(super) fn undo(
    record: &mut PodRecord,
    conf: &MetaConf,
    runner: &Runner<'_>,
    budget: Budget,
) -> Result<(), Error> {
    let log = runner.log();
    record.infer_progress();
    let mut errors = Vec::new();
    for (left, delegate) in record.delegates.iter_mut().enumerate().rev() {
        if !delegate.is_owed() {
            continue;
        }
        if let Err(error) = delegate.del(runner, budget.share(left + 1)) {
            errors.push(error);
            continue;
        }
        forget(delegate, conf, runner);
        log.info(format_args!(
            "network {} detached from {}",
            delegate.name, delegate.ifname
        ));
    }
    if !errors.is_empty()
        && let Err(error) = record.save(&conf.state_dir)
    {
        log.error(format_args!("{error}: the next DEL begins anew"));
    }
    Error::collect(errors)
}

/// Removes the files that tell others of a delegate.
fn forget(delegate: &Delegate, conf: &MetaConf, runner: &Runner<'_>) {
    device_info::remove(delegate);
    let container = &runner.call().container_id;
    if let Err(error) = result_cache::remove(&conf.state_dir, container, delegate) {
        runner.log().error(format_args!("{error}"));
    }
}

/// Nothing is known of an ADD: what the configuration alone would have made is deleted.
fn by_configuration(conf: &MetaConf, context: &Context) {
    let Context { call, log, .. } = context;
    let delegates = match networks::inline(conf, &call.ifname) {
        Ok(delegates) => delegates,
        Err(error) => return log.info(format_args!("no record: {error}")),
    };
    let mut call = call.clone();
    call.netns = netns::still_there(&call, None, log);
    if let Some(path) = &call.netns
        && let Some(other) = whose(path, conf, &call)
    {
        log.warning(format_args!(
            "{} is the network namespace of container {other}: nothing in it is touched",
            path.display()
        ));
        call.netns = None;
    }
    let runner = Runner::new(&call, &conf.bin_dir, log);
    for (left, mut delegate) in delegates.into_iter().enumerate().rev() {
        let plugins = delegate.plugins.len();
        delegate.states.resize(plugins, Progress::Unknown.into());
        let share = context.budget.share(left + 1);
        if let Err(error) = delegate.del(&runner, share) {
            log.error(format_args!("without a record: {error}"));
        }
        forget(&delegate, conf, &runner);
    }
}

/// The other container that has the namespace at `path` by its record.
fn whose(path: &Path, conf: &MetaConf, call: &Call) -> Option<String> {
    let records = state::list(&conf.state_dir).unwrap_or_default();
    let others = records
        .into_iter()
        .filter(|(container, _)| *container != call.container_id);
    let log = Log::silent();
    others
        .filter_map(|(container, ifname)| {
            PodRecord::load(&conf.state_dir, &container, &ifname, &log).ok()?
        })
        .find(|record| {
            let identity = record.netns_identity.as_ref();
            identity.is_some_and(|identity| identity.is_at(path).unwrap_or(false))
        })
        .map(|record| record.container_id)
}
