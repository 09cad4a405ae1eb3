// SPDX-License-Identifier: Apache-2.0
//! Reader of policies in YAML.

mod addresses;
mod check;
mod difference;
mod foreign;
mod header_kinds;
mod header_rule;
mod headers;
mod keys;
mod kind;
mod limit;
mod list;
mod numbers;
mod reader;
mod rule;
mod set;
mod suggest;
mod value_error;
mod values;
mod words;
mod yaml;

use std::collections::{HashMap, HashSet};

use crate::header_match::HeaderMatch;
use crate::named_set::NamedSets;
use crate::policy::{Defaults, Directions, Policy, Rule, SegmentRange};
use crate::problem::{Position, Problem};
use crate::states::States;
use crate::tuples::MOST_CONDITIONS;
use crate::verdict::Verdict;
pub(crate) use foreign::{IN_LISTS, IN_POLICIES, IN_RULES};
pub(crate) use keys::{
    DEFAULT as DEFAULT_KEYS, Key, LIMIT as LIMIT_KEYS, POLICY as POLICY_KEYS, RULE as RULE_KEYS,
    SET as SET_KEYS, Values,
};
pub(crate) use kind::Grammar;

use addresses::VidKind;
use difference::without;
use list::List;
use reader::{Fields, Reader};
use values::{BooleanKind, CommentKind, DirectionKind, NameKind, VerdictKind, VersionKind};
use yaml::{Node, Value};

/// Largest policy file in bytes: more than 50,000 rules written out take.
const MAX_FILE_BYTES: usize = 16 << 20;

impl Policy {
    /// Reads one policy from YAML, which may use no named sets; the form is described at the top of
    /// this crate.
    ///
    /// `file` is only for messages.
    ///
    /// # Errors
    /// Everything that is wrong with the text, in its order.
    pub fn parse(file: &str, text: &str) -> Result<Policy, Vec<Problem>> {
        Policy::parse_with(file, text, &NamedSets::default())
    }

    /// Reads one policy like [`Policy::parse`], with the sets that it may name as `$name`.
    ///
    /// # Errors
    /// As for [`Policy::parse`], and of a set that is not there or has values of another kind.
    pub fn parse_with(file: &str, text: &str, sets: &NamedSets) -> Result<Policy, Vec<Problem>> {
        parse(file, text, sets, |reader, root| {
            read_policy(reader, file, root)
        })
    }
}

/// Reads one document by `read`, which gives `None` only with a problem.
fn parse<T>(
    file: &str,
    text: &str,
    sets: &NamedSets,
    read: impl FnOnce(&mut Reader<'_>, &Node<'_>) -> Option<T>,
) -> Result<T, Vec<Problem>> {
    if text.len() > MAX_FILE_BYTES {
        let message = format!(
            "the file has {} bytes, more than any policy needs (at most {MAX_FILE_BYTES})",
            text.len()
        );
        return Err(vec![Problem::new(file, Position::default(), message)]);
    }
    if let Some(sentence) = foreign::script(text) {
        return Err(vec![Problem::new(
            file,
            Position { line: 1, column: 1 },
            sentence,
        )]);
    }
    let mut problems = Vec::new();
    let root = match yaml::load(file, text, &mut problems) {
        Ok(root) => root,
        Err(problem) => {
            problems.push(problem);
            return Err(problems);
        }
    };
    if let Some(sentence) = foreign::document(&root) {
        return Err(vec![Problem::new(file, root.at, sentence)]);
    }
    let mut reader = Reader::new(file, problems, sets);
    match read(&mut reader, &root) {
        Some(value) if reader.count() == 0 => Ok(value),
        _ => Err(reader.into_problems()),
    }
}

/// Reads the tree of a policy. `None` only with a problem.
fn read_policy(reader: &mut Reader<'_>, file: &str, root: &Node<'_>) -> Option<Policy> {
    let fields = reader.keyed(root, "a policy", keys::POLICY, foreign::IN_POLICIES)?;
    let name = reader.required::<NameKind>(&fields, "a policy", "name");
    let comment = reader.one::<CommentKind>(&fields, "comment");
    let version = reader.one::<VersionKind>(&fields, "version").unwrap_or(1);
    let audit = reader.one::<BooleanKind>(&fields, "audit").unwrap_or(false);
    let uplink = reader.one::<NameKind>(&fields, "uplink");
    let vlans = read_vlans(reader, &fields);
    let stateful = reader
        .one::<BooleanKind>(&fields, "stateful")
        .unwrap_or(version > 1);
    let (default, log_default) = read_default(reader, &fields);
    let rules = read_rules(reader, &fields);
    check_states(reader, stateful, &rules);
    Some(Policy {
        name: name?,
        comment,
        audit,
        file: file.to_owned(),
        uplink,
        vlans,
        stateful,
        default,
        log_default,
        rules,
        sets: reader.take_used(),
    })
}

fn read_vlans(reader: &mut Reader<'_>, fields: &Fields<'_, '_>) -> Vec<SegmentRange> {
    // Here an empty list has one meaning: the policy is for attachments that name it.
    if fields.is_empty_list("vlans") {
        return Vec::new();
    }
    let mut ranges: Vec<SegmentRange> = Vec::new();
    let List { values, except, .. } = reader.several::<VidKind>(fields, "vlans");
    for (vids, at) in values {
        let clash = ranges
            .iter()
            .find_map(|other| Some((other, vids.shared_with(other.vids)?)));
        if let Some((other, shared)) = clash {
            let message = format!(
                "VLAN {shared} is listed twice, first at {}:{}; list it once",
                other.at.line, other.at.column
            );
            reader.problem(at, message);
        }
        ranges.push(SegmentRange { vids, at });
    }
    let left = ranges.into_iter().flat_map(|SegmentRange { vids, at }| {
        let left = without(vec![vids], &except).into_iter();
        left.map(move |vids| SegmentRange { vids, at })
    });
    left.collect()
}

/// Reads `default`, and in which directions it logs. A direction that is not mentioned drops: a policy lets pass what it names, not
/// what it forgot.
fn read_default(
    reader: &mut Reader<'_>,
    fields: &Fields<'_, '_>,
) -> (Defaults, Option<Directions>) {
    let mut default = Defaults {
        ingress: Verdict::Drop,
        egress: Verdict::Drop,
    };
    let Some(node) = fields.node("default") else {
        return (default, None);
    };
    let mut log = None;
    if let Some(fields) = reader.keyed(node, "`default`", keys::DEFAULT, &[]) {
        if let Some(verdict) = reader.one::<VerdictKind>(&fields, "ingress") {
            default.ingress = verdict;
        }
        if let Some(verdict) = reader.one::<VerdictKind>(&fields, "egress") {
            default.egress = verdict;
        }
        log = reader.one::<DirectionKind>(&fields, "log");
    }
    (default, log)
}

fn read_rules(reader: &mut Reader<'_>, fields: &Fields<'_, '_>) -> Vec<Rule> {
    let Some(node) = fields.node("rules") else {
        return Vec::new();
    };
    let items = match &node.value {
        Value::List(items) => items,
        Value::Refused => return Vec::new(),
        _ => {
            let message = "`rules` must be a list of rules, each beginning with `- `";
            reader.problem(node.at, message);
            return Vec::new();
        }
    };
    if items.is_empty() {
        reader.problem(
            node.at,
            "`rules` is an empty list; leave the key out to judge by `default` alone",
        );
    }
    let mut names: HashMap<String, Position> = HashMap::new();
    let mut rules = Vec::new();
    for item in items {
        let Some(rule) = rule::read(reader, item) else {
            continue;
        };
        if let Some(name) = &rule.name
            && let Some(first) = names.get(name)
        {
            let message = format!(
                "rule `{name}` is at {}:{} already; counters need a name for each, take another",
                first.line, first.column
            );
            reader.problem(rule.at, message);
        } else if let Some(name) = &rule.name {
            names.insert(name.clone(), rule.at);
        }
        rules.push(rule);
    }
    check_conditions(reader, &rules);
    limit::check_number(reader, &rules);
    rules
}

/// Refuses states in a policy that follows no connections.
fn check_states(reader: &mut Reader<'_>, stateful: bool, rules: &[Rule]) {
    let mut with_states = rules.iter().filter(|rule| rule.states != States::NEW);
    if let (false, Some(rule)) = (stateful, with_states.next()) {
        reader.problem(
            rule.at,
            "a rule has `state`, and the policy follows no connections; write `stateful: true` in the policy: then \
             answers pass without a rule, and `state` says otherwise where it must",
        );
    }
}

/// Refuses more distinct conditions on header fields than a frame is compared with.
fn check_conditions(reader: &mut Reader<'_>, rules: &[Rule]) {
    let mut distinct: HashSet<&HeaderMatch> = HashSet::new();
    for rule in rules {
        let headers = &rule.matches.headers;
        if !headers.is_empty() && distinct.insert(headers) && distinct.len() > MOST_CONDITIONS {
            let message = format!(
                "the rules have more than {MOST_CONDITIONS} different conditions on TCP flags, DSCP, TTL, options, \
                 ARP operations and tags, as many as a frame is compared with; give rules the same \
                 conditions, or split the policy"
            );
            reader.problem(rule.at, message);
            return;
        }
    }
}
