// SPDX-License-Identifier: Apache-2.0
//! Installations in a folder of their own: on, again, over other files, off.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use sluice_install::{
    Change, Done, InstallError, InstallRecord, Installation, Kubeconfig, Mode, Plan,
};
use tempfile::TempDir;

const PRIMARY: &str = r#"{"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "bridge"}]}"#;

fn node() -> (TempDir, Plan) {
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    for name in ["source", "bin", "net.d"] {
        fs::create_dir(at(name)).unwrap();
    }
    for name in ["sluicegate", "sluicegate-vf"] {
        fs::write(at("source").join(name), format!("program {name}")).unwrap();
    }
    fs::write(at("net.d/10-pods.conflist"), PRIMARY).unwrap();
    let plan = Plan {
        source: at("source"),
        bin_dir: at("bin"),
        conf_dir: at("net.d"),
        host_conf_dir: "/host/net.d".into(),
        state_dir: at("state"),
        ..Plan::default()
    };
    (dir, plan)
}

fn kubeconfig(token: &str) -> Kubeconfig {
    Kubeconfig {
        server: "https://10.96.0.1:443".into(),
        ca: None,
        token: token.into(),
        keeper: "sluicectl".into(),
    }
}

fn install(plan: &Plan, token: &str) -> Vec<Done> {
    let mut node = Installation::open(plan.clone()).unwrap();
    let mut changes = node.plugins().unwrap();
    changes.extend(node.kubeconfig(&kubeconfig(token)).unwrap());
    changes.extend(node.conf().unwrap());
    dones(&changes)
}

fn dones(changes: &[Change]) -> Vec<Done> {
    changes.iter().map(|change| change.done).collect()
}

/// Every file and folder below a folder, with mode and content.
fn picture(dir: &Path) -> Vec<String> {
    let mut seen = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let mode = entry.metadata().unwrap().permissions().mode() & 0o7777;
            let name = entry
                .path()
                .strip_prefix(dir)
                .unwrap()
                .display()
                .to_string();
            if entry.path().is_dir() {
                folders.push(entry.path());
                seen.push(format!("{name}/ {mode:o}"));
            } else {
                let text = fs::read_to_string(entry.path()).unwrap();
                seen.push(format!("{name} {mode:o} {text}"));
            }
        }
    }
    seen.sort();
    seen
}

#[test]
fn on_again_and_off_leaves_the_node_as_it_was() {
    let (dir, plan) = node();
    let before = picture(dir.path());
    assert_eq!(install(&plan, "t1"), [Done::Created; 4]);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&plan.bin_dir.join("sluicegate")), 0o755);
    assert_eq!(mode(&plan.kubeconfig()), 0o600);
    assert_eq!(mode(plan.kubeconfig().parent().unwrap()), 0o700);
    let conf = fs::read_to_string(plan.conf()).unwrap();
    assert!(
        conf.contains("/host/net.d/sluicegate.d/sluicegate.kubeconfig"),
        "{conf}"
    );
    assert_eq!(install(&plan, "t1"), [Done::Unchanged; 4]);
    // A new token, and a mode that somebody took.
    fs::set_permissions(
        plan.bin_dir.join("sluicegate"),
        fs::Permissions::from_mode(0o600),
    )
    .unwrap();
    let again = install(&plan, "t2");
    assert_eq!(
        again,
        [
            Done::Unchanged,
            Done::Unchanged,
            Done::Replaced,
            Done::Unchanged
        ]
    );
    assert_eq!(mode(&plan.bin_dir.join("sluicegate")), 0o755);
    let mut node = Installation::open(plan.clone()).unwrap();
    assert!(node.has_conf());
    let removed = node.uninstall(&[], false).unwrap();
    assert_eq!(removed[0].path, plan.conf(), "the configuration goes first");
    assert_eq!(dones(&removed), [Done::Removed; 4]);
    assert_eq!(picture(dir.path()), before);
    // Once more is no failure.
    let mut node = Installation::open(plan).unwrap();
    assert!(node.uninstall(&[], false).unwrap().is_empty());
    assert_eq!(picture(dir.path()), before);
}

#[test]
fn somebody_elses_files_come_back() {
    let (dir, plan) = node();
    fs::write(plan.bin_dir.join("sluicegate"), "an older one").unwrap();
    fs::set_permissions(
        plan.bin_dir.join("sluicegate"),
        fs::Permissions::from_mode(0o711),
    )
    .unwrap();
    fs::write(
        plan.conf(),
        r#"{"name": "hand-made", "plugins": [{"type": "sluicegate"}]}"#,
    )
    .unwrap();
    let before = picture(dir.path());
    install(&plan, "t1");
    install(&plan, "t2");
    // And what somebody put in place of ours since then stays.
    fs::write(plan.bin_dir.join("sluicegate-vf"), "another one's").unwrap();
    let mut node = Installation::open(plan.clone()).unwrap();
    let done = dones(&node.uninstall(&[], false).unwrap());
    assert_eq!(
        done,
        [Done::Restored, Done::Removed, Done::Restored, Done::Left]
    );
    fs::remove_file(plan.bin_dir.join("sluicegate-vf")).unwrap();
    assert_eq!(picture(dir.path()), before);
}

#[test]
fn pods_that_live_keep_the_configuration() {
    let (_dir, plan) = node();
    install(&plan, "t");
    let pods = ["default/a".to_owned()];
    let mut node = Installation::open(plan.clone()).unwrap();
    let error = node.uninstall(&pods, false).unwrap_err();
    assert!(matches!(&error, InstallError::PodsLive { pods } if pods.len() == 1));
    assert!(error.to_string().contains("default/a"), "{error}");
    assert!(plan.conf().exists());
    node.uninstall(&pods, true).unwrap();
    assert!(!plan.conf().exists());
}

#[test]
fn a_dry_run_writes_nothing() {
    let (dir, plan) = node();
    let before = picture(dir.path());
    let mut node = Installation::dry(plan.clone()).unwrap();
    let mut changes = node.plugins().unwrap();
    changes.extend(node.kubeconfig(&kubeconfig("t")).unwrap());
    changes.extend(node.conf().unwrap());
    assert_eq!(dones(&changes), [Done::Created; 4]);
    assert_eq!(picture(dir.path()), before);
}

#[test]
fn beside_multus_there_is_one_plugin_and_no_configuration() {
    let (_dir, mut plan) = node();
    plan.mode = Mode::PluginsOnly;
    let mut node = Installation::open(plan.clone()).unwrap();
    assert_eq!(
        node.plugins().unwrap()[0].path,
        plan.bin_dir.join("sluicegate-vf")
    );
    assert!(node.conf().unwrap().is_empty());
    assert!(!plan.bin_dir.join("sluicegate").exists() && !plan.conf().exists());
}

#[test]
fn faults_name_the_file_and_what_to_do() {
    let (dir, plan) = node();
    let told = |plan: &Plan| {
        let mut node = Installation::open(plan.clone()).unwrap();
        let done = node.plugins().and_then(|_| node.conf());
        done.unwrap_err().to_string()
    };
    let mut other = plan.clone();
    other.bin_dir = dir.path().join("nowhere");
    let said = told(&other);
    assert!(
        said.contains("nowhere") && said.contains("bin_dir") && said.contains("k3s"),
        "{said}"
    );
    fs::remove_file(plan.source.join("sluicegate-vf")).unwrap();
    let said = told(&plan);
    assert!(
        said.contains("sluicegate-vf") && said.contains("source"),
        "{said}"
    );
    // All of the plugins or none.
    assert!(!plan.bin_dir.join("sluicegate").exists());
    fs::write(plan.source.join("sluicegate-vf"), "x").unwrap();
    fs::remove_file(plan.conf_dir.join("10-pods.conflist")).unwrap();
    let said = told(&plan);
    assert!(
        said.contains("no configuration of a primary network"),
        "{said}"
    );
    fs::write(plan.record(), "{").unwrap();
    let said = Installation::open(plan).unwrap_err().to_string();
    assert!(
        said.contains("install.json") && said.contains("torn"),
        "{said}"
    );
}

#[test]
fn a_killed_installer_leaves_what_the_next_one_finishes_or_takes_off() {
    let (dir, plan) = node();
    let before = picture(dir.path());
    // Killed after the record, before the rename; and after one of two renames.
    install(&plan, "t");
    let mut record = InstallRecord::load(&plan.record()).unwrap();
    record.files[3]
        .sha256
        .insert(0, "of a version that never came".into());
    fs::write(plan.record(), serde_json::to_string(&record).unwrap()).unwrap();
    fs::remove_file(plan.conf()).unwrap();
    fs::write(plan.bin_dir.join(".sluicegate.tmp"), "half").unwrap();
    let mut node = Installation::open(plan.clone()).unwrap();
    assert_eq!(
        dones(&node.uninstall(&[], false).unwrap()),
        [Done::Removed; 4]
    );
    drop(node);
    assert_eq!(picture(dir.path()), before);
    install(&plan, "t");
    fs::write(plan.bin_dir.join(".sluicegate.tmp"), "half").unwrap();
    fs::remove_file(plan.bin_dir.join("sluicegate")).unwrap();
    let done = install(&plan, "t");
    assert_eq!(
        done,
        [
            Done::Created,
            Done::Unchanged,
            Done::Unchanged,
            Done::Unchanged
        ]
    );
    assert!(!plan.bin_dir.join(".sluicegate.tmp").exists());
}
