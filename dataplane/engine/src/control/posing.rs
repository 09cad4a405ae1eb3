// SPDX-License-Identifier: Apache-2.0
//! Limits of the node's owner: an attachment that asks to pose as more than its uplink allows is refused.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{PoisonError, RwLock};

use sluice_api::{AntiSpoof, ApiError, AttachRequest};

use crate::config::{Config, PosingConfig, PosingLimits};
use crate::refusal::invalid;

/// Limits of what attachments may pose as, by uplink and PF.
#[derive(Debug, Default)]
pub struct Posing {
    /// Configuration file, for messages.
    file: PathBuf,
    uplinks: BTreeMap<String, PosingLimits>,
    /// Section `posing`, for VFs.
    section: PosingConfig,
}

/// Limits in force, which a reload replaces.
#[derive(Debug, Default)]
pub(super) struct PosingInForce(RwLock<Posing>);

impl PosingInForce {
    pub(super) fn new(posing: Posing) -> PosingInForce {
        PosingInForce(RwLock::new(posing))
    }

    /// Puts other limits into force, for attachments that are made from now on.
    pub(super) fn replace(&self, posing: Posing) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = posing;
    }

    /// Checks a request, as [`Posing::check`].
    pub(super) fn check(&self, request: &AttachRequest) -> Result<(), ApiError> {
        let posing = self.0.read().unwrap_or_else(PoisonError::into_inner);
        posing.check(request)
    }
}

impl Posing {
    /// Takes the limits out of the configuration.
    #[must_use]
    pub fn new(config: &Config) -> Posing {
        let uplinks = config.uplinks.iter();
        Posing {
            file: config.file.clone(),
            uplinks: uplinks
                .map(|uplink| (uplink.name.clone(), uplink.posing))
                .collect(),
            section: config.posing.clone(),
        }
    }

    /// Checks a request against the limits of its uplink, or of its VF's PF.
    ///
    /// # Errors
    /// The first key of the network that asks for more, and the key of the configuration that would
    /// allow it.
    pub(super) fn check(&self, request: &AttachRequest) -> Result<(), ApiError> {
        let (limits, whose) = self.of(request);
        let refuse = |asked: &str, has: String, instead: &str| {
            Err(invalid(format!(
                "{asked} is more than {whose} may have: {file} says posing.{has}; {instead}, or have the \
                 node's owner allow it there and `sluicectl reload`",
                file = self.file.display(),
            )))
        };
        let loosest = || format!("loosest: {}", limits.loosest);
        if request.anti_spoof > limits.loosest {
            let asked = match request.anti_spoof {
                // The older key says the same.
                AntiSpoof::Off => "antiSpoof: off (or spoofchk: off)".to_owned(),
                other => format!("antiSpoof: {other}"),
            };
            let instead = format!("ask for antiSpoof: {}", limits.loosest);
            return refuse(&asked, loosest(), &instead);
        }
        if !request.allowed_address_pairs.is_empty() && limits.loosest == AntiSpoof::Strict {
            let instead = "leave them out (mac allows them)";
            return refuse("allowedAddressPairs", loosest(), instead);
        }
        if request.promiscuous && !limits.promiscuous {
            let has = "promiscuous: false".to_owned();
            return refuse("promiscuous: true", has, "leave it out");
        }
        match &request.vf {
            Some(vf) if request.promiscuous => Err(invalid(format!(
                "promiscuous: true: VF {} gets frames for its own MAC addresses and groups alone, \
                 whatever the engine asks its PF for; use an uplink, or leave it out",
                vf.address
            ))),
            _ => Ok(()),
        }
    }

    /// Limits for a request, and the name of those that have them.
    fn of(&self, request: &AttachRequest) -> (PosingLimits, String) {
        let name = &request.uplink;
        let (found, whose) = match request.vf {
            Some(_) => (self.section.pfs.get(name), format!("VFs of PF {name}")),
            None => (self.uplinks.get(name), format!("pods on uplink {name}")),
        };
        (found.copied().unwrap_or(self.section.all), whose)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::config::Surroundings;
    use serde_json::{Value, json};
    use sluice_api::ErrorCode;
    use std::path::Path;

    const CONFIG: &str = "\
uplinks:
  - {name: tight, device: eth1, posing: {loosest: strict}}
  - {name: plain, device: eth2}
  - {name: open, device: eth3, posing: {loosest: off, promiscuous: true}}
posing:
  pfs:
    - {name: enp2s0, loosest: off, promiscuous: true}
    - {name: enp3s0, loosest: strict}
";

    fn posing() -> Posing {
        let around = Surroundings {
            cores: vec![0, 1],
            ..Surroundings::default()
        };
        let file = Path::new("/etc/sluicegate/sluiced.yaml");
        Posing::new(&Config::parse(file, CONFIG, &around).unwrap())
    }

    fn request(uplink: &str, with: Value) -> AttachRequest {
        let mut request = json!({
            "container_id": "c0ffee", "ifname": "net1",
            "netns": {"path": "/run/netns/x", "dev": 4, "ino": 5}, "uplink": uplink,
            "vlan": {"mode": "access", "vid": 210}, "backend": {"type": "memif"}
        });
        for (key, value) in with.as_object().unwrap() {
            request[key] = value.clone();
        }
        serde_json::from_value(request).unwrap()
    }

    /// Message that a request is refused with; empty if it is not.
    fn answer(uplink: &str, with: Value) -> String {
        match posing().check(&request(uplink, with)) {
            Ok(()) => String::new(),
            Err(error) => {
                assert_eq!(error.code, ErrorCode::Invalid);
                error.message
            }
        }
    }

    #[test]
    fn each_uplink_allows_what_its_owner_says() {
        let asks = [
            json!({}),
            json!({"allowed_address_pairs": [{"ip": "10.0.0.1"}]}),
            json!({"anti_spoof": "mac"}),
            json!({"anti_spoof": "off"}),
            json!({"promiscuous": true}),
        ];
        let allowed = |uplink: &str| {
            asks.each_ref()
                .map(|with| answer(uplink, with.clone()).is_empty())
        };
        assert_eq!(allowed("tight"), [true, false, false, false, false]);
        assert_eq!(allowed("plain"), [true, true, true, false, false]);
        assert_eq!(allowed("open"), [true; 5]);
    }

    #[test]
    fn a_refusal_names_key_uplink_file_and_what_to_do() {
        assert_eq!(
            answer("plain", json!({"anti_spoof": "off"})),
            "antiSpoof: off (or spoofchk: off) is more than pods on uplink plain may have: \
             /etc/sluicegate/sluiced.yaml says posing.loosest: mac; ask for antiSpoof: mac, or have the \
             node's owner allow it there and `sluicectl reload`"
        );
        let pairs = json!({"allowed_address_pairs": [{"mac": "02:00:00:00:00:01"}]});
        let text = answer("tight", pairs);
        assert!(
            text.starts_with("allowedAddressPairs is more than pods on uplink tight may have"),
            "{text}"
        );
        let text = answer("plain", json!({"promiscuous": true}));
        assert!(text.contains("says posing.promiscuous: false"), "{text}");
    }

    #[test]
    fn vfs_have_the_limits_of_their_pf() {
        let vf = |with: Value| {
            let mut vf = json!({"vf": {"address": "0000:01:10.0"}, "mac": "02:00:00:00:00:01"});
            vf.as_object_mut()
                .unwrap()
                .extend(with.as_object().unwrap().clone());
            vf
        };
        let off = || vf(json!({"anti_spoof": "off"}));
        assert_eq!(answer("enp2s0", off()), "");
        let text = answer("enp3s0", vf(json!({"anti_spoof": "mac"})));
        assert!(text.contains("VFs of PF enp3s0"), "{text}");
        // Of a PF that is not named, and even one that is called as an uplink.
        for pf in ["enp9s0", "open"] {
            assert!(
                answer(pf, off()).contains("says posing.loosest: mac"),
                "{pf}"
            );
        }
        let text = answer("enp2s0", vf(json!({"promiscuous": true})));
        assert!(text.contains("VF 0000:01:10.0 gets frames for"), "{text}");
    }
}
