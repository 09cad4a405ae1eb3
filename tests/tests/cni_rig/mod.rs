// SPDX-License-Identifier: Apache-2.0
//! Host for CNI plugins: a network namespace, a folder of plugins, state of its own.

pub(crate) mod api;
pub(crate) mod calls;
pub(crate) mod disk;
pub(crate) mod engine;
pub(crate) mod kubelet;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Seek, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};
use sluice_tests::{Netns, bin, root_or_skip, skip};
use tempfile::TempDir;

/// Folder of the reference plugins of Debian's containernetworking-plugins.
const REFERENCE: &str = "/usr/lib/cni";

/// Host with plugins. All of its state is deleted on drop.
pub(crate) struct Host {
    pub(crate) netns: Netns,
    dir: TempDir,
}

impl Host {
    /// Creates a host with both plugins under test and the reference plugins. `None`: the case cannot run here,
    /// and the skip is reported.
    pub(crate) fn new(case: &str) -> Option<Host> {
        if !root_or_skip(case) {
            return None;
        }
        if !Path::new(REFERENCE).join("bridge").is_file() {
            skip(
                case,
                "needs the reference plugins in /usr/lib/cni (containernetworking-plugins)",
            );
            return None;
        }
        let host = Host {
            netns: Netns::new("host").unwrap(),
            dir: TempDir::with_prefix("sluice-cni-").unwrap(),
        };
        for sub in ["bin", "notes", "cni"] {
            fs::create_dir(host.dir().join(sub)).unwrap();
        }
        for name in ["sluicegate", "sluicegate-vf"] {
            symlink(bin(name), host.bin_dir().join(name)).unwrap();
        }
        for name in ["bridge", "ptp", "host-local", "loopback"] {
            symlink(Path::new(REFERENCE).join(name), host.bin_dir().join(name)).unwrap();
        }
        Some(host)
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Returns the folder of plugins, `CNI_PATH`.
    pub(crate) fn bin_dir(&self) -> PathBuf {
        self.dir().join("bin")
    }

    /// Returns the folder of the plugins' records, `cniDir`.
    pub(crate) fn cni_dir(&self) -> PathBuf {
        self.dir().join("cni")
    }

    /// Makes a configuration of the meta plugin with its state on this host.
    pub(crate) fn meta(&self, version: &str, delegates: Value) -> Value {
        json!({
            "cniVersion": version, "name": "demo", "type": "sluicegate",
            "cniDir": self.cni_dir(), "delegates": delegates,
        })
    }

    /// Makes an `ipam` member: host-local on `subnet`, with its store on this host.
    pub(crate) fn host_local(&self, subnet: &str) -> Value {
        json!({"type": "host-local", "dataDir": self.dir().join("ipam"),
            "ranges": [[{"subnet": subnet}]], "routes": [{"dst": "0.0.0.0/0"}]})
    }

    /// Makes a bridge delegate with addresses on `subnet`.
    pub(crate) fn bridge(&self, version: &str, subnet: &str) -> Value {
        let mut conf = json!({"type": "bridge", "bridge": "br0", "isGateway": true,
            "ipam": self.host_local(subnet)});
        if !version.is_empty() {
            conf["cniVersion"] = version.into();
        }
        conf
    }

    /// Lists the addresses that host-local holds as reserved.
    pub(crate) fn reserved(&self) -> Vec<String> {
        files_below(&self.dir().join("ipam"))
            .into_iter()
            .filter(|name| name.starts_with(|c: char| c.is_ascii_digit()))
            .collect()
    }

    /// Lists the files of the plugins' records, locks included.
    pub(crate) fn records(&self) -> Vec<String> {
        files_below(&self.cni_dir())
    }

    /// Installs a fake plugin, which notes its call, environment and configuration, runs the script of
    /// [`Host::on`], and answers an ADD with `result`.
    pub(crate) fn fake_plugin(&self, name: &str, result: &Value) {
        let script = format!(
            r#"#!/bin/sh
# A fake plugin for a CNI plugin: notes how it was called.
env=$(/usr/bin/env)
PATH=/usr/sbin:/usr/bin:/sbin:/bin
notes={notes}
type=${{0##*/}}
conf=$(cat)
printf '%s\n' "$env" >"$notes/env-$type-$CNI_COMMAND-$CNI_IFNAME"
printf '%s\n' "$conf" >"$notes/conf-$type-$CNI_COMMAND-$CNI_IFNAME"
printf '%s %s %s\n' "$CNI_COMMAND" "$type" "$CNI_IFNAME" >>"$notes/calls"
if [ -f "$notes/on-$type-$CNI_COMMAND" ]; then . "$notes/on-$type-$CNI_COMMAND"; fi
if [ "$CNI_COMMAND" = ADD ]; then cat "$notes/result-$type"; fi
"#,
            notes = self.notes().display()
        );
        let path = self.bin_dir().join(name);
        let _ = fs::remove_file(&path);
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(
            self.notes().join(format!("result-{name}")),
            result.to_string(),
        )
        .unwrap();
    }

    /// Installs a reference plugin that first notes its calls as a fake one does.
    pub(crate) fn noted(&self, name: &str) {
        self.fake_plugin(name, &Value::Null);
        for command in ["ADD", "DEL", "CHECK"] {
            let work = format!("printf '%s' \"$conf\" | {REFERENCE}/{name}; exit $?");
            self.on(name, command, &work);
        }
    }

    /// Sets the shell script that a fake plugin runs after noting a call.
    pub(crate) fn on(&self, name: &str, command: &str, shell: &str) {
        fs::write(self.notes().join(format!("on-{name}-{command}")), shell).unwrap();
    }

    /// Undoes [`Host::on`].
    pub(crate) fn off(&self, name: &str, command: &str) {
        fs::remove_file(self.notes().join(format!("on-{name}-{command}"))).unwrap();
    }

    /// Checks that no address is reserved and no record is left.
    #[track_caller]
    pub(crate) fn nothing_left(&self) {
        assert_eq!(
            (self.reserved(), self.records()),
            (calls::NONE, calls::NONE)
        );
    }

    pub(crate) fn notes(&self) -> PathBuf {
        self.dir().join("notes")
    }

    /// Takes the calls of fake plugins so far, as `ADD sriov net0`.
    pub(crate) fn take_calls(&self) -> Vec<String> {
        let path = self.notes().join("calls");
        let text = fs::read_to_string(&path).unwrap_or_default();
        let _ = fs::remove_file(path);
        text.lines().map(str::to_owned).collect()
    }

    /// Returns the configuration that a fake plugin got last.
    pub(crate) fn conf_of(&self, name: &str, command: &str, ifname: &str) -> Value {
        let path = self.notes().join(format!("conf-{name}-{command}-{ifname}"));
        serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
    }

    /// Returns the environment that a fake plugin got last.
    pub(crate) fn env_of(
        &self,
        name: &str,
        command: &str,
        ifname: &str,
    ) -> BTreeMap<String, String> {
        let path = self.notes().join(format!("env-{name}-{command}-{ifname}"));
        let text = fs::read_to_string(path).unwrap();
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        pairs
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }

    /// Prepares a call of a plugin with only `CNI_COMMAND` and `CNI_PATH` set.
    pub(crate) fn call(&self, plugin: &str, command: &str) -> Call<'_> {
        let mut env = BTreeMap::new();
        env.insert("CNI_COMMAND".to_owned(), command.to_owned());
        env.insert("CNI_PATH".to_owned(), self.bin_dir().display().to_string());
        Call {
            host: self,
            plugin: bin(plugin),
            env,
            stdin: Stdin::Text(String::new()),
        }
    }

    /// Prepares a call about `ifname` of `container`, whose network namespace is `pod`.
    pub(crate) fn pod_call(
        &self,
        plugin: &str,
        command: &str,
        container: &str,
        pod: Option<&Netns>,
        ifname: &str,
    ) -> Call<'_> {
        let mut call = self
            .call(plugin, command)
            .env("CNI_CONTAINERID", container)
            .env("CNI_IFNAME", ifname);
        if let Some(pod) = pod {
            call = call.env("CNI_NETNS", &pod.path().display().to_string());
        }
        call
    }
}

enum Stdin {
    Text(String),
    Directory,
}

/// Call of a plugin, to be run.
pub(crate) struct Call<'a> {
    host: &'a Host,
    plugin: PathBuf,
    env: BTreeMap<String, String>,
    stdin: Stdin,
}

impl Call<'_> {
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.env.remove(name);
        self
    }

    pub(crate) fn conf(self, conf: &Value) -> Self {
        self.text(&conf.to_string())
    }

    pub(crate) fn text(mut self, text: &str) -> Self {
        self.stdin = Stdin::Text(text.to_owned());
        self
    }

    /// Gives the plugin a standard input that cannot be read.
    pub(crate) fn unreadable(mut self) -> Self {
        self.stdin = Stdin::Directory;
        self
    }

    /// Starts the plugin on the host.
    pub(crate) fn start(self) -> Child {
        let mut command = Command::new(&self.plugin);
        command
            .env_clear()
            .envs(&self.env)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.stdin(match self.stdin {
            Stdin::Text(text) => {
                // A file of its own: calls run at the same time.
                let mut file = tempfile::tempfile().unwrap();
                file.write_all(text.as_bytes()).unwrap();
                file.rewind().unwrap();
                Stdio::from(file)
            }
            Stdin::Directory => Stdio::from(fs::File::open("/").unwrap()),
        });
        self.host.netns.enter(move || Ok(command.spawn()?)).unwrap()
    }

    pub(crate) fn run(self) -> Answer {
        Answer::of(self.start().wait_with_output().unwrap())
    }
}

/// Answer of a plugin.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Answer {
    pub(crate) fn of(output: Output) -> Answer {
        Answer {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Returns the JSON of a call that succeeded; null if it printed nothing.
    #[track_caller]
    pub(crate) fn ok(&self) -> Value {
        assert_eq!(self.code, Some(0), "{self:#?}");
        if self.stdout.is_empty() {
            return Value::Null;
        }
        serde_json::from_str(&self.stdout).unwrap()
    }

    /// Returns the message of a call that failed with a CNI error of that code.
    #[track_caller]
    pub(crate) fn refused(&self, code: u64) -> String {
        assert_eq!(self.code, Some(1), "{self:#?}");
        let error: Value = serde_json::from_str(&self.stdout).expect(&self.stdout);
        assert_eq!(error["code"], code, "{self:#?}");
        assert!(error["cniVersion"].is_string(), "{error}");
        let msg = error["msg"].as_str().unwrap();
        assert!(!msg.is_empty());
        msg.to_owned()
    }
}

/// Lists the names of the files in a folder, at any depth.
pub(crate) fn files_below(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().unwrap().is_dir() {
            found.extend(files_below(&entry.path()));
        } else {
            found.push(entry.file_name().into_string().unwrap());
        }
    }
    found.sort();
    found
}

/// Whether a namespace has a link of that name.
pub(crate) fn has_link(netns: &Netns, name: &str) -> bool {
    netns.ip(&["link", "show", "dev", name]).is_ok()
}

/// Returns the output of `ip address` for a link.
pub(crate) fn addresses(netns: &Netns, name: &str) -> String {
    netns.ip(&["-o", "address", "show", "dev", name]).unwrap()
}
