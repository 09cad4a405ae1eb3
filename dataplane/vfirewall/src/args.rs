// SPDX-License-Identifier: Apache-2.0
//! Command line.

use std::path::PathBuf;

use clap::Parser;
use sluice_pod::{MEMIF_HELP, Wait};

use crate::config::Source;

const HELP: &str = "
For this program besides, by --memif:
  ip=          address of the firewall with its prefix length; may be given several times
  mac=         MAC address that the attachment has; not needed where interface.json lies beside
               the socket, nor are ip=, mtu= and vlan=
  vlan=        VLAN that the attachment is in, for policies and the log
  policy=      name of the policy; without it, the one whose `vlans` has vlan=
  mtu=         largest IP packet, 1280 to 9216, default 1500
  reverse-path= strict (default): sources must have their route here; or off

Example, in the network namespace of a pod with net1 in VLAN 210 and net2 in VLAN 220:
  vfirewall --policies policies \\
    --memif socket=@sluicegate/net1,mac=02:00:5e:10:00:01,vlan=210,ip=10.21.0.1/24 \\
    --memif socket=@sluicegate/net2,mac=02:00:5e:10:00:02,vlan=220,ip=10.22.0.1/24 \\
    --route 0.0.0.0/0=10.22.0.254

The same as a file, which can say more, for --config:
  legs:
    - socket: '@sluicegate/net1'
      mac: 02:00:5e:10:00:01
      vlan: 210                        # untagged here, in VLAN 210 outside
      addresses: [10.21.0.1/24]
    - socket: '@sluicegate/net2'
      mac: 02:00:5e:10:00:02
      vlans:                           # a trunk: tagged
        - {vlan: 220, addresses: [10.22.0.1/24], policy: data}
        - {vlan: 230, addresses: [10.23.0.1/24, 'fd23::1/64'], reverse_path: off}
  routes:
    - {to: 0.0.0.0/0, via: 10.22.0.254}
  policies: policies                   # relative to this file
  log: {file: denied.json, rate: 100}  # lines a second about each leg; standard output if unset

Policies are the engine's: `ingress` is what comes in on a leg, `egress` what leaves on it. A packet
needs both: the ingress of the interface it comes in on, the egress of the one it leaves on. An
interface without a policy passes nothing.

SIGHUP reads configuration and policies again: all of it, or, if anything is wrong, nothing of it.
SIGUSR1 prints the counters; SIGTERM prints them and ends it.";

/// Routes and filters between memifs, in a pod.
#[derive(Debug, Parser)]
#[command(name = "vfirewall", version, after_help = format!("{MEMIF_HELP}\n{HELP}"))]
pub struct Args {
    /// Configuration file; in place of --memif, --route, --policies and --log-rate
    #[arg(long, value_name = "FILE", conflicts_with_all = ["memifs", "routes", "policies"])]
    config: Option<PathBuf>,
    /// Leg, one of at most eight; see below
    #[arg(
        long = "memif",
        value_name = "KEY=VALUE,...",
        required_unless_present = "config"
    )]
    memifs: Vec<String>,
    /// Static route, as in 0.0.0.0/0=10.22.0.254. May be given several times
    #[arg(long = "route", value_name = "PREFIX=NEXT-HOP")]
    routes: Vec<String>,
    /// Folder of policies, one *.yaml each
    #[arg(long, value_name = "DIR", required_unless_present = "config")]
    policies: Option<PathBuf>,
    /// Log lines a second about each leg
    #[arg(long, default_value_t = 100, conflicts_with = "config")]
    log_rate: u32,
    /// Say what is wrong with configuration and policies, and end
    #[arg(long)]
    pub check: bool,
    /// Print the counters as JSON
    #[arg(long)]
    pub json: bool,
    /// Behaviour while idle
    #[arg(long, value_enum, default_value_t = Wait::Interrupt)]
    pub wait: Wait,
}

impl Args {
    /// Place that the configuration is read from.
    #[must_use]
    pub fn source(&self) -> Source {
        match &self.config {
            Some(file) => Source::File(file.clone()),
            None => Source::Arguments {
                memifs: self.memifs.clone(),
                routes: self.routes.clone(),
                policies: self.policies.clone().unwrap_or_default(),
                log_rate: self.log_rate,
            },
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn the_file_in_the_help_is_good() {
        let file = HELP.split("for --config:\n").nth(1).unwrap();
        let file = file.split("\n\n").next().unwrap();
        let config = crate::config::Config::parse(std::path::Path::new("x.yaml"), file).unwrap();
        assert_eq!(config.interfaces.len(), 3);
    }
}
