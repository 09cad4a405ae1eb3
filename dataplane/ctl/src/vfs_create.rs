// SPDX-License-Identifier: Apache-2.0
//! `sluicectl vfs create`: VFs made from the node's PFs, as a file or the command line asks.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use sluice_sriov::claim::Node;
use sluice_sriov::create::{self, Circumstances, Created, Outcome, PfName, VfCount};
use sluicegate::sriov::{KUBELET_CHECKPOINT, given_out};

use super::Failure;
use super::output::{Output, Style};

/// Time that the netdevs of new VFs are waited for.
const NETDEVS: Duration = Duration::from_secs(30);

const HELP: &str = "\
The file names each PF by its PCI address, which stays, or by its netdev:

  vfs:
    - pf: \"0000:01:00.0\"   # lspci -D; ls -l /sys/class/net/enp1s0/device
      count: 4             # up to the PF's sriov_totalvfs; 0 removes them
      autoprobe: false     # optional: no driver of the kernel takes the new VFs

A PF that has the number asked for is left alone, so the command may run at every boot and at any time \
(systemd/sluicegate-vfs.service does). The kernel gets to another number only by way of 0, which removes \
every VF of the PF: that is refused while a VF is in use, and the answer says by whom.

Exit codes: 0 all PFs have their VFs, 1 some have not.";

/// Arguments of `vfs create`.
#[derive(Debug, Args)]
#[command(after_long_help = HELP)]
pub struct CreateArgs {
    /// PF to be given VFs: its PCI address or netdev. Without it, all PFs of the file
    #[arg(value_name = "PF", requires = "count")]
    pf: Option<PfName>,
    /// Number of VFs that the PF is to have
    #[arg(value_name = "N")]
    count: Option<u16>,
    /// File that says which PF is to have how many VFs
    #[arg(long, value_name = "FILE", default_value = create::DEFAULT_FILE, conflicts_with = "pf")]
    from: PathBuf,
    /// Say what would be done, and who stands in the way; change nothing
    #[arg(long)]
    dry_run: bool,
    /// Wait so many seconds for PFs that are not there yet, as at boot
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=600))]
    wait: u64,
    /// The kubelet's list of devices that it gave to pods
    #[arg(long, value_name = "FILE", default_value = KUBELET_CHECKPOINT)]
    kubelet_checkpoint: PathBuf,
}

/// Result for one PF: either what was done, or why nothing was.
#[derive(Debug, Serialize)]
struct Line {
    /// Name that was given.
    asked: PfName,
    #[serde(flatten)]
    done: Option<Created>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Makes VFs and shows what became of each PF; fails if one has not what was asked for.
pub(super) fn run(args: &CreateArgs, state_dir: &Path, output: &mut Output) -> Result<(), Failure> {
    let asked = match (&args.pf, args.count) {
        (Some(pf), Some(count)) => vec![VfCount {
            pf: pf.clone(),
            count: count.into(),
            autoprobe: None,
        }],
        _ => create::read(&args.from)?,
    };
    let given_out = given_out(&args.kubelet_checkpoint)?;
    let around = Circumstances {
        given_out: &given_out,
        dry_run: args.dry_run,
        appears_by: Instant::now() + Duration::from_secs(args.wait),
        netdevs_within: NETDEVS,
    };
    let done = Node::new(state_dir).create_all(&args.from, &asked, &around)?;
    let lines: Vec<Line> = asked
        .into_iter()
        .zip(done)
        .map(|(asked, done)| {
            let (done, error) = match done {
                Ok(done) => (Some(done), None),
                Err(error) => (None, Some(error.to_string())),
            };
            Line {
                asked: asked.pf,
                done,
                error,
            }
        })
        .collect();
    output.show(&lines, |lines, _: Style| text(lines))?;
    if !output.json() {
        for error in lines.iter().filter_map(|line| line.error.as_ref()) {
            eprintln!("sluicectl: {error}");
        }
    }
    if lines.iter().any(|line| line.error.is_some()) {
        return Err(Failure::Shown);
    }
    Ok(())
}

fn text(lines: &[Line]) -> String {
    if lines.is_empty() {
        return "no PF is asked for\n".to_owned();
    }
    let mut text = String::new();
    for line in lines {
        let Some(done) = &line.done else { continue };
        let name = done.netdev.as_deref().unwrap_or("-");
        let vfs: Vec<String> = done.vfs.iter().map(ToString::to_string).collect();
        let what = match (done.outcome, done.count) {
            (Outcome::Unchanged, 0) => "has no VFs, as asked".to_owned(),
            (Outcome::Unchanged, count) => format!("has its {count} VFs: {}", vfs.join(" ")),
            (Outcome::Created, 0) => format!("has no VFs any more, {} before", done.before),
            (Outcome::Created, count) => {
                format!("has {count} VFs, {} before: {}", done.before, vfs.join(" "))
            }
            (Outcome::WouldCreate, count) => {
                format!("would get {count} VFs in place of {}", done.before)
            }
        };
        text.push_str(&format!("PF {name} at {} {what}\n", done.pf));
        for warning in &done.warnings {
            text.push_str(&format!("  warning: {warning}\n"));
        }
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn line(outcome: Outcome, before: u32, count: u32) -> Line {
        let address = |index: u32| format!("0000:01:10.{}", 2 * index).parse().unwrap();
        Line {
            asked: "enp1s0".parse().unwrap(),
            done: Some(Created {
                pf: "0000:01:00.0".parse().unwrap(),
                netdev: Some("enp1s0".into()),
                outcome,
                before,
                count,
                vfs: (0..count).map(address).collect(),
                warnings: Vec::new(),
            }),
            error: None,
        }
    }

    #[test]
    fn each_outcome_has_its_words() {
        let said = text(&[
            line(Outcome::Created, 0, 2),
            line(Outcome::Unchanged, 2, 2),
            line(Outcome::WouldCreate, 1, 2),
            line(Outcome::Created, 2, 0),
        ]);
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(
            lines,
            [
                "PF enp1s0 at 0000:01:00.0 has 2 VFs, 0 before: 0000:01:10.0 0000:01:10.2",
                "PF enp1s0 at 0000:01:00.0 has its 2 VFs: 0000:01:10.0 0000:01:10.2",
                "PF enp1s0 at 0000:01:00.0 would get 2 VFs in place of 1",
                "PF enp1s0 at 0000:01:00.0 has no VFs any more, 2 before",
            ]
        );
        assert_eq!(text(&[]), "no PF is asked for\n");
    }

    #[test]
    fn json_says_what_was_done_or_why_not() {
        let failed = Line {
            asked: "eth9".parse().unwrap(),
            done: None,
            error: Some("there is no such PF".into()),
        };
        let done = serde_json::to_value([line(Outcome::Created, 0, 1), failed]).unwrap();
        assert_eq!(done[0]["outcome"], "created");
        assert_eq!(done[0]["vfs"][0], "0000:01:10.0");
        assert_eq!(done[0]["asked"], "enp1s0");
        assert_eq!(done[1]["error"], "there is no such PF");
        assert!(done[1].get("outcome").is_none());
    }
}
