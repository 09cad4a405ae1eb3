// SPDX-License-Identifier: Apache-2.0
//! Capabilities: those of root that the engine keeps; it logs them.
//!
//! Dropped before the first thread is made, from every set and from the bounding set, so that
//! neither a thread nor a program started by mistake can have them again. What it is left without
//! matters as much: it cannot override who may read or write a file, so its folders must be its own
//! user's; it cannot load a module, change users, or reach I/O ports.

use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
    clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
    set_no_new_privs,
};

use super::{DaemonError, system};

/// Capabilities that the engine keeps: name by `capabilities(7)`, and purpose.
const KEPT: [(CapabilitySet, &str, &str); 5] = [
    (
        CapabilitySet::NET_ADMIN,
        "NET_ADMIN",
        "netdevs, taps and VF settings",
    ),
    (
        CapabilitySet::NET_RAW,
        "NET_RAW",
        "packet sockets on netdev uplinks",
    ),
    (
        CapabilitySet::SYS_ADMIN,
        "SYS_ADMIN",
        "the network namespaces of pods",
    ),
    (
        CapabilitySet::SYS_PTRACE,
        "SYS_PTRACE",
        "reading in /proc which namespace a pod or a caller is in",
    ),
    (
        CapabilitySet::IPC_LOCK,
        "IPC_LOCK",
        "huge pages, and memory that a NIC reaches",
    ),
];

fn wanted() -> CapabilitySet {
    KEPT.iter()
        .fold(CapabilitySet::empty(), |all, (one, ..)| all | *one)
}

/// Drops all other capabilities, for this thread and all that it creates.
///
/// # Errors
/// The kernel refused.
pub(super) fn drop_others() -> Result<(), DaemonError> {
    let failed = |what| {
        let failed = system(what);
        move |errno: rustix::io::Errno| failed(errno.into())
    };
    let had = capabilities(None)
        .map_err(failed("its capabilities cannot be read"))?
        .permitted;
    let kept = wanted() & had;
    let mut bounded = true;
    for one in CapabilitySet::all().difference(kept).iter() {
        // A kernel may not know the newest ones.
        if capability_is_in_bounding_set(one).unwrap_or(false) {
            // Only who may change capabilities at all may; without that there is nothing to bound.
            bounded &= remove_capability_from_bounding_set(one).is_ok();
        }
    }
    // Before Linux 4.3 there is none.
    let _ = clear_ambient_capability_set();
    set_no_new_privs(true).map_err(failed("no_new_privs cannot be set"))?;
    let sets = CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets).map_err(failed("its capabilities cannot be dropped"))?;
    say(had, kept, bounded);
    Ok(())
}

fn say(had: CapabilitySet, kept: CapabilitySet, bounded: bool) {
    let names = |of: CapabilitySet| {
        let named: Vec<_> = KEPT
            .iter()
            .filter(|(one, ..)| of.contains(*one))
            .map(|(_, name, what)| format!("{name} ({what})"))
            .collect();
        named.join(", ")
    };
    let dropped = had.difference(kept).bits().count_ones();
    let rest = if bounded {
        ""
    } else {
        "; the bounding set stays"
    };
    tracing::info!(
        "capabilities kept: {}; {dropped} others dropped{rest}",
        names(kept)
    );
    let missing = wanted().difference(kept);
    if !missing.is_empty() {
        tracing::warn!(
            "capabilities missing: {}: what needs them will fail; run the engine as root, or give \
             its container these",
            names(missing)
        );
    }
}
