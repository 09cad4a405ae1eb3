// SPDX-License-Identifier: Apache-2.0
//! Section `page`.

use std::net::SocketAddr;

use serde::Deserialize;
use sluice_yaml::{Checker, Scalar};

use super::listen;

/// Default of `listen`.
const LISTEN: &str = "127.0.0.1:10472";

/// Section `page` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    listen: Option<Scalar>,
}

/// Section `page`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageConfig {
    /// Address at which the page is served. Whoever reaches it can read the names of all pods with an attachment.
    pub listen: SocketAddr,
}

/// Checks the section.
pub(super) fn check(checker: &mut Checker<'_>, raw: &Raw) -> PageConfig {
    PageConfig {
        listen: listen::check(checker, "page.listen", raw.listen.as_ref(), LISTEN),
    }
}
