// SPDX-License-Identifier: Apache-2.0
//! `--memif socket=@sluicegate/net1,role=client,id=0,...`: one memif in one argument.

use std::str::FromStr;

use anyhow::{Context, Result, anyhow, bail, ensure};
use sluice_memif::{Address, EndpointConfig, Memif, Role, Secret};

/// Description of a memif's keys, for `--help`.
pub const MEMIF_HELP: &str = "\
A memif is written key=value,key=value,...:
  socket=      @name for an abstract socket in this network namespace, or a path; needed.
               The engine's default for interface net1 is @sluicegate/net1
  role=        client (default: connects, gives the memory) or server (listens)
  id=          number of the interface on the socket, default 0; the same on both sides
  secret=      at most 24 bytes; the same on both sides
  name=        what the peer shows, default the socket's last part
  queues=      receive and transmit queues, 1 to 64, default 1
  ring-size=   descriptors per ring, a power of two from 2 to 16384, default 1024
  buffer-size= bytes per buffer as a client, default 2048
It connects again whenever the other side went away.";

/// Parsed `--memif`. Keys that are not about the memif itself are in `rest`, for the program.
#[derive(Debug, Clone)]
pub struct MemifArg {
    /// Name that the peer shows.
    pub name: String,
    /// Address of the socket.
    pub address: Address,
    /// Settings of the endpoint.
    pub config: EndpointConfig,
    /// Keys that are the program's own, with their values, in order.
    pub rest: Vec<(String, String)>,
}

impl FromStr for MemifArg {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<MemifArg> {
        let pairs = text.split(',').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| {
            pair.split_once('=')
                .with_context(|| format!("{pair:?} is not key=value"))
        });
        MemifArg::from_pairs(&pairs.collect::<Result<Vec<_>>>()?)
    }
}

impl MemifArg {
    /// Reads keys and values that are not in one text, as from a file.
    ///
    /// # Errors
    /// A value that its key does not take, or no `socket`.
    pub fn from_pairs(pairs: &[(&str, &str)]) -> Result<MemifArg> {
        let mut address: Option<Address> = None;
        let mut name = None;
        let mut config = EndpointConfig::new(Role::Client, "");
        let mut rest = Vec::new();
        for &(key, value) in pairs {
            let number = || {
                value
                    .parse::<u32>()
                    .with_context(|| format!("{key}={value}"))
            };
            match key {
                "socket" => address = Some(value.parse().context("socket")?),
                "role" => {
                    config.role = match value {
                        "client" => Role::Client,
                        "server" => Role::Server,
                        _ => bail!("role={value}: client or server"),
                    };
                }
                "id" => config.id = number()?,
                "secret" => {
                    let secret = Secret::new(value).context("secret= takes 1 to 24 bytes")?;
                    config.secret = Some(secret);
                }
                "name" => name = Some(value.to_owned()),
                "queues" => {
                    config.queue_pairs = u16::try_from(number()?).context("queues")?;
                }
                "ring-size" => {
                    let size = number()?;
                    ensure!(
                        size.is_power_of_two() && (2..=16_384).contains(&size),
                        "ring-size={size}: a power of two from 2 to 16384"
                    );
                    config.log2_ring_size = u8::try_from(size.trailing_zeros())?;
                }
                "buffer-size" => config.buffer_size = number()?,
                _ => rest.push((key.to_owned(), value.to_owned())),
            }
        }
        let address = address.ok_or_else(|| anyhow!("socket= is missing"))?;
        let shown = address.to_string();
        let last = shown
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .trim_start_matches('@');
        let name = name.unwrap_or_else(|| last.to_owned());
        config.name.clone_from(&name);
        Ok(MemifArg {
            name,
            address,
            config,
            rest,
        })
    }

    /// Starts it.
    ///
    /// # Errors
    /// The settings are out of range, or no thread or file descriptor is left.
    pub fn open(&self) -> Result<Memif> {
        Memif::open(self.config.clone(), self.address.clone())
            .with_context(|| format!("memif {}", self.name))
    }
}
