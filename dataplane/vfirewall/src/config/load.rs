// SPDX-License-Identifier: Apache-2.0
//! Tables of a configuration: its policies are read and compiled, and found for each interface.

use sluice_api::PolicyProblem;
use sluice_firewall::{CompiledPolicy, PolicySet};
use sluice_policies::PolicyFolder;

use super::{Config, Problem, Problems};
use crate::frame::frame_len;
use crate::interfaces::Interface;
use crate::routes::RouteTable;
use crate::tables::Tables;

/// Reads the policies of a configuration and builds its tables. Returns them, and what the policies
/// may have got wrong.
///
/// # Errors
/// Every problem of the policies, with file and line.
pub fn load_tables(
    config: &Config,
    version: u64,
    previous: Option<&PolicySet>,
) -> Result<(Tables, Vec<Problem>), Problems> {
    let folder = PolicyFolder::new(config.policies.clone());
    let all = |problems: Vec<PolicyProblem>| {
        let problems = problems.into_iter();
        Problems(problems.map(|one| problem_of(config, one)).collect())
    };
    if !config.policies.is_dir() {
        return Err(Problems(vec![Problem {
            file: config.policies.clone(),
            line: 0,
            column: 0,
            key: "policies".to_owned(),
            message: "there is no such folder: make it, with a *.yaml for each policy".to_owned(),
        }]));
    }
    let files = folder.read().map_err(all)?;
    let compiled = sluice_policies::compile(version, &files, previous).map_err(all)?;
    let mut warnings: Vec<Problem> = compiled
        .warnings
        .into_iter()
        .map(|one| problem_of(config, one))
        .collect();
    let policies = compiled.set;
    let refused: Vec<Problem> = policies
        .iter()
        .filter_map(|(_, policy)| refusal(config, policy))
        .collect();
    if !refused.is_empty() {
        return Err(Problems(refused));
    }
    let mut policy_of = Vec::new();
    let mut missing = Vec::new();
    for interface in &config.interfaces {
        let found = match &interface.policy {
            Some(name) => policies.named(name),
            None => {
                let leg = &config.legs[interface.leg].name;
                policies.segment(leg, interface.vlan)
            }
        };
        if found.is_none() {
            let told = no_policy(config, interface);
            match &interface.policy {
                Some(_) => missing.push(told),
                None => warnings.push(told),
            }
        }
        policy_of.push(found);
    }
    if !missing.is_empty() {
        return Err(Problems(missing));
    }
    let interfaces = config.interface_table();
    let mtu = config.legs.iter().map(|leg| leg.mtu).max();
    let tables = Tables {
        legs: config.legs.iter().map(|leg| leg.name.clone()).collect(),
        routes: RouteTable::new(&interfaces, &config.routes),
        interfaces,
        policies,
        policy_of,
        frame_capacity: frame_len(mtu.unwrap_or(0)),
    };
    Ok((tables, warnings))
}

fn problem_of(config: &Config, problem: PolicyProblem) -> Problem {
    Problem {
        file: config.policies.join(&problem.file),
        line: problem.line as u64,
        column: problem.column as u64,
        key: String::new(),
        message: problem.message,
    }
}

/// Refuses a policy that asks for what only the engine does.
fn refusal(config: &Config, policy: &CompiledPolicy) -> Option<Problem> {
    let name = policy.name();
    let (key, message) = if policy.is_stateful() {
        let message = format!(
            "policy {name} is stateful, and vfirewall keeps no state of connections: write `stateful: false` and allow \
             both directions, or have the engine judge by it"
        );
        ("stateful", message)
    } else if policy.has_limits() {
        let message = format!(
            "a rule of policy {name} has a `limit`, and vfirewall has none: leave it out, or have the engine judge by it"
        );
        ("limit", message)
    } else {
        return None;
    };
    Some(Problem {
        file: config.policies.join(policy.file()),
        line: 0,
        column: 0,
        key: key.to_owned(),
        message,
    })
}

fn no_policy(config: &Config, interface: &Interface) -> Problem {
    let name = &interface.name;
    let message = match &interface.policy {
        Some(policy) => {
            format!("no policy is called {policy}, which {name} names: write it, or name another")
        }
        None => format!(
            "no policy is for VLAN {} of {name}: nothing passes there",
            interface.vlan
        ),
    };
    Problem {
        file: config.policies.clone(),
        line: 0,
        column: 0,
        key: String::new(),
        message,
    }
}
