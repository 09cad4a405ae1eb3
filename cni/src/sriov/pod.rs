// SPDX-License-Identifier: Apache-2.0
//! A kernel link in the pod: a VF's netdev gets its MTU, addresses and routes, and is set up. A tap has
//! the first two from the engine, which does not route.

use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nametoindex;
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder, packet_route::route::RouteMessage};

use crate::Error;
use crate::spec::call::Call;
use crate::spec::netns;
use crate::spec::result::{CniResult, Route};

/// Gives the link its MTU and ipam's addresses, sets it up and adds ipam's routes.
///
/// # Errors
/// [`Error::Netns`]; [`Error::Internal`] if the kernel refuses something.
pub(super) fn set_up(
    call: &Call,
    name: &str,
    mtu: Option<u32>,
    addresses: &CniResult,
) -> Result<(), Error> {
    talk(call, name, async |handle, index| {
        if let Some(mtu) = mtu {
            let link = LinkUnspec::new_with_index(index).mtu(mtu).build();
            handle.link().set(link).execute().await?;
        }
        for ip in &addresses.ips {
            let (address, prefix) = (ip.address.addr(), ip.address.prefix_len());
            handle
                .address()
                .add(index, address, prefix)
                .execute()
                .await?;
        }
        let link = LinkUnspec::new_with_index(index).up().build();
        handle.link().set(link).execute().await
    })?;
    add_routes(call, name, addresses)
}

/// Adds ipam's routes to the pod. One without a gateway goes through the gateway of its IP
/// version's first address, as the reference plugins have it, or straight out of the link.
///
/// # Errors
/// [`Error::Netns`]; [`Error::Internal`] if the kernel refuses a route.
pub(super) fn add_routes(call: &Call, name: &str, addresses: &CniResult) -> Result<(), Error> {
    if addresses.routes.is_empty() {
        return Ok(());
    }
    let mixed = addresses
        .routes
        .iter()
        .find(|route| message(1, route, addresses).is_err());
    if let Some(route) = mixed {
        return message(1, route, addresses).map(|_| ());
    }
    talk(call, name, async |handle, index| {
        for route in &addresses.routes {
            if let Ok(message) = message(index, route, addresses) {
                handle.route().add(message).execute().await?;
            }
        }
        Ok(())
    })
}

/// Runs one netlink conversation about a link of the pod, in the pod's namespace.
fn talk(
    call: &Call,
    name: &str,
    conversation: impl AsyncFnOnce(Handle, u32) -> Result<(), rtnetlink::Error> + Send,
) -> Result<(), Error> {
    let netns = call.netns.as_deref().unwrap_or(Path::new(""));
    netns::within(netns, || {
        let failed = |error: &dyn std::fmt::Display| {
            Error::Internal(format!("cannot set up {name} in the pod: {error}"))
        };
        let index = if_nametoindex(name).map_err(|error| failed(&error))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| failed(&error))?;
        runtime.block_on(async {
            let (connection, handle, _) =
                rtnetlink::new_connection().map_err(|error| failed(&error))?;
            tokio::spawn(connection);
            conversation(handle, index)
                .await
                .map_err(|error| failed(&error))
        })
    })
}

fn message(index: u32, route: &Route, addresses: &CniResult) -> Result<RouteMessage, Error> {
    let gateway = gateway(route, addresses);
    let prefix = route.dst.prefix_len();
    match (route.dst.network(), gateway) {
        (IpAddr::V4(dst), gateway) => {
            let builder = RouteMessageBuilder::<std::net::Ipv4Addr>::new()
                .destination_prefix(dst, prefix)
                .output_interface(index);
            match gateway {
                None => Ok(builder.build()),
                Some(IpAddr::V4(gateway)) => Ok(builder.gateway(gateway).build()),
                Some(IpAddr::V6(_)) => Err(mixed(route)),
            }
        }
        (IpAddr::V6(dst), gateway) => {
            let builder = RouteMessageBuilder::<std::net::Ipv6Addr>::new()
                .destination_prefix(dst, prefix)
                .output_interface(index);
            match gateway {
                None => Ok(builder.build()),
                Some(IpAddr::V6(gateway)) => Ok(builder.gateway(gateway).build()),
                Some(IpAddr::V4(_)) => Err(mixed(route)),
            }
        }
    }
}

fn mixed(route: &Route) -> Error {
    Error::Config(format!(
        "route {} has a gateway of the other IP version",
        route.dst
    ))
}

fn gateway(route: &Route, addresses: &CniResult) -> Option<IpAddr> {
    let v4 = matches!(route.dst, IpNet::V4(_));
    let of_address = || {
        let same = |ip: &&crate::spec::result::Ip| matches!(ip.address, IpNet::V4(_)) == v4;
        addresses.ips.iter().find(same)?.gateway
    };
    route.gw.or_else(of_address)
}

/// Looks whether the link is in the pod and has the addresses that ADD told of.
///
/// # Errors
/// [`Error::Internal`] naming what is missing; [`Error::Netns`].
pub(super) fn check(call: &Call, name: &str, previous: &CniResult) -> Result<(), Error> {
    let netns = call.netns.as_deref().unwrap_or(Path::new(""));
    let there: Option<Vec<IpAddr>> = netns::within(netns, || {
        if if_nametoindex(name).is_err() {
            return Ok(None);
        }
        let found = getifaddrs()
            .map_err(|error| Error::Internal(format!("cannot list the pod's addresses: {error}")))?
            .filter(|entry| entry.interface_name == name)
            .filter_map(|entry| {
                let address = entry.address?;
                let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
                v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
            });
        Ok(Some(found.collect()))
    })?;
    let Some(there) = there else {
        return Err(Error::Internal(format!("link {name} is gone from the pod")));
    };
    match previous
        .ips
        .iter()
        .find(|ip| !there.contains(&ip.address.addr()))
    {
        None => Ok(()),
        Some(ip) => Err(Error::Internal(format!(
            "link {name} has lost address {}",
            ip.address
        ))),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_route_takes_its_own_gateway_or_its_address_s() {
        let result = json!({"cniVersion": "1.0.0",
            "ips": [{"address": "10.0.0.2/24", "gateway": "10.0.0.1"}, {"address": "fd00::2/64"}],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.9.0.0/16", "gw": "10.0.0.9"},
                       {"dst": "::/0"}, {"dst": "10.8.0.0/16", "gw": "fd00::1"}]});
        let result = CniResult::parse(result.as_object().unwrap()).unwrap();
        let gateways: Vec<_> = result
            .routes
            .iter()
            .map(|route| gateway(route, &result).map(|g| g.to_string()))
            .collect();
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(
            gateways,
            [text("10.0.0.1"), text("10.0.0.9"), None, text("fd00::1")]
        );
        assert!(message(1, &result.routes[2], &result).is_ok());
        assert_eq!(
            message(1, &result.routes[3], &result).unwrap_err().code(),
            7
        );
    }
}
