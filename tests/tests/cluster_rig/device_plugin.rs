//! A device plugin, as a vendor's: it tells a real kubelet of devices that are only names, through the
//! plugin registry below the kubelet's own directory, and lets it give them out.
//!
//! The messages are those of `k8s.io/kubelet/pkg/apis/pluginregistration/v1` and `deviceplugin/v1beta1`,
//! as far as they are needed.

use std::convert::Infallible;
use std::fs;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use anyhow::Result;
use futures_util::stream::{self, BoxStream, StreamExt};
use prost::Message;
use tokio::net::UnixListener;
use tokio::sync::oneshot;
use tonic::body::Body;
use tonic::codegen::http;
use tonic::server::{Grpc, NamedService, ServerStreamingService, UnaryService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

const VERSION: &str = "v1beta1";

#[derive(Clone, PartialEq, Message)]
struct Nothing {}

#[derive(Clone, PartialEq, Message)]
struct PluginInfo {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "3")]
    endpoint: String,
    #[prost(string, repeated, tag = "4")]
    versions: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Devices {
    #[prost(message, repeated, tag = "1")]
    devices: Vec<Device>,
}

#[derive(Clone, PartialEq, Message)]
struct Device {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "2")]
    health: String,
}

#[derive(Clone, PartialEq, Message)]
struct AllocateRequest {
    #[prost(message, repeated, tag = "1")]
    containers: Vec<Nothing>,
}

#[derive(Clone, PartialEq, Message)]
struct AllocateResponse {
    #[prost(message, repeated, tag = "1")]
    containers: Vec<Nothing>,
}

type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What the plugin has to give.
#[derive(Debug)]
struct Offer {
    resource: String,
    ids: Vec<String>,
}

/// `pluginregistration.Registration`: who the plugin is.
#[derive(Clone)]
struct Registration(Arc<Offer>);

impl NamedService for Registration {
    const NAME: &'static str = "pluginregistration.Registration";
}

impl UnaryService<Nothing> for Registration {
    type Response = PluginInfo;
    type Future = Later<Result<Response<PluginInfo>, Status>>;

    fn call(&mut self, _: Request<Nothing>) -> Self::Future {
        let info = PluginInfo {
            kind: "DevicePlugin".to_owned(),
            name: self.0.resource.clone(),
            endpoint: String::new(),
            versions: vec![VERSION.to_owned()],
        };
        Box::pin(async move { Ok(Response::new(info)) })
    }
}

/// `v1beta1.DevicePlugin`: the devices, for as long as the kubelet listens, and their allocation.
#[derive(Clone)]
struct Plugin(Arc<Offer>);

impl NamedService for Plugin {
    const NAME: &'static str = "v1beta1.DevicePlugin";
}

impl ServerStreamingService<Nothing> for Plugin {
    type Response = Devices;
    type ResponseStream = BoxStream<'static, Result<Devices, Status>>;
    type Future = Later<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, _: Request<Nothing>) -> Self::Future {
        let device = |id: &String| Device {
            id: id.clone(),
            health: "Healthy".to_owned(),
        };
        let devices = Devices {
            devices: self.0.ids.iter().map(device).collect(),
        };
        let said = stream::once(async move { Ok(devices) }).chain(stream::pending());
        Box::pin(async move { Ok(Response::new(said.boxed())) })
    }
}

impl UnaryService<AllocateRequest> for Plugin {
    type Response = AllocateResponse;
    type Future = Later<Result<Response<AllocateResponse>, Status>>;

    fn call(&mut self, request: Request<AllocateRequest>) -> Self::Future {
        let containers = request.into_inner().containers;
        Box::pin(async move { Ok(Response::new(AllocateResponse { containers })) })
    }
}

/// Answers with a message that says nothing.
#[derive(Clone)]
struct Silent;

impl UnaryService<Nothing> for Silent {
    type Response = Nothing;
    type Future = Later<Result<Response<Nothing>, Status>>;

    fn call(&mut self, _: Request<Nothing>) -> Self::Future {
        Box::pin(async move { Ok(Response::new(Nothing {})) })
    }
}

fn grpc<Out, In>() -> Grpc<ProstCodec<Out, In>>
where
    Out: Message + Default + 'static,
    In: Message + Default + 'static,
{
    Grpc::new(ProstCodec::default())
}

impl tower::Service<http::Request<Body>> for Registration {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Later<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            Ok(match request.uri().path().rsplit('/').next() {
                Some("GetInfo") => grpc().unary(this, request).await,
                _ => grpc().unary(Silent, request).await,
            })
        })
    }
}

impl tower::Service<http::Request<Body>> for Plugin {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Later<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            Ok(match request.uri().path().rsplit('/').next() {
                Some("ListAndWatch") => grpc().server_streaming(this, request).await,
                Some("Allocate") => {
                    let mut grpc = grpc::<AllocateResponse, AllocateRequest>();
                    grpc.unary(this, request).await
                }
                _ => grpc().unary(Silent, request).await,
            })
        })
    }
}

/// A running device plugin. It ends on drop.
pub(crate) struct DevicePlugin {
    _stop: oneshot::Sender<()>,
}

impl DevicePlugin {
    /// Registers `ids` as devices of `resource` with the kubelet whose directory is `dir`.
    pub(crate) fn start(dir: &Path, resource: &str, ids: &[&str]) -> Result<DevicePlugin> {
        let registry = dir.join("plugins_registry");
        fs::create_dir_all(&registry)?;
        let offer = Arc::new(Offer {
            resource: resource.to_owned(),
            ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        });
        let listener = std::os::unix::net::UnixListener::bind(registry.join("rig.sock"))?;
        listener.set_nonblocking(true)?;
        let (stop, stopped) = oneshot::channel::<()>();
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
                let serve = tonic::transport::Server::builder()
                    .add_service(Registration(Arc::clone(&offer)))
                    .add_service(Plugin(offer))
                    .serve_with_incoming(stream::unfold(listener, accept));
                tokio::select! {
                    served = serve => served.unwrap(),
                    _ = stopped => {}
                }
            });
        });
        Ok(DevicePlugin { _stop: stop })
    }
}
