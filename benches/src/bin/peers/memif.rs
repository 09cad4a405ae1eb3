// SPDX-License-Identifier: Apache-2.0
//! memif between two processes, one on each core, and forwarded by the engine in between.

use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::Options;

/// Measures and prints every figure of this section.
pub(crate) fn run(options: &Options) -> Result<()> {
    for size in [64, 1500] {
        let tag = |way: &str| format!("memif_{way}_{size}_zc_no");
        let common = [format!("--size={size}")];
        pair(options, &tag("c2s"), "rx", "tx", "client", &common, &[])?;
        pair(options, &tag("s2c"), "rx", "tx", "server", &common, &[])?;
        pair(options, &tag("fwd_io"), "io", "gen", "client", &common, &[])?;
    }
    // The same with other flows, with more rules, without the flow cache, and with connections.
    let rows: [(&str, &[&str], &[&str]); 8] = [
        ("flows_1", &["--flows=1"], &[]),
        ("flows_65536", &["--flows=65536"], &[]),
        ("new_flows", &["--flows=0"], &[]),
        ("no_cache", &[], &["--flow-cache=0"]),
        ("rules_1000", &["--rules=1000"], &[]),
        (
            "rules_1000_no_cache",
            &["--rules=1000"],
            &["--flow-cache=0"],
        ),
        // Frames of connections, which have an entry at each of the two pods.
        ("rules_1000_stateful", &["--rules=1000"], &["--stateful"]),
        (
            "rules_1000_stateful_65536",
            &["--rules=1000", "--flows=65536"],
            &["--stateful"],
        ),
    ];
    for (row, both, engine) in rows {
        let common: Vec<String> = both.iter().map(|&arg| arg.to_owned()).collect();
        let tag = format!("memif_fwd_io_64_{row}");
        pair(options, &tag, "io", "gen", "client", &common, engine)?;
    }
    Ok(())
}

/// Runs two processes: one that measures, on core 0, and one on core 1 that answers its probes and has role
/// `other_role`.
fn pair(
    options: &Options,
    tag: &str,
    mode: &str,
    other: &str,
    other_role: &str,
    common: &[String],
    own: &[&str],
) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    let start = |mode: &str, role: &str, core: usize, more: &[&str]| -> Result<Child> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["side", mode, "--role", role, "--tag", tag])
            .args(["--socket", &path("a"), "--socket", &path("b")])
            .args(["--probe", &path("probe")])
            .args(["--core", &core.to_string()])
            .args(["--seconds", &options.seconds.to_string()])
            .args(common)
            .args(more)
            .stdin(Stdio::null());
        command.spawn().context("the other side cannot be started")
    };
    let role = if other_role == "client" {
        "server"
    } else {
        "client"
    };
    let mut measuring = start(mode, role, 0, own)?;
    let mut answering = start(other, other_role, 1, &[])?;
    let (measured, answered) = (measuring.wait()?, answering.wait()?);
    if !measured.success() || !answered.success() {
        bail!("{tag}: {mode} ended with {measured}, {other} with {answered}");
    }
    Ok(())
}
