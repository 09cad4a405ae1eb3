// SPDX-License-Identifier: Apache-2.0
//! The cases, in the order in which they run: first whether the rig itself works.

mod crash;
mod document_pods;
mod documents;
mod driver;
mod engine;
mod kernel;
mod many;
mod node;
mod pose;
mod selfcheck;
mod sriov_page;
mod switch;
mod teardown;
mod vf_life;
mod vfio;
mod vfs_create;
mod virtual_firewall;
mod wire;

use anyhow::Result;

use crate::rig::Rig;

/// Case over real VFs.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// Statement that the case proves, in one line.
    pub(crate) what: &'static str,
    /// Seconds after which the case has failed: many times its usual time, since the machine may be busy.
    pub(crate) limit: u64,
    pub(crate) run: fn(&Rig) -> Result<()>,
    /// Whether the case needs Kubernetes on the machine.
    pub(crate) cluster: bool,
}

impl Case {
    /// Marks a case that needs Kubernetes on the machine.
    const fn in_cluster(mut self) -> Case {
        self.cluster = true;
        self
    }
}

/// Creates an entry of a table of cases.
const fn case(
    name: &'static str,
    what: &'static str,
    limit: u64,
    run: fn(&Rig) -> Result<()>,
) -> Case {
    Case {
        name,
        what,
        limit,
        run,
        cluster: false,
    }
}

/// Lists every case, in the order in which they run.
pub(crate) fn all() -> Vec<&'static Case> {
    [
        selfcheck::CASES,
        node::CASES,
        vfs_create::CASES,
        crash::CASES,
        kernel::CASES,
        vfio::CASES,
        teardown::CASES,
        many::CASES,
        documents::CASES,
        driver::CASES,
        engine::CASES,
        switch::CASES,
        virtual_firewall::CASES,
        pose::CASES,
        vf_life::CASES,
        sriov_page::CASES,
        // Last, as Kubernetes runs from the first of them on.
        document_pods::CASES,
    ]
    .into_iter()
    .flatten()
    .collect()
}
