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

fn swap_macs(frame: &mut [u8]) {
    if let Some(macs) = frame.first_chunk_mut::<12>() {
        macs.rotate_left(6);
    }
}

#[cfg(test)]
mod tests;
