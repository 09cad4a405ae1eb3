// SPDX-License-Identifier: Apache-2.0
//! VFs that the engine drives: opened through VFIO for one attachment each.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use sluice_api::{ApiError, ErrorCode};
use sluice_datapath::ports::igbvf::{IgbVf, IgbVfConfig, IgbVfError, VfVlans};
use sluice_datapath::{LinkState, Uplink};
use sluice_mem::Mempool;
use sluice_packet::Mac;
use sluice_sriov::claim::{Mode, Node, Record};
use sluice_sriov::create;
use sluice_sriov::sysfs::Sysfs;
use sluice_vfio::{Error, ErrorKind, Iommu, IommuKind, PciAddr, ReleaseRequest, VfioDevice};

use crate::refusal;
use crate::uplinks::netdev;

/// Descriptors of each queue of a VF: eight bursts.
const DESCRIPTORS: usize = 512;
/// Longest time that putting VFs back may take at the start.
const RECOVERY: Duration = Duration::from_secs(20);
/// Longest time that a VF that is back may take to get its driver.
const AGAIN: Duration = Duration::from_secs(3);

/// Arguments of opening a VF.
#[derive(Debug, Clone)]
pub struct VfSpec {
    /// PCI address of the VF.
    pub address: PciAddr,
    /// Administrative MAC address.
    pub mac: Mac,
    /// MTU: largest IP packet in bytes.
    pub mtu: u32,
    /// VLANs that the driver asks the PF for.
    pub vlans: VfVlans,
    /// Multicast groups that the VF must receive.
    pub groups: Vec<Mac>,
    /// Further unicast MAC addresses that the VF is to receive.
    pub macs: Vec<Mac>,
    /// The engine's pools of small and large mbufs.
    pub mempools: (Mempool, Mempool),
}

/// Open VF.
pub struct OpenedVf {
    /// Port of the VF. Dropping it closes the VF.
    pub port: Box<dyn Uplink>,
    /// Warnings for the operator.
    pub warnings: Vec<String>,
    /// Request of the kernel to have the VF back; `None` where there is no kernel behind it.
    pub release: Option<ReleaseRequest>,
}

impl fmt::Debug for OpenedVf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenedVf")
            .field("device", &self.port.device())
            .field("release", &self.release)
            .finish()
    }
}

/// Opener of VFs: [`VfDevices`], or a fake one in tests.
pub trait OpenVf: fmt::Debug + Send + Sync {
    /// Opens a VF.
    ///
    /// # Errors
    /// The device cannot be opened or set up; the message says what to do.
    fn open(&self, spec: &VfSpec) -> Result<OpenedVf, ApiError>;

    /// Makes a VF that was away what its attachment needs: its driver, and its settings at the PF.
    ///
    /// # Errors
    /// It is still away, another's, or the host refuses.
    fn prepare_again(&self, vf: PciAddr) -> Result<(), ApiError> {
        let _ = vf;
        Ok(())
    }

    /// Returns why no frame passes through a VF, as its PF `pf` shows, and what to do; `None` if nothing
    /// stands in the way.
    fn trouble(&self, vf: &str, pf: &str) -> Option<(LinkState, String)> {
        let _ = (vf, pf);
        None
    }
}

/// VFs through VFIO. All share one address space, in which the mempools are mapped once.
#[derive(Debug)]
pub struct VfDevices {
    /// Opened with the first VF: an engine without VFs needs no VFIO.
    iommu: Mutex<Option<Iommu>>,
    /// VFs of the node, with the journal of who has them.
    node: Node,
}

impl VfDevices {
    /// VFs of this node, with the journal below the state folder.
    pub fn new(state_dir: &Path) -> VfDevices {
        VfDevices {
            iommu: Mutex::default(),
            node: Node::new(state_dir),
        }
    }

    fn iommu(&self) -> Result<Iommu, Error> {
        let mut iommu = self
            .iommu
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(iommu) = &*iommu {
            return Ok(iommu.clone());
        }
        let opened = Iommu::open(IommuKind::Auto)?;
        *iommu = Some(opened.clone());
        Ok(opened)
    }
}

impl OpenVf for VfDevices {
    fn trouble(&self, vf: &str, pf: &str) -> Option<(LinkState, String)> {
        if !Path::new("/sys/bus/pci/devices").join(vf).exists() {
            let gone = format!(
                "VF {vf} is gone from this machine: its PF's driver was unloaded, or `sriov_numvfs` was \
                 changed; load it, or make the VFs again (`sluicectl vfs create`), and it is taken up"
            );
            return Some((LinkState::Gone, gone));
        }
        match netdev::find(pf) {
            Ok(Some(pf)) => pf.trouble().map(|trouble| (LinkState::Down, trouble)),
            Ok(None) => Some((
                LinkState::Down,
                format!(
                    "there is no netdev {pf} in the engine's network namespace, which was its PF: load \
                     the PF's driver, or give it its name again"
                ),
            )),
            // Nobody knows.
            Err(_) => None,
        }
    }

    fn open(&self, spec: &VfSpec) -> Result<OpenedVf, ApiError> {
        let device = self
            .iommu()
            .and_then(|iommu| VfioDevice::open(spec.address, &iommu))
            .map_err(|error| by_device(&error))?;
        let release = device
            .release_request()
            .map_err(|error| by_device(&error))?;
        let config = IgbVfConfig {
            mac: spec.mac,
            mtu: spec.mtu,
            vlans: spec.vlans.clone(),
            groups: spec.groups.clone(),
            macs: spec.macs.clone(),
            small: spec.mempools.0,
            large: spec.mempools.1,
            rx_descriptors: DESCRIPTORS,
            tx_descriptors: DESCRIPTORS,
        };
        match IgbVf::open(device, config) {
            Ok(port) => Ok(OpenedVf {
                warnings: refused_macs(spec, port.refused_macs()),
                port: Box::new(port),
                release: Some(release),
            }),
            Err(IgbVfError::Device(error)) => Err(by_device(&error)),
            Err(error @ IgbVfError::NoMbufs { .. }) => Err(refusal::unavailable(error.to_string())),
            Err(error) => Err(refusal::invalid(error.to_string())),
        }
    }

    fn prepare_again(&self, vf: PciAddr) -> Result<(), ApiError> {
        let again = self.node.take_again(vf, Instant::now() + AGAIN);
        again.map_err(|error| ApiError::new(by_kind(error.kind()), error.to_string()))
    }
}

/// Warning of further MAC addresses that the PF refused.
fn refused_macs(spec: &VfSpec, refused: usize) -> Vec<String> {
    if refused == 0 {
        return Vec::new();
    }
    vec![format!(
        "the PF of VF {} refuses {refused} of {} further MAC addresses of allowedAddressPairs, so that \
         frames to them do not reach the pod: set \"trust\": \"on\" in the network (ip link set PF vf N \
         trust on); a PF that trusts the VF has no filter left, or no such filters",
        spec.address,
        spec.macs.len()
    )]
}

fn by_kind(kind: ErrorKind) -> ErrorCode {
    match kind {
        ErrorKind::Invalid => ErrorCode::Invalid,
        ErrorKind::Busy => ErrorCode::Unavailable,
        ErrorKind::Host => ErrorCode::Internal,
    }
}

fn by_device(error: &Error) -> ApiError {
    ApiError::new(by_kind(error.kind()), error.to_string())
}

/// Problem of PFs that have fewer VFs than the file at `file` asks for, or of the file; `None` if there is
/// none. The file need not be there.
pub fn missing(file: &Path) -> Option<String> {
    if !file.exists() {
        return None;
    }
    let asked = match create::read(file) {
        Ok(asked) => asked,
        Err(error) => return Some(error.to_string()),
    };
    let short = create::shortfalls(&Sysfs::default(), &asked);
    if short.is_empty() {
        return None;
    }
    let short: Vec<String> = short.iter().map(ToString::to_string).collect();
    Some(format!(
        "{}, by {}: `sluicectl vfs create --from {1}` makes them",
        short.join("; "),
        file.display()
    ))
}

/// Multicast groups that an attachment's VF asks for: those that hosts and routers need on a link, and
/// the solicited-node groups (RFC 4291, section 2.7.1) of its addresses and of the link-local one that
/// follows from its MAC address. A VF has room for 30.
pub fn groups(mac: Mac, addresses: &[IpAddr]) -> Vec<Mac> {
    let [.., e, f] = mac.0;
    let mut groups = vec![
        // All nodes, all routers, OSPF, VRRP, MLDv2.
        Mac([0x33, 0x33, 0, 0, 0, 0x01]),
        Mac([0x33, 0x33, 0, 0, 0, 0x02]),
        Mac([0x33, 0x33, 0, 0, 0, 0x05]),
        Mac([0x33, 0x33, 0, 0, 0, 0x06]),
        Mac([0x33, 0x33, 0, 0, 0, 0x12]),
        Mac([0x33, 0x33, 0, 0, 0, 0x16]),
        Mac([0x33, 0x33, 0xff, mac.0[3], e, f]),
        // The same in IPv4, with IGMPv3.
        Mac([0x01, 0x00, 0x5e, 0, 0, 0x01]),
        Mac([0x01, 0x00, 0x5e, 0, 0, 0x02]),
        Mac([0x01, 0x00, 0x5e, 0, 0, 0x05]),
        Mac([0x01, 0x00, 0x5e, 0, 0, 0x06]),
        Mac([0x01, 0x00, 0x5e, 0, 0, 0x12]),
        Mac([0x01, 0x00, 0x5e, 0, 0, 0x16]),
    ];
    for address in addresses {
        if let IpAddr::V6(address) = address {
            let [.., d, e, f] = address.octets();
            groups.push(Mac([0x33, 0x33, 0xff, d, e, f]));
        }
    }
    groups.sort_unstable();
    groups.dedup();
    groups
}

/// Puts back the VFs that nobody needs any more: those marked released while an engine hung, those of
/// claims that were killed, and those of pods whose network namespace is gone. Returns problems
/// for the operator, by the object they are about.
pub fn recover(state_dir: &Path) -> BTreeMap<String, String> {
    let deadline = Instant::now() + RECOVERY;
    match Node::new(state_dir).recover(is_alive, deadline) {
        Ok(done) => {
            for record in done {
                let owner = record.owner.name();
                tracing::info!("VF {} of {owner} restored", record.vf);
            }
            BTreeMap::new()
        }
        Err(error) => {
            let problem = format!("not every VF could be restored: {error}");
            tracing::error!("{problem}");
            BTreeMap::from([("vfs".to_owned(), problem)])
        }
    }
}

/// Whether a VF's pod may still need it. Those that pods drive themselves are their plugin's business.
fn is_alive(record: &Record) -> bool {
    let netns = &record.owner.netns;
    let there = std::fs::metadata(&netns.path);
    record.mode != Mode::Engine
        || there.is_ok_and(|there| (there.dev(), there.ino()) == (netns.dev, netns.ino))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_can_find_a_pod_by_ipv6() {
        let mac = Mac([2, 0, 0, 0x11, 0x22, 0x33]);
        let addresses = ["2001:db8::aa:bbcc", "10.0.0.1"].map(|text| text.parse());
        let addresses: Vec<IpAddr> = addresses.into_iter().flatten().collect();
        let groups = groups(mac, &addresses);
        assert!(groups.contains(&Mac([0x33, 0x33, 0xff, 0x11, 0x22, 0x33])));
        assert!(groups.contains(&Mac([0x33, 0x33, 0xff, 0xaa, 0xbb, 0xcc])));
        assert!(groups.len() <= 30);
    }
}
