// SPDX-License-Identifier: Apache-2.0
//! Uplink choice: the uplink of an attachment is one of the configuration, or a VF that is opened for it
//! and closed with it.

use sluice_api::{ApiError, AttachRequest};
use sluice_datapath::ports::igbvf::{MAX_MTU, VfVlans};
use sluice_datapath::{Error, UplinkId, UplinkSpec, VlanSet};
use sluice_packet::pose::AddressPair;
use sluice_packet::{Mac, Vid};
use sluice_vfio::PciAddr;

use super::own_vfs::OwnVf;
use super::request::CheckedRequest;
use super::{Control, locked};
use crate::links;
use crate::refusal;
use crate::uplinks::UplinkInfo;
use crate::vfs::{VfSpec, groups};

/// The MTU of a VF's attachment that asks for none, in bytes.
const DEFAULT_VF_MTU: u32 = 1500;

/// Uplink that an attachment will be on.
#[derive(Debug)]
pub(super) enum UplinkChoice {
    /// Uplink of the configuration, shared by its attachments.
    Configured(UplinkInfo),
    /// VF of this attachment alone.
    Vf(VfChoice),
}

/// VF of one attachment.
#[derive(Debug)]
pub(super) struct VfChoice {
    address: PciAddr,
    /// Netdev of its PF.
    network: String,
    port_vlan: Option<Vid>,
    mtu: u32,
    /// Whether the attachment is made without the VF if that is away, which is taken up when it is back.
    may_be_away: bool,
}

impl UplinkChoice {
    /// Lets the attachment be made although its VF is away.
    pub(super) fn though_away(mut self) -> UplinkChoice {
        if let UplinkChoice::Vf(vf) = &mut self {
            vf.may_be_away = true;
        }
        self
    }

    /// Largest MTU of an attachment on it, in bytes.
    pub(super) fn max_mtu(&self) -> u32 {
        match self {
            UplinkChoice::Configured(uplink) => uplink.mtu,
            UplinkChoice::Vf(vf) => vf.mtu,
        }
    }
}

/// Guard of the uplink of an attachment in the making. Closes a VF of its own when dropped, unless kept.
#[derive(Debug)]
pub(super) struct UplinkGuard<'a> {
    control: &'a Control,
    id: UplinkId,
    worker: Option<usize>,
    /// Whether the uplink is the attachment's own.
    own: bool,
}

impl UplinkGuard<'_> {
    /// Number of the uplink.
    pub(super) fn id(&self) -> UplinkId {
        self.id
    }

    /// Worker that must own the attachment: that of its VF, so that no frame changes workers. `None`: any.
    pub(super) fn worker(&self) -> Option<usize> {
        self.worker
    }

    /// Keeps the uplink open, as the attachment is made. Returns the uplink of its own, to be closed with
    /// it.
    pub(super) fn keep(mut self) -> Option<UplinkId> {
        let own = self.own.then_some(self.id);
        self.own = false;
        own
    }
}

impl Drop for UplinkGuard<'_> {
    fn drop(&mut self) {
        if self.own
            && let Err(error) = self.control.close_vf(self.id)
        {
            tracing::error!("a VF is left open: {error}");
        }
    }
}

impl Control {
    /// Chooses the uplink of a request's attachment; opens nothing.
    pub(super) fn choose_uplink(&self, request: &AttachRequest) -> Result<UplinkChoice, ApiError> {
        let Some(vf) = &request.vf else {
            return self
                .configured_uplink(&request.uplink)
                .map(UplinkChoice::Configured);
        };
        let address = vf
            .address
            .parse()
            .map_err(|error: sluice_vfio::BadPciAddr| refusal::invalid(error.to_string()))?;
        Ok(UplinkChoice::Vf(VfChoice {
            address,
            network: request.uplink.clone(),
            port_vlan: vf.port_vlan,
            mtu: request.mtu.unwrap_or(DEFAULT_VF_MTU).min(MAX_MTU),
            may_be_away: false,
        }))
    }

    /// Opens the uplink if it is a VF of the attachment's own.
    pub(super) fn open_uplink(
        &self,
        choice: &UplinkChoice,
        checked: &CheckedRequest<'_>,
    ) -> Result<UplinkGuard<'_>, ApiError> {
        let guard = |id, worker, own| UplinkGuard {
            control: self,
            id,
            worker,
            own,
        };
        match choice {
            UplinkChoice::Configured(uplink) => Ok(guard(uplink.id, None, false)),
            UplinkChoice::Vf(vf) => {
                let id = self.open_vf(vf, checked)?;
                let mut guard = guard(id, None, true);
                let worker = self.engine.try_with(|engine| engine.uplink_worker(id))?;
                guard.worker = Some(worker);
                Ok(guard)
            }
        }
    }

    fn configured_uplink(&self, name: &str) -> Result<UplinkInfo, ApiError> {
        let found = self.uplinks.get(name).map(|uplink| uplink.info());
        found.ok_or_else(|| {
            refusal::invalid(format!(
                "there is no uplink {name}: the uplinks are {}",
                self.uplinks.names().join(", ")
            ))
        })
    }

    fn open_vf(&self, vf: &VfChoice, checked: &CheckedRequest<'_>) -> Result<UplinkId, ApiError> {
        let address = vf.address.to_string();
        let attachments = self.attachments.all();
        let has_it = |request: &AttachRequest| {
            let other = request.vf.as_ref().map(|vf| vf.address.parse::<PciAddr>());
            matches!(other, Some(Ok(other)) if other == vf.address)
        };
        if let Some((key, _)) = attachments
            .iter()
            .find(|(_, found)| has_it(found.request()))
        {
            return Err(refusal::conflict(format!(
                "VF {address} is attachment {key}'s: detach it first"
            )));
        }
        let mac = checked.mac.unwrap_or(Mac::ZERO);
        let spec = VfSpec {
            address: vf.address,
            mac,
            mtu: checked.mtu,
            vlans: vlans(vf, &checked.vlans),
            groups: groups(mac, &links::addresses(&checked.request.addresses)),
            macs: further_macs(mac, &checked.request.allowed_address_pairs),
            mempools: self.engine.with(sluice_datapath::Engine::mempools)?,
        };
        let (own, port) = if vf.may_be_away {
            OwnVf::open_or_away(&*self.vfs, spec)
        } else {
            OwnVf::open(&*self.vfs, spec)?
        };
        let spec = UplinkSpec {
            name: address,
            port,
            worker: None,
            tpids: vec![0x8100],
            native: vf.port_vlan,
            network: Some(vf.network.clone()),
            port_vlan: vf.port_vlan.is_some(),
        };
        let id = self.engine.try_with(|engine| engine.add_uplink(spec))?;
        locked(&self.own_vfs).insert(id, own);
        Ok(id)
    }

    /// Closes an attachment's VF. Once this returns, the device is free for whoever comes next.
    pub(super) fn close_vf(&self, id: UplinkId) -> Result<(), ApiError> {
        // One that is being taken up is waited for, and not taken up again.
        let mut vfs = locked(&self.own_vfs);
        match self.engine.with(|engine| engine.remove_uplink(id))? {
            // The port ends here.
            Ok(port) => drop(port),
            Err(Error::NoUplink) => {}
            Err(error) => return Err(refusal::by_engine(&error)),
        }
        vfs.remove(&id);
        Ok(())
    }

    /// Whether an attachment has a VF of this PF.
    pub(super) fn has_vfs_of(&self, pf: &str) -> bool {
        let attachments = self.attachments.all();
        attachments
            .iter()
            .any(|(_, found)| found.request().vf.is_some() && found.request().uplink == pf)
    }

    /// The attachment whose own uplink this is, for people.
    pub(super) fn owner_of(&self, uplink: UplinkId) -> Option<String> {
        let attachments = self.attachments.all();
        let owner = attachments
            .iter()
            .find(|(_, found)| found.vf == Some(uplink));
        owner.map(|(key, _)| key.to_string())
    }
}

/// MAC addresses other than its own that an attachment may send as: what is sent to them must reach it.
fn further_macs(own: Mac, pairs: &[AddressPair]) -> Vec<Mac> {
    let macs = pairs.iter().filter_map(|pair| pair.mac);
    let mut macs: Vec<Mac> = macs.filter(|&mac| mac != own && mac.is_unicast()).collect();
    macs.sort_unstable();
    macs.dedup();
    macs
}

/// VLANs that the VF's driver asks its PF for: none under a port VLAN, which is the PF's own business.
fn vlans(vf: &VfChoice, set: &VlanSet) -> VfVlans {
    if let Some(vid) = vf.port_vlan {
        return VfVlans::Port(vid);
    }
    let mut vids = set.vids();
    vids.retain(|vid| !vid.is_untagged());
    if vids.is_empty() {
        VfVlans::Untagged
    } else {
        VfVlans::Trunk(vids)
    }
}

#[cfg(test)]
#[path = "uplink_choice_tests.rs"]
mod tests;
