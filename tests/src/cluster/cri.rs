// SPDX-License-Identifier: Apache-2.0
//! Client of the container runtime interface (CRI), for the calls that the kubelet makes.

mod container;

pub use container::{HostPath, NodeContainer};

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use hyper_util::rt::TokioIo;
use prost::Message;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

/// Name of a pod sandbox or container. Fields are numbered as in `runtime/v1/api.proto` of Kubernetes.
#[derive(Clone, PartialEq, Message)]
struct Metadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    uid: String,
    #[prost(string, tag = "3")]
    namespace: String,
}

#[derive(Clone, PartialEq, Message)]
struct Linux {}

#[derive(Clone, PartialEq, Message)]
struct SandboxConfig {
    #[prost(message, optional, tag = "1")]
    metadata: Option<Metadata>,
    #[prost(string, tag = "3")]
    log_directory: String,
    #[prost(map = "string, string", tag = "7")]
    annotations: HashMap<String, String>,
    #[prost(message, optional, tag = "8")]
    linux: Option<Linux>,
}

#[derive(Clone, PartialEq, Message)]
struct RunRequest {
    #[prost(message, optional, tag = "1")]
    config: Option<SandboxConfig>,
}

/// Request or answer that holds one id, as most do.
#[derive(Clone, PartialEq, Message)]
struct Id {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Clone, PartialEq, Message)]
struct Empty {}

#[derive(Clone, PartialEq, Message)]
struct ContainerMetadata {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerConfig {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ContainerMetadata>,
    #[prost(message, optional, tag = "2")]
    image: Option<Id>,
    #[prost(string, repeated, tag = "3")]
    command: Vec<String>,
    #[prost(string, tag = "11")]
    log_path: String,
    /// By CDI name.
    #[prost(message, repeated, tag = "17")]
    devices: Vec<CdiDevice>,
}

#[derive(Clone, PartialEq, Message)]
struct CdiDevice {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct CreateRequest {
    #[prost(string, tag = "1")]
    sandbox: String,
    #[prost(message, optional, tag = "2")]
    config: Option<ContainerConfig>,
    #[prost(message, optional, tag = "3")]
    sandbox_config: Option<SandboxConfig>,
}

#[derive(Clone, PartialEq, Message)]
struct ExecRequest {
    #[prost(string, tag = "1")]
    container: String,
    #[prost(string, repeated, tag = "2")]
    command: Vec<String>,
    #[prost(int64, tag = "3")]
    seconds: i64,
}

#[derive(Clone, PartialEq, Message)]
struct ExecAnswer {
    #[prost(bytes = "vec", tag = "1")]
    stdout: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    stderr: Vec<u8>,
    #[prost(int32, tag = "3")]
    code: i32,
}

#[derive(Clone, PartialEq, Message)]
struct StatusRequest {
    #[prost(bool, tag = "1")]
    verbose: bool,
}

#[derive(Clone, PartialEq, Message)]
struct StatusAnswer {
    #[prost(map = "string, string", tag = "2")]
    info: HashMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
struct Sandboxes {
    #[prost(message, repeated, tag = "1")]
    items: Vec<Sandbox>,
}

#[derive(Clone, PartialEq, Message)]
struct Sandbox {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(message, optional, tag = "2")]
    metadata: Option<Metadata>,
    /// 0 while it runs.
    #[prost(int32, tag = "3")]
    state: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Containers {
    #[prost(message, repeated, tag = "1")]
    items: Vec<Container>,
}

#[derive(Clone, PartialEq, Message)]
struct Container {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "2")]
    sandbox: String,
}

/// Running pod sandbox with one container in it.
#[derive(Debug, Clone)]
pub struct Pod {
    /// Id of the sandbox.
    pub sandbox: String,
    /// Id of the container.
    pub container: String,
}

/// Connection to a container runtime.
#[derive(Debug)]
pub struct Cri {
    runtime: tokio::runtime::Runtime,
    channel: Channel,
    logs: PathBuf,
}

impl Cri {
    /// Connects to the runtime at `socket`; containers log into the folder `logs`.
    ///
    /// # Errors
    /// It does not answer.
    pub fn connect(socket: &Path, logs: &Path, patience: Duration) -> Result<Cri> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let path = socket.to_owned();
        let connector = tower::service_fn(move |_| {
            let path = path.clone();
            async move {
                tokio::net::UnixStream::connect(path)
                    .await
                    .map(TokioIo::new)
            }
        });
        let channel = runtime.block_on(
            Endpoint::from_static("http://localhost")
                .timeout(patience * 3 / 2)
                .connect_with_connector(connector),
        )?;
        let cri = Cri {
            runtime,
            channel,
            logs: logs.to_owned(),
        };
        cri.ask::<_, Empty>("Version", Empty {})?;
        Ok(cri)
    }

    fn ask<Q, A>(&self, method: &str, request: Q) -> Result<A>
    where
        Q: Message + Default + 'static,
        A: Message + Default + 'static,
    {
        let path = format!("/runtime.v1.RuntimeService/{method}");
        let path: PathAndQuery = path.parse()?;
        let answer = self.runtime.block_on(async {
            let mut client = Grpc::new(self.channel.clone());
            client.ready().await.map_err(|error| anyhow!("{error}"))?;
            let codec = ProstCodec::<Q, A>::default();
            let answer = client.unary(tonic::Request::new(request), path, codec);
            answer
                .await
                .map_err(|status| anyhow!("{}", status.message()))
        });
        Ok(answer.with_context(|| method.to_owned())?.into_inner())
    }

    fn sandbox_config(&self, name: &str, annotations: &[(&str, &str)]) -> SandboxConfig {
        let pairs = annotations.iter();
        SandboxConfig {
            metadata: Some(Metadata {
                name: name.to_owned(),
                uid: format!("uid-{name}"),
                namespace: "ns".to_owned(),
            }),
            log_directory: self.logs.display().to_string(),
            annotations: pairs
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
            linux: Some(Linux {}),
        }
    }

    /// Calls RunPodSandbox and returns the sandbox's id.
    ///
    /// # Errors
    /// The runtime refuses; the error holds its message.
    pub fn sandbox(&self, name: &str, annotations: &[(&str, &str)]) -> Result<String> {
        let config = Some(self.sandbox_config(name, annotations));
        Ok(self
            .ask::<_, Id>("RunPodSandbox", RunRequest { config })?
            .id)
    }

    /// Starts a sandbox with a container that sleeps.
    ///
    /// # Errors
    /// The runtime refuses; the error holds its message.
    pub fn pod(&self, name: &str, annotations: &[(&str, &str)]) -> Result<Pod> {
        self.start_pod(&self.sandbox_config(name, annotations), &[])
    }

    /// Starts a pod as [`Cri::pod`] does, with the UID that the API server gave it.
    ///
    /// # Errors
    /// As [`Cri::pod`].
    pub fn pod_of(&self, name: &str, uid: &str) -> Result<Pod> {
        let mut config = self.sandbox_config(name, &[]);
        if let Some(metadata) = &mut config.metadata {
            uid.clone_into(&mut metadata.uid);
        }
        self.start_pod(&config, &[])
    }

    /// Starts a pod as [`Cri::pod`] does, whose container has these devices by their CDI names.
    ///
    /// # Errors
    /// As [`Cri::pod`].
    pub fn pod_with_devices(&self, name: &str, devices: &[&str]) -> Result<Pod> {
        self.start_pod(&self.sandbox_config(name, &[]), devices)
    }

    fn start_pod(&self, sandbox_config: &SandboxConfig, devices: &[&str]) -> Result<Pod> {
        let run = RunRequest {
            config: Some(sandbox_config.clone()),
        };
        let sandbox = self.ask::<_, Id>("RunPodSandbox", run)?.id;
        let name = sandbox_config
            .metadata
            .as_ref()
            .map(|metadata| &metadata.name);
        let create = CreateRequest {
            sandbox: sandbox.clone(),
            config: Some(ContainerConfig {
                metadata: Some(ContainerMetadata {
                    name: "c".to_owned(),
                }),
                image: Some(Id {
                    id: super::IMAGE.to_owned(),
                }),
                command: ["/bin/sleep", "100000"].map(str::to_owned).to_vec(),
                log_path: format!("{}.log", name.map_or("pod", |name| name)),
                devices: devices
                    .iter()
                    .map(|name| CdiDevice {
                        name: (*name).to_owned(),
                    })
                    .collect(),
            }),
            sandbox_config: Some(sandbox_config.clone()),
        };
        let container = self.ask::<_, Id>("CreateContainer", create)?.id;
        let start = Id {
            id: container.clone(),
        };
        self.ask::<_, Empty>("StartContainer", start)?;
        Ok(Pod { sandbox, container })
    }

    /// Calls ExecSync and returns the command's output.
    ///
    /// # Errors
    /// The command cannot be run, or does not end with 0.
    pub fn exec(&self, container: &str, command: &[&str]) -> Result<String> {
        let request = ExecRequest {
            container: container.to_owned(),
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            seconds: 20,
        };
        let answer: ExecAnswer = self.ask("ExecSync", request)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        anyhow::ensure!(answer.code == 0, "{command:?}: {}", text(&answer.stderr));
        Ok(text(&answer.stdout))
    }

    /// Calls StopPodSandbox.
    ///
    /// # Errors
    /// The runtime refuses; the error holds its message.
    pub fn stop(&self, sandbox: &str) -> Result<()> {
        let id = sandbox.to_owned();
        self.ask::<_, Empty>("StopPodSandbox", Id { id })?;
        Ok(())
    }

    /// Calls RemovePodSandbox.
    ///
    /// # Errors
    /// The runtime refuses; the error holds its message.
    pub fn remove(&self, sandbox: &str) -> Result<()> {
        let id = sandbox.to_owned();
        self.ask::<_, Empty>("RemovePodSandbox", Id { id })?;
        Ok(())
    }

    /// Returns the network configuration that the runtime has loaded, as JSON.
    ///
    /// # Errors
    /// The runtime does not answer, or has none.
    pub fn network_conf(&self) -> Result<String> {
        let request = StatusRequest { verbose: true };
        let mut answer: StatusAnswer = self.ask("Status", request)?;
        let conf = answer.info.remove("cniconfig");
        conf.context("the runtime has no network configuration")
    }

    /// Lists the ids of the sandboxes with their pods' names.
    ///
    /// # Errors
    /// The runtime does not answer.
    pub fn sandboxes(&self) -> Result<Vec<(String, String)>> {
        let list: Sandboxes = self.ask("ListPodSandbox", Empty {})?;
        let name = |sandbox: &Sandbox| sandbox.metadata.clone().unwrap_or_default().name;
        Ok(list
            .items
            .iter()
            .map(|one| (one.id.clone(), name(one)))
            .collect())
    }

    /// Lists the pods' names of the sandboxes that run.
    ///
    /// # Errors
    /// The runtime does not answer.
    pub fn ready_sandboxes(&self) -> Result<Vec<String>> {
        let list: Sandboxes = self.ask("ListPodSandbox", Empty {})?;
        let running = list.items.into_iter().filter(|one| one.state == 0);
        let names = running.map(|one| one.metadata.unwrap_or_default().name);
        Ok(names.collect())
    }

    /// Finds sandbox and first container of a pod that the kubelet runs.
    ///
    /// # Errors
    /// There is none.
    pub fn find(&self, name: &str) -> Result<Pod> {
        let sandboxes = self.sandboxes()?;
        let (sandbox, _) = sandboxes
            .into_iter()
            .find(|(_, there)| there == name)
            .with_context(|| format!("no sandbox of pod {name}"))?;
        let list: Containers = self.ask("ListContainers", Empty {})?;
        let container = list.items.into_iter().find(|one| one.sandbox == sandbox);
        let container = container
            .with_context(|| format!("no container in pod {name}"))?
            .id;
        Ok(Pod { sandbox, container })
    }
}
