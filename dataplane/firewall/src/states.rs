// SPDX-License-Identifier: Apache-2.0
//! States of the connection that a frame is of, as rules of stateful policies name them.

use crate::verdict::Verdict;

/// State of a frame's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// First frame of a connection, or one of no connection that is tracked, such as ARP and multicast.
    New,
    /// Frame of a connection that was let begin, in either direction.
    Established,
    /// ICMP error about a frame of such a connection.
    Related,
    /// Frame that can be none of these: not possible in its connection, or of none and unable to begin one.
    Invalid,
}

/// Set of states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct States(u8);

impl State {
    /// All states, in the order of their words.
    pub const ALL: [State; 4] = [
        State::New,
        State::Established,
        State::Related,
        State::Invalid,
    ];

    /// Word that policies use for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            State::New => "new",
            State::Established => "established",
            State::Related => "related",
            State::Invalid => "invalid",
        }
    }

    /// Verdict on frames in this state that no rule of a stateful policy decides; `None` of new ones, on
    /// which the policy's default decides.
    #[must_use]
    pub const fn default_verdict(self) -> Option<Verdict> {
        match self {
            State::New => None,
            State::Established | State::Related => Some(Verdict::Accept),
            State::Invalid => Some(Verdict::Drop),
        }
    }

    /// Index among the states other than new ones.
    pub(crate) const fn beyond_new(self) -> Option<usize> {
        match self {
            State::New => None,
            State::Established => Some(0),
            State::Related => Some(1),
            State::Invalid => Some(2),
        }
    }
}

impl States {
    /// Set of new frames alone, which rules without `state` are for.
    pub const NEW: States = States(1);

    /// Set of these states.
    #[must_use]
    pub fn of(states: impl IntoIterator<Item = State>) -> States {
        let bits = states.into_iter().fold(0, |bits, state| bits | bit(state));
        States(bits)
    }

    /// Whether every state of `other` is in it.
    #[must_use]
    pub const fn includes(self, other: States) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether a state is in it.
    #[must_use]
    pub const fn contains(self, state: State) -> bool {
        self.0 & bit(state) != 0
    }
}

const fn bit(state: State) -> u8 {
    match state.beyond_new() {
        None => 1,
        Some(index) => 2 << index,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_the_states_it_was_made_of() {
        let set = States::of([State::Established, State::Invalid]);
        let found = State::ALL.map(|state| set.contains(state));
        assert_eq!(found, [false, true, false, true]);
        assert_eq!(States::of([State::New]), States::NEW);
    }
}
