// SPDX-License-Identifier: Apache-2.0
//! Twenty pods at once for the VFs of one PF.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use sluice_tests::Netns;
use sluice_tests::cni::{Answer, Sandbox};

use super::{Case, case};
use crate::rig::Rig;

pub(crate) const CASES: &[Case] = &[case(
    "twenty-adds-at-once",
    "twenty ADDs at once: each VF once, the others refused with code 11, nothing leaked",
    400,
    twenty,
)];

fn twenty(rig: &Rig) -> Result<()> {
    let vfs = rig.vfs(rig.most_vfs()?)?;
    let before: Vec<_> = vfs.iter().map(|vf| vf.snapshot()).collect::<Result<_>>()?;
    let plugins = rig.plugins()?;
    let conf =
        rig.conf(json!({"mode": "vfio", "vlan": 210, "ipam": rig.host_local("10.21.0.0/24")}));
    let pods = (0..20)
        .map(|_| Netns::new("pod"))
        .collect::<Result<Vec<_>>>()?;
    let sandboxes: Vec<_> = pods
        .iter()
        .enumerate()
        .map(|(index, pod)| Sandbox::new(&format!("many-{index}"), pod, "net0"))
        .collect();
    let started = sandboxes
        .iter()
        .map(|sandbox| plugins.start("ADD", sandbox, &conf))
        .collect::<Result<Vec<_>>>()?;
    let mut given = BTreeSet::new();
    let mut refused = 0;
    for child in started {
        let answer = Answer::of(&child.wait_with_output()?);
        if answer.code == Some(0) {
            let result = answer.ok()?;
            let address = result["interfaces"][0]["pciID"]
                .as_str()
                .context("no pciID")?;
            ensure!(
                given.insert(address.to_owned()),
                "{address} was given twice"
            );
        } else {
            answer.refused(11)?;
            refused += 1;
        }
    }
    ensure!(
        given.len() == vfs.len(),
        "{} of {} VFs were given",
        given.len(),
        vfs.len()
    );
    ensure!(refused == 20 - vfs.len(), "{refused} ADDs were refused");
    ensure!(
        rig.reserved().len() == vfs.len(),
        "ipam gave {:?}",
        rig.reserved()
    );
    ensure!(
        rig.journal().len() == vfs.len(),
        "the journal has {:?}",
        rig.journal()
    );
    for sandbox in &sandboxes {
        plugins.del(sandbox, &conf)?;
    }
    for (vf, before) in vfs.iter().zip(&before) {
        vf.expect(before)?;
    }
    rig.nothing_held()
}
