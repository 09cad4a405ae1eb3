// SPDX-License-Identifier: Apache-2.0
//! The network configuration on standard input: JSON, a name, a version.

use serde_json::{Map, Value};

use crate::Error;
use crate::spec::fields::Fields;
use crate::spec::version::Version;

/// Name of what comes on standard input, in messages.
const CONFIGURATION: &str = "the configuration";

/// A network configuration, checked as far as every plugin needs it.
#[derive(Debug, Clone)]
pub struct NetConf {
    /// Configuration as it was read from standard input.
    pub json: Map<String, Value>,
    /// `name`.
    pub name: String,
    /// `cniVersion`; 0.1.0 when absent.
    pub version: Version,
}

impl NetConf {
    /// Reads a configuration.
    ///
    /// # Errors
    /// [`Error::Json`] if it is not a JSON object, [`Error::Config`] if `name` is absent or bad,
    /// [`Error::Version`] if the version is unknown.
    pub fn parse(text: &[u8]) -> Result<NetConf, Error> {
        let json = object(text, CONFIGURATION)?;
        let fields = Fields::new(&json);
        let name = fields.string("name")?.unwrap_or_default().to_owned();
        check_name(&name)?;
        let version = Version::of_conf(&fields)?;
        Ok(NetConf {
            json,
            name,
            version,
        })
    }

    /// Returns the members, found in any case.
    pub fn fields(&self) -> Fields<'_> {
        Fields::new(&self.json)
    }
}

/// Checks the name of a network: letters, digits, `_`, `.` and `-`, the first a letter or digit.
///
/// # Errors
/// [`Error::Config`].
pub fn check_name(name: &str) -> Result<(), Error> {
    if name.is_empty() {
        return Err(Error::Config(
            "name is missing: every network needs one".into(),
        ));
    }
    if !is_identifier(name) {
        return Err(Error::Config(format!(
            "name {name:?} must start with a letter or digit and hold only letters, digits, \
             '_', '.' and '-'"
        )));
    }
    Ok(())
}

/// Whether `text` is what the CNI specification allows for network names and container ids.
pub fn is_identifier(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

/// Parses a JSON object; `what` names it in the error, which says line and column.
///
/// # Errors
/// [`Error::Json`].
pub fn object(text: &[u8], what: &str) -> Result<Map<String, Value>, Error> {
    // Editors put a byte order mark at the beginning of UTF-8.
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    match serde_json::from_slice::<Value>(text) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(other) => Err(Error::Json {
            what: what.to_owned(),
            line: 1,
            column: 1,
            why: format!("expected an object, found {}", kind(&other)),
            hint: String::new(),
        }),
        Err(error) => Err(Error::Json {
            what: what.to_owned(),
            line: error.line(),
            column: error.column(),
            why: plain(&error),
            hint: hint(text, what, error.line()),
        }),
    }
}

/// serde_json's message without the position at its end: that is said already.
fn plain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Returns a hint for mistakes that printed examples lead to; empty if there is none.
fn hint(text: &[u8], what: &str, line: usize) -> String {
    if text.starts_with(b"\xff\xfe") || text.starts_with(b"\xfe\xff") {
        return " (it is UTF-16: save it as UTF-8)".to_owned();
    }
    let text = String::from_utf8_lossy(text);
    if text.trim().is_empty() {
        return match what {
            CONFIGURATION => " (nothing came on standard input)".to_owned(),
            _ => " (it is empty)".to_owned(),
        };
    }
    let faulty = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    let starts = faulty.trim_start();
    if starts.starts_with('#') || starts.contains(" #") || starts.contains("\"#") {
        return " (JSON has no comments: remove the part from '#' to the end of the line)".into();
    }
    if starts.starts_with("//") || starts.contains(" //") || starts.starts_with("/*") {
        return " (JSON has no comments: remove it)".into();
    }
    String::new()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for good in ["a", "multus-demo-network", "0.x_y-z"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", ".a", "a b", "a/b", "ä"] {
            assert_eq!(check_name(bad).unwrap_err().code(), 7, "{bad}");
        }
    }

    #[test]
    fn an_absent_version_is_the_first() {
        let conf = NetConf::parse(br#"{"NAME": "x", "type": "sluicegate"}"#).unwrap();
        assert_eq!(conf.name, "x");
        assert_eq!(conf.version, Version::V0_1_0);
    }

    #[test]
    fn a_printed_comment_is_named_with_its_place() {
        let text = b"{\n  \"name\": \"x\",\n  \"type\": \"multus\",  # as printed\n  \"d\": 1\n}";
        let error = NetConf::parse(text).unwrap_err();
        assert_eq!(error.code(), 6);
        let said = error.to_string();
        assert!(said.contains("line 3, column 22"), "{said}");
        assert!(said.contains("JSON has no comments"), "{said}");
    }

    #[test]
    fn lists_and_nothing_are_refused() {
        assert_eq!(NetConf::parse(b"[]").unwrap_err().code(), 6);
        let error = NetConf::parse(b"").unwrap_err();
        assert_eq!(error.code(), 6);
        assert!(error.to_string().contains("nothing came"));
        let file = object(b" \n", "/etc/x.conf").unwrap_err().to_string();
        assert!(
            file.contains("/etc/x.conf") && file.contains("it is empty"),
            "{file}"
        );
    }

    #[test]
    fn byte_order_marks() {
        let conf = NetConf::parse(b"\xef\xbb\xbf{\"name\": \"x\"}").unwrap();
        assert_eq!(conf.name, "x");
        let wide = object(b"\xff\xfe{\0", "f").unwrap_err().to_string();
        assert!(wide.contains("UTF-16"), "{wide}");
    }
}
