// SPDX-License-Identifier: Apache-2.0
//! Log lines, on standard error and in the log file that the configuration names.

mod rotation;

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::spec::call::Call;
use crate::spec::conf::NetConf;
use rotation::Rotation;

/// Severity of a line, the gravest first. The names are Multus's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Level {
    Panic,
    Error,
    Warning,
    Info,
    Verbose,
    Debug,
}

impl Level {
    const ALL: [(&'static str, Level); 6] = [
        ("panic", Level::Panic),
        ("error", Level::Error),
        ("warning", Level::Warning),
        ("info", Level::Info),
        ("verbose", Level::Verbose),
        ("debug", Level::Debug),
    ];

    fn parse(word: &str) -> Option<Level> {
        Level::ALL
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(word))
            .map(|(_, l)| *l)
    }

    fn as_str(self) -> &'static str {
        Level::ALL
            .iter()
            .find(|(_, level)| *level == self)
            .map_or("", |(name, _)| name)
    }
}

/// Destination of lines. Writing never fails a call: a full disk must not cost a pod its network.
#[derive(Debug)]
pub struct Log {
    level: Level,
    stderr: bool,
    file: Option<File>,
    about: String,
}

impl Log {
    /// A log to standard error alone.
    pub fn stderr() -> Log {
        Log {
            level: Level::Info,
            stderr: true,
            file: None,
            about: String::new(),
        }
    }

    /// A log that goes nowhere.
    pub fn silent() -> Log {
        Log {
            stderr: false,
            ..Log::stderr()
        }
    }

    /// The log that `LogFile`, `LogLevel`, `logToStderr` and `logOptions` ask for. What is wrong with them is
    /// said on standard error and costs nothing else.
    pub fn new(plugin: &str, conf: &NetConf, call: &Call) -> Log {
        let mut log = Log::stderr();
        log.about = format!("{plugin} {}", call.command.as_str());
        if !call.container_id.is_empty() {
            log.about = format!("{} {} {}", log.about, call.container_id, call.ifname);
        }
        let fields = conf.fields();
        if let Ok(Some(word)) = fields.string("logLevel") {
            match Level::parse(word) {
                Some(level) => log.level = level,
                None => log.error(format_args!(
                    "LogLevel {word:?} is not panic, error, warning, info, verbose or debug: info is used"
                )),
            }
        }
        if let Ok(Some(path)) = fields
            .string("logFile")
            .map(|p| p.filter(|p| !p.is_empty()))
        {
            let rotation = Rotation::read(&fields).unwrap_or_else(|error| {
                log.error(format_args!("{error}: the usual logOptions are used"));
                Rotation::default()
            });
            match rotation.open(Path::new(path)) {
                Ok(file) => log.file = Some(file),
                Err(error) => log.error(format_args!("cannot log to {path}: {error}")),
            }
        }
        if let Ok(Some(stderr)) = fields.boolean("logToStderr") {
            log.stderr = stderr;
        }
        log
    }

    /// A failure that the call survives, or the one that ends it.
    pub fn error(&self, text: std::fmt::Arguments<'_>) {
        self.write(Level::Error, text);
    }

    /// Something that is done otherwise than asked.
    pub fn warning(&self, text: std::fmt::Arguments<'_>) {
        self.write(Level::Warning, text);
    }

    /// Logs at level info: what an operator wants to know of every call.
    pub fn info(&self, text: std::fmt::Arguments<'_>) {
        self.write(Level::Info, text);
    }

    /// The steps of a call.
    pub fn verbose(&self, text: std::fmt::Arguments<'_>) {
        self.write(Level::Verbose, text);
    }

    /// Logs at level debug: input and output.
    pub fn debug(&self, text: std::fmt::Arguments<'_>) {
        self.write(Level::Debug, text);
    }

    fn write(&self, level: Level, text: std::fmt::Arguments<'_>) {
        if level > self.level {
            return;
        }
        // One write per line: other calls append to the same file.
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let line = format!(
            "{} [{}] {}: {text}\n",
            timestamp(now.as_secs(), now.subsec_millis()),
            level.as_str(),
            self.about
        );
        if let Some(mut file) = self.file.as_ref() {
            let _ = file.write_all(line.as_bytes());
        }
        if self.stderr {
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
    }
}

/// RFC 3339 in UTC. Days to date by the calendar's 400-year cycle of 146,097 days, counted from
/// 1 March of year 0 so that the leap day is the last of a year.
fn timestamp(seconds: u64, millis: u32) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (cycle, day) = (shifted / 146_097, shifted % 146_097);
    let year_of_cycle = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = cycle * 400 + year_of_cycle + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day_of_month:02}T{:02}:{:02}:{:02}.{millis:03}Z",
        second / 3_600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right() {
        assert_eq!(timestamp(0, 0), "1970-01-01T00:00:00.000Z");
        assert_eq!(timestamp(951_782_399, 7), "2000-02-28T23:59:59.007Z");
        assert_eq!(timestamp(951_782_400, 0), "2000-02-29T00:00:00.000Z");
        assert_eq!(timestamp(4_107_542_400, 0), "2100-03-01T00:00:00.000Z");
        assert_eq!(timestamp(1_735_689_599, 999), "2024-12-31T23:59:59.999Z");
    }

    #[test]
    fn levels_in_any_case() {
        assert_eq!(Level::parse("Debug"), Some(Level::Debug));
        assert_eq!(Level::parse("PANIC"), Some(Level::Panic));
        assert_eq!(Level::parse("loud"), None);
        assert!(Level::Error < Level::Info);
    }
}
