// SPDX-License-Identifier: Apache-2.0
//! Pose: whom an attachment may send as, besides itself, and whose frames it may be given.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use crate::mac::Mac;

/// Check of a pod's sender addresses; the later, the looser.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AntiSpoof {
    /// A host: its own MAC, its own addresses where it has any, and what [`Pose::pairs`] allows.
    #[default]
    Strict,
    /// A router: its own MAC, also in what ARP and neighbour discovery say, and any address behind it.
    Mac,
    /// A bridge: any MAC that no other attachment owns, any address.
    Off,
}

impl AntiSpoof {
    /// All of them, the strictest first.
    pub const ALL: [AntiSpoof; 3] = [AntiSpoof::Strict, AntiSpoof::Mac, AntiSpoof::Off];

    /// The word it is asked for by.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            AntiSpoof::Strict => "strict",
            AntiSpoof::Mac => "mac",
            AntiSpoof::Off => "off",
        }
    }
}

impl fmt::Display for AntiSpoof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Text that names no check of sender addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is none of strict, mac and off")]
pub struct NoSuchAntiSpoof(String);

impl FromStr for AntiSpoof {
    type Err = NoSuchAntiSpoof;

    fn from_str(text: &str) -> Result<AntiSpoof, NoSuchAntiSpoof> {
        let found = AntiSpoof::ALL.into_iter().find(|one| one.name() == text);
        found.ok_or_else(|| NoSuchAntiSpoof(text.to_owned()))
    }
}

/// Address that a strict attachment may use besides its own, as OpenStack's allowed address pairs and
/// OVN's port security have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct AddressPair {
    /// Source MAC address; `None`: the attachment's own.
    #[cfg_attr(
        feature = "serde",
        serde(default, skip_serializing_if = "Option::is_none")
    )]
    pub mac: Option<Mac>,
    /// Addresses that may be behind that MAC address; `None`: any.
    #[cfg_attr(
        feature = "serde",
        serde(
            default,
            skip_serializing_if = "Option::is_none",
            deserialize_with = "prefix"
        )
    )]
    pub ip: Option<IpNet>,
}

impl fmt::Display for AddressPair {
    /// As in `00:00:5e:00:01:33=10.0.0.1/32`, with `own` and `any` for what is absent.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mac {
            Some(mac) => write!(f, "{mac}=")?,
            None => f.write_str("own=")?,
        }
        match self.ip {
            Some(ip) => ip.fmt(f),
            None => f.write_str("any"),
        }
    }
}

/// Reads a prefix; an address without a length is that address alone.
///
/// # Errors
/// What is wrong with the text.
pub fn parse_prefix(text: &str) -> Result<IpNet, String> {
    let wrong = || format!("\"{text}\" is neither an address nor a prefix such as 10.0.0.0/24");
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(address.into()),
        Err(_) => text.parse().map_err(|_| wrong()),
    }
}

#[cfg(feature = "serde")]
fn prefix<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<IpNet>, D::Error> {
    use serde::Deserialize;
    use serde::de::Error;
    let text = Option::<String>::deserialize(from)?;
    let read = text.map(|text| parse_prefix(&text));
    read.transpose().map_err(D::Error::custom)
}

/// Pose of an attachment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pose {
    /// Check of its sender addresses.
    pub anti_spoof: AntiSpoof,
    /// Addresses besides its own that it may use where that is [`AntiSpoof::Strict`]; MAC addresses among them count
    /// with [`AntiSpoof::Mac`] too.
    pub pairs: Vec<AddressPair>,
    /// Whether it is given what is for a MAC address that nobody in the segment is known to have.
    pub promiscuous: bool,
}

impl Pose {
    /// Whether it may send from MAC addresses besides its own, which a segment then learns.
    #[must_use]
    pub fn is_learned(&self) -> bool {
        self.anti_spoof == AntiSpoof::Off || self.pairs.iter().any(|pair| pair.mac.is_some())
    }
}

/// Checks of sender addresses are words in files and in messages of the control socket.
#[cfg(feature = "serde")]
mod text_form {
    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::{Serialize, Serializer};

    use super::AntiSpoof;

    impl Serialize for AntiSpoof {
        fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
            to.serialize_str(self.name())
        }
    }

    impl<'de> Deserialize<'de> for AntiSpoof {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<AntiSpoof, D::Error> {
            let text = String::deserialize(from)?;
            text.parse().map_err(D::Error::custom)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects")]
    use super::*;

    #[test]
    fn the_later_is_the_looser() {
        assert!(AntiSpoof::Strict < AntiSpoof::Mac && AntiSpoof::Mac < AntiSpoof::Off);
        for one in AntiSpoof::ALL {
            assert_eq!(one.name().parse(), Ok(one));
        }
        assert!("on".parse::<AntiSpoof>().is_err());
    }

    #[test]
    fn an_address_alone_is_a_prefix_of_its_own() {
        assert_eq!(parse_prefix("10.0.0.1").unwrap().prefix_len(), 32);
        assert_eq!(parse_prefix("fd00::/64").unwrap().prefix_len(), 64);
        assert!(parse_prefix("10.0.0.1/33").is_err());
    }

    #[test]
    fn macs_besides_its_own_are_learned() {
        let mut pose = Pose::default();
        assert!(!pose.is_learned());
        pose.pairs.push(AddressPair {
            mac: None,
            ip: parse_prefix("10.0.0.0/24").ok(),
        });
        assert!(!pose.is_learned());
        pose.pairs.push(AddressPair {
            mac: Some(Mac([0, 0, 0x5e, 0, 1, 0x33])),
            ip: None,
        });
        assert!(pose.is_learned());
        assert_eq!(pose.pairs[1].to_string(), "00:00:5e:00:01:33=any");
    }
}
