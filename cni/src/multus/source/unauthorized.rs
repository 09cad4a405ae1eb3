// SPDX-License-Identifier: Apache-2.0
//! Judgement of a 401: whether somebody renews the credentials that the API server refused, so that the same call
//! succeeds later, or nobody does. A one-shot program remembers nothing, so it goes by facts: the claims of the token,
//! the age of its file, and who says in the kubeconfig that he keeps it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::jiff::Timestamp;
use kube::config::Kubeconfig;
use serde_json::Value;

use crate::Error;

/// Name of the extension in which a kubeconfig says who keeps it; its `keeper` is a program's name.
const EXTENSION: &str = "sluicegate";
/// Age up to which the API server may not know a credential yet, or a reader may have met the one before.
const FRESH: Duration = Duration::from_secs(60);

/// Credentials of a call, as far as a 401 is judged by them.
#[derive(Debug, Clone, Default)]
pub(super) struct Origin {
    /// Kubeconfig, or the service account of a pod, in words.
    pub(super) name: String,
    /// Token that is sent.
    pub(super) token: Option<String>,
    /// File of the token alone.
    token_file: Option<PathBuf>,
    /// Program that keeps the kubeconfig.
    keeper: Option<String>,
    /// Files that were read, and when each had been written.
    files: Vec<(PathBuf, Option<SystemTime>)>,
}

impl Origin {
    /// Notes a kubeconfig that is about to be read.
    pub(super) fn of_kubeconfig(path: &Path) -> Origin {
        let mut origin = Origin {
            name: format!("kubeconfig {}", path.display()),
            ..Origin::default()
        };
        origin.reads(path);
        origin
    }

    /// Notes who keeps the kubeconfig.
    pub(super) fn kept_as(&mut self, file: &Kubeconfig) {
        let mut extensions = file.extensions.iter().flatten();
        let ours = extensions.find(|named| named.name == EXTENSION);
        let keeper = ours.and_then(|named| named.extension["keeper"].as_str());
        self.keeper = keeper.map(str::to_owned);
    }

    /// Notes a token's file that is about to be read.
    pub(super) fn token_is_in(&mut self, path: &Path) {
        self.token_file = Some(path.to_owned());
        self.reads(path);
    }

    fn reads(&mut self, path: &Path) {
        self.files.push((path.to_owned(), written(path)));
    }

    /// Judges a 401 at `now`; the flag says whether the same token may be taken a moment later.
    pub(super) fn judge(&self, said: &str, now: SystemTime) -> (Error, bool) {
        let name = &self.name;
        let again = |why: String| (Error::TryAgain(format!("{said}: {why}")), false);
        let never = |why: String| (Error::Config(format!("{said}: {why}")), false);
        if let Some((path, _)) = self.files.iter().find(|(path, at)| written(path) != *at) {
            return again(format!("{} was renewed meanwhile", path.display()));
        }
        let age = |at: &SystemTime| now.duration_since(*at).unwrap_or_default();
        let youngest = self
            .files
            .iter()
            .filter_map(|(_, at)| at.as_ref().map(age))
            .min();
        if let Some(age) = youngest.filter(|age| *age < FRESH) {
            let why = format!(
                "{name} was written {} s ago: the API server may not know its credentials yet",
                age.as_secs()
            );
            return (Error::TryAgain(format!("{said}: {why}")), true);
        }
        let claims = self.token.as_deref().and_then(claims).unwrap_or_default();
        let ended =
            ended(&claims, now).map_or_else(String::new, |at| format!(" (it ended at {at})"));
        match self.keeper.as_deref() {
            Some("sluice-agent") => {
                return again(format!(
                    "the token of {name} is not good{ended}: the node's sluice-agent renews it; if this stays, its log \
                     says why it cannot (`kubectl -n kube-system logs -l app.kubernetes.io/component=agent`)"
                ));
            }
            Some(keeper) => {
                return never(format!(
                    "the token of {name} is not good{ended}, and {keeper} wrote it once: run `sluicectl install` again \
                     with a new token, or let sluice-agent renew it"
                ));
            }
            None => {}
        }
        if let Some(pod) = bound_to(&claims) {
            return again(format!(
                "the token of {name} is bound to pod {pod}{ended} and ends with it: the pod that follows is to write its \
                 own; better is one bound to no pod, which `sluicectl install` or sluice-agent keeps"
            ));
        }
        match &self.token_file {
            Some(path) if !ended.is_empty() => again(format!(
                "the token in {}{ended}: whoever writes that file is to renew it",
                path.display()
            )),
            _ => never(format!(
                "the credentials of {name} are not (or no more) good{ended}: renew them, or let sluice-agent do it"
            )),
        }
    }
}

fn written(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|data| data.modified()).ok()
}

/// Claims of a JSON Web Token (RFC 7519). Its signature is the API server's to check.
fn claims(token: &str) -> Option<Value> {
    let payload = token.split('.').nth(1)?;
    let bytes = URL_SAFE_NO_PAD.decode(payload).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// End of a token, if it is past.
fn ended(claims: &Value, now: SystemTime) -> Option<String> {
    let end = claims["exp"].as_i64()?;
    let now = now.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
    (end <= i64::try_from(now).ok()?)
        .then(|| Timestamp::from_second(end).map_or_else(|_| end.to_string(), |at| at.to_string()))
}

/// Pod that a token is bound to: `namespace/name`.
fn bound_to(claims: &Value) -> Option<String> {
    let of = &claims["kubernetes.io"];
    let pod = of["pod"]["name"].as_str()?;
    Some(format!(
        "{}/{pod}",
        of["namespace"].as_str().unwrap_or_default()
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use serde_json::json;

    fn token(claims: &Value) -> String {
        format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(claims.to_string()))
    }

    /// Code of the answer to a 401, an hour after the kubeconfig was written.
    fn judged(keeper: Option<&str>, in_file: bool, claims: &Value) -> (u32, String) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kubeconfig");
        fs::write(&path, "").unwrap();
        let mut origin = Origin::of_kubeconfig(&path);
        origin.keeper = keeper.map(str::to_owned);
        origin.token = Some(token(claims));
        if in_file {
            origin.token_is_in(&path);
        }
        let now = SystemTime::now() + Duration::from_secs(3_600);
        let (error, soon) = origin.judge("get pod", now);
        assert!(!soon);
        (error.code(), error.to_string())
    }

    #[test]
    fn somebody_who_renews_makes_it_pass() {
        let past = json!({"exp": 1_000_000_000});
        let bound = json!({"exp": 9_000_000_000_i64, "kubernetes.io": {"namespace": "n", "pod": {"name": "p"}}});
        for (keeper, in_file, claims, code, hint) in [
            (
                Some("sluice-agent"),
                false,
                &past,
                11,
                "2001-09-09T01:46:40Z",
            ),
            (Some("sluicectl"), false, &past, 7, "sluicectl install"),
            (None, false, &bound, 11, "bound to pod n/p"),
            (None, true, &past, 11, "whoever writes that file"),
            (None, false, &past, 7, "2001-09-09T01:46:40Z"),
            (
                None,
                false,
                &json!({"exp": 9_000_000_000_i64}),
                7,
                "renew them",
            ),
            (None, true, &json!(7), 7, "renew them"),
        ] {
            let (found, said) = judged(keeper, in_file, claims);
            assert_eq!(found, code, "{said}");
            assert!(said.contains(hint), "{said}");
        }
    }

    #[test]
    fn files_that_are_new_or_were_renewed_make_it_pass() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kubeconfig");
        fs::write(&path, "").unwrap();
        let origin = Origin::of_kubeconfig(&path);
        let (error, soon) = origin.judge("x", SystemTime::now());
        assert!(soon && error.code() == 11, "{error}");
        fs::remove_file(&path).unwrap();
        let (error, soon) = origin.judge("x", SystemTime::now());
        assert!(!soon && error.to_string().contains("meanwhile"), "{error}");
    }
}
