// SPDX-License-Identifier: Apache-2.0
//! Annotation keys by which pods name their networks, in order of precedence.

use std::collections::BTreeMap;

use super::element::{NetworkSelectionElement, parse};
use crate::Error;
use crate::spec::log::Log;

/// A pod's annotations.
pub(in crate::multus) type Annotations = BTreeMap<String, String>;

/// Convention that an annotation follows for the default network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::multus) enum Style {
    /// Network Plumbing Working Group: the default network stays, these come on top.
    Added,
    /// Multus 1.x: these replace the default network, the first is the primary one.
    Bare,
    /// TKE: these replace it too; whoever asks for the primary interface is the primary one.
    Tke,
}

/// The annotation of today.
pub(in crate::multus) const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";
/// TKE's.
pub(in crate::multus) const TKE_NETWORKS: &str = "tke.cloud.tencent.com/networks";
/// Replaces the cluster's default network for one pod.
pub(in crate::multus) const DEFAULT_NETWORK: &str = "v1.multus-cni.io/default-network";

const KEYS: [(&str, Style); 4] = [
    (NETWORKS, Style::Added),
    ("kubernetes.v1.cni.cncf.io/networks", Style::Added),
    ("networks", Style::Bare),
    (TKE_NETWORKS, Style::Tke),
];

/// Networks that a pod asks for, and the annotation that names them.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::multus) struct NetworksAnnotation {
    /// The annotation.
    pub(in crate::multus) key: &'static str,
    /// Convention for the default network.
    pub(in crate::multus) style: Style,
    /// The networks, in order; at least one.
    pub(in crate::multus) networks: Vec<NetworkSelectionElement>,
}

/// Reads what a pod asks for; `None`: nothing. Several annotations of the same content are fine: then
/// TKE's counts where the configuration is one of TKE's, else the first as listed above.
///
/// The bare key is so plain a word that anybody may use it for something else. So it counts only in the one
/// form that Multus 1.x has, a JSON list of objects, and yields to keys with a namespace.
///
/// # Errors
/// [`Error::Config`]: one with a namespace is malformed, or two of them say different things.
pub(in crate::multus) fn read(
    annotations: &Annotations,
    is_tke: bool,
    log: &Log,
) -> Result<Option<NetworksAnnotation>, Error> {
    let mut found: Vec<NetworksAnnotation> = Vec::new();
    for (key, style) in KEYS {
        let Some(text) = annotations.get(key) else {
            continue;
        };
        let networks = if style == Style::Bare {
            match bare(key, text) {
                Ok(networks) => networks,
                Err(why) => {
                    log.info(format_args!("not for this plugin: {why}"));
                    continue;
                }
            }
        } else {
            parse(key, text)?
        };
        if !networks.is_empty() {
            found.push(NetworksAnnotation {
                key,
                style,
                networks,
            });
        }
    }
    let namespaced = found.iter().find(|asked| asked.style != Style::Bare);
    if let Some(namespaced) = namespaced.cloned() {
        found.retain(|asked| {
            let kept = asked.style != Style::Bare || asked.networks == namespaced.networks;
            if !kept {
                log.warning(format_args!(
                    "annotation {} of the pod yields to {}, which names other networks",
                    asked.key, namespaced.key
                ));
            }
            kept
        });
    }
    if let [first, rest @ ..] = &found[..]
        && let Some(other) = rest.iter().find(|other| other.networks != first.networks)
    {
        return Err(Error::Config(format!(
            "annotations {} and {} of the pod name different networks: keep one of them, or give \
             both the same content",
            first.key, other.key
        )));
    }
    let at = found
        .iter()
        .position(|asked| is_tke && asked.style == Style::Tke)
        .unwrap_or(0);
    Ok((at < found.len()).then(|| found.swap_remove(at)))
}

/// Reads the bare key; an error says why it is somebody else's.
fn bare(key: &str, text: &str) -> Result<Vec<NetworkSelectionElement>, Error> {
    if text.trim_start().starts_with('[') {
        return parse(key, text);
    }
    Err(Error::Config(format!(
        "annotation {key} is not a JSON list of networks"
    )))
}

/// Reads the network that replaces the cluster's default.
///
/// # Errors
/// [`Error::Config`]: it is malformed, or names more than one.
pub(in crate::multus) fn default_network(
    annotations: &Annotations,
) -> Result<Option<NetworkSelectionElement>, Error> {
    let Some(text) = annotations.get(DEFAULT_NETWORK) else {
        return Ok(None);
    };
    let mut list = parse(DEFAULT_NETWORK, text)?;
    if list.len() > 1 {
        return Err(Error::Config(format!(
            "annotation {DEFAULT_NETWORK} names {} networks: a pod has one default network",
            list.len()
        )));
    }
    Ok(list.pop())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn pod(pairs: &[(&str, &str)]) -> Annotations {
        let pairs = pairs.iter();
        pairs
            .map(|(key, text)| ((*key).to_owned(), (*text).to_owned()))
            .collect()
    }

    #[test]
    fn each_key_has_its_style() {
        let read = |pod: &Annotations| read(pod, false, &Log::silent());
        for (key, style) in KEYS {
            let asked = read(&pod(&[(key, r#"[{"name": "a"}]"#)])).unwrap().unwrap();
            assert_eq!(
                (asked.key, asked.style, asked.networks.len()),
                (key, style, 1)
            );
        }
        assert_eq!(read(&pod(&[("app", "web")])).unwrap(), None);
        assert_eq!(read(&pod(&[(NETWORKS, "")])).unwrap(), None);
    }

    #[test]
    fn a_bare_key_that_somebody_else_uses_is_let_pass() {
        let read = |pod: &Annotations| read(pod, false, &Log::silent());
        for theirs in [
            "Production LAN",
            "production",
            "",
            "[1]",
            "[\"a\"]",
            "{\"a\": 1}",
        ] {
            let alone = pod(&[("networks", theirs)]);
            assert_eq!(read(&alone).unwrap(), None, "{theirs}");
            let beside = pod(&[("networks", theirs), (NETWORKS, "a")]);
            assert_eq!(read(&beside).unwrap().unwrap().key, NETWORKS, "{theirs}");
        }
        // Ours, and another than the namespaced one.
        let both = pod(&[("networks", r#"[{"name": "b"}]"#), (NETWORKS, "a")]);
        assert_eq!(read(&both).unwrap().unwrap().key, NETWORKS);
        // The others have a namespace: nobody else means anything by them.
        assert_eq!(read(&pod(&[(TKE_NETWORKS, "A B")])).unwrap_err().code(), 7);
    }

    #[test]
    fn the_same_twice_is_fine_and_different_ones_are_7() {
        let both = pod(&[("networks", r#"[{"name": "a"}]"#), (TKE_NETWORKS, "a")]);
        let read = |pod: &Annotations, is_tke| read(pod, is_tke, &Log::silent());
        assert_eq!(read(&both, false).unwrap().unwrap().style, Style::Bare);
        assert_eq!(read(&both, true).unwrap().unwrap().style, Style::Tke);
        let error = read(&pod(&[(TKE_NETWORKS, "a"), (NETWORKS, "b")]), false).unwrap_err();
        assert_eq!(error.code(), 7);
        let named = "annotations k8s.v1.cni.cncf.io/networks and tke.cloud.tencent.com/networks";
        assert!(error.to_string().contains(named), "{error}");
    }

    #[test]
    fn one_default_network() {
        let one = default_network(&pod(&[(DEFAULT_NETWORK, "ns/a@eth0")])).unwrap();
        assert_eq!(one.unwrap().label(), "ns/a");
        assert_eq!(default_network(&pod(&[])).unwrap(), None);
        let two = default_network(&pod(&[(DEFAULT_NETWORK, "a,b")])).unwrap_err();
        assert_eq!(two.code(), 7);
    }
}
