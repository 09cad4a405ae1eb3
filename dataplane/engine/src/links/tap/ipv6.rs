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

use std::io;
use std::path::Path;

use ipnet::IpNet;

/// Folder of IPv6's settings, of the calling thread's network namespace.
const SETTINGS: &str = "/proc/sys/net/ipv6/conf";

/// A setting that cannot be written.
#[derive(Debug, thiserror::Error)]
#[error(
    "{path} cannot be written: {source}; the engine's container needs /proc/sys mounted read-write"
)]
pub(super) struct SettingError {
    path: String,
    source: io::Error,
}

/// Sets what the netdev `ifname` of the calling thread's namespace does of itself, before it is up.
///
/// # Errors
/// A setting cannot be written. A kernel without IPv6 has none.
pub(super) fn configure(ifname: &str, addresses: &[IpNet]) -> Result<(), SettingError> {
    write(Path::new(SETTINGS), ifname, settings(addresses))
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

fn write(folder: &Path, ifname: &str, settings: &[(&str, &str)]) -> Result<(), SettingError> {
    for (name, value) in settings {
        let path = folder.join(ifname).join(name);
        match std::fs::write(&path, value) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => {
                let path = path.display().to_string();
                return Err(SettingError { path, source });
            }
            Ok(()) => {}
        }
    }
    Ok(())
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

    #[test]
    fn a_setting_that_is_not_there_is_none_and_one_that_cannot_be_written_is_named() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "net1", &[("accept_ra", "0")]).unwrap();
        std::fs::create_dir_all(dir.path().join("net1/accept_ra")).unwrap();
        let error = write(dir.path(), "net1", &[("accept_ra", "0")]).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("net1/accept_ra cannot be written"),
            "{error}"
        );
        assert!(error.to_string().contains("read-write"), "{error}");
    }
}
