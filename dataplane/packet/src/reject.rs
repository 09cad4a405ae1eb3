// SPDX-License-Identifier: Apache-2.0
//! Answer to a rejected frame, built in place in its buffer.
//!
//! TCP is answered with RST, anything else with ICMP "administratively prohibited". The answer goes
//! back where the frame came from: MACs swapped, from the original destination to the original source,
//! with the inner tag if there is one.

mod answer;
mod buffer;
mod write;

pub use answer::{Answer, NoAnswer, answer};
pub use buffer::{HEADROOM, RejectBuffer};

use std::net::IpAddr;

use crate::parse::Parsed;

/// Turns the frame in `buf` into its answer. On `Err` the frame is as it was.
///
/// `parsed` must be what `parse` made of this very frame.
pub fn build(buf: &mut impl RejectBuffer, parsed: &Parsed) -> Result<Answer, NoAnswer> {
    let answer = answer(buf.frame(), parsed)?;
    match answer {
        Answer::TcpReset => write::reset(buf, parsed)?,
        Answer::Icmp | Answer::Icmpv6 => write::prohibited(buf, parsed)?,
    }
    swap_macs(buf.frame_mut());
    Ok(answer)
}

/// Error of ICMP or ICMPv6, as a router sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IcmpError {
    /// Address that it comes from; of the same kind as the packet that it is about.
    pub source: IpAddr,
    /// Type.
    pub icmp_type: u8,
    /// Code.
    pub code: u8,
    /// Four bytes behind the checksum, whose meaning depends on the type: an MTU, a pointer.
    pub rest: [u8; 4],
}

/// Turns the packet in `buf` into an error about it, back to its sender. On `Err` the frame is as it
/// was. Whether there may be one at all, [`answer()`] says.
///
/// `parsed` must be what `parse` made of this very frame.
pub fn icmp_error(
    buf: &mut impl RejectBuffer,
    parsed: &Parsed,
    error: &IcmpError,
) -> Result<(), NoAnswer> {
    write::icmp_error(buf, parsed, error)?;
    swap_macs(buf.frame_mut());
    Ok(())
}

fn swap_macs(frame: &mut [u8]) {
    if let Some(macs) = frame.first_chunk_mut::<12>() {
        macs.rotate_left(6);
    }
}

#[cfg(test)]
mod tests;
