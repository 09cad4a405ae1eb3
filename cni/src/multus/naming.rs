// SPDX-License-Identifier: Apache-2.0
//! The names that the interfaces of a pod's networks have.

use std::collections::BTreeSet;

use serde_json::Value;

use super::network::ResolvedNetwork;
use crate::Error;
use crate::spec::fields::{self, Fields};

/// Scheme that names the interfaces of a pod's networks and chooses the primary one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Naming {
    /// The first `default` ones are the node's default networks, the one with `masterplugin` (or else
    /// the first) primary; the rest come on top. `net<N>`.
    Default {
        /// Number of default networks, which come first.
        default: usize,
    },
    /// The first is primary; the rest are `net0`, `net1`, ..., but `if0name` of the object wins.
    Bare,
    /// Primary is the network that asks for the primary interface, or the first without a name; the rest are `eth1`,
    /// `eth2`, ....
    Tke,
}

/// The interface of each network, by position, and the position of the primary one. A network's own
/// `if0name` is made to agree with what the pod asked for.
///
/// # Errors
/// [`Error::Config`]: two want to be primary.
pub(super) fn names(
    networks: &mut [ResolvedNetwork],
    naming: Naming,
    primary: &str,
    base: Option<usize>,
) -> Result<(Vec<String>, usize), Error> {
    let (primary_index, marked) = primary_index(networks, naming, primary)?;
    let mut names = Vec::with_capacity(networks.len());
    let mut number = base.unwrap_or(match naming {
        Naming::Bare => 0,
        Naming::Tke => 1,
        Naming::Default { .. } => usize::from(!marked),
    });
    let mut taken = BTreeSet::from([primary.to_owned()]);
    for (index, network) in networks.iter_mut().enumerate() {
        if index == primary_index {
            names.push(primary.to_owned());
            continue;
        }
        // The pod's own networks begin at net1 even where the default ones began at net0.
        if let Naming::Default { default } = naming
            && index == default
            && base.is_none()
        {
            number = number.max(1);
        }
        let asked = asked_name(network, naming)?;
        let name = match asked {
            Some(name) => name,
            None if naming == Naming::Tke => String::new(),
            None => format!("net{number}"),
        };
        // A named one uses up its number: the names of the others do not depend on it.
        number += 1;
        taken.insert(name.clone());
        names.push(name);
    }
    if naming == Naming::Tke {
        let index = |name: &String| name.strip_prefix("eth")?.parse::<usize>().ok();
        let next = taken
            .iter()
            .filter_map(index)
            .max()
            .map_or(0, |most| most + 1);
        let unnamed = names.iter_mut().filter(|name| name.is_empty());
        for (number, name) in (next..).zip(unnamed) {
            *name = format!("eth{number}");
        }
    }
    Ok((names, primary_index))
}

/// The primary network's position, and whether it was marked by `masterplugin`.
fn primary_index(
    networks: &[ResolvedNetwork],
    naming: Naming,
    primary: &str,
) -> Result<(usize, bool), Error> {
    match naming {
        Naming::Bare => Ok((0, false)),
        Naming::Tke => {
            let asks =
                |network: &ResolvedNetwork| network.selection.interface.as_deref() == Some(primary);
            let unnamed = |network: &ResolvedNetwork| network.selection.interface.is_none();
            let at = networks.iter().position(asks);
            let at = at.or(networks.iter().position(unnamed)).unwrap_or(0);
            Ok((at, false))
        }
        Naming::Default { default } => {
            let mut marked = None;
            for (index, network) in networks.iter().take(default).enumerate() {
                if Fields::new(&network.conf).boolean("masterplugin")? != Some(true) {
                    continue;
                }
                if let Some(first) = marked.replace(index) {
                    return Err(Error::Config(format!(
                        "delegates {first} and {index} both have masterplugin: only one can make \
                         the pod's primary interface"
                    )));
                }
            }
            Ok((marked.unwrap_or(0), marked.is_some()))
        }
    }
}

/// Returns the interface name that the pod or the network's author asks for.
fn asked_name(network: &mut ResolvedNetwork, naming: Naming) -> Result<Option<String>, Error> {
    let own = Fields::new(&network.conf)
        .string("if0name")?
        .filter(|name| !name.is_empty())
        .map(str::to_owned);
    let asked = network.selection.interface.clone();
    match (asked, own) {
        (asked, Some(own)) if naming == Naming::Bare || asked.is_none() => Ok(Some(own)),
        (Some(asked), Some(_)) => {
            fields::set(&mut network.conf, "if0name", Value::from(asked.as_str()));
            Ok(Some(asked))
        }
        (asked, _) => Ok(asked),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use serde_json::json;

    /// Networks from `type[=if0name][@interface][!]`; `!` marks the primary network.
    fn networks(list: &[&str]) -> Vec<ResolvedNetwork> {
        let network = |text: &&str| {
            let (text, marked) = text
                .strip_suffix('!')
                .map_or((*text, false), |text| (text, true));
            let (text, interface) = text
                .split_once('@')
                .map_or((text, None), |(a, b)| (a, Some(b)));
            let (program, own) = text
                .split_once('=')
                .map_or((text, None), |(a, b)| (a, Some(b)));
            let mut conf = json!({"type": program});
            if marked {
                conf["MasterPlugin"] = true.into();
            }
            if let Some(own) = own {
                conf["if0name"] = own.into();
            }
            let mut network = ResolvedNetwork::inline(conf.as_object().unwrap());
            network.selection.interface = interface.map(str::to_owned);
            network
        };
        list.iter().map(network).collect()
    }

    fn named(list: &[&str], naming: Naming, base: Option<usize>) -> Vec<String> {
        names(&mut networks(list), naming, "eth0", base).unwrap().0
    }

    fn of_config(list: &[&str]) -> Vec<String> {
        named(
            list,
            Naming::Default {
                default: list.len(),
            },
            None,
        )
    }

    #[test]
    fn a_marked_master_is_primary_and_numbers_start_at_0() {
        assert_eq!(
            of_config(&["sriov", "ptp", "flannel!"]),
            ["net0", "net1", "eth0"]
        );
        assert_eq!(of_config(&["a", "b"]), ["eth0", "net1"]);
        let all = Naming::Default { default: 2 };
        assert_eq!(named(&["a", "b"], all, Some(0)), ["eth0", "net0"]);
        let two = names(&mut networks(&["a!", "b!"]), all, "eth0", None).unwrap_err();
        assert_eq!(two.code(), 7);
    }

    #[test]
    fn a_renamed_one_uses_up_its_number() {
        let names = of_config(&["sriov=north0", "ptp", "flannel=ignored!"]);
        assert_eq!(names, ["north0", "net1", "eth0"]);
    }

    #[test]
    fn networks_on_top_begin_at_net1() {
        let on_top = |list: &[&str], default| named(list, Naming::Default { default }, None);
        assert_eq!(
            on_top(&["a!", "x", "y@north", "z"], 1),
            ["eth0", "net1", "north", "net3"]
        );
        assert_eq!(on_top(&["s", "a!", "x"], 2), ["net0", "eth0", "net1"]);
        assert_eq!(on_top(&["a", "b", "x"], 2), ["eth0", "net1", "net2"]);
        let poc = named(&["a", "x"], Naming::Default { default: 1 }, Some(0));
        assert_eq!(poc, ["eth0", "net0"]);
    }

    #[test]
    fn what_the_pod_asks_for_reaches_the_plugin_that_renames() {
        let mut list = networks(&["a", "sriov=own@asked"]);
        let (names, _) = names(&mut list, Naming::Default { default: 1 }, "eth0", None).unwrap();
        assert_eq!(names[1], "asked");
        assert_eq!(list[1].conf["if0name"], "asked");
    }

    #[test]
    fn the_older_documents_names() {
        let bare = named(&["flannel", "sriov", "sriov=north"], Naming::Bare, None);
        assert_eq!(bare, ["eth0", "net0", "north"]);
        let tke = named(
            &["flannel", "sriov", "sriov=north@north"],
            Naming::Tke,
            None,
        );
        assert_eq!(tke, ["eth0", "eth1", "north"]);
        let asks = named(&["a", "b@eth0", "c@eth4", "d"], Naming::Tke, None);
        assert_eq!(asks, ["eth5", "eth0", "eth4", "eth6"]);
    }
}
