// SPDX-License-Identifier: Apache-2.0
//! Settings of IPv6 on a tap's netdev, by which its kernel acts of itself. An attachment that was given addresses sends from these alone:
//! whatever else its kernel took up would be dropped as spoofed, and the pod would find that nothing answers.
//!
//! | addresses given | set on the pod's netdev |
//! |---|---|
//! | none | nothing: the pod's kernel takes addresses and routes from advertisements, as on any link |
//! | with one of IPv6 | `accept_ra`, `autoconf` and `accept_redirects` off: addresses and routes are those of its network |
//! | of IPv4 alone | these, and `disable_ipv6`: it could not send at all |
//!
//! All else stays as the pod's namespace has it, for these reasons:
//!
//! * `addr_gen_mode`: which link-local address a host takes is its own choice.
//! * `accept_dad`, `dad_transmits`: the link-local address is looked for as on any link. Addresses that were
//!   given are not (`nodad`): the engine keeps them unique in their segment, and a pod need not wait a second.
//! * `forwarding`, `proxy_ndp` and IPv4's `proxy_arp`: a pod may route between its interfaces. What it sends
//!   for others is judged as all that it sends.
//! * IPv4's `accept_redirects` and `rp_filter`: the kernel joins them with the value of `all`, so that a netdev's
//!   own does not decide, and `all` is about the pod's other interfaces too.

use std::path::Path;

use ipnet::IpNet;

use crate::sysctl::{self, SysctlError};

/// Sets what the netdev `ifname` of the calling thread's namespace does of itself, before it is up.
///
/// # Errors
/// A setting cannot be written. A kernel without IPv6 has none.
pub(super) fn configure(ifname: &str, addresses: &[IpNet]) -> Result<(), SysctlError> {
    for (name, value) in settings(addresses) {
        sysctl::write(&Path::new("ipv6/conf").join(ifname).join(name), value)?;
    }
    Ok(())
}

/// Names and values of the settings.
fn settings(addresses: &[IpNet]) -> &'static [(&'static str, &'static str)] {
    let all = &[
        ("accept_ra", "0"),
        ("autoconf", "0"),
        ("accept_redirects", "0"),
        ("disable_ipv6", "1"),
    ];
    if addresses.is_empty() {
        &[]
    } else if addresses.iter().any(|net| net.addr().is_ipv6()) {
        &all[..3]
    } else {
        all
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn names(addresses: &[&str]) -> Vec<&'static str> {
        let nets: Vec<IpNet> = addresses.iter().map(|net| net.parse().unwrap()).collect();
        settings(&nets).iter().map(|(name, _)| *name).collect()
    }

    #[test]
    fn only_given_addresses_turn_the_kernels_own_off() {
        assert!(names(&[]).is_empty());
        let given = ["accept_ra", "autoconf", "accept_redirects"];
        assert_eq!(names(&["2001:db8::2/64"]), given);
        assert_eq!(names(&["10.0.0.2/24", "2001:db8::2/64"]), given);
        assert_eq!(names(&["10.0.0.2/24"])[3..], ["disable_ipv6"]);
    }
}
