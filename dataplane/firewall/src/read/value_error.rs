// SPDX-License-Identifier: Apache-2.0
//! Refusals of single values; each message names the value, the rule and what to write instead.

use std::fmt;

use ipnet::IpNet;
use sluice_packet::{Mac, Vid};

use super::suggest::{closest, listed};
use crate::masked_mac::MaskedMac;

/// Reason why a text was refused as a value of its kind.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ValueError {
    /// Word that is not among those of its kind.
    #[error(
        "`{text}` is not {kind}{}; write {}",
        DidYouMean(.text, .words),
        Allowed(.words, *.or_else)
    )]
    Word {
        /// Text as written.
        text: String,
        /// Kind of value with its article: "a verdict".
        kind: &'static str,
        /// Words of that kind.
        words: Vec<&'static str>,
        /// Notation that is allowed too.
        or_else: Option<&'static str>,
    },
    /// Name with a character or a length that names may not have.
    #[error(
        "`{0}` is not a name: use at most 63 letters, digits, `-`, `_` and `.`, a letter or digit \
         first"
    )]
    Name(String),
    /// Version of the language that is not known.
    #[error(
        "`{0}` is no version of the policy language: write 2, or 1 for what files without `version` mean"
    )]
    Version(String),
    /// Text that is not a sample of frames.
    #[error(
        "`{0}` is no sample of frames to log: write 1/N, such as 1/100, with N from 1 to 1000000"
    )]
    LogSample(String),
    /// Text that is not a rate.
    #[error(
        "`{0}` is not a rate: write a number a second such as 1000/s, 20k/s or 10M/s, up to 100G/s"
    )]
    Rate(String),
    /// Text that is not the length of a burst.
    #[error("`{0}` is not the length of a burst: write a time from 1ms to 10s")]
    Burst(String),
    /// Comment of several lines or too long.
    #[error("a comment is one line of at most 200 characters")]
    Comment,
    /// Rule called `default`.
    #[error(
        "a rule cannot be called `default`: counters call the default verdict so; take another name"
    )]
    ReservedName,
    /// Neither an IP address nor a prefix.
    #[error(
        "`{0}` is not an address or prefix: write one such as 10.0.0.0/8, 10.0.0.5, fd00::/8 or \
         fd00::5"
    )]
    Prefix(String),
    /// Prefix with bits behind its length, so that it could be meant as an address.
    #[error(
        "`{text}` has bits set behind its prefix length: write {} for the prefix, {} for the address",
        .net.trunc(),
        .net.addr()
    )]
    HostBits {
        /// Text as written.
        text: String,
        /// Prefix with those bits.
        net: IpNet,
    },
    /// Neither a VLAN nor a range of them.
    #[error(
        "`{0}` is not a VLAN: write 1 to {max}, a range such as 220-229, or 0 or `untagged` for the \
         untagged segment",
        max = Vid::MAX
    )]
    Vlan(String),
    /// Range whose end lies before its beginning.
    #[error("the range `{text}` ends before it begins; write {last}-{first}")]
    Backwards {
        /// Text as written.
        text: String,
        /// Number before the hyphen.
        first: u64,
        /// Number behind the hyphen.
        last: u64,
    },
    /// Number or range beyond the highest of its kind, or no number at all.
    #[error("`{text}` is not {kind}: write 0 to {max}, or a range such as 8-15")]
    Range {
        /// Text as written.
        text: String,
        /// Kind of value with its article: "a port".
        kind: &'static str,
        /// Highest number of that kind.
        max: u64,
    },
    /// Priority above 7.
    #[error("`{0}` is not a priority: numbers go from 0 to 7")]
    Priority(String),
    /// Protocol number above 255.
    #[error("`{0}` is not an IP protocol: numbers go from 0 to 255")]
    Protocol(String),
    /// EtherType that announces a VLAN tag.
    #[error(
        "`{0}` is the EtherType of a VLAN tag, and rules see what lies behind the tags; name that, \
         and the VLANs in `vlans`"
    )]
    TagEtherType(String),
    /// Number that is an 802.3 length, or above 16 bits.
    #[error(
        "`{0}` is not an EtherType: numbers go from 0x0600 to 0xffff; frames with an 802.3 length in \
         its place are `802.3`"
    )]
    EtherType(String),
    /// Type and code of which one is not a number up to 255.
    #[error("`{0}` is not an ICMP type and code: write two numbers from 0 to 255 such as 3/4")]
    IcmpCode(String),
    /// Text that is not a MAC address.
    #[error(
        "`{0}` is not a MAC address: write six pairs of hex digits such as 02:00:5e:10:00:01, with a \
         number of bits (/24) or a mask (/ff:ff:ff:00:00:00) behind it if not all of them count"
    )]
    Mac(String),
    /// MAC with bits set that its mask ignores.
    #[error(
        "`{text}` has bits set that its mask ignores: write {masked}, or {mac} for one address"
    )]
    MacBits {
        /// Text as written.
        text: String,
        /// Address without those bits, under the mask.
        masked: MaskedMac,
        /// Address with them.
        mac: Mac,
    },
    /// Mask that stands for too many ranges of addresses.
    #[error(
        "the mask of `{0}` ignores more than 8 bits ahead of one that counts: write a mask that ends in \
         all the bits that it ignores, or several MACs"
    )]
    ScatteredMask(String),
}

/// Most words that a message lists; of more only the first few, which are the usual ones.
const MOST_WORDS: usize = 8;
const FEW_WORDS: usize = 5;

/// Displays the words that are allowed, and what else is.
struct Allowed<'a>(&'a [&'static str], Option<&'static str>);

impl fmt::Display for Allowed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Allowed(words, or_else) = *self;
        if let Some(other) = or_else {
            write!(f, "{other}, or ")?;
        }
        if words.len() <= MOST_WORDS {
            return f.write_str(&listed(words, "or"));
        }
        let few = words[..FEW_WORDS].join(", ");
        write!(f, "a name such as {few} (docs/policy-grammar.md has all)")
    }
}

/// Displays ` (did you mean ...?)` if one of the words is near the text, else nothing.
pub(super) struct DidYouMean<'a>(pub(super) &'a str, pub(super) &'a [&'static str]);

impl fmt::Display for DidYouMean<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match closest(self.0, self.1) {
            Some(word) => write!(f, " (did you mean `{word}`?)"),
            None => Ok(()),
        }
    }
}
