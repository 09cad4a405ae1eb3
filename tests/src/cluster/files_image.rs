// SPDX-License-Identifier: Apache-2.0
//! Images made of files of this machine: programs with the libraries that they are linked to.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::{Node, image};

impl Node {
    /// Makes an image with `programs` in `/usr/bin`, their libraries, and `/var/run` linked to `/run`, and imports
    /// it under the name `name`.
    ///
    /// # Errors
    /// A program is not there, or containerd refuses.
    pub fn image_of(&self, name: &str, programs: &[PathBuf]) -> Result<()> {
        let dir = self.dir().join("image-of-files");
        let root = dir.join("root");
        let folders = [
            "usr", "var", "run", "proc", "sys", "dev", "etc", "lib", "lib64",
        ];
        for folder in folders {
            fs::create_dir_all(root.join(folder))?;
        }
        symlink("/run", root.join("var/run"))?;
        for program in programs {
            let file = program.file_name().context("a program has a name")?;
            copy(program, &root.join("usr/bin").join(file))?;
            for library in libraries(program)? {
                copy(&library, &root.join(library.strip_prefix("/")?))?;
            }
        }
        image::pack(&dir, &self.socket(), name, &folders)
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(())
}

/// Libraries that a program is linked to, the loader among them; none of a static one.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let paths = text.lines().filter_map(|line| {
        let path = line.split_whitespace().find(|word| word.starts_with('/'))?;
        Some(PathBuf::from(path))
    });
    Ok(paths.filter(|path| path.exists()).collect())
}
