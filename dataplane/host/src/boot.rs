// SPDX-License-Identifier: Apache-2.0
//! Identity of this boot: state that names another boot speaks of devices and namespaces that are
//! gone.

use crate::FileError;

/// File in which Linux gives the boot's random UUID (random(4)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Returns the UUID of this boot, as 36 characters.
///
/// # Errors
/// [`FileError`]: `/proc` is not mounted or cannot be read.
pub fn boot_id() -> Result<String, FileError> {
    let text = std::fs::read_to_string(BOOT_ID).map_err(FileError::at("read", BOOT_ID))?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn the_boot_id_is_a_uuid_and_stays_the_same() {
        assert_eq!(boot_id().unwrap().len(), 36);
        assert_eq!(boot_id().unwrap(), boot_id().unwrap());
    }
}
