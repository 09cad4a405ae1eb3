// SPDX-License-Identifier: Apache-2.0
//! Answers to packets that go no further: ICMP errors and resets, made in the packet's own buffer.
//!
//! They go back where the packet came from, at a limited rate for each interface, and never in
//! answer to errors, groups, later fragments or anything but IP (RFC 1812, 4.3.2.7; RFC 4443, 2.4).

use std::net::IpAddr;

use sluice_packet::reject::{self, IcmpError, NoAnswer};
use sluice_packet::{icmp, icmpv6, ipv6};

use crate::burst::Packet;
use crate::context::{Context, Links};

/// Reason that a sender is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Time to live ran out on the way.
    TimeExceeded,
    /// No route.
    NetUnreachable,
    /// Next hop that does not answer.
    HostUnreachable,
    /// No such port on the firewall itself.
    PortUnreachable,
    /// No such protocol on the firewall itself.
    ProtocolUnreachable,
    /// Larger than this MTU, and not to be fragmented.
    TooBig(u16),
}

/// Types and codes (RFC 792; RFC 1191; RFC 4443).
const TIME_EXCEEDED_V4: u8 = 11;
const PACKET_TOO_BIG_V6: u8 = 2;
const TIME_EXCEEDED_V6: u8 = 3;
const PARAMETER_PROBLEM_V6: u8 = 4;
/// Offset of an IPv6 header's next header.
const NEXT_HEADER: u8 = 6;

/// Tells a packet's sender, as far as it may be told. The packet's buffer is used up.
pub fn trouble<L: Links>(context: &mut Context<'_, L>, packet: &mut Packet, trouble: Trouble) {
    let input = packet.input;
    let allowed = match reject::answer(packet.frame.bytes(), &packet.parsed) {
        // Resets may be answered by ICMP, though not by resets.
        Ok(_) | Err(NoAnswer::Reset) => true,
        Err(_) => false,
    };
    let error = error_about(context, packet, trouble).filter(|_| allowed);
    let made = match error {
        Some(error) if context.may_answer(input) => {
            reject::icmp_error(&mut packet.frame, &packet.parsed, &error).is_ok()
        }
        _ => false,
    };
    send_back(context, packet, made);
}

/// Answers a packet that a rule rejects, as the engine does: from its original destination.
pub fn reject<L: Links>(context: &mut Context<'_, L>, packet: &mut Packet) {
    let may = reject::answer(packet.frame.bytes(), &packet.parsed).is_ok()
        && context.may_answer(packet.input);
    let made = may && reject::build(&mut packet.frame, &packet.parsed).is_ok();
    send_back(context, packet, made);
}

fn send_back<L: Links>(context: &mut Context<'_, L>, packet: &mut Packet, made: bool) {
    let input = packet.input;
    let counters = context.state.counters.interface(input);
    if made {
        counters.errors += 1;
        context.send_own(input, &mut packet.frame);
    } else {
        counters.errors_withheld += 1;
    }
}

fn error_about<L: Links>(
    context: &Context<'_, L>,
    packet: &Packet,
    trouble: Trouble,
) -> Option<IcmpError> {
    let interface = context.tables.interfaces.get(packet.input);
    let source = interface.source_for(packet.src())?;
    let (icmp_type, code, rest) = match source {
        IpAddr::V4(_) => match trouble {
            Trouble::TimeExceeded => (TIME_EXCEEDED_V4, 0, 0),
            Trouble::NetUnreachable => (icmp::UNREACHABLE, 0, 0),
            Trouble::HostUnreachable => (icmp::UNREACHABLE, 1, 0),
            Trouble::ProtocolUnreachable => (icmp::UNREACHABLE, 2, 0),
            Trouble::PortUnreachable => (icmp::UNREACHABLE, 3, 0),
            Trouble::TooBig(mtu) => (icmp::UNREACHABLE, 4, mtu),
        },
        IpAddr::V6(_) => match trouble {
            Trouble::TimeExceeded => (TIME_EXCEEDED_V6, 0, 0),
            Trouble::NetUnreachable => (icmpv6::UNREACHABLE, 0, 0),
            Trouble::HostUnreachable => (icmpv6::UNREACHABLE, 3, 0),
            Trouble::PortUnreachable => (icmpv6::UNREACHABLE, 4, 0),
            Trouble::TooBig(mtu) => (PACKET_TOO_BIG_V6, 0, mtu),
            Trouble::ProtocolUnreachable => {
                let has_extensions =
                    usize::from(packet.parsed.l4 - packet.parsed.l3) != ipv6::HEADER_LEN;
                if has_extensions {
                    return None;
                }
                (PARAMETER_PROBLEM_V6, 1, NEXT_HEADER.into())
            }
        },
    };
    Some(IcmpError {
        source,
        icmp_type,
        code,
        rest: u32::from(rest).to_be_bytes(),
    })
}
