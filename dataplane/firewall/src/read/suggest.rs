// SPDX-License-Identifier: Apache-2.0
//! Suggestions for misspelt words.

/// Words of other firewalls, with ours.
const SYNONYMS: &[(&str, &str)] = &[
    ("action", "verdict"),
    ("allow", "accept"),
    ("any", "both"),
    ("block", "drop"),
    ("defaults", "default"),
    ("deny", "drop"),
    ("destination", "to"),
    ("destination-port", "ports"),
    ("destination-ports", "ports"),
    ("dport", "ports"),
    ("dports", "ports"),
    ("dst", "to"),
    ("dst-mac", "destination-mac"),
    ("icmp6", "icmpv6"),
    ("in", "ingress"),
    ("inbound", "ingress"),
    ("interface", "uplink"),
    ("ip", "ipv4"),
    ("ip6", "ipv6"),
    ("no", "false"),
    ("off", "false"),
    ("on", "true"),
    ("out", "egress"),
    ("outbound", "egress"),
    ("pass", "accept"),
    ("permit", "accept"),
    ("policy", "name"),
    ("port", "ports"),
    ("proto", "protocol"),
    ("source", "from"),
    ("source-port", "source-ports"),
    ("sport", "source-ports"),
    ("sports", "source-ports"),
    ("src", "from"),
    ("src-mac", "source-mac"),
    ("target", "verdict"),
    ("vlan", "vlans"),
    ("yes", "true"),
];

/// Finds the word of `allowed` that `word` is most likely meant to be: a synonym, another spelling, or
/// a slip of one or two letters.
pub(super) fn closest<'w>(word: &str, allowed: &[&'w str]) -> Option<&'w str> {
    let word = word.to_lowercase().replace('_', "-");
    let synonym = SYNONYMS.iter().find(|(theirs, _)| *theirs == word);
    if let Some((_, ours)) = synonym
        && let Some(found) = allowed.iter().find(|allowed| *allowed == ours)
    {
        return Some(found);
    }
    let slips = |allowed: &str| (allowed.len().max(word.len()) / 3).min(2);
    allowed
        .iter()
        .map(|allowed| (distance(&word, allowed), *allowed))
        .filter(|(distance, allowed)| *distance <= slips(allowed))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, allowed)| allowed)
}

/// Joins words as `a, b or c`, with `or` as the `last_link`.
pub(super) fn listed(words: &[&str], last_link: &str) -> String {
    match words {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [most @ .., last] => format!("{} {last_link} {last}", most.join(", ")),
    }
}

/// Optimal string alignment distance: letters to insert, remove, replace or swap with their neighbour
/// to get from `a` to `b`.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    let mut previous = None;
    for (i, letter) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for (j, &other) in b.iter().enumerate() {
            let replaced = row[j] + usize::from(letter != other);
            let mut best = replaced.min(row[j + 1] + 1).min(next[j] + 1);
            if j > 0 && previous == Some(other) && b[j - 1] == letter {
                best = best.min(before[j - 1] + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut row, next);
        previous = Some(letter);
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_and_synonyms() {
        let verdicts = ["accept", "drop", "reject"];
        assert_eq!(closest("acept", &verdicts), Some("accept"));
        assert_eq!(closest("rejcet", &verdicts), Some("reject"));
        assert_eq!(closest("DROP", &verdicts), Some("drop"));
        assert_eq!(closest("allow", &verdicts), Some("accept"));
        assert_eq!(closest("xyz", &verdicts), None);
        let keys = ["from", "to", "ports", "source-ports", "icmp-type"];
        assert_eq!(closest("form", &keys), Some("from"));
        assert_eq!(closest("source_ports", &keys), Some("source-ports"));
        assert_eq!(closest("dport", &keys), Some("ports"));
        assert_eq!(closest("t", &keys), None);
    }

    #[test]
    fn distances() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("ab", "ba"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn lists() {
        assert_eq!(listed(&["a"], "or"), "a");
        assert_eq!(listed(&["a", "b", "c"], "and"), "a, b and c");
    }
}
