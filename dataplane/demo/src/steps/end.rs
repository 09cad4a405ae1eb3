// SPDX-License-Identifier: Apache-2.0
//! Everything is taken down as it was made, and looked for afterwards.

use std::path::Path;
use std::time::{Duration, Instant};

use super::pair::{Pair, Played};
use super::pod::Pod;
use super::testbed::Testbed;
use super::vnf::Vnf;
use crate::Scene;
use crate::failure::{Failure, expect_eq};
use crate::interrupt::Poll;
use crate::namespace::Namespace;
use crate::plan::UPLINK_DEVICE;
use crate::report::Findings;
use crate::runtime::Sandbox;
use crate::traces;

/// Longest time for the kernel to release what was deleted.
const SETTLE: Duration = Duration::from_secs(10);

/// Everything that was made.
pub(crate) struct Cast<'a> {
    pub(crate) pair: Pair<'a>,
    pub(crate) vnf: Vnf,
    pub(crate) pod: Pod<'a>,
    pub(crate) testbed: Testbed<'a>,
}

pub(crate) fn take_down(
    scene: &Scene,
    cast: Cast<'_>,
    findings: &mut Findings,
) -> Result<(), Failure> {
    let Cast {
        pair,
        vnf,
        pod,
        testbed,
    } = cast;
    let Pair { a, b } = pair;
    let mut sandboxes = Vec::new();
    for Played { memif, sandbox, .. } in [a, b] {
        drop(memif);
        sandboxes.push(sandbox);
    }
    sandboxes.push(pod.sandbox);
    vnf.end()?;
    for sandbox in &mut sandboxes {
        sandbox.del()?;
    }
    look_after_del(scene, &testbed, &sandboxes)?;
    for sandbox in &mut sandboxes {
        sandbox.del_again()?;
    }
    findings.line(format!(
        "DEL of {} pods, and once more: no attachment, no abstract socket, no link, no address of \
         host-local's, no record; every mbuf free",
        sandboxes.len()
    ));

    let Testbed {
        host,
        engine,
        node,
        wire,
    } = testbed;
    drop(host);
    let took = engine.end()?;
    expect_eq(
        "files of the engine and the plugins",
        &vec![],
        &files(scene),
    )?;
    given_back(scene, &node)?;
    findings.line(format!(
        "the engine ended {} ms after SIGTERM: no socket, lock, record or nftables table of its",
        took.as_millis()
    ));
    let mut guests = Vec::new();
    for sandbox in sandboxes {
        guests.extend(sandbox.pod().delete()?);
    }
    guests.extend(node.delete()?);
    guests.extend(wire.delete()?);
    drop((node, wire));
    scene.home.remove()?;

    let left = settle(scene);
    expect_eq(
        format!("traces of this demo ({})", scene.home.mark()),
        &Vec::new(),
        &left,
    )?;
    findings.line(format!(
        "nothing on this machine bears the mark {}",
        scene.home.mark()
    ));
    if !guests.is_empty() {
        findings.line(format!(
            "(in its namespaces were programs of others, which were left alone: {})",
            guests.join(", ")
        ));
    }
    findings.fact("left", 0);
    findings.fact("guests", guests);
    findings.proven(
        "a clean DEL, twice, and a clean end",
        "no namespace, link, socket, file, huge page, process left",
    );
    Ok(())
}

/// Checks that nothing of the pods is left after the DELs, while the engine still runs.
fn look_after_del(
    scene: &Scene,
    testbed: &Testbed<'_>,
    sandboxes: &[Sandbox<'_>],
) -> Result<(), Failure> {
    let attachments = testbed
        .engine
        .ask("its attachments", |client| client.attachments())?;
    let names: Vec<String> = attachments
        .iter()
        .map(|one| format!("{}/{}", one.request.container_id, one.request.ifname))
        .collect();
    expect_eq("attachments of the engine after DEL", &vec![], &names)?;
    let what = "the engine's mbufs to be all free";
    scene.interrupt.wait_for(what, SETTLE, || {
        let memory = testbed
            .engine
            .ask("its status", |client| client.status())?
            .memory;
        let in_flight = memory.small.in_flight + memory.large.in_flight;
        Ok(match in_flight {
            0 => Poll::Found(()),
            _ => Poll::NotYet(format!("{in_flight} in flight")),
        })
    })?;
    for sandbox in sandboxes {
        let pod = sandbox.pod();
        let name = pod.name();
        expect_eq(
            format!("abstract sockets in {name} after DEL"),
            &vec![],
            &pod.unix_sockets()?,
        )?;
        expect_eq(format!("links in {name} after DEL"), &vec![], &pod.links()?)?;
    }
    // Besides addresses, host-local keeps a lock and the last one it gave.
    let mut addresses = scene.home.files(&["host-local"]);
    addresses.retain(|file| {
        let name = Path::new(file)
            .file_name()
            .unwrap_or_default()
            .to_string_lossy();
        name != "lock" && !name.starts_with("last_reserved_ip")
    });
    expect_eq(
        "addresses that host-local holds after DEL",
        &vec![],
        &addresses,
    )?;
    let records = scene.home.files(&["cni", "state/attachments"]);
    expect_eq(
        "records of the plugins and the engine after DEL",
        &vec![],
        &records,
    )
}

/// Files that the engine and the plugins keep.
fn files(scene: &Scene) -> Vec<String> {
    scene.home.files(&["run", "state", "cni"])
}

/// The engine has given its uplink back to the node.
fn given_back(scene: &Scene, node: &Namespace) -> Result<(), Failure> {
    let tables = node.nft_tables(&scene.programs.nft)?;
    expect_eq("nftables tables of the node", &String::new(), &tables)?;
    let links = node.links()?;
    if links.iter().any(|link| link == UPLINK_DEVICE) {
        return Ok(());
    }
    let what = "links of the node";
    Err(Failure::unexpected(
        what,
        format!("{UPLINK_DEVICE} among them"),
        links.join(", "),
    ))
}

/// Lists what is left of the demo, once the kernel has had time to release everything.
pub(crate) fn settle(scene: &Scene) -> Vec<String> {
    // A failure comes here with the folder still in use.
    let _ = scene.home.remove();
    let end = Instant::now() + SETTLE;
    loop {
        let left = traces::of(scene.home.mark(), &scene.programs);
        if left.is_empty() || Instant::now() > end {
            return left;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
