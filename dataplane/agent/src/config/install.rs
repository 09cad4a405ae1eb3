// SPDX-License-Identifier: Apache-2.0
//! Section `install`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;
use sluice_install::{Mode, Plan, Primary};
use sluice_yaml::{Checker, Scalar};

/// Shortest life of a token that an API server gives.
const TOKEN_MIN: u32 = 600;
/// Life of a token that is asked for by default: a day.
const TOKEN_DEFAULT: u32 = 86_400;

/// Section `install` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    mode: Option<Scalar>,
    source: Option<Scalar>,
    bin_dir: Option<Scalar>,
    conf_dir: Option<Scalar>,
    host_conf_dir: Option<Scalar>,
    state_dir: Option<Scalar>,
    cni_dir: Option<Scalar>,
    conf_name: Option<Scalar>,
    primary: Option<Scalar>,
    server: Option<Scalar>,
    service_account: Option<Scalar>,
    token_seconds: Option<Scalar>,
    wait_for_engine: Option<Scalar>,
    #[serde(default)]
    conf: BTreeMap<String, Value>,
}

/// Section `install`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstallConfig {
    /// Folders, names and contents.
    pub plan: Plan,
    /// Folder of the plugins' records, which tell what pods have networks of ours.
    pub cni_dir: PathBuf,
    /// Address of the API server for the plugins; `None`: the one that this pod has from the kubelet, or the
    /// agent's kubeconfig.
    pub server: Option<String>,
    /// Namespace of the plugins' service account.
    pub account_namespace: String,
    /// Name of the plugins' service account.
    pub account: String,
    /// Life of a token, in seconds.
    pub token_seconds: u32,
    /// Whether the configuration waits for an engine that is ready, the first time.
    pub wait_for_engine: bool,
}

/// Checks the section.
pub(super) fn check(checker: &mut Checker<'_>, raw: &Raw) -> InstallConfig {
    let default = Plan::default();
    let mut path = |key: &str, raw: &Option<Scalar>, default: &PathBuf| {
        let key = format!("install.{key}");
        checker.path(&key, raw.as_ref(), &default.to_string_lossy())
    };
    let conf_dir = path("conf_dir", &raw.conf_dir, &default.conf_dir);
    let host_conf_dir = path("host_conf_dir", &raw.host_conf_dir, &conf_dir);
    let plan = Plan {
        source: path("source", &raw.source, &default.source),
        bin_dir: path("bin_dir", &raw.bin_dir, &default.bin_dir),
        state_dir: path("state_dir", &raw.state_dir, &default.state_dir),
        conf_dir,
        host_conf_dir,
        primary: match &raw.primary {
            Some(file) if file.value != "auto" => {
                Primary::File(path("primary", &raw.primary, &PathBuf::from("auto")))
            }
            _ => Primary::Auto,
        },
        extra: raw.conf.clone().into_iter().collect(),
        ..default
    };
    let cni_dir = path("cni_dir", &raw.cni_dir, &PathBuf::from("/var/lib/cni"));
    let modes = [("full", Mode::Full), ("plugins-only", Mode::PluginsOnly)];
    let mode = checker.word("install.mode", raw.mode.as_ref(), &modes);
    let (account_namespace, account) = account(checker, raw.service_account.as_ref());
    InstallConfig {
        plan: Plan {
            mode: mode.unwrap_or_default(),
            conf_name: conf_name(checker, raw.conf_name.as_ref()).unwrap_or(plan.conf_name),
            ..plan
        },
        cni_dir,
        server: server(checker, raw.server.as_ref()),
        account_namespace,
        account,
        token_seconds: checker.number(
            "install.token_seconds",
            raw.token_seconds.as_ref(),
            TOKEN_DEFAULT,
            (TOKEN_MIN, 31_536_000),
        ),
        wait_for_engine: checker.flag(
            "install.wait_for_engine",
            raw.wait_for_engine.as_ref(),
            true,
        ),
    }
}

fn account(checker: &mut Checker<'_>, raw: Option<&Scalar>) -> (String, String) {
    let default = || ("kube-system".to_owned(), "sluicegate".to_owned());
    let Some(raw) = raw else { return default() };
    match raw.value.split_once('/') {
        Some((namespace, name))
            if !namespace.is_empty() && !name.is_empty() && !name.contains('/') =>
        {
            (namespace.to_owned(), name.to_owned())
        }
        _ => {
            let message = format!("\"{}\" is not allowed: use NAMESPACE/NAME", raw.value);
            checker.problem(Some(raw.referenced), "install.service_account", message);
            default()
        }
    }
}

fn conf_name(checker: &mut Checker<'_>, raw: Option<&Scalar>) -> Option<String> {
    let raw = raw?;
    if raw.value.ends_with(".conflist") && !raw.value.contains('/') {
        return Some(raw.value.clone());
    }
    let message = format!(
        "\"{}\" is not allowed: use a file name that ends in .conflist, such as 00-sluicegate.conflist",
        raw.value
    );
    checker.problem(Some(raw.referenced), "install.conf_name", message);
    None
}

fn server(checker: &mut Checker<'_>, raw: Option<&Scalar>) -> Option<String> {
    let raw = raw?;
    if !raw.value.starts_with("https://") && !raw.value.starts_with("http://") {
        let message = format!("\"{}\" is not allowed: use https://ADDRESS:PORT", raw.value);
        checker.problem(Some(raw.referenced), "install.server", message);
    }
    Some(raw.value.trim_end_matches('/').to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::AgentConfig;

    fn parse(text: &str) -> Result<InstallConfig, String> {
        let parsed = AgentConfig::parse(Path::new("a.yaml"), text, None);
        parsed
            .map(|config| config.install.unwrap())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn an_empty_section_has_the_defaults_of_kubeadm() {
        let config = parse("install: {}\n").unwrap();
        assert_eq!(config.plan, Plan::default());
        assert_eq!(
            (config.token_seconds, config.wait_for_engine),
            (86_400, true)
        );
        assert_eq!(
            (config.account_namespace.as_str(), config.account.as_str()),
            ("kube-system", "sluicegate")
        );
    }

    #[test]
    fn values_and_their_problems() {
        let config = parse(
            "install:\n  conf_dir: /host/net.d\n  host_conf_dir: /etc/cni/net.d\n  primary: /t.conflist\n  mode: \
             plugins-only\n  conf: {LogLevel: info, disableGC: true}\n  server: https://10.0.0.1:6443/\n",
        )
        .unwrap();
        assert_eq!(config.plan.host_conf_dir, Path::new("/etc/cni/net.d"));
        assert_eq!(config.plan.primary, Primary::File("/t.conflist".into()));
        assert_eq!(config.plan.mode, Mode::PluginsOnly);
        assert_eq!(config.plan.extra["disableGC"], true);
        assert_eq!(config.server.as_deref(), Some("https://10.0.0.1:6443"));
        let told = parse(
            "install:\n  mode: half\n  bin_dir: bin\n  conf_name: a/b.conf\n  service_account: x\n  token_seconds: \
             10\n  server: api\n",
        )
        .unwrap_err();
        assert_eq!(told.lines().count(), 6, "{told}");
    }
}
