// SPDX-License-Identifier: Apache-2.0
//! Reading the members of a JSON object without regard to the case of their names, as the Go
//! plugins do and as real configuration files rely on.

use serde_json::{Map, Value};

use crate::Error;

/// A JSON object, with the name of the member it is the value of for messages.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a> {
    map: &'a Map<String, Value>,
    within: &'a str,
}

/// The member `key` of `map`: spelled exactly so if there is one, else in any case.
pub fn find<'a>(map: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    map.get(key)
        .or_else(|| {
            map.iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(key))
                .map(|(_, v)| v)
        })
        .filter(|value| !value.is_null())
}

/// Sets `key`, in place of any spelling of it.
pub fn set(map: &mut Map<String, Value>, key: &str, value: Value) {
    map.retain(|name, _| !name.eq_ignore_ascii_case(key));
    map.insert(key.to_owned(), value);
}

impl<'a> Fields<'a> {
    /// The members of the whole configuration.
    pub fn new(map: &'a Map<String, Value>) -> Fields<'a> {
        Fields { map, within: "" }
    }

    /// The value of `key`; `null` counts as absent.
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        find(self.map, key)
    }

    /// An [`Error::Config`] that names the member.
    pub fn wrong(&self, key: &str, want: &str) -> Error {
        let found = self
            .get(key)
            .map_or_else(|| "absent".to_owned(), Value::to_string);
        let dot = if self.within.is_empty() { "" } else { "." };
        Error::Config(format!(
            "{}{dot}{key} must be {want}, not {found}",
            self.within
        ))
    }

    /// A string.
    ///
    /// # Errors
    /// [`Error::Config`]: it is something else.
    pub fn string(&self, key: &str) -> Result<Option<&'a str>, Error> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(key, "a string")),
        }
    }

    /// `true` or `false`.
    ///
    /// # Errors
    /// [`Error::Config`]: it is something else.
    pub fn boolean(&self, key: &str) -> Result<Option<bool>, Error> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(_) => Err(self.wrong(key, "true or false")),
        }
    }

    /// `true` or `false`, as such or as text in any case: CNI 0.4.0 describes its switches as text.
    ///
    /// # Errors
    /// [`Error::Config`]: it is something else.
    pub fn switch(&self, key: &str) -> Result<Option<bool>, Error> {
        match self.get(key) {
            Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(Some(true)),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(Some(false)),
            _ => self.boolean(key),
        }
    }

    /// A whole number from `least` to `most`.
    ///
    /// # Errors
    /// [`Error::Config`]: it is something else.
    pub fn integer<T: TryFrom<u64>>(
        &self,
        key: &str,
        least: u64,
        most: u64,
    ) -> Result<Option<T>, Error> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        value
            .as_u64()
            .filter(|number| (least..=most).contains(number))
            .and_then(|number| T::try_from(number).ok())
            .map(Some)
            .ok_or_else(|| self.wrong(key, &format!("a whole number from {least} to {most}")))
    }

    /// An object.
    ///
    /// # Errors
    /// [`Error::Config`]: it is something else.
    pub fn object(&self, key: &'a str) -> Result<Option<Fields<'a>>, Error> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Fields { map, within: key })),
            Some(_) => Err(self.wrong(key, "an object")),
        }
    }

    /// A list.
    ///
    /// # Errors
    /// [`Error::Config`]: it is something else.
    pub fn list(&self, key: &str) -> Result<Option<&'a [Value]>, Error> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Array(list)) => Ok(Some(list)),
            Some(_) => Err(self.wrong(key, "a list")),
        }
    }

    /// The object itself.
    pub fn map(&self) -> &'a Map<String, Value> {
        self.map
    }

    /// Refuses members that are not among `known`.
    ///
    /// # Errors
    /// [`Error::Config`], naming the member and what is allowed.
    pub fn only(&self, known: &[&str]) -> Result<(), Error> {
        let stranger = self
            .map
            .keys()
            .find(|name| !known.iter().any(|key| key.eq_ignore_ascii_case(name)));
        match stranger {
            None => Ok(()),
            Some(name) => Err(Error::Config(format!(
                "{} has no member {name:?}; it has {}",
                self.within,
                known.join(", ")
            ))),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn case_does_not_matter_and_the_exact_spelling_wins() {
        let value = json!({"LOGfile": "a", "logLevel": "x", "loglevel": "y", "vlan": 70000});
        let fields = Fields::new(value.as_object().unwrap());
        assert_eq!(fields.string("logFile").unwrap(), Some("a"));
        assert_eq!(fields.string("logLevel").unwrap(), Some("x"));
        assert_eq!(fields.string("absent").unwrap(), None);
        let error = fields.integer::<u16>("vlan", 0, 4094).unwrap_err();
        assert_eq!(
            error.to_string(),
            "vlan must be a whole number from 0 to 4094, not 70000"
        );
        assert_eq!(error.code(), 7);
    }

    #[test]
    fn switches_may_be_text() {
        let value = json!({"a": "True", "b": "false", "c": true, "d": "yes"});
        let fields = Fields::new(value.as_object().unwrap());
        let read = ["a", "b", "c", "e"].map(|key| fields.switch(key).unwrap());
        assert_eq!(read, [Some(true), Some(false), Some(true), None]);
        assert_eq!(fields.switch("d").unwrap_err().code(), 7);
    }

    #[test]
    fn members_of_members_are_named_whole() {
        let value = json!({"memif": {"Rings": "two", "colour": 1}});
        let fields = Fields::new(value.as_object().unwrap())
            .object("memif")
            .unwrap()
            .unwrap();
        let error = fields
            .integer::<u16>("rings", 1, 16)
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("memif.rings must be a whole number"),
            "{error}"
        );
        assert!(
            fields
                .only(&["rings"])
                .unwrap_err()
                .to_string()
                .contains("colour")
        );
    }

    #[test]
    fn setting_replaces_every_spelling() {
        let mut value = json!({"Name": "a", "NAME": "b"});
        set(value.as_object_mut().unwrap(), "name", "c".into());
        assert_eq!(value, json!({"name": "c"}));
    }
}
