// SPDX-License-Identifier: Apache-2.0
//! DEL of every reference plugin, over where its ADD came to and what is left of the pod and the node: it answers 0,
//! what can be released is, and GC has nothing to say afterwards.
//!
//! The plugins run behind scripts (`Host::fake_plugin`) that make an ADD fail where the case wants it to. Every
//! combination is run: 13 plugins, 5 stages, 6 remainders.

mod plugins;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluice_tests::{Netns, skip};

use self::plugins::{OF_KERNEL, PLUGINS, chain, real};
use crate::cni_rig::calls::{NONE, lead_elsewhere};
use crate::cni_rig::disk::SmallDisk;
use crate::cni_rig::{Answer, Host, has_link};

/// Number of DELs after which one has answered 0 at the latest: the limit in docs/coming-from-multus.md.
const MOST_DELS: usize = 10;

/// Point that the ADD of the plugin came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// An earlier delegate failed.
    NeverRan,
    /// Plugin refused its configuration.
    Refused,
    /// Plugin did its work and failed then.
    HalfWay,
    /// The call was killed while it ran.
    Killed,
    /// ADD succeeded.
    Succeeded,
}

/// Remainder when DEL comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    Everything,
    /// The network namespace is gone.
    NoNetns,
    /// Path leads to another pod's namespace.
    OtherNetns,
    /// Path is an empty plain file.
    PlainFile,
    /// The disk with the records is full.
    FullDisk,
    /// The plugin is not installed any more.
    NoPlugin,
}

const STAGES: [Stage; 5] = [
    Stage::NeverRan,
    Stage::Refused,
    Stage::HalfWay,
    Stage::Killed,
    Stage::Succeeded,
];
const LEFT: [Left; 6] = [
    Left::Everything,
    Left::NoNetns,
    Left::OtherNetns,
    Left::PlainFile,
    Left::FullDisk,
    Left::NoPlugin,
];

/// Host of its own for one plugin.
struct Bench<'a> {
    /// Folder of records on a file system of its own, which can be filled. Goes before the host's folder.
    disk: SmallDisk,
    host: Host,
    plugin: &'a str,
    subnet: String,
    /// Whether this kernel lacks what the plugin is about, so that its ADD fails.
    lacks_kernel: bool,
}

impl Bench<'_> {
    fn new<'a>(plugin: &'a str, number: usize) -> Option<Bench<'a>> {
        let host = Host::new(&format!("matrix_{plugin}"))?;
        for name in ["ptp", plugin] {
            host.noted(name);
            host.on(name, "DEL", &format!("{}; exit $?", real(name)));
        }
        host.fake_plugin("first", &json!({"cniVersion": "1.0.0"}));
        host.netns
            .ip(&["link", "add", "m0", "type", "bridge"])
            .unwrap();
        host.netns.ip(&["link", "set", "m0", "up"]).unwrap();
        let disk = SmallDisk::mount(&host.dir().join("disk"), "256k");
        let mut bench = Bench {
            host,
            plugin,
            subnet: format!("10.{}.0.0/16", 100 + number),
            disk,
            lacks_kernel: false,
        };
        bench.lacks_kernel = OF_KERNEL.contains(&plugin) && bench.probe();
        Some(bench)
    }

    /// Tries whether the plugin's ADD works on this kernel, and reports the skip of what needs one that succeeded.
    fn probe(&self) -> bool {
        let pod = Netns::new("pod").unwrap();
        let conf = self.conf(Stage::Succeeded, "");
        self.host.on(
            self.plugin,
            "ADD",
            &format!("{}; exit $?", real(self.plugin)),
        );
        let added = self.call("ADD", "probe", &pod.path(), &conf);
        self.call("DEL", "probe", &pod.path(), &conf).ok();
        if added.code == Some(0) {
            return false;
        }
        let reason = format!(
            "this kernel lacks what {} needs: {}",
            self.plugin,
            added.stdout.trim()
        );
        skip(
            &format!("del_of_{}_after_an_add_that_succeeded", self.plugin),
            &reason,
        );
        true
    }

    fn conf(&self, stage: Stage, device: &str) -> Value {
        let mut plugins = chain(&self.host, self.plugin, &self.subnet, device);
        if stage == Stage::Refused
            && let Some(last) = plugins.as_array_mut().and_then(|list| list.last_mut())
        {
            // Of the wrong kind for every plugin that embeds the common part.
            last["dns"] = "none".into();
        }
        let delegate = json!({"cniVersion": "1.0.0", "name": "net", "plugins": plugins});
        let mut conf = self.host.meta("1.1.0", json!([delegate]));
        if stage == Stage::NeverRan {
            let first = json!({"type": "first", "cniVersion": "1.0.0"});
            conf["delegates"] = json!([first, delegate]);
        }
        conf["cniDir"] = json!(self.disk.dir());
        conf["binDir"] = json!(self.host.dir().join("none"));
        conf
    }

    fn call(&self, command: &str, container: &str, netns: &Path, conf: &Value) -> Answer {
        self.host
            .pod_call("sluicegate", command, container, None, "eth0")
            .env("CNI_NETNS", &netns.display().to_string())
            .conf(conf)
            .run()
    }

    /// Runs one case and returns the number of DELs that it took.
    fn case(&self, number: usize, stage: Stage, left: Left) -> usize {
        let told = format!("{} {stage:?} {left:?}", self.plugin);
        let Bench { host, plugin, .. } = self;
        let device = format!("hd{number}");
        let real = real(plugin);
        let fails = r#"printf '{"code": 999, "msg": "half-way"}'; exit 1"#;
        match stage {
            Stage::NeverRan => host.on("first", "ADD", fails),
            Stage::HalfWay => host.on(plugin, "ADD", &format!("{real} >/dev/null; {fails}")),
            Stage::Killed => host.on(plugin, "ADD", &format!("{real} >/dev/null; kill -9 $PPID")),
            Stage::Refused | Stage::Succeeded => {
                host.on(plugin, "ADD", &format!("{real}; exit $?"))
            }
        }
        if *plugin == "host-device" {
            let peer = format!("peer{number}");
            let make = [
                "link", "add", &device, "type", "veth", "peer", "name", &peer,
            ];
            host.netns.ip(&make).unwrap();
        }
        let conf = self.conf(stage, &device);
        let container = format!("c{number}");
        let mut pod = Some(Netns::new("pod").unwrap());
        let path = pod.as_ref().unwrap().path();
        let added = self.call("ADD", &container, &path, &conf);
        assert_eq!(
            added.code == Some(0),
            stage == Stage::Succeeded && !self.lacks_kernel,
            "{told}: {added:?}"
        );

        let mut other = None;
        let mut bin = None;
        match left {
            Left::Everything => {}
            Left::NoNetns => drop(pod.take()),
            Left::OtherNetns | Left::PlainFile => {
                other = (left == Left::OtherNetns).then(|| {
                    let netns = Netns::new("other").unwrap();
                    let eth0 = ["link", "add", "eth0", "type", "bridge"];
                    netns.ip(&eth0).unwrap();
                    netns
                });
                if let Some(pod) = &pod {
                    lead_elsewhere(pod, other.as_ref());
                }
            }
            Left::FullDisk => self.disk.fill(),
            Left::NoPlugin => {
                let there = host.bin_dir().join(plugin);
                let away = host.dir().join("away");
                fs::rename(&there, &away).unwrap();
                bin = Some((away, there));
            }
        }
        let mut dels = 0;
        loop {
            dels += 1;
            let start = Instant::now();
            let answer = self.call("DEL", &container, &path, &conf);
            assert!(start.elapsed() < Duration::from_secs(25), "{told}");
            if answer.code == Some(0) {
                break;
            }
            assert!(dels < MOST_DELS, "{told}: {answer:?}");
        }
        // An ADD that failed has been undone and left no record, so no identity either.
        if let Some(other) = other.filter(|_| added.code == Some(0)) {
            assert!(has_link(&other, "eth0"), "{told}: another pod's interface");
        }
        self.disk.empty();
        if let Some((away, there)) = bin {
            fs::rename(away, there).unwrap();
        }

        let mut gc = conf.clone();
        gc["cni.dev/valid-attachments"] = json!([]);
        let answer = host.call("sluicegate", "GC").conf(&gc).run();
        answer.ok();
        assert!(!answer.stderr.contains("[error]"), "{told}: {answer:?}");
        let records: Vec<_> = crate::cni_rig::files_below(self.disk.dir());
        assert!(records.is_empty(), "{told}: {records:?}");
        // An address is given back by the plugin that had it, or for it where the namespace is gone.
        if left != Left::NoPlugin {
            assert_eq!(host.reserved(), NONE, "{told}");
        } else {
            let _ = fs::remove_dir_all(host.dir().join("ipam"));
        }
        dels
    }
}

#[test]
fn del_ends_wherever_add_came_to_and_whatever_is_left() {
    let ran = AtomicUsize::new(0);
    let run_all = |(number, plugin): (usize, &'static str)| {
        let Some(bench) = Bench::new(plugin, number) else {
            return;
        };
        let pairs = STAGES
            .into_iter()
            .flat_map(|stage| LEFT.map(|left| (stage, left)));
        for (case, (stage, left)) in pairs.enumerate() {
            let dels = bench.case(case, stage, left);
            ran.fetch_add(1, Ordering::Relaxed);
            if dels > 1 {
                eprintln!("{plugin} {stage:?} {left:?}: {dels} DELs");
            }
        }
    };
    // A plugin a thread: more than cores, since they wait for processes most of the time.
    std::thread::scope(|scope| {
        for numbered in PLUGINS.into_iter().enumerate() {
            let run_all = &run_all;
            scope.spawn(move || run_all(numbered));
        }
    });
    let ran = ran.into_inner();
    assert!(
        ran == 0 || ran == PLUGINS.len() * STAGES.len() * LEFT.len(),
        "{ran} cases"
    );
}
