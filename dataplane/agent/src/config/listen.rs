// SPDX-License-Identifier: Apache-2.0
//! Addresses that the agent's servers listen at.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use sluice_yaml::{Checker, Scalar};

/// Stands for the address of the agent's pod; the variable of this name holds it.
const POD_IP: &str = "POD_IP";

/// Checks an address with its port, `127.0.0.1:10471`, `[::]:10471` or `POD_IP:10471`.
pub(super) fn check(
    checker: &mut Checker<'_>,
    key: &str,
    raw: Option<&Scalar>,
    default: &str,
) -> SocketAddr {
    let unspecified = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
    let written = raw.map_or(default, |raw| &raw.value);
    let pod = std::env::var(POD_IP).unwrap_or_default();
    parse(written, &pod).unwrap_or_else(|why| {
        checker.problem(raw.map(|raw| raw.referenced), key, why);
        unspecified
    })
}

fn parse(written: &str, pod: &str) -> Result<SocketAddr, String> {
    let Some(port) = written
        .strip_prefix(POD_IP)
        .and_then(|rest| rest.strip_prefix(':'))
    else {
        return written.parse().map_err(|_| {
            format!(
                "\"{written}\" is not an address with a port: write it as 127.0.0.1:10471, [::]:10471 or \
                 {POD_IP}:10471"
            )
        });
    };
    let address = pod.parse().map_err(|_| {
        format!(
            "the variable {POD_IP} is \"{pod}\", which is not an address: set it in the DaemonSet by `fieldRef: \
             status.podIP`, or write an address"
        )
    })?;
    let port = port
        .parse()
        .map_err(|_| format!("\"{port}\" is not a port: use 1 to 65535"))?;
    Ok(SocketAddr::new(address, port))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::parse;

    #[test]
    fn an_address_is_written_out_or_that_of_the_pod() {
        let text = |written, pod| parse(written, pod).map(|address| address.to_string());
        assert_eq!(text("[::]:1", ""), Ok("[::]:1".to_owned()));
        assert_eq!(text("POD_IP:2", "10.0.0.7"), Ok("10.0.0.7:2".to_owned()));
        assert_eq!(text("POD_IP:2", "fd00::7"), Ok("[fd00::7]:2".to_owned()));
        for (written, pod, why) in [
            ("10471", "", "not an address with a port"),
            ("localhost:1", "", "not an address with a port"),
            ("POD_IP:1", "", "fieldRef"),
            ("POD_IP:x", "10.0.0.7", "not a port"),
        ] {
            let told = text(written, pod).unwrap_err();
            assert!(told.contains(why), "{told}");
        }
    }
}
