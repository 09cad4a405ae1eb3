// SPDX-License-Identifier: Apache-2.0
//! The programs that the demo runs: those of this build, and those of the system.

use std::env;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Folders in which distributions and Kubernetes put CNI plugins.
const PLUGIN_FOLDERS: [&str; 3] = ["/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"];

/// Paths of the programs that the demo runs.
#[derive(Debug, Clone)]
pub(super) struct Programs {
    pub(super) sluicectl: PathBuf,
    pub(super) sluiced: PathBuf,
    pub(super) sluicegate: PathBuf,
    pub(super) sluicegate_vf: PathBuf,
    pub(super) vnf: PathBuf,
    pub(super) vfirewall: PathBuf,
    pub(super) ip: PathBuf,
    pub(super) ping: PathBuf,
    pub(super) nft: PathBuf,
    /// `CNI_PATH` as the runtime gives it: our plugins' folder, then the reference plugins'.
    pub(super) cni_path: OsString,
    /// `PATH` for programs that run others.
    pub(super) path: OsString,
}

/// The programs of this build.
pub(super) const OURS: [&str; 6] = [
    "sluicectl",
    "sluiced",
    "sluicegate",
    "sluicegate-vf",
    "vnf",
    "vfirewall",
];

impl Programs {
    /// Finds them: this build's in `bin_dir` if given, else beside this program, in `examples` there,
    /// and in `PATH`.
    ///
    /// # Errors
    /// What is missing, with how to get it; all of it at once.
    pub(super) fn find(bin_dir: Option<&Path>) -> Result<Programs, Vec<String>> {
        let mut missing = Vec::new();
        let path = search_path();
        let folders = own_folders(bin_dir);
        let mut not_built = Vec::new();
        let [
            sluicectl,
            sluiced,
            sluicegate,
            sluicegate_vf,
            vnf,
            vfirewall,
        ] = OURS.map(|name| {
            let found = folders.iter().find_map(|dir| program(dir, name));
            found.or_else(|| in_path(&path, name)).unwrap_or_else(|| {
                not_built.push(name);
                PathBuf::new()
            })
        });
        if !not_built.is_empty() {
            let folders: Vec<_> = folders
                .iter()
                .map(|dir| dir.display().to_string())
                .collect();
            missing.push(format!(
                "{}: in none of {}, PATH; build with `cargo build --release --bins --examples`, or \
                 name the folder by --bin-dir",
                not_built.join(", "),
                folders.join(", ")
            ));
        }
        let mut system = |name: &str, package: &str, purpose: &str| {
            in_path(&path, name).unwrap_or_else(|| {
                missing.push(format!(
                    "{name} ({purpose}): package {package} of Debian and Ubuntu has it"
                ));
                PathBuf::new()
            })
        };
        let ip = system("ip", "iproute2", "network namespaces and veth pairs");
        let ping = system("ping", "iputils-ping", "traffic to the pod's eth0");
        let nft = system(
            "nft",
            "nftables",
            "with which the engine keeps the host off an uplink",
        );
        let cni_path = cni_path(&sluicegate_vf, &mut missing);
        if !missing.is_empty() {
            return Err(missing);
        }
        let path = env::join_paths(&path).unwrap_or_default();
        Ok(Programs {
            sluicectl,
            sluiced,
            sluicegate,
            sluicegate_vf,
            vnf,
            vfirewall,
            ip,
            ping,
            nft,
            cni_path,
            path,
        })
    }
}

/// Folders with programs of this build.
fn own_folders(bin_dir: Option<&Path>) -> Vec<PathBuf> {
    let exe = env::current_exe().ok();
    let beside = exe.as_deref().and_then(Path::parent);
    let dir = bin_dir.or(beside).map(Path::to_owned);
    let dir = dir.map(|dir| std::path::absolute(&dir).unwrap_or(dir));
    dir.into_iter()
        .flat_map(|dir| [dir.clone(), dir.join("examples")])
        .collect()
}

/// `PATH`, and where `sudo` and cron do not look.
fn search_path() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = env::split_paths(&path)
        .filter(|p| p.is_absolute())
        .collect();
    for more in ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"] {
        if !folders.iter().any(|folder| folder == Path::new(more)) {
            folders.push(PathBuf::from(more));
        }
    }
    folders
}

/// `CNI_PATH`, if the plugins `bridge` and `host-local` are to be found.
fn cni_path(sluicegate_vf: &Path, missing: &mut Vec<String>) -> OsString {
    let given = env::var_os("CNI_PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = env::split_paths(&given)
        .filter(|p| p.is_absolute())
        .collect();
    folders.extend(PLUGIN_FOLDERS.map(PathBuf::from));
    let mut chosen: Vec<PathBuf> = sluicegate_vf
        .parent()
        .map(Path::to_owned)
        .into_iter()
        .collect();
    for name in ["bridge", "host-local"] {
        match folders.iter().find(|dir| program(dir, name).is_some()) {
            Some(dir) if !chosen.contains(dir) => chosen.push(dir.clone()),
            Some(_) => {}
            None => missing.push(format!(
                "the CNI plugin {name}, which is in none of {}: package containernetworking-plugins \
                 of Debian and Ubuntu has it, or name its folder in CNI_PATH",
                PLUGIN_FOLDERS.join(", ")
            )),
        }
    }
    env::join_paths(chosen).unwrap_or_default()
}

fn in_path(path: &[PathBuf], name: &str) -> Option<PathBuf> {
    path.iter().find_map(|dir| program(dir, name))
}

fn program(dir: &Path, name: &str) -> Option<PathBuf> {
    let path = dir.join(name);
    let metadata = path.metadata().ok()?;
    let runs = metadata.is_file() && metadata.permissions().mode() & 0o111 != 0;
    runs.then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_missing_is_named_at_once() {
        let missing = Programs::find(Some(Path::new("/nonexistent")))
            .err()
            .unwrap_or_default();
        let first = missing.first().cloned().unwrap_or_default();
        let all = first.starts_with(&OURS.join(", ")) && first.contains("/nonexistent/examples");
        // Unless this build is installed in PATH.
        assert!(
            all || in_path(&search_path(), "sluiced").is_some(),
            "{missing:?}"
        );
    }
}
