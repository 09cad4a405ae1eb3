// SPDX-License-Identifier: Apache-2.0
//! Checks of the limits of what networks may let their pods pose as.

use sluice_packet::pose::AntiSpoof;

use super::super::raw::{RawPosing, RawPosingLimits};
use super::super::{PosingConfig, PosingLimits};
use super::Check;

impl Check<'_> {
    /// Checks the section `posing`.
    pub(super) fn posing(&mut self, raw: RawPosing) -> PosingConfig {
        let limits = RawPosingLimits {
            loosest: raw.loosest,
            promiscuous: raw.promiscuous,
        };
        let all = self.posing_limits("posing", limits, PosingLimits::default());
        let mut posing = PosingConfig {
            all,
            ..PosingConfig::default()
        };
        for (index, raw) in raw.pfs.unwrap_or_default().into_iter().enumerate() {
            let key = format!("posing.pfs[{index}]");
            let limits = RawPosingLimits {
                loosest: raw.value.loosest,
                promiscuous: raw.value.promiscuous,
            };
            let limits = self.posing_limits(&key, limits, all);
            let name = self.required(
                raw.referenced,
                &format!("{key}.name"),
                raw.value.name,
                "enp2s0",
            );
            let Some(name) = name else { continue };
            if posing.pfs.insert(name.value.clone(), limits).is_some() {
                let message = format!("PF {} is there twice: name it once", name.value);
                self.problem(Some(name.referenced), format!("{key}.name"), message);
            }
        }
        posing
    }

    /// Checks limits; what is not said is as in `default`.
    pub(super) fn posing_limits(
        &mut self,
        key: &str,
        raw: RawPosingLimits,
        default: PosingLimits,
    ) -> PosingLimits {
        let words = AntiSpoof::ALL.map(|one| (one.name(), one));
        let loosest = self.word(&format!("{key}.loosest"), raw.loosest.as_ref(), &words);
        let promiscuous = self.word(
            &format!("{key}.promiscuous"),
            raw.promiscuous.as_ref(),
            &[("true", true), ("false", false)],
        );
        PosingLimits {
            loosest: loosest.unwrap_or(default.loosest),
            promiscuous: promiscuous.unwrap_or(default.promiscuous),
        }
    }
}
