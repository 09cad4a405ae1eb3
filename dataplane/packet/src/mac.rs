// SPDX-License-Identifier: Apache-2.0
//! MAC addresses; the one place in the tree that checks them.

use std::fmt;
use std::str::FromStr;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// MAC address, 48 bits in the order of the wire.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(transparent)]
pub struct Mac(pub [u8; 6]);

/// Reason why a value was refused as a MAC address; each message names the value and the rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MacError {
    /// Text that is not six pairs of hex digits with one separator throughout.
    #[error(
        "\"{text}\" is not a MAC address: write six pairs of hex digits, as in 02:00:5e:10:00:01"
    )]
    Syntax {
        /// Text that was given.
        text: String,
    },
    /// Address with the group bit set, which no interface can have.
    #[error("{mac} is a multicast address: an interface needs a unicast one")]
    Multicast {
        /// Address that was given.
        mac: Mac,
    },
    /// Address of zeros, which no interface can have.
    #[error("{mac} is not an interface's address: an interface needs a unicast one")]
    Zero {
        /// Address that was given.
        mac: Mac,
    },
}

impl Mac {
    /// Broadcast address, ff:ff:ff:ff:ff:ff.
    pub const BROADCAST: Mac = Mac([0xff; 6]);
    /// All-zero address, 00:00:00:00:00:00: "none chosen" where a VF or an ARP target has none yet.
    pub const ZERO: Mac = Mac([0; 6]);

    /// Address of six bytes in the order of the wire.
    #[inline]
    #[must_use]
    pub const fn new(octets: [u8; 6]) -> Mac {
        Mac(octets)
    }

    /// Parses a text and refuses every address that no interface can have.
    ///
    /// # Errors
    /// Not a MAC address, a multicast address, or all zero.
    pub fn parse_unicast(text: &str) -> Result<Mac, MacError> {
        text.parse::<Mac>()?.check_unicast()
    }

    /// Returns the address if an interface can have it.
    ///
    /// # Errors
    /// A multicast (or broadcast) address, or all zero.
    pub fn check_unicast(self) -> Result<Mac, MacError> {
        if self.is_multicast() {
            return Err(MacError::Multicast { mac: self });
        }
        if self.is_zero() {
            return Err(MacError::Zero { mac: self });
        }
        Ok(self)
    }

    /// Reads the first six bytes of `bytes`; `None` if there are fewer.
    #[inline]
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Mac> {
        bytes.first_chunk().copied().map(Mac)
    }

    /// Bytes of the address in the order of the wire.
    #[inline]
    #[must_use]
    pub const fn octets(self) -> [u8; 6] {
        self.0
    }

    /// Whether the group bit (I/G, IEEE 802-2014 clause 8.2) is set; true of broadcast too.
    #[inline]
    #[must_use]
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// Whether this is ff:ff:ff:ff:ff:ff.
    #[inline]
    #[must_use]
    pub fn is_broadcast(self) -> bool {
        self == Mac::BROADCAST
    }

    /// Whether this is 00:00:00:00:00:00.
    #[inline]
    #[must_use]
    pub fn is_zero(self) -> bool {
        self == Mac::ZERO
    }

    /// Whether an interface can have the address: neither a group address nor all zero.
    #[inline]
    #[must_use]
    pub fn is_unicast(self) -> bool {
        !self.is_multicast() && !self.is_zero()
    }

    /// Whether the locally-administered bit (U/L, IEEE 802-2014 clause 8.2) is set.
    #[inline]
    #[must_use]
    pub const fn is_locally_administered(self) -> bool {
        self.0[0] & 2 != 0
    }
}

impl From<[u8; 6]> for Mac {
    fn from(bytes: [u8; 6]) -> Mac {
        Mac(bytes)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Mac {
    type Err = MacError;

    /// Parses six pairs of hex digits with `:` or `-` between them, one of the two throughout.
    ///
    /// # Errors
    /// [`MacError::Syntax`]; multicast and zero addresses are taken.
    fn from_str(text: &str) -> Result<Mac, MacError> {
        let refused = || MacError::Syntax {
            text: text.to_owned(),
        };
        let separator = if text.contains('-') { '-' } else { ':' };
        let mut octets = [0; 6];
        let mut pairs = text.split(separator);
        for octet in &mut octets {
            let pair = pairs.next().ok_or_else(refused)?;
            // from_str_radix alone would take "+f".
            if pair.len() != 2 || !pair.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(refused());
            }
            *octet = u8::from_str_radix(pair, 16).map_err(|_| refused())?;
        }
        if pairs.next().is_some() {
            return Err(refused());
        }
        Ok(Mac(octets))
    }
}

/// MAC addresses are text in files and in messages of the control socket.
#[cfg(feature = "serde")]
mod text_form {
    use std::fmt;

    use serde::de::{Deserialize, Deserializer, Error, Visitor};
    use serde::ser::{Serialize, Serializer};

    use super::Mac;

    impl Serialize for Mac {
        fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
            to.collect_str(self)
        }
    }

    impl<'de> Deserialize<'de> for Mac {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Mac, D::Error> {
            from.deserialize_str(MacText)
        }
    }

    struct MacText;

    impl Visitor<'_> for MacText {
        type Value = Mac;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a MAC address such as \"02:00:5e:10:00:01\"")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Mac, E> {
            text.parse().map_err(E::custom)
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let mac = Mac([0x02, 0x00, 0x5e, 0x10, 0xab, 0x01]);
        assert_eq!(mac.to_string(), "02:00:5e:10:ab:01");
        assert_eq!("02:00:5e:10:ab:01".parse(), Ok(mac));
        assert_eq!("02-00-5E-10-AB-01".parse(), Ok(mac));
    }

    #[test]
    fn refuses_what_is_no_address() {
        for text in [
            "",
            "02:00:5e:10:ab",
            "02:00:5e:10:ab:01:02",
            "2:0:5e:10:ab:1",
            "+2:00:5e:10:ab:01",
            "02:00:5e:10:ab:0g",
            "02:00-5e:10:ab:01",
            "02005e10ab01",
            "０２:00:5e:10:ab:01",
        ] {
            let refused = text.parse::<Mac>();
            assert!(refused.is_err(), "{text} was taken as {refused:?}");
        }
    }

    #[test]
    fn kinds() {
        assert!(Mac::BROADCAST.is_broadcast() && Mac::BROADCAST.is_multicast());
        assert!(Mac([0x33, 0x33, 0, 0, 0, 1]).is_multicast());
        assert!(!Mac([0x33, 0x33, 0, 0, 0, 1]).is_broadcast());
        assert!(
            Mac([2, 0, 0, 0, 0, 1]).is_unicast()
                && Mac([2, 0, 0, 0, 0, 1]).is_locally_administered()
        );
        assert!(!Mac::ZERO.is_unicast());
        assert_eq!(Mac::from_bytes(&[1, 2, 3, 4, 5]), None);
    }

    #[test]
    fn an_interface_needs_a_unicast_address() {
        let mac = Mac::new([2, 0, 0, 0, 0, 1]);
        assert_eq!(Mac::parse_unicast("02:00:00:00:00:01"), Ok(mac));
        for (text, message) in [
            ("02:00", "\"02:00\" is not a MAC address: write six pairs"),
            (
                "33:33:00:00:00:01",
                "33:33:00:00:00:01 is a multicast address",
            ),
            (
                "ff:ff:ff:ff:ff:ff",
                "ff:ff:ff:ff:ff:ff is a multicast address",
            ),
            (
                "00:00:00:00:00:00",
                "00:00:00:00:00:00 is not an interface's address",
            ),
        ] {
            let refused = Mac::parse_unicast(text).unwrap_err().to_string();
            assert!(refused.starts_with(message), "{refused}");
        }
    }

    #[cfg(feature = "serde")]
    #[test]
    fn json_is_text() {
        let mac = Mac::new([2, 0, 0x5e, 0x10, 0xab, 1]);
        let text = serde_json::to_string(&mac).unwrap();
        assert_eq!(text, "\"02:00:5e:10:ab:01\"");
        assert_eq!(serde_json::from_str::<Mac>(&text).unwrap(), mac);
        let refused = serde_json::from_str::<Mac>("\"02:00\"").unwrap_err();
        assert!(
            refused
                .to_string()
                .contains("\"02:00\" is not a MAC address")
        );
    }
}
