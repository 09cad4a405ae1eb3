// SPDX-License-Identifier: Apache-2.0
//! Measures how fast 64-byte frames go from pod to pod, judged twice by a hundred rules each.

use std::time::Duration;

use super::pair::Pair;
use super::testbed::Testbed;
use crate::Scene;
use crate::counters::{Reading, expect_rise};
use crate::failure::{Failure, expect_eq};
use crate::plan::{LOCAL, RATE_RULES};
use crate::rate;
use crate::report::Findings;

/// Duration of the measurement.
const TIME: Duration = Duration::from_secs(3);

pub(crate) fn show(
    scene: &Scene,
    testbed: &Testbed<'_>,
    pair: &mut Pair<'_>,
    findings: &mut Findings,
) -> Result<(), Failure> {
    let before = Reading::take(&testbed.engine)?;
    let result = rate::measure(&scene.interrupt, &mut pair.a, &mut pair.b, TIME)?;
    if result.received == 0 {
        return Err(Failure::unexpected("frames at the far end", "some", "none"));
    }
    let what = "frames at the far end, all in order";
    expect_eq(what, &(result.sent, 0), &(result.received, result.wrong))?;
    for direction in ["egress", "ingress"] {
        let rule = (LOCAL.policy, direction, "measured");
        expect_rise(
            &testbed.engine,
            &scene.interrupt,
            &before,
            rule,
            result.sent,
        )?;
    }
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let mpps = result.mpps();
    findings.line(format!(
        "{mpps:.2} Mpps on this machine, now: {} frames in {:.1} s, all in order at the far end",
        result.received,
        result.time.as_secs_f64()
    ));
    findings.line(format!(
        "({cpus} CPUs; one worker judges each frame twice, {RATE_RULES} rules each time; one thread \
         plays both pods)"
    ));
    findings.fact("mpps", (mpps * 1000.0).round() / 1000.0);
    findings.fact("frames", result.received);
    findings.fact("lost", result.sent - result.received);
    findings.fact("cpus", cpus);
    findings.fact("rules", RATE_RULES);
    findings.proven(
        "64-byte frames, memif to memif, through the firewall",
        format!("{mpps:.2} Mpps on this machine now ({cpus} CPUs), none lost"),
    );
    Ok(())
}
