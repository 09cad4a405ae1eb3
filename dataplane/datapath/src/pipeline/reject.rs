//! Reject: the sender of a frame that a rule rejects is told so, by the frame itself turned round.

use sluice_firewall::Direction;
use sluice_mem::{Burst, Mbuf};
use sluice_packet::reject::{self, RejectBuffer};
use sluice_packet::{InnerTag, parse};

use crate::drops::DropReason;
use crate::frame::origin::Source;
use crate::frame::{Destination, FrameInfo};
use crate::ids::AttachmentId;
use crate::pipeline::dispatch::{to_attachment, to_uplink};
use crate::pipeline::state::State;
use crate::pipeline::tables::Tables;

/// Answers a frame that was rejected on its way to or from attachment `judge`, on the port it came
/// from, within that attachment's limit. What is never answered (RST, ICMP errors, groups, later
/// fragments, what is not IP) is dropped as if the rule had said drop.
pub(crate) fn answer(
    tables: &Tables,
    state: &mut State,
    judge: AttachmentId,
    direction: Direction,
    mut mbuf: Mbuf,
) {
    let now_ms = state.now_ms;
    let Ok(parsed) = parse(mbuf.data(), InnerTag::Allow) else {
        return state.drop_at(judge, direction, mbuf, DropReason::Denied);
    };
    if reject::answer(mbuf.data(), &parsed).is_err() {
        return state.drop_at(judge, direction, mbuf, DropReason::Denied);
    }
    let within_limit = state
        .attachment(judge)
        .is_some_and(|attachment| attachment.rejects.take(now_ms));
    if !within_limit {
        return state.drop_at(judge, direction, mbuf, DropReason::RejectLimited);
    }
    if reject::build(&mut Buffer(&mut mbuf), &parsed).is_err() {
        return state.drop_at(judge, direction, mbuf, DropReason::Denied);
    }
    if let Some(attachment) = state.attachment(judge) {
        let drops = match direction {
            Direction::Ingress => &attachment.counts.ingress_drops,
            Direction::Egress => &attachment.counts.egress_drops,
        };
        drops.add(DropReason::Rejected, 1);
    }
    let info = FrameInfo::of_mut(&mut mbuf);
    info.set_exempt();
    let source = info.source();
    let destination = match source {
        Source::Attachment(id) => Destination::Attachment(id),
        Source::Uplink(id) => Destination::Uplink(id),
    };
    info.set_destination(destination);
    let mut alone = Burst::new();
    if let Err(mbuf) = alone.push(mbuf) {
        return state.drop_frame(mbuf, DropReason::Gone);
    }
    match source {
        Source::Attachment(id) => to_attachment(tables, state, id, &mut alone),
        Source::Uplink(id) => to_uplink(tables, state, id, &mut alone),
    }
}

/// An mbuf as the answer's buffer.
struct Buffer<'a>(&'a mut Mbuf);

impl RejectBuffer for Buffer<'_> {
    fn frame(&self) -> &[u8] {
        self.0.data()
    }

    fn frame_mut(&mut self) -> &mut [u8] {
        self.0.data_mut()
    }

    fn prepend(&mut self, len_bytes: usize) -> bool {
        self.0.prepend(len_bytes)
    }

    fn truncate(&mut self, len_bytes: usize) {
        self.0.truncate(len_bytes);
    }
}
