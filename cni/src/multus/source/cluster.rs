// SPDX-License-Identifier: Apache-2.0
//! The API server: pods, objects, annotations, events. Every question is bounded in time and asked again
//! where that may help; what remains is told as a CNI error that says what to do.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod as ApiPod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Client;
use kube::api::{
    Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams,
};
use kube::client::AuthError;
use serde_json::{Map, Value, json};

use super::credentials::Credentials;
use super::proxy::Proxy;
use super::transport::{ProxyError, StrangeAnswer};
use super::unauthorized::Origin;
use super::{chain, credentials, transport};
use crate::Error;
use crate::spec::budget::Budget;
use crate::spec::log::Log;

/// Time limit of one request.
const PATIENCE: Duration = Duration::from_secs(4);
/// Time limit of all requests of one call together: the delegates need their time too.
const ALL: Duration = Duration::from_secs(20);
/// First pause before asking again; it doubles.
const PAUSE: Duration = Duration::from_millis(100);
/// Number of attempts at one request.
const TRIES: u32 = 6;

/// Pod as the API server or the runtime knows it.
#[derive(Debug, Clone, Default)]
pub(in crate::multus) struct Pod {
    /// Kubernetes namespace.
    pub(in crate::multus) namespace: String,
    /// Pod name.
    pub(in crate::multus) name: String,
    /// Pod UID; empty if unknown.
    pub(in crate::multus) uid: String,
    /// Annotations by key.
    pub(in crate::multus) annotations: BTreeMap<String, String>,
}

impl Pod {
    /// `namespace/name`.
    pub(in crate::multus) fn who(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Whether it is the API's picture of a pod that the kubelet has from a file: its UID is another
    /// one than the kubelet's.
    pub(in crate::multus) fn is_static(&self) -> bool {
        self.annotations.contains_key("kubernetes.io/config.mirror")
    }
}

/// A connection to the API server.
pub(in crate::multus) struct Cluster {
    runtime: tokio::runtime::Runtime,
    client: Client,
    /// Time for what is asked before the delegates run.
    budget: Budget,
    /// Time of the whole call.
    call: Budget,
    url: String,
    origin: Origin,
}

/// Makes a client for a program that stays: with the credentials of a kubeconfig or, without one, of the pod's
/// service account, whose token it reads again when it changes. Nothing is asked yet.
///
/// # Errors
/// [`Error::Config`]: the credentials cannot be read or make no sense.
pub async fn api_client(kubeconfig: Option<&Path>) -> Result<Client, Error> {
    let Credentials {
        mut config,
        proxy,
        origin,
    } = credentials::read(kubeconfig).await?;
    if config.auth_info.token_file.is_some() {
        // The file counts from here on, not what it held.
        config.auth_info.token = None;
    }
    config.connect_timeout = Some(PATIENCE);
    transport::client(config, proxy).map_err(|error| {
        let from = &origin.name;
        Error::Config(format!(
            "{from}: no client can be made of it: {}",
            told(&error)
        ))
    })
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// Reason why a request failed.
#[derive(Debug)]
enum Refusal {
    /// Object not found (HTTP 404).
    Absent,
    /// Failure that a retry within this call does not mend.
    Final(Error),
    /// Temporary failure: a retry may succeed, at the earliest after the time that the server named.
    Passing(Error, Option<Duration>),
}

impl Cluster {
    /// With the credentials of a kubeconfig, or, without one, of the service account of the pod that
    /// this process runs in.
    ///
    /// # Errors
    /// [`Error::Config`]: they cannot be read or make no sense.
    pub(in crate::multus) fn connect(
        kubeconfig: Option<&Path>,
        budget: Budget,
    ) -> Result<Cluster, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Error::Internal(format!("no async runtime: {error}")))?;
        let Credentials {
            mut config,
            proxy,
            origin,
        } = runtime.block_on(credentials::read(kubeconfig))?;
        // Read once: the call is over before a file changes.
        config.auth_info.token_file = None;
        let url = config.cluster_url.to_string();
        let call = budget;
        let budget = call.share(2).at_most(ALL);
        // Short enough that who is silent is named before the time is over.
        let limit = budget.left().mul_f32(0.4);
        config.connect_timeout = Some(limit.min(PATIENCE / 2));
        let made = make_client(&runtime, config, proxy, budget).ok_or_else(|| {
            Error::TryAgain("the credential program of the kubeconfig does not end".into())
        })?;
        let client = made.map_err(|error| {
            let from = &origin.name;
            Error::Config(format!(
                "{from}: no client can be made of it: {}",
                told(&error)
            ))
        })?;
        Ok(Cluster {
            runtime,
            client,
            budget,
            call,
            url,
            origin,
        })
    }

    /// A pod; `None` if there is none.
    ///
    /// # Errors
    /// See [`Cluster::ask`].
    pub(in crate::multus) fn pod(&self, namespace: &str, name: &str) -> Result<Option<Pod>, Error> {
        let pods: Api<ApiPod> = Api::namespaced(self.client.clone(), namespace);
        let what = format!("get pod {namespace}/{name}");
        let Some(pod) = self.ask(&what, async || pods.get(name).await)? else {
            return Ok(None);
        };
        Ok(Some(Pod {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: pod.metadata.uid.unwrap_or_default(),
            annotations: pod.metadata.annotations.unwrap_or_default(),
        }))
    }

    /// A namespaced object of a custom kind; `None` if there is none, or no such kind.
    ///
    /// # Errors
    /// See [`Cluster::ask`].
    pub(in crate::multus) fn object(
        &self,
        (group, plural, kind): (&str, &str, &str),
        namespace: &str,
        name: &str,
    ) -> Result<Option<Map<String, Value>>, Error> {
        let kind = GroupVersionKind::gvk(group, "v1", kind);
        let resource = ApiResource::from_gvk_with_plural(&kind, plural);
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), namespace, &resource);
        let what = format!("get {plural}.{group} {namespace}/{name}");
        let Some(object) = self.ask(&what, async || api.get(name).await)? else {
            return Ok(None);
        };
        match serde_json::to_value(object) {
            Ok(Value::Object(map)) => Ok(Some(map)),
            _ => Err(Error::Internal(format!(
                "{what}: the answer is not an object"
            ))),
        }
    }

    /// Sets annotations of a pod. The delegates may have taken their time before: this has what is left of the
    /// call, and time for one attempt in any case.
    ///
    /// # Errors
    /// See [`Cluster::ask`]; [`Error::TryAgain`] if the pod is gone.
    pub(in crate::multus) fn annotate(
        &self,
        pod: &Pod,
        annotations: &Map<String, Value>,
    ) -> Result<(), Error> {
        let pods: Api<ApiPod> = Api::namespaced(self.client.clone(), &pod.namespace);
        // The UID makes it a conflict if another pod has the name by now.
        let mut metadata = json!({"annotations": annotations});
        if !pod.uid.is_empty() {
            metadata["uid"] = pod.uid.as_str().into();
        }
        let patch = Patch::Merge(json!({"metadata": metadata}));
        let what = format!("patch pods/status of {}", pod.who());
        let params = PatchParams::default();
        let budget = match self.call.at_most(ALL) {
            enough if enough.left() > PATIENCE => enough,
            _ => Budget::of(PATIENCE),
        };
        let patched = self.ask_within(budget, &what, async || {
            pods.patch_status(&pod.name, &params, &patch).await
        })?;
        patched
            .map(|_| ())
            .ok_or_else(|| Error::TryAgain(format!("{what}: the pod is gone")))
    }

    /// Tells people what went wrong, on the pod. That this fails too is only logged.
    pub(in crate::multus) fn event(&self, pod: &Pod, reason: &str, message: &str, log: &Log) {
        let events: Api<Event> = Api::namespaced(self.client.clone(), &pod.namespace);
        let now = Time(k8s_openapi::jiff::Timestamp::now());
        let nanos = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_nanos());
        // 1024 bytes are what the API takes.
        let mut text: String = message.to_owned();
        while text.len() > 1_000 {
            text.pop();
        }
        let event = Event {
            metadata: ObjectMeta {
                name: Some(format!("{}.{nanos:x}", pod.name)),
                namespace: Some(pod.namespace.clone()),
                ..ObjectMeta::default()
            },
            involved_object: ObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Pod".into()),
                name: Some(pod.name.clone()),
                namespace: Some(pod.namespace.clone()),
                uid: Some(pod.uid.clone()).filter(|uid| !uid.is_empty()),
                ..ObjectReference::default()
            },
            type_: Some("Warning".into()),
            reason: Some(reason.into()),
            message: Some(text),
            source: Some(EventSource {
                component: Some("sluicegate".into()),
                host: None,
            }),
            first_timestamp: Some(now.clone()),
            last_timestamp: Some(now),
            count: Some(1),
            ..Event::default()
        };
        let params = PostParams::default();
        let what = format!("create an event on {}", pod.who());
        // Once only, and briefly: the pod's failure must be told now.
        let once =
            async { tokio::time::timeout(PATIENCE / 2, events.create(&params, &event)).await };
        match self.runtime.block_on(once) {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => log.error(format_args!("{what}: {}", chain(&error))),
            Err(_) => log.error(format_args!("{what}: no answer")),
        }
    }

    /// Asks until there is an answer, the answer is final, or the time is over. `None`: there is no such
    /// thing.
    ///
    /// # Errors
    /// [`Error::TryAgain`] where asking later helps: no connection, no answer, 409, 429, 5xx, and a 401 of
    /// credentials that somebody renews. [`Error::Config`] where it does not: any other 401, 403, 400, 422.
    fn ask<T>(
        &self,
        what: &str,
        question: impl AsyncFn() -> kube::Result<T>,
    ) -> Result<Option<T>, Error> {
        self.ask_within(self.budget, what, question)
    }

    fn ask_within<T>(
        &self,
        budget: Budget,
        what: &str,
        question: impl AsyncFn() -> kube::Result<T>,
    ) -> Result<Option<T>, Error> {
        let mut pause = PAUSE;
        let mut earlier = None;
        for last in (0..TRIES).rev().map(|left| left == 0) {
            let patience = budget.at_most(PATIENCE).left();
            let answer = self
                .runtime
                .block_on(async { tokio::time::timeout(patience, question()).await });
            let refusal = match answer {
                Ok(Ok(value)) => return Ok(Some(value)),
                Ok(Err(error)) => self.refusal(what, &error),
                // What was told before says more than the rest of the time that was waited.
                Err(_) => Refusal::Passing(
                    earlier.take().unwrap_or_else(|| {
                        Error::TryAgain(format!(
                            "{what}: {} gave no answer in {:.1} s",
                            self.url,
                            patience.as_secs_f64()
                        ))
                    }),
                    None,
                ),
            };
            match refusal {
                Refusal::Absent => return Ok(None),
                Refusal::Final(error) => return Err(error),
                Refusal::Passing(error, wait) => {
                    let wait = wait.unwrap_or(pause);
                    if last || wait >= budget.left() {
                        return Err(error);
                    }
                    std::thread::sleep(wait);
                    pause *= 2;
                    earlier = Some(error);
                }
            }
        }
        Err(Error::TryAgain(format!("{what}: no time was left")))
    }

    fn refusal(&self, what: &str, error: &kube::Error) -> Refusal {
        let kube::Error::Api(status) = error else {
            let said = told(error);
            return match trouble(error) {
                Trouble::Final(verb) => {
                    Refusal::Final(Error::Config(format!("{what}: {}{verb}: {said}", self.url)))
                }
                Trouble::Passing(verb) => Refusal::Passing(
                    Error::TryAgain(format!("{what}: {} {verb}: {said}", self.url)),
                    None,
                ),
            };
        };
        let said = format!(
            "{what}: {} said {} {}",
            self.url, status.code, status.message
        );
        match status.code {
            404 => Refusal::Absent,
            401 => match self.origin.judge(&said, SystemTime::now()) {
                (error, true) => Refusal::Passing(error, None),
                (error, false) => Refusal::Final(error),
            },
            403 => Refusal::Final(Error::Config(format!(
                "{said}: the user of kubeconfig lacks the right: see deploy/base/rbac.yaml"
            ))),
            409 | 429 | 500..=599 => {
                let seconds = status.details.as_ref().map(|d| d.retry_after_seconds);
                let wait = seconds.filter(|seconds| *seconds > 0);
                Refusal::Passing(
                    Error::TryAgain(said),
                    wait.map(|seconds| Duration::from_secs(seconds.into())),
                )
            }
            _ => Refusal::Final(Error::Config(said)),
        }
    }
}

/// Makes a client, on a thread of its own: a program that gives credentials may hang. `None`: it does.
fn make_client(
    runtime: &tokio::runtime::Runtime,
    config: kube::Config,
    proxy: Option<Proxy>,
    budget: Budget,
) -> Option<kube::Result<Client>> {
    let (send, receive) = mpsc::channel();
    let handle = runtime.handle().clone();
    std::thread::spawn(move || {
        let _within = handle.enter();
        // Nobody listens any more where the time was over.
        let _ = send.send(transport::client(config, proxy));
    });
    receive.recv_timeout(budget.left()).ok()
}

/// Kind of a failure without an answer of the API, with the words that tell it.
enum Trouble {
    /// No retry mends it.
    Final(&'static str),
    /// A retry may mend it.
    Passing(&'static str),
}

fn trouble(error: &kube::Error) -> Trouble {
    if let Some(strange) = cause::<StrangeAnswer>(error) {
        return match strange {
            StrangeAnswer::Redirect { .. } | StrangeAnswer::Page { .. } => Trouble::Final(""),
        };
    }
    if let Some(ProxyError::Refused { code, .. }) = cause::<ProxyError>(error) {
        return match code {
            400..=499 => Trouble::Final(" is not reached"),
            _ => Trouble::Passing("is not reached"),
        };
    }
    if cause::<rustls::Error>(error).is_some() {
        return Trouble::Final(" and the credentials do not go together");
    }
    match error {
        kube::Error::Auth(_) => Trouble::Final(" cannot be asked"),
        kube::Error::SerdeError(wrong) if !wrong.is_eof() => {
            Trouble::Final(" answers with something else than the object")
        }
        kube::Error::SerdeError(_) => Trouble::Passing("cuts its answer short"),
        _ => Trouble::Passing("does not answer"),
    }
}

/// An error of a kind among the causes of another one, those that I/O errors wrap included.
fn cause<E: std::error::Error + 'static>(error: &kube::Error) -> Option<&E> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        let wrapped = error.downcast_ref::<std::io::Error>();
        if let Some(inner) = wrapped.and_then(std::io::Error::get_ref) {
            next = Some(inner);
            continue;
        }
        next = error.source();
    }
    None
}

/// A failure in words. Programs that give credentials are quoted.
fn told(error: &kube::Error) -> String {
    let quoted = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        let text = text.trim();
        let end = text
            .char_indices()
            .nth(1_000)
            .map_or(text.len(), |(at, _)| at);
        text[..end].to_owned()
    };
    match error {
        kube::Error::Auth(AuthError::AuthExecRun { cmd, out }) => {
            let said = [quoted(&out.stderr), quoted(&out.stdout)]
                .into_iter()
                .find(|said| !said.is_empty());
            format!(
                "the credential program {cmd:?} failed ({}): {}",
                out.status,
                said.unwrap_or_else(|| "it said nothing".to_owned())
            )
        }
        kube::Error::Auth(AuthError::AuthExecStart(why)) => {
            format!("the credential program cannot be started: {why}")
        }
        error => chain(error),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn credentials_that_make_no_sense_name_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kubeconfig");
        let budget = Budget::of(Duration::from_secs(5));
        let connect = || Cluster::connect(Some(&path), budget).unwrap_err();
        assert_eq!(connect().code(), 7);
        std::fs::write(&path, "apiVersion: v1\nkind: Config\nclusters: 7\n").unwrap();
        let error = connect();
        assert_eq!(error.code(), 7);
        assert!(
            error.to_string().contains(path.to_str().unwrap()),
            "{error}"
        );
    }

    #[test]
    fn a_credential_program_that_fails_is_quoted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kubeconfig");
        let exec = json!({"apiVersion": "client.authentication.k8s.io/v1", "command": "/bin/sh",
            "args": ["-c", "echo token has expired >&2; exit 3"], "interactiveMode": "Never"});
        let text = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
            "users": [{"name": "u", "user": {"exec": exec}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]});
        std::fs::write(&path, text.to_string()).unwrap();
        let error = Cluster::connect(Some(&path), Budget::of(Duration::from_secs(5))).unwrap_err();
        assert_eq!(error.code(), 7);
        let said = error.to_string();
        assert!(said.contains("token has expired"), "{said}");
        assert!(!said.contains("Output {"), "{said}");
    }
}
