// SPDX-License-Identifier: Apache-2.0
//! The call as the environment describes it: `CNI_COMMAND` and its parameters, checked.

use std::path::PathBuf;

use sluice_host::engine::MAX_CONTAINER_ID;

use crate::Error;
use crate::spec::conf::is_identifier;
use crate::spec::version::Version;

/// Command of the call (`CNI_COMMAND`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the CNI specification's names")]
pub enum Command {
    Add,
    Del,
    Check,
    Gc,
    Status,
    Version,
}

impl Command {
    const ALL: [Command; 6] = [
        Command::Add,
        Command::Del,
        Command::Check,
        Command::Gc,
        Command::Status,
        Command::Version,
    ];

    /// As in `CNI_COMMAND`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Command::Add => "ADD",
            Command::Del => "DEL",
            Command::Check => "CHECK",
            Command::Gc => "GC",
            Command::Status => "STATUS",
            Command::Version => "VERSION",
        }
    }

    /// Whether it is about one interface of one container.
    pub const fn has_container(self) -> bool {
        matches!(self, Command::Add | Command::Del | Command::Check)
    }

    /// Whether it makes no sense without a network namespace. DEL does: the pod may be gone.
    pub const fn needs_netns(self) -> bool {
        matches!(self, Command::Add | Command::Check)
    }

    /// The first CNI version that has it.
    pub const fn since(self) -> Version {
        match self {
            Command::Add | Command::Del | Command::Version => Version::V0_1_0,
            Command::Check => Version::V0_4_0,
            Command::Gc | Command::Status => Version::V1_1_0,
        }
    }
}

/// Call of a plugin, from its environment. `container_id` and `ifname` are empty where [`Command::has_container`] is false.
#[derive(Debug, Clone)]
pub struct Call {
    /// Command of the call (`CNI_COMMAND`).
    pub command: Command,
    /// `CNI_CONTAINERID`.
    pub container_id: String,
    /// `CNI_NETNS`.
    pub netns: Option<PathBuf>,
    /// `CNI_IFNAME`.
    pub ifname: String,
    /// `CNI_ARGS` as it came.
    pub args: Option<String>,
    /// `CNI_PATH`: where plugins are.
    pub path: Vec<PathBuf>,
    /// `CNI_NETNS_OVERRIDE`: the caller really means this process's own network namespace.
    pub own_netns_allowed: bool,
    /// Whether `CNI_NETNS` of a DEL names this process's own network namespace and is not to be used.
    pub names_own_netns: bool,
    /// Whether a DEL is for a container that no ADD can have been for.
    pub never_added: bool,
}

impl Call {
    /// Reads the call from the environment through `variable`. `None`: there is no `CNI_COMMAND`,
    /// somebody started the plugin by hand.
    ///
    /// # Errors
    /// [`Error::Environment`], naming every variable that is missing, or the first that is bad.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Call>, Error> {
        let get = |name: &str| variable(name).filter(|value| !value.is_empty());
        let Some(word) = get("CNI_COMMAND") else {
            return Ok(None);
        };
        let command = Command::ALL
            .into_iter()
            .find(|c| c.as_str() == word)
            .ok_or_else(|| {
                let known = Command::ALL.map(Command::as_str).join(", ");
                Error::Environment(format!(
                    "CNI_COMMAND {word:?} is unknown; this plugin has {known}"
                ))
            })?;
        let container_id = get("CNI_CONTAINERID").unwrap_or_default();
        let netns = get("CNI_NETNS");
        let ifname = get("CNI_IFNAME").unwrap_or_default();

        let mut missing = Vec::new();
        if command.has_container() && container_id.is_empty() {
            missing.push("CNI_CONTAINERID");
        }
        if command.needs_netns() && netns.is_none() {
            missing.push("CNI_NETNS");
        }
        if command.has_container() && ifname.is_empty() {
            missing.push("CNI_IFNAME");
        }
        if !missing.is_empty() {
            return Err(Error::Environment(format!(
                "{word} needs environment variables that are not set: {}",
                missing.join(", ")
            )));
        }
        // No ADD of ours took a longer one, so its DEL has nothing to do.
        let is_endless = command == Command::Del
            && is_identifier(&container_id)
            && container_id.len() > MAX_CONTAINER_ID;
        if command.has_container() {
            if !is_endless {
                check_container_id(&container_id)?;
            }
            if let Err(why) = check_ifname(&ifname) {
                return Err(Error::Environment(format!("CNI_IFNAME {ifname:?} {why}")));
            }
        }
        Ok(Some(Call {
            command,
            container_id,
            netns: netns.map(PathBuf::from),
            ifname,
            args: get("CNI_ARGS"),
            path: get("CNI_PATH")
                .map(|path| {
                    std::env::split_paths(&path)
                        .filter(|p| p.is_absolute())
                        .collect()
                })
                .unwrap_or_default(),
            own_netns_allowed: get("CNI_NETNS_OVERRIDE")
                .is_some_and(|value| value == "1" || value.eq_ignore_ascii_case("true")),
            names_own_netns: false,
            never_added: is_endless,
        }))
    }

    /// The value of `key` in `CNI_ARGS` (`A=1;B=2`), in any case of the key.
    pub fn arg(&self, key: &str) -> Option<&str> {
        self.args
            .as_deref()?
            .split(';')
            .filter_map(|pair| pair.split_once('='))
            .find(|(name, _)| name.trim().eq_ignore_ascii_case(key))
            .map(|(_, value)| value.trim())
            .filter(|value| !value.is_empty())
    }
}

fn check_container_id(id: &str) -> Result<(), Error> {
    if is_identifier(id) && id.len() <= MAX_CONTAINER_ID {
        return Ok(());
    }
    Err(Error::Environment(format!(
        "CNI_CONTAINERID {id:?} must start with a letter or digit, hold only letters, digits, \
         '_', '.' and '-', and have at most {MAX_CONTAINER_ID} of them"
    )))
}

/// Reason why a text is not an interface name; reads on after the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IfnameError {
    /// Empty text.
    #[error("is empty")]
    Empty,
    /// More than 15 bytes (`IFNAMSIZ` less the NUL).
    #[error("has {0} characters; the kernel allows 15")]
    TooLong(usize),
    /// `.` or `..`.
    #[error("is a directory's name")]
    Directory,
    /// Slash, colon, space or control character.
    #[error("holds {0:?}, which an interface name may not")]
    Character(char),
}

/// Checks an interface name as the kernel and the CNI specification want it.
///
/// # Errors
/// [`IfnameError`]: it is empty, `.`, `..`, longer than 15 bytes, or holds `/`, `:` or a space.
pub fn check_ifname(name: &str) -> Result<(), IfnameError> {
    if name.is_empty() {
        return Err(IfnameError::Empty);
    }
    if name.len() > 15 {
        return Err(IfnameError::TooLong(name.len()));
    }
    if name == "." || name == ".." {
        return Err(IfnameError::Directory);
    }
    match name
        .chars()
        .find(|c| matches!(c, '/' | ':') || c.is_whitespace() || c.is_control())
    {
        Some(bad) => Err(IfnameError::Character(bad)),
        None => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn read(pairs: &[(&str, &str)]) -> Result<Option<Call>, Error> {
        let map: HashMap<String, String> = pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        Call::read(|name| map.get(name).cloned())
    }

    const ADD: [(&str, &str); 4] = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_NETNS", "/var/run/netns/x"),
        ("CNI_IFNAME", "eth0"),
    ];

    fn with(name: &'static str, value: &'static str) -> Result<Option<Call>, Error> {
        let mut pairs = ADD.to_vec();
        pairs.retain(|(n, _)| *n != name);
        pairs.push((name, value));
        read(&pairs)
    }

    #[test]
    fn nothing_set_is_no_call() {
        assert!(read(&[]).unwrap().is_none());
        assert_eq!(read(&[("CNI_COMMAND", "FOO")]).unwrap_err().code(), 4);
    }

    #[test]
    fn everything_missing_is_named_at_once() {
        let error = read(&[("CNI_COMMAND", "ADD")]).unwrap_err();
        assert_eq!(error.code(), 4);
        for name in ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"] {
            assert!(error.to_string().contains(name), "{error}");
        }
        assert!(
            read(&[
                ("CNI_COMMAND", "DEL"),
                ("CNI_CONTAINERID", "c"),
                ("CNI_IFNAME", "e")
            ])
            .is_ok()
        );
        assert!(read(&[("CNI_COMMAND", "STATUS")]).unwrap().is_some());
    }

    #[test]
    fn a_container_id_is_as_long_for_the_plugins_as_for_the_engine() {
        let long = |length: usize, command: &str| {
            read(&[
                ("CNI_COMMAND", command),
                ("CNI_CONTAINERID", &"a".repeat(length)),
                ("CNI_NETNS", "/n"),
                ("CNI_IFNAME", "eth0"),
            ])
        };
        assert!(long(MAX_CONTAINER_ID, "ADD").is_ok());
        assert_eq!(long(MAX_CONTAINER_ID + 1, "ADD").unwrap_err().code(), 4);
        assert!(
            long(MAX_CONTAINER_ID + 1, "DEL")
                .unwrap()
                .unwrap()
                .never_added
        );
    }

    #[test]
    fn bad_values_are_refused() {
        for id in ["../x", "-a", "a/b", "ä"] {
            assert_eq!(with("CNI_CONTAINERID", id).unwrap_err().code(), 4, "{id}");
        }
        for name in ["0123456789abcdef", ".", "..", "a/b", "a:b", "a b", "a\tb"] {
            assert_eq!(with("CNI_IFNAME", name).unwrap_err().code(), 4, "{name}");
        }
        assert!(with("CNI_IFNAME", "0123456789abcde").is_ok());
    }

    #[test]
    fn arguments_are_found_in_any_order_and_case() {
        let call = with(
            "CNI_ARGS",
            "IgnoreUnknown=1;K8S_POD_NAME=web;mac=02:00:00:00:00:01;IP=",
        )
        .unwrap()
        .unwrap();
        assert_eq!(call.arg("MAC"), Some("02:00:00:00:00:01"));
        assert_eq!(call.arg("K8S_POD_NAME"), Some("web"));
        assert_eq!(call.arg("IP"), None);
        assert_eq!(call.arg("GATEWAY"), None);
    }
}
