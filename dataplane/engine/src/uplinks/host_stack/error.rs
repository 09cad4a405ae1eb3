//! What can go wrong between the host's stack and its device.

use std::io;

/// Why the host's stack could not be kept off a device, or not be put back.
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
    /// There is no `nft`.
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
        /// What it was to do.
        what: &'static str,
        /// The device.
        device: String,
        /// What it said.
        said: String,
    },
    /// The kernel refused.
    #[error("cannot {what} {device}: {source}; this needs CAP_NET_ADMIN")]
    Kernel {
        /// What was tried.
        what: &'static str,
        /// The device.
        device: String,
        /// Why it failed.
        source: io::Error,
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
