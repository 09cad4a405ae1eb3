// SPDX-License-Identifier: Apache-2.0
//! The engine under `cmk isolate` of CMK (CPU manager for Kubernetes, 1.3 to 1.4): a stand-in that keeps its
//! contract, as CMK is in no package registry. It takes a list of cores out of the pool's folder, names them in
//! CMK_CPUS_ASSIGNED, sets the affinity unless told not to, runs the command by a shell, and forwards no SIGTERM.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod engine_rig;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use engine_rig::{Node, PATIENCE, text};
use rustix::process::Signal;
use sluice_host::topology::parse_list;
use sluice_tests::{bin, program_or_skip, root_or_skip, skip, wait_for};

/// `isolate CONF_DIR POOL AFFINITY COMMAND ARGUMENTS...`
const ISOLATE: &str = r#"
conf=$1 pool=$2 affinity=$3; shift 3
for list in "$conf/pools/$pool"/*/*; do
  [ -s "$list/tasks" ] || break
done
[ -s "$list/tasks" ] && { echo "No free cpu lists in pool $pool" >&2; exit 1; }
echo $$ > "$list/tasks"
export CMK_CPUS_ASSIGNED=${list##*/}
[ "$affinity" = --no-affinity ] || taskset -pc "$CMK_CPUS_ASSIGNED" $$ > /dev/null
free() { : > "$list/tasks"; }
trap 'free; exit 1' TERM
sh -c "$*" &
wait $!; code=$?
free
exit $code
"#;

/// Node whose workers get their cores by CMK, from a pool with one list of cores.
fn node(cores: &str) -> Node {
    let node = Node::new();
    let file = node.path("sluiced.yaml");
    let config = fs::read_to_string(&file).unwrap();
    fs::write(
        file,
        config.replace("workers: {count: 2, pin: false}\n", ""),
    )
    .unwrap();
    fs::create_dir_all(list(&node, cores)).unwrap();
    fs::write(list(&node, cores).join("tasks"), "").unwrap();
    fs::write(node.path("cmk/pools/exclusive/exclusive"), "1").unwrap();
    node
}

fn list(node: &Node, cores: &str) -> PathBuf {
    node.path("cmk/pools/exclusive/0").join(cores)
}

/// `taskset -c CORES cmk isolate ... sluiced`.
fn isolate(node: &Node, container: &str, affinity: &str) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", container, "sh", "-c", ISOLATE, "cmk"]);
    command.arg(node.path("cmk")).args(["exclusive", affinity]);
    command.arg(bin("sluiced"));
    command
}

/// Two cores of this machine that are no threads of one physical core, for the workers and for all else.
fn two_cores(case: &str) -> Option<(usize, usize)> {
    if !root_or_skip(case) || !program_or_skip(case, "taskset") {
        return None;
    }
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let allowed = cores_of(&status);
    let topology = sluice_host::topology::Topology::default();
    let first = *allowed.first().unwrap();
    let other = allowed
        .iter()
        .rev()
        .find(|core| !topology.siblings(first).contains(core));
    if other.is_none() {
        skip(case, "needs two cores, one of them for control");
    }
    other.map(|&other| (other, first))
}

fn cores_of(status: &str) -> BTreeSet<usize> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    parse_list(line.unwrap())
}

/// Cores on which a process's threads may run: workers, and others.
fn threads(pid: u32) -> (BTreeSet<usize>, BTreeSet<usize>) {
    let (mut workers, mut others) = (BTreeSet::new(), BTreeSet::new());
    for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        // It may have ended by now.
        let Ok(status) = fs::read_to_string(task.unwrap().path().join("status")) else {
            continue;
        };
        let of = if status.starts_with("Name:\tworker-") {
            &mut workers
        } else {
            &mut others
        };
        of.extend(cores_of(&status));
    }
    (workers, others)
}

#[test]
fn cmks_cores_have_the_workers_and_control_the_others() {
    let Some((worker, other)) = two_cores("cmks_cores_have_the_workers_and_control_the_others")
    else {
        return;
    };
    let node = node(&worker.to_string());
    let container = format!("{other},{worker}");
    let mut cmk = node.start_as(isolate(&node, &container, "--no-affinity"));
    let pid = node.client().health().unwrap().pid;
    let (workers, others) = threads(pid);
    assert_eq!(workers, BTreeSet::from([worker]));
    assert_eq!(others, BTreeSet::from([other]));
    assert_ne!(
        fs::read_to_string(list(&node, &worker.to_string()).join("tasks")).unwrap(),
        ""
    );

    // cmk ends, gives its core back, and forwards nothing: the engine lives on until its container ends.
    cmk.signal(Signal::TERM).unwrap();
    let ended = wait_for("cmk's end", PATIENCE, || (!cmk.alive()).then_some(()));
    ended.unwrap();
    assert_eq!(node.client().health().unwrap().pid, pid);
    node.says("SIGTERM: stopping", 0);
    // A preStop hook of the container does what cmk does not.
    let stopped = node.ctl(&["stop", "--timeout", "30"]);
    assert!(stopped.status.success(), "{}", text(&stopped));
    node.says("SIGTERM: stopping", 1);
}

#[test]
fn without_no_affinity_control_shares_the_workers_core_and_the_log_says_so() {
    let case = "without_no_affinity_control_shares_the_workers_core_and_the_log_says_so";
    let Some((worker, other)) = two_cores(case) else {
        return;
    };
    let node = node(&worker.to_string());
    let container = format!("{other},{worker}");
    let cmk = node.start_as(isolate(&node, &container, "--affinity"));
    let (workers, others) = threads(node.client().health().unwrap().pid);
    assert_eq!(
        (workers, others),
        (BTreeSet::from([worker]), BTreeSet::from([worker]))
    );
    node.says("one core more than there are workers", 1);
    let stopped = node.ctl(&["stop", "--timeout", "30"]);
    assert!(stopped.status.success(), "{}", text(&stopped));
    drop(cmk);
}

#[test]
fn cores_of_cmk_that_the_container_has_not_are_refused() {
    let Some((worker, other)) = two_cores("cores_of_cmk_that_the_container_has_not_are_refused")
    else {
        return;
    };
    let node = node(&worker.to_string());
    let mut command = isolate(&node, &other.to_string(), "--no-affinity");
    command.arg("--config").arg(node.path("sluiced.yaml"));
    let output = node.netns.enter(move || Ok(command.output()?)).unwrap();
    let said = text(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    for word in [
        format!("CMK_CPUS_ASSIGNED is \"{worker}\""),
        format!("core {worker} of these"),
        format!("those are {other}"),
    ] {
        assert!(said.contains(&word), "{word}: {said}");
    }
}
