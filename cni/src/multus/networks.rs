// SPDX-License-Identifier: Apache-2.0
//! From a pod's networks to delegates, in the order in which they are run.
//!
//! Whatever names networks (the configuration, an annotation, the cluster's defaults) is resolved to
//! configurations first and then takes one way through [`arrange`].

use std::path::Path;

use serde_json::{Map, Value};

use super::annotation::{self, NetworkSelectionElement, NetworksAnnotation, Style};
use super::conf::MetaConf;
use super::naming::{self, Naming};
use super::network::ResolvedNetwork;
use super::pod_context::PodContext;
use super::requirements::{self, Requirements};
use super::source::{self, Devices, Disk, Found};
use crate::Error;
use crate::spec::call::check_ifname;
use crate::spec::delegate::Delegate;
use crate::spec::fields;
use crate::spec::log::Log;

/// Capabilities that speak of one interface; from the runtime that is the pod's primary one.
const OF_ONE_INTERFACE: [&str; 9] = [
    "portMappings",
    "bandwidth",
    "ips",
    "mac",
    "ipRanges",
    "dns",
    "infinibandGUID",
    "deviceID",
    "CNIDeviceInfoFile",
];

/// Network objects of the older documents: their groups, the newer one first.
const NETWORK_GROUPS: [&str; 2] = ["kubernetes-network.cni.cncf.io", "kubernetes.com"];

/// A delegate, and what is to be seen to once it has run.
#[derive(Debug)]
pub(super) struct DelegatePlan {
    pub(super) delegate: Delegate,
    pub(super) requirements: Requirements,
}

/// Looks networks up.
struct Finder<'a> {
    conf: &'a MetaConf,
    pod_context: &'a PodContext,
    disk: Disk,
    log: &'a Log,
}

/// The delegates of a pod whose primary interface is `ifname`, the primary one first.
///
/// # Errors
/// [`Error::Config`]: a network is not there, may not be used, or cannot be run as it is written;
/// [`Error::TryAgain`]: the API server or the kubelet does not answer.
pub(super) fn resolve(
    conf: &MetaConf,
    pod_context: &PodContext,
    ifname: &str,
    log: &Log,
) -> Result<Vec<DelegatePlan>, Error> {
    let finder = Finder {
        conf,
        pod_context,
        disk: Disk::new(conf.names.conf_dir.as_deref()),
        log,
    };
    let (mut networks, naming) = finder.networks()?;
    if networks.is_empty() {
        return Err(Error::Config(
            "there is no network to run: the configuration has neither delegates nor clusterNetwork, \
             and the pod names none"
                .into(),
        ));
    }
    let mut planned = arrange(conf, &mut networks, naming, ifname)?;
    finder.devices(&networks, &mut planned)?;
    // The primary one first; the others keep their order.
    planned.sort_by_key(|planned| !planned.delegate.primary);
    Ok(planned)
}

/// The configuration's own `delegates` alone: what can be told without asking anybody.
///
/// # Errors
/// [`Error::Config`].
pub(super) fn inline(conf: &MetaConf, ifname: &str) -> Result<Vec<Delegate>, Error> {
    let mut networks: Vec<ResolvedNetwork> =
        conf.delegates.iter().map(ResolvedNetwork::inline).collect();
    if networks.is_empty() {
        return Err(Error::Config("the configuration has no delegates".into()));
    }
    let naming = Naming::Default {
        default: networks.len(),
    };
    let mut planned = arrange(conf, &mut networks, naming, ifname)?;
    planned.sort_by_key(|planned| !planned.delegate.primary);
    Ok(planned
        .into_iter()
        .map(|planned| planned.delegate)
        .collect())
}

impl Finder<'_> {
    /// The pod's networks, the default ones among them, and how they are named.
    fn networks(&self) -> Result<(Vec<ResolvedNetwork>, Naming), Error> {
        let is_tke = self.conf.names.default_delegates.is_some();
        let pod = self.pod_context.pod.as_ref();
        let asked = pod
            .map(|pod| annotation::read(&pod.annotations, is_tke, self.log))
            .transpose()?;
        let asked = asked.flatten();
        if let Some(asked) = &asked {
            self.check_isolation(&asked.networks, None)?;
        }
        match asked {
            Some(asked) if asked.style != Style::Added => {
                let naming = match asked.style {
                    Style::Tke => Naming::Tke,
                    _ => Naming::Bare,
                };
                Ok((self.all(&asked)?, naming))
            }
            asked => {
                let (mut networks, naming) = self.defaults()?;
                if let Some(asked) = asked {
                    networks.extend(self.all(&asked)?);
                }
                Ok((networks, naming))
            }
        }
    }

    /// The networks of every pod that does not replace them.
    fn defaults(&self) -> Result<(Vec<ResolvedNetwork>, Naming), Error> {
        let names = &self.conf.names;
        let pod = self.pod_context.pod.as_ref();
        let own = pod
            .map(|pod| annotation::default_network(&pod.annotations))
            .transpose()?;
        let mut networks = Vec::new();
        if let Some(selection) = own.flatten() {
            self.check_isolation(std::slice::from_ref(&selection), Some(&names.namespace))?;
            let namespace = selection.namespace.clone();
            let namespace = namespace.unwrap_or_else(|| names.namespace.clone());
            let found = match self.nad(&namespace, &selection.name)? {
                None => self.on_disk(&selection.name)?,
                found => found,
            };
            let found = found.ok_or_else(|| {
                self.missing(
                    &selection,
                    &[format!(
                        "NetworkAttachmentDefinition {namespace}/{}",
                        selection.name
                    )],
                )
            })?;
            networks.push(ResolvedNetwork::looked_up(found, selection));
        } else if let Some(name) = &names.cluster_network {
            networks.push(self.by_any_name(name, "clusterNetwork")?);
        } else if !self.conf.delegates.is_empty() {
            networks.extend(self.conf.delegates.iter().map(ResolvedNetwork::inline));
        } else if let Some(text) = &names.default_delegates {
            let asked = NetworksAnnotation {
                key: "defaultDelegates",
                style: Style::Tke,
                networks: annotation::parse("defaultDelegates", text)?,
            };
            return Ok((self.all(&asked)?, Naming::Tke));
        }
        let is_system = pod.is_some_and(|pod| names.system_namespaces.contains(&pod.namespace));
        if !is_system {
            for name in &names.default_networks {
                networks.push(self.by_any_name(name, "defaultNetworks")?);
            }
        }
        let naming = Naming::Default {
            default: networks.len(),
        };
        Ok((networks, naming))
    }

    /// A pod may name networks of its own namespace, of the global ones, and, for its default network,
    /// of the one that has the cluster's.
    fn check_isolation(
        &self,
        asked: &[NetworkSelectionElement],
        more: Option<&String>,
    ) -> Result<(), Error> {
        let (Some(global), Some(pod)) = (&self.conf.names.isolated_but, &self.pod_context.pod)
        else {
            return Ok(());
        };
        let foreign = |selection: &&NetworkSelectionElement| {
            let namespace = selection.namespace.as_ref();
            namespace.is_some_and(|there| {
                *there != pod.namespace && !global.contains(there) && Some(there) != more
            })
        };
        match asked.iter().find(foreign) {
            None => Ok(()),
            Some(selection) => Err(Error::Config(format!(
                "pod {} may not use network {}: namespaceIsolation is on, and only its own namespace \
                 and {} may be named",
                pod.who(),
                selection.label(),
                global.join(", ")
            ))),
        }
    }

    fn all(&self, asked: &NetworksAnnotation) -> Result<Vec<ResolvedNetwork>, Error> {
        let networks = asked.networks.iter();
        networks
            .map(|selection| {
                let found = self.find(asked, selection)?;
                Ok(ResolvedNetwork::looked_up(found, selection.clone()))
            })
            .collect()
    }

    /// The network that an element names. Each generation of annotations has its own kind of object; the
    /// others' are looked for after it.
    fn find(
        &self,
        asked: &NetworksAnnotation,
        selection: &NetworkSelectionElement,
    ) -> Result<Found, Error> {
        let own = self
            .pod_context
            .pod
            .as_ref()
            .map(|pod| pod.namespace.as_str());
        let namespace = selection.namespace.as_deref().or(own).unwrap_or("default");
        let mut looked = Vec::new();
        let mut found = None;
        let order: &[&str] = match (asked.style, asked.key) {
            (Style::Added, annotation::NETWORKS) => &["nad", "network"],
            (Style::Added, _) => &["network", "nad"],
            (Style::Bare, _) => &["network", "nad", "disk"],
            (Style::Tke, _) => &["disk", "nad", "network"],
        };
        let order = if self.pod_context.cluster.is_none() {
            &["disk"][..]
        } else {
            order
        };
        for place in order {
            found = match *place {
                "nad" => {
                    looked.push(format!(
                        "NetworkAttachmentDefinition {namespace}/{}",
                        selection.name
                    ));
                    self.nad(namespace, &selection.name)?
                }
                "network" => {
                    looked.push(format!("Network {namespace}/{}", selection.name));
                    self.network(selection, namespace)?
                }
                _ => {
                    looked.push(format!(
                        "a configuration of that name in {}",
                        self.disk.places()
                    ));
                    self.on_disk(&selection.name)?
                }
            };
            if found.is_some() {
                break;
            }
        }
        found.ok_or_else(|| self.missing(selection, &looked))
    }

    fn missing(&self, selection: &NetworkSelectionElement, looked: &[String]) -> Error {
        let without = if self.pod_context.cluster.is_none() {
            "; without kubeconfig networks are found on disk only"
        } else {
            ""
        };
        Error::Config(format!(
            "there is no network {}: looked for {}{without}",
            selection.label(),
            looked.join(", ")
        ))
    }

    fn on_disk(&self, name: &str) -> Result<Option<Found>, Error> {
        let conf = self.disk.by_name(name)?;
        Ok(conf.map(|conf| Found::on_disk(name, conf)))
    }

    fn nad(&self, namespace: &str, name: &str) -> Result<Option<Found>, Error> {
        let Some(cluster) = &self.pod_context.cluster else {
            return Ok(None);
        };
        let kind = (
            "k8s.cni.cncf.io",
            "network-attachment-definitions",
            "NetworkAttachmentDefinition",
        );
        let object = cluster.object(kind, namespace, name)?;
        object
            .map(|object| source::nad(&object, &self.disk))
            .transpose()
    }

    /// A `Network`: in the namespace that is named, or in the pod's and then in `default`.
    fn network(
        &self,
        selection: &NetworkSelectionElement,
        namespace: &str,
    ) -> Result<Option<Found>, Error> {
        let Some(cluster) = &self.pod_context.cluster else {
            return Ok(None);
        };
        let mut namespaces = vec![namespace];
        let isolated = self.conf.names.isolated_but.as_ref();
        let open = isolated.is_none_or(|global| global.iter().any(|name| name == "default"));
        if selection.namespace.is_none() && namespace != "default" && open {
            namespaces.push("default");
        }
        for namespace in namespaces {
            for group in NETWORK_GROUPS {
                let kind = (group, "networks", "Network");
                if let Some(object) = cluster.object(kind, namespace, &selection.name)? {
                    return source::network(&object, &self.disk).map(Some);
                }
            }
        }
        Ok(None)
    }

    /// `clusterNetwork` and `defaultNetworks`: the name of an object, the name of a configuration, a
    /// directory or a file.
    fn by_any_name(&self, name: &str, key: &str) -> Result<ResolvedNetwork, Error> {
        let namespace = &self.conf.names.namespace;
        if !Path::new(name).is_absolute() {
            let (namespace, object) = name.split_once('/').unwrap_or((namespace, name));
            if annotation::is_label(object)
                && let Some(found) = self.nad(namespace, object)?
            {
                return Ok(ResolvedNetwork::looked_up(
                    found,
                    NetworkSelectionElement::default(),
                ));
            }
            if let Some(found) = self.on_disk(name)? {
                return Ok(ResolvedNetwork::looked_up(
                    found,
                    NetworkSelectionElement::default(),
                ));
            }
        } else if Path::new(name).exists() {
            let conf = source::at(Path::new(name), &self.conf.program)?;
            return Ok(ResolvedNetwork::inline(&conf));
        }
        Err(Error::Config(format!(
            "{key} {name:?} is neither a NetworkAttachmentDefinition in {namespace}, nor the name of a \
             configuration in {}, nor a directory or file",
            self.disk.places()
        )))
    }

    /// Gives each network that needs one a device of the pod's, each device once.
    fn devices(
        &self,
        networks: &[ResolvedNetwork],
        planned: &mut [DelegatePlan],
    ) -> Result<(), Error> {
        let mut devices = None;
        for (network, planned) in networks.iter().zip(planned) {
            let asked = network.selection.device_id.as_deref();
            let Some(resource) = &network.resource else {
                if let Some(id) = asked {
                    requirements::set_device(&mut planned.delegate, id);
                }
                continue;
            };
            let pod = self.pod_context.pod.as_ref().ok_or_else(|| {
                Error::Config(format!(
                    "resource {resource} belongs to pods, and none is known"
                ))
            })?;
            let devices = match &mut devices {
                Some(devices) => devices,
                none => none.insert(Devices::of(pod, &self.conf.kubelet_dir, self.log)?),
            };
            let id = match asked {
                Some(id) => devices.take_this(resource, id).then(|| id.to_owned()),
                None => devices.take(resource),
            };
            let id = id.ok_or_else(|| {
                let which = asked.map_or("no device is left".to_owned(), |id| {
                    format!("{id} is not a device that the pod has (left)")
                });
                Error::Config(format!(
                    "network {} needs a device of resource {resource}, and {which}: give the pod's \
                     containers as many of it in resources.limits as it has such networks",
                    network.label.as_deref().unwrap_or(&planned.delegate.name)
                ))
            })?;
            requirements::set_device(&mut planned.delegate, &id);
            planned.requirements.device = Some((resource.clone(), id));
        }
        Ok(())
    }
}

/// Makes delegates of networks: names their interfaces, and says what each may have of runtimeConfig.
fn arrange(
    conf: &MetaConf,
    networks: &mut [ResolvedNetwork],
    naming: Naming,
    ifname: &str,
) -> Result<Vec<DelegatePlan>, Error> {
    let (names, primary_index) = naming::names(networks, naming, ifname, conf.net_index_base)?;
    let mut arranged: Vec<DelegatePlan> = Vec::with_capacity(networks.len());
    for (index, (network, name)) in networks.iter().zip(names).enumerate() {
        let delegate = Delegate::from_conf(&network.conf, |program| {
            let made = || format!("{}-{program}-{index}", conf.name);
            network.name.clone().unwrap_or_else(made)
        });
        let mut delegate = delegate.map_err(|error| {
            let place = match &network.label {
                Some(label) => format!("network {label}"),
                None => format!("delegates[{index}]"),
            };
            Error::Config(format!("{place}: {error}"))
        })?;
        refuse_ourselves(conf, &delegate)?;
        delegate.label.clone_from(&network.label);
        delegate.primary = index == primary_index;
        delegate.runtime_config = offered(&conf.runtime_config, delegate.primary);
        delegate.ifname = name;
        requirements::check_runtime_config(&mut delegate)?;
        let requirements =
            requirements::apply(&mut delegate, &network.selection, conf.strict_capabilities)?;
        arranged.push(DelegatePlan {
            delegate,
            requirements,
        });
    }
    check(&arranged)?;
    Ok(arranged)
}

/// A delegate that is this plugin would run itself for ever.
fn refuse_ourselves(conf: &MetaConf, delegate: &Delegate) -> Result<(), Error> {
    let ourselves = |plugin: &Map<String, Value>| {
        let program = fields::find(plugin, "type").and_then(Value::as_str);
        program.is_some_and(|program| program == conf.program || program == "sluicegate")
    };
    if delegate.plugins.iter().any(ourselves) {
        return Err(Error::Config(format!(
            "delegate {} is this plugin itself: it would run itself for ever",
            delegate.name
        )));
    }
    Ok(())
}

/// Names that can be, each once; one default route.
fn check(planned: &[DelegatePlan]) -> Result<(), Error> {
    for (index, DelegatePlan { delegate, .. }) in planned.iter().enumerate() {
        let name = &delegate.ifname;
        if let Err(why) = check_ifname(name) {
            return Err(Error::Config(format!(
                "interface name {name:?} of delegate {} {why}",
                delegate.name
            )));
        }
        let same = |other: &&DelegatePlan| other.delegate.ifname == *name;
        if let Some(other) = planned[..index].iter().find(same) {
            return Err(Error::Config(format!(
                "delegates {} and {} would both make interface {name}: change if0name, or the \
                 interface that the pod asks for",
                other.delegate.name, delegate.name
            )));
        }
    }
    let mut routed = planned
        .iter()
        .filter(|one| one.requirements.default_route.is_some());
    if let (Some(first), Some(second)) = (routed.next(), routed.next()) {
        return Err(Error::Config(format!(
            "networks {} and {} both ask for default-route: the default route can go through one only",
            first.delegate.name, second.delegate.name
        )));
    }
    Ok(())
}

/// Returns the part of the runtime's runtimeConfig that a delegate may have.
fn offered(runtime_config: &Map<String, Value>, primary: bool) -> Map<String, Value> {
    runtime_config
        .iter()
        .filter(|(key, _)| primary || !OF_ONE_INTERFACE.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
