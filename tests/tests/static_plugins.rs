// SPDX-License-Identifier: Apache-2.0
//! Programs of a node, executed where nothing of this machine is: in an empty root, and in the root of another release
//! of the C library with systemd's NSS modules, which ends a static program that loads them. The API server is named
//! by address, by /etc/hosts, by a nameserver, and by one that is silent.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[allow(dead_code, reason = "each test binary uses its part of it")]
mod cni_rig;

use std::fs;
use std::io::Write;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use cni_rig::Host;
use cni_rig::api::Api;
use serde_json::{Value, json};
use sluice_tests::{Process, bin, program_or_skip, run, skip, wait_for};

/// Address of the API server.
const SERVER: &str = "10.96.0.1";
/// Address of a nameserver that answers, and of one that does not.
const NAMESERVERS: [&str; 2] = ["10.53.0.1", "10.53.0.2"];
/// nsswitch.conf of the distributions whose modules end a static program.
const MODULES: &str = "hosts: mymachines resolve [!UNAVAIL=return] files myhostname dns\n";
/// Time that a call has.
const BUDGET: Duration = Duration::from_secs(6);

/// Host whose API server and nameservers are in a network namespace of its own.
struct Lab {
    host: Host,
    api: Api,
    port: u16,
    _dnsmasq: Process,
    _silent: (UdpSocket, TcpListener),
}

impl Lab {
    fn new(case: &str) -> Option<Lab> {
        if !program_or_skip(case, "dnsmasq") || !program_or_skip(case, "openssl") {
            return None;
        }
        let host = Host::new(case)?;
        let [answers, silent] = NAMESERVERS;
        for address in [SERVER, answers, silent] {
            host.netns
                .ip(&["address", "add", &format!("{address}/32"), "dev", "lo"])
                .unwrap();
        }
        let api = Api::start_at(&host, SERVER);
        let text = fs::read_to_string(&api.kubeconfig).unwrap();
        let config: Value = serde_json::from_str(&text).unwrap();
        let server = config["clusters"][0]["cluster"]["server"].as_str().unwrap();
        let port = server.rsplit(':').next().unwrap().parse().unwrap();
        let mut dnsmasq = host.netns.daemon("dnsmasq");
        dnsmasq.args([
            "--keep-in-foreground",
            "--no-resolv",
            "--no-hosts",
            "--bind-interfaces",
            "--user=root",
        ]);
        dnsmasq.args([
            "--conf-file=/dev/null",
            "--pid-file=",
            "--except-interface=none",
            "--no-dhcp-interface=lo",
        ]);
        dnsmasq.arg(format!("--listen-address={answers}"));
        dnsmasq.arg(format!("--host-record=api.example.test,{SERVER}"));
        let dnsmasq = Process::start(dnsmasq.stdout(Stdio::null()).stderr(Stdio::null())).unwrap();
        let bind = || {
            Ok((
                UdpSocket::bind((silent, 53))?,
                TcpListener::bind((silent, 53))?,
            ))
        };
        let silent = host.netns.enter(bind).unwrap();
        let listens = || {
            let sockets = run(host.netns.command("ss").args(["-lunH"])).ok()?;
            sockets.contains(&format!("{answers}:53")).then_some(())
        };
        wait_for("dnsmasq to listen", Duration::from_secs(20), listens).unwrap();
        Some(Lab {
            host,
            api,
            port,
            _dnsmasq: dnsmasq,
            _silent: silent,
        })
    }

    /// Makes a root file system with the programs and nothing else.
    fn empty_root(&self, name: &str) -> PathBuf {
        let root = self.host.dir().join(name);
        fs::create_dir_all(root.join("etc")).unwrap();
        // The kernel's own files of random numbers, which every host has.
        fs::create_dir_all(root.join("dev")).unwrap();
        for (name, minor) in [("random", "8"), ("urandom", "9")] {
            let mut node = Command::new("mknod");
            node.args(["-m", "666"]).arg(root.join("dev").join(name));
            run(node.args(["c", "1", minor])).unwrap();
        }
        for name in ["sluicegate", "sluicegate-vf", "sluicectl", "sluice-agent"] {
            fs::copy(bin(name), root.join(name)).unwrap();
        }
        // An authority of the kubeconfig's own: those of the host are not there.
        let mut authority = Command::new("openssl");
        authority.args([
            "req",
            "-x509",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=authority",
            "-newkey",
            "ec",
        ]);
        authority.args([
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-keyout",
            "/dev/null",
            "-out",
        ]);
        run(authority.arg(root.join("ca.pem"))).unwrap();
        root
    }

    /// Makes the same over the C library of another release.
    fn other_root(&self, case: &str) -> Option<PathBuf> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("other-libc.sh");
        let output = Command::new("sh").arg(script).output().unwrap();
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            skip(case, said.lines().last().unwrap_or("no other C library"));
            return None;
        }
        let root = self.empty_root("other");
        let libc = String::from_utf8(output.stdout).unwrap();
        run(Command::new("cp")
            .arg("-a")
            .arg(format!("{}/.", libc.trim()))
            .arg(&root))
        .unwrap();
        fs::write(root.join("etc/nsswitch.conf"), MODULES).unwrap();
        Some(root)
    }

    /// Runs a program of a root.
    fn run(&self, root: &Path, program: &[&str], env: &[(&str, &str)], input: &str) -> Output {
        let mut command = self.host.netns.command("chroot");
        command.arg(root).args(program).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap());
        for (name, value) in env {
            command.env(name, value);
        }
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A program that reads nothing may have ended already.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }

    /// Calls STATUS in a root, with the API server named `server`; it asks for a network that is not there. Returns
    /// what it said, and whether the API server was asked.
    fn status(&self, root: &Path, server: &str) -> (String, bool) {
        self.api.take_requests();
        let kubeconfig = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": format!("http://{server}:{}", self.port),
                "certificate-authority": "/ca.pem"}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]});
        fs::write(root.join("kubeconfig"), kubeconfig.to_string()).unwrap();
        let conf = json!({"cniVersion": "1.1.0", "name": "n", "type": "sluicegate", "kubeconfig": "/kubeconfig",
            "clusterNetwork": "nowhere"});
        let budget = BUDGET.as_millis().to_string();
        let env = [
            ("CNI_COMMAND", "STATUS"),
            ("CNI_PATH", "/"),
            ("SLUICEGATE_BUDGET_MS", &budget),
        ];
        let output = self.run(root, &["/sluicegate"], &env, &conf.to_string());
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(output.status.signal(), None, "{server}: {said}");
        assert!(
            matches!(output.status.code(), Some(0 | 1)),
            "{server}: {:?} {said}",
            output.status
        );
        let asked = self.api.take_requests();
        let asked = asked
            .iter()
            .any(|line| line.contains("network-attachment-definitions/nowhere"));
        (said, asked)
    }

    /// Names the API server in every way.
    fn names(&self, root: &Path) {
        let write =
            |name: &str, text: String| fs::write(root.join("etc").join(name), text).unwrap();
        let reached = |server: &str| {
            let (said, asked) = self.status(root, server);
            assert!(asked, "{server} in {}: {said}", root.display());
        };
        let [answers, silent] = NAMESERVERS;
        reached(SERVER);
        // Neither file is there: no name but this machine's own.
        let (said, asked) = self.status(root, "api.example.test");
        assert!(
            !asked && said.contains("api.example.test is not in /etc/hosts"),
            "{said}"
        );
        // A name in /etc/hosts needs no nameserver.
        write(
            "hosts",
            format!("127.0.0.1 localhost\n{SERVER} kube kube.example.test # the API server\n"),
        );
        write(
            "resolv.conf",
            format!("search example.test\nnameserver {silent}\n"),
        );
        reached("kube");
        reached("kube.example.test");
        // By DNS, with the search domain and without, and past a nameserver that is silent.
        write(
            "resolv.conf",
            format!("search example.test\nnameserver {answers}\n"),
        );
        reached("api");
        reached("api.example.test");
        write(
            "resolv.conf",
            format!("nameserver {silent}\nnameserver {answers}\n"),
        );
        reached("api.example.test");
        let (said, asked) = self.status(root, "nobody.example.test");
        assert!(!asked && said.contains("nobody.example.test"), "{said}");
        // A silent one alone: told by name, and the call ends in its time.
        write("resolv.conf", format!("nameserver {silent}\n"));
        let begun = Instant::now();
        let (said, asked) = self.status(root, "api.example.test");
        assert!(
            !asked && said.contains(silent) && said.contains("gave no answer"),
            "{said}"
        );
        assert!(
            begun.elapsed() < BUDGET * 2,
            "{:?} of {BUDGET:?}: {said}",
            begun.elapsed()
        );
    }
}

#[test]
fn the_programs_start_in_a_root_with_nothing_else() {
    let Some(lab) = Lab::new("the_programs_start_in_a_root_with_nothing_else") else {
        return;
    };
    let root = lab.empty_root("empty");
    for program in ["/sluicectl", "/sluice-agent"] {
        let output = lab.run(&root, &[program, "--version"], &[], "");
        assert!(output.status.success(), "{program}: {output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains(env!("CARGO_PKG_VERSION")));
    }
    for program in ["/sluicegate", "/sluicegate-vf"] {
        let env = [("CNI_COMMAND", "VERSION")];
        let output = lab.run(&root, &[program], &env, r#"{"cniVersion": "1.1.0"}"#);
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(
            answer["supportedVersions"]
                .as_array()
                .unwrap()
                .contains(&json!("1.1.0")),
            "{answer}"
        );
    }
    lab.names(&root);
}

#[test]
fn names_are_found_beside_another_c_library_and_its_modules() {
    let case = "names_are_found_beside_another_c_library_and_its_modules";
    let Some(lab) = Lab::new(case) else { return };
    let Some(root) = lab.other_root(case) else {
        return;
    };
    lab.names(&root);
    // The root is the trap that it is meant to be: a static program that asks its C library does not live.
    let source = lab.host.dir().join("ask.c");
    fs::write(
        &source,
        "#include <netdb.h>\nint main(void) { struct addrinfo *found; return getaddrinfo(\"kube\", 0, 0, &found); }\n",
    )
    .unwrap();
    run(Command::new("cc")
        .args(["-static", "-w", "-o"])
        .arg(root.join("ask"))
        .arg(&source))
    .unwrap();
    let output = lab.run(&root, &["/ask"], &[], "");
    assert!(!output.status.success(), "{output:?}");
}

#[test]
fn no_program_that_asks_an_api_server_calls_the_c_librarys_resolver() {
    let case = "no_program_that_asks_an_api_server_calls_the_c_librarys_resolver";
    if !program_or_skip(case, "nm") {
        return;
    }
    for name in ["sluicegate", "sluicegate-vf", "sluice-agent"] {
        let output = Command::new("nm").arg(bin(name)).output().unwrap();
        let symbols = String::from_utf8_lossy(&output.stdout);
        if !symbols.contains(" main") {
            skip(case, "needs programs with their symbols");
            return;
        }
        let calls = symbols.lines().find(|line| line.ends_with(" getaddrinfo"));
        assert_eq!(calls, None, "{name}");
    }
}

/// Most bytes of a plugin that docs/install.md allows for the build that the tests execute.
fn most_bytes(page: &str, plugin: &str) -> u64 {
    let row = page
        .lines()
        .find(|line| line.starts_with(&format!("| `{plugin}` |")))
        .unwrap_or_else(|| panic!("docs/install.md has no row for {plugin}"));
    let last = row.trim_end_matches(" |").rsplit('|').next().unwrap();
    let digits: String = last.chars().filter(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

#[test]
fn the_plugins_are_no_bigger_than_docs_say() {
    let case = "the_plugins_are_no_bigger_than_docs_say";
    if !program_or_skip(case, "strip") {
        return;
    }
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/install.md");
    let page = fs::read_to_string(page).unwrap();
    let dir = tempfile::TempDir::with_prefix("sluice-size-").unwrap();
    for name in ["sluicegate", "sluicegate-vf"] {
        let file = dir.path().join(name);
        run(Command::new("strip").arg("-o").arg(&file).arg(bin(name))).unwrap();
        let bytes = fs::metadata(&file).unwrap().len();
        let most = most_bytes(&page, name);
        println!("{name}: {bytes} bytes stripped, of {most}");
        assert!(
            bytes <= most,
            "{name} has {bytes} bytes, docs/install.md allows {most}: find the dependency that grew, or change the page"
        );
    }
}
