// SPDX-License-Identifier: Apache-2.0
//! A pod with an ordinary eth0 and two interfaces on the engine, by the meta plugin.

use std::sync::Arc;

use ipnet::IpNet;

use super::testbed::Testbed;
use crate::Scene;
use crate::columns::row;
use crate::failure::{Failure, expect_eq};
use crate::interface::Interface;
use crate::namespace::Namespace;
use crate::plan::{self, DATA, VOICE};
use crate::report::Findings;
use crate::runtime::{Plugin, Sandbox, address_of, mac_of};

/// The VNF's pod.
#[derive(Debug)]
pub(crate) struct Pod<'a> {
    pub(crate) sandbox: Sandbox<'a>,
    /// eth0's address.
    pub(crate) eth0: IpNet,
    pub(crate) voice: Interface,
    pub(crate) data: Interface,
}

pub(crate) fn add<'a>(
    scene: &'a Scene,
    testbed: &Testbed<'_>,
    findings: &mut Findings,
) -> Result<Pod<'a>, Failure> {
    let home = &scene.home;
    let namespace = Namespace::add(&scene.programs.ip, &format!("{}-pod", home.mark()))?;
    let namespace = Arc::new(namespace);
    let network = (Plugin::Sluicegate, "eth0", plan::pod_network(home));
    let mut sandbox = Sandbox::new(scene, &testbed.node, &namespace, "vnf", network);
    let result = sandbox.add()?;

    let eth0 = address_of(&result, "eth0").and_then(|text| text.parse::<IpNet>().ok());
    let eth0 = eth0.ok_or_else(|| {
        Failure::unexpected(
            "the result of ADD",
            "an address of eth0",
            result.to_string(),
        )
    })?;
    let links = namespace.links()?;
    expect_eq("kernel links in the pod", &vec!["eth0".to_owned()], &links)?;
    // The master's result alone is returned; the engine tells of the others.
    let container = sandbox.container.clone();
    let voice = Interface::of(&testbed.engine, &container, "net0", VOICE)?;
    let data = Interface::of(&testbed.engine, &container, "net1", DATA)?;
    let sockets = namespace.unix_sockets()?;
    for interface in [&voice, &data] {
        let name = format!("@{}", interface.socket);
        if !sockets.contains(&name) {
            let what = "abstract sockets in the pod's namespace";
            return Err(Failure::unexpected(what, name, sockets.join(", ")));
        }
    }
    sandbox.check()?;

    let mut rows = vec![
        row(["interface", "network", "address", "MAC", "by"]),
        row([
            "eth0",
            &plan::bridge(home),
            &eth0.to_string(),
            &mac_of(&result, "eth0").unwrap_or_default(),
            "bridge, host-local: a kernel link",
        ]),
    ];
    for one in [&voice, &data] {
        rows.push(row([
            one.ifname,
            &format!("VLAN {}", one.segment.vid),
            &one.address.to_string(),
            &one.mac.to_string(),
            &format!("sluicegate-vf: memif @{}", one.socket),
        ]));
        findings.fact(one.ifname, one.address.to_string());
    }
    findings.table(&rows);
    findings.fact("eth0", eth0.to_string());
    findings.proven(
        "one CNI ADD makes eth0 and two data-plane interfaces",
        "executed as a runtime does; CHECK agrees",
    );
    Ok(Pod {
        sandbox,
        eth0,
        voice,
        data,
    })
}
