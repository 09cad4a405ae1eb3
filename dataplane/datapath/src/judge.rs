//! The judge stage: the VLAN's policy first, then the attachment's own, and both must accept.

use sluice_firewall::{Direction, PolicyIndex, Verdict};

use crate::drops::DropReason;
use crate::frame::FrameInfo;
use crate::ids::AttachmentId;
use crate::state::State;
use crate::tables::{OwnPolicy, Tables};

/// What becomes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It goes on.
    Pass,
    /// It ends here.
    Drop(DropReason),
    /// It ends here, and its sender is told.
    Reject,
}

/// Judges one frame on its way to or from `attachment`.
pub(crate) fn judge(
    tables: &Tables,
    state: &mut State,
    attachment: AttachmentId,
    direction: Direction,
    info: &FrameInfo,
    frame_bytes: usize,
) -> Decision {
    if info.is_exempt() {
        return Decision::Pass;
    }
    let Some(vlan) = tables
        .segment(info.segment())
        .and_then(|segment| segment.policy)
    else {
        return Decision::Drop(DropReason::NoPolicy);
    };
    let Some(entry) = tables.attachment(attachment) else {
        return Decision::Drop(DropReason::Gone);
    };
    let own = match entry.own_policy {
        OwnPolicy::None => None,
        OwnPolicy::Policy(own) => Some(own),
        OwnPolicy::Missing => return Decision::Drop(DropReason::NoPolicy),
    };
    for policy in std::iter::once(vlan).chain(own) {
        match ask(
            tables,
            state,
            attachment,
            policy,
            direction,
            info,
            frame_bytes,
        ) {
            Verdict::Accept => {}
            Verdict::Drop => return Decision::Drop(DropReason::Denied),
            Verdict::Reject => return Decision::Reject,
        }
    }
    Decision::Pass
}

/// The verdict of one policy, counted against the rule that gave it.
fn ask(
    tables: &Tables,
    state: &mut State,
    attachment: AttachmentId,
    policy: PolicyIndex,
    direction: Direction,
    info: &FrameInfo,
    frame_bytes: usize,
) -> Verdict {
    let compiled = tables.policies.policy(policy);
    let hit = compiled.table(direction).judge(&info.key);
    if let Some(counts) = tables.rule_counts.get(state.id.index()) {
        counts.hit(
            compiled.slot_base(direction) + hit.rule as usize,
            frame_bytes,
        );
    }
    if hit.log {
        state.record(attachment, policy, direction, hit, &info.key, tables);
    }
    hit.verdict
}
