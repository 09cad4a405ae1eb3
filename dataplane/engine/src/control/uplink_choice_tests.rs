// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::json;
use sluice_api::ErrorCode;
use sluice_datapath::ports::null::NullUplink;
use sluice_datapath::{
    Engine, EngineConfig, IdleConfig, Limits, PortContext, Sent, Uplink, Wake, WorkerConfig,
};
use sluice_mem::{Burst, HugePages};

use super::super::ControlParts;
use super::*;
use crate::engine::SharedEngine;
use crate::records::Records;
use crate::uplinks::{UplinkHost, Uplinks};
use crate::vfs::OpenVf;
use sluice_policies::PolicyFolder;

/// VFs that lead nowhere; how many are open.
#[derive(Debug, Clone, Default)]
struct Nowhere(Arc<AtomicU32>);

struct Port(NullUplink, Arc<AtomicU32>);

impl Drop for Port {
    fn drop(&mut self) {
        self.1.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Wake for Port {
    fn wake_fds(&self, add: &mut dyn FnMut(BorrowedFd<'_>)) {
        self.0.wake_fds(add);
    }

    fn arm(&mut self) -> bool {
        self.0.arm()
    }

    fn disarm(&mut self) {
        self.0.disarm();
    }
}

impl Uplink for Port {
    fn driver(&self) -> &'static str {
        "nowhere"
    }

    fn device(&self) -> &str {
        "nowhere"
    }

    fn mtu(&self) -> u32 {
        self.0.mtu()
    }

    fn rx_burst(&mut self, context: &mut PortContext<'_>, out: &mut Burst) {
        self.0.rx_burst(context, out);
    }

    fn tx_burst(&mut self, context: &mut PortContext<'_>, burst: &mut Burst) -> Sent {
        self.0.tx_burst(context, burst)
    }
}

impl OpenVf for Nowhere {
    fn open(&self, spec: &VfSpec) -> Result<Box<dyn Uplink>, ApiError> {
        if spec.mtu > 9000 {
            return Err(refusal::invalid("too large for nowhere"));
        }
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(Port(
            NullUplink::new(spec.mtu),
            Arc::clone(&self.0),
        )))
    }
}

impl Nowhere {
    fn open(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }
}

struct Lab {
    control: Control,
    vfs: Nowhere,
    _dir: tempfile::TempDir,
}

fn lab() -> Lab {
    let dir = tempfile::tempdir().unwrap();
    let vfs = Nowhere::default();
    let engine = Engine::start(EngineConfig {
        workers: vec![WorkerConfig::default(); 2],
        small_mbufs: 4096,
        large_mbufs: 512,
        flow_cache: 64,
        huge_pages: HugePages::Off,
        idle: IdleConfig::default(),
        limits: Limits::default(),
    });
    let engine = Arc::new(SharedEngine::new(engine.unwrap()));
    let control = Control::new(ControlParts {
        uplinks: Arc::new(Uplinks::new(UplinkHost {
            engine: Arc::clone(&engine),
            records: Records::open(dir.path().join("uplinks")).unwrap(),
            boot_id: "boot".into(),
        })),
        engine,
        vfs: Box::new(vfs.clone()),
        records: Records::open(dir.path().join("attachments")).unwrap(),
        policies: PolicyFolder::new(dir.path().join("policies")),
        boot_id: "boot".into(),
        problems: BTreeMap::new(),
    });
    control.accept_requests();
    Lab {
        control,
        vfs,
        _dir: dir,
    }
}

fn request(mtu: u32) -> AttachRequest {
    serde_json::from_value(json!({
        "container_id": "c0ffee", "ifname": "net1",
        "netns": {"path": "/run/netns/x", "dev": 4, "ino": 5},
        "uplink": "enp1s0", "vf": {"address": "0000:01:10.0", "port_vlan": 210},
        "mac": "02:00:00:00:00:01", "mtu": mtu,
        "vlan": {"mode": "access", "vid": 210},
        "backend": {"type": "memif"}
    }))
    .unwrap()
}

impl Lab {
    fn open_uplink(&self, request: &AttachRequest) -> Result<UplinkGuard<'_>, ApiError> {
        let choice = self.control.choose_uplink(request)?;
        let checked = CheckedRequest::new(request, choice.max_mtu())?;
        self.control.open_uplink(&choice, &checked)
    }

    fn uplinks(&self) -> Vec<(String, String, u32)> {
        let snapshot = self.control.engine.with(Engine::snapshot).unwrap();
        let uplinks = snapshot.uplinks.into_iter();
        uplinks
            .map(|uplink| (uplink.name, uplink.network, uplink.mtu))
            .collect()
    }
}

#[test]
fn a_vf_is_closed_with_a_failed_attach_and_kept_with_one_that_is_made() {
    let lab = lab();
    let guard = lab.open_uplink(&request(1400)).unwrap();
    assert_eq!(lab.vfs.open(), 1);
    let there = ("0000:01:10.0".to_owned(), "enp1s0".to_owned(), 1400);
    assert_eq!(lab.uplinks(), [there]);
    let worker = guard.worker().unwrap();
    let id = guard.id();
    assert_eq!(
        lab.control
            .engine
            .try_with(|e| e.uplink_worker(id))
            .unwrap(),
        worker
    );
    drop(guard);
    assert_eq!((lab.vfs.open(), lab.uplinks().len()), (0, 0));

    let kept = lab.open_uplink(&request(1500)).unwrap().keep().unwrap();
    assert_eq!((lab.vfs.open(), lab.uplinks().len()), (1, 1));
    // Whose VF it is, is known by attachments alone: the engine itself knows no second of that name.
    let error = lab.open_uplink(&request(1500)).unwrap_err();
    assert_eq!(error.code, ErrorCode::Conflict);
    assert_eq!(lab.vfs.open(), 1, "the second was closed again");
    lab.control.close_vf(kept).unwrap();
    assert_eq!((lab.vfs.open(), lab.uplinks().len()), (0, 0));
    lab.control.close_vf(kept).unwrap();
}

#[test]
fn what_a_vf_cannot_be_is_refused() {
    let lab = lab();
    assert!(
        lab.open_uplink(&request(9100))
            .unwrap_err()
            .message
            .contains("nowhere")
    );
    let mut wrong = request(1500);
    wrong.vf.as_mut().unwrap().address = "01:99.9".into();
    let error = lab.open_uplink(&wrong).unwrap_err();
    assert_eq!(error.code, ErrorCode::Invalid);
    assert!(error.message.contains("PCI address"), "{error}");
    let attached = lab.control.attach(&request(1500)).unwrap_err();
    assert_eq!(
        attached.code,
        ErrorCode::Invalid,
        "no such namespace: {attached}"
    );
    assert_eq!((lab.vfs.open(), lab.uplinks().len()), (0, 0));
}

#[test]
fn a_vf_asks_for_the_vlans_that_its_pf_does_not_put_on() {
    let vid = |vid| Vid::new(vid).unwrap();
    let vf = |port_vlan: Option<u16>| OwnVf {
        address: "0000:01:10.0".parse().unwrap(),
        network: "enp1s0".into(),
        port_vlan: port_vlan.map(vid),
        mtu: 1500,
    };
    let access = |number| VlanSet::Access(vid(number));
    assert_eq!(vlans(&vf(Some(210)), &access(210)), VfVlans::Port(vid(210)));
    assert_eq!(vlans(&vf(None), &access(0)), VfVlans::Untagged);
    assert_eq!(
        vlans(&vf(None), &access(210)),
        VfVlans::Trunk(vec![vid(210)])
    );
    let trunk = VlanSet::Trunk {
        vids: vec![vid(220), vid(210)],
        native: Some(vid(0)),
    };
    assert_eq!(
        vlans(&vf(None), &trunk),
        VfVlans::Trunk(vec![vid(210), vid(220)])
    );
}
