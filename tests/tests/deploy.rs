// SPDX-License-Identifier: Apache-2.0
//! Shipped things, without a cluster: manifests, chart, image, package and units.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use sluice_tests::{bin, program_or_skip, root_or_skip, run, skip};
use tempfile::TempDir;

fn checkout() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    path.canonicalize().unwrap()
}

fn script(path: &str) -> Command {
    let mut command = Command::new("sh");
    command.arg(checkout().join(path));
    command
}

/// Copies the programs under test into a folder as they are shipped: stripped.
fn shipped() -> TempDir {
    let folder = TempDir::with_prefix("sluice-deploy-").unwrap();
    for name in [
        "sluiced",
        "sluicectl",
        "sluice-agent",
        "vfirewall",
        "sluicegate",
        "sluicegate-vf",
    ] {
        let mut strip = Command::new("strip");
        run(strip.arg("-o").arg(folder.path().join(name)).arg(bin(name))).unwrap();
    }
    folder
}

/// Schemas, two generations of kustomize, and the chart against the base: tests/manifests/check.py.
#[test]
fn manifests_and_chart_are_valid_and_equal() {
    let case = "manifests_and_chart_are_valid_and_equal";
    let needs = script("tests/manifests/needs.sh").output().unwrap();
    if !needs.status.success() {
        let why = String::from_utf8_lossy(&needs.stderr);
        skip(case, why.lines().last().unwrap_or("no reason given"));
        return;
    }
    let environment = PathBuf::from(String::from_utf8_lossy(&needs.stdout).trim());
    let mut check = Command::new(environment.join("bin/python"));
    check
        .arg(checkout().join("tests/manifests/check.py"))
        .arg(checkout());
    check.arg(environment.join("bin/kubectl"));
    if let Some(programs) = std::env::var_os("SLUICE_CLUSTER") {
        check.arg(PathBuf::from(programs).join("kubectl"));
    }
    let output = check.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    println!("{text}");
}

/// Image ids of an OCI archive: the digest of the configuration that its manifest names.
fn image_id(archive: &Path) -> String {
    let read = |name: &str| -> Value {
        let mut tar = Command::new("tar");
        let text = run(tar.arg("-xOf").arg(archive).arg(name)).unwrap();
        serde_json::from_str(&text).unwrap()
    };
    let index = read("index.json");
    let digest = index["manifests"][0]["digest"].as_str().unwrap();
    let manifest = read(&format!("blobs/{}", digest.replace(':', "/")));
    manifest["config"]["digest"].as_str().unwrap().to_owned()
}

#[test]
fn image_is_reproducible_and_signed_with_the_list_of_its_parts() {
    let case = "image_is_reproducible_and_signed_with_the_list_of_its_parts";
    if !root_or_skip(case) || !program_or_skip(case, "buildah") {
        return;
    }
    let programs = shipped();
    let at = |name: &str| programs.path().join(name);
    let (key, public) = (at("key.pem"), at("public.pem"));
    let mut openssl = Command::new("openssl");
    run(openssl
        .args(["genpkey", "-algorithm", "ed25519", "-out"])
        .arg(&key))
    .unwrap();
    let mut openssl = Command::new("openssl");
    run(openssl
        .args(["pkey", "-pubout", "-in"])
        .arg(&key)
        .arg("-out")
        .arg(&public))
    .unwrap();
    let build = |out: &Path, sign: bool| {
        let mut build = script("deploy/image/build.sh");
        build
            .arg("--programs")
            .arg(programs.path())
            .arg("--out")
            .arg(out);
        if sign {
            build.arg("--sign").arg(&key);
        }
        run(&mut build).unwrap();
        image_id(out)
    };
    let (first, second) = (at("one/image.tar"), at("two/image.tar"));
    assert_eq!(
        build(&first, true),
        build(&second, false),
        "the same programs, another image"
    );
    // The signature is of the sums of the image and of the list.
    let verify = |sums: &Path| {
        let mut openssl = Command::new("openssl");
        openssl
            .args(["pkeyutl", "-verify", "-rawin", "-pubin", "-inkey"])
            .arg(&public);
        openssl
            .arg("-in")
            .arg(sums)
            .arg("-sigfile")
            .arg(at("one/image.tar.sha256.sig"));
        openssl.output().unwrap().status.success()
    };
    let sums = at("one/image.tar.sha256");
    assert!(verify(&sums));
    let mut sha256 = Command::new("sha256sum");
    run(sha256
        .arg("--check")
        .arg("image.tar.sha256")
        .current_dir(at("one")))
    .unwrap();
    let mut text = fs::read_to_string(&sums).unwrap();
    text.replace_range(..1, if text.starts_with('0') { "1" } else { "0" });
    fs::write(&sums, text).unwrap();
    assert!(!verify(&sums), "sums that were changed pass for signed");
    // The list: programs, Rust packages and Debian packages, all with licences where they have any.
    let list = fs::read_to_string(at("one/image.tar.cdx.json")).unwrap();
    assert_eq!(
        list,
        fs::read_to_string(at("two/image.tar.cdx.json")).unwrap()
    );
    let list: Value = serde_json::from_str(&list).unwrap();
    let parts = list["components"].as_array().unwrap();
    let named = |name: &str| parts.iter().find(|part| part["name"] == name).expect(name);
    for crate_name in ["sluice-firewall", "sluice-memif", "tokio", "kube-client"] {
        assert!(
            named(crate_name)["licenses"].is_array(),
            "{}",
            named(crate_name)
        );
    }
    assert!(
        named("nftables")["purl"]
            .as_str()
            .unwrap()
            .starts_with("pkg:deb/debian/nftables@")
    );
    assert!(
        named("sluiced")["hashes"][0]["content"]
            .as_str()
            .unwrap()
            .len()
            == 64
    );
    assert!(
        parts.iter().all(|part| part["name"] != "criterion"),
        "a bench is no part of it"
    );
}

/// Every unit as it is installed, with the programs where it expects them.
#[test]
fn package_has_programs_that_start_and_units_without_faults() {
    let case = "package_has_programs_that_start_and_units_without_faults";
    if !program_or_skip(case, "dpkg-deb") || !program_or_skip(case, "systemd-analyze") {
        return;
    }
    let programs = shipped();
    let build = || {
        let mut build = script("deploy/deb/build.sh");
        build
            .arg("--programs")
            .arg(programs.path())
            .arg("--out")
            .arg(programs.path());
        PathBuf::from(run(&mut build).unwrap().trim())
    };
    let package = build();
    let root = TempDir::with_prefix("sluice-deb-").unwrap();
    run(Command::new("dpkg-deb")
        .arg("-x")
        .arg(&package)
        .arg(root.path()))
    .unwrap();
    let version = format!(" {}\n", env!("CARGO_PKG_VERSION"));
    for name in ["sluiced", "sluicectl", "sluice-agent", "vfirewall"] {
        let mut program = Command::new(root.path().join("usr/bin").join(name));
        let said = run(program.arg("--version")).unwrap();
        assert!(said.ends_with(&version), "{name}: {said}");
    }
    for name in ["sluicegate", "sluicegate-vf"] {
        let mut plugin = Command::new(root.path().join("usr/lib/sluicegate").join(name));
        let said = run(plugin.env("CNI_COMMAND", "VERSION")).unwrap();
        assert!(said.contains("supportedVersions"), "{name}: {said}");
    }
    // What the configuration files say passes the programs' own check.
    for (name, file) in [
        ("sluiced", "sluiced.yaml"),
        ("sluice-agent", "sluice-agent.yaml"),
    ] {
        let file = root.path().join("etc/sluicegate").join(file);
        let text = fs::read_to_string(&file).unwrap();
        let here = format!("{}/etc/sluicegate/policies", root.path().display());
        fs::write(&file, text.replace("/etc/sluicegate/policies", &here)).unwrap();
        let mut check = Command::new(root.path().join("usr/bin").join(name));
        run(check.arg("--check").arg("--config").arg(file)).unwrap();
    }
    let units = root.path().join("lib/systemd/system");
    let mut count = 0;
    for entry in fs::read_dir(&units).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains("/usr/local"), "{}", path.display());
        let here = format!("{}/usr/bin/", root.path().display());
        fs::write(&path, text.replace("=/usr/bin/", &format!("={here}"))).unwrap();
        count += 1;
    }
    assert!(count >= 5, "{count} units");
    let mut verify = Command::new("systemd-analyze");
    verify.arg("verify");
    for entry in fs::read_dir(&units).unwrap() {
        verify.arg(entry.unwrap().path());
    }
    // Exit code 0 whatever it finds: it must say nothing.
    let output = verify.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("slui")).collect();
    assert!(ours.is_empty() && output.status.success(), "{said}");
}
