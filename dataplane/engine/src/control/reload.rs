// SPDX-License-Identifier: Apache-2.0
//! Reading the configuration again, on SIGHUP and by `POST /v1/reload`: what can change does, the rest stays
//! and is named. A file with a problem, or a policy with one, changes nothing at all.

mod describe;

use std::fmt::Display;

use sluice_api::{ApiError, ChangedSetting, KeptSetting, ReloadReport};
use sluice_log::LogHandle;

use self::describe::{describe, describe_limits, describe_poses, describe_posing, workers};
use super::posing::Posing;
use super::{Control, locked};
use crate::config::{Config, Problems, Surroundings};
use crate::refusal;

/// Key of the problem that a reload leaves.
const CONFIG: &str = "config";
/// Reason why a setting stays that the start alone reads.
const AT_START: &str = "it is read at the start alone: restart the engine";

/// Configuration in force, and what a new one is checked against.
#[derive(Debug)]
pub struct InService {
    /// Configuration in force.
    pub config: Config,
    /// Facts about the process, as they were before its threads had cores of their own.
    pub around: Surroundings,
    /// Log of the process; `None` in tests.
    pub log: Option<LogHandle>,
}

impl Control {
    /// Reads configuration and policies again.
    ///
    /// # Errors
    /// The engine is shutting down. Problems of the files are in the report.
    pub fn reload(&self) -> Result<ReloadReport, ApiError> {
        let mut in_service = locked(&self.in_service);
        let Some(in_service) = in_service.as_mut() else {
            return Err(refusal::unavailable("the engine is starting: retry"));
        };
        let file = in_service.config.file.clone();
        let wanted = match Config::load_in(&file, &in_service.around) {
            Ok(wanted) => wanted,
            Err(Problems(problems)) => {
                let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
                self.report_problem(
                    CONFIG,
                    format!(
                        "the configuration on disk is not the one in force: {}",
                        problems.join("; ")
                    ),
                );
                return Ok(ReloadReport {
                    problems,
                    ..ReloadReport::default()
                });
            }
        };
        let mut report = ReloadReport::default();
        match self.reload_policies() {
            Ok(count) => report.policies = count,
            Err(problem) => {
                report.problems.push(problem);
                return Ok(report);
            }
        }
        let mut changes = Changes {
            report,
            config: &mut in_service.config,
        };
        changes.start_settings(&wanted);
        changes.log(&wanted, in_service.log.as_ref());
        changes.idle(&wanted, self)?;
        changes.uplinks(&wanted, self);
        changes.posing(&wanted);
        let report = changes.report;
        self.posing.replace(Posing::new(&in_service.config));
        self.clear_problem(CONFIG);
        for one in &report.changed {
            tracing::info!("{} is {} now, was {}", one.key, one.now, one.was);
        }
        for one in &report.kept {
            tracing::warn!(
                "{} stays {}, and the configuration has {}: {}",
                one.key,
                one.running,
                one.wanted,
                one.why
            );
        }
        Ok(report)
    }
}

/// Changes of one reload.
struct Changes<'a> {
    report: ReloadReport,
    /// Configuration in force, kept up to date.
    config: &'a mut Config,
}

impl Changes<'_> {
    fn changed(&mut self, key: impl Into<String>, was: &dyn Display, now: &dyn Display) {
        self.report.changed.push(ChangedSetting {
            key: key.into(),
            was: was.to_string(),
            now: now.to_string(),
        });
    }

    fn kept(
        &mut self,
        key: impl Into<String>,
        running: &dyn Display,
        wanted: &dyn Display,
        why: impl Into<String>,
    ) {
        self.report.kept.push(KeptSetting {
            key: key.into(),
            running: running.to_string(),
            wanted: wanted.to_string(),
            why: why.into(),
        });
    }

    /// Settings that the start alone reads.
    fn start_settings(&mut self, wanted: &Config) {
        let config = self.config.clone();
        let (is, new) = (&config.memory, &wanted.memory);
        let huge = |on| if on { "auto" } else { "off" };
        let (workers, new_workers) = (workers(&config.workers), workers(&wanted.workers));
        let paths = |config: &Config| {
            [
                ("policies", config.policies.clone()),
                ("state_dir", config.state_dir.clone()),
                ("run_dir", config.run_dir.clone()),
                ("socket", config.socket.clone()),
            ]
        };
        let mut settings: Vec<(&str, String, String)> = vec![
            ("workers", workers, new_workers),
            (
                "memory.small_mbufs",
                is.small_mbufs.to_string(),
                new.small_mbufs.to_string(),
            ),
            (
                "memory.large_mbufs",
                is.large_mbufs.to_string(),
                new.large_mbufs.to_string(),
            ),
            (
                "memory.flow_cache",
                is.flow_cache.to_string(),
                new.flow_cache.to_string(),
            ),
            (
                "memory.huge_pages",
                huge(is.huge_pages).to_owned(),
                huge(new.huge_pages).to_owned(),
            ),
            (
                "log_format",
                config.log_format.name().to_owned(),
                wanted.log_format.name().to_owned(),
            ),
        ];
        let limits = describe_limits(&config.limits)
            .into_iter()
            .zip(describe_limits(&wanted.limits));
        settings.extend(limits.map(|((key, is), (_, new))| (key, is, new)));
        for ((key, is), (_, new)) in paths(&config).into_iter().zip(paths(wanted)) {
            settings.push((key, is.display().to_string(), new.display().to_string()));
        }
        for (key, is, new) in settings {
            if is != new {
                self.kept(key, &is, &new, AT_START);
            }
        }
    }

    fn log(&mut self, wanted: &Config, log: Option<&LogHandle>) {
        if self.config.log == wanted.log {
            return;
        }
        let was = self.config.log.clone();
        let set = log.map(|log| log.set_filter(&wanted.log));
        match set {
            Some(Err(error)) => self.kept("log", &was, &wanted.log, error.to_string()),
            None => self.kept("log", &was, &wanted.log, AT_START),
            Some(Ok(())) => {
                self.config.log.clone_from(&wanted.log);
                self.changed("log", &was, &wanted.log);
            }
        }
    }

    fn idle(&mut self, wanted: &Config, control: &Control) -> Result<(), ApiError> {
        let (was, now) = (self.config.idle, wanted.idle);
        if was == now {
            return Ok(());
        }
        control
            .engine
            .try_with(|engine| engine.set_idle(now.for_workers()))?;
        self.config.idle = now;
        let loops =
            |after: Option<u32>| after.map_or("never".to_owned(), |loops| loops.to_string());
        let values = [
            (
                "idle.pause_after",
                was.pause_after.to_string(),
                now.pause_after.to_string(),
            ),
            (
                "idle.sleep_after",
                loops(was.sleep_after),
                loops(now.sleep_after),
            ),
            (
                "idle.sleep_cap_us",
                was.sleep_cap.as_micros().to_string(),
                now.sleep_cap.as_micros().to_string(),
            ),
        ];
        for (key, was, now) in values {
            if was != now {
                self.changed(key, &was, &now);
            }
        }
        Ok(())
    }

    /// Uplinks that came, went or changed.
    fn uplinks(&mut self, wanted: &Config, control: &Control) {
        let running = self.config.uplinks.clone();
        for uplink in &running {
            let key = format!("uplinks.{}", uplink.name);
            match wanted.uplinks.iter().find(|new| new.name == uplink.name) {
                None => match control.uplinks.remove(&uplink.name) {
                    Ok(()) => {
                        self.config.uplinks.retain(|one| one.name != uplink.name);
                        self.changed(key, &describe(uplink), &"removed");
                    }
                    Err(error) => self.kept(key, &describe(uplink), &"removed", error.message),
                },
                Some(new) if describe(new) != describe(uplink) => self.kept(
                    key,
                    &describe(uplink),
                    &describe(new),
                    "an uplink is opened once: give it another name, or restart the engine",
                ),
                Some(_) => {}
            }
        }
        for uplink in &wanted.uplinks {
            if running.iter().any(|one| one.name == uplink.name) {
                continue;
            }
            let key = format!("uplinks.{}", uplink.name);
            match control.uplinks.open(uplink) {
                Ok(()) => {
                    self.config.uplinks.push(uplink.clone());
                    self.changed(key, &"absent", &describe(uplink));
                }
                Err(error) => self.kept(key, &"absent", &describe(uplink), error.message),
            }
        }
    }

    /// Limits of what pods may pose as: they hold for attachments that are made from now on.
    fn posing(&mut self, wanted: &Config) {
        if self.config.posing != wanted.posing {
            let was = describe_posing(&self.config.posing);
            self.config.posing = wanted.posing.clone();
            self.changed("posing", &was, &describe_posing(&wanted.posing));
        }
        for index in 0..self.config.uplinks.len() {
            let Some(uplink) = self.config.uplinks.get_mut(index) else {
                continue;
            };
            let new = wanted.uplinks.iter().find(|new| new.name == uplink.name);
            if let Some(new) = new.filter(|new| new.posing != uplink.posing) {
                let was = describe_poses(&uplink.posing);
                let key = format!("uplinks.{}.posing", uplink.name);
                uplink.posing = new.posing;
                self.changed(key, &was, &describe_poses(&new.posing));
            }
        }
    }
}
