// SPDX-License-Identifier: Apache-2.0
//! Output of the demo: a line per step with what it saw, and at the end what was proven; or the
//! same as JSON, one object a line.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::columns::columns;
use super::failure::Failure;

/// Findings of a step, as text and as JSON.
#[derive(Debug, Default)]
pub(super) struct Findings {
    lines: Vec<String>,
    facts: Map<String, Value>,
    proven: Vec<(String, String)>,
}

impl Findings {
    /// A line for people.
    pub(super) fn line(&mut self, line: impl Into<String>) {
        self.lines.push(line.into());
    }

    /// A table for people.
    pub(super) fn table(&mut self, rows: &[Vec<String>]) {
        self.lines.extend(columns(rows));
    }

    /// A figure for programs.
    pub(super) fn fact(&mut self, key: &str, value: impl Into<Value>) {
        self.facts.insert(key.to_owned(), value.into());
    }

    /// Something that is proven now, and by what.
    pub(super) fn proven(&mut self, claim: impl Into<String>, evidence: impl Into<String>) {
        self.proven.push((claim.into(), evidence.into()));
    }
}

/// Standard output, and what went there so far.
#[derive(Debug)]
pub(super) struct Report {
    json: bool,
    terminal: bool,
    started: Instant,
    step: usize,
    proven: Vec<(String, String)>,
}

impl Report {
    pub(super) fn new(json: bool) -> Report {
        Report {
            json,
            terminal: !json && io::stdout().is_terminal(),
            started: Instant::now(),
            step: 0,
            proven: Vec::new(),
        }
    }

    /// Takes the next step and says how it went.
    pub(super) fn step<T>(
        &mut self,
        title: &str,
        work: impl FnOnce(&mut Findings) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.step += 1;
        let number = self.step;
        if self.terminal {
            write(&format!("  … {number:>2}  {title}"));
        }
        let started = Instant::now();
        let mut findings = Findings::default();
        let result = work(&mut findings);
        let took = started.elapsed();
        if self.json {
            let mut object = json!({
                "step": number, "title": title, "ok": result.is_ok(),
                "seconds": seconds(took), "facts": findings.facts,
                "proven": findings.proven.iter().map(|(claim, _)| claim).collect::<Vec<_>>(),
            });
            if let Err(failure) = &result {
                object["failure"] = failure.to_string().into();
            }
            line(&object.to_string());
        } else {
            self.show(number, title, result.is_ok(), took, &findings);
        }
        self.proven.append(&mut findings.proven);
        result
    }

    fn show(&self, number: usize, title: &str, ok: bool, took: Duration, findings: &Findings) {
        let (start, mark) = match (self.terminal, ok) {
            (true, true) => ("\r\x1b[K", "\x1b[32m✓\x1b[0m"),
            (true, false) => ("\r\x1b[K", "\x1b[31m✗\x1b[0m"),
            (false, true) => ("", "✓"),
            (false, false) => ("", "✗"),
        };
        // Titles are short: the times stand in a column.
        line(&format!(
            "{start}  {mark} {number:>2}  {title:<58} {:>5.1} s",
            took.as_secs_f64()
        ));
        for text in &findings.lines {
            line(&format!("        {text}"));
        }
    }

    /// Something between or after the steps.
    pub(super) fn note(&self, text: &str) {
        if self.json {
            line(&json!({ "note": text }).to_string());
        } else {
            line(text);
        }
    }

    /// The end: what was proven, or why not everything was.
    pub(super) fn end(&self, failure: Option<&Failure>, log_tail: &[String]) {
        let took = self.started.elapsed();
        if self.json {
            let proven: Vec<Value> = self
                .proven
                .iter()
                .map(|(claim, evidence)| json!({"claim": claim, "evidence": evidence}))
                .collect();
            let mut object = json!({
                "ok": failure.is_none(), "seconds": seconds(took), "steps": self.step,
                "proven": proven,
            });
            if let Some(failure) = failure {
                object["failure"] = failure.to_string().into();
                object["log"] = log_tail.to_vec().into();
            }
            line(&object.to_string());
            return;
        }
        match failure {
            None => {
                line(&format!("\nProven in {:.0} s:", took.as_secs_f64()));
                let rows: Vec<Vec<String>> = self
                    .proven
                    .iter()
                    .map(|(claim, evidence)| vec![claim.clone(), evidence.clone()])
                    .collect();
                for row in columns(&rows) {
                    line(&format!("  {row}"));
                }
            }
            Some(Failure::Interrupted) => line(&format!(
                "\nInterrupted in step {}; what had been made is taken down again.",
                self.step
            )),
            Some(failure) => {
                line(&format!(
                    "\nThe demo failed in step {}: {failure}",
                    self.step
                ));
                if !log_tail.is_empty() {
                    line("\nThe end of its logs at that moment:");
                    for text in log_tail {
                        line(&format!("  | {text}"));
                    }
                }
            }
        }
    }
}

fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}

fn line(text: &str) {
    write(&format!("{text}\n"));
}

/// Writes to standard output. A reader that has gone (`| head`) must not keep the clean-up from running.
fn write(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
