// SPDX-License-Identifier: Apache-2.0
//! The body of an attach request on the control socket.

/// Reads and checks it as the engine does before it touches anything.
pub(crate) fn body(bytes: &[u8]) {
    let _ = sluiced::control::check_attach(bytes, 1500);
}
