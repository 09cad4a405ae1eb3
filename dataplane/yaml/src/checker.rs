// SPDX-License-Identifier: Apache-2.0
//! Checks of values, all of whose problems are collected.

use std::borrow::Borrow;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde_saphyr::Location;

use crate::{Problem, Problems, Scalar};

/// Collector of the problems of one file's values.
#[derive(Debug)]
pub struct Checker<'a> {
    file: &'a Path,
    problems: Vec<Problem>,
}

impl<'a> Checker<'a> {
    /// Creates a collector for the file at `file`; the empty path stands for arguments.
    pub fn new(file: &'a Path) -> Checker<'a> {
        Checker {
            file,
            problems: Vec::new(),
        }
    }

    /// Path of the file.
    pub fn file(&self) -> &'a Path {
        self.file
    }

    /// Number of problems so far.
    pub fn count(&self) -> usize {
        self.problems.len()
    }

    /// Adds a problem; `at` is `None` where no position applies.
    pub fn problem(
        &mut self,
        at: Option<Location>,
        key: impl Into<String>,
        message: impl Into<String>,
    ) {
        self.problems.push(Problem {
            file: self.file.to_owned(),
            line: at.map_or(0, |at| at.line()),
            column: at.map_or(0, |at| at.column()),
            key: key.into(),
            message: message.into(),
        });
    }

    /// Parses a value; `None`, and a problem, if it is wrong.
    pub fn parsed<T: FromStr<Err: Display>>(&mut self, key: &str, raw: &Scalar) -> Option<T> {
        raw.value
            .parse()
            .map_err(|error| {
                let message = format!("\"{}\": {error}", raw.value);
                self.problem(Some(raw.referenced), key, message);
            })
            .ok()
    }

    /// Parses a number and checks its range; the default where it is absent or wrong.
    pub fn number<T>(
        &mut self,
        key: &str,
        raw: Option<impl Borrow<Scalar>>,
        default: T,
        range: (T, T),
    ) -> T
    where
        T: FromStr + PartialOrd + Display + Copy,
    {
        let Some(raw) = raw else { return default };
        let raw = raw.borrow();
        match raw.value.parse::<T>() {
            Ok(value) if value >= range.0 && value <= range.1 => value,
            _ => {
                let message = format!(
                    "\"{}\" is not allowed: use a number from {} to {} (default {default})",
                    raw.value, range.0, range.1
                );
                self.problem(Some(raw.referenced), key, message);
                default
            }
        }
    }

    /// Looks a word up among those allowed; `None` where it is absent or wrong.
    pub fn word<T: Copy>(
        &mut self,
        key: &str,
        raw: Option<&Scalar>,
        words: &[(&str, T)],
    ) -> Option<T> {
        let raw = raw?;
        let found = words
            .iter()
            .find(|(word, _)| *word == raw.value)
            .map(|(_, value)| *value);
        if found.is_none() {
            let allowed: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let message = format!(
                "\"{}\" is not allowed: use {}",
                raw.value,
                allowed.join(" or ")
            );
            self.problem(Some(raw.referenced), key, message);
        }
        found
    }

    /// Parses `true` or `false`; the default where it is absent or wrong.
    pub fn flag(&mut self, key: &str, raw: Option<&Scalar>, default: bool) -> bool {
        self.word(key, raw, &[("true", true), ("false", false)])
            .unwrap_or(default)
    }

    /// Parses an absolute path without `..`; the default where it is absent.
    pub fn path(&mut self, key: &str, raw: Option<impl Borrow<Scalar>>, default: &str) -> PathBuf {
        let Some(raw) = raw else {
            return PathBuf::from(default);
        };
        let raw = raw.borrow();
        let path = PathBuf::from(&raw.value);
        if !path.is_absolute() || path.components().any(|part| part.as_os_str() == "..") {
            let message = format!(
                "\"{}\" is not an absolute path: write it from / on and without `..` (default: {default})",
                raw.value
            );
            self.problem(Some(raw.referenced), key, message);
        }
        path
    }

    /// Returns what was made of the file.
    ///
    /// # Errors
    /// All problems found, in the order of the file.
    pub fn finish<T>(self, value: T) -> Result<T, Problems> {
        let mut problems = self.problems;
        if problems.is_empty() {
            return Ok(value);
        }
        problems.sort_by_key(|problem| (problem.line, problem.column));
        Err(Problems(problems))
    }
}
