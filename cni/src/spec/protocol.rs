// SPDX-License-Identifier: Apache-2.0
//! The CNI conversation: what is asked, who answers, what goes to standard output.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use serde_json::{Map, Value};

use super::operations::{self, Report};
use super::{exec, netns};
use crate::Error;
use crate::spec::budget::{self, Budget};
use crate::spec::call::{Call, Command};
use crate::spec::conf::NetConf;
use crate::spec::log::Log;
use crate::spec::version::Version;

/// Everything a plugin gets to know of one call.
#[derive(Debug)]
pub struct Context {
    /// The environment, checked.
    pub call: Call,
    /// Standard input, checked.
    pub conf: NetConf,
    /// Log of the call.
    pub log: Log,
    /// The time there is.
    pub budget: Budget,
}

/// A CNI plugin.
pub trait Plugin {
    /// Name of the plugin in logs.
    const NAME: &'static str;
    /// Summary in one line, printed when the plugin is started by hand.
    const ABOUT: &'static str;

    /// Returns the engine's run folder, below which the agent listens for the report of the call.
    fn run_dir(&self, conf: &NetConf) -> PathBuf {
        operations::run_dir(conf)
    }

    /// Makes the interface. The result is in the version asked for.
    ///
    /// # Errors
    /// Nothing is left of what was made.
    fn add(&self, context: &Context) -> Result<Map<String, Value>, Error>;

    /// Removes the interface, as often as it is asked to, whatever is left of it.
    ///
    /// # Errors
    /// Something could not be removed; asking again may help.
    fn del(&self, context: &Context) -> Result<(), Error>;

    /// Looks whether the interface is as ADD left it.
    ///
    /// # Errors
    /// It is not.
    fn check(&self, context: &Context) -> Result<(), Error>;

    /// Removes what belongs to containers that are no more.
    ///
    /// # Errors
    /// Something could not be removed.
    fn gc(&self, context: &Context) -> Result<(), Error>;

    /// Whether an ADD could be served now.
    ///
    /// # Errors
    /// It could not.
    fn status(&self, context: &Context) -> Result<(), Error>;
}

/// Runs a plugin's program: the whole of `main`.
pub fn main<P: Plugin>(plugin: &P) -> ExitCode {
    if let Some(code) = exec::become_plugin() {
        return code;
    }
    let begun = Instant::now();
    let environment = |name: &str| std::env::var_os(name)?.into_string().ok();
    let mut call = match Call::read(environment) {
        Ok(Some(call)) => call,
        Ok(None) => {
            let known: Vec<&str> = Version::ALL
                .iter()
                .map(|version| version.as_str())
                .collect();
            eprintln!("{}", P::ABOUT);
            eprintln!("CNI protocol versions supported: {}", known.join(", "));
            return ExitCode::SUCCESS;
        }
        Err(error) => return refuse(&error, Version::NEWEST),
    };
    if call.command == Command::Version {
        // Standard input is not read: the answer does not depend on it, and a caller may leave
        // it open.
        return answer(&Version::info());
    }
    let mut input = Vec::new();
    if let Err(error) = std::io::stdin().lock().read_to_end(&mut input) {
        return refuse(&Error::Stdin(error), Version::NEWEST);
    }
    let conf = match NetConf::parse(&input) {
        Ok(conf) => conf,
        Err(error) => return refuse(&error, Version::NEWEST),
    };
    let log = Log::new(P::NAME, &conf, &call);
    let report = Report::new(P::NAME, call.command, begun, plugin.run_dir(&conf));
    let own = if call.command == Command::Add {
        budget::ADD
    } else {
        budget::DEL
    };
    let budget = Budget::inherited(own, environment(budget::VARIABLE).as_deref());
    let refused = match netns::is_own(&call) {
        Ok(own) if call.command == Command::Del => {
            call.names_own_netns = own;
            None
        }
        Ok(own) => own.then(|| netns::own(&call)),
        Err(error) => Some(error),
    };
    if let Some(error) = refused {
        log.error(format_args!("failed with code {}: {error}", error.code()));
        report.send(Some(&error));
        return refuse(&error, conf.version);
    }
    let context = Context {
        call,
        conf,
        log,
        budget,
    };
    let served = serve(plugin, &context);
    report.send(served.as_ref().err());
    match served {
        Ok(Some(result)) => answer(&Value::Object(result)),
        Ok(None) => ExitCode::SUCCESS,
        Err(error) => {
            context
                .log
                .error(format_args!("failed with code {}: {error}", error.code()));
            refuse(&error, context.conf.version)
        }
    }
}

fn serve<P: Plugin>(plugin: &P, context: &Context) -> Result<Option<Map<String, Value>>, Error> {
    let command = context.call.command;
    let version = context.conf.version;
    if version < command.since() {
        return Err(Error::Version(format!(
            "{} exists since CNI {}, and the configuration has cniVersion {}",
            command.as_str(),
            command.since().as_str(),
            version.as_str()
        )));
    }
    context
        .log
        .verbose(format_args!("network {}", context.conf.name));
    match command {
        Command::Del if context.call.never_added => Ok(None),
        Command::Add => plugin.add(context).map(Some),
        Command::Del => plugin.del(context).map(|()| None),
        Command::Check => plugin.check(context).map(|()| None),
        Command::Gc => plugin.gc(context).map(|()| None),
        Command::Status => plugin.status(context).map(|()| None),
        Command::Version => Ok(None),
    }
}

fn answer(value: &Value) -> ExitCode {
    let written = writeln!(std::io::stdout(), "{value}");
    if written.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn refuse(error: &Error, version: Version) -> ExitCode {
    answer(&error.to_json(version));
    ExitCode::FAILURE
}
