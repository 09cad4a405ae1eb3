// SPDX-License-Identifier: Apache-2.0
//! PFs and VFs of a node.
//!
//! | module | holds |
//! |---|---|
//! | [`sysfs`] | PCI functions, PFs and VFs as the kernel lists them |
//! | [`view`] | what sysfs shows to those who give VFs out: links, PFs, device files of VFIO |
//! | [`settings`] | settings that a PF keeps for each of its VFs, and how two sets of them differ |
//! | [`links`] | netdevs and VF settings, read and changed through rtnetlink |
//! | [`create`] | VFs made from a PF, as a file or an operator asks |
//! | [`claim`] | claims: a VF taken for a pod, written down in the journal, and given back as it was |
//!
//! A VF that is bound to vfio-pci is opened and driven by `sluice-vfio`, not here.

#![forbid(unsafe_code)]

pub mod claim;
pub mod create;
mod error;
pub mod links;
pub mod settings;
pub mod sysfs;
pub mod view;

pub use error::Error;
pub use sluice_vfio::{BadPciAddr, ErrorKind, PciAddr};
