// SPDX-License-Identifier: Apache-2.0
//! Routes of a pod's link: ipam's, with every attribute that CNI 1.1 has for a route, added and looked
//! up through rtnetlink.
//!
//! They are appended as the reference plugins append theirs: two gateways of one destination are two
//! routes (IPv4) or one route with two next hops (IPv6), not an error. A route whose gateway is only
//! reached by a later one waits for that.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::{StreamExt, TryStreamExt};
use ipnet::IpNet;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteScope,
};
use rtnetlink::{Handle, RouteMessageBuilder};
use rustix::io::Errno;
use serde_json::Value;

use crate::Error;
use crate::spec::fields::Fields;
use crate::spec::result::{CniResult, Ip, Route};

/// Members of a route beside `dst` and `gw` (CNI specification 1.1, "ADD Success").
const ATTRIBUTES: [&str; 5] = ["table", "priority", "mtu", "advmss", "scope"];

/// Route of a pod's link. An attribute that is `None` or 0 is the kernel's default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PodRoute {
    dst: IpNet,
    gateway: Option<IpAddr>,
    /// Routing table that was named; `None`: main.
    table: Option<u32>,
    priority: Option<u32>,
    mtu: Option<u32>,
    advmss: Option<u32>,
    scope: Option<u8>,
}

impl PodRoute {
    /// Reads a result's routes. One without a gateway goes through the gateway of its IP version's
    /// first address, as the reference plugins have it, or straight out of the link.
    ///
    /// # Errors
    /// [`Error::Config`] naming the route and what of it cannot be set.
    pub(super) fn all(result: &CniResult) -> Result<Vec<PodRoute>, Error> {
        let read = |route| PodRoute::read(route, result);
        result.routes.iter().map(read).collect()
    }

    fn read(route: &Route, result: &CniResult) -> Result<PodRoute, Error> {
        let is_v4 = matches!(route.dst, IpNet::V4(_));
        let of_version = |ip: &&Ip| matches!(ip.address, IpNet::V4(_)) == is_v4;
        let of_address = || result.ips.iter().find(of_version)?.gateway;
        let refused = |why: String| Error::Config(format!("ipam's route to {}: {why}", route.dst));
        let strange = |key: &&String| {
            !ATTRIBUTES
                .iter()
                .any(|known| key.eq_ignore_ascii_case(known))
        };
        if let Some(key) = route.more.keys().find(strange) {
            return Err(refused(format!(
                "it has {key:?}, which this plugin cannot set on a link; it sets {}",
                ATTRIBUTES.join(", ")
            )));
        }
        let fields = Fields::new(&route.more);
        let number = |key: &'static str, most: u32| -> Result<Option<u32>, Error> {
            let wrong =
                |value: &Value| refused(format!("{key} {value} is not a number up to {most}"));
            let value = fields.get(key).filter(|value| !value.is_null());
            let Some(value) = value else { return Ok(None) };
            let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
            let number = number.filter(|number| *number <= most);
            number.map(Some).ok_or_else(|| wrong(value))
        };
        let set = |number: Option<u32>| number.filter(|number| *number != 0);
        let read = PodRoute {
            dst: route.dst.trunc(),
            gateway: route.gw.or_else(of_address),
            table: set(number("table", u32::MAX)?),
            priority: set(number("priority", u32::MAX)?),
            mtu: set(number("mtu", u32::MAX)?),
            advmss: set(number("advmss", u32::MAX)?),
            scope: number("scope", u32::from(u8::MAX))?.and_then(|scope| u8::try_from(scope).ok()),
        };
        if read
            .gateway
            .is_some_and(|gateway| gateway.is_ipv4() != is_v4)
        {
            return Err(refused("its gateway is of the other IP version".to_owned()));
        }
        if !is_v4 && read.scope.is_some_and(|scope| scope != 0) {
            return Err(refused("IPv6 routes have no scope: remove it".to_owned()));
        }
        Ok(read)
    }

    /// The netlink message that makes the route on link `index`.
    fn message(&self, index: u32) -> RouteMessage {
        let prefix = self.dst.prefix_len();
        let mut message = match self.dst.addr() {
            IpAddr::V4(dst) => RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(dst, prefix)
                .output_interface(index)
                .build(),
            IpAddr::V6(dst) => RouteMessageBuilder::<Ipv6Addr>::new()
                .destination_prefix(dst, prefix)
                .output_interface(index)
                .build(),
        };
        if let Some(gateway) = self.gateway {
            message
                .attributes
                .push(RouteAttribute::Gateway(gateway.into()));
        }
        if let Some(table) = self.table {
            // Numbers over 255 have no room in the header (rtnetlink(7)).
            message.header.table = u8::try_from(table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC);
            message.attributes.push(RouteAttribute::Table(table));
        }
        if let Some(priority) = self.priority {
            message.attributes.push(RouteAttribute::Priority(priority));
        }
        // What is reached without a gateway is on the link, as iproute2 has it: else the kernel takes
        // nothing behind it for a gateway.
        message.header.scope = match (self.scope, self.gateway) {
            (Some(scope), _) => RouteScope::from(scope),
            (None, None) if self.dst.addr().is_ipv4() => RouteScope::Link,
            (None, _) => RouteScope::Universe,
        };
        let metrics: Vec<RouteMetric> = [
            self.mtu.map(RouteMetric::Mtu),
            self.advmss.map(RouteMetric::Advmss),
        ]
        .into_iter()
        .flatten()
        .collect();
        if !metrics.is_empty() {
            message.attributes.push(RouteAttribute::Metrics(metrics));
        }
        message
    }

    /// Whether a message of the kernel tells of this route on link `index`. Without a table of its
    /// own it may be in any: source-based routing (the plugin sbr) moves it to another.
    fn is(&self, index: u32, message: &RouteMessage) -> bool {
        let mut found = Seen {
            table: u32::from(message.header.table),
            ..Seen::default()
        };
        for attribute in &message.attributes {
            found.take(attribute);
        }
        // A default route has no destination.
        let is_v4 = matches!(self.dst, IpNet::V4(_));
        let family = if is_v4 { 2 } else { 10 };
        let default = message.header.destination_prefix_length == 0;
        let dst = found
            .dst
            .map_or(default && self.dst.prefix_len() == 0, |dst| {
                dst == self.dst.addr()
                    && message.header.destination_prefix_length == self.dst.prefix_len()
            });
        let hop = |hop: &(Option<u32>, Option<IpAddr>)| *hop == (Some(index), self.gateway);
        let same = |own: Option<u32>, found: Option<u32>| own.is_none() || own == found;
        u8::from(message.header.address_family) == family
            && dst
            && found.hops().any(|found| hop(&found))
            && self.table.is_none_or(|table| table == found.table)
            && same(self.priority, found.priority)
            && same(self.mtu, found.mtu)
            && same(self.advmss, found.advmss)
            && self
                .scope
                .is_none_or(|scope| scope == u8::from(message.header.scope))
    }
}

/// Attributes of a route in a message of the kernel.
#[derive(Debug, Default)]
struct Seen {
    dst: Option<IpAddr>,
    link: Option<u32>,
    gateway: Option<IpAddr>,
    /// Next hops of a route that has several.
    more_hops: Vec<(Option<u32>, Option<IpAddr>)>,
    table: u32,
    priority: Option<u32>,
    mtu: Option<u32>,
    advmss: Option<u32>,
}

impl Seen {
    fn take(&mut self, attribute: &RouteAttribute) {
        match attribute {
            RouteAttribute::Destination(dst) => self.dst = ip(dst),
            RouteAttribute::Oif(link) => self.link = Some(*link),
            RouteAttribute::Gateway(gateway) => self.gateway = ip(gateway),
            RouteAttribute::Table(table) => self.table = *table,
            RouteAttribute::Priority(priority) => self.priority = Some(*priority),
            RouteAttribute::Metrics(metrics) => {
                for metric in metrics {
                    match metric {
                        RouteMetric::Mtu(mtu) => self.mtu = Some(*mtu),
                        RouteMetric::Advmss(advmss) => self.advmss = Some(*advmss),
                        _ => {}
                    }
                }
            }
            RouteAttribute::MultiPath(hops) => {
                self.more_hops.extend(hops.iter().map(|hop| {
                    let gateway = hop.attributes.iter().find_map(|attribute| match attribute {
                        RouteAttribute::Gateway(gateway) => ip(gateway),
                        _ => None,
                    });
                    (Some(hop.interface_index), gateway)
                }));
            }
            _ => {}
        }
    }

    fn hops(&self) -> impl Iterator<Item = (Option<u32>, Option<IpAddr>)> {
        std::iter::once((self.link, self.gateway)).chain(self.more_hops.iter().copied())
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}

impl fmt::Display for PodRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.dst)?;
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        let numbers = [
            ("table", self.table),
            ("priority", self.priority),
            ("mtu", self.mtu),
            ("advmss", self.advmss),
            ("scope", self.scope.map(u32::from)),
        ];
        for (name, number) in numbers {
            if let Some(number) = number {
                write!(f, " {name} {number}")?;
            }
        }
        Ok(())
    }
}

/// Refuses an answer of ipam that has lost attributes of routes that the configuration asks for: an
/// ipam older than CNI 1.1 passes over them, and the routes would land where nobody wants them.
///
/// # Errors
/// [`Error::Config`] naming route, attribute and ipam.
pub(super) fn check_kept(
    ipam: &serde_json::Map<String, Value>,
    program: &str,
    answer: &CniResult,
) -> Result<(), Error> {
    let asked = Fields::new(ipam).list("routes").ok().flatten();
    for asked in asked.into_iter().flatten().filter_map(Value::as_object) {
        let asked = Fields::new(asked);
        let dst = asked.string("dst").ok().flatten();
        let dst = dst.and_then(|dst| dst.parse::<IpNet>().ok());
        let mut answers = answer.routes.iter().filter(|route| Some(route.dst) == dst);
        let Some(first) = answers.next() else {
            continue;
        };
        for key in ATTRIBUTES {
            let is_set = |fields: &Fields<'_>| {
                fields
                    .get(key)
                    .is_some_and(|value| !value.is_null() && *value != 0)
            };
            let mut given = std::iter::once(first).chain(answers.clone());
            if is_set(&asked) && !given.any(|route| is_set(&Fields::new(&route.more))) {
                return Err(Error::Config(format!(
                    "ipam {program} passes over {key} of its route to {}: install a release of it \
                     that knows CNI 1.1, or remove {key}",
                    first.dst
                )));
            }
        }
    }
    Ok(())
}

/// Adds routes to link `index`, which is `name` and has `addresses`. Those that are there are fine.
///
/// # Errors
/// [`Error::Config`]: the pod cannot have the route with these addresses. [`Error::Internal`]: the
/// kernel refused it for another reason.
pub(super) async fn add(
    handle: &Handle,
    index: u32,
    name: &str,
    routes: &[PodRoute],
    addresses: &[Ip],
) -> Result<(), Error> {
    let mut pending: Vec<&PodRoute> = routes.iter().collect();
    loop {
        let before = pending.len();
        let mut unreachable = Vec::new();
        let mut first = None;
        for route in pending {
            match add_one(handle, index, route).await {
                Ok(()) => {}
                Err(errno @ (Errno::NETUNREACH | Errno::HOSTUNREACH)) => {
                    first = first.or(Some((route, errno)));
                    unreachable.push(route);
                }
                Err(errno) => return Err(refused(route, name, errno, addresses)),
            }
        }
        match first {
            None => return Ok(()),
            Some((route, errno)) if unreachable.len() == before => {
                return Err(refused(route, name, errno, addresses));
            }
            Some(_) => pending = unreachable,
        }
    }
}

async fn add_one(handle: &Handle, index: u32, route: &PodRoute) -> Result<(), Errno> {
    let message = RouteNetlinkMessage::NewRoute(route.message(index));
    let mut request = NetlinkMessage::from(message);
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_APPEND;
    let mut answers = handle.clone().request(request).map_err(|_| Errno::PIPE)?;
    while let Some(answer) = answers.next().await {
        let NetlinkPayload::Error(error) = answer.payload else {
            continue;
        };
        match error.code.map(|code| Errno::from_raw_os_error(-code.get())) {
            None => {}
            // The very same route, or one that differs only in what the kernel does not compare.
            Some(Errno::EXIST) => {
                let there = list(handle, route.dst.addr().is_ipv4()).await;
                let there = there.map_err(|_| Errno::EXIST)?;
                if !there.iter().any(|message| route.is(index, message)) {
                    return Err(Errno::EXIST);
                }
            }
            Some(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn refused(route: &PodRoute, name: &str, errno: Errno, addresses: &[Ip]) -> Error {
    let why = std::io::Error::from(errno);
    let what = format!("cannot add route {route} to {name} in the pod: {why}");
    let own: Vec<String> = addresses.iter().map(|ip| ip.address.to_string()).collect();
    let own = if own.is_empty() {
        "no address".to_owned()
    } else {
        own.join(", ")
    };
    match (errno, route.gateway) {
        (Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::INVAL, Some(gateway)) => {
            Error::Config(format!(
                "{what}: {name} has {own}, and no route of the pod leads from there to the gateway \
                 {gateway}; correct the gateway, give ipam an address in its subnet, or a route to \
                 {gateway}/{} without gateway",
                if gateway.is_ipv4() { 32 } else { 128 }
            ))
        }
        (Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::INVAL, None) => Error::Config(format!(
            "{what}: {name} has {own}; give ipam an address of the route's IP version, or correct \
             the route"
        )),
        (Errno::EXIST, _) => Error::Config(format!(
            "{what}: the pod has it with other attributes; name it once"
        )),
        _ => Error::Internal(what),
    }
}

/// Lists the routes of one IP version in all tables of the calling thread's namespace.
///
/// # Errors
/// The kernel does not answer.
pub(super) async fn list(handle: &Handle, v4: bool) -> Result<Vec<RouteMessage>, rtnetlink::Error> {
    let filter = if v4 {
        RouteMessageBuilder::<Ipv4Addr>::new().build()
    } else {
        RouteMessageBuilder::<Ipv6Addr>::new().build()
    };
    handle.route().get(filter).execute().try_collect().await
}

/// Returns the routes of `wanted` that link `index` does not have.
///
/// # Errors
/// The kernel does not answer.
pub(super) async fn missing<'a>(
    handle: &Handle,
    index: u32,
    wanted: &'a [PodRoute],
) -> Result<Vec<&'a PodRoute>, rtnetlink::Error> {
    let mut there = Vec::new();
    for v4 in [true, false] {
        if wanted.iter().any(|route| route.dst.addr().is_ipv4() == v4) {
            there.extend(list(handle, v4).await?);
        }
    }
    let lost = |route: &&PodRoute| !there.iter().any(|message| route.is(index, message));
    Ok(wanted.iter().filter(lost).collect())
}

#[cfg(test)]
#[path = "routes_tests.rs"]
mod tests;
