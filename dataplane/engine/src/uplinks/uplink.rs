// SPDX-License-Identifier: Apache-2.0
//! Uplink of the configuration, from its opening to its end: its netdev may go and come meanwhile.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sluice_api::ApiError;
use sluice_datapath::ports::absent::AbsentUplink;
use sluice_datapath::ports::af_packet::WatchedLink;
use sluice_datapath::ports::pcap::{PcapConfig, PcapUplink};
use sluice_datapath::{LinkState, UplinkId, UplinkSpec};

use super::dpdk;
use super::host_stack::{HostStackError, HostStackGuard, HostStackRecord};
use super::netdev::{self, Netdev};
use super::netdev_port::{self, NetdevPort};
use super::record::UplinkRecord;
use super::state::UplinkState;
use super::{UplinkHost, UplinkInfo};
use crate::config::{NetdevConfig, UplinkConfig, UplinkDriver};
use crate::records::RecordError;
use crate::refusal;

/// MTU of a netdev that was never there, in bytes: the largest IP packet, so that nothing is refused for
/// what nobody knows.
const UNKNOWN_MTU: u32 = 65_535;

/// Uplink of the configuration.
#[derive(Debug)]
pub struct Uplink {
    config: UplinkConfig,
    id: UplinkId,
    /// Locked for moments only.
    seen: Mutex<Seen>,
    /// Locked while a netdev is taken up or given back.
    device: Mutex<Device>,
}

/// Facts that requests ask for.
#[derive(Debug)]
struct Seen {
    state: UplinkState,
    mtu: u32,
    /// Mode of a netdev's driver, or why a better one cannot have it.
    driver_detail: Option<String>,
}

/// Device of an uplink.
#[derive(Debug)]
enum Device {
    /// Capture files, which do not go.
    Files,
    /// Device of DPDK's, whose link its port knows.
    Dpdk,
    /// Netdev that is not there.
    Absent,
    /// Netdev that is open.
    Netdev(Box<OpenNetdev>),
}

/// Netdev that is open.
#[derive(Debug)]
struct OpenNetdev {
    guard: HostStackGuard,
    /// The netdev as it was last seen.
    last: Netdev,
    /// MTU that the slots of its rings are for, in bytes.
    room: u32,
    link: Arc<WatchedLink>,
}

impl Uplink {
    /// Opens an uplink and gives it to the engine. A netdev that is not there is stood in for.
    ///
    /// # Errors
    /// A step failed; the host has everything back.
    pub(super) fn open(config: UplinkConfig, host: &UplinkHost) -> Result<Uplink, ApiError> {
        let mut state = UplinkState::up();
        let mut driver_detail = None;
        let (device, port): (Device, Box<dyn sluice_datapath::Uplink>) = match &config.driver {
            UplinkDriver::Pcap { read, write, mtu } => {
                let files = PcapConfig {
                    read: read.clone(),
                    write: write.clone(),
                };
                let port =
                    PcapUplink::open(files, *mtu).map_err(|error| failed(&config, &error))?;
                (Device::Files, Box::new(port))
            }
            UplinkDriver::Dpdk { device, mtu } => {
                (Device::Dpdk, dpdk::open(&config.name, device, *mtu, host)?)
            }
            UplinkDriver::Netdev(netdev) => match find(&config, &netdev.device)? {
                Some(_) => {
                    let (open, opened) = take_up(&config, netdev, host)?;
                    driver_detail = opened.detail;
                    (Device::Netdev(Box::new(open)), opened.port)
                }
                None => {
                    let reason = never_there(&netdev.device);
                    state.note(&config.name, LinkState::Gone, Some(reason));
                    (Device::Absent, Box::new(stand_in(netdev, UNKNOWN_MTU)))
                }
            },
        };
        let mtu = port.mtu();
        let spec = UplinkSpec {
            name: config.name.clone(),
            port,
            worker: config.worker,
            tpids: config.tpids.clone(),
            native: config.native,
            network: None,
            port_vlan: false,
        };
        let id = match host.engine.try_with(|engine| engine.add_uplink(spec)) {
            Ok(id) => id,
            Err(error) => {
                if let Device::Netdev(open) = device {
                    release(&config.name, open.guard, None, host);
                }
                return Err(error);
            }
        };
        if state.link == LinkState::Up {
            tracing::info!("uplink {} is open, mtu {mtu}", config.name);
        }
        let uplink = Uplink {
            config,
            id,
            seen: Mutex::new(Seen {
                state,
                mtu,
                driver_detail,
            }),
            device: Mutex::new(device),
        };
        // Whether it has a carrier.
        uplink.look(host, false);
        Ok(uplink)
    }

    /// Facts that attachments need.
    pub fn info(&self) -> UplinkInfo {
        UplinkInfo {
            id: self.id,
            mtu: locked(&self.seen).mtu,
        }
    }

    /// State of the link as it was last seen.
    pub fn state(&self) -> UplinkState {
        locked(&self.seen).state.clone()
    }

    /// Whether somebody watches the link: not that of capture files.
    pub fn is_watched(&self) -> bool {
        matches!(
            self.config.driver,
            UplinkDriver::Netdev(_) | UplinkDriver::Dpdk { .. }
        )
    }

    /// Reason for which the uplink has its driver, and the driver's mode where it has several.
    pub fn driver_reason(&self) -> String {
        let reason = self.config.driver_reason;
        match &locked(&self.seen).driver_detail {
            Some(detail) => format!("{reason}; {detail}"),
            None => reason.to_owned(),
        }
    }

    /// Settings of the netdev; `None` of other devices.
    fn netdev(&self) -> Option<&NetdevConfig> {
        match &self.config.driver {
            UplinkDriver::Netdev(netdev) => Some(netdev),
            UplinkDriver::Pcap { .. } | UplinkDriver::Dpdk { .. } => None,
        }
    }

    /// Looks at the netdev, takes it up if it is back, and notes what has changed.
    pub(super) fn look(&self, host: &UplinkHost, thorough: bool) {
        let config = match &self.config.driver {
            UplinkDriver::Netdev(netdev) => netdev,
            UplinkDriver::Dpdk { device, .. } => return self.look_at_port(device.name(), host),
            UplinkDriver::Pcap { .. } => return,
        };
        let name = &config.device;
        let found = match netdev::find(name) {
            Ok(found) => found,
            Err(error) => {
                tracing::debug!(
                    "uplink {}: cannot look at {name}: {error}",
                    self.config.name
                );
                return;
            }
        };
        let mut device = locked(&self.device);
        match (&mut *device, found) {
            (Device::Files | Device::Dpdk, _) => {}
            (Device::Netdev(open), Some(found))
                if found.index == open.last.index && !self.has_ended(host) =>
            {
                if let Err(error) = self.update(open, found, host, thorough) {
                    self.lose(&mut device, host, Some(error));
                }
            }
            (Device::Absent, None) => {}
            (_, None) => self.lose(&mut device, host, None),
            (_, Some(_)) => {
                if matches!(*device, Device::Netdev(_)) {
                    let again = format!("netdev {name} was deleted and made again");
                    self.lose(&mut device, host, Some(again));
                }
                self.take_up_again(&mut device, config, host);
            }
        }
    }

    /// Writes the record of what the netdev had, if it is taken.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn write_record_again(&self, host: &UplinkHost) -> Result<(), RecordError> {
        match &*locked(&self.device) {
            Device::Netdev(open) => {
                let record = UplinkRecord::of(open.guard.record(), &host.boot_id);
                host.records.put(&self.config.name, &record)
            }
            Device::Files | Device::Dpdk | Device::Absent => Ok(()),
        }
    }

    /// Gives the host back what the uplink took. The engine must have closed the port.
    pub(super) fn close(&self, host: &UplinkHost) {
        let device = std::mem::replace(&mut *locked(&self.device), Device::Absent);
        if let Device::Netdev(open) = device {
            release(&self.config.name, open.guard, None, host);
        }
    }

    /// Notes the link of a port that watches it itself.
    fn look_at_port(&self, device: &str, host: &UplinkHost) {
        let report = host.engine.try_with(|engine| engine.uplink_report(self.id));
        let Ok(report) = report else { return };
        let reason = match report.link {
            LinkState::Up => None,
            LinkState::Gone => Some(format!(
                "{device} was taken out of the machine or reset by the host: put it back, and restart the engine"
            )),
            LinkState::Down | LinkState::Waiting => {
                Some(format!("{device} reports no link: connect its other end"))
            }
        };
        let mut seen = locked(&self.seen);
        seen.state.note(&self.config.name, report.link, reason);
    }

    /// Whether the port found its socket without a netdev: it was gone between two looks.
    fn has_ended(&self, host: &UplinkHost) -> bool {
        let report = host.engine.try_with(|engine| engine.uplink_report(self.id));
        report.is_ok_and(|report| report.link == LinkState::Gone)
    }

    /// Notes what has changed at a netdev that is still the same one.
    ///
    /// # Errors
    /// It could not be opened anew, and the message says why.
    fn update(
        &self,
        open: &mut OpenNetdev,
        found: Netdev,
        host: &UplinkHost,
        thorough: bool,
    ) -> Result<(), String> {
        let (uplink, name) = (&self.config.name, &found.name);
        if let (Some(was), Some(is)) = (open.last.mac, found.mac)
            && was != is
        {
            tracing::info!(
                "uplink {uplink}: the MAC address of {name} is {is} now, was {was}: attachments keep \
                 theirs"
            );
        }
        if found.mtu != open.last.mtu {
            tracing::warn!(
                "uplink {uplink}: the MTU of {name} is {} now, was {}",
                found.mtu,
                open.last.mtu
            );
            self.change_mtu(open, &found, host)
                .map_err(|error| format!("it cannot be opened for its new MTU: {error}"))?;
        }
        self.note_link(open, &found);
        if let Err(error) = open.guard.renew(thorough) {
            tracing::error!("uplink {uplink}: {error}");
        }
        open.last = found;
        Ok(())
    }

    fn change_mtu(
        &self,
        open: &mut OpenNetdev,
        found: &Netdev,
        host: &UplinkHost,
    ) -> Result<(), ApiError> {
        let mtu = found.mtu;
        if mtu <= open.room {
            open.link.set_mtu(mtu);
            host.engine
                .try_with(|engine| engine.set_uplink_mtu(self.id, mtu))?;
        } else {
            // The old port goes first: with both open, frames would come twice.
            self.stand_in(mtu, host)?;
            let Some(config) = self.netdev() else {
                return Ok(());
            };
            let NetdevPort {
                port,
                link,
                room,
                detail,
            } = open_port(&self.config, found, config, host)?;
            (open.link, open.room) = (link, room);
            locked(&self.seen).driver_detail = detail;
            host.engine
                .try_with(|engine| engine.replace_port(self.id, port))?;
        }
        locked(&self.seen).mtu = mtu;
        Ok(())
    }

    fn note_link(&self, open: &OpenNetdev, found: &Netdev) {
        let trouble = found.trouble();
        let link = match trouble {
            None => LinkState::Up,
            Some(_) => LinkState::Down,
        };
        open.link.set_state(link);
        let mut seen = locked(&self.seen);
        seen.state.note(&self.config.name, link, trouble);
    }

    /// Puts the stand-in in place of the port, which ends here.
    fn stand_in(&self, mtu: u32, host: &UplinkHost) -> Result<(), ApiError> {
        let Some(netdev) = self.netdev() else {
            return Ok(());
        };
        let port = Box::new(stand_in(netdev, mtu));
        host.engine
            .try_with(|engine| engine.replace_port(self.id, port))
            .map(drop)
    }

    /// Lets go of a netdev that is gone, and of what was taken from the host with it.
    fn lose(&self, device: &mut Device, host: &UplinkHost, reason: Option<String>) {
        let Device::Netdev(open) = std::mem::replace(device, Device::Absent) else {
            return;
        };
        let uplink = &self.config.name;
        if let Err(error) = self.stand_in(open.last.mtu, host) {
            tracing::error!("uplink {uplink}: its port cannot be closed: {error}");
        }
        let name = open.guard.record().device.clone();
        let now = netdev::find_index(open.last.index).ok().flatten();
        let renamed = now.map(|now| now.name).filter(|now| *now != name);
        let reason = match (&renamed, reason) {
            (_, Some(reason)) => reason,
            (Some(now), None) => format!(
                "netdev {name} is called {now} now: name it {name} again, or change `device` in the \
                 engine's configuration and restart the engine"
            ),
            (None, None) => format!(
                "netdev {name} was deleted or moved to another network namespace: it is taken up when \
                 a netdev {name} is here again"
            ),
        };
        release(uplink, open.guard, renamed.as_deref(), host);
        let mut seen = locked(&self.seen);
        seen.state.note(uplink, LinkState::Gone, Some(reason));
    }

    /// Takes up a netdev that is there again.
    fn take_up_again(&self, device: &mut Device, config: &NetdevConfig, host: &UplinkHost) {
        let name = &config.device;
        let taken = take_up(&self.config, config, host).and_then(|(open, opened)| {
            locked(&self.seen).driver_detail = opened.detail;
            let replaced = host
                .engine
                .try_with(|engine| engine.replace_port(self.id, opened.port));
            match replaced {
                Ok(_) => Ok(open),
                Err(error) => {
                    release(&self.config.name, open.guard, None, host);
                    Err(error)
                }
            }
        });
        match taken {
            Ok(open) => {
                tracing::info!("uplink {}: netdev {name} is taken up", self.config.name);
                locked(&self.seen).mtu = open.last.mtu;
                // As it is now that it was set up.
                if let Ok(Some(found)) = netdev::find(name) {
                    self.note_link(&open, &found);
                }
                *device = Device::Netdev(Box::new(open));
            }
            Err(error) => {
                let mut seen = locked(&self.seen);
                let reason = Some(error.message);
                seen.state.note(&self.config.name, LinkState::Gone, reason);
            }
        }
    }
}

/// Keeps the host's stack off a netdev and opens it.
fn take_up(
    config: &UplinkConfig,
    how: &NetdevConfig,
    host: &UplinkHost,
) -> Result<(OpenNetdev, NetdevPort), ApiError> {
    let device = &how.device;
    let record = what_the_host_had(config, device, host).map_err(|error| failed(config, &error))?;
    // Before the netdev is changed, all that may fail without having changed it.
    host.records
        .put(&config.name, &UplinkRecord::of(&record, &host.boot_id))?;
    let guard = HostStackGuard::engage(record.clone()).map_err(|error| {
        // Again, as only this tells whether the host has everything back.
        if record.restore().is_ok() {
            forget(&config.name, host);
        }
        failed(config, &error)
    })?;
    if !guard.sending_blocked() {
        tracing::warn!(
            "uplink {}: this kernel cannot keep the host from sending by {device} (it is older than \
             5.16): take the host's addresses off it",
            config.name
        );
    }
    let netdev = guard.netdev().clone();
    match open_port(config, &netdev, how, host) {
        Ok(port) => {
            let open = OpenNetdev {
                link: Arc::clone(&port.link),
                room: port.room,
                last: netdev,
                guard,
            };
            Ok((open, port))
        }
        Err(error) => {
            release(&config.name, guard, None, host);
            Err(error)
        }
    }
}

fn open_port(
    config: &UplinkConfig,
    netdev: &Netdev,
    how: &NetdevConfig,
    host: &UplinkHost,
) -> Result<NetdevPort, ApiError> {
    let (small, _) = host.engine.with(sluice_datapath::Engine::mempools)?;
    netdev_port::open(netdev, how, small).map_err(|reason| failed(config, &reason))
}

/// Port in place of a netdev that is not there.
fn stand_in(netdev: &NetdevConfig, mtu: u32) -> AbsentUplink {
    AbsentUplink::new(netdev.driver.name(), &netdev.device, mtu)
}

/// Settings to give back one day: those that a dead engine noted and could not give back, else those of
/// the netdev now.
fn what_the_host_had(
    config: &UplinkConfig,
    device: &str,
    host: &UplinkHost,
) -> Result<HostStackRecord, HostStackError> {
    match host.records.get::<UplinkRecord>(&config.name) {
        Ok(Some(noted)) if noted.device == device && noted.boot_id == host.boot_id => {
            Ok(noted.to_host_stack())
        }
        _ => HostStackRecord::take(device),
    }
}

fn find(config: &UplinkConfig, device: &str) -> Result<Option<Netdev>, ApiError> {
    netdev::find(device).map_err(|error| failed(config, &error))
}

/// Reason of an uplink whose netdev was not there at the start: the name may be wrong.
fn never_there(device: &str) -> String {
    let mut names = netdev::names().unwrap_or_default();
    names.retain(|name| name != "lo");
    let there = if names.is_empty() {
        "there is none but the loopback".to_owned()
    } else {
        format!("there are {}", names.join(", "))
    };
    format!(
        "there is no netdev {device} in the engine's network namespace ({there}): correct `device` in \
         the engine's configuration if it is wrong, or make the netdev, which is then taken up"
    )
}

fn failed(config: &UplinkConfig, error: &dyn std::fmt::Display) -> ApiError {
    refusal::internal(format!("uplink {} cannot be opened: {error}", config.name))
}

/// Gives the netdev back, under its new name if it has one, then removes its record.
fn release(name: &str, guard: HostStackGuard, renamed: Option<&str>, host: &UplinkHost) {
    let record = guard.record().clone();
    let restore = || match renamed {
        Some(now) => record.restore_renamed(now),
        None => record.restore(),
    };
    let mut released = restore();
    if released.is_err() {
        // What holds a netdev's lock for a moment, such as a driver's reset, is over by then.
        std::thread::sleep(Duration::from_millis(200));
        released = restore();
    }
    drop(guard);
    match released {
        Ok(()) => forget(name, host),
        Err(error) => tracing::error!(
            "uplink {name}: netdev {} could not be given back to the host: {error}; {} says what \
             it had, and the next engine tries again",
            record.device,
            host.records.path(name).display()
        ),
    }
}

fn forget(name: &str, host: &UplinkHost) {
    if let Err(error) = host.records.remove(name) {
        tracing::error!("uplink {name}: {error}");
    }
}

/// Locks a mutex, poisoned or not: what lies under it is whole at every moment.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
