// SPDX-License-Identifier: Apache-2.0
//! Log output of a long-running process: one event, one line on standard error, as text or as JSON.
//!
//! | field | of |
//! |---|---|
//! | `container_id` | the runtime's id of the pod's sandbox |
//! | `interface` | the attachment's name in the pod |
//! | `attachment` | its number in this life of the engine |
//! | `pod`, `namespace` | the pod, where the runtime said it |
//! | `uplink`, `vlan` | the uplink and its VLANs |
//!
//! An event about an attachment has these, so that the lines of engine, agent and plugins about one
//! attachment can be joined. JSON has them as keys; text leaves them out, since its sentences say whom
//! they are about.
#![forbid(unsafe_code)]

mod text;

use std::io::{self, IsTerminal};
use std::str::FromStr;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use text::TextFields;

/// Fields by which lines about one attachment are joined; text leaves them out.
pub const IDENTITY_FIELDS: [&str; 7] = [
    "container_id",
    "interface",
    "attachment",
    "pod",
    "namespace",
    "uplink",
    "vlan",
];

/// Form of the lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Sentences for people.
    #[default]
    Text,
    /// JSON, an object a line.
    Json,
}

impl LogFormat {
    /// Names in configuration files.
    pub const NAMES: [(&'static str, LogFormat); 2] =
        [("text", LogFormat::Text), ("json", LogFormat::Json)];

    /// Returns the name in configuration files.
    pub fn name(self) -> &'static str {
        match self {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        }
    }
}

impl FromStr for LogFormat {
    type Err = LogError;

    fn from_str(text: &str) -> Result<LogFormat, LogError> {
        let found = LogFormat::NAMES.iter().find(|(name, _)| *name == text);
        found
            .map(|(_, format)| *format)
            .ok_or_else(|| LogError::Format(text.to_owned()))
    }
}

/// Failure to set the log up, or to change it.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Form that there is not.
    #[error("\"{0}\" is no form of the log: use text or json")]
    Format(String),
    /// Filter that cannot be parsed.
    #[error(
        "\"{filter}\" is not allowed ({source}): use error, warn, info, debug or trace, also per module as \
         in \"info,sluice_memif=debug\""
    )]
    Filter {
        /// Text of the filter.
        filter: String,
        /// Reason why.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Log that the process has already.
    #[error("the log cannot be set up: {0}")]
    Taken(#[from] TryInitError),
    /// Log that is gone.
    #[error("the log's filter cannot be changed: {0}")]
    Gone(#[from] reload::Error),
}

/// Log of this process, whose filter can be changed.
#[derive(Debug, Clone)]
pub struct LogHandle {
    filter: reload::Handle<EnvFilter, Registry>,
}

impl LogHandle {
    /// Changes the filter.
    ///
    /// # Errors
    /// [`LogError::Filter`]; then the old one stays.
    pub fn set_filter(&self, filter: &str) -> Result<(), LogError> {
        Ok(self.filter.reload(parse(filter)?)?)
    }
}

/// Checks a filter, in the syntax of `tracing_subscriber::EnvFilter`.
///
/// # Errors
/// [`LogError::Filter`].
pub fn check_filter(filter: &str) -> Result<(), LogError> {
    parse(filter).map(drop)
}

fn parse(filter: &str) -> Result<EnvFilter, LogError> {
    let parsed = EnvFilter::builder().parse(filter);
    parsed.map_err(|source| LogError::Filter {
        filter: filter.to_owned(),
        source,
    })
}

/// Sets up the log of this process.
///
/// # Errors
/// [`LogError`].
pub fn init(filter: &str, format: LogFormat) -> Result<LogHandle, LogError> {
    let (filter, handle) = reload::Layer::new(parse(filter)?);
    let colours = io::stderr().is_terminal();
    let lines = lines(format, colours, io::stderr);
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init()?;
    Ok(LogHandle { filter: handle })
}

/// Writer of lines in a form.
fn lines<S, W>(format: LogFormat, colours: bool, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'s> tracing_subscriber::registry::LookupSpan<'s>,
    W: for<'w> fmt::MakeWriter<'w> + Send + Sync + 'static,
{
    let layer = fmt::layer().with_writer(writer);
    match format {
        LogFormat::Text => layer.with_ansi(colours).fmt_fields(TextFields).boxed(),
        LogFormat::Json => layer
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .boxed(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Lines that a log of that form writes.
    fn written(format: LogFormat) -> String {
        let sink = Sink::default();
        let writer = sink.clone();
        let (filter, handle) = reload::Layer::new(parse("info").unwrap());
        let subscriber =
            tracing_subscriber::registry()
                .with(filter)
                .with(lines(format, false, move || writer.clone()));
        let handle = LogHandle { filter: handle };
        tracing::subscriber::with_default(subscriber, || {
            let pod: Option<&str> = None;
            tracing::info!(
                container_id = "c0ffee",
                interface = "net1",
                attachment = 65_536_u32,
                pod,
                vlan = "210",
                "c0ffee/net1: attached"
            );
            tracing::warn!(target: "firewall", verdict = %"drop", rule = "#1", "c0ffee/net1");
            tracing::debug!("not shown");
            handle.set_filter("debug").unwrap();
            assert!(handle.set_filter("[").is_err());
            tracing::debug!("two\nlines");
        });
        let text = sink.0.lock().unwrap().clone();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn text_is_the_sentence_alone() {
        let text = written(LogFormat::Text);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].ends_with(": c0ffee/net1: attached"), "{text}");
        assert!(
            lines[1].ends_with(r##"firewall: c0ffee/net1 verdict=drop rule="#1""##),
            "{text}"
        );
        assert!(lines[2].contains("two"), "{text}");
    }

    #[test]
    fn json_has_the_identity_as_keys_and_a_line_an_event() {
        let text = written(LogFormat::Json);
        let events: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(events.len(), 3, "{text}");
        let first = &events[0];
        assert_eq!(first["message"], "c0ffee/net1: attached");
        assert_eq!(first["container_id"], "c0ffee");
        assert_eq!(first["interface"], "net1");
        assert_eq!(first["attachment"], 65_536);
        assert_eq!(first["level"], "INFO");
        assert!(first.get("pod").is_none(), "{first}");
        assert_eq!(events[1]["target"], "firewall");
        assert_eq!(events[2]["message"], "two\nlines");
    }

    #[test]
    fn names_of_forms() {
        for (name, format) in LogFormat::NAMES {
            assert_eq!(name.parse::<LogFormat>().unwrap(), format);
            assert_eq!(format.name(), name);
        }
        assert!("xml".parse::<LogFormat>().is_err());
        assert!(check_filter("info,sluice_memif=debug").is_ok());
    }
}
