//! What is recorded of an attachment before anything is taken for it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::Error;
use crate::call::Call;
use crate::conf::NetConf;
use crate::log::Log;
use crate::store::{self, Found};

/// Where records go whose pod is gone while the engine has not said yet that it let go.
const RELEASED: &str = "released";

/// The record of one attachment, found by container id and interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Whether ADD came to its end.
    pub complete: bool,
    /// `name` of the configuration.
    pub network: String,
    /// `CNI_CONTAINERID`.
    pub container_id: String,
    /// `CNI_IFNAME`.
    pub ifname: String,
    /// `CNI_ARGS` at ADD.
    pub args: Option<String>,
    /// The configuration at ADD.
    pub conf: Map<String, Value>,
}

impl Record {
    /// The record of an ADD that has begun nothing yet.
    pub fn new(conf: &NetConf, call: &Call) -> Record {
        Record {
            complete: false,
            network: conf.name.clone(),
            container_id: call.container_id.clone(),
            ifname: call.ifname.clone(),
            args: call.args.clone(),
            conf: conf.json.clone(),
        }
    }

    fn path(dir: &Path, container_id: &str, ifname: &str) -> PathBuf {
        dir.join(store::file_name(container_id, ifname))
    }

    /// Writes it.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save(&self, dir: &Path) -> Result<(), Error> {
        store::make_dir(dir)?;
        store::write(&Record::path(dir, &self.container_id, &self.ifname), self)
    }

    /// Notes that the engine must be asked again to let go of the attachment.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn release(&self, dir: &Path) -> Result<(), Error> {
        self.save(&dir.join(RELEASED))
    }

    /// The attachments that the engine must be asked again to let go of.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn released(dir: &Path) -> Result<Vec<(String, String)>, Error> {
        store::list(&dir.join(RELEASED))
    }

    /// Notes that the engine has let go.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn forget_released(dir: &Path, container_id: &str, ifname: &str) -> Result<(), Error> {
        store::remove(&Record::path(&dir.join(RELEASED), container_id, ifname))
    }

    /// Reads it. A torn one counts as absent and is reported.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn load(
        dir: &Path,
        container_id: &str,
        ifname: &str,
        log: &Log,
    ) -> Result<Option<Record>, Error> {
        let path = Record::path(dir, container_id, ifname);
        match store::read(&path)? {
            Found::Whole(record) => Ok(Some(record)),
            Found::Absent => Ok(None),
            Found::Torn(why) => {
                log.error(format_args!(
                    "the record {} is torn ({why}) and counts as absent",
                    path.display()
                ));
                Ok(None)
            }
        }
    }

    /// Removes it, torn or whole.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn remove(dir: &Path, container_id: &str, ifname: &str) -> Result<(), Error> {
        store::remove(&Record::path(dir, container_id, ifname))
    }
}
