// SPDX-License-Identifier: Apache-2.0
//! Device files that only the node's containerd sees.

use anyhow::Result;

use super::Node;
use crate::run;

/// Character device: path below /dev, major and minor number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceFile {
    /// Path below /dev.
    pub path: &'static str,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

/// Script that lays a copy of /dev over it, in containerd's mounts, and makes further files in the copy.
const COPY: &str = r#"copy=$0
mkdir -p "$copy"
mount -t tmpfs -o mode=755 none "$copy"
for file in /dev/*; do
    [ ! -c "$file" ] && [ ! -L "$file" ] || cp -a "$file" "$copy"
done
mkdir -p "$copy/net"
while [ $# -gt 0 ]; do
    mkdir -p "$(dirname "$copy/$1")"
    mknod "$copy/$1" c "$2" "$3"
    shift 3
done
mount --bind "$copy" /dev"#;

impl Node {
    /// Gives containerd a /dev with these files beside the machine's own: of devices that this machine has not.
    ///
    /// # Errors
    /// A file or a mount cannot be made.
    pub fn device_files(&self, files: &[DeviceFile]) -> Result<()> {
        let mut command = self.command("sh")?;
        command.args(["-ec", COPY]).arg(self.dir().join("dev"));
        for file in files {
            command
                .arg(file.path)
                .arg(file.major.to_string())
                .arg(file.minor.to_string());
        }
        run(&mut command)?;
        Ok(())
    }
}
