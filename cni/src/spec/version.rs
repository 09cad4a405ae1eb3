// SPDX-License-Identifier: Apache-2.0
//! The versions of the CNI specification, 0.1.0 to 1.1.0.

use serde_json::{Value, json};

use crate::Error;
use crate::spec::fields::Fields;

/// A version of the CNI specification. Ordered by age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Version {
    V0_1_0,
    V0_2_0,
    V0_3_0,
    V0_3_1,
    V0_4_0,
    V1_0_0,
    V1_1_0,
}

impl Version {
    /// All of them, oldest first.
    pub const ALL: [Version; 7] = [
        Version::V0_1_0,
        Version::V0_2_0,
        Version::V0_3_0,
        Version::V0_3_1,
        Version::V0_4_0,
        Version::V1_0_0,
        Version::V1_1_0,
    ];

    /// The newest.
    pub const NEWEST: Version = Version::V1_1_0;

    /// Returns the version as it is written in `cniVersion`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Version::V0_1_0 => "0.1.0",
            Version::V0_2_0 => "0.2.0",
            Version::V0_3_0 => "0.3.0",
            Version::V0_3_1 => "0.3.1",
            Version::V0_4_0 => "0.4.0",
            Version::V1_0_0 => "1.0.0",
            Version::V1_1_0 => "1.1.0",
        }
    }

    /// The version of that name. An empty one is 0.1.0, as an absent `cniVersion` is.
    ///
    /// # Errors
    /// [`Error::Version`]: not one of [`Version::ALL`].
    pub fn parse(text: &str) -> Result<Version, Error> {
        if text.is_empty() {
            return Ok(Version::V0_1_0);
        }
        Version::ALL
            .into_iter()
            .find(|version| version.as_str() == text)
            .ok_or_else(|| {
                let known: Vec<&str> = Version::ALL
                    .iter()
                    .map(|version| version.as_str())
                    .collect();
                Error::Version(format!(
                    "cniVersion {text:?} is not supported; this plugin knows {}",
                    known.join(", ")
                ))
            })
    }

    /// The version of a configuration: the newest known one among `cniVersion` and `cniVersions`, or
    /// `cniVersion` alone. Without either it is 0.1.0.
    ///
    /// # Errors
    /// [`Error::Version`]: none is known. [`Error::Config`]: a member is of the wrong kind.
    pub fn of_conf(fields: &Fields<'_>) -> Result<Version, Error> {
        let own = fields.string("cniVersion")?.unwrap_or_default();
        let listed = fields.list("cniVersions")?.unwrap_or_default();
        let mut newest = None;
        for version in listed {
            let text = version
                .as_str()
                .ok_or_else(|| fields.wrong("cniVersions", "a list of versions"))?;
            // Newer ones are for newer plugins.
            newest = newest.max(Version::parse(text).ok().filter(|_| !text.is_empty()));
        }
        match newest {
            Some(newest) if own.is_empty() => Ok(newest),
            Some(newest) => Ok(Version::parse(own).map_or(newest, |own| own.max(newest))),
            None => Version::parse(own),
        }
    }

    /// The answer to VERSION.
    pub fn info() -> Value {
        let known: Vec<&str> = Version::ALL
            .iter()
            .map(|version| version.as_str())
            .collect();
        json!({"cniVersion": Version::NEWEST.as_str(), "supportedVersions": known})
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_and_order_is_age() {
        for version in Version::ALL {
            assert_eq!(Version::parse(version.as_str()).unwrap(), version);
        }
        assert!(Version::ALL.is_sorted());
        assert_eq!(Version::parse("").unwrap(), Version::V0_1_0);
        assert_eq!(Version::parse("9.9.9").unwrap_err().code(), 1);
    }

    #[test]
    fn the_newest_known_version_of_a_configuration_counts() {
        let of = |conf: Value| Version::of_conf(&Fields::new(conf.as_object().unwrap()));
        for (conf, version) in [
            (json!({}), Version::V0_1_0),
            (json!({"cniVersion": "0.4.0"}), Version::V0_4_0),
            (
                json!({"cniVersions": ["0.3.1", "1.0.0", "0.4.0"]}),
                Version::V1_0_0,
            ),
            (
                json!({"cniVersion": "1.1.0", "cniVersions": ["1.0.0"]}),
                Version::V1_1_0,
            ),
            (
                json!({"cniVersion": "0.4.0", "cniVersions": ["1.0.0", "7.0.0"]}),
                Version::V1_0_0,
            ),
            (
                json!({"cniVersion": "7.0.0", "cniVersions": ["1.0.0"]}),
                Version::V1_0_0,
            ),
            (
                json!({"cniVersion": "0.4.0", "cniVersions": ["7.0.0"]}),
                Version::V0_4_0,
            ),
        ] {
            assert_eq!(of(conf.clone()).unwrap(), version, "{conf}");
        }
        assert_eq!(
            of(json!({"cniVersion": "7.0.0", "cniVersions": ["8.0.0"]}))
                .unwrap_err()
                .code(),
            1
        );
        assert_eq!(of(json!({"cniVersions": [1]})).unwrap_err().code(), 7);
    }
}
