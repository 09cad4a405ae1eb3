// SPDX-License-Identifier: Apache-2.0
//! A kernel link in the pod: a VF's netdev gets its MTU, addresses and routes, and is set up. A tap has
//! the first two from the engine, which does not route.

use std::path::Path;

use futures_util::TryStreamExt;
use ipnet::IpNet;
use nix::net::if_::if_nametoindex;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::{Handle, LinkUnspec};
use sluice_packet::Mac;

use super::routes::{self, PodRoute};
use crate::Error;
use crate::spec::call::Call;
use crate::spec::netns;
use crate::spec::result::CniResult;

/// Gives the link its MTU and ipam's addresses, sets it up and adds ipam's routes.
///
/// # Errors
/// [`Error::Netns`]; [`Error::Config`] for a route that cannot be; [`Error::Internal`] if the kernel
/// refuses something else.
pub(super) fn set_up(
    call: &Call,
    name: &str,
    mtu: Option<u32>,
    addresses: &CniResult,
) -> Result<(), Error> {
    // Before the link is touched.
    PodRoute::all(addresses)?;
    talk(call, name, async |handle, index| {
        let failed = |error: rtnetlink::Error| cannot_set_up(name, &error);
        if let Some(mtu) = mtu {
            let link = LinkUnspec::new_with_index(index).mtu(mtu).build();
            handle.link().set(link).execute().await.map_err(failed)?;
        }
        for ip in &addresses.ips {
            let (address, prefix) = (ip.address.addr(), ip.address.prefix_len());
            let add = handle.address().add(index, address, prefix);
            add.execute().await.map_err(failed)?;
        }
        let link = LinkUnspec::new_with_index(index).up().build();
        handle.link().set(link).execute().await.map_err(failed)
    })?;
    add_routes(call, name, addresses)
}

/// Adds ipam's routes to the pod.
///
/// # Errors
/// As [`set_up`].
pub(super) fn add_routes(call: &Call, name: &str, addresses: &CniResult) -> Result<(), Error> {
    let all = PodRoute::all(addresses)?;
    if all.is_empty() {
        return Ok(());
    }
    talk(call, name, async |handle, index| {
        routes::add(&handle, index, name, &all, &addresses.ips).await
    })
}

fn cannot_set_up(name: &str, error: &dyn std::fmt::Display) -> Error {
    Error::Internal(format!("cannot set up {name} in the pod: {error}"))
}

/// Runs one netlink conversation about a link of the pod, in the pod's namespace.
fn talk<T: Send>(
    call: &Call,
    name: &str,
    conversation: impl AsyncFnOnce(Handle, u32) -> Result<T, Error> + Send,
) -> Result<T, Error> {
    let netns = call.netns.as_deref().unwrap_or(Path::new(""));
    netns::within(netns, || {
        let failed = |error: &dyn std::fmt::Display| cannot_set_up(name, error);
        let index = if_nametoindex(name)
            .map_err(|_| Error::Internal(format!("link {name} is gone from the pod")))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| failed(&error))?;
        runtime.block_on(async {
            let (connection, handle, _) =
                rtnetlink::new_connection().map_err(|error| failed(&error))?;
            tokio::spawn(connection);
            conversation(handle, index).await
        })
    })
}

/// State that a link of the pod should be in.
#[derive(Debug)]
pub(super) struct Expected<'a> {
    /// Name of the link.
    pub(super) name: &'a str,
    /// MAC address, as text.
    pub(super) mac: Option<&'a str>,
    /// MTU in bytes.
    pub(super) mtu: Option<u32>,
    /// Addresses and routes.
    pub(super) result: &'a CniResult,
}

/// Everything in which the link in the pod is not as expected, for people.
///
/// # Errors
/// [`Error::Internal`]: the link is gone, or the kernel does not answer. [`Error::Netns`].
pub(super) fn differences(call: &Call, expected: &Expected<'_>) -> Result<Vec<String>, Error> {
    let name = expected.name;
    let wanted = PodRoute::all(expected.result)?;
    talk(call, name, async |handle, index| {
        let failed = |error: rtnetlink::Error| {
            Error::Internal(format!("cannot look at {name} in the pod: {error}"))
        };
        let mut links = handle.link().get().match_index(index).execute();
        let link = links.try_next().await.map_err(failed)?;
        let mut found = link.map_or_else(Vec::new, |link| of_link(&link, expected));
        let addresses = handle.address().get().set_link_index_filter(index);
        let addresses: Vec<AddressMessage> =
            addresses.execute().try_collect().await.map_err(failed)?;
        let there: Vec<IpNet> = addresses.iter().filter_map(address_of).collect();
        for ip in &expected.result.ips {
            if there.contains(&ip.address) {
                continue;
            }
            let other = there.iter().find(|net| net.addr() == ip.address.addr());
            found.push(match other {
                Some(other) => format!("the address {} has become {other}", ip.address),
                None => format!("link {name} has lost address {}", ip.address),
            });
        }
        let missing = routes::missing(&handle, index, &wanted).await;
        for route in missing.map_err(failed)? {
            found.push(format!("link {name} has lost route {route}"));
        }
        Ok(found)
    })
}

fn of_link(link: &LinkMessage, expected: &Expected<'_>) -> Vec<String> {
    let mut found = Vec::new();
    if !link.header.flags.contains(LinkFlags::Up) {
        found.push(format!("link {} is down", expected.name));
    }
    let wanted = expected.mac.and_then(|mac| mac.parse::<Mac>().ok());
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::Address(octets) => {
                let octets = <[u8; 6]>::try_from(octets.as_slice()).ok();
                if let (Some(wanted), Some(octets)) = (wanted, octets)
                    && wanted.octets() != octets
                {
                    let there = Mac::new(octets);
                    found.push(format!(
                        "link {} has MAC {there}, not {wanted}",
                        expected.name
                    ));
                }
            }
            LinkAttribute::Mtu(mtu) if expected.mtu.is_some_and(|wanted| wanted != *mtu) => {
                found.push(format!(
                    "link {} has MTU {mtu}, not {}",
                    expected.name,
                    expected.mtu.unwrap_or_default()
                ));
            }
            _ => {}
        }
    }
    found
}

fn address_of(message: &AddressMessage) -> Option<IpNet> {
    // On a broadcast link both are the same, or IFA_LOCAL alone is there.
    let local = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            AddressAttribute::Local(address) => Some(*address),
            _ => None,
        });
    let address = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        });
    IpNet::new(local.or(address)?, message.header.prefix_len).ok()
}
