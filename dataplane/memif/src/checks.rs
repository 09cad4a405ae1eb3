//! Checks that can be taken out, one at a time, to see that an attack bites without it.
//!
//! A test of the kind "this attack is refused" proves nothing while the attack would fail for another
//! reason. So the tests run each attack a second time against an engine built with the feature
//! `mutations`, in which the check it aims at is taken out; there it must come to something else. In
//! every other build [`out`] is the constant `false`, and nothing of this is left.

/// The environment variable that names the check to be taken out.
#[cfg(feature = "mutations")]
pub const VARIABLE: &str = "SLUICE_WITHOUT_CHECK";

/// Whether the check of this name is taken out.
#[inline(always)]
#[cfg(not(feature = "mutations"))]
pub(crate) const fn out(_name: &str) -> bool {
    false
}

/// Whether the check of this name is taken out.
#[cfg(feature = "mutations")]
pub(crate) fn out(name: &str) -> bool {
    static NAMED: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    let named = NAMED.get_or_init(|| std::env::var(VARIABLE).ok());
    named.as_deref() == Some(name)
}
