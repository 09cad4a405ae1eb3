//! What a tap in the pod needs beyond what the engine gives it: the engine makes the link with its
//! MAC, MTU and addresses, but it does not route.

use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nametoindex;
use rtnetlink::{RouteMessageBuilder, packet_route::route::RouteMessage};

use crate::call::Call;
use crate::result::{CniResult, Route};
use crate::{Error, netns};

/// Adds ipam's routes to the pod. One without a gateway goes through the gateway of its IP
/// version's first address, as the reference plugins have it, or straight out of the link.
///
/// # Errors
/// [`Error::Netns`]; [`Error::Internal`] if the kernel refuses a route.
pub(super) fn add_routes(call: &Call, addresses: &CniResult) -> Result<(), Error> {
    if addresses.routes.is_empty() {
        return Ok(());
    }
    let netns = call.netns.as_deref().unwrap_or(Path::new(""));
    netns::within(netns, || {
        let failed = |error: &dyn std::fmt::Display| {
            Error::Internal(format!(
                "cannot add routes to {} in the pod: {error}",
                call.ifname
            ))
        };
        let index = if_nametoindex(call.ifname.as_str()).map_err(|error| failed(&error))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| failed(&error))?;
        runtime.block_on(async {
            let (connection, handle, _) =
                rtnetlink::new_connection().map_err(|error| failed(&error))?;
            tokio::spawn(connection);
            for route in &addresses.routes {
                let message = message(index, route, addresses)?;
                let added = handle.route().add(message).execute().await;
                added.map_err(|error| failed(&format_args!("{}: {error}", route.dst)))?;
            }
            Ok(())
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
        let same = |ip: &&crate::result::Ip| matches!(ip.address, IpNet::V4(_)) == v4;
        addresses.ips.iter().find(same)?.gateway
    };
    route.gw.or_else(of_address)
}

/// Looks whether the link is in the pod and has the addresses that ADD told of.
///
/// # Errors
/// [`Error::Internal`] naming what is missing; [`Error::Netns`].
pub(super) fn check(call: &Call, previous: &CniResult) -> Result<(), Error> {
    let netns = call.netns.as_deref().unwrap_or(Path::new(""));
    let name = call.ifname.as_str();
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
