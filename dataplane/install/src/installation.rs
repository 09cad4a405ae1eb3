// SPDX-License-Identifier: Apache-2.0
//! [`Installation`]: the steps on and off a node, each of which may be repeated.

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;
use sluice_host::store::{self, Durability};
use sluice_host::{FileError, FileLock};

use crate::record::sha256;
use crate::{FileKind, InstallError, InstallRecord, Kubeconfig, Mode, Plan, conf};

/// Time for which another installer is waited for.
const LOCK: Duration = Duration::from_secs(10);

/// Effect of a step on one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Done {
    /// Put where no file was.
    Created,
    /// Replaced another content.
    Replaced,
    /// Found as it is to be.
    Unchanged,
    /// Taken away.
    Removed,
    /// Put back: the file that was there before.
    Restored,
    /// Left: somebody changed the file.
    Left,
}

/// Change of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// File.
    pub path: PathBuf,
    /// Kind.
    pub kind: FileKind,
    /// Effect.
    pub done: Done,
}

/// Installation that nobody else works on while this value lives.
#[derive(Debug)]
pub struct Installation {
    plan: Plan,
    record: InstallRecord,
    /// Whether nothing is written.
    dry: bool,
    lock: Option<FileLock>,
}

/// File to be put.
struct File {
    kind: FileKind,
    path: PathBuf,
    content: Vec<u8>,
    mode: u32,
}

impl Installation {
    /// Opens the installation of a node, of which nothing may be there yet.
    ///
    /// # Errors
    /// Another installer works on it, or its record cannot be read.
    pub fn open(plan: Plan) -> Result<Installation, InstallError> {
        store::make_dir(&plan.state_dir, 0o700)?;
        let path = plan.state_dir.join("install.lock");
        let lock = FileLock::take_until(&path, 0o600, Instant::now() + LOCK)?;
        let lock = lock.ok_or(InstallError::Busy { path })?;
        Ok(Installation {
            record: InstallRecord::load(&plan.record())?,
            plan,
            dry: false,
            lock: Some(lock),
        })
    }

    /// Opens it to see what the steps would do; they write nothing.
    ///
    /// # Errors
    /// Its record cannot be read.
    pub fn dry(plan: Plan) -> Result<Installation, InstallError> {
        Ok(Installation {
            record: InstallRecord::load(&plan.record())?,
            plan,
            dry: true,
            lock: None,
        })
    }

    /// Record of what is installed.
    pub fn record(&self) -> &InstallRecord {
        &self.record
    }

    /// Whether the configuration is in place, so that the runtime calls the plugins.
    pub fn has_conf(&self) -> bool {
        let path = self.plan.conf();
        self.record.find(&path).is_some() && path.exists()
    }

    /// Puts the plugins into their folder: all of them, or none.
    ///
    /// # Errors
    /// A program is missing, or the file system refuses.
    pub fn plugins(&mut self) -> Result<Vec<Change>, InstallError> {
        need_folder(&self.plan.bin_dir, "bin_dir")?;
        let mut files = Vec::new();
        for name in self.plan.plugins() {
            let from = self.plan.source.join(name);
            let content = fs::read(&from).map_err(|error| match error.kind() {
                ErrorKind::NotFound => InstallError::NoProgram {
                    folder: self.plan.source.clone(),
                    name,
                },
                _ => FileError::at("read", &from)(error).into(),
            })?;
            files.push(File {
                kind: FileKind::Plugin,
                path: self.plan.bin_dir.join(name),
                content,
                mode: 0o755,
            });
        }
        self.put(&files)
    }

    /// Writes the kubeconfig, for root's eyes only.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn kubeconfig(&mut self, kubeconfig: &Kubeconfig) -> Result<Vec<Change>, InstallError> {
        need_folder(&self.plan.conf_dir, "conf_dir")?;
        let path = self.plan.kubeconfig();
        if let (Some(dir), false) = (path.parent(), self.dry) {
            store::make_dir(dir, 0o700)?;
        }
        self.put(&[File {
            kind: FileKind::Kubeconfig,
            path,
            content: kubeconfig.text().into_bytes(),
            mode: 0o600,
        }])
    }

    /// Writes the configuration: the step after which the runtime calls the plugins. Where only the plugins are
    /// installed there is none.
    ///
    /// # Errors
    /// There is no primary network, or the file system refuses.
    pub fn conf(&mut self) -> Result<Vec<Change>, InstallError> {
        if self.plan.mode == Mode::PluginsOnly {
            return Ok(Vec::new());
        }
        need_folder(&self.plan.conf_dir, "conf_dir")?;
        let written = self.record.find(&self.plan.kubeconfig()).is_some();
        let kubeconfig = self.plan.host_kubeconfig(written);
        let content = conf::make(&self.plan, kubeconfig.as_deref())?.into_bytes();
        self.put(&[File {
            kind: FileKind::Conf,
            path: self.plan.conf(),
            content,
            mode: 0o644,
        }])
    }

    /// Takes everything off again, the configuration first. `pods` are those that have networks of ours.
    ///
    /// # Errors
    /// [`InstallError::PodsLive`]: there are such pods, and `force` is not set. The file system refuses.
    pub fn uninstall(&mut self, pods: &[String], force: bool) -> Result<Vec<Change>, InstallError> {
        if !pods.is_empty() && !force {
            return Err(InstallError::PodsLive {
                pods: pods.to_vec(),
            });
        }
        let mut changes = Vec::new();
        let files = self.record.files.clone();
        for file in &files {
            let done = self.take_off(&file.path, &file.sha256, file.previous.as_deref())?;
            changes.push(Change {
                path: file.path.clone(),
                kind: file.kind,
                done,
            });
            if !self.dry {
                self.record.files.retain(|other| other.path != file.path);
                self.record.save(&self.plan.record())?;
            }
        }
        if self.dry {
            return Ok(changes);
        }
        store::remove(&self.plan.record(), Durability::Synced)?;
        // What a killed installer had begun to write, and folders in which nobody else has anything.
        for file in &files {
            let _ = fs::remove_file(unfinished(&file.path));
            if let (FileKind::Kubeconfig, Some(dir)) = (file.kind, file.path.parent()) {
                let _ = fs::remove_dir(dir);
            }
        }
        let _ = fs::remove_dir(self.plan.state_dir.join("replaced"));
        if let Some(lock) = self.lock.take() {
            lock.remove_file()?;
        }
        let _ = fs::remove_dir(&self.plan.state_dir);
        Ok(changes)
    }

    fn take_off(
        &self,
        path: &Path,
        hashes: &[String],
        previous: Option<&Path>,
    ) -> Result<Done, InstallError> {
        let there = read(path)?;
        let before = previous.map_or(Ok(None), read)?;
        // An installer may have been killed before it replaced the file.
        let is_ours = there.as_ref().is_none_or(|content| {
            hashes.contains(&sha256(content)) || before.as_ref() == Some(content)
        });
        if !is_ours {
            return Ok(Done::Left);
        }
        if self.dry {
            return Ok(if before.is_some() {
                Done::Restored
            } else {
                Done::Removed
            });
        }
        if let (Some(content), Some(previous)) = (before, previous) {
            let mode = fs::metadata(previous).map_or(0o644, |data| data.permissions().mode());
            put_one(path, &content, mode)?;
            store::remove(previous, Durability::Synced)?;
            return Ok(Done::Restored);
        }
        store::remove(path, Durability::Synced)?;
        Ok(Done::Removed)
    }

    /// Puts files: first all are written beside their names, then all are renamed.
    fn put(&mut self, files: &[File]) -> Result<Vec<Change>, InstallError> {
        let mut changes = Vec::new();
        let mut noted = self.record.clone();
        for file in files {
            let there = read(&file.path)?;
            let known = self.record.find(&file.path).is_some();
            let done = match &there {
                None => Done::Created,
                Some(content) if *content == file.content => Done::Unchanged,
                Some(_) => Done::Replaced,
            };
            changes.push(Change {
                path: file.path.clone(),
                kind: file.kind,
                done,
            });
            if self.dry {
                continue;
            }
            let mut previous = None;
            if let (Done::Replaced, false, Some(content)) = (done, known, &there) {
                let copy = self.plan.replaced(&file.path);
                if let Some(dir) = copy.parent() {
                    store::make_dir(dir, 0o700)?;
                }
                let mode = fs::metadata(&file.path).map_or(0o644, |data| data.permissions().mode());
                put_one(&copy, content, mode)?;
                previous = Some(copy);
            }
            noted.note(
                file.kind,
                &file.path,
                &file.content,
                there.as_deref(),
                previous,
            );
        }
        if self.dry {
            return Ok(changes);
        }
        if noted != self.record {
            noted.save(&self.plan.record())?;
            self.record = noted;
        }
        let mut staged = Vec::new();
        for (file, change) in files.iter().zip(&changes) {
            if change.done == Done::Unchanged {
                set_mode(&file.path, file.mode)?;
                continue;
            }
            let one = store::stage(&file.path, &file.content, file.mode, Durability::Synced)?;
            set_mode(&unfinished(&file.path), file.mode)?;
            staged.push((one, file));
        }
        for (one, file) in staged {
            one.commit()?;
            file.path.parent().map_or(Ok(()), store::sync_dir)?;
        }
        Ok(changes)
    }
}

/// Name of a staged file; its mode is set whatever the umask is.
fn unfinished(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".tmp");
    path.with_file_name(name)
}

fn set_mode(path: &Path, mode: u32) -> Result<(), InstallError> {
    let there = fs::metadata(path).map_err(FileError::at("look at", path))?;
    if there.permissions().mode() & 0o7777 != mode & 0o7777 {
        fs::set_permissions(path, Permissions::from_mode(mode))
            .map_err(FileError::at("set the mode of", path))?;
    }
    Ok(())
}

fn put_one(path: &Path, content: &[u8], mode: u32) -> Result<(), InstallError> {
    let staged = store::stage(path, content, mode & 0o7777, Durability::Synced)?;
    set_mode(&unfinished(path), mode)?;
    staged.commit()?;
    path.parent().map_or(Ok(()), store::sync_dir)?;
    Ok(())
}

fn need_folder(path: &Path, what: &'static str) -> Result<(), InstallError> {
    if path.is_dir() {
        return Ok(());
    }
    Err(InstallError::NoFolder {
        path: path.to_owned(),
        what,
    })
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, InstallError> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(FileError::at("read", path)(error).into()),
    }
}
