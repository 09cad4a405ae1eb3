// SPDX-License-Identifier: Apache-2.0
//! Section `metrics`.

use std::net::SocketAddr;

use serde::Deserialize;
use sluice_yaml::{Checker, Scalar};

use super::listen;

/// Default of `listen`. The ports 9100 to 9999 are given out to exporters, all of them; this one is not.
const LISTEN: &str = "127.0.0.1:10471";
/// Default of `max_attachments`.
const MAX_ATTACHMENTS: usize = 1000;

/// Section `metrics` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    listen: Option<Scalar>,
    max_attachments: Option<Scalar>,
    sriov_kubepoddevice: Option<Scalar>,
}

/// Section `metrics`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricsConfig {
    /// Address at which `/metrics`, `/healthz` and `/readyz` are served.
    pub listen: SocketAddr,
    /// Number of attachments that have series of their own; those of the rest are summed up.
    pub max_attachments: usize,
    /// Whether `sriov_kubepoddevice` is served, under the name that recording rules of the SR-IOV operator join on.
    pub sriov_kubepoddevice: bool,
}

/// Checks the section.
pub(super) fn check(checker: &mut Checker<'_>, raw: &Raw) -> MetricsConfig {
    MetricsConfig {
        listen: listen::check(checker, "metrics.listen", raw.listen.as_ref(), LISTEN),
        max_attachments: checker.number(
            "metrics.max_attachments",
            raw.max_attachments.as_ref(),
            MAX_ATTACHMENTS,
            (0, 100_000),
        ),
        sriov_kubepoddevice: checker.flag(
            "metrics.sriov_kubepoddevice",
            raw.sriov_kubepoddevice.as_ref(),
            false,
        ),
    }
}
