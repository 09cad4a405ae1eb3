// SPDX-License-Identifier: Apache-2.0
//! Fake of the kubelet's pod-resources socket, with the messages of its public API.

use std::convert::Infallible;
use std::fs;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use tokio::net::UnixListener;
use tokio::sync::oneshot;
use tonic::body::Body;
use tonic::codegen::http;
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic_prost::ProstCodec;

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ListRequest {}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ListResponse {
    #[prost(message, repeated, tag = "1")]
    pub(crate) pods: Vec<PodResources>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PodResources {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) namespace: String,
    #[prost(message, repeated, tag = "3")]
    pub(crate) containers: Vec<ContainerResources>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ContainerResources {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(message, repeated, tag = "2")]
    pub(crate) devices: Vec<ContainerDevices>,
    /// Exclusive cores, which the plugin does not read: a field to be skipped.
    #[prost(int64, repeated, tag = "3")]
    pub(crate) cpu_ids: Vec<i64>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) claims: Vec<Claim>,
}

/// Resources of one ResourceClaim.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Claim {
    #[prost(string, tag = "2")]
    pub(crate) name: String,
    #[prost(string, tag = "3")]
    pub(crate) namespace: String,
    #[prost(message, repeated, tag = "4")]
    pub(crate) devices: Vec<ClaimedDevice>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ClaimedDevice {
    #[prost(message, repeated, tag = "1")]
    pub(crate) cdi: Vec<CdiDevice>,
    #[prost(string, tag = "2")]
    pub(crate) driver: String,
    #[prost(string, tag = "3")]
    pub(crate) pool: String,
    #[prost(string, tag = "4")]
    pub(crate) device: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct CdiDevice {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ContainerDevices {
    #[prost(string, tag = "1")]
    pub(crate) resource: String,
    #[prost(string, repeated, tag = "2")]
    pub(crate) ids: Vec<String>,
}

type Answer = Arc<Mutex<ListResponse>>;
type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Service `v1.PodResourcesLister`.
#[derive(Clone)]
struct Lister(Answer);

impl NamedService for Lister {
    const NAME: &'static str = "v1.PodResourcesLister";
}

impl UnaryService<ListRequest> for Lister {
    type Response = ListResponse;
    type Future = Later<Result<tonic::Response<ListResponse>, tonic::Status>>;

    fn call(&mut self, _: tonic::Request<ListRequest>) -> Self::Future {
        let answer = self.0.lock().unwrap().clone();
        Box::pin(async move { Ok(tonic::Response::new(answer)) })
    }
}

impl tower::Service<http::Request<Body>> for Lister {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Later<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let lister = self.clone();
        Box::pin(async move {
            if request.uri().path() != "/v1.PodResourcesLister/List" {
                return Ok(tonic::Status::unimplemented("only List").into_http());
            }
            let mut grpc = Grpc::new(ProstCodec::<ListResponse, ListRequest>::default());
            Ok(grpc.unary(lister, request).await)
        })
    }
}

/// Running fake kubelet. It ends on drop.
pub(crate) struct Kubelet {
    answer: Answer,
    _stop: oneshot::Sender<()>,
}

impl Kubelet {
    /// Starts a fake kubelet whose folder is `dir`.
    pub(crate) fn start(dir: &Path) -> Kubelet {
        let socket = dir.join("pod-resources/kubelet.sock");
        fs::create_dir_all(socket.parent().unwrap()).unwrap();
        let _ = fs::remove_file(&socket);
        let answer = Answer::default();
        let (stop, stopped) = oneshot::channel::<()>();
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        listener.set_nonblocking(true).unwrap();
        let lister = Lister(Arc::clone(&answer));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let listener = UnixListener::from_std(listener).unwrap();
                let accept = |listener: UnixListener| async move {
                    let accepted = listener.accept().await.map(|(stream, _)| stream);
                    Some((accepted, listener))
                };
                let incoming = futures_util::stream::unfold(listener, accept);
                let serve = tonic::transport::Server::builder()
                    .add_service(lister)
                    .serve_with_incoming(incoming);
                tokio::select! {
                    served = serve => served.unwrap(),
                    _ = stopped => {}
                }
            });
        });
        Kubelet {
            answer,
            _stop: stop,
        }
    }

    /// Adds pod `name` of namespace ns, with these (resource, ids) for each container.
    pub(crate) fn pod(&self, name: &str, containers: &[&[(&str, &[&str])]]) {
        let devices = |(resource, ids): &(&str, &[&str])| ContainerDevices {
            resource: (*resource).to_owned(),
            ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        };
        let containers = containers.iter().enumerate();
        let pod = PodResources {
            name: name.to_owned(),
            namespace: "ns".to_owned(),
            containers: containers
                .map(|(index, given)| ContainerResources {
                    name: format!("c{index}"),
                    devices: given.iter().map(devices).collect(),
                    cpu_ids: vec![1, 2],
                    claims: Vec::new(),
                })
                .collect(),
        };
        self.answer.lock().unwrap().pods.push(pod);
    }

    /// Adds pod `name` of namespace ns, whose one container has devices of a ResourceClaim.
    pub(crate) fn pod_with_claim(&self, name: &str, claim: &str, devices: &[&str]) {
        let device = |device: &&str| ClaimedDevice {
            cdi: vec![CdiDevice {
                name: format!("vf.example/vf={device}"),
            }],
            driver: "vf.example".to_owned(),
            pool: "node".to_owned(),
            device: (*device).to_owned(),
        };
        let claim = Claim {
            name: claim.to_owned(),
            namespace: "ns".to_owned(),
            devices: devices.iter().map(device).collect(),
        };
        let container = ContainerResources {
            name: "c".to_owned(),
            claims: vec![claim],
            ..ContainerResources::default()
        };
        self.answer.lock().unwrap().pods.push(PodResources {
            name: name.to_owned(),
            namespace: "ns".to_owned(),
            containers: vec![container],
        });
    }
}
