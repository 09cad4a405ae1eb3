// SPDX-License-Identifier: Apache-2.0
//! Address and credentials of the API server, from a kubeconfig or the pod's service account, read as Go's client
//! reads them: base64 may be broken into lines, a token's file may end with a newline.

use std::fs;
use std::path::Path;

use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::Value;

use super::chain;
use super::proxy::Proxy;
use super::unauthorized::Origin;
use crate::Error;

/// Address and credentials of an API server.
pub(super) struct Credentials {
    /// Configuration of a client.
    pub(super) config: Config,
    /// Proxy on its way.
    pub(super) proxy: Option<Proxy>,
    /// Origin of the token, which is in `config` too.
    pub(super) origin: Origin,
}

/// Reads a kubeconfig or, without one, what the pod of this process has.
pub(super) async fn read(kubeconfig: Option<&Path>) -> Result<Credentials, Error> {
    let mut origin = kubeconfig.map_or_else(Origin::default, Origin::of_kubeconfig);
    if kubeconfig.is_none() {
        "the pod's service account".clone_into(&mut origin.name);
    }
    let of = origin.name.clone();
    let wrong = |why: String| Error::Config(format!("{of}: {why}"));
    let (mut config, proxy_url) = match kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path).map_err(|error| wrong(chain(&error)))?;
            origin.kept_as(&file);
            let file = as_go_reads(file).map_err(wrong)?;
            let proxy_url = proxy_url(&file);
            let options = KubeConfigOptions::default();
            let config = Config::from_custom_kubeconfig(file, &options).await;
            (config.map_err(|error| wrong(chain(&error)))?, proxy_url)
        }
        None => {
            let config = Config::incluster().map_err(|error| wrong(chain(&error)))?;
            (config, None)
        }
    };
    if let Some(path) = config.auth_info.token_file.clone() {
        origin.token_is_in(Path::new(&path));
        let token = token(Path::new(&path)).map_err(wrong)?;
        config.auth_info.token = Some(token.into());
    }
    origin.token = token_of(&config);
    let variable = |name: &str| std::env::var(name).ok();
    let proxy =
        Proxy::choose(&config.cluster_url, proxy_url.as_deref(), variable).map_err(wrong)?;
    config.proxy_url = None;
    Ok(Credentials {
        config,
        proxy,
        origin,
    })
}

/// Token of a configuration, which keeps it out of what it shows.
fn token_of(config: &Config) -> Option<String> {
    let users = serde_json::to_value(&config.auth_info).ok()?;
    users["token"].as_str().map(str::to_owned)
}

/// Token in a file. The file may be written anew while it is read, by whoever renews it.
fn token(path: &Path) -> Result<String, String> {
    let text = fs::read_to_string(path)
        .map_err(|error| format!("token file {}: {error}", path.display()))?;
    let token = text.trim();
    if token.is_empty() {
        return Err(format!("token file {} is empty", path.display()));
    }
    Ok(token.to_owned())
}

/// `proxy-url` of the cluster that is used.
fn proxy_url(file: &Kubeconfig) -> Option<String> {
    let current = file.current_context.as_ref()?;
    let context = file.contexts.iter().find(|named| named.name == *current)?;
    let cluster = &context.context.as_ref()?.cluster;
    let cluster = file.clusters.iter().find(|named| named.name == *cluster)?;
    cluster.cluster.as_ref()?.proxy_url.clone()
}

/// A kubeconfig without what Go's client passes over: line breaks in base64, white space around a token. A token's
/// file counts before a token that is written beside it.
fn as_go_reads(file: Kubeconfig) -> Result<Kubeconfig, String> {
    let mut json = serde_json::to_value(file).map_err(|error| error.to_string())?;
    for (list, inner) in [("clusters", "cluster"), ("users", "user")] {
        let entries = json.get_mut(list).and_then(Value::as_array_mut);
        for entry in entries.into_iter().flatten() {
            let Some(map) = entry.get_mut(inner).and_then(Value::as_object_mut) else {
                continue;
            };
            for (key, value) in map.iter_mut() {
                let Some(text) = value.as_str() else { continue };
                if key.ends_with("-data") {
                    *value = text.replace(['\r', '\n'], "").into();
                } else if key == "token" {
                    *value = text.trim().into();
                }
            }
            let names_file = |key: &str| map.get(key).and_then(Value::as_str);
            let readable =
                names_file("tokenFile").is_some_and(|path| token(Path::new(path)).is_ok());
            if readable {
                map.remove("token");
            } else if map.get("token").is_some_and(Value::is_string) {
                map.remove("tokenFile");
            }
        }
    }
    serde_json::from_value(json).map_err(|error| error.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use serde_json::json;

    fn config(kubeconfig: &Path) -> Result<(Config, Option<Proxy>), Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let read = runtime.unwrap().block_on(read(Some(kubeconfig)))?;
        Ok((read.config, read.proxy))
    }

    #[test]
    fn base64_in_lines_and_a_token_file_with_a_newline() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kubeconfig");
        let token = dir.path().join("token");
        let write = |user: Value| {
            // "-----BEGIN" as openssl base64 and kubectl print it, a few characters a line.
            let text = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
                "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1",
                    "proxy-url": "http://p:1", "insecure-skip-tls-verify": true}}],
                "users": [{"name": "u", "user": user}],
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]});
            fs::write(&path, text.to_string()).unwrap();
        };
        fs::write(&token, "abc.def\n").unwrap();
        write(json!({"tokenFile": token, "token": "older", "client-key-data": "YWJj\nZGVm\r\n"}));
        let (read, proxy) = config(&path).unwrap();
        let users = serde_json::to_value(&read.auth_info).unwrap();
        assert_eq!(users["token"], "abc.def");
        assert_eq!(users["client-key-data"], "YWJjZGVm");
        assert_eq!(proxy.unwrap().uri, "http://p:1/");
        fs::write(&token, "\n").unwrap();
        write(json!({"tokenFile": token}));
        let error = config(&path).unwrap_err();
        assert_eq!(error.code(), 7);
        assert!(error.to_string().contains("is empty"), "{error}");
        write(json!({"tokenFile": token, "token": "beside\n"}));
        let (read, _) = config(&path).unwrap();
        let users = serde_json::to_value(&read.auth_info).unwrap();
        assert_eq!(users["token"], "beside");
    }
}
