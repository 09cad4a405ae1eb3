// SPDX-License-Identifier: Apache-2.0
//! Names of API servers and proxies, looked up without the C library: a static program that calls `getaddrinfo` loads
//! the host's NSS modules, which belong to another release of the C library, and dies of it.
//!
//! /etc/hosts goes first, then the nameservers and search domains of /etc/resolv.conf, as `hosts: files dns` of
//! nsswitch.conf says. Where systemd-resolved runs, its stub is in resolv.conf. Nothing is kept: each lookup reads both
//! files anew.

use std::fs;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::{Either, select};
use hickory_resolver::config::{ResolveHosts, ServerOrderingStrategy};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RecordType;
use hickory_resolver::{TokioResolver, system_conf};
use hyper_util::client::legacy::connect::dns::Name;
use tower::Service;

const HOSTS: &str = "/etc/hosts";
const RESOLV_CONF: &str = "/etc/resolv.conf";
const RANDOM: &str = "/dev/random";
const URANDOM: &str = "/dev/urandom";
/// Time for the addresses of the other family once those of one are there (RFC 8305, section 3, is stricter).
const OTHER_FAMILY: Duration = Duration::from_millis(100);

/// Failure to find the addresses of a name.
#[derive(Debug, thiserror::Error)]
pub(super) enum NameError {
    /// Queries cannot be numbered at random.
    #[error(
        "{name} is not in {HOSTS}, and no nameserver is asked without {URANDOM}, which gives queries their numbers: {source}"
    )]
    NoEntropy {
        /// Name that was asked for.
        name: String,
        /// Answer of the kernel.
        source: io::Error,
    },
    /// Neither file can be used.
    #[error("{name} is not in {HOSTS}, and {RESOLV_CONF} cannot be used: {source}")]
    NoNameservers {
        /// Name that was asked for.
        name: String,
        /// Reason why.
        source: Box<NetError>,
    },
    /// No nameserver answers.
    #[error(
        "{name} is not in {HOSTS}, and {servers} of {RESOLV_CONF} gave no answer in {:.1} s: mend the name service, or \
         write the server's IP address into the kubeconfig",
        limit.as_secs_f64()
    )]
    Silent {
        /// Name that was asked for.
        name: String,
        /// Nameservers that were asked.
        servers: String,
        /// Time that was waited.
        limit: Duration,
    },
    /// No address is known.
    #[error(
        "{name} is not in {HOSTS}, and {servers} of {RESOLV_CONF} has no address of it: {source}"
    )]
    Unknown {
        /// Name that was asked for.
        name: String,
        /// Nameservers that were asked.
        servers: String,
        /// Answer of the last of them.
        source: Box<NetError>,
    },
}

/// Resolver for connections, as a service of hyper's connector.
#[derive(Debug, Clone, Copy)]
pub(super) struct Names {
    limit: Duration,
}

impl Names {
    /// Creates a resolver that gives each name up after `limit`.
    pub(super) fn new(limit: Duration) -> Names {
        Names { limit }
    }
}

impl Service<Name> for Names {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = NameError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, NameError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), NameError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let limit = self.limit;
        Box::pin(async move {
            let found = look_up(name.as_str(), limit).await?;
            let addresses = found.into_iter().map(|ip| SocketAddr::new(ip, 0));
            Ok(addresses.collect::<Vec<_>>().into_iter())
        })
    }
}

async fn look_up(name: &str, limit: Duration) -> Result<Vec<IpAddr>, NameError> {
    let hosts = fs::read(HOSTS).unwrap_or_default();
    let found = of_hosts(&String::from_utf8_lossy(&hosts), name);
    if !found.is_empty() {
        return Ok(found);
    }
    // RFC 6761, section 6.3: such names are this machine, and no nameserver is asked.
    if name == "localhost" || name.ends_with(".localhost") {
        return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    entropy().map_err(|source| NameError::NoEntropy {
        name: name.to_owned(),
        source,
    })?;
    let unusable = |source: NetError| NameError::NoNameservers {
        name: name.to_owned(),
        source: Box::new(source),
    };
    let text = match fs::read_to_string(RESOLV_CONF) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(unusable(error.into())),
    };
    let (config, mut options) =
        system_conf::parse_resolv_conf(with_nameserver(text)).map_err(unusable)?;
    let servers: Vec<String> = config
        .name_servers()
        .iter()
        .map(|server| server.ip.to_string())
        .collect();
    let servers = format!("nameserver {}", servers.join(", "));
    // Both of two attempts fit into the limit.
    options.timeout = options.timeout.min(limit.mul_f32(0.45));
    options.attempts = 1;
    options.use_hosts_file = ResolveHosts::Never;
    options.server_ordering_strategy = ServerOrderingStrategy::UserProvidedOrder;
    let resolver = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        .with_options(options)
        .build()
        .map_err(unusable)?;
    match tokio::time::timeout(limit, addresses(&resolver, name)).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(NetError::Timeout)) | Err(_) => Err(NameError::Silent {
            name: name.to_owned(),
            servers,
            limit,
        }),
        Ok(Err(error)) => Err(NameError::Unknown {
            name: name.to_owned(),
            servers,
            source: Box::new(error),
        }),
    }
}

/// Asks for the addresses of both families at once. A nameserver that is silent about one holds up nothing.
async fn addresses(resolver: &TokioResolver, name: &str) -> Result<Vec<IpAddr>, NetError> {
    let v4 = pin!(resolver.lookup(name, RecordType::A));
    let v6 = pin!(resolver.lookup(name, RecordType::AAAA));
    let (first, rest) = match select(v4, v6).await {
        Either::Left((first, rest)) => (first, Either::Left(rest)),
        Either::Right((first, rest)) => (first, Either::Right(rest)),
    };
    let (mut found, mut failure) = ips(first);
    let second = if found.is_empty() {
        Some(rest.await)
    } else {
        tokio::time::timeout(OTHER_FAMILY, rest).await.ok()
    };
    if let Some(second) = second {
        let (more, why) = ips(second);
        found.extend(more);
        failure = failure.or(why);
    }
    match failure {
        Some(error) if found.is_empty() => Err(error),
        _ => Ok(found),
    }
}

fn ips(answer: Result<Lookup, NetError>) -> (Vec<IpAddr>, Option<NetError>) {
    match answer {
        Ok(lookup) => {
            let records = lookup.answers().iter();
            let ips = records.filter_map(|record| record.data.ip_addr());
            (ips.collect(), None)
        }
        Err(error) => (Vec::new(), Some(error)),
    }
}

/// Checks that the resolver has the random numbers without which it would panic: a static program reads them from these
/// files.
fn entropy() -> io::Result<()> {
    for path in [RANDOM, URANDOM] {
        fs::File::open(path)?;
    }
    Ok(())
}

/// The addresses of a name in the text of /etc/hosts, in its order.
fn of_hosts(text: &str, name: &str) -> Vec<IpAddr> {
    let name = name.trim_end_matches('.');
    let mut found = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let Some(ip) = words.next().and_then(|word| word.parse().ok()) else {
            continue;
        };
        let is_it = |word: &str| word.trim_end_matches('.').eq_ignore_ascii_case(name);
        if words.any(is_it) && !found.contains(&ip) {
            found.push(ip);
        }
    }
    found
}

/// The text of resolv.conf with this machine as the nameserver where it names none, as resolv.conf(5) has it.
fn with_nameserver(text: String) -> String {
    let names_one = text
        .lines()
        .any(|line| line.split_whitespace().next() == Some("nameserver"));
    if names_one {
        text
    } else {
        format!("{text}\nnameserver 127.0.0.1\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_in_order_with_aliases_and_comments() {
        let text = "# 10.0.0.9 api\n10.0.0.1 api.example.com API # x api2\n\nnonsense api\n::1 api\n\
                    fe80::1%eth0 api\n10.0.0.1\tapi.\n";
        let ips = |name: &str| -> Vec<String> {
            let found = of_hosts(text, name);
            found.iter().map(ToString::to_string).collect()
        };
        assert_eq!(ips("api"), ["10.0.0.1", "::1"]);
        assert_eq!(ips("Api.Example.com."), ["10.0.0.1"]);
        assert!(ips("api2").is_empty() && ips("10.0.0.1").is_empty());
    }

    #[test]
    fn this_machine_serves_names_where_no_nameserver_is_named() {
        let added = with_nameserver("search a\n# nameserver 10.0.0.1\n".to_owned());
        assert!(added.ends_with("nameserver 127.0.0.1\n"));
        let own = "nameserver 10.0.0.1\n".to_owned();
        assert_eq!(with_nameserver(own.clone()), own);
    }
}
