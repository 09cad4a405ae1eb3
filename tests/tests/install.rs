// SPDX-License-Identifier: Apache-2.0
//! The way of the plugins onto a node and off it: by the agent with a real API server and a real engine, by hand with
//! a real containerd, and what plugins say when the API server refuses their token.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod engine_rig;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sluice_tests::cluster::{Cluster, Node, Setup, deployed, programs_or_skip};
use sluice_tests::{Process, bin, run, wait_for};

const PATIENCE: Duration = Duration::from_secs(60);

/// Node with an engine that is not started, an API server with what deploy/ has, and an agent to be.
struct Lab {
    cluster: Cluster,
    engine: engine_rig::Node,
    programs: PathBuf,
}

impl Lab {
    fn new(case: &str) -> Option<Lab> {
        let programs = programs_or_skip(case)?;
        let engine = engine_rig::Node::new();
        let cluster =
            Cluster::serve_from(&engine.path("kube"), &engine.netns, PATIENCE, &programs).unwrap();
        for object in deployed("rbac.yaml")
            .unwrap()
            .iter()
            .chain(&deployed("crds.yaml").unwrap())
        {
            if object["metadata"]["name"] != "networks.kubernetes.com" {
                cluster.create(&engine.netns, object).unwrap();
            }
        }
        let lab = Lab {
            cluster,
            engine,
            programs,
        };
        for name in ["source", "bin", "net.d", "cni"] {
            fs::create_dir(lab.path(name)).unwrap();
        }
        for name in ["sluicegate", "sluicegate-vf"] {
            fs::copy(bin(name), lab.path("source").join(name)).unwrap();
        }
        lab.primary("10.88.0.0/24");
        let token = lab
            .cluster
            .token(&lab.engine.netns, "kube-system", "sluice-agent")
            .unwrap();
        let own = lab.cluster.kubeconfig("agent", &token).unwrap();
        let config = json!({"node": "node", "engine_socket": lab.engine.socket(), "run_dir": lab.path("run"),
            "kubeconfig": own, "install": {"source": lab.path("source"), "bin_dir": lab.path("bin"),
            "conf_dir": lab.path("net.d"), "state_dir": lab.path("installed"), "cni_dir": lab.path("cni"),
            "token_seconds": 600}});
        fs::write(lab.path("agent.yaml"), config.to_string()).unwrap();
        Some(lab)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.engine.path(name)
    }

    fn conf(&self) -> PathBuf {
        self.path("net.d/00-sluicegate.conflist")
    }

    fn kubeconfig(&self) -> PathBuf {
        self.path("net.d/sluicegate.d/sluicegate.kubeconfig")
    }

    /// Writes the configuration of the primary network, as its own installer does.
    fn primary(&self, subnet: &str) {
        let conf = json!({"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "bridge",
            "ipam": {"type": "host-local", "subnet": subnet}}]});
        fs::write(self.path("net.d/10-pods.conflist"), conf.to_string()).unwrap();
    }

    fn agent(&self, args: &[&str]) -> Command {
        let mut command = self.engine.netns.command(bin("sluice-agent"));
        command
            .arg("--config")
            .arg(self.path("agent.yaml"))
            .args(args);
        command
    }

    fn start(&self) -> Process {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("agent.log"))
            .unwrap();
        let mut command = self.agent(&[]);
        Process::start(
            command
                .stdin(Stdio::null())
                .stdout(log.try_clone().unwrap())
                .stderr(log),
        )
        .unwrap()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("agent.log")).unwrap_or_default()
    }

    fn wait<T>(&self, what: &str, check: impl FnMut() -> Option<T>) -> T {
        wait_for(what, PATIENCE, check).unwrap_or_else(|error| panic!("{error}\n{}", self.log()))
    }

    fn token(&self) -> Option<String> {
        let file: Value = serde_json::from_slice(&fs::read(self.kubeconfig()).ok()?).ok()?;
        file["users"][0]["user"]["token"]
            .as_str()
            .map(str::to_owned)
    }

    /// Puts another token into the kubeconfig.
    fn set_token(&self, token: &str) {
        let mut file: Value =
            serde_json::from_slice(&fs::read(self.kubeconfig()).unwrap()).unwrap();
        file["users"][0]["user"]["token"] = token.into();
        let new = self.path("new-kubeconfig");
        fs::write(&new, file.to_string()).unwrap();
        fs::rename(new, self.kubeconfig()).unwrap();
    }

    /// Calls ADD of the installed plugin for a pod that does not exist. Returns code and message: 11 and "knows no
    /// pod" where the API server takes the credentials.
    fn add(&self, kubeconfig: &Path) -> (u64, String) {
        let conf = json!({"cniVersion": "1.0.0", "name": "n", "type": "sluicegate", "kubeconfig": kubeconfig,
            "cniDir": self.path("cni"), "delegates": [{"type": "bridge"}]});
        let netns = self.engine.wire.path();
        let mut command = self.engine.netns.command(bin("sluicegate"));
        command.env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap());
        for (name, value) in [
            ("CNI_COMMAND", "ADD"),
            ("CNI_CONTAINERID", "c"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_PATH", "/usr/lib/cni"),
            ("CNI_NETNS", netns.to_str().unwrap()),
            (
                "CNI_ARGS",
                "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=nobody",
            ),
        ] {
            command.env(name, value);
        }
        let output = feed(&mut command, &conf.to_string());
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        (
            answer["code"].as_u64().unwrap(),
            answer["msg"].as_str().unwrap().to_owned(),
        )
    }
}

fn feed(command: &mut Command, input: &str) -> Output {
    let piped = || Stdio::piped();
    let mut child = command
        .stdin(piped())
        .stdout(piped())
        .stderr(piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    child.wait_with_output().unwrap()
}

fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

/// A token that nobody signed, issued and ending so many seconds from now.
fn unsigned(issued: i64, ends: i64) -> String {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    let now = i64::try_from(now.as_secs()).unwrap();
    let claims = json!({"iat": now + issued, "exp": now + ends}).to_string();
    format!("e30.{}.x", URL_SAFE_NO_PAD.encode(claims))
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            found.extend(files(&entry.path()));
        }
        found.push(entry.path());
    }
    found.sort();
    found
}

#[test]
fn the_agent_installs_last_of_all_the_conf_and_keeps_it() {
    let Some(lab) = Lab::new("the_agent_installs_last_of_all_the_conf_and_keeps_it") else {
        return;
    };
    let before = files(&lab.path("net.d"));
    let mut agent = lab.start();
    // Plugins and token are there, and the configuration waits for the engine.
    lab.wait("the agent to wait for the engine", || {
        lab.log().contains("once the engine is ready").then_some(())
    });
    assert!(lab.path("bin/sluicegate").exists() && lab.token().is_some() && !lab.conf().exists());
    let mut engine = lab.engine.start();
    lab.wait("the configuration", || lab.conf().exists().then_some(()));
    let conf: Value = serde_json::from_slice(&fs::read(lab.conf()).unwrap()).unwrap();
    assert_eq!(conf["name"], "pods");
    assert_eq!(
        conf["plugins"][0]["kubeconfig"],
        lab.kubeconfig().to_str().unwrap()
    );
    // The token is good, lasts as long as was asked for, and is bound to no pod.
    let (code, said) = lab.add(&lab.kubeconfig());
    assert!(code == 11 && said.contains("knows no pod"), "{said}");
    let of = claims(&lab.token().unwrap());
    assert_eq!(
        of["exp"].as_i64().unwrap() - of["iat"].as_i64().unwrap(),
        600
    );
    assert!(of["kubernetes.io"]["pod"].is_null(), "{of}");
    assert_eq!(of["kubernetes.io"]["serviceaccount"]["name"], "sluicegate");
    // The engine goes: nothing of it changes, whatever the primary network's installer does.
    engine.kill();
    lab.primary("10.99.0.0/24");
    lab.wait("the new primary network", || {
        fs::read_to_string(lab.conf())
            .unwrap()
            .contains("10.99.0.0")
            .then_some(())
    });
    // Somebody takes it away while there is no engine: written when one is ready again.
    fs::remove_file(lab.conf()).unwrap();
    std::thread::sleep(Duration::from_secs(5));
    assert!(!lab.conf().exists());
    let engine = lab.engine.start();
    lab.wait("the configuration again", || {
        lab.conf().exists().then_some(())
    });
    drop(engine);
    agent.terminate(PATIENCE).unwrap();
    assert!(lab.conf().exists(), "an agent that ends leaves it");
    let output = lab.agent(&["--uninstall"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(files(&lab.path("net.d")), before);
    assert!(files(&lab.path("bin")).is_empty() && !lab.path("installed").exists());
}

#[test]
fn the_token_is_renewed_in_time_and_outlives_an_api_server_that_is_away() {
    let case = "the_token_is_renewed_in_time_and_outlives_an_api_server_that_is_away";
    let Some(mut lab) = Lab::new(case) else {
        return;
    };
    let mut agent = lab.start();
    let first = lab.wait("a token", || lab.token());
    agent.kill();
    drop(agent);
    // At a start.
    std::thread::sleep(Duration::from_secs(1));
    let agent = lab.start();
    lab.wait("another token", || {
        lab.token().filter(|token| *token != first)
    });
    // At 80 % of its life, and not before. Only the claims are looked at.
    let young = unsigned(-400, 200);
    lab.set_token(&young);
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(lab.token().as_ref(), Some(&young));
    let old = unsigned(-500, 100);
    lab.set_token(&old);
    lab.wait("a renewal", || {
        lab.token().filter(|token| *token != old && *token != young)
    });
    // The API server is away: the old one stays, and is renewed when it is back.
    lab.cluster.kill();
    lab.set_token(&old);
    lab.wait("a failure", || {
        lab.log()
            .contains("the plugins' token was not renewed")
            .then_some(())
    });
    assert_eq!(lab.token().as_ref(), Some(&old));
    assert!(!lab.log().contains("has ended"), "{}", lab.log());
    lab.set_token(&unsigned(-700, -100));
    lab.wait("a problem", || {
        lab.log()
            .contains("has ended, and cannot be renewed")
            .then_some(())
    });
    lab.cluster.serve(&lab.engine.netns).unwrap();
    lab.wait("a token that is good", || {
        let (code, said) = lab.add(&lab.kubeconfig());
        (code == 11 && said.contains("knows no pod")).then_some(())
    });
    drop(agent);
}

#[test]
fn an_agent_that_is_killed_anywhere_goes_on_there() {
    let Some(lab) = Lab::new("an_agent_that_is_killed_anywhere_goes_on_there") else {
        return;
    };
    let _engine = lab.engine.start();
    // Nobody calls them here: small, so that the steps behind them come soon.
    for name in ["sluicegate", "sluicegate-vf"] {
        fs::write(lab.path("source").join(name), name.repeat(10_000)).unwrap();
    }
    let bin_before = files(&lab.path("bin"));
    let net_before = files(&lab.path("net.d"));
    for time in (0..24).map(|step| Duration::from_millis(step * 40)) {
        let mut agent = lab.start();
        std::thread::sleep(time);
        agent.kill();
        // Whatever is under its name is whole.
        for name in ["sluicegate", "sluicegate-vf"] {
            let path = lab.path("bin").join(name);
            let whole = fs::read(lab.path("source").join(name)).unwrap();
            assert!(
                !path.exists() || fs::read(&path).unwrap() == whole,
                "{time:?}"
            );
        }
        if lab.conf().exists() {
            let text = fs::read(lab.conf()).unwrap();
            assert!(serde_json::from_slice::<Value>(&text).is_ok(), "{time:?}");
            assert!(
                lab.token().is_some() && lab.path("bin/sluicegate").exists(),
                "{time:?}: the conf is last"
            );
        }
        if time.as_millis() % 80 == 0 {
            let output = lab.agent(&["--uninstall"]).output().unwrap();
            assert!(output.status.success(), "{time:?}: {output:?}");
            assert_eq!(files(&lab.path("bin")), bin_before, "{time:?}");
            assert_eq!(files(&lab.path("net.d")), net_before, "{time:?}");
        }
    }
    let _agent = lab.start();
    lab.wait("the configuration", || lab.conf().exists().then_some(()));
}

#[test]
fn the_agent_has_the_rights_that_it_uses_and_no_others() {
    let Some(lab) = Lab::new("the_agent_has_the_rights_that_it_uses_and_no_others") else {
        return;
    };
    let can = |verb: &str, what: &str, namespace: &str| {
        let mut kubectl = lab.engine.netns.command(lab.programs.join("kubectl"));
        kubectl
            .arg("--kubeconfig")
            .arg(lab.path("kube/agent.kubeconfig"));
        kubectl.args(["--namespace", namespace, "auth", "can-i", verb, what]);
        if what.starts_with("serviceaccount") {
            kubectl.args(["--subresource", "token"]);
        }
        let output = kubectl.output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim() == "yes"
    };
    assert!(can("create", "serviceaccounts/sluicegate", "kube-system"));
    for (verb, what, namespace) in [
        ("create", "serviceaccounts/sluice-agent", "kube-system"),
        ("create", "serviceaccounts/default", "kube-system"),
        ("create", "serviceaccounts/sluicegate", "default"),
        ("get", "secrets", "kube-system"),
    ] {
        assert!(!can(verb, what, namespace), "{verb} {what} in {namespace}");
    }
}

#[test]
fn a_token_that_is_refused_says_who_renews_it() {
    let Some(lab) = Lab::new("a_token_that_is_refused_says_who_renews_it") else {
        return;
    };
    let netns = &lab.engine.netns;
    let refused = |token: &str, age: u64| {
        let path = lab.cluster.kubeconfig("refused", token).unwrap();
        let then = SystemTime::now() - Duration::from_secs(age);
        fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(then)
            .unwrap();
        lab.add(&path)
    };
    let good = lab
        .cluster
        .token(netns, "kube-system", "sluicegate")
        .unwrap();
    let (code, said) = refused(&good, 3_600);
    assert!(code == 11 && said.contains("knows no pod"), "{said}");
    let mut forged = good.clone();
    forged.truncate(good.rfind('.').unwrap() + 1);
    forged.push_str("AAAA");
    let (code, said) = refused(&forged, 3_600);
    assert!(
        code == 7 && said.contains("401") && said.contains("renew"),
        "{said}"
    );
    let (code, said) = refused(&forged, 5);
    assert!(code == 11 && said.contains("may not know"), "{said}");
    // Of a pod: it ends with the pod, as in a rollout of whoever wrote the kubeconfig with it.
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "kube-system", "name": "writer"},
        "spec": {"serviceAccountName": "sluicegate", "containers": [{"name": "c", "image": "i"}]}});
    lab.cluster.create(netns, &pod).unwrap();
    let path = "/api/v1/namespaces/kube-system/serviceaccounts/sluicegate/token";
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {
        "audiences": ["https://kubernetes.default.svc"],
        "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "writer"}}});
    let answer = lab.cluster.must(netns, "POST", path, &request).unwrap();
    let bound = answer["status"]["token"].as_str().unwrap();
    let (code, said) = refused(bound, 3_600);
    assert!(code == 11 && said.contains("knows no pod"), "{said}");
    lab.cluster.delete(netns, "kube-system", "writer").unwrap();
    let told = lab.wait("the token to be refused", || {
        let (code, said) = refused(bound, 3_600);
        said.contains("401").then_some((code, said))
    });
    assert!(
        told.0 == 11 && told.1.contains("bound to pod kube-system/writer"),
        "{told:?}"
    );
}

#[test]
fn containerd_takes_an_installation_that_is_renamed_into_place() {
    let case = "containerd_takes_an_installation_that_is_renamed_into_place";
    if programs_or_skip(case).is_none() {
        return;
    }
    let primary = |dir: &Path| {
        json!({"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "bridge", "bridge": "cni0",
            "ipam": {"type": "host-local", "dataDir": dir.join("ipam"), "ranges": [[{"subnet": "10.88.0.0/24"}]]}}]})
    };
    let node = Node::start(Setup::new().unwrap(), primary).unwrap();
    let dir = node.dir();
    fs::rename(
        dir.join("net.d/10-sluicegate.conflist"),
        dir.join("net.d/10-pods.conflist"),
    )
    .unwrap();
    let source = dir.join("source");
    fs::create_dir(&source).unwrap();
    for name in ["sluicegate", "sluicegate-vf"] {
        fs::remove_file(dir.join("bin").join(name)).unwrap();
        fs::copy(bin(name), source.join(name)).unwrap();
    }
    let ctl = |args: &[&str]| {
        let mut command = Command::new(bin("sluicectl"));
        command
            .args(args)
            .arg("--state-dir")
            .arg(dir.join("installed"));
        command
    };
    let install = || {
        let mut command = ctl(&["install", "--json"]);
        command
            .arg("--source")
            .arg(&source)
            .arg("--bin-dir")
            .arg(dir.join("bin"));
        command.arg("--conf-dir").arg(dir.join("net.d"));
        command
            .arg("--set")
            .arg(format!("cniDir={}", dir.join("cni").display()));
        let text = run(&mut command).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()
    };
    let ours = || node.cri.network_conf().unwrap().contains("sluicegate");
    assert!(!ours());
    let changes = install();
    assert!(
        changes
            .as_array()
            .unwrap()
            .iter()
            .all(|change| change["done"] == "created"),
        "{changes}"
    );
    wait_for("containerd to take the configuration", PATIENCE, || {
        ours().then_some(())
    })
    .unwrap();
    let sandbox = node.cri.sandbox("p", &[]).unwrap();
    assert!(
        files(&dir.join("cni"))
            .iter()
            .any(|path| path.to_string_lossy().contains("eth0.json"))
    );
    // While it runs, the plugins may be installed anew.
    let changes = install();
    assert!(
        changes
            .as_array()
            .unwrap()
            .iter()
            .all(|change| change["done"] == "unchanged"),
        "{changes}"
    );
    let uninstall = || {
        let mut command = ctl(&["uninstall"]);
        command.arg("--cni-dir").arg(dir.join("cni"));
        command
    };
    // The primary network is its own plugin's to take away: such a pod is no obstacle.
    run(&mut uninstall()).unwrap();
    wait_for("containerd to leave the configuration", PATIENCE, || {
        (!ours()).then_some(())
    })
    .unwrap();
    node.cri.stop(&sandbox).unwrap();
    node.cri.remove(&sandbox).unwrap();
}
