// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;
use crate::ioctl::fake::kernel;
use crate::{Device, VfioDevice};

/// A node with two VFs: 0000:01:10.0 in group 7, 0000:01:10.2 in group 8, both with vfio-pci.
pub(crate) struct Node {
    /// Gone with the node.
    _folder: TempDir,
    pub(crate) host: HostTree,
}

pub(crate) const VF: &str = "0000:01:10.0";
const OTHER: &str = "0000:01:10.2";

impl Node {
    pub(crate) fn new() -> Node {
        let folder = tempfile::tempdir().unwrap();
        let host = HostTree {
            sys: folder.path().join("sys"),
            dev: folder.path().join("dev"),
            proc: folder.path().join("proc"),
        };
        let node = Node {
            _folder: folder,
            host,
        };
        for driver in ["vfio-pci", "igbvf"] {
            fs::create_dir_all(node.sys("bus/pci/drivers").join(driver)).unwrap();
        }
        node.add(VF, 7, Some("vfio-pci"));
        node.add(OTHER, 8, Some("vfio-pci"));
        node
    }

    fn sys(&self, path: &str) -> PathBuf {
        self.host.sys.join(path)
    }

    fn add(&self, device: &str, group: u32, driver: Option<&str>) {
        let folder = self.sys("bus/pci/devices").join(device);
        let group = self.sys(&format!("kernel/iommu_groups/{group}"));
        fs::create_dir_all(group.join("devices")).unwrap();
        fs::create_dir_all(&folder).unwrap();
        symlink(&group, folder.join("iommu_group")).unwrap();
        symlink(&folder, group.join("devices").join(device)).unwrap();
        self.bind(device, driver);
    }

    fn bind(&self, device: &str, driver: Option<&str>) {
        let link = self.sys("bus/pci/devices").join(device).join("driver");
        let _ = fs::remove_file(&link);
        if let Some(driver) = driver {
            symlink(self.sys("bus/pci/drivers").join(driver), link).unwrap();
        }
    }

    pub(crate) fn iommu(&self) -> Iommu {
        Iommu::open_in(self.host.clone(), IommuKind::Auto).unwrap()
    }

    /// Message of the failure to open the VF.
    fn refusal(&self) -> String {
        let error = VfioDevice::open(VF.parse().unwrap(), &self.iommu());
        error.unwrap_err().to_string()
    }
}

fn open(device: &str, iommu: &Iommu) -> VfioDevice {
    VfioDevice::open(device.parse().unwrap(), iommu).unwrap()
}

#[test]
fn mappings_come_back_with_the_first_group() {
    let node = Node::new();
    let iommu = node.iommu();
    let mut device = open(VF, &iommu);
    let other = open(OTHER, &iommu);
    let kept = device.ring::<[u64; 2]>(600).unwrap();
    let dropped_later = device.ring::<[u64; 2]>(256).unwrap();
    let expected = |rings: &[(Iova, u64)]| rings.iter().map(|&(i, len)| (i.0, len)).collect();
    let mapped = || kernel(|kernel| kernel.mapped.clone());
    let at = crate::Descriptors::iova(&kept);
    let both = expected(&[
        (at, 12288),
        (crate::Descriptors::iova(&dropped_later), 4096),
    ]);
    assert_eq!(mapped(), both);

    // One group less changes nothing, the last takes all along.
    drop(device);
    assert_eq!(mapped(), both);
    drop(other);
    assert_eq!(kernel(|kernel| kernel.groups), 0);
    assert!(mapped().is_empty());
    // Nothing to unmap, and not to come back.
    drop(dropped_later);

    let device = open(OTHER, &iommu);
    assert_eq!(mapped(), expected(&[(at, 12288)]));
    drop(kept);
    assert!(mapped().is_empty());
    drop(device);
}

#[test]
fn what_the_iommu_does_not_translate_is_not_given_out() {
    let node = Node::new();
    kernel(|kernel| kernel.ranges = Some(vec![0x8000..=0xafff, 0x10_0000..=0x10_2fff]));
    let mut device = open(VF, &node.iommu());
    let first = device.ring::<[u64; 2]>(512).unwrap();
    let second = device.ring::<[u64; 2]>(512).unwrap();
    assert_eq!(crate::Descriptors::iova(&first), Iova(0x8000));
    // Does not fit into what is left of the first range.
    assert_eq!(crate::Descriptors::iova(&second), Iova(0x10_0000));
    let third = device.ring::<[u64; 2]>(512).unwrap_err().to_string();
    assert_eq!(
        third,
        "the IOMMU translates no free range of 8192 bytes: fewer or smaller pools, or fewer VFs in one process"
    );
    // The address is free again.
    drop(second);
    assert!(device.ring::<[u64; 2]>(512).is_ok());
}

#[test]
fn a_group_with_others_in_it() {
    let node = Node::new();
    node.add("0000:01:10.4", 7, Some("igbvf"));
    node.add("0000:01:10.6", 7, None);
    kernel(|kernel| kernel.viable = false);
    assert_eq!(
        node.refusal(),
        "0000:01:10.0: its IOMMU group 7 cannot be used as long as a driver of the kernel has others of it: 0000:01:10.4 (igbvf). Unbind them or bind them to vfio-pci"
    );
    assert_eq!(kernel(|kernel| kernel.groups), 0);
}

#[test]
fn what_a_device_is_not_ready_for() {
    let node = Node::new();
    node.bind(VF, Some("igbvf"));
    assert_eq!(
        node.refusal(),
        "0000:01:10.0 is bound to igbvf, not to vfio-pci: cd /sys/bus/pci/devices/0000:01:10.0 && echo vfio-pci > driver_override && echo 0000:01:10.0 > driver/unbind && echo 0000:01:10.0 > /sys/bus/pci/drivers_probe"
    );
    node.bind(VF, None);
    assert_eq!(
        node.refusal(),
        "0000:01:10.0 is bound to no driver, not to vfio-pci: cd /sys/bus/pci/devices/0000:01:10.0 && echo vfio-pci > driver_override && echo 0000:01:10.0 > /sys/bus/pci/drivers_probe"
    );
    fs::remove_dir(node.sys("bus/pci/drivers/vfio-pci")).unwrap();
    assert_eq!(
        node.refusal(),
        "the kernel's module vfio-pci is not loaded: modprobe vfio-pci"
    );
    fs::write(node.sys("kernel/iommu_groups/7/name"), "vfio-noiommu\n").unwrap();
    assert!(node.refusal().contains("enable_unsafe_noiommu_mode"));
    let folder = node.sys("bus/pci/devices").join(VF);
    fs::remove_file(folder.join("iommu_group")).unwrap();
    let refusal = node.refusal();
    assert!(refusal.contains("intel_iommu=on") && refusal.contains("amd_iommu=on"));
    fs::remove_dir_all(folder).unwrap();
    assert!(
        node.refusal()
            .starts_with("0000:01:10.0: no such PCI device")
    );
}

#[test]
fn held_by_another() {
    let node = Node::new();
    let group = node.host.dev.join("vfio/7");
    for (pid, program, target) in [("17", "testpmd\n", &group), ("18", "sh\n", &node.host.dev)] {
        let process = node.host.proc.join(pid);
        fs::create_dir_all(process.join("fd")).unwrap();
        fs::write(process.join("comm"), program).unwrap();
        symlink(target, process.join("fd/5")).unwrap();
    }
    kernel(|kernel| kernel.refused.insert(group.clone(), libc::EBUSY));
    let held = format!(
        "{VF} is in use: {} is held by testpmd (pid 17)",
        group.display()
    );
    assert_eq!(node.refusal(), held);
    fs::remove_dir_all(node.host.proc.join("17")).unwrap();
    assert!(
        node.refusal()
            .ends_with("is held by one that cannot be seen from here")
    );
}

#[test]
fn the_limit_of_locked_memory() {
    let node = Node::new();
    let mut device = open(VF, &node.iommu());
    kernel(|kernel| kernel.memlock = 3 * 4096);
    let _ring = device.ring::<[u64; 2]>(512).unwrap();
    let error = device.ring::<[u64; 2]>(512).unwrap_err();
    let Error::Memlock { bytes, locked, .. } = error else {
        panic!("{error}")
    };
    assert_eq!((bytes, locked), (8192, 8192));
    let text = |limit| {
        let error = Error::Memlock {
            bytes,
            locked,
            limit,
        };
        error.to_string()
    };
    assert!(
        text(Some(65536)).starts_with(
            "devices can reach no more memory: 16384 bytes are needed (8192 mapped, 8192 more), 65536 may be locked. Raise RLIMIT_MEMLOCK"
        ),
        "{}",
        text(Some(65536))
    );
    // What failed is not taken.
    assert!(device.ring::<[u64; 2]>(256).is_ok());
}

#[test]
fn a_kernel_without_containers_has_iommufd() {
    let node = Node::new();
    let nodes = |name: &str| node.host.dev.join(name);
    kernel(|kernel| kernel.refused.insert(nodes("vfio/vfio"), libc::ENOENT));
    let iommu = node.iommu();
    assert_eq!(iommu.kind(), IommuKind::Iommufd);
    let refused = VfioDevice::open(VF.parse().unwrap(), &iommu).unwrap_err();
    assert!(refused.to_string().contains("CONFIG_VFIO_DEVICE_CDEV"));

    let folder = node.sys("bus/pci/devices").join(VF).join("vfio-dev/vfio0");
    fs::create_dir_all(folder).unwrap();
    let mut device = open(VF, &iommu);
    let ring = device.ring::<[u64; 2]>(256).unwrap();
    // The address space keeps its mappings without a device.
    drop(device);
    assert_eq!(kernel(|kernel| kernel.mapped.len()), 1);
    drop(ring);
    assert_eq!(kernel(|kernel| kernel.mapped.len()), 0);

    kernel(|kernel| kernel.refused.insert(nodes("iommu"), libc::ENOENT));
    let neither = Iommu::open_in(node.host.clone(), IommuKind::Auto).unwrap_err();
    assert!(neither.to_string().ends_with("modprobe vfio-pci"));
}
