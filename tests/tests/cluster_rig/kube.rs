// SPDX-License-Identifier: Apache-2.0
//! Real kube-apiserver over etcd, and a kubelet over the node's containerd.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use sluice_tests::{Netns, Process, run, wait_for};

use super::{IMAGE, Node};

/// Bearer token of the administrator.
pub(crate) const ADMIN: &str = "admin-token";
const PORT: u16 = 16443;

/// API server in the node's network namespace.
pub(crate) struct Cluster {
    dir: PathBuf,
    programs: PathBuf,
    etcd: Process,
    server: Option<Process>,
    kubelet: Option<Process>,
    sysctls: Vec<(&'static str, String)>,
}

/// Sysctls that the kubelet sets for the whole machine.
const SYSCTLS: [&str; 5] = [
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
];

impl Cluster {
    pub(crate) fn start(node: &Node, programs: &Path) -> Result<Cluster> {
        let dir = node.dir().join("kube");
        fs::create_dir_all(&dir)?;
        let mut command = node.netns.daemon("etcd");
        command
            .arg("--data-dir")
            .arg(dir.join("etcd"))
            .args(["--listen-client-urls", "http://127.0.0.1:2379"])
            .args(["--advertise-client-urls", "http://127.0.0.1:2379"])
            .args(["--listen-peer-urls", "http://127.0.0.1:2380"])
            .args(["--unsafe-no-fsync"]);
        let etcd = Process::start(logged(&mut command, &dir.join("etcd.log"))?)?;
        let key = dir.join("sa.key");
        run(Command::new("openssl")
            .args(["genrsa", "-out"])
            .arg(&key)
            .arg("2048"))?;
        let tokens = format!("{ADMIN},admin,1,system:masters\n");
        fs::write(dir.join("tokens.csv"), tokens)?;
        let mut cluster = Cluster {
            dir,
            programs: programs.to_owned(),
            etcd,
            server: None,
            kubelet: None,
            sysctls: Vec::new(),
        };
        cluster.serve(&node.netns)?;
        let admin = cluster.kubeconfig("admin", ADMIN)?;
        anyhow::ensure!(admin.exists(), "no kubeconfig");
        Ok(cluster)
    }

    /// Starts the API server (again).
    pub(crate) fn serve(&mut self, netns: &Netns) -> Result<()> {
        let at = |name: &str| self.dir.join(name).display().to_string();
        let mut command = netns.daemon(self.programs.join("kube-apiserver"));
        command
            .args([
                "--etcd-servers=http://127.0.0.1:2379",
                "--bind-address=127.0.0.1",
            ])
            .args([
                "--advertise-address=127.0.0.1",
                &format!("--secure-port={PORT}"),
            ])
            .arg(format!("--cert-dir={}", at("certs")))
            .arg(format!("--token-auth-file={}", at("tokens.csv")))
            .args([
                "--authorization-mode=RBAC",
                "--service-cluster-ip-range=10.96.0.0/16",
            ])
            .arg("--service-account-issuer=https://kubernetes.default.svc")
            .arg(format!(
                "--service-account-signing-key-file={}",
                at("sa.key")
            ))
            .arg(format!("--service-account-key-file={}", at("sa.key")))
            .args([
                "--disable-admission-plugins=ServiceAccount",
                "--endpoint-reconciler-type=none",
            ]);
        let log = self.dir.join("apiserver.log");
        self.server = Some(Process::start(logged(&mut command, &log)?)?);
        let ready = || {
            let answer = self.ask(netns, "GET", "/readyz", &Value::Null).ok()?;
            (answer.0 == 200).then_some(())
        };
        wait_for("kube-apiserver to be ready", Duration::from_secs(60), ready)
    }

    /// Kills the API server.
    pub(crate) fn kill(&mut self) {
        self.server = None;
    }

    /// Writes a kubeconfig for a token, atomically, as a program may be reading it at this moment.
    pub(crate) fn kubeconfig(&self, name: &str, token: &str) -> Result<PathBuf> {
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
    fn ask(&self, netns: &Netns, method: &str, path: &str, body: &Value) -> Result<(u16, Value)> {
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
    pub(crate) fn must(
        &self,
        netns: &Netns,
        method: &str,
        path: &str,
        body: &Value,
    ) -> Result<Value> {
        let (code, answer) = self.ask(netns, method, path, body)?;
        anyhow::ensure!(
            (200..300).contains(&code),
            "{method} {path}: {code} {answer}"
        );
        Ok(answer)
    }

    /// Creates an object at the collection of its kind and group.
    pub(crate) fn create(&self, netns: &Netns, object: &Value) -> Result<()> {
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
        let created = wait_for(&path, Duration::from_secs(15), || {
            let (code, answer) = self.ask(netns, "POST", &path, object).ok()?;
            said = format!("{code} {}", answer["message"]);
            (code == 201 || code == 409).then_some(())
        });
        created.with_context(|| said.clone())
    }

    /// Creates a NetworkAttachmentDefinition in namespace default, and its CRD if that is missing.
    pub(crate) fn network(&self, netns: &Netns, name: &str, conf: &Value) -> Result<()> {
        for object in super::deployed("crds.yaml") {
            self.create(netns, &object)?;
        }
        let nad = json!({"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
            "metadata": {"namespace": "default", "name": name},
            "spec": {"config": conf.to_string()}});
        self.create(netns, &nad)
    }

    pub(crate) fn pod(&self, netns: &Netns, namespace: &str, name: &str) -> Result<Value> {
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
        self.must(netns, "GET", &path, &Value::Null)
    }

    /// Lists the messages of a namespace's events with this reason.
    pub(crate) fn events(&self, netns: &Netns, namespace: &str, reason: &str) -> Vec<String> {
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
    pub(crate) fn token(&self, netns: &Netns, namespace: &str, account: &str) -> Result<String> {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"audiences": ["https://kubernetes.default.svc"]}});
        let answer = self.must(netns, "POST", &path, &request)?;
        let token = answer["status"]["token"].as_str().context("no token")?;
        Ok(token.to_owned())
    }

    /// Starts a kubelet named `node`.
    pub(crate) fn kubelet(&mut self, node: &Node) -> Result<()> {
        for key in SYSCTLS {
            if let Ok(value) = fs::read_to_string(Path::new("/proc/sys").join(key)) {
                self.sysctls.push((key, value));
            }
        }
        let config = json!({"kind": "KubeletConfiguration",
            "apiVersion": "kubelet.config.k8s.io/v1beta1", "cgroupDriver": "cgroupfs",
            "cgroupsPerQOS": false, "enforceNodeAllocatable": [], "failSwapOn": false,
            "makeIPTablesUtilChains": false, "authentication": {"anonymous": {"enabled": true},
            "webhook": {"enabled": false}}, "authorization": {"mode": "AlwaysAllow"},
            "readOnlyPort": 0, "address": "127.0.0.1", "syncFrequency": "2s",
            "evictionHard": {"memory.available": "1Mi"}});
        let file = self.dir.join("kubelet.json");
        fs::write(&file, config.to_string())?;
        let root = node.dir().join("kubelet");
        let mut command = node.netns.daemon(self.programs.join("kubelet"));
        command
            .arg("--config")
            .arg(&file)
            .arg("--kubeconfig")
            .arg(self.kubeconfig("admin", ADMIN)?)
            .arg("--root-dir")
            .arg(&root)
            .arg("--cert-dir")
            .arg(root.join("pki"))
            .args([
                "--container-runtime",
                "remote",
                "--container-runtime-endpoint",
            ])
            .arg(format!("unix://{}", node.socket().display()))
            .args([
                "--hostname-override",
                "node",
                "--pod-infra-container-image",
                IMAGE,
            ])
            .args(["--runtime-cgroups", "/", "--kubelet-cgroups", "/"]);
        let log = node.dir().join("kubelet.log");
        self.kubelet = Some(Process::start(logged(&mut command, &log)?)?);
        let ready = || {
            let node = self
                .must(&node.netns, "GET", "/api/v1/nodes/node", &Value::Null)
                .ok()?;
            let conditions = node["status"]["conditions"].as_array()?.clone();
            let mut ready = conditions.iter().filter(|one| one["type"] == "Ready");
            ready.any(|one| one["status"] == "True").then_some(())
        };
        wait_for("the kubelet to be ready", Duration::from_secs(60), ready)
    }

    /// Waits for a pod to run; the error holds its state.
    pub(crate) fn running(&self, netns: &Netns, namespace: &str, name: &str) -> Result<()> {
        let mut state = Value::Null;
        let runs = || {
            state = self.pod(netns, namespace, name).ok()?["status"].clone();
            (state["phase"] == "Running").then_some(())
        };
        let waited = wait_for("the pod to run", Duration::from_secs(60), runs);
        waited.with_context(|| format!("pod {namespace}/{name}: {state}"))
    }

    /// Deletes a pod and waits until it no longer exists.
    pub(crate) fn delete(&self, netns: &Netns, namespace: &str, name: &str) -> Result<()> {
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}?gracePeriodSeconds=1");
        self.must(netns, "DELETE", &path, &Value::Null)?;
        let gone = || self.pod(netns, namespace, name).is_err().then_some(());
        wait_for("the pod to be gone", Duration::from_secs(60), gone)
    }
}

fn logged<'a>(command: &'a mut Command, path: &Path) -> Result<&'a mut Command> {
    let log = fs::File::options().create(true).append(true).open(path)?;
    Ok(command
        .stdout(Stdio::from(log.try_clone()?))
        .stderr(Stdio::from(log)))
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.kubelet = None;
        self.server = None;
        self.etcd.kill();
        for (key, value) in &self.sysctls {
            let _ = fs::write(Path::new("/proc/sys").join(key), value);
        }
    }
}
