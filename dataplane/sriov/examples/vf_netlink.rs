// SPDX-License-Identifier: Apache-2.0
//! Records what a PF's driver answers to each setting of a VF, byte by byte: what the tests of
//! `links` read again without a NIC. Lines are `# what`, `> request` and `< answer`, in hex.
//!
//! `cargo run -p sluice-sriov --example vf_netlink PF INDEX >exchange.txt`. The VF is
//! left as it was found, where the driver takes that.

use std::error::Error;

use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{LinkAttribute, LinkExtentMask, LinkMessage};
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use sluice_sriov::links;
use sluice_sriov::settings::{VfChange, VfLink, VfVlan};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(pf), Some(vf), None) = (args.next(), args.next(), args.next()) else {
        return Err("usage: vf_netlink PF INDEX".into());
    };
    let vf: u32 = vf.parse()?;
    let index = links::netdev(&pf)?
        .ok_or_else(|| format!("no netdev {pf}"))?
        .index;
    let before = links::vf_settings(&pf, vf)?;
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;

    let mut get = LinkMessage::default();
    get.header.index = index;
    get.attributes = vec![LinkAttribute::ExtMask(vec![LinkExtentMask::Vf])];
    exchange(&socket, "before", RouteNetlinkMessage::GetLink(get.clone()))?;
    for change in changes() {
        let message = RouteNetlinkMessage::SetLink(links::setting(index, vf, change));
        exchange(&socket, &change.to_string(), message)?;
    }
    exchange(&socket, "after", RouteNetlinkMessage::GetLink(get))?;

    for change in before.changes_from(&links::vf_settings(&pf, vf)?) {
        links::set_vf(&pf, vf, change)?;
    }
    Ok(())
}

/// Changes: one of every kind.
fn changes() -> Vec<VfChange> {
    let vlan = |is_8021ad| VfVlan {
        vid: 210,
        qos: 5,
        is_8021ad,
    };
    vec![
        VfChange::Vlan(vlan(false)),
        VfChange::Vlan(vlan(true)),
        VfChange::Mac([2, 0, 0x5e, 0x10, 0, 1]),
        VfChange::Spoofchk(false),
        VfChange::Trust(true),
        VfChange::Rate { min: 10, max: 100 },
        VfChange::Rate { min: 0, max: 100 },
        VfChange::Link(VfLink::Enable),
    ]
}

fn exchange(
    socket: &Socket,
    what: &str,
    message: RouteNetlinkMessage,
) -> Result<(), Box<dyn Error>> {
    let mut request = NetlinkMessage::from(message);
    request.header.flags = NLM_F_REQUEST;
    if matches!(
        request.payload,
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::SetLink(_))
    ) {
        request.header.flags |= NLM_F_ACK;
    }
    request.header.sequence_number = 1;
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    println!("# {what}\n> {}", hex(&bytes));
    socket.send(&bytes, 0)?;
    let (answer, _) = socket.recv_from_full()?;
    println!("< {}", hex(&answer));
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
