// SPDX-License-Identifier: Apache-2.0
//! Frames that a pod may not send, for people: what was sent, what is allowed, and the key of the network
//! that would allow it.

use std::net::IpAddr;

use sluice_api::{AntiSpoof, AttachRequest, Backend, SpoofedFrame};
use sluice_datapath::{DropReason, Spoofed};
use sluice_packet::Mac;

use super::live::segment;

/// Describes a frame that the attachment of `request`, whose MAC address is `own`, was not let send.
pub(super) fn describe(request: &AttachRequest, own: Mac, frame: &Spoofed) -> SpoofedFrame {
    SpoofedFrame {
        reason: frame.reason.name().to_owned(),
        vid: frame.vid.get(),
        mac: frame.mac,
        ip: frame.ip,
        sent: sent(frame),
        advice: format!("{} {}", allowed(request, own), remedy(request, own, frame)),
    }
}

fn sent(
    Spoofed {
        reason,
        vid,
        mac,
        ip,
        ..
    }: &Spoofed,
) -> String {
    let ip = ip.map_or_else(|| "nothing".to_owned(), |ip| ip.to_string());
    let what = match reason {
        DropReason::SpoofedMac => format!("sends from MAC address {mac}"),
        DropReason::SpoofedIp => format!("sends from IP address {ip}"),
        DropReason::SpoofedArp => format!("says by ARP that {ip} is at {mac}"),
        DropReason::SpoofedNd => format!("says by neighbour discovery that {ip} is at {mac}"),
        _ => format!("says that {ip} is at {mac}, which another attachment was given"),
    };
    format!("{what} in {}", segment(*vid))
}

/// Addresses that the pod may send from.
fn allowed(request: &AttachRequest, own: Mac) -> String {
    let list = |items: Vec<String>| items.join(", ");
    let mut text = match request.anti_spoof {
        AntiSpoof::Strict if request.addresses.is_empty() => {
            format!("It may send from {own} and any IP address")
        }
        AntiSpoof::Strict => {
            let addresses = request.addresses.iter().map(|net| net.addr().to_string());
            format!("It may send from {own} and {}", list(addresses.collect()))
        }
        AntiSpoof::Mac => format!("It may send from {own} and any IP address"),
        AntiSpoof::Off => {
            "It may send from any MAC address that no other attachment has".to_owned()
        }
    };
    if !request.allowed_address_pairs.is_empty() {
        let pairs = request
            .allowed_address_pairs
            .iter()
            .map(ToString::to_string);
        text.push_str(&format!(", and by its pairs {}", list(pairs.collect())));
    }
    format!("{text} (antiSpoof: {}).", request.anti_spoof)
}

/// Returns what would let the frame pass.
fn remedy(request: &AttachRequest, own: Mac, frame: &Spoofed) -> String {
    let mac = frame.mac;
    let named = |mac: Mac| {
        let mut pairs = request.allowed_address_pairs.iter();
        pairs.any(|pair| pair.mac == Some(mac))
    };
    let is_foreign = mac != own && !named(mac);
    if frame.reason == DropReason::AddressTaken {
        let pair = pair(own, mac, frame.ip);
        return format!(
            "Where both are to have it, as by VRRP, the network allows it by \
             `\"allowedAddressPairs\": [{pair}]`."
        );
    }
    if is_foreign && request.anti_spoof == AntiSpoof::Off
        || frame.reason == DropReason::SpoofedMac && !is_foreign
    {
        return "No key allows this: another attachment of the VLAN has that MAC address, or nobody can \
                have it."
            .to_owned();
    }
    if is_foreign {
        let told = match request.backend {
            Backend::Memif(_) => {
                "it is in the CNI result, in the pod's network-status and in interface.json, and DPDK \
                 takes it as mac= in --vdev"
            }
            Backend::VhostUser(_) => {
                "it is in the CNI result, in the pod's network-status and in interface.json; DPDK takes it \
                 as mac= in --vdev, and QEMU as mac= of the virtio-net device"
            }
            Backend::Tap {} => {
                "the tap has had it from the start; a later plugin may have changed it"
            }
        };
        return format!(
            "The program must use {own} ({told}), or the network must ask for another: for {mac} as its \
             own by the key `mac`, besides its own by `\"allowedAddressPairs\": [{{\"mac\": \
             \"{mac}\"}}]`, for any by `\"antiSpoof\": \"off\"`."
        );
    }
    let restricted =
        request.anti_spoof == AntiSpoof::Strict && (!request.addresses.is_empty() || mac != own);
    match frame.ip.filter(|ip| restricted && !is_nobodys(ip)) {
        Some(ip) => format!(
            "The network allows it by `\"allowedAddressPairs\": [{}]`, and whatever a router forwards by \
             `\"antiSpoof\": \"mac\"`.",
            pair(own, mac, Some(ip))
        ),
        None => "No key allows this: no host sends from such an address.".to_owned(),
    }
}

/// The address pair that allows a frame, as JSON.
fn pair(own: Mac, mac: Mac, ip: Option<IpAddr>) -> String {
    let mac = (mac != own).then(|| format!("\"mac\": \"{mac}\""));
    let ip = ip.map(|ip| format!("\"ip\": \"{ip}\""));
    let members: Vec<String> = mac.into_iter().chain(ip).collect();
    format!("{{{}}}", members.join(", "))
}

/// Whether no host can have an address.
fn is_nobodys(ip: &IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    ip.is_unspecified() || ip.is_multicast() || ip.is_loopback() || broadcast
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use serde_json::{Value, json};
    use sluice_datapath::AttachmentId;
    use sluice_packet::Vid;

    const OWN: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const OTHER: Mac = Mac([2, 0, 0, 0, 0, 0x99]);

    fn advice(with: Value, reason: DropReason, mac: Mac, ip: Option<&str>) -> SpoofedFrame {
        let mut request = json!({
            "container_id": "c0ffee", "ifname": "net1",
            "netns": {"path": "/run/netns/x", "dev": 4, "ino": 5}, "uplink": "wire0",
            "addresses": ["10.0.0.5/24"],
            "vlan": {"mode": "access", "vid": 210}, "backend": {"type": "memif"}
        });
        for (key, value) in with.as_object().unwrap() {
            request[key] = value.clone();
        }
        let frame = Spoofed {
            attachment: AttachmentId::new(1, 1),
            vid: Vid::new(210).unwrap(),
            reason,
            mac,
            ip: ip.map(|ip| ip.parse().unwrap()),
        };
        describe(&serde_json::from_value(request).unwrap(), OWN, &frame)
    }

    #[test]
    fn a_program_with_its_own_idea_of_a_mac_is_told_why() {
        let told = advice(json!({}), DropReason::SpoofedMac, OTHER, Some("10.0.0.5"));
        assert_eq!(told.reason, "spoofed_mac");
        assert_eq!(
            told.sent,
            "sends from MAC address 02:00:00:00:00:99 in VLAN 210"
        );
        assert_eq!(
            told.advice,
            "It may send from 02:00:00:00:00:01 and 10.0.0.5 (antiSpoof: strict). The program must use \
             02:00:00:00:00:01 (it is in the CNI result, in the pod's network-status and in \
             interface.json, and DPDK takes it as mac= in --vdev), or the network must ask for another: \
             for 02:00:00:00:00:99 as its own by the key `mac`, besides its own by \
             `\"allowedAddressPairs\": [{\"mac\": \"02:00:00:00:00:99\"}]`, for any by `\"antiSpoof\": \
             \"off\"`."
        );
        let tap = json!({"backend": {"type": "tap"}});
        let told = advice(tap, DropReason::SpoofedMac, OTHER, None);
        assert!(told.advice.contains("a later plugin"), "{}", told.advice);
    }

    #[test]
    fn a_router_is_told_how_to_forward() {
        let told = advice(json!({}), DropReason::SpoofedIp, OWN, Some("10.9.0.1"));
        assert_eq!(told.sent, "sends from IP address 10.9.0.1 in VLAN 210");
        for part in ["[{\"ip\": \"10.9.0.1\"}]", "\"antiSpoof\": \"mac\""] {
            assert!(told.advice.contains(part), "{}", told.advice);
        }
        let told = advice(json!({}), DropReason::SpoofedArp, OWN, Some("10.0.0.9"));
        assert!(
            told.sent.starts_with("says by ARP that 10.0.0.9 is at"),
            "{}",
            told.sent
        );
        let pairs = json!({"allowed_address_pairs": [{"mac": OTHER, "ip": "10.0.0.1"}]});
        let told = advice(pairs, DropReason::SpoofedNd, OTHER, Some("fd00::1"));
        let pair = format!("{{\"mac\": \"{OTHER}\", \"ip\": \"fd00::1\"}}");
        assert!(told.advice.contains(&pair), "{}", told.advice);
        assert!(
            told.advice
                .contains("by its pairs 02:00:00:00:00:99=10.0.0.1/32"),
            "{}",
            told.advice
        );
    }

    #[test]
    fn what_nothing_allows_gets_no_key() {
        let none = |with: Value, reason, mac, ip| {
            let told = advice(with, reason, mac, ip);
            assert!(
                told.advice.contains("No key allows this"),
                "{}",
                told.advice
            );
            assert!(
                !told.advice.contains("allowedAddressPairs"),
                "{}",
                told.advice
            );
        };
        none(
            json!({"anti_spoof": "off"}),
            DropReason::SpoofedMac,
            OTHER,
            None,
        );
        none(json!({}), DropReason::SpoofedIp, OWN, Some("224.0.0.1"));
        none(
            json!({"anti_spoof": "mac"}),
            DropReason::SpoofedIp,
            OWN,
            Some("255.255.255.255"),
        );
        none(
            json!({"addresses": []}),
            DropReason::SpoofedIp,
            OWN,
            Some("127.0.0.1"),
        );
        none(
            json!({"anti_spoof": "mac"}),
            DropReason::SpoofedMac,
            OWN,
            None,
        );
    }

    #[test]
    fn a_taken_address_can_be_shared() {
        let told = advice(
            json!({"anti_spoof": "mac"}),
            DropReason::AddressTaken,
            OWN,
            Some("10.0.0.1"),
        );
        assert!(
            told.sent
                .ends_with("which another attachment was given in VLAN 210"),
            "{}",
            told.sent
        );
        assert!(told.advice.contains("as by VRRP"), "{}", told.advice);
    }
}
