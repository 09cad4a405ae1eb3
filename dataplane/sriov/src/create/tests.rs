// SPDX-License-Identifier: Apache-2.0
//! VFs made on a host in memory: how many, by which way, and who keeps them from being taken away.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::time::{Duration, Instant};

use super::*;
use crate::ErrorKind;
use crate::claim::fake::{FakeHost, PF, pf, vf};
use crate::claim::{Mode, NetnsRef, Owner, Pick, Plan};
use crate::settings::VfSettings;

struct Lab {
    dir: tempfile::TempDir,
    host: FakeHost,
}

impl Lab {
    fn new(vfs: usize) -> Lab {
        let dir = tempfile::tempdir().unwrap();
        let host = FakeHost::new(dir.path(), vfs);
        Lab { dir, host }
    }

    fn node(&self) -> Node<FakeHost> {
        Node::on(self.host.clone(), self.dir.path())
    }

    fn create(&self, count: u32) -> Result<Created, Error> {
        self.node().create(&asked(count), &around(&[]))
    }

    /// Error of a creation of three VFs; nothing was changed.
    fn refused(&self, given_out: &[PciAddr]) -> String {
        let before = self.host.snapshot();
        let error = self
            .node()
            .create(&asked(3), &around(given_out))
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
        assert_eq!(self.host.snapshot(), before);
        error.to_string()
    }
}

fn asked(count: u32) -> VfCount {
    VfCount {
        pf: PfName::Netdev(PF.to_owned()),
        count,
        autoprobe: None,
    }
}

fn around(given_out: &[PciAddr]) -> Circumstances<'_> {
    Circumstances {
        given_out,
        dry_run: false,
        appears_by: Instant::now() + Duration::from_millis(50),
        netdevs_within: Duration::from_millis(50),
    }
}

fn plan(mode: Mode) -> Plan {
    Plan {
        owner: Owner {
            network: "net".to_owned(),
            container_id: "c0ffee".to_owned(),
            ifname: "net1".to_owned(),
            netns: NetnsRef {
                path: "/run/netns/pod".into(),
                dev: 4,
                ino: 5,
            },
        },
        mode,
        pf: Some(PF.to_owned()),
        pick: Pick::Index(1),
        settings: VfSettings::default(),
        driver: "vfio-pci".to_owned(),
        kernel_driver: None,
        allow_unsafe_noiommu: false,
        pod_ifname: "net1".to_owned(),
    }
}

#[test]
fn a_pf_gets_the_number_asked_for_and_keeps_it() {
    let lab = Lab::new(0);
    let made = lab.create(2).unwrap();
    assert_eq!(
        (made.outcome, made.before, made.count),
        (Outcome::Created, 0, 2)
    );
    assert_eq!(made.vfs, [vf(0), vf(1)]);
    assert_eq!((made.pf, made.netdev.as_deref()), (pf(), Some(PF)));
    assert!(made.warnings.is_empty(), "{:?}", made.warnings);
    let before = lab.host.snapshot();
    let again = lab.create(2).unwrap();
    assert_eq!(
        (again.outcome, again.vfs),
        (Outcome::Unchanged, vec![vf(0), vf(1)])
    );
    assert_eq!(lab.host.snapshot(), before, "VFs that are right stay");
    // Another number, by way of 0; the address is as good as the name.
    let by_address = VfCount {
        pf: PfName::Address(pf()),
        ..asked(5)
    };
    let more = lab.node().create(&by_address, &around(&[])).unwrap();
    assert_eq!((more.outcome, more.vfs.len()), (Outcome::Created, 5));
    assert_eq!(lab.create(0).unwrap().vfs, []);
}

#[test]
fn what_a_pf_cannot_have_is_refused_and_leaves_it_alone() {
    let lab = Lab::new(2);
    let before = lab.host.snapshot();
    let error = lab.create(8).unwrap_err().to_string();
    assert!(
        error.contains("can have 7 VFs, 8 were asked for"),
        "{error}"
    );
    let named = |pf: PfName| {
        let asked = VfCount { pf, ..asked(1) };
        lab.node().create(&asked, &around(&[])).unwrap_err()
    };
    let error = named(PfName::Address(vf(0)));
    assert!(matches!(error, Error::IsVf { .. }), "{error}");
    assert!(error.to_string().contains("of PF 0000:01:00.0"), "{error}");
    let error = named(PfName::Netdev("eth9".into()));
    assert!(matches!(error, Error::NoPf(_)), "{error}");
    assert_eq!(lab.host.snapshot(), before);
}

#[test]
fn a_number_that_the_kernel_refuses_gives_the_old_one_back() {
    let lab = Lab::new(2);
    lab.host.world().fails_at = Some(4);
    let error = lab.create(4).unwrap_err().to_string();
    assert!(error.contains("Cannot allocate memory"), "{error}");
    assert_eq!(lab.host.world().vfs.len(), 2);
}

#[test]
fn vfs_in_use_are_named_with_their_users_and_stay() {
    let lab = Lab::new(2);
    let node = lab.node();
    node.claim(&plan(Mode::Engine), Instant::now() + Duration::from_secs(1))
        .unwrap();
    let said = lab.refused(&[]);
    assert!(
        said.contains("0000:01:10.2 is held by net1 of container c0ffee"),
        "{said}"
    );
    assert!(!said.contains("0000:01:10.0"), "{said}");

    // Open in a program that is not ours.
    let lab = Lab::new(2);
    {
        let mut world = lab.host.world();
        let vf = world.vfs.get_mut(&vf(0)).unwrap();
        vf.driver = Some("vfio-pci".to_owned());
        vf.netdev = None;
        vf.held = Some("dpdk-testpmd (pid 7)".to_owned());
    }
    let said = lab.refused(&[]);
    assert!(
        said.contains("0000:01:10.0 is open in dpdk-testpmd (pid 7)"),
        "{said}"
    );

    // Up on the node; in a pod that another plugin made; given out.
    let lab = Lab::new(3);
    {
        let mut world = lab.host.world();
        let link = |index| world.vfs.get(&vf(index)).unwrap().netdev.clone().unwrap();
        let (mut up, mut away) = (link(0), link(1));
        up.up = true;
        away.netns = Some("/run/netns/other".into());
        world.vfs.get_mut(&vf(0)).unwrap().netdev = Some(up);
        world.vfs.get_mut(&vf(1)).unwrap().netdev = Some(away);
        world.vfs.get_mut(&vf(2)).unwrap().driver = None;
        world.vfs.get_mut(&vf(2)).unwrap().netdev = None;
    }
    let before = lab.host.snapshot();
    let error = lab
        .node()
        .create(&asked(4), &around(&[vf(2)]))
        .unwrap_err()
        .to_string();
    for word in [
        "0000:01:10.0 is in use on the node as enp1s0v0",
        "0000:01:10.2 has its netdev in another namespace",
        "0000:01:10.4 is a pod's by a device plugin",
    ] {
        assert!(error.contains(word), "{word}: {error}");
    }
    assert_eq!(lab.host.snapshot(), before);
    // The right number needs nobody's leave.
    assert_eq!(lab.create(3).unwrap().outcome, Outcome::Unchanged);
}

#[test]
fn a_vf_that_another_call_works_on_stays() {
    let lab = Lab::new(1);
    let node = lab.node();
    let _lock = node.journal.try_lock(vf(0)).unwrap().unwrap();
    let said = lab.refused(&[]);
    assert!(said.contains("0000:01:10.0 is being worked on"), "{said}");
}

#[test]
fn records_of_another_boot_hold_nothing() {
    let lab = Lab::new(2);
    let node = lab.node();
    node.claim(&plan(Mode::Vfio), Instant::now() + Duration::from_secs(1))
        .unwrap();
    {
        let mut world = lab.host.world();
        world.boot_id = "boot-2".to_owned();
        world.vfs.clear();
    }
    assert_eq!(lab.create(2).unwrap().vfs.len(), 2);
}

#[test]
fn drivers_are_looked_for_or_not_as_asked() {
    let lab = Lab::new(0);
    let quiet = VfCount {
        autoprobe: Some(false),
        ..asked(2)
    };
    let made = lab.node().create(&quiet, &around(&[])).unwrap();
    assert!(made.warnings.is_empty(), "{:?}", made.warnings);
    let world = lab.host.world();
    assert!(world.vfs.values().all(|vf| vf.driver.is_none()));
}

#[test]
fn a_dry_run_says_and_changes_nothing() {
    let lab = Lab::new(0);
    let before = lab.host.snapshot();
    let dry = Circumstances {
        dry_run: true,
        ..around(&[])
    };
    let quiet = VfCount {
        autoprobe: Some(false),
        ..asked(2)
    };
    let would = lab.node().create(&quiet, &dry).unwrap();
    assert_eq!((would.outcome, would.vfs.len()), (Outcome::WouldCreate, 0));
    assert_eq!(lab.host.snapshot(), before);
}

#[test]
fn a_file_is_followed_pf_by_pf() {
    let lab = Lab::new(0);
    let gone = VfCount {
        pf: PfName::Netdev("eth9".to_owned()),
        ..asked(1)
    };
    let file = Path::new("/etc/sluicegate/vfs.yaml");
    let all = [gone, asked(2)];
    let done = lab.node().create_all(file, &all, &around(&[])).unwrap();
    assert!(matches!(done[0], Err(Error::NoPf(_))), "{done:?}");
    assert_eq!(done[1].as_ref().unwrap().vfs.len(), 2);
    let twice = [
        asked(2),
        VfCount {
            pf: PfName::Address(pf()),
            ..asked(3)
        },
    ];
    let error = lab.node().create_all(file, &twice, &around(&[]));
    assert!(matches!(error, Err(Error::PfTwice { .. })), "{error:?}");
    assert_eq!(lab.host.world().vfs.len(), 2);
}

#[test]
fn a_pf_with_too_few_vfs_is_told() {
    let (_dir, sysfs) = crate::sysfs::tests::tree();
    let named = |pf: &str, count| VfCount {
        pf: pf.parse().unwrap(),
        ..asked(count)
    };
    let all = [
        named("eth9", 1),
        named("enp1s0", 2),
        named("0000:01:00.0", 4),
        named("0000:01:10.0", 1),
        named("eth8", 0),
    ];
    let short = shortfalls(&sysfs, &all);
    let said: Vec<String> = short.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "there is no PF eth9, of 1 VFs",
            "PF 0000:01:00.0 has 2 of 4 VFs",
            "there is no PF 0000:01:10.0, of 1 VFs"
        ]
    );
}
