// SPDX-License-Identifier: Apache-2.0
//! Calls of CNI plugins as a container runtime makes them: only the CNI variables in the environment, the
//! configuration on standard input.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::{Netns, bin};

/// Folder in which the distribution has the reference plugins (`host-local`, `ptp`, ...).
pub const REFERENCE_PLUGINS: &str = "/usr/lib/cni";

/// Folder of plugins to call.
#[derive(Debug, Clone)]
pub struct Plugins {
    folder: PathBuf,
}

/// Subject of a call: `CNI_CONTAINERID`, `CNI_NETNS` and `CNI_IFNAME`.
#[derive(Debug, Clone)]
pub struct Sandbox {
    /// Id of the container.
    pub container: String,
    /// File of the container's network namespace; `None` when it is gone.
    pub netns: Option<PathBuf>,
    /// Name of the interface in the container.
    pub ifname: String,
}

impl Sandbox {
    /// Creates the subject for container `container` in `netns`.
    pub fn new(container: &str, netns: &Netns, ifname: &str) -> Sandbox {
        Sandbox {
            container: container.to_owned(),
            netns: Some(netns.path()),
            ifname: ifname.to_owned(),
        }
    }
}

impl Plugins {
    /// Makes a folder of plugins, `folder`: our own two, `sriov` as another name of `sluicegate-vf`,
    /// and the reference plugins.
    ///
    /// # Errors
    /// The folder or a link in it cannot be made.
    ///
    /// # Panics
    /// Our plugins were not built.
    pub fn install(folder: &Path) -> Result<Plugins> {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        let link = |from: PathBuf, name: &str| {
            let to = folder.join(name);
            std::os::unix::fs::symlink(&from, &to)
                .with_context(|| format!("cannot link {} to {}", to.display(), from.display()))
        };
        link(bin("sluicegate"), "sluicegate")?;
        link(bin("sluicegate-vf"), "sluicegate-vf")?;
        link(bin("sluicegate-vf"), "sriov")?;
        for name in ["bridge", "ptp", "host-local", "static", "loopback"] {
            link(Path::new(REFERENCE_PLUGINS).join(name), name)?;
        }
        Ok(Plugins {
            folder: folder.to_owned(),
        })
    }

    /// Starts the plugin that `conf` names in `type`.
    ///
    /// # Errors
    /// It cannot be started, or it takes no configuration.
    pub fn start(&self, command: &str, sandbox: &Sandbox, conf: &Value) -> Result<Child> {
        let plugin = conf["type"].as_str().context("the conf has no type")?;
        let mut call = Command::new(self.folder.join(plugin));
        call.env_clear()
            .env("CNI_COMMAND", command)
            .env("CNI_PATH", &self.folder)
            .env("CNI_CONTAINERID", &sandbox.container)
            .env("CNI_IFNAME", &sandbox.ifname)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(netns) = &sandbox.netns {
            call.env("CNI_NETNS", netns);
        }
        let mut child = call
            .spawn()
            .with_context(|| format!("cannot start {plugin}"))?;
        let mut stdin = child.stdin.take().context("no standard input")?;
        stdin.write_all(conf.to_string().as_bytes())?;
        Ok(child)
    }

    /// Runs the plugin that `conf` names in `type` to its end.
    ///
    /// # Errors
    /// As [`Plugins::start`]; what the plugin answers is not an error here.
    pub fn call(&self, command: &str, sandbox: &Sandbox, conf: &Value) -> Result<Answer> {
        let output = self.start(command, sandbox, conf)?.wait_with_output()?;
        Ok(Answer::of(&output))
    }

    /// Calls ADD, which must succeed, and returns the result.
    ///
    /// # Errors
    /// It did not succeed; the error holds what it said.
    pub fn add(&self, sandbox: &Sandbox, conf: &Value) -> Result<Value> {
        self.call("ADD", sandbox, conf)?.ok().context("ADD failed")
    }

    /// Calls DEL, which must succeed.
    ///
    /// # Errors
    /// It did not succeed; the error holds what it said.
    pub fn del(&self, sandbox: &Sandbox, conf: &Value) -> Result<()> {
        self.call("DEL", sandbox, conf)?
            .ok()
            .context("DEL failed")?;
        Ok(())
    }
}

/// Answer of a plugin.
#[derive(Debug)]
pub struct Answer {
    /// Exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output: the result or the error, as JSON.
    pub stdout: String,
    /// Standard error: messages for people.
    pub stderr: String,
}

impl Answer {
    /// Reads the answer from the output of a process.
    pub fn of(output: &Output) -> Answer {
        Answer {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Returns the JSON of a call that succeeded; null if it printed nothing.
    ///
    /// # Errors
    /// It failed, or printed what is no JSON.
    pub fn ok(&self) -> Result<Value> {
        if self.code != Some(0) {
            bail!("exit code {:?}: {}{}", self.code, self.stdout, self.stderr);
        }
        if self.stdout.is_empty() {
            return Ok(Value::Null);
        }
        Ok(serde_json::from_str(&self.stdout)?)
    }

    /// Returns message and details of a call that was refused with the CNI error code `code`.
    ///
    /// # Errors
    /// It succeeded, or failed with another code.
    pub fn refused(&self, code: u64) -> Result<String> {
        ensure!(self.code == Some(1), "not refused: {self:?}");
        let error: Value = serde_json::from_str(&self.stdout)
            .with_context(|| format!("no error object: {self:?}"))?;
        ensure!(error["code"] == code, "another code than {code}: {error}");
        Ok(format!("{} {}", error["msg"], error["details"]))
    }
}
