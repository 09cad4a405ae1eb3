// SPDX-License-Identifier: Apache-2.0
//! Client of the kubelet's sockets, and of a plugin's in its place: one call, one connection.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use hyper_util::rt::TokioIo;
use prost::Message;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Endpoint;
use tonic_prost::ProstCodec;

use super::messages::{
    AllocateRequest, AllocateResponse, Empty, ListPodResourcesResponse, RegisterRequest,
};

/// Time limit of one call: the kubelet answers from memory, and Allocate waits for a DEL for half as long.
const PATIENCE: Duration = Duration::from_secs(10);
/// Largest answer that is read, in bytes, which is what the kubelet's own client allows.
const LARGEST_ANSWER: usize = 16 << 20;

async fn call<Q, A>(socket: &Path, method: &'static str, request: Q) -> anyhow::Result<A>
where
    Q: Message + Default + 'static,
    A: Message + Default + 'static,
{
    let of = || format!("{}: {method}", socket.display());
    let path = socket.to_owned();
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move {
            tokio::net::UnixStream::connect(path)
                .await
                .map(TokioIo::new)
        }
    });
    let asked = async {
        let channel = Endpoint::from_static("http://localhost")
            .connect_with_connector(connector)
            .await?;
        let mut grpc = Grpc::new(channel).max_decoding_message_size(LARGEST_ANSWER);
        grpc.ready().await?;
        let codec = ProstCodec::<Q, A>::default();
        let path = PathAndQuery::from_static(method);
        let answer = grpc.unary(tonic::Request::new(request), path, codec).await;
        answer.map_err(|status| anyhow!("{}: {}", status.code(), status.message()))
    };
    let answer = tokio::time::timeout(PATIENCE, asked)
        .await
        .map_err(|_| anyhow!("no answer in {} s", PATIENCE.as_secs()))
        .and_then(|answer| answer)
        .with_context(of)?;
    Ok(answer.into_inner())
}

/// Registers a plugin at the kubelet.
///
/// # Errors
/// The kubelet does not answer, or refuses.
pub async fn register(socket: &Path, request: RegisterRequest) -> anyhow::Result<()> {
    call::<_, Empty>(socket, "/v1beta1.Registration/Register", request).await?;
    Ok(())
}

/// Calls Allocate of a plugin, as the kubelet does.
///
/// # Errors
/// The plugin does not answer, or refuses.
pub async fn allocate(socket: &Path, request: AllocateRequest) -> anyhow::Result<AllocateResponse> {
    call(socket, "/v1beta1.DevicePlugin/Allocate", request).await
}

/// Lists the devices of all pods of the node.
///
/// # Errors
/// The kubelet does not answer.
pub async fn pod_resources(socket: &Path) -> anyhow::Result<ListPodResourcesResponse> {
    call(socket, "/v1.PodResourcesLister/List", Empty {}).await
}
