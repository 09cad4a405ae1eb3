// SPDX-License-Identifier: Apache-2.0
//! The pod's default route, where one of its networks asks for it: the others give up theirs, in the
//! namespace and in their results, so that whoever reads a result later believes in no route that is not
//! there.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::pin;

use futures_util::TryStreamExt;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use nix::net::if_::if_nametoindex;
use rtnetlink::packet_route::route::{RouteAttribute, RouteHeader, RouteMessage, RouteType};
use rtnetlink::{Handle, RouteMessageBuilder};
use serde_json::Map;

use super::requirements::Requirements;
use crate::Error;
use crate::spec::call::Call;
use crate::spec::delegate::Delegate;
use crate::spec::netns;
use crate::spec::result::{CniResult, Route, version_of};

/// Plan for the default routes of one network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RoutePlan {
    /// Keeps the routes that the delegate made.
    Keep,
    /// Removes the default routes of these families.
    GiveUp {
        /// IPv4.
        v4: bool,
        /// IPv6.
        v6: bool,
    },
    /// Replaces the default routes by routes to these gateways.
    To(Vec<IpAddr>),
}

/// Plans the default routes of each network from the requirements of all.
pub(super) fn plan(requirements: &[Requirements]) -> Vec<RoutePlan> {
    let asked = requirements
        .iter()
        .find_map(|requirements| requirements.default_route.as_ref());
    let Some(gateways) = asked else {
        return vec![RoutePlan::Keep; requirements.len()];
    };
    let has = |v4| gateways.is_empty() || gateways.iter().any(|gateway| gateway.is_ipv4() == v4);
    let others = RoutePlan::GiveUp {
        v4: has(true),
        v6: has(false),
    };
    let own = |requirements: &Requirements| match &requirements.default_route {
        None => others.clone(),
        Some(gateways) if gateways.is_empty() => RoutePlan::Keep,
        Some(gateways) => RoutePlan::To(gateways.clone()),
    };
    requirements.iter().map(own).collect()
}

/// Makes a network's default routes what they are to be.
///
/// # Errors
/// [`Error::Internal`]: the kernel refuses a route, which it names.
pub(super) fn apply(call: &Call, delegate: &mut Delegate, plan: &RoutePlan) -> Result<(), Error> {
    let (v4, v6, gateways) = match plan {
        RoutePlan::Keep => return Ok(()),
        RoutePlan::GiveUp { v4, v6 } => (*v4, *v6, &[][..]),
        RoutePlan::To(gateways) => {
            let v4 = gateways.iter().any(IpAddr::is_ipv4);
            (v4, gateways.iter().any(IpAddr::is_ipv6), &gateways[..])
        }
    };
    let Some(path) = call.netns.as_deref() else {
        return Ok(());
    };
    let ifname = delegate.ifname.clone();
    netns::within(path, || {
        // No link, no route: a memif's routes are the pod program's.
        let Ok(index) = if_nametoindex(ifname.as_str()) else {
            return Ok(());
        };
        change(index, (v4, v6), gateways)
            .map_err(|why| Error::Internal(format!("the default route through {ifname}: {why}")))
    })?;
    if let Some(result) = &delegate.result {
        delegate.result = Some(rewrite(result, (v4, v6), gateways)?);
    }
    Ok(())
}

/// The result with the default routes that are there now.
fn rewrite(
    result: &Map<String, serde_json::Value>,
    (v4, v6): (bool, bool),
    gateways: &[IpAddr],
) -> Result<Map<String, serde_json::Value>, Error> {
    let version = version_of(result)?;
    let mut parsed = CniResult::parse(result)?;
    parsed.routes.retain(|route| {
        let concerned = match route.dst {
            IpNet::V4(_) => v4,
            IpNet::V6(_) => v6,
        };
        route.dst.prefix_len() != 0 || !concerned
    });
    for gateway in gateways {
        parsed.routes.push(Route {
            dst: default_of(*gateway),
            gw: Some(*gateway),
            more: Map::new(),
        });
    }
    Ok(parsed.render(version))
}

fn default_of(gateway: IpAddr) -> IpNet {
    match gateway {
        IpAddr::V4(_) => IpNet::V4(Ipv4Net::default()),
        IpAddr::V6(_) => IpNet::V6(Ipv6Net::default()),
    }
}

/// In the namespace of the calling thread: takes away the default routes through an interface, and makes
/// new ones.
fn change(index: u32, (v4, v6): (bool, bool), gateways: &[IpAddr]) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        let work = async {
            if v4 {
                let all = RouteMessageBuilder::<Ipv4Addr>::new().build();
                take_away(&handle, all, index).await.map_err(to_io)?;
            }
            if v6 {
                let all = RouteMessageBuilder::<Ipv6Addr>::new().build();
                take_away(&handle, all, index).await.map_err(to_io)?;
            }
            for gateway in gateways {
                let route = match gateway {
                    IpAddr::V4(gateway) => RouteMessageBuilder::<Ipv4Addr>::new()
                        .gateway(*gateway)
                        .output_interface(index)
                        .build(),
                    IpAddr::V6(gateway) => RouteMessageBuilder::<Ipv6Addr>::new()
                        .gateway(*gateway)
                        .output_interface(index)
                        .build(),
                };
                let added = handle.route().add(route).execute().await;
                added.map_err(|error| {
                    let error = to_io(error);
                    let hint = match error.kind() {
                        io::ErrorKind::NetworkUnreachable => {
                            ": no address of the interface is in its subnet"
                        }
                        _ => "",
                    };
                    io::Error::new(error.kind(), format!("gateway {gateway}: {error}{hint}"))
                })?;
            }
            Ok(())
        };
        work.await
    })
}

fn to_io(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(error) => error.to_io(),
        other => io::Error::other(other),
    }
}

async fn take_away(handle: &Handle, all: RouteMessage, index: u32) -> Result<(), rtnetlink::Error> {
    let mut found = Vec::new();
    let mut routes = pin!(handle.route().get(all).execute());
    while let Some(route) = routes.try_next().await? {
        let through = route.attributes.contains(&RouteAttribute::Oif(index));
        let is_default = route.header.destination_prefix_length == 0
            && route.header.table == RouteHeader::RT_TABLE_MAIN
            && route.header.kind == RouteType::Unicast;
        if through && is_default {
            found.push(route);
        }
    }
    for route in found {
        handle.route().del(route).execute().await?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn asks(gateways: Option<&[&str]>) -> Requirements {
        Requirements {
            default_route: gateways
                .map(|list| list.iter().map(|text| text.parse().unwrap()).collect()),
            ..Requirements::default()
        }
    }

    #[test]
    fn one_keeps_or_gets_and_the_others_give_up() {
        assert_eq!(
            plan(&[asks(None), asks(None)]),
            [RoutePlan::Keep, RoutePlan::Keep]
        );
        let both = RoutePlan::GiveUp { v4: true, v6: true };
        assert_eq!(
            plan(&[asks(None), asks(Some(&[]))]),
            [both, RoutePlan::Keep]
        );
        let v4 = RoutePlan::GiveUp {
            v4: true,
            v6: false,
        };
        let to = RoutePlan::To(vec!["10.0.0.1".parse().unwrap()]);
        assert_eq!(plan(&[asks(Some(&["10.0.0.1"])), asks(None)]), [to, v4]);
    }

    #[test]
    fn results_of_every_shape_lose_and_get_routes() {
        let map = |value: Value| value.as_object().unwrap().clone();
        let new = map(
            json!({"cniVersion": "1.0.0", "routes": [{"dst": "0.0.0.0/0"},
            {"dst": "10.1.0.0/16"}, {"dst": "::/0"}]}),
        );
        let given_up = rewrite(&new, (true, false), &[]).unwrap();
        assert_eq!(
            given_up["routes"],
            json!([{"dst": "10.1.0.0/16"}, {"dst": "::/0"}])
        );
        let gateway: IpAddr = "10.0.0.9".parse().unwrap();
        let got = rewrite(&new, (true, true), &[gateway]).unwrap();
        let expected = json!([{"dst": "10.1.0.0/16"}, {"dst": "0.0.0.0/0", "gw": "10.0.0.9"}]);
        assert_eq!(got["routes"], expected);
        let old = map(json!({"cniVersion": "0.2.0", "ip4": {"ip": "10.0.0.2/24",
            "gateway": "10.0.0.1", "routes": [{"dst": "0.0.0.0/0"}]}}));
        let given_up = rewrite(&old, (true, true), &[]).unwrap();
        assert!(given_up["ip4"].get("routes").is_none(), "{given_up:?}");
    }
}
