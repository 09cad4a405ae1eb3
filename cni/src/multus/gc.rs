// SPDX-License-Identifier: Apache-2.0
//! GC: what belongs to containers that are no more is deleted from its record, and delegates
//! that have GC learn what still lives of their network.
//!
//! The runtime names (container, primary interface) only, so a container lives if its id is
//! named at all. One whose lock is held is being added or deleted right now and counts as living.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{MetaConf, PodRecord, del, lock_dir, multus_cache};
use crate::Error;
use crate::spec::conf::NetConf;
use crate::spec::delegate::{Delegate, VALID_ATTACHMENTS, valid_attachments};
use crate::spec::exec::Runner;
use crate::spec::fields::Fields;
use crate::spec::protocol::Context;
use crate::state;
use crate::state::lock::ContainerLock;

pub(super) fn run(context: &Context) -> Result<(), Error> {
    let conf = MetaConf::read(&context.conf)?;
    let living = living(&context.conf)?;
    if conf.disable_gc {
        return Ok(());
    }
    let log = &context.log;
    let mut errors = Vec::new();
    let mut networks: BTreeMap<String, (Delegate, Vec<Value>)> = BTreeMap::new();
    for (container, ifname) in state::list(&conf.state_dir)? {
        let lock = if living.contains(&container) {
            None
        } else {
            match ContainerLock::try_take(&lock_dir(&conf), &container) {
                Ok(lock) => lock,
                Err(error) => {
                    errors.push(error);
                    continue;
                }
            }
        };
        let record = match PodRecord::load(&conf.state_dir, &container, &ifname, log) {
            Ok(record) => record,
            Err(error) => {
                errors.push(error);
                continue;
            }
        };
        match (lock, record) {
            (_, Some(record)) if record.network != conf.name => {}
            (Some(lock), Some(record)) => match remove(&conf, context, record) {
                Ok(()) => lock.remove(),
                Err(error) => errors.push(error),
            },
            // Torn: it tells nothing any more.
            (Some(lock), None) => match PodRecord::remove(&conf.state_dir, &container, &ifname) {
                Ok(()) => lock.remove(),
                Err(error) => errors.push(error),
            },
            (None, Some(record)) => {
                for delegate in record.delegates {
                    let entry = json!({"containerID": container, "ifname": delegate.ifname});
                    let name = delegate.name.clone();
                    networks
                        .entry(name)
                        .or_insert((delegate, Vec::new()))
                        .1
                        .push(entry);
                }
            }
            (None, None) => {}
        }
    }
    for container in multus_cache::containers(&conf.multus_dir) {
        if !living.contains(&container) {
            errors.extend(remove_of_multus(&conf, context, container).err());
        }
    }
    let runner = Runner::new(&context.call, &conf.bin_dir, log);
    let mut left = networks.len();
    for (mut delegate, attachments) in networks.into_values() {
        delegate.ifname.clear();
        let budget = context.budget.share(left);
        left -= 1;
        match delegate.gc(&runner, &Value::Array(attachments), budget) {
            Ok(_) => {}
            // It would be said again at every GC.
            Err(error) if error.is_final() => log.warning(format_args!("{error}")),
            Err(error) => errors.push(error),
        }
    }
    Error::collect(errors)
}

/// Deletes a container's delegates as its own DEL would.
fn remove(conf: &MetaConf, context: &Context, record: PodRecord) -> Result<(), Error> {
    let Context { call, log, .. } = context;
    log.info(format_args!("container {} is gone", record.container_id));
    let mut call = call.clone();
    call.container_id.clone_from(&record.container_id);
    call.ifname.clone_from(&record.ifname);
    call.args.clone_from(&record.args);
    del::finish(conf, record, &call, log, context.budget)
}

/// Deletes what Multus made for a container that is no more. Which interface was its primary one is not
/// written down; it is eth0 with every runtime.
fn remove_of_multus(conf: &MetaConf, context: &Context, container: String) -> Result<(), Error> {
    let Context { call, log, .. } = context;
    let mut call = call.clone();
    call.container_id = container;
    "eth0".clone_into(&mut call.ifname);
    match del::adopt(conf, &call, log) {
        Some(record) => del::finish(conf, record, &call, log, context.budget),
        None => Ok(()),
    }
}

/// The container ids that the runtime names.
///
/// # Errors
/// [`Error::Config`]: it names none, which is not the same as an empty list; or the list is not
/// as CNI has it.
pub(super) fn living(conf: &NetConf) -> Result<BTreeSet<String>, Error> {
    let fields = conf.fields();
    let list = valid_attachments(&fields)?;
    list.iter()
        .map(|entry| {
            let id = entry.as_object().and_then(|entry| {
                Fields::new(entry)
                    .string("containerID")
                    .ok()
                    .flatten()
                    .map(str::to_owned)
            });
            id.ok_or_else(|| fields.wrong(VALID_ATTACHMENTS, "a list of {containerID, ifname}"))
        })
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_missing_list_is_not_an_empty_one() {
        let conf = |text: &str| NetConf::parse(text.as_bytes()).unwrap();
        assert_eq!(living(&conf(r#"{"name": "n"}"#)).unwrap_err().code(), 7);
        let empty = conf(r#"{"name": "n", "cni.dev/valid-attachments": []}"#);
        assert!(living(&empty).unwrap().is_empty());
        let one = conf(
            r#"{"name": "n", "cni.dev/valid-attachments": [{"containerID": "c", "ifname": "e"}]}"#,
        );
        assert!(living(&one).unwrap().contains("c"));
        let bad = conf(r#"{"name": "n", "cni.dev/valid-attachments": ["c"]}"#);
        assert_eq!(living(&bad).unwrap_err().code(), 7);
    }
}
