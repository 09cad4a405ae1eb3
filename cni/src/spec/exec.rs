// SPDX-License-Identifier: Apache-2.0
//! Running another plugin: found, given environment and configuration, bounded, understood.
//!
//! A plugin must not outlive the call that runs it, even if that call is killed. The kernel does
//! that for a child that asked for it (`PR_SET_PDEATHSIG`), but asking between fork and exec takes
//! unsafe code. So the child is first this same program again, started with [`STUB`]: it asks,
//! makes sure that its parent still lives, and becomes the plugin by `exec`, which keeps the
//! request. Each plugin also leads a process group of its own, so that one which is over its time
//! goes with everything it started.
//!
//! Standard streams are memory files rather than pipes: nothing can block on a full or forgotten
//! pipe, and the end of the process is the only thing to wait for.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, getppid, kill_process_group, pidfd_open,
    set_parent_process_death_signal,
};
use serde_json::{Map, Value};

use crate::spec::budget::{self, Budget};
use crate::spec::call::{Call, Command as CniCommand};
use crate::spec::conf;
use crate::spec::fields::Fields;
use crate::spec::log::Log;
use crate::spec::result;
use crate::{Error, PluginError};

/// First argument of a child that is to become a plugin: then come the parent's pid and the
/// plugin's path.
pub const STUB: &str = "--become-plugin";

/// Largest result that is read, in bytes.
const RESULT_MAX: u64 = 4 << 20;
/// Largest part of a failed plugin's standard error that goes into the message, in bytes.
const STDERR_SHOWN: usize = 2_000;

/// Runs plugins on behalf of one call.
#[derive(Debug)]
pub struct Runner<'a> {
    call: &'a Call,
    path: Vec<PathBuf>,
    log: &'a Log,
}

/// Run of one plugin.
#[derive(Debug)]
pub struct Job<'a> {
    /// `CNI_COMMAND`.
    pub command: CniCommand,
    /// `type` of the configuration: the program's name.
    pub program: &'a str,
    /// `CNI_IFNAME`.
    pub ifname: &'a str,
    /// `KEY=value` pairs on top of the call's `CNI_ARGS`.
    pub more_args: &'a [String],
    /// Standard input.
    pub conf: &'a Map<String, Value>,
    /// Name of the plugin and its role in messages: `delegate bridge (network x, eth0)`.
    pub who: &'a str,
    /// By when it must have ended.
    pub budget: Budget,
}

impl<'a> Runner<'a> {
    /// A runner that looks for plugins in `CNI_PATH`, then in `bin_dir`.
    pub fn new(call: &'a Call, bin_dir: &Path, log: &'a Log) -> Runner<'a> {
        let mut path = call.path.clone();
        if !path.iter().any(|dir| dir == bin_dir) {
            path.push(bin_dir.to_owned());
        }
        Runner { call, path, log }
    }

    /// The log of the call.
    pub fn log(&self) -> &'a Log {
        self.log
    }

    /// The call that plugins are run for.
    pub fn call(&self) -> &'a Call {
        self.call
    }

    /// Finds the program of a plugin.
    ///
    /// # Errors
    /// [`Error::Config`]: the type is not a program's name, or no directory holds it.
    pub fn find(&self, program: &str) -> Result<PathBuf, Error> {
        if program.is_empty() || program.contains('/') || program == "." || program == ".." {
            return Err(Error::Config(format!(
                "type {program:?} is not the name of a plugin"
            )));
        }
        let executable = |path: &PathBuf| {
            path.metadata()
                .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
        };
        self.path
            .iter()
            .map(|dir| dir.join(program))
            .find(executable)
            .ok_or_else(|| {
                let places: Vec<_> = self
                    .path
                    .iter()
                    .map(|dir| dir.display().to_string())
                    .collect();
                Error::Config(format!(
                    "plugin {program:?} is in none of {}: install it there, or correct CNI_PATH, \
                 binDir or the type",
                    places.join(", ")
                ))
            })
    }

    /// Runs a plugin to its end. What it printed, `None` if nothing.
    ///
    /// # Errors
    /// [`Error::Config`] if it is not found, [`Error::Plugin`] with its own code if it failed,
    /// code 11 if it was over its time, [`Error::Json`] if its answer makes no sense.
    pub fn run(&self, job: &Job<'_>) -> Result<Option<Map<String, Value>>, Error> {
        let program = self.find(job.program)?;
        let conf = Value::Object(job.conf.clone()).to_string();
        self.log.debug(format_args!(
            "{} {} with CNI_IFNAME={} and {conf}",
            job.command.as_str(),
            program.display(),
            job.ifname
        ));
        let internal = |error: std::io::Error| {
            Error::Internal(format!("cannot run {}: {error}", program.display()))
        };
        let mut input = stream("stdin").map_err(internal)?;
        input
            .write_all(conf.as_bytes())
            .and_then(|()| input.rewind())
            .map_err(internal)?;
        let mut output = stream("stdout").map_err(internal)?;
        let mut errors = stream("stderr").map_err(internal)?;

        let mut command = self.command(job, &program)?;
        command.stdin(Stdio::from(input));
        command.stdout(Stdio::from(output.try_clone().map_err(internal)?));
        command.stderr(Stdio::from(errors.try_clone().map_err(internal)?));
        let mut child = command.spawn().map_err(internal)?;
        let status = wait(&mut child, job.budget).map_err(internal)?;

        let said = read(&mut errors).map_err(internal)?;
        if !said.trim().is_empty() {
            self.log
                .verbose(format_args!("{} said: {}", job.who, said.trim()));
        }
        let Some(status) = status else {
            return Err(PluginError {
                plugin: job.who.to_owned(),
                code: 11,
                msg: format!(
                    "{} did not end in the time it had and was killed",
                    job.command.as_str()
                ),
                details: tail(&said).to_owned(),
            }
            .into());
        };
        let printed = read(&mut output).map_err(internal)?;
        self.log.debug(format_args!(
            "{} ended with {status} and {}",
            job.who,
            printed.trim()
        ));
        if !status.success() {
            return Err(failure(job.who, status, &printed, &said).into());
        }
        // Nothing but ADD has a result, and what others print stops no DEL.
        if printed.trim().is_empty() || job.command != CniCommand::Add {
            return Ok(None);
        }
        let mut result = match printed.trim() {
            "null" => Map::new(),
            printed => conf::object(printed.as_bytes(), &format!("the result of {}", job.who))?,
        };
        result::complete(&mut result, job.conf);
        Ok(Some(result))
    }

    /// `CNI_ARGS` for one run, in one form whatever form the runtime has. Plugins refuse arguments that they do
    /// not know unless they are told not to.
    fn args(&self, job: &Job<'_>) -> Option<String> {
        let own = self.call.args.as_deref().unwrap_or_default();
        let pairs: Vec<&str> = own
            .split(';')
            .chain(job.more_args.iter().map(String::as_str))
            .map(str::trim)
            .filter(|pair| {
                // A pair that is none makes plugins refuse all of them.
                pair.split_once('=')
                    .is_some_and(|(key, _)| !key.eq_ignore_ascii_case("IgnoreUnknown"))
            })
            .collect();
        (!pairs.is_empty()).then(|| format!("IgnoreUnknown=1;{}", pairs.join(";")))
    }

    fn command(&self, job: &Job<'_>, program: &Path) -> Result<Command, Error> {
        let path = std::env::join_paths(&self.path)
            .map_err(|error| Error::Environment(format!("CNI_PATH: {error}")))?;
        let mut command = Command::new("/proc/self/exe");
        command
            .arg(STUB)
            .arg(std::process::id().to_string())
            .arg(program);
        command.env("CNI_COMMAND", job.command.as_str());
        command.env("CNI_PATH", path);
        let optional: [(&str, Option<OsString>); 4] = [
            (
                "CNI_CONTAINERID",
                Some(self.call.container_id.clone().into()).filter(|s: &OsString| !s.is_empty()),
            ),
            (
                "CNI_IFNAME",
                Some(job.ifname.into()).filter(|s: &OsString| !s.is_empty()),
            ),
            (
                "CNI_NETNS",
                self.call.netns.clone().map(PathBuf::into_os_string),
            ),
            ("CNI_ARGS", self.args(job).map(OsString::from)),
        ];
        for (name, value) in optional {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.env(budget::VARIABLE, job.budget.left().as_millis().to_string());
        command.process_group(0);
        Ok(command)
    }
}

/// If this process was started to become a plugin, becomes it. Returns only if it was not, or
/// could not.
pub fn become_plugin() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    if args.next()? != STUB {
        return None;
    }
    let parent = args
        .next()
        .and_then(|pid| pid.to_str()?.parse().ok())
        .and_then(Pid::from_raw);
    let Some(program) = args.next() else {
        return Some(ExitCode::FAILURE);
    };
    let why = match set_parent_process_death_signal(Some(Signal::KILL)) {
        Err(error) => error.to_string(),
        // The parent may have died before the request was made.
        Ok(()) if getppid() != parent => return Some(ExitCode::FAILURE),
        Ok(()) => Command::new(&program).exec().to_string(),
    };
    println!(
        "{}",
        serde_json::json!({"code": 999, "msg": format!("cannot be started: {why}")})
    );
    Some(ExitCode::FAILURE)
}

fn stream(name: &str) -> std::io::Result<File> {
    Ok(File::from(memfd_create(name, MemfdFlags::CLOEXEC)?))
}

fn read(file: &mut File) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(RESULT_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Waits for the child's end; `None`: it was over its time, and is killed with its group.
fn wait(child: &mut Child, budget: Budget) -> std::io::Result<Option<ExitStatus>> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let Some(pid) = pid else {
        return child.wait().map(Some);
    };
    let handle = pidfd_open(pid, PidfdFlags::empty())?;
    loop {
        let left = budget.left();
        if left.is_zero() {
            // The group may be gone already; the child itself is reaped below either way.
            let _ = kill_process_group(pid, Signal::KILL);
            let _ = child.kill();
            child.wait()?;
            return Ok(None);
        }
        let timeout = Timespec::try_from(left.min(Duration::from_secs(3_600))).ok();
        match poll(&mut [PollFd::new(&handle, PollFlags::IN)], timeout.as_ref()) {
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return child.wait().map(Some),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Returns the error of a failed plugin, in its own words where it has any.
fn failure(who: &str, status: ExitStatus, printed: &str, said: &str) -> PluginError {
    let object = conf::object(printed.as_bytes(), "").ok();
    let fields = object.as_ref().map(Fields::new);
    let text = |key| {
        fields
            .and_then(|f| f.string(key).ok().flatten())
            .unwrap_or_default()
    };
    let code = fields
        .and_then(|f| f.get("code")?.as_u64())
        .and_then(|c| u32::try_from(c).ok());
    let msg = match (text("msg"), status.signal()) {
        ("", Some(signal)) => format!("was killed by signal {signal}"),
        ("", None) => format!("failed ({status}) without saying why: {}", tail(said)),
        (msg, _) => msg.to_owned(),
    };
    PluginError {
        plugin: who.to_owned(),
        code: code.filter(|code| *code != 0).unwrap_or(999),
        msg,
        details: text("details").to_owned(),
    }
}

/// The end of a text: what a program said last explains its failure best.
fn tail(text: &str) -> &str {
    let text = text.trim();
    let mut start = text.len().saturating_sub(STDERR_SHOWN);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_failed_plugin_is_quoted() {
        let status = ExitStatus::from_raw(1 << 8);
        let said = failure(
            "x",
            status,
            r#"{"code": 107, "msg": "no", "details": "d"}"#,
            "",
        );
        assert_eq!(
            (said.code, said.msg.as_str(), said.details.as_str()),
            (107, "no", "d")
        );
        let said = failure("x", status, "panic!", "Traceback");
        assert_eq!(said.code, 999);
        assert!(said.msg.contains("Traceback"), "{}", said.msg);
        let said = failure("x", ExitStatus::from_raw(9), "", "");
        assert_eq!(said.msg, "was killed by signal 9");
    }

    #[test]
    fn the_tail_keeps_characters_whole() {
        let text = "ä".repeat(3_000);
        assert!(tail(&text).len() <= STDERR_SHOWN);
        assert_eq!(tail(" a "), "a");
    }
}
