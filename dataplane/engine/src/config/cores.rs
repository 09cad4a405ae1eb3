//! Which cores the workers are pinned to: those of the configuration, else those that CMK assigned
//! (`CMK_CPUS_ASSIGNED`), else those that this process may run on.

use std::collections::BTreeSet;

/// The variable in which CMK (the CPU manager for Kubernetes) names a container's cores.
pub const CMK_VARIABLE: &str = "CMK_CPUS_ASSIGNED";

/// The highest number of workers that an engine can have.
pub const MAX_WORKERS: usize = 64;

/// What was asked, and what there is.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// Workers asked for.
    pub count: Option<usize>,
    /// Cores named in the configuration.
    pub cores: Option<Vec<usize>>,
    /// Whether workers are pinned at all.
    pub pin: bool,
    /// The value of [`CMK_VARIABLE`], if it is set and not empty.
    pub cmk: Option<String>,
    /// The cores that this process may run on.
    pub allowed: Vec<usize>,
}

/// The core of each worker; `None`: wherever the kernel puts it.
///
/// # Errors
/// What is wrong, and what is allowed.
pub fn assign(wish: &Wish) -> Result<Vec<Option<usize>>, String> {
    if !wish.pin {
        if wish.cores.is_some() {
            return Err("cores are named, but `pin` is false: leave out one of the two".to_owned());
        }
        return Ok(vec![None; wish.count.unwrap_or(1)]);
    }
    let (cores, source, all) = match (&wish.cores, &wish.cmk) {
        (Some(cores), _) => {
            if let Some(core) = cores.iter().find(|core| !wish.allowed.contains(core)) {
                return Err(format!(
                    "core {core} is not one that this process may run on: those are {} (see \
                     `taskset -p`, and the cpuset of its cgroup)",
                    list(&wish.allowed)
                ));
            }
            (cores.clone(), "named in `cores`", true)
        }
        (None, Some(cmk)) => {
            let cores =
                parse_list(cmk).map_err(|error| format!("{CMK_VARIABLE} is \"{cmk}\": {error}"))?;
            (cores, "assigned by CMK", true)
        }
        // These may be everybody's, so by default only one is taken; the highest first, since
        // core 0 tends to serve interrupts.
        (None, None) => (wish.allowed.clone(), "that this process may run on", false),
    };
    let count = wish.count.unwrap_or(if all { cores.len() } else { 1 });
    if count > cores.len() {
        return Err(format!(
            "{count} workers need as many cores, and those {source} are {}: ask for fewer, or say \
             `pin: false`",
            list(&cores)
        ));
    }
    let first = if all { 0 } else { cores.len() - count };
    Ok(cores[first..first + count]
        .iter()
        .map(|&core| Some(core))
        .collect())
}

/// Cores as Linux writes them: `2,4-7`. Each once; the order is kept.
///
/// # Errors
/// What is wrong, and what is allowed.
pub fn parse_list(text: &str) -> Result<Vec<usize>, String> {
    let mut cores = Vec::new();
    for part in text.split(',').map(str::trim) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| {
            text.trim()
                .parse::<usize>()
                .ok()
                .filter(|&core| core < 4096)
                .ok_or_else(|| {
                    format!("\"{part}\" is not a core: write numbers and ranges, as in 2,4-7")
                })
        };
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(format!("\"{part}\" runs backwards: write {last}-{first}"));
        }
        for core in first..=last {
            if cores.contains(&core) {
                return Err(format!(
                    "core {core} is there twice: each can have one worker"
                ));
            }
            cores.push(core);
        }
    }
    Ok(cores)
}

/// The cores that this process may run on, by its affinity mask, which its cpuset bounds.
///
/// # Errors
/// The system call failed.
pub fn allowed() -> std::io::Result<Vec<usize>> {
    let set = rustix::thread::sched_getaffinity(None)?;
    Ok((0..rustix::thread::CpuSet::MAX_CPU)
        .filter(|&core| set.is_set(core))
        .collect())
}

/// As [`parse_list`] reads it, ranges closed up.
fn list(cores: &[usize]) -> String {
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

    fn wish() -> Wish {
        Wish {
            pin: true,
            allowed: vec![0, 1, 2, 3],
            ..Wish::default()
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
        let wish = Wish {
            cores: Some(vec![3, 1]),
            cmk: Some("0".into()),
            ..wish()
        };
        assert_eq!(assign(&wish).unwrap(), [Some(3), Some(1)]);
        let fewer = Wish {
            count: Some(1),
            ..wish.clone()
        };
        assert_eq!(assign(&fewer).unwrap(), [Some(3)]);
        let more = assign(&Wish {
            count: Some(3),
            ..wish
        })
        .unwrap_err();
        assert!(more.contains("those named in `cores` are 1,3"), "{more}");
    }

    #[test]
    fn then_cmk() {
        let wish = Wish {
            cmk: Some("8,9".into()),
            ..wish()
        };
        assert_eq!(assign(&wish).unwrap(), [Some(8), Some(9)]);
        let bad = assign(&Wish {
            cmk: Some("x".into()),
            ..wish
        })
        .unwrap_err();
        assert!(bad.contains(CMK_VARIABLE), "{bad}");
    }

    #[test]
    fn then_the_cpuset() {
        assert_eq!(assign(&wish()).unwrap(), [Some(3)]);
        assert_eq!(
            assign(&Wish {
                count: Some(2),
                ..wish()
            })
            .unwrap(),
            [Some(2), Some(3)]
        );
        assert!(
            assign(&Wish {
                count: Some(5),
                ..wish()
            })
            .is_err()
        );
        assert!(
            assign(&Wish {
                cores: Some(vec![4]),
                ..wish()
            })
            .is_err()
        );
        assert!(!allowed().unwrap().is_empty());
    }

    #[test]
    fn unpinned() {
        let wish = Wish {
            pin: false,
            count: Some(3),
            ..wish()
        };
        assert_eq!(assign(&wish).unwrap(), [None; 3]);
        assert!(
            assign(&Wish {
                cores: Some(vec![1]),
                ..wish
            })
            .is_err()
        );
    }
}
