// SPDX-License-Identifier: Apache-2.0
//! Records of both plugins for an operator: listed, dropped, and ended where their pod is gone. Neither
//! engine, nor API server, nor container runtime is asked.
//!
//! [`reap`] runs delegates as a DEL does, and those start as this same program: one that calls it begins
//! its `main` with [`become_plugin`](crate::spec::exec::become_plugin).

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Map;
use sluice_host::NetnsIdentity;
use sluice_host::lock::is_held;

use crate::Error;
use crate::multus::{self, MetaConf, PodRecord};
use crate::spec::budget::{self, Budget};
use crate::spec::call::{Call, Command};
use crate::spec::conf::NetConf;
use crate::spec::fields;
use crate::spec::log::Log;
use crate::spec::progress::Progress;
use crate::spec::protocol::{Context, Plugin};
use crate::spec::version::Version;
use crate::sriov::{InterfaceRecord, SluicegateVf};
use crate::state;
use crate::state::lock::ContainerLock;

/// Kind of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecordKind {
    /// Of `sluicegate`: the delegates of a pod.
    Pod,
    /// Of `sluicegate-vf`: one interface.
    Interface,
    /// Of `sluicegate-vf`: an interface that the engine has not let go of yet.
    Released,
}

impl RecordKind {
    const ALL: [RecordKind; 3] = [RecordKind::Pod, RecordKind::Interface, RecordKind::Released];

    /// Folder of such records below `cniDir`.
    fn dir(self, cni_dir: &Path) -> PathBuf {
        let pods = cni_dir.join("sluicegate");
        match self {
            RecordKind::Pod => pods,
            RecordKind::Interface => pods.join("vf"),
            RecordKind::Released => pods.join("vf/released"),
        }
    }

    /// Lock that a call on the record's container or interface holds: its folder and name.
    fn lock(self, cni_dir: &Path, container_id: &str, ifname: &str) -> (PathBuf, String) {
        let pods = cni_dir.join("sluicegate");
        match self {
            RecordKind::Pod => (pods.join("locks"), container_id.to_owned()),
            RecordKind::Interface | RecordKind::Released => {
                (pods.join("vf/locks"), format!("{container_id}@{ifname}"))
            }
        }
    }
}

/// Whether the network namespace of a record is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NetnsState {
    /// Namespace is where it was at ADD.
    Alive,
    /// Namespace is not there: the pod has ended, or the machine was started anew.
    Gone,
    /// State cannot be told.
    Unknown,
}

/// Plugin of a delegate in a pod's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecordedPlugin {
    /// `type` of the plugin.
    pub program: String,
    /// Name of its network.
    pub network: String,
    /// Interface in the pod.
    pub ifname: String,
    /// Step that it has reached.
    pub progress: Progress,
    /// Number of its DELs that failed.
    pub failed_dels: u32,
    /// Failure of its last ADD or DEL.
    pub last_error: Option<String>,
}

/// Record as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecordEntry {
    /// Kind of the record.
    pub kind: RecordKind,
    /// `CNI_CONTAINERID`.
    pub container_id: String,
    /// `CNI_IFNAME`.
    pub ifname: String,
    /// `name` of the configuration; empty for a torn record.
    pub network: String,
    /// `namespace/name` of the pod, where the runtime told it.
    pub pod: Option<String>,
    /// File of the record.
    pub path: PathBuf,
    /// Whether ADD came to its end.
    pub complete: bool,
    /// Whether the file is torn and says nothing.
    pub torn: bool,
    /// Whether a call on it runs now.
    pub busy: bool,
    /// Path of the network namespace at ADD.
    pub netns_path: Option<PathBuf>,
    /// Whether that namespace is still there.
    pub netns: NetnsState,
    /// Plugins of its delegates; none for an interface.
    pub plugins: Vec<RecordedPlugin>,
}

/// Record whose DEL was run, and what came of it.
#[derive(Debug)]
pub struct Reaped {
    /// Record as it was before.
    pub record: RecordEntry,
    /// Outcome of its DEL.
    pub outcome: Result<(), Error>,
}

/// Lists the records of both plugins below `cni_dir` (`/var/lib/cni` by default), pods first.
///
/// # Errors
/// [`Error::File`]: a folder is there and cannot be read.
pub fn list(cni_dir: &Path) -> Result<Vec<RecordEntry>, Error> {
    let mut all = Vec::new();
    for kind in RecordKind::ALL {
        for (container_id, ifname) in state::list(&kind.dir(cni_dir))? {
            all.push(read(cni_dir, kind, &container_id, &ifname));
        }
    }
    Ok(all)
}

/// Lists the pods that have more than the primary network by these plugins, each by `namespace/name` or, where the
/// runtime told none, its container id. Only these plugins take such networks away again; a pod whose network
/// namespace is gone does not count.
///
/// # Errors
/// See [`list`].
pub fn live_pods(cni_dir: &Path) -> Result<Vec<String>, Error> {
    let several = |entry: &RecordEntry| {
        let first = entry.plugins.first().map(|plugin| &plugin.ifname);
        let mut others = entry.plugins.iter();
        entry.kind != RecordKind::Pod || others.any(|plugin| Some(&plugin.ifname) != first)
    };
    let mut records = list(cni_dir)?;
    records.retain(|entry| {
        !entry.torn
            && entry.kind != RecordKind::Released
            && entry.netns != NetnsState::Gone
            && several(entry)
    });
    let name = |entry: RecordEntry| entry.pod.unwrap_or(entry.container_id);
    let mut pods: Vec<String> = records.into_iter().map(name).collect();
    pods.sort();
    pods.dedup();
    Ok(pods)
}

/// Drops the records of an interface without running anything: what plugins made for it stays as it is.
/// Returns the files that were removed.
///
/// # Errors
/// [`Error::TryAgain`]: a call on it runs now. [`Error::File`]: a record cannot be removed.
pub fn drop(cni_dir: &Path, container_id: &str, ifname: &str) -> Result<Vec<PathBuf>, Error> {
    let mut removed = Vec::new();
    for kind in RecordKind::ALL {
        let path = kind
            .dir(cni_dir)
            .join(state::file_name(container_id, ifname));
        if !path.exists() {
            continue;
        }
        let (dir, name) = kind.lock(cni_dir, container_id, ifname);
        let lock = ContainerLock::try_take(&dir, &name)?.ok_or_else(|| {
            Error::TryAgain(format!(
                "a call on container {container_id} runs now: try again when it has ended"
            ))
        })?;
        state::remove(&path)?;
        lock.remove();
        removed.push(path);
    }
    Ok(removed)
}

/// Whether the DEL of a record is due: its network namespace is gone, or the engine has not let go of it
/// yet. One with a call on it, or that is torn, is left alone.
pub fn is_due(record: &RecordEntry) -> bool {
    let over = record.kind == RecordKind::Released || record.netns == NetnsState::Gone;
    over && !record.torn && !record.busy
}

/// Runs the DEL of every record for which [`is_due`] holds, as the container runtime would; pods
/// first, since they end their interfaces. A record with a call on it is left alone.
///
/// # Errors
/// [`Error::File`]: the records cannot be listed. What became of each DEL is in the list.
pub fn reap(cni_dir: &Path) -> Result<Vec<Reaped>, Error> {
    let mut reaped = Vec::new();
    for kind in RecordKind::ALL {
        let mut records = list(cni_dir)?;
        records.retain(|record| record.kind == kind && is_due(record));
        for record in records {
            let outcome = del(cni_dir, &record);
            reaped.push(Reaped { record, outcome });
        }
    }
    Ok(reaped)
}

fn read(cni_dir: &Path, kind: RecordKind, container_id: &str, ifname: &str) -> RecordEntry {
    let log = Log::silent();
    let dir = kind.dir(cni_dir);
    let (lock_dir, lock) = kind.lock(cni_dir, container_id, ifname);
    let mut entry = RecordEntry {
        kind,
        container_id: container_id.to_owned(),
        ifname: ifname.to_owned(),
        network: String::new(),
        pod: None,
        path: dir.join(state::file_name(container_id, ifname)),
        complete: false,
        torn: false,
        busy: is_held(&lock_dir.join(lock)),
        netns_path: None,
        netns: NetnsState::Unknown,
        plugins: Vec::new(),
    };
    if kind == RecordKind::Pod {
        if let Ok(Some(mut record)) = PodRecord::load(&dir, container_id, ifname, &log) {
            record.infer_progress();
            entry.plugins = plugins(&record);
            entry.pod = pod(record.args.as_deref());
            entry.network = record.network;
            entry.complete = record.complete;
            entry.netns = netns_state(record.netns_identity.as_ref(), record.netns.as_deref());
            entry.netns_path = record.netns;
            return entry;
        }
    } else if let Ok(Some(record)) = InterfaceRecord::load(&dir, container_id, ifname, &log) {
        entry.pod = pod(record.args.as_deref());
        entry.network = record.network;
        entry.complete = record.complete;
        entry.netns = netns_state(record.netns.as_ref(), None);
        entry.netns_path = record.netns.map(|netns| netns.path);
        return entry;
    }
    entry.torn = true;
    entry
}

/// The pod of a `CNI_ARGS`.
fn pod(args: Option<&str>) -> Option<String> {
    let value = |key: &str| {
        let pairs = args?.split(';').filter_map(|pair| pair.split_once('='));
        let mut named = pairs.filter(|(name, _)| name.trim().eq_ignore_ascii_case(key));
        named.next().map(|(_, value)| value.trim().to_owned())
    };
    Some(format!(
        "{}/{}",
        value("K8S_POD_NAMESPACE")?,
        value("K8S_POD_NAME")?
    ))
}

fn plugins(record: &PodRecord) -> Vec<RecordedPlugin> {
    let of = |delegate: &crate::spec::delegate::Delegate| {
        let states = delegate.states.iter().cloned();
        let named = delegate.programs().zip(states);
        named
            .map(|(program, state)| RecordedPlugin {
                program: program.to_owned(),
                network: delegate.name.clone(),
                ifname: delegate.ifname.clone(),
                progress: state.progress,
                failed_dels: state.failed_dels,
                last_error: state.last_error,
            })
            .collect::<Vec<_>>()
    };
    record.delegates.iter().flat_map(of).collect()
}

fn netns_state(identity: Option<&NetnsIdentity>, path: Option<&Path>) -> NetnsState {
    match (identity, path) {
        (Some(identity), _) => match identity.is_there() {
            Ok(true) => NetnsState::Alive,
            Ok(false) => NetnsState::Gone,
            Err(_) => NetnsState::Unknown,
        },
        (None, Some(path)) if !path.exists() => NetnsState::Gone,
        (None, _) => NetnsState::Unknown,
    }
}

/// Runs the DEL of one record.
///
/// # Errors
/// What failed and is to be tried again.
pub fn del(cni_dir: &Path, entry: &RecordEntry) -> Result<(), Error> {
    let RecordEntry {
        kind,
        container_id,
        ifname,
        ..
    } = entry;
    let dir = kind.dir(cni_dir);
    let log = Log::stderr();
    let mut json = Map::new();
    let path = if *kind == RecordKind::Pod {
        let record = PodRecord::load(&dir, container_id, ifname, &log)?;
        record.map(|record| record.plugin_path)
    } else {
        let record = InterfaceRecord::load(&dir, container_id, ifname, &log)?;
        record.map(|record| {
            json = record.conf;
            record.plugin_path
        })
    };
    let Some(path) = path else {
        return Ok(());
    };
    fields::set(
        &mut json,
        "cniDir",
        cni_dir.to_string_lossy().into_owned().into(),
    );
    let context = Context {
        call: Call {
            command: Command::Del,
            container_id: container_id.clone(),
            netns: None,
            ifname: ifname.clone(),
            args: None,
            path,
            own_netns_allowed: false,
            names_own_netns: false,
            never_added: false,
        },
        conf: NetConf {
            json,
            name: entry.network.clone(),
            version: Version::NEWEST,
        },
        log,
        budget: Budget::of(budget::DEL),
    };
    match kind {
        RecordKind::Pod => multus::del::run(&MetaConf::for_del(&context.conf), &context),
        RecordKind::Interface | RecordKind::Released => SluicegateVf.del(&context),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::spec::delegate::Delegate;
    use crate::spec::progress::PluginState;
    use serde_json::json;

    fn record(dir: &Path, container: &str, netns: &Path) {
        let conf = json!({"type": "not-installed", "name": "n"});
        let mut delegate =
            Delegate::from_conf(conf.as_object().unwrap(), |_| String::new()).unwrap();
        delegate.states = vec![PluginState::from(Progress::Added)];
        let call = Call {
            command: Command::Add,
            container_id: container.to_owned(),
            netns: Some(netns.to_owned()),
            ifname: "eth0".to_owned(),
            args: None,
            path: Vec::new(),
            own_netns_allowed: false,
            names_own_netns: false,
            never_added: false,
        };
        let mut record = PodRecord::new("demo", &call, vec![delegate]);
        record.begun = 1;
        let dir = dir.join("sluicegate");
        state::make_dir(&dir).unwrap();
        record.save(&dir).unwrap();
    }

    #[test]
    fn records_are_listed_dropped_and_reaped() {
        let dir = tempfile::tempdir().unwrap();
        assert!(list(dir.path()).unwrap().is_empty());
        let gone = dir.path().join("netns");
        std::fs::write(&gone, "").unwrap();
        record(dir.path(), "gone", &gone);
        std::fs::remove_file(&gone).unwrap();
        record(dir.path(), "here", Path::new("/proc/self/ns/net"));
        std::fs::write(dir.path().join("sluicegate/torn@eth0.json"), "{").unwrap();
        let all = list(dir.path()).unwrap();
        let seen: Vec<_> = all
            .iter()
            .map(|entry| (entry.container_id.as_str(), entry.netns, entry.torn))
            .collect();
        assert_eq!(
            seen,
            [
                ("gone", NetnsState::Gone, false),
                ("here", NetnsState::Alive, false),
                ("torn", NetnsState::Unknown, true),
            ]
        );
        assert_eq!(all[0].plugins[0].progress, Progress::Added);
        // One network is the primary one, and a torn record says nothing.
        assert!(live_pods(dir.path()).unwrap().is_empty());
        // A plugin that is not installed is given up.
        let reaped = reap(dir.path()).unwrap();
        assert_eq!(reaped.len(), 1);
        assert!(reaped[0].outcome.is_ok(), "{:?}", reaped[0]);
        for container in ["here", "torn"] {
            assert_eq!(drop(dir.path(), container, "eth0").unwrap().len(), 1);
        }
        assert!(drop(dir.path(), "never", "eth0").unwrap().is_empty());
        assert!(list(dir.path()).unwrap().is_empty());
    }
}
