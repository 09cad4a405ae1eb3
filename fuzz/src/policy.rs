// SPDX-License-Identifier: Apache-2.0
//! Policy file and, where it is valid, a frame on which the compiled table and the naive oracle must agree. The frame's key is the
//! file's own last bytes, so that what the file says can meet it.

use sluice_firewall::{Direction, Policy, Table, naive};
use sluice_packet::{Headers, InnerTag, parse};

/// Reads, compiles and judges.
pub(crate) fn body(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let policy = match Policy::parse("fuzz.yaml", text) {
        Ok(policy) => policy,
        Err(problems) => {
            assert!(!problems.is_empty(), "refused without a word");
            return;
        }
    };
    let frames = bytes.chunks(64).filter_map(|frame| {
        let parsed = parse(frame, InnerTag::Allow).ok()?;
        Some((parsed.key, Headers::read(frame, &parsed.key)))
    });
    let frames: Vec<_> = frames.chain([Default::default()]).collect();
    for direction in [Direction::Ingress, Direction::Egress] {
        let table = Table::compile(&policy, direction);
        for (key, headers) in &frames {
            let (fast, plain) = (table.judge(key), naive::judge(&policy, direction, key));
            assert_eq!(fast, plain, "{key:?}");
            let fast = table.judge_with(key, headers);
            let plain = naive::judge_with(&policy, direction, key, headers);
            assert_eq!(fast, plain, "{key:?} {headers:?}");
        }
    }
}
