// SPDX-License-Identifier: Apache-2.0
//! Image of busybox for sandboxes and containers: no registry is asked.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::json;

use super::IMAGE;
use crate::run;

/// Makes the image in the folder `dir` and imports it into the containerd at `socket`.
pub(super) fn import(dir: &Path, socket: &Path) -> Result<()> {
    let root = dir.join("root");
    fs::create_dir_all(root.join("bin"))?;
    let busybox = ["/bin/busybox", "/usr/bin/busybox"]
        .into_iter()
        .find(|path| Path::new(path).exists());
    fs::copy(busybox.context("no busybox")?, root.join("bin/busybox"))?;
    for name in ["sh", "sleep", "ip", "ping", "cat"] {
        symlink("busybox", root.join("bin").join(name))?;
    }
    pack(dir, socket, IMAGE, &["bin"])
}

/// Packs `names` in the folder `root` of `dir` as an image of one layer, imports it into the containerd at `socket`,
/// and removes `dir`.
pub(super) fn pack(dir: &Path, socket: &Path, name: &str, names: &[&str]) -> Result<()> {
    let root = dir.join("root");
    let tar = |from: &Path, to: &Path, names: &[&str]| {
        let mut command = Command::new("tar");
        command.arg("-C").arg(from).arg("-cf").arg(to).args(names);
        run(&mut command)
    };
    tar(&root, &dir.join("layer.tar"), names)?;
    let sum = run(Command::new("sha256sum").arg(dir.join("layer.tar")))?;
    let sum = sum.split_whitespace().next().unwrap_or_default();
    let config = json!({"architecture": "amd64", "os": "linux",
        "config": {"Cmd": ["/bin/sleep", "100000"], "Env": ["PATH=/bin:/usr/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{sum}")]}});
    fs::write(dir.join("config.json"), config.to_string())?;
    let manifest = json!([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]);
    fs::write(dir.join("manifest.json"), manifest.to_string())?;
    let all = dir.join("image.tar");
    tar(dir, &all, &["manifest.json", "config.json", "layer.tar"])?;
    let mut import = Command::new("ctr");
    import
        .arg("-a")
        .arg(socket)
        .args(["-n", "k8s.io", "images", "import"])
        .arg(&all);
    run(&mut import)?;
    fs::remove_dir_all(dir)?;
    Ok(())
}
