// SPDX-License-Identifier: Apache-2.0
//! A host in memory: one PF with VFs, drivers as Linux has them, pods' namespaces as maps.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::host::{Change, Host, Iommu};
use super::journal::Journal;
use crate::links::Netdev;
use crate::settings::{VfChange, VfSettings, VfVlan};
use crate::sysfs::Function;
use crate::{Error, PciAddr};

/// Everything that a claim could change but for the journal: compared as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct World {
    pub(crate) boot_id: String,
    pub(crate) drivers: BTreeSet<String>,
    pub(crate) iommu: Iommu,
    pub(crate) pf_up: bool,
    pub(crate) vfs: BTreeMap<PciAddr, Vf>,
    /// Settings that the PF's driver refuses, by their name.
    pub(crate) refuses: BTreeSet<&'static str>,
    /// Addresses and netdevs that the driver made so far.
    made: u32,
    /// Whether new VFs get a driver.
    pub(crate) autoprobe: bool,
    /// Number of VFs that the PF's driver fails to make.
    pub(crate) fails_at: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Vf {
    pub(crate) id: u16,
    pub(crate) driver: Option<String>,
    pub(crate) driver_override: Option<String>,
    pub(crate) settings: VfSettings,
    pub(crate) netdev: Option<Link>,
    pub(crate) held: Option<String>,
    /// Whether it was reset since a program had it.
    pub(crate) clean: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) name: String,
    pub(crate) mac: [u8; 6],
    pub(crate) mtu: u32,
    pub(crate) up: bool,
    /// The namespace it is in; none is the host's.
    pub(crate) netns: Option<PathBuf>,
}

pub(crate) const PF: &str = "enp1s0";

pub(crate) fn addr(text: &str) -> PciAddr {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

pub(crate) fn pf() -> PciAddr {
    addr("0000:01:00.0")
}

/// VF `index` of the PF.
pub(crate) fn vf(index: usize) -> PciAddr {
    addr(&format!("0000:01:1{}.{}", index / 4, index % 4 * 2))
}

#[derive(Debug, Clone)]
pub(crate) struct FakeHost {
    world: Arc<Mutex<World>>,
    journal: Journal,
}

impl FakeHost {
    /// `count` VFs with igbvf, as after `sriov_numvfs`.
    pub(crate) fn new(state_dir: &Path, count: usize) -> FakeHost {
        let vfs = (0..count).map(|index| (vf(index), Vf::fresh(index, true)));
        FakeHost {
            world: Arc::new(Mutex::new(World {
                boot_id: "boot-1".to_owned(),
                drivers: ["igbvf", "vfio-pci"].map(str::to_owned).into(),
                iommu: Iommu::Translates,
                pf_up: true,
                vfs: vfs.collect(),
                refuses: BTreeSet::new(),
                made: 0,
                autoprobe: true,
                fails_at: None,
            })),
            journal: Journal::below(state_dir),
        }
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// State that must be the same again: all but the number of netdevs made.
    pub(crate) fn snapshot(&self) -> World {
        let mut world = self.world().clone();
        world.made = 0;
        world
    }
}

fn refused(what: &'static str) -> Error {
    sluice_host::FileError::at(what, "fake")(std::io::Error::other("not on this host")).into()
}

impl Vf {
    /// VF as its PF's driver makes it.
    fn fresh(index: usize, probed: bool) -> Vf {
        let settings = VfSettings {
            mac: Some([0; 6]),
            vlan: Some(VfVlan::default()),
            spoofchk: Some(true),
            trust: Some(false),
            min_tx_rate: Some(0),
            max_tx_rate: Some(0),
            ..VfSettings::default()
        };
        let link = Link {
            name: format!("{PF}v{index}"),
            mac: [2, 9, 9, 9, 9, u8::try_from(index).unwrap_or(0)],
            mtu: 1500,
            up: false,
            netns: None,
        };
        Vf {
            id: 0x10ca,
            driver: probed.then(|| "igbvf".to_owned()),
            driver_override: None,
            settings,
            netdev: probed.then_some(link),
            held: None,
            clean: true,
        }
    }
}

impl World {
    /// As `sriov_numvfs` does.
    fn num_vfs(&mut self, count: u32) -> Result<(), Error> {
        let why = match count {
            _ if self.fails_at == Some(count) => "Cannot allocate memory",
            1.. if !self.vfs.is_empty() => "Device or resource busy",
            8.. => "Numerical result out of range",
            _ => {
                let held = self.vfs.values().any(|vf| vf.held.is_some());
                assert!(!held, "the kernel would wait for whoever has a VF open");
                let all = 0..usize::try_from(count).unwrap_or(0);
                let fresh = |index| (vf(index), Vf::fresh(index, self.autoprobe));
                self.vfs = all.map(fresh).collect();
                return Ok(());
            }
        };
        Err(Error::NumVfs {
            pf: pf(),
            count,
            why: why.to_owned(),
        })
    }

    fn vf(&mut self, addr: PciAddr) -> Result<&mut Vf, Error> {
        self.vfs
            .get_mut(&addr)
            .ok_or(Error::NoDevice { device: addr })
    }

    fn netdev_mut(&mut self, name: &str) -> Result<&mut Link, Error> {
        let mut links = self.vfs.values_mut().filter_map(|vf| vf.netdev.as_mut());
        links
            .find(|link| link.name == name && link.netns.is_none())
            .ok_or_else(|| refused("find a netdev in"))
    }

    /// As `drivers_probe` does.
    fn probe(&mut self, addr: PciAddr) -> Result<(), Error> {
        self.made += 1;
        let made = self.made;
        let drivers = self.drivers.clone();
        let vf = self.vf(addr)?;
        if vf.driver.is_some() {
            return Ok(());
        }
        let named = vf.driver_override.clone();
        let driver = named.unwrap_or_else(|| "igbvf".to_owned());
        if !drivers.contains(&driver) {
            return Ok(());
        }
        if driver == "igbvf" {
            // It takes the administrative address; without one it makes one up.
            let low = u8::try_from(made % 256).unwrap_or(0);
            let mac = vf.settings.mac.filter(|mac| *mac != [0; 6]);
            vf.netdev = Some(Link {
                name: format!("eth{made}"),
                mac: mac.unwrap_or([6, 6, 6, 6, 6, low]),
                mtu: 1500,
                up: false,
                netns: None,
            });
        }
        vf.driver = Some(driver);
        Ok(())
    }

    fn set(&mut self, index: u32, change: VfChange) -> Result<(), Error> {
        let at = usize::try_from(index).unwrap_or(usize::MAX);
        let setting = change.to_string();
        if self.refuses.iter().any(|name| setting.starts_with(name)) {
            return Err(Error::Setting {
                pf: PF.to_owned(),
                index,
                setting,
                why: "Operation not supported".to_owned(),
            });
        }
        let settings = &mut self.vf(vf(at))?.settings;
        match change {
            VfChange::Mac(mac) => settings.mac = Some(mac),
            VfChange::Vlan(vlan) => settings.vlan = Some(vlan),
            VfChange::Spoofchk(on) => settings.spoofchk = Some(on),
            VfChange::Trust(on) => settings.trust = Some(on),
            VfChange::Rate { min, max } => {
                (settings.min_tx_rate, settings.max_tx_rate) = (Some(min), Some(max));
            }
            VfChange::Link(link) => settings.link_state = Some(link),
        }
        Ok(())
    }
}

impl Host for FakeHost {
    fn boot_id(&self) -> Result<String, Error> {
        Ok(self.world().boot_id.clone())
    }

    fn function(&self, addr: PciAddr) -> Result<Function, Error> {
        let mut world = self.world();
        let mut function = Function {
            addr,
            vendor: 0x8086,
            device: 0x10c9,
            driver: Some("igb".to_owned()),
            driver_override: None,
            iommu_group: Some(7),
            numa_node: None,
            netdevs: vec![PF.to_owned()],
            physfn: None,
            sriov: Some((7, u32::try_from(world.vfs.len()).unwrap_or(0))),
        };
        if addr != pf() {
            let vf = world.vf(addr)?;
            function.device = vf.id;
            function.driver.clone_from(&vf.driver);
            function.driver_override.clone_from(&vf.driver_override);
            function.physfn = Some(pf());
            function.sriov = None;
            let here = vf.netdev.iter().filter(|link| link.netns.is_none());
            function.netdevs = here.map(|link| link.name.clone()).collect();
        }
        Ok(function)
    }

    fn pf_of_netdev(&self, netdev: &str) -> Result<PciAddr, Error> {
        let known = netdev == PF;
        known.then(pf).ok_or_else(|| Error::NoPf(netdev.to_owned()))
    }

    fn vfs(&self, _: PciAddr) -> Result<Vec<PciAddr>, Error> {
        Ok(self.world().vfs.keys().copied().collect())
    }

    fn has_driver(&self, name: &str) -> bool {
        self.world().drivers.contains(name)
    }

    fn iommu(&self, _: &Function) -> Iommu {
        self.world().iommu
    }

    fn can_reset(&self, _: PciAddr) -> bool {
        true
    }

    fn held_open(&self, function: &Function) -> Option<String> {
        self.world().vfs.get(&function.addr)?.held.clone()
    }

    fn netdev(&self, name: &str) -> Result<Option<Netdev>, Error> {
        let mut world = self.world();
        let is_pf = (name == PF).then_some((world.pf_up, [2, 0, 0, 0, 0, 1], 1500));
        let found = is_pf.or_else(|| {
            let link = world.netdev_mut(name).ok()?;
            Some((link.up, link.mac, link.mtu))
        });
        Ok(found.map(|(up, mac, mtu)| Netdev {
            index: 1,
            up,
            mac: Some(mac),
            mtu,
            addressed: false,
        }))
    }

    fn vf_settings(&self, _: &str, index: u32) -> Result<VfSettings, Error> {
        let at = usize::try_from(index).unwrap_or(usize::MAX);
        Ok(self.world().vf(vf(at))?.settings.clone())
    }

    fn apply(&self, change: &Change<'_>) -> Result<(), Error> {
        let mut world = self.world();
        match *change {
            Change::Write(record) => self.journal.write(record)?,
            Change::Forget(vf) => self.journal.remove(vf)?,
            Change::Override(vf, driver) => {
                world.vf(vf)?.driver_override = driver.map(str::to_owned);
            }
            Change::Unbind(vf) => {
                let vf = world.vf(vf)?;
                assert!(vf.held.is_none(), "a VF that is open was unbound");
                vf.driver.take().ok_or_else(|| refused("unbind"))?;
                vf.netdev = None;
            }
            Change::Probe(vf) => world.probe(vf)?,
            Change::Reset(vf) => {
                let vf = world.vf(vf)?;
                assert!(vf.held.is_none(), "a VF that is open was reset");
                vf.clean = true;
            }
            Change::SetVf(_, index, change) => world.set(index, change)?,
            Change::Move(from, netns, name) => {
                let link = world.netdev_mut(from)?;
                link.netns = Some(netns.to_owned());
                name.clone_into(&mut link.name);
            }
            Change::Rename(from, to) => {
                to.clone_into(&mut world.netdev_mut(from)?.name);
            }
            Change::Netdev(name, mtu, mac, up) => {
                let link = world.netdev_mut(name)?;
                (link.mtu, link.up) = (mtu, up);
                link.mac = mac.unwrap_or(link.mac);
                // As igb does with a MAC address that a VF asks for.
                let of = |vf: &&mut Vf| vf.netdev.as_ref().is_some_and(|link| link.name == name);
                if let Some(vf) = world.vfs.values_mut().find(of).filter(|_| mac.is_some()) {
                    vf.settings.mac = mac;
                }
            }
            Change::NumVfs(_, count) => world.num_vfs(count)?,
            Change::Autoprobe(_, on) => world.autoprobe = on,
        }
        Ok(())
    }

    fn pause(&self, _: Duration) {
        std::thread::yield_now();
    }
}
