// SPDX-License-Identifier: Apache-2.0
//! The written documents: their links lead somewhere, and their commands work as they stand.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use sluice_tests::{Netns, bin, program_or_skip, root_or_skip};
use tempfile::TempDir;

/// Pages whose blocks marked `sh` are run, and by what. A command that no test runs as it stands is
/// in a block marked `text`.
const RUN: &[(&str, &str)] = &[
    ("README.md", "the_demo_proves_the_whole_path, and .ci/run"),
    (
        "docs/cluster.md",
        "from_a_bare_node_to_a_pod_behind_its_firewall of on_a_cluster.rs",
    ),
    ("docs/node.md", "commands_of_node_and_policies_work"),
    ("docs/policies.md", "commands_of_node_and_policies_work"),
    (
        "docs/sriov.md",
        "the case sriov-page-from-pf-to-pod of sriov-cases",
    ),
    (
        "docs/virtual-firewall.md",
        "commands_of_the_virtual_firewall_page_work",
    ),
];

fn checkout() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.join("..").canonicalize().unwrap()
}

/// Paths of every page of the repository, relative to it.
fn pages() -> Vec<PathBuf> {
    let root = checkout();
    let mut pages = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && !path.is_symlink() && name != "target" && !name.starts_with('.') {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path.strip_prefix(&root).unwrap().to_owned());
            }
        }
    }
    assert!(pages.len() > 5, "{pages:?}");
    pages
}

/// Contents of the fenced blocks of `page` that are marked `language`.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let fence = format!("\n```{language}\n");
    let parts = page.split(&fence).skip(1);
    parts
        .map(|part| part.split("\n```").next().unwrap().to_owned() + "\n")
        .collect()
}

/// Text of `page` without fenced blocks and code spans, in which nothing is a link.
fn prose(page: &str) -> String {
    let mut fenced = false;
    let mut prose = String::new();
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            let spans = line.split('`').enumerate();
            prose.extend(spans.filter(|(n, _)| n % 2 == 0).map(|(_, text)| text));
            prose.push('\n');
        }
    }
    prose
}

/// Anchors of the headings of `page`, as code hosts derive them.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings = page.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let kept = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = kept
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let root = checkout();
    let mut dead = Vec::new();
    for page in pages() {
        let text = fs::read_to_string(root.join(&page)).unwrap();
        for link in prose(&text).split("](").skip(1) {
            let link = link.split(')').next().unwrap();
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() {
                root.join(&page)
            } else {
                root.join(&page).parent().unwrap().join(file)
            };
            let there = target.exists()
                && (anchor.is_empty()
                    || anchors(&fs::read_to_string(&target).unwrap()).contains(anchor));
            if !there {
                dead.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(dead.is_empty(), "links that lead nowhere: {dead:#?}");
}

#[test]
fn every_shell_block_is_run_by_a_test() {
    let root = checkout();
    let mut not_run = Vec::new();
    for page in pages() {
        let text = fs::read_to_string(root.join(&page)).unwrap();
        let known = RUN.iter().any(|(name, _)| Path::new(name) == page);
        if !known && !blocks(&text, "sh").is_empty() {
            not_run.push(page);
        }
    }
    assert!(
        not_run.is_empty(),
        "mark blocks that no test runs `text`: {not_run:?}"
    );
}

/// Both pages in one node, as a reader follows them: the second needs the engine of the first.
#[test]
fn commands_of_node_and_policies_work() {
    let name = "commands_of_node_and_policies_work";
    if !root_or_skip(name) || !program_or_skip(name, "unshare") {
        return;
    }
    let root = checkout();
    let page = |page: &str| fs::read_to_string(root.join(page)).unwrap();
    let (node_page, policies_page) = (page("docs/node.md"), page("docs/policies.md"));
    let work = TempDir::with_prefix("sluice-documents-").unwrap();
    let release = bin("sluiced").parent().unwrap().to_owned();
    let target = work.path().join("target");
    fs::create_dir(&target).unwrap();
    symlink(release, target.join("dist")).unwrap();
    symlink(root.join("deploy"), work.path().join("deploy")).unwrap();
    let policy = &blocks(&policies_page, "yaml")[0];
    fs::write(work.path().join("voice.yaml"), policy).unwrap();

    // What the commands install is seen by them alone.
    let mut script = String::from(
        "set -ex\nmount --make-rprivate /\ncp -a /etc etc\nmount --bind etc /etc\n\
         for folder in /opt /var/lib /run; do mount -t tmpfs none $folder; done\n\
         pids=\ntrap 'kill $pids; wait' EXIT\n",
    );
    let blocks = [blocks(&node_page, "sh"), blocks(&policies_page, "sh")].concat();
    assert!(blocks.len() >= 6, "{blocks:?}");
    for line in blocks.iter().flat_map(|block| block.lines()) {
        script += &format!("{line}\n");
        if line.ends_with(" &") {
            script += "pids=\"$pids $!\"\n";
        }
    }
    fs::write(work.path().join("commands"), &script).unwrap();

    let [node, wire] = ["node", "wire"].map(|role| Netns::new(role).unwrap());
    node.veth("eth1", &wire, "wire0").unwrap();
    // Into a file: the engine in the background would hold a pipe open.
    let log = work.path().join("log");
    let out = fs::File::create(&log).unwrap();
    let mut command = node.command("timeout");
    command.args(["120", "unshare", "--mount", "sh", "commands"]);
    command.current_dir(work.path()).stdin(Stdio::null());
    command.stdout(out.try_clone().unwrap()).stderr(out);
    let status = command.status().unwrap();
    let output = fs::read_to_string(&log).unwrap();
    assert!(status.success(), "ended with {status}:\n{output}");
    for word in ["wire0", "allow-sip"] {
        assert!(output.contains(word), "{word} is not in:\n{output}");
    }
}
