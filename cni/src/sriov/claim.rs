// SPDX-License-Identifier: Apache-2.0
//! The VF of an interface: claimed from the node, and given back.

use std::path::Path;
use std::time::Instant;

use sluice_api::derived_mac;
use sluice_sriov::claim::{Claimed, Node, Owner, Pick, Plan, Record as VfRecord};
use sluice_sriov::settings::{Mac, VfSettings};
use sluice_sriov::{Error as VfError, ErrorKind};

use super::avoid;
use super::conf::{PickConf, VfChoice, VfConf};
use super::interface::Invocation;
use super::paths::PluginPaths;
use crate::Error;
use crate::spec::budget::Budget;
use crate::spec::call::Call;
use crate::spec::log::Log;
use crate::spec::netns;

/// The VFs of this node.
pub(super) fn node(paths: &PluginPaths) -> Node {
    Node::new(&paths.state_dir)
}

/// A failure at the node's VFs as a CNI error: 7 where something else must be asked for, 11 where
/// asking later helps.
pub(super) fn error(error: VfError) -> Error {
    match error.kind() {
        ErrorKind::Invalid => Error::Config(error.to_string()),
        ErrorKind::Busy => Error::TryAgain(error.to_string()),
        ErrorKind::Host => Error::Internal(error.to_string()),
    }
}

/// Claims the VF that the configuration asks for. Its administrative MAC address is the one asked for,
/// or one derived from container and interface: the same for as long as the container lives.
///
/// # Errors
/// See [`error`]; the VF is restored then.
pub(super) fn claim(
    invocation: Invocation<'_>,
    conf: &VfConf,
    choice: &VfChoice,
    paths: &PluginPaths,
    log: &Log,
    budget: Budget,
) -> Result<Claimed, Error> {
    let plan = plan(invocation, conf, choice, paths)?;
    let claimed = node(paths).claim(&plan, deadline(budget)).map_err(error)?;
    for warning in &claimed.warnings {
        log.warning(format_args!("{warning}"));
    }
    let VfRecord {
        vf,
        pf_netdev,
        identity,
        ..
    } = &claimed.record;
    log.info(format_args!(
        "{} has VF {vf}, index {} of {pf_netdev}",
        invocation.call.ifname, identity.index
    ));
    if conf.pose.is_learned() {
        let trust = if conf.settings.trust == Some(true) {
            ", trust on"
        } else {
            ""
        };
        log.info(format_args!(
            "VF {vf} has spoofchk off{trust}, as {} may send from other MAC addresses than the VF's; DEL \
             restores both",
            invocation.call.ifname
        ));
    }
    Ok(claimed)
}

fn plan(
    Invocation { call, net }: Invocation<'_>,
    conf: &VfConf,
    choice: &VfChoice,
    paths: &PluginPaths,
) -> Result<Plan, Error> {
    let netns = netns::identity(call.netns.as_deref().unwrap_or(Path::new("")))?;
    let mac = conf.mac.as_deref().and_then(|mac| mac.parse::<Mac>().ok());
    let mac = mac.map_or_else(
        || derived_mac(&call.container_id, &call.ifname, 0).octets(),
        |mac| mac.0,
    );
    Ok(Plan {
        owner: Owner {
            network: net.name.clone(),
            container_id: call.container_id.clone(),
            ifname: call.ifname.clone(),
            netns,
        },
        mode: conf.mode,
        pf: choice.pf.clone(),
        pick: match &choice.pick {
            PickConf::Index(index) => Pick::Index(*index),
            PickConf::Address(vf) => Pick::Address(*vf),
            PickConf::FirstFree => Pick::FirstFree {
                avoid: avoid::read(&paths.kubelet_checkpoint)?,
            },
        },
        settings: VfSettings {
            mac: Some(mac),
            ..conf.settings.clone()
        },
        driver: choice.driver.clone(),
        kernel_driver: choice.kernel_driver.clone(),
        allow_unsafe_noiommu: choice.allow_unsafe_noiommu,
        pod_ifname: conf.pod_ifname(call).to_owned(),
    })
}

/// Gives back what an interface has, if it has any.
///
/// # Errors
/// See [`error`]: 11 if a process has the VF open. What is not given back stays on record.
pub(super) fn release(
    call: &Call,
    paths: &PluginPaths,
    log: &Log,
    budget: Budget,
) -> Result<(), Error> {
    let released = node(paths).release(&call.container_id, &call.ifname, deadline(budget));
    for vf in released.map_err(error)? {
        log.info(format_args!("VF {vf} restored"));
    }
    Ok(())
}

/// Notes that an interface's VF is to be given back by whoever finds it closed.
///
/// # Errors
/// See [`error`].
pub(super) fn mark_released(call: &Call, paths: &PluginPaths, budget: Budget) -> Result<(), Error> {
    node(paths)
        .mark_released(&call.container_id, &call.ifname, deadline(budget))
        .map_err(error)
}

/// Gives back what was only marked released, and what claims that were killed left. What fails stays.
pub(super) fn finish(paths: &PluginPaths, log: &Log, budget: Budget) {
    let deadline = deadline(budget);
    match node(paths).recover(|_| true, deadline) {
        Ok(done) => {
            for record in done {
                log.info(format_args!(
                    "VF {} of {} restored",
                    record.vf,
                    record.owner.name()
                ));
            }
        }
        Err(error) => log.error(format_args!("{error}")),
    }
}

/// The moment at which a budget is used up.
pub(super) fn deadline(budget: Budget) -> Instant {
    Instant::now() + budget.left()
}
