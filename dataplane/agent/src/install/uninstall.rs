// SPDX-License-Identifier: Apache-2.0
//! The way off: `sluice-agent --uninstall`.

use std::path::PathBuf;

use anyhow::Context as _;
use sluice_install::{Done, Installation};
use sluicegate::records;

use crate::config::AgentConfig;
use crate::devices;
use crate::parts::PartError;

/// Takes off the node what the parts `install` and `devices` put there: the CNI configuration first, the CDI
/// specifications last. Returns each file with what became of it. No agent may run: it would put them there again.
///
/// # Errors
/// There is no section `install`; pods have networks of ours, and `force` is not set; the file system refuses.
pub fn uninstall(config: &AgentConfig, force: bool) -> Result<Vec<(PathBuf, Done)>, PartError> {
    let install = config
        .install
        .as_ref()
        .context("the configuration has no section `install`, which says where the files are")?;
    let pods = records::live_pods(&install.cni_dir)?;
    let mut node = Installation::open(install.plan.clone())?;
    let changes = node.uninstall(&pods, force)?;
    let mut done: Vec<_> = changes
        .into_iter()
        .map(|change| (change.path, change.done))
        .collect();
    if let Some(devices) = &config.devices {
        let folder = &devices.cdi_dir;
        let removed = devices::remove_cdi_specs(folder).with_context(|| {
            format!(
                "the CDI specifications sluicegate-*.json in {} cannot be removed: remove them by hand, or uninstall \
                 again",
                folder.display()
            )
        })?;
        done.extend(removed.into_iter().map(|path| (path, Done::Removed)));
    }
    Ok(done)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn plugins_and_cdi_specifications_go_and_those_of_others_stay() {
        let dir = tempfile::TempDir::new().unwrap();
        let at = |name: &str| dir.path().join(name);
        for folder in ["source", "bin", "net.d", "cni", "cdi"] {
            fs::create_dir(at(folder)).unwrap();
        }
        for name in ["source/sluicegate", "source/sluicegate-vf"] {
            fs::write(at(name), name).unwrap();
        }
        let text = format!(
            "install: {{source: {0}/source, bin_dir: {0}/bin, conf_dir: {0}/net.d, state_dir: {0}/state, cni_dir: \
             {0}/cni}}\ndevices: {{cdi_dir: {0}/cdi}}\n",
            dir.path().display()
        );
        let config = AgentConfig::parse(&at("agent.yaml"), &text, None).unwrap();
        let plan = config.install.as_ref().unwrap().plan.clone();
        Installation::open(plan).unwrap().plugins().unwrap();
        for name in [
            "sluicegate-sluicegate.io_att.json",
            "sluicegate-old.io_vfs.json",
            "nvidia.json",
        ] {
            fs::write(at("cdi").join(name), "{}").unwrap();
        }

        let done = uninstall(&config, false).unwrap();
        assert!(
            done.iter().all(|(_, done)| *done == Done::Removed),
            "{done:?}"
        );
        let gone = |path: &str| done.iter().any(|(file, _)| *file == at(path));
        assert!(
            gone("bin/sluicegate") && gone("bin/sluicegate-vf"),
            "{done:?}"
        );
        assert!(gone("cdi/sluicegate-sluicegate.io_att.json"), "{done:?}");
        let names = |folder: &str| {
            let entries = fs::read_dir(at(folder)).unwrap();
            let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            names.collect::<Vec<_>>()
        };
        assert_eq!(names("cdi"), ["nvidia.json"]);
        assert!(names("bin").is_empty(), "{:?}", names("bin"));
        // Again, and without the folder: nothing is left to do.
        fs::remove_dir_all(at("cdi")).unwrap();
        assert!(uninstall(&config, false).unwrap().is_empty());
    }
}
