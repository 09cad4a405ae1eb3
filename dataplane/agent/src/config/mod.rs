// SPDX-License-Identifier: Apache-2.0
//! Configuration of the agent: one YAML file, checked as a whole before anything is touched. Each part has a section,
//! and does not run without one; an empty section (`metrics: {}`) takes the part's defaults.

mod devices;
mod install;
mod listen;
mod metrics;
mod page;
mod reaper;

use std::path::{Path, PathBuf};

use serde::Deserialize;
use sluice_log::LogFormat;
use sluice_yaml::{Checker, Problem, Problems, Scalar};

pub use devices::DevicesConfig;
pub use install::InstallConfig;
pub use metrics::MetricsConfig;
pub use page::PageConfig;
pub use reaper::ReaperConfig;

/// Default path of the configuration file; `--config` names another.
pub const DEFAULT_FILE: &str = "/etc/sluicegate/sluice-agent.yaml";

/// Configuration that passed all checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentConfig {
    /// Name of the node in the cluster; empty where there is no cluster.
    pub node: String,
    /// The engine's control socket.
    pub engine_socket: PathBuf,
    /// The engine's folder of what lasts until the next boot.
    pub run_dir: PathBuf,
    /// Log filter, in the syntax of `tracing_subscriber::EnvFilter`.
    pub log: String,
    /// Form of the log's lines.
    pub log_format: LogFormat,
    /// Kubeconfig of the agent itself; `None`: the service account of its pod.
    pub kubeconfig: Option<PathBuf>,
    /// Section `install`.
    pub install: Option<InstallConfig>,
    /// Section `devices`.
    pub devices: Option<DevicesConfig>,
    /// Section `reaper`.
    pub reaper: Option<ReaperConfig>,
    /// Section `metrics`.
    pub metrics: Option<MetricsConfig>,
    /// Section `page`.
    pub page: Option<PageConfig>,
}

impl Default for AgentConfig {
    fn default() -> AgentConfig {
        AgentConfig {
            node: String::new(),
            engine_socket: PathBuf::from(sluice_api::DEFAULT_SOCKET),
            run_dir: PathBuf::from("/run/sluicegate"),
            log: "info".to_owned(),
            log_format: LogFormat::default(),
            kubeconfig: None,
            install: None,
            devices: None,
            reaper: None,
            metrics: None,
            page: None,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    node: Option<Scalar>,
    engine_socket: Option<Scalar>,
    run_dir: Option<Scalar>,
    log: Option<Scalar>,
    log_format: Option<Scalar>,
    kubeconfig: Option<Scalar>,
    install: Option<install::Raw>,
    devices: Option<devices::Raw>,
    reaper: Option<reaper::Raw>,
    metrics: Option<metrics::Raw>,
    page: Option<page::Raw>,
}

impl AgentConfig {
    /// Reads and checks a configuration file. `node` is the node's name unless the file has one.
    ///
    /// # Errors
    /// Every problem of the file.
    pub fn load(file: &Path, node: Option<&str>) -> Result<AgentConfig, Problems> {
        let text = std::fs::read_to_string(file).map_err(|error| {
            Problems(vec![Problem {
                file: file.to_owned(),
                line: 0,
                column: 0,
                key: String::new(),
                message: format!("it cannot be read: {error}; name the file by --config FILE"),
            }])
        })?;
        AgentConfig::parse(file, &text, node)
    }

    /// Checks the text of a configuration file.
    ///
    /// # Errors
    /// Every problem of the file.
    pub fn parse(file: &Path, text: &str, node: Option<&str>) -> Result<AgentConfig, Problems> {
        let raw: Raw = sluice_yaml::parse(file, text, "sluice-agent --help")
            .map_err(|problem| Problems(vec![problem]))?;
        let mut checker = Checker::new(file);
        let checker_ref = &mut checker;
        let default = AgentConfig::default();
        let socket = default.engine_socket.to_string_lossy();
        let run_dir = default.run_dir.to_string_lossy();
        let log = raw.log.map_or(default.log, |log| {
            if let Err(error) = sluice_log::check_filter(&log.value) {
                checker_ref.problem(Some(log.referenced), "log", error.to_string());
            }
            log.value
        });
        let log_format = checker.word("log_format", raw.log_format.as_ref(), &LogFormat::NAMES);
        let config = AgentConfig {
            node: raw
                .node
                .map(|node| node.value)
                .or_else(|| node.map(str::to_owned))
                .unwrap_or_default(),
            engine_socket: checker.path("engine_socket", raw.engine_socket, &socket),
            run_dir: checker.path("run_dir", raw.run_dir, &run_dir),
            log,
            log_format: log_format.unwrap_or_default(),
            kubeconfig: raw
                .kubeconfig
                .map(|raw| checker.path("kubeconfig", Some(raw), "none")),
            install: raw.install.map(|raw| install::check(&mut checker, &raw)),
            devices: raw.devices.map(|raw| devices::check(&mut checker, &raw)),
            reaper: raw.reaper.map(|raw| reaper::check(&mut checker, &raw)),
            metrics: raw.metrics.map(|raw| metrics::check(&mut checker, &raw)),
            page: raw.page.map(|raw| page::check(&mut checker, &raw)),
        };
        checker.finish(config)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn parts_run_where_they_have_a_section() {
        let file = Path::new("agent.yaml");
        let config = AgentConfig::parse(file, "metrics: {}\npage: {}\n", Some("a")).unwrap();
        assert!(config.metrics.is_some() && config.page.is_some());
        assert!(config.install.is_none() && config.devices.is_none());
        assert_eq!(config.node, "a");
        let told = AgentConfig::parse(file, "log: [\nnodes: b\n", None).unwrap_err();
        assert_eq!(told.0.len(), 1, "{told}");
        let told = AgentConfig::parse(file, "run_dir: here\nlog: '['\n", None).unwrap_err();
        assert_eq!(told.0.len(), 2, "{told}");
    }
}
