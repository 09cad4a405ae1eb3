//! `sluicegate-vf`: the interface plugin. In engine mode it gives a pod one attachment: addresses
//! from an ipam plugin, the rest from the engine through its control socket.

mod check;
mod conf;
mod engine;
mod files;
mod gc;
mod ipam;
mod memif;
mod places;
mod record;
mod request;
mod tap;
mod teardown;

pub use conf::{VfConf, unicast_mac};
pub use memif::MemifConf;
pub use places::Places;
pub use record::Record;

use serde_json::{Map, Value};

use crate::budget::{self, Budget};
use crate::exec::Runner;
use crate::fields;
use crate::lock::Lock;
use crate::protocol::{Context, Plugin};
use crate::result::CniResult;
use crate::{Error, netns};
use engine::Engine;
use ipam::Ipam;

/// The interface plugin.
#[derive(Debug)]
pub struct SluicegateVf;

impl Plugin for SluicegateVf {
    const NAME: &'static str = "sluicegate-vf";
    const ABOUT: &'static str =
        "sluicegate-vf: CNI plugin that gives a pod an attachment on the node's packet engine";

    fn add(&self, context: &Context) -> Result<Map<String, Value>, Error> {
        let Context { call, log, .. } = context;
        let conf = VfConf::read(&context.conf, call)?;
        if call.ifname == "eth0" {
            return Err(Error::Config(
                "CNI_IFNAME eth0: the kubelet's probes need a kernel link there, which an engine \
                 attachment is not; make another network the primary one"
                    .into(),
            ));
        }
        let places = Places::read(&context.conf);
        if let Some(program) = &conf.ipam {
            Runner::new(call, &places.bin_dir, log).find(program)?;
        }
        let engine = Engine::new(&places, context.budget);
        // Before anything else, so that nothing is changed if the engine is down.
        engine.check_health()?;
        netns::check_free(call, &[&call.ifname])?;
        let lock = lock(&places, context)?;
        refuse_second(&places, &engine, context)?;
        teardown::finish_released(&places, &engine, log);

        let mut record = Record::new(&context.conf, call);
        record.save(&places.records)?;
        let made = make(context, &conf, &places, &engine).and_then(|result| {
            record.complete = true;
            record.save(&places.records)?;
            Ok(result.render(context.conf.version))
        });
        let error = match made {
            Ok(result) => return Ok(result),
            Err(error) => error,
        };
        log.error(format_args!("undoing: {error}"));
        let budget = Budget::of(budget::DEL);
        match teardown::run(&places, Some(&record), (call, &context.conf), log, budget) {
            Ok(()) => lock.remove(),
            Err(left) => log.error(format_args!("left for DEL, which will try again: {left}")),
        }
        Err(error)
    }

    fn del(&self, context: &Context) -> Result<(), Error> {
        let Context { call, log, .. } = context;
        let places = Places::read(&context.conf);
        let lock = lock(&places, context)?;
        let record = Record::load(&places.records, &call.container_id, &call.ifname, log)?;
        let asked = (call, &context.conf);
        teardown::run(&places, record.as_ref(), asked, log, context.budget)?;
        lock.remove();
        Ok(())
    }

    fn check(&self, context: &Context) -> Result<(), Error> {
        check::run(context)
    }

    fn gc(&self, context: &Context) -> Result<(), Error> {
        gc::run(context)
    }

    fn status(&self, context: &Context) -> Result<(), Error> {
        gc::status(context)
    }
}

/// Takes the lock of this container's interface. It is another than the meta plugin's, which may
/// be the one that runs this.
fn lock(places: &Places, context: &Context) -> Result<Lock, Error> {
    let call = &context.call;
    let wait = context.budget.share(2).at_most(budget::LOCK);
    let name = format!("{}@{}", call.container_id, call.ifname);
    Lock::take(&places.records.join("locks"), &name, wait, &context.log)
}

/// Refuses an ADD for an attachment that is there; undoes what an ADD that was killed left.
fn refuse_second(places: &Places, engine: &Engine<'_>, context: &Context) -> Result<(), Error> {
    let Context { call, log, .. } = context;
    let (container, ifname) = (&call.container_id, &call.ifname);
    let Some(record) = Record::load(&places.records, container, ifname, log)? else {
        return Ok(());
    };
    if record.complete && engine.attachment(container, ifname)?.is_some() {
        return Err(Error::Environment(format!(
            "attachment {ifname} of container {container} exists already: call DEL first"
        )));
    }
    log.info(format_args!(
        "an earlier ADD left a record: undoing it first"
    ));
    teardown::run(
        places,
        Some(&record),
        (call, &context.conf),
        log,
        context.budget,
    )
}

/// Everything an ADD makes, in order. What fails half-way is undone by the caller.
fn make(
    context: &Context,
    conf: &VfConf,
    places: &Places,
    engine: &Engine<'_>,
) -> Result<CniResult, Error> {
    let Context {
        call, log, budget, ..
    } = context;
    if let Some(id) = &conf.device_id {
        files::prepare_dir(&places.attachment_dir(id))?;
    }
    let runner = Runner::new(call, &places.bin_dir, log);
    let mut addresses = match &conf.ipam {
        Some(program) => Ipam::new(&runner, program, &context.conf.json).add(*budget)?,
        None => CniResult::default(),
    };
    let own_dns = fields::find(&context.conf.json, "dns").and_then(Value::as_object);
    if let Some(dns) = own_dns.filter(|dns| !dns.is_empty()) {
        addresses.dns = dns.clone();
    }
    let request = request::build(conf, places, call, &addresses)?;
    let reply = engine.attach(&request)?;
    for warning in &reply.warnings {
        log.info(format_args!("the engine says: {warning}"));
    }
    log.info(format_args!(
        "{} on uplink {} has MAC {} and is reached by {}",
        call.ifname,
        conf.uplink,
        reply.mac,
        reply.socket.as_deref().unwrap_or("its tap")
    ));
    if conf.tap {
        tap::add_routes(call, &addresses)?;
    }
    if let Some(id) = &conf.device_id {
        let dir = places.attachment_dir(id);
        files::write_interface(&dir, &call.ifname, conf, &reply, &addresses)?;
    }
    if let Some(path) = &conf.device_info {
        files::write_device_info(path, &reply)?;
    }
    Ok(request::result(call, &reply, &addresses))
}
