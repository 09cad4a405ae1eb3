// SPDX-License-Identifier: Apache-2.0
//! Control side without pods, whose VFs lead nowhere and can be taken away: for tests.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeMap;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::event::EventfdFlags;
use serde_json::json;
use sluice_api::AttachRequest;
use sluice_datapath::ports::null::NullUplink;
use sluice_datapath::{
    Engine, EngineConfig, IdleConfig, Limits, PortContext, Sent, Uplink, Wake, WorkerConfig,
};
use sluice_mem::{Burst, HugePages};
use sluice_vfio::{PciAddr, ReleaseRequest};

use super::request::CheckedRequest;
use super::uplink_choice::UplinkGuard;
use super::*;
use super::{ControlParts, Posing};
use crate::uplinks::{UplinkHost, Uplinks};
use crate::vfs::{OpenVf, OpenedVf, VfSpec};
use sluice_policies::PolicyFolder;

/// VFs that lead nowhere.
#[derive(Debug, Clone, Default)]
pub(super) struct Nowhere {
    /// Number of VFs that are open.
    open: Arc<AtomicU32>,
    /// Eventfd by which the kernel asks for the VF that was opened last.
    kernel: Arc<Mutex<Option<OwnedFd>>>,
    /// Reason why VFs cannot be prepared, if they cannot.
    refused: Arc<Mutex<Option<String>>>,
    /// Number of times that a VF was prepared.
    prepared: Arc<AtomicU32>,
}

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
    fn open(&self, spec: &VfSpec) -> Result<OpenedVf, ApiError> {
        if spec.mtu > 9000 {
            return Err(refusal::invalid("too large for nowhere"));
        }
        self.open.fetch_add(1, Ordering::SeqCst);
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let fd = rustix::event::eventfd(0, flags).unwrap();
        *locked(&self.kernel) = Some(fd.try_clone().unwrap());
        Ok(OpenedVf {
            port: Box::new(Port(NullUplink::new(spec.mtu), Arc::clone(&self.open))),
            warnings: Vec::new(),
            release: Some(ReleaseRequest::new(fd)),
        })
    }

    fn prepare_again(&self, _vf: PciAddr) -> Result<(), ApiError> {
        if let Some(why) = &*locked(&self.refused) {
            return Err(refusal::unavailable(why.clone()));
        }
        self.prepared.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

impl Nowhere {
    /// Number of VFs that are open.
    pub(super) fn open(&self) -> u32 {
        self.open.load(Ordering::SeqCst)
    }

    /// Number of times that a VF was prepared.
    pub(super) fn prepared(&self) -> u32 {
        self.prepared.load(Ordering::SeqCst)
    }

    /// Asks for the VF that was opened last, as the kernel does.
    pub(super) fn ask_back(&self) {
        let kernel = locked(&self.kernel);
        rustix::io::write(kernel.as_ref().unwrap(), &1u64.to_ne_bytes()).unwrap();
    }

    /// Lets VFs be prepared, or says why not.
    pub(super) fn refuse(&self, why: Option<&str>) {
        *locked(&self.refused) = why.map(str::to_owned);
    }
}

pub(super) struct Lab {
    pub(super) control: Control,
    pub(super) vfs: Nowhere,
    _dir: tempfile::TempDir,
}

pub(super) fn lab() -> Lab {
    let dir = tempfile::tempdir().unwrap();
    let vfs = Nowhere::default();
    let engine = Engine::start(EngineConfig {
        workers: vec![WorkerConfig::default(); 2],
        small_mbufs: 4096,
        large_mbufs: 512,
        flow_cache: 64,
        huge_pages: HugePages::Off,
        numa_node: None,
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
        posing: Posing::default(),
        run_dir: dir.path().to_owned(),
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

pub(super) fn request(mtu: u32) -> AttachRequest {
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
    pub(super) fn open_uplink(&self, request: &AttachRequest) -> Result<UplinkGuard<'_>, ApiError> {
        let choice = self.control.choose_uplink(request)?;
        let checked = CheckedRequest::new(request, choice.max_mtu())?;
        self.control.open_uplink(&choice, &checked)
    }

    pub(super) fn uplinks(&self) -> Vec<(String, String, u32)> {
        let snapshot = self.control.engine.with(Engine::snapshot).unwrap();
        let uplinks = snapshot.uplinks.into_iter();
        uplinks
            .map(|uplink| (uplink.name, uplink.network, uplink.mtu))
            .collect()
    }
}
