// SPDX-License-Identifier: Apache-2.0
//! Addresses from an ipam plugin, which gets our whole configuration and environment as the
//! specification says (section 4, "Delegated plugins").
//!
//! It is spoken to in CNI 1.0.0 at most: nothing in an ipam's part is newer, and plugins that know
//! no newer version serve too.

use serde_json::{Map, Value};

use crate::spec::budget::Budget;
use crate::spec::call::Command;
use crate::spec::exec::{Job, Runner};
use crate::spec::fields;
use crate::spec::result::{self, CniResult};
use crate::spec::version::Version;
use crate::{Error, PluginError};

/// Call of an ipam plugin for one interface.
#[derive(Debug)]
pub(super) struct Ipam<'a> {
    runner: &'a Runner<'a>,
    program: &'a str,
    conf: Map<String, Value>,
}

impl<'a> Ipam<'a> {
    /// The ipam plugin `program` with the configuration it is named in.
    pub(super) fn new(
        runner: &'a Runner<'a>,
        program: &'a str,
        conf: &Map<String, Value>,
    ) -> Ipam<'a> {
        Ipam {
            runner,
            program,
            conf: at_most_1_0_0(conf),
        }
    }

    /// Reserves addresses.
    ///
    /// # Errors
    /// Those of [`Runner::run`]; the plugin gave no address. Nothing is released then: see
    /// [`Ipam::del`].
    pub(super) fn add(&self, budget: Budget) -> Result<CniResult, Error> {
        let nothing = |msg: &str| PluginError {
            plugin: self.who(),
            code: 999,
            msg: msg.to_owned(),
            details: String::new(),
        };
        let result = self.run(Command::Add, budget)?;
        let result = result.ok_or_else(|| nothing("succeeded without a result"))?;
        let parsed = CniResult::parse(&result)?;
        if parsed.ips.is_empty() {
            return Err(nothing("gave no address").into());
        }
        if let Some(ipam) = fields::find(&self.conf, "ipam").and_then(Value::as_object) {
            super::routes::check_kept(ipam, self.program, &parsed)?;
        }
        Ok(parsed)
    }

    /// Releases what this container has on this interface.
    ///
    /// # Errors
    /// Those of [`Runner::run`].
    pub(super) fn del(&self, budget: Budget) -> Result<(), Error> {
        self.run(Command::Del, budget).map(|_| ())
    }

    /// Looks whether the reservation is there.
    ///
    /// # Errors
    /// Those of [`Runner::run`].
    pub(super) fn check(&self, budget: Budget) -> Result<(), Error> {
        self.run(Command::Check, budget).map(|_| ())
    }

    fn run(&self, command: Command, budget: Budget) -> Result<Option<Map<String, Value>>, Error> {
        self.runner.run(&Job {
            more_args: &[],
            command,
            program: self.program,
            ifname: &self.runner.call().ifname,
            conf: &self.conf,
            who: &self.who(),
            budget,
        })
    }

    fn who(&self) -> String {
        format!("ipam {}", self.program)
    }
}

/// The configuration, and the result in it, as CNI 1.0.0 if they are newer.
fn at_most_1_0_0(conf: &Map<String, Value>) -> Map<String, Value> {
    let mut conf = conf.clone();
    if result::version_of(&conf).is_ok_and(|version| version > Version::V1_0_0) {
        fields::set(&mut conf, "cniVersion", Version::V1_0_0.as_str().into());
        let previous = fields::find(&conf, "prevResult").and_then(Value::as_object);
        if let Some(Ok(older)) = previous.map(|p| result::convert(p, Version::V1_0_0)) {
            fields::set(&mut conf, "prevResult", Value::Object(older));
        }
    }
    conf
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_ipam_is_not_asked_in_a_version_that_it_may_not_know() {
        let conf = |version: &str| {
            json!({"cniVersion": version, "name": "n",
                "prevResult": {"cniVersion": version, "interfaces": [{"name": "a", "mtu": 9}]}})
        };
        let newer = at_most_1_0_0(conf("1.1.0").as_object().unwrap());
        assert_eq!(newer["cniVersion"], "1.0.0");
        let previous = json!({"cniVersion": "1.0.0", "interfaces": [{"name": "a"}], "dns": {}});
        assert_eq!(newer["prevResult"], previous);
        let older = conf("0.4.0");
        assert_eq!(
            Value::Object(at_most_1_0_0(older.as_object().unwrap())),
            older
        );
    }
}
