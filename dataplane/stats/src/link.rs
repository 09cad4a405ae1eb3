// SPDX-License-Identifier: Apache-2.0
//! State of a link.

use std::fmt;

/// State of the link of an uplink or an attachment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "lowercase")
)]
#[repr(u8)]
pub enum LinkState {
    /// Frames can pass, as far as the driver knows; of an attachment: a peer is connected.
    #[default]
    Up = 0,
    /// The device reports no link; of an attachment: no peer is connected.
    Down = 1,
    /// A VF whose PF does not answer: it is down (`ip link set PF up`), or was reset and has not come
    /// back yet. Never the state of an attachment.
    Waiting = 2,
    /// The device is not there: deleted, renamed, moved to another namespace, or never there since the
    /// engine started. It is taken up again when it is back. Never the state of an attachment.
    Gone = 3,
}

impl LinkState {
    /// Every state, at the index that [`LinkState::code`] returns.
    pub const ALL: [LinkState; 4] = [
        LinkState::Up,
        LinkState::Down,
        LinkState::Waiting,
        LinkState::Gone,
    ];

    /// Returns the state of an attachment whose peer is connected or not.
    pub fn of_peer(connected: bool) -> LinkState {
        if connected {
            LinkState::Up
        } else {
            LinkState::Down
        }
    }

    /// Returns the state as a number, for storage in an atomic.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// Returns the state of a number from [`LinkState::code`]; `Waiting` for any other.
    pub fn from_code(code: u8) -> LinkState {
        let state = Self::ALL.get(usize::from(code)).copied();
        state.unwrap_or(LinkState::Waiting)
    }
}

impl fmt::Display for LinkState {
    /// Writes the state as operators read it.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            LinkState::Up => "up",
            LinkState::Down => "down",
            LinkState::Waiting => "waiting for its PF",
            LinkState::Gone => "gone",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::LinkState;

    #[test]
    fn every_state_survives_its_code() {
        for state in LinkState::ALL {
            assert_eq!(LinkState::from_code(state.code()), state);
        }
        assert_eq!(LinkState::from_code(77), LinkState::Waiting);
    }
}
