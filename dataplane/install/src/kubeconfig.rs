// SPDX-License-Identifier: Apache-2.0
//! [`Kubeconfig`]: the address of the API server and a token, in one file, so that no reader meets the token of one
//! cluster with the authority of another.

use std::path::Path;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// Content of a kubeconfig for the plugins.
#[derive(Clone, PartialEq, Eq)]
pub struct Kubeconfig {
    /// Address of the API server, `https://10.96.0.1:443`: an IP address serves even where names are not served.
    pub server: String,
    /// Certificates of its authorities, in PEM; `None`: those of the host.
    pub ca: Option<String>,
    /// Bearer token.
    pub token: String,
    /// Program that keeps the file: `sluice-agent` renews the token, anybody else wrote it once. A plugin says so
    /// when the API server refuses the token.
    pub keeper: String,
}

impl std::fmt::Debug for Kubeconfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kubeconfig")
            .field("server", &self.server)
            .field("keeper", &self.keeper)
            .finish_non_exhaustive()
    }
}

impl Kubeconfig {
    /// Text of the file.
    pub fn text(&self) -> String {
        let mut cluster = json!({"server": self.server});
        if let Some(ca) = &self.ca {
            cluster["certificate-authority-data"] = STANDARD.encode(ca).into();
        }
        let file = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "sluicegate",
            "clusters": [{"name": "sluicegate", "cluster": cluster}],
            "users": [{"name": "sluicegate", "user": {"token": self.token}}],
            "contexts": [{"name": "sluicegate", "context": {"cluster": "sluicegate", "user": "sluicegate"}}],
            "extensions": [{"name": "sluicegate", "extension": {"keeper": self.keeper}}],
        });
        format!("{file:#}\n")
    }

    /// Reads a file that [`Kubeconfig::text`] made; `None` if there is none, or another one.
    pub fn read(path: &Path) -> Option<Kubeconfig> {
        let text = std::fs::read(path).ok()?;
        let file: Value = serde_json::from_slice(&text).ok()?;
        let cluster = &file["clusters"][0]["cluster"];
        let string = |value: &Value| value.as_str().map(str::to_owned);
        let ca = match string(&cluster["certificate-authority-data"]) {
            Some(data) => Some(String::from_utf8(STANDARD.decode(data).ok()?).ok()?),
            None => None,
        };
        Some(Kubeconfig {
            server: string(&cluster["server"])?,
            ca,
            token: string(&file["users"][0]["user"]["token"])?,
            keeper: string(&file["extensions"][0]["extension"]["keeper"])?,
        })
    }
}

/// Certificates in PEM (RFC 7468), from DER.
pub fn pem(certificates: &[Vec<u8>]) -> String {
    let mut text = String::new();
    for certificate in certificates {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        let mut rest = STANDARD.encode(certificate);
        while !rest.is_empty() {
            let next = rest.split_off(rest.len().min(64));
            text.push_str(&rest);
            text.push('\n');
            rest = next;
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text
}

/// Time for which a token is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenTimes {
    /// Moment it was issued.
    pub issued: SystemTime,
    /// Moment it ends.
    pub ends: SystemTime,
}

impl TokenTimes {
    /// Moment from which on it is to be renewed: at 80 % of its time.
    pub fn renew_at(&self) -> SystemTime {
        let life = self.ends.duration_since(self.issued).unwrap_or_default();
        self.issued + life.mul_f64(0.8)
    }
}

/// Reads the times of a JSON Web Token (RFC 7519, claims `iat` and `exp`); `None` if it has none: it does not end.
pub fn token_times(token: &str) -> Option<TokenTimes> {
    let payload = token.split('.').nth(1)?;
    let bytes = URL_SAFE_NO_PAD.decode(payload).ok()?;
    let claims: Value = serde_json::from_slice(&bytes).ok()?;
    let at = |name: &str| {
        let seconds = Duration::from_secs(claims[name].as_u64()?);
        SystemTime::UNIX_EPOCH.checked_add(seconds)
    };
    Some(TokenTimes {
        issued: at("iat")?,
        ends: at("exp")?,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_kubeconfig_reads_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k");
        let written = Kubeconfig {
            server: "https://[fd00::1]:443".into(),
            ca: Some("-----BEGIN CERTIFICATE-----\n".into()),
            token: "a.b.c".into(),
            keeper: "sluicectl".into(),
        };
        std::fs::write(&path, written.text()).unwrap();
        assert_eq!(Kubeconfig::read(&path), Some(written.clone()));
        assert!(!format!("{written:?}").contains("a.b.c"));
        std::fs::write(&path, "apiVersion: v1").unwrap();
        assert_eq!(Kubeconfig::read(&path), None);
    }

    #[test]
    fn certificates_in_lines_of_64() {
        let lines: Vec<usize> = pem(&[vec![0; 49], vec![1]]).lines().map(str::len).collect();
        assert_eq!(lines, [27, 64, 4, 25, 27, 4, 25]);
    }

    #[test]
    fn a_token_is_renewed_at_four_fifths() {
        let claims = json!({"iat": 1_000, "exp": 2_000}).to_string();
        let token = format!("x.{}.y", URL_SAFE_NO_PAD.encode(claims));
        let at = token_times(&token).unwrap().renew_at();
        assert_eq!(at, SystemTime::UNIX_EPOCH + Duration::from_secs(1_800));
        assert_eq!(token_times("opaque"), None);
    }
}
