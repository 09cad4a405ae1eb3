// SPDX-License-Identifier: Apache-2.0
//! `sluicectl vfs`: the node's PFs and their VFs, as sysfs and the kernel tell of them, whose they are by
//! the VF journal, and what the engine has counted on those it drives. Without an engine all but the
//! counts are shown.

use std::path::Path;

use comfy_table::Cell;
use serde::Serialize;
use sluice_api::UplinkStatus;
use sluice_api::client::Client;
use sluice_sriov::claim::{Entry, Journal, Mode, Phase};
use sluice_sriov::settings::{Mac, VfLink, VfSettings};
use sluice_sriov::sysfs::{Function, Sysfs};
use sluice_sriov::{Error, PciAddr, links};

use super::Failure;
use super::output::{Output, Style, render};

/// PF with its VFs.
#[derive(Debug, Serialize)]
pub(super) struct Pf {
    /// Netdev of the PF; absent if no kernel driver has it, so that nothing can be set for its VFs.
    netdev: Option<String>,
    address: PciAddr,
    driver: Option<String>,
    numa_node: Option<u32>,
    /// Whether its netdev is set up; while it is not, its VFs reach nothing.
    up: Option<bool>,
    /// VFs it can have.
    most_vfs: u32,
    vfs: Vec<Vf>,
}

/// VF, with what kernel, journal and engine say of it.
#[derive(Debug, Serialize)]
struct Vf {
    index: usize,
    address: PciAddr,
    driver: Option<String>,
    iommu_group: Option<u32>,
    netdevs: Vec<String>,
    /// NUMA node, where the firmware reports one.
    numa_node: Option<u32>,
    /// Settings that the PF has for it; absent where the PF does not report them.
    settings: Option<VfSettings>,
    /// Owner by the VF journal: `container/ifname`.
    owner: Option<String>,
    /// Mode in which the owner uses it.
    mode: Option<Mode>,
    /// Uplink of the engine, if the engine drives it.
    engine: Option<UplinkStatus>,
}

/// Facts about VFs that the kernel does not know.
struct Known {
    journal: Journal,
    uplinks: Vec<UplinkStatus>,
}

/// Shows them, those of PF `only` alone if it is given.
pub(super) fn run(
    client: &Client,
    state_dir: &Path,
    only: Option<&str>,
    output: &mut Output,
) -> Result<(), Failure> {
    let known = Known {
        journal: Journal::below(state_dir),
        // An engine that is down keeps nobody from seeing the rest.
        uplinks: client
            .status()
            .map_or_else(|_| Vec::new(), |status| status.uplinks),
    };
    let all = read(&Sysfs::default(), &known, only)?;
    output.show(&all, |pfs, style| table(pfs, style))?;
    Ok(())
}

fn read(sysfs: &Sysfs, known: &Known, only: Option<&str>) -> Result<Vec<Pf>, Error> {
    let functions = match only {
        Some(netdev) => vec![sysfs.function(sysfs.pf_of_netdev(netdev)?)?],
        None => sysfs.pfs()?,
    };
    functions
        .iter()
        .map(|pf| read_pf(sysfs, known, pf))
        .collect()
}

impl Known {
    /// Owner of a VF and the mode it is used in.
    fn owner(&self, vf: PciAddr) -> (Option<String>, Option<Mode>) {
        match self.journal.read(vf) {
            Ok(Entry::Whole(record)) => {
                let owner = &record.owner;
                let mut name = format!("{}/{}", owner.container_id, owner.ifname);
                if record.phase == Phase::Released {
                    name.push_str(" (released)");
                }
                (Some(name), Some(record.mode))
            }
            Ok(Entry::Torn(_)) => (Some("? (torn record)".to_owned()), None),
            Ok(Entry::Absent) | Err(_) => (None, None),
        }
    }

    fn uplink(&self, vf: PciAddr) -> Option<UplinkStatus> {
        let name = vf.to_string();
        let uplink = self.uplinks.iter().find(|uplink| uplink.name == name);
        uplink.cloned()
    }
}

fn read_pf(sysfs: &Sysfs, known: &Known, pf: &Function) -> Result<Pf, Error> {
    let netdev = pf.netdevs.first().cloned();
    let mut vfs = Vec::new();
    for (index, address) in sysfs.vfs(pf.addr)?.into_iter().enumerate() {
        let vf = sysfs.function(address)?;
        let settings = netdev.as_deref().zip(u32::try_from(index).ok());
        let (owner, mode) = known.owner(address);
        vfs.push(Vf {
            index,
            address,
            driver: vf.driver,
            iommu_group: vf.iommu_group,
            netdevs: vf.netdevs,
            numa_node: vf.numa_node,
            owner,
            mode,
            engine: known.uplink(address),
            // A PF that does not tell keeps nobody from seeing the rest.
            settings: settings.and_then(|(pf, index)| links::vf_settings(pf, index).ok()),
        });
    }
    let up = netdev.as_deref().and_then(|name| links::netdev(name).ok()?);
    Ok(Pf {
        up: up.map(|netdev| netdev.up),
        netdev,
        address: pf.addr,
        driver: pf.driver.clone(),
        numa_node: pf.numa_node,
        most_vfs: pf.sriov.map_or(0, |(most, _)| most),
        vfs,
    })
}

fn table(pfs: &[Pf], style: Style) -> String {
    if pfs.is_empty() {
        return "no SR-IOV PFs on this node\n".to_owned();
    }
    let mut text = String::new();
    for pf in pfs {
        if !text.is_empty() {
            text.push('\n');
        }
        let state = match pf.up {
            Some(true) => "up",
            Some(false) => "down, and its VFs with it",
            None => "without a netdev",
        };
        let numa = pf
            .numa_node
            .map_or_else(String::new, |node| format!(", NUMA node {node}"));
        text.push_str(&format!(
            "PF {} at {} ({}{numa}) is {state}; {} of {} VFs\n",
            pf.netdev.as_deref().unwrap_or("-"),
            pf.address,
            or_none(pf.driver.as_deref()),
            pf.vfs.len(),
            pf.most_vfs,
        ));
        if pf.vfs.is_empty() {
            continue;
        }
        let mut rows = style.table(&[
            "VF", "ADDRESS", "DRIVER", "GROUP", "NUMA", "OWNER", "NETDEV", "MAC", "VLAN", "LINK",
            "SPOOFCHK", "TRUST", "RX", "TX",
        ]);
        for vf in &pf.vfs {
            rows.add_row(row(vf, style));
        }
        text.push_str(&render(rows));
    }
    text
}

fn row(vf: &Vf, style: Style) -> Vec<Cell> {
    let unknown = VfSettings::default();
    let settings = vf.settings.as_ref().unwrap_or(&unknown);
    let on_off = |value: Option<bool>| match value {
        Some(true) => "on",
        Some(false) => "off",
        None => "?",
    };
    let mac = match settings.mac {
        Some([0, 0, 0, 0, 0, 0]) => "its own choice".to_owned(),
        Some(mac) => Mac(mac).to_string(),
        None => "?".to_owned(),
    };
    let vlan = match settings.vlan {
        Some(vlan) if vlan.vid == 0 => "none".to_owned(),
        Some(vlan) if vlan.is_8021ad => format!("{} (802.1ad)", vlan.vid),
        Some(vlan) => vlan.vid.to_string(),
        None => "?".to_owned(),
    };
    let counts = vf.engine.as_ref().and_then(|uplink| uplink.nic);
    let count = |count: Option<u64>| match count {
        Some(count) => style.number(count),
        None => Cell::new("-"),
    };
    // The engine knows whether there is a link; the PF only what is laid down.
    let link = match (&vf.engine, settings.link_state) {
        (Some(uplink), _) => uplink.link.to_string(),
        (None, Some(VfLink::Auto)) => "auto".to_owned(),
        (None, Some(VfLink::Enable)) => "enable".to_owned(),
        (None, Some(VfLink::Disable)) => "disable".to_owned(),
        (None, None) => "?".to_owned(),
    };
    vec![
        style.number(vf.index),
        Cell::new(vf.address),
        Cell::new(or_none(vf.driver.as_deref())),
        match vf.iommu_group {
            Some(group) => style.number(group),
            None => style.bad("none"),
        },
        match vf.numa_node {
            Some(node) => style.number(node),
            None => Cell::new("-"),
        },
        Cell::new(vf.owner.as_deref().unwrap_or("-")),
        Cell::new(if vf.netdevs.is_empty() {
            "-".to_owned()
        } else {
            vf.netdevs.join(" ")
        }),
        Cell::new(mac),
        Cell::new(vlan),
        Cell::new(link),
        Cell::new(on_off(settings.spoofchk)),
        Cell::new(on_off(settings.trust)),
        count(counts.map(|nic| nic.rx_frames)),
        count(counts.map(|nic| nic.tx_frames)),
    ]
}

fn or_none(name: Option<&str>) -> &str {
    name.unwrap_or("no driver")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use sluice_sriov::settings::VfVlan;

    #[test]
    fn what_is_known_and_what_is_not() {
        let vf = |index, settings| Vf {
            index,
            address: format!("0000:01:10.{}", 2 * index).parse().unwrap(),
            driver: Some("vfio-pci".into()),
            iommu_group: Some(17),
            netdevs: Vec::new(),
            numa_node: None,
            owner: (index == 0).then(|| "c0ffee/net1".to_owned()),
            mode: (index == 0).then_some(Mode::Engine),
            engine: None,
            settings,
        };
        let vlan = VfVlan {
            vid: 210,
            qos: 5,
            is_8021ad: false,
        };
        let known = VfSettings {
            mac: Some([2, 0, 0, 0, 0, 1]),
            vlan: Some(vlan),
            spoofchk: Some(true),
            trust: Some(false),
            link_state: Some(VfLink::Auto),
            ..VfSettings::default()
        };
        let pf = Pf {
            netdev: Some("enp2s0".into()),
            address: "0000:01:00.0".parse().unwrap(),
            driver: Some("igb".into()),
            numa_node: None,
            up: Some(false),
            most_vfs: 7,
            vfs: vec![vf(0, Some(known)), vf(1, None)],
        };
        let text = table(&[pf], Style::plain());
        let words: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert!(text.starts_with(
            "PF enp2s0 at 0000:01:00.0 (igb) is down, and its VFs with it; 2 of 7 VFs\n"
        ));
        assert_eq!(
            words[2],
            [
                "0",
                "0000:01:10.0",
                "vfio-pci",
                "17",
                "-",
                "c0ffee/net1",
                "-",
                "02:00:00:00:00:01",
                "210",
                "auto",
                "on",
                "off",
                "-",
                "-"
            ]
        );
        assert_eq!(words[3][7..12], ["?", "?", "?", "?", "?"]);
        assert!(table(&[], Style::plain()).contains("no SR-IOV PFs"));
    }
}
