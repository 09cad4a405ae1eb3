// SPDX-License-Identifier: Apache-2.0
//! Checks of the configuration's values. All problems are collected.

mod legs;

use std::net::IpAddr;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use sluice_yaml::{Checker, Location, Problems, Scalar, Spanned};

use super::Config;
use super::raw::{RawConfig, RawLog, RawRoute};
use crate::interfaces::{Interface, InterfaceId};
use crate::neighbours::NeighbourLimits;
use crate::routes::Route;

/// Most static routes.
const MAX_ROUTES: usize = 10_000;
/// Log lines a second about each leg where none are named.
const DEFAULT_LOG_RATE: u32 = 100;

/// Checks every value.
pub(super) fn check(file: &Path, raw: RawConfig) -> Result<Config, Problems> {
    let mut check = Check(Checker::new(file));
    let (legs, interfaces) = check.legs(raw.legs.unwrap_or_default());
    let routes = check.routes(raw.routes.unwrap_or_default(), &interfaces);
    let policies = check.policies(raw.policies);
    let log = raw.log.unwrap_or_default();
    let log_rate = check.log_rate(&log);
    let log_file = log.file.map(|file| check.beside(&file.value));
    let default = NeighbourLimits::default().known;
    let neighbours = check.number(
        "neighbours",
        raw.neighbours.as_ref(),
        default,
        (16, 1 << 20),
    );
    check.0.finish(Config {
        legs,
        interfaces,
        routes,
        policies,
        log_file,
        log_rate,
        neighbours,
    })
}

struct Check<'a>(Checker<'a>);

impl<'a> Deref for Check<'a> {
    type Target = Checker<'a>;

    fn deref(&self) -> &Checker<'a> {
        &self.0
    }
}

impl<'a> DerefMut for Check<'a> {
    fn deref_mut(&mut self) -> &mut Checker<'a> {
        &mut self.0
    }
}

impl Check<'_> {
    /// Path relative to the file.
    fn beside(&self, path: &str) -> PathBuf {
        self.file().parent().unwrap_or(Path::new("")).join(path)
    }

    fn policies(&mut self, raw: Option<Scalar>) -> PathBuf {
        match raw {
            Some(raw) => self.beside(&raw.value),
            None => {
                let message = "name the folder of the policies: without one nothing passes";
                self.problem(None, "policies", message);
                PathBuf::new()
            }
        }
    }

    fn log_rate(&mut self, log: &RawLog) -> u32 {
        self.number(
            "log.rate",
            log.rate.as_ref(),
            DEFAULT_LOG_RATE,
            (0, 100_000),
        )
    }

    fn routes(
        &mut self,
        raw: Vec<Spanned<RawRoute>>,
        interfaces: &[Interface],
    ) -> Vec<(IpNet, Route)> {
        let mut routes: Vec<(IpNet, Route)> = Vec::new();
        if raw.len() > MAX_ROUTES {
            let message = format!(
                "{} routes are too many: {MAX_ROUTES} are possible",
                raw.len()
            );
            self.problem(raw.first().map(|route| route.referenced), "routes", message);
            return routes;
        }
        for (index, route) in raw.into_iter().enumerate() {
            let key = format!("routes[{index}]");
            let at = route.referenced;
            let Some((to, route)) = self.route(&key, at, route.value, interfaces) else {
                continue;
            };
            if routes.iter().any(|(before, _)| *before == to) {
                let message = format!("{to} is routed twice: keep one of them");
                self.problem(Some(at), key, message);
                continue;
            }
            routes.push((to, route));
        }
        routes
    }

    fn route(
        &mut self,
        key: &str,
        at: Location,
        raw: RawRoute,
        interfaces: &[Interface],
    ) -> Option<(IpNet, Route)> {
        let (Some(to), Some(via)) = (&raw.to, &raw.via) else {
            self.problem(Some(at), key, "a route needs `to` and `via`");
            return None;
        };
        let net: IpNet = self.parsed(&format!("{key}.to"), to)?;
        if net.trunc() != net {
            let message = format!("{net} has host bits: write {}", net.trunc());
            self.problem(Some(to.referenced), format!("{key}.to"), message);
            return None;
        }
        let next: IpAddr = self.parsed(&format!("{key}.via"), via)?;
        if next.is_ipv4() != net.addr().is_ipv4() {
            let message = format!("{next} is of another kind than {net}");
            self.problem(Some(via.referenced), format!("{key}.via"), message);
            return None;
        }
        let ids = (0..).zip(interfaces);
        let found: Option<InterfaceId> = match &raw.interface {
            Some(name) => {
                let named = ids.clone().find(|(_, one)| one.name == name.value);
                if named.is_none() {
                    let names: Vec<&str> = interfaces.iter().map(|one| &*one.name).collect();
                    let message = format!(
                        "there is no interface \"{}\": use one of {}",
                        name.value,
                        names.join(", ")
                    );
                    self.problem(Some(name.referenced), format!("{key}.interface"), message);
                    return None;
                }
                named.map(|(id, _)| id)
            }
            None => ids
                .clone()
                .find(|(_, one)| one.addresses.iter().any(|own| own.contains(&next)))
                .map(|(id, _)| id),
        };
        let interface = found.filter(|id| {
            interfaces
                .get(usize::from(*id))
                .is_some_and(|one| one.is_on_link(next) && !one.has(next))
        });
        let Some(interface) = interface else {
            let message = format!(
                "{next} is not another host on the link of an interface: name a neighbour, and \
                 `interface` where its address is link-local"
            );
            self.problem(Some(via.referenced), format!("{key}.via"), message);
            return None;
        };
        let via = Some(next);
        Some((net, Route { interface, via }))
    }
}
