// SPDX-License-Identifier: Apache-2.0
//! CHECK: every delegate's own, and what can be seen of each interface without asking its plugin.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use nix::ifaddrs::getifaddrs;
use serde_json::Map;

use super::{MetaConf, PodRecord, multus_cache};
use crate::Error;
use crate::spec::delegate::Delegate;
use crate::spec::exec::Runner;
use crate::spec::netns;
use crate::spec::protocol::Context;
use crate::spec::result::CniResult;

pub(super) fn run(conf: &MetaConf, context: &Context) -> Result<(), Error> {
    let Context { call, log, .. } = context;
    let record = PodRecord::load(&conf.state_dir, &call.container_id, &call.ifname, log)?;
    let delegates = match record.filter(|record| record.complete) {
        Some(record) => {
            netns::check_same(call, record.netns_identity.as_ref())?;
            record.delegates
        }
        None => multus_cache::load(&conf.multus_dir, &call.container_id, &call.ifname)?
            .ok_or_else(|| {
                Error::Unknown(format!(
                    "container {} has no complete ADD on {}",
                    call.container_id, call.ifname
                ))
            })?,
    };
    let runner = Runner::new(call, &conf.bin_dir, log);
    for delegate in &delegates {
        if !delegate.check(&runner, context.budget)? {
            log.verbose(format_args!(
                "network {} (cniVersion {:?}) has no CHECK",
                delegate.name, delegate.cni_version
            ));
        }
    }
    match call.netns.as_deref() {
        Some(path) => links(path, &delegates),
        None => Ok(()),
    }
}

/// Whether every link that ADD left is there, with its addresses.
fn links(path: &Path, delegates: &[Delegate]) -> Result<(), Error> {
    let there = netns::within(path, addresses)?;
    for delegate in delegates.iter().filter(|delegate| delegate.has_link) {
        let gone = |what: String| {
            Err(Error::Internal(format!(
                "network {}: {what} is gone from {}",
                delegate.name,
                path.display()
            )))
        };
        let Some(has) = there.get(&delegate.ifname) else {
            return gone(format!("interface {}", delegate.ifname));
        };
        let empty = Map::new();
        let result = CniResult::parse(delegate.result.as_ref().unwrap_or(&empty))?;
        let on_it = |of: Option<usize>| {
            let interface = of.and_then(|index| result.interfaces.get(index));
            interface.is_none_or(|interface| interface.name == delegate.ifname)
        };
        let mut ips = result.ips.iter().filter(|ip| on_it(ip.interface));
        if let Some(ip) = ips.find(|ip| !has.contains(&ip.address.addr())) {
            return gone(format!("address {} of {}", ip.address, delegate.ifname));
        }
    }
    Ok(())
}

/// Interfaces of this thread's namespace with their addresses.
fn addresses() -> Result<BTreeMap<String, Vec<IpAddr>>, Error> {
    let all = getifaddrs().map_err(|error| Error::Internal(format!("getifaddrs: {error}")))?;
    let mut found: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
    for one in all {
        let of = found.entry(one.interface_name).or_default();
        let Some(address) = one.address else { continue };
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
        let v6 = address.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip()));
        of.extend(v4.or(v6));
    }
    Ok(found)
}
