// SPDX-License-Identifier: Apache-2.0
//! Kinds of values that are addresses: prefixes, MACs and VLANs.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use sluice_packet::{Mac, Vid, VidError, VidRange};

use super::kind::{Form, Grammar, Kind, Read, Word};
use super::numbers::{ends, number};
use super::value_error::ValueError;
use crate::masked_mac::MaskedMac;
use crate::named_set::SetValues;

/// Words for MACs.
const MAC_WORDS: super::words::Words<MaskedMac> = &[
    ("broadcast", MaskedMac::BROADCAST),
    ("multicast", MaskedMac::MULTICAST),
];

/// IP prefix or address.
pub(crate) enum PrefixKind {}

impl Kind for PrefixKind {
    type Value = IpNet;

    const GRAMMAR: Grammar = Grammar {
        name: "prefixes",
        set: Some("prefixes"),
        forms: &[
            Form {
                name: "IPv4 address or prefix, no bits set behind its length",
                pattern: "[0-9]{1,3}(\\.[0-9]{1,3}){3}(/[0-9]{1,2})?",
                examples: &["10.0.0.0/8", "10.21.0.5"],
            },
            Form {
                name: "IPv6 address or prefix, likewise",
                pattern: "[0-9a-fA-F.]*:[0-9a-fA-F:.]*(/[0-9]{1,3})?",
                examples: &["fd00::/8", "fd00::5", "::/0"],
            },
        ],
        any: true,
        ..Grammar::NONE
    };

    fn read(text: &str) -> Read<IpNet> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(IpNet::from(address));
        }
        let net: IpNet = text
            .parse()
            .map_err(|_| ValueError::Prefix(text.to_owned()))?;
        if net.trunc() != net {
            let text = text.to_owned();
            return Err(ValueError::HostBits { text, net });
        }
        Ok(net)
    }

    fn of_set(set: &SetValues) -> Option<&[IpNet]> {
        match set {
            SetValues::Prefixes(values) => Some(values),
            _ => None,
        }
    }

    fn everything() -> Vec<IpNet> {
        vec![Ipv4Net::default().into(), Ipv6Net::default().into()]
    }
}

/// MAC, alone or under a mask.
pub(crate) enum MacKind {}

impl Kind for MacKind {
    type Value = MaskedMac;

    const GRAMMAR: Grammar = Grammar {
        name: "MACs",
        set: Some("macs"),
        forms: &[
            Form {
                name: "MAC",
                pattern: "[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}",
                examples: &["02:00:5e:10:00:01"],
            },
            Form {
                name: "MAC and number of bits that count, from the first on",
                pattern: "[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}/[0-9]{1,2}",
                examples: &["02:00:5e:00:00:00/24"],
            },
            Form {
                name: "MAC and mask of the bits that count",
                pattern: "[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}/[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}",
                examples: &["33:33:00:00:00:00/ff:ff:00:00:00:00"],
            },
        ],
        words: || Word::numbered(MAC_WORDS, |mac| mac.to_string()),
        ..Grammar::NONE
    };

    fn read(text: &str) -> Read<MaskedMac> {
        if let Some(mac) = super::kind::find(text, MAC_WORDS) {
            return Ok(mac);
        }
        let refused = || ValueError::Mac(text.to_owned());
        let (address, mask) = match text.split_once('/') {
            Some((address, mask)) => (address, Some(mask)),
            None => (text, None),
        };
        let mac: Mac = address.parse().map_err(|_| refused())?;
        let Some(mask) = mask else {
            return Ok(mac.into());
        };
        let masked = match mask.parse() {
            Ok(mask) => MaskedMac::new(mac, mask)
                .ok_or_else(|| ValueError::ScatteredMask(text.to_owned()))?,
            Err(_) => number(mask)
                .and_then(|length| u32::try_from(length).ok())
                .and_then(|length| MaskedMac::with_prefix(mac, length))
                .ok_or_else(refused)?,
        };
        if masked.first() != mac {
            return Err(ValueError::MacBits {
                text: text.to_owned(),
                masked,
                mac,
            });
        }
        Ok(masked)
    }

    fn of_set(set: &SetValues) -> Option<&[MaskedMac]> {
        match set {
            SetValues::Macs(values) => Some(values),
            _ => None,
        }
    }
}

/// VLAN or range of VLANs.
pub(crate) enum VidKind {}

impl Kind for VidKind {
    type Value = VidRange;

    const GRAMMAR: Grammar = Grammar {
        name: "VLANs",
        set: Some("vlans"),
        numbers: Some((0, 4094)),
        forms: &[Form {
            name: "VID from 0 (untagged) to 4094, or a range of them",
            pattern: "(0x[0-9a-fA-F]+|[0-9]+)( *- *(0x[0-9a-fA-F]+|[0-9]+))?",
            examples: &["210", "220-229", "0"],
        }],
        words: || {
            vec![Word {
                word: "untagged",
                number: Some("0".to_owned()),
            }]
        },
        ..Grammar::NONE
    };

    fn read(text: &str) -> Read<VidRange> {
        if text == "untagged" {
            return Ok(Vid::UNTAGGED.into());
        }
        let (first, last) = ends(text);
        let vid = |text: &str| Vid::try_from(number(text)?).ok();
        let (Some(first), Some(last)) = (vid(first), vid(last)) else {
            return Err(ValueError::Vlan(text.to_owned()));
        };
        VidRange::new(first, last).map_err(|error| match error {
            VidError::Backwards { first, last } => ValueError::Backwards {
                text: text.to_owned(),
                first: first.get().into(),
                last: last.get().into(),
            },
            _ => ValueError::Vlan(text.to_owned()),
        })
    }

    fn of_set(set: &SetValues) -> Option<&[VidRange]> {
        match set {
            SetValues::Vlans(values) => Some(values),
            _ => None,
        }
    }
}
