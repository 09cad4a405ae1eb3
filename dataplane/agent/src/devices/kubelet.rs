// SPDX-License-Identifier: Apache-2.0
//! Registration of one pool at the kubelet, again and again: a kubelet that starts removes every socket in its folder
//! and knows nobody.
//!
//! The socket serves before Register is called, as the kubelet calls back before it answers. Register says only that
//! the call was good: if the kubelet cannot connect it gives up, and tells nobody. So a registration without an open
//! ListAndWatch counts as none after a while.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;

use super::PART;
use super::client;
use super::messages::{API_VERSION, RegisterRequest};
use super::pool::Pool;
use super::service::{DevicePlugin, Streams, options};
use super::spec::file_name;

/// Pause between two looks at the sockets.
const LOOK: Duration = Duration::from_millis(250);
/// Time for which a registration may be without an open ListAndWatch: the kubelet tries to connect for 10 s.
const WITHOUT_STREAM: Duration = Duration::from_secs(12);
/// Longest path of a unix socket in bytes.
const LONGEST_PATH: usize = 107;

/// File's identity: device, inode and moment of its last change. A file system hands an inode out again, so that the
/// inode alone takes a new socket for the old one.
type Identity = (u64, u64, i64, i64);

fn identity(path: &Path) -> Option<Identity> {
    let meta = fs::symlink_metadata(path).ok()?;
    Some((meta.dev(), meta.ino(), meta.ctime(), meta.ctime_nsec()))
}

/// Socket of a plugin, removed on drop if it is still the same.
#[derive(Debug)]
struct OwnSocket {
    path: PathBuf,
    identity: Option<Identity>,
    over: watch::Sender<bool>,
    server: tokio::task::AbortHandle,
}

impl OwnSocket {
    /// Whether the file at its path is this socket. The moment of its last change does not count: others may change
    /// its mode or label.
    fn is_there(&self) -> bool {
        let inode = |identity: Identity| (identity.0, identity.1);
        self.identity.is_some() && identity(&self.path).map(inode) == self.identity.map(inode)
    }
}

impl Drop for OwnSocket {
    fn drop(&mut self) {
        self.over.send_replace(true);
        self.server.abort();
        if self.is_there() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Serves one pool for good.
///
/// # Errors
/// The socket cannot be made.
pub(super) async fn serve(pool: Arc<Pool>, folder: PathBuf) -> anyhow::Result<()> {
    let resource = pool.spec.resource.clone();
    let context = Arc::clone(&pool.context);
    let kubelet = folder.join("kubelet.sock");
    let endpoint = format!("{}.sock", file_name(&resource));
    let path = folder.join(&endpoint);
    anyhow::ensure!(
        path.as_os_str().len() <= LONGEST_PATH,
        "the socket {} has a path of more than {LONGEST_PATH} bytes: give the resource a shorter name",
        path.display()
    );
    let say = |registered: bool| {
        context.devices.change(&resource, |status| {
            status.registered = registered;
        });
    };
    loop {
        say(false);
        while !kubelet.exists() {
            let problem = format!("there is no kubelet at {}", kubelet.display());
            context.health.bad(PART.name, problem);
            sleep(LOOK).await;
        }
        let before = identity(&kubelet);
        let streams = Streams::default();
        let own = listen(&pool, &path, &streams)?;
        let request = RegisterRequest {
            version: API_VERSION.to_owned(),
            endpoint: endpoint.clone(),
            resource_name: resource.clone(),
            options: Some(options()),
        };
        if let Err(error) = client::register(&kubelet, request).await {
            context.health.bad(
                PART.name,
                format!("{resource} is not registered: {error:#}"),
            );
            drop(own);
            sleep(LOOK * 4).await;
            continue;
        }
        context.devices.change(&resource, |status| {
            status.registrations_total += 1;
        });
        tracing::info!("{resource} is registered at {}", kubelet.display());
        let mut listened = Instant::now();
        let why = loop {
            let open = streams.is_open();
            say(open);
            if open {
                listened = Instant::now();
            }
            if !own.is_there() {
                break "its socket was removed, as a kubelet does when it starts";
            }
            if identity(&kubelet) != before {
                break "the kubelet has a new socket";
            }
            if listened.elapsed() > WITHOUT_STREAM {
                break "the kubelet does not listen";
            }
            sleep(LOOK).await;
        };
        tracing::info!("{resource} is registered again: {why}");
    }
}

/// Makes the socket and serves the pool on it.
fn listen(pool: &Arc<Pool>, path: &Path, streams: &Streams) -> anyhow::Result<OwnSocket> {
    let of = || format!("cannot make the socket {}", path.display());
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(of);
        }
        _ => {}
    }
    let listener = UnixListener::bind(path).with_context(of)?;
    let (over, is_over) = watch::channel(false);
    let plugin = DevicePlugin {
        pool: Arc::clone(pool),
        streams: streams.clone(),
        over: is_over,
    };
    let serving = Server::builder()
        .add_service(plugin)
        .serve_with_incoming(UnixListenerStream::new(listener));
    let resource = pool.spec.resource.clone();
    let server = tokio::spawn(async move {
        if let Err(error) = serving.await {
            tracing::error!("{resource}: the device plugin's server ended: {error}");
        }
    });
    Ok(OwnSocket {
        path: path.to_owned(),
        identity: identity(path),
        over,
        server: server.abort_handle(),
    })
}
