// SPDX-License-Identifier: Apache-2.0
//! EtherType values (IANA "IEEE 802 Numbers").

/// EtherTypes, as plain `u16` in host order: `EtherType::IPV4` compares with [`FlowKey::ethertype`]
/// and with what a view returns.
///
/// [`FlowKey::ethertype`]: crate::FlowKey::ethertype
#[derive(Debug, Clone, Copy)]
pub enum EtherType {}

impl EtherType {
    /// IPv4 (RFC 894).
    pub const IPV4: u16 = 0x0800;
    /// ARP (RFC 826).
    pub const ARP: u16 = 0x0806;
    /// IPv6 (RFC 2464).
    pub const IPV6: u16 = 0x86dd;
    /// 802.1Q customer tag.
    pub const VLAN: u16 = 0x8100;
    /// 802.1ad service tag.
    pub const QINQ: u16 = 0x88a8;
    /// Tag protocol number used before 802.1ad was agreed; still met on old switches.
    pub const QINQ_OLD: u16 = 0x9100;
    /// MAC control: PAUSE and priority-based flow control (IEEE 802.3, clause 31).
    pub const MAC_CONTROL: u16 = 0x8808;
    /// Slow protocols: LACP, marker, OAM, synchronisation (IEEE 802.3, clause 57A).
    pub const SLOW: u16 = 0x8809;
    /// Port access control, EAPOL (IEEE 802.1X).
    pub const EAPOL: u16 = 0x888e;
    /// Registration of VLANs, MVRP (IEEE 802.1Q, clause 11).
    pub const MVRP: u16 = 0x88f5;
    /// Registration of groups, MMRP (IEEE 802.1Q, clause 10).
    pub const MMRP: u16 = 0x88f6;
    /// LLDP (IEEE 802.1AB).
    pub const LLDP: u16 = 0x88cc;
    /// Lowest value that is an EtherType; below it the field is an 802.3 length.
    pub const FIRST: u16 = 0x0600;

    /// Whether `value` announces a VLAN tag: 802.1Q, 802.1ad, or one of the pre-standard numbers
    /// 0x9100, 0x9200, 0x9300. All of them count, so that no device further on can see a tag where
    /// the engine saw payload.
    #[inline]
    #[must_use]
    pub const fn is_tag(value: u16) -> bool {
        matches!(value, 0x8100 | 0x88a8 | 0x9100 | 0x9200 | 0x9300)
    }
}
