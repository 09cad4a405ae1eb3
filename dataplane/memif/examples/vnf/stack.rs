// SPDX-License-Identifier: Apache-2.0
//! Addresses and echo services of one memif.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use sluice_memif::Memif;
use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::socket::{tcp, udp};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr};

use crate::device::MemifDevice;
use sluice_pod::{MemifArg, print_events};

/// Bytes of a TCP connection's buffers, each way.
const WINDOW: usize = 65_536;
/// Datagrams and their bytes that wait to be answered.
const DATAGRAMS: usize = 256;
const DATAGRAM_BYTES: usize = 1 << 18;
/// Time of silence after which a connection is closed, to free its socket.
const TIMEOUT: smoltcp::time::Duration = smoltcp::time::Duration::from_secs(60);

/// A memif, a smoltcp interface on it, and the sockets of its services.
pub(crate) struct Stack {
    name: String,
    port: u16,
    device: MemifDevice,
    interface: Interface,
    sockets: SocketSet<'static>,
    udp: SocketHandle,
    tcp: Vec<SocketHandle>,
    datagrams: u64,
    tcp_bytes: u64,
}

impl Stack {
    /// Starts a memif with the addresses of its argument.
    pub(crate) fn open(arg: &MemifArg, port: u16, connections: usize) -> Result<Stack> {
        let given = Addresses::parse(&arg.rest).with_context(|| format!("memif {}", arg.name))?;
        let mut device = MemifDevice::new(arg.open()?, given.mtu);
        let mut config = Config::new(given.mac.into());
        // Initial sequence numbers must differ from one start to the next.
        config.random_seed = RandomState::new().hash_one(std::process::id());
        let mut interface = Interface::new(config, &mut device, Instant::ZERO);
        let mut full = false;
        interface.update_ip_addrs(|list| {
            full = given.ips.iter().any(|ip| list.push(*ip).is_err());
        });
        if full {
            bail!(
                "memif {}: {} addresses are too many",
                arg.name,
                given.ips.len()
            );
        }
        for gateway in given.gateways {
            let routes = interface.routes_mut();
            let added = match gateway {
                IpAddress::Ipv4(gateway) => routes.add_default_ipv4_route(gateway).map(drop),
                IpAddress::Ipv6(gateway) => routes.add_default_ipv6_route(gateway).map(drop),
            };
            added.map_err(|_| anyhow!("memif {}: too many gateways", arg.name))?;
        }
        let mut sockets = SocketSet::new(Vec::new());
        let buffer = || {
            let places = vec![udp::PacketMetadata::EMPTY; DATAGRAMS];
            udp::PacketBuffer::new(places, vec![0; DATAGRAM_BYTES])
        };
        let mut echo = udp::Socket::new(buffer(), buffer());
        echo.bind(port)
            .map_err(|error| anyhow!("UDP port {port}: {error:?}"))?;
        let udp = sockets.add(echo);
        let buffer = || tcp::SocketBuffer::new(vec![0; WINDOW]);
        let tcp = (0..connections)
            .map(|_| {
                let mut socket = tcp::Socket::new(buffer(), buffer());
                socket.set_timeout(Some(TIMEOUT));
                sockets.add(socket)
            })
            .collect();
        Ok(Stack {
            name: arg.name.clone(),
            port,
            device,
            interface,
            sockets,
            udp,
            tcp,
            datagrams: 0,
            tcp_bytes: 0,
        })
    }

    /// Takes frames that arrived and answers them. Returns whether there were any.
    pub(crate) fn turn(&mut self, since_start: Duration) -> bool {
        let mut busy = print_events(&self.name, &mut self.device.memif);
        busy |= self.device.fill();
        let now = instant(since_start);
        loop {
            let changed = self
                .interface
                .poll(now, &mut self.device, &mut self.sockets);
            let served = self.serve();
            busy |= served;
            // What was just answered may go out in this turn.
            if !served && changed == PollResult::None {
                break;
            }
        }
        self.device.memif.flush();
        busy
    }

    /// Time until the stack's next timer.
    pub(crate) fn delay(&mut self, since_start: Duration) -> Option<Duration> {
        let delay = self
            .interface
            .poll_delay(instant(since_start), &self.sockets)?;
        Some(Duration::from_micros(delay.total_micros()))
    }

    pub(crate) fn memif(&mut self) -> &mut Memif {
        &mut self.device.memif
    }

    /// Echoes the bytes that the sockets received. Returns whether there were any.
    fn serve(&mut self) -> bool {
        let mut any = false;
        let udp = self.sockets.get_mut::<udp::Socket<'_>>(self.udp);
        while udp.can_recv() && udp.can_send() {
            let Ok((data, from)) = udp.recv() else {
                break;
            };
            any = true;
            // Two echo services would answer each other for ever.
            if from.endpoint.port == self.port {
                continue;
            }
            let data = data.to_vec();
            if udp.send_slice(&data, from).is_ok() {
                self.datagrams += 1;
            }
        }
        for &handle in &self.tcp {
            let tcp = self.sockets.get_mut::<tcp::Socket<'_>>(handle);
            if !tcp.is_open() {
                // Only an address or port of 0 could be refused.
                let _ = tcp.listen(self.port);
            }
            while tcp.can_recv() && tcp.can_send() {
                let room = tcp.send_capacity() - tcp.send_queue();
                let taken = tcp.recv(|data| {
                    let taken = data.len().min(room);
                    (taken, data[..taken].to_vec())
                });
                let Ok(data) = taken else {
                    break;
                };
                if data.is_empty() || tcp.send_slice(&data).is_err() {
                    break;
                }
                any = true;
                self.tcp_bytes += data.len() as u64;
            }
            // Both sides have sent all.
            if tcp.may_send() && !tcp.may_recv() && !tcp.can_recv() && tcp.is_active() {
                tcp.close();
            }
        }
        any
    }
}

impl fmt::Display for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} frames received, {} sent, {} dropped; {} datagrams and {} TCP bytes echoed",
            self.name,
            self.device.received,
            self.device.sent,
            self.device.dropped,
            self.datagrams,
            self.tcp_bytes
        )
    }
}

fn instant(since_start: Duration) -> Instant {
    Instant::from_micros(i64::try_from(since_start.as_micros()).unwrap_or(i64::MAX))
}

/// The keys of a `--memif` that are about addresses.
struct Addresses {
    mac: EthernetAddress,
    ips: Vec<IpCidr>,
    gateways: Vec<IpAddress>,
    mtu: usize,
}

impl Addresses {
    fn parse(pairs: &[(String, String)]) -> Result<Addresses> {
        let mut mac = None;
        let mut found = Addresses {
            mac: EthernetAddress([0; 6]),
            ips: vec![],
            gateways: vec![],
            mtu: 1500,
        };
        for (key, value) in pairs {
            let wrong = |what| anyhow!("{key}={value}: {what}");
            match key.as_str() {
                "mac" => {
                    let parsed: EthernetAddress = value
                        .parse()
                        .map_err(|()| wrong("write it 02:00:5e:10:00:01"))?;
                    if !parsed.is_unicast() {
                        return Err(wrong("a multicast address cannot be an interface's"));
                    }
                    mac = Some(parsed);
                }
                "ip" => found
                    .ips
                    .push(value.parse().map_err(|()| wrong("write it 10.21.0.5/24"))?),
                "gateway" => found
                    .gateways
                    .push(value.parse().map_err(|()| wrong("write it 10.21.0.1"))?),
                "mtu" => {
                    found.mtu = value.parse().map_err(|_| wrong("a number of bytes"))?;
                    if !(576..=9216).contains(&found.mtu) {
                        return Err(wrong("from 576 to 9216"));
                    }
                }
                _ => return Err(wrong("no such key; see --help")),
            }
        }
        found.mac = mac.context("mac= is missing")?;
        if found.ips.is_empty() {
            bail!("ip= is missing");
        }
        Ok(found)
    }
}
