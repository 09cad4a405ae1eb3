// SPDX-License-Identifier: Apache-2.0
//! Warnings: rules that are probably mistakes, though they have a meaning.

use std::collections::HashMap;

use crate::compile::Region;
use crate::policy::{Policy, Rule};
use crate::problem::Problem;
use crate::verdict::Direction;

/// Most rules of a policy for which each is compared with every rule before it; above, only equal
/// ones are found, since the comparisons grow with the square.
const COMPARED: usize = 2000;

impl Policy {
    /// Finds rules that can never decide: because nothing matches them, or because one earlier rule
    /// matches all that they match. Rules that several earlier ones cover together are not found.
    #[must_use]
    pub fn warnings(&self) -> Vec<Problem> {
        let regions: Vec<Region> = self
            .rules
            .iter()
            .map(|rule| Region::new(&rule.matches))
            .collect();
        let mut firsts: HashMap<&Region, Vec<usize>> = HashMap::new();
        let mut warnings = Vec::new();
        for (index, (rule, region)) in self.rules.iter().zip(&regions).enumerate() {
            if region.is_empty() {
                warnings.push(self.matchless(index));
                continue;
            }
            let equals = firsts.entry(region).or_default();
            let covers = |earlier: &usize| covers(&self.rules[*earlier], rule);
            let mut hidden_by = equals.iter().copied().find(covers);
            if hidden_by.is_none() && self.rules.len() <= COMPARED {
                hidden_by = (0..index)
                    .filter(covers)
                    .find(|earlier| regions[*earlier].contains_all(region));
            }
            equals.push(index);
            if let Some(earlier) = hidden_by {
                warnings.push(self.hidden(index, earlier));
            }
        }
        warnings
    }

    fn matchless(&self, index: usize) -> Problem {
        let rule = &self.rules[index];
        let message = format!(
            "rule {} never decides: no frame meets its conditions, as nothing is left of one of them; \
             change its values, exceptions or sets",
            label(rule, index),
        );
        Problem::new(&self.file, rule.at, message)
    }

    fn hidden(&self, index: usize, by: usize) -> Problem {
        let (rule, by_rule) = (&self.rules[index], &self.rules[by]);
        let consequence = match by_rule.verdict == rule.verdict {
            true => "it changes nothing; remove it".to_owned(),
            false => format!(
                "its {} never happens; move it up or narrow the earlier rule",
                rule.verdict
            ),
        };
        let message = format!(
            "rule {} never decides: rule {} (line {}) matches everything it matches, and comes \
             first; {consequence}",
            label(rule, index),
            label(by_rule, by),
            by_rule.at.line,
        );
        Problem::new(&self.file, rule.at, message)
    }
}

/// Whether `earlier` is for every direction that `rule` is for, and asks no more of state and header fields than that.
fn covers(earlier: &Rule, rule: &Rule) -> bool {
    let is_of_all = Direction::BOTH.into_iter().all(|direction| {
        earlier.directions.includes(direction) || !rule.directions.includes(direction)
    });
    let headers = &earlier.matches.headers;
    is_of_all
        && earlier.states.includes(rule.states)
        && (headers.is_empty() || *headers == rule.matches.headers)
}

fn label(rule: &Rule, index: usize) -> String {
    match &rule.name {
        Some(name) => format!("`{name}`"),
        None => format!("#{}", index + 1),
    }
}
