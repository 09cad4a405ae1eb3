//! From a pod's networks to delegates, in the order in which they are run.
//!
//! Networks come from the configuration's `delegates` here. Whatever else names networks
//! resolves to configurations first and then takes the same way through [`arrange`].

use serde_json::{Map, Value};

use super::conf::MetaConf;
use crate::Error;
use crate::call::{Call, check_ifname};
use crate::delegate::Delegate;
use crate::fields::{self, Fields};

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

/// Capability by which a runtime passes the pod's annotations.
const ANNOTATIONS: &str = "io.kubernetes.cri.pod-annotations";
/// Annotations that ask for networks.
const NETWORK_KEYS: [&str; 5] = [
    "k8s.v1.cni.cncf.io/networks",
    "kubernetes.v1.cni.cncf.io/networks",
    "networks",
    "tke.cloud.tencent.com/networks",
    "v1.multus-cni.io/default-network",
];

/// The delegates of a pod whose primary interface is `ifname`, the master first.
///
/// # Errors
/// [`Error::Config`]: they cannot be run as they are written, or the pod's networks are named in
/// a way that this build does not resolve.
pub(super) fn resolve(conf: &MetaConf, call: &Call, ifname: &str) -> Result<Vec<Delegate>, Error> {
    if conf.has_kubeconfig && call.arg("K8S_POD_NAME").is_some() {
        return Err(Error::Config(
            "kubeconfig: this build does not read a pod's networks from the API server; remove \
             the key to run delegates alone"
                .into(),
        ));
    }
    if conf.delegates.is_empty() {
        return Err(Error::Config(
            "no delegates: there is no default network to run".into(),
        ));
    }
    if let Some(key) = asked_by_annotation(&conf.runtime_config) {
        return Err(Error::Config(format!(
            "the pod's annotation {key} names networks, which this build does not resolve: only \
             delegates are run"
        )));
    }
    arrange(conf, ifname)
}

fn asked_by_annotation(runtime_config: &Map<String, Value>) -> Option<&'static str> {
    let annotations = fields::find(runtime_config, ANNOTATIONS)?.as_object()?;
    NETWORK_KEYS
        .into_iter()
        .find(|key| annotations.contains_key(*key))
}

/// Orders the delegates, names their interfaces, and says what each may have of runtimeConfig.
fn arrange(conf: &MetaConf, ifname: &str) -> Result<Vec<Delegate>, Error> {
    let marked: Vec<usize> = conf
        .delegates
        .iter()
        .enumerate()
        .filter_map(
            |(index, delegate)| match Fields::new(delegate).boolean("masterplugin") {
                Ok(Some(true)) => Some(Ok(index)),
                Ok(_) => None,
                Err(error) => Some(Err(error)),
            },
        )
        .collect::<Result<_, _>>()?;
    if let [first, second, ..] = marked[..] {
        return Err(Error::Config(format!(
            "delegates {first} and {second} both have masterplugin: only one can make the pod's \
             primary interface"
        )));
    }
    let master = marked.first().copied().unwrap_or(0);
    let base = conf
        .net_index_base
        .unwrap_or(usize::from(marked.is_empty()));

    let mut arranged: Vec<Delegate> = Vec::with_capacity(conf.delegates.len());
    let mut number = base;
    for (index, written) in conf.delegates.iter().enumerate() {
        let mut delegate = Delegate::from_conf(written, |program| {
            format!("{}-{program}-{index}", conf.name)
        })?;
        refuse_ourselves(conf, &delegate)?;
        delegate.master = index == master;
        delegate.runtime_config = offered(&conf.runtime_config, delegate.master);
        if delegate.master {
            delegate.ifname = ifname.to_owned();
            arranged.insert(0, delegate);
            continue;
        }
        delegate.ifname = match Fields::new(written).string("if0name")? {
            Some(asked) if !asked.is_empty() => asked.to_owned(),
            _ => format!("net{number}"),
        };
        // A renamed one uses up its number: the names of the others do not depend on it.
        number += 1;
        arranged.push(delegate);
    }
    check_names(&arranged)?;
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

fn check_names(delegates: &[Delegate]) -> Result<(), Error> {
    for (index, delegate) in delegates.iter().enumerate() {
        let name = &delegate.ifname;
        if let Err(why) = check_ifname(name) {
            return Err(Error::Config(format!(
                "interface name {name:?} of delegate {} {why}",
                delegate.name
            )));
        }
        if let Some(other) = delegates[..index]
            .iter()
            .find(|other| other.ifname == *name)
        {
            return Err(Error::Config(format!(
                "delegates {} and {} would both make interface {name}: change if0name",
                other.name, delegate.name
            )));
        }
    }
    Ok(())
}

/// What of the runtime's runtimeConfig a delegate may have.
fn offered(runtime_config: &Map<String, Value>, master: bool) -> Map<String, Value> {
    runtime_config
        .iter()
        .filter(|(key, _)| master || !OF_ONE_INTERFACE.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::conf::NetConf;
    use serde_json::json;

    fn names(conf: &Value) -> Result<Vec<(String, String)>, Error> {
        let conf = MetaConf::read(&NetConf::parse(conf.to_string().as_bytes()).unwrap())?;
        let delegates = arrange(&conf, "eth0")?;
        Ok(delegates.into_iter().map(|d| (d.name, d.ifname)).collect())
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected
            .iter()
            .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
            .collect()
    }

    #[test]
    fn a_marked_master_is_first_and_numbers_start_at_0() {
        let conf = json!({"name": "demo", "delegates": [
            {"type": "sriov"}, {"type": "ptp"}, {"type": "flannel", "MasterPlugin": true}]});
        let expected = pairs(&[
            ("demo-flannel-2", "eth0"),
            ("demo-sriov-0", "net0"),
            ("demo-ptp-1", "net1"),
        ]);
        assert_eq!(names(&conf).unwrap(), expected);
    }

    #[test]
    fn without_a_mark_the_first_is_master_and_numbers_start_at_1() {
        let conf = json!({"name": "demo", "delegates": [{"type": "a"}, {"type": "b"}]});
        let expected = pairs(&[("demo-a-0", "eth0"), ("demo-b-1", "net1")]);
        assert_eq!(names(&conf).unwrap(), expected);
        let conf = json!({"name": "demo", "netIndexBase": 0,
            "delegates": [{"type": "a"}, {"type": "b", "name": "own"}]});
        assert_eq!(
            names(&conf).unwrap(),
            pairs(&[("demo-a-0", "eth0"), ("own", "net0")])
        );
    }

    #[test]
    fn a_renamed_one_uses_up_its_number() {
        let conf = json!({"name": "demo", "delegates": [
            {"type": "sriov", "if0name": "north0"}, {"type": "ptp"},
            {"type": "flannel", "masterplugin": true, "if0name": "ignored"}]});
        let expected = pairs(&[
            ("demo-flannel-2", "eth0"),
            ("demo-sriov-0", "north0"),
            ("demo-ptp-1", "net1"),
        ]);
        assert_eq!(names(&conf).unwrap(), expected);
    }

    #[test]
    fn what_contradicts_itself_is_7() {
        for delegates in [
            json!([{"type": "a", "masterplugin": true}, {"type": "b", "masterplugin": true}]),
            json!([{"type": "a", "masterplugin": "yes"}]),
            json!([{"type": "a"}, {"type": "b", "if0name": "net2"}, {"type": "c"}]),
            json!([{"type": "a"}, {"type": "b", "if0name": "eth0"}]),
            json!([{"type": "a"}, {"type": "b", "if0name": "a/b"}]),
            json!([{"type": "sluicegate"}]),
            json!([{"plugins": [{"type": "a"}, {"type": "multus"}]}]),
        ] {
            let conf = json!({"name": "demo", "type": "multus", "delegates": delegates});
            assert_eq!(names(&conf).unwrap_err().code(), 7, "{conf}");
        }
    }

    #[test]
    fn port_mappings_are_the_primary_interfaces() {
        let runtime = json!({"portMappings": [], "cgroupPath": "x"})
            .as_object()
            .unwrap()
            .clone();
        assert_eq!(offered(&runtime, true).len(), 2);
        assert_eq!(
            offered(&runtime, false).keys().collect::<Vec<_>>(),
            ["cgroupPath"]
        );
    }

    #[test]
    fn networks_named_elsewhere_are_refused_rather_than_left_out() {
        let annotated = json!({ANNOTATIONS: {"networks": "[]"}})
            .as_object()
            .unwrap()
            .clone();
        assert_eq!(asked_by_annotation(&annotated), Some("networks"));
        let plain = json!({ANNOTATIONS: {"app": "web"}})
            .as_object()
            .unwrap()
            .clone();
        assert_eq!(asked_by_annotation(&plain), None);
    }
}
