// SPDX-License-Identifier: Apache-2.0
//! Selectors of VFs, as the configuration of the SR-IOV network device plugin has them: each narrows the choice, and
//! an empty one admits all.

use std::fmt;
use std::str::FromStr;

use sluice_sriov::PciAddr;
use sluice_sriov::view::{ARPHRD_ETHER, ARPHRD_INFINIBAND, VfView};

/// Choice of VFs. Fields that are empty do not narrow it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector {
    /// PCI vendor ids.
    pub vendors: Vec<u16>,
    /// PCI device ids.
    pub devices: Vec<u16>,
    /// Drivers of the VF: the one that it has, or had before it was taken for a pod.
    pub drivers: Vec<String>,
    /// PCI addresses of VFs.
    pub pci_addresses: Vec<PciAddr>,
    /// Indices that the firmware gives functions.
    pub acpi_indexes: Vec<String>,
    /// PFs by name, with indices of VFs.
    pub pfs: Vec<VfRange>,
    /// PFs by PCI address, with indices of VFs.
    pub root_devices: Vec<VfRange>,
    /// Types of the PF's link: `ether` or `infiniband`.
    pub link_types: Vec<String>,
    /// Whether the container also gets /dev/vhost-net and /dev/net/tun.
    pub need_vhost_net: bool,
}

/// PF, and the VFs of it that are meant: `ens1f0#0,2-7`. Without indices, all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VfRange {
    /// Name or PCI address of the PF.
    pub pf: String,
    /// First and last index of each range.
    pub ranges: Vec<(u32, u32)>,
}

/// Text that is not a PF with indices of VFs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("use a PF and, behind a #, indices of its VFs, as in ens1f0#0,2-7")]
pub struct VfRangeError;

impl FromStr for VfRange {
    type Err = VfRangeError;

    fn from_str(text: &str) -> Result<VfRange, VfRangeError> {
        let (pf, list) = match text.split_once('#') {
            Some((pf, list)) => (pf, Some(list)),
            None => (text, None),
        };
        if pf.is_empty() {
            return Err(VfRangeError);
        }
        let number = |text: &str| text.trim().parse::<u32>().map_err(|_| VfRangeError);
        let mut ranges = Vec::new();
        for part in list.into_iter().flat_map(|list| list.split(',')) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(VfRangeError);
            }
            ranges.push((first, last));
        }
        Ok(VfRange {
            pf: pf.to_owned(),
            ranges,
        })
    }
}

impl fmt::Display for VfRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.pf)?;
        for (at, (first, last)) in self.ranges.iter().enumerate() {
            f.write_str(if at == 0 { "#" } else { "," })?;
            write!(f, "{first}")?;
            if first != last {
                write!(f, "-{last}")?;
            }
        }
        Ok(())
    }
}

impl VfRange {
    fn has(&self, index: u32) -> bool {
        self.ranges.is_empty()
            || self
                .ranges
                .iter()
                .any(|(first, last)| (*first..=*last).contains(&index))
    }
}

/// Parses a PCI vendor or device id: four hexadecimal digits.
pub fn pci_id(text: &str) -> Option<u16> {
    let digits = text.trim().trim_start_matches("0x");
    u16::from_str_radix(digits, 16).ok()
}

impl Selector {
    /// Whether a VF is meant. `driver` is the one that it has, or had before it was taken for a pod; `link_type` is
    /// that of its PF.
    pub fn admits(&self, view: &VfView, driver: Option<&str>, link_type: Option<u32>) -> bool {
        let named = |names: &[String], name: Option<&str>| {
            names.is_empty() || names.iter().any(|one| Some(one.as_str()) == name)
        };
        let of_pf = |ranges: &[VfRange], is_it: &dyn Fn(&str) -> bool| {
            ranges.is_empty()
                || ranges
                    .iter()
                    .any(|one| is_it(&one.pf) && one.has(view.index))
        };
        let pf = view.pf.to_string();
        let link_type = match link_type {
            Some(ARPHRD_ETHER) => Some("ether"),
            Some(ARPHRD_INFINIBAND) => Some("infiniband"),
            _ => None,
        };
        (self.vendors.is_empty() || self.vendors.contains(&view.vf.vendor))
            && (self.devices.is_empty() || self.devices.contains(&view.vf.device))
            && named(&self.drivers, driver)
            && (self.pci_addresses.is_empty() || self.pci_addresses.contains(&view.vf.addr))
            && named(&self.acpi_indexes, view.acpi_index.as_deref())
            && of_pf(&self.pfs, &|name| {
                view.pf_netdevs.iter().any(|netdev| netdev == name)
            })
            && of_pf(&self.root_devices, &|name| name.eq_ignore_ascii_case(&pf))
            && named(&self.link_types, link_type)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use sluice_sriov::sysfs::Function;

    #[test]
    fn ranges_are_read_as_peers_write_them() {
        let range: VfRange = "netpf0#0,2-7,9".parse().unwrap();
        let has: Vec<u32> = (0..12).filter(|index| range.has(*index)).collect();
        assert_eq!(has, [0, 2, 3, 4, 5, 6, 7, 9]);
        assert_eq!(range.to_string(), "netpf0#0,2-7,9");
        let all: VfRange = "0000:86:00.0".parse().unwrap();
        assert!(all.has(0) && all.has(63));
        for bad in ["", "#1", "a#", "a#x", "a#3-1", "a#1,,2"] {
            assert_eq!(bad.parse::<VfRange>(), Err(VfRangeError), "{bad}");
        }
    }

    #[test]
    fn each_field_narrows_the_choice() {
        let view = VfView {
            vf: Function {
                addr: "0000:01:10.2".parse().unwrap(),
                vendor: 0x8086,
                device: 0x10ca,
                driver: Some("vfio-pci".into()),
                driver_override: None,
                iommu_group: Some(7),
                numa_node: None,
                netdevs: Vec::new(),
                physfn: None,
                sriov: None,
            },
            pf: "0000:01:00.0".parse().unwrap(),
            index: 1,
            pf_netdevs: vec!["enp1s0".into()],
            acpi_index: Some("101".into()),
        };
        let admits = |selector: Selector| selector.admits(&view, Some("igbvf"), Some(1));
        let all = Selector::default;
        assert!(admits(all()));
        let text = |one: &str| vec![one.to_owned()];
        let range = |one: &str| vec![one.parse().unwrap()];
        for (yes, no) in [
            (
                Selector {
                    vendors: vec![0x8086],
                    ..all()
                },
                Selector {
                    vendors: vec![0x15b3],
                    ..all()
                },
            ),
            (
                Selector {
                    devices: vec![0x10ca],
                    ..all()
                },
                Selector {
                    devices: vec![1],
                    ..all()
                },
            ),
            (
                Selector {
                    drivers: text("igbvf"),
                    ..all()
                },
                Selector {
                    drivers: text("vfio-pci"),
                    ..all()
                },
            ),
            (
                Selector {
                    acpi_indexes: text("101"),
                    ..all()
                },
                Selector {
                    acpi_indexes: text("1"),
                    ..all()
                },
            ),
            (
                Selector {
                    pfs: range("enp1s0#1-2"),
                    ..all()
                },
                Selector {
                    pfs: range("enp1s0#0"),
                    ..all()
                },
            ),
            (
                Selector {
                    root_devices: range("0000:01:00.0"),
                    ..all()
                },
                Selector {
                    root_devices: range("0000:01:00.0#2-5"),
                    ..all()
                },
            ),
            (
                Selector {
                    link_types: text("ether"),
                    ..all()
                },
                Selector {
                    link_types: text("infiniband"),
                    ..all()
                },
            ),
            (
                Selector {
                    pci_addresses: vec!["0000:01:10.2".parse().unwrap()],
                    ..all()
                },
                Selector {
                    pci_addresses: vec!["0000:01:10.4".parse().unwrap()],
                    ..all()
                },
            ),
        ] {
            assert!(admits(yes.clone()), "{yes:?}");
            assert!(!admits(no.clone()), "{no:?}");
        }
        assert_eq!(
            (pci_id("154c"), pci_id("0x8086"), pci_id("i40")),
            (Some(0x154c), Some(0x8086), None)
        );
    }
}
