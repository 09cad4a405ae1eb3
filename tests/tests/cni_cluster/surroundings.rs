// SPDX-License-Identifier: Apache-2.0
//! The way to the API server: proxies, certificates and credentials, read as Go's client reads them, and answers that
//! no API server gives.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use sluice_tests::{Netns, Process, program_or_skip, run, wait_for};

use super::{Lab, canned};
use crate::cni_rig::api::{Api, Failure};
use crate::cni_rig::{Answer, Host};

const SERVER: &str = "10.96.0.1";
const EVER: u32 = u32::MAX;

/// A lab whose API server is not at a loopback address.
fn lab(case: &str) -> Option<Lab> {
    let host = Host::new(case)?;
    host.netns
        .ip(&["address", "add", "10.96.0.1/32", "dev", "lo"])
        .unwrap();
    let api = Api::start_at(&host, SERVER);
    host.fake_plugin("a", &canned("a"));
    let pod = Netns::new("pod").unwrap();
    let lab = Lab { host, api, pod };
    lab.api.pod("ns", "p", json!({}));
    Some(lab)
}

fn add(lab: &Lab, env: &[(&str, &str)]) -> Answer {
    let mut call = lab
        .host
        .pod_call("sluicegate", "ADD", "c-p", Some(&lab.pod), "eth0")
        .env(
            "CNI_ARGS",
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=p",
        )
        .conf(&lab.conf());
    for (name, value) in env {
        call = call.env(name, value);
    }
    let answer = call.run();
    lab.run("DEL", "p", &lab.conf()).ok();
    answer
}

/// Starts a proxy on the host that opens tunnels, or refuses them with a status line. Returns its address and
/// the number of tunnels so far.
fn proxy(host: &Host, refuses: Option<&'static str>) -> (String, Arc<AtomicUsize>) {
    let listener = host
        .netns
        .enter(|| Ok(TcpListener::bind("127.0.0.1:0")?))
        .unwrap();
    let address = format!("http://me:pass@{}", listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let tunnels = Arc::clone(&count);
    let netns = host.netns.path();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                client.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            let head = String::from_utf8(head).unwrap();
            assert!(
                head.contains("Proxy-Authorization: Basic bWU6cGFzcw=="),
                "{head}"
            );
            if let Some(line) = refuses {
                write!(client, "HTTP/1.1 {line}\r\n\r\n").unwrap();
                continue;
            }
            let to = head.split(' ').nth(1).unwrap().to_owned();
            let Ok(server) = connect(&netns, &to) else {
                return;
            };
            write!(client, "HTTP/1.1 200 Connection established\r\n\r\n").unwrap();
            tunnels.fetch_add(1, Ordering::Relaxed);
            for (mut from, mut to) in [
                (client.try_clone().unwrap(), server.try_clone().unwrap()),
                (server, client),
            ] {
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Write);
                });
            }
        }
    });
    (address, count)
}

/// Connects within a network namespace.
fn connect(netns: &std::path::Path, to: &str) -> std::io::Result<TcpStream> {
    std::thread::scope(|scope| {
        let work = scope.spawn(|| {
            let file = fs::File::open(netns)?;
            let kind = rustix::thread::LinkNameSpaceType::Network;
            rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), Some(kind))?;
            TcpStream::connect(to)
        });
        work.join().unwrap()
    })
}

#[test]
fn proxies_of_the_environment_are_taken_and_excepted() {
    let Some(lab) = lab("proxies_of_the_environment") else {
        return;
    };
    // The runtime has them for its images; nobody listens there.
    let nobody = "http://127.0.0.1:9";
    for list in ["10.96.0.0/12", "10.96.0.1", "*", "x, .svc, 10.0.0.0/8"] {
        add(
            &lab,
            &[
                ("HTTP_PROXY", nobody),
                ("HTTPS_PROXY", nobody),
                ("NO_PROXY", list),
            ],
        )
        .ok();
    }
    // It is for https alone.
    add(&lab, &[("HTTPS_PROXY", nobody)]).ok();
    let said = add(
        &lab,
        &[("http_proxy", nobody), ("no_proxy", "10.97.0.0/16")],
    )
    .refused(11);
    assert!(
        said.contains("proxy http://127.0.0.1:9/ (from HTTP_PROXY)"),
        "{said}"
    );
    let (there, tunnels) = proxy(&lab.host, None);
    add(&lab, &[("HTTP_PROXY", &there)]).ok();
    assert!(tunnels.load(Ordering::Relaxed) > 0);
    let (refuses, _) = proxy(&lab.host, Some("403 Forbidden"));
    let said = add(&lab, &[("HTTP_PROXY", &refuses)]).refused(7);
    assert!(
        said.contains("403 Forbidden") && said.contains("NO_PROXY"),
        "{said}"
    );
    assert!(!said.contains("pass"), "{said}");
    let said = add(&lab, &[("HTTP_PROXY", "socks5://127.0.0.1:1")]).refused(7);
    assert!(said.contains("socks5"), "{said}");
}

#[test]
fn answers_that_no_api_server_gives_are_told_as_what_they_are() {
    let Some(lab) = lab("answers_that_no_api_server_gives") else {
        return;
    };
    for (code, header, body, cni, told) in [
        (
            200,
            "text/html; charset=utf-8",
            "<html>",
            7,
            "a page of text/html",
        ),
        (403, "text/html", "<html>", 7, "a page of text/html"),
        (
            302,
            "https://login.example.com/",
            "",
            7,
            "https://login.example.com/",
        ),
        (
            200,
            "application/json",
            "[1, 2]",
            7,
            "something else than the object",
        ),
        (
            200,
            "application/json",
            "{\"kind\": \"Pod\", \"meta",
            11,
            "cuts its answer short",
        ),
    ] {
        lab.api
            .trouble("/pods/p", Failure::Says(code, header, body), EVER);
        lab.api.take_requests();
        let said = add(&lab, &[]).refused(cni);
        assert!(said.contains(told), "{said}");
        let asked = lab.api.take_requests();
        let pods = asked
            .iter()
            .filter(|line| line.starts_with("GET") && line.ends_with("/pods/p"));
        assert_eq!(
            pods.count() == 1,
            cni == 7,
            "what no retry mends is asked once: {asked:?}"
        );
        lab.api.calm();
    }
}

/// A server of TLS that knows no pod.
struct Tls {
    _server: Process,
    dir: std::path::PathBuf,
}

impl Tls {
    fn start(lab: &Lab, names: &str) -> Tls {
        let dir = lab.host.dir().join("tls");
        let _ = fs::remove_dir_all(&dir);
        let pods = dir.join("api/v1/namespaces/ns/pods");
        fs::create_dir_all(&pods).unwrap();
        let status = json!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "code": 404,
            "status": "Failure", "reason": "NotFound", "message": "no such pod"});
        let status = status.to_string();
        let answer = format!(
            "HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{status}",
            status.len()
        );
        fs::write(pods.join("p"), answer).unwrap();
        let mut make = Command::new("openssl");
        make.current_dir(&dir)
            .args(["req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=api"]);
        make.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]);
        make.args(["-keyout", "key.pem", "-out", "cert.pem", "-addext"]);
        run(make.arg(format!("subjectAltName={names}"))).unwrap();
        let mut serve = Command::new("openssl");
        serve
            .current_dir(&dir)
            .args(["s_server", "-accept", "10.96.0.1:6443", "-HTTP", "-quiet"]);
        serve
            .args(["-cert", "cert.pem", "-key", "key.pem"])
            .stdin(Stdio::null());
        serve.stdout(Stdio::null()).stderr(Stdio::null());
        let server = lab
            .host
            .netns
            .enter(move || Process::start(&mut serve))
            .unwrap();
        let netns = lab.host.netns.path();
        let listens = || connect(&netns, "10.96.0.1:6443").ok();
        wait_for("the server of TLS", Duration::from_secs(20), listens).unwrap();
        Tls {
            _server: server,
            dir,
        }
    }

    /// Writes a kubeconfig with this authority, base64 broken into lines, and a token file.
    fn kubeconfig(&self, lab: &Lab, authority: &str) {
        let mut lines = Command::new("openssl");
        let encoded = run(lines.arg("base64").arg("-in").arg(self.dir.join(authority))).unwrap();
        assert!(encoded.trim().contains('\n'));
        let token = self.dir.join("token");
        fs::write(&token, "t\n").unwrap();
        let text = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": "https://10.96.0.1:6443",
                "certificate-authority-data": encoded}}],
            "users": [{"name": "u", "user": {"tokenFile": token}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]});
        fs::write(&lab.api.kubeconfig, text.to_string()).unwrap();
    }
}

#[test]
fn a_self_signed_serving_certificate_is_its_own_authority() {
    let name = "a_self_signed_serving_certificate";
    if !program_or_skip(name, "openssl") {
        return;
    }
    let Some(lab) = lab(name) else {
        return;
    };
    {
        let tls = Tls::start(&lab, "IP:10.96.0.1");
        tls.kubeconfig(&lab, "cert.pem");
        let said = add(&lab, &[]).refused(11);
        assert!(said.contains("knows no pod"), "asked and answered: {said}");
        // Another one's: refused for good.
        let mut other = Command::new("openssl");
        other
            .current_dir(&tls.dir)
            .args(["req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=x"]);
        other.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]);
        run(other.args(["-keyout", "other-key.pem", "-out", "other.pem"])).unwrap();
        tls.kubeconfig(&lab, "other.pem");
        let said = add(&lab, &[]).refused(7);
        assert!(said.contains("do not go together"), "{said}");
    }
    let tls = Tls::start(&lab, "IP:10.96.0.2,DNS:elsewhere");
    tls.kubeconfig(&lab, "cert.pem");
    let said = add(&lab, &[]).refused(7);
    assert!(said.contains("10.96.0.1"), "{said}");
    // TLS asked of a server without it.
    let text = fs::read_to_string(&lab.api.kubeconfig).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    let plain = Api::start_at(&lab.host, SERVER);
    let text = fs::read_to_string(&plain.kubeconfig).unwrap();
    let plain: Value = serde_json::from_str(&text).unwrap();
    let server = plain["clusters"][0]["cluster"]["server"].as_str().unwrap();
    config["clusters"][0]["cluster"]["server"] = server.replace("http:", "https:").into();
    fs::write(&lab.api.kubeconfig, config.to_string()).unwrap();
    add(&lab, &[]).refused(7);
}
