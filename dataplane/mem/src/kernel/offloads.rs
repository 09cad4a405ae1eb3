// SPDX-License-Identifier: Apache-2.0
//! Offloads of a netdev, by the names that `ethtool -k` shows under the hood
//! (net/ethtool/common.c, netdev_features_strings): read and switched by ioctl SIOCETHTOOL
//! (include/uapi/linux/ethtool.h).
#![allow(unsafe_code, reason = "ioctl(2) with structures of variable length")]

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType};

/// Offloads that take the outermost tag of a received frame out of its bytes.
pub const RX_VLAN: [&str; 2] = ["rx-vlan-hw-parse", "rx-vlan-stag-hw-parse"];
/// Offloads that leave the tag of a frame to be sent beside its bytes.
pub const TX_VLAN: [&str; 2] = ["tx-vlan-hw-insert", "tx-vlan-stag-hw-insert"];

const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETHTOOL_GFEATURES: u32 = 0x3a;
const ETHTOOL_SFEATURES: u32 = 0x3b;
const ETHTOOL_GCHANNELS: u32 = 0x3c;
/// String set with the features' names.
const ETH_SS_FEATURES: u32 = 4;
/// Words of a name (ETH_GSTRING_LEN).
const NAME_WORDS: usize = 8;
/// Most features that are believed; kernels have some 64.
const MAX_FEATURES: u32 = 1024;

/// State of one offload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offload {
    /// Whether it is on.
    pub active: bool,
    /// Whether the netdev lets it be switched.
    pub changeable: bool,
}

/// Offloads of one netdev.
#[derive(Debug)]
pub struct Offloads {
    fd: OwnedFd,
    device: String,
    names: Vec<String>,
}

impl Offloads {
    /// Opens the offloads of a netdev in the calling thread's network namespace; afterwards they can be
    /// used from any.
    ///
    /// # Errors
    /// The kernel's answer: ENODEV without such a netdev.
    pub fn open(device: &str) -> io::Result<Offloads> {
        let flags = SocketFlags::CLOEXEC;
        let fd = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?;
        let mut offloads = Offloads {
            fd,
            device: device.to_owned(),
            names: Vec::new(),
        };
        offloads.names = offloads.read_names()?;
        Ok(offloads)
    }

    /// State of an offload by its name; `None` if this kernel knows none of that name.
    ///
    /// # Errors
    /// The kernel's answer: ENODEV once the netdev is gone.
    pub fn get(&self, name: &str) -> io::Result<Option<Offload>> {
        let Some((block, bit)) = self.find(name) else {
            return Ok(None);
        };
        // Of each block: available, requested, active, never changed.
        let mut request = self.blocks(ETHTOOL_GFEATURES, 4);
        self.ioctl(&mut request)?;
        let word = |at: usize| {
            request
                .get(2 + 4 * block + at)
                .is_some_and(|word| word & bit != 0)
        };
        Ok(Some(Offload {
            active: word(2),
            changeable: word(0) && !word(3),
        }))
    }

    /// Switches an offload and returns whether it is so now: a netdev may refuse, or have it depend on
    /// another. One that this kernel does not know counts as off.
    ///
    /// # Errors
    /// The kernel's answer: EPERM without CAP_NET_ADMIN.
    pub fn set(&self, name: &str, on: bool) -> io::Result<bool> {
        let Some((block, bit)) = self.find(name) else {
            return Ok(!on);
        };
        // Of each block: valid, requested.
        let mut request = self.blocks(ETHTOOL_SFEATURES, 2);
        if let Some([valid, requested]) = request.get_mut(2 + 2 * block..4 + 2 * block) {
            *valid = bit;
            *requested = if on { bit } else { 0 };
        }
        self.ioctl(&mut request)?;
        Ok(self.get(name)?.is_some_and(|offload| offload.active) == on)
    }

    /// Receive queues in use; `None` where the driver does not say.
    ///
    /// # Errors
    /// The kernel's answer: ENODEV once the netdev is gone.
    pub fn rx_queues(&self) -> io::Result<Option<u32>> {
        // Command, most receive, send, other and combined, and as many counts in use.
        let mut channels = vec![0; 9];
        channels[0] = ETHTOOL_GCHANNELS;
        match self.ioctl(&mut channels) {
            Ok(()) => Ok(Some(channels[5].saturating_add(channels[8])).filter(|&count| count > 0)),
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Block and bit of a feature.
    fn find(&self, name: &str) -> Option<(usize, u32)> {
        let at = self.names.iter().position(|known| known == name)?;
        Some((at / 32, 1 << (at % 32)))
    }

    /// Request with `words` words for each block of 32 features.
    fn blocks(&self, command: u32, words: usize) -> Vec<u32> {
        let blocks = self.names.len().div_ceil(32);
        let mut request = vec![0; 2 + words * blocks];
        request[0] = command;
        request[1] = u32::try_from(blocks).unwrap_or(0);
        request
    }

    fn read_names(&self) -> io::Result<Vec<String>> {
        // Command, reserved, mask of sets (two words), and the length of the one that was asked for.
        let mut info = vec![ETHTOOL_GSSET_INFO, 0, 1 << ETH_SS_FEATURES, 0, 0];
        self.ioctl(&mut info)?;
        let count = info[4];
        if info[2] == 0 || count > MAX_FEATURES {
            return Ok(Vec::new());
        }
        let mut strings = vec![0u32; 3 + NAME_WORDS * count as usize];
        strings[..3].copy_from_slice(&[ETHTOOL_GSTRINGS, ETH_SS_FEATURES, count]);
        self.ioctl(&mut strings)?;
        let names = strings[3..].chunks_exact(NAME_WORDS).map(|words| {
            let bytes = words.iter().flat_map(|word| word.to_ne_bytes());
            let name: Vec<u8> = bytes.take_while(|&byte| byte != 0).collect();
            String::from_utf8_lossy(&name).into_owned()
        });
        Ok(names.collect())
    }

    /// Makes the call. `request` is as long as the kernel writes for the lengths that it holds.
    fn ioctl(&self, request: &mut [u32]) -> io::Result<()> {
        // SAFETY: all zeros is a valid ifreq.
        let mut ifreq: libc::ifreq = unsafe { mem::zeroed() };
        let name = self.device.as_bytes();
        if name.is_empty() || name.len() >= ifreq.ifr_name.len() {
            return Err(io::Error::from_raw_os_error(libc::ENODEV));
        }
        for (to, &from) in ifreq.ifr_name.iter_mut().zip(name) {
            *to = from.cast_signed();
        }
        ifreq.ifr_ifru.ifru_data = request.as_mut_ptr().cast();
        // SAFETY: the kernel reads and writes the request by the numbers of blocks, names and sets in it,
        // for which the callers made it long enough; the name ends with a zero.
        let answer = unsafe { libc::ioctl(self.fd.as_raw_fd(), libc::SIOCETHTOOL, &raw mut ifreq) };
        if answer < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}
