// SPDX-License-Identifier: Apache-2.0
//! The mailbox between a VF and its PF: one message to the PF and its answer at a time, and what the
//! PF says unasked. Each call is a few register accesses and never waits.

use sluice_vfio::{RegOffset, Registers};

use super::regs::{
    MBX_ACK, MBX_CLEARING, MBX_PFACK, MBX_PFSTS, MBX_REQ, MBX_RSTD, MBX_RSTI, MBX_VFU, MSG_ACK,
    MSG_CTS, MSG_NACK, V2PMAILBOX, VMBMEM,
};

/// Words of the mailbox's memory.
pub(super) const WORDS: usize = 16;

/// Message of the mailbox.
pub(super) type Message = [u32; WORDS];

/// The driver's end of the mailbox.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    /// Bits that a read cleared and that nobody has looked at yet.
    shadow: u32,
    state: State,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing was asked.
    #[default]
    Idle,
    /// Something is to be asked as soon as the buffer is ours.
    Waiting(Message, usize),
    /// The PF was asked; these low 16 bits come back in the answer.
    Asked(u32),
}

/// Event that a poll of the mailbox found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// Nothing.
    Nothing,
    /// The PF is being reset, or was: everything it knew of this VF is lost.
    Reset,
    /// The PF no longer knows this VF.
    Forgotten,
    /// The PF did what it was asked; its answer.
    Done(Message),
    /// The PF refused.
    Refused,
}

impl Mailbox {
    /// Forgets everything: the function was reset.
    pub(super) fn clear(&mut self) {
        *self = Mailbox::default();
    }

    /// Whether the PF is not being reset, asked after the function was reset.
    pub(super) fn is_ready(&mut self, registers: &impl Registers) -> bool {
        let ready = self.read(registers) & MBX_RSTI == 0;
        self.shadow &= !MBX_RSTD;
        ready
    }

    /// Asks the PF; what was asked before is forgotten.
    pub(super) fn ask(&mut self, registers: &impl Registers, words: &[u32]) {
        let mut message = [0; WORDS];
        let count = words.len().min(WORDS);
        message[..count].copy_from_slice(&words[..count]);
        self.shadow &= !(MBX_PFSTS | MBX_PFACK);
        self.state = State::Waiting(message, count);
        self.send(registers);
    }

    /// Looks whether the PF has said something.
    pub(super) fn listen(&mut self, registers: &impl Registers) -> Heard {
        let bits = self.read(registers);
        if bits & (MBX_RSTI | MBX_RSTD) != 0 {
            self.shadow &= !MBX_RSTD;
            return Heard::Reset;
        }
        if bits & MBX_PFSTS == 0 {
            self.send(registers);
            return Heard::Nothing;
        }
        let Some(message) = self.receive(registers) else {
            return Heard::Nothing;
        };
        let asked = match self.state {
            State::Asked(asked) => asked,
            _ => u32::MAX,
        };
        let is_answer = message[0] & 0xffff == asked && message[0] & (MSG_ACK | MSG_NACK) != 0;
        if is_answer {
            self.state = State::Idle;
            if message[0] & MSG_ACK != 0 {
                return Heard::Done(message);
            }
            // One that knows nothing of this VF refuses everything but RESET.
            return Heard::Refused;
        }
        if message[0] & MSG_CTS == 0 {
            return Heard::Forgotten;
        }
        Heard::Nothing
    }

    /// Whether a look would hear something.
    pub(super) fn has_news(&mut self, registers: &impl Registers) -> bool {
        self.read(registers) & (MBX_RSTI | MBX_RSTD | MBX_PFSTS) != 0
    }

    fn read(&mut self, registers: &impl Registers) -> u32 {
        let bits = registers.read32(V2PMAILBOX);
        self.shadow |= bits & MBX_CLEARING;
        bits | self.shadow
    }

    /// Has the buffer for us, or not yet.
    fn take_buffer(&mut self, registers: &impl Registers) -> bool {
        registers.write32(V2PMAILBOX, MBX_VFU);
        self.read(registers) & MBX_VFU != 0
    }

    fn send(&mut self, registers: &impl Registers) {
        let State::Waiting(message, count) = self.state else {
            return;
        };
        if !self.take_buffer(registers) {
            return;
        }
        // What the PF may have put there before is not the answer to this.
        self.shadow &= !(MBX_PFSTS | MBX_PFACK);
        for (at, word) in (0u32..).zip(&message[..count]) {
            registers.write32(word_at(at), *word);
        }
        registers.write32(V2PMAILBOX, MBX_REQ);
        self.state = State::Asked(message[0] & 0xffff);
    }

    fn receive(&mut self, registers: &impl Registers) -> Option<Message> {
        if !self.take_buffer(registers) {
            return None;
        }
        self.shadow &= !MBX_PFSTS;
        let mut message = [0; WORDS];
        for (at, word) in (0u32..).zip(&mut message) {
            *word = registers.read32(word_at(at));
        }
        // Gives the buffer back too.
        registers.write32(V2PMAILBOX, MBX_ACK);
        Some(message)
    }
}

fn word_at(index: u32) -> RegOffset {
    RegOffset(VMBMEM.0 + 4 * index)
}
