// SPDX-License-Identifier: Apache-2.0
//! The end of an attachment, in the reverse order of its making. Every step is taken whatever
//! becomes of the others, and every step may be taken again.

use std::time::Duration;

use sluice_sriov::claim::Mode;

use super::conf::VfConf;
use super::engine::{Detached, Engine};
use super::interface::Invocation;
use super::ipam::Ipam;
use super::paths::PluginPaths;
use super::record::InterfaceRecord;
use super::{claim, files, old_cache, request};
use crate::Error;
use crate::spec::budget::{self, Budget};
use crate::spec::conf::NetConf;
use crate::spec::exec::Runner;
use crate::spec::log::Log;
use crate::state;

/// Time limit of detaching one attachment of an earlier DEL.
const RELEASED_EACH: Duration = Duration::from_secs(1);

/// Ends the attachment of a call. The recorded configuration counts; without a record, the
/// configuration at hand.
///
/// # Errors
/// What failed. The record stays, so that the next DEL finishes it.
pub(super) fn run(
    paths: &PluginPaths,
    record: Option<&InterfaceRecord>,
    invocation: Invocation<'_>,
    log: &Log,
    budget: Budget,
) -> Result<(), Error> {
    let mut call = invocation.call.clone();
    let mut net = invocation.net.clone();
    let mut errors = Vec::new();
    if record.is_none() {
        errors.extend(old_cache::adopt(&call, paths, log, budget.share(4)).err());
    }
    if let Some(record) = record {
        call.args = call.args.or_else(|| record.args.clone());
        net = NetConf {
            json: record.conf.clone(),
            ..net
        };
    }
    let conf = match VfConf::read(&net, &call) {
        Ok(conf) => conf,
        Err(error) => {
            // An ADD with it has failed before it changed anything.
            log.info(format_args!(
                "nothing to delete by the configuration: {error}"
            ));
            errors.extend(claim::release(&call, paths, log, budget.share(2)).err());
            return Error::collect(errors);
        }
    };
    let (container, ifname) = (&call.container_id, &call.ifname);
    let mut open = false;
    if conf.mode == Mode::Engine {
        let invocation = Invocation {
            call: &call,
            net: &net,
        };
        match detach(paths, &conf, invocation, log, budget) {
            Ok(detached) => open = detached == Detached::Pending,
            Err(error) => errors.push(error),
        }
    }
    // A device that is open elsewhere is left alone: unbinding it would wait for its holder.
    errors.extend(if open {
        claim::mark_released(&call, paths, budget.share(2)).err()
    } else {
        claim::release(&call, paths, log, budget.share(2)).err()
    });
    if let Some(program) = &conf.ipam {
        let runner = Runner::new(&call, &paths.bin_dir, log);
        errors.extend(Ipam::new(&runner, program, &net.json).del(budget).err());
    }
    if let Some(path) = &conf.device_info {
        errors.extend(state::remove(path).err());
    }
    if let Some(id) = &conf.device_id {
        errors.extend(files::empty_dir(&paths.attachment_dir(id)).err());
    }
    if errors.is_empty() {
        return InterfaceRecord::remove(&paths.records, container, ifname);
    }
    Error::collect(errors)
}

/// Has the engine let go of the attachment, or makes sure that it will.
fn detach(
    paths: &PluginPaths,
    conf: &VfConf,
    Invocation { call, net }: Invocation<'_>,
    log: &Log,
    budget: Budget,
) -> Result<Detached, Error> {
    let (container, ifname) = (&call.container_id, &call.ifname);
    let engine = Engine::new(paths, budget);
    let detached = engine.detach(container, ifname, budget::ENGINE_DEL)?;
    match detached {
        Detached::Gone => {
            log.info(format_args!(
                "{ifname} detached from {}",
                conf.uplink_name()
            ));
            InterfaceRecord::forget_released(&paths.records, container, ifname)?;
        }
        Detached::EngineDown => {
            log.info(format_args!(
                "the engine is down: its record of {ifname} is removed"
            ));
            let socket = request::socket(conf, paths, call);
            let removed = files::remove_socket(socket.as_ref());
            InterfaceRecord::forget_released(&paths.records, container, ifname).and(removed)?;
        }
        Detached::Pending => {
            log.error(format_args!(
                "the engine hangs: {ifname} is marked released, and the engine is asked again by \
                 the next call that finds it well"
            ));
            InterfaceRecord::new(net, call).release(&paths.records)?;
        }
    }
    Ok(detached)
}

/// Asks an engine that is well again to let go of what earlier DELs marked released. What fails
/// stays marked.
pub(super) fn finish_released(paths: &PluginPaths, engine: &Engine<'_>, log: &Log) {
    let released = InterfaceRecord::released(&paths.records).unwrap_or_else(|error| {
        log.error(format_args!("{error}"));
        Vec::new()
    });
    for (container, ifname) in released {
        let done = match engine.detach(&container, &ifname, RELEASED_EACH) {
            Ok(Detached::Gone | Detached::EngineDown) => {
                InterfaceRecord::forget_released(&paths.records, &container, &ifname)
            }
            Ok(Detached::Pending) => return,
            Err(error) => Err(error),
        };
        match done {
            Ok(()) => log.info(format_args!("{ifname} of container {container} detached")),
            Err(error) => log.error(format_args!("{ifname} of container {container}: {error}")),
        }
    }
}
