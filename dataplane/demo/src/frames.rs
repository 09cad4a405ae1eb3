// SPDX-License-Identifier: Apache-2.0
//! Frames of the wire host: made with a tag of its own making, and read again.

use std::net::Ipv4Addr;

use sluice_packet::arp::{self, Arp, ArpFields};
use sluice_packet::build::{FrameBuilder, TcpFields};
use sluice_packet::eth::Ethernet;
use sluice_packet::icmp::Icmp;
use sluice_packet::ipv4::Ipv4;
use sluice_packet::tcp::Tcp;
use sluice_packet::udp::Udp;
use sluice_packet::{EtherType, InnerTag, IpProto, Mac, Vid, VlanTag, l4, parse};

/// Two parties in a segment, and who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Path {
    pub(super) vid: Vid,
    pub(super) from: (Mac, Ipv4Addr),
    pub(super) to: (Mac, Ipv4Addr),
}

impl Path {
    /// A frame from the one to the other, tagged unless the segment is the untagged one.
    fn frame<'b>(&self, to: Mac) -> FrameBuilder<'b> {
        let frame = FrameBuilder::new(to, self.from.0).padded();
        if self.vid.is_untagged() {
            return frame;
        }
        frame.tag(VlanTag::new(EtherType::VLAN, self.vid))
    }

    /// Builds an ARP request for the other's address.
    pub(super) fn arp_request(&self) -> Vec<u8> {
        let fields = ArpFields {
            operation: arp::REQUEST,
            sender_mac: self.from.0,
            sender_ip: self.from.1,
            target_mac: Mac::ZERO,
            target_ip: self.to.1,
        };
        self.frame(Mac::BROADCAST).arp(fields).build()
    }

    /// Builds an ARP reply with our address.
    pub(super) fn arp_reply(&self) -> Vec<u8> {
        let fields = ArpFields {
            operation: arp::REPLY,
            sender_mac: self.from.0,
            sender_ip: self.from.1,
            target_mac: self.to.0,
            target_ip: self.to.1,
        };
        self.frame(self.to.0).arp(fields).build()
    }

    /// An echo request.
    pub(super) fn ping(&self, id: u16, sequence: u16, data: &[u8]) -> Vec<u8> {
        let [a, b] = id.to_be_bytes();
        let [c, d] = sequence.to_be_bytes();
        let frame = self.frame(self.to.0).ipv4(self.from.1, self.to.1);
        frame.icmp(8, 0, [a, b, c, d]).payload(data).build()
    }

    /// A datagram.
    pub(super) fn udp(&self, from: u16, to: u16, data: &[u8]) -> Vec<u8> {
        let frame = self.frame(self.to.0).ipv4(self.from.1, self.to.1);
        frame.udp(from, to).payload(data).build()
    }

    /// A segment without data.
    pub(super) fn tcp(&self, fields: TcpFields) -> Vec<u8> {
        self.frame(self.to.0)
            .ipv4(self.from.1, self.to.1)
            .tcp(fields)
            .build()
    }
}

/// A frame that was read, whole and with right checksums.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ReceivedFrame {
    /// The segment that its tag named.
    pub(super) vid: Vid,
    pub(super) from: (Mac, Ipv4Addr),
    pub(super) to: (Mac, Ipv4Addr),
    pub(super) what: Content,
}

/// Content of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    ArpRequest,
    ArpReply,
    EchoReply {
        id: u16,
        sequence: u16,
        data: Vec<u8>,
    },
    Udp {
        from: u16,
        to: u16,
        data: Vec<u8>,
    },
    Tcp {
        from: u16,
        to: u16,
        flags: u8,
        seq: u32,
        ack: u32,
    },
    /// Anything else over IPv4, with its protocol number.
    Other(u8),
}

/// Frame that no host would take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    /// Header that cannot be parsed.
    #[error(transparent)]
    Parse(#[from] sluice_packet::ParseError),
    /// IPv4 or transport checksum that does not match.
    #[error("a checksum is wrong")]
    Checksum,
}

impl ReceivedFrame {
    /// Reads an untagged frame. `None` if it is neither ARP nor IPv4, `Err` if it is broken.
    pub(super) fn read(vid: Vid, frame: &[u8]) -> Result<Option<ReceivedFrame>, FrameError> {
        let eth = Ethernet::new(frame)?;
        match eth.ethertype() {
            EtherType::ARP => {
                let arp = Arp::new(eth.payload())?;
                let what = if arp.operation() == arp::REQUEST {
                    Content::ArpRequest
                } else {
                    Content::ArpReply
                };
                let from = (arp.sender_mac(), arp.sender_ip());
                Ok(Some(ReceivedFrame {
                    vid,
                    from,
                    to: (eth.dst(), arp.target_ip()),
                    what,
                }))
            }
            EtherType::IPV4 => ReceivedFrame::read_ipv4(vid, frame, &eth).map(Some),
            _ => Ok(None),
        }
    }

    fn read_ipv4(vid: Vid, frame: &[u8], eth: &Ethernet<'_>) -> Result<ReceivedFrame, FrameError> {
        let parsed = parse(frame, InnerTag::Refuse)?;
        let ip = Ipv4::new(eth.payload())?;
        if !ip.checksum_ok() || l4::verify_checksum(frame, &parsed) == Some(false) {
            return Err(FrameError::Checksum);
        }
        let what = match ip.proto() {
            IpProto::ICMP => {
                let icmp = Icmp::new(ip.payload())?;
                let [a, b, c, d] = icmp.rest();
                if icmp.icmp_type() == sluice_packet::icmp::ECHO_REPLY {
                    Content::EchoReply {
                        id: u16::from_be_bytes([a, b]),
                        sequence: u16::from_be_bytes([c, d]),
                        data: icmp.payload().to_vec(),
                    }
                } else {
                    Content::Other(IpProto::ICMP)
                }
            }
            IpProto::UDP => {
                let udp = Udp::new(ip.payload())?;
                let data = udp.payload().to_vec();
                Content::Udp {
                    from: udp.src_port(),
                    to: udp.dst_port(),
                    data,
                }
            }
            IpProto::TCP => {
                let tcp = Tcp::new(ip.payload())?;
                Content::Tcp {
                    from: tcp.src_port(),
                    to: tcp.dst_port(),
                    flags: tcp.flags(),
                    seq: tcp.seq(),
                    ack: tcp.ack(),
                }
            }
            other => Content::Other(other),
        };
        Ok(ReceivedFrame {
            vid,
            from: (eth.src(), ip.src()),
            to: (eth.dst(), ip.dst()),
            what,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use sluice_packet::outer_tag;

    const PATH: Path = Path {
        vid: Vid::MAX,
        from: (Mac([2, 0, 0, 0, 0, 1]), Ipv4Addr::new(10, 0, 0, 1)),
        to: (Mac([2, 0, 0, 0, 0, 2]), Ipv4Addr::new(10, 0, 0, 2)),
    };

    /// Takes the tag off, as a switch's access port would.
    fn untag(frame: &[u8]) -> (Vid, Vec<u8>) {
        let tag = outer_tag(frame, &[EtherType::VLAN]).unwrap();
        (tag.vid().unwrap(), [&frame[..12], &frame[16..]].concat())
    }

    #[test]
    fn what_is_made_is_read() {
        for (frame, what) in [
            (PATH.arp_request(), Content::ArpRequest),
            (PATH.arp_reply(), Content::ArpReply),
            (
                PATH.udp(1, 7, b"x"),
                Content::Udp {
                    from: 1,
                    to: 7,
                    data: b"x".to_vec(),
                },
            ),
            (PATH.ping(1, 2, b""), Content::Other(1)),
        ] {
            let (vid, frame) = untag(&frame);
            let heard = ReceivedFrame::read(vid, &frame).unwrap().unwrap();
            assert_eq!(
                (heard.vid, heard.from, heard.to.1),
                (PATH.vid, PATH.from, PATH.to.1)
            );
            assert_eq!(heard.what, what);
        }
    }

    #[test]
    fn a_frame_that_was_changed_is_broken() {
        let (vid, mut frame) = untag(&PATH.udp(1, 7, b"four"));
        frame[14 + 20 + 8] ^= 1;
        assert!(ReceivedFrame::read(vid, &frame).is_err());
    }
}
