// SPDX-License-Identifier: Apache-2.0
//! Reports of the CNI plugins, received and counted. Whatever a report says, the number of series stays bounded.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use sluice_host::operations::{MAX_BYTES, Operation, VERSION, socket};
use tokio::net::UnixDatagram;

use super::families::{CNI_DELEGATE_FAILURES, CNI_OPERATION_SECONDS, CNI_REPORTS_REFUSED};
use super::samples::{Histogram, Samples};

/// Plugins that report.
const PLUGINS: [&str; 2] = ["sluicegate", "sluicegate-vf"];
/// Commands that they have; VERSION is answered without a report.
const COMMANDS: [&str; 5] = ["ADD", "DEL", "CHECK", "GC", "STATUS"];
/// Codes that an outcome has of its own: those of the CNI specification that ours give. Others are `other`.
const CODES: [u32; 11] = [1, 3, 4, 5, 6, 7, 8, 11, 50, 51, 999];
/// Upper bounds of the buckets in seconds: a call takes from some milliseconds to its budget of minutes.
const BOUNDS: [f64; 12] = [
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];
/// Longest call that is believed, in seconds.
const LONGEST: f64 = 3600.0;
/// Number of types of delegates that have series of their own.
const MAX_DELEGATES: usize = 32;
/// Longest type of a delegate in bytes.
const MAX_DELEGATE: usize = 64;
/// Label of everything beyond a bound.
const OTHER: &str = "other";

/// Counts of all calls since the agent's start.
#[derive(Debug, Default)]
pub(super) struct Operations(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    calls: BTreeMap<(usize, usize, Option<u32>), Histogram>,
    delegates: BTreeMap<String, u64>,
    refused: u64,
}

/// Opens the socket, in a folder that root alone can enter.
///
/// # Errors
/// The folder or the socket cannot be made; the error names it.
pub(super) fn bind(run_dir: &Path) -> anyhow::Result<UnixDatagram> {
    let path = socket(run_dir);
    let of = || {
        format!(
            "cannot listen for the plugins' reports at {}",
            path.display()
        )
    };
    if let Some(folder) = path.parent() {
        DirBuilder::new()
            .mode(0o700)
            .recursive(true)
            .create(folder)
            .with_context(of)?;
        fs::set_permissions(folder, Permissions::from_mode(0o700)).with_context(of)?;
    }
    // An agent that ended leaves its socket; a plugin that meets it gets an error at once.
    if let Err(error) = fs::remove_file(&path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(error).with_context(of);
    }
    UnixDatagram::bind(&path).with_context(of)
}

impl Operations {
    /// Receives and counts reports, until the socket fails.
    ///
    /// # Errors
    /// The socket failed.
    pub(super) async fn receive(&self, socket: &UnixDatagram) -> anyhow::Result<()> {
        // One more, so that a longer report is seen to be longer.
        let mut buffer = [0; MAX_BYTES + 1];
        loop {
            let length = socket.recv(&mut buffer).await?;
            self.count(buffer.get(..length).unwrap_or_default());
        }
    }

    /// Counts one report.
    pub(super) fn count(&self, report: &[u8]) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let read = (report.len() <= MAX_BYTES)
            .then(|| serde_json::from_slice::<Operation>(report).ok())
            .flatten()
            .and_then(|operation| Some((key(&operation)?, operation)));
        let Some((key, operation)) = read else {
            counts.refused += 1;
            return;
        };
        let histogram = counts.calls.entry(key).or_insert_with(|| Histogram {
            buckets: BOUNDS
                .into_iter()
                .chain([f64::INFINITY])
                .map(|bound| (bound, 0))
                .collect(),
            ..Histogram::default()
        });
        let bucket = histogram.buckets.iter_mut();
        if let Some((_, number)) = bucket
            .into_iter()
            .find(|(bound, _)| operation.seconds <= *bound)
        {
            *number += 1;
        }
        histogram.count += 1;
        histogram.sum += operation.seconds;
        if let Some(delegate) = operation.delegate.filter(|_| operation.code != 0) {
            let known = counts.delegates.contains_key(&delegate);
            let is_name = delegate.len() <= MAX_DELEGATE
                && !delegate.is_empty()
                && delegate
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
            let room = known || (is_name && counts.delegates.len() < MAX_DELEGATES);
            let label = if room { delegate } else { OTHER.to_owned() };
            *counts.delegates.entry(label).or_default() += 1;
        }
    }

    /// Adds the samples.
    pub(super) fn collect(&self, samples: &mut Samples) {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (&(plugin, command, code), histogram) in &counts.calls {
            let outcome = match code {
                Some(0) => "ok".to_owned(),
                Some(code) => code.to_string(),
                None => OTHER.to_owned(),
            };
            let labels = [PLUGINS[plugin], COMMANDS[command], &outcome];
            samples.histogram(&CNI_OPERATION_SECONDS, &labels, histogram.clone());
        }
        for (delegate, failures) in &counts.delegates {
            samples.add(&CNI_DELEGATE_FAILURES, &[delegate], *failures);
        }
        samples.add(&CNI_REPORTS_REFUSED, &[], counts.refused);
    }
}

/// Series of an operation; `None`: it is not one of ours.
fn key(operation: &Operation) -> Option<(usize, usize, Option<u32>)> {
    let of = |names: &[&str], name: &str| names.iter().position(|known| *known == name);
    let is_time = (0.0..=LONGEST).contains(&operation.seconds);
    if operation.version != VERSION || !is_time {
        return None;
    }
    let code = operation.code;
    let own = code == 0 || CODES.contains(&code);
    Some((
        of(&PLUGINS, &operation.plugin)?,
        of(&COMMANDS, &operation.command)?,
        own.then_some(code),
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn report(code: u32, delegate: Option<&str>) -> Vec<u8> {
        let operation = Operation {
            version: VERSION,
            plugin: "sluicegate".to_owned(),
            command: "ADD".to_owned(),
            code,
            seconds: 0.2,
            delegate: delegate.map(str::to_owned),
        };
        serde_json::to_vec(&operation).unwrap()
    }

    #[test]
    fn whatever_is_sent_the_series_are_bounded() {
        let operations = Operations::default();
        for code in 0..10_000 {
            operations.count(&report(code, Some(&format!("delegate{code}"))));
        }
        operations.count(&report(7, Some("\"}\nevil")));
        let bad: [&[u8]; 6] = [
            b"",
            b"{}",
            &[b' '; MAX_BYTES + 1],
            br#"{"version":2,"plugin":"sluicegate","command":"ADD","code":0,"seconds":1}"#,
            br#"{"version":1,"plugin":"other","command":"ADD","code":0,"seconds":1}"#,
            br#"{"version":1,"plugin":"sluicegate","command":"ADD","code":0,"seconds":-1}"#,
        ];
        for report in bad {
            operations.count(report);
        }
        let counts = operations.0.lock().unwrap();
        assert_eq!(counts.refused, 6);
        assert_eq!(counts.calls.len(), 1 + CODES.len() + 1);
        assert_eq!(counts.delegates.len(), MAX_DELEGATES + 1);
        let ok = &counts.calls[&(0, 0, Some(0))];
        assert_eq!((ok.count, ok.buckets[4]), (1, (0.25, 1)));
        assert_eq!(counts.calls[&(0, 0, None)].count, 10_000 - 12);
    }

    #[tokio::test]
    async fn a_socket_that_an_earlier_agent_left_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        drop(bind(dir.path()).unwrap());
        let listening = bind(dir.path()).unwrap();
        let folder = socket(dir.path()).parent().unwrap().metadata().unwrap();
        assert_eq!(folder.permissions().mode() & 0o777, 0o700);
        let operations = Operations::default();
        let operation: Operation = serde_json::from_slice(&report(11, Some("x"))).unwrap();
        operation.send(dir.path()).unwrap();
        let received = tokio::time::timeout(
            std::time::Duration::from_millis(500),
            operations.receive(&listening),
        );
        assert!(received.await.is_err(), "it goes on receiving");
        assert_eq!(operations.0.lock().unwrap().delegates["x"], 1);
    }
}
