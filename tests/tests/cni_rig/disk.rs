// SPDX-License-Identifier: Apache-2.0
//! [`SmallDisk`]: a file system that can be filled, and mounted read-only.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use sluice_tests::run;

/// File system of its own, so small that it can be filled. Gone on drop.
pub(crate) struct SmallDisk {
    dir: PathBuf,
}

impl SmallDisk {
    /// Mounts one of `size`, as in `64k`, on a folder, which is made if it is not there.
    pub(crate) fn mount(dir: &Path, size: &str) -> SmallDisk {
        fs::create_dir_all(dir).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]);
        run(mount.arg(dir)).unwrap();
        SmallDisk {
            dir: dir.to_owned(),
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Mounts it anew, `ro` or `rw`.
    pub(crate) fn remount(&self, how: &str) {
        let mut mount = Command::new("mount");
        mount.args(["-o", &format!("remount,{how}")]).arg(&self.dir);
        run(&mut mount).unwrap();
    }

    /// Writes until nothing more fits.
    pub(crate) fn fill(&self) {
        let block = vec![0u8; 4096];
        let mut file = fs::File::create(self.filler()).unwrap();
        while file.write_all(&block).is_ok() {}
    }

    /// Takes back [`SmallDisk::fill`].
    pub(crate) fn empty(&self) {
        let _ = fs::remove_file(self.filler());
    }

    fn filler(&self) -> PathBuf {
        self.dir.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.dir).status();
    }
}
