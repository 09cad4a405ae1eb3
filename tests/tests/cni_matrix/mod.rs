// SPDX-License-Identifier: Apache-2.0
//! DEL of every reference plugin, over where its ADD came to and what is left of the pod and the node: it answers 0,
//! what can be released is, and GC has nothing to say afterwards.
//!
//! The plugins run behind scripts (`Host::fake_plugin`) that make an ADD fail where the case wants it to. Each
//! plugin meets every stage and everything that may be left; the pairs of the two rotate.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluice_tests::{Netns, run};

use crate::cni_rig::{Answer, Host, has_link};

/// Folder of the reference plugins.
const REFERENCE: &str = "/usr/lib/cni";
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

/// Reference plugins, each with the chain that it is the last of.
fn chain(host: &Host, plugin: &str, subnet: &str, device: &str) -> Value {
    let ipam = host.host_local(subnet);
    let alone = |mut conf: Value| {
        conf["type"] = plugin.into();
        json!([conf])
    };
    let behind_ptp = |conf: Value| {
        let mut chain = json!([{"type": "ptp", "ipam": ipam}, conf]);
        chain[1]["type"] = plugin.into();
        chain
    };
    match plugin {
        "bridge" => {
            alone(json!({"bridge": "br0", "isGateway": true, "ipMasq": true, "ipam": ipam}))
        }
        "ptp" => alone(json!({"ipMasq": true, "ipam": ipam})),
        "macvlan" | "ipvlan" => alone(json!({"master": "m0", "ipam": ipam})),
        "vlan" => alone(json!({"master": "m0", "vlanId": 210, "ipam": ipam})),
        "host-device" => alone(json!({"device": device, "ipam": ipam})),
        "loopback" => alone(json!({})),
        "portmap" => behind_ptp(json!({"capabilities": {"portMappings": true}, "snat": true,
            "runtimeConfig": {"portMappings":
                [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}})),
        "bandwidth" => behind_ptp(json!({"ingressRate": 1_000_000, "ingressBurst": 1_000_000,
            "egressRate": 1_000_000, "egressBurst": 1_000_000})),
        "tuning" => behind_ptp(json!({"sysctl": {"net.ipv4.conf.IFNAME.forwarding": "1"}})),
        "vrf" => behind_ptp(json!({"vrfname": "blue"})),
        _ => behind_ptp(json!({})),
    }
}

/// Shell that runs a reference plugin with programs such as iptables in its reach.
fn real(plugin: &str) -> String {
    format!("printf '%s' \"$conf\" | /usr/bin/env PATH=$PATH {REFERENCE}/{plugin}")
}

/// Host of its own for one plugin.
struct Bench<'a> {
    host: Host,
    plugin: &'a str,
    subnet: String,
    /// Folder of records on a file system of its own, which can be filled.
    disk: std::path::PathBuf,
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
        let disk = host.dir().join("disk");
        fs::create_dir(&disk).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"]);
        run(mount.arg(&disk)).unwrap();
        Some(Bench {
            host,
            plugin,
            subnet: format!("10.{}.0.0/16", 100 + number),
            disk,
        })
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
        conf["cniDir"] = json!(self.disk);
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
            stage == Stage::Succeeded && !self.lacks_kernel(&added),
            "{told}: {added:?}"
        );

        let other = Netns::new("other").unwrap();
        let mut bin = None;
        match left {
            Left::Everything => {}
            Left::NoNetns => drop(pod.take()),
            Left::OtherNetns | Left::PlainFile => {
                run(Command::new("umount").arg(&path)).unwrap();
                if left == Left::OtherNetns {
                    other
                        .ip(&["link", "add", "eth0", "type", "bridge"])
                        .unwrap();
                    run(Command::new("mount")
                        .arg("--bind")
                        .arg(other.path())
                        .arg(&path))
                    .unwrap();
                }
            }
            Left::FullDisk => {
                let zeros = vec![0u8; 1 << 20];
                let _ = fs::write(self.disk.join("ballast"), zeros);
            }
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
        if left == Left::OtherNetns && added.code == Some(0) {
            assert!(has_link(&other, "eth0"), "{told}: another pod's interface");
        }
        let _ = fs::remove_file(self.disk.join("ballast"));
        if let Some((away, there)) = bin {
            fs::rename(away, there).unwrap();
        }

        let mut gc = conf.clone();
        gc["cni.dev/valid-attachments"] = json!([]);
        let answer = host.call("sluicegate", "GC").conf(&gc).run();
        answer.ok();
        assert!(!answer.stderr.contains("[error]"), "{told}: {answer:?}");
        let records: Vec<_> = crate::cni_rig::files_below(&self.disk);
        assert!(records.is_empty(), "{told}: {records:?}");
        // An address is given back by whoever had it, if that plugin is there and does so: host-device 1.1 returns
        // before it where the namespace is gone.
        let gone = matches!(left, Left::NoNetns | Left::OtherNetns | Left::PlainFile);
        if left != Left::NoPlugin && !(gone && *plugin == "host-device") {
            assert_eq!(host.reserved(), Vec::<String>::new(), "{told}");
        } else {
            let _ = fs::remove_dir_all(host.dir().join("ipam"));
        }
        dels
    }

    /// Whether an ADD failed since this kernel lacks what the plugin is about.
    fn lacks_kernel(&self, added: &Answer) -> bool {
        let of_kernel = [
            "bandwidth",
            "vrf",
            "ipvlan",
            "macvlan",
            "vlan",
            "firewall",
            "portmap",
        ];
        added.code != Some(0) && of_kernel.contains(&self.plugin)
    }
}

impl Drop for Bench<'_> {
    fn drop(&mut self) {
        let _ = run(Command::new("umount").arg(&self.disk));
    }
}

#[test]
fn del_ends_wherever_add_came_to_and_whatever_is_left() {
    let plugins = [
        "bridge",
        "ptp",
        "macvlan",
        "ipvlan",
        "vlan",
        "host-device",
        "loopback",
        "tuning",
        "portmap",
        "firewall",
        "bandwidth",
        "sbr",
        "vrf",
    ];
    std::thread::scope(|scope| {
        for (index, plugin) in plugins.into_iter().enumerate() {
            scope.spawn(move || {
                let Some(bench) = Bench::new(plugin, index) else {
                    return;
                };
                for (at, stage) in STAGES.into_iter().enumerate() {
                    for turn in [0, 3] {
                        let left = LEFT[(index + at + turn) % LEFT.len()];
                        let dels = bench.case(at * LEFT.len() + turn, stage, left);
                        if dels > 1 {
                            eprintln!("{plugin} {stage:?} {left:?}: {dels} DELs");
                        }
                    }
                }
            });
        }
    });
}
