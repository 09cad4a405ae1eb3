// SPDX-License-Identifier: Apache-2.0
//! The end of an attachment, in the reverse order of its making. Every step is taken whatever
//! becomes of the others, and every step may be taken again.
//!
//! A DEL ends. Steps that failed are repeated by the next DEL only where something was promised and a
//! retry may mend it, and ten times at most (see [`crate::spec::progress`]); otherwise they are logged,
//! and the record goes. Without a record nothing was promised. What the engine or the holder of a VF
//! still has is noted, and given back by later calls.

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
use crate::spec::call::Call;
use crate::spec::conf::NetConf;
use crate::spec::exec::Runner;
use crate::spec::log::Log;
use crate::spec::netns;
use crate::spec::progress::PluginState;
use crate::state;

/// Time limit of detaching one attachment of an earlier DEL.
const RELEASED_EACH: Duration = Duration::from_secs(1);

/// Ends the attachment of a call. The recorded configuration counts; without a record, the
/// configuration at hand.
///
/// # Errors
/// What failed and is to be tried again; the record says so. [`Error::Netns`]: nothing is on record, and
/// the namespace named is the host's.
pub(super) fn run(
    paths: &PluginPaths,
    record: Option<&InterfaceRecord>,
    invocation: Invocation<'_>,
    log: &Log,
    budget: Budget,
) -> Result<(), Error> {
    let call = invocation.call;
    if record.is_none() && call.names_own_netns {
        return Err(netns::own(call));
    }
    let failed = undo(paths, record, invocation, log, budget);
    let (container, ifname) = (&call.container_id, &call.ifname);
    if let Err(error) = failed {
        settle(paths, record, call, error, log)?;
        // Whoever finds it closed gives it back.
        if let Err(error) = claim::mark_released(call, paths, budget.share(2)) {
            log.error(format_args!("{error}"));
        }
    }
    if let Err(error) = InterfaceRecord::remove(&paths.records, container, ifname) {
        log.error(format_args!(
            "{error}: nothing that it tells of is left to delete"
        ));
    }
    Ok(())
}

/// Decides what becomes of a failed DEL.
///
/// # Errors
/// The failure, if it is to be tried again.
fn settle(
    paths: &PluginPaths,
    record: Option<&InterfaceRecord>,
    call: &Call,
    error: Error,
    log: &Log,
) -> Result<(), Error> {
    let who = format!("{} of container {}", call.ifname, call.container_id);
    let Some(record) = record else {
        log.error(format_args!("nothing is on record of {who}: {error}"));
        return Ok(());
    };
    let mut record = record.clone();
    record.state = PluginState {
        progress: record.progress(),
        ..record.state
    };
    let Some(why) = record.state.del_failed(&error, call.netns.is_none()) else {
        if let Err(unsaved) = record.save(&paths.records) {
            log.error(format_args!("{unsaved}: this failure is not counted"));
        }
        return Err(error);
    };
    log.error(format_args!(
        "{who}: {error}: not tried again, since {why}; what it may have left is to be removed by hand \
         or by its GC"
    ));
    Ok(())
}

/// Takes every step.
///
/// # Errors
/// Those that failed.
pub(super) fn undo(
    paths: &PluginPaths,
    record: Option<&InterfaceRecord>,
    invocation: Invocation<'_>,
    log: &Log,
    budget: Budget,
) -> Result<(), Error> {
    let mut call = invocation.call.clone();
    let mut net = invocation.net.clone();
    let mut errors = Vec::new();
    call.netns = netns::still_there(&call, record.and_then(|record| record.netns.as_ref()), log);
    if record.is_none() {
        errors.extend(old_cache::adopt(&call, paths, log, budget.share(4)).err());
    }
    if let Some(record) = record {
        call.args = call.args.or_else(|| record.args.clone());
        if call.path.is_empty() {
            call.path.clone_from(&record.plugin_path);
        }
        net = NetConf {
            json: record.conf.clone(),
            ..net
        };
    }
    let conf = VfConf::read(&net, &call)
        .inspect_err(|error| log.info(format_args!("the configuration cannot be used: {error}")))
        .ok();
    // One that cannot be read made nothing, unless another version of this plugin could read it.
    let on_engine = conf
        .as_ref()
        .map_or(record.is_some(), |conf| conf.mode == Mode::Engine);
    let mut open = false;
    if on_engine {
        let invocation = Invocation {
            call: &call,
            net: &net,
        };
        match detach(paths, conf.as_ref(), record, invocation, log, budget) {
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
    let Some(conf) = conf else {
        return Error::collect(errors);
    };
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
    Error::collect(errors)
}

/// Has the engine let go of the attachment, or makes sure that it will.
fn detach(
    paths: &PluginPaths,
    conf: Option<&VfConf>,
    record: Option<&InterfaceRecord>,
    Invocation { call, net }: Invocation<'_>,
    log: &Log,
    budget: Budget,
) -> Result<Detached, Error> {
    let (container, ifname) = (&call.container_id, &call.ifname);
    let engine = Engine::new(paths, budget);
    let detached = engine.detach(container, ifname, budget::ENGINE_DEL)?;
    match detached {
        Detached::Gone => {
            log.info(format_args!("{ifname} detached"));
            InterfaceRecord::forget_released(&paths.records, container, ifname)?;
        }
        Detached::EngineDown => {
            log.info(format_args!(
                "the engine is down: its record of {ifname} is removed"
            ));
            let socket = conf.and_then(|conf| request::socket(conf, paths, call));
            let removed = files::remove_socket(socket.as_ref());
            InterfaceRecord::forget_released(&paths.records, container, ifname).and(removed)?;
        }
        Detached::Pending => {
            log.error(format_args!(
                "the engine hangs: {ifname} is marked released, and the engine is asked again by \
                 the next call that finds it well"
            ));
            let noted = record
                .cloned()
                .unwrap_or_else(|| InterfaceRecord::new(net, call));
            if let Err(error) = noted.release(&paths.records) {
                log.error(format_args!(
                    "{error}: if the engine recovers it keeps {ifname} of container {container} until \
                     it is restarted"
                ));
            }
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
