// SPDX-License-Identifier: Apache-2.0
//! Dashboard and alert rules: every expression parses, every metric exists, every alert fires when it should.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use sluice_tests::{program_or_skip, run};
use tempfile::TempDir;

use super::{checkout, table};

/// Content of a file of `deploy/monitoring`.
fn read(name: &str) -> String {
    fs::read_to_string(checkout().join("deploy/monitoring").join(name)).unwrap()
}

fn rules() -> Value {
    let rules: Value = serde_saphyr::from_str(&read("rules.yaml")).unwrap();
    rules["spec"].clone()
}

/// All values under key `expr`, at any depth.
fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                match value {
                    Value::String(text) if key == "expr" => found.push(text.clone()),
                    value => expressions(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| expressions(item, found)),
        _ => {}
    }
}

/// Names of metrics in an expression: words that begin as ours do and are no names of recording rules.
fn metrics(expression: &str) -> BTreeSet<String> {
    let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':');
    let words = expression.split(word).filter(|word| !word.contains(':'));
    words
        .filter(|word| word.starts_with("sluicegate") || word.starts_with("sriov_"))
        .map(str::to_owned)
        .collect()
}

/// Lets promtool check a file of rules.
fn check_rules(rules: &Path) {
    let told = run(Command::new("promtool").args(["check", "rules"]).arg(rules));
    assert!(told.is_ok(), "{told:?}");
}

#[test]
fn dashboard_and_alerts_name_metrics_that_exist() {
    if !program_or_skip("dashboard_and_alerts_name_metrics_that_exist", "promtool") {
        return;
    }
    let known: BTreeSet<String> = table::page()
        .iter()
        .flat_map(|(name, family)| table::sample_names(name, &family.kind))
        .collect();
    let dashboard: Value = serde_json::from_str(&read("dashboard.json")).unwrap();
    let mut found = Vec::new();
    expressions(&dashboard, &mut found);
    assert!(found.len() > 30, "{found:?}");
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let queries = variables.iter().filter_map(|v| v["definition"].as_str());
    let mut all: Vec<String> = queries.map(str::to_owned).collect();
    all.extend(found.iter().cloned());
    expressions(&rules(), &mut all);
    for expression in &all {
        let unknown: Vec<String> = metrics(expression).difference(&known).cloned().collect();
        assert!(unknown.is_empty(), "{unknown:?} in {expression}");
        assert!(
            !metrics(expression).is_empty() || expression.contains(':'),
            "{expression}"
        );
    }

    // As rules, so that promtool parses them.
    let dir = TempDir::with_prefix("sluice-monitoring-").unwrap();
    let as_rules: Vec<Value> = found
        .iter()
        .enumerate()
        .map(|(number, expression)| {
            let expression = expression.replace("$__rate_interval", "5m");
            serde_json::json!({"record": format!("panel:number_{number}"), "expr": expression})
        })
        .collect();
    let file = dir.path().join("dashboard.json");
    let groups = serde_json::json!({"groups": [{"name": "dashboard", "rules": as_rules}]});
    fs::write(&file, groups.to_string()).unwrap();
    check_rules(&file);
    let file = dir.path().join("rules.json");
    fs::write(&file, rules().to_string()).unwrap();
    check_rules(&file);

    // Each panel has a place of its own.
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<u64> = panels.iter().map(|p| p["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len());
}

#[test]
fn every_alert_fires_when_it_should_and_only_then() {
    if !program_or_skip("every_alert_fires_when_it_should_and_only_then", "promtool") {
        return;
    }
    let dir = TempDir::with_prefix("sluice-alerts-").unwrap();
    fs::write(dir.path().join("rules.json"), rules().to_string()).unwrap();
    let cases = fs::read_to_string(checkout().join("tests/tests/metrics/alerts.yaml")).unwrap();
    fs::write(dir.path().join("alerts.yaml"), &cases).unwrap();
    let mut command = Command::new("promtool");
    command.args(["test", "rules", "alerts.yaml"]);
    let told = run(command.current_dir(dir.path()));
    assert!(told.is_ok(), "{told:?}");

    // No alert without a case in which it fires, and one in which it does not.
    let cases: Value = serde_saphyr::from_str(&cases).unwrap();
    let mut fires = BTreeSet::new();
    let mut quiet = BTreeSet::new();
    for test in cases["tests"].as_array().unwrap() {
        for case in test["promql_expr_test"].as_array().unwrap() {
            let (_, rest) = case["expr"]
                .as_str()
                .unwrap()
                .split_once("alertname=\"")
                .unwrap();
            let alert = rest.split('"').next().unwrap().to_owned();
            let fired = case["exp_samples"]
                .as_array()
                .is_some_and(|all| !all.is_empty());
            if fired { &mut fires } else { &mut quiet }.insert(alert);
        }
    }
    let groups = rules();
    let groups = groups["groups"].as_array().unwrap();
    let alerts: BTreeSet<String> = groups
        .iter()
        .flat_map(|group| group["rules"].as_array().unwrap())
        .filter_map(|rule| rule["alert"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(fires, alerts, "fires");
    assert_eq!(quiet, alerts, "does not fire");
}
