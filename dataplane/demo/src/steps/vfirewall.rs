// SPDX-License-Identifier: Apache-2.0
//! A virtual firewall in a pod with an interface in each of two VLANs: it routes between them, lets
//! through what its own policies allow, and logs what they do not.

use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use sluice_packet::Mac;

use super::allowed::{LIMIT, SILENCE, resolve};
use super::testbed::Testbed;
use super::vnf::{NOBODY, for_nobody};
use crate::Scene;
use crate::failure::{Failure, expect_eq};
use crate::frames::{Content, Path};
use crate::interface::is_up;
use crate::interrupt::Poll;
use crate::namespace::Namespace;
use crate::plan::{self, DATA, FIREWALL_ALLOWED, FIREWALL_DENIED, Segment, VOICE};
use crate::process::Daemon;
use crate::report::Findings;
use crate::runtime::{Plugin, Sandbox};

/// Datagrams that are allowed, and that are not.
const ALLOWED: u16 = 20;
const DENIED: u16 = 10;
/// First of their source ports, one each.
const FROM: u16 = 43_000;

/// Interface of the firewall's pod.
struct Side<'a> {
    segment: Segment,
    sandbox: Sandbox<'a>,
    ifname: &'static str,
    mac: Mac,
    socket: String,
}

impl Side<'_> {
    /// The firewall's address in its VLAN, which no pod of the demo is given.
    fn address(&self) -> std::net::Ipv4Addr {
        std::net::Ipv4Addr::new(10, self.segment.vid, 0, 2)
    }
}

pub(crate) fn show(
    scene: &Scene,
    testbed: &mut Testbed<'_>,
    findings: &mut Findings,
) -> Result<(), Failure> {
    let name = format!("{}-fw", scene.home.mark());
    let namespace = Arc::new(Namespace::add(&scene.programs.ip, &name)?);
    let mut inside = attach(scene, testbed, &namespace, "net1", VOICE)?;
    let mut outside = attach(scene, testbed, &namespace, "net2", DATA)?;
    let daemon = start(scene, &namespace, [&inside, &outside])?;
    for side in [&inside, &outside] {
        let what = format!("the link of the firewall's {}", side.ifname);
        scene.interrupt.wait_for(&what, LIMIT, || {
            let status = testbed
                .engine
                .attachment(&side.sandbox.container, side.ifname)?;
            Ok(match is_up(&status) {
                true => Poll::Found(()),
                false => Poll::NotYet("it is down".to_owned()),
            })
        })?;
    }
    findings.line(format!(
        "a pod with net1 in VLAN {} ({}) and net2 in VLAN {} ({}); vfirewall routes between them, as \
         user {NOBODY}",
        VOICE.vid,
        inside.address(),
        DATA.vid,
        outside.address()
    ));
    let through = pass(scene, testbed, &inside, &outside)?;
    let line = logged(scene)?;
    findings.line(format!(
        "{ALLOWED} datagrams to {}:{FIREWALL_ALLOWED}: {through} read in VLAN {}, from the \
         firewall's MAC",
        DATA.wire_host(),
        DATA.vid
    ));
    findings.line(format!(
        "{DENIED} to port {FIREWALL_DENIED}: none; each in the firewall's log, as in"
    ));
    findings.line(format!("  {line}"));
    findings.fact("through", through);
    findings.fact("denied", DENIED);
    daemon.end()?;
    inside.sandbox.del()?;
    outside.sandbox.del()?;
    inside.sandbox.del_again()?;
    outside.sandbox.del_again()?;
    namespace.delete()?;
    findings.proven(
        "a firewall in a pod routes between VLANs by policies of its own",
        format!("{through} of {ALLOWED} through, 0 of {DENIED}, {DENIED} lines name the rule"),
    );
    Ok(())
}

/// ADDs an interface without addresses: what a router sends is mostly from others.
fn attach<'a>(
    scene: &'a Scene,
    testbed: &Testbed<'_>,
    namespace: &Arc<Namespace>,
    ifname: &'static str,
    segment: Segment,
) -> Result<Side<'a>, Failure> {
    let conf = plan::router_attachment(&scene.home, segment);
    let network = (Plugin::SluicegateVf, ifname, conf);
    let mut sandbox = Sandbox::new(scene, &testbed.node, namespace, "fw", network);
    sandbox.add()?;
    let status = testbed.engine.attachment(&sandbox.container, ifname)?;
    let socket = status.socket.clone().unwrap_or_default();
    let mac = status.mac.parse();
    Ok(Side {
        segment,
        mac: mac.map_err(Failure::broken("read the firewall's MAC address"))?,
        sandbox,
        ifname,
        socket,
    })
}

/// Writes the firewall's policies and starts it, with no privilege at all.
fn start(scene: &Scene, namespace: &Namespace, sides: [&Side<'_>; 2]) -> Result<Daemon, Failure> {
    let program = for_nobody(scene, &scene.programs.vfirewall)?;
    let policies = write_policies(scene)?;
    let mut command = Command::new(program);
    command.arg("--policies").arg(policies).arg("--json");
    for side in sides {
        command.arg("--memif").arg(format!(
            "socket={},mac={},vlan={},ip={}/24",
            side.socket,
            side.mac,
            side.segment.vid,
            side.address()
        ));
    }
    command.uid(NOBODY).gid(NOBODY);
    Daemon::start(namespace, &mut command, &scene.home.log("vfirewall"), LIMIT)
}

/// Folder of the firewall's own policies, which everybody may read.
fn write_policies(scene: &Scene) -> Result<PathBuf, Failure> {
    let folder = scene.home.path("firewall");
    let broken = || Failure::broken(format!("write {}", folder.display()));
    let open = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
    };
    std::fs::create_dir(&folder)
        .and_then(|()| open(&folder, 0o755))
        .and_then(|()| open(scene.home.dir(), 0o711))
        .map_err(broken())?;
    for (file, text) in plan::firewall_policies() {
        let path = scene.home.write(&format!("firewall/{file}"), &text)?;
        open(&path, 0o644).map_err(broken())?;
    }
    Ok(folder)
}

/// Sends both kinds of datagrams into the one VLAN and reads what arrives in the other. Returns how
/// many did.
fn pass(
    scene: &Scene,
    testbed: &mut Testbed<'_>,
    inside: &Side<'_>,
    outside: &Side<'_>,
) -> Result<u16, Failure> {
    let host = &testbed.host;
    let vid = VOICE.vid();
    let gateway = host.path_to(vid, VOICE.wire_host(), (inside.mac, inside.address()));
    resolve(scene, testbed, &gateway, inside.mac)?;
    let path = Path {
        to: (inside.mac, DATA.wire_host()),
        ..gateway
    };
    let mut through = 0;
    let mut wrong = Vec::new();
    let mut listen = |testbed: &mut Testbed<'_>, limit, enough: u16| {
        testbed.host.listen(&scene.interrupt, limit, |heard| {
            if let Content::Udp { to, .. } = heard.what {
                let right = heard.vid == DATA.vid()
                    && heard.from == (outside.mac, VOICE.wire_host())
                    && heard.to.1 == DATA.wire_host()
                    && to == FIREWALL_ALLOWED;
                if right {
                    through += 1;
                } else if to == FIREWALL_ALLOWED || to == FIREWALL_DENIED {
                    wrong.push(format!("{heard:?}"));
                }
            }
            match through >= enough {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })
    };
    // The first makes the firewall ask for its next hop; only a few may wait for the answer.
    let allowed = |number| path.udp(FROM + number, FIREWALL_ALLOWED, b"through");
    testbed.host.send(&allowed(0))?;
    listen(testbed, LIMIT, 1)?;
    for number in 0..DENIED {
        let denied = path.udp(FROM + number, FIREWALL_DENIED, b"not through");
        testbed.host.queue(&denied)?;
    }
    for number in 1..ALLOWED {
        testbed.host.queue(&allowed(number))?;
    }
    testbed.host.flush()?;
    listen(testbed, LIMIT, ALLOWED)?;
    // What must not come has had its time then.
    listen(testbed, SILENCE, u16::MAX)?;
    expect_eq("datagrams in the wrong place", &Vec::new(), &wrong)?;
    expect_eq("allowed datagrams behind the firewall", &ALLOWED, &through)?;
    Ok(through)
}

/// Waits for the log lines of what was denied; returns the first.
fn logged(scene: &Scene) -> Result<String, Failure> {
    let path = scene.home.log("vfirewall");
    scene
        .interrupt
        .wait_for("the firewall's log lines", LIMIT, || {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let lines: Vec<&str> = text
                .lines()
                .filter(|line| line.contains("\"rule\":\"no-backup\""))
                .filter(|line| line.contains("\"event\":\"denied\""))
                .collect();
            Ok(match lines.first() {
                Some(first) if lines.len() == usize::from(DENIED) => {
                    Poll::Found((*first).to_owned())
                }
                _ => Poll::NotYet(format!("{} lines", lines.len())),
            })
        })
}
