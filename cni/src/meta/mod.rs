//! `sluicegate`: the meta plugin. It makes no interface itself; it runs delegates.

mod conf;
mod gc;
mod networks;
mod record;

pub use conf::{DEFAULT_BIN_DIR, MetaConf};
pub use record::Record;

use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::budget::{self, Budget};
use crate::delegate::Delegate;
use crate::exec::Runner;
use crate::lock::Lock;
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
        let Context { call, log, .. } = context;
        let conf = MetaConf::read(&context.conf)?;
        wait_until_ready(&conf, context.budget)?;
        let delegates = networks::resolve(&conf, call, &call.ifname)?;
        let runner = Runner::new(call, &conf.bin_dir, log);
        for program in delegates.iter().flat_map(Delegate::programs) {
            runner.find(program)?;
        }
        let lock = lock(&conf, context)?;
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
            Error::collect(undo(old.to_undo(), &runner, context.budget))?;
        }

        let mut record = Record::new(&conf.name, call, delegates);
        let added = run_all(&mut record, &conf.state_dir, &runner, context.budget)
            .and_then(|()| answer(&record, context));
        let error = match added {
            Ok(result) => return Ok(result),
            Err(error) => error,
        };
        log.error(format_args!("undoing {} delegates: {error}", record.begun));
        let undone = undo(record.to_undo(), &runner, Budget::of(budget::DEL));
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
                Error::collect(undo(record.to_undo(), &runner, context.budget))?;
            }
            None => match networks::resolve(&conf, call, &call.ifname) {
                // Nothing is known of an ADD; what one would have made is removed all the same.
                Ok(delegates) => {
                    let runner = Runner::new(call, &conf.bin_dir, log);
                    for error in undo(&delegates, &runner, context.budget) {
                        log.error(format_args!("without a record: {error}"));
                    }
                }
                Err(error) => log.info(format_args!("no record: {error}")),
            },
        }
        Record::remove(&conf.state_dir, &call.container_id, &call.ifname)?;
        lock.remove();
        Ok(())
    }

    fn check(&self, context: &Context) -> Result<(), Error> {
        let Context { call, log, .. } = context;
        let conf = MetaConf::read(&context.conf)?;
        let runner = Runner::new(call, &conf.bin_dir, log);
        let _lock = lock(&conf, context)?;
        let record = Record::load(&conf.state_dir, &call.container_id, &call.ifname, log)?
            .filter(|record| record.complete)
            .ok_or_else(|| {
                Error::Unknown(format!(
                    "container {} has no complete ADD on {}",
                    call.container_id, call.ifname
                ))
            })?;
        for delegate in &record.delegates {
            if !delegate.check(&runner, context.budget)? {
                log.verbose(format_args!(
                    "network {} has cniVersion {:?}, which has no CHECK",
                    delegate.name, delegate.cni_version
                ));
            }
        }
        Ok(())
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
        let delegates = networks::resolve(&conf, &context.call, "eth0")?;
        let runner = Runner::new(&context.call, &conf.bin_dir, &context.log);
        let Some(mut master) = delegates.into_iter().next() else {
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
    state_dir: &Path,
    runner: &Runner<'_>,
    budget: Budget,
) -> Result<(), Error> {
    for index in 0..record.delegates.len() {
        if index > 0 {
            // An earlier delegate may have made more than it was asked for.
            netns::check_free(runner.call(), &[&record.delegates[index].ifname])?;
        }
        record.begun = index + 1;
        record.save(state_dir)?;
        let delegate = &mut record.delegates[index];
        delegate.add(runner, budget)?;
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
fn undo(delegates: &[Delegate], runner: &Runner<'_>, budget: Budget) -> Vec<Error> {
    let mut errors = Vec::new();
    for (left, delegate) in delegates.iter().enumerate().rev() {
        match delegate.del(runner, budget.share(left + 1)) {
            Ok(()) => runner.log().info(format_args!(
                "network {} is off {}",
                delegate.name, delegate.ifname
            )),
            Err(error) => errors.push(error),
        }
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
