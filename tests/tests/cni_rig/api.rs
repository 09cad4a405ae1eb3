// SPDX-License-Identifier: Apache-2.0
//! Fake API server, for what the real one does not do on demand: any object at any path, and every kind of
//! failure. It listens in the host's network namespace.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::Host;

/// Failure of requests whose method and path contain a text.
#[derive(Clone, Debug)]
pub(crate) struct InjectedFailure {
    pub(crate) with: String,
    pub(crate) failure: Failure,
    /// Number of times it still happens; `u32::MAX` stands for ever.
    pub(crate) times: u32,
}

/// Way in which the fake API server fails a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Failure {
    /// Answers with this status code.
    Status(u16),
    /// Answers after this time.
    Sleeps(Duration),
    /// Answers with this status code, `Content-Type` or `Location`, and body.
    Says(u16, &'static str, &'static str),
}

#[derive(Default)]
pub(crate) struct World {
    /// Objects by path.
    pub(crate) objects: BTreeMap<String, Value>,
    pub(crate) trouble: Vec<InjectedFailure>,
    /// Requests in order, as `GET /api/v1/...`.
    pub(crate) requests: Vec<String>,
    /// Reason and message of each event.
    pub(crate) events: Vec<(String, String)>,
}

/// Running fake API server. It ends on drop.
pub(crate) struct Api {
    world: Arc<Mutex<World>>,
    pub(crate) kubeconfig: PathBuf,
    _stop: oneshot::Sender<()>,
}

impl Api {
    pub(crate) fn start(host: &Host) -> Api {
        Api::start_at(host, "127.0.0.1")
    }

    /// Starts it at an address of the host.
    pub(crate) fn start_at(host: &Host, ip: &str) -> Api {
        let listen = || Ok(TcpListener::bind((ip, 0))?);
        let listener = host.netns.enter(listen).unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let world = Arc::new(Mutex::new(World::default()));
        let (stop, stopped) = oneshot::channel::<()>();
        let state = Arc::clone(&world);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let app = Router::new().fallback(serve).with_state(state);
                tokio::select! {
                    served = axum::serve(listener, app) => served.unwrap(),
                    _ = stopped => {}
                }
            });
        });
        let kubeconfig = host.dir().join("kubeconfig");
        let text = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": format!("http://{ip}:{port}")}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]});
        fs::write(&kubeconfig, text.to_string()).unwrap();
        Api {
            world,
            kubeconfig,
            _stop: stop,
        }
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// Creates a pod with these annotations; its UID is `uid-<name>`.
    pub(crate) fn pod(&self, namespace: &str, name: &str, annotations: Value) {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": namespace,
            "name": name, "uid": format!("uid-{name}"), "annotations": annotations}});
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
        self.world().objects.insert(path, pod);
    }

    /// Creates a `NetworkAttachmentDefinition` with this `spec`.
    pub(crate) fn nad(&self, namespace: &str, name: &str, annotations: Value, spec: Value) {
        let mut object = json!({"apiVersion": "k8s.cni.cncf.io/v1",
            "kind": "NetworkAttachmentDefinition", "metadata": {"namespace": namespace,
            "name": name, "annotations": annotations}});
        if !spec.is_null() {
            object["spec"] = spec;
        }
        let path = format!(
            "/apis/k8s.cni.cncf.io/v1/namespaces/{namespace}/network-attachment-definitions/{name}"
        );
        self.world().objects.insert(path, object);
    }

    /// Creates a `NetworkAttachmentDefinition` that holds its configuration.
    pub(crate) fn network(&self, name: &str, conf: &Value) {
        self.nad("ns", name, json!({}), json!({"config": conf.to_string()}));
    }

    /// Creates a `Network` of the older documents.
    pub(crate) fn old_network(&self, group: &str, namespace: &str, name: &str, body: Value) {
        let mut object = json!({"apiVersion": format!("{group}/v1"), "kind": "Network",
            "metadata": {"namespace": namespace, "name": name}});
        object
            .as_object_mut()
            .unwrap()
            .extend(body.as_object().unwrap().clone());
        let path = format!("/apis/{group}/v1/namespaces/{namespace}/networks/{name}");
        self.world().objects.insert(path, object);
    }

    /// Returns the current annotations of a pod.
    pub(crate) fn annotations(&self, namespace: &str, name: &str) -> Value {
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
        self.world().objects[&path]["metadata"]["annotations"].clone()
    }

    /// Returns the pod's network status.
    pub(crate) fn status(&self, namespace: &str, name: &str) -> Vec<Value> {
        let annotations = self.annotations(namespace, name);
        let text = annotations["k8s.v1.cni.cncf.io/network-status"].as_str();
        serde_json::from_str(text.unwrap_or("[]")).unwrap()
    }

    /// Makes the next `times` requests that contain `with` fail.
    pub(crate) fn trouble(&self, with: &str, failure: Failure, times: u32) {
        self.world().trouble.push(InjectedFailure {
            with: with.to_owned(),
            failure,
            times,
        });
    }

    pub(crate) fn calm(&self) {
        self.world().trouble.clear();
    }

    pub(crate) fn take_events(&self) -> Vec<(String, String)> {
        std::mem::take(&mut self.world().events)
    }

    pub(crate) fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut self.world().requests)
    }
}

async fn serve(State(world): State<Arc<Mutex<World>>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap_or_default();
    let line = format!("{} {}", parts.method, parts.uri.path());
    let trouble = {
        let mut world = world.lock().unwrap();
        world.requests.push(line.clone());
        let found = world
            .trouble
            .iter_mut()
            .find(|trouble| trouble.times > 0 && line.contains(&trouble.with));
        found.map(|trouble| {
            if trouble.times != u32::MAX {
                trouble.times -= 1;
            }
            trouble.failure
        })
    };
    match trouble {
        Some(Failure::Status(code)) => return refuse(code, "failure injected by the test"),
        Some(Failure::Sleeps(time)) => tokio::time::sleep(time).await,
        Some(Failure::Says(code, header, body)) => {
            let code = StatusCode::from_u16(code).unwrap();
            let name = if code.is_redirection() {
                "location"
            } else {
                "content-type"
            };
            return (code, [(name, header)], body).into_response();
        }
        None => {}
    }
    let mut world = world.lock().unwrap();
    answer(&mut world, &parts.method, parts.uri.path(), &body)
}

fn answer(world: &mut World, method: &Method, path: &str, body: &Bytes) -> Response {
    let sent: Value = serde_json::from_slice(body).unwrap_or_default();
    match *method {
        Method::GET => match world.objects.get(path) {
            Some(object) => object.to_string().into_response(),
            None => refuse(404, "not found"),
        },
        Method::PATCH => {
            let Some(object) = path
                .strip_suffix("/status")
                .and_then(|path| world.objects.get_mut(path))
            else {
                return refuse(404, "not found");
            };
            if sent["metadata"]["uid"] != object["metadata"]["uid"] {
                return refuse(409, "the UID differs");
            }
            let new = sent["metadata"]["annotations"].as_object().cloned();
            if let Some(there) = object["metadata"]["annotations"].as_object_mut() {
                there.extend(new.unwrap_or_default());
            }
            object.to_string().into_response()
        }
        Method::POST if path.ends_with("/events") => {
            let text = |key: &str| sent[key].as_str().unwrap_or_default().to_owned();
            world.events.push((text("reason"), text("message")));
            (StatusCode::CREATED, sent.to_string()).into_response()
        }
        _ => refuse(405, "no such method"),
    }
}

fn refuse(code: u16, message: &str) -> Response {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": "Test", "code": code});
    let code = StatusCode::from_u16(code).unwrap();
    (code, status.to_string()).into_response()
}
