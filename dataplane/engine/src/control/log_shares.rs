// SPDX-License-Identifier: Apache-2.0
//! Shares in the log of the attachments whose rules have `log`: a flood of frames must not become one
//! of lines, and one attachment's must not take the place of another's.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::time::{Duration, Instant};

use sluice_datapath::{AttachmentId, LogRecord, LostRecords};

/// Rate of the token bucket: log records per second, of all attachments.
const RECORDS_PER_SECOND: u32 = 100;
/// Depth of the token bucket: log records at once.
const RECORDS_AT_ONCE: u32 = 200;
/// Time between two lines about what was left out.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Attachments that such a line names.
const NAMED: usize = 5;

/// Records of one attachment that were left out since the last line about them.
#[derive(Debug, Default, PartialEq, Eq)]
struct LeftOut {
    records: u64,
    /// Policy and rule of the last of them.
    rule: Option<(String, String)>,
}

/// Token bucket for log records, whose tokens attachments take in turn.
#[derive(Debug)]
pub(super) struct LogShares {
    tokens: u32,
    filled: Instant,
    /// Attachment that took the last token.
    last: Option<AttachmentId>,
    left_out: BTreeMap<AttachmentId, LeftOut>,
    /// Records that the workers had left out at the last report.
    lost_before: BTreeMap<AttachmentId, u64>,
    reported: Instant,
}

impl LogShares {
    /// Makes a full bucket.
    pub(super) fn new(now: Instant) -> LogShares {
        LogShares {
            tokens: RECORDS_AT_ONCE,
            filled: now,
            last: None,
            left_out: BTreeMap::new(),
            lost_before: BTreeMap::new(),
            reported: now,
        }
    }

    /// Chooses the records to be written, one of each attachment in turn, and counts the others.
    pub(super) fn choose(&mut self, now: Instant, records: Vec<LogRecord>) -> Vec<LogRecord> {
        self.fill(now);
        let mut waiting: BTreeMap<AttachmentId, VecDeque<LogRecord>> = BTreeMap::new();
        for record in records {
            waiting
                .entry(record.attachment)
                .or_default()
                .push_back(record);
        }
        let mut chosen = Vec::new();
        while self.tokens > 0 {
            let after = self.last;
            let next = waiting
                .range_mut(..)
                .find(|(id, _)| after.is_none_or(|after| **id > after));
            let Some((&id, records)) = next else {
                // The turn is round, or there is nothing left.
                if after.is_none() || waiting.is_empty() {
                    break;
                }
                self.last = None;
                continue;
            };
            chosen.extend(records.pop_front());
            if records.is_empty() {
                waiting.remove(&id);
            }
            self.tokens -= 1;
            self.last = Some(id);
        }
        for (id, records) in waiting {
            let left_out = self.left_out.entry(id).or_default();
            left_out.records += records.len() as u64;
            if let Some(last) = records.into_iter().next_back() {
                left_out.rule = Some((last.policy, last.rule));
            }
        }
        chosen
    }

    /// Whether it is time for a line about what was left out.
    pub(super) fn is_report_due(&self, now: Instant) -> bool {
        now.duration_since(self.reported) >= REPORT_INTERVAL
    }

    /// Returns the line about what was left out since the last one: here, or by the workers, which
    /// have `lost` since their start. `None` if nothing was.
    pub(super) fn report(
        &mut self,
        now: Instant,
        lost: Vec<LostRecords>,
        name: impl Fn(AttachmentId) -> String,
    ) -> Option<String> {
        self.reported = now;
        let before = std::mem::take(&mut self.lost_before);
        for one in lost {
            self.lost_before.insert(one.attachment, one.total);
            let known = before.get(&one.attachment).copied().unwrap_or(0);
            let new = one.total.saturating_sub(known);
            if new > 0 {
                let left_out = self.left_out.entry(one.attachment).or_default();
                left_out.records += new;
                left_out.rule = one.rule.or(left_out.rule.take());
            }
        }
        let mut all: Vec<_> = std::mem::take(&mut self.left_out).into_iter().collect();
        let total: u64 = all.iter().map(|(_, left_out)| left_out.records).sum();
        if total == 0 {
            return None;
        }
        all.sort_by_key(|(_, left_out)| std::cmp::Reverse(left_out.records));
        let mut line = format!("{total} log records of rules with `log` were left out:");
        for (number, (id, left_out)) in all.iter().take(NAMED).enumerate() {
            let comma = if number > 0 { "," } else { "" };
            let _ = write!(line, "{comma} {} of {}", left_out.records, name(*id));
            if let Some((policy, rule)) = &left_out.rule {
                let _ = write!(line, " (the last by policy {policy}, rule {rule})");
            }
        }
        if all.len() > NAMED {
            let _ = write!(line, ", others of {} more attachments", all.len() - NAMED);
        }
        line.push_str("; the rules' counters have all of them");
        Some(line)
    }

    fn fill(&mut self, now: Instant) {
        let millis = now.duration_since(self.filled).as_millis();
        let earned = u32::try_from(millis * u128::from(RECORDS_PER_SECOND) / 1000);
        let earned = earned.unwrap_or(u32::MAX);
        if earned > 0 {
            self.tokens = self.tokens.saturating_add(earned).min(RECORDS_AT_ONCE);
            self.filled = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use sluice_firewall::{Direction, Verdict};
    use sluice_packet::FlowKey;

    use super::*;

    fn id(slot: u16) -> AttachmentId {
        AttachmentId::new(slot, 1)
    }

    fn records(slot: u16, count: usize) -> Vec<LogRecord> {
        let record = LogRecord {
            attachment: id(slot),
            direction: Direction::Ingress,
            policy: "web".into(),
            rule: format!("rule{slot}"),
            verdict: Verdict::Drop,
            key: FlowKey::default(),
        };
        vec![record; count]
    }

    fn of(chosen: &[LogRecord], slot: u16) -> usize {
        let own = chosen.iter().filter(|record| record.attachment == id(slot));
        own.count()
    }

    #[test]
    fn floods_are_thinned_and_a_quiet_attachment_is_heard() {
        let start = Instant::now();
        let mut shares = LogShares::new(start);
        let mut all = records(1, 10_000);
        all.extend(records(2, 10_000));
        all.extend(records(3, 7));
        let chosen = shares.choose(start, all);
        assert_eq!(chosen.len(), 200);
        assert_eq!(of(&chosen, 3), 7);
        assert!(of(&chosen, 1).abs_diff(of(&chosen, 2)) <= 1);
        let later = start + Duration::from_millis(100);
        let mut all = records(1, 10_000);
        all.extend(records(3, 2));
        let chosen = shares.choose(later, all);
        assert_eq!((of(&chosen, 1), of(&chosen, 3)), (8, 2));
        let much_later = start + Duration::from_secs(3600);
        assert_eq!(shares.choose(much_later, records(1, 1000)).len(), 200);
    }

    #[test]
    fn the_turn_goes_on_where_it_ended() {
        let start = Instant::now();
        let mut shares = LogShares::new(start);
        shares.choose(start, records(1, 1000));
        let mut heard = [0; 3];
        for tick in 1..=60 {
            // One token: a record of one of the three.
            let now = start + Duration::from_millis(tick * 10);
            let all = [1, 2, 3].into_iter().flat_map(|slot| records(slot, 5));
            let chosen = shares.choose(now, all.collect());
            for (slot, heard) in (1..).zip(&mut heard) {
                *heard += of(&chosen, slot);
            }
        }
        assert_eq!(heard, [20, 20, 20]);
    }

    #[test]
    fn one_line_a_second_says_what_was_left_out_and_of_whom() {
        let start = Instant::now();
        let mut shares = LogShares::new(start);
        assert!(!shares.is_report_due(start + Duration::from_millis(999)));
        let now = start + Duration::from_secs(1);
        assert!(shares.is_report_due(now));
        assert_eq!(shares.report(now, Vec::new(), |_| String::new()), None);
        shares.choose(start, records(1, 300));
        let lost = |total| {
            vec![LostRecords {
                attachment: id(2),
                total,
                rule: Some(("dns".into(), "#1".into())),
            }]
        };
        let name = |id: AttachmentId| format!("pod{}/net1", id.slot());
        let line = shares.report(now, lost(4_000), name);
        assert_eq!(
            line.as_deref(),
            Some(
                "4100 log records of rules with `log` were left out: 4000 of pod2/net1 (the last by \
                 policy dns, rule #1), 100 of pod1/net1 (the last by policy web, rule rule1); the \
                 rules' counters have all of them"
            )
        );
        assert!(!shares.is_report_due(now));
        let line = shares.report(now, lost(4_001), name).unwrap_or_default();
        assert!(line.starts_with("1 log records"), "{line}");
        assert_eq!(shares.report(now, lost(4_001), name), None);
    }
}
