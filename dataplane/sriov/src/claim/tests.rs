// SPDX-License-Identifier: Apache-2.0
//! Claims on a host in memory: what they do, what a crash leaves, who is refused.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::time::{Duration, Instant};

use super::fake::{FakeHost, PF, World, vf};
use super::*;
use crate::settings::{VfSettings, VfVlan};
use crate::{Error, ErrorKind};

fn soon() -> Instant {
    Instant::now() + Duration::from_millis(200)
}

fn owner(container: &str) -> Owner {
    Owner {
        network: "net".to_owned(),
        container_id: container.to_owned(),
        ifname: "net1".to_owned(),
        netns: NetnsRef {
            path: "/run/netns/pod".into(),
            dev: 4,
            ino: 4_026_532_000,
        },
    }
}

fn plan(container: &str, mode: Mode, pick: Pick) -> Plan {
    Plan {
        owner: owner(container),
        mode,
        pf: Some(PF.to_owned()),
        pick,
        settings: VfSettings {
            mac: Some([2, 0, 0, 0, 0x0a, 1]),
            vlan: Some(VfVlan {
                vid: 210,
                qos: 5,
                is_8021ad: false,
            }),
            trust: Some(true),
            ..VfSettings::default()
        },
        driver: "vfio-pci".to_owned(),
        kernel_driver: None,
        allow_unsafe_noiommu: false,
        pod_ifname: "net1".to_owned(),
    }
}

struct Lab {
    dir: tempfile::TempDir,
    host: FakeHost,
    before: World,
}

impl Lab {
    fn new(vfs: usize) -> Lab {
        let dir = tempfile::tempdir().unwrap();
        let host = FakeHost::new(dir.path(), vfs);
        let before = host.snapshot();
        Lab { dir, host, before }
    }

    fn state(&self) -> &Path {
        self.dir.path()
    }

    fn node(&self) -> Node<FakeHost> {
        Node::on(self.host.clone(), self.state())
    }

    fn all_is_as_it_was(&self) {
        assert_eq!(self.host.snapshot(), self.before);
        assert!(self.node().records().unwrap().is_empty());
    }
}

const FREE: Pick = Pick::FirstFree { avoid: Vec::new() };

#[test]
fn each_mode_takes_and_gives_back() {
    for mode in [Mode::Kernel, Mode::Vfio, Mode::Engine] {
        let lab = Lab::new(2);
        let node = lab.node();
        let claimed = node
            .claim(&plan("c1", mode, Pick::Index(1)), soon())
            .unwrap();
        assert_eq!(
            (claimed.record.vf, claimed.record.phase),
            (vf(1), Phase::Held)
        );
        assert_eq!(claimed.warnings, Vec::<String>::new());
        let now = lab.host.snapshot().vfs[&vf(1)].clone();
        assert_eq!(now.settings.vlan.unwrap().vid, 210);
        assert_eq!(now.settings.trust, Some(true));
        if mode == Mode::Kernel {
            let link = now.netdev.unwrap();
            assert_eq!(link.name, "net1");
            assert_eq!(link.netns.as_deref(), Some(Path::new("/run/netns/pod")));
            assert_eq!(
                link.mac,
                [2, 0, 0, 0, 0x0a, 1],
                "the administrative address"
            );
        } else {
            assert_eq!(now.driver.as_deref(), Some("vfio-pci"));
        }
        assert_eq!(node.check("c1", "net1").unwrap(), Vec::<String>::new());
        lab.host.world().vfs.get_mut(&vf(1)).unwrap().clean = false;
        assert_eq!(node.release("c1", "net1", soon()).unwrap(), [vf(1)]);
        lab.all_is_as_it_was();
        assert!(
            node.release("c1", "net1", soon()).unwrap().is_empty(),
            "twice"
        );
    }
}

/// Lets the process die after every change in turn; then whoever comes next puts all right.
#[test]
fn a_crash_at_any_step_is_put_right() {
    for mode in [Mode::Kernel, Mode::Vfio, Mode::Engine] {
        for prebound in [false, true] {
            let mut steps = 0;
            loop {
                let mut lab = Lab::new(1);
                if prebound {
                    let mut world = lab.host.world();
                    let vf = world.vfs.get_mut(&vf(0)).unwrap();
                    vf.driver = Some("vfio-pci".to_owned());
                    vf.driver_override = Some("vfio-pci".to_owned());
                    vf.netdev = None;
                    drop(world);
                    lab.before = lab.host.snapshot();
                }
                let node = Node::on(CrashAfter::new(lab.host.clone(), steps), lab.state());
                let plan = plan("c1", mode, Pick::Index(0));
                let whole =
                    node.claim(&plan, soon()).is_ok() && node.release("c1", "net1", soon()).is_ok();
                // By turns what DEL does and what the engine's start does.
                if steps % 2 == 0 {
                    lab.node().release("c1", "net1", soon()).unwrap();
                } else {
                    lab.node().recover(|_| false, soon()).unwrap();
                }
                lab.all_is_as_it_was();
                if whole {
                    assert!(
                        node.host().left() <= 1,
                        "{mode:?}: a change more than there are"
                    );
                    break;
                }
                steps += 1;
                assert!(steps < 100, "{mode:?} never completes");
            }
            assert!(steps > 5, "{mode:?} was done in {steps} steps");
        }
    }
}

/// As above, but the process that puts right dies too, after every change in turn.
#[test]
fn a_crash_while_putting_right_is_put_right() {
    for first in 0..16 {
        for second in 0..16 {
            let lab = Lab::new(1);
            let node = Node::on(CrashAfter::new(lab.host.clone(), first), lab.state());
            let _ = node.claim(&plan("c1", Mode::Kernel, Pick::Index(0)), soon());
            let node = Node::on(CrashAfter::new(lab.host.clone(), second), lab.state());
            let _ = node.release("c1", "net1", soon());
            lab.node().release("c1", "net1", soon()).unwrap();
            lab.all_is_as_it_was();
        }
    }
}

#[test]
fn a_setting_that_the_pf_refuses_undoes_everything() {
    let lab = Lab::new(1);
    lab.host.world().refuses.insert("trust");
    let before = lab.host.snapshot();
    let error = lab
        .node()
        .claim(&plan("c1", Mode::Vfio, Pick::Index(0)), soon())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("trust on"), "{error}");
    assert_eq!(lab.host.snapshot(), before);
    assert!(lab.node().records().unwrap().is_empty());
}

#[test]
fn a_vf_that_is_held_is_refused_naming_the_holder() {
    let lab = Lab::new(1);
    let node = lab.node();
    node.claim(&plan("older", Mode::Vfio, Pick::Index(0)), soon())
        .unwrap();
    for pick in [Pick::Index(0), Pick::Address(vf(0)), FREE] {
        let error = node
            .claim(&plan("newer", Mode::Vfio, pick), soon())
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Busy);
        assert!(error.to_string().contains("container older"), "{error}");
    }
    node.release("older", "net1", soon()).unwrap();
    node.claim(&plan("newer", Mode::Vfio, FREE), soon())
        .unwrap();
    let held = lab.host.snapshot();
    assert!(node.release("older", "net1", soon()).unwrap().is_empty());
    assert_eq!(
        lab.host.snapshot(),
        held,
        "a late release changed something"
    );
    node.release("newer", "net1", soon()).unwrap();
    lab.all_is_as_it_was();
}

#[test]
fn the_first_free_one_is_nobodys() {
    let lab = Lab::new(6);
    {
        let mut world = lab.host.world();
        world
            .vfs
            .get_mut(&vf(0))
            .unwrap()
            .netdev
            .as_mut()
            .unwrap()
            .up = true;
        let other = world.vfs.get_mut(&vf(1)).unwrap();
        (other.driver, other.netdev) = (Some("vfio-pci".to_owned()), None);
        let elsewhere = world.vfs.get_mut(&vf(2)).unwrap();
        elsewhere.netdev.as_mut().unwrap().netns = Some("/run/netns/other".into());
    }
    let node = lab.node();
    let pick = Pick::FirstFree { avoid: vec![vf(3)] };
    let claimed = node
        .claim(&plan("c1", Mode::Vfio, pick.clone()), soon())
        .unwrap();
    assert_eq!(claimed.record.vf, vf(4));
    std::fs::write(lab.state().join(format!("vfs/{}.json", vf(5))), "{\"vf\": ").unwrap();
    let error = node
        .claim(&plan("c2", Mode::Vfio, pick), soon())
        .unwrap_err();
    let text = error.to_string();
    assert_eq!(error.kind(), ErrorKind::Busy);
    for said in [
        "in use on the node",
        "with vfio-pci",
        "another namespace",
        "device plugin",
        "container c1",
        "torn record",
    ] {
        assert!(text.contains(said), "{said} is not in: {text}");
    }
    let error = node
        .claim(&plan("c2", Mode::Vfio, Pick::Index(5)), soon())
        .unwrap_err();
    assert!(matches!(error, Error::TornRecord { .. }), "{error}");
    assert!(
        node.recover(|_| true, soon()).is_err(),
        "a torn record is reported"
    );
}

#[test]
fn twenty_at_once_over_seven() {
    let lab = Lab::new(7);
    let deadline = Instant::now() + Duration::from_secs(20);
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..20)
            .map(|number| {
                let node = lab.node();
                scope.spawn(move || {
                    let plan = plan(&format!("c{number}"), Mode::Kernel, FREE);
                    node.claim(&plan, deadline)
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let mut given: Vec<_> = results
        .iter()
        .flatten()
        .map(|claimed| claimed.record.vf)
        .collect();
    given.sort_unstable();
    assert_eq!(given, (0..7).map(vf).collect::<Vec<_>>());
    let refused = results.iter().filter_map(|result| result.as_ref().err());
    assert_eq!(
        refused
            .filter(|error| error.kind() == ErrorKind::Busy)
            .count(),
        13
    );
    for number in 0..20 {
        lab.node()
            .release(&format!("c{number}"), "net1", deadline)
            .unwrap();
    }
    lab.all_is_as_it_was();
}

#[test]
fn a_vf_that_is_open_is_left_alone_until_it_is_closed() {
    let lab = Lab::new(1);
    let node = lab.node();
    node.claim(&plan("c1", Mode::Engine, Pick::Index(0)), soon())
        .unwrap();
    lab.host.world().vfs.get_mut(&vf(0)).unwrap().held = Some("sluiced (pid 17)".to_owned());
    let held = lab.host.snapshot();
    let error = node.release("c1", "net1", soon()).unwrap_err();
    assert!(matches!(&error, Error::Busy { holder, .. } if holder.contains("sluiced")));
    assert_eq!(lab.host.snapshot(), held);
    node.mark_released("c1", "net1", soon()).unwrap();
    let error = node
        .claim(&plan("c2", Mode::Vfio, Pick::Index(0)), soon())
        .unwrap_err();
    assert!(
        error.to_string().contains("until it has been put back"),
        "{error}"
    );
    assert!(node.recover(|_| true, soon()).is_err(), "it is still open");
    lab.host.world().vfs.get_mut(&vf(0)).unwrap().held = None;
    assert_eq!(node.recover(|_| true, soon()).unwrap().len(), 1);
    lab.all_is_as_it_was();
}

#[test]
fn another_boots_record_and_another_nics_are_only_removed() {
    for rebooted in [true, false] {
        let mut lab = Lab::new(1);
        let node = lab.node();
        node.claim(&plan("c1", Mode::Kernel, Pick::Index(0)), soon())
            .unwrap();
        if rebooted {
            lab.host.world().boot_id = "boot-2".to_owned();
        } else {
            lab.host.world().vfs.get_mut(&vf(0)).unwrap().id = 0x1520;
        }
        lab.before = lab.host.snapshot();
        node.recover(|_| !rebooted, soon()).unwrap();
        if !rebooted {
            node.release("c1", "net1", soon()).unwrap();
        }
        lab.all_is_as_it_was();
    }
}

#[test]
fn what_cannot_be_is_said_before_anything_is_changed() {
    let lab = Lab::new(1);
    let node = lab.node();
    let refused = |plan: &Plan| node.claim(plan, soon()).unwrap_err().to_string();
    let mut other = plan("c1", Mode::Vfio, Pick::Index(9));
    assert!(refused(&other).contains("has no VF 9"));
    other.pf = Some("eth9".to_owned());
    assert!(refused(&other).contains("eth9"));
    let mut fallback = plan("c1", Mode::Vfio, Pick::Index(0));
    fallback.driver = "igb_uio".to_owned();
    fallback.kernel_driver = Some("ixgbevf".to_owned());
    lab.host.world().pf_up = false;
    assert!(refused(&fallback).contains("ip link set enp1s0 up"));
    lab.host.world().pf_up = true;
    let warnings = node.claim(&fallback, soon()).unwrap().warnings.join("\n");
    assert!(warnings.contains("igb_uio is not loaded"), "{warnings}");
    assert!(
        warnings.contains("ixgbevf") && warnings.contains("igbvf"),
        "{warnings}"
    );
    node.release("c1", "net1", soon()).unwrap();
    lab.host.world().drivers.remove("vfio-pci");
    assert!(refused(&fallback).contains("modprobe vfio-pci"));
    lab.host.world().drivers.insert("vfio-pci".to_owned());
    lab.all_is_as_it_was();
}

#[test]
fn without_an_iommu_only_who_asks_for_that_gets_a_vf_of_its_own() {
    let lab = Lab::new(1);
    let node = lab.node();
    let mut trusting = plan("c1", Mode::Vfio, Pick::Index(0));
    trusting.allow_unsafe_noiommu = true;
    let refused = |plan: &Plan| node.claim(plan, soon()).unwrap_err().to_string();
    lab.host.world().iommu = Iommu::Off;
    assert!(refused(&plan("c1", Mode::Vfio, Pick::Index(0))).contains("intel_iommu=on"));
    assert!(refused(&trusting).contains("enable_unsafe_noiommu_mode"));
    lab.host.world().iommu = Iommu::OffAndAllowed;
    assert!(refused(&plan("c1", Mode::Vfio, Pick::Index(0))).contains("allowUnsafeNoIommu"));
    let mut engine = plan("c1", Mode::Engine, Pick::Index(0));
    engine.allow_unsafe_noiommu = true;
    assert!(refused(&engine).contains("all memory"));
    let warnings = node.claim(&trusting, soon()).unwrap().warnings.join("\n");
    assert!(warnings.contains("all memory"), "{warnings}");
    node.release("c1", "net1", soon()).unwrap();
    lab.host.world().iommu = Iommu::Translates;
    lab.all_is_as_it_was();
}

#[test]
fn what_another_plugin_took_is_given_back_as_it_wrote_it_down() {
    let lab = Lab::new(2);
    let node = lab.node();
    // The other plugin's ADD, which left no record here.
    node.claim(&plan("old", Mode::Kernel, Pick::Index(1)), soon())
        .unwrap();
    let Entry::Whole(record) = node.journal.read(vf(1)).unwrap() else {
        panic!("no record");
    };
    node.host.apply(&Change::Forget(vf(1))).unwrap();
    let foreign = || Foreign {
        owner: owner("old"),
        vf: vf(1),
        mode: Mode::Kernel,
        driver: None,
        netdev: record.netdev.clone(),
        before: record.before.clone(),
        asked: record.asked.clone(),
    };
    assert!(node.adopt(foreign(), soon()).unwrap());
    assert!(!node.adopt(foreign(), soon()).unwrap(), "on record by now");
    node.release("old", "net1", soon()).unwrap();
    lab.all_is_as_it_was();
    // A late DEL of one that was given out anew changes nothing.
    node.claim(&plan("new", Mode::Vfio, Pick::Index(1)), soon())
        .unwrap();
    assert!(!node.adopt(foreign(), soon()).unwrap());
    assert!(node.release("old", "net1", soon()).unwrap().is_empty());
    assert_eq!(node.of("new", "net1").unwrap(), [vf(1)]);
    node.release("new", "net1", soon()).unwrap();
    lab.all_is_as_it_was();
}

#[test]
fn drift_is_named() {
    let lab = Lab::new(1);
    let node = lab.node();
    node.claim(&plan("c1", Mode::Engine, Pick::Index(0)), soon())
        .unwrap();
    {
        let mut world = lab.host.world();
        let vf = world.vfs.get_mut(&vf(0)).unwrap();
        vf.settings.vlan = Some(VfVlan::default());
        vf.driver = None;
    }
    let found = node.check("c1", "net1").unwrap().join("; ");
    assert!(
        found.contains("vlan 210") && found.contains("no driver"),
        "{found}"
    );
    assert!(!node.check("c2", "net1").unwrap().is_empty());
}

/// Journal files as version 0.1.0 wrote them, one per mode: the format on disk must not change.
#[test]
fn records_of_the_first_version_are_read_and_written_unchanged() {
    let fixtures = [
        (
            include_str!("fixtures/kernel.json"),
            Mode::Kernel,
            Phase::Held,
        ),
        (
            include_str!("fixtures/vfio.json"),
            Mode::Vfio,
            Phase::Released,
        ),
        (
            include_str!("fixtures/engine.json"),
            Mode::Engine,
            Phase::Held,
        ),
    ];
    for (text, mode, phase) in fixtures {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(format!("vfs/{}.json", vf(1)));
        std::fs::create_dir(dir.path().join("vfs")).unwrap();
        std::fs::write(&path, text).unwrap();
        let journal = Journal::below(dir.path());
        let Entry::Whole(record) = journal.read(vf(1)).unwrap() else {
            panic!("{mode:?}: not read");
        };
        assert_eq!((record.vf, record.mode, record.phase), (vf(1), mode, phase));
        assert_eq!(record.owner, owner("c1"));
        assert_eq!(record.identity.index, 1);
        assert_eq!(record.driver.as_deref(), Some("igbvf"));
        assert_eq!(record.asked.vlan.unwrap().vid, 210);
        assert_eq!(record.before.mac, Some([0; 6]));
        journal.remove(vf(1)).unwrap();
        journal.write(&record).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "{mode:?}");
    }
}

#[test]
fn a_record_of_the_first_version_is_enough_to_give_the_vf_back() {
    let lab = Lab::new(2);
    let node = lab.node();
    node.claim(&plan("c1", Mode::Kernel, Pick::Index(1)), soon())
        .unwrap();
    let path = lab.state().join(format!("vfs/{}.json", vf(1)));
    std::fs::write(path, include_str!("fixtures/kernel.json")).unwrap();
    assert_eq!(lab.node().release("c1", "net1", soon()).unwrap(), [vf(1)]);
    lab.all_is_as_it_was();
}

/// The PF's driver takes all VFs away and makes them anew.
fn remade(lab: &Lab, count: u32) {
    for count in [0, count] {
        lab.host
            .apply(&Change::NumVfs(super::fake::pf(), count))
            .unwrap();
    }
}

#[test]
fn a_vf_that_was_away_is_taken_again_as_it_was() {
    let lab = Lab::new(2);
    let node = lab.node();
    node.claim(&plan("c1", Mode::Engine, Pick::Index(1)), soon())
        .unwrap();
    let held = lab.host.snapshot().vfs[&vf(1)].clone();
    remade(&lab, 2);
    assert_ne!(lab.host.snapshot().vfs[&vf(1)], held);
    node.take_again(vf(1), soon()).unwrap();
    assert_eq!(lab.host.snapshot().vfs[&vf(1)], held);
    // Once more changes nothing, and DEL gives it back as if it had never been away.
    node.take_again(vf(1), soon()).unwrap();
    assert_eq!(lab.host.snapshot().vfs[&vf(1)], held);
    node.release("c1", "net1", soon()).unwrap();
    lab.all_is_as_it_was();
}

#[test]
fn a_vf_that_is_not_its_owners_is_not_taken_again() {
    let lab = Lab::new(2);
    let node = lab.node();
    node.claim(&plan("c1", Mode::Engine, Pick::Index(1)), soon())
        .unwrap();
    remade(&lab, 1);
    let error = node.take_again(vf(1), soon()).unwrap_err();
    assert!(matches!(error, Error::NoDevice { .. }), "{error}");
    // Another NIC at the address.
    remade(&lab, 2);
    lab.host.world().vfs.get_mut(&vf(1)).unwrap().id = 0x1520;
    let error = node.take_again(vf(1), soon()).unwrap_err();
    assert!(matches!(error, Error::NotTheSame { .. }), "{error}");
    lab.host.world().vfs.get_mut(&vf(1)).unwrap().id = 0x10ca;
    // A program has it open.
    let before = {
        let mut world = lab.host.world();
        let vf = world.vfs.get_mut(&vf(1)).unwrap();
        vf.driver = Some("vfio-pci".to_owned());
        vf.held = Some("testpmd (pid 9)".to_owned());
        world.clone()
    };
    let error = node.take_again(vf(1), soon()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    assert_eq!(*lab.host.world(), before);
    // Its owner is gone.
    lab.host.world().vfs.get_mut(&vf(1)).unwrap().held = None;
    node.mark_released("c1", "net1", soon()).unwrap();
    let error = node.take_again(vf(1), soon()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    // Nobody's.
    node.take_again(vf(0), soon()).unwrap();
}

#[test]
fn taking_again_that_dies_anywhere_can_be_repeated() {
    for changes in 0.. {
        let lab = Lab::new(1);
        let node = lab.node();
        node.claim(&plan("c1", Mode::Engine, Pick::Index(0)), soon())
            .unwrap();
        let held = lab.host.snapshot().vfs[&vf(0)].clone();
        remade(&lab, 1);
        let dying = Node::on(CrashAfter::new(lab.host.clone(), changes), lab.state());
        let whole = dying.take_again(vf(0), soon()).is_ok();
        node.take_again(vf(0), soon()).unwrap();
        assert_eq!(lab.host.snapshot().vfs[&vf(0)], held, "after {changes}");
        if whole {
            break;
        }
    }
}
