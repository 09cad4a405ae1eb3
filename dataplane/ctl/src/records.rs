// SPDX-License-Identifier: Apache-2.0
//! `sluicectl records`: what the CNI plugins have on record of pods, dropped, or ended where the pod is
//! gone. Neither engine nor container runtime is asked.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;
use comfy_table::Cell;
use serde::Serialize;
use sluicegate::records::{self, NetnsState, RecordEntry, RecordKind};
use sluicegate::spec::progress::Progress;

use super::Failure;
use super::output::{Output, Style, render};

/// Default folder of CNI state (`cniDir` of the plugins' configuration).
const CNI_DIR: &str = "/var/lib/cni";

/// Subcommands of `records`.
#[derive(Debug, Subcommand)]
pub enum RecordCommand {
    /// The records: whose they are, how far ADD or DEL came, and whether the pod's network namespace is
    /// still there
    #[command(after_help = "\
STATE is `added` after a complete ADD, `incomplete` after one that was killed or undone in part, \
`deleting` once a DEL has failed, `released` where a DEL could not reach the engine and a later call \
asks it again, `busy` while a call runs, `torn` for a file that cannot be read.\n\
NETNS is `gone` when what the pod had at ADD (device, inode, moment and boot) is no longer at its path: \
the pod has ended, or the machine was started anew. Such records are what `reap` ends.")]
    List {
        /// Folder of the plugins' state: `cniDir` of their configuration
        #[arg(long, value_name = "DIR", default_value = CNI_DIR)]
        cni_dir: PathBuf,
    },
    /// Forget records without running anything: the last resort for a DEL that can never succeed
    #[command(after_help = "\
Nothing is released by this. What the plugins made for the interface stays: links, addresses that an \
ipam has reserved, host ports, an attachment of the engine (`sluicectl attachments`), a VF (`sluicectl \
vfs`). Try `sluicectl records reap` first: it runs the DEL.")]
    Drop {
        /// Container id, or its beginning if no other begins so; `/IFNAME` behind it names one interface
        #[arg(value_name = "CONTAINER[/IFNAME]")]
        name: String,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
        /// Folder of the plugins' state: `cniDir` of their configuration
        #[arg(long, value_name = "DIR", default_value = CNI_DIR)]
        cni_dir: PathBuf,
    },
    /// Run the recorded DEL of every pod whose network namespace is gone, and of what is `released`
    #[command(after_help = "\
Container runtimes call DEL when a pod ends, and most never call GC: what a crash or a reboot left \
behind stays for ever. A timer that runs this command ends it; deploy/systemd has one. Records with a \
call on them, records whose namespace is there, and records whose namespace cannot be told are left \
alone.")]
    Reap {
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
        /// Only records that were written at least so long ago: 90s, 10m, 2h, 1d
        #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration)]
        older_than: Duration,
        /// Folder of the plugins' state: `cniDir` of their configuration
        #[arg(long, value_name = "DIR", default_value = CNI_DIR)]
        cni_dir: PathBuf,
    },
}

/// Text that is not a duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("use a whole number with s, m, h or d behind it, as in 10m")]
pub(super) struct DurationError;

fn duration(text: &str) -> Result<Duration, DurationError> {
    let unit = text.chars().last().ok_or(DurationError)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(DurationError),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| DurationError)?;
    let seconds = number.checked_mul(seconds).ok_or(DurationError)?;
    Ok(Duration::from_secs(seconds))
}

/// Record as it is shown.
#[derive(Debug, Serialize)]
struct Shown {
    plugin: &'static str,
    state: &'static str,
    age_seconds: Option<u64>,
    #[serde(flatten)]
    entry: RecordEntry,
}

impl Shown {
    fn new(entry: RecordEntry) -> Shown {
        Shown {
            plugin: match entry.kind {
                RecordKind::Pod => "sluicegate",
                RecordKind::Interface | RecordKind::Released => "sluicegate-vf",
            },
            state: state(&entry),
            age_seconds: age(&entry).map(|age| age.as_secs()),
            entry,
        }
    }

    /// Whether a DEL of it is due.
    fn is_due(&self, older_than: Duration) -> bool {
        let old = self
            .age_seconds
            .is_none_or(|age| age >= older_than.as_secs());
        records::is_due(&self.entry) && old
    }

    fn name(&self) -> String {
        format!("{}/{}", self.entry.container_id, self.entry.ifname)
    }
}

fn state(entry: &RecordEntry) -> &'static str {
    let deleting = |plugin: &records::RecordedPlugin| {
        plugin.failed_dels > 0 || plugin.progress == Progress::Deleted
    };
    if entry.torn {
        "torn"
    } else if entry.busy {
        "busy"
    } else if entry.kind == RecordKind::Released {
        "released"
    } else if entry.plugins.iter().any(deleting) {
        "deleting"
    } else if entry.complete {
        "added"
    } else {
        "incomplete"
    }
}

/// Time since the record was written.
fn age(entry: &RecordEntry) -> Option<Duration> {
    let written = std::fs::metadata(&entry.path).ok()?.modified().ok()?;
    written.elapsed().ok()
}

/// Runs a subcommand.
pub(super) fn run(command: &RecordCommand, output: &mut Output) -> Result<(), Failure> {
    match command {
        RecordCommand::List { cni_dir } => {
            let all: Vec<Shown> = records::list(cni_dir)?
                .into_iter()
                .map(Shown::new)
                .collect();
            output.show(&all, |all, style| table(all, style))?;
            Ok(())
        }
        RecordCommand::Drop { name, yes, cni_dir } => {
            let all: Vec<Shown> = records::list(cni_dir)?
                .into_iter()
                .map(Shown::new)
                .collect();
            drop_records(find(&all, name)?, cni_dir, *yes, output)
        }
        RecordCommand::Reap {
            dry_run,
            older_than,
            cni_dir,
        } => reap(cni_dir, *dry_run, *older_than, output),
    }
}

/// Returns the records that a name means.
fn find<'a>(all: &'a [Shown], name: &str) -> Result<Vec<&'a Shown>, Failure> {
    let (container, ifname) = match name.split_once('/') {
        Some((container, ifname)) => (container, Some(ifname)),
        None => (name, None),
    };
    let named = |shown: &&Shown| ifname.is_none_or(|ifname| ifname == shown.entry.ifname);
    let by = |matches: &dyn Fn(&str) -> bool| -> Vec<&'a Shown> {
        let found = all
            .iter()
            .filter(|shown| matches(&shown.entry.container_id));
        found.filter(named).collect()
    };
    let exact = by(&|id| id == container);
    if !exact.is_empty() {
        return Ok(exact);
    }
    let found = by(&|id| !container.is_empty() && id.starts_with(container));
    let mut ids: Vec<&str> = found
        .iter()
        .map(|shown| &*shown.entry.container_id)
        .collect();
    ids.sort_unstable();
    ids.dedup();
    match ids.len() {
        0 => Err(Failure::Records(format!(
            "nothing is on record of {name}: `sluicectl records list` shows what is"
        ))),
        1 => Ok(found),
        _ => Err(Failure::Records(format!(
            "{name} may be any of {}: name one of them",
            ids.join(", ")
        ))),
    }
}

/// Part of the host that the record's plugins may have made and that stays when it is dropped.
fn stays(entry: &RecordEntry) -> String {
    if entry.kind != RecordKind::Pod {
        return "its attachment on the engine or its VF, and the addresses of its ipam".to_owned();
    }
    let owed = entry
        .plugins
        .iter()
        .filter(|plugin| !matches!(plugin.progress, Progress::Deleted | Progress::NotRun));
    let names: Vec<String> = owed
        .map(|plugin| {
            format!(
                "{} (network {}, {})",
                plugin.program, plugin.network, plugin.ifname
            )
        })
        .collect();
    match (names.is_empty(), entry.torn) {
        (_, true) => "whatever its plugins made; the file does not say which".to_owned(),
        (true, false) => "nothing: no plugin is owed a DEL".to_owned(),
        (false, false) => format!("what was made by {}", names.join(", ")),
    }
}

/// Record that was dropped.
#[derive(Debug, Serialize)]
struct Dropped {
    path: PathBuf,
    not_released: String,
}

fn drop_records(
    found: Vec<&Shown>,
    cni_dir: &std::path::Path,
    yes: bool,
    output: &mut Output,
) -> Result<(), Failure> {
    if !yes {
        let mut question = String::new();
        for shown in &found {
            question.push_str(&format!(
                "{} of {} ({}, {}), not released: {}\n",
                shown.name(),
                shown.plugin,
                shown.state,
                netns(&shown.entry),
                stays(&shown.entry)
            ));
            if shown.entry.netns == NetnsState::Alive {
                question
                    .push_str("  its pod seems to run: DEL of it will find nothing to delete\n");
            }
        }
        if !confirm(&question)? {
            return Err(Failure::Records("nothing was dropped".to_owned()));
        }
    }
    let mut names: Vec<_> = found
        .iter()
        .map(|shown| (&shown.entry.container_id, &shown.entry.ifname))
        .collect();
    names.sort_unstable();
    names.dedup();
    let mut dropped = Vec::new();
    for (container, ifname) in names {
        for path in records::drop(cni_dir, container, ifname)? {
            let of = found.iter().find(|shown| shown.entry.path == path);
            let not_released = of.map_or_else(String::new, |shown| stays(&shown.entry));
            dropped.push(Dropped { path, not_released });
        }
    }
    output.show(&dropped, |dropped, _| {
        let line = |one: &Dropped| {
            format!(
                "dropped {}; not released: {}\n",
                one.path.display(),
                one.not_released
            )
        };
        dropped.iter().map(line).collect()
    })?;
    Ok(())
}

/// Asks on standard error, so that standard output holds the answer alone.
fn confirm(question: &str) -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::Records(format!(
            "{question}nobody is there to be asked: give --yes if that is meant"
        )));
    }
    let mut stderr = io::stderr().lock();
    write!(stderr, "{question}Drop? [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Outcome of one DEL.
#[derive(Debug, Serialize)]
struct Reaped {
    #[serde(flatten)]
    record: Shown,
    /// `would be deleted`, `deleted`, or `failed`.
    outcome: &'static str,
    error: Option<String>,
}

fn reap(
    cni_dir: &std::path::Path,
    dry_run: bool,
    older_than: Duration,
    output: &mut Output,
) -> Result<(), Failure> {
    let mut all: Vec<Reaped> = Vec::new();
    // Pods first: their DEL ends their interfaces, which are gone from the list then.
    for kind in [RecordKind::Pod, RecordKind::Interface, RecordKind::Released] {
        for record in records::list(cni_dir)?.into_iter().map(Shown::new) {
            if record.entry.kind != kind || !record.is_due(older_than) {
                continue;
            }
            let outcome = if dry_run {
                None
            } else {
                Some(records::del(cni_dir, &record.entry))
            };
            let (outcome, error) = match outcome {
                None => ("would be deleted", None),
                Some(Ok(())) => ("deleted", None),
                Some(Err(error)) => ("failed", Some(error.to_string())),
            };
            all.push(Reaped {
                record,
                outcome,
                error,
            });
        }
    }
    output.show(&all, |all, style| {
        if all.is_empty() {
            return "nothing to reap\n".to_owned();
        }
        let mut table = style.table(&["RECORD", "PLUGIN", "POD", "OUTCOME"]);
        for one in all {
            let outcome = match &one.error {
                Some(error) => style.bad(format!("failed: {error}")),
                None => style.good(one.outcome),
            };
            let pod = one.record.entry.pod.clone().unwrap_or_default();
            let cells = [one.record.name(), one.record.plugin.to_owned(), pod];
            table.add_row(cells.into_iter().map(Cell::new).chain([outcome]));
        }
        render(table)
    })?;
    if all.iter().any(|one| one.error.is_some()) {
        return Err(Failure::Shown);
    }
    Ok(())
}

fn netns(entry: &RecordEntry) -> &'static str {
    match entry.netns {
        NetnsState::Alive => "alive",
        NetnsState::Gone => "gone",
        NetnsState::Unknown => "unknown",
    }
}

fn table(all: &[Shown], style: Style) -> String {
    if all.is_empty() {
        return "no records\n".to_owned();
    }
    let heading = [
        "PLUGIN",
        "CONTAINER",
        "POD",
        "INTERFACE",
        "NETWORK",
        "STATE",
        "NETNS",
        "AGE",
    ];
    let mut table = style.table(&heading);
    for shown in all {
        let entry = &shown.entry;
        let short: String = entry.container_id.chars().take(13).collect();
        let state = match shown.state {
            state @ ("torn" | "incomplete" | "deleting") => style.bad(state),
            state => Cell::new(state),
        };
        let netns = match entry.netns {
            NetnsState::Gone => style.bad(netns(entry)),
            _ => Cell::new(netns(entry)),
        };
        table.add_row([
            Cell::new(shown.plugin),
            Cell::new(short),
            Cell::new(entry.pod.as_deref().unwrap_or("-")),
            Cell::new(&entry.ifname),
            Cell::new(&entry.network),
            state,
            netns,
            style.number(shown.age_seconds.map_or_else(|| "?".to_owned(), in_words)),
        ]);
    }
    render(table)
}

/// Age in its largest unit.
fn in_words(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(duration("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        for bad in ["", "m", "10", "1.5h", "-1s", "99999999999999999999d", "10é"] {
            assert_eq!(duration(bad), Err(DurationError), "{bad}");
        }
        assert_eq!(in_words(59) + &in_words(61) + &in_words(7200), "59s1m2h");
    }
}
