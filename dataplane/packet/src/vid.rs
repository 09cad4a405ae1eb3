// SPDX-License-Identifier: Apache-2.0
//! VLAN identifiers (IEEE 802.1Q-2022 clause 9.6); the one place in the tree that checks them.

use std::fmt;
use std::str::FromStr;

/// VLAN identifier, 0 to 4094, where 0 stands for untagged. 4095 is reserved (IEEE 802.1Q, table
/// 9-2) and cannot be one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Vid(u16);

impl Vid {
    /// No VLAN: untagged frames, and frames that carry only a priority (VID 0).
    pub const UNTAGGED: Vid = Vid(0);
    /// Highest VLAN identifier, 4094.
    pub const MAX: Vid = Vid(4094);

    /// Identifier of that number; `None` above 4094.
    #[inline]
    #[must_use]
    pub const fn new(vid: u16) -> Option<Vid> {
        if vid <= 4094 { Some(Vid(vid)) } else { None }
    }

    /// Number of the VLAN, 0 to 4094.
    #[inline]
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// Whether this stands for untagged.
    #[inline]
    #[must_use]
    pub const fn is_untagged(self) -> bool {
        self.0 == 0
    }

    /// Returns the identifier if a tag can carry it as a VLAN, 1 to 4094.
    ///
    /// # Errors
    /// 0, which stands for untagged.
    pub const fn check_tagged(self) -> Result<Vid, VidError> {
        match self.0 {
            0 => Err(VidError::Untagged),
            _ => Ok(self),
        }
    }
}

impl From<Vid> for u16 {
    fn from(vid: Vid) -> u16 {
        vid.0
    }
}

impl TryFrom<u16> for Vid {
    type Error = VidError;

    fn try_from(vid: u16) -> Result<Vid, VidError> {
        Vid::try_from(u64::from(vid))
    }
}

/// Converts a number as JSON has it.
impl TryFrom<u64> for Vid {
    type Error = VidError;

    fn try_from(vid: u64) -> Result<Vid, VidError> {
        let number = u16::try_from(vid).ok();
        number
            .and_then(Vid::new)
            .ok_or(VidError::OutOfRange { vid })
    }
}

impl FromStr for Vid {
    type Err = VidError;

    /// Parses a decimal number, 0 to 4094, without a sign.
    fn from_str(text: &str) -> Result<Vid, VidError> {
        // parse alone would take "+5".
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        let number = digits.then(|| text.parse().ok()).flatten();
        number.and_then(Vid::new).ok_or_else(|| VidError::Syntax {
            text: text.to_owned(),
        })
    }
}

impl fmt::Display for Vid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Vid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vid({})", self.0)
    }
}

/// Range of VIDs from `first` to `last`, both included; never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VidRange {
    first: Vid,
    last: Vid,
}

impl VidRange {
    /// Range of `first` to `last`.
    ///
    /// # Errors
    /// `last` below `first`.
    pub const fn new(first: Vid, last: Vid) -> Result<VidRange, VidError> {
        if last.0 < first.0 {
            return Err(VidError::Backwards { first, last });
        }
        Ok(VidRange { first, last })
    }

    /// Lowest VID.
    #[must_use]
    pub const fn first(self) -> Vid {
        self.first
    }

    /// Highest VID, not below the first.
    #[must_use]
    pub const fn last(self) -> Vid {
        self.last
    }

    /// Whether `vid` is in the range.
    #[must_use]
    pub fn contains(self, vid: Vid) -> bool {
        self.first <= vid && vid <= self.last
    }

    /// Lowest VID that both ranges have.
    #[must_use]
    pub fn shared_with(self, other: VidRange) -> Option<Vid> {
        let shared = self.first.max(other.first);
        (self.contains(shared) && other.contains(shared)).then_some(shared)
    }

    /// Every VID, lowest first.
    pub fn vids(self) -> impl Iterator<Item = Vid> + use<> {
        (self.first.get()..=self.last.get()).filter_map(Vid::new)
    }

    /// Returns the range if a tag can carry each VID of it as a VLAN, 1 to 4094.
    ///
    /// # Errors
    /// A range that begins at 0, which stands for untagged.
    pub fn check_tagged(self) -> Result<VidRange, VidError> {
        self.first.check_tagged().map(|_| self)
    }
}

impl From<Vid> for VidRange {
    fn from(vid: Vid) -> VidRange {
        VidRange {
            first: vid,
            last: vid,
        }
    }
}

impl FromStr for VidRange {
    type Err = VidError;

    /// Parses `210` or `220-229`; spaces are allowed around the hyphen.
    fn from_str(text: &str) -> Result<VidRange, VidError> {
        match text.split_once('-') {
            None => text.parse().map(|vid: Vid| vid.into()),
            Some((first, last)) => VidRange::new(first.trim().parse()?, last.trim().parse()?),
        }
    }
}

impl fmt::Display for VidRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            return fmt::Display::fmt(&self.first, f);
        }
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// Reason why a value was refused as a VLAN; each message names the value and the rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VidError {
    /// Text that is not a number from 0 to 4094.
    #[error("\"{text}\" is not a VLAN: use 1 to 4094, or 0 for untagged")]
    Syntax {
        /// Text that was given.
        text: String,
    },
    /// Number above 4094.
    #[error("VLAN {vid} is out of range: use 1 to 4094, or 0 for untagged")]
    OutOfRange {
        /// Number that was given.
        vid: u64,
    },
    /// VID 0 where a tag must carry the VLAN, as on a trunk.
    #[error("VLAN 0 stands for untagged frames and no tag carries it: use 1 to 4094")]
    Untagged,
    /// Range whose end lies before its beginning.
    #[error("the VLAN range {first}-{last} ends before it begins: write {last}-{first}")]
    Backwards {
        /// Number before the hyphen.
        first: Vid,
        /// Number behind the hyphen.
        last: Vid,
    },
}

/// VLANs are numbers in files and in messages of the control socket.
#[cfg(feature = "serde")]
mod number_form {
    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::{Serialize, Serializer};

    use super::Vid;

    impl Serialize for Vid {
        fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
            to.serialize_u16(self.get())
        }
    }

    impl<'de> Deserialize<'de> for Vid {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Vid, D::Error> {
            Vid::try_from(u64::deserialize(from)?).map_err(D::Error::custom)
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn vid_range() {
        assert_eq!(Vid::new(0), Some(Vid::UNTAGGED));
        assert_eq!(Vid::new(4094).map(Vid::get), Some(4094));
        assert_eq!(Vid::new(4095), None);
        assert_eq!(
            Vid::try_from(9000u16),
            Err(VidError::OutOfRange { vid: 9000 })
        );
        assert_eq!(
            Vid::try_from(70_000u64).unwrap_err().to_string(),
            "VLAN 70000 is out of range: use 1 to 4094, or 0 for untagged"
        );
        assert_eq!(Vid::UNTAGGED.check_tagged(), Err(VidError::Untagged));
        assert_eq!(Vid::MAX.check_tagged(), Ok(Vid::MAX));
    }

    #[test]
    fn vids_from_text() {
        assert_eq!("0".parse(), Ok(Vid::UNTAGGED));
        assert_eq!("4094".parse(), Ok(Vid::MAX));
        for text in ["", "4095", "+5", "-1", "70000", "0x10", " 5", "five"] {
            assert_eq!(
                text.parse::<Vid>().unwrap_err().to_string(),
                format!("\"{text}\" is not a VLAN: use 1 to 4094, or 0 for untagged")
            );
        }
    }

    #[test]
    fn ranges_from_text() {
        let range: VidRange = "220 - 229".parse().unwrap();
        assert_eq!((range.first().get(), range.last().get()), (220, 229));
        assert_eq!(range.to_string(), "220-229");
        assert_eq!(range.vids().count(), 10);
        let one: VidRange = "229".parse().unwrap();
        assert_eq!(one.to_string(), "229");
        assert_eq!(range.shared_with(one), Vid::new(229));
        assert_eq!(one.shared_with("230-240".parse().unwrap()), None);
        assert_eq!(
            "0-5".parse::<VidRange>().unwrap().check_tagged(),
            Err(VidError::Untagged)
        );
        for text in ["9-5", "5-", "-5", "5-9-12", "1-4095"] {
            assert!(text.parse::<VidRange>().is_err(), "{text}");
        }
    }

    #[cfg(feature = "serde")]
    #[test]
    fn json_is_a_number() {
        let vid = Vid::new(210).unwrap();
        assert_eq!(serde_json::to_string(&vid).unwrap(), "210");
        assert_eq!(serde_json::from_str::<Vid>("210").unwrap(), vid);
        for number in ["4095", "70000"] {
            let refused = serde_json::from_str::<Vid>(number).unwrap_err().to_string();
            assert!(
                refused.starts_with(&format!("VLAN {number} is out of range")),
                "{refused}"
            );
        }
    }
}
