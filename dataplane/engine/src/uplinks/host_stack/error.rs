// SPDX-License-Identifier: Apache-2.0
//! Errors of keeping the host's stack off a device and of putting it back.

use std::io;

use crate::sysctl::SysctlError;

/// Failure to keep the host's stack off a device, or to put it back.
#[derive(Debug, thiserror::Error)]
pub enum HostStackError {
    /// No such netdev.
    #[error(
        "there is no netdev {device} in this network namespace: `ip link` lists those there are"
    )]
    NoDevice {
        /// The name asked for.
        device: String,
    },
    /// The name would not be safe in a ruleset.
    #[error(
        "netdev {device:?} cannot be guarded because of its name: rename it to letters, digits, \
         '.', '_' and '-' with `ip link set DEVICE name NAME`"
    )]
    Name {
        /// The name asked for.
        device: String,
    },
    /// Program `nft` is not installed.
    #[error(
        "cannot keep the host's stack off {device}: the program nft is not in PATH; install it \
         (Debian, Ubuntu, Fedora, Alpine: package nftables)"
    )]
    NoNft {
        /// The device.
        device: String,
    },
    /// `nft` refused.
    #[error(
        "nft could not {what} {device}: {said}; it needs CAP_NET_ADMIN and a kernel with \
         CONFIG_NF_TABLES_NETDEV"
    )]
    Nft {
        /// Action that failed.
        what: &'static str,
        /// The device.
        device: String,
        /// First line of its standard error.
        said: String,
    },
    /// The kernel refused.
    #[error("cannot {what} {device}: {source}; this needs CAP_NET_ADMIN")]
    Kernel {
        /// Action that failed.
        what: &'static str,
        /// The device.
        device: String,
        /// Error of the kernel.
        source: io::Error,
    },
    /// A setting of the netdev that cannot be written.
    #[error("cannot {what} {device}: {source}")]
    Setting {
        /// Action that failed.
        what: &'static str,
        /// The device.
        device: String,
        /// Reason why.
        source: SysctlError,
    },
    /// More than one thing could not be put back.
    #[error("{}", texts(.0))]
    Several(Vec<HostStackError>),
}

impl HostStackError {
    /// The kernel refused to do `what` with `device`.
    pub(super) fn kernel(
        what: &'static str,
        device: &str,
    ) -> impl FnOnce(io::Error) -> HostStackError {
        move |source| HostStackError::Kernel {
            what,
            device: device.to_owned(),
            source,
        }
    }

    /// A setting of `device` that was to be written to do `what`.
    pub(super) fn setting(
        what: &'static str,
        device: &str,
    ) -> impl FnOnce(SysctlError) -> HostStackError {
        move |source| HostStackError::Setting {
            what,
            device: device.to_owned(),
            source,
        }
    }

    /// All of `errors`, of which there is at least one, as one.
    pub(super) fn joined(mut errors: Vec<HostStackError>) -> HostStackError {
        if errors.len() == 1 {
            errors.remove(0)
        } else {
            HostStackError::Several(errors)
        }
    }
}

fn texts(errors: &[HostStackError]) -> String {
    let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
    texts.join("; and ")
}
