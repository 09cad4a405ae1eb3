// SPDX-License-Identifier: Apache-2.0
//! ADD: makes the interface step by step; a failure undoes the steps taken.

use serde_json::{Map, Value};
use sluice_sriov::claim::{Mode, Record as VfRecord};

use super::conf::{UplinkChoice, VfConf};
use super::engine::Engine;
use super::interface::{Acquired, Invocation};
use super::ipam::Ipam;
use super::paths::PluginPaths;
use super::record::InterfaceRecord;
use super::{claim, files, lock, pod, request, teardown};
use crate::Error;
use crate::spec::budget::{self, Budget};
use crate::spec::exec::Runner;
use crate::spec::protocol::Context;
use crate::spec::result::CniResult;
use crate::spec::version::Version;
use crate::spec::{fields, netns};

pub(super) fn run(context: &Context) -> Result<Map<String, Value>, Error> {
    let Context { call, log, .. } = context;
    let conf = VfConf::read(&context.conf, call)?;
    let on_engine = conf.mode == Mode::Engine;
    if on_engine && call.ifname == "eth0" {
        return Err(Error::Config(
            "CNI_IFNAME eth0: the kubelet's probes need a kernel link there, which an engine \
             attachment is not; make another network the primary one"
                .into(),
        ));
    }
    let paths = PluginPaths::read(&context.conf);
    if on_engine {
        paths.check_socket()?;
    }
    if let Some(program) = &conf.ipam {
        Runner::new(call, &paths.bin_dir, log).find(program)?;
    }
    let engine = Engine::new(&paths, context.budget);
    if on_engine {
        // Before anything else, so that nothing is changed if the engine is down.
        engine.check_health()?;
    }
    if conf.mode != Mode::Vfio {
        netns::check_free(call, &[conf.pod_ifname(call)])?;
    }
    let lock = lock(&paths, context)?;
    let added = locked(context, &conf, &paths, &engine);
    if added.is_err()
        && !InterfaceRecord::is_there(&paths.records, &call.container_id, &call.ifname)
    {
        lock.remove();
    }
    added
}

/// Makes the interface and its record, or undoes what was made.
fn locked(
    context: &Context,
    conf: &VfConf,
    paths: &PluginPaths,
    engine: &Engine<'_>,
) -> Result<Map<String, Value>, Error> {
    let Context { call, log, .. } = context;
    let (container, ifname) = (&call.container_id, &call.ifname);
    refuse_second(paths, engine, conf, context)?;
    if conf.mode == Mode::Engine {
        teardown::finish_released(paths, engine, log);
        if InterfaceRecord::is_released(&paths.records, container, ifname) {
            // Later it would take this ADD's attachment for the one to be let go of.
            return Err(Error::TryAgain(format!(
                "{ifname} of container {container} was deleted while the engine hung, and the engine \
                 still has it: try again when it has let go"
            )));
        }
    }
    claim::finish(paths, log, context.budget.share(4));

    let mut record = InterfaceRecord::new(&context.conf, call);
    record.save(&paths.records)?;
    let made = make(context, conf, paths, engine).and_then(|result| {
        record.complete = true;
        record.result = Some(result.render(Version::NEWEST));
        record.save(&paths.records)?;
        Ok(result.render(context.conf.version))
    });
    let error = match made {
        Ok(result) => return Ok(result),
        Err(error) => error,
    };
    log.error(format_args!("undoing: {error}"));
    record.complete = false;
    record.state.add_failed(&error);
    let net = &context.conf;
    let invocation = Invocation { call, net };
    let budget = Budget::of(budget::DEL);
    let left = teardown::undo(paths, Some(&record), invocation, log, budget);
    let left = left.and_then(|()| InterfaceRecord::remove(&paths.records, container, ifname));
    if let Err(left) = left {
        log.error(format_args!("left for DEL, which will try again: {left}"));
        if let Err(unsaved) = record.save(&paths.records) {
            log.error(format_args!("{unsaved}"));
        }
    }
    Err(error)
}

/// Refuses an ADD for an interface that is there; undoes what an ADD that was killed left.
fn refuse_second(
    paths: &PluginPaths,
    engine: &Engine<'_>,
    conf: &VfConf,
    context: &Context,
) -> Result<(), Error> {
    let Context { call, log, .. } = context;
    let (container, ifname) = (&call.container_id, &call.ifname);
    let Some(record) = InterfaceRecord::load(&paths.records, container, ifname, log)? else {
        return Ok(());
    };
    let is_there = || match conf.mode {
        Mode::Engine => Ok(engine.attachment(container, ifname)?.is_some()),
        Mode::Kernel | Mode::Vfio => {
            let vfs = claim::node(paths).of(container, ifname);
            Ok::<_, Error>(!vfs.map_err(claim::error)?.is_empty())
        }
    };
    if record.complete && is_there()? {
        return Err(Error::Environment(format!(
            "interface {ifname} of container {container} exists already: call DEL first"
        )));
    }
    log.info(format_args!(
        "an earlier ADD left a record: undoing it first"
    ));
    let net = &context.conf;
    let invocation = Invocation { call, net };
    teardown::run(paths, Some(&record), invocation, log, context.budget)
}

/// Everything an ADD makes, in order: VF, addresses, then the attachment or the link. What fails
/// half-way is undone by the caller.
fn make(
    context: &Context,
    conf: &VfConf,
    paths: &PluginPaths,
    engine: &Engine<'_>,
) -> Result<CniResult, Error> {
    let Context {
        call, log, budget, ..
    } = context;
    if let Some(id) = &conf.device_id {
        files::prepare_dir(&paths.attachment_dir(id))?;
    }
    let vf = match &conf.choice {
        UplinkChoice::Uplink(_) => None,
        UplinkChoice::Vf(choice) => {
            let net = &context.conf;
            let invocation = Invocation { call, net };
            let budget = budget.share(2);
            Some(claim::claim(invocation, conf, choice, paths, log, budget)?.record)
        }
    };
    let runner = Runner::new(call, &paths.bin_dir, log);
    let mut addresses = match &conf.ipam {
        Some(program) => Ipam::new(&runner, program, &context.conf.json).add(*budget)?,
        None => CniResult::default(),
    };
    let own_dns = fields::find(&context.conf.json, "dns").and_then(Value::as_object);
    if let Some(dns) = own_dns.filter(|dns| !dns.is_empty()) {
        addresses.dns = dns.clone();
    }
    let acquired = Acquired { vf, addresses };
    match (conf.mode, &acquired.vf) {
        (Mode::Engine, _) => attach(context, conf, paths, engine, &acquired),
        (Mode::Kernel | Mode::Vfio, Some(vf)) => give_vf(context, conf, vf, &acquired.addresses),
        (Mode::Kernel | Mode::Vfio, None) => Err(Error::Internal("no VF was claimed".into())),
    }
}

/// Makes the attachment on the engine.
fn attach(
    context: &Context,
    conf: &VfConf,
    paths: &PluginPaths,
    engine: &Engine<'_>,
    acquired: &Acquired,
) -> Result<CniResult, Error> {
    let Context { call, log, .. } = context;
    let request = request::build(conf, paths, call, acquired)?;
    let reply = engine.attach(&request)?;
    for warning in &reply.warnings {
        log.warning(format_args!("the engine says: {warning}"));
    }
    log.info(format_args!(
        "{} on {} has MAC {} and is reached by {}",
        call.ifname,
        conf.uplink_name(),
        reply.mac,
        reply.socket.as_deref().unwrap_or("its tap")
    ));
    if conf.tap {
        pod::add_routes(call, &call.ifname, &acquired.addresses)?;
    }
    if let Some(id) = &conf.device_id {
        let dir = paths.attachment_dir(id);
        files::write_interface(&dir, &call.ifname, conf, &reply, &acquired.addresses)?;
    }
    if let Some(path) = &conf.device_info {
        files::write_socket_info(path, conf, &reply)?;
    }
    Ok(request::result(call, &reply, acquired))
}

/// The pod has the VF itself: as a link, or for a program of its own.
fn give_vf(
    context: &Context,
    conf: &VfConf,
    vf: &VfRecord,
    addresses: &CniResult,
) -> Result<CniResult, Error> {
    let call = &context.call;
    let name = conf.pod_ifname(call);
    let mut mtu = conf.mtu;
    if conf.mode == Mode::Kernel {
        pod::set_up(call, name, conf.mtu, addresses)?;
        mtu = mtu.or(vf.netdev.as_ref().map(|netdev| netdev.mtu));
    }
    if let Some(path) = &conf.device_info {
        files::write_pci_info(path, vf.vf)?;
    }
    Ok(request::result_of_vf(call, name, mtu, vf, addresses))
}
