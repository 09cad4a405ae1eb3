// SPDX-License-Identifier: Apache-2.0
//! [`VfSettings`]: settings that a PF keeps for one of its VFs (`ip link set PF vf N ...`).

use std::fmt;

use serde::{Deserialize, Serialize};

/// A port VLAN: the PF puts the tag on what the VF sends and takes it off what the VF gets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VfVlan {
    /// 1 to 4094; 0: no port VLAN.
    pub vid: u16,
    /// Priority code point, 0 to 7.
    #[serde(default)]
    pub qos: u8,
    /// Whether the tag is 802.1ad's (TPID 0x88a8) and not 802.1Q's (0x8100).
    #[serde(default)]
    pub is_8021ad: bool,
}

/// Link state that a PF sets for a VF.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VfLink {
    /// As the PF's own.
    Auto,
    /// Up, even while the PF's is down: VFs still reach each other.
    Enable,
    /// Down.
    Disable,
}

/// Settings of one VF. Absent ones are not known, or not to be changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VfSettings {
    /// The administrative MAC address; all zero: the VF chooses its own.
    #[serde(skip_serializing_if = "Option::is_none", with = "mac_text")]
    pub mac: Option<[u8; 6]>,
    /// The port VLAN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlan: Option<VfVlan>,
    /// Whether frames from other MAC addresses than the VF's own are dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spoofchk: Option<bool>,
    /// Whether the VF may do what needs trust: change its MAC address, be promiscuous.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust: Option<bool>,
    /// Least transmit rate in Mbit/s; 0: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_tx_rate: Option<u32>,
    /// Largest transmit rate in Mbit/s; 0: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tx_rate: Option<u32>,
    /// Link state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link_state: Option<VfLink>,
}

/// Change of one setting of a VF, in one message to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VfChange {
    /// The administrative MAC address.
    Mac([u8; 6]),
    /// The port VLAN.
    Vlan(VfVlan),
    /// Spoof check.
    Spoofchk(bool),
    /// Trust.
    Trust(bool),
    /// Least and largest rate, in Mbit/s.
    Rate {
        /// Least.
        min: u32,
        /// Largest.
        max: u32,
    },
    /// Link state.
    Link(VfLink),
}

impl fmt::Display for VfChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on = |on| if on { "on" } else { "off" };
        match *self {
            VfChange::Mac(mac) => write!(f, "mac {}", Mac(mac)),
            VfChange::Vlan(vlan) => write!(
                f,
                "vlan {} qos {} proto {}",
                vlan.vid,
                vlan.qos,
                if vlan.is_8021ad { "802.1ad" } else { "802.1q" }
            ),
            VfChange::Spoofchk(set) => write!(f, "spoofchk {}", on(set)),
            VfChange::Trust(set) => write!(f, "trust {}", on(set)),
            VfChange::Rate { min, max } => write!(f, "min_tx_rate {min} max_tx_rate {max}"),
            VfChange::Link(link) => write!(f, "link_state {link:?}"),
        }
    }
}

/// A MAC address as people write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl std::str::FromStr for Mac {
    type Err = String;

    /// Takes six pairs of hexadecimal digits with colons between.
    fn from_str(text: &str) -> Result<Mac, String> {
        let bytes: Option<Vec<u8>> = text
            .split(':')
            .map(|pair| {
                let digits = pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_hexdigit());
                digits.then(|| u8::from_str_radix(pair, 16).ok()).flatten()
            })
            .collect();
        bytes
            .and_then(|bytes| bytes.try_into().ok())
            .map(Mac)
            .ok_or_else(|| format!("not a MAC address: \"{text}\"; write it as 02:00:5e:10:00:01"))
    }
}

/// MAC addresses in files and answers are text.
mod mac_text {
    use serde::{Deserialize, Deserializer, Serializer, de};

    use super::Mac;

    #[allow(clippy::ref_option, reason = "serde gives it so")]
    pub(super) fn serialize<S: Serializer>(
        mac: &Option<[u8; 6]>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match mac {
            Some(mac) => to.collect_str(&Mac(*mac)),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<[u8; 6]>, D::Error> {
        let text: Option<String> = Option::deserialize(from)?;
        text.map(|text| {
            text.parse::<Mac>()
                .map(|mac| mac.0)
                .map_err(de::Error::custom)
        })
        .transpose()
    }
}

impl VfSettings {
    /// The changes that lead from `now` to what is set here, in the order in which they are made:
    /// the VLAN before the MAC address, since some PF drivers reset the VF at either, and the last
    /// reset must find both. What is the same already is left out.
    pub fn changes_from(&self, now: &VfSettings) -> Vec<VfChange> {
        let mut changes = Vec::new();
        if self.vlan.is_some() && self.vlan != now.vlan {
            changes.extend(self.vlan.map(VfChange::Vlan));
        }
        if self.mac.is_some() && self.mac != now.mac {
            changes.extend(self.mac.map(VfChange::Mac));
        }
        if self.spoofchk.is_some() && self.spoofchk != now.spoofchk {
            changes.extend(self.spoofchk.map(VfChange::Spoofchk));
        }
        if self.trust.is_some() && self.trust != now.trust {
            changes.extend(self.trust.map(VfChange::Trust));
        }
        let rate = (
            self.min_tx_rate.or(now.min_tx_rate).unwrap_or(0),
            self.max_tx_rate.or(now.max_tx_rate).unwrap_or(0),
        );
        let rate_now = (now.min_tx_rate.unwrap_or(0), now.max_tx_rate.unwrap_or(0));
        if rate != rate_now {
            let (min, max) = rate;
            changes.push(VfChange::Rate { min, max });
        }
        if self.link_state.is_some() && self.link_state != now.link_state {
            changes.extend(self.link_state.map(VfChange::Link));
        }
        changes
    }

    /// Settings to be restored after `asked` was applied over these: those that `asked` names, and
    /// always the MAC address.
    pub fn restoring(&self, asked: &VfSettings) -> VfSettings {
        VfSettings {
            mac: self.mac,
            vlan: asked.vlan.and(self.vlan),
            spoofchk: asked.spoofchk.and(self.spoofchk),
            trust: asked.trust.and(self.trust),
            min_tx_rate: asked.min_tx_rate.and(self.min_tx_rate),
            max_tx_rate: asked.max_tx_rate.and(self.max_tx_rate),
            link_state: asked.link_state.and(self.link_state),
        }
    }

    /// In what `now` differs from what is set here, for people.
    pub fn drift(&self, now: &VfSettings) -> Vec<String> {
        let changes = self.changes_from(now).into_iter();
        changes
            .map(|change| {
                let is = match change {
                    VfChange::Mac(_) => now.mac.map(|mac| Mac(mac).to_string()),
                    VfChange::Vlan(_) => now.vlan.map(|vlan| VfChange::Vlan(vlan).to_string()),
                    VfChange::Spoofchk(_) => now.spoofchk.map(|on| on.to_string()),
                    VfChange::Trust(_) => now.trust.map(|on| on.to_string()),
                    VfChange::Rate { .. } => Some(format!(
                        "{} {}",
                        now.min_tx_rate.unwrap_or(0),
                        now.max_tx_rate.unwrap_or(0)
                    )),
                    VfChange::Link(_) => now.link_state.map(|link| format!("{link:?}")),
                };
                format!(
                    "{change} was set, and it is {}",
                    is.unwrap_or_else(|| "not known".to_owned())
                )
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> VfSettings {
        VfSettings {
            mac: Some([0; 6]),
            vlan: Some(VfVlan::default()),
            spoofchk: Some(true),
            trust: Some(false),
            min_tx_rate: Some(0),
            max_tx_rate: Some(100),
            link_state: Some(VfLink::Auto),
        }
    }

    #[test]
    fn only_what_was_asked_and_differs_is_changed() {
        let vlan = VfVlan {
            vid: 210,
            qos: 5,
            is_8021ad: false,
        };
        let asked = VfSettings {
            mac: Some([2, 0, 0, 0, 0, 1]),
            vlan: Some(vlan),
            spoofchk: Some(true),
            min_tx_rate: Some(10),
            ..VfSettings::default()
        };
        let changes = asked.changes_from(&now());
        assert_eq!(
            changes,
            [
                VfChange::Vlan(vlan),
                VfChange::Mac([2, 0, 0, 0, 0, 1]),
                VfChange::Rate { min: 10, max: 100 },
            ]
        );
        assert_eq!(VfSettings::default().changes_from(&now()), []);
        assert_eq!(asked.drift(&now()).len(), 3);
    }

    #[test]
    fn settings_in_a_file() {
        let text = serde_json::to_string(&now()).unwrap_or_default();
        assert!(text.contains("\"mac\":\"00:00:00:00:00:00\""), "{text}");
        assert_eq!(serde_json::from_str::<VfSettings>(&text).ok(), Some(now()));
        assert_eq!(
            serde_json::from_str::<VfSettings>("{}").ok(),
            Some(VfSettings::default())
        );
        for bad in [
            "02:00:00:00:00",
            "02:00:00:00:00:0g",
            "0200.0000.0001",
            "+2:00:00:00:00:01",
        ] {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_was_not_asked_is_not_put_back_but_the_mac_always_is() {
        let asked = VfSettings {
            trust: Some(true),
            ..VfSettings::default()
        };
        let back = now().restoring(&asked);
        assert_eq!(back.mac, Some([0; 6]));
        assert_eq!(back.trust, Some(false));
        assert_eq!(
            (back.vlan, back.link_state, back.max_tx_rate),
            (None, None, None)
        );
    }
}
