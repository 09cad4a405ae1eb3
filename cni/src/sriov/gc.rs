// SPDX-License-Identifier: Apache-2.0
//! GC and STATUS of the interface plugin called directly: its own records of one network.

use serde_json::Value;
use sluice_sriov::claim::Mode;
use sluice_sriov::sysfs::Sysfs;

use super::conf::{UplinkChoice, VfChoice, VfConf};
use super::engine::Engine;
use super::interface::Invocation;
use super::paths::PluginPaths;
use super::{InterfaceRecord, claim, teardown};
use crate::Error;
use crate::spec::call::Call;
use crate::spec::delegate::valid_attachments;
use crate::spec::fields::Fields;
use crate::spec::protocol::Context;
use crate::state;
use crate::state::lock::ContainerLock;

/// Ends the attachments of this network that the runtime does not name, and those that an
/// earlier DEL could only mark released.
pub(super) fn run(context: &Context) -> Result<(), Error> {
    let fields = context.conf.fields();
    let valid = valid_attachments(&fields)?;
    if fields.switch("disableGC")?.unwrap_or_default() {
        return Ok(());
    }
    let paths = PluginPaths::read(&context.conf);
    let engine = Engine::new(&paths, context.budget);
    teardown::finish_released(&paths, &engine, &context.log);
    claim::finish(&paths, &context.log, context.budget.share(2));
    let mut errors = Vec::new();
    for (container, ifname) in state::list(&paths.records)? {
        if valid.iter().any(|entry| names(entry, &container, &ifname)) {
            continue;
        }
        let name = format!("{container}@{ifname}");
        let lock = match ContainerLock::try_take(&paths.records.join("locks"), &name) {
            Ok(Some(lock)) => lock,
            Ok(None) => continue,
            // The others have their turn.
            Err(error) => {
                errors.push(error);
                continue;
            }
        };
        let loaded = InterfaceRecord::load(&paths.records, &container, &ifname, &context.log);
        let record = match loaded {
            Ok(record) => record,
            Err(error) => {
                errors.push(error);
                continue;
            }
        };
        let ours = record
            .as_ref()
            .is_some_and(|record| record.network == context.conf.name);
        if !ours {
            continue;
        }
        let call = Call {
            container_id: container,
            ifname,
            ..context.call.clone()
        };
        let invocation = Invocation {
            call: &call,
            net: &context.conf,
        };
        match teardown::run(
            &paths,
            record.as_ref(),
            invocation,
            &context.log,
            context.budget,
        ) {
            Ok(()) => lock.remove(),
            Err(error) => errors.push(error),
        }
    }
    Error::collect(errors)
}

fn names(entry: &Value, container: &str, ifname: &str) -> bool {
    let Some(fields) = entry.as_object().map(Fields::new) else {
        return false;
    };
    let is = |key, want| fields.string(key).is_ok_and(|value| value == Some(want));
    is("containerID", container) && is("ifname", ifname)
}

/// Whether an ADD could be served. On the engine: whether it is up; if it is down, attachments on
/// record are cut off too. With VFs of one's own: whether the PF is there. How many VFs are free is not
/// asked: ADD says so.
pub(super) fn status(context: &Context) -> Result<(), Error> {
    let conf = VfConf::read(&context.conf, &context.call)?;
    let paths = PluginPaths::read(&context.conf);
    if conf.mode == Mode::Engine {
        paths.check_socket()?;
    }
    if let UplinkChoice::Vf(VfChoice { pf: Some(pf), .. }) = &conf.choice
        && let Err(error) = Sysfs::default().pf_of_netdev(pf)
    {
        return Err(Error::Unavailable(error.to_string()));
    }
    if conf.mode != Mode::Engine {
        return Ok(());
    }
    let Err(why) = Engine::new(&paths, context.budget).check_health() else {
        return Ok(());
    };
    if state::list(&paths.records)?.is_empty() {
        return Err(Error::Unavailable(why.to_string()));
    }
    Err(Error::Limited(format!(
        "{why}; pods that have attachments are cut off"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_container_and_interface_count() {
        let entry = json!({"containerid": "c", "ifname": "net1"});
        assert!(names(&entry, "c", "net1"));
        assert!(!names(&entry, "c", "net2"));
        assert!(!names(&json!("c"), "c", "net1"));
    }
}
