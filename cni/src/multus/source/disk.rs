// SPDX-License-Identifier: Apache-2.0
//! Configurations on disk, found by the name inside them, by file or by directory.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::Error;
use crate::spec::conf;
use crate::spec::fields::Fields;

/// Directories with networks' configurations, where `confDir` names none.
const DEFAULT_DIRS: [&str; 3] = [
    "/etc/cni/multus/net.d",
    "/etc/cni/multus.d",
    "/etc/cni/net.d/multus",
];

/// The directories that are looked through.
#[derive(Debug, Clone)]
pub(in crate::multus) struct Disk {
    dirs: Vec<PathBuf>,
}

impl Disk {
    /// `confDir`, or the usual places.
    pub(in crate::multus) fn new(conf_dir: Option<&Path>) -> Disk {
        Disk {
            dirs: conf_dir.map_or_else(
                || DEFAULT_DIRS.map(PathBuf::from).to_vec(),
                |dir| vec![dir.to_owned()],
            ),
        }
    }

    /// The configuration with this `name`.
    ///
    /// # Errors
    /// [`Error::Json`]: a file cannot be read as JSON and no other has the name.
    pub(in crate::multus) fn by_name(
        &self,
        name: &str,
    ) -> Result<Option<Map<String, Value>>, Error> {
        let mut broken = None;
        for path in self.dirs.iter().flat_map(|dir| files(dir)) {
            match read(&path) {
                Ok(conf) => {
                    if Fields::new(&conf).string("name").ok().flatten() == Some(name) {
                        return Ok(Some(conf));
                    }
                }
                Err(error) => broken = broken.or(Some(error)),
            }
        }
        broken.map_or(Ok(None), Err)
    }

    /// For people.
    pub(in crate::multus) fn places(&self) -> String {
        let dirs: Vec<_> = self
            .dirs
            .iter()
            .map(|dir| dir.display().to_string())
            .collect();
        dirs.join(", ")
    }
}

/// The configuration at `path`: in the file, or in the directory's first file that is not of the
/// meta plugin itself.
///
/// # Errors
/// [`Error::Config`]: there is none; [`Error::Json`].
pub(in crate::multus) fn at(path: &Path, ourselves: &str) -> Result<Map<String, Value>, Error> {
    if !path.is_dir() {
        return read(path);
    }
    for file in files(path) {
        let conf = read(&file)?;
        if !is_ours(&conf, ourselves) {
            return Ok(conf);
        }
    }
    Err(Error::Config(format!(
        "directory {} holds no configuration of a default network",
        path.display()
    )))
}

fn is_ours(conf: &Map<String, Value>, ourselves: &str) -> bool {
    let fields = Fields::new(conf);
    let of = |fields: &Fields<'_>| {
        let program = fields.string("type").ok().flatten();
        program.is_some_and(|program| program == ourselves || program == "sluicegate")
    };
    let plugins = fields.list("plugins").ok().flatten().unwrap_or_default();
    let mut plugins = plugins.iter().filter_map(Value::as_object);
    of(&fields) || plugins.any(|plugin| of(&Fields::new(plugin)))
}

/// Configuration files of a directory in order of their names; none if it is not there.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| {
            let ext = path.extension().and_then(|ext| ext.to_str());
            // A folder of such a name is none, nor is a link that leads nowhere.
            matches!(ext, Some("conf" | "conflist" | "json")) && path.is_file()
        })
        .collect();
    files.sort();
    files
}

fn read(path: &Path) -> Result<Map<String, Value>, Error> {
    let text = fs::read(path).map_err(|error| {
        Error::Config(format!(
            "the network's configuration {} cannot be read: {error}",
            path.display()
        ))
    })?;
    conf::object(&text, &path.display().to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn by_name_file_and_directory() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        put("00-us.conf", r#"{"name": "us", "type": "multus"}"#);
        put(
            "05-us.conflist",
            r#"{"name": "us2", "plugins": [{"type": "sluicegate"}]}"#,
        );
        put("10-a.conf", r#"{"Name": "a", "type": "bridge"}"#);
        put(
            "20-b.conflist",
            r#"{"name": "b", "plugins": [{"type": "ptp"}]}"#,
        );
        put("30-other.txt", r#"{"name": "c", "type": "ptp"}"#);
        fs::create_dir(dir.path().join("00-x.conf")).unwrap();
        std::os::unix::fs::symlink("nowhere", dir.path().join("00-y.conf")).unwrap();
        let disk = Disk::new(Some(dir.path()));
        assert_eq!(disk.by_name("a").unwrap().unwrap()["type"], "bridge");
        assert!(disk.by_name("b").unwrap().unwrap().contains_key("plugins"));
        assert!(disk.by_name("c").unwrap().is_none());
        assert_eq!(at(dir.path(), "multus").unwrap()["Name"], "a");
        assert_eq!(
            at(&dir.path().join("20-b.conflist"), "multus").unwrap()["name"],
            "b"
        );
        assert!(at(&dir.path().join("none"), "multus").is_err());
        put("15-torn.conf", "{\n \"name\": # b\n}");
        let error = disk.by_name("z").unwrap_err();
        assert_eq!(error.code(), 6);
        assert!(error.to_string().contains("15-torn.conf"), "{error}");
        assert!(
            disk.by_name("b").unwrap().is_some(),
            "a torn file is not in the way of others"
        );
    }
}
