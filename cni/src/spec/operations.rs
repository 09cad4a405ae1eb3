// SPDX-License-Identifier: Apache-2.0
//! Report of a call to the node's agent, which makes metrics of it. Nothing of a call depends on it.

use std::path::{Path, PathBuf};
use std::time::Instant;

use sluice_host::operations::{Operation, VERSION};

use crate::Error;
use crate::spec::call::Command;
use crate::spec::conf::NetConf;

/// Run folder of the engine where the configuration names none.
const DEFAULT_RUN_DIR: &str = "/run/sluicegate";

/// Returns the engine's run folder that a configuration names as `runDir`, or the default.
pub fn run_dir(conf: &NetConf) -> PathBuf {
    let named = conf.fields().string("runDir").ok().flatten();
    let named = named.filter(|dir| Path::new(dir).is_absolute());
    PathBuf::from(named.unwrap_or(DEFAULT_RUN_DIR))
}

/// Report of a call that goes on.
#[derive(Debug)]
pub struct Report {
    plugin: &'static str,
    command: Command,
    begun: Instant,
    run_dir: PathBuf,
}

impl Report {
    /// Creates the report of a call of `plugin` that began at `begun`.
    pub fn new(plugin: &'static str, command: Command, begun: Instant, run_dir: PathBuf) -> Report {
        Report {
            plugin,
            command,
            begun,
            run_dir,
        }
    }

    /// Sends it, if somebody listens.
    pub fn send(&self, failure: Option<&Error>) {
        let operation = Operation {
            version: VERSION,
            plugin: self.plugin.to_owned(),
            command: self.command.as_str().to_owned(),
            code: failure.map_or(0, Error::code),
            seconds: self.begun.elapsed().as_secs_f64(),
            delegate: failure.and_then(delegate),
        };
        // No agent runs, or it has too much to do: a figure is lost.
        let _ = operation.send(&self.run_dir);
    }
}

/// Type of the plugin whose failure an error is: the second word of `delegate bridge (...)`, `ipam host-local of ...`.
fn delegate(error: &Error) -> Option<String> {
    match error {
        Error::Plugin(failure) => failure.plugin.split(' ').nth(1).map(str::to_owned),
        Error::Several(errors) => errors.iter().find_map(delegate),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;
    use crate::PluginError;

    #[test]
    fn the_type_of_the_delegate_that_failed_is_reported() {
        let dir = tempfile::tempdir().unwrap();
        let path = sluice_host::operations::socket(dir.path());
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        let agent = UnixDatagram::bind(&path).unwrap();
        let report = Report::new("p", Command::Add, Instant::now(), dir.path().to_owned());
        let failed = |plugin: &str| {
            Error::Plugin(PluginError {
                plugin: plugin.into(),
                code: 107,
                msg: String::new(),
                details: String::new(),
            })
        };
        let heard = |error: Option<&Error>| {
            report.send(error);
            let mut buffer = [0; 1024];
            let length = agent.recv(&mut buffer).unwrap();
            let operation: Operation = serde_json::from_slice(&buffer[..length]).unwrap();
            assert_eq!(
                (operation.plugin.as_str(), operation.command.as_str()),
                ("p", "ADD")
            );
            (operation.code, operation.delegate)
        };
        assert_eq!(heard(None), (0, None));
        let bridge = failed("delegate bridge (network x, eth0)");
        assert_eq!(heard(Some(&bridge)), (107, Some("bridge".into())));
        let ipam = Error::Several(vec![Error::Config("x".into()), failed("ipam host-local")]);
        assert_eq!(heard(Some(&ipam)), (7, Some("host-local".into())));
    }

    #[test]
    fn the_run_folder_is_that_of_the_configuration() {
        let of = |text: &str| run_dir(&NetConf::parse(text.as_bytes()).unwrap());
        assert_eq!(of(r#"{"name": "n"}"#), Path::new(DEFAULT_RUN_DIR));
        assert_eq!(
            of(r#"{"name": "n", "runDir": "/tmp/r"}"#),
            Path::new("/tmp/r")
        );
        assert_eq!(
            of(r#"{"name": "n", "runDir": "r"}"#),
            Path::new(DEFAULT_RUN_DIR)
        );
        assert_eq!(
            of(r#"{"name": "n", "runDir": 7}"#),
            Path::new(DEFAULT_RUN_DIR)
        );
    }
}
