// SPDX-License-Identifier: Apache-2.0
//! Client of a cluster's API server, with the administrator's rights.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::kube::{ADMIN, PORT};
use crate::{Netns, wait_for};

/// Client of a cluster's API server. The server is reached from the node's network namespace.
#[derive(Debug)]
pub struct Api {
    /// Folder with the cluster's certificates.
    dir: PathBuf,
    patience: Duration,
}

impl Api {
    /// Creates the client of the API server whose folder is `dir`.
    pub fn new(dir: &Path, patience: Duration) -> Api {
        Api {
            dir: dir.to_owned(),
            patience,
        }
    }

    /// Writes a kubeconfig for a token, atomically, as a program may be reading it at this moment.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn kubeconfig(&self, name: &str, token: &str) -> Result<PathBuf> {
        let path = self.dir.join(format!("{name}.kubeconfig"));
        let ca = self.dir.join("certs/apiserver.crt");
        let text = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"certificate-authority": ca,
                "server": format!("https://127.0.0.1:{PORT}")}}],
            "users": [{"name": "u", "user": {"token": token}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]});
        let whole = tempfile::NamedTempFile::new_in(&self.dir)?;
        fs::write(whole.path(), text.to_string())?;
        whole.persist(&path)?;
        Ok(path)
    }

    /// Makes a request with the administrator's rights and returns status code and body.
    ///
    /// # Errors
    /// The server does not answer.
    pub(super) fn ask(
        &self,
        netns: &Netns,
        method: &str,
        path: &str,
        body: &Value,
    ) -> Result<(u16, Value)> {
        let kubeconfig = self.kubeconfig("admin", ADMIN)?;
        netns.enter(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                let file = ::kube::config::Kubeconfig::read_from(&kubeconfig)?;
                let mut config =
                    ::kube::Config::from_custom_kubeconfig(file, &Default::default()).await?;
                config.default_retry = false;
                let client = ::kube::Client::try_from(config)?;
                let kind = match method {
                    "PATCH" => "application/merge-patch+json",
                    _ => "application/json",
                };
                let request = tonic::codegen::http::Request::builder()
                    .method(method)
                    .uri(path)
                    .header("content-type", kind)
                    .body(if body.is_null() {
                        Vec::new()
                    } else {
                        body.to_string().into_bytes()
                    })?;
                let answer = client.send(request.map(Into::into)).await?;
                let code = answer.status().as_u16();
                let bytes = answer.into_body().collect().await?.to_bytes();
                Ok((code, serde_json::from_slice(&bytes).unwrap_or_default()))
            })
        })
    }

    /// Makes a request that must succeed, and returns its body.
    ///
    /// # Errors
    /// The server does not answer, or refuses.
    pub fn must(&self, netns: &Netns, method: &str, path: &str, body: &Value) -> Result<Value> {
        let (code, answer) = self.ask(netns, method, path, body)?;
        anyhow::ensure!(
            (200..300).contains(&code),
            "{method} {path}: {code} {answer}"
        );
        Ok(answer)
    }

    /// Creates an object at the collection of its kind and group.
    ///
    /// # Errors
    /// It was not created in time; the error says what the server answered.
    pub fn create(&self, netns: &Netns, object: &Value) -> Result<()> {
        let version = object["apiVersion"].as_str().context("apiVersion")?;
        let kind = object["kind"].as_str().context("kind")?.to_lowercase();
        let plural = match kind.as_str() {
            "networkattachmentdefinition" => "network-attachment-definitions".to_owned(),
            kind => format!("{kind}s"),
        };
        let root = if version == "v1" {
            "/api/v1".to_owned()
        } else {
            format!("/apis/{version}")
        };
        let path = match object["metadata"]["namespace"].as_str() {
            Some(namespace) => format!("{root}/namespaces/{namespace}/{plural}"),
            None => format!("{root}/{plural}"),
        };
        // A CRD's path is served a moment after the CRD is there.
        let mut said = String::new();
        let created = wait_for(&path, self.patience / 4, || {
            let (code, answer) = self.ask(netns, "POST", &path, object).ok()?;
            said = format!("{code} {}", answer["message"]);
            (code == 201 || code == 409).then_some(())
        });
        created.with_context(|| said.clone())
    }

    /// Creates a NetworkAttachmentDefinition in namespace default, and its CRD if that is missing.
    ///
    /// # Errors
    /// As [`Api::create`].
    pub fn network(&self, netns: &Netns, name: &str, conf: &Value) -> Result<()> {
        for object in super::deployed("crds.yaml")? {
            self.create(netns, &object)?;
        }
        let nad = json!({"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
            "metadata": {"namespace": "default", "name": name},
            "spec": {"config": conf.to_string()}});
        self.create(netns, &nad)
    }

    /// Reads a pod.
    ///
    /// # Errors
    /// As [`Api::must`]: there may be none.
    pub fn pod(&self, netns: &Netns, namespace: &str, name: &str) -> Result<Value> {
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
        self.must(netns, "GET", &path, &Value::Null)
    }

    /// Lists the messages of a namespace's events with this reason.
    pub fn events(&self, netns: &Netns, namespace: &str, reason: &str) -> Vec<String> {
        let path = format!("/api/v1/namespaces/{namespace}/events");
        let list = self
            .must(netns, "GET", &path, &Value::Null)
            .unwrap_or_default();
        let items = list["items"].as_array().cloned().unwrap_or_default();
        items
            .iter()
            .filter(|event| event["reason"] == reason)
            .map(|event| event["message"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    /// Requests a token of a service account.
    ///
    /// # Errors
    /// The server does not answer, or refuses.
    pub fn token(&self, netns: &Netns, namespace: &str, account: &str) -> Result<String> {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"audiences": ["https://kubernetes.default.svc"]}});
        let answer = self.must(netns, "POST", &path, &request)?;
        let token = answer["status"]["token"].as_str().context("no token")?;
        Ok(token.to_owned())
    }

    /// Waits for a pod to run; the error holds its state.
    ///
    /// # Errors
    /// It does not run in time.
    pub fn running(&self, netns: &Netns, namespace: &str, name: &str) -> Result<()> {
        let mut state = Value::Null;
        let runs = || {
            state = self.pod(netns, namespace, name).ok()?["status"].clone();
            (state["phase"] == "Running").then_some(())
        };
        let waited = wait_for("the pod to run", self.patience, runs);
        waited.with_context(|| format!("pod {namespace}/{name}: {state}"))
    }

    /// Deletes a pod and waits until it no longer exists.
    ///
    /// # Errors
    /// It cannot be deleted, or stays.
    pub fn delete(&self, netns: &Netns, namespace: &str, name: &str) -> Result<()> {
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}?gracePeriodSeconds=1");
        self.must(netns, "DELETE", &path, &Value::Null)?;
        let gone = || self.pod(netns, namespace, name).is_err().then_some(());
        wait_for("the pod to be gone", self.patience, gone)
    }
}
