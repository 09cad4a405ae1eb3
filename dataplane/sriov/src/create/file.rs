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
use serde_saphyr::{Location, Spanned};
use sluice_host::FileError;

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
            return Err(format!(
                "\"{text}\" is neither a PCI address (0000:01:00.0) nor a netdev's name (enp1s0)"
            ));
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

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    vfs: Option<Vec<Spanned<RawPf>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPf {
    pf: Option<Spanned<String>>,
    count: Option<Spanned<String>>,
    autoprobe: Option<Spanned<String>>,
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
    let mut problems = Problems {
        path,
        found: Vec::new(),
    };
    let options = serde_saphyr::options! { with_snippet: false };
    let raw = match serde_saphyr::from_str_with_options::<Option<RawFile>>(text, options) {
        Ok(raw) => raw.and_then(|raw| raw.vfs).unwrap_or_default(),
        Err(error) => {
            let at = error.location();
            let text = error.without_snippet().to_string();
            let line = text.lines().next().unwrap_or_default();
            let line = line.strip_prefix("error: ").unwrap_or(line);
            let line = line.split(" at line ").next().unwrap_or(line);
            problems.add(
                at,
                format!("{line}; write a list `vfs` of entries with pf, count and, if need be, autoprobe"),
            );
            return Err(problems.error());
        }
    };
    let mut all: Vec<VfCount> = Vec::new();
    for entry in raw {
        let at = entry.referenced;
        if let Some(one) = problems.entry(at, entry.value) {
            if all.iter().any(|other| other.pf == one.pf) {
                problems.add(Some(at), format!("PF {} is here twice: keep one", one.pf));
            } else {
                all.push(one);
            }
        }
    }
    if problems.found.is_empty() {
        Ok(all)
    } else {
        Err(problems.error())
    }
}

struct Problems<'a> {
    path: &'a Path,
    found: Vec<String>,
}

impl Problems<'_> {
    fn add(&mut self, at: Option<Location>, message: impl fmt::Display) {
        let path = self.path.display();
        self.found.push(match at {
            Some(at) => format!("{path}:{}:{}: {message}", at.line(), at.column()),
            None => format!("{path}: {message}"),
        });
    }

    fn error(self) -> Error {
        Error::VfsFile {
            problems: self.found,
        }
    }

    fn entry(&mut self, at: Location, raw: RawPf) -> Option<VfCount> {
        let pf = match &raw.pf {
            None => {
                self.add(Some(at), "there is no `pf`: name its PCI address or netdev");
                None
            }
            Some(pf) => pf
                .value
                .parse::<PfName>()
                .map_err(|why| self.add(Some(pf.referenced), format!("pf: {why}")))
                .ok(),
        };
        let count = match &raw.count {
            None => {
                self.add(
                    Some(at),
                    "there is no `count`: write the number of VFs, from 0",
                );
                None
            }
            // As many as PCI has room for (SR-IOV 1.1, TotalVFs is 16 bits).
            Some(count) => match count.value.parse::<u16>() {
                Ok(number) => Some(u32::from(number)),
                Err(_) => {
                    let message =
                        format!("count: \"{}\" is not a number from 0 to 65535", count.value);
                    self.add(Some(count.referenced), message);
                    None
                }
            },
        };
        let autoprobe = match &raw.autoprobe {
            None => Some(None),
            Some(word) => match word.value.as_str() {
                "true" => Some(Some(true)),
                "false" => Some(Some(false)),
                other => {
                    let message = format!("autoprobe: \"{other}\" is neither true nor false");
                    self.add(Some(word.referenced), message);
                    None
                }
            },
        };
        Some(VfCount {
            pf: pf?,
            count: count?,
            autoprobe: autoprobe?,
        })
    }
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
            "vfs.yaml:2:10: pf: \"a/b\" is neither",
            "vfs.yaml:2:22: count: \"many\" is not a number",
            "vfs.yaml:3:5: there is no `pf`",
            "vfs.yaml:3:27: autoprobe: \"maybe\"",
            "vfs.yaml:4:5: there is no `count`",
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
