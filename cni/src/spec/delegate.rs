// SPDX-License-Identifier: Apache-2.0
//! A delegate: one interface of a pod, made by one plugin or by a chain of them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::spec::budget::Budget;
use crate::spec::call::Command;
use crate::spec::conf::check_name;
use crate::spec::exec::{Job, Runner};
use crate::spec::fields::{self, Fields};
use crate::spec::progress::{PluginState, Progress};
use crate::spec::result::CniResult;
use crate::spec::version::Version;
use crate::{Error, PluginError};

/// The member of a GC's configuration that lists what still lives.
pub const VALID_ATTACHMENTS: &str = "cni.dev/valid-attachments";
/// Second name of [`VALID_ATTACHMENTS`], which the specification's own text has.
pub const ATTACHMENTS: &str = "cni.dev/attachments";

/// The list of what still lives, by either of its names.
///
/// # Errors
/// [`Error::Config`]: there is none, which is not the same as an empty one; it is no list; or both are given
/// and differ.
pub fn valid_attachments<'a>(fields: &Fields<'a>) -> Result<&'a [Value], Error> {
    match (fields.list(VALID_ATTACHMENTS)?, fields.list(ATTACHMENTS)?) {
        (Some(one), Some(other)) if one != other => Err(Error::Config(format!(
            "{VALID_ATTACHMENTS} and {ATTACHMENTS} differ: nothing is deleted"
        ))),
        (Some(list), _) | (None, Some(list)) => Ok(list),
        (None, None) => Err(Error::Config(format!(
            "GC needs {VALID_ATTACHMENTS}: without it everything would be deleted"
        ))),
    }
}

/// A delegate as it is run and as it is recorded, so that DEL and CHECK need nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delegate {
    /// The network's name: its own, or one derived from ours, the same on every call.
    pub name: String,
    /// `CNI_IFNAME` for it.
    pub ifname: String,
    /// Whether its result is the call's.
    #[serde(rename = "master")]
    pub primary: bool,
    /// `cniVersion` as written; empty when absent. None is ever put in.
    #[serde(default)]
    pub cni_version: String,
    /// The chain's configurations, in order; one for a plain configuration.
    pub plugins: Vec<Map<String, Value>>,
    /// `namespace/name` of its object, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// `KEY=value` pairs on top of the call's `CNI_ARGS`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub more_args: Vec<String>,
    /// Path of its device-info file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_info: Option<PathBuf>,
    /// Whether its interface was a kernel link after ADD: a memif is none.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_link: bool,
    /// `disableCheck` of its list.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disable_check: bool,
    /// `disableGC` of its list.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disable_gc: bool,
    /// Part of our runtimeConfig that it may have, if it declares the capability.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub runtime_config: Map<String, Value>,
    /// Result of its ADD, in its own version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Map<String, Value>>,
    /// State of each of `plugins`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub states: Vec<PluginState>,
}

impl Delegate {
    /// A delegate from a configuration or a configuration list (a `plugins` member), whose name
    /// is `fallback(type)` if it has none.
    ///
    /// # Errors
    /// [`Error::Config`]: no type, a bad name, an unknown version, an empty list.
    pub fn from_conf(
        conf: &Map<String, Value>,
        fallback: impl FnOnce(&str) -> String,
    ) -> Result<Delegate, Error> {
        let own = Fields::new(conf);
        let version = Version::of_conf(&own).map_err(|error| Error::Config(error.to_string()))?;
        // None is put in where none is written.
        let is_written = own.get("cniVersion").is_some_and(|text| *text != "")
            || own
                .list("cniVersions")?
                .is_some_and(|list| !list.is_empty());
        let cni_version = if is_written { version.as_str() } else { "" }.to_owned();
        let chained = own.list("plugins")?;
        let mut plugins = match chained {
            None => vec![conf.clone()],
            Some([]) => return Err(Error::Config("a delegate's plugins list is empty".into())),
            Some(list) => list
                .iter()
                .map(|plugin| {
                    plugin.as_object().cloned().ok_or_else(|| {
                        Error::Config("each entry of a delegate's plugins is an object".into())
                    })
                })
                .collect::<Result<_, _>>()?,
        };
        for (position, plugin) in plugins.iter().enumerate() {
            let at = chained.map_or_else(String::new, |_| format!("plugins[{position}]: "));
            let named = Fields::new(plugin).string("type");
            let named = named.map_err(|error| Error::Config(format!("{at}{error}")))?;
            if named.unwrap_or_default().is_empty() {
                return Err(Error::Config(format!(
                    "{at}there is no type: name the plugin"
                )));
            }
        }
        let name = match own.string("name")? {
            Some(name) if !name.is_empty() => name.to_owned(),
            _ => fallback(program(&plugins[0])),
        };
        check_name(&name)?;
        for plugin in &mut plugins {
            fields::set(plugin, "name", name.clone().into());
            // A list's version is its plugins' (CNI specification, section 3).
            if !cni_version.is_empty() {
                fields::set(plugin, "cniVersion", cni_version.clone().into());
            }
        }
        Ok(Delegate {
            name,
            ifname: String::new(),
            primary: false,
            label: None,
            more_args: Vec::new(),
            device_info: None,
            has_link: false,
            disable_check: own.switch("disableCheck")?.unwrap_or_default(),
            disable_gc: own.switch("disableGC")?.unwrap_or_default(),
            cni_version,
            plugins,
            runtime_config: Map::new(),
            result: None,
            states: Vec::new(),
        })
    }

    /// The type of its first plugin.
    pub fn program(&self) -> &str {
        self.plugins.first().map_or("", program)
    }

    /// The types of all its plugins.
    pub fn programs(&self) -> impl Iterator<Item = &str> {
        self.plugins.iter().map(program)
    }

    /// Whether one of its plugins declares a capability.
    pub fn declares(&self, capability: &str) -> bool {
        let mut plugins = self.plugins.iter();
        plugins.any(|plugin| declares(plugin, capability))
    }

    /// Returns the CNI version of the delegate.
    pub fn version(&self) -> Version {
        Version::parse(&self.cni_version).unwrap_or(Version::V0_1_0)
    }

    /// Runs ADD of the plugin at `position` of the chain, with its predecessor's result, and keeps its own.
    /// How far it came is in `states` afterwards.
    ///
    /// # Errors
    /// Those of [`Runner::run`]; nothing is undone.
    pub fn add(
        &mut self,
        position: usize,
        runner: &Runner<'_>,
        budget: Budget,
    ) -> Result<(), Error> {
        let plugin = &self.plugins[position];
        let conf = self.conf_for(plugin, self.result.as_ref());
        let answer = self.run(runner, Command::Add, plugin, &conf, budget);
        let result = answer.and_then(|result| {
            let nothing = || self.failure(plugin, "succeeded without a result".to_owned());
            let result = result.ok_or_else(nothing)?;
            match CniResult::parse(&result) {
                Ok(_) => Ok(result),
                Err(error) => Err(self.failure(plugin, error.to_string())),
            }
        });
        match result {
            Ok(result) => {
                self.result = Some(result);
                self.states[position].progress = Progress::Added;
                Ok(())
            }
            Err(error) => {
                self.states[position].add_failed(&error);
                Err(error)
            }
        }
    }

    /// Runs DEL of what is owed one, the chain in reverse. A plugin that fails does not stop the others.
    ///
    /// # Errors
    /// What failed and is to be tried again. What is given up is logged.
    pub fn del(&mut self, runner: &Runner<'_>, budget: Budget) -> Result<(), Error> {
        let netns_is_gone = runner.call().netns.is_none();
        let mut errors = Vec::new();
        for position in (0..self.plugins.len()).rev() {
            if !self.states[position].is_owed() {
                continue;
            }
            let plugin = &self.plugins[position];
            let conf = self.conf_for(plugin, self.known_result());
            let share = budget.share(position + 1);
            let answer = self.run(runner, Command::Del, plugin, &conf, share);
            let state = &mut self.states[position];
            match answer {
                Ok(_) => state.progress = Progress::Deleted,
                Err(error) => match state.del_failed(&error, netns_is_gone) {
                    Some(why) => runner.log().error(format_args!(
                        "{error}: not tried again, since {why}; what it may have left is to be removed \
                         by hand or by its GC"
                    )),
                    None => {
                        errors.push(error);
                        continue;
                    }
                },
            }
            if netns_is_gone {
                self.release_addresses(position, runner, share);
            }
        }
        Error::collect(errors)
    }

    /// Runs DEL of the ipam plugin that the plugin at `position` names, after the plugin's own DEL, where the pod's
    /// network namespace is gone and the interface with it.
    ///
    /// Some plugins return before they call their ipam when there is no namespace (host-device 1.1, any that is
    /// not installed any more): the address would stay reserved for ever. DEL of an ipam is idempotent (CNI
    /// specification, section 4), so one that has run changes nothing. A failure is only logged: `ipam` may be
    /// no configuration that its plugin takes, such as flannel's, which merges it into another one.
    fn release_addresses(&self, position: usize, runner: &Runner<'_>, budget: Budget) {
        let plugin = &self.plugins[position];
        let ipam = fields::find(plugin, "ipam").and_then(Value::as_object);
        let Some(ipam) = ipam.map(program).filter(|name| !name.is_empty()) else {
            return;
        };
        let answer = runner.run(&Job {
            command: Command::Del,
            program: ipam,
            ifname: &self.ifname,
            more_args: &self.more_args,
            conf: &self.conf_for(plugin, self.known_result()),
            who: &format!("ipam {ipam} of {}", self.who(plugin)),
            budget,
        });
        if let Err(error) = answer {
            runner.log().info(format_args!(
                "{error}: the network namespace is gone, and whether the address is released is up to the \
                 plugin's own DEL"
            ));
        }
    }

    /// Whether a DEL has to run one of its plugins.
    pub fn is_owed(&self) -> bool {
        self.states.iter().any(PluginState::is_owed)
    }

    /// Runs CHECK through the chain. A delegate older than CHECK has none: `false`.
    ///
    /// # Errors
    /// Those of [`Runner::run`].
    pub fn check(&self, runner: &Runner<'_>, budget: Budget) -> Result<bool, Error> {
        if self.version() < Command::Check.since() || self.disable_check {
            return Ok(false);
        }
        for plugin in &self.plugins {
            let conf = self.conf_for(plugin, self.known_result());
            self.run(runner, Command::Check, plugin, &conf, budget)?;
        }
        Ok(true)
    }

    /// Runs STATUS through the chain. A delegate older than STATUS has none: `false`.
    ///
    /// # Errors
    /// Those of [`Runner::run`].
    pub fn status(&self, runner: &Runner<'_>, budget: Budget) -> Result<bool, Error> {
        if self.version() < Command::Status.since() {
            return Ok(false);
        }
        for plugin in &self.plugins {
            let conf = self.conf_for(plugin, None);
            self.run(runner, Command::Status, plugin, &conf, budget)?;
        }
        Ok(true)
    }

    /// Runs GC through the chain: `attachments` is what still lives of this network. A delegate
    /// older than GC has none: `false`.
    ///
    /// # Errors
    /// What failed; the rest of the chain is run.
    pub fn gc(
        &self,
        runner: &Runner<'_>,
        attachments: &Value,
        budget: Budget,
    ) -> Result<bool, Error> {
        if self.version() < Command::Gc.since() || self.disable_gc {
            return Ok(false);
        }
        let mut errors = Vec::new();
        for plugin in &self.plugins {
            let mut conf = self.conf_for(plugin, None);
            for key in [VALID_ATTACHMENTS, ATTACHMENTS] {
                fields::set(&mut conf, key, attachments.clone());
            }
            errors.extend(self.run(runner, Command::Gc, plugin, &conf, budget).err());
        }
        Error::collect(errors).map(|()| true)
    }

    /// The result that DEL and CHECK carry: since 0.4.0.
    fn known_result(&self) -> Option<&Map<String, Value>> {
        self.result
            .as_ref()
            .filter(|_| self.version() >= Version::V0_4_0)
    }

    /// A plugin's configuration with what is put in at run time.
    fn conf_for(
        &self,
        plugin: &Map<String, Value>,
        previous: Option<&Map<String, Value>>,
    ) -> Map<String, Value> {
        let mut conf = plugin.clone();
        if let Some(previous) = previous {
            fields::set(&mut conf, "prevResult", Value::Object(previous.clone()));
        }
        let mut runtime = fields::find(plugin, "runtimeConfig")
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default();
        for (capability, value) in &self.runtime_config {
            if declares(plugin, capability) {
                runtime.insert(capability.clone(), value.clone());
            }
        }
        if !runtime.is_empty() {
            fields::set(&mut conf, "runtimeConfig", Value::Object(runtime));
        }
        conf
    }

    fn run(
        &self,
        runner: &Runner<'_>,
        command: Command,
        plugin: &Map<String, Value>,
        conf: &Map<String, Value>,
        budget: Budget,
    ) -> Result<Option<Map<String, Value>>, Error> {
        runner.run(&Job {
            command,
            program: program(plugin),
            ifname: &self.ifname,
            more_args: &self.more_args,
            conf,
            who: &self.who(plugin),
            budget,
        })
    }

    /// An error of a plugin that gave none itself.
    fn failure(&self, plugin: &Map<String, Value>, msg: String) -> Error {
        Error::Plugin(PluginError {
            plugin: self.who(plugin),
            code: 999,
            msg,
            details: String::new(),
        })
    }

    fn who(&self, plugin: &Map<String, Value>) -> String {
        let on = if self.ifname.is_empty() { "" } else { ", " };
        format!(
            "delegate {} (network {}{on}{})",
            program(plugin),
            self.name,
            self.ifname
        )
    }
}

fn declares(plugin: &Map<String, Value>, capability: &str) -> bool {
    let declared = fields::find(plugin, "capabilities").and_then(Value::as_object);
    declared.is_some_and(|map| map.get(capability) == Some(&Value::Bool(true)))
}

fn program(plugin: &Map<String, Value>) -> &str {
    fields::find(plugin, "type")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use serde_json::json;

    fn delegate(conf: Value) -> Result<Delegate, Error> {
        Delegate::from_conf(conf.as_object().unwrap(), |program| {
            format!("net-{program}-0")
        })
    }

    #[test]
    fn a_name_is_put_in_and_a_version_is_not() {
        let plain = delegate(json!({"Type": "bridge", "bridge": "br0"})).unwrap();
        assert_eq!(plain.name, "net-bridge-0");
        assert_eq!(
            Value::Object(plain.plugins[0].clone()),
            json!({"Type": "bridge", "bridge": "br0", "name": "net-bridge-0"})
        );
        assert_eq!(plain.version(), Version::V0_1_0);
    }

    #[test]
    fn a_lists_name_and_version_are_its_plugins() {
        let list = delegate(json!({"cniVersion": "1.0.0", "name": "n",
            "plugins": [{"type": "ptp"}, {"type": "portmap", "cniVersion": "0.3.1"}]}))
        .unwrap();
        assert_eq!(list.plugins[1]["name"], "n");
        assert_eq!(list.plugins[1]["cniVersion"], "1.0.0");
        assert_eq!(list.program(), "ptp");
    }

    #[test]
    fn runtime_config_goes_to_declared_capabilities_only() {
        let mut one =
            delegate(json!({"type": "a", "capabilities": {"mac": true, "ips": false}})).unwrap();
        one.runtime_config = json!({"mac": "m", "ips": ["i"], "dns": {}})
            .as_object()
            .unwrap()
            .clone();
        let conf = one.conf_for(&one.plugins[0], None);
        assert_eq!(conf["runtimeConfig"], json!({"mac": "m"}));
    }

    #[test]
    fn versions_of_a_list_count_too() {
        let list = delegate(json!({"cniVersions": ["0.4.0", "1.0.0", "9.0.0"],
            "plugins": [{"type": "ptp"}]}))
        .unwrap();
        assert_eq!(list.plugins[0]["cniVersion"], "1.0.0");
        let known = json!({"type": "a", "cniVersion": "9.0.0", "cniVersions": ["0.4.0"]});
        assert_eq!(delegate(known).unwrap().cni_version, "0.4.0");
    }

    #[test]
    fn a_gc_list_has_two_names() {
        let list = |conf: Value| {
            let map = conf.as_object().unwrap();
            valid_attachments(&Fields::new(map)).map(<[Value]>::len)
        };
        assert_eq!(list(json!({ATTACHMENTS: [1]})).unwrap(), 1);
        assert_eq!(
            list(json!({ATTACHMENTS: [1], VALID_ATTACHMENTS: [1]})).unwrap(),
            1
        );
        assert_eq!(
            list(json!({ATTACHMENTS: [], VALID_ATTACHMENTS: [1]}))
                .unwrap_err()
                .code(),
            7
        );
        assert_eq!(list(json!({})).unwrap_err().code(), 7);
    }

    #[test]
    fn results_are_carried_since_0_4_0() {
        let mut one = delegate(json!({"type": "a", "cniVersion": "0.3.1"})).unwrap();
        one.result = Some(Map::new());
        assert!(one.known_result().is_none());
        one.cni_version = "0.4.0".into();
        assert!(one.known_result().is_some());
    }

    #[test]
    fn what_cannot_be_run_is_refused() {
        for bad in [
            json!({"name": "x"}),
            json!({"type": ""}),
            json!({"plugins": []}),
            json!({"plugins": [3]}),
            json!({"type": "a", "name": "a b"}),
            json!({"type": "a", "cniVersion": "7"}),
        ] {
            assert_eq!(delegate(bad.clone()).unwrap_err().code(), 7, "{bad}");
        }
    }
}
