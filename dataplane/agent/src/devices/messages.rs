// SPDX-License-Identifier: Apache-2.0
//! Messages of the kubelet's device-plugin API (`k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1/api.proto`) and of its
//! pod-resources API (`podresources/v1/api.proto`), as far as they are used. Written by hand: the build needs no protoc.

use std::collections::HashMap;

use prost::Message;

/// Version of the device-plugin API.
pub const API_VERSION: &str = "v1beta1";
/// State of a device that may be given out.
pub const HEALTHY: &str = "Healthy";
/// State of a device that must not be given out.
pub const UNHEALTHY: &str = "Unhealthy";

/// Empty message.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Empty {}

/// Abilities of a device plugin.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct DevicePluginOptions {
    /// Whether PreStartContainer is to be called.
    #[prost(bool, tag = "1")]
    pub pre_start_required: bool,
    /// Whether GetPreferredAllocation is to be called.
    #[prost(bool, tag = "2")]
    pub get_preferred_allocation_available: bool,
}

/// Request of Registration/Register.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct RegisterRequest {
    /// Version of the API.
    #[prost(string, tag = "1")]
    pub version: String,
    /// File name of the plugin's socket, in the kubelet's folder.
    #[prost(string, tag = "2")]
    pub endpoint: String,
    /// Name of the resource.
    #[prost(string, tag = "3")]
    pub resource_name: String,
    /// Abilities of the plugin.
    #[prost(message, optional, tag = "4")]
    pub options: Option<DevicePluginOptions>,
}

/// NUMA node.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct NumaNode {
    /// Number of the node.
    #[prost(int64, tag = "1")]
    pub id: i64,
}

/// Place of a device in the machine.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct TopologyInfo {
    /// NUMA nodes that the device is near to.
    #[prost(message, repeated, tag = "1")]
    pub nodes: Vec<NumaNode>,
}

/// Device as ListAndWatch tells it.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Device {
    /// Id, unique in its resource.
    #[prost(string, tag = "1")]
    pub id: String,
    /// [`HEALTHY`] or [`UNHEALTHY`].
    #[prost(string, tag = "2")]
    pub health: String,
    /// Place of the device.
    #[prost(message, optional, tag = "3")]
    pub topology: Option<TopologyInfo>,
}

/// All devices of a resource.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ListAndWatchResponse {
    /// The devices.
    #[prost(message, repeated, tag = "1")]
    pub devices: Vec<Device>,
}

/// Choice that GetPreferredAllocation is asked for, for one container.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ContainerPreferredRequest {
    /// Ids to choose from.
    #[prost(string, repeated, tag = "1")]
    pub available: Vec<String>,
    /// Ids that must be among the chosen.
    #[prost(string, repeated, tag = "2")]
    pub must_include: Vec<String>,
    /// Number of ids to choose.
    #[prost(int32, tag = "3")]
    pub size: i32,
}

/// Request of GetPreferredAllocation.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct PreferredAllocationRequest {
    /// Containers.
    #[prost(message, repeated, tag = "1")]
    pub containers: Vec<ContainerPreferredRequest>,
}

/// List of ids.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Ids {
    /// The ids.
    #[prost(string, repeated, tag = "1")]
    pub ids: Vec<String>,
}

/// Answer of GetPreferredAllocation: for each container, its ids.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct PreferredAllocationResponse {
    /// Containers, in order of the request.
    #[prost(message, repeated, tag = "1")]
    pub containers: Vec<Ids>,
}

/// Request of Allocate: for each container, its ids.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct AllocateRequest {
    /// Containers.
    #[prost(message, repeated, tag = "1")]
    pub containers: Vec<Ids>,
}

/// Folder or file that is mounted into a container.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Mount {
    /// Path in the container.
    #[prost(string, tag = "1")]
    pub container_path: String,
    /// Path on the host.
    #[prost(string, tag = "2")]
    pub host_path: String,
    /// Whether the container may only read.
    #[prost(bool, tag = "3")]
    pub read_only: bool,
}

/// Device file that is made in a container.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct DeviceSpec {
    /// Path in the container.
    #[prost(string, tag = "1")]
    pub container_path: String,
    /// Path on the host.
    #[prost(string, tag = "2")]
    pub host_path: String,
    /// Cgroup permissions: some of r, w and m.
    #[prost(string, tag = "3")]
    pub permissions: String,
}

/// Name of a CDI device: `vendor/class=name`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct CdiDevice {
    /// The name.
    #[prost(string, tag = "1")]
    pub name: String,
}

/// Answer for one container: all that it gets with its devices.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ContainerAllocateResponse {
    /// Environment variables.
    #[prost(map = "string, string", tag = "1")]
    pub envs: HashMap<String, String>,
    /// Mounts.
    #[prost(message, repeated, tag = "2")]
    pub mounts: Vec<Mount>,
    /// Device files.
    #[prost(message, repeated, tag = "3")]
    pub devices: Vec<DeviceSpec>,
    /// CDI devices; kubelets before 1.28 ignore them.
    #[prost(message, repeated, tag = "5")]
    pub cdi_devices: Vec<CdiDevice>,
}

/// Answer of Allocate.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct AllocateResponse {
    /// Containers, in order of the request.
    #[prost(message, repeated, tag = "1")]
    pub containers: Vec<ContainerAllocateResponse>,
}

/// Devices of one resource that a container has.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ContainerDevices {
    /// Name of the resource.
    #[prost(string, tag = "1")]
    pub resource_name: String,
    /// Ids.
    #[prost(string, repeated, tag = "2")]
    pub device_ids: Vec<String>,
}

/// Resources of a container.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ContainerResources {
    /// Name of the container.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Devices of the container.
    #[prost(message, repeated, tag = "2")]
    pub devices: Vec<ContainerDevices>,
}

/// Resources of a pod.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct PodResources {
    /// Name of the pod.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Namespace of the pod.
    #[prost(string, tag = "2")]
    pub namespace: String,
    /// Containers of the pod.
    #[prost(message, repeated, tag = "3")]
    pub containers: Vec<ContainerResources>,
}

/// Answer of PodResourcesLister/List.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ListPodResourcesResponse {
    /// Pods of the node.
    #[prost(message, repeated, tag = "1")]
    pub pods: Vec<PodResources>,
}
