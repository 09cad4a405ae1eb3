// SPDX-License-Identifier: Apache-2.0
//! The `memif` member of the configuration.

use std::path::PathBuf;

use sluice_api::MemifRole;

use crate::Error;
use crate::spec::fields::Fields;

/// The members of `memif`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemifConf {
    /// The engine's role.
    pub role: MemifRole,
    /// Queue pairs.
    pub rings: Option<u16>,
    /// Descriptors per ring.
    pub ring_size: Option<u16>,
    /// Bytes per buffer.
    pub buffer_size: Option<u32>,
    /// The secret.
    pub secret: Option<String>,
    /// The memif id.
    pub id: u32,
    /// `@name`, an absolute path, or a file name in `socket_dir`.
    pub socket: Option<String>,
    /// A directory that the pod mounts.
    pub socket_dir: Option<PathBuf>,
    /// Whether unsealed memory of the pod's is accepted.
    pub allow_unsealed: bool,
}

impl MemifConf {
    /// Reads and checks them.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub(super) fn read(fields: &Fields<'_>) -> Result<MemifConf, Error> {
        fields.only(&[
            "role",
            "rings",
            "ringSize",
            "bufferSize",
            "secret",
            "id",
            "socket",
            "socketDir",
            "allowUnsealed",
        ])?;
        let role = match fields.string("role")? {
            None | Some("server") => MemifRole::Server,
            Some("client") => MemifRole::Client,
            Some(_) => return Err(fields.wrong("role", "the engine's role: server or client")),
        };
        let ring_size: Option<u16> = fields.integer("ringSize", 2, 16_384)?;
        if ring_size.is_some_and(|size| !size.is_power_of_two()) {
            return Err(fields.wrong("ringSize", "a power of two from 2 to 16384"));
        }
        let secret = fields.string("secret")?.map(str::to_owned);
        if secret
            .as_ref()
            .is_some_and(|secret| secret.len() > 24 || secret.contains('\0'))
        {
            // Not shown: it is a secret.
            return Err(Error::Config(
                "memif.secret must have at most 24 bytes, none of them 0".into(),
            ));
        }
        let socket_dir = fields
            .string("socketDir")?
            .filter(|dir| !dir.is_empty())
            .map(PathBuf::from);
        if socket_dir.as_ref().is_some_and(|dir| !dir.is_absolute()) {
            return Err(fields.wrong("socketDir", "an absolute path"));
        }
        let socket = fields
            .string("socket")?
            .filter(|name| !name.is_empty())
            .map(str::to_owned);
        if let Some(name) = socket.as_deref().and_then(|name| name.strip_prefix('@'))
            && name.len() > 107
        {
            return Err(fields.wrong(
                "socket",
                "an abstract name of at most 107 bytes behind the @",
            ));
        }
        if let Some(name) = &socket {
            let whole = name.len() > 1 && (name.starts_with('/') || name.starts_with('@'));
            let file_name = !name.contains('/') && name != "." && name != "..";
            let known = whole || (file_name && socket_dir.is_some());
            if !known {
                let want = "@name, an absolute path, or a file name beside socketDir";
                return Err(fields.wrong("socket", want));
            }
        }
        Ok(MemifConf {
            role,
            rings: fields.integer("rings", 1, 16)?,
            ring_size,
            buffer_size: fields.integer("bufferSize", 256, 16_384)?,
            secret,
            id: fields
                .integer("id", 0, u64::from(u32::MAX))?
                .unwrap_or_default(),
            socket,
            socket_dir,
            allow_unsealed: fields.boolean("allowUnsealed")?.unwrap_or_default(),
        })
    }
}
