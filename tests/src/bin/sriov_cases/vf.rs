// SPDX-License-Identifier: Apache-2.0
//! VF as the kernel shows it, with all of its state that DEL must restore.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use sluice_tests::{run, wait_for};

/// Returns the sysfs folder of a netdev's PCI device.
pub(crate) fn sysfs(netdev: &str) -> PathBuf {
    Path::new("/sys/class/net").join(netdev).join("device")
}

/// VF under test.
#[derive(Debug, Clone)]
pub(crate) struct Vf {
    pub(crate) pf: String,
    pub(crate) index: usize,
    /// PCI address, such as `0000:01:10.0`.
    pub(crate) address: String,
}

/// State of a VF that DEL must restore exactly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Snapshot {
    driver: Option<String>,
    driver_override: String,
    netdev: Option<String>,
    netdev_mac: Option<String>,
    netdev_mtu: Option<String>,
    netdev_flags: Option<String>,
    /// Settings of the VF at the PF: MAC, VLAN, QoS, spoof checking, link state, trust, rates.
    pf_line: String,
    config_command: Vec<u8>,
}

impl Snapshot {
    /// Returns the settings of the VF at the PF.
    pub(crate) fn pf_line(&self) -> &str {
        &self.pf_line
    }
}

impl Vf {
    /// Finds VF `index` of `pf`.
    pub(crate) fn of(pf: &str, index: usize) -> Result<Vf> {
        let link = sysfs(pf).join(format!("virtfn{index}"));
        let target = fs::read_link(&link).with_context(|| format!("{pf} has no VF {index}"))?;
        let address = target.file_name().context("no address")?;
        Ok(Vf {
            pf: pf.to_owned(),
            index,
            address: address.to_string_lossy().into_owned(),
        })
    }

    /// Returns the VF's folder in sysfs.
    pub(crate) fn device(&self) -> PathBuf {
        Path::new("/sys/bus/pci/devices").join(&self.address)
    }

    /// Returns the driver that the VF is bound to.
    pub(crate) fn driver(&self) -> Option<String> {
        let link = fs::read_link(self.device().join("driver")).ok()?;
        Some(link.file_name()?.to_string_lossy().into_owned())
    }

    /// Returns the VF's netdev, if it has one in this network namespace.
    pub(crate) fn netdev(&self) -> Option<String> {
        let mut names = fs::read_dir(self.device().join("net")).ok()?;
        Some(
            names
                .next()?
                .ok()?
                .file_name()
                .to_string_lossy()
                .into_owned(),
        )
    }

    /// Reads the VF's line of `ip link show` of the PF.
    pub(crate) fn pf_line(&self) -> Result<String> {
        let text = run(Command::new("ip").args(["link", "show", "dev", &self.pf]))?;
        let start = format!("vf {} ", self.index);
        let line = text
            .lines()
            .find(|line| line.trim_start().starts_with(&start));
        Ok(line
            .with_context(|| format!("{} shows no VF {}", self.pf, self.index))?
            .trim()
            .to_owned())
    }

    /// Changes a setting of the VF at the PF: `ip link set PF vf N ...`.
    pub(crate) fn set(&self, args: &[&str]) -> Result<()> {
        let index = self.index.to_string();
        run(Command::new("ip")
            .args(["link", "set", "dev", &self.pf, "vf", &index])
            .args(args))?;
        Ok(())
    }

    /// Binds the VF to a driver through sysfs.
    pub(crate) fn bind(&self, driver: &str) -> Result<()> {
        fs::write(self.device().join("driver_override"), driver)?;
        if self.driver().is_some() {
            fs::write(self.device().join("driver/unbind"), &self.address)?;
        }
        fs::write("/sys/bus/pci/drivers_probe", &self.address)?;
        ensure!(
            self.driver().as_deref() == Some(driver),
            "{} is bound to {:?}, not to {driver}",
            self.address,
            self.driver()
        );
        Ok(())
    }

    /// Takes a snapshot of the state that DEL must restore.
    pub(crate) fn snapshot(&self) -> Result<Snapshot> {
        let read = |name: &str| {
            fs::read_to_string(self.device().join(name)).map(|text| text.trim().to_owned())
        };
        let netdev = self.netdev();
        let of_netdev = |name: &str| {
            let path = self
                .device()
                .join("net")
                .join(netdev.as_deref()?)
                .join(name);
            Some(fs::read_to_string(path).ok()?.trim().to_owned())
        };
        let config = fs::read(self.device().join("config"))?;
        Ok(Snapshot {
            driver: self.driver(),
            driver_override: read("driver_override")?,
            netdev_mac: of_netdev("address"),
            netdev_mtu: of_netdev("mtu"),
            netdev_flags: of_netdev("flags"),
            pf_line: self.pf_line()?,
            config_command: config.get(4..6).unwrap_or_default().to_vec(),
            netdev,
        })
    }

    /// Waits until the VF is in the state `before`; the error says what differs.
    pub(crate) fn expect(&self, before: &Snapshot) -> Result<()> {
        let same = wait_for(
            "the VF to be as it was",
            std::time::Duration::from_secs(10),
            || (self.snapshot().ok()? == *before).then_some(()),
        );
        if same.is_err() {
            let after = self.snapshot()?;
            anyhow::bail!(
                "VF {} of {} is not as it was: before {before:?}, after {after:?}",
                self.index,
                self.pf
            );
        }
        Ok(())
    }
}
