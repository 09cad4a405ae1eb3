// SPDX-License-Identifier: Apache-2.0
//! Assignment of cores to workers: those of the configuration, else those that CMK assigned
//! (`CMK_CPUS_ASSIGNED`), else those that this process may run on.
//!
//! CMK names both hyperthreads of each physical core. By default one of them has a worker; the other stays
//! idle, as whatever ran there would take its share of the worker's core.

use std::collections::BTreeSet;

/// Environment variable in which CMK (the CPU manager for Kubernetes) names a container's cores.
pub const CMK_VARIABLE: &str = "CMK_CPUS_ASSIGNED";

/// Highest number of workers of an engine.
pub const MAX_WORKERS: usize = 64;

/// Input of the assignment: what the configuration asks for, and what the machine has.
#[derive(Debug, Clone, Default)]
pub struct CoreRequest {
    /// Workers asked for.
    pub count: Option<usize>,
    /// Cores named in the configuration.
    pub cores: Option<Vec<usize>>,
    /// Whether workers are pinned at all.
    pub pin: bool,
    /// Value of [`CMK_VARIABLE`], if it is set and not empty.
    pub cmk: Option<String>,
    /// Cores that this process may run on.
    pub allowed: Vec<usize>,
    /// Cores that are threads of one physical core, a set for each; one that is in none is alone.
    pub siblings: Vec<BTreeSet<usize>>,
}

/// Reason why cores could not be assigned; each message names the value and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CoreError {
    /// Cores named although workers are not pinned.
    #[error("cores are named, but `pin` is false: leave out one of the two")]
    NamedButNotPinned,
    /// Core outside the affinity mask of this process.
    #[error(
        "core {core} is not one that this process may run on: those are {} (see `taskset -p`, and \
         the cpuset of its cgroup)", list(.allowed)
    )]
    NotAllowed {
        /// Core that was named.
        core: usize,
        /// Cores that this process may run on.
        allowed: Vec<usize>,
    },
    /// Core of CMK's outside the affinity mask of this process.
    #[error(
        "{CMK_VARIABLE} is \"{value}\", and core {core} of these is not one that this process may run on: \
         those are {} (see the cpuset of its cgroup; CMK's cores must not be taken from the container \
         by the kubelet's static CPU manager or by another cpuset)", list(.allowed)
    )]
    CmkNotAllowed {
        /// Value of the variable.
        value: String,
        /// Core that CMK assigned.
        core: usize,
        /// Cores that this process may run on.
        allowed: Vec<usize>,
    },
    /// List of CMK that cannot be parsed.
    #[error("{CMK_VARIABLE} is \"{value}\": {source}")]
    Cmk {
        /// Value of the variable.
        value: String,
        /// Error of the list.
        source: Box<CoreError>,
    },
    /// More workers than cores.
    #[error(
        "{count} workers need as many cores, and those {source_of} are {}: ask for fewer, or say \
         `pin: false`", list(.cores)
    )]
    TooFew {
        /// Workers asked for.
        count: usize,
        /// Origin of the cores, in words.
        source_of: &'static str,
        /// Cores there are.
        cores: Vec<usize>,
    },
    /// Part of a list that is neither a number nor a range.
    #[error("\"{part}\" is not a core: write numbers and ranges, as in 2,4-7")]
    Syntax {
        /// Part of the list.
        part: String,
    },
    /// Range whose end lies before its beginning.
    #[error("\"{first}-{last}\" runs backwards: write {last}-{first}")]
    Backwards {
        /// Number before the hyphen.
        first: usize,
        /// Number behind it.
        last: usize,
    },
    /// Core named twice.
    #[error("core {core} is there twice: each can have one worker")]
    Twice {
        /// Core that was named.
        core: usize,
    },
}

/// Assigns a core to each worker; `None`: wherever the kernel puts it.
///
/// # Errors
/// Cores that do not exist here or do not suffice.
pub fn assign(request: &CoreRequest) -> Result<Vec<Option<usize>>, CoreError> {
    if !request.pin {
        if request.cores.is_some() {
            return Err(CoreError::NamedButNotPinned);
        }
        return Ok(vec![None; request.count.unwrap_or(1)]);
    }
    let (cores, source, default) = match (&request.cores, &request.cmk) {
        (Some(cores), _) => {
            if let Some(core) = cores.iter().find(|core| !request.allowed.contains(core)) {
                return Err(CoreError::NotAllowed {
                    core: *core,
                    allowed: request.allowed.clone(),
                });
            }
            (cores.clone(), "named in `cores`", cores.len())
        }
        (None, Some(cmk)) => {
            let cores = of_cmk(cmk, &request.allowed)?;
            let (first, rest) = by_physical_core(&cores, &request.siblings);
            let default = first.len();
            ([first, rest].concat(), "assigned by CMK", default)
        }
        // These may be everybody's, so by default only one is taken; the highest first, since
        // core 0 tends to serve interrupts.
        (None, None) => {
            let highest_first: Vec<usize> = request.allowed.iter().rev().copied().collect();
            let (first, rest) = by_physical_core(&highest_first, &request.siblings);
            ([first, rest].concat(), "that this process may run on", 1)
        }
    };
    let count = request.count.unwrap_or(default);
    if count > cores.len() {
        return Err(CoreError::TooFew {
            count,
            source_of: source,
            cores,
        });
    }
    let mut taken = cores[..count].to_vec();
    if request.cores.is_none() {
        taken.sort_unstable();
    }
    Ok(taken.into_iter().map(Some).collect())
}

/// Parses CMK's list, and checks that this process may run on its cores.
fn of_cmk(value: &str, allowed: &[usize]) -> Result<Vec<usize>, CoreError> {
    let cores = parse_list(value).map_err(|source| CoreError::Cmk {
        value: value.to_owned(),
        source: Box::new(source),
    })?;
    match cores.iter().find(|core| !allowed.contains(core)) {
        None => Ok(cores),
        Some(&core) => Err(CoreError::CmkNotAllowed {
            value: value.to_owned(),
            core,
            allowed: allowed.to_vec(),
        }),
    }
}

/// Divides cores into the first of each physical core and the others, each in their order.
fn by_physical_core(cores: &[usize], siblings: &[BTreeSet<usize>]) -> (Vec<usize>, Vec<usize>) {
    let mut first: Vec<usize> = Vec::new();
    let mut rest = Vec::new();
    for &core in cores {
        let of_core = siblings.iter().find(|set| set.contains(&core));
        let is_taken = of_core.is_some_and(|set| first.iter().any(|other| set.contains(other)));
        if is_taken { &mut rest } else { &mut first }.push(core);
    }
    (first, rest)
}

/// Parses a list of cores as Linux writes it: `2,4-7`. Each once; the order is kept.
///
/// # Errors
/// A part that is not a core or a range, or a core that is there twice.
pub fn parse_list(text: &str) -> Result<Vec<usize>, CoreError> {
    let mut cores = Vec::new();
    for part in text.split(',').map(str::trim) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| {
            text.trim()
                .parse::<usize>()
                .ok()
                .filter(|&core| core < 4096)
                .ok_or_else(|| CoreError::Syntax {
                    part: part.to_owned(),
                })
        };
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(CoreError::Backwards { first, last });
        }
        for core in first..=last {
            if cores.contains(&core) {
                return Err(CoreError::Twice { core });
            }
            cores.push(core);
        }
    }
    Ok(cores)
}

/// Cores that this process may run on, by its affinity mask, which its cpuset bounds.
///
/// # Errors
/// The system call failed.
pub fn allowed() -> std::io::Result<Vec<usize>> {
    let set = rustix::thread::sched_getaffinity(None)?;
    Ok((0..rustix::thread::CpuSet::MAX_CPU)
        .filter(|&core| set.is_set(core))
        .collect())
}

/// Writes cores as [`parse_list`] reads them, ranges closed up.
pub(crate) fn list(cores: &[usize]) -> String {
    let sorted: Vec<usize> = cores
        .iter()
        .copied()
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let runs = sorted.chunk_by(|a, b| a + 1 == *b).map(|run| match run {
        [one] => one.to_string(),
        [first, .., last] => format!("{first}-{last}"),
        [] => String::new(),
    });
    runs.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn wish() -> CoreRequest {
        CoreRequest {
            pin: true,
            allowed: vec![0, 1, 2, 3],
            ..CoreRequest::default()
        }
    }

    #[test]
    fn lists() {
        assert_eq!(parse_list("2,4-6").unwrap(), [2, 4, 5, 6]);
        assert_eq!(parse_list(" 3 ").unwrap(), [3]);
        for bad in ["", "a", "1-", "5-2", "1,1", "0-3,2", "1,,2", "99999", "-1"] {
            assert!(parse_list(bad).is_err(), "{bad:?} was taken");
        }
        assert_eq!(list(&[7, 1, 2, 3, 5]), "1-3,5,7");
    }

    #[test]
    fn the_configuration_comes_first() {
        let wish = CoreRequest {
            cores: Some(vec![3, 1]),
            cmk: Some("0".into()),
            ..wish()
        };
        assert_eq!(assign(&wish).unwrap(), [Some(3), Some(1)]);
        let fewer = CoreRequest {
            count: Some(1),
            ..wish.clone()
        };
        assert_eq!(assign(&fewer).unwrap(), [Some(3)]);
        let more = assign(&CoreRequest {
            count: Some(3),
            ..wish
        })
        .unwrap_err();
        assert!(
            more.to_string().contains("those named in `cores` are 1,3"),
            "{more}"
        );
    }

    #[test]
    fn then_cmk() {
        let wish = CoreRequest {
            cmk: Some("2,3".into()),
            ..wish()
        };
        assert_eq!(assign(&wish).unwrap(), [Some(2), Some(3)]);
        let foreign = assign(&CoreRequest {
            cmk: Some("3,8".into()),
            ..wish.clone()
        });
        let foreign = foreign.unwrap_err().to_string();
        for word in ["\"3,8\"", "core 8", "0-3"] {
            assert!(foreign.contains(word), "{foreign}");
        }
        let bad = assign(&CoreRequest {
            cmk: Some("x".into()),
            ..wish
        })
        .unwrap_err();
        assert!(bad.to_string().contains(CMK_VARIABLE), "{bad}");
    }

    #[test]
    fn a_worker_has_a_physical_core() {
        // As on a machine of eight cores with two threads each.
        let siblings = (0..8)
            .map(|core| BTreeSet::from([core, core + 8]))
            .collect();
        let wish = CoreRequest {
            cmk: Some("4,12,5,13".into()),
            allowed: (0..16).collect(),
            siblings,
            ..wish()
        };
        assert_eq!(assign(&wish).unwrap(), [Some(4), Some(5)]);
        let count = |count, cmk: Option<&str>| {
            let request = CoreRequest {
                count: Some(count),
                cmk: cmk.map(str::to_owned),
                ..wish.clone()
            };
            assign(&request).unwrap()
        };
        // Who asks for more than there are physical cores gets their threads.
        assert_eq!(count(2, Some("4,12")), [Some(4), Some(12)]);
        assert_eq!(count(3, Some("4,12,5,13")), [Some(4), Some(5), Some(12)]);
        assert_eq!(count(2, None), [Some(14), Some(15)]);
        assert_eq!(count(9, None).len(), 9);
        let of_one_core = CoreRequest {
            allowed: vec![3, 11, 2],
            cmk: None,
            count: Some(2),
            ..wish.clone()
        };
        assert_eq!(assign(&of_one_core).unwrap(), [Some(2), Some(11)]);
    }

    #[test]
    fn then_the_cpuset() {
        assert_eq!(assign(&wish()).unwrap(), [Some(3)]);
        assert_eq!(
            assign(&CoreRequest {
                count: Some(2),
                ..wish()
            })
            .unwrap(),
            [Some(2), Some(3)]
        );
        assert!(
            assign(&CoreRequest {
                count: Some(5),
                ..wish()
            })
            .is_err()
        );
        assert!(
            assign(&CoreRequest {
                cores: Some(vec![4]),
                ..wish()
            })
            .is_err()
        );
        assert!(!allowed().unwrap().is_empty());
    }

    #[test]
    fn unpinned() {
        let wish = CoreRequest {
            pin: false,
            count: Some(3),
            ..wish()
        };
        assert_eq!(assign(&wish).unwrap(), [None; 3]);
        assert!(
            assign(&CoreRequest {
                cores: Some(vec![1]),
                ..wish
            })
            .is_err()
        );
    }
}
