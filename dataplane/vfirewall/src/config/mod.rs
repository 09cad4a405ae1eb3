// SPDX-License-Identifier: Apache-2.0
//! Configuration: one YAML file, or the same in arguments; checked as a whole before anything changes.
//!
//! `raw` knows the keys, `check` the values, `interface_file` what the plugin wrote for the pod. Every
//! problem names file, line, column and key, and all are reported at once.

mod check;
mod interface_file;
mod load;
mod raw;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use ipnet::IpNet;
use sluice_memif::{Address, EndpointConfig};
use sluice_packet::Mac;

use crate::interfaces::{Interface, InterfaceTable};
use crate::routes::Route;

pub use load::load_tables;
pub use sluice_yaml::{Problem, Problems};

/// Most legs.
pub const MAX_LEGS: usize = 8;

/// Configuration that passed all checks.
#[derive(Debug, Clone)]
pub struct Config {
    /// Legs, names unique.
    pub legs: Vec<LegConfig>,
    /// Interfaces, over all legs.
    pub interfaces: Vec<Interface>,
    /// Static routes.
    pub routes: Vec<(IpNet, Route)>,
    /// Folder of policies, one `*.yaml` each.
    pub policies: PathBuf,
    /// File of the log; `None`: standard output.
    pub log_file: Option<PathBuf>,
    /// Log lines a second about each leg.
    pub log_rate: u32,
    /// Neighbours of an interface that are remembered.
    pub neighbours: usize,
}

/// Memif of a leg.
#[derive(Debug, Clone)]
pub struct LegConfig {
    /// Name of the leg.
    pub name: String,
    /// Address of its socket.
    pub address: Address,
    /// Settings of its memif.
    pub memif: EndpointConfig,
    /// MAC address.
    pub mac: Mac,
    /// Largest IP packet.
    pub mtu: u16,
}

impl LegConfig {
    /// Whether the two are one memif: a reload keeps its link.
    #[must_use]
    pub fn is_same_link(&self, other: &LegConfig) -> bool {
        // Both are plain values without a notion of equality of their own.
        let plain = |leg: &LegConfig| format!("{} {:?} {:?}", leg.name, leg.address, leg.memif);
        plain(self) == plain(other)
    }
}

/// Place that a configuration is read from, as often as it is asked for.
#[derive(Debug, Clone)]
pub enum Source {
    /// File.
    File(PathBuf),
    /// Arguments: memifs, routes, folder of policies.
    Arguments {
        /// Values of `--memif`.
        memifs: Vec<String>,
        /// Values of `--route`.
        routes: Vec<String>,
        /// Value of `--policies`.
        policies: PathBuf,
        /// Value of `--log-rate`.
        log_rate: u32,
    },
}

impl Source {
    /// Reads and checks the configuration.
    ///
    /// # Errors
    /// Every problem of it.
    pub fn read(&self) -> Result<Config, Problems> {
        match self {
            Source::File(file) => {
                let text = std::fs::read_to_string(file).map_err(|error| {
                    Problems(vec![Problem {
                        file: file.clone(),
                        line: 0,
                        column: 0,
                        key: String::new(),
                        message: format!("it cannot be read: {error}"),
                    }])
                })?;
                Config::parse(file, &text)
            }
            Source::Arguments {
                memifs,
                routes,
                policies,
                log_rate,
            } => {
                let raw = raw::of_arguments(memifs, routes, policies, *log_rate)
                    .map_err(|problem| Problems(vec![problem]))?;
                check::check(Path::new(""), raw)
            }
        }
    }
}

impl Config {
    /// Parses and checks the text of a file, whose name is for messages and for paths relative to it.
    ///
    /// # Errors
    /// Every problem of it.
    pub fn parse(file: &Path, text: &str) -> Result<Config, Problems> {
        let raw = raw::parse(file, text).map_err(|problem| Problems(vec![problem]))?;
        check::check(file, raw)
    }

    /// Table of the interfaces.
    #[must_use]
    pub fn interface_table(&self) -> InterfaceTable {
        InterfaceTable::new(self.interfaces.clone(), self.legs.len())
    }
}
