// SPDX-License-Identifier: Apache-2.0
//! `sluicectl install` and `uninstall`: by hand what the agent does in a cluster.

use std::path::{Path, PathBuf};

use clap::Args;
use comfy_table::Cell;
use serde_json::{Map, Value};
use sluice_install::{Change, Done, FileKind, Installation, Kubeconfig, Mode, Plan, Primary};
use sluicegate::records;

use super::Failure;
use super::output::{Output, Style, render};

/// Default folder of CNI state (`cniDir` of the plugins' configuration).
const CNI_DIR: &str = "/var/lib/cni";
/// Default folder of the record.
const STATE_DIR: &str = "/var/lib/sluicegate";
/// Name by which a kubeconfig says who wrote it.
const KEEPER: &str = "sluicectl";

const HELP: &str = "\
Three steps, in this order: the plugins, a kubeconfig, and the CNI configuration, from which on the container runtime \
calls the plugins. Each file is renamed into place, and what is there as it is to be is left alone, so the command may \
run again at any time. In a cluster the agent does all this, and renews the token.

The configuration delegates to the network that pods have today: the first file of the folder that is not ours, or the \
one that --primary names; that one may also be a template that calls sluicegate itself. `--set` adds keys to it.

The plugins ask the API server for networks that pods name by annotation. For that they need a kubeconfig:

  --kubeconfig FILE                      one that is there, and that you renew
  --server URL --token-file F [--ca F]   written here; make the token last, and bind it to no pod:
                                         kubectl -n kube-system create token sluicegate --duration 720h

Without one, pods have the networks of the configuration only.

Folders of other platforms:
  k3s, RKE2   --bin-dir /var/lib/rancher/k3s/data/cni --conf-dir /var/lib/rancher/k3s/agent/etc/cni/net.d
  OpenShift   --bin-dir /var/lib/cni/bin --plugins-only       its Multus calls sluicegate-vf

What was put where is in /var/lib/sluicegate/install.json; `sluicectl uninstall` goes by it.";

/// Arguments of `install`.
#[derive(Debug, Args)]
#[command(after_long_help = HELP)]
pub struct InstallArgs {
    /// Folder that has the plugins [default: the one of this program]
    #[arg(long, value_name = "DIR")]
    source: Option<PathBuf>,
    /// Folder in which the container runtime looks for plugins
    #[arg(long, value_name = "DIR", default_value = "/opt/cni/bin")]
    bin_dir: PathBuf,
    /// Folder in which the container runtime looks for configurations
    #[arg(long, value_name = "DIR", default_value = "/etc/cni/net.d")]
    conf_dir: PathBuf,
    /// Path of that folder on the host, where it is another one here
    #[arg(long, value_name = "DIR")]
    host_conf_dir: Option<PathBuf>,
    /// Name of the configuration; runtimes take the first of the folder
    #[arg(long, value_name = "NAME", default_value = "00-sluicegate.conflist")]
    conf_name: String,
    /// Configuration of the primary network, or a template; `auto`: the first of the folder
    #[arg(long, value_name = "FILE", default_value = "auto")]
    primary: PathBuf,
    /// Kubeconfig that is there already, an absolute path on the host
    #[arg(long, value_name = "FILE", conflicts_with_all = ["server", "token_file", "ca"])]
    kubeconfig: Option<PathBuf>,
    /// Address of the API server, best by IP: https://10.96.0.1:443
    #[arg(long, value_name = "URL", requires = "token_file")]
    server: Option<String>,
    /// File with a token of the plugins' service account
    #[arg(long, value_name = "FILE", requires = "server")]
    token_file: Option<PathBuf>,
    /// File with the certificates of the API server's authorities, in PEM
    #[arg(long, value_name = "FILE", requires = "server")]
    ca: Option<PathBuf>,
    /// Further key of sluicegate in the configuration; VALUE is JSON, or text
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Only put sluicegate-vf there, for a Multus that calls it
    #[arg(long, conflicts_with_all = ["kubeconfig", "server", "set"])]
    plugins_only: bool,
    /// Say what would be done; change nothing
    #[arg(long)]
    dry_run: bool,
    /// Folder of the record of what was installed
    #[arg(long, value_name = "DIR", default_value = STATE_DIR)]
    state_dir: PathBuf,
}

/// Arguments of `uninstall`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
The configuration goes first, so that the runtime calls the primary network's plugins again, then the kubeconfig and the \
plugins. Files that were there before come back; a file that somebody changed since then is left. It is refused while \
pods have networks that only the plugins take away again: `sluicectl records list` shows them.")]
pub struct UninstallArgs {
    /// Even if pods have networks of ours
    #[arg(long)]
    force: bool,
    /// Say what would be done; change nothing
    #[arg(long)]
    dry_run: bool,
    /// Folder of the record of what was installed
    #[arg(long, value_name = "DIR", default_value = STATE_DIR)]
    state_dir: PathBuf,
    /// Folder of the plugins' state: `cniDir` of their configuration
    #[arg(long, value_name = "DIR", default_value = CNI_DIR)]
    cni_dir: PathBuf,
}

/// Installs and shows what became of each file.
pub(super) fn install(args: &InstallArgs, output: &mut Output) -> Result<(), Failure> {
    let plan = plan(args)?;
    let written = kubeconfig(args)?;
    let mut node = if args.dry_run {
        Installation::dry(plan)?
    } else {
        Installation::open(plan)?
    };
    let mut changes = node.plugins()?;
    if let Some(kubeconfig) = &written {
        changes.extend(node.kubeconfig(kubeconfig)?);
    }
    changes.extend(node.conf()?);
    Ok(output.show(&changes, |list, style| table(list, style))?)
}

/// Uninstalls and shows what became of each file.
pub(super) fn uninstall(args: &UninstallArgs, output: &mut Output) -> Result<(), Failure> {
    let pods = records::live_pods(&args.cni_dir)?;
    let plan = Plan {
        state_dir: args.state_dir.clone(),
        ..Plan::default()
    };
    let mut node = if args.dry_run {
        Installation::dry(plan)?
    } else {
        Installation::open(plan)?
    };
    let changes = node.uninstall(&pods, args.force)?;
    Ok(output.show(&changes, |list, style| {
        if list.is_empty() {
            return "nothing is installed\n".to_owned();
        }
        table(list, style)
    })?)
}

fn plan(args: &InstallArgs) -> Result<Plan, Failure> {
    let beside = || {
        let own = std::env::current_exe()?;
        Ok(own.parent().unwrap_or(Path::new("/")).to_owned())
    };
    let source = args
        .source
        .clone()
        .map_or_else(beside, Ok)
        .map_err(Failure::Output)?;
    if !args.conf_name.ends_with(".conflist") || args.conf_name.contains('/') {
        return Err(Failure::InstallValue(
            "--conf-name is a file name that ends in .conflist, such as 00-sluicegate.conflist"
                .into(),
        ));
    }
    if let Some(path) = args.kubeconfig.as_ref().filter(|path| !path.is_absolute()) {
        return Err(Failure::InstallValue(format!(
            "--kubeconfig {}: write the path from / on, as plugins run in any folder",
            path.display()
        )));
    }
    let mut extra = Map::new();
    for text in &args.set {
        let (key, value) = text.split_once('=').ok_or_else(|| {
            Failure::InstallValue(format!(
                "--set {text}: write KEY=VALUE, such as LogLevel=info"
            ))
        })?;
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
        extra.insert(key.to_owned(), value);
    }
    // The record is read from anywhere.
    let absolute = |path: &Path| std::path::absolute(path).map_err(Failure::Output);
    let conf_dir = absolute(&args.conf_dir)?;
    Ok(Plan {
        source: absolute(&source)?,
        bin_dir: absolute(&args.bin_dir)?,
        host_conf_dir: args
            .host_conf_dir
            .clone()
            .unwrap_or_else(|| conf_dir.clone()),
        conf_dir,
        state_dir: absolute(&args.state_dir)?,
        conf_name: args.conf_name.clone(),
        mode: if args.plugins_only {
            Mode::PluginsOnly
        } else {
            Mode::Full
        },
        primary: match args.primary.to_str() {
            Some("auto") => Primary::Auto,
            _ => Primary::File(absolute(&args.primary)?),
        },
        own_kubeconfig: args.kubeconfig.clone(),
        extra,
    })
}

/// Kubeconfig that is to be written, if one is.
fn kubeconfig(args: &InstallArgs) -> Result<Option<Kubeconfig>, Failure> {
    let (Some(server), Some(token_file)) = (&args.server, &args.token_file) else {
        return Ok(None);
    };
    let read = |path: &PathBuf| {
        std::fs::read_to_string(path).map_err(|source| Failure::File {
            path: path.clone(),
            source,
        })
    };
    let token = read(token_file)?.trim().to_owned();
    if token.is_empty() {
        let message = format!("{} is empty: it is to have a token", token_file.display());
        return Err(Failure::InstallValue(message));
    }
    Ok(Some(Kubeconfig {
        server: server.trim_end_matches('/').to_owned(),
        ca: args.ca.as_ref().map(read).transpose()?,
        token,
        keeper: KEEPER.to_owned(),
    }))
}

fn table(changes: &[Change], style: Style) -> String {
    let mut table = style.table(&["FILE", "KIND", ""]);
    for change in changes {
        let kind = match change.kind {
            FileKind::Conf => "CNI configuration",
            FileKind::Kubeconfig => "kubeconfig",
            FileKind::Plugin => "plugin",
        };
        let done = match change.done {
            Done::Created => style.good("created"),
            Done::Replaced => style.good("replaced"),
            Done::Unchanged => Cell::new("unchanged"),
            Done::Removed => style.good("removed"),
            Done::Restored => style.good("the one before is back"),
            Done::Left => style.bad("changed by somebody since then, left"),
        };
        table.add_row(vec![
            Cell::new(change.path.display()),
            Cell::new(kind),
            done,
        ]);
    }
    render(table)
}
