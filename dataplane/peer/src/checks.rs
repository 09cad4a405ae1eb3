// SPDX-License-Identifier: Apache-2.0
//! Checks that tests can disable, one at a time, to show that an attack succeeds without its check.
//!
//! A test of the kind "this attack is refused" proves nothing while the attack would fail for another
//! reason (mutation testing). So the tests run each attack a second time against an engine built with
//! the feature `mutations`, in which the check it aims at is disabled; there it must come to something
//! else. In every other build [`disabled`] is the constant `false`, and nothing of this is left.

/// Environment variable that names the check to be disabled.
#[cfg(feature = "mutations")]
const VARIABLE: &str = "SLUICE_WITHOUT_CHECK";

/// Whether the check of this name is disabled.
#[inline(always)]
#[cfg(not(feature = "mutations"))]
pub const fn disabled(_name: &str) -> bool {
    false
}

/// Whether the check of this name is disabled.
#[cfg(feature = "mutations")]
pub fn disabled(name: &str) -> bool {
    static NAMED: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    let named = NAMED.get_or_init(|| std::env::var(VARIABLE).ok());
    named.as_deref() == Some(name)
}

/// Returns `Err($error)` from the enclosing function or closure unless `$holds`, or unless the check
/// of this name is disabled.
#[macro_export]
macro_rules! check {
    ($name:literal, $holds:expr, $error:expr $(,)?) => {
        if !($holds) && !$crate::checks::disabled($name) {
            return Err($error);
        }
    };
}
pub use crate::check;
