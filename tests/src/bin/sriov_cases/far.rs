// SPDX-License-Identifier: Apache-2.0
//! Station at the other end of the cable: a kernel network stack in a namespace of its own, with addresses in
//! the untagged network or in VLANs.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use sluice_tests::{Netns, run, wait_for};

use crate::rig::{PATIENCE, Rig};

/// Station at the other end of the cable. Dropping it returns the wire's netdev.
pub(crate) struct Far {
    netns: Netns,
    wire: String,
}

impl Far {
    /// Moves the wire's netdev into a namespace and gives it the untagged `address` (`10.0.0.1/24`), if any.
    pub(crate) fn new(rig: &Rig, address: Option<&str>) -> Result<Far> {
        Far::on(rig.wire_name()?, address)
    }

    /// Makes a station as [`Far::new`] does, at the other end of another PF's cable.
    pub(crate) fn on(wire: &str, address: Option<&str>) -> Result<Far> {
        let wire = wire.to_owned();
        let netns = Netns::new("far")?;
        run(Command::new("ip").args(["link", "set", &wire, "netns", netns.name()]))?;
        netns.ip(&["link", "set", &wire, "up"])?;
        if let Some(address) = address {
            netns.ip(&["address", "add", address, "dev", &wire])?;
        }
        Ok(Far { netns, wire })
    }

    /// Reads the counts of frames that the station's interface in VLAN `vid` received and sent.
    pub(crate) fn frames(&self, vid: u16) -> Result<(u64, u64)> {
        let text = self
            .netns
            .ip(&["-j", "-s", "link", "show", "dev", &format!("vlan{vid}")])?;
        let links: serde_json::Value = serde_json::from_str(&text)?;
        let count = |direction: &str| {
            links[0]["stats64"][direction]["packets"]
                .as_u64()
                .with_context(|| format!("no count in {text}"))
        };
        Ok((count("rx")?, count("tx")?))
    }

    /// Adds an address in VLAN `vid`.
    pub(crate) fn vlan(&self, vid: u16, address: &str) -> Result<()> {
        let (name, id) = (format!("vlan{vid}"), vid.to_string());
        self.netns.ip(&[
            "link", "add", "link", &self.wire, "name", &name, "type", "vlan", "id", &id,
        ])?;
        self.netns.ip(&["link", "set", &name, "up"])?;
        self.netns.ip(&["address", "add", address, "dev", &name])?;
        Ok(())
    }

    /// Returns the station's namespace.
    pub(crate) fn netns(&self) -> &Netns {
        &self.netns
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        // A physical netdev returns by itself when its namespace goes, but later and down.
        let _ = self.netns.ip(&["link", "set", &self.wire, "netns", "1"]);
        let _ = Command::new("ip")
            .args(["link", "set", &self.wire, "up", "promisc", "on"])
            .status();
    }
}

/// Pings `to` from `netns` until it answers.
pub(crate) fn ping(netns: &Netns, to: &str) -> Result<()> {
    let answered = wait_for(&format!("an answer of {to} to a ping"), PATIENCE, || {
        ping_once(netns, to).then_some(())
    });
    if answered.is_err() {
        let neighbours = netns.ip(&["neigh"]).unwrap_or_default();
        anyhow::bail!("no answer of {to} to pings; neighbours: {neighbours}");
    }
    Ok(())
}

/// Whether a ping is answered within two seconds.
pub(crate) fn ping_once(netns: &Netns, to: &str) -> bool {
    run(netns.command("ping").args(["-c", "1", "-W", "2", "-n", to])).is_ok()
}

/// Fails if `to` answers any of three pings.
pub(crate) fn no_ping(netns: &Netns, to: &str) -> Result<()> {
    let answered = run(netns
        .command("ping")
        .args(["-c", "3", "-i", "0.3", "-W", "1", "-n", to]))
    .is_ok();
    ensure!(!answered, "{to} answers a ping that must not reach it");
    Ok(())
}
