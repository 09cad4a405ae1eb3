// SPDX-License-Identifier: Apache-2.0
//! Pod's side of a memif, opened from inside the pod.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sluice_memif::{
    Address, Channel, EndpointConfig, FrameList, Listener, Memif, OpenError, Opener, Role, connect,
};
use sluice_tests::{Netns, wait_for};

/// Socket at which a pod opens its memif.
pub(crate) enum Place {
    Abstract(String),
    Path(PathBuf),
}

/// Opener of sockets inside the pod's namespace.
pub(crate) struct Inside {
    netns: Arc<Netns>,
    place: Place,
}

impl Inside {
    pub(crate) fn new(netns: &Arc<Netns>, place: Place) -> Inside {
        Inside {
            netns: Arc::clone(netns),
            place,
        }
    }

    fn address(&self) -> Address {
        match &self.place {
            Place::Abstract(name) => Address::Abstract(name.clone()),
            Place::Path(path) => Address::Path(path.clone()),
        }
    }
}

impl Opener for Inside {
    fn listen(&mut self) -> Result<Listener, OpenError> {
        let address = self.address();
        self.netns
            .enter(move || Ok(Listener::bind(&address)))
            .unwrap()
    }

    fn connect(&mut self) -> Result<Channel, OpenError> {
        let address = self.address();
        self.netns.enter(move || Ok(connect(&address))).unwrap()
    }
}

/// Memif of a pod.
pub(crate) struct PodMemif {
    memif: Memif,
    frames: FrameList,
}

impl PodMemif {
    /// Opens a memif; the link comes up a little later.
    pub(crate) fn open(netns: &Arc<Netns>, role: Role, place: Place) -> PodMemif {
        let opener = Inside::new(netns, place);
        let memif = Memif::open(EndpointConfig::new(role, "pod"), opener).unwrap();
        PodMemif {
            memif,
            frames: FrameList::default(),
        }
    }

    /// Opens a memif as client on the default socket of `ifname`.
    pub(crate) fn client(netns: &Arc<Netns>, ifname: &str) -> PodMemif {
        let place = Place::Abstract(format!("sluicegate/{ifname}"));
        PodMemif::open(netns, Role::Client, place)
    }

    /// Waits until frames can flow.
    pub(crate) fn wait_up(&mut self) {
        wait_for("the pod's memif to be up", super::PATIENCE, || {
            while self.memif.change().is_some() {}
            self.memif.is_up().then_some(())
        })
        .unwrap();
    }

    /// Waits until the link goes down and returns the reason.
    pub(crate) fn wait_down(&mut self) -> String {
        wait_for(
            "the pod's memif to be down",
            super::PATIENCE,
            || match self.memif.change()? {
                sluice_memif::LinkChange::Down { reason } => Some(reason),
                _ => None,
            },
        )
        .unwrap()
    }

    pub(crate) fn send(&mut self, frame: &[u8]) {
        wait_for("room in the ring", super::PATIENCE, || {
            self.memif.send(0, &[frame]).then_some(())
        })
        .unwrap();
        self.memif.flush();
    }

    /// Handles link events that have come.
    pub(crate) fn look(&mut self) {
        while self.memif.change().is_some() {}
    }

    /// Sends a frame if there is a link and room; returns whether it was sent.
    pub(crate) fn try_send(&mut self, frame: &[u8]) -> bool {
        self.look();
        let sent = self.memif.send(0, &[frame]);
        self.memif.flush();
        sent
    }

    /// Receives frames until there are `enough` of them or `limit` is over.
    pub(crate) fn receive(&mut self, enough: usize, limit: Duration) -> Vec<Vec<u8>> {
        let mut received = Vec::new();
        let _ = wait_for("frames", limit, || {
            self.memif.recv(0, 64, &mut self.frames);
            while let Some(frame) = self.frames.pop() {
                received.push(frame);
            }
            (received.len() >= enough).then_some(())
        });
        received
    }
}
