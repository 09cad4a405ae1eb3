//! What an attachment stands on: an uplink that the engine has for many, or a VF that is opened for it
//! and closed with it.

use sluice_api::{ApiError, AttachRequest};
use sluice_datapath::ports::igbvf::{MAX_MTU, VfVlans};
use sluice_datapath::{Error, UplinkId, UplinkSpec, VlanSet};
use sluice_packet::{Mac, Vid};
use sluice_vfio::PciAddr;

use super::request::Checked;
use super::{Control, UplinkInfo};
use crate::links;
use crate::refusal;
use crate::vfs::{VfSpec, groups};

/// The MTU of a VF's attachment that asks for none, in bytes.
const DEFAULT_VF_MTU: u32 = 1500;

/// What an attachment will stand on.
#[derive(Debug)]
pub(super) enum Ground {
    /// One of the configuration's uplinks.
    Uplink(UplinkInfo),
    /// A VF of its own.
    Vf(OwnVf),
}

/// A VF that is one attachment's.
#[derive(Debug)]
pub(super) struct OwnVf {
    address: PciAddr,
    /// The PF's netdev.
    network: String,
    port_vlan: Option<Vid>,
    mtu: u32,
}

impl Ground {
    /// The largest MTU that an attachment on it can have.
    pub(super) fn mtu(&self) -> u32 {
        match self {
            Ground::Uplink(uplink) => uplink.mtu,
            Ground::Vf(vf) => vf.mtu,
        }
    }
}

/// What an attachment in the making stands on. Its VF is closed when this is dropped, unless it is kept.
#[derive(Debug)]
pub(super) struct Footing<'a> {
    control: &'a Control,
    uplink: UplinkId,
    worker: Option<usize>,
    /// Whether the uplink is the attachment's own.
    own: bool,
}

impl Footing<'_> {
    /// The uplink.
    pub(super) fn uplink(&self) -> UplinkId {
        self.uplink
    }

    /// The worker that owns the attachment: the VF's own, so that no frame changes workers.
    pub(super) fn worker(&self) -> Option<usize> {
        self.worker
    }

    /// The attachment is made. Its own uplink, if it has one, is closed with it.
    pub(super) fn keep(mut self) -> Option<UplinkId> {
        let own = self.own.then_some(self.uplink);
        self.own = false;
        own
    }
}

impl Drop for Footing<'_> {
    fn drop(&mut self) {
        if self.own
            && let Err(error) = self.control.close_vf(self.uplink)
        {
            tracing::error!("a VF is left open: {error}");
        }
    }
}

impl Control {
    /// What a request's attachment will stand on; nothing is opened.
    pub(super) fn ground(&self, request: &AttachRequest) -> Result<Ground, ApiError> {
        let Some(vf) = &request.vf else {
            return self.uplink(&request.uplink).map(Ground::Uplink);
        };
        let address = vf
            .address
            .parse()
            .map_err(|error: sluice_vfio::BadPciAddr| refusal::invalid(error.to_string()))?;
        let port_vlan = vf.port_vlan.map(|number| {
            let wrong = || refusal::invalid(format!("VLAN {number} cannot be a port VLAN"));
            Vid::new(number).ok_or_else(wrong)
        });
        Ok(Ground::Vf(OwnVf {
            address,
            network: request.uplink.clone(),
            port_vlan: port_vlan.transpose()?,
            mtu: request.mtu.unwrap_or(DEFAULT_VF_MTU).min(MAX_MTU),
        }))
    }

    /// Opens what the attachment stands on, if it is not there already.
    pub(super) fn stand_on(
        &self,
        ground: &Ground,
        request: &AttachRequest,
        checked: &Checked,
    ) -> Result<Footing<'_>, ApiError> {
        let footing = |uplink, worker, own| Footing {
            control: self,
            uplink,
            worker,
            own,
        };
        match ground {
            Ground::Uplink(uplink) => Ok(footing(uplink.id, None, false)),
            Ground::Vf(vf) => {
                let id = self.open_vf(vf, request, checked)?;
                let mut footing = footing(id, None, true);
                let worker = self.engine.order(|engine| engine.uplink_worker(id))?;
                footing.worker = Some(worker);
                Ok(footing)
            }
        }
    }

    fn open_vf(
        &self,
        vf: &OwnVf,
        request: &AttachRequest,
        checked: &Checked,
    ) -> Result<UplinkId, ApiError> {
        let address = vf.address.to_string();
        let attachments = self.attachments.all();
        let has_it = |request: &AttachRequest| {
            let other = request.vf.as_ref().map(|vf| vf.address.parse::<PciAddr>());
            matches!(other, Some(Ok(other)) if other == vf.address)
        };
        if let Some((key, _)) = attachments.iter().find(|(_, found)| has_it(&found.request)) {
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
            groups: groups(mac, &links::addresses(&request.addresses)),
            mempools: self.engine.ask(sluice_datapath::Engine::mempools)?,
        };
        let port = self.vfs.open(&spec)?;
        let spec = UplinkSpec {
            name: address,
            port,
            worker: None,
            tpids: vec![0x8100],
            native: vf.port_vlan,
            network: Some(vf.network.clone()),
            port_vlan: vf.port_vlan.is_some(),
        };
        self.engine.order(|engine| engine.add_uplink(spec))
    }

    /// Closes an attachment's VF. Once this returns, the device is free for whoever comes next.
    pub(super) fn close_vf(&self, id: UplinkId) -> Result<(), ApiError> {
        match self.engine.ask(|engine| engine.remove_uplink(id))? {
            // The port ends here.
            Ok(port) => drop(port),
            Err(Error::NoUplink) => {}
            Err(error) => return Err(refusal::by_engine(&error)),
        }
        Ok(())
    }

    /// Whether an attachment has a VF of this PF.
    pub(super) fn has_vfs_of(&self, pf: &str) -> bool {
        let attachments = self.attachments.all();
        attachments
            .iter()
            .any(|(_, found)| found.request.vf.is_some() && found.request.uplink == pf)
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

/// What the VF is told of VLANs: a port VLAN is the PF's business; of others it asks for those it is to
/// get.
fn vlans(vf: &OwnVf, set: &VlanSet) -> VfVlans {
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
#[path = "ground_tests.rs"]
mod tests;
