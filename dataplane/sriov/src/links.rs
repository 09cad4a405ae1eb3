// SPDX-License-Identifier: Apache-2.0
//! Netdevs and VF settings, through rtnetlink. It has no call for VFs, but netlink-packet-route has
//! their attributes (linux/if_link.h, IFLA_VFINFO_LIST).
//!
//! Every call here is one conversation with the kernel on a connection of its own, made in the
//! network namespace that it is about.

mod vf_traffic;

pub use vf_traffic::vf_traffic;

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::pin::pin;

use futures_util::TryStreamExt;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::link::{
    LinkAttribute, LinkExtentMask, LinkFlags, LinkMessage, LinkVfInfo, VfInfo, VfInfoLinkState,
    VfInfoMac, VfInfoRate, VfInfoSpoofCheck, VfInfoTrust, VfInfoVlan, VfLinkState,
    VfVlan as NlVlan, VfVlanInfo, VlanProtocol,
};
use rtnetlink::{Handle, LinkUnspec};
use sluice_host::Netns;

use crate::Error;
use crate::settings::{VfChange, VfLink, VfSettings, VfVlan};

/// State of a netdev as the kernel reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Netdev {
    /// Interface index.
    pub index: u32,
    /// Whether it is set up.
    pub up: bool,
    /// MAC address, if it has one.
    pub mac: Option<[u8; 6]>,
    /// MTU in bytes.
    pub mtu: u32,
    /// Whether it has an IP address that somebody gave it (link-local ones do not count).
    pub addressed: bool,
}

/// Looks at a netdev of the calling thread's network namespace; `None` if there is none.
///
/// # Errors
/// [`Error::Netdev`]: the kernel does not answer.
pub fn netdev(name: &str) -> Result<Option<Netdev>, Error> {
    talk("look at", name, async |handle| {
        let Some(link) = get(&handle, name, Vec::new()).await? else {
            return Ok(None);
        };
        let index = link.header.index;
        let mut addresses = pin!(
            handle
                .address()
                .get()
                .set_link_index_filter(index)
                .execute()
        );
        let mut addressed = false;
        while let Some(address) = addresses.try_next().await? {
            // 253 is RT_SCOPE_LINK (linux/rtnetlink.h).
            addressed |= u8::from(address.header.scope) < 253;
        }
        let (mut mac, mut mtu) = (None, 0);
        for attribute in link.attributes {
            match attribute {
                LinkAttribute::Address(bytes) => mac = bytes.try_into().ok(),
                LinkAttribute::Mtu(bytes) => mtu = bytes,
                _ => {}
            }
        }
        Ok(Some(Netdev {
            index,
            up: link.header.flags.contains(LinkFlags::Up),
            mac,
            mtu,
            addressed,
        }))
    })
}

/// The settings of VF `index` of the PF with netdev `pf`. What its driver does not tell is absent.
///
/// # Errors
/// [`Error::Netdev`]; [`Error::NoSuchVf`].
pub fn vf_settings(pf: &str, index: u32) -> Result<VfSettings, Error> {
    let link = talk("ask about the VFs of", pf, async |handle| {
        get(&handle, pf, vec![LinkExtentMask::Vf]).await
    })?;
    let link = link.ok_or_else(|| Error::NoPf(pf.to_owned()))?;
    settings_in(&link, index).map_err(|count| Error::NoSuchVf {
        pf: pf.to_owned(),
        index,
        count,
    })
}

/// Finds a VF's settings in what the kernel answered; else says how many VFs are in there.
pub(crate) fn settings_in(link: &LinkMessage, index: u32) -> Result<VfSettings, usize> {
    let mut count = 0;
    for attribute in &link.attributes {
        let LinkAttribute::VfInfoList(vfs) = attribute else {
            continue;
        };
        count += vfs.len();
        for LinkVfInfo(infos) in vfs {
            let is_it = |info: &VfInfo| matches!(info, VfInfo::Mac(mac) if mac.vf_id == index);
            if infos.iter().any(is_it) {
                return Ok(settings_of(infos));
            }
        }
    }
    Err(count)
}

fn settings_of(infos: &[VfInfo]) -> VfSettings {
    let mut settings = VfSettings::default();
    for info in infos {
        match info {
            VfInfo::Mac(mac) => settings.mac = mac.mac.first_chunk().copied(),
            // The list, where the kernel has it, also knows the protocol: it wins.
            VfInfo::Vlan(vlan) if settings.vlan.is_none() => {
                settings.vlan = vlan_of(vlan.vlan_id, vlan.qos, false);
            }
            VfInfo::VlanList(list) => {
                if let Some(NlVlan::Info(vlan)) = list.first() {
                    let is_8021ad = vlan.protocol == VlanProtocol::Ieee8021Ad;
                    settings.vlan = vlan_of(vlan.vlan_id, vlan.qos, is_8021ad && vlan.vlan_id != 0);
                }
            }
            VfInfo::SpoofCheck(check) => settings.spoofchk = known(check.enabled),
            VfInfo::Trust(trust) => settings.trust = known(trust.enabled),
            VfInfo::Rate(rate) => {
                settings.min_tx_rate = Some(rate.min_tx_rate);
                settings.max_tx_rate = Some(rate.max_tx_rate);
            }
            VfInfo::LinkState(link) => {
                settings.link_state = match link.state {
                    VfLinkState::Auto => Some(VfLink::Auto),
                    VfLinkState::Enable => Some(VfLink::Enable),
                    VfLinkState::Disable => Some(VfLink::Disable),
                    _ => None,
                };
            }
            _ => {}
        }
    }
    settings
}

fn known(enabled: bool) -> Option<bool> {
    Some(enabled)
}

fn vlan_of(vid: u32, qos: u32, is_8021ad: bool) -> Option<VfVlan> {
    Some(VfVlan {
        vid: u16::try_from(vid).ok()?,
        qos: u8::try_from(qos).ok()?,
        is_8021ad,
    })
}

/// Makes one change of VF `index` of the PF with netdev `pf`.
///
/// # Errors
/// [`Error::Setting`]: the PF's driver refuses; [`Error::Netdev`]: there is no such PF.
pub fn set_vf(pf: &str, index: u32, change: VfChange) -> Result<(), Error> {
    let pf_index = netdev(pf)?.ok_or_else(|| Error::NoPf(pf.to_owned()))?.index;
    let message = setting(pf_index, index, change);
    talk("set a VF of", pf, async |handle| {
        handle.link().set(message).execute().await
    })
    .map_err(|error| refusal(pf, index, change, error))
}

/// A conversation about a VF's setting that failed: told as that setting.
fn refusal(pf: &str, index: u32, change: VfChange, error: Error) -> Error {
    match error {
        Error::Netdev { why, .. } => Error::Setting {
            pf: pf.to_owned(),
            index,
            setting: change.to_string(),
            why,
        },
        other => other,
    }
}

/// Builds the message of [`set_vf`], for VF `vf` of the PF whose netdev has the index `pf_index`.
pub fn setting(pf_index: u32, vf: u32, change: VfChange) -> LinkMessage {
    let info = vec![LinkVfInfo(vec![attribute(vf, change)])];
    LinkUnspec::new_with_index(pf_index)
        .append_extra_attribute(LinkAttribute::VfInfoList(info))
        .build()
}

fn attribute(index: u32, change: VfChange) -> VfInfo {
    match change {
        VfChange::Mac(mac) => VfInfo::Mac(VfInfoMac::new(index, &mac)),
        VfChange::Vlan(vlan) if vlan.is_8021ad => {
            VfInfo::VlanList(vec![NlVlan::Info(VfVlanInfo::new(
                index,
                vlan.vid.into(),
                vlan.qos.into(),
                VlanProtocol::Ieee8021Ad,
            ))])
        }
        // The older message, which every PF driver knows.
        VfChange::Vlan(vlan) => {
            VfInfo::Vlan(VfInfoVlan::new(index, vlan.vid.into(), vlan.qos.into()))
        }
        VfChange::Spoofchk(on) => VfInfo::SpoofCheck(VfInfoSpoofCheck::new(index, on)),
        VfChange::Trust(on) => VfInfo::Trust(VfInfoTrust::new(index, on)),
        VfChange::Rate { min, max } => VfInfo::Rate(VfInfoRate::new(index, min, max)),
        VfChange::Link(link) => {
            let state = match link {
                VfLink::Auto => VfLinkState::Auto,
                VfLink::Enable => VfLinkState::Enable,
                VfLink::Disable => VfLinkState::Disable,
            };
            VfInfo::LinkState(VfInfoLinkState::new(index, state))
        }
    }
}

/// Moves a netdev of this thread's namespace, set down, into the namespace at `netns`, under the
/// name `name` there: it is there under that name, or here as it was but for being down.
///
/// # Errors
/// [`Error::Netdev`]: no such namespace or netdev, or the name is taken there.
pub fn move_to(from: &str, netns: &Path, name: &str) -> Result<(), Error> {
    let open = |path: &Path| {
        File::open(path).map_err(|error| Error::Netdev {
            what: "move",
            netdev: from.to_owned(),
            why: format!("network namespace {}: {error}", path.display()),
        })
    };
    let (here, target) = (open(Path::new("/proc/thread-self/ns/net"))?, open(netns)?);
    let index = netdev(from)?.map(|netdev| netdev.index);
    let index = index.ok_or_else(|| missing("move", from))?;
    if within(netns, || netdev(name))?.is_some() {
        return Err(Error::Netdev {
            what: "move",
            netdev: from.to_owned(),
            why: format!("{name} exists already in {}", netns.display()),
        });
    }
    let moved = talk("move", from, async |handle| {
        let down = LinkUnspec::new_with_index(index).down().build();
        handle.link().set(down).execute().await?;
        let there = LinkUnspec::new_with_index(index)
            .name(name)
            .setns_by_fd(target.as_raw_fd())
            .build();
        handle.link().set(there).execute().await
    });
    // The kernel moves first and names then: a name that was taken in between leaves the netdev
    // there under its old one.
    if moved.is_err() && matches!(netdev(from), Ok(None)) {
        within(netns, || {
            let index = netdev(from)?.map(|netdev| netdev.index);
            let index = index.ok_or_else(|| missing("bring back", from))?;
            talk("bring back", from, async |handle| {
                let back = LinkUnspec::new_with_index(index)
                    .setns_by_fd(here.as_raw_fd())
                    .build();
                handle.link().set(back).execute().await
            })
        })?;
    }
    moved
}

/// Sets a netdev down and gives it another name.
///
/// # Errors
/// [`Error::Netdev`].
pub fn rename(from: &str, to: &str) -> Result<(), Error> {
    let index = netdev(from)?.map(|netdev| netdev.index);
    let index = index.ok_or_else(|| missing("rename", from))?;
    talk("rename", from, async |handle| {
        let down = LinkUnspec::new_with_index(index).down().build();
        handle.link().set(down).execute().await?;
        let named = LinkUnspec::new_with_index(index).name(to).build();
        handle.link().set(named).execute().await
    })
}

/// Gives a netdev an MTU, and if there is one a MAC address, and sets it up or down at the end.
///
/// # Errors
/// [`Error::Netdev`].
pub fn configure(name: &str, mtu: u32, mac: Option<[u8; 6]>, up: bool) -> Result<(), Error> {
    let index = netdev(name)?.map(|netdev| netdev.index);
    let index = index.ok_or_else(|| missing("set up", name))?;
    talk("set up", name, async |handle| {
        let mut link = LinkUnspec::new_with_index(index).mtu(mtu);
        if let Some(mac) = mac {
            link = link.address(mac.to_vec());
        }
        handle.link().set(link.build()).execute().await?;
        let link = LinkUnspec::new_with_index(index);
        let link = if up { link.up() } else { link.down() };
        handle.link().set(link.build()).execute().await
    })
}

/// Runs `work` in the network namespace at `netns`, on a thread that ends there.
///
/// # Errors
/// [`Error::Netns`]: the namespace cannot be entered; else the error of `work`.
pub fn within<T: Send>(
    netns: &Path,
    work: impl FnOnce() -> Result<T, Error> + Send,
) -> Result<T, Error> {
    Netns::open_path(netns)?.run(work)?
}

fn missing(what: &'static str, netdev: &str) -> Error {
    Error::Netdev {
        what,
        netdev: netdev.to_owned(),
        why: "it is not there".to_owned(),
    }
}

async fn get(
    handle: &Handle,
    name: &str,
    mask: Vec<LinkExtentMask>,
) -> Result<Option<LinkMessage>, rtnetlink::Error> {
    let mut request = handle.link().get().match_name(name.to_owned());
    if !mask.is_empty() {
        request = request.set_filter_mask(AddressFamily::Unspec, mask);
    }
    let mut links = pin!(request.execute());
    match links.try_next().await {
        Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -libc::ENODEV => Ok(None),
        other => other,
    }
}

/// Holds one conversation with the kernel about one netdev, on a connection of its own.
fn talk<T>(
    what: &'static str,
    netdev: &str,
    conversation: impl AsyncFnOnce(Handle) -> Result<T, rtnetlink::Error>,
) -> Result<T, Error> {
    let failed = |why: String| Error::Netdev {
        what,
        netdev: netdev.to_owned(),
        why,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed(error.to_string()))?;
    runtime.block_on(async {
        let (connection, handle, _) =
            rtnetlink::new_connection().map_err(|error| failed(error.to_string()))?;
        tokio::spawn(connection);
        let answer = conversation(handle).await;
        answer.map_err(|error| failed(why(error)))
    })
}

/// Text of an error, without the wording of the netlink library.
fn why(error: rtnetlink::Error) -> String {
    match error {
        rtnetlink::Error::NetlinkError(error) => error.to_io().to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
