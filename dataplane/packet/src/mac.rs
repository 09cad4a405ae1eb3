//! MAC addresses.

use std::fmt;
use std::str::FromStr;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A 48-bit MAC address, in the order of the wire.
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

/// Why a text is no MAC address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not a MAC address: write six pairs of hex digits, as in 02:00:5e:10:00:01")]
pub struct MacError {
    /// What was given.
    pub text: String,
}

impl Mac {
    /// ff:ff:ff:ff:ff:ff.
    pub const BROADCAST: Mac = Mac([0xff; 6]);
    /// 00:00:00:00:00:00, which is nobody's address.
    pub const ZERO: Mac = Mac([0; 6]);

    /// The first six bytes of `bytes`, or `None` if there are fewer.
    #[inline]
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Mac> {
        bytes.first_chunk().copied().map(Mac)
    }

    /// The bytes, in the order of the wire.
    #[inline]
    #[must_use]
    pub const fn octets(self) -> [u8; 6] {
        self.0
    }

    /// Group bit set; true of the broadcast address too.
    #[inline]
    #[must_use]
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// ff:ff:ff:ff:ff:ff.
    #[inline]
    #[must_use]
    pub fn is_broadcast(self) -> bool {
        self == Mac::BROADCAST
    }

    /// Neither a group address nor all zero: an address that an interface can have.
    #[inline]
    #[must_use]
    pub fn is_unicast(self) -> bool {
        !self.is_multicast() && self != Mac::ZERO
    }

    /// The locally-administered bit.
    #[inline]
    #[must_use]
    pub const fn is_local(self) -> bool {
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

    /// Six pairs of hex digits with `:` or `-` between them, one of the two throughout.
    fn from_str(text: &str) -> Result<Mac, MacError> {
        let refused = || MacError {
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

#[cfg(test)]
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
        assert!(Mac([2, 0, 0, 0, 0, 1]).is_unicast() && Mac([2, 0, 0, 0, 0, 1]).is_local());
        assert!(!Mac::ZERO.is_unicast());
        assert_eq!(Mac::from_bytes(&[1, 2, 3, 4, 5]), None);
    }
}
