// SPDX-License-Identifier: Apache-2.0
//! gRPC service `v1beta1.DevicePlugin`: the method's name picks the function, and tonic does the rest.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures_util::Stream;
use futures_util::stream::unfold;
use tokio::sync::watch;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::{Grpc, NamedService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use super::messages::{
    AllocateRequest, Device, DevicePluginOptions, Empty, ListAndWatchResponse,
    PreferredAllocationRequest,
};
use super::pool::Pool;

/// Device plugin of one pool, as one registration serves it.
#[derive(Debug, Clone)]
pub(super) struct DevicePlugin {
    /// Pool that is served.
    pub(super) pool: Arc<Pool>,
    /// Open streams of ListAndWatch.
    pub(super) streams: Streams,
    /// Becomes true when the registration is over: streams end.
    pub(super) over: watch::Receiver<bool>,
}

/// Number of open streams of ListAndWatch.
#[derive(Debug, Clone, Default)]
pub(super) struct Streams(Arc<AtomicUsize>);

/// Open stream; counted until it is dropped.
#[derive(Debug)]
struct OpenStream(Streams);

impl Streams {
    /// Whether the kubelet listens.
    pub(super) fn is_open(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    fn open(&self) -> OpenStream {
        self.0.fetch_add(1, Ordering::Relaxed);
        OpenStream(self.clone())
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Returns the abilities of the plugins, the same for all.
pub(super) fn options() -> DevicePluginOptions {
    DevicePluginOptions {
        pre_start_required: false,
        get_preferred_allocation_available: true,
    }
}

impl DevicePlugin {
    /// Streams the devices: at once, and after each change.
    fn list_and_watch(
        &self,
    ) -> impl Stream<Item = Result<ListAndWatchResponse, Status>> + Send + use<> {
        let devices = self.pool.watch();
        let state = (devices, self.over.clone(), self.streams.open(), true);
        unfold(state, async |(mut devices, mut over, open, first)| {
            if !first {
                tokio::select! {
                    changed = devices.changed() => changed.ok()?,
                    _ = over.wait_for(|over| *over) => return None,
                }
            }
            let devices_now: Vec<Device> = devices.borrow_and_update().clone();
            let answer = ListAndWatchResponse {
                devices: devices_now,
            };
            Some((Ok(answer), (devices, over, open, false)))
        })
    }
}

impl NamedService for DevicePlugin {
    const NAME: &'static str = "v1beta1.DevicePlugin";
}

impl Service<http::Request<Body>> for DevicePlugin {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let plugin = self.clone();
        Box::pin(async move {
            let pool = Arc::clone(&plugin.pool);
            let method = request.uri().path().rsplit('/').next().unwrap_or_default();
            tracing::debug!("{}: {method}", pool.spec.resource);
            let answer = match request.uri().path() {
                "/v1beta1.DevicePlugin/GetDevicePluginOptions" => {
                    let method =
                        tower::service_fn(async |_: Request<Empty>| Ok(Response::new(options())));
                    Grpc::new(ProstCodec::default())
                        .unary(method, request)
                        .await
                }
                "/v1beta1.DevicePlugin/ListAndWatch" => {
                    let method = tower::service_fn(move |_: Request<Empty>| {
                        let stream = plugin.list_and_watch();
                        async move { Ok(Response::new(stream)) }
                    });
                    Grpc::new(ProstCodec::default())
                        .server_streaming(method, request)
                        .await
                }
                "/v1beta1.DevicePlugin/GetPreferredAllocation" => {
                    let method =
                        tower::service_fn(move |asked: Request<PreferredAllocationRequest>| {
                            let pool = Arc::clone(&pool);
                            async move { Ok(Response::new(pool.preferred(&asked.into_inner()))) }
                        });
                    Grpc::new(ProstCodec::default())
                        .unary(method, request)
                        .await
                }
                "/v1beta1.DevicePlugin/Allocate" => {
                    let method = tower::service_fn(move |asked: Request<AllocateRequest>| {
                        let pool = Arc::clone(&pool);
                        async move { pool.allocate(asked.into_inner()).await.map(Response::new) }
                    });
                    Grpc::new(ProstCodec::default())
                        .unary(method, request)
                        .await
                }
                "/v1beta1.DevicePlugin/PreStartContainer" => {
                    let method = tower::service_fn(async |_: Request<super::messages::Ids>| {
                        Ok(Response::new(Empty {}))
                    });
                    Grpc::new(ProstCodec::default())
                        .unary(method, request)
                        .await
                }
                method => Status::unimplemented(format!("no method {method}")).into_http(),
            };
            Ok(answer)
        })
    }
}
