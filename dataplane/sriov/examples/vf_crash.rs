// SPDX-License-Identifier: Apache-2.0
//! Claims a VF and gives it back in a process that dies after a number of changes to the host:
//!
//! ```text
//! vf_crash run STATE PF INDEX kernel|vfio|engine NETNS CHANGES   claims and releases; is killed in between
//! vf_crash recover STATE                                         puts back what that left
//! ```
//!
//! Whoever raises CHANGES from 0 until `run` ends well has seen a crash after every single change.

use std::error::Error;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};
use std::{env, process};

use sluice_sriov::claim::{CrashAfter, Mode, NetnsRef, Node, Owner, Pick, Plan, RealHost};
use sluice_sriov::settings::{VfSettings, VfVlan};

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["run", state, pf, index, mode, netns, changes] => {
            run(Path::new(state), pf, index, mode, netns, changes)
        }
        ["recover", state] => recover(Path::new(state)),
        _ => {
            eprintln!("usage: vf_crash run STATE PF INDEX MODE NETNS CHANGES | recover STATE");
            process::exit(2);
        }
    };
    if let Err(error) = done {
        eprintln!("vf_crash: {error}");
        process::exit(1);
    }
}

fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

fn run(
    state: &Path,
    pf: &str,
    index: &str,
    mode: &str,
    netns: &str,
    changes: &str,
) -> Result<(), Box<dyn Error>> {
    let mode = match mode {
        "kernel" => Mode::Kernel,
        "vfio" => Mode::Vfio,
        "engine" => Mode::Engine,
        _ => return Err(format!("{mode} is no mode").into()),
    };
    let at = std::fs::metadata(netns)?;
    let plan = Plan {
        owner: Owner {
            network: "crash".to_owned(),
            container_id: "crash".to_owned(),
            ifname: "net1".to_owned(),
            netns: NetnsRef {
                path: netns.into(),
                dev: at.dev(),
                ino: at.ino(),
            },
        },
        mode,
        pf: Some(pf.to_owned()),
        pick: Pick::Index(index.parse()?),
        settings: VfSettings {
            mac: Some([2, 0, 0, 0, 0xcc, 1]),
            vlan: Some(VfVlan {
                vid: 210,
                qos: 3,
                is_8021ad: false,
            }),
            trust: Some(true),
            ..VfSettings::default()
        },
        driver: "vfio-pci".to_owned(),
        kernel_driver: None,
        allow_unsafe_noiommu: false,
        pod_ifname: "net1".to_owned(),
    };
    let node = Node::on(
        CrashAfter::killed(RealHost::new(state), changes.parse()?),
        state,
    );
    let claimed = node.claim(&plan, deadline())?;
    println!("claimed {}", claimed.record.vf);
    node.release("crash", "net1", deadline())?;
    println!("released, with {} changes left", node.host().left());
    Ok(())
}

fn recover(state: &Path) -> Result<(), Box<dyn Error>> {
    for record in Node::new(state).recover(|_| false, deadline())? {
        println!("put back {} ({:?})", record.vf, record.phase);
    }
    Ok(())
}
