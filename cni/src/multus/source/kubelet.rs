// SPDX-License-Identifier: Apache-2.0
//! Devices that the kubelet gave to a pod: from its pod-resources socket, in the order of
//! the pod's containers, or else from the checkpoint of its device manager. Those of a device plugin have a resource;
//! those of a DRA driver belong to a claim, which a network names in the same place (see [`ClaimDevice`]).
//!
//! The messages are those of `k8s.io/kubelet/pkg/apis/podresources/v1`, as far as they are read.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Endpoint;
use tonic_prost::ProstCodec;

use super::{Pod, chain};
use crate::Error;
use crate::spec::log::Log;

/// Default folder of the kubelet; changed by `kubeletDir`.
pub(in crate::multus) const KUBELET_DIR: &str = "/var/lib/kubelet";
/// Time limit of the kubelet's answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// Pods of a node times what is said of each; the API's default limit of 4 MiB is tight for large nodes.
const ANSWER_MAX: usize = 16 << 20;

#[derive(Clone, PartialEq, prost::Message)]
struct ListRequest {}

#[derive(Clone, PartialEq, prost::Message)]
struct ListResponse {
    #[prost(message, repeated, tag = "1")]
    pods: Vec<PodResources>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PodResources {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    namespace: String,
    #[prost(message, repeated, tag = "3")]
    containers: Vec<ContainerResources>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ContainerResources {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    devices: Vec<ContainerDevices>,
    #[prost(message, repeated, tag = "5")]
    dynamic_resources: Vec<DynamicResource>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ContainerDevices {
    #[prost(string, tag = "1")]
    resource: String,
    #[prost(string, repeated, tag = "2")]
    ids: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct DynamicResource {
    #[prost(string, tag = "2")]
    claim_name: String,
    #[prost(string, tag = "3")]
    claim_namespace: String,
    #[prost(message, repeated, tag = "4")]
    claim_resources: Vec<ClaimResource>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ClaimResource {
    #[prost(message, repeated, tag = "1")]
    cdi_devices: Vec<CdiDevice>,
    #[prost(string, tag = "2")]
    driver_name: String,
    #[prost(string, tag = "3")]
    pool_name: String,
    #[prost(string, tag = "4")]
    device_name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct CdiDevice {
    #[prost(string, tag = "1")]
    name: String,
}

/// Device of a ResourceClaim.
///
/// A network's `resourceName` names it by the pod's claim (`spec.resourceClaims[].name`), with or without the request
/// behind a slash, as Multus's does; by the name of the ResourceClaim; or by the driver. The kubelet does not say which
/// request a device is for: where a claim has several, its devices are given out in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ClaimDevice {
    claim: String,
    driver: String,
    id: String,
}

impl ClaimDevice {
    /// Whether `resource` names it, for the pod of that name.
    fn is_of(&self, resource: &str, pod: &str) -> bool {
        let name = resource.split('/').next().unwrap_or_default();
        // A claim made from a template is named POD-CLAIM-abcde.
        let template = self
            .claim
            .strip_prefix(pod)
            .and_then(|rest| rest.strip_prefix('-'));
        let of_template = template.and_then(|rest| rest.rsplit_once('-'));
        self.driver == resource
            || self.claim == name
            || of_template.is_some_and(|(claim, _)| claim == name)
    }
}

/// The devices of one pod, by resource or claim. Each is given out once.
#[derive(Debug, Default)]
pub(in crate::multus) struct Devices {
    pod: String,
    left: BTreeMap<String, VecDeque<String>>,
    claimed: Vec<ClaimDevice>,
}

impl Devices {
    /// Asks the kubelet whose directory is at `dir`.
    ///
    /// # Errors
    /// [`Error::TryAgain`]: neither the socket answers nor the checkpoint can be read.
    pub(in crate::multus) fn of(pod: &Pod, dir: &Path, log: &Log) -> Result<Devices, Error> {
        let socket = dir.join("pod-resources/kubelet.sock");
        match asked(&socket, pod) {
            Ok(devices) => Ok(devices),
            Err(why) => {
                let checkpoint = checkpoint(dir);
                log.warning(format_args!(
                    "{}: {why}; the devices are taken from {}",
                    socket.display(),
                    checkpoint.display()
                ));
                from_checkpoint(&checkpoint, &pod.uid).map_err(|error| {
                    Error::TryAgain(format!(
                        "cannot tell which devices pod {} has: {} says {why}; {}: {error}",
                        pod.who(),
                        socket.display(),
                        checkpoint.display()
                    ))
                })
            }
        }
    }

    fn add(&mut self, resource: &str, ids: impl IntoIterator<Item = String>) {
        let left = self.left.entry(resource.to_owned()).or_default();
        for id in ids {
            if !left.contains(&id) {
                left.push_back(id);
            }
        }
    }

    fn add_claim(&mut self, claim: &DynamicResource) {
        for resource in &claim.claim_resources {
            let device = ClaimDevice {
                claim: claim.claim_name.clone(),
                driver: resource.driver_name.clone(),
                id: device_id(resource),
            };
            // Containers of a pod may share a claim.
            if !self.claimed.contains(&device) {
                self.claimed.push(device);
            }
        }
    }

    /// The next device of a resource.
    pub(in crate::multus) fn take(&mut self, resource: &str) -> Option<String> {
        let of_plugin = self.left.get_mut(resource).and_then(VecDeque::pop_front);
        of_plugin.or_else(|| {
            let mut all = self.claimed.iter();
            let at = all.position(|device| device.is_of(resource, &self.pod))?;
            Some(self.claimed.remove(at).id)
        })
    }

    /// Takes a device that was asked for by its id.
    pub(in crate::multus) fn take_this(&mut self, resource: &str, id: &str) -> bool {
        if let Some(left) = self.left.get_mut(resource)
            && let Some(at) = left.iter().position(|there| there == id)
        {
            return left.remove(at).is_some();
        }
        let is_it = |device: &ClaimDevice| device.id == id && device.is_of(resource, &self.pod);
        let at = self.claimed.iter().position(is_it);
        at.map(|at| self.claimed.remove(at)).is_some()
    }
}

/// Reason why the kubelet, or its checkpoint, gave no answer.
#[derive(Debug, thiserror::Error)]
enum KubeletError {
    /// File or runtime failed.
    #[error(transparent)]
    System(std::io::Error),
    /// Checkpoint is not JSON.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// Socket or HTTP failed; all causes, outermost first.
    #[error("{0}")]
    Transport(String),
    /// Kubelet refused the request.
    #[error("{:?}: {}", .0.code(), .0.message())]
    Refused(Box<tonic::Status>),
    /// Kubelet did not answer in time.
    #[error("no answer in {} s", PATIENCE.as_secs())]
    TimedOut,
}

fn asked(socket: &Path, pod: &Pod) -> Result<Devices, KubeletError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(KubeletError::System)?;
    let list = async {
        match tokio::time::timeout(PATIENCE, list(socket)).await {
            Ok(answer) => answer,
            Err(_) => Err(KubeletError::TimedOut),
        }
    };
    let answer = runtime.block_on(list)?;
    let mut devices = Devices {
        pod: pod.name.clone(),
        ..Devices::default()
    };
    let ours = answer
        .pods
        .into_iter()
        .filter(|there| there.name == pod.name && there.namespace == pod.namespace);
    for container in ours.flat_map(|there| there.containers) {
        for given in container.devices {
            devices.add(&given.resource, given.ids);
        }
        for claim in &container.dynamic_resources {
            // A pod's claims are of its own namespace.
            if claim.claim_namespace == pod.namespace {
                devices.add_claim(claim);
            }
        }
    }
    Ok(devices)
}

/// Id of a claim's device for a plugin: the name of its CDI device, else the driver's name of it. Drivers write a PCI
/// address with hyphens, as neither name may have colons or dots: `0000-01-10-2`, `pci-0000-01-10-2`.
fn device_id(resource: &ClaimResource) -> String {
    let of_cdi = match resource.cdi_devices.as_slice() {
        [one] => one.name.split_once('=').map(|(_, name)| name),
        _ => None,
    };
    let names = [Some(resource.device_name.as_str()), of_cdi];
    let mut addresses = names.into_iter().flatten().filter_map(pci_address);
    let name = || of_cdi.unwrap_or(&resource.device_name).to_owned();
    addresses.next().unwrap_or_else(name)
}

/// PCI address that is written with hyphens.
fn pci_address(name: &str) -> Option<String> {
    let name = name.strip_prefix("pci-").unwrap_or(name);
    let parts: Vec<&str> = name.split(['-', ':', '.']).collect();
    let [domain, bus, device, function] = parts.as_slice() else {
        return None;
    };
    let fits = parts.iter().zip([4, 2, 2, 1]).all(|(part, digits)| {
        part.len() == digits && part.bytes().all(|byte| byte.is_ascii_hexdigit())
    });
    fits.then(|| format!("{domain}:{bus}:{device}.{function}").to_ascii_lowercase())
}

/// The device manager's checkpoint of the kubelet whose directory is at `dir`. Kubelets keep it in a folder that their
/// `--root-dir` does not move, so where `dir` has none, it is there.
fn checkpoint(dir: &Path) -> PathBuf {
    let of = |dir: &Path| dir.join("device-plugins/kubelet_internal_checkpoint");
    let own = of(dir);
    let constant = of(Path::new(KUBELET_DIR));
    if !own.exists() && constant.exists() {
        constant
    } else {
        own
    }
}

async fn list(socket: &Path) -> Result<ListResponse, KubeletError> {
    let path = socket.to_owned();
    // The address is a formality: the connector goes to the socket.
    let channel = Endpoint::from_static("http://localhost")
        .connect_with_connector(tower::service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        }))
        .await
        .map_err(|error| KubeletError::Transport(chain(&error)))?;
    let mut client = Grpc::new(channel).max_decoding_message_size(ANSWER_MAX);
    client
        .ready()
        .await
        .map_err(|error| KubeletError::Transport(chain(&error)))?;
    let answer = client
        .unary(
            tonic::Request::new(ListRequest {}),
            PathAndQuery::from_static("/v1.PodResourcesLister/List"),
            ProstCodec::default(),
        )
        .await;
    answer
        .map(tonic::Response::into_inner)
        .map_err(|status| KubeletError::Refused(Box::new(status)))
}

/// Reads the devices of the pod with this UID from the device manager's checkpoint.
fn from_checkpoint(path: &Path, uid: &str) -> Result<Devices, KubeletError> {
    let text = fs::read(path).map_err(KubeletError::System)?;
    let root: Value = serde_json::from_slice(&text)?;
    let entries = root["Data"]["PodDeviceEntries"].as_array();
    let mut devices = Devices::default();
    for entry in entries.into_iter().flatten() {
        if entry["PodUID"].as_str() != Some(uid) {
            continue;
        }
        let resource = entry["ResourceName"].as_str().unwrap_or_default();
        // A list, or since Kubernetes 1.20 lists by NUMA node.
        let ids: Vec<&Value> = match &entry["DeviceIDs"] {
            Value::Array(list) => list.iter().collect(),
            Value::Object(nodes) => nodes
                .values()
                .filter_map(Value::as_array)
                .flatten()
                .collect(),
            _ => Vec::new(),
        };
        devices.add(
            resource,
            ids.into_iter().filter_map(Value::as_str).map(str::to_owned),
        );
    }
    Ok(devices)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_checkpoint_of_either_age() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("checkpoint");
        let entry = |uid: &str, ids: Value| {
            json!({"PodUID": uid, "ContainerName": "c",
            "ResourceName": "vendor/vf", "DeviceIDs": ids})
        };
        let data = json!({"Data": {"PodDeviceEntries": [
            entry("u1", json!({"0": ["a"], "1": ["b"]})), entry("u2", json!(["c"])),
            entry("u1", json!(["b", "d"]))]}, "Checksum": 1});
        fs::write(&path, data.to_string()).unwrap();
        let mut devices = from_checkpoint(&path, "u1").unwrap();
        assert!(devices.take_this("vendor/vf", "b") && !devices.take_this("vendor/vf", "b"));
        assert_eq!(devices.take("vendor/vf").as_deref(), Some("a"));
        assert_eq!(devices.take("vendor/vf").as_deref(), Some("d"));
        assert_eq!(devices.take("vendor/vf"), None);
        assert_eq!(devices.take("vendor/other"), None);
    }

    #[test]
    fn devices_of_claims_by_every_name_that_a_network_may_use() {
        let device = |cdi: &str, name: &str| ClaimResource {
            cdi_devices: vec![CdiDevice { name: cdi.into() }],
            driver_name: "sriovnetwork.example".into(),
            pool_name: "node".into(),
            device_name: name.into(),
        };
        let claim = |name: &str, resources: Vec<ClaimResource>| DynamicResource {
            claim_name: name.into(),
            claim_namespace: "ns".into(),
            claim_resources: resources,
        };
        let of_template = claim(
            "my-pod-fast-net-x7k2q",
            vec![
                device("a/b=0000-01-10-2", "0000-01-10-2"),
                device("a/b=u-0", "pci-0000-01-10-4"),
            ],
        );
        let own = claim("shared", vec![device("a/b=opaque", "dev-7")]);
        let mut devices = Devices {
            pod: "my-pod".into(),
            ..Devices::default()
        };
        for claim in [&of_template, &own, &own] {
            devices.add_claim(claim);
        }
        assert_eq!(devices.take("other"), None);
        assert_eq!(devices.take("fast"), None);
        assert_eq!(devices.take("fast-net/vf").as_deref(), Some("0000:01:10.2"));
        assert!(!devices.take_this("shared", "0000:01:10.4"));
        assert!(devices.take_this("fast-net", "0000:01:10.4"));
        assert_eq!(
            devices.take("sriovnetwork.example").as_deref(),
            Some("opaque")
        );
        assert_eq!(devices.take("shared"), None);
    }

    #[test]
    fn no_kubelet_at_all_says_both_places() {
        let dir = tempfile::tempdir().unwrap();
        let pod = Pod::default();
        let error = Devices::of(&pod, dir.path(), &Log::stderr()).unwrap_err();
        assert_eq!(error.code(), 11);
        for place in ["pod-resources/kubelet.sock", "kubelet_internal_checkpoint"] {
            assert!(error.to_string().contains(place), "{error}");
        }
    }
}
