// SPDX-License-Identifier: Apache-2.0
//! Checks the demo's requirements.

use rustix::process::geteuid;

use crate::failure::Failure;
use crate::home::Home;
use crate::interrupt::Interrupt;
use crate::programs::Programs;
use crate::report::Findings;
use crate::{Options, Scene};

/// Checks everything and makes the folder.
pub(crate) fn check(options: &Options, findings: &mut Findings) -> Result<Scene, Failure> {
    let found = Programs::find(options.bin_dir.as_deref());
    let mut missing = found.as_ref().err().cloned().unwrap_or_default();
    if !geteuid().is_root() {
        missing.insert(
            0,
            "root, for network namespaces and raw sockets: `sudo sluicectl demo`".into(),
        );
    }
    let programs = match found {
        Ok(programs) if missing.is_empty() => programs,
        _ => return Err(Failure::Needs(missing)),
    };
    let interrupt = Interrupt::watch()?;
    let home = Home::make()?;
    let folder = programs.sluiced.parent().unwrap_or(&programs.sluiced);
    findings.line(format!(
        "programs of {}, everything else in {}",
        folder.display(),
        home.dir().display()
    ));
    findings.fact("programs", folder.display().to_string());
    findings.fact("folder", home.dir().display().to_string());
    Ok(Scene {
        home,
        programs,
        interrupt,
    })
}
