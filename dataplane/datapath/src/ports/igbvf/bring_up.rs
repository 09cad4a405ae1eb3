// SPDX-License-Identifier: Apache-2.0
//! Negotiation with the PF before a VF works, message by message: from the function's reset to the
//! queues' start, and again from there whenever the PF has forgotten the VF.

use sluice_packet::Mac;
use sluice_vfio::Registers;

use super::mailbox::{Heard, Mailbox, Message};
use super::regs::{
    CTRL, CTRL_RST, MOST_HASHES, MSG_MAC_ADD, MSG_MAC_CLEAR, MSG_RESET, MSG_SET_LPE, MSG_SET_MAC,
    MSG_SET_MULTICAST, MSG_SET_VLAN, MSG_VLAN_ADD,
};

/// Milliseconds that the PF may take to answer before the function is reset and the PF asked again.
const PATIENCE_MS: u64 = 250;

/// Settings that the VF asks of its PF.
#[derive(Debug, Clone)]
pub(super) struct Wishes {
    pub(super) mac: Mac,
    /// Longest frame with its frame check sequence, tags not counted, in bytes.
    pub(super) longest: u32,
    /// VLANs of a trunk.
    pub(super) vids: Vec<u16>,
    /// Multicast groups.
    pub(super) groups: Vec<Mac>,
    /// Further unicast MAC addresses, such as those of VRRP routers.
    pub(super) macs: Vec<Mac>,
}

/// Step of the negotiation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The function was reset; the PF may be in a reset of its own.
    Reset,
    Hello,
    OwnMac,
    Longest,
    Groups,
    /// Further unicast filters, of which the PF may still have some.
    ClearMacs,
    /// The further MAC address of this index.
    Mac(usize),
    /// The VLAN of this index.
    Vlan(usize),
    Done,
}

/// Outcome of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// The PF has not answered yet.
    Going,
    /// All is agreed.
    Done,
    /// The PF does not answer: it is down. Reset and asked again from now on.
    Silent,
    /// The PF refuses.
    Refused(Refusal),
}

/// Setting that the PF refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The MAC address: the PF has laid down another one.
    Mac,
    /// The frame length.
    Longest,
    /// A VLAN: the PF has laid down a port VLAN, or has no filter left.
    Vlan(u16),
}

/// Negotiation in progress.
#[derive(Debug)]
pub(super) struct BringUp {
    step: Step,
    since_ms: u64,
    /// Number of further MAC addresses that the PF refused so far.
    refused_macs: usize,
}

impl BringUp {
    /// Resets the function and begins.
    pub(super) fn begin(registers: &impl Registers, mailbox: &mut Mailbox, now_ms: u64) -> BringUp {
        registers.write32(CTRL, CTRL_RST);
        mailbox.clear();
        BringUp {
            step: Step::Reset,
            since_ms: now_ms,
            refused_macs: 0,
        }
    }

    /// Number of further MAC addresses that the PF refused: it does not trust the VF, or has no filter left.
    pub(super) fn refused_macs(&self) -> usize {
        self.refused_macs
    }

    /// Goes on as far as the PF has answered.
    pub(super) fn go_on(
        &mut self,
        registers: &impl Registers,
        mailbox: &mut Mailbox,
        wishes: &Wishes,
        now_ms: u64,
    ) -> Progress {
        if self.step == Step::Reset {
            if mailbox.is_ready(registers) {
                self.enter(Step::Hello, registers, mailbox, wishes, now_ms);
            }
            return self.patience(registers, mailbox, now_ms);
        }
        match mailbox.listen(registers) {
            Heard::Nothing => return self.patience(registers, mailbox, now_ms),
            // The end of the reset that was waited for.
            Heard::Reset if self.step == Step::Hello => return Progress::Going,
            Heard::Reset => {
                *self = BringUp::begin(registers, mailbox, now_ms);
                return Progress::Going;
            }
            // It has forgotten what it had agreed to; or has never heard of this VF yet.
            Heard::Forgotten if self.step == Step::Hello => return Progress::Going,
            Heard::Forgotten => {
                *self = BringUp::begin(registers, mailbox, now_ms);
                return Progress::Going;
            }
            Heard::Done(answer) => {
                let next = self.after(Some(&answer), wishes);
                self.enter(next, registers, mailbox, wishes, now_ms);
            }
            Heard::Refused => match self.step {
                // It has no MAC address for this VF.
                Step::Hello => self.enter(Step::OwnMac, registers, mailbox, wishes, now_ms),
                // A PF that knows no such filters refuses all of them.
                Step::ClearMacs => {
                    self.refused_macs = wishes.macs.len();
                    self.enter(vlan(0, wishes), registers, mailbox, wishes, now_ms);
                }
                Step::Mac(_) => {
                    self.refused_macs += 1;
                    let next = self.after(None, wishes);
                    self.enter(next, registers, mailbox, wishes, now_ms);
                }
                // Without groups there is no IPv6 and nothing else is wrong.
                Step::Groups => {
                    let next = self.after(None, wishes);
                    self.enter(next, registers, mailbox, wishes, now_ms);
                }
                Step::OwnMac => return Progress::Refused(Refusal::Mac),
                Step::Vlan(at) => {
                    let vid = wishes.vids.get(at).copied().unwrap_or(0);
                    return Progress::Refused(Refusal::Vlan(vid));
                }
                _ => return Progress::Refused(Refusal::Longest),
            },
        }
        if self.step == Step::Done {
            Progress::Done
        } else {
            Progress::Going
        }
    }

    fn patience(
        &mut self,
        registers: &impl Registers,
        mailbox: &mut Mailbox,
        now_ms: u64,
    ) -> Progress {
        if now_ms.saturating_sub(self.since_ms) < PATIENCE_MS {
            return Progress::Going;
        }
        *self = BringUp::begin(registers, mailbox, now_ms);
        Progress::Silent
    }

    /// The step after this one. The answer to RESET carries the MAC address that the PF has for it.
    fn after(&self, answer: Option<&Message>, wishes: &Wishes) -> Step {
        match self.step {
            Step::Reset => Step::Hello,
            Step::Hello if answer.is_some_and(|answer| mac_in(answer) == wishes.mac) => {
                Step::Longest
            }
            Step::Hello => Step::OwnMac,
            Step::OwnMac => Step::Longest,
            Step::Longest if wishes.groups.is_empty() => macs(wishes),
            Step::Longest => Step::Groups,
            Step::Groups => macs(wishes),
            Step::ClearMacs => Step::Mac(0),
            Step::Mac(at) if at + 1 < wishes.macs.len() => Step::Mac(at + 1),
            Step::Mac(_) => vlan(0, wishes),
            Step::Vlan(at) => vlan(at + 1, wishes),
            Step::Done => Step::Done,
        }
    }

    fn enter(
        &mut self,
        step: Step,
        registers: &impl Registers,
        mailbox: &mut Mailbox,
        wishes: &Wishes,
        now_ms: u64,
    ) {
        (self.step, self.since_ms) = (step, now_ms);
        match step {
            Step::Reset | Step::Done => {}
            Step::Hello => mailbox.ask(registers, &[MSG_RESET]),
            Step::OwnMac => {
                let [low, high] = mac_words(wishes.mac);
                mailbox.ask(registers, &[MSG_SET_MAC, low, high]);
            }
            Step::Longest => mailbox.ask(registers, &[MSG_SET_LPE, wishes.longest]),
            Step::Groups => mailbox.ask(registers, &groups(&wishes.groups)),
            Step::ClearMacs => mailbox.ask(registers, &[MSG_SET_MAC | MSG_MAC_CLEAR]),
            Step::Mac(at) => {
                let mac = wishes.macs.get(at).copied().unwrap_or(Mac::ZERO);
                let [low, high] = mac_words(mac);
                mailbox.ask(registers, &[MSG_SET_MAC | MSG_MAC_ADD, low, high]);
            }
            Step::Vlan(at) => {
                let vid = wishes.vids.get(at).copied().unwrap_or(0);
                mailbox.ask(registers, &[MSG_SET_VLAN | MSG_VLAN_ADD, u32::from(vid)]);
            }
        }
    }
}

/// First step of the further MAC addresses, or the one after them where there are none.
fn macs(wishes: &Wishes) -> Step {
    if wishes.macs.is_empty() {
        vlan(0, wishes)
    } else {
        Step::ClearMacs
    }
}

fn vlan(at: usize, wishes: &Wishes) -> Step {
    if at < wishes.vids.len() {
        Step::Vlan(at)
    } else {
        Step::Done
    }
}

fn mac_words(mac: Mac) -> [u32; 2] {
    let [a, b, c, d, e, f] = mac.0;
    [
        u32::from_le_bytes([a, b, c, d]),
        u32::from_le_bytes([e, f, 0, 0]),
    ]
}

fn mac_in(answer: &Message) -> Mac {
    let [a, b, c, d] = answer[1].to_le_bytes();
    let [e, f, ..] = answer[2].to_le_bytes();
    Mac([a, b, c, d, e, f])
}

/// SET_MULTICAST: how many, then two hashes a word. A hash is 12 bits of the address from bit 36 on
/// (datasheet 7.1.1.1.3, as the PF's driver sets it up).
fn groups(groups: &[Mac]) -> Vec<u32> {
    let hashes: Vec<u32> = groups
        .iter()
        .take(MOST_HASHES)
        .map(|group| {
            let [.., low, high] = group.0;
            (u32::from(low) >> 4 | u32::from(high) << 4) & 0xfff
        })
        .collect();
    let count = u32::try_from(hashes.len()).unwrap_or(0);
    let mut message = vec![MSG_SET_MULTICAST | count << 16];
    for pair in hashes.chunks(2) {
        message.push(pair[0] | pair.get(1).map_or(0, |high| high << 16));
    }
    message
}
