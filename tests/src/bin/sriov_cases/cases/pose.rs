// SPDX-License-Identifier: Apache-2.0
//! Poses on a VF: what the NIC checks follows what the engine checks, and DEL puts it back.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sluice_tests::Netns;
use sluice_tests::cni::Sandbox;

use super::{Case, case};
use crate::engine::{self, Interface};
use crate::far::{Far, ping};
use crate::rig::Rig;

pub(crate) const CASES: &[Case] = &[case(
    "engine-poses",
    "antiSpoof and the NIC's spoofchk and trust go together, within what the node's owner allows",
    300,
    poses,
)];

/// Words of the VF's line that say what the NIC checks.
fn checks(line: &str) -> Result<(bool, bool)> {
    let is_on = |what: &str| {
        let rest = line.split(what).nth(1).with_context(|| line.to_owned())?;
        Ok::<_, anyhow::Error>(rest.trim_start().starts_with("on"))
    };
    Ok((is_on("spoof checking")?, is_on("trust")?))
}

fn poses(rig: &Rig) -> Result<()> {
    let vf = &rig.vfs(1)?[0];
    let before = vf.snapshot()?;
    let far = Far::new(rig, None)?;
    far.vlan(210, "10.21.0.250/24")?;
    let owner = format!("posing: {{pfs: [{{name: {}, loosest: off}}]}}\n", rig.pf);
    let engine = engine::start_with(rig, &owner)?;
    let pod = Netns::new("pod")?;
    let conf = |with: Value| {
        let mut conf = engine::conf(
            rig,
            json!({"vf": 0, "vlan": 210, "ipam": rig.host_local("10.21.0.0/24")}),
        );
        if let (Some(conf), Value::Object(with)) = (conf.as_object_mut(), with) {
            conf.extend(with);
        }
        conf
    };
    // A contradiction is refused before anything is taken.
    let sandbox = Sandbox::new("poses", &pod, "net0");
    let both = conf(json!({"antiSpoof": "strict", "spoofchk": "off"}));
    let refused = rig.plugins()?.call("ADD", &sandbox, &both)?.refused(7)?;
    ensure!(
        refused.contains("antiSpoof") && refused.contains("spoofchk"),
        "{refused}"
    );
    vf.expect(&before)?;
    for (with, expected) in [
        (json!({"antiSpoof": "mac"}), (true, false)),
        (json!({"antiSpoof": "off"}), (false, false)),
        (json!({"spoofchk": "off", "trust": "on"}), (false, true)),
    ] {
        let said = with.to_string();
        let net0 = Interface::add(rig, "poses", &pod, "net0", conf(with))?;
        let line = vf.pf_line()?;
        ensure!(checks(&line)? == expected, "{said}: {line}");
        let peer = engine::vnf(rig, &pod, &[&net0])?;
        engine.wait_link("poses", "net0")?;
        ping(far.netns(), net0.ip())?;
        drop(peer);
        net0.del(rig)?;
        vf.expect(&before)?;
    }
    rig.nothing_held()
}
