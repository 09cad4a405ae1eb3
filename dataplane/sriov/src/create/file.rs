// SPDX-License-Identifier: Apache-2.0
//! File that says which PF has how many VFs. `sluicectl vfs create`, the unit that runs it at boot and
//! the engine read it by this one reader.
//!
//! ```yaml
//! vfs:
//!   - pf: "0000:01:00.0"   # or the netdev, enp1s0
//!     count: 4
//! ```

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};
use sluice_host::FileError;
use sluice_yaml::{Checker, Location, Problems, Scalar, Spanned};

use crate::{Error, PciAddr};

/// Default path of the file.
pub const DEFAULT_FILE: &str = "/etc/sluicegate/vfs.yaml";

/// Name of the file in the folder of the engine's configuration.
pub const FILE_NAME: &str = "vfs.yaml";

/// PF as people name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PfName {
    /// By its PCI address, which stays.
    Address(PciAddr),
    /// By its netdev.
    Netdev(String),
}

impl FromStr for PfName {
    type Err = String;

    fn from_str(text: &str) -> Result<PfName, String> {
        if let Ok(address) = text.parse() {
            return Ok(PfName::Address(address));
        }
        // The kernel's rules of netdevs' names (dev_valid_name), IFNAMSIZ among them.
        let bad = |c: char| c.is_whitespace() || c == '/' || c == ':';
        if text.is_empty() || text.len() > 15 || text.contains(bad) || text == "." || text == ".." {
            return Err(
                "it is neither a PCI address (0000:01:00.0) nor a netdev's name (enp1s0)"
                    .to_owned(),
            );
        }
        Ok(PfName::Netdev(text.to_owned()))
    }
}

impl fmt::Display for PfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PfName::Address(address) => address.fmt(f),
            PfName::Netdev(name) => name.fmt(f),
        }
    }
}

impl Serialize for PfName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Number of VFs that a PF is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VfCount {
    /// The PF.
    pub pf: PfName,
    /// Number of its VFs.
    pub count: u32,
    /// Whether the kernel looks for a driver of new VFs; `None`: as it is.
    pub autoprobe: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    vfs: Option<Vec<Spanned<RawPf>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPf {
    pf: Option<Scalar>,
    count: Option<Scalar>,
    autoprobe: Option<Scalar>,
}

/// Reads the file.
///
/// # Errors
/// [`Error::File`]; [`Error::VfsFile`] with all problems of its text.
pub fn read(path: &Path) -> Result<Vec<VfCount>, Error> {
    let text = std::fs::read_to_string(path).map_err(FileError::at("read", path))?;
    parse(path, &text)
}

/// Checks the text of the file at `path`.
///
/// # Errors
/// [`Error::VfsFile`] with all problems.
pub fn parse(path: &Path, text: &str) -> Result<Vec<VfCount>, Error> {
    let wrong = |problems: Problems| Error::VfsFile {
        problems: problems.0.iter().map(ToString::to_string).collect(),
    };
    let raw: RawFile = sluice_yaml::parse(path, text, "sluicectl vfs create --help")
        .map_err(|problem| wrong(Problems(vec![problem])))?;
    let mut checker = Checker::new(path);
    let mut all: Vec<VfCount> = Vec::new();
    for (index, entry) in raw.vfs.unwrap_or_default().into_iter().enumerate() {
        let at = entry.referenced;
        let key = format!("vfs[{index}]");
        if let Some(one) = check(&mut checker, &key, at, &entry.value) {
            if all.iter().any(|other| other.pf == one.pf) {
                let message = format!("PF {} is here twice: keep one", one.pf);
                checker.problem(Some(at), key, message);
            } else {
                all.push(one);
            }
        }
    }
    checker.finish(all).map_err(wrong)
}

/// Checks one entry.
fn check(checker: &mut Checker<'_>, key: &str, at: Location, raw: &RawPf) -> Option<VfCount> {
    let pf = match &raw.pf {
        None => {
            let message = "there is no `pf`: name its PCI address or netdev";
            checker.problem(Some(at), key, message);
            None
        }
        Some(pf) => checker.parsed::<PfName>(&format!("{key}.pf"), pf),
    };
    let count = match &raw.count {
        None => {
            let message = "there is no `count`: write the number of VFs, from 0";
            checker.problem(Some(at), key, message);
            None
        }
        // As many as PCI has room for (SR-IOV 1.1, TotalVFs is 16 bits).
        Some(count) => match count.value.parse::<u16>() {
            Ok(number) => Some(u32::from(number)),
            Err(_) => {
                let message = format!("\"{}\" is not a number from 0 to 65535", count.value);
                checker.problem(Some(count.referenced), format!("{key}.count"), message);
                None
            }
        },
    };
    let words = [("true", true), ("false", false)];
    let before = checker.count();
    let autoprobe = checker.word(&format!("{key}.autoprobe"), raw.autoprobe.as_ref(), &words);
    (checker.count() == before).then_some(())?;
    Some(VfCount {
        pf: pf?,
        count: count?,
        autoprobe,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        match parse(Path::new("vfs.yaml"), text) {
            Err(Error::VfsFile { problems }) => problems,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn pfs_are_named_by_address_or_netdev() {
        let text = "vfs:\n  - {pf: '0000:01:00.0', count: 4, autoprobe: false}\n  - pf: enp2s0\n    count: 0\n";
        let all = parse(Path::new("vfs.yaml"), text).unwrap();
        assert_eq!(
            all,
            [
                VfCount {
                    pf: PfName::Address("0000:01:00.0".parse().unwrap()),
                    count: 4,
                    autoprobe: Some(false),
                },
                VfCount {
                    pf: PfName::Netdev("enp2s0".into()),
                    count: 0,
                    autoprobe: None,
                }
            ]
        );
        for empty in ["", "vfs: []\n", "# nothing\n", "vfs:\n"] {
            assert_eq!(parse(Path::new("vfs.yaml"), empty).unwrap(), []);
        }
    }

    #[test]
    fn the_sample_is_good() {
        let text = include_str!("../../../../deploy/sriov/vfs.yaml");
        let all = parse(Path::new("vfs.yaml"), text).unwrap();
        assert_eq!((all.len(), all[0].count), (1, 2));
    }

    #[test]
    fn every_problem_has_its_place() {
        let text = "vfs:\n  - {pf: a/b, count: many}\n  - {count: 1, autoprobe: maybe}\n  - {pf: enp1s0}\n";
        let found = problems(text);
        let starts = [
            "vfs.yaml:2:10: vfs[0].pf: \"a/b\": it is neither",
            "vfs.yaml:2:22: vfs[0].count: \"many\" is not a number",
            "vfs.yaml:3:5: vfs[1]: there is no `pf`",
            "vfs.yaml:3:27: vfs[1].autoprobe: \"maybe\"",
            "vfs.yaml:4:5: vfs[2]: there is no `count`",
        ];
        assert_eq!(found.len(), starts.len(), "{found:?}");
        for (found, start) in found.iter().zip(starts) {
            assert!(found.starts_with(start), "{found}");
        }
    }

    #[test]
    fn what_is_no_such_file_is_refused() {
        for (text, word) in [
            (
                "vfs:\n - {pf: a, count: 1}\n - {pf: a, count: 2}\n",
                "twice",
            ),
            ("vfs: 3\n", "vfs.yaml:1:"),
            ("pfs: []\n", "pfs"),
            ("vfs:\n - {pf: a, count: 1, mtu: 9}\n", "mtu"),
            ("vfs:\n - {pf: a, count: -1}\n", "0 to 65535"),
            ("vfs:\n - {pf: a, count: 65536}\n", "0 to 65535"),
            (
                "vfs:\n - {pf: a-name-that-is-too-long, count: 1}\n",
                "neither",
            ),
            ("vfs: [\n", "vfs.yaml:"),
        ] {
            let found = problems(text).join("\n");
            assert!(found.contains(word), "{text}: {found}");
        }
    }
}
